#include "kernel_reference.h"

#include "base/f16.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const EmulatedStage *kernel_stage(const char *name, unsigned sm_arch) {
    const EmulatedStage *found = emulated_stages();
    while (found && (found->sm_arch != sm_arch || strcmp(found->name, name) != 0))
        found = found->next;
    if (!found) FAIL("no variant %s for sm_%u", name, sm_arch);
    REQUIRE(found != NULL);
    return found;
}

const EmulatedStage *kernel_stage_of(const char *kind, Dtype dtype, unsigned sm_arch) {
    char name[64];
    snprintf(name, sizeof name, "%s_%s", kind, dtype_info(dtype)->name);
    for (char *p = name; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
    return kernel_stage(name, sm_arch);
}

static uint32_t random_bits(TestRandom *r) {
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(r->state >> 33);
}

float test_random_uniform(TestRandom *r, float low, float high) {
    return low + (high - low) * ((float)(random_bits(r) >> 7) * 0x1p-24f);
}

float test_random_normal(TestRandom *r) {
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += test_random_uniform(r, -1, 1);
    return sum * 0.8660254f;
}

float *test_random_vector(TestRandom *r, size_t n, float mean, float deviation) {
    float *x = kernel_memory(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = mean + deviation * test_random_normal(r);
    return x;
}

double *kernel_doubles(size_t n) {
    return kernel_memory(n * sizeof(double));
}

static void put_f16(uint8_t *at, float value) {
    uint16_t h = f16_from_f32(value);
    memcpy(at, &h, sizeof h);
}

// Its scale's bits are the highest nibbles of the last four 16-bit numbers.
static void put_iq1_m(uint8_t *b, float value) {
    uint16_t h = f16_from_f32(value);
    for (int i = 0; i < 4; i++)
        b[49 + 2 * i] = (uint8_t)((b[49 + 2 * i] & 15) | (h >> 4 * i & 15) << 4);
}

// Random bits under scales that make weights of about 0.05.
static void random_block(TestRandom *r, Dtype dtype, uint8_t *b) {
    uint32_t size = dtype_info(dtype)->block_bytes;
    for (uint32_t i = 0; i < size; i++)
        b[i] = (uint8_t)random_bits(r);
    float s = test_random_uniform(r, 0.5f, 1.5f) * (random_bits(r) & 1 ? 0.01f : -0.01f);
    float value = test_random_normal(r) * 0.05f;
    uint32_t bits = f32_to_bits(value);
    uint16_t brain = (uint16_t)(bits >> 16);
    switch (dtype) {
    case DTYPE_F32: memcpy(b, &value, sizeof value); break;
    case DTYPE_F16: put_f16(b, value); break;
    case DTYPE_BF16: memcpy(b, &brain, sizeof brain); break;
    case DTYPE_Q4_1: put_f16(b, s), put_f16(b + 2, -7.3f * s); break;
    case DTYPE_Q5_1: put_f16(b, s / 2), put_f16(b + 2, -7.6f * s); break;
    case DTYPE_Q5_0: put_f16(b, s / 2); break;
    case DTYPE_Q8_0: put_f16(b, s / 16); break;
    case DTYPE_Q2_K: put_f16(b + 80, s / 6), put_f16(b + 82, s / 6); break;
    case DTYPE_Q3_K: put_f16(b + 108, s / 20); break;
    case DTYPE_Q4_K: put_f16(b, s / 30), put_f16(b + 2, s / 4); break;
    case DTYPE_Q5_K: put_f16(b, s / 60), put_f16(b + 2, s / 4); break;
    case DTYPE_Q6_K: put_f16(b + 208, s / 200); break;
    case DTYPE_IQ4_NL: put_f16(b, s / 16); break;
    case DTYPE_IQ4_XS: put_f16(b, s / 250); break;
    case DTYPE_MXFP4: b[0] = (uint8_t)(119 + b[0] % 4); break;
    case DTYPE_NVFP4:
        for (int i = 0; i < 4; i++)
            b[i] = (uint8_t)(2 + b[i] % 16);
        break;
    case DTYPE_TQ1_0: put_f16(b + 52, 5 * s); break;
    case DTYPE_TQ2_0: put_f16(b + 64, 5 * s); break;
    case DTYPE_Q1_0:
    case DTYPE_Q2_0: put_f16(b, 5 * s); break;
    case DTYPE_IQ1_S: put_f16(b, s / 2); break;
    case DTYPE_IQ1_M: put_iq1_m(b, s / 2); break;
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S: put_f16(b, s / 8); break;
    case DTYPE_IQ3_XXS: put_f16(b, s / 20); break;
    case DTYPE_IQ3_S: put_f16(b, s / 20); break;
    default: put_f16(b, s); break;
    }
}

TestMatrix test_matrix(TestRandom *random, Dtype dtype, uint32_t n_rows, uint32_t n_cols) {
    const DtypeInfo *info = dtype_info(dtype);
    size_t n_blocks = (size_t)n_rows * n_cols / info->block_elements;
    TestMatrix m = {dtype, n_rows, n_cols, kernel_memory(n_blocks * info->block_bytes),
                    kernel_memory((size_t)n_rows * n_cols * sizeof(float))};
    for (size_t i = 0; i < n_blocks; i++)
        random_block(random, dtype, m.file + i * info->block_bytes);
    test_matrix_update(&m);
    return m;
}

void test_matrix_update(TestMatrix *m) {
    const DtypeInfo *info = dtype_info(m->dtype);
    info->dequantize(m->file, m->values, (size_t)m->n_rows * m->n_cols / info->block_elements);
}

uint8_t *test_matrix_tiles(const TestMatrix *m, uint32_t piece_rows) {
    const EmulatedStage *repack = kernel_stage_of("tiles", m->dtype, 90);
    int format = (int)m->dtype;
    size_t size = layout_matrix_bytes(format, m->n_rows, m->n_cols);
    uint8_t *tiles = memset(kernel_memory(size), 0xA5, size);
    unsigned columns = CEIL_DIV(m->n_cols, (unsigned)REPACK_COLS);
    for (uint32_t row = 0; row < m->n_rows; row += piece_rows) {
        if (piece_rows == 0) piece_rows = m->n_rows;
        uint32_t n = MIN(piece_rows, m->n_rows - row);
        uint64_t row_bytes = dtype_row_bytes(m->dtype, m->n_cols);
        // Of the piece's own size, so that nothing behind it is read.
        uint8_t *piece = memcpy(kernel_memory(n * row_bytes), m->file + row * row_bytes, n * row_bytes);
        TileRepackArgs args = {DEVICE_ADDRESS(piece), DEVICE_ADDRESS(tiles), m->n_rows, m->n_cols, row, n};
        emulator_launch(repack->kernel, &args, layout_piece_bands(m->n_rows, row, n), columns,
                        repack->info.threads, repack->info.shared_bytes);
    }
    return tiles;
}

float *test_tile_weights(const TestMatrix *m, const uint8_t *tiles) {
    const EmulatedStage *stage = kernel_stage_of("tiles", m->dtype, 90);
    unsigned cols = layout_tile_cols((int)m->dtype), n_tiles = CEIL_DIV(m->n_cols, cols);
    unsigned bands = CEIL_DIV(m->n_rows, (unsigned)BAND_ROWS);
    uint16_t *values = kernel_memory((size_t)bands * BAND_ROWS * n_tiles * cols * sizeof *values);
    FragmentsArgs args = {tiles, values, m->n_rows, m->n_cols};
    emulator_launch(stage->fragments, &args, bands, n_tiles, 32, layout_codebook_bytes((int)m->dtype));
    float *out = kernel_memory((size_t)m->n_rows * m->n_cols * sizeof *out);
    for (uint32_t r = 0; r < m->n_rows; r++) {
        float factor;
        memcpy(&factor, tiles + layout_factor_at((int)m->dtype, m->n_rows, m->n_cols, r), sizeof factor);
        for (uint32_t c = 0; c < m->n_cols; c++)
            out[(size_t)r * m->n_cols + c] = f32_from_f16(values[(size_t)r * n_tiles * cols + c]) * factor;
    }
    return out;
}

void reference_matvec(const TestMatrix *w, const float *x, double *y) {
    for (uint32_t r = 0; r < w->n_rows; r++) {
        y[r] = 0;
        for (uint32_t c = 0; c < w->n_cols; c++)
            y[r] += (double)w->values[(size_t)r * w->n_cols + c] * (double)x[c];
    }
}

double reference_capped(double x, double cap) {
    return cap > 0 ? cap * tanh(x / cap) : x;
}

double relative_error(const double *expected, const float *actual, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)actual[i] - expected[i];
        difference += d * d;
        norm += expected[i] * expected[i];
    }
    return sqrt(difference / norm);
}

void kernel_check_error(const double *expected, const float *actual, size_t n, double limit) {
    double error = relative_error(expected, actual, n);
    if (!CHECK(error < limit)) FAIL("relative error %g, at most %g allowed", error, limit);
}

size_t kernel_activation_place(uint32_t max_rows, uint32_t row, uint32_t col) {
    uint32_t c = col % 128 / 32, k = col % 32; // lane, and its column
    // One row: a lane's 8 columns of two steps side by side, lane after lane.
    if (max_rows == 1) return col / 128 * 128 + k / 8 * 32 + 8 * c + k % 8;
    uint32_t place = 16 * (k / 4) + 8 * (k % 4 / 2) + 2 * c + k % 2, sheet = col / 128 * 2 + place / 64;
    return ((size_t)sheet * max_rows + row) * 64 + ((place % 64 / 8) ^ (row % 8)) * 8 + place % 8;
}
