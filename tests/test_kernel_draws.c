// The stages that draw for all rows of a batch, on the emulator, against src/backend/sampler.c:
// kernels_src/draw_adjust.cuh, draw_rank.cuh, draw_sample.cuh, draw_greedy.cuh, draw_logprobs.cuh.
#include "kernel_reference.h"

#include "backend/sampler.h"
#include "runner.h"

#include <math.h>

enum { HEAD_BLOCKS = 47, ROWS_MAX = 33 };

// How a row draws, and what its logits are like.
typedef struct {
    const char *name;
    SamplerParams params;
    float deviation; // of the logits
    bool equals;     // whole numbers, so that many are equal
    uint32_t n_bias;
    float bias; // the largest, either way
    bool side_by_side;
} DrawCase;

#define OFF .top_p = 1, .repetition_penalty = 1
// clang-format off
static const DrawCase cases[] = {
    {"greedy", {OFF}, 3, false, 0, 0, false},
    {"temperature alone", {.temperature = 0.8f, OFF}, 3, false, 0, 0, false},
    {"presence", {.temperature = 0.8f, OFF, .presence_penalty = 1.5f}, 3, true, 0, 0, false},
    {"top-k", {.temperature = 1, OFF, .top_k = 40}, 3, false, 0, 0, false},
    {"greedy, equals, penalty", {.top_p = 1, .repetition_penalty = 1.5f}, 2, true, 0, 0, false},
    {"top-p", {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1}, 3, false, 0, 0, false},
    {"everything",
     {.temperature = 0.7f, .top_p = 0.95f, .min_p = 0.01f, .repetition_penalty = 1.2f, .top_k = 100},
     4, false, 0, 0, false},
    {"flat", {.temperature = 2, OFF}, 0.1f, false, 0, 0, false},
    {"top-k 1", {.temperature = 1, OFF, .top_k = 1}, 3, false, 0, 0, false},
    {"top-k cuts equals", {.temperature = 1.5f, OFF, .top_k = 300}, 2, true, 0, 0, false},
    {"few cut equals", {.temperature = 1.5f, OFF, .top_k = 20}, 2, true, 0, 0, false},
    {"few and top-p",
     {.temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1, .top_k = 40}, 3, false, 0, 0, false},
    {"few, top-p, min-p, penalty, equals",
     {.temperature = 1.3f, .top_p = 0.7f, .min_p = 0.02f, .repetition_penalty = 1.1f, .top_k = 47},
     2, true, 0, 0, false},
    {"top-p 0", {.temperature = 1, .top_p = 0, .repetition_penalty = 1}, 3, true, 0, 0, false},
    {"top-p cuts equals", {.temperature = 2, .top_p = 0.5f, .repetition_penalty = 1}, 2, true, 0, 0, false},
    {"min-p", {.temperature = 1, OFF, .min_p = 0.05f}, 3, false, 0, 0, false},
    {"min-p 1", {.temperature = 1, OFF, .min_p = 1}, 3, true, 0, 0, false},
    {"everything, equals",
     {.temperature = 0.9f, .top_p = 0.8f, .min_p = 0.1f, .repetition_penalty = 0.8f, .top_k = 500},
     2, true, 0, 0, false},
    {"all equal, top-p",
     {.temperature = 1, .top_p = 0.5f, .repetition_penalty = 1}, 0, true, 0, 0, false}, // zeros of both signs
    {"all equal, top-k", {.temperature = 1, OFF, .top_k = 1400}, 0, true, 0, 0, false},
    {"all equal, few", {.temperature = 1, OFF, .top_k = 30}, 0, true, 0, 0, false},
    {"all equal, top-k and top-p",
     {.temperature = 1, .top_p = 0.3f, .repetition_penalty = 1, .top_k = 1001}, 0, true, 0, 0, false},
    {"all equal, top-p on a border",
     {.temperature = 1, .top_p = 0.5f, .repetition_penalty = 1, .top_k = 1000},
     0, true, 0, 0, false}, // 500 of 1,000, not 501
    {"two equal, top-p on a border",
     {.temperature = 1, .top_p = 0.5f, .repetition_penalty = 1, .top_k = 2},
     0, true, 0, 0, false},    // one of two
    {"nearly all equal, top-p",
     {.temperature = 100, .top_p = 0.5f, .repetition_penalty = 1}, 0.2f, true, 0, 0, false},
    {"hot, top-p", {.temperature = 50, .top_p = 0.9f, .repetition_penalty = 1}, 3, false, 0, 0, false},
    {"hot, top-k, top-p", {.temperature = 9, .top_p = 0.9f, .repetition_penalty = 1, .top_k = 700}, 0.3f, false, 0, 0, false},
    {"top-k of all and more", {.temperature = 2, OFF, .top_k = 1 << 20}, 2, true, 0, 0, false},
    {"min-p at equals", {.temperature = 1, OFF, .min_p = 0x1.152aaap-3f}, 2, true, 0, 0, false}, // e^-2
    {"min-p above equals", {.temperature = 1, OFF, .min_p = 0x1.152aacp-3f}, 2, true, 0, 0, false},
    {"cold", {.temperature = 1e-40f, .top_p = 0.9f, .repetition_penalty = 1}, 3, false, 0, 0, false},
    {"top-k beyond all weights",
     {.temperature = 0.05f, .top_p = 0.999f, .repetition_penalty = 1, .top_k = 900}, 3, false, 0, 0, false},
    {"frequency", {.temperature = 0.8f, OFF, .frequency_penalty = 0.7f}, 3, true, 0, 0, false},
    {"negative",
     {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1, .presence_penalty = -1,
      .frequency_penalty = -0.3f}, 3, true, 0, 0, false},
    {"bias", {.temperature = 1, OFF}, 3, true, 40, 8, false},
    {"bias, greedy", {OFF}, 3, true, 40, 8, false},
    {"bias, full list", {.temperature = 1, OFF}, 3, true, LOGIT_BIAS_MAX, 100, false},
    {"bias, tokens side by side", {.temperature = 1, OFF}, 3, true, LOGIT_BIAS_MAX, 100, true},
    {"bias before repetition",
     {.temperature = 1, .top_p = 1, .repetition_penalty = 1.4f}, 3, true, 100, 5, false},
    {"adjusted, everything",
     {.temperature = 0.7f, .top_p = 0.95f, .min_p = 0.01f, .repetition_penalty = 1.2f,
      .presence_penalty = 0.5f, .frequency_penalty = 0.3f, .top_k = 100}, 3, true, 200, 3, false},
    {"adjusted, few",
     {.temperature = 0.7f, .top_p = 0.95f, .repetition_penalty = 1.2f, .presence_penalty = 0.5f, .top_k = 40},
     3, true, 20, 3, false},
    {"adjusted, everything, greedy",
     {.top_p = 1, .repetition_penalty = 0.8f, .presence_penalty = 0.5f, .frequency_penalty = 1.3f},
     3, true, 20, 3, true},
};
// clang-format on

// ---- a batch ----

typedef struct {
    const DrawCase *rule;
    SamplerParams params;
    SamplerHistory history; // the reference's
    bool logprobs;
    uint32_t *mask; // NULL: none
} Sequence;

// Row i of the logits is of batch row rows_at(i), whose slot is slot_at(i).
typedef struct {
    const EmulatedStage *adjust, *rank, *sample, *greedy, *logprobs; // those that are NULL are not run
    uint32_t n_vocab, max_rows, n_logits;
    Batch *batch;
    BatchRow *rows;
    SlotState *slots;
    uint32_t *logits_rows;
    float *logits, *adjusted;
    HeadBest *best, *adjusted_best;
    DrawScratch *scratch;
    Sequence sequence[ROWS_MAX]; // by the row of the logits
} DrawBatch;

static uint32_t row_at(const DrawBatch *b, uint32_t index) {
    return (index * 7 + 3) % b->max_rows;
}

static uint32_t slot_at(const DrawBatch *b, uint32_t index) {
    return (index * 5 + 2) % b->max_rows;
}

static SlotState *slot_of(const DrawBatch *b, uint32_t index) {
    return &b->slots[slot_at(b, index)];
}

static DrawBatch make_batch(const EmulatedStage *rank, const EmulatedStage *sample) {
    uint32_t n_vocab = sample->n_vocab, max_rows = sample->max_rows;
    size_t n = (size_t)max_rows * n_vocab;
    return (DrawBatch){.rank = rank,
                       .sample = sample,
                       .n_vocab = n_vocab,
                       .max_rows = max_rows,
                       .batch = kernel_memory(sizeof(Batch)),
                       .rows = kernel_memory(max_rows * sizeof(BatchRow)),
                       .slots = kernel_memory(max_rows * sizeof(SlotState)),
                       .logits_rows = kernel_memory(max_rows * 4),
                       .logits = kernel_memory(n * sizeof(float)),
                       .adjusted = kernel_memory(n * sizeof(float)),
                       .best = kernel_memory(max_rows * HEAD_BLOCKS * sizeof(HeadBest)),
                       .adjusted_best = kernel_memory(max_rows * HEAD_BLOCKS * sizeof(HeadBest)),
                       .scratch = kernel_memory(max_rows * sizeof(DrawScratch))};
}

static DrawBatch make_whole_batch(void) {
    DrawBatch b = make_batch(kernel_stage("draw_rank", 90), kernel_stage("draw_sample", 90));
    b.adjust = kernel_stage("draw_adjust", 90);
    b.greedy = kernel_stage("draw_greedy", 90);
    b.logprobs = kernel_stage("draw_logprobs", 90);
    return b;
}

static void add_biases(SamplerParams *p, const DrawCase *rule, uint32_t n_vocab) {
    TestRandom random = {77};
    for (uint32_t i = 0; i < rule->n_bias && i < n_vocab; i++) {
        uint32_t token = rule->side_by_side ? i : i * 997 % n_vocab;
        float bias = test_random_uniform(&random, -rule->bias, rule->bias);
        CHECK(sampler_add_bias(p, (int32_t)token, bias));
    }
}

static SampleRules *rules_of(const SamplerParams *p) {
    SampleRules *rules = kernel_memory(sizeof *rules);
    *rules = (SampleRules){.repetition_penalty = p->repetition_penalty,
                           .presence_penalty = p->presence_penalty,
                           .frequency_penalty = p->frequency_penalty,
                           .n_bias = p->n_logit_bias,
                           .n_logprobs = p->n_logprobs};
    memcpy(rules->bias, p->logit_bias, sizeof rules->bias);
    return rules;
}

static bool is_uncut(const DrawBatch *b, const Sequence *q) {
    return q->params.temperature > 0 && sampler_is_uncut(&q->params, b->n_vocab);
}

// Row `index` begins a sequence that draws by that case.
static void begin_sequence(DrawBatch *b, uint32_t index, const DrawCase *rule, uint64_t seed) {
    Sequence *q = &b->sequence[index];
    uint32_t words = token_set_words(b->n_vocab);
    *q = (Sequence){.rule = rule, .params = rule->params, .logprobs = b->logprobs && seed % 3 == 0};
    q->params.seed = seed;
    q->params.n_logprobs = (uint32_t)seed % 8;
    q->history = (SamplerHistory){kernel_memory(words * 4), kernel_memory(b->n_vocab * 2)};
    add_biases(&q->params, rule, b->n_vocab);
    bool adjusts = sampler_adjusts(&q->params);
    *slot_of(b, index) =
        (SlotState){.top_k = q->params.top_k,
                    .temperature = q->params.temperature,
                    .top_p = q->params.top_p,
                    .min_p = q->params.min_p,
                    .repetition_penalty = adjusts ? 1 : q->params.repetition_penalty,
                    .seed = seed,
                    .seen = DEVICE_ADDRESS(kernel_memory(words * 4)),
                    .counts = DEVICE_ADDRESS(kernel_memory(b->n_vocab * 2)),
                    .drawn = DEVICE_ADDRESS(kernel_memory(TOKEN_RING * sizeof(int))),
                    .rules = DEVICE_ADDRESS(rules_of(&q->params)),
                    .logprobs = DEVICE_ADDRESS(kernel_memory(TOKEN_RING * sizeof(SampleLogprobs))),
                    .draws = (adjusts ? DRAW_ADJUSTED : 0) | (q->params.temperature > 0 ? DRAW_SAMPLED : 0) |
                             (q->logprobs ? DRAW_LOGPROBS : 0) | (is_uncut(b, q) ? DRAW_UNCUT : 0)};
    b->rows[row_at(b, index)] = (BatchRow){.position = 100 + index, .slot = slot_at(b, index)};
    b->logits_rows[index] = row_at(b, index);
}

// As the host does where a sequence's draws have masks. All tokens are allowed.
static void add_mask(DrawBatch *b, uint32_t index) {
    Sequence *q = &b->sequence[index];
    SlotState *slot = slot_of(b, index);
    size_t bytes = token_set_words(b->n_vocab) * sizeof *q->mask;
    q->mask = kernel_memory(bytes);
    memset(q->mask, 0xFF, bytes);
    slot->mask = DEVICE_ADDRESS(q->mask);
    if (!is_uncut(b, q)) slot->draws |= DRAW_ADJUSTED;
    if (!sampler_adjusts(&q->params)) slot->counts = 0;
}

// What a mask allows.
typedef enum {
    ALLOWS_ALL,
    ALLOWS_MOST,
    ALLOWS_FEW,
    ALLOWS_PART,
    ALLOWS_ONE,
    ALLOWS_NONE,
    ALLOWS_COUNT
} Allows;

static void fill_mask(const DrawBatch *b, uint32_t index, Allows allows, TestRandom *random) {
    uint32_t *mask = b->sequence[index].mask, n = b->n_vocab;
    uint32_t from = (uint32_t)test_random_uniform(random, 0, (float)n), part = n / HEAD_BLOCKS / 2;
    memset(mask, 0, token_set_words(n) * sizeof *mask);
    for (uint32_t t = 0; t < n; t++) {
        float any = test_random_uniform(random, 0, 1);
        bool allowed[ALLOWS_COUNT] = {[ALLOWS_ALL] = true,
                                      [ALLOWS_MOST] = any < 0.9f,
                                      [ALLOWS_FEW] = any < 0.02f,
                                      [ALLOWS_PART] = t >= from && t < from + part,
                                      [ALLOWS_ONE] = t == from};
        if (allowed[allows]) token_set_add(mask, (int32_t)t);
    }
}

#define HOST_POINTER(type, address) ((type *)(uintptr_t)(address))

// What the head leaves.
static void find_best(const DrawBatch *b, uint32_t index) {
    const SlotState *slot = slot_of(b, index);
    const uint32_t *seen = HOST_POINTER(uint32_t, slot->seen);
    HeadBest *best = b->best + (size_t)index * HEAD_BLOCKS;
    for (uint32_t i = 0; i < HEAD_BLOCKS; i++)
        best[i] = (HeadBest){-INFINITY, -1, 0, 0};
    for (uint32_t i = 0; i < b->n_vocab; i++) {
        HeadBest *mine = &best[(uint64_t)i * HEAD_BLOCKS / b->n_vocab];
        float v = b->logits[(size_t)index * b->n_vocab + i], r = slot->repetition_penalty;
        if (r != 1 && token_set_has(seen, (int32_t)i)) v *= v > 0 ? 1 / r : r;
        mine->n_bad += isnan(v) ? 1u : 0u;
        if (v > mine->value) mine->value = v, mine->token = (int)i;
    }
}

static void make_logits(DrawBatch *b, uint32_t index, TestRandom *random) {
    const DrawCase *rule = b->sequence[index].rule;
    for (uint32_t t = 0; t < b->n_vocab; t++) {
        float v = rule->deviation * test_random_normal(random);
        b->logits[(size_t)index * b->n_vocab + t] = rule->equals ? rintf(v) : v;
    }
}

static void run_draws(DrawBatch *b) {
    *b->batch = (Batch){.n_rows = b->max_rows, .n_logits = b->n_logits};
    for (uint32_t i = 0; i < b->n_logits; i++)
        find_best(b, i);
    DrawArgs args = {.batch = DEVICE_ADDRESS(b->batch),
                     .rows = DEVICE_ADDRESS(b->rows),
                     .slots = DEVICE_ADDRESS(b->slots),
                     .logits_rows = DEVICE_ADDRESS(b->logits_rows),
                     .logits = DEVICE_ADDRESS(b->logits),
                     .best = DEVICE_ADDRESS(b->best),
                     .adjusted = DEVICE_ADDRESS(b->adjusted),
                     .adjusted_best = DEVICE_ADDRESS(b->adjusted_best),
                     .scratch = DEVICE_ADDRESS(b->scratch)};
    const EmulatedStage *stages[] = {b->adjust, b->rank, b->sample, b->greedy, b->logprobs};
    for (uint32_t i = 0; i < COUNT_OF(stages); i++)
        if (stages[i]) kernel_run(stages[i], &args, sizeof args);
}

// What is to be zero between steps is.
static void check_scratch(const DrawBatch *b) {
    for (uint32_t i = 0; i < b->max_rows; i++) {
        const DrawScratch *s = &b->scratch[i];
        CHECK_INT_EQ(0, s->arrived);
        CHECK_INT_EQ(0, s->n_candidates);
        for (uint32_t bin = 0; bin < DRAW_BINS; bin++) {
            if (s->count[bin] == 0 && s->mass[bin] == 0) continue;
            CHECK_INT_EQ(0, s->count[bin]);
            break;
        }
    }
}

static int reference_draw(const DrawBatch *b, uint32_t index) {
    const Sequence *q = &b->sequence[index];
    float *logits = kernel_memory(b->n_vocab * sizeof *logits);
    memcpy(logits, b->logits + (size_t)index * b->n_vocab, b->n_vocab * sizeof *logits);
    if (q->mask) sampler_mask(logits, b->n_vocab, q->mask);
    size_t size = sampler_scratch_bytes(b->n_vocab);
    return sampler_draw(&q->params, logits, b->n_vocab, q->history, slot_of(b, index)->step,
                        arena_from_memory(kernel_memory(size), size));
}

static void check_one_logprob(float expected, float actual) {
    if (isinf(expected)) CHECK(expected == actual);
    else CHECK_NEAR(expected, actual, 1e-6 * (4 + fabs((double)expected)));
}

static void check_logprobs(const DrawBatch *b, uint32_t index, int token, uint32_t step) {
    TokenLogprobs expected;
    const SampleLogprobs *actual =
        HOST_POINTER(SampleLogprobs, slot_of(b, index)->logprobs) + step % TOKEN_RING;
    if (!b->sequence[index].logprobs) {
        CHECK_INT_EQ(0, actual->n_best);
        return;
    }
    sampler_logprobs(b->logits + (size_t)index * b->n_vocab, b->n_vocab, token,
                     b->sequence[index].params.n_logprobs, &expected);
    check_one_logprob(expected.logprob, actual->logprob);
    REQUIRE(expected.n_best == actual->n_best);
    for (uint32_t i = 0; i < expected.n_best; i++) {
        CHECK_INT_EQ(expected.best[i].id, actual->best[i].token);
        check_one_logprob(expected.best[i].logprob, actual->best[i].logprob);
    }
}

// The row as it is to be after a step that drew `expected`.
static void check_row(DrawBatch *b, uint32_t index, int expected, uint32_t step, uint32_t position) {
    Sequence *q = &b->sequence[index];
    const SlotState *slot = slot_of(b, index);
    const BatchRow *row = &b->rows[row_at(b, index)];
    CHECK_INT_EQ(expected, HOST_POINTER(int, slot->drawn)[step % TOKEN_RING]);
    CHECK_INT_EQ(step + 1, slot->step);
    CHECK_INT_EQ(position + 1, row->position);
    CHECK_INT_EQ(expected < 0 ? 0 : expected, row->token);
    CHECK_INT_EQ(slot_at(b, index), row->slot);
    sampler_history_add(q->history, expected < 0 ? 0 : expected);
    CHECK_BYTES_EQ(q->history.seen, token_set_words(b->n_vocab) * 4, HOST_POINTER(void, slot->seen),
                   token_set_words(b->n_vocab) * 4);
    if (slot->counts)
        CHECK_BYTES_EQ(q->history.counts, b->n_vocab * 2, HOST_POINTER(void, slot->counts), b->n_vocab * 2);
    if (expected >= 0 && b->logprobs) check_logprobs(b, index, expected, step);
}

// A step of all rows against the reference.
static void check_step(DrawBatch *b, const char *what) {
    int expected[ROWS_MAX];
    uint32_t step[ROWS_MAX], position[ROWS_MAX];
    for (uint32_t i = 0; i < b->n_logits; i++) { // before the stages add their tokens
        expected[i] = reference_draw(b, i);
        step[i] = slot_of(b, i)->step;
        position[i] = b->rows[row_at(b, i)].position;
    }
    run_draws(b);
    for (uint32_t i = 0; i < b->n_logits; i++) {
        TEST_CASE_LABEL("%s, row %u: %s, step %u", what, i, b->sequence[i].rule->name, step[i]);
        check_row(b, i, expected[i], step[i], position[i]);
    }
    TEST_CASE_LABEL("%s", what);
    check_scratch(b);
}

// ---- cases ----

// The cases from `first` on, each in a row, for some steps.
static void check_cases(DrawBatch b, uint32_t first, uint32_t n_steps, bool adjusted, const char *what) {
    TestRandom random = {5 + first};
    b.n_logits = 0;
    for (uint32_t i = first; i < COUNT_OF(cases) && b.n_logits < b.max_rows; i++) {
        SamplerParams p = cases[i].params;
        if (!adjusted && (sampler_adjusts(&p) || cases[i].n_bias > 0 || p.temperature == 0)) continue;
        begin_sequence(&b, b.n_logits, &cases[i], 1000 + i);
        b.n_logits++;
    }
    for (uint32_t step = 0; step < n_steps; step++) {
        for (uint32_t i = 0; i < b.n_logits; i++)
            make_logits(&b, i, &random);
        check_step(&b, what);
    }
}

TEST_SLOW(kernel_draws_as_the_reference, 240) {
    for (uint32_t first = 0; first < COUNT_OF(cases); first += ROWS_MAX)
        check_cases(make_whole_batch(), first, 6, true, "batch");
}

// Few candidates are ranked one by one, so the last block searches alone; histograms in several runs.
TEST_SLOW(kernel_draws_search_alone_as_the_reference, 240) {
    check_cases(make_batch(kernel_stage("draw_rank_runs", 75), kernel_stage("draw_sample_digits", 75)), 0, 3,
                false, "digits");
}

TEST_SLOW(kernel_draws_of_many_logits_as_the_reference, 240) {
    for (uint32_t i = 0; i < COUNT_OF(cases); i++) {
        if (i % 4 != 1 || cases[i].n_bias > 0) continue;
        check_cases(make_batch(kernel_stage("draw_rank_wide", 90), kernel_stage("draw_sample_wide", 90)), i,
                    1, false, "wide");
    }
}

// ---- masks ----

// All cases with masks that allow much, little and nothing, another in each step; one row in four has none.
TEST_SLOW(kernel_draws_of_masked_rows_as_the_reference, 240) {
    enum { STEPS = ALLOWS_COUNT };
    for (uint32_t first = 0; first < COUNT_OF(cases); first += ROWS_MAX) {
        DrawBatch b = make_whole_batch();
        TestRandom random = {41 + first};
        for (uint32_t i = first; i < COUNT_OF(cases) && b.n_logits < b.max_rows; i++) {
            begin_sequence(&b, b.n_logits, &cases[i], 2000 + i);
            if (i % 4) add_mask(&b, b.n_logits);
            b.n_logits++;
        }
        for (uint32_t step = 0; step < STEPS; step++) {
            for (uint32_t i = 0; i < b.n_logits; i++) {
                make_logits(&b, i, &random);
                if (b.sequence[i].mask) fill_mask(&b, i, (Allows)((i + step) % ALLOWS_COUNT), &random);
            }
            check_step(&b, "masked");
        }
    }
}

// A logit that is not a number or infinite spoils its row whether it is allowed or not.
TEST(kernel_draws_report_invalid_logits_behind_masks) {
    static const float invalid[] = {NAN, INFINITY, -INFINITY};
    for (uint32_t k = 0; k < 2 * COUNT_OF(invalid); k++) {
        DrawBatch b = make_whole_batch();
        TestRandom random = {k + 1};
        b.n_logits = 8;
        for (uint32_t i = 0; i < b.n_logits; i++) {
            begin_sequence(&b, i, &cases[i], i + 1);
            add_mask(&b, i);
            make_logits(&b, i, &random);
            fill_mask(&b, i, ALLOWS_MOST, &random);
            b.logits[(size_t)i * b.n_vocab + 700] = invalid[k / 2];
            b.sequence[i].mask[700 / 32] &= ~(1u << 700 % 32);
            if (k % 2) token_set_add(b.sequence[i].mask, 700);
        }
        check_step(&b, k % 2 ? "allowed" : "not allowed");
        for (uint32_t i = 0; i < b.n_logits; i++)
            CHECK((HOST_POINTER(int, slot_of(&b, i)->drawn)[0] < 0) == (k / 2 < 2));
    }
}

// ---- rows do not know of each other ----

// Row `index` of `b` as the only one of a batch: the same bits in all that the stages leave.
static void check_alone(DrawBatch *b, uint32_t index, const float *logits, int token) {
    DrawBatch alone = make_whole_batch();
    alone.n_logits = 1;
    begin_sequence(&alone, 0, b->sequence[index].rule, b->sequence[index].params.seed);
    memcpy(alone.logits, logits, alone.n_vocab * sizeof *logits);
    run_draws(&alone);
    const SlotState *mine = slot_of(&alone, 0), *other = slot_of(b, index);
    CHECK_INT_EQ(token, HOST_POINTER(int, mine->drawn)[0]);
    size_t adjusted = mine->draws & DRAW_ADJUSTED ? alone.n_vocab * sizeof(float) : 0,
           best = mine->draws & DRAW_ADJUSTED ? HEAD_BLOCKS * sizeof(HeadBest) : 0;
    CHECK_BYTES_EQ(alone.adjusted, adjusted, b->adjusted + (size_t)index * b->n_vocab, adjusted);
    CHECK_BYTES_EQ(alone.adjusted_best, best, b->adjusted_best + (size_t)index * HEAD_BLOCKS, best);
    CHECK_BYTES_EQ(HOST_POINTER(void, mine->logprobs), sizeof(SampleLogprobs),
                   HOST_POINTER(void, other->logprobs), sizeof(SampleLogprobs));
    CHECK_BYTES_EQ(HOST_POINTER(void, mine->counts), alone.n_vocab * 2, HOST_POINTER(void, other->counts),
                   alone.n_vocab * 2);
    CHECK_INT_EQ(alone.rows[row_at(&alone, 0)].token, b->rows[row_at(b, index)].token);
}

TEST_SLOW(kernel_draws_are_the_same_bits_alone_and_among_others, 240) {
    static const uint32_t n_rows[] = {1, 2, 7, 33};
    for (uint32_t k = 0; k < COUNT_OF(n_rows); k++) {
        DrawBatch b = make_whole_batch();
        TestRandom random = {90 + k};
        b.n_logits = n_rows[k];
        for (uint32_t i = 0; i < b.n_logits; i++) {
            begin_sequence(&b, i, &cases[(i + k * 11) % COUNT_OF(cases)], 300 + k * 50 + i);
            make_logits(&b, i, &random);
        }
        run_draws(&b);
        for (uint32_t i = 0; i < b.n_logits; i++) {
            TEST_CASE_LABEL("row %u of %u: %s", i, b.n_logits, b.sequence[i].rule->name);
            int token = HOST_POINTER(int, slot_of(&b, i)->drawn)[0];
            check_alone(&b, i, b.logits + (size_t)i * b.n_vocab, token);
        }
        for (uint32_t i = b.n_logits; i < b.max_rows; i++) // whose logits are not wanted
            CHECK_INT_EQ(0, slot_of(&b, i)->step);
    }
}

// ---- logits that are not numbers ----

TEST(kernel_draws_report_invalid_logits_of_their_row_alone) {
    static const struct {
        const char *name;
        float all, one;
    } invalid[] = {
        {"not a number", 1, NAN}, {"infinite", 1, INFINITY}, {"all minus infinity", -INFINITY, -INFINITY}};
    static const struct {
        const char *rule;
        uint32_t at;
    } rules[] = {{"greedy", 0}, {"temperature alone", 0}, {"top-k", 0},         {"top-p", 0},
                 {"bias", 0},   {"bias, greedy", 0},      {"adjusted, few", 0}, {"everything", 0}};
    for (uint32_t k = 0; k < COUNT_OF(invalid); k++) {
        for (uint32_t bad = 0; bad < COUNT_OF(rules); bad++) {
            DrawBatch b = make_whole_batch();
            TestRandom random = {bad + 1};
            b.n_logits = COUNT_OF(rules);
            for (uint32_t i = 0; i < b.n_logits; i++) {
                const DrawCase *rule = cases;
                while (strcmp(rule->name, rules[i].rule) != 0)
                    rule++;
                begin_sequence(&b, i, rule, i + 1);
                make_logits(&b, i, &random);
            }
            for (uint32_t t = 0; t < b.n_vocab; t++)
                b.logits[bad * b.n_vocab + t] = t == 700 ? invalid[k].one : invalid[k].all;
            int expected[COUNT_OF(rules)];
            for (uint32_t i = 0; i < b.n_logits; i++)
                expected[i] = i == bad ? -1 : reference_draw(&b, i);
            run_draws(&b);
            for (uint32_t i = 0; i < b.n_logits; i++) {
                TEST_CASE_LABEL("%s in row %u, row %u: %s", invalid[k].name, bad, i, rules[i].rule);
                check_row(&b, i, expected[i], 0, 100 + i);
            }
            check_scratch(&b);
        }
    }
}

TEST(kernel_draws_count_up_to_the_largest) {
    DrawBatch b = make_whole_batch();
    TestRandom random = {3};
    b.n_logits = 2;
    for (uint32_t i = 0; i < 2; i++) {
        begin_sequence(&b, i, &cases[0], i);
        make_logits(&b, i, &random);
        b.logits[i * b.n_vocab + 5] = 100;
    }
    uint16_t *counts = HOST_POINTER(uint16_t, slot_of(&b, 0)->counts);
    counts[5] = UINT16_MAX - 1;
    slot_of(&b, 1)->counts = 0; // nobody asks
    slot_of(&b, 1)->seen = 0;
    for (uint32_t step = 0; step < 3; step++) {
        run_draws(&b);
        for (uint32_t i = 0; i < 2; i++)
            CHECK_INT_EQ(5, HOST_POINTER(int, slot_of(&b, i)->drawn)[step]);
        CHECK_INT_EQ(UINT16_MAX, counts[5]);
    }
}

// ---- log-probabilities ----

static void check_logprobs_of(const EmulatedStage *stage) {
    static const struct {
        const char *name;
        float mean, deviation;
        bool equals;
        uint32_t finite_every; // 1: all; else the others are -infinity
    } rows[] = {{"usual", 0, 3, false, 1},     {"equals", 5, 2, true, 1},
                {"all equal", -3, 0, true, 1}, {"far from zero", 90, 10, false, 1},
                {"one in 5", -20, 4, true, 5}, {"one alone", 1, 1, false, 1 << 30}};
    static const uint32_t n_best[] = {0, 1, 5, LOGPROBS_MAX};
    DrawBatch b = make_whole_batch();
    TestRandom random = {21};
    b.n_logits = COUNT_OF(rows) * COUNT_OF(n_best);
    b.rank = b.sample = NULL;
    b.logprobs = stage;
    for (uint32_t i = 0; i < b.n_logits; i++) {
        uint32_t k = i / COUNT_OF(n_best);
        begin_sequence(&b, i, &cases[0], 3 * i);
        b.sequence[i].params.n_logprobs = n_best[i % COUNT_OF(n_best)];
        HOST_POINTER(SampleRules, slot_of(&b, i)->rules)->n_logprobs = n_best[i % COUNT_OF(n_best)];
        for (uint32_t t = 0; t < b.n_vocab; t++) {
            float v = rows[k].mean + rows[k].deviation * test_random_normal(&random);
            b.logits[(size_t)i * b.n_vocab + t] = t % rows[k].finite_every ? -INFINITY
                                                  : rows[k].equals         ? rintf(v)
                                                                           : v;
        }
    }
    run_draws(&b);
    for (uint32_t i = 0; i < b.n_logits; i++) {
        TEST_CASE_LABEL("%s, %s, %u best", stage->name, rows[i / COUNT_OF(n_best)].name,
                        n_best[i % COUNT_OF(n_best)]);
        check_logprobs(&b, i, HOST_POINTER(int, slot_of(&b, i)->drawn)[0], 0);
    }
    check_scratch(&b);
}

// With candidates that are ranked, and (too few of these) with a search of the whole row.
TEST_SLOW(kernel_draws_logprobs_as_the_reference, 120) {
    check_logprobs_of(kernel_stage("draw_logprobs", 90));
    check_logprobs_of(kernel_stage("draw_logprobs_alone", 75));
}
