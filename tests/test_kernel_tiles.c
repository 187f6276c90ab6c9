// Weights in tiles on the emulator against the dequantiser: kernels_src/tiles.cuh, tile_repack.cuh, layout.h.
#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

// ---- the emulator's f16 ----

__extension__ typedef __int128 Exact; // whole multiples of 2^-48

static Exact exact_of(uint16_t half) { // finite
    Exact v = (Exact)ldexp((double)f32_from_f16(half), 24);
    return v * (1 << 24);
}
static Exact magnitude(Exact v) {
    return v < 0 ? -v : v;
}

// Whether `half` is the f16 next to v, of two as near the even one.
static bool is_rounded(Exact v, uint16_t half) {
    const Exact top = magnitude(exact_of(0x7BFF)), beyond = (Exact)65520 << 48;
    if (magnitude(v) >= beyond) return (half & 0x7FFF) == 0x7C00 && half >> 15 == (v < 0);
    if ((half & 0x7FFF) > 0x7BFF || magnitude(v - exact_of(half)) > top) return false;
    Exact distance = magnitude(v - exact_of(half));
    for (int step = -1; step <= 1; step += 2) {
        uint16_t size = half & 0x7FFF, other = (uint16_t)((half & 0x8000) | (size + step));
        if (size == 0 && step < 0) other = (half ^ 0x8000) | 1;
        if ((other & 0x7FFF) > 0x7BFF) continue; // looked at above
        Exact next = magnitude(v - exact_of(other));
        if (next < distance || (next == distance && (half & 1))) return false;
    }
    return true;
}

// A number of any size.
static uint16_t random_half(TestRandom *random) {
    uint16_t v = (uint16_t)test_random_uniform(random, 0, 65536);
    return (v & 0x7FFF) > 0x7BFF ? v & 0xBFFF : v;
}

TEST(kernel_emulated_f16_is_rounded_once) {
    enum { N = 4096 };
    TestRandom random = {5};
    uint32_t(*in)[3] = kernel_memory(N * sizeof *in), (*out)[3] = kernel_memory(N * sizeof *out);
    for (uint32_t i = 0; i < N * 6; i++)
        ((uint16_t *)in)[i] = random_half(&random);
    // One and a half times an odd number lies between two f16; the smallest one more or less decides. (A f32
    // has no place for it beside numbers of [1, 2), so that sums rounded to f32 first are wrong.)
    for (uint32_t i = 0; i < N; i += 2) {
        uint32_t odd = (uint32_t)(random_half(&random) % 340) | 1;
        in[i][0] = (in[i][0] & 0xFFFF0000u) | 0x3C00 | odd, in[i][1] = (in[i][1] & 0xFFFF0000u) | 0x3E00;
        in[i][2] = (in[i][2] & 0xFFFF0000u) | (i % 4 ? 0x8001 : 0x0001);
    }
    F16x2Args args = {(const unsigned(*)[3])in, out};
    emulator_launch(kernel_stage("f16x2", 90)->kernel, &args, N / 32, 1, 32, 0);
    for (uint32_t i = 0; i < 2 * N; i++) {
        uint32_t shift = i % 2 * 16;
        uint16_t v[3], r[3];
        for (int k = 0; k < 3; k++)
            v[k] = (uint16_t)(in[i / 2][k] >> shift), r[k] = (uint16_t)(out[i / 2][k] >> shift);
        Exact a = exact_of(v[0]), c = exact_of(v[2]), product = a / (1 << 24) * (exact_of(v[1]) / (1 << 24));
        TEST_CASE_LABEL("%04x * %04x, %04x: %04x %04x %04x", v[0], v[1], v[2], r[0], r[1], r[2]);
        CHECK(is_rounded(product + c, r[0]) && is_rounded(product, r[1]) && is_rounded(a + c, r[2]));
    }
}

// ---- how large it is ----

TEST(kernel_tiles_are_as_large_as_the_file) {
    for (int d = 0; d < DTYPE_COUNT; d++) {
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

// About so many columns: whole blocks.
static uint32_t whole_blocks(Dtype d, uint32_t cols) {
    return cols / dtype_info(d)->block_elements * dtype_info(d)->block_elements;
}

TEST(kernel_tiles_keep_every_value) {
    TestRandom random = {1};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        bool super = dtype_info(d)->block_elements == 256;
        uint32_t cols = FORMAT_IS_FLOAT((int)d) ? 301 : super ? 768 : whole_blocks(d, 352);
        TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols);
        TestMatrix m = test_matrix(&random, d, 53, cols);
        check_single_weights(&m, 0);
        check_single_weights(&m, 16);
        cols = super ? 2304
                     : whole_blocks(d, 2208); // more than one block of tiles; rows of whole words of 16 bytes
        TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols);
        TestMatrix wide = test_matrix(&random, d, 3, cols);
        check_single_weights(&wide, 0);
    }
}

// ---- what is multiplied ----

// Bytes of a block that hold codes: [from, to).
static void code_bytes(Dtype d, uint32_t *from, uint32_t *to) {
    *from = d == DTYPE_Q2_K || d == DTYPE_Q4_K || d == DTYPE_Q5_K ? 16
            : d == DTYPE_IQ1_S                                    ? 2
            : d == DTYPE_IQ1_M                                    ? 0
                                                                  : 4;
    *to = d == DTYPE_Q2_K ? 80 : d == DTYPE_IQ1_S ? 34 : d == DTYPE_IQ1_M ? 32 : dtype_info(d)->block_bytes;
}

// Codes of a block that are 0. (The first entry of IQ1's codebook has only such.)
static void clear_codes(Dtype d, uint8_t *block) {
    uint32_t from, to;
    code_bytes(d, &from, &to);
    memset(block + from, 0, to - from);
    for (uint32_t i = 0; d == DTYPE_IQ1_S && i < 8; i++) // all but the scale and which side of the entry
        block[34 + 2 * i] = 0, block[35 + 2 * i] &= 0xF0;
    for (uint32_t i = 0; d == DTYPE_IQ1_M && i < 16; i++)
        block[32 + i] &= 0x88;
}

// The weights' minima: what the dequantiser makes of codes that are 0. Zeros where the format has none.
static float *minima(const TestMatrix *m) {
    const DtypeInfo *info = dtype_info(m->dtype);
    size_t n = (size_t)m->n_rows * m->n_cols;
    float *out = kernel_memory(n * sizeof *out);
    if (m->dtype != DTYPE_Q4_1 && m->dtype != DTYPE_Q5_1 && m->dtype != DTYPE_Q2_K &&
        m->dtype != DTYPE_Q4_K && m->dtype != DTYPE_Q5_K && m->dtype != DTYPE_IQ1_S &&
        m->dtype != DTYPE_IQ1_M)
        return out;
    size_t n_blocks = n / info->block_elements, size = n_blocks * info->block_bytes;
    uint8_t *file = memcpy(kernel_memory(size), m->file, size);
    for (size_t i = 0; i < n_blocks; i++)
        clear_codes(m->dtype, file + i * info->block_bytes);
    info->dequantize(file, out, n_blocks);
    return out;
}

// Scale and minimum are each rounded to f16 once where they are products, then the weight is: 2^-11 of each.
// Below f16's normal numbers a rounding is 2^-25 of the row's factor. What is no number stays none.
static bool weight_is_right(Dtype d, double expected, double low, double actual, double factor) {
    if (!isfinite(expected)) return !isfinite(actual);
    double allowed = fabs(expected) * 0x1p-11 + factor * 0x1p-24;
    if (dtype_info(d)->block_elements == 256)
        allowed += (fabs(expected - low) + fabs(low)) * 0x1.01p-11 + factor * 0x1p-24;
    return fabs(actual - expected) <= allowed;
}

static void check_weights(const TestMatrix *m, const uint8_t *tiles) {
    const float *actual = test_tile_weights(m, tiles), *min = minima(m);
    uint32_t wrong = 0;
    for (size_t i = 0; i < (size_t)m->n_rows * m->n_cols && wrong < 5; i++) {
        uint32_t row = (uint32_t)(i / m->n_cols);
        double w = (double)m->values[i], v = (double)actual[i];
        if (weight_is_right(m->dtype, w, (double)min[i], v, factor_of(m, tiles, row))) continue;
        wrong++;
        FAIL("row %u, column %u: %g, not %g", row, (uint32_t)(i % m->n_cols), v, w);
    }
}

TEST(kernel_tiles_multiply_what_the_file_says) {
    TestRandom random = {2};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        bool super = dtype_info(d)->block_elements == 256;
        uint32_t cols = FORMAT_IS_FLOAT((int)d) ? 301 : super ? 512 : whole_blocks(d, 352);
        TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols);
        TestMatrix m = test_matrix(&random, d, 37, cols);
        check_weights(&m, test_matrix_tiles(&m, 16));
    }
}

// ---- rows of every size ----

// Where a block's d is, and its m if it has one (0: none).
static void scale_places(Dtype d, uint32_t *scale, uint32_t *minimum) {
    *scale = d == DTYPE_Q2_K    ? 80
             : d == DTYPE_Q3_K  ? 108
             : d == DTYPE_Q6_K  ? 208
             : d == DTYPE_TQ1_0 ? 52
             : d == DTYPE_TQ2_0 ? 64
                                : 0;
    bool has_min =
        d == DTYPE_Q4_1 || d == DTYPE_Q5_1 || d == DTYPE_Q2_K || d == DTYPE_Q4_K || d == DTYPE_Q5_K;
    *minimum = has_min ? *scale + 2 : 0;
}

// Makes a block's scale (a float's value) some bits times 2^exponent, and its minimum 8 times that.
// Exponents past f16's make them infinite; 300 and more, not a number.
static void resize_block(TestRandom *random, const TestMatrix *m, uint8_t *block, int exponent) {
    float v = ldexpf(test_random_uniform(random, 1, 2), exponent);
    uint16_t half = f16_from_f32(v), eight = f16_from_f32(8 * v);
    uint32_t bits = f32_to_bits(exponent >= 300 ? NAN : v), scale, minimum;
    if (exponent >= 300) half = eight = 0x7E00;
    uint16_t brain = (uint16_t)(bits >> 16);
    if (m->dtype == DTYPE_F32) memcpy(block, &bits, 4);
    else if (m->dtype == DTYPE_BF16) memcpy(block, &brain, 2);
    else if (m->dtype == DTYPE_MXFP4) block[0] = (uint8_t)(exponent > 127 ? 255 : exponent + 127);
    else if (m->dtype == DTYPE_NVFP4) { // all that its scales can be: half the exponents
        int half_exponent = exponent < -14 ? 0 : exponent > 16 ? 15 : exponent / 2 + 7;
        for (uint32_t i = 0; i < 4; i++)
            block[i] = (uint8_t)(half_exponent << 3 | (int)(bits >> 20 & 7));
    } else if (m->dtype == DTYPE_IQ1_M) {
        for (uint32_t i = 0; i < 4; i++)
            block[49 + 2 * i] = (uint8_t)((block[49 + 2 * i] & 15) | (half >> 4 * i & 15) << 4);
    } else {
        scale_places(m->dtype, &scale, &minimum);
        memcpy(block + scale, &half, 2);
        if (minimum) memcpy(block + minimum, exponent > 12 ? &half : &eight, 2);
    }
}

// A row's blocks have exponents of `low` … `high`, but one in the middle.
typedef struct {
    const char *name;
    int low, high, middle;
    bool exact; // repacking rounds no scale: single weights are the dequantiser's, to the bit
} RowSizes;
static const RowSizes row_sizes[] = {
    {"usual", -12, -6, -9, true},        {"tiny", -24, -22, -24, true},
    {"huge", 15, 15, 15, true},          {"one huge", -12, -8, 15, false},
    {"one tiny", 0, 2, -24, false},      {"wide", -24, 15, -24, false},
    {"one infinite", -12, -6, 16, true}, {"no number", -12, -6, 300, true},
    {"all infinite", 16, 16, 16, true},  {"zeros", 0, 0, 0, true},
};

static const RowSizes *sizes_of(uint32_t row) {
    return &row_sizes[row % COUNT_OF(row_sizes)];
}
static bool is_zeros(uint32_t row) {
    return sizes_of(row)->name[0] == 'z';
}

static void resize_rows(TestRandom *random, TestMatrix *m) {
    const DtypeInfo *info = dtype_info(m->dtype);
    uint32_t n_blocks = m->n_cols / info->block_elements;
    int wider = m->dtype == DTYPE_F32 || m->dtype == DTYPE_BF16 ? 5 : 1; // than f16
    for (uint32_t r = 0; r < m->n_rows; r++) {
        const RowSizes *s = sizes_of(r);
        uint8_t *row = m->file + (size_t)r * n_blocks * info->block_bytes;
        if (is_zeros(r)) memset(row, 0, (size_t)n_blocks * info->block_bytes);
        for (uint32_t b = 0; b < n_blocks && !is_zeros(r); b++) {
            int exponent = (int)floorf(test_random_uniform(random, (float)s->low, (float)s->high + 0.99f));
            if (b == n_blocks / 2) exponent = s->middle;
            resize_block(random, m, row + (size_t)b * info->block_bytes, exponent * wider);
        }
    }
    info->dequantize(m->file, m->values, (size_t)m->n_rows * n_blocks);
}

// A rounded scale changes a weight by no more than what f16 has below its smallest normal number.
static bool single_is_right(const TestMatrix *m, double factor, bool exact, float expected, float actual) {
    if (!isfinite(expected)) return !isfinite(actual);
    if (!exact) return fabs((double)actual - (double)expected) <= factor * 0x1p-25;
    return memcmp(&expected, &actual, sizeof actual) == 0 ||
           (FORMAT_IS_FLOAT((int)m->dtype) && actual == expected);
}

static void check_sizes(const TestMatrix *m, const uint8_t *tiles) {
    const float *singles = tile_values(m, tiles);
    check_weights(m, tiles);
    for (uint32_t r = 0; r < m->n_rows; r++) {
        double factor = factor_of(m, tiles, r);
        CHECK(is_power_of_two(factor));
        if (is_zeros(r)) CHECK(factor == 1.0);
        // An exponent of 255 leaves the others below what f16 has.
        bool exact = sizes_of(r)->exact && (m->dtype != DTYPE_MXFP4 || factor < 0x1p100);
        for (uint32_t c = 0; c < m->n_cols; c++) {
            size_t i = (size_t)r * m->n_cols + c;
            if (m->dtype == DTYPE_F32 || m->dtype == DTYPE_BF16) continue; // rounded: check_weights
            if (single_is_right(m, factor, exact, m->values[i], singles[i])) continue;
            FAIL("row %u (%s): %a, not %a", r, sizes_of(r)->name, (double)singles[i], (double)m->values[i]);
            break;
        }
    }
}

TEST(kernel_tiles_take_scales_of_every_size) {
    TestRandom random = {3};
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        bool super = dtype_info(d)->block_elements == 256;
        uint32_t cols = FORMAT_IS_FLOAT((int)d) ? 97 : super ? 768 : whole_blocks(d, 160);
        TEST_CASE_LABEL("%s, %u columns", dtype_info(d)->name, cols);
        TestMatrix m = test_matrix(&random, d, 2 * COUNT_OF(row_sizes) + 1, cols);
        resize_rows(&random, &m);
        check_sizes(&m, test_matrix_tiles(&m, 0));
    }
}

// Every exponent with every code; and blocks of zeros, whose exponent does not count.
TEST(kernel_tiles_have_every_scale_and_code_of_mxfp4) {
    TestRandom random = {4};
    TestMatrix m = test_matrix(&random, DTYPE_MXFP4, 16, 17 * 32);
    const DtypeInfo *info = dtype_info(DTYPE_MXFP4);
    for (uint32_t b = 0; b < 16 * 17; b++) {
        uint8_t *block = m.file + b * info->block_bytes;
        bool zeros = b % 17 == 16;
        block[0] = zeros ? 255 : (uint8_t)(b / 17 * 16 + b % 17);
        for (uint32_t i = 0; i < 16; i++)
            block[1 + i] = zeros ? 0x80 : (uint8_t)(17 * (i ^ b % 16)); // each code twice
    }
    info->dequantize(m.file, m.values, 16 * 17);
    uint8_t *tiles = test_matrix_tiles(&m, 0);
    check_single_weights(&m, 0);
    check_weights(&m, tiles);
}
