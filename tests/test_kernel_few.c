// Products of 1 and up to 8 rows on the emulator against plain C: kernels_src/product_few.cuh with qkv.cuh,
// output.cuh, glu.cuh, head.cuh. And that a row's bits depend on nothing but the row.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

enum { FEW_ROWS = 8 };
#define WEIGHTS 1e-3     // weights are rounded to f16
#define ACTIVATIONS 2e-3 // and what comes out, too

// ---- activations ----

static uint16_t *activation_memory(uint32_t max_rows, uint32_t n_cols) {
    return kernel_memory((size_t)ROUND_UP(n_cols, 128u) * max_rows * 2);
}

// Rows first … of x, rounded to f16.
static uint16_t *activations(const float *x, uint32_t first, uint32_t n_rows, uint32_t n_cols,
                             uint32_t max_rows) {
    uint16_t *out = activation_memory(max_rows, n_cols);
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t c = 0; c < n_cols; c++)
            out[kernel_activation_place(max_rows, r, c)] = f16_from_f32(x[(size_t)(first + r) * n_cols + c]);
    }
    return out;
}

static void round_to_f16(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = f32_from_f16(f16_from_f32(x[i]));
}

// RMS or layer norm of one row, rounded to f16.
static float *reference_norm(const EmulatedStage *s, const float *x, const float *w, const float *b) {
    float *out = kernel_memory(s->d_model * sizeof *out);
    double mean = 0, squares = 0;
    for (uint32_t i = 0; s->layer_norm && i < s->d_model; i++)
        mean += (double)x[i] / s->d_model;
    for (uint32_t i = 0; i < s->d_model; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    double root = sqrt(squares / s->d_model + (double)s->norm_eps);
    for (uint32_t i = 0; i < s->d_model; i++)
        out[i] = (float)(((double)x[i] - mean) / root * (double)w[i] + (s->layer_norm ? (double)b[i] : 0));
    round_to_f16(out, s->d_model);
    return out;
}

// ---- a stage and its input ----

typedef struct {
    TestMatrix w[3];
    uint8_t *tiles[3];
    float *bias[3];
    uint32_t n_matrices, n_cols, rows_of_all;
    float *x;                // [FEW_ROWS][n_cols]; f16 values where no norm comes before
    float *norm, *norm_bias; // of stages with NORM_INPUT
    float *residual;         // [FEW_ROWS][rows_of_all]
} FewCase;

static FewCase few_case(uint64_t seed, uint32_t n_cols, uint32_t n_matrices, const int *format,
                        const uint32_t *n_rows, bool biases) {
    TestRandom random = {seed};
    FewCase c = {.n_matrices = n_matrices, .n_cols = n_cols};
    for (uint32_t i = 0; i < n_matrices; i++) {
        c.w[i] = test_matrix(&random, (Dtype)format[i], n_rows[i], n_cols);
        c.tiles[i] = test_matrix_tiles(&c.w[i], 0);
        if (biases) c.bias[i] = test_random_vector(&random, n_rows[i], 0, 1);
        c.rows_of_all += n_rows[i];
    }
    c.x = test_random_vector(&random, (size_t)FEW_ROWS * n_cols, 0.1f, 1);
    c.norm = test_random_vector(&random, n_cols, 1, 0.2f);
    c.norm_bias = test_random_vector(&random, n_cols, 0, 0.2f);
    c.residual = test_random_vector(&random, (size_t)FEW_ROWS * c.rows_of_all, 0, 1);
    return c;
}

// What the matrices give for a row, side by side, with their biases.
static double *reference_row(const FewCase *c, const float *x, double times) {
    double *y = kernel_doubles(c->rows_of_all), *at = y;
    for (uint32_t m = 0; m < c->n_matrices; m++) {
        reference_matvec(&c->w[m], x, at);
        for (uint32_t i = 0; i < c->w[m].n_rows; i++)
            at[i] = at[i] * times + (c->bias[m] ? (double)c->bias[m][i] : 0);
        at += c->w[m].n_rows;
    }
    return y;
}

typedef struct {
    float *out;            // [max_rows][rows_of_all]
    uint16_t *activations; // of rows_of_all columns
    HeadBest *best;        // [max_rows][blocks]
} FewResult;

// Runs the stage on the case's rows first … as a batch of its own. `in`: activations in place of x's.
static FewResult run_few(const EmulatedStage *s, const FewCase *c, uint32_t first, uint32_t n_rows,
                         const uint16_t *in, ProductArgs args) {
    uint32_t max_rows = s->max_rows, bands = CEIL_DIV(c->rows_of_all, 16u) + 2;
    FewResult r = {kernel_memory((size_t)max_rows * c->rows_of_all * sizeof(float)),
                   activation_memory(max_rows, c->rows_of_all),
                   kernel_memory((size_t)max_rows * s->blocks * sizeof(HeadBest))};
    memcpy(r.out, c->residual + (size_t)first * c->rows_of_all,
           (size_t)n_rows * c->rows_of_all * sizeof(float));
    Batch *batch = kernel_memory(sizeof *batch);
    *batch = (Batch){.n_rows = n_rows, .n_logits = n_rows};
    unsigned *meetings = kernel_memory(bands * sizeof *meetings);
    if (!in) in = activations(c->x, first, n_rows, c->n_cols, max_rows);
    args.batch = DEVICE_ADDRESS(batch);
    args.x = DEVICE_ADDRESS(c->x + (size_t)first * c->n_cols);
    args.norm = DEVICE_ADDRESS(c->norm), args.norm_bias = DEVICE_ADDRESS(c->norm_bias);
    args.in = DEVICE_ADDRESS(in);
    for (uint32_t m = 0; m < c->n_matrices; m++) {
        args.weight[m] = DEVICE_ADDRESS(c->tiles[m]);
        args.bias[m] = DEVICE_ADDRESS(c->bias[m]);
    }
    args.out = DEVICE_ADDRESS(r.out);
    args.out_activations = DEVICE_ADDRESS(r.activations);
    args.best = DEVICE_ADDRESS(r.best);
    args.partial = DEVICE_ADDRESS(kernel_memory((size_t)bands * 8 * max_rows * 16 * sizeof(float)));
    args.meetings = DEVICE_ADDRESS(meetings);
    kernel_run(s, &args, sizeof args);
    for (uint32_t i = 0; i < bands; i++)
        CHECK_U64_EQ(0, meetings[i]);
    return r;
}

static void check_same_row(const FewCase *c, const FewResult *expected, uint32_t row, const FewResult *actual,
                           uint32_t actual_row) {
    size_t bytes = c->rows_of_all * sizeof(float);
    CHECK_BYTES_EQ(expected->out + row * c->rows_of_all, bytes, actual->out + actual_row * c->rows_of_all,
                   bytes);
}

// ---- output ----

static FewCase output_case(const EmulatedStage *s) {
    FewCase c = few_case((uint64_t)s->format[0] + s->n_cols, s->n_cols, 1, s->format, &s->n_rows, true);
    round_to_f16(c.x, (size_t)FEW_ROWS * s->n_cols);
    return c;
}

static void check_output(const FewCase *c, const FewResult *r, uint32_t first, uint32_t n_rows,
                         double times) {
    for (uint32_t row = 0; row < n_rows; row++) {
        double *y = reference_row(c, c->x + (size_t)(first + row) * c->n_cols, times);
        for (uint32_t i = 0; i < c->rows_of_all; i++)
            y[i] += (double)c->residual[(size_t)(first + row) * c->rows_of_all + i];
        kernel_check_error(y, r->out + (size_t)row * c->rows_of_all, c->rows_of_all, WEIGHTS);
    }
}

// Later formats differ in their tiles alone (test_kernel_tiles.c), and in codebooks: queries keys values,
// gate and up, and experts have some of them.
TEST(kernel_few_output_multiplies_every_format) {
    for (Dtype d = 0; d <= DTYPE_MXFP4; d++) {
        const EmulatedStage *s = kernel_stage_of("few_output", d, 90);
        TEST_CASE_LABEL("%s", s->name);
        FewCase c = output_case(s);
        FewResult r = run_few(s, &c, 0, 5, NULL, (ProductArgs){0});
        check_output(&c, &r, 0, 5, d == DTYPE_Q4_K ? 16 : 1); // that one is FROM_GLU
        FewResult alone = run_few(s, &c, 3, 1, NULL, (ProductArgs){0});
        check_same_row(&c, &r, 3, &alone, 0);
    }
}

// Whatever the blocks, warps, ways, rings and GPUs, and whoever is beside a row.
TEST(kernel_few_gives_the_same_bits_however_it_is_spread) {
    static const struct {
        const char *name;
        unsigned sm_arch;
    } others[] = {{"few_output_q4_k", 80}, {"few_output_q4_k", 75}, {"few_one_ways", 90},
                  {"few_one_ways", 80},    {"few_ring_ways", 90},   {"few_ring_ways", 80},
                  {"few_ring_ways", 75},   {"few_blocks", 90},      {"few_blocks", 80},
                  {"few_one_blocks", 90},  {"few_one_cluster", 90}, {"few_ways", 90}};
    FewCase c = output_case(kernel_stage("few_output_q4_k", 90));
    FewResult all = run_few(kernel_stage("few_output_q4_k", 90), &c, 0, FEW_ROWS, NULL, (ProductArgs){0});
    check_output(&c, &all, 0, FEW_ROWS, 16);
    for (uint32_t i = 0; i < COUNT_OF(others); i++) {
        const EmulatedStage *s = kernel_stage(others[i].name, others[i].sm_arch);
        for (uint32_t first = 0, n; first < FEW_ROWS; first += n) { // batches of 7 and 1 rows, or of 1
            n = MIN(s->max_rows, first == 0 ? 7u : 1u);
            TEST_CASE_LABEL("%s sm_%u, rows %u to %u", s->name, s->sm_arch, first, first + n - 1);
            FewResult r = run_few(s, &c, first, n, NULL, (ProductArgs){0});
            for (uint32_t row = 0; row < n; row++)
                check_same_row(&c, &all, first + row, &r, row);
        }
    }
}

// ---- queries, keys, values ----

static FewCase qkv_case(const EmulatedStage *s) {
    uint32_t n_rows[3] = {s->n_heads * s->head_dim, s->n_kv_heads * s->head_dim, s->n_kv_heads * s->head_dim};
    return few_case(11 + s->d_model, s->d_model, 3, s->format, n_rows, true);
}

static uint16_t *norm_rows(const FewCase *c, uint32_t n_rows) {
    uint16_t *out = activation_memory(FEW_ROWS, c->n_cols);
    Batch *batch = kernel_memory(sizeof *batch);
    batch->n_rows = n_rows;
    NormArgs args = {.batch = DEVICE_ADDRESS(batch),
                     .x = DEVICE_ADDRESS(c->x),
                     .norm = DEVICE_ADDRESS(c->norm),
                     .out = DEVICE_ADDRESS(out)};
    kernel_run(kernel_stage("norm_rows_896", 90), &args, sizeof args);
    return out;
}

// The norm of a stage's own gives what the norm stage gives.
TEST(kernel_few_qkv_takes_the_norm_to_the_same_bits) {
    const EmulatedStage *plain = kernel_stage("few_qkv", 90), *one = kernel_stage("few_qkv_norm_one", 90);
    FewCase c = qkv_case(plain);
    FewResult all = run_few(plain, &c, 0, FEW_ROWS, norm_rows(&c, FEW_ROWS), (ProductArgs){0});
    for (uint32_t row = 0; row < FEW_ROWS; row++) {
        TEST_CASE_LABEL("row %u", row);
        const float *h = reference_norm(one, c.x + (size_t)row * c.n_cols, c.norm, NULL);
        kernel_check_error(reference_row(&c, h, 1), all.out + (size_t)row * c.rows_of_all, c.rows_of_all,
                           WEIGHTS);
        FewResult r = run_few(one, &c, row, 1, NULL, (ProductArgs){0});
        check_same_row(&c, &all, row, &r, 0);
    }
}

static void check_formats(const char *name) {
    FewCase c = qkv_case(kernel_stage(name, 90));
    round_to_f16(c.x, (size_t)FEW_ROWS * c.n_cols);
    for (unsigned sm_arch = 80; sm_arch <= 90; sm_arch += 10) {
        FewResult r = run_few(kernel_stage(name, sm_arch), &c, 0, 3, NULL, (ProductArgs){0});
        for (uint32_t row = 0; row < 3; row++) {
            TEST_CASE_LABEL("%s, row %u, sm_%u", name, row, sm_arch);
            double *y = reference_row(&c, c.x + (size_t)row * c.n_cols, 1);
            kernel_check_error(y, r.out + (size_t)row * c.rows_of_all, c.rows_of_all, WEIGHTS);
        }
    }
}

TEST(kernel_few_qkv_multiplies_matrices_of_three_formats) {
    check_formats("few_qkv_mixed");
}

TEST(kernel_few_qkv_has_pieces_as_large_as_their_formats) {
    check_formats("few_qkv_pieces");
}

// ---- gate and up ----

static double reference_activation(int activation, double gate, double up) {
    if (activation == ACTIVATION_SILU) return gate / (1 + exp(-gate)) * up;
    if (activation == ACTIVATION_GELU_TANH)
        return 0.5 * gate * (1 + tanh(0.79788456080286536 * gate * (1 + 0.044715 * gate * gate))) * up;
    gate = fmin(gate, 7);
    up = fmax(fmin(up, 7), -7);
    return gate / (1 + exp(-1.702 * gate)) * (up + 1);
}

static FewCase glu_case(const EmulatedStage *s) {
    uint32_t n_rows[2] = {s->d_ff, s->d_ff};
    int format[2] = {s->format[0], s->format[1]};
    FewCase c = few_case(5 + s->d_ff, s->d_model, s->ungated ? 1 : 2, format, n_rows, s->has_bias);
    if (s->norm_eps <= 0) round_to_f16(c.x, (size_t)FEW_ROWS * c.n_cols);
    return c;
}

static void check_glu(const EmulatedStage *s, const FewCase *c, uint32_t row, const uint16_t *out,
                      uint32_t out_row) {
    const float *x = c->x + (size_t)row * c->n_cols;
    if (s->norm_eps > 0) x = reference_norm(s, x, c->norm, c->norm_bias);
    double *y = reference_row(c, x, 1);
    float *actual = kernel_memory(s->d_ff * sizeof *actual);
    for (uint32_t i = 0; i < s->d_ff; i++) {
        y[i] = reference_activation(s->activation, y[i], s->ungated ? 1 : y[s->d_ff + i]) / 16;
        actual[i] = f32_from_f16(out[kernel_activation_place(s->max_rows, out_row, i)]);
    }
    kernel_check_error(y, actual, s->d_ff, ACTIVATIONS);
    for (uint32_t i = s->d_ff; i < ROUND_UP(s->d_ff, 128u); i++)
        CHECK_U64_EQ(0, out[kernel_activation_place(s->max_rows, out_row, i)]);
}

TEST(kernel_few_glu_multiplies_and_activates) {
    static const struct {
        const char *name;
        unsigned sm_arch;
        uint32_t n_rows;
    } stages[] = {{"few_glu", 90, 7},
                  {"few_glu_formats", 90, 3},
                  {"few_glu_formats", 75, 2},
                  {"few_glu_ungated", 90, 6},
                  {"few_glu_one", 90, 1}};
    for (uint32_t i = 0; i < COUNT_OF(stages); i++) {
        const EmulatedStage *s = kernel_stage(stages[i].name, stages[i].sm_arch);
        FewCase c = glu_case(s);
        FewResult r = run_few(s, &c, 0, stages[i].n_rows, NULL, (ProductArgs){0});
        for (uint32_t row = 0; row < stages[i].n_rows; row++) {
            TEST_CASE_LABEL("%s sm_%u, row %u", s->name, s->sm_arch, row);
            check_glu(s, &c, row, r.activations, row);
        }
    }
}

TEST(kernel_few_glu_of_one_row_gives_the_same_bits) {
    const EmulatedStage *s = kernel_stage("few_glu", 90), *one = kernel_stage("few_glu_one", 90);
    FewCase c = glu_case(s);
    FewResult all = run_few(s, &c, 0, FEW_ROWS, NULL, (ProductArgs){0});
    for (uint32_t row = 0; row < FEW_ROWS; row++) {
        TEST_CASE_LABEL("row %u", row);
        FewResult r = run_few(one, &c, row, 1, NULL, (ProductArgs){0});
        for (uint32_t i = 0; i < s->d_ff; i++) {
            uint16_t expected = all.activations[kernel_activation_place(FEW_ROWS, row, i)];
            if (expected != r.activations[kernel_activation_place(1, 0, i)]) FAIL("column %u differs", i);
        }
    }
}

// ---- head ----

// The rows of logits, each of another slot with another repetition penalty.
typedef struct {
    BatchRow rows[FEW_ROWS];
    SlotState slots[FEW_ROWS];
    unsigned logits_rows[FEW_ROWS];
} HeadRows;

static HeadRows *head_rows(uint32_t n_vocab) {
    HeadRows *h = kernel_memory(sizeof *h);
    TestRandom random = {3};
    for (uint32_t i = 0; i < FEW_ROWS; i++) {
        unsigned *seen = kernel_memory(CEIL_DIV(n_vocab, 32u) * sizeof *seen);
        for (uint32_t k = 0; k < n_vocab; k++)
            seen[k / 32] |= (unsigned)(test_random_uniform(&random, 0, 1) < 0.5f) << k % 32;
        h->rows[i].slot = FEW_ROWS - 1 - i;
        h->slots[FEW_ROWS - 1 - i].seen = DEVICE_ADDRESS(seen);
        h->slots[FEW_ROWS - 1 - i].repetition_penalty = i % 3 == 0 ? 1 : 1 + 0.25f * (float)i;
        h->logits_rows[i] = i * 3 % FEW_ROWS;
    }
    return h;
}

// The lowest id with the largest logit after the penalty.
static HeadBest expected_best(const float *logits, uint32_t n, const SlotState *slot) {
    const unsigned *seen = (const unsigned *)(uintptr_t)slot->seen;
    HeadBest best = {.value = -INFINITY, .token = -1};
    for (uint32_t k = 0; k < n; k++) {
        float v = logits[k], p = slot->repetition_penalty;
        if (seen[k / 32] >> k % 32 & 1) v = v > 0 ? v / p : v * p;
        if (v > best.value) best = (HeadBest){.value = v, .token = (int)k};
    }
    return best;
}

static void check_best(const EmulatedStage *s, const HeadRows *h, const FewResult *r, uint32_t i) {
    HeadBest best = {.value = -INFINITY, .token = -1};
    for (uint32_t b = 0; b < s->blocks; b++) {
        HeadBest of_block = r->best[i * s->blocks + b];
        CHECK_U64_EQ(0, of_block.n_bad);
        if (of_block.value > best.value) best = of_block;
    }
    HeadBest expected = expected_best(r->out + (size_t)i * s->n_vocab, s->n_vocab,
                                      &h->slots[h->rows[h->logits_rows[i]].slot]);
    CHECK_INT_EQ(expected.token, best.token);
    CHECK(expected.value == best.value);
}

static ProductArgs head_args(HeadRows *h) {
    return (ProductArgs){.rows = DEVICE_ADDRESS(h->rows),
                         .slots = DEVICE_ADDRESS(h->slots),
                         .logits_rows = DEVICE_ADDRESS(h->logits_rows)};
}

TEST(kernel_few_head_gives_logits_and_the_best) {
    const EmulatedStage *s = kernel_stage("few_head", 90);
    FewCase c = few_case(9, s->d_model, 1, s->format, &s->n_vocab, true);
    round_to_f16(c.x, (size_t)FEW_ROWS * c.n_cols);
    HeadRows *h = head_rows(s->n_vocab);
    for (uint32_t n = 1; n <= FEW_ROWS; n += n < 5 ? 4 : 3) {
        FewResult r = run_few(s, &c, 0, n, NULL, head_args(h));
        for (uint32_t i = 0; i < n; i++) {
            TEST_CASE_LABEL("%u rows, row %u", n, i);
            double *y = reference_row(&c, c.x + (size_t)i * c.n_cols, 1);
            for (uint32_t k = 0; k < s->n_vocab; k++)
                y[k] = reference_capped(y[k], (double)s->soft_cap);
            kernel_check_error(y, r.out + (size_t)i * s->n_vocab, s->n_vocab, WEIGHTS);
            check_best(s, h, &r, i);
        }
    }
}

// The row of logits may be any of the batch's; where none wants logits, nothing is written.
TEST(kernel_few_head_takes_the_norm_of_the_row_that_wants_logits) {
    const EmulatedStage *s = kernel_stage("few_head_one", 90);
    FewCase c = few_case(9, s->d_model, 1, s->format, &s->n_vocab, false);
    HeadRows *h = head_rows(s->n_vocab);
    for (uint32_t row = 0; row < FEW_ROWS; row += 5) {
        TEST_CASE_LABEL("row %u", row);
        h->logits_rows[0] = row;
        FewResult r = run_few(s, &c, 0, 1, NULL, head_args(h));
        double *y = reference_row(&c, reference_norm(s, c.x + (size_t)row * c.n_cols, c.norm, NULL), 1);
        for (uint32_t k = 0; k < s->n_vocab; k++)
            y[k] = reference_capped(y[k], (double)s->soft_cap);
        kernel_check_error(y, r.out, s->n_vocab, WEIGHTS);
        check_best(s, h, &r, 0);
    }
}
