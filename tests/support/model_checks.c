#include "model_checks.h"

#if WORKER_ORCD_CUDA

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_route.h"
#include "engine/engine.h"
#include "os/os.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

// ---- logits ----

static uint32_t best_of(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

// How far rows' routes are from another one: where another expert is hardly worse than one that is chosen,
// rounding can change them, and what is left of another row's other route sooner.
typedef struct {
    const Plan *plan;
    uint32_t first; // position of the step's first row
    float *margins; // by position: the smallest change of a router's logit that was found to change a choice
} Routes;

// Changes that are tried, of the router's logits' extent. What rounding may do, and how much more.
static const float ROUTE_MARGIN = 0.005f;
enum { ROUTE_MARGINS = 6 }; // twice as much each time

// The experts that a row of the reference uses, a flag each.
static void chosen_experts(const Op *route, const float *logits, uint32_t n, bool *chosen) {
    float experts[EXPERTS_MAX], weights[EXPERTS_MAX], bias[EXPERTS_MAX];
    if (route->weight) {
        const DtypeInfo *info = dtype_info(route->weight->dtype);
        info->dequantize(route->weight->data, bias, n / info->block_elements);
    }
    cpu_route(&route->route, logits, n, route->weight ? bias : NULL, route->n_used, experts, weights);
    for (uint32_t i = 0; i < n; i++)
        chosen[i] = false;
    for (uint32_t i = 0; i < route->n_used; i++)
        chosen[(uint32_t)experts[i]] = true;
}

// Whether a change of one logit by `margin` changes the choice.
static bool changes_choice(const Op *route, const float *logits, uint32_t n, float margin) {
    float changed[EXPERTS_MAX];
    bool chosen[EXPERTS_MAX], others[EXPERTS_MAX], differs = false;
    memcpy(changed, logits, n * sizeof *logits);
    chosen_experts(route, logits, n, chosen);
    for (uint32_t i = 0; i < n && !differs; i++) {
        changed[i] = logits[i] + (chosen[i] ? -margin : margin);
        chosen_experts(route, changed, n, others);
        differs = memcmp(chosen, others, n * sizeof *chosen) != 0;
        changed[i] = logits[i];
    }
    return differs;
}

static void see_routes(void *context, uint32_t op, const float *values, uint32_t n_rows, uint32_t width) {
    Routes *r = context;
    const Op *route = &r->plan->ops[op + 1];
    if (r->plan->ops[op].out != ACT_L || route->kind != OP_ROUTE) return;
    for (uint32_t i = 0; i < n_rows; i++) {
        const float *logits = values + (uint64_t)i * width;
        float low = INFINITY, high = -INFINITY, margin = ROUTE_MARGIN, *known = &r->margins[r->first + i];
        for (uint32_t k = 0; k < width; k++) {
            low = fminf(low, logits[k]);
            high = fmaxf(high, logits[k]);
        }
        // Only where a state hands errors on do larger ones matter.
        for (uint32_t k = 0; k < (r->plan->slot_bytes ? ROUTE_MARGINS : 1) && margin < *known;
             k++, margin *= 2) {
            if (changes_choice(route, logits, width, margin * (high - low))) *known = margin;
        }
    }
}

// The errors of rows that took another route than the reference's.
typedef struct {
    bool has_states; // the model's layers keep some: what a row left there, the next ones find
    double sum, last;
    uint32_t last_at;
} OtherRoutes;

static void note_other_route(OtherRoutes *o, uint32_t position, double e) {
    o->sum += e;
    o->last = fmax(e, position - o->last_at < 16 ? o->last : 0);
    o->last_at = position;
}

// What states hand on of them, for a while.
static double handed_on(const OtherRoutes *o, uint32_t position) {
    return o->has_states && position - o->last_at < 16 ? 2 * o->last : 0;
}

// What a later row may take over of them: by attention several times the share that one row has of all, or by
// states.
static double taken_over(const OtherRoutes *o, uint32_t position) {
    return fmax(4 * o->sum / (position + 1), handed_on(o, position));
}

double model_check_logits(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t n_prompt,
                          uint32_t n, double error_max) {
    enum { ROWS = 64 };
    uint32_t n_vocab = p->plan->n_vocab, n_same = 0, n_undecided = 0;
    Arena scratch = p->arena;
    Routes routes = {.plan = p->plan, .margins = arena_new(&scratch, float, n)};
    float *logits = arena_new(&scratch, float, (uint64_t)n *n_vocab);
    int32_t *tokens = arena_new(&scratch, int32_t, n + 1);
    REQUIRE(logits != NULL && tokens != NULL && routes.margins != NULL);
    for (uint32_t t = 0; t < n; t++)
        routes.margins[t] = INFINITY;
    memcpy(tokens, prompt, n_prompt * sizeof *tokens);
    model_generate(p, p->gpu, 0, params, tokens, n_prompt, n, &n_prompt, 1, logits);
    double worst[2] = {0}; // of the prompt's rows, and of those that were drawn
    OtherRoutes others = {.has_states = p->plan->slot_bytes > 0};
    model_begin(p->cpu, 0, params, tokens, n);
    cpu_backend_observe(p->cpu, see_routes, &routes);
    for (uint32_t at = 0; at < n; at += ROWS) {
        routes.first = at;
        uint32_t rows = (uint32_t)min_u64(ROWS, n - at);
        const float *expected = model_run(p, p->cpu, 0, tokens + at, at, rows, false, rows).logits;
        for (uint32_t t = at; t < at + rows; t++, expected += n_vocab) {
            const float *actual = logits + (uint64_t)t * n_vocab;
            double e = model_relative_error(expected, actual, n_vocab), *w = &worst[t >= n_prompt];
            n_same += best_of(expected, n_vocab) == best_of(actual, n_vocab);
            // What a state hands on excuses a row that is off alone.
            double more = e >= error_max ? handed_on(&others, t) : 0;
            bool is_undecided = routes.margins[t] <= ROUTE_MARGIN + more;
            n_undecided += is_undecided;
            if (is_undecided) {
                printf("position %u: two experts are nearly as good; relative error %.2g\n", t, e);
                if (e >= error_max) note_other_route(&others, t, e);
                continue;
            }
            if (!(e < error_max + taken_over(&others, t)))
                FAIL("position %u: relative error of the logits %g", t, e);
            *w = fmax(*w, e);
        }
    }
    cpu_backend_observe(p->cpu, NULL, NULL);
    CHECK(n_undecided * 5 < n);
    CHECK(worst[0] > 0); // it is not the reference itself
    printf(
        "largest relative error of the logits: %.2g in a prompt of %u, %.2g in %u drawn; same best token at"
        " %u of %u positions\n",
        worst[0], n_prompt, worst[1], n - n_prompt, n_same, n);
    return (double)n_same / n;
}

// ---- the same bits ----

void model_check_chunks(ModelPair *p, const int32_t *prompt, uint32_t n_prompt, const uint32_t *chunks,
                        uint32_t n_chunks) {
    Arena scratch = p->arena;
    uint64_t n_values = (uint64_t)n_prompt * p->plan->n_vocab;
    float *whole = arena_new(&scratch, float, n_values), *cut = arena_new(&scratch, float, n_values);
    int32_t *tokens = arena_new(&scratch, int32_t, n_prompt + 1);
    REQUIRE(whole != NULL && cut != NULL && tokens != NULL);
    memcpy(tokens, prompt, n_prompt * sizeof *tokens);
    model_generate(p, p->gpu, 0, &SAMPLER_GREEDY, tokens, n_prompt, n_prompt, &n_prompt, 1, whole);
    int32_t next = tokens[n_prompt];
    for (uint32_t i = 0; i < n_chunks; i++) {
        uint32_t slot = (i + 1) % p->n_slots;
        p->prompt_slices = 2 + i;
        TEST_CASE_LABEL("slot %u, chunks of %u in %u slices", slot, chunks[i], p->prompt_slices);
        model_generate(p, p->gpu, slot, &SAMPLER_GREEDY, tokens, n_prompt, n_prompt, &chunks[i], 1, cut);
        CHECK_BYTES_EQ(whole, n_values * sizeof *whole, cut, n_values * sizeof *cut);
        CHECK_INT_EQ(next, tokens[n_prompt]);
    }
    p->prompt_slices = 0;
    TEST_CASE_LABEL("%s", "");
}

// Rows of slot 0's prompt, which leave a checkpoint at each border of pages, in as many slices as there may
// be up to p->prompt_slices.
static void run_and_keep(const ModelPair *p, const int32_t *prompt, uint32_t position, uint32_t n) {
    StepSequence q = {.mode = STEP_PROMPT,
                      .position = position,
                      .n_rows = n,
                      .tokens = prompt + position,
                      .pages = p->pages[0],
                      .list_pages = p->list_pages,
                      .n_slices = (uint32_t)min_u64(p->prompt_slices, p->gpu->info.chunk_slices)};
    StepResult r;
    Error err = {0};
    for (uint32_t at = position / KV_PAGE_TOKENS; at < (position + n) / KV_PAGE_TOKENS; at++)
        q.keeps[q.n_keeps++] = (StepKeep){(at + 1) * KV_PAGE_TOKENS - position, at};
    bool ok = true;
    for (; ok && (q.slice == 0 || q.slice < q.n_slices); q.slice++)
        ok = p->gpu->step(p->gpu, &(Step){.sequences = &q, .n_sequences = 1}, &err) &&
             p->gpu->read(p->gpu, &r, &err);
    if (!ok) FAIL("%s", err.message);
}

void model_check_checkpoints(ModelPair *p, const int32_t *prompt, uint32_t n_prompt) {
    enum { FIRST = 5 }; // rows of the first step
    Arena scratch = p->arena;
    uint64_t n_vocab = p->plan->n_vocab;
    float *whole = arena_new(&scratch, float, n_prompt *n_vocab);
    uint32_t n = n_prompt / KV_PAGE_TOKENS;
    Error err = {0};
    REQUIRE(whole && p->gpu->info.n_checkpoints >= n && n > 1 && n <= STEP_KEEPS_MAX);
    model_begin(p->gpu, 0, &SAMPLER_GREEDY, prompt, n_prompt);
    StepResult r = model_run(p, p->gpu, 0, prompt, 0, n_prompt, false, n_prompt);
    memcpy(whole, r.logits, n_prompt * n_vocab * sizeof *whole);
    run_and_keep(p, prompt, 0, FIRST);
    p->prompt_slices = 2;
    run_and_keep(p, prompt, FIRST, n_prompt - FIRST);
    p->prompt_slices = 0;
    for (uint32_t at = 0; at < n; at++) {
        uint32_t from = (at + 1) * KV_PAGE_TOKENS, n_left = n_prompt - from;
        if (n_left == 0) break;
        TEST_CASE_LABEL("from the checkpoint at %u", from);
        REQUIRE(p->gpu->restore_state(p->gpu, 0, at, &err));
        r = model_run(p, p->gpu, 0, prompt + from, from, n_left, false, n_left);
        CHECK_BYTES_EQ(whole + from * n_vocab, n_left * n_vocab * sizeof *whole, r.logits,
                       n_left * n_vocab * sizeof *whole);
    }
    TEST_CASE_LABEL("%s", "");
}

void model_check_repeats(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t n_prompt,
                         uint32_t n, uint32_t runs) {
    static const uint32_t chunks[] = {512, 7, 64, 100};
    Arena scratch = p->arena;
    int32_t *first = arena_new(&scratch, int32_t, n + 1), *again = arena_new(&scratch, int32_t, n + 1);
    REQUIRE(first != NULL && again != NULL);
    memcpy(first, prompt, n_prompt * sizeof *first);
    memcpy(again, prompt, n_prompt * sizeof *again);
    model_generate(p, p->gpu, 0, params, first, n_prompt, n, chunks, 1, NULL);
    for (uint32_t i = 0; i < runs; i++) {
        uint32_t slot = i % p->n_slots;
        const uint32_t *chunk = &chunks[i % COUNT_OF(chunks)];
        TEST_CASE_LABEL("run %u, slot %u, chunks of %u, temperature %g", i, slot, *chunk,
                        (double)params->temperature);
        model_generate(p, p->gpu, slot, params, again, n_prompt, n, chunk, 1, NULL);
        CHECK_BYTES_EQ(first, (n + 1) * sizeof *first, again, (n + 1) * sizeof *again);
    }
    TEST_CASE_LABEL("%s", "");
}

void model_check_side_by_side(ModelPair *p, const SamplerParams *params, const int32_t *prompt,
                              uint32_t n_prompt, uint32_t n) {
    Arena scratch = p->arena;
    uint32_t n_drawn = n - n_prompt, lengths[PAIR_SLOTS_MAX];
    int32_t *alone[PAIR_SLOTS_MAX];
    for (uint32_t s = 0; s < p->n_slots; s++) {
        lengths[s] = n_prompt / (s + 1);
        alone[s] = arena_new(&scratch, int32_t, n + 1);
        REQUIRE(alone[s] != NULL && lengths[s] > 0);
        memcpy(alone[s], prompt, lengths[s] * sizeof *prompt);
        model_generate(p, p->gpu, s, params, alone[s], lengths[s], lengths[s] + n_drawn, lengths + s, 1,
                       NULL);
    }
    for (uint32_t s = 0; s < p->n_slots; s++) {
        model_begin(p->gpu, s, params, prompt, lengths[s]);
        StepResult r = model_run(p, p->gpu, s, prompt, 0, lengths[s], true, 0);
        CHECK_INT_EQ(alone[s][lengths[s]], r.runs[0].tokens[0]);
    }
    for (uint32_t i = 1; i <= n_drawn; i++) {
        StepSequence q[PAIR_SLOTS_MAX];
        for (uint32_t s = 0; s < p->n_slots; s++) {
            q[s] = (StepSequence){.slot = s,
                                  .mode = STEP_DECODE,
                                  .position = lengths[s] + i - 1,
                                  .n_rows = 1,
                                  .pages = p->pages[s],
                                  .list_pages = p->list_pages,
                                  .n_draws = 1};
        }
        StepResult r;
        Error err = {0};
        bool ok = p->gpu->step(p->gpu, &(Step){.sequences = q, .n_sequences = p->n_slots}, &err) &&
                  p->gpu->read(p->gpu, &r, &err);
        if (!ok) FAIL("%s", err.message);
        REQUIRE(ok);
        for (uint32_t s = 0; s < p->n_slots; s++)
            CHECK_INT_EQ(alone[s][lengths[s] + i], r.runs[s].tokens[0]);
    }
}

// ---- texts that go on ----

// The token that the sampler's reference draws after `n` known tokens, the last n - n_prompt of them drawn.
static int32_t expected_draw(const ModelPair *p, const SamplerParams *params, const float *logits,
                             const int32_t *tokens, uint32_t n, uint32_t n_prompt) {
    uint32_t n_vocab = p->plan->n_vocab;
    Arena scratch = p->arena;
    float *copy = arena_new(&scratch, float, n_vocab);
    SamplerHistory history = {.seen = arena_new(&scratch, uint32_t, token_set_words(n_vocab)),
                              .counts = arena_new(&scratch, uint16_t, n_vocab)};
    void *sampler = arena_alloc(&scratch, 1, sampler_scratch_bytes(n_vocab), 64);
    REQUIRE(copy && history.seen && history.counts && sampler);
    memcpy(copy, logits, n_vocab * sizeof *copy);
    sampler_history_begin(history, n_vocab, tokens, n, n - n_prompt);
    return sampler_draw(params, copy, n_vocab, history, n - n_prompt,
                        arena_from_memory(sampler, sampler_scratch_bytes(n_vocab)));
}

static void check_logprobs(const ModelPair *p, const SamplerParams *params, const float *logits,
                           const StepRun *run) {
    CHECK_INT_EQ(params->logprobs, run->logprobs != NULL);
    if (!run->logprobs) return;
    TokenLogprobs expected;
    sampler_logprobs(logits, p->plan->n_vocab, run->tokens[0], params->n_logprobs, &expected);
    CHECK_INT_EQ(expected.token, run->logprobs->token);
    CHECK_NEAR(expected.logprob, run->logprobs->logprob, 1e-4);
    REQUIRE(expected.n_best == run->logprobs->n_best);
    for (uint32_t i = 0; i < expected.n_best; i++) {
        CHECK_INT_EQ(expected.best[i].id, run->logprobs->best[i].id);
        CHECK_NEAR(expected.best[i].logprob, run->logprobs->best[i].logprob, 1e-4);
    }
}

uint32_t model_check_resume(ModelPair *p, Backend *b, const SamplerParams *params, const int32_t *prompt,
                            uint32_t n_prompt, uint32_t n, const uint32_t *cuts, uint32_t n_cuts) {
    Arena scratch = p->arena;
    int32_t *whole = arena_new(&scratch, int32_t, n + 1), *tokens = arena_new(&scratch, int32_t, n + 1);
    uint32_t n_same = 0;
    Arena kept = p->arena;
    REQUIRE(whole && tokens);
    p->arena = scratch;
    memcpy(whole, prompt, n_prompt * sizeof *whole);
    model_generate(p, b, 0, params, whole, n_prompt, n, &n_prompt, 1, NULL);
    for (uint32_t i = 0; i < n_cuts; i++) {
        uint32_t slot = (i + 1) % p->n_slots, at = cuts[i];
        TEST_CASE_LABEL("%s, temperature %g, begun again in slot %u after %u drawn", b->info.kind,
                        (double)params->temperature, slot, at - n_prompt);
        memcpy(tokens, whole, (n + 1) * sizeof *tokens);
        SequenceStart start = {
            .params = *params, .tokens = tokens, .n_prompt = n_prompt, .n_drawn = at - n_prompt};
        Error err = {0};
        REQUIRE(b->begin(b, slot, &start, &err));
        for (uint32_t t = at; t <= n; t++) {
            bool first = t == at;
            StepResult r =
                model_run(p, b, slot, first ? tokens : NULL, first ? 0 : t - 1, first ? at : 1, true, 1);
            tokens[t] = r.runs[0].tokens[0];
            CHECK_INT_EQ(expected_draw(p, params, r.logits, tokens, t, n_prompt), tokens[t]);
            check_logprobs(p, params, r.logits, &r.runs[0]);
            n_same += tokens[t] == whole[t];
        }
    }
    p->arena = kept;
    TEST_CASE_LABEL("%s", "");
    return n_same;
}

// ---- what does not fit ----

// Admits a request and draws its tokens.
static void run_job(Engine *e, const EngineRequest *request, int32_t *out) {
    uint32_t slot, n_outputs, n = 0;
    Error err = {0};
    bool ok = engine_admit(e, request, &slot, &err);
    while (ok && n < request->max_tokens) {
        EngineOutput outputs[JOBS_MAX];
        ok = engine_step(e, outputs, &n_outputs, &err);
        for (uint32_t i = 0; ok && i < n_outputs; i++) {
            for (uint32_t t = 0; outputs[i].slot == slot && t < outputs[i].n_tokens; t++)
                out[n++] = outputs[i].tokens[t];
        }
    }
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    engine_release(e, slot);
}

void model_check_cache_runs_out(ModelPair *p, const int32_t *prompt, uint32_t n_prompt, uint32_t n) {
    Arena scratch = p->arena;
    uint32_t most = backend_context(&p->gpu->info, p->plan);
    EngineRequest fits = {
        .tokens = prompt, .n_prompt = n_prompt, .max_tokens = n - n_prompt, .sampler = SAMPLER_GREEDY};
    EngineRequest large = fits;
    large.max_tokens = most - n_prompt + 1;
    int32_t *first = arena_new(&scratch, int32_t, n), *again = arena_new(&scratch, int32_t, n);
    Engine *e;
    Error err = {0};
    uint32_t refused;
    REQUIRE(first != NULL && again != NULL);
    REQUIRE(engine_create(p->gpu, p->plan, p->n_slots, &scratch, &e, &err));
    run_job(e, &fits, first);
    CHECK(!engine_admit(e, &large, &refused, &err));
    CHECK_INT_EQ(ERR_VRAM_OOM, err.code);
    run_job(e, &fits, again);
    CHECK_BYTES_EQ(first, fits.max_tokens * sizeof *first, again, fits.max_tokens * sizeof *again);
    CHECK_INT_EQ(0, kv_pages_used(engine_pages(e)));
    CHECK_INT_EQ(0, engine_active(e));
}

#endif
