#include "model/dtype_codebooks.h"

#include "../kernels_src/codebooks.h"
#include "base/f16.h"
#include "model/dtype_blocks.h"

// An entry's number has as many bits as its codebook needs, so that each is inside. What several formats
// share is inlined into each; a product and a sum are each rounded (dtype.c).

enum { GROUPS = 8, GROUP = 32, ENTRY = 8 }; // a block is 8 groups of 32 elements, each 4 times 8

// ---- 8 neighbours ----
//
// As bytes of a word, the first in the lowest: four times as fast as one by one.

#define BYTES(value) (UINT64_C(0x0101010101010101) * (value))

// Codes of 2 bits; of two entries with 3 bits each, 12 bits an entry.
static inline uint64_t spread_twos(uint64_t codes) {
    codes = (codes | codes << 24) & UINT64_C(0x000000FF000000FF);
    codes = (codes | codes << 12) & UINT64_C(0x000F000F000F000F);
    return (codes | codes << 6) & BYTES(3);
}
static inline uint64_t spread_threes(uint64_t first, uint64_t second) {
    uint64_t codes = first | second << 32;
    codes = (codes | codes << 10) & UINT64_C(0x003F003F003F003F);
    return (codes | codes << 5) & BYTES(7);
}

// Bit i of `signs` makes magnitude i negative. Magnitudes are 1 … 127.
static inline void put_signed(uint64_t magnitudes, uint8_t signs, int8_t *restrict out) {
    uint64_t bits = BYTES(signs) & UINT64_C(0x8040201008040201);
    uint64_t is_negative = (((bits & BYTES(0x7F)) + BYTES(0x7F)) | bits) >> 7 & BYTES(1);
    uint64_t bytes = (magnitudes ^ is_negative * 0xFF) + is_negative;
    for (int i = 0; i < ENTRY; i++)
        out[i] = (int8_t)(bytes >> 8 * i);
}

// 8, 25 and 43.
static inline uint64_t iq2_magnitudes(uint16_t entry) {
    uint64_t codes = spread_twos(entry);
    return BYTES(8) + codes * 17 + (codes >> 1 & BYTES(1));
}
// 4, 12, … 52 and 62.
static inline uint64_t iq3_xxs_magnitudes(const uint8_t numbers[2]) {
    uint64_t codes = spread_threes(iq3_xxs_codebook[numbers[0]], iq3_xxs_codebook[numbers[1]]);
    return BYTES(4) + codes * 8 + ((codes + BYTES(1)) >> 2 & BYTES(2));
}
// 1, 3, … 15.
static inline uint64_t iq3_s_magnitudes(unsigned first, unsigned second) {
    return spread_threes(iq3_s_codebook[first], iq3_s_codebook[second]) * 2 + BYTES(1);
}

static inline void put_scaled(const int8_t *restrict codes, int count, float scale, float *restrict out) {
    for (int i = 0; i < count; i++)
        out[i] = (float)codes[i] * scale;
}

// -1, 0 and 1, an eighth more or less.
static inline void put_iq1(unsigned number, bool less, float scale, float *restrict out) {
    uint16_t entry = iq1_codebook[number];
    float eighth = less ? -0.125f : 0.125f;
    for (int i = 0; i < ENTRY; i++)
        out[i] = scale * ((float)((entry >> 2 * i & 3) - 1) + eighth);
}

// Seven bits of signs and their parity.
static inline uint8_t eight_signs(uint32_t seven) {
    seven &= 127;
    uint32_t parity = seven ^ seven >> 4;
    return (uint8_t)(seven | (0x6996u >> (parity & 15) & 1) << 7);
}

// ---- the formats ----

CPU_CLONES
void dequantize_iq2_xxs(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ2_XXS *block = (const BlockIQ2_XXS *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < GROUPS; g++, out += GROUP) {
            int8_t codes[GROUP];
            uint32_t signs = block->groups[g].signs;
            for (int i = 0; i < 4; i++) {
                uint16_t entry = iq2_xxs_codebook[block->groups[g].entries[i]];
                put_signed(iq2_magnitudes(entry), eight_signs(signs >> 7 * i), codes + ENTRY * i);
            }
            put_scaled(codes, GROUP, scale * (0.5f + (float)(signs >> 28)) * 0.25f, out);
        }
    }
}

// A group whose halves have a scale each.
static inline void put_halves(const int8_t *restrict codes, float scale, uint8_t sub, float *restrict out) {
    put_scaled(codes, GROUP / 2, scale * (0.5f + (float)(sub & 15)) * 0.25f, out);
    put_scaled(codes + GROUP / 2, GROUP / 2, scale * (0.5f + (float)(sub >> 4)) * 0.25f, out + GROUP / 2);
}

CPU_CLONES
void dequantize_iq2_xs(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ2_XS *block = (const BlockIQ2_XS *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < GROUPS; g++, out += GROUP) {
            int8_t codes[GROUP];
            for (int i = 0; i < 4; i++) {
                uint32_t entry = block->entries[4 * g + i];
                put_signed(iq2_magnitudes(iq2_xs_codebook[entry & 511]), eight_signs(entry >> 9),
                           codes + ENTRY * i);
            }
            put_halves(codes, scale, block->sub[g], out);
        }
    }
}

CPU_CLONES
void dequantize_iq2_s(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ2_S *block = (const BlockIQ2_S *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < GROUPS; g++, out += GROUP) {
            int8_t codes[GROUP];
            for (int i = 0; i < 4; i++) {
                unsigned number = block->entries[4 * g + i] | (block->high_bits[g] >> 2 * i & 3u) << 8;
                put_signed(iq2_magnitudes(iq2_s_codebook[number]), block->signs[4 * g + i],
                           codes + ENTRY * i);
            }
            put_halves(codes, scale, block->sub[g], out);
        }
    }
}

CPU_CLONES
void dequantize_iq3_xxs(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ3_XXS *block = (const BlockIQ3_XXS *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < GROUPS; g++, out += GROUP) {
            int8_t codes[GROUP];
            uint32_t signs = block->signs[g];
            for (int i = 0; i < 4; i++)
                put_signed(iq3_xxs_magnitudes(block->entries + 8 * g + 2 * i), eight_signs(signs >> 7 * i),
                           codes + ENTRY * i);
            put_scaled(codes, GROUP, scale * (0.5f + (float)(signs >> 28)) * 0.5f, out);
        }
    }
}

CPU_CLONES
void dequantize_iq3_s(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ3_S *block = (const BlockIQ3_S *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        float scale = f32_from_f16(block->scale);
        for (int g = 0; g < GROUPS; g++, out += GROUP) {
            int8_t codes[GROUP];
            const uint8_t *entries = block->entries + 8 * g;
            for (int i = 0; i < 4; i++) {
                unsigned high = block->high_bits[g] >> 2 * i;
                uint64_t magnitudes = iq3_s_magnitudes(entries[2 * i] | (high & 1) << 8,
                                                       entries[2 * i + 1] | (high >> 1 & 1) << 8);
                put_signed(magnitudes, block->signs[4 * g + i], codes + ENTRY * i);
            }
            int sub = block->sub[g / 2] >> g % 2 * 4 & 15;
            put_scaled(codes, GROUP, scale * (float)(1 + 2 * sub), out);
        }
    }
}

CPU_CLONES
void dequantize_iq1_s(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ1_S *block = (const BlockIQ1_S *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        for (int i = 0; i < 4 * GROUPS; i++, out += ENTRY) {
            unsigned high = block->high_bits[i / 4];
            float scale = f32_from_f16(block->scale) * (float)(2 * (high >> 12 & 7) + 1);
            put_iq1(block->entries[i] | (high >> i % 4 * 3 & 7) << 8, high >> 15, scale, out);
        }
    }
}

CPU_CLONES
void dequantize_iq1_m(const uint8_t *restrict blocks, float *restrict out, size_t n_blocks) {
    const BlockIQ1_M *block = (const BlockIQ1_M *)blocks;
    for (size_t b = 0; b < n_blocks; b++, block++) {
        unsigned bits = 0;
        for (int i = 0; i < 4; i++)
            bits |= (unsigned)(block->sub[i] >> 12) << 4 * i;
        float scale = f32_from_f16((uint16_t)bits);
        for (int i = 0; i < 4 * GROUPS; i++, out += ENTRY) {
            unsigned high = block->high_bits[i / 2] >> i % 2 * 4 & 15;
            int sub = block->sub[i / 8] >> i / 2 % 4 * 3 & 7;
            put_iq1(block->entries[i] | (high & 7) << 8, high >> 3, scale * (float)(2 * sub + 1), out);
        }
    }
}
