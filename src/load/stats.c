#include "load/stats.h"

#include <stdio.h>

LoadStats *stats_create(const LoadLimits *limits, Arena *arena) {
    LoadStats *s = arena_new(arena, LoadStats, 1);
    TimelineBin *bins = arena_new(arena, TimelineBin, TIMELINE_BINS);
    if (!s || !bins) return NULL;
    s->bins = bins;
    s->bin_ns = TIMELINE_BIN_NS;
    s->limits = *limits;
    s->window_start_ns = s->window_end_ns = UINT64_MAX;
    return s;
}

// ---- the timeline ----

static void halve_timeline(LoadStats *s) {
    for (uint32_t i = 0; i < TIMELINE_BINS / 2; i++) {
        TimelineBin *to = &s->bins[i];
        const TimelineBin *other = &s->bins[2 * i + 1];
        if (i > 0) *to = s->bins[2 * i];
        to->n_pieces += other->n_pieces;
        to->n_ended += other->n_ended;
        to->n_errors += other->n_errors;
        to->running_ns += other->running_ns;
        histogram_merge(&to->first_token, &other->first_token);
        histogram_merge(&to->between, &other->between);
    }
    memset(&s->bins[TIMELINE_BINS / 2], 0, sizeof s->bins[0] * (TIMELINE_BINS / 2));
    s->n_bins = TIMELINE_BINS / 2;
    s->bin_ns *= 2;
}

static TimelineBin *bin_at(LoadStats *s, uint64_t at_ns) {
    uint64_t since_ns = at_ns - s->window_start_ns;
    while (since_ns / s->bin_ns >= TIMELINE_BINS)
        halve_timeline(s);
    uint32_t at = (uint32_t)(since_ns / s->bin_ns);
    if (at >= s->n_bins) s->n_bins = at + 1;
    return &s->bins[at];
}

static bool in_window(const LoadStats *s, uint64_t at_ns) {
    return at_ns >= s->window_start_ns && at_ns < s->window_end_ns;
}

void stats_open_window(LoadStats *s, uint64_t at_ns) {
    s->window_start_ns = s->running_since_ns = at_ns;
}

void stats_set_running(LoadStats *s, uint32_t running, uint64_t now_ns) {
    uint64_t until_ns = min_u64(now_ns, s->window_end_ns);
    while (s->running && s->running_since_ns >= s->window_start_ns && s->running_since_ns < until_ns) {
        TimelineBin *bin = bin_at(s, s->running_since_ns);
        uint64_t bin_end_ns = s->window_start_ns + (uint64_t)(bin - s->bins + 1) * s->bin_ns;
        uint64_t step_end_ns = min_u64(until_ns, bin_end_ns);
        bin->running_ns += (double)s->running * (double)(step_end_ns - s->running_since_ns);
        s->running_since_ns = step_end_ns;
    }
    s->running = running;
    s->running_since_ns = max_u64(now_ns, s->window_start_ns == UINT64_MAX ? 0 : s->window_start_ns);
}

// ---- requests ----

static bool is_counted(const LoadStats *s, const LoadRequest *r) {
    return !r->is_warmup && in_window(s, r->sent_ns);
}

void stats_request_sent(LoadStats *s, const LoadRequest *r) {
    if (!is_counted(s, r)) {
        s->n_warmup++;
        return;
    }
    s->n_sent++;
    s->n_lengthened += r->is_lengthened;
    histogram_add(&s->late, r->sent_ns - r->due_ns);
}

void stats_request_piece(LoadStats *s, LoadRequest *r, uint64_t now_ns) {
    TimelineBin *bin = in_window(s, now_ns) ? bin_at(s, now_ns) : NULL;
    bool is_first = r->n_pieces++ == 0;
    uint64_t gap_ns = is_first ? 0 : now_ns - r->last_ns;
    if (is_first) r->first_ns = now_ns;
    r->last_ns = now_ns;
    r->longest_gap_ns = max_u64(r->longest_gap_ns, gap_ns);
    if (!bin) return;
    s->pieces++;
    bin->n_pieces++;
    if (!is_first) {
        histogram_add(&s->between, gap_ns);
        histogram_add(&bin->between, gap_ns);
        return;
    }
    s->prompt_tokens += r->prompt_tokens;
    if (!is_counted(s, r)) return;
    histogram_add(&s->first_token, now_ns - r->due_ns);
    histogram_add(&bin->first_token, now_ns - r->due_ns);
}

static bool keeps(double limit_ms, double ns) {
    return limit_ms <= 0 || ns <= limit_ms * 1e6;
}

static bool is_good(const LoadStats *s, const LoadRequest *r, uint64_t end_ns) {
    const LoadLimits *l = &s->limits;
    uint64_t output = r->has_usage ? r->usage_output : r->n_pieces;
    double between_ns = output > 1 ? (double)(r->last_ns - r->first_ns) / (double)(output - 1) : 0;
    return r->n_pieces && keeps(l->first_token, (double)(r->first_ns - r->due_ns)) &&
           keeps(l->between, between_ns) && keeps(l->gap, (double)r->longest_gap_ns) &&
           keeps(l->whole, (double)(end_ns - r->due_ns));
}

// Whether a request that has not ended has broken a limit by now. The mean time between its tokens is the one
// that it would have if the next token came now.
static bool is_too_late(const LoadStats *s, const LoadRequest *r, uint64_t now_ns) {
    const LoadLimits *l = &s->limits;
    bool has_text = r->n_pieces > 0;
    double tokens = (double)r->n_pieces * stats_tokens_per_piece(s);
    double between_ns = has_text ? (double)(now_ns - r->first_ns) / tokens : 0;
    uint64_t gap_ns = has_text ? max_u64(r->longest_gap_ns, now_ns - r->last_ns) : 0;
    uint64_t first_ns = has_text ? r->first_ns : now_ns;
    return !(keeps(l->first_token, (double)(first_ns - r->due_ns)) && keeps(l->between, between_ns) &&
             keeps(l->gap, (double)gap_ns) && keeps(l->whole, (double)(now_ns - r->due_ns)));
}

static void add_usage(LoadStats *s, const LoadRequest *r) {
    if (!r->has_usage) return;
    s->usage_requests++;
    s->usage_pieces += r->n_pieces;
    s->usage_output += r->usage_output;
    s->usage_prompt += r->usage_prompt;
    s->usage_cached += r->usage_cached;
    s->usage_prompt_planned += r->prompt_tokens;
}

static void add_error(LoadStats *s, const LoadError *error) {
    for (uint32_t i = 0; i < s->n_errors; i++) {
        LoadError *e = &s->errors[i];
        if (e->kind != error->kind || e->status != error->status || strcmp(e->code, error->code) != 0)
            continue;
        e->count++;
        return;
    }
    if (s->n_errors == LOAD_ERRORS_MAX) {
        s->n_other_errors++;
        return;
    }
    s->errors[s->n_errors] = *error;
    s->errors[s->n_errors++].count = 1;
}

void stats_request_end(LoadStats *s, const LoadRequest *r, LoadEnd end, const LoadError *error,
                       uint64_t now_ns) {
    if (end == LOAD_ENDED_WHOLE) add_usage(s, r);
    if (!is_counted(s, r)) return;
    TimelineBin *bin = in_window(s, now_ns) ? bin_at(s, now_ns) : NULL;
    if (end == LOAD_ENDED_CANCELLED) s->n_cancelled++;
    if (end == LOAD_ENDED_CUT) {
        s->n_cut++;
        s->n_limited += is_too_late(s, r, now_ns);
    }
    if (end == LOAD_ENDED_ERROR) {
        s->n_failed++;
        s->n_limited++;
        add_error(s, error);
        if (bin) bin->n_errors++;
    }
    if (end != LOAD_ENDED_WHOLE) return;
    s->n_whole++;
    s->n_length += r->finish == FINISH_LENGTH;
    s->n_cut_short += r->finish == FINISH_LENGTH && r->has_usage && r->usage_output < r->output_tokens;
    s->n_stop += r->finish == FINISH_STOP;
    s->n_limited++;
    s->n_good += is_good(s, r, now_ns);
    histogram_add(&s->whole, now_ns - r->due_ns);
    if (bin) bin->n_ended++;
}

void stats_arrival_unsent(LoadStats *s, uint64_t due_ns, uint64_t now_ns) {
    s->n_unsent++;
    s->n_limited += is_too_late(s, &(LoadRequest){.due_ns = due_ns}, now_ns);
}

void stats_close_window(LoadStats *s, uint64_t at_ns) {
    if (s->window_start_ns == UINT64_MAX) stats_open_window(s, at_ns);
    stats_set_running(s, 0, at_ns);
    s->window_end_ns = min_u64(s->window_end_ns, at_ns);
}

// ---- figures ----

bool stats_has_answers(const LoadStats *s) {
    return s->n_whole || s->n_cancelled || (s->pieces && !s->n_failed);
}

double stats_failed_share(const LoadStats *s) {
    uint64_t ended = s->n_whole + s->n_cancelled + s->n_failed;
    return ended ? (double)s->n_failed / (double)ended : 0;
}

void stats_put_failures(StrBuf *out, const LoadStats *s, uint32_t kinds) {
    uint64_t left = s->n_failed;
    bool taken[LOAD_ERRORS_MAX] = {false};
    for (uint32_t k = 0; k < min_u64(kinds, s->n_errors); k++) {
        uint32_t best = LOAD_ERRORS_MAX;
        for (uint32_t i = 0; i < s->n_errors; i++)
            if (!taken[i] && (best == LOAD_ERRORS_MAX || s->errors[i].count > s->errors[best].count))
                best = i;
        taken[best] = true;
        left -= s->errors[best].count;
        if (k) strbuf_put(out, STR(", "));
        strbuf_put_count(out, s->errors[best].count);
        strbuf_put_char(out, ' ');
        load_error_put(out, &s->errors[best]);
    }
    if (left == 0) return;
    if (left < s->n_failed) strbuf_put(out, STR(", "));
    strbuf_put_count(out, left);
    strbuf_put(out, STR(" of other kinds"));
}

double stats_seconds(const LoadStats *s) {
    return (double)(s->window_end_ns - s->window_start_ns) * 1e-9;
}

double stats_tokens_per_piece(const LoadStats *s) {
    return s->usage_pieces ? (double)s->usage_output / (double)s->usage_pieces : 1;
}

double stats_output_tokens(const LoadStats *s) {
    return (double)s->pieces * stats_tokens_per_piece(s);
}

double stats_prompt_tokens(const LoadStats *s) {
    double share = s->usage_prompt_planned ? (double)s->usage_prompt / (double)s->usage_prompt_planned : 1;
    return (double)s->prompt_tokens * share;
}

void load_error_put(StrBuf *out, const LoadError *e) {
    static const char *const names[LOAD_ERROR_KINDS] = {
        [LOAD_ERROR_CONNECT] = "no connection",
        [LOAD_ERROR_STATUS] = "refused with",
        [LOAD_ERROR_STREAM] = "error in the stream",
        [LOAD_ERROR_CLOSED] = "closed without a reply",
        [LOAD_ERROR_BROKEN] = "stream broken off",
        [LOAD_ERROR_TIMED_OUT] = "timed out",
        [LOAD_ERROR_PROTOCOL] = "not a stream of this API",
        [LOAD_ERROR_TOO_LONG] = "too long for this program",
    };
    strbuf_put(out, str_from_c(names[e->kind]));
    if (e->status) strbuf_printf(out, " %u", e->status);
    if (!e->code[0]) return;
    strbuf_put(out, e->kind == LOAD_ERROR_STREAM ? STR(": ") : STR(" "));
    strbuf_put_shown(out, str_from_c(e->code));
}
