// The block formats against values that the gguf package computed (vectors/README.md), and the table against
// itself.

#include "runner.h"

#include "base/cursor.h"
#include "base/f16.h"
#include "base/hash.h"
#include "guard.h"
#include "model/dtype.h"
#include "os/os.h"

#include <stdio.h>

enum { VECTOR_BLOCKS_MAX = 64 };

// The rows of the specification that a file's numbers come from.
TEST(dtype_rows_are_those_of_ggml) {
    static const struct {
        const char *name;
        uint32_t ggml_id, block_elements, block_bytes;
    } rows[] = {
        {"F32", 0, 1, 4},        {"F16", 1, 1, 2},         {"Q4_0", 2, 32, 18},      {"Q4_1", 3, 32, 20},
        {"Q5_0", 6, 32, 22},     {"Q5_1", 7, 32, 24},      {"Q8_0", 8, 32, 34},      {"Q2_K", 10, 256, 84},
        {"Q3_K", 11, 256, 110},  {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176},   {"Q6_K", 14, 256, 210},
        {"IQ4_NL", 20, 32, 18},  {"IQ4_XS", 23, 256, 136}, {"BF16", 30, 1, 2},       {"MXFP4", 39, 32, 17},
        {"NVFP4", 40, 64, 36},   {"TQ1_0", 34, 256, 54},   {"TQ2_0", 35, 256, 66},   {"Q1_0", 41, 128, 18},
        {"Q2_0", 42, 64, 18},    {"IQ1_S", 19, 256, 50},   {"IQ1_M", 29, 256, 56},   {"IQ2_XXS", 16, 256, 66},
        {"IQ2_XS", 17, 256, 74}, {"IQ2_S", 22, 256, 82},   {"IQ3_XXS", 18, 256, 98}, {"IQ3_S", 21, 256, 110},
    };
    CHECK_INT_EQ(DTYPE_COUNT, COUNT_OF(rows));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Dtype dtype;
        REQUIRE(dtype_from_ggml_id(rows[i].ggml_id, &dtype));
        const DtypeInfo *info = dtype_info(dtype);
        CHECK_STR_EQ(rows[i].name, info->name);
        CHECK_STR_EQ(rows[i].name, dtype_ggml_name(rows[i].ggml_id));
        CHECK_INT_EQ(rows[i].block_elements, info->block_elements);
        CHECK_INT_EQ(rows[i].block_bytes, info->block_bytes);
        CHECK(info->block_elements <= DTYPE_BLOCK_ELEMENTS_MAX);
        CHECK_U64_EQ(rows[i].block_bytes * 3, dtype_row_bytes(dtype, rows[i].block_elements * 3));
    }
}

TEST(dtype_knows_names_of_unsupported_ids) {
    static const struct {
        uint32_t ggml_id;
        const char *name;
    } rows[] = {{9, "Q8_1"}, {15, "Q8_K"}, {28, "F64"}, {38, "IQ4_NL_8_8"}, {43, NULL}, {UINT32_MAX, NULL}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%u", rows[i].ggml_id);
        Dtype dtype;
        CHECK(!dtype_from_ggml_id(rows[i].ggml_id, &dtype));
        CHECK_STR_EQ(rows[i].name, dtype_ggml_name(rows[i].ggml_id));
    }
}

// One entry of vectors/dequant.bin.
typedef struct {
    Dtype dtype;
    uint32_t n_blocks;
    size_t n_bytes, n_values;
    const uint8_t *blocks;
    const uint8_t *values; // float32, maybe unaligned
} VectorEntry;

static Cursor open_vectors(uint32_t *n_entries) {
    MappedFile file;
    Error err;
    REQUIRE(os_file_map(test_data_path("vectors/dequant.bin"), &file, &err));
    Cursor c = {.data = file.data, .size = file.size};
    const uint8_t *magic = cursor_take(&c, 4);
    REQUIRE(magic && memcmp(magic, "DQV1", 4) == 0);
    *n_entries = cursor_read_u32(&c);
    return c;
}

static VectorEntry next_entry(Cursor *c) {
    VectorEntry e = {0};
    REQUIRE(dtype_from_ggml_id(cursor_read_u32(c), &e.dtype));
    e.n_blocks = cursor_read_u32(c);
    CHECK_INT_EQ(dtype_info(e.dtype)->block_bytes, cursor_read_u32(c));
    CHECK_INT_EQ(dtype_info(e.dtype)->block_elements, cursor_read_u32(c));
    e.n_bytes = e.n_blocks * dtype_info(e.dtype)->block_bytes;
    e.n_values = e.n_blocks * dtype_info(e.dtype)->block_elements;
    e.blocks = cursor_take(c, e.n_bytes);
    (void)cursor_take(c, align_up(e.n_bytes, 4) - e.n_bytes);
    e.values = cursor_take(c, e.n_values * sizeof(float));
    REQUIRE(e.values && e.n_blocks <= VECTOR_BLOCKS_MAX);
    return e;
}

static void check_floats(const VectorEntry *e, const float *actual, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float expected;
        memcpy(&expected, e->values + i * sizeof expected, sizeof expected);
        if (f32_to_bits(expected) == f32_to_bits(actual[i])) continue;
        FAIL("element %zu: expected %a, found %a", i, (double)expected, (double)actual[i]);
        return;
    }
}

TEST(dtype_dequantizes_to_the_bit) {
    static float out[VECTOR_BLOCKS_MAX * DTYPE_BLOCK_ELEMENTS_MAX];
    uint32_t n_entries, seen = 0;
    Cursor c = open_vectors(&n_entries);
    for (uint32_t i = 0; i < n_entries; i++) {
        VectorEntry e = next_entry(&c);
        TEST_CASE_LABEL("%s", dtype_info(e.dtype)->name);
        seen |= 1u << e.dtype;
        dtype_info(e.dtype)->dequantize(e.blocks, out, e.n_blocks);
        check_floats(&e, out, e.n_values);
    }
    TEST_CASE_LABEL("%s", "");
    CHECK_INT_EQ((1u << DTYPE_COUNT) - 1, seen);
}

// A line of vectors/dequant_hashes.txt: the format's id, and the SHA-256 of the values of random blocks,
// whose scales are below 2: of each, bit 6 of the scale's high byte is clear (IQ1_M, whose scale is in
// several parts, and NVFP4: of the last byte).
static size_t scale_high_byte(Dtype dtype) {
    switch (dtype) {
    case DTYPE_TQ1_0: return 53;
    case DTYPE_TQ2_0: return 65;
    case DTYPE_IQ1_M:
    case DTYPE_NVFP4: return dtype_info(dtype)->block_bytes - 1;
    default: return 1;
    }
}

static void random_bytes(uint64_t state, uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(state >> 56);
    }
}

TEST(dtype_dequantizes_every_entry_of_codebooks) {
    enum { BLOCKS = 1024, LINE = 3 + 64 + 1 };
    static uint8_t blocks[BLOCKS * 256];
    static float values[BLOCKS * DTYPE_BLOCK_ELEMENTS_MAX];
    MappedFile file;
    Error err;
    REQUIRE(os_file_map(test_data_path("vectors/dequant_hashes.txt"), &file, &err));
    REQUIRE(file.size % LINE == 0 && file.size > 0);
    for (const uint8_t *line = file.data; line < file.data + file.size; line += LINE) {
        Dtype dtype;
        REQUIRE(dtype_from_ggml_id((line[0] - '0') * 10u + (line[1] - '0'), &dtype));
        const DtypeInfo *info = dtype_info(dtype);
        TEST_CASE_LABEL("%s", info->name);
        random_bytes(info->ggml_id, blocks, (size_t)BLOCKS * info->block_bytes);
        for (size_t i = 0; i < BLOCKS; i++)
            blocks[i * info->block_bytes + scale_high_byte(dtype)] &= 0xBF;
        info->dequantize(blocks, values, BLOCKS);
        Sha256 hash;
        uint8_t digest[32];
        char hex[65];
        sha256_begin(&hash);
        sha256_add(&hash, values, (size_t)BLOCKS * info->block_elements * sizeof *values);
        sha256_end(&hash, digest);
        for (int i = 0; i < 32; i++)
            snprintf(hex + 2 * i, 3, "%02x", digest[i]);
        CHECK(memcmp(hex, line + 3, 64) == 0);
    }
}

// For every number of blocks: nothing behind the input is read and nothing behind the output is written, at
// the odd addresses that an end flush with a page gives.
TEST(dtype_stays_within_its_blocks) {
    uint32_t n_entries;
    Cursor c = open_vectors(&n_entries);
    for (uint32_t i = 0; i < n_entries; i++) {
        VectorEntry e = next_entry(&c);
        const DtypeInfo *info = dtype_info(e.dtype);
        uint8_t *input = guard_allocate(e.n_bytes).end - e.n_bytes;
        float *output = (float *)(void *)guard_allocate(e.n_values * sizeof *output).end - e.n_values;
        for (uint32_t n = 0; n <= e.n_blocks; n++) {
            TEST_CASE_LABEL("%s, %u blocks", info->name, n);
            size_t skipped = e.n_blocks - n;
            memcpy(input + skipped * info->block_bytes, e.blocks, n * info->block_bytes);
            float *out = output + skipped * info->block_elements;
            if (skipped) out[-1] = 12345;
            info->dequantize(input + skipped * info->block_bytes, out, n);
            check_floats(&e, out, n * info->block_elements);
            if (skipped) CHECK_NEAR(12345, out[-1], 0);
        }
    }
}

// Every bit pattern of 16 bits, against the plain conversion.
TEST(dtype_16_bit_floats_agree_with_the_scalar_conversions) {
    static uint16_t halves[1 << 16];
    static float from_f16[1 << 16], from_bf16[1 << 16];
    for (uint32_t i = 0; i < 1 << 16; i++)
        halves[i] = (uint16_t)i;
    dtype_info(DTYPE_F16)->dequantize((const uint8_t *)halves, from_f16, 1 << 16);
    dtype_info(DTYPE_BF16)->dequantize((const uint8_t *)halves, from_bf16, 1 << 16);
    int wrong_f16 = 0, wrong_bf16 = 0;
    for (uint32_t i = 0; i < 1 << 16; i++) {
        wrong_f16 += f32_to_bits(from_f16[i]) != f32_to_bits(f32_from_f16((uint16_t)i));
        wrong_bf16 += f32_to_bits(from_bf16[i]) != i << 16;
    }
    CHECK_INT_EQ(0, wrong_f16);
    CHECK_INT_EQ(0, wrong_bf16);
}
