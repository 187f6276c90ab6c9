// The sampling stages on the emulator against the reference of src/backend/sampler.c:
// kernels_src/sample_full.cuh, sample_greedy.cuh, sample_adjust.cuh, sample_logprobs.cuh.
#include "kernel_reference.h"

#include "backend/sampler.h"
#include "runner.h"

#include <math.h>

typedef struct {
    float *logits;
    HeadBest *best;
    uint32_t *seen;
    SampleScratch *scratch;
    StepRow *sequence;
    int *out;
} SampleCase;

enum { HEAD_BLOCKS = 5 };

static SampleCase make_case(uint32_t n_vocab) {
    SampleCase c = {.logits = kernel_memory(n_vocab * sizeof(float)),
                    .best = kernel_memory(HEAD_BLOCKS * sizeof(HeadBest)),
                    .seen = kernel_memory((n_vocab + 31) / 32 * 4),
                    .scratch = kernel_memory(sizeof(SampleScratch)),
                    .sequence = kernel_memory(sizeof(StepRow)),
                    .out = kernel_memory(TOKEN_RING * sizeof(int))};
    return c;
}

// What decode_head leaves.
static void find_best(const SampleCase *c, uint32_t n_vocab, float penalty) {
    for (uint32_t b = 0; b < HEAD_BLOCKS; b++)
        c->best[b] = (HeadBest){-INFINITY, -1, 0, 0};
    for (uint32_t i = 0; i < n_vocab; i++) {
        HeadBest *best = &c->best[(uint64_t)i * HEAD_BLOCKS / n_vocab];
        float v = c->logits[i];
        if (penalty != 1 && token_set_has(c->seen, (int32_t)i)) v = v > 0 ? v / penalty : v * penalty;
        best->n_bad += isnan(v) ? 1u : 0u;
        if (v > best->value) best->value = v, best->token = (int)i;
    }
}

// The stage's token, and the sequence as it should be after it.
static int run_sample(const EmulatedStage *s, const SampleCase *c, const SamplerParams *p, uint32_t step) {
    *c->sequence = (StepRow){.position = 100 + step,
                             .step = step,
                             .temperature = p->temperature,
                             .top_p = p->top_p,
                             .min_p = p->min_p,
                             .repetition_penalty = p->repetition_penalty,
                             .top_k = p->top_k,
                             .seed = p->seed,
                             .seen = DEVICE_ADDRESS(c->seen),
                             .drawn = DEVICE_ADDRESS(c->out)};
    find_best(c, s->n_vocab, p->repetition_penalty);
    SampleArgs args = {DEVICE_ADDRESS(c->sequence), DEVICE_ADDRESS(c->logits), DEVICE_ADDRESS(c->best),
                       DEVICE_ADDRESS(c->scratch)};
    kernel_run(s, &args, sizeof args);
    int token = c->out[step % TOKEN_RING];
    CHECK_INT_EQ(step + 1, c->sequence->step);
    CHECK_INT_EQ(101 + step, c->sequence->position);
    CHECK_INT_EQ(token < 0 ? 0 : token, c->sequence->token);
    CHECK(token < 0 || token_set_has(c->seen, token));
    return token;
}

static int reference_draw(const EmulatedStage *s, const SampleCase *c, const SamplerParams *p,
                          uint32_t step) {
    float *logits = kernel_memory(s->n_vocab * sizeof *logits);
    memcpy(logits, c->logits, s->n_vocab * sizeof *logits);
    size_t size = sampler_scratch_bytes(s->n_vocab);
    return sampler_draw(p, logits, s->n_vocab, (SamplerHistory){.seen = c->seen}, step,
                        arena_from_memory(kernel_memory(size), size));
}

static const struct {
    const char *name;
    SamplerParams params;
    float deviation; // of the logits
    bool equals;     // whole numbers, so that many are equal
} cases[] = {
    {"greedy", {.top_p = 1, .repetition_penalty = 1}, 3, false},
    {"greedy, equals, penalty", {.top_p = 1, .repetition_penalty = 1.5f}, 2, true},
    {"temperature alone", {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1}, 3, false},
    {"flat", {.temperature = 2, .top_p = 1, .repetition_penalty = 1}, 0.1f, false},
    {"top-k 1", {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1}, 3, false},
    {"top-k", {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 40}, 3, false},
    {"top-k cuts equals", {.temperature = 1.5f, .top_p = 1, .repetition_penalty = 1, .top_k = 300}, 2, true},
    {"top-p", {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1}, 3, false},
    {"top-p 0", {.temperature = 1, .top_p = 0, .repetition_penalty = 1}, 3, true},
    {"top-p cuts equals", {.temperature = 2, .top_p = 0.5f, .repetition_penalty = 1}, 2, true},
    {"min-p", {.temperature = 1, .top_p = 1, .min_p = 0.05f, .repetition_penalty = 1}, 3, false},
    {"min-p 1", {.temperature = 1, .top_p = 1, .min_p = 1, .repetition_penalty = 1}, 3, true},
    {"everything",
     {.temperature = 0.7f, .top_p = 0.95f, .min_p = 0.01f, .repetition_penalty = 1.2f, .top_k = 100},
     4,
     false},
    {"everything, equals",
     {.temperature = 0.9f, .top_p = 0.8f, .min_p = 0.1f, .repetition_penalty = 0.8f, .top_k = 500},
     2,
     true},
    {"all equal, top-p", // zeros of both signs
     {.temperature = 1, .top_p = 0.5f, .repetition_penalty = 1},
     0,
     true},
    {"all equal, top-k", {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1400}, 0, true},
    {"all equal, top-k and top-p",
     {.temperature = 1, .top_p = 0.3f, .repetition_penalty = 1, .top_k = 1001},
     0,
     true},
    {"all equal, top-p on a border", // 500 of 1,000, not 501
     {.temperature = 1, .top_p = 0.5f, .repetition_penalty = 1, .top_k = 1000},
     0,
     true},
    {"two equal, top-p on a border", // one of two
     {.temperature = 1, .top_p = 0.5f, .repetition_penalty = 1, .top_k = 2},
     0,
     true},
    {"nearly all equal, top-p", // a bin with thousands of large weights, and some others
     {.temperature = 100, .top_p = 0.5f, .repetition_penalty = 1},
     0.2f,
     true},
    {"top-k of all and more",
     {.temperature = 2, .top_p = 1, .repetition_penalty = 1, .top_k = 1 << 20},
     2,
     true},
    {"min-p at equals", // e^-2, and what is just above it
     {.temperature = 1, .top_p = 1, .min_p = 0x1.152aaap-3f, .repetition_penalty = 1},
     2,
     true},
    {"min-p above equals",
     {.temperature = 1, .top_p = 1, .min_p = 0x1.152aacp-3f, .repetition_penalty = 1},
     2,
     true},
    {"cold", {.temperature = 1e-40f, .top_p = 0.9f, .repetition_penalty = 1}, 3, false},
};

static void check_draws(const EmulatedStage *s) {
    SampleCase c = make_case(s->n_vocab);
    TestRandom random = {5};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (uint32_t step = 0; step < 6; step++) {
            TEST_CASE_LABEL("%s, %s, step %u", s->name, cases[i].name, step);
            SamplerParams p = cases[i].params;
            p.seed = 1000 + i;
            for (uint32_t t = 0; t < s->n_vocab; t++) {
                float v = cases[i].deviation * test_random_normal(&random);
                c.logits[t] = cases[i].equals ? rintf(v) : v;
            }
            int expected =
                reference_draw(s, &c, &p, step); // before the stage adds its token to the seen ones
            CHECK_INT_EQ(expected, run_sample(s, &c, &p, step));
        }
    }
}

TEST_SLOW(kernel_sample_draws_as_the_reference, 180) {
    check_draws(kernel_stage("sample_small", 90));
}

// More logits a block than a histogram takes at once: held in shared memory, and read again in each round.
TEST_SLOW(kernel_sample_draws_of_more_logits_as_the_reference, 600) {
    check_draws(kernel_stage("sample_runs", 90));
    check_draws(kernel_stage("sample_again", 75));
}

TEST(kernel_sample_refuses_what_is_no_number) {
    const EmulatedStage *stages[] = {kernel_stage("sample_small", 90), kernel_stage("sample_greedy", 90)};
    static const struct {
        const char *name;
        float all, one;
    } rows[] = {
        {"not a number", 1, NAN}, {"infinite", 1, INFINITY}, {"all minus infinity", -INFINITY, -INFINITY}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t k = 0; k < COUNT_OF(stages); k++) {
            TEST_CASE_LABEL("%s, %s", stages[k]->name, rows[i].name);
            SampleCase c = make_case(stages[k]->n_vocab);
            for (uint32_t t = 0; t < stages[k]->n_vocab; t++)
                c.logits[t] = t == 700 ? rows[i].one : rows[i].all;
            SamplerParams p = {.temperature = k == 0, .top_p = 0.9f, .repetition_penalty = 1};
            CHECK_INT_EQ(-1, run_sample(stages[k], &c, &p, 2));
        }
    }
}

TEST(kernel_sample_greedy_takes_the_lowest_of_equals) {
    const EmulatedStage *s = kernel_stage("sample_greedy", 90);
    SampleCase c = make_case(s->n_vocab);
    TestRandom random = {9};
    for (uint32_t step = 0; step < 10; step++) {
        for (uint32_t t = 0; t < s->n_vocab; t++)
            c.logits[t] = rintf(2 * test_random_normal(&random));
        SamplerParams p = SAMPLER_GREEDY;
        CHECK_INT_EQ(reference_draw(s, &c, &p, step), run_sample(s, &c, &p, step));
    }
}

// ---- bias and penalties ----

typedef struct {
    const EmulatedStage *adjust, *draw;
    SampleCase c;
    SampleRules *rules;
    float *adjusted;
    HeadBest *best;
    uint16_t *counts;
    SamplerHistory history; // the reference's
} AdjustCase;

static AdjustCase make_adjust_case(const EmulatedStage *adjust, const EmulatedStage *draw) {
    uint32_t n_vocab = adjust->n_vocab;
    return (AdjustCase){
        .adjust = adjust,
        .draw = draw,
        .c = make_case(n_vocab),
        .rules = kernel_memory(sizeof(SampleRules)),
        .adjusted = kernel_memory(n_vocab * sizeof(float)),
        .best = kernel_memory(HEAD_BLOCKS * sizeof(HeadBest)),
        .counts = kernel_memory(n_vocab * sizeof(uint16_t)),
        .history = {kernel_memory(token_set_words(n_vocab) * 4), kernel_memory(n_vocab * sizeof(uint16_t))}};
}

static void begin_adjust_case(AdjustCase *a, const SamplerParams *p) {
    *a->rules = (SampleRules){.repetition_penalty = p->repetition_penalty,
                              .presence_penalty = p->presence_penalty,
                              .frequency_penalty = p->frequency_penalty,
                              .n_bias = p->n_logit_bias};
    memcpy(a->rules->bias, p->logit_bias, sizeof a->rules->bias);
    *a->c.sequence = (StepRow){.temperature = p->temperature,
                               .top_p = p->top_p,
                               .min_p = p->min_p,
                               .repetition_penalty = 1,
                               .top_k = p->top_k,
                               .seed = p->seed,
                               .seen = DEVICE_ADDRESS(a->c.seen),
                               .counts = DEVICE_ADDRESS(a->counts),
                               .drawn = DEVICE_ADDRESS(a->c.out)};
}

static void run_adjust(const AdjustCase *a) {
    SampleAdjustArgs args = {.row = DEVICE_ADDRESS(a->c.sequence),
                             .rules = DEVICE_ADDRESS(a->rules),
                             .logits = DEVICE_ADDRESS(a->c.logits),
                             .out = DEVICE_ADDRESS(a->adjusted),
                             .best = DEVICE_ADDRESS(a->best)};
    kernel_run(a->adjust, &args, sizeof args);
}

static int run_draw(const AdjustCase *a) {
    uint32_t step = a->c.sequence->step;
    SampleArgs args = {DEVICE_ADDRESS(a->c.sequence), DEVICE_ADDRESS(a->adjusted), DEVICE_ADDRESS(a->best),
                       DEVICE_ADDRESS(a->c.scratch)};
    kernel_run(a->draw, &args, sizeof args);
    return a->c.out[step % TOKEN_RING];
}

// The largest of the stage's blocks.
static HeadBest merged_best(const AdjustCase *a) {
    HeadBest best = {-INFINITY, -1, 0, 0};
    for (uint32_t b = 0; b < HEAD_BLOCKS; b++) {
        if (a->best[b].value > best.value) best.value = a->best[b].value, best.token = a->best[b].token;
        best.n_bad += a->best[b].n_bad;
    }
    return best;
}

// A step of the reference, which leaves the logits after the penalties in `logits`.
static int reference_adjust(const AdjustCase *a, const SamplerParams *p, float *logits) {
    uint32_t n_vocab = a->adjust->n_vocab;
    size_t size = sampler_scratch_bytes(n_vocab);
    SamplerParams plain = *p;
    plain.temperature = plain.top_p = 1;
    plain.min_p = 0;
    plain.top_k = 0;
    float *copy = kernel_memory(n_vocab * sizeof *copy);
    memcpy(copy, a->c.logits, n_vocab * sizeof *copy);
    memcpy(logits, a->c.logits, n_vocab * sizeof *logits);
    Arena scratch = arena_from_memory(kernel_memory(size), size);
    sampler_draw(&plain, logits, n_vocab, a->history, 0, scratch);
    return sampler_draw(p, copy, n_vocab, a->history, a->c.sequence->step, scratch);
}

static const struct {
    const char *name;
    SamplerParams params;
    uint32_t n_bias;
    float bias; // the largest, either way
    bool side_by_side;
} adjust_cases[] = {
    {"presence",
     {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .presence_penalty = 1.5f},
     0,
     0,
     false},
    {"frequency",
     {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .frequency_penalty = 0.7f},
     0,
     0,
     false},
    {"negative",
     {.temperature = 1,
      .top_p = 0.9f,
      .repetition_penalty = 1,
      .presence_penalty = -1,
      .frequency_penalty = -0.3f},
     0,
     0,
     false},
    {"bias", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}, 40, 8, false},
    {"bias, greedy", {.temperature = 0, .top_p = 1, .repetition_penalty = 1}, 40, 8, false},
    {"bias, full list", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}, LOGIT_BIAS_MAX, 100, false},
    {"bias, tokens side by side",
     {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
     LOGIT_BIAS_MAX,
     100,
     true},
    {"bias before repetition", {.temperature = 1, .top_p = 1, .repetition_penalty = 1.4f}, 100, 5, false},
    {"everything",
     {.temperature = 0.7f,
      .top_p = 0.95f,
      .min_p = 0.01f,
      .repetition_penalty = 1.2f,
      .presence_penalty = 0.5f,
      .frequency_penalty = 0.3f,
      .top_k = 100},
     200,
     3,
     false},
    {"everything, greedy",
     {.temperature = 0,
      .top_p = 1,
      .repetition_penalty = 0.8f,
      .presence_penalty = 0.5f,
      .frequency_penalty = 1.3f},
     20,
     3,
     true},
};

static void add_biases(SamplerParams *p, uint32_t n, float largest, bool side_by_side, uint32_t n_vocab,
                       TestRandom *random) {
    for (uint32_t i = 0; i < n && i < n_vocab; i++) {
        uint32_t token = side_by_side ? i : i * 997 % n_vocab;
        CHECK(sampler_add_bias(p, (int32_t)token, test_random_uniform(random, -largest, largest)));
    }
}

static void check_adjust_step(AdjustCase *a, const SamplerParams *p, TestRandom *random, float *expected) {
    uint32_t n_vocab = a->adjust->n_vocab, step = a->c.sequence->step;
    for (uint32_t t = 0; t < n_vocab; t++)
        a->c.logits[t] = rintf(4 * 3 * test_random_normal(random)) / 4; // some are equal
    int token = reference_adjust(a, p, expected);
    run_adjust(a);
    CHECK_BYTES_EQ(expected, n_vocab * sizeof *expected, a->adjusted, n_vocab * sizeof *a->adjusted);
    if (!a->draw) {
        *a->c.sequence = (StepRow){.token = token, .step = step + 1};
        token_set_add(a->c.seen, token);
        a->counts[token]++;
    } else if (!CHECK_INT_EQ(token, run_draw(a))) return;
    if (p->temperature == 0) CHECK_INT_EQ(token, merged_best(a).token);
    sampler_history_add(a->history, token);
    CHECK_BYTES_EQ(a->history.seen, token_set_words(n_vocab) * 4, a->c.seen, token_set_words(n_vocab) * 4);
    CHECK_BYTES_EQ(a->history.counts, n_vocab * 2, a->counts, n_vocab * 2);
}

// Texts of some tokens each: what one draws is counted for the next. `draw` has as many logits; NULL: there
// is no such variant.
static void check_adjust(const EmulatedStage *adjust, const EmulatedStage *draw,
                         const EmulatedStage *greedy) {
    TestRandom random = {11};
    for (size_t i = 0; i < COUNT_OF(adjust_cases); i++) {
        SamplerParams p = adjust_cases[i].params;
        AdjustCase a = make_adjust_case(adjust, p.temperature > 0 ? draw : greedy);
        float *expected = kernel_memory(adjust->n_vocab * sizeof *expected);
        p.seed = 50 + i;
        add_biases(&p, adjust_cases[i].n_bias, adjust_cases[i].bias, adjust_cases[i].side_by_side,
                   adjust->n_vocab, &random);
        begin_adjust_case(&a, &p);
        int32_t prompt[] = {3, 1, 5};
        for (uint32_t k = 0; k < COUNT_OF(prompt); k++) {
            token_set_add(a.c.seen, prompt[k]);
            token_set_add(a.history.seen, prompt[k]);
        }
        for (uint32_t step = 0; step < 8; step++) {
            TEST_CASE_LABEL("%s sm_%u, %s, step %u", adjust->name, adjust->sm_arch, adjust_cases[i].name,
                            step);
            StepRow before = *a.c.sequence;
            check_adjust_step(&a, &p, &random, expected);
            if (!a.draw) before.token = a.c.sequence->token, before.step++, *a.c.sequence = before;
        }
    }
}

TEST_SLOW(kernel_sample_adjusts_as_the_reference, 240) {
    check_adjust(kernel_stage("adjust_small", 90), kernel_stage("sample_small", 90),
                 kernel_stage("sample_greedy", 90));
    check_adjust(kernel_stage("adjust_small", 75), NULL, NULL);
    check_adjust(kernel_stage("adjust_tiny", 90), NULL, NULL);
}

TEST(kernel_sample_adjust_keeps_invalid_logits_invalid) {
    static const struct {
        const char *name;
        float all, one;
    } rows[] = {
        {"not a number", 1, NAN}, {"infinite", 1, INFINITY}, {"all minus infinity", -INFINITY, -INFINITY}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (uint32_t greedy = 0; greedy < 2; greedy++) {
            TEST_CASE_LABEL("%s, %u", rows[i].name, greedy);
            AdjustCase a = make_adjust_case(kernel_stage("adjust_small", 90),
                                            kernel_stage(greedy ? "sample_greedy" : "sample_small", 90));
            SamplerParams p = {.temperature = !greedy,
                               .top_p = 0.9f,
                               .repetition_penalty = 1.1f,
                               .presence_penalty = 1,
                               .frequency_penalty = 1};
            CHECK(sampler_add_bias(&p, 700, -100) && sampler_add_bias(&p, 20, 100));
            begin_adjust_case(&a, &p);
            a.counts[700] = 3;
            for (uint32_t t = 0; t < a.adjust->n_vocab; t++)
                a.c.logits[t] = t == 700 ? rows[i].one : rows[i].all;
            run_adjust(&a);
            CHECK_INT_EQ(-1, run_draw(&a));
        }
    }
}

TEST(kernel_sample_counts_stay_at_their_largest) {
    AdjustCase a = make_adjust_case(kernel_stage("adjust_small", 90), kernel_stage("sample_greedy", 90));
    SamplerParams p = SAMPLER_GREEDY;
    CHECK(sampler_add_bias(&p, 5, 100));
    begin_adjust_case(&a, &p);
    a.counts[5] = UINT16_MAX - 1;
    for (uint32_t step = 0; step < 3; step++) {
        run_adjust(&a);
        CHECK_INT_EQ(5, run_draw(&a));
        CHECK_INT_EQ(UINT16_MAX, a.counts[5]);
    }
    a.c.sequence->counts = 0; // nobody asks
    a.counts[5] = 7;
    run_adjust(&a);
    CHECK_INT_EQ(5, run_draw(&a));
    CHECK_INT_EQ(7, a.counts[5]);
}

// ---- log-probabilities ----

typedef struct {
    const EmulatedStage *stage;
    float *logits;
    StepRow *sequence;
    SampleRules *rules;
    LogprobsScratch *scratch;
    SampleLogprobs *out;
} LogprobsCase;

static LogprobsCase make_logprobs_case(const EmulatedStage *stage) {
    return (LogprobsCase){.stage = stage,
                          .logits = kernel_memory(stage->n_vocab * sizeof(float)),
                          .sequence = kernel_memory(sizeof(StepRow)),
                          .rules = kernel_memory(sizeof(SampleRules)),
                          .scratch = kernel_memory(sizeof(LogprobsScratch)),
                          .out = kernel_memory(TOKEN_RING * sizeof(SampleLogprobs))};
}

static SampleLogprobs run_logprobs(const LogprobsCase *c, uint32_t step, int token, uint32_t n_best) {
    memset(c->out, 0xA5, TOKEN_RING * sizeof *c->out);
    *c->sequence = (StepRow){.token = token, .step = step + 1}; // after the draw
    c->rules->n_logprobs = n_best;
    SampleLogprobsArgs args = {DEVICE_ADDRESS(c->sequence), DEVICE_ADDRESS(c->rules),
                               DEVICE_ADDRESS(c->logits), DEVICE_ADDRESS(c->scratch), DEVICE_ADDRESS(c->out)};
    kernel_run(c->stage, &args, sizeof args);
    CHECK_INT_EQ(0, c->scratch->arrived);
    for (uint32_t i = 1; i < TOKEN_RING; i++)
        CHECK_INT_EQ(0xA5A5A5A5u, c->out[(step + i) % TOKEN_RING].n_best);
    return c->out[step % TOKEN_RING];
}

static void check_one_logprob(float expected, float actual) {
    if (isinf(expected)) CHECK(expected == actual);
    else CHECK_NEAR(expected, actual, 1e-6 * (4 + fabs((double)expected)));
}

static void compare_logprobs(const LogprobsCase *c, uint32_t step, int token, uint32_t n_best) {
    TokenLogprobs expected;
    sampler_logprobs(c->logits, c->stage->n_vocab, token, n_best, &expected);
    SampleLogprobs actual = run_logprobs(c, step, token, n_best),
                   again = run_logprobs(c, step, token, n_best);
    size_t used = offsetof(SampleLogprobs, best) + expected.n_best * sizeof actual.best[0];
    CHECK_BYTES_EQ(&actual, used, &again, used);
    check_one_logprob(expected.logprob, actual.logprob);
    REQUIRE(expected.n_best == actual.n_best);
    for (uint32_t i = 0; i < expected.n_best; i++) {
        CHECK_INT_EQ(expected.best[i].id, actual.best[i].token);
        check_one_logprob(expected.best[i].logprob, actual.best[i].logprob);
    }
}

TEST_SLOW(kernel_sample_logprobs_as_the_reference, 240) {
    static const struct {
        const char *name;
        float mean, deviation;
        bool equals;
        uint32_t finite_every; // 1: all; else the others are -infinity
    } rows[] = {{"usual", 0, 3, false, 1},     {"equals", 5, 2, true, 1},
                {"all equal", -3, 0, true, 1}, {"far from zero", 90, 10, false, 1},
                {"one in 5", -20, 4, true, 5}, {"one alone", 1, 1, false, 1 << 30}};
    static const struct {
        const char *name;
        unsigned sm;
    } stages[] = {{"logprobs_small", 90},
                  {"logprobs_small", 75},
                  {"logprobs_tiny", 90},
                  {"logprobs_few", 90},
                  {"logprobs_wide", 90}};
    TestRandom random = {21};
    for (size_t k = 0; k < COUNT_OF(stages); k++) {
        LogprobsCase c = make_logprobs_case(kernel_stage(stages[k].name, stages[k].sm));
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            for (uint32_t t = 0; t < c.stage->n_vocab; t++) {
                float v = rows[i].mean + rows[i].deviation * test_random_normal(&random);
                c.logits[t] = t % rows[i].finite_every ? -INFINITY : rows[i].equals ? rintf(v) : v;
            }
            static const uint32_t n_best[] = {0, 1, 5, LOGPROBS_MAX};
            for (uint32_t n = 0; n < COUNT_OF(n_best); n++) {
                TEST_CASE_LABEL("%s sm_%u, %s, %u best", stages[k].name, stages[k].sm, rows[i].name,
                                n_best[n]);
                int token = (int)(n * 7919 % c.stage->n_vocab);
                compare_logprobs(&c, (uint32_t)i + n, token, n_best[n]);
            }
        }
    }
}

// Nobody reads these: the draw has reported the logits. The stage ends and leaves its scratch as it was.
TEST(kernel_sample_logprobs_of_what_is_no_number_end) {
    static const float ones[] = {NAN, INFINITY, -INFINITY};
    LogprobsCase c = make_logprobs_case(kernel_stage("logprobs_tiny", 90));
    for (size_t i = 0; i < COUNT_OF(ones); i++) {
        for (uint32_t t = 0; t < c.stage->n_vocab; t++)
            c.logits[t] = t == 17 || i == 2 ? ones[i] : 1;
        run_logprobs(&c, 0, 0, LOGPROBS_MAX);
    }
    for (uint32_t t = 0; t < c.stage->n_vocab; t++)
        c.logits[t] = (float)(t % 5);
    TEST_CASE_LABEL("the next one");
    compare_logprobs(&c, 1, 3, LOGPROBS_MAX);
}
