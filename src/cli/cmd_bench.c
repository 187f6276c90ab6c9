#include "base/rng.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "os/os.h"

#include <stdio.h>
#include <stdlib.h>

// Speed of the engine as the server uses it, on random tokens (what they say does not change the work).
//   prompt N           prompt tokens a second of a prompt of N tokens, up to and with its first token drawn
//   prompts N, batch B prompt tokens a second of B prompts of N tokens that come at once, up to the last
//                      one's first token; of no more than PROMPTS_TOKENS_MAX tokens together
//   text at N, batch B tokens a second of B sequences together that have N tokens behind them; how long their
//                      steps take: the median, and what 1 of 100 exceeds
//
// Large prompts bring a GPU to its power limit, where its clock slows down. So prompts are measured twice:
// rested, each run after a pause, and, with --sustained, back to back for seconds, of which the second half
// counts. The mean clock is beside each figure.

enum { PROMPTS_TOKENS_MAX = 8192, RATES_MAX = 1 << 17 };

void bench_put(Bench *b, Str text) {
    if (!b->output_failed) b->output_failed = !os_output(text, &b->output_error);
}

static bool check_output(const Bench *b, Error *err) {
    if (b->output_failed) *err = b->output_error;
    return !b->output_failed;
}

static uint32_t largest(const U32List *list) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < list->count; i++)
        most = (uint32_t)max_u64(most, list->values[i]);
    return most;
}

// Draws that the first of a batch may make before the last one's first, where a step takes at least eight
// rows of prompts: these are in the cache, but for at most a page's tokens of each. Where layers have states,
// there may be fewer checkpoints than prompts, and short ones are computed again.
static uint32_t head_start(const Plan *plan, uint32_t batch, uint64_t n_prompt) {
    uint64_t n_again = plan->slot_bytes ? min_u64(n_prompt, 512) : KV_PAGE_TOKENS;
    return batch > 1 ? batch * (uint32_t)n_again / 8 : 0;
}

// Texts of a length that the cache holds side by side.
static uint64_t texts_held(const Bench *b, uint64_t n_tokens) {
    const BackendInfo *info = &b->model.backend->info;
    return kv_layout_texts(&b->model.plan->kv, info->n_kv_pages, n_tokens,
                           backend_chunk_rows(info->max_rows));
}

static bool refuse_batch(const Bench *b, uint32_t batch, uint64_t n_tokens, Error *err) {
    return error_set(err, ERR_USAGE,
                     "--batch %u: of texts of %llu tokens the KV cache holds %llu side by side", batch,
                     (unsigned long long)n_tokens, (unsigned long long)texts_held(b, n_tokens));
}

static uint64_t draws_at_context(const Options *o) {
    uint64_t in_stages = o->bench_stages ? max_u64(o->bench_runs, BENCH_STAGE_RUNS_LEAST) : 0;
    return 1 + max_u64(o->bench_output_tokens, in_stages);
}

// Each text fits the context, and those of a batch the cache.
static bool check_lengths(const Bench *b, Error *err) {
    const Options *o = b->options;
    uint32_t holds = engine_context_length(b->engine), n_prompt = largest(&o->bench_prompt_tokens);
    uint32_t batch = largest(&o->bench_batch), n_context = largest(&o->bench_context);
    uint64_t n_draws = draws_at_context(o), n_tokens = n_context + n_draws;
    if (n_prompt >= holds)
        return error_set(err, ERR_USAGE, "--prompt-tokens %u: with a token drawn, %llu; the context holds %u",
                         n_prompt, 1ull + n_prompt, holds);
    if (n_tokens > holds)
        return error_set(err, ERR_USAGE,
                         "--context %u: with %llu tokens drawn there, %llu; the context holds %u", n_context,
                         (unsigned long long)n_draws, (unsigned long long)n_tokens, holds);
    return batch <= texts_held(b, n_tokens) || refuse_batch(b, batch, n_tokens, err);
}

static bool prepare(Bench *b, Error *err) {
    const Options *o = b->options;
    Model *m = &b->model;
    uint32_t batch = largest(&o->bench_batch);
    uint64_t n_prompt = max_u64(largest(&o->bench_prompt_tokens), largest(&o->bench_context));
    if (o->bench_stages && o->device != DEVICE_CUDA)
        return error_set(err, ERR_USAGE, "--stages is for --device cuda");
    if (!model_open(o, m, err)) return false;
    // A page more, since none begins that leaves the others no page to grow.
    uint64_t context = n_prompt + draws_at_context(o) + head_start(m->plan, batch, n_prompt) + KV_PAGE_TOKENS;
    if (!model_load_opened(o, batch, (uint32_t)min_u64(context, UINT32_MAX), m, err)) return false;
    if (!engine_create(m->backend, m->plan, batch, &m->arena, &b->engine, err)) return false;
    if (!check_lengths(b, err)) return false;
    b->prompt = arena_new(&m->arena, int32_t, n_prompt);
    b->step_room = o->bench_runs * o->bench_output_tokens;
    b->step_ms = arena_new(&m->arena, double, b->step_room);
    b->rate_room = o->bench_sustained ? RATES_MAX : o->bench_runs;
    b->rates = arena_new(&m->arena, double, b->rate_room);
    if (!b->prompt || !b->step_ms || !b->rates)
        return error_set(err, ERR_NO_MEMORY, "no memory for the prompt");
    for (uint64_t i = 0; i < n_prompt; i++) {
        b->prompt[i] = (int32_t)(rng_philox(1, i).word[0] % m->plan->n_vocab);
    }
    return bench_clock_open(b, err);
}

typedef struct {
    uint64_t begin_ns;
    uint64_t first_ns; // every sequence had drawn a token
    uint64_t end_ns;   // every sequence had drawn n_output tokens since first_ns
    uint64_t n_tokens; // drawn between these two
} Timing;

// A batch of sequences with the same prompt. Each has a salt of its own, counted from first_salt on, so that
// none finds another's text in the cache.
typedef struct {
    uint32_t batch, n_prompt, n_output;
    uint64_t first_salt;
} Run;

static bool admit(Bench *b, const Run *run, uint32_t *slots, Error *err) {
    uint32_t room = engine_context_length(b->engine) - run->n_prompt;
    uint64_t n_draws =
        run->n_output > 0 ? 1ull + run->n_output + head_start(b->model.plan, run->batch, run->n_prompt) : 1;
    EngineRequest request = {.tokens = b->prompt,
                             .n_prompt = run->n_prompt,
                             .max_tokens = (uint32_t)min_u64(n_draws, room),
                             .sampler = SAMPLER_GREEDY};
    for (uint32_t i = 0; i < run->batch; i++) {
        uint64_t salt = run->first_salt + i;
        memcpy(request.cache_salt, &salt, sizeof salt);
        if (!engine_admit(b->engine, &request, &slots[i], err)) return false;
    }
    return true;
}

// Runs them side by side until each has drawn a token, and for n_output steps more, or until one has drawn
// all that its context holds. Without n_output each ends with its first token.
static bool run_together(Bench *b, const Run *run, Timing *t, Error *err) {
    EngineOutput outputs[JOBS_MAX];
    uint32_t slots[JOBS_MAX], drawn[JOBS_MAX] = {0}, n_first = 0, n_steps = 0;
    bool has_ended = false;
    *t = (Timing){.begin_ns = os_monotonic_ns()};
    if (!admit(b, run, slots, err)) return false;
    while (n_first < run->batch || n_steps < run->n_output) {
        if (has_ended && run->n_output > 0) break;
        uint32_t n_outputs, n_drawn = 0;
        uint64_t begin_ns = os_monotonic_ns();
        if (!engine_step(b->engine, outputs, &n_outputs, err)) return false;
        for (uint32_t i = 0; i < n_outputs; i++) {
            const EngineOutput *o = &outputs[i];
            if (o->failure) *err = *o->failure;
            if (o->failure) return false;
            n_first += o->n_tokens && drawn[o->slot] == 0;
            drawn[o->slot] += o->n_tokens;
            n_drawn += o->n_tokens;
            has_ended |= o->last;
        }
        if (t->first_ns) {
            t->n_tokens += n_drawn;
            n_steps++;
            if (n_drawn == run->batch && b->n_steps < b->step_room)
                b->step_ms[b->n_steps++] = (double)(os_monotonic_ns() - begin_ns) * 1e-6;
        } else if (n_first == run->batch) {
            t->first_ns = os_monotonic_ns();
        }
    }
    t->end_ns = os_monotonic_ns();
    for (uint32_t i = 0; i < run->batch; i++)
        engine_release(b->engine, slots[i]);
    if (n_first == run->batch && (n_steps || run->n_output == 0)) return true;
    return refuse_batch(b, run->batch, 1ull + run->n_prompt + run->n_output, err); // they took turns
}

// One sequence that finds nothing in the cache.
static bool run_once(Bench *b, uint32_t n_prompt, uint32_t n_output, Timing *t, Error *err) {
    Run run = {.batch = 1, .n_prompt = n_prompt, .n_output = n_output, .first_salt = b->n_salts++};
    return run_together(b, &run, t, err);
}

// The GPU idles, so that no run has to do with the clock that another left; then a prompt of one token
// wakes it.
static bool rest(Bench *b, Error *err) {
    Timing t;
    if (b->options->device != DEVICE_CUDA) return true;
    os_sleep_ms(BENCH_REST_MS);
    return run_once(b, 1, 0, &t, err);
}

static int compare_rates(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Of sorted values, the least that `share` of them do not exceed.
static double percentile(const double *values, uint32_t n, double share) {
    uint32_t at = (uint32_t)(share * n);
    return n ? values[min_u64(at, n - 1)] : 0;
}

// A row of the table, of b->rates.
typedef struct {
    const char *what; // "prompt", "prompts", or "text at", which has steps
    const char *pace; // "rested" or "sustained"; NULL where nothing was waited for
    uint32_t tokens, batch;
} Row;

static void show_json(Bench *b, const Row *row, double median, double mhz) {
    json_open_object(&b->json);
    json_member_str(&b->json, "test", str_from_c(row->what));
    if (row->pace) json_member_str(&b->json, "pace", str_from_c(row->pace));
    json_member_u64(&b->json, "tokens", row->tokens);
    json_member_u64(&b->json, "batch", row->batch);
    json_member_u64(&b->json, "runs", b->n_rates);
    json_member_fixed(&b->json, "tokens_per_second", median, 3);
    json_member_fixed(&b->json, "least", b->rates[0], 3);
    json_member_fixed(&b->json, "most", b->rates[b->n_rates - 1], 3);
    if (mhz > 0) json_member_fixed(&b->json, "clock_mhz", mhz, 0);
    if (b->n_steps) json_member_fixed(&b->json, "step_ms_p50", percentile(b->step_ms, b->n_steps, 0.5), 4);
    if (b->n_steps) json_member_fixed(&b->json, "step_ms_p99", percentile(b->step_ms, b->n_steps, 0.99), 4);
    json_close_object(&b->json);
}

static void show(Bench *b, const Row *row) {
    uint32_t n = b->n_rates;
    double mhz = bench_clock_take(b);
    bool is_sustained = row->pace && strcmp(row->pace, "sustained") == 0;
    qsort(b->rates, n, sizeof b->rates[0], compare_rates);
    qsort(b->step_ms, b->n_steps, sizeof b->step_ms[0], compare_rates);
    double median = n % 2 ? b->rates[n / 2] : (b->rates[n / 2 - 1] + b->rates[n / 2]) / 2;
    if (b->options->json) {
        show_json(b, row, median, mhz);
        return;
    }
    char line[160];
    StrBuf text = STRBUF(line);
    strbuf_printf(&text, "  %-9s %6u %7u ", is_sustained ? "sustained" : row->what, row->tokens, row->batch);
    strbuf_put_decimal(&text, median, 1, 12);
    if (bench_has_clock(b)) strbuf_printf(&text, " %6.0f", mhz);
    strbuf_put(&text, STR("   "));
    strbuf_put_decimal(&text, b->rates[0], 1, 0);
    strbuf_put(&text, STR(" to "));
    strbuf_put_decimal(&text, b->rates[n - 1], 1, 0);
    if (is_sustained) strbuf_printf(&text, "; %u run%s", n, plural_s(n));
    if (b->n_steps)
        strbuf_printf(&text, "; steps of %.3f ms, p99 %.3f", percentile(b->step_ms, b->n_steps, 0.5),
                      percentile(b->step_ms, b->n_steps, 0.99));
    strbuf_put_char(&text, '\n');
    bench_put(b, strbuf_str(&text));
}

// ---- prompts ----

static bool run_prompts(Bench *b, const Row *row, double *rate, Error *err) {
    Timing t;
    Run run = {.batch = row->batch, .n_prompt = row->tokens, .first_salt = b->n_salts};
    b->n_salts += row->batch;
    if (!run_together(b, &run, &t, err)) return false;
    *rate = (double)row->batch * row->tokens * 1e9 / (double)max_u64(t.first_ns - t.begin_ns, 1);
    return true;
}

static bool measure_rested(Bench *b, const Row *row, Error *err) {
    double rate;
    if (!run_prompts(b, row, &rate, err)) return false; // the engine finds its size of chunk
    for (b->n_rates = 0; b->n_rates < b->options->bench_runs; b->n_rates++) {
        if (!rest(b, err) || !bench_clock_begin(b, err) || !run_prompts(b, row, &b->rates[b->n_rates], err) ||
            !bench_clock_end(b, err))
            return false;
    }
    show(b, row);
    return check_output(b, err);
}

// Back to back, at least one. Of more runs than there is room for, the first are kept.
static bool run_for(Bench *b, const Row *row, double seconds, Error *err) {
    uint64_t begin_ns = os_monotonic_ns();
    double rate;
    b->n_rates = 0;
    do {
        if (!run_prompts(b, row, &rate, err)) return false;
        if (b->n_rates < b->rate_room) b->rates[b->n_rates++] = rate;
    } while ((double)(os_monotonic_ns() - begin_ns) < seconds * 1e9);
    return true;
}

static bool measure_sustained(Bench *b, const Row *row, Error *err) {
    double half = b->options->bench_sustained / 2.0;
    if (!run_for(b, row, half, err)) return false; // until the clock has settled
    if (!bench_clock_begin(b, err) || !run_for(b, row, half, err) || !bench_clock_end(b, err)) return false;
    show(b, row);
    return check_output(b, err);
}

static bool measure_prompts(Bench *b, uint32_t n_prompt, uint32_t batch, Error *err) {
    Row row = {batch > 1 ? "prompts" : "prompt", bench_has_clock(b) ? "rested" : NULL, n_prompt, batch};
    b->n_steps = 0;
    if (!measure_rested(b, &row, err)) return false;
    row.pace = "sustained";
    return !b->options->bench_sustained || measure_sustained(b, &row, err);
}

// ---- texts ----

// The prompts are read before, one after the other, so that no text is far ahead of the others.
static bool measure_text(Bench *b, uint32_t n_context, uint32_t batch, Error *err) {
    Timing t;
    Run run = {.batch = batch,
               .n_prompt = n_context,
               .n_output = b->options->bench_output_tokens,
               .first_salt = b->n_salts};
    for (uint32_t i = 0; i < batch; i++)
        if (!run_once(b, n_context, 0, &t, err)) return false;
    b->n_steps = 0;
    for (b->n_rates = 0; b->n_rates < b->options->bench_runs; b->n_rates++) {
        if (!rest(b, err) || !bench_clock_begin(b, err) || !run_together(b, &run, &t, err) ||
            !bench_clock_end(b, err))
            return false;
        b->rates[b->n_rates] = (double)t.n_tokens * 1e9 / (double)max_u64(t.end_ns - t.first_ns, 1);
    }
    show(b, &(Row){"text at", bench_has_clock(b) ? "rested" : NULL, n_context, batch});
    return check_output(b, err);
}

static void begin_output(Bench *b) {
    const BackendInfo *info = &b->model.backend->info;
    if (b->options->json) {
        b->out = strbuf_begin_in_arena(&b->model.arena);
        b->json = json_writer_begin(&b->out);
        json_open_object(&b->json);
        json_member_str(&b->json, "model", b->model.name);
        json_member_str(&b->json, "quant_kind", str_from_c(b->model.quant_kind));
        json_member_str(&b->json, "kv_cache_type", str_from_c(kv_type_name(b->model.plan->kv_type)));
        json_member_str(&b->json, "products", str_from_c(backend_products(info)));
        json_member_str(&b->json, "device", str_from_c(info->device_name));
        json_member_u64(&b->json, "weight_bytes", b->model.plan->weight_bytes);
        if (bench_has_clock(b)) json_member_u64(&b->json, "rest_ms", BENCH_REST_MS);
        if (b->options->bench_sustained)
            json_member_u64(&b->json, "sustained_seconds", b->options->bench_sustained);
        json_key(&b->json, "results");
        json_open_array(&b->json);
        return;
    }
    char text[512];
    StrBuf out = STRBUF(text);
    strbuf_printf(&out, "%.*s, %s, ", STR_ARG(b->model.name), b->model.quant_kind);
    strbuf_put_bytes(&out, b->model.plan->weight_bytes);
    if (b->model.plan->kv_type != KV_TYPE_F16)
        strbuf_printf(&out, " of weights, %s cache", kv_type_name(b->model.plan->kv_type));
    else strbuf_put(&out, STR(" of weights"));
    strbuf_printf(&out, ", on %s\n\n  %-9s %6s %7s %12s%s   of %u run%s\n", info->device_name, "test",
                  "tokens", "batch", "tokens/s", bench_has_clock(b) ? "    MHz" : "", b->options->bench_runs,
                  plural_s(b->options->bench_runs));
    bench_put(b, strbuf_str(&out));
}

// How prompts were measured.
static void show_paces(Bench *b) {
    char line[256];
    StrBuf text = STRBUF(line);
    if (bench_has_clock(b))
        strbuf_printf(&text,
                      "\n  each run begins when the GPU has idled for %.1f s; MHz: the mean clock of its\n"
                      "  multiprocessors\n",
                      BENCH_REST_MS * 1e-3);
    if (b->options->bench_sustained)
        strbuf_printf(&text, "%s  sustained: back to back for %u s, of which the second half counts\n",
                      bench_has_clock(b) ? "" : "\n", b->options->bench_sustained);
    bench_put(b, strbuf_str(&text));
}

static void end_output(Bench *b) {
    if (b->options->json) json_close_array(&b->json);
    else show_paces(b);
    bench_show_library(b);
    if (!b->options->json) return;
    json_close_object(&b->json);
    strbuf_put_char(&b->out, '\n');
    bench_put(b, strbuf_str(&b->out));
}

static bool measure(Bench *b, Error *err) {
    const Options *o = b->options;
    Timing warm;
    bench_wait_for_classes(b);
    if (!run_once(b, 1, 1, &warm, err)) return false;
    begin_output(b);
    for (uint32_t i = 0; i < o->bench_prompt_tokens.count; i++) {
        if (!measure_prompts(b, o->bench_prompt_tokens.values[i], 1, err)) return false;
    }
    for (uint32_t i = 0; i < o->bench_batch.count * o->bench_context.count; i++) {
        uint32_t batch = o->bench_batch.values[i / o->bench_context.count];
        uint32_t n_context = o->bench_context.values[i % o->bench_context.count];
        if (batch > 1 && (uint64_t)batch * n_context <= PROMPTS_TOKENS_MAX &&
            !measure_prompts(b, n_context, batch, err))
            return false;
        if (!measure_text(b, n_context, batch, err)) return false;
        if (o->bench_stages && (!rest(b, err) || !bench_stages(b, n_context, batch, err))) return false;
    }
    for (uint32_t i = 0; o->bench_stages && i < o->bench_prompt_tokens.count; i++) {
        if (!bench_prompt_stages(b, o->bench_prompt_tokens.values[i], err)) return false;
    }
    end_output(b);
    return check_output(b, err);
}

int cmd_bench(const Options *o) {
    Error err;
    Bench bench = {.options = o};
    bool ok = prepare(&bench, &err) && measure(&bench, &err);
    model_close(&bench.model);
    return ok ? 0 : cli_report_error(&err);
}
