#include "load/report.h"

#include "json/json_writer.h"

static double a_second(const LoadStats *s, double amount) {
    double seconds = stats_seconds(s);
    return seconds > 0 ? amount / seconds : 0;
}

static double ms(uint64_t ns) {
    return (double)ns * 1e-6;
}

// "12,345.6"
static void put_number(StrBuf *out, int width, double value, int digits) {
    strbuf_put_decimal(out, value, digits, width);
}

static void put_ms(StrBuf *out, uint64_t ns) {
    double value = ms(ns);
    put_number(out, 11, value, value < 99.995 ? 2 : 1);
}

static void put_latency(StrBuf *out, const char *name, const Histogram *h) {
    if (h->count == 0) return;
    static const double shares[] = {0.5, 0.9, 0.99};
    strbuf_printf(out, "  %-16s", name);
    for (size_t i = 0; i < COUNT_OF(shares); i++)
        put_ms(out, histogram_percentile(h, shares[i]));
    put_ms(out, h->most);
    strbuf_put_char(out, '\n');
}

static void put_rate(StrBuf *out, const LoadStats *s, const char *name, double amount) {
    double rate = a_second(s, amount);
    strbuf_printf(out, "  %-16s", name);
    put_number(out, 11, rate, rate < 99.995 ? 2 : 1);
    put_number(out, 14, amount, 0);
    strbuf_put(out, STR(" in all"));
}

static void put_rates(StrBuf *out, const LoadStats *s) {
    strbuf_printf(out, "\n  %-16s%11s\n", "", "a second");
    put_rate(out, s, "output tokens", stats_output_tokens(s));
    strbuf_put_char(out, '\n');
    put_rate(out, s, "prompt tokens", stats_prompt_tokens(s));
    if (s->usage_cached)
        strbuf_printf(out, "; %.1f%% were cached", 100 * (double)s->usage_cached / (double)s->usage_prompt);
    strbuf_put_char(out, '\n');
    put_rate(out, s, "whole answers", (double)s->n_whole);
    if (s->n_stop) strbuf_printf(out, "; %llu ended early", (unsigned long long)s->n_stop);
    if (s->n_cut_short) strbuf_printf(out, "; %llu were cut short", (unsigned long long)s->n_cut_short);
    strbuf_put_char(out, '\n');
}

static void put_goodput(StrBuf *out, const LoadStats *s) {
    if (!load_has_limits(&s->limits)) return;
    put_rate(out, s, "good answers", (double)s->n_good);
    if (s->n_limited) strbuf_printf(out, "; %.1f%% keep ", 100 * (double)s->n_good / (double)s->n_limited);
    else strbuf_put(out, STR("; none came to an end, to keep "));
    load_put_limits(out, &s->limits);
    strbuf_put_char(out, '\n');
}

static void put_count_of(StrBuf *out, uint64_t count, const char *what) {
    if (count == 0) return;
    strbuf_put(out, STR(", "));
    strbuf_put_count(out, count);
    strbuf_printf(out, " %s", what);
}

static void put_requests(StrBuf *out, const LoadResult *r) {
    const LoadStats *s = r->stats;
    strbuf_printf(out, "  %.1f s", stats_seconds(s));
    if (s->n_warmup) {
        strbuf_put(out, STR(" after a warm-up of "));
        strbuf_put_count(out, s->n_warmup);
        strbuf_printf(out, " request%s", plural_s(s->n_warmup));
    }
    strbuf_put(out, r->stopped ? STR(", stopped early: ") : STR(": "));
    strbuf_put_count(out, s->n_sent);
    strbuf_printf(out, " request%s, ", plural_s(s->n_sent));
    strbuf_put_count(out, s->n_whole);
    strbuf_put(out, STR(" answered"));
    put_count_of(out, s->n_cancelled, "cancelled");
    put_count_of(out, s->n_cut, "cut off by the end");
    put_count_of(out, s->n_failed, "failed");
    put_count_of(out, s->n_unsent, "more due but not sent");
    strbuf_put_char(out, '\n');
}

static void put_errors(StrBuf *out, const LoadStats *s) {
    for (uint32_t i = 0; i < s->n_errors; i++) {
        const LoadError *e = &s->errors[i];
        put_number(out, 9, (double)e->count, 0);
        strbuf_put(out, STR("  "));
        load_error_put(out, e);
        if (e->message[0]) {
            strbuf_put(out, STR(": "));
            strbuf_put_shown(out, str_from_c(e->message));
        }
        strbuf_put_char(out, '\n');
    }
    if (s->n_other_errors)
        strbuf_printf(out, "%9llu  of other kinds\n", (unsigned long long)s->n_other_errors);
}

static void put_latencies(StrBuf *out, const LoadStats *s) {
    if (s->first_token.count + s->between.count + s->whole.count == 0) return;
    strbuf_printf(out, "\n  %-16s%11s%11s%11s%11s\n", "ms", "p50", "p90", "p99", "most");
    put_latency(out, "first token", &s->first_token);
    put_latency(out, "between tokens", &s->between);
    put_latency(out, "whole answer", &s->whole);
}

// How tokens were counted. A server's usage comes with an answer's end.
static void put_counting(StrBuf *out, const LoadStats *s) {
    if (s->usage_requests)
        strbuf_printf(out, "  Tokens are the server's count; a piece of text is %.2f tokens.\n",
                      stats_tokens_per_piece(s));
    else if (s->n_whole)
        strbuf_put(
            out,
            STR("  The server gave no usage: output tokens are pieces of text, prompt tokens a guess.\n"));
    else if (s->pieces)
        strbuf_put(out,
                   STR("  No answer came to its end, so none was counted by the server: output tokens are "
                       "pieces of text,\n  prompt tokens as asked for.\n"));
}

// Whether most tokens of prompts came from the cache, beyond the template, where nothing asked for it.
static bool is_oddly_cached(const LoadConfig *c, const LoadResult *r) {
    const LoadStats *s = r->stats;
    double template = r->template_tokens * (double)s->usage_requests, all = (double)s->usage_prompt;
    bool repeats = c->trace || c->turns > 1 || c->shared_prefix;
    return !repeats && all > template && (double)s->usage_cached - template > (all - template) / 2;
}

static void put_prompt_notes(StrBuf *out, const LoadConfig *c, const LoadResult *r) {
    const LoadStats *s = r->stats;
    if (r->refused_measuring && !c->trace)
        strbuf_put(
            out, STR("  The server refused the prompt of 144 words that measures how many tokens a word is: "
                     "is its context small?\n"));
    if (!r->calibrated && !c->trace)
        strbuf_put(out, STR("  Prompts were not measured: their lengths are words, not tokens.\n"));
    if (s->n_lengthened)
        strbuf_printf(out,
                      "  %llu prompt%s asked to be shorter than the chat template and a word, which are %.0f "
                      "tokens.\n",
                      (unsigned long long)s->n_lengthened, s->n_lengthened == 1 ? " was" : "s were",
                      r->template_tokens + r->tokens_per_word);
    if (is_oddly_cached(c, r))
        strbuf_printf(out,
                      "  Most of the prompts were in the server's cache, as if it had had them before: "
                      "was --seed %llu used twice?\n",
                      (unsigned long long)c->seed);
}

static void put_notes(StrBuf *out, const LoadConfig *c, const LoadResult *r) {
    const LoadStats *s = r->stats;
    double share = r->wall_ns ? (double)r->processor_ns / (double)r->wall_ns : 0;
    strbuf_put_char(out, '\n');
    put_counting(out, s);
    put_prompt_notes(out, c, r);
    if (load_is_open(c) && s->late.count)
        strbuf_printf(out,
                      "  Requests were sent %.2f ms after they were due (p99); latencies count from then.\n",
                      ms(histogram_percentile(&s->late, 0.99)));
    strbuf_printf(out, "  This program used %.0f%% of a processor%s.\n", 100 * share,
                  share > 0.9 ? ": it may have been what was measured" : "");
}

void report_put_text(StrBuf *out, const LoadConfig *c, const LoadResult *r) {
    const LoadStats *s = r->stats;
    strbuf_printf(out, "%.*s, %s", STR_ARG(c->server), load_api_name(c->api));
    if (r->model.len) strbuf_put(out, STR(", "));
    strbuf_put_shown(out, r->model);
    strbuf_put(out, STR("\n"));
    load_put_settings(out, c);
    strbuf_put(out, STR("\n\n"));
    put_requests(out, r);
    put_errors(out, s);
    put_rates(out, s);
    put_goodput(out, s);
    put_latencies(out, s);
    put_notes(out, c, r);
}

void report_put_progress(StrBuf *out, const LoadStats *s, uint64_t before, uint64_t elapsed_ns,
                         uint64_t now_ns) {
    if (now_ns < s->window_start_ns) {
        strbuf_printf(out, "  warm-up, %u running", s->running);
        return;
    }
    double rate = elapsed_ns ? (double)(s->pieces - before) * 1e9 / (double)elapsed_ns : 0;
    strbuf_printf(out, "  %.1f s  %u running  ", (double)(now_ns - s->window_start_ns) * 1e-9, s->running);
    put_number(out, 0, (double)s->n_whole, 0);
    strbuf_put(out, STR(" done"));
    if (s->n_failed) strbuf_printf(out, "  %llu failed", (unsigned long long)s->n_failed);
    strbuf_put(out, STR("  "));
    put_number(out, 0, rate * stats_tokens_per_piece(s), 0);
    strbuf_put(out, STR(" tokens/s"));
    if (s->n_failed) {
        strbuf_put(out, STR("  failed: "));
        stats_put_failures(out, s, 2);
    }
    if (s->first_token.count)
        strbuf_printf(out, "  first %.1f ms", ms(histogram_percentile(&s->first_token, 0.5)));
    if (s->between.count) strbuf_printf(out, "  between %.1f ms", ms(histogram_percentile(&s->between, 0.5)));
}

// ---- JSON ----

// A figure of nothing is null.
static void json_figure(JsonWriter *w, const char *name, bool is_known, double value, int digits) {
    if (is_known) json_member_fixed(w, name, value, digits);
    else json_member_null(w, name);
}

static void json_percentile(JsonWriter *w, const char *name, const Histogram *h, double share) {
    json_figure(w, name, h->count > 0, ms(histogram_percentile(h, share)), 4);
}

static void json_latency(JsonWriter *w, const char *name, const Histogram *h) {
    json_key(w, name);
    json_open_object(w);
    json_member_u64(w, "count", h->count);
    json_figure(w, "mean", h->count > 0, histogram_mean(h) * 1e-6, 4);
    json_percentile(w, "p50", h, 0.5);
    json_percentile(w, "p90", h, 0.9);
    json_percentile(w, "p99", h, 0.99);
    json_figure(w, "most", h->count > 0, ms(h->most), 4);
    json_close_object(w);
}

static void json_errors(JsonWriter *w, const LoadStats *s) {
    json_key(w, "errors");
    json_open_array(w);
    for (uint32_t i = 0; i < s->n_errors; i++) {
        const LoadError *e = &s->errors[i];
        char text[96];
        StrBuf kind = STRBUF(text);
        load_error_put(&kind, e);
        json_open_object(w);
        json_member_str(w, "kind", strbuf_str(&kind));
        if (e->status) json_member_u64(w, "status", e->status);
        if (e->code[0]) json_member_str(w, "code", str_from_c(e->code));
        json_member_str(w, "message", str_from_c(e->message));
        json_member_u64(w, "count", e->count);
        json_close_object(w);
    }
    json_close_array(w);
}

static void json_timeline(JsonWriter *w, const LoadStats *s) {
    double bin_s = (double)s->bin_ns * 1e-9, end_s = stats_seconds(s);
    json_key(w, "timeline");
    json_open_array(w);
    for (uint32_t i = 0; i < s->n_bins; i++) {
        const TimelineBin *bin = &s->bins[i];
        double seconds = bin_s * (i + 1) < end_s ? bin_s : end_s - bin_s * i; // the last may be shorter
        if (seconds <= 0) break;
        json_open_object(w);
        json_member_fixed(w, "at_s", bin_s * i, 3);
        json_member_fixed(w, "seconds", seconds, 4);
        json_member_fixed(w, "output_tokens_per_second",
                          (double)bin->n_pieces * stats_tokens_per_piece(s) / seconds, 2);
        json_member_fixed(w, "running", bin->running_ns * 1e-9 / seconds, 2);
        json_member_u64(w, "answered", bin->n_ended);
        json_member_u64(w, "failed", bin->n_errors);
        json_percentile(w, "first_token_ms_p50", &bin->first_token, 0.5);
        json_percentile(w, "first_token_ms_p99", &bin->first_token, 0.99);
        json_percentile(w, "between_ms_p50", &bin->between, 0.5);
        json_percentile(w, "between_ms_p99", &bin->between, 0.99);
        json_close_object(w);
    }
    json_close_array(w);
}

static void json_counts(JsonWriter *w, const LoadResult *r) {
    const LoadStats *s = r->stats;
    json_member_fixed(w, "seconds", stats_seconds(s), 4);
    json_member_bool(w, "stopped", r->stopped);
    json_member_u64(w, "warmup_requests", s->n_warmup);
    json_member_u64(w, "requests", s->n_sent);
    json_member_u64(w, "answered", s->n_whole);
    json_member_u64(w, "cancelled", s->n_cancelled);
    json_member_u64(w, "cut_off", s->n_cut);
    json_member_u64(w, "failed", s->n_failed);
    json_member_u64(w, "not_sent", s->n_unsent);
    json_member_u64(w, "ended_by_length", s->n_length);
    json_member_u64(w, "ended_before_length", s->n_stop);
    json_member_u64(w, "shorter_than_asked", s->n_cut_short);
    json_member_u64(w, "prompts_lengthened", s->n_lengthened);
}

static void json_rates(JsonWriter *w, const LoadStats *s) {
    double output = stats_output_tokens(s), prompt = stats_prompt_tokens(s);
    json_member_str(w, "tokens_counted_by", s->usage_requests ? STR("usage") : STR("events"));
    json_member_fixed(w, "tokens_per_event", stats_tokens_per_piece(s), 4);
    json_member_u64(w, "output_tokens", (uint64_t)(output + 0.5));
    json_member_fixed(w, "output_tokens_per_second", a_second(s, output), 3);
    json_member_u64(w, "prompt_tokens", (uint64_t)(prompt + 0.5));
    json_member_fixed(w, "prompt_tokens_per_second", a_second(s, prompt), 3);
    json_figure(w, "cached_share", s->usage_prompt > 0, (double)s->usage_cached / (double)s->usage_prompt, 4);
    json_member_fixed(w, "answers_per_second", a_second(s, (double)s->n_whole), 4);
    if (!load_has_limits(&s->limits)) return;
    json_key(w, "goodput");
    json_open_object(w);
    json_member_u64(w, "answers", s->n_good);
    json_figure(w, "share", s->n_limited > 0, (double)s->n_good / (double)s->n_limited, 4);
    json_member_fixed(w, "answers_per_second", a_second(s, (double)s->n_good), 4);
    json_close_object(w);
}

static void json_mix(JsonWriter *w, const char *name, const LengthMix *mix) {
    json_key(w, name);
    json_open_object(w);
    json_member_u64(w, "least", mix->least);
    json_member_u64(w, "most", mix->most);
    if (mix->kind == MIX_LOG_NORMAL) {
        json_member_f64(w, "median", mix->median);
        json_member_f64(w, "sigma", mix->sigma);
    }
    json_close_object(w);
}

// The settings one by one; null for what there is none of.
static void json_config(JsonWriter *w, const LoadConfig *c) {
    bool has_times = c->trace && c->trace->has_times;
    json_key(w, "config");
    json_open_object(w);
    if (load_is_open(c)) json_member_null(w, "clients");
    else json_member_u64(w, "clients", c->clients);
    json_figure(w, "rate", load_is_open(c) && !has_times, c->rate, 3);
    json_member_u64(w, "burst", c->burst);
    if (c->requests) json_member_u64(w, "requests", c->requests);
    else json_member_null(w, "requests");
    json_figure(w, "duration_seconds", c->duration_ns > 0, (double)c->duration_ns * 1e-9, 3);
    json_member_u64(w, "warmup_requests", c->warmup_requests);
    json_member_fixed(w, "warmup_seconds", (double)c->warmup_ns * 1e-9, 3);
    if (c->trace) json_member_u64(w, "trace_requests", c->trace->count);
    else json_member_null(w, "trace_requests");
    json_mix(w, "prompt_tokens", &c->prompts);
    json_mix(w, "output_tokens", &c->outputs);
    json_member_u64(w, "shared_prefix", c->shared_prefix);
    json_member_u64(w, "prefix_groups", c->prefix_groups);
    json_member_u64(w, "turns", c->turns);
    json_member_fixed(w, "cancel_share", c->cancel_share, 4);
    json_member_fixed(w, "temperature", c->temperature, 4);
    json_member_bool(w, "ignore_eos", c->ignores_eos);
    json_close_object(w);
}

void report_put_json(StrBuf *out, const LoadConfig *c, const LoadResult *r) {
    const LoadStats *s = r->stats;
    char text[512];
    StrBuf settings = STRBUF(text);
    JsonWriter w = json_writer_begin(out);
    load_put_settings(&settings, c);
    json_open_object(&w);
    json_member_str(&w, "server", c->server);
    json_member_str(&w, "api", str_from_c(load_api_name(c->api)));
    if (r->model.len) json_member_str(&w, "model", r->model);
    else json_member_null(&w, "model");
    json_member_str(&w, "settings", strbuf_str(&settings));
    json_config(&w, c);
    json_member_u64(&w, "seed", c->seed);
    json_counts(&w, r);
    json_errors(&w, s);
    json_rates(&w, s);
    json_latency(&w, "first_token_ms", &s->first_token);
    json_latency(&w, "between_ms", &s->between);
    json_latency(&w, "whole_ms", &s->whole);
    if (load_is_open(c)) json_latency(&w, "late_ms", &s->late);
    json_member_bool(&w, "calibrated", r->calibrated);
    json_member_fixed(&w, "tokens_per_word", r->tokens_per_word, 4);
    json_key(&w, "generator");
    json_open_object(&w);
    json_member_u64(&w, "connections", r->n_connections);
    json_member_u64(&w, "reconnected", r->n_reconnected);
    json_member_u64(&w, "events", r->n_events);
    json_member_fixed(&w, "processor_seconds", (double)r->processor_ns * 1e-9, 4);
    json_member_fixed(&w, "wall_seconds", (double)r->wall_ns * 1e-9, 4);
    json_close_object(&w);
    json_timeline(&w, s);
    json_close_object(&w);
    strbuf_put_char(out, '\n');
}
