// Weights in tiles on the emulator against the dequantiser: kernels_src/tiles.cuh, tile_repack.cuh, layout.h.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

// Formats that have tiles.
static bool has_tiles(Dtype d) {
    return d != DTYPE_IQ4_NL && d != DTYPE_IQ4_XS && d != DTYPE_MXFP4;
}

// ---- how large it is ----

TEST(kernel_tiles_are_as_large_as_the_file) {
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (!has_tiles((Dtype)d)) continue;
        TEST_CASE_LABEL("%s", dtype_info((Dtype)d)->name);
        uint32_t cols = layout_tile_cols(d);
        uint64_t file = dtype_row_bytes((Dtype)(FORMAT_IS_FLOAT(d) ? DTYPE_F16 : d), cols) * 16;
        CHECK_U64_EQ(file, layout_tile_bytes16(d));
        CHECK_U64_EQ(0, layout_tile_bytes16(d) % 16);
        CHECK_U64_EQ(file * 4 + 256, layout_matrix_bytes(d, 1, 1));
        CHECK_U64_EQ(file * 4 * 3 * 2 + 512, layout_matrix_bytes(d, 65, 2 * cols + 1));
        CHECK_U64_EQ(((4 + 1) * 4 + 2) * file, layout_band_tile_at(d, 4 * cols, 6, 1));
        CHECK_U64_EQ(4 * 4 * file * 2004 + 4 * 128255, layout_factor_at(d, 128255, 4 * cols, 128255));
    }
    CHECK_U64_EQ(4, layout_piece_bands(50, 0, 50));
    CHECK_U64_EQ(1, layout_piece_bands(50, 48, 2));
    CHECK_U64_EQ(2, layout_piece_bands(50, 16, 32));
    CHECK_U64_EQ(8, layout_piece_bands(128, 0, 128));
}

// ---- single weights: bits moved exactly ----

static float *tile_values(const TestMatrix *m, const uint8_t *tiles) {
    size_t n = (size_t)m->n_rows * m->n_cols;
    float *values = kernel_memory(n * sizeof *values);
    ValuesArgs args = {tiles, values, m->n_rows, m->n_cols};
    emulator_launch(kernel_stage_of("tiles", m->dtype, 90)->values, &args, (unsigned)CEIL_DIV(n, 256), 1, 256,
                    0);
    return values;
}

static double factor_of(const TestMatrix *m, const uint8_t *tiles, uint32_t row) {
    float factor;
    memcpy(&factor, tiles + layout_factor_at((int)m->dtype, m->n_rows, m->n_cols, row), sizeof factor);
    return (double)factor;
}

static bool is_power_of_two(double v) {
    int exponent;
    return frexp(v, &exponent) == 0.5;
}

// F32 and BF16 are rounded to f16 where the row's largest weight is in [2^14, 2^15].
static void check_value(const TestMatrix *m, const uint8_t *tiles, uint32_t row, float expected,
                        float actual) {
    if (m->dtype != DTYPE_F32 && m->dtype != DTYPE_BF16) {
        if (memcmp(&expected, &actual, sizeof expected) != 0)
            FAIL("row %u: %a, not %a", row, (double)actual, (double)expected);
        return;
    }
    double factor = factor_of(m, tiles, row);
    float rounded = f32_from_f16(f16_from_f32((float)((double)expected / factor)));
    CHECK(fabs((double)rounded) <= 32768);
    if ((float)((double)rounded * factor) != actual)
        FAIL("row %u: %a, not %a", row, (double)actual, (double)expected);
}

static void check_single_weights(const TestMatrix *m, uint32_t piece_rows) {
    uint8_t *tiles = test_matrix_tiles(m, piece_rows);
    float *values = tile_values(m, tiles);
    for (uint32_t r = 0; r < m->n_rows; r++) {
        CHECK(is_power_of_two(factor_of(m, tiles, r)));
        for (uint32_t c = 0; c < m->n_cols; c++) {
            size_t i = (size_t)r * m->n_cols + c;
            check_value(m, tiles, r, m->values[i], values[i]);
        }
    }
}

TEST(kernel_tiles_keep_every_value) {
    TestRandom random = {1};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        if (!has_tiles(d)) continue;
        bool super = dtype_info(d)->block_elements == 256;
        uint32_t cols = FORMAT_IS_FLOAT((int)d) ? 301 : super ? 768 : 352;
        TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols);
        TestMatrix m = test_matrix(&random, d, 53, cols);
        check_single_weights(&m, 0);
        check_single_weights(&m, 16);
    }
}

// ---- what is multiplied ----

// Bytes of a block that hold codes: [from, to).
static void code_bytes(Dtype d, uint32_t *from, uint32_t *to) {
    *from = d == DTYPE_Q2_K || d == DTYPE_Q4_K || d == DTYPE_Q5_K ? 16 : 4;
    *to = d == DTYPE_Q2_K ? 80 : dtype_info(d)->block_bytes;
}

// The weights' minima: what the dequantiser makes of codes that are 0. Zeros where the format has none.
static float *minima(const TestMatrix *m) {
    const DtypeInfo *info = dtype_info(m->dtype);
    size_t n = (size_t)m->n_rows * m->n_cols;
    float *out = kernel_memory(n * sizeof *out);
    if (m->dtype != DTYPE_Q4_1 && m->dtype != DTYPE_Q5_1 && m->dtype != DTYPE_Q2_K &&
        m->dtype != DTYPE_Q4_K && m->dtype != DTYPE_Q5_K)
        return out;
    size_t n_blocks = n / info->block_elements, size = n_blocks * info->block_bytes;
    uint8_t *file = memcpy(kernel_memory(size), m->file, size);
    uint32_t from, to;
    code_bytes(m->dtype, &from, &to);
    for (size_t i = 0; i < n_blocks; i++)
        memset(file + i * info->block_bytes + from, 0, to - from);
    info->dequantize(file, out, n_blocks);
    return out;
}

// Scale and minimum are each rounded to f16 once where they are products, then the weight is: 2^-11 of each.
// Below f16's normal numbers a rounding is 2^-25 of the row's factor.
static void check_weights(const TestMatrix *m, const uint8_t *tiles) {
    const float *actual = test_tile_weights(m, tiles), *min = minima(m);
    bool products = dtype_info(m->dtype)->block_elements == 256;
    uint32_t wrong = 0;
    for (uint32_t r = 0; r < m->n_rows; r++) {
        double factor = factor_of(m, tiles, r);
        for (uint32_t c = 0; c < m->n_cols && wrong < 5; c++) {
            size_t i = (size_t)r * m->n_cols + c;
            double w = (double)m->values[i], low = (double)min[i];
            double allowed = fabs(w) * 0x1p-11 + factor * 0x1p-24;
            if (products) allowed += (fabs(w - low) + fabs(low)) * 0x1.01p-11;
            if (fabs((double)actual[i] - w) <= allowed) continue;
            wrong++;
            FAIL("row %u, column %u: %g, not %g (%g allowed)", r, c, (double)actual[i], w, allowed);
        }
    }
}

TEST(kernel_tiles_multiply_what_the_file_says) {
    TestRandom random = {2};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        if (!has_tiles(d)) continue;
        bool super = dtype_info(d)->block_elements == 256;
        uint32_t cols = FORMAT_IS_FLOAT((int)d) ? 301 : super ? 512 : 352;
        TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols);
        TestMatrix m = test_matrix(&random, d, 37, cols);
        check_weights(&m, test_matrix_tiles(&m, 16));
    }
}
