// The stages of batches that work row by row, on the emulator: kernels_src/rows.cuh, norm_rows.cuh,
// post_norm.cuh, embed.cuh, rope.cuh.
#include "kernel_reference.h"

#include "base/f16.h"
#include "emulator/norm_shapes.h"
#include "runner.h"

#include <math.h>

// ---- activations ----

static size_t activation_halves(uint32_t max_rows, uint32_t n_cols) {
    return (size_t)CEIL_DIV(n_cols, 128u) * 2 * max_rows * 64;
}

// ---- norms ----

typedef struct {
    const EmulatedStage *stage;
    uint32_t n_rows, n_cols;
    float *x, *norm, *bias;
    double *expected; // [n_rows][n_cols]
} NormCase;

static NormCase make_norm_case(const EmulatedStage *stage, uint32_t n_rows, uint32_t n_cols,
                               TestRandom *random) {
    NormCase c = {.stage = stage,
                  .n_rows = n_rows,
                  .n_cols = n_cols,
                  .x = test_random_vector(random, (size_t)n_rows * n_cols, 0.4f, 2),
                  .norm = test_random_vector(random, n_cols, 1, 0.3f),
                  .bias = test_random_vector(random, n_cols, 0, 0.2f),
                  .expected = kernel_doubles((size_t)n_rows * n_cols)};
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *x = c.x + (size_t)r * n_cols;
        double mean = 0, squares = 0;
        for (uint32_t i = 0; stage->layer_norm && i < n_cols; i++)
            mean += (double)x[i] / n_cols;
        for (uint32_t i = 0; i < n_cols; i++)
            squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        double root = sqrt(squares / n_cols + (double)stage->norm_eps);
        for (uint32_t i = 0; i < n_cols; i++) {
            double v = ((double)x[i] - mean) / root * (double)c.norm[i];
            c.expected[(size_t)r * n_cols + i] = stage->layer_norm ? v + (double)c.bias[i] : v;
        }
    }
    return c;
}

// Each value is within f16's rounding of the formula's; columns past the end are as they were, 0.
static void check_norm_row(const NormCase *c, uint32_t row, const uint16_t *out, uint32_t max_rows,
                           uint32_t out_row) {
    for (uint32_t col = 0; col < ROUND_UP(c->n_cols, 128u); col++) {
        double actual = (double)f32_from_f16(out[kernel_activation_place(max_rows, out_row, col)]),
               expected = col < c->n_cols ? c->expected[(size_t)row * c->n_cols + col] : 0;
        if (fabs(actual - expected) <= 1e-4 + 6e-4 * fabs(expected)) continue;
        CHECK_NEAR(expected, actual, 1e-4 + 6e-4 * fabs(expected));
        return;
    }
}

static void run_norm_shape(const NormCase *c, uint32_t rows_max, uint32_t n_warps, uint16_t *out) {
    for (uint32_t first = 0; first < c->n_rows; first += rows_max) {
        NormShapesArgs args = {c->x + (size_t)first * c->n_cols,
                               c->norm,
                               c->bias,
                               out,
                               MIN(rows_max, c->n_rows - first),
                               c->n_cols,
                               rows_max,
                               n_warps,
                               first};
        emulator_launch(c->stage->kernel, &args, 1, 1, n_warps * 32, c->stage->info.shared_bytes);
    }
}

// Every shape of block, one row and several: the same bits, and right ones.
static void check_norm_shapes(const EmulatedStage *stage, uint32_t n_cols, uint32_t n_rows) {
    TestRandom random = {n_cols + n_rows};
    NormCase c = make_norm_case(stage, n_rows, n_cols, &random);
    size_t halves = activation_halves(NORM_SHAPES_ROWS, n_cols);
    uint16_t *first = kernel_memory(halves * 2), *out = kernel_memory(halves * 2);
    TEST_CASE_LABEL("%s, %u columns, %u rows", stage->name, n_cols, n_rows);
    run_norm_shape(&c, 1, 16, first);
    for (uint32_t r = 0; r < n_rows; r++)
        check_norm_row(&c, r, first, NORM_SHAPES_ROWS, r);
#define SHAPE(rows_max, n_warps)                                                                    \
    TEST_CASE_LABEL("%s, %u columns, %u rows, %d at once by %d warps", stage->name, n_cols, n_rows, \
                    rows_max, n_warps);                                                             \
    memset(out, 0, halves * 2);                                                                     \
    run_norm_shape(&c, rows_max, n_warps, out);                                                     \
    CHECK_BYTES_EQ(first, halves * 2, out, halves * 2);
    NORM_SHAPES(SHAPE)
#undef SHAPE
}

TEST_SLOW(kernel_rows_norms_are_the_same_bits_in_every_block, 60) {
    static const uint32_t n_rows[] = {1, 3, 8};
    for (uint32_t i = 0; i < COUNT_OF(n_rows); i++) {
#define COLS(n_cols) check_norm_shapes(kernel_stage("norm_shapes", 90), n_cols, n_rows[i]);
        NORM_SHAPES_COLS(COLS)
#undef COLS
    }
    check_norm_shapes(kernel_stage("norm_shapes_layer", 90), 896, 3);
    check_norm_shapes(kernel_stage("norm_shapes_layer", 90), 5120, 8);
}

// The stage against the shapes above, at the numbers of rows that its grid is for.
TEST(kernel_rows_norm_stage_norms_rows) {
    static const struct {
        const char *name, *shapes;
        uint32_t n_rows, n_logits;
    } rows[] = {{"norm_rows_896", "norm_shapes", 1, 0},
                {"norm_rows_896", "norm_shapes", 8, 0},
                {"norm_rows_logits", "norm_shapes_layer", 200, 3},
                {"norm_rows_logits", "norm_shapes_layer", 7, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %u rows, logits of %u", rows[i].name, rows[i].n_rows, rows[i].n_logits);
        const EmulatedStage *s = kernel_stage(rows[i].name, 90);
        bool of_logits = s->max_rows > 8;
        TestRandom random = {31 + i};
        NormCase c = make_norm_case(s, rows[i].n_rows, s->d_model, &random);
        Batch *batch = kernel_memory(sizeof *batch);
        *batch = (Batch){.n_rows = rows[i].n_rows, .n_logits = rows[i].n_logits};
        uint32_t *logits_rows = kernel_memory(3 * sizeof *logits_rows), chosen[] = {7, 199, 0};
        memcpy(logits_rows, chosen, sizeof chosen);
        size_t halves = activation_halves(s->max_rows, s->d_model), eight = activation_halves(8, s->d_model);
        uint16_t *out = kernel_memory(halves * 2), *again = kernel_memory(eight * 2);
        NormArgs args = {.batch = DEVICE_ADDRESS(batch),
                         .logits_rows = DEVICE_ADDRESS(logits_rows),
                         .x = DEVICE_ADDRESS(c.x),
                         .norm = DEVICE_ADDRESS(c.norm),
                         .bias = DEVICE_ADDRESS(c.bias),
                         .out = DEVICE_ADDRESS(out)};
        kernel_run(s, &args, sizeof args);
        uint32_t n_out = of_logits ? rows[i].n_logits : rows[i].n_rows;
        for (uint32_t r = 0; r < n_out; r++) {
            uint32_t from = of_logits ? chosen[r] : r;
            NormCase one = c;
            one.stage = kernel_stage(rows[i].shapes, 90);
            one.x += (size_t)from * s->d_model;
            one.n_rows = 1;
            memset(again, 0, eight * 2);
            check_norm_row(&c, from, out, s->max_rows, r);

            run_norm_shape(&one, 8, 14, again);
            for (uint32_t col = 0; col < s->d_model; col++)
                CHECK_INT_EQ(again[kernel_activation_place(8, 0, col)],
                             out[kernel_activation_place(s->max_rows, r, col)]);
        }
        for (size_t h = 0; h < halves; h++) // other rows are as they were
            if (h / 64 % s->max_rows >= n_out) CHECK_INT_EQ(0, out[h]);
    }
}

TEST(kernel_rows_post_norm_joins_the_residual_stream) {
    const EmulatedStage *s = kernel_stage("batch_post_norm", 90);
    static const uint32_t n_rows[] = {1, 2, 9};
    TestRandom random = {41};
    NormCase c = make_norm_case(s, s->max_rows, s->d_model, &random);
    size_t n = (size_t)s->max_rows * s->d_model;
    float *before = test_random_vector(&random, n, 0, 1), *alone = kernel_memory(n * sizeof *alone);
    for (uint32_t i = COUNT_OF(n_rows); i-- > 0;) {
        TEST_CASE_LABEL("%u rows", n_rows[i]);
        float *x = kernel_memory(n * sizeof *x);
        memcpy(x, before, n * sizeof *x);
        Batch *batch = kernel_memory(sizeof *batch);
        *batch = (Batch){.n_rows = n_rows[i]};
        BatchPostNormArgs args = {.batch = DEVICE_ADDRESS(batch),
                                  .t = DEVICE_ADDRESS(c.x),
                                  .norm = DEVICE_ADDRESS(c.norm),
                                  .x = DEVICE_ADDRESS(x)};
        kernel_run(s, &args, sizeof args);
        size_t used = (size_t)n_rows[i] * s->d_model;
        if (n_rows[i] == s->max_rows) memcpy(alone, x, n * sizeof *x);
        CHECK_BYTES_EQ(alone, used * sizeof *x, x, used * sizeof *x);
        CHECK_BYTES_EQ(before + used, (n - used) * sizeof *x, x + used, (n - used) * sizeof *x);
        double *expected = kernel_doubles(used);
        for (size_t k = 0; k < used; k++)
            expected[k] = (double)before[k] + c.expected[k];
        kernel_check_error(expected, x, used, 1e-6);
    }
}

// Two tables, of the rows' positions.
static void check_tables(const RopeTable tables[2], const BatchRow *rows, uint32_t n_rows,
                         uint32_t max_rows) {
    for (uint32_t t = 0; t < 2; t++) {
        const float *inv_freq = (const float *)(uintptr_t)tables[t].inv_freq;
        const float *out = (const float *)(uintptr_t)tables[t].rope;
        uint32_t n = tables[t].n_values;
        for (uint32_t i = 0; i < max_rows * n; i++) {
            double angle = (double)((float)rows[i / n].position * inv_freq[i % n]),
                   scale = i / n < n_rows ? (double)tables[t].scale : 0;
            CHECK_NEAR(cos(angle) * scale, (double)out[2 * i], 1e-5);
            CHECK_NEAR(sin(angle) * scale, (double)out[2 * i + 1], 1e-5);
        }
    }
}

static RopeTable make_table(TestRandom *random, uint32_t max_rows, uint32_t n_values, float scale) {
    return (RopeTable){DEVICE_ADDRESS(test_random_vector(random, n_values, 0.1f, 0.05f)),
                       DEVICE_ADDRESS(kernel_memory((size_t)max_rows * n_values * 2 * sizeof(float))),
                       n_values, scale};
}

// Tokens of the batch, drawn ones, and one that the draw could not tell.
TEST(kernel_rows_embeds_each_rows_token) {
    static const struct {
        const char *name;
        uint32_t n_rows;
    } rows[] = {{"batch_embed", 1}, {"batch_embed", 9}, {"batch_embed_learned", 200}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %u rows", rows[i].name, rows[i].n_rows);
        static const uint32_t position[] = {0, 1, 17, 4095, 131071, 5, 5, 70000, 3};
        const EmulatedStage *s = kernel_stage(rows[i].name, 90);
        uint32_t d = s->d_model, n_rows = rows[i].n_rows, positions = 5;
        TestRandom random = {51 + i};
        TestMatrix m = test_matrix(&random, (Dtype)s->embed_format, s->n_vocab, d);
        uint8_t *tiles = test_matrix_tiles(&m, 0);
        float *learned = test_random_vector(&random, (size_t)positions * d, 0, 1),
              *x = kernel_memory((size_t)s->max_rows * d * sizeof *x);
        Batch *batch = kernel_memory(sizeof *batch);
        BatchRow *row = kernel_memory(s->max_rows * sizeof *row);
        SlotState *slots = kernel_memory(3 * sizeof *slots);
        int *drawn = kernel_memory(3 * TOKEN_RING * sizeof *drawn);
        *batch = (Batch){.n_rows = n_rows};
        for (uint32_t k = 0; k < 3 * TOKEN_RING; k++)
            drawn[k] = (int)k * 3 - 7; // slot 0: -7, -4, -1, 2
        for (uint32_t k = 0; k < 3; k++)
            slots[k] = (SlotState){.step = 5 - k, .drawn = DEVICE_ADDRESS(drawn + k * TOKEN_RING)};
        for (uint32_t r = 0; r < s->max_rows; r++)
            row[r] = (BatchRow){.token = r % 4 == 1 ? ROW_TOKEN_DRAWN : (int)(r * 11 % s->n_vocab),
                                .position = s->learned ? r * 3 % positions : position[r % 9],
                                .slot = r / 4 % 3};
        EmbedArgs args = {
            .batch = DEVICE_ADDRESS(batch),
            .rows = DEVICE_ADDRESS(row),
            .slots = DEVICE_ADDRESS(slots),
            .embed = DEVICE_ADDRESS(tiles),
            .learned = DEVICE_ADDRESS(learned),
            .x = DEVICE_ADDRESS(x),
            .tables = {make_table(&random, s->max_rows, 17, 1.25f), make_table(&random, s->max_rows, 40, 1)}};
        kernel_run(s, &args, sizeof args);
        if (!s->learned) check_tables(args.tables, row, n_rows, s->max_rows);
        for (size_t k = 0; k < (size_t)s->max_rows * d; k++) {
            uint32_t r = (uint32_t)(k / d), col = (uint32_t)(k % d);
            int token = row[r].token;
            if (token < 0)
                token = drawn[row[r].slot * TOKEN_RING + (slots[row[r].slot].step - 1) % TOKEN_RING];
            float v = m.values[(size_t)(token < 0 ? 0 : token) * d + col] * s->embed_scale;
            if (s->learned) v += learned[row[r].position * d + col];
            if (r >= n_rows) v = 0;
            if (v == x[k]) continue;
            CHECK_NEAR(v, x[k], 0);
            break;
        }
    }
}
