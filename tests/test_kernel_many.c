// Products of more than 8 rows on the emulator: kernels_src/product_many.cuh with qkv.cuh, output.cuh,
// glu.cuh, head.cuh. Results are compared with plain C, and to the bit with what the same rows get from
// product_few.cuh, whatever the tiles, warps, blocks, clusters and GPUs are.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>

enum { ROWS = 130 }; // of a case: more than a tile, less than two
#define WEIGHTS 1e-3 // weights are rounded to f16

static uint16_t *activation_memory(uint32_t max_rows, uint32_t n_cols) {
    return kernel_memory((size_t)ROUND_UP(n_cols, 128u) * max_rows * 2);
}

// ---- a stage and its input ----

typedef struct {
    TestMatrix w[3];
    uint8_t *tiles[3];
    float *bias[3];
    uint32_t n_matrices, n_cols, rows_of_all;
    float *x;        // [ROWS][n_cols], f16 values
    float *residual; // [ROWS][rows_of_all]
} ManyCase;

// The matrices of the stage's variant.
static ManyCase many_case(const EmulatedStage *s, uint32_t n_matrices, const uint32_t *n_rows) {
    uint32_t n_cols = s->n_cols ? s->n_cols : s->d_model;
    TestRandom random = {n_cols + n_rows[0]};
    ManyCase c = {.n_matrices = n_matrices, .n_cols = n_cols};
    for (uint32_t i = 0; i < n_matrices; i++) {
        c.w[i] = test_matrix(&random, (Dtype)s->format[i], n_rows[i], n_cols);
        c.tiles[i] = test_matrix_tiles(&c.w[i], 0);
        c.bias[i] = test_random_vector(&random, n_rows[i], 0, 1);
        c.rows_of_all += n_rows[i];
    }
    c.x = test_random_vector(&random, (size_t)ROWS * n_cols, 0.1f, 1);
    for (size_t i = 0; i < (size_t)ROWS * n_cols; i++)
        c.x[i] = f32_from_f16(f16_from_f32(c.x[i]));
    c.residual = test_random_vector(&random, (size_t)ROWS * c.rows_of_all, 0, 1);
    return c;
}

typedef struct {
    float *out;            // [max_rows][rows_of_all]
    uint16_t *activations; // of rows_of_all columns
    HeadBest *best;        // [max_rows][blocks]
} ManyResult;

// Runs the stage on the case's rows first … as a batch of its own. The rows behind them are not numbers.
static ManyResult run_rows(const EmulatedStage *s, const ManyCase *c, uint32_t first, uint32_t n_rows,
                           ProductArgs args) {
    uint32_t max_rows = s->max_rows, bands = CEIL_DIV(c->rows_of_all, 16u) + 2;
    size_t size = (size_t)max_rows * c->rows_of_all;
    ManyResult r = {test_random_vector(&(TestRandom){1}, (uint32_t)size, NAN, 0),
                    activation_memory(max_rows, c->rows_of_all),
                    kernel_memory((size_t)max_rows * s->info.grid[0] * sizeof(HeadBest))};
    memcpy(r.out, c->residual + (size_t)first * c->rows_of_all,
           (size_t)n_rows * c->rows_of_all * sizeof(float));
    Batch *batch = kernel_memory(sizeof *batch);
    *batch = (Batch){.n_rows = n_rows, .n_logits = n_rows};
    uint16_t *in = activation_memory(max_rows, c->n_cols);
    for (uint32_t row = 0; row < max_rows; row++) {
        for (uint32_t col = 0; col < c->n_cols; col++) {
            float v = row < n_rows ? c->x[(size_t)(first + row) * c->n_cols + col] : NAN;
            in[kernel_activation_place(max_rows, row, col)] = f16_from_f32(v);
        }
    }
    args.batch = DEVICE_ADDRESS(batch);
    args.in = DEVICE_ADDRESS(in);
    for (uint32_t m = 0; m < c->n_matrices; m++) {
        args.weight[m] = DEVICE_ADDRESS(c->tiles[m]);
        args.bias[m] = DEVICE_ADDRESS(c->bias[m]);
    }
    args.out = DEVICE_ADDRESS(r.out);
    args.out_activations = DEVICE_ADDRESS(r.activations);
    args.best = DEVICE_ADDRESS(r.best);
    args.partial = DEVICE_ADDRESS(kernel_memory((size_t)bands * 8 * max_rows * 16 * sizeof(float)));
    args.meetings = DEVICE_ADDRESS(kernel_memory(bands * sizeof(unsigned)));
    kernel_run(s, &args, sizeof args);
    for (size_t i = (size_t)n_rows * c->rows_of_all; i < size; i++) {
        if (!isnan(r.out[i])) FAIL("row %zu was written", i / c->rows_of_all);
    }
    return r;
}

// What the matrices give for a row, side by side, with their biases.
static double *reference_row(const ManyCase *c, uint32_t row, double times) {
    double *y = kernel_doubles(c->rows_of_all), *at = y;
    for (uint32_t m = 0; m < c->n_matrices; m++) {
        reference_matvec(&c->w[m], c->x + (size_t)row * c->n_cols, at);
        for (uint32_t i = 0; i < c->w[m].n_rows; i++)
            at[i] = at[i] * times + (double)c->bias[m][i];
        at += c->w[m].n_rows;
    }
    return y;
}

// Rows of a batch of n_rows whose results are looked at: those at its ends and some between.
static uint32_t next_row(uint32_t row, uint32_t n_rows) {
    return row + 1 == n_rows ? n_rows : MIN(row + (row < 2 ? 1u : 13u), n_rows - 1);
}

// The rows first … of the case, in this batch, have the bits that `few` gives each of them alone.
static void check_alone(const EmulatedStage *few, const ManyCase *c, const ManyResult *r, uint32_t first,
                        uint32_t n_rows) {
    for (uint32_t row = 0; row < n_rows; row = next_row(row, n_rows)) {
        ManyResult alone = run_rows(few, c, first + row, 1, (ProductArgs){0});
        size_t bytes = c->rows_of_all * sizeof(float);
        TEST_CASE_LABEL("row %u of %u", row, n_rows);
        CHECK_BYTES_EQ(alone.out, bytes, r->out + (size_t)row * c->rows_of_all, bytes);
    }
}

// ---- output ----

// Every variant is the same product; few_output_q4_k is, too. FROM_GLU: times GLU_DIVISOR.
TEST(kernel_many_output_has_the_bits_of_rows_alone) {
    static const struct {
        const char *name;
        unsigned sm_arch;
        uint32_t first, n_rows;
    } batches[] = {{"many_16", 90, 0, 9},        {"many_16", 75, 7, 1},        {"many_16_older", 80, 5, 11},
                   {"many_32", 90, 3, 17},       {"many_64", 90, 0, 33},       {"many_128", 90, 2, 65},
                   {"many_128", 90, 0, 127},     {"many_128", 90, 0, 130},     {"many_128", 90, 6, 33},
                   {"many_128_wide", 90, 2, 65}, {"many_128_wide", 90, 6, 33}, {"many_128_older", 75, 1, 67},
                   {"many_128_older", 75, 9, 64}};
    const EmulatedStage *few = kernel_stage("few_output_q4_k", 90);
    ManyCase c = many_case(few, 1, &few->n_rows);
    for (uint32_t i = 0; i < COUNT_OF(batches); i++) {
        const EmulatedStage *s = kernel_stage(batches[i].name, batches[i].sm_arch);
        uint32_t first = batches[i].first, n_rows = batches[i].n_rows;
        TEST_CASE_LABEL("%s sm_%u, %u rows", s->name, s->sm_arch, n_rows);
        ManyResult r = run_rows(s, &c, first, n_rows, (ProductArgs){0});
        double *y = reference_row(&c, first + n_rows - 1, 16);
        for (uint32_t k = 0; k < c.rows_of_all; k++)
            y[k] += (double)c.residual[(size_t)(first + n_rows - 1) * c.rows_of_all + k];
        kernel_check_error(y, r.out + (size_t)(n_rows - 1) * c.rows_of_all, c.rows_of_all, WEIGHTS);
        check_alone(few, &c, &r, first, n_rows);
    }
}

// ---- queries, keys, values ----

TEST(kernel_many_qkv_multiplies_matrices_of_three_formats) {
    static const struct {
        const char *name;
        unsigned sm_arch;
        uint32_t n_rows;
    } batches[] = {{"many_qkv_mixed", 90, 16}, {"many_qkv_mixed_older", 80, 10}};
    const EmulatedStage *few = kernel_stage("few_qkv_mixed", 90);
    uint32_t kv = few->n_kv_heads * few->head_dim, n_rows[3] = {few->n_heads * few->head_dim, kv, kv};
    ManyCase c = many_case(few, 3, n_rows);
    for (uint32_t i = 0; i < COUNT_OF(batches); i++) {
        const EmulatedStage *s = kernel_stage(batches[i].name, batches[i].sm_arch);
        TEST_CASE_LABEL("%s sm_%u", s->name, s->sm_arch);
        ManyResult r = run_rows(s, &c, 4, batches[i].n_rows, (ProductArgs){0});
        kernel_check_error(reference_row(&c, 4, 1), r.out, c.rows_of_all, WEIGHTS);
        check_alone(few, &c, &r, 4, batches[i].n_rows);
    }
}

// ---- gate and up ----

TEST(kernel_many_glu_has_the_bits_of_rows_alone) {
    static const struct {
        const char *name;
        unsigned sm_arch;
        uint32_t n_rows;
    } batches[] = {{"many_glu", 90, 31}, {"many_glu_ways", 90, 20}, {"many_glu_older", 80, 18}};
    const EmulatedStage *few = kernel_stage("few_glu_formats", 90);
    uint32_t n_rows[2] = {few->d_ff, few->d_ff};
    ManyCase c = many_case(few, 2, n_rows);
    for (uint32_t i = 0; i < COUNT_OF(batches); i++) {
        const EmulatedStage *s = kernel_stage(batches[i].name, batches[i].sm_arch);
        ManyResult r = run_rows(s, &c, 0, batches[i].n_rows, (ProductArgs){0});
        for (uint32_t row = 0; row < batches[i].n_rows; row = next_row(row, batches[i].n_rows)) {
            TEST_CASE_LABEL("%s sm_%u, row %u", s->name, s->sm_arch, row);
            ManyResult alone = run_rows(few, &c, row, 1, (ProductArgs){0});
            uint32_t written = 0;
            for (uint32_t k = 0; k < few->d_ff; k++) {
                uint16_t v = r.activations[kernel_activation_place(s->max_rows, row, k)];
                if (v != alone.activations[kernel_activation_place(few->max_rows, 0, k)])
                    FAIL("column %u differs", k);
                written += v != 0;
            }
            CHECK(written > few->d_ff / 2);
        }
    }
}

// ---- head ----

TEST(kernel_many_head_gives_logits_and_the_best) {
    const EmulatedStage *few = kernel_stage("few_head", 90), *s = kernel_stage("many_head", 90);
    ManyCase c = many_case(few, 1, &few->n_vocab);
    enum { N = 29 };
    BatchRow *rows = kernel_memory(N * sizeof *rows);
    SlotState *slot = kernel_memory(sizeof *slot);
    unsigned *logits_rows = kernel_memory(N * sizeof *logits_rows);
    slot->repetition_penalty = 1;
    slot->seen = DEVICE_ADDRESS(kernel_memory(few->n_vocab));
    ProductArgs args = {.rows = DEVICE_ADDRESS(rows),
                        .slots = DEVICE_ADDRESS(slot),
                        .logits_rows = DEVICE_ADDRESS(logits_rows)};
    ManyResult r = run_rows(s, &c, 0, N, args);
    for (uint32_t row = 0; row < N; row++) {
        TEST_CASE_LABEL("row %u", row);
        const float *logits = r.out + (size_t)row * few->n_vocab;
        HeadBest best = {.value = -INFINITY, .token = -1};
        for (uint32_t b = 0; b < s->info.grid[0]; b++) {
            HeadBest of_block = r.best[row * s->info.grid[0] + b];
            if (of_block.value > best.value) best = of_block;
        }
        uint32_t expected = 0;
        for (uint32_t k = 1; k < few->n_vocab; k++)
            expected = logits[k] > logits[expected] ? k : expected;
        CHECK_INT_EQ((int)expected, best.token);
        CHECK(best.value == logits[expected]);
        ManyResult alone = run_rows(few, &c, row, 1, args);
        size_t bytes = few->n_vocab * sizeof(float);
        CHECK_BYTES_EQ(alone.out, bytes, logits, bytes);
    }
}
