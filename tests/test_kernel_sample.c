// The sampling stages on the emulator against sampler_draw: kernels_src/sample_full.cuh, sample_greedy.cuh.
#include "kernel_reference.h"

#include "backend/sampler.h"
#include "runner.h"

#include <math.h>

typedef struct {
    float *logits;
    HeadBest *best;
    uint32_t *seen;
    SampleScratch *scratch;
    DecodeSequence *sequence;
    int *out;
} SampleCase;

enum { HEAD_BLOCKS = 5 };

static SampleCase make_case(uint32_t n_vocab) {
    SampleCase c = {.logits = kernel_memory(n_vocab * sizeof(float)),
                    .best = kernel_memory(HEAD_BLOCKS * sizeof(HeadBest)),
                    .seen = kernel_memory((n_vocab + 31) / 32 * 4),
                    .scratch = kernel_memory(sizeof(SampleScratch)),
                    .sequence = kernel_memory(sizeof(DecodeSequence)),
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
    *c->sequence = (DecodeSequence){.position = 100 + step,
                                    .step = step,
                                    .temperature = p->temperature,
                                    .top_p = p->top_p,
                                    .min_p = p->min_p,
                                    .repetition_penalty = p->repetition_penalty,
                                    .top_k = p->top_k,
                                    .seed = p->seed,
                                    .seen = DEVICE_ADDRESS(c->seen)};
    find_best(c, s->n_vocab, p->repetition_penalty);
    SampleArgs args = {DEVICE_ADDRESS(c->sequence), DEVICE_ADDRESS(c->logits), DEVICE_ADDRESS(c->best),
                       DEVICE_ADDRESS(c->scratch), DEVICE_ADDRESS(c->out)};
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
