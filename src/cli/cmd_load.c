#include "api/auth.h"
#include "cli/commands.h"
#include "http/http_chars.h"
#include "load/chart.h"
#include "load/report.h"
#include "os/os.h"
#include "os/os_files.h"

enum {
    REPORT_BYTES = 4 << 20, // and the picture
    CHART_SCRATCH_BYTES = 1 << 20,
    PROGRESS_LINE_BYTES = 256,
    USUAL_SECONDS = 10,
};

// ---- flags to a load ----

// A header's name and value, of "Name: value".
static bool parse_header(const char *text, HttpHeader *out, Error *err) {
    Str all = str_from_c(text);
    const char *colon = memchr(all.ptr, ':', all.len);
    size_t length = colon ? (size_t)(colon - all.ptr) : 0;
    bool ok = length > 0;
    for (size_t i = 0; i < length; i++)
        ok = ok && http_is_token_char((uint8_t)all.ptr[i]);
    for (size_t i = length; i < all.len; i++)
        ok = ok && http_is_value_char((uint8_t)all.ptr[i]);
    if (!ok) return error_set(err, ERR_USAGE, "--header %.80s: must be NAME:VALUE", text);
    *out = (HttpHeader){.name = str_slice(all, 0, length),
                        .value = http_trim(str_slice(all, length + 1, all.len))};
    return true;
}

static bool parse_warmup(const char *text, LoadConfig *c, Error *err) {
    Str all = str_from_c(text);
    double seconds;
    if (str_parse_u64(all, &c->warmup_requests)) return true;
    if (all.len > 1 && all.ptr[all.len - 1] == 's' &&
        str_parse_f64(str_slice(all, 0, all.len - 1), &seconds) && seconds >= 0 && seconds <= 1e6) {
        c->warmup_ns = (uint64_t)(seconds * 1e9);
        return true;
    }
    return error_set(err, ERR_USAGE, "--warmup %.32s: must be a number of requests (20) or of seconds (5s)",
                     text);
}

static bool read_trace(const Options *o, Arena *arena, Trace *trace, Error *err) {
    Str text;
    if (!o->load_trace) return true;
    if (!os_file_read(o->load_trace, TRACE_BYTES_MAX, arena, &text, err)) return error_prefix(err, "--trace");
    return trace_parse(text, arena, trace, err) || error_prefix(err, "--trace %.200s", o->load_trace);
}

// What flags say of each other.
static bool check_flags(const Options *o, const LoadConfig *c, Error *err) {
    bool has_times = c->trace && c->trace->has_times;
    const char *wrong = NULL;
    if (options_given(o, FLAG_LOAD_CLIENTS) && c->rate > 0)
        wrong = "--clients, --rate: give one of them, not both";
    else if (has_times && (options_given(o, FLAG_LOAD_CLIENTS) || c->rate > 0))
        wrong = "--trace: its times say when requests come; --clients and --rate are for traces without";
    else if (c->burst > 1 && c->rate <= 0) wrong = "--burst: needs --rate";
    else if (options_given(o, FLAG_LOAD_MAX_RUNNING) && !load_is_open(c))
        wrong = "--max-running: needs --rate, or a trace with times";
    else if (options_given(o, FLAG_LOAD_GROUPS) && c->shared_prefix == 0)
        wrong = "--prefix-groups: needs --shared-prefix";
    else if (c->trace && options_given(o, FLAG_LOAD_PROMPT) && c->trace->n_without_prompt == 0)
        wrong = "--prompt-tokens: each request of --trace has a prompt or its length";
    else if (c->trace && options_given(o, FLAG_LOAD_OUTPUT) && c->trace->n_without_output == 0)
        wrong = "--output-tokens: each request of --trace has its own";
    else if (c->trace && c->turns > 1) wrong = "--turns: a trace's requests have one turn each";
    return !wrong || error_set(err, ERR_USAGE, "%s", wrong);
}

static bool read_texts(const Options *o, LoadConfig *c, Error *err) {
    if (!mix_parse(str_from_c(o->load_prompt_tokens), MIX_OF_PROMPTS, &c->prompts, err))
        return error_prefix(err, "--prompt-tokens");
    if (!mix_parse(str_from_c(o->load_output_tokens), MIX_OF_OUTPUTS, &c->outputs, err))
        return error_prefix(err, "--output-tokens");
    if (o->load_goodput && !load_parse_limits(str_from_c(o->load_goodput), &c->limits, err))
        return error_prefix(err, "--goodput");
    for (uint32_t i = 0; i < o->load_headers.count; i++)
        if (!parse_header(o->load_headers.values[i], &c->headers[c->n_headers++], err)) return false;
    return !o->load_warmup || parse_warmup(o->load_warmup, c, err);
}

static bool read_token(const Options *o, Arena *arena, LoadConfig *c, Error *err) {
    static Auth auth;
    Arena memory;
    if (!o->api_token_file) return true;
    if (!arena_split(arena, AUTH_MEMORY_BYTES, &memory)) return error_set(err, ERR_NO_MEMORY, "no memory");
    if (!auth_read_file(o->api_token_file, memory, &auth, err)) return error_prefix(err, "--api-token-file");
    c->bearer_token = auth.tokens[0];
    return true;
}

static bool fill_config(const Options *o, Arena *arena, Trace *trace, LoadConfig *c, Error *err) {
    *c = (LoadConfig){
        .server = str_from_c(o->load_server),
        .api = (LoadApi)o->load_api,
        .model = str_from_c(o->load_model),
        .timeout_ms = o->load_timeout_sec * 1000,
        .clients = o->load_clients ? o->load_clients : 1,
        .rate = o->load_rate,
        .burst = o->load_burst,
        .max_running = o->load_max_running,
        .requests = o->load_requests,
        .duration_ns = (uint64_t)(o->load_duration * 1e9),
        .shared_prefix = o->load_shared_prefix,
        .prefix_groups = o->load_prefix_groups,
        .turns = o->load_turns,
        .cancel_share = o->load_cancel_share,
        .temperature = o->temperature,
        .seeds_requests = o->load_seed_requests,
        .ignores_eos = o->load_ignore_eos,
        .calibrates = o->load_calibrate,
        .seed = o->load_seed,
    };
    if (!options_given(o, FLAG_LOAD_SEED)) {
        os_random(&c->seed, sizeof c->seed);
        c->seed >>= 32; // short enough to type again
    }
    if (!c->requests && !c->duration_ns && !o->load_trace) c->duration_ns = USUAL_SECONDS * 1000000000ull;
    if (!read_texts(o, c, err) || !read_trace(o, arena, trace, err) || !read_token(o, arena, c, err))
        return false;
    if (o->load_trace) c->trace = trace;
    return check_flags(o, c, err);
}

// ---- the line that shows how it goes ----

enum { PROGRESS_POINTS = 8 }; // the speed shown is that of as many updates

typedef struct {
    uint32_t columns;
    uint32_t n_updates;
    uint64_t pieces[PROGRESS_POINTS], at_ns[PROGRESS_POINTS];
} LiveLine;

static void show_progress(void *context, const LoadStats *stats, uint64_t now_ns) {
    LiveLine *l = context;
    uint32_t at = l->n_updates++ % PROGRESS_POINTS;
    uint32_t oldest = l->n_updates > PROGRESS_POINTS ? at : 0;
    uint64_t before = l->pieces[oldest], before_ns = l->at_ns[oldest];
    l->pieces[at] = stats->pieces;
    l->at_ns[at] = now_ns;
    char text[PROGRESS_LINE_BYTES], line[PROGRESS_LINE_BYTES + 16];
    StrBuf t = STRBUF(text), b = STRBUF(line);
    report_put_progress(&t, stats, before, before_ns ? now_ns - before_ns : 0, now_ns);
    strbuf_printf(&b, "\r\x1b[K%.*s", (int)min_u64(t.len, l->columns - 1), text);
    (void)os_write(2, strbuf_str(&b));
}

// ---- the command ----

static bool put_report(const Options *o, const LoadConfig *c, const LoadResult *r, Arena *arena, Error *err) {
    StrBuf out = strbuf_begin_in_arena(arena);
    if (o->json) report_put_json(&out, c, r);
    else report_put_text(&out, c, r);
    return os_output(strbuf_str(&out), err);
}

static bool draw(const Options *o, int fd, const LoadConfig *c, const LoadResult *r, Arena *arena,
                 Error *err) {
    Arena scratch;
    if (!o->load_svg) return true;
    if (!arena_split(arena, CHART_SCRATCH_BYTES, &scratch)) return error_set(err, ERR_NO_MEMORY, "no memory");
    StrBuf out = strbuf_begin_in_arena(arena);
    chart_put_svg(&out, c, r, scratch);
    return os_file_finish(fd, o->load_svg, strbuf_str(&out), err) || error_prefix(err, "--svg");
}

static bool check_answers(const Options *o, const LoadConfig *c, const LoadStats *s, Error *err) {
    char text[256];
    StrBuf failures = STRBUF(text);
    if (!stats_has_answers(s))
        return error_set(err, ERR_IO, "--server %.*s: no request was answered", STR_ARG(c->server));
    if (stats_failed_share(s) <= o->load_max_failed) return true;
    stats_put_failures(&failures, s, 3);
    return error_set(
        err, ERR_IO, "--server %.*s: %.1f%% of the requests failed (--max-failed-share %g): %.*s",
        STR_ARG(c->server), 100 * stats_failed_share(s), o->load_max_failed, STR_ARG(strbuf_str(&failures)));
}

static bool run(const Options *o, Arena *arena, Error *err) {
    LoadConfig config;
    LoadResult result;
    Trace trace;
    int picture = -1;
    bool shows = os_is_terminal(2), is_new = false;
    LiveLine line = {.columns = (uint32_t)max_u64(os_terminal_columns(2), 2)};
    if (!fill_config(o, arena, &trace, &config, err)) return false;
    if (o->load_svg && !os_file_begin(o->load_svg, &picture, &is_new, err)) return error_prefix(err, "--svg");
    os_install_stop_signals(-1);
    bool ok = load_run(&config, shows ? show_progress : NULL, &line, arena, &result, err);
    if (shows && line.n_updates) (void)os_write(2, STR("\r\x1b[K"));
    Arena for_report = *arena;
    ok = ok && put_report(o, &config, &result, &for_report, err) &&
         draw(o, picture, &config, &result, arena, err);
    if (!ok && is_new) os_file_remove(o->load_svg);
    return ok && check_answers(o, &config, result.stats, err);
}

int cmd_load(const Options *o) {
    Error err;
    size_t bytes = LOAD_ARENA_BYTES + REPORT_BYTES + (o->load_trace ? (size_t)TRACE_BYTES_MAX * 2 : 0);
    Arena arena = os_arena(bytes);
    bool ok = run(o, &arena, &err);
    return ok ? 0 : cli_report_error(&err);
}
