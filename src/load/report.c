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
    char whole[48], text[64];
    StrBuf w = STRBUF(whole), t = STRBUF(text);
    uint64_t scale = digits == 2 ? 100 : digits == 1 ? 10 : 1, all = (uint64_t)(value * (double)scale + 0.5);
    strbuf_put_count(&w, all / scale);
    strbuf_printf(&t, "%s", whole);
    if (digits) strbuf_printf(&t, ".%0*llu", digits, (unsigned long long)(all % scale));
    strbuf_printf(out, "%*s", width, text);
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
        strbuf_printf(out, "; %.1f%% from the server's cache",
                      100 * (double)s->usage_cached / (double)s->usage_prompt);
    strbuf_put_char(out, '\n');
    put_rate(out, s, "whole answers", (double)s->n_whole);
    if (s->n_stop) strbuf_printf(out, "; %llu ended before their length", (unsigned long long)s->n_stop);
    strbuf_put_char(out, '\n');
}

static void put_limit(StrBuf *out, const char *name, double limit_ms, bool *comma) {
    if (limit_ms <= 0) return;
    strbuf_printf(out, "%s%s %g ms", *comma ? ", " : "", name, limit_ms);
    *comma = true;
}

static void put_goodput(StrBuf *out, const LoadStats *s) {
    const LoadLimits *l = &s->limits;
    bool comma = false;
    if (!load_has_limits(l)) return;
    put_rate(out, s, "good answers", (double)s->n_good);
    strbuf_printf(out, "; %.1f%% keep ", s->n_limited ? 100 * (double)s->n_good / (double)s->n_limited : 0);
    put_limit(out, "first token", l->first_token, &comma);
    put_limit(out, "between", l->between, &comma);
    put_limit(out, "gap", l->gap, &comma);
    put_limit(out, "whole", l->whole, &comma);
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
    strbuf_put_char(out, '\n');
}

static void put_errors(StrBuf *out, const LoadStats *s) {
    for (uint32_t i = 0; i < s->n_errors; i++) {
        const LoadError *e = &s->errors[i];
        put_number(out, 9, (double)e->count, 0);
        strbuf_put(out, STR("  "));
        load_error_put(out, e);
        if (e->message[0]) strbuf_printf(out, ": %s", e->message);
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

static void put_notes(StrBuf *out, const LoadConfig *c, const LoadResult *r) {
    const LoadStats *s = r->stats;
    double share = r->wall_ns ? (double)r->processor_ns / (double)r->wall_ns : 0;
    strbuf_put_char(out, '\n');
    put_counting(out, s);
    if (!r->calibrated && !c->trace)
        strbuf_put(out, STR("  Prompts were not measured: their lengths are words, not tokens.\n"));
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
    if (r->model.len) strbuf_printf(out, ", %.*s", STR_ARG(r->model));
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
    put_number(out, 0, rate * stats_tokens_per_piece(s), 0);
    strbuf_printf(out, " tokens/s  first %.1f ms  between %.1f ms  ",
                  ms(histogram_percentile(&s->first_token, 0.5)), ms(histogram_percentile(&s->between, 0.5)));
    put_number(out, 0, (double)s->n_whole, 0);
    strbuf_put(out, STR(" done"));
    if (s->n_failed) strbuf_printf(out, "  %llu failed", (unsigned long long)s->n_failed);
}

// ---- JSON ----

static void json_latency(JsonWriter *w, const char *name, const Histogram *h) {
    json_key(w, name);
    json_open_object(w);
    json_member_u64(w, "count", h->count);
    json_member_fixed(w, "mean", histogram_mean(h) * 1e-6, 4);
    json_member_fixed(w, "p50", ms(histogram_percentile(h, 0.5)), 4);
    json_member_fixed(w, "p90", ms(histogram_percentile(h, 0.9)), 4);
    json_member_fixed(w, "p99", ms(histogram_percentile(h, 0.99)), 4);
    json_member_fixed(w, "most", ms(h->most), 4);
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
        json_member_fixed(w, "first_token_ms_p50", ms(histogram_percentile(&bin->first_token, 0.5)), 3);
        json_member_fixed(w, "first_token_ms_p99", ms(histogram_percentile(&bin->first_token, 0.99)), 3);
        json_member_fixed(w, "between_ms_p50", ms(histogram_percentile(&bin->between, 0.5)), 3);
        json_member_fixed(w, "between_ms_p99", ms(histogram_percentile(&bin->between, 0.99)), 3);
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
    json_member_u64(w, "ended_by_length", s->n_length);
    json_member_u64(w, "ended_before_length", s->n_stop);
}

static void json_rates(JsonWriter *w, const LoadStats *s) {
    double output = stats_output_tokens(s), prompt = stats_prompt_tokens(s);
    json_member_str(w, "tokens_counted_by", s->usage_requests ? STR("usage") : STR("events"));
    json_member_fixed(w, "tokens_per_event", stats_tokens_per_piece(s), 4);
    json_member_fixed(w, "output_tokens", output, 1);
    json_member_fixed(w, "output_tokens_per_second", a_second(s, output), 3);
    json_member_fixed(w, "prompt_tokens", prompt, 1);
    json_member_fixed(w, "prompt_tokens_per_second", a_second(s, prompt), 3);
    json_member_fixed(w, "cached_share",
                      s->usage_prompt ? (double)s->usage_cached / (double)s->usage_prompt : 0, 4);
    json_member_fixed(w, "answers_per_second", a_second(s, (double)s->n_whole), 4);
    if (!load_has_limits(&s->limits)) return;
    json_key(w, "goodput");
    json_open_object(w);
    json_member_u64(w, "answers", s->n_good);
    json_member_fixed(w, "share", s->n_limited ? (double)s->n_good / (double)s->n_limited : 0, 4);
    json_member_fixed(w, "answers_per_second", a_second(s, (double)s->n_good), 4);
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
    json_member_str(&w, "model", r->model);
    json_member_str(&w, "settings", strbuf_str(&settings));
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
