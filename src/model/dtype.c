#include "model/dtype.h"

#include "base/f16.h"
#include "model/dtype_blocks.h"
#include "model/dtype_codebooks.h"

#include <assert.h>

// Loops have fixed counts and work on whole groups of 16 or 32, so that the compiler turns each into a few
// vector instructions (CPU_CLONES).

// GCC unrolls loops of 16 rounds before it looks for vectors, and then finds fewer: keeping them makes Q4_0 7
// times and Q6_K twice as fast.
#define KEEP_LOOP _Pragma("GCC unroll 1")

// A product and a sum are each rounded: -std=c17 does not fuse them, and the values must be GGML's to the
// bit.

enum { GROUP = 32, SUPER = 256 };

// ---- pieces ----

static inline void unpack_nibbles(const uint8_t *restrict nibbles, int8_t *restrict codes) {
    KEEP_LOOP
    for (int i = 0; i < 16; i++)
        codes[i] = (int8_t)(nibbles[i] & 15);
    KEEP_LOOP
    for (int i = 0; i < 16; i++)
        codes[16 + i] = (int8_t)(nibbles[i] >> 4);
}

// codes[i] = values[codes[i]] for codes 0-15. One byte shuffle a half; GCC finds that only when told (4 times
// as fast).
static inline void look_up_codes(const int8_t values[16], int8_t *codes) {
#if defined(__GNUC__) && !defined(__clang__)
    typedef int8_t Bytes __attribute__((vector_size(16)));
    Bytes table, half;
    memcpy(&table, values, sizeof table);
    for (int i = 0; i < GROUP; i += 16) {
        memcpy(&half, codes + i, sizeof half);
        half = __builtin_shuffle(table, half);
        memcpy(codes + i, &half, sizeof half);
    }
#else
    for (int i = 0; i < GROUP; i++)
        codes[i] = values[codes[i]];
#endif
}

static inline void put_scaled(const int8_t *restrict codes, int count, int offset, float scale,
                              float *restrict out) {
    for (int start = 0; start < count; start += 16, codes += 16, out += 16) {
        KEEP_LOOP
        for (int i = 0; i < 16; i++)
            out[i] = (float)(codes[i] + offset) * scale;
    }
}

static inline void put_scaled_plus(const int8_t *restrict codes, int count, float scale, float minimum,
                                   float *restrict out) {
    for (int start = 0; start < count; start += 16, codes += 16, out += 16) {
        KEEP_LOOP
        for (int i = 0; i < 16; i++)
            out[i] = (float)codes[i] * scale + minimum;
    }
}

// 32 codes whose fifth bits are apart: bit i belongs to code i. Formats without a minimum pass -0.0, which
// changes no value when it is added.
static inline void put_five_bits(const int8_t *restrict codes, uint32_t bits, int offset, float scale,
                                 float minimum, float *restrict out) {
    for (int start = 0; start < GROUP; start += 16, codes += 16, out += 16, bits >>= 16) {
        KEEP_LOOP
        for (int i = 0; i < 16; i++) {
            int code = codes[i] | (int)(bits >> i & 1) << 4;
            out[i] = (float)(code + offset) * scale + minimum;
        }
    }
}

// ---- floats ----

static void dequantize_f32(const uint8_t *blocks, float *out, size_t n_blocks) {
    memcpy(out, blocks, n_blocks * sizeof *out);
}

// f32_from_f16 without its branches. The exponent is corrected by a multiplication, which makes subnormals
// normal, too.
CPU_CLONES
static void dequantize_f16(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    for (size_t i = 0; i < n_blocks; i++) {
        uint16_t half;
        memcpy(&half, blocks + 2 * i, sizeof half);
        uint32_t magnitude = half & 0x7FFFu, sign = (half & 0x8000u) << 16;
        uint32_t finite = f32_to_bits(f32_from_bits(magnitude << 13) * 0x1p112f);
        uint32_t infinite = magnitude >= 0x7C00u ? 0x7F800000u : 0;
        out[i] = f32_from_bits(finite | infinite | sign);
    }
}

CPU_CLONES
static void dequantize_bf16(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    for (size_t i = 0; i < n_blocks; i++) {
        uint16_t brain;
        memcpy(&brain, blocks + 2 * i, sizeof brain);
        out[i] = f32_from_bf16(brain);
    }
}

// ---- blocks of 32 ----

CPU_CLONES
static void dequantize_q4_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ4_0 *block = (const BlockQ4_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP) {
        int8_t codes[GROUP];
        unpack_nibbles(block->nibbles, codes);
        put_scaled(codes, GROUP, -8, f32_from_f16(block->scale), out);
    }
}

CPU_CLONES
static void dequantize_q4_1(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ4_1 *block = (const BlockQ4_1 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP) {
        int8_t codes[GROUP];
        unpack_nibbles(block->nibbles, codes);
        put_scaled_plus(codes, GROUP, f32_from_f16(block->scale), f32_from_f16(block->minimum), out);
    }
}

CPU_CLONES
static void dequantize_q5_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ5_0 *block = (const BlockQ5_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP) {
        int8_t codes[GROUP];
        unpack_nibbles(block->nibbles, codes);
        put_five_bits(codes, block->fifth_bits, -16, f32_from_f16(block->scale), -0.0f, out);
    }
}

CPU_CLONES
static void dequantize_q5_1(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ5_1 *block = (const BlockQ5_1 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP) {
        int8_t codes[GROUP];
        unpack_nibbles(block->nibbles, codes);
        put_five_bits(codes, block->fifth_bits, 0, f32_from_f16(block->scale), f32_from_f16(block->minimum),
                      out);
    }
}

CPU_CLONES
static void dequantize_q8_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ8_0 *block = (const BlockQ8_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP)
        put_scaled(block->codes, GROUP, 0, f32_from_f16(block->scale), out);
}

// The levels of the IQ4 formats, from ggml-common.h (kvalues_iq4nl).
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

CPU_CLONES
static void dequantize_iq4_nl(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ4_NL *block = (const BlockIQ4_NL *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP) {
        int8_t codes[GROUP];
        unpack_nibbles(block->nibbles, codes);
        look_up_codes(iq4_values, codes);
        put_scaled(codes, GROUP, 0, f32_from_f16(block->scale), out);
    }
}

// Twice the sixteen E2M1 values, to have integers; the scale is halved for it. Code 8 is +0, as in GGML.
static const int8_t mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(exponent - 128): half of the block's scale. The two smallest are subnormal.
static inline float mxfp4_half_scale(uint8_t exponent) {
    return f32_from_bits(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
}

CPU_CLONES
static void dequantize_mxfp4(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockMXFP4 *block = (const BlockMXFP4 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += GROUP) {
        int8_t codes[GROUP];
        unpack_nibbles(block->nibbles, codes);
        look_up_codes(mxfp4_values, codes);
        put_scaled(codes, GROUP, 0, mxfp4_half_scale(block->exponent), out);
    }
}

// ---- blocks of 64 and 128 ----

// Half of an E4M3 float without sign: the values of MXFP4 are doubled. 0x7F stands for 0, 0xFF for 480.
static inline float nvfp4_half_scale(uint8_t scale) {
    int exponent = scale >> 3 & 15, mantissa = scale & 7;
    if (scale == 0x7F) return 0;
    if (exponent == 0) return (float)mantissa * 0x1p-10f;
    return f32_from_bits((uint32_t)(exponent + 127 - 8) << 23 | (uint32_t)mantissa << 20);
}

CPU_CLONES
static void dequantize_nvfp4(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockNVFP4 *block = (const BlockNVFP4 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        for (int half = 0; half < 2; half++, out += GROUP) {
            int8_t codes[GROUP];
            for (int i = 0; i < GROUP; i++) {
                uint8_t byte = block->nibbles[16 * half + i / 16 * 8 + i % 8];
                codes[i] = (int8_t)(i / 8 % 2 ? byte >> 4 : byte & 15);
            }
            look_up_codes(mxfp4_values, codes);
            put_scaled(codes, 16, 0, nvfp4_half_scale(block->scales[2 * half]), out);
            put_scaled(codes + 16, 16, 0, nvfp4_half_scale(block->scales[2 * half + 1]), out + 16);
        }
    }
}

CPU_CLONES
static void dequantize_q1_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ1_0 *block = (const BlockQ1_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += 128) {
        uint32_t negative = f32_to_bits(f32_from_f16(block->scale)) ^ 0x80000000u;
        for (int i = 0; i < 128; i++)
            out[i] = f32_from_bits(negative ^ (uint32_t)(block->bits[i / 8] >> i % 8) << 31);
    }
}

CPU_CLONES
static void dequantize_q2_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ2_0 *block = (const BlockQ2_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += 64) {
        int8_t codes[64];
        for (int i = 0; i < 64; i++)
            codes[i] = (int8_t)(block->pairs[i / 4] >> i % 4 * 2 & 3);
        put_scaled(codes, 64, -1, f32_from_f16(block->scale), out);
    }
}

// ---- blocks of 256 ----

// Two bits an element: byte 32 h + i holds elements 128 h + i, + 32, + 64 and + 96, from the low bits up.
static inline void unpack_pairs(const uint8_t *restrict pairs, int8_t *restrict codes) {
    for (int half = 0; half < 2; half++, pairs += 32)
        for (int shift = 0; shift < 8; shift += 2, codes += 32)
            for (int i = 0; i < 32; i++)
                codes[i] = (int8_t)(pairs[i] >> shift & 3);
}

// Nibbles of Q4_K and Q5_K: byte 32 g + i holds elements 64 g + i and 64 g + 32 + i.
static inline void unpack_super_nibbles(const uint8_t *restrict nibbles, int8_t *restrict codes) {
    for (int group = 0; group < 4; group++, nibbles += 32, codes += 64) {
        for (int i = 0; i < 32; i++)
            codes[i] = (int8_t)(nibbles[i] & 15);
        for (int i = 0; i < 32; i++)
            codes[32 + i] = (int8_t)(nibbles[i] >> 4);
    }
}

// The sub-scales and sub-minima of Q4_K and Q5_K, 6 bits each. Bytes 0-3 hold scales 0-3 and bytes 4-7 minima
// 0-3, each below the two high bits of number 4-7; bytes 8-11 hold the low nibbles of scales and minima 4-7.
static inline void unpack_sub(const uint8_t sub[12], uint8_t scales[8], uint8_t minima[8]) {
    for (int i = 0; i < 4; i++) {
        scales[i] = sub[i] & 63;
        minima[i] = sub[4 + i] & 63;
        scales[4 + i] = (uint8_t)((sub[8 + i] & 15) | sub[i] >> 6 << 4);
        minima[4 + i] = (uint8_t)(sub[8 + i] >> 4 | sub[4 + i] >> 6 << 4);
    }
}

CPU_CLONES
static void dequantize_q2_k(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ2_K *block = (const BlockQ2_K *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        unpack_pairs(block->pairs, codes);
        float scale = f32_from_f16(block->scale), minimum = f32_from_f16(block->minimum);
        for (int g = 0; g < 16; g++) {
            float group_scale = scale * (float)(block->sub[g] & 15);
            float group_minimum = minimum * (float)(block->sub[g] >> 4);
            put_scaled_plus(codes + 16 * g, 16, group_scale, -group_minimum, out + 16 * g);
        }
    }
}

CPU_CLONES
static void dequantize_q3_k(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ3_K *block = (const BlockQ3_K *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        unpack_pairs(block->pairs, codes);
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 32; i++)
                codes[32 * j + i] = (int8_t)(codes[32 * j + i] | (block->third_bits[i] >> j & 1) << 2);
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < 16; g++) {
            int low = block->sub[g % 8] >> g / 8 * 4 & 15, high = block->sub[8 + g % 4] >> g / 4 * 2 & 3;
            put_scaled(codes + 16 * g, 16, -4, scale * (float)((low | high << 4) - 32), out + 16 * g);
        }
    }
}

CPU_CLONES
static void dequantize_q4_k(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ4_K *block = (const BlockQ4_K *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        uint8_t scales[8], minima[8];
        unpack_super_nibbles(block->nibbles, codes);
        unpack_sub(block->sub, scales, minima);
        float scale = f32_from_f16(block->scale), minimum = f32_from_f16(block->minimum);
        for (int g = 0; g < 8; g++)
            put_scaled_plus(codes + 32 * g, 32, scale * scales[g], -(minimum * minima[g]), out + 32 * g);
    }
}

CPU_CLONES
static void dequantize_q5_k(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ5_K *block = (const BlockQ5_K *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        uint8_t scales[8], minima[8];
        unpack_super_nibbles(block->nibbles, codes);
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 32; i++)
                codes[32 * j + i] = (int8_t)(codes[32 * j + i] | (block->fifth_bits[i] >> j & 1) << 4);
        unpack_sub(block->sub, scales, minima);
        float scale = f32_from_f16(block->scale), minimum = f32_from_f16(block->minimum);
        for (int g = 0; g < 8; g++)
            put_scaled_plus(codes + 32 * g, 32, scale * scales[g], -(minimum * minima[g]), out + 32 * g);
    }
}

CPU_CLONES
static void dequantize_q6_k(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockQ6_K *block = (const BlockQ6_K *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        unpack_pairs(block->high_bits, codes);
        for (int half = 0; half < 2; half++) {
            int8_t *low = codes + 128 * half, *high = low + 64;
            const uint8_t *nibbles = block->nibbles + 64 * half;
            for (int i = 0; i < 64; i++)
                low[i] = (int8_t)(low[i] << 4 | (nibbles[i] & 15));
            for (int i = 0; i < 64; i++)
                high[i] = (int8_t)(high[i] << 4 | nibbles[i] >> 4);
        }
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < 16; g++)
            put_scaled(codes + 16 * g, 16, -32, scale * (float)block->sub[g], out + 16 * g);
    }
}

CPU_CLONES
static void dequantize_iq4_xs(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ4_XS *block = (const BlockIQ4_XS *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < 8; g++, out += GROUP) {
            int8_t codes[GROUP];
            unpack_nibbles(block->nibbles + 16 * g, codes);
            look_up_codes(iq4_values, codes);
            int low = block->sub_low[g / 2] >> g % 2 * 4 & 15, high = block->sub_high >> 2 * g & 3;
            put_scaled(codes, GROUP, 0, scale * (float)((low | high << 4) - 32), out);
        }
    }
}

// The first n_digits digits to base 3 of n_bytes fractions.
static inline void unpack_digits(const uint8_t *restrict bytes, int n_bytes, int n_digits,
                                 int8_t *restrict codes) {
    for (int digit = 0, power = 1; digit < n_digits; digit++, power *= 3, codes += n_bytes)
        for (int i = 0; i < n_bytes; i++)
            codes[i] = (int8_t)((uint8_t)(bytes[i] * power) * 3 >> 8);
}

CPU_CLONES
static void dequantize_tq1_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockTQ1_0 *block = (const BlockTQ1_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        unpack_digits(block->fives, 32, 5, codes);
        unpack_digits(block->fives + 32, 16, 5, codes + 160);
        unpack_digits(block->fours, 4, 4, codes + 240);
        put_scaled(codes, SUPER, -1, f32_from_f16(block->scale), out);
    }
}

CPU_CLONES
static void dequantize_tq2_0(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockTQ2_0 *block = (const BlockTQ2_0 *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++, out += SUPER) {
        int8_t codes[SUPER];
        unpack_pairs(block->pairs, codes);
        put_scaled(codes, SUPER, -1, f32_from_f16(block->scale), out);
    }
}

// ---- the table ----

static const DtypeInfo dtype_table[DTYPE_COUNT] = {
#define DTYPE_ROW(name, ggml_id, block_elements, block_bytes, dequantizer) \
    [DTYPE_##name] = {#name, ggml_id, block_elements, block_bytes, dequantizer},
    DTYPES(DTYPE_ROW)
#undef DTYPE_ROW
};

typedef float BlockF32;
typedef uint16_t BlockF16, BlockBF16;
#define DTYPE_CHECK(name, ggml_id, block_elements, block_bytes, dequantizer)                           \
    static_assert(sizeof(Block##name) == (block_bytes), #name ": the structure has the table's size"); \
    static_assert((block_elements) == 1 || SUPER % (block_elements) == 0,                              \
                  #name ": 256 columns are whole blocks");
DTYPES(DTYPE_CHECK)
#undef DTYPE_CHECK

// ggml_type ids without a row above, for messages. Gaps are ids that never meant anything or were never
// written.
static const char *const dtype_other_names[] = {
    [4] = "Q4_2",      [5] = "Q4_3",      [9] = "Q8_1",        [15] = "Q8_K",       [24] = "I8",
    [25] = "I16",      [26] = "I32",      [27] = "I64",        [28] = "F64",        [31] = "Q4_0_4_4",
    [32] = "Q4_0_4_8", [33] = "Q4_0_8_8", [36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8",
};

const DtypeInfo *dtype_info(Dtype dtype) {
    assert((unsigned)dtype < DTYPE_COUNT);
    return &dtype_table[dtype];
}

bool dtype_from_ggml_id(uint32_t ggml_id, Dtype *out) {
    for (unsigned i = 0; i < DTYPE_COUNT; i++) {
        if (dtype_table[i].ggml_id != ggml_id) continue;
        *out = (Dtype)i;
        return true;
    }
    return false;
}

const char *dtype_ggml_name(uint32_t ggml_id) {
    Dtype dtype;
    if (dtype_from_ggml_id(ggml_id, &dtype)) return dtype_table[dtype].name;
    return ggml_id < COUNT_OF(dtype_other_names) ? dtype_other_names[ggml_id] : NULL;
}
