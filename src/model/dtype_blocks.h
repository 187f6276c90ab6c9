// The blocks of each quantised format as they lie in a file.
//
// Little-endian, unaligned. `scale` and `minimum` are float16 bits; where there are sub-scales (one for every
// 16 or 32 elements), the value of an element is scale * sub-scale * code, less minimum * sub-minimum in the
// formats that have one. Names follow the GGML project's block_… structures (ggml-common.h).
#pragma once

#include "base/base.h"

#define PACKED __attribute__((packed))

// ---- 32 elements a block: low nibbles are elements 0-15, high nibbles elements 16-31 ----

typedef struct PACKED { // (code - 8) * scale
    uint16_t scale;
    uint8_t nibbles[16];
} BlockQ4_0;

typedef struct PACKED { // code * scale + minimum
    uint16_t scale;
    uint16_t minimum;
    uint8_t nibbles[16];
} BlockQ4_1;

typedef struct PACKED { // (code - 16) * scale
    uint16_t scale;
    uint32_t fifth_bits; // bit i belongs to element i
    uint8_t nibbles[16];
} BlockQ5_0;

typedef struct PACKED { // code * scale + minimum
    uint16_t scale;
    uint16_t minimum;
    uint32_t fifth_bits;
    uint8_t nibbles[16];
} BlockQ5_1;

typedef struct PACKED { // code * scale
    uint16_t scale;
    int8_t codes[32];
} BlockQ8_0;

typedef struct PACKED { // table[code] * scale
    uint16_t scale;
    uint8_t nibbles[16];
} BlockIQ4_NL;

typedef struct PACKED { // an E2M1 float times 2^(exponent - 127): OCP Microscaling Formats 1.0
    uint8_t exponent;
    uint8_t nibbles[16];
} BlockMXFP4;

// ---- 64 and 128 elements a block ----

typedef struct PACKED {  // an E2M1 float times an E4M3 float without sign, for each 16 elements
    uint8_t scales[4];   // their highest bit does not count; 0x7F stands for 0
    uint8_t nibbles[32]; // 8 bytes for 16 elements: low nibbles are elements 0-7, high nibbles 8-15
} BlockNVFP4;

typedef struct PACKED { // scale where the element's bit is set, else -scale
    uint16_t scale;
    uint8_t bits[16]; // bit i % 8 of byte i / 8
} BlockQ1_0;

typedef struct PACKED { // (code - 1) * scale
    uint16_t scale;
    uint8_t pairs[16]; // two bits an element, from the low bits up
} BlockQ2_0;

// ---- 256 elements a block ----

typedef struct PACKED { // code * scale * sub - minimum * sub, in groups of 16 elements
    uint8_t sub[16];    // low nibble: of the scale; high nibble: of the minimum
    uint8_t pairs[64];  // two bits an element; byte 32 h + i holds elements 128 h + i, + 32, + 64, + 96
    uint16_t scale;
    uint16_t minimum;
} BlockQ2_K;

typedef struct PACKED {     // (code - 4) * scale * (sub - 32), in groups of 16 elements
    uint8_t third_bits[32]; // bit j of byte i belongs to element 32 j + i
    uint8_t pairs[64];      // as in Q2_K
    uint8_t sub[12];        // 16 of 6 bits: low nibbles in bytes 0-7, the two high bits in bytes 8-11
    uint16_t scale;
} BlockQ3_K;

typedef struct PACKED { // code * scale * sub - minimum * sub, in groups of 32 elements
    uint16_t scale;
    uint16_t minimum;
    uint8_t sub[12];      // 8 of the scale and 8 of the minimum, 6 bits each
    uint8_t nibbles[128]; // byte 32 g + i holds elements 64 g + i and 64 g + 32 + i
} BlockQ4_K;

typedef struct PACKED { // as Q4_K with a fifth bit
    uint16_t scale;
    uint16_t minimum;
    uint8_t sub[12];
    uint8_t fifth_bits[32]; // bit j of byte i belongs to element 32 j + i
    uint8_t nibbles[128];
} BlockQ5_K;

typedef struct PACKED {    // (code - 32) * scale * sub, in groups of 16 elements
    uint8_t nibbles[128];  // byte 64 h + i: elements 128 h + i and 128 h + 64 + i, for i < 64
    uint8_t high_bits[64]; // two bits an element, laid out as Q2_K's pairs
    int8_t sub[16];
    uint16_t scale;
} BlockQ6_K;

typedef struct PACKED { // table[code] * scale * (sub - 32), in groups of 32 elements
    uint16_t scale;
    uint16_t sub_high;    // two bits a group
    uint8_t sub_low[4];   // four bits a group
    uint8_t nibbles[128]; // 16 bytes a group, laid out as in IQ4_NL
} BlockIQ4_XS;

typedef struct PACKED { // (code - 1) * scale
    uint8_t fives[48];  // five elements a byte, below
    uint8_t fours[4];   // four: byte i holds elements 240 + i, + 4, + 8 and + 12
    uint16_t scale;
} BlockTQ1_0;
// Byte i < 32 of `fives` holds elements i, i + 32, … i + 128; byte 32 + i: 160 + i, + 16, … + 64. A byte
// b is a fraction b / 256, and its elements are that fraction's digits to base 3.

typedef struct PACKED { // (code - 1) * scale
    uint8_t pairs[64];  // as in Q2_K
    uint16_t scale;
} BlockTQ2_0;

// ---- 256 elements a block, 8 (IQ3: 4) neighbours of which are one entry of a codebook ----
//
// A group is 32 elements. Its entries' numbers have 8 low bits each, and further ones in `high_bits`. In the
// IQ2 and IQ3 formats an entry's values are magnitudes, and bit i of a byte of signs makes element i
// negative. Where there are 7 bits of signs, the eighth is such that an even number of elements is negative.

typedef struct PACKED { // entry * scale * (sub + 1/2) / 4
    uint16_t scale;
    struct PACKED {
        uint8_t entries[4];
        uint32_t signs; // 7 bits for each 8 elements, then 4 bits of sub
    } groups[8];
} BlockIQ2_XXS;

typedef struct PACKED { // entry * scale * (sub + 1/2) / 4
    uint16_t scale;
    uint16_t entries[32]; // 9 bits of an entry's number, then 7 of signs
    uint8_t sub[8];       // a byte a group: elements 0-15 in the low nibble, 16-31 in the high one
} BlockIQ2_XS;

typedef struct PACKED { // entry * scale * (sub + 1/2) / 4
    uint16_t scale;
    uint8_t entries[32];
    uint8_t signs[32];
    uint8_t high_bits[8]; // two bits an entry
    uint8_t sub[8];       // as in IQ2_XS
} BlockIQ2_S;

typedef struct PACKED { // entry * scale * (sub + 1/2) / 2
    uint16_t scale;
    uint8_t entries[64];
    uint32_t signs[8]; // as in IQ2_XXS
} BlockIQ3_XXS;

typedef struct PACKED { // entry * scale * (1 + 2 sub)
    uint16_t scale;
    uint8_t entries[64];
    uint8_t high_bits[8]; // a bit an entry
    uint8_t signs[32];
    uint8_t sub[4]; // a nibble a group
} BlockIQ3_S;

typedef struct PACKED { // (entry + 1/8) * scale * (1 + 2 sub); entry - 1/8 where the group's bit 15 is set
    uint16_t scale;
    uint8_t entries[32];
    uint16_t high_bits[8]; // three bits an entry, then 3 of sub, then that bit
} BlockIQ1_S;

typedef struct PACKED { // as IQ1_S, with a sub for each 16 elements and a bit for each 8
    uint8_t entries[32];
    uint8_t high_bits[16]; // a nibble an entry: three bits of its number, then that bit
    uint16_t sub[4];       // four of 3 bits; above them, the scale's nibbles from the lowest up
} BlockIQ1_M;

#undef PACKED
