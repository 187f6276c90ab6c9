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

#undef PACKED
