#include "batch_checks.h"

#if WORKER_ORCD_CUDA

#include "runner.h"

#include <stdio.h>

enum { DRAWN_MAX = 64 };

// What a sequence drew: tokens, and of each the log-probabilities of the best.
typedef struct {
    int32_t tokens[DRAWN_MAX];
    TokenLogprobs logprobs[DRAWN_MAX];
} Drawn;

static void keep(const StepRun *run, Drawn *out, uint32_t i) {
    REQUIRE(run->n_tokens == 1 && run->logprobs != NULL);
    out->tokens[i] = run->tokens[0];
    out->logprobs[i] = (TokenLogprobs){0};
    out->logprobs[i].token = run->logprobs->token;
    out->logprobs[i].logprob = run->logprobs->logprob;
    out->logprobs[i].n_best = run->logprobs->n_best;
    for (uint32_t k = 0; k < run->logprobs->n_best; k++)
        out->logprobs[i].best[k] = run->logprobs->best[k];
}

// Draws a token for each of some slots in every step, n_drawn in all, behind prompts that are there.
static void draw(const ModelPair *p, const uint32_t *slots, const uint32_t *lengths, uint32_t n_slots,
                 uint32_t n_drawn, Drawn *const *out) {
    for (uint32_t i = 1; i < n_drawn; i++) {
        StepSequence q[PAIR_SLOTS_MAX];
        StepResult r;
        Error err = {0};
        for (uint32_t s = 0; s < n_slots; s++) {
            q[s] = (StepSequence){.slot = slots[s],
                                  .mode = STEP_DECODE,
                                  .position = lengths[s] + i - 1,
                                  .n_rows = 1,
                                  .pages = p->pages[slots[s]],
                                  .n_draws = 1};
        }
        bool ok = p->gpu->step(p->gpu, &(Step){q, n_slots}, &err) && p->gpu->read(p->gpu, &r, &err);
        if (!ok) FAIL("%s", err.message);
        REQUIRE(ok && r.n_runs == n_slots);
        for (uint32_t s = 0; s < n_slots; s++)
            keep(&r.runs[s], out[s], i);
    }
}

static void run_prompt(const ModelPair *p, uint32_t slot, const SamplerParams *params, const int32_t *prompt,
                       uint32_t length, Drawn *out) {
    model_begin(p->gpu, slot, params, prompt, length);
    StepResult r = model_run(p, p->gpu, slot, prompt, 0, length, true, 0);
    keep(&r.runs[0], out, 0);
}

void batch_check_together(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t n_prompt,
                          uint32_t n_drawn, uint32_t n_together) {
    Arena scratch = p->arena;
    SamplerParams with_logprobs[PAIR_SLOTS_MAX];
    Drawn *alone[PAIR_SLOTS_MAX] = {0}, *together[PAIR_SLOTS_MAX] = {0};
    uint32_t slots[PAIR_SLOTS_MAX] = {0}, lengths[PAIR_SLOTS_MAX] = {0};
    REQUIRE(n_together <= p->n_slots && n_drawn <= DRAWN_MAX && n_prompt > 2 * n_together);
    for (uint32_t s = 0; s < n_together; s++) {
        slots[s] = s;
        lengths[s] = n_prompt - 2 * s;
        alone[s] = arena_new(&scratch, Drawn, 1);
        together[s] = arena_new(&scratch, Drawn, 1);
        REQUIRE(alone[s] && together[s]);
        with_logprobs[s] = *params;
        with_logprobs[s].seed += s;
        with_logprobs[s].logprobs = true;
        with_logprobs[s].n_logprobs = LOGPROBS_MAX;
        run_prompt(p, s, &with_logprobs[s], prompt, lengths[s], alone[s]);
        draw(p, &slots[s], &lengths[s], 1, n_drawn, &alone[s]);
    }
    for (uint32_t s = 0; s < n_together; s++)
        run_prompt(p, s, &with_logprobs[s], prompt, lengths[s], together[s]);
    draw(p, slots, lengths, n_together, n_drawn, together);
    for (uint32_t s = 0; s < n_together; s++) {
        TEST_CASE_LABEL("%u rows together, that of slot %u, temperature %g", n_together, s,
                        (double)params->temperature);
        CHECK_BYTES_EQ(alone[s], sizeof *alone[s], together[s], sizeof *together[s]);
    }
    TEST_CASE_LABEL("%s", "");
}

void batch_check_drawn_as_prompt(ModelPair *p, const SamplerParams *params, const int32_t *prompt,
                                 uint32_t n_prompt, uint32_t n) {
    Arena scratch = p->arena;
    uint64_t n_vocab = p->plan->n_vocab, n_values = n * n_vocab;
    float *drawn = arena_new(&scratch, float, n_values), *whole = arena_new(&scratch, float, n_values);
    int32_t *tokens = arena_new(&scratch, int32_t, n + 1);
    REQUIRE(drawn && whole && tokens);
    memcpy(tokens, prompt, n_prompt * sizeof *tokens);
    model_generate(p, p->gpu, 0, params, tokens, n_prompt, n, &n_prompt, 1, drawn);
    model_generate(p, p->gpu, 1, &SAMPLER_GREEDY, tokens, n, n, &n, 1, whole);
    for (uint32_t t = 0; t < n; t++) {
        TEST_CASE_LABEL("position %u", t);
        CHECK_BYTES_EQ(drawn + t * n_vocab, n_vocab * sizeof *drawn, whole + t * n_vocab,
                       n_vocab * sizeof *whole);
    }
    TEST_CASE_LABEL("%s", "");
}

#endif
