// Weights in tiles (layout.h) as what the tensor cores multiply: A fragments of mma.m16n8k16, f16.
//
//     Tile<format> tile;
//     tile.scales(p);                 // p: a tile in shared or global memory
//     for each half h:
//         tile.half(p, h);            // the lane's codes of it; the memory is not read after the last one
//         for j = 0 … 3:
//             tile.pair(h, j, a);     // a[0], a[1]: steps 2j and 2j + 1 of the half
//
// All lanes of a warp call these; h and j are constants after unrolling, so that arrays are registers. The
// products' sums are times factor[row] what the file's weights give.
//
// A code lies in a word so that it is an f16 subnormal when it is masked: q 2^-24, or 2^n times that where
// it begins at bit n. One LOP3 takes two codes out, and one HFMA2 makes two weights of them: with s 2^24
// (divided by 2^n) and the minimum, or the codes' offset times s. What it adds is exact, so a weight is
// rounded once, and its scale once where a format has scales of scales. Sub-scales of 6 bits become numbers
// without a conversion: as bits 4-9 of an f16 whose exponent makes it 64 + scale, so that (64 + scale) * d -
// 64 * d is one HFMA2.
//
// Instructions a weight (sm_90a; scales and codes included, without loads): kernels_src/README.md.
// Host reference: the dequantiser of src/model/dtype.c; tests/test_kernel_tiles.c.

// ---- single codes ----

// A weight's place in its tile.
struct TilePlace {
    u32 h, up, lane, k; // half, row g or g + 8, lane, column of the lane's block
};
DEVICE TilePlace tile_place(u32 row, u32 col) {
    return {col / 128, row / 8 % 2, row % 8 * 4 + col % 128 / 32, col % 32};
}

template <int format> DEVICE u32 tile_code(const u8 *tile, const TilePlace &at) {
    constexpr u32 bits = layout_code_bits(format);
    u32 code = 0;
    for (u32 b = 0; b < bits; b++) {
        u32 place = layout_code_place(format, at.k, b);
        u32 word = *(const u32 *)(tile + layout_code_word_at(bits, at.h, at.up, at.lane, place / 32));
        code |= (word >> place % 32 & 1u) << b;
    }
    return code;
}

// ---- codes as f16 subnormals ----

LAYOUT_FN u32 both_f16(u32 bits) {
    return bits | bits << 16;
}

// The lane's words of a half.
template <int format> struct TileCodes {
    static constexpr u32 BYTES = layout_tile_bytes16(format);
    static constexpr u32 HALVES = layout_tile_cols(format) / 128;
    static constexpr u32 BITS = layout_code_bits(format);
    static constexpr u32 SCALES = layout_tile_scales_at(format);
    u32 words[2 * BITS];

    DEVICE void half(const u8 *tile, u32 h) {
        const u8 *p = tile + h * BITS * 256;
#pragma unroll
        for (u32 i = 0; i < BITS / 2; i++) {
            uint4 v = *(const uint4 *)(p + i * 512 + lane_index() * 16);
            words[4 * i] = v.x, words[4 * i + 1] = v.y, words[4 * i + 2] = v.z, words[4 * i + 3] = v.w;
        }
        if (BITS % 2) {
            uint2 v = *(const uint2 *)(p + BITS / 2 * 512 + lane_index() * 8);
            words[2 * BITS - 2] = v.x, words[2 * BITS - 1] = v.y;
        }
    }
    DEVICE u32 word(u32 up, u32 i) const {
        return words[layout_lane_word(BITS, up, i)];
    }
};

// Bit 15 of each half of two words, as two of the neighbouring bits that are 1 in the mask: bytes of the
// signs of {a low, b low, a high, b high}.
DEVICE u32 signs_of(u32 a, u32 b) {
    return look_up_bytes(a, b, 0xFBD9u);
}
DEVICE u32 choose_bits(u32 mask, u32 a, u32 b) {
    return (a & mask) | (b & ~mask);
}

// Pair i of a row as q * 2^-24 * 2^(level * SHIFT); level is Codes::level(i). SHIFT: how much further a code
// may begin than the one below it.
template <int format, u32 bits> struct PairCodes;

template <int format> struct PairCodes<format, 2> : TileCodes<format> {
    static constexpr u32 SHIFT = 2, LEVELS = 4;
    static constexpr DEVICE u32 level(u32 i) {
        return i % 4;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        u32 w = this->word(up, i / 8);
        return (i % 8 < 4 ? w : w >> 8) & both_f16(3u << i % 4 * 2);
    }
};
template <int format> struct PairCodes<format, 3> : TileCodes<format> {
    static constexpr u32 SHIFT = 3, LEVELS = 3;
    static constexpr DEVICE u32 level(u32 i) {
        return i == 15 ? 2 : i % 5 % 3;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        if (i == 15) {
            u32 signs = signs_of(this->word(up, 0), this->word(up, 1)); // bits 7, 8
            return choose_bits(both_f16(0x0180), signs, this->word(up, 2) >> 9) & both_f16(0x01C0);
        }
        u32 w = this->word(up, i / 5);
        return (i % 5 < 3 ? w : w >> 9) & both_f16(7u << i % 5 % 3 * 3);
    }
};
template <int format> struct PairCodes<format, 4> : TileCodes<format> {
    static constexpr u32 SHIFT = 4, LEVELS = 2;
    static constexpr DEVICE u32 level(u32 i) {
        return i % 2;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        u32 w = this->word(up, i / 4);
        return (i % 4 < 2 ? w : w >> 8) & both_f16(i % 2 ? 0x00F0 : 0x000F);
    }
};
template <int format> struct PairCodes<format, 5> : TileCodes<format> {
    static constexpr u32 SHIFT = 5, LEVELS = 2;
    static constexpr DEVICE u32 level(u32 i) {
        return i == 15 ? 1 : i % 3 % 2;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        if (i == 15) {
            u32 a = signs_of(this->word(up, 0), this->word(up, 1)); // bits 7, 8
            u32 b = signs_of(this->word(up, 2), this->word(up, 3)); // bits 6, 9
            u32 four = choose_bits(both_f16(0x0180), a, b);
            return choose_bits(both_f16(0x0020), this->word(up, 4) >> 10, four) & both_f16(0x03E0);
        }
        u32 w = this->word(up, i / 3);
        return (i % 3 < 2 ? w : w >> 10) & both_f16(i % 3 == 1 ? 0x03E0 : 0x001F);
    }
};
template <int format> struct PairCodes<format, 6> : TileCodes<format> {
    static constexpr u32 SHIFT = 4, LEVELS = 2;
    static constexpr DEVICE u32 level(u32 i) {
        return i % 8 / 6;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        u32 e = i / 8 * 3, p = i % 8;
        if (p < 6)
            return (p % 2 ? this->word(up, e + p / 2) >> 10 : this->word(up, e + p / 2)) & both_f16(0x3F);
        u32 low = this->word(up, e + 2) >> (p == 6 ? 2 : 4);
        return (this->word(up, e + p % 2) & both_f16(0x03C0)) | (low & both_f16(0x0030));
    }
};
template <int format> struct PairCodes<format, 8> : TileCodes<format> {
    static constexpr u32 SHIFT = 0, LEVELS = 1;
    static constexpr DEVICE u32 level(u32) {
        return 0;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        u32 w = this->word(up, i / 2);
        return i % 2 ? permute_bytes(w, 0, 0x4341) : w & both_f16(0x00FF);
    }
};

// Four values of IQ4_NL and IQ4_XS, each + 128, of the low four nibbles. The first table has those of the
// codes 0-7, + 255, and gives 255 (its highest bit eight times) for the others, which have their highest bit
// set; the second has those of 8-15, whose highest bit is clear in `turned`, and gives 0 for 0-7. So the sum
// is 255 and the value, and the constant takes off 127 a byte, and the carries.
DEVICE u32 iq4_values(u32 codes, u32 turned) {
    return look_up_bytes(in_register(0xBEAC9780u), 0xF5E9DCCEu, codes) +
           look_up_bytes(in_register(0x26190D01u), 0x71594535u, turned) + 0x80808081u;
}
// look_up_bytes as a shift and as a mask: through those the compiler sees which bits are wanted, and makes
// the sum and `turned` twice with fewer.
template <int format> struct Iq4Codes : TileCodes<format> {
    static constexpr u32 SHIFT = 0, LEVELS = 1;
    static constexpr DEVICE u32 level(u32) {
        return 0;
    }
    DEVICE u32 codes(u32 up, u32 i) const {
        u32 w = this->word(up, i / 4), turned = w ^ 0x88888888u;
        u32 values =
            i % 4 < 2 ? iq4_values(w, turned) : iq4_values(w >> 16, look_up_bytes(turned, 0, 0x4432));
        return look_up_bytes(values, 0, i % 2 ? 0x4341 : 0x4240);
    }
};
template <> struct PairCodes<FORMAT_IQ4_NL, 4> : Iq4Codes<FORMAT_IQ4_NL> {};
template <> struct PairCodes<FORMAT_IQ4_XS, 4> : Iq4Codes<FORMAT_IQ4_XS> {};

// ---- fragments ----

// Registers of a row's pairs 4j … 4j + 3 (up: row g + 8) in those of the two steps.
DEVICE u32 &fragment_of(u32 a[2][4], u32 up, u32 n) {
    return a[n / 2][n % 2 * 2 + up];
}

// s divided by 2^(SHIFT * level), for the codes of each level.
template <class Codes> DEVICE void divide_by_levels(u32 s, u32 levels[]) {
    levels[0] = s;
#pragma unroll
    for (u32 i = 1; i < Codes::LEVELS; i++) {
        levels[i] = multiply_f16x2(s, both_f16((15 - Codes::SHIFT * i) << 10));
    }
}

// A scale for a row's block, and an offset of all codes: s[h] is {of row g, of row g + 8}. OFFSET: f16, of
// codes as subnormals.
template <class Codes, u32 OFFSET> struct RowScaleTile : Codes {
    u32 s[Codes::HALVES], levels[Codes::LEVELS], offset;

    DEVICE void half(const u8 *tile, u32 h) {
        Codes::half(tile, h);
        divide_by_levels<Codes>(s[h], levels);
        offset = multiply_f16x2(s[h], both_f16(OFFSET));
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 4; n++) {
            u32 i = 4 * j + n, v = levels[Codes::level(i)];
            fragment_of(a, 0, n) = fma_f16x2(this->codes(0, i), low_f16x2(v), low_f16x2(offset));
            fragment_of(a, 1, n) = fma_f16x2(this->codes(1, i), high_f16x2(v), high_f16x2(offset));
        }
    }
};

// A scale and a minimum for a row's block: sm[h][up] is {scale, minimum}.
template <class Codes> struct ScaleMinTile : Codes {
    u32 sm[Codes::HALVES][2], levels[2][Codes::LEVELS];

    DEVICE void half(const u8 *tile, u32 h) {
        Codes::half(tile, h);
        divide_by_levels<Codes>(sm[h][0], levels[0]);
        divide_by_levels<Codes>(sm[h][1], levels[1]);
    }
    DEVICE void pair(u32 h, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            u32 up = n / 4, i = 4 * j + n % 4, v = levels[up][Codes::level(i)];
            fragment_of(a, up, n % 4) = fma_f16x2(this->codes(up, i), low_f16x2(v), high_f16x2(sm[h][up]));
        }
    }
};

// A scale for each 16 columns: s[h][up] and m[h][up] are {of columns 0-15, of columns 16-31}.
template <class Codes> struct GroupScaleTile : Codes {
    u32 s[Codes::HALVES][2], m[Codes::HALVES][2], levels[2][Codes::LEVELS];

    DEVICE void half(const u8 *tile, u32 h) {
        Codes::half(tile, h);
        divide_by_levels<Codes>(s[h][0], levels[0]);
        divide_by_levels<Codes>(s[h][1], levels[1]);
    }
    DEVICE void pair(u32 h, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            u32 up = n / 4, i = 4 * j + n % 4, v = levels[up][Codes::level(i)], w = m[h][up];
            fragment_of(a, up, n % 4) = i < 8 ? fma_f16x2(this->codes(up, i), low_f16x2(v), low_f16x2(w))
                                              : fma_f16x2(this->codes(up, i), high_f16x2(v), high_f16x2(w));
        }
    }
};

// ---- scales ----

// 16 and 32 bits of lane (or row) i of a plane.
DEVICE u32 plane_16(const u8 *plane, u32 i) {
    return ((const u16 *)plane)[i];
}
DEVICE u32 plane_32(const u8 *plane, u32 i) {
    return ((const u32 *)plane)[i];
}

// SIX of layout.h: the words of the halves, each with {a, b} of row g at bits 4-9 and 20-25, of row g + 8 at
// 10-15 and 26-31.
DEVICE void six_bit_words(const u8 *plane, u32 lane, u32 w[2]) {
    w[0] = plane_32(plane, lane);
    w[1] = (w[0] << 4 & 0x00F000F0u) | permute_bytes(plane_16(plane + 128, lane), 0, 0x1404);
}
DEVICE u32 six_bits_of(const u32 w[2], const TilePlace &at, u32 second) {
    return w[at.h] >> (4 + 6 * at.up + 16 * second) & 63u;
}

// 2^-24 of the scales, and the row's factor: what a stored d is of the file's.
DEVICE float stored_unit(float factor) {
    return factor * 0x1p-24f;
}
// One f16 of {low, high}.
DEVICE float side_f32(u32 v, u32 side) {
    return f16_to_f32((f16)(v >> 16 * side));
}

// ---- the formats ----
//
// value(): a weight as the file's dequantiser gives it, in the same f32 operations; `factor` is the row's.

template <int format> struct Tile;

// d of each block, and an offset: Q4_0 Q5_0 Q8_0.
template <int format, u32 OFFSET, i32 FIRST_CODE>
struct BlockScaleTile : RowScaleTile<PairCodes<format, layout_code_bits(format)>, OFFSET> {
    DEVICE void scales(const u8 *tile) {
        this->s[0] = plane_32(tile + this->SCALES, lane_index());
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float d = side_f32(plane_32(tile + layout_tile_scales_at(format), at.lane), at.up);
        return (float)((i32)tile_code<format>(tile, at) + FIRST_CODE) * (d * stored_unit(factor));
    }
};
// Offsets: -8, -16, -128 times 2^-24.
template <> struct Tile<FORMAT_Q4_0> : BlockScaleTile<FORMAT_Q4_0, 0x8008, -8> {};
template <> struct Tile<FORMAT_Q5_0> : BlockScaleTile<FORMAT_Q5_0, 0x8010, -16> {};
template <> struct Tile<FORMAT_Q8_0> : BlockScaleTile<FORMAT_Q8_0, 0x8080, -128> {};

DEVICE float iq4_value(u32 code) {
    return (float)((i32)(iq4_values(code, code ^ 0x8888u) & 255u) - 128);
}
template <> struct Tile<FORMAT_IQ4_NL> : BlockScaleTile<FORMAT_IQ4_NL, 0x8080, 0> {
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float d = side_f32(plane_32(tile + layout_tile_scales_at(FORMAT_IQ4_NL), at.lane), at.up);
        return iq4_value(tile_code<FORMAT_IQ4_NL>(tile, at)) * (d * stored_unit(factor));
    }
};

// Scales of 6 bits: 24 bits a lane.
template <> struct Tile<FORMAT_IQ4_XS> : RowScaleTile<PairCodes<FORMAT_IQ4_XS, 4>, 0x8080> {
    static DEVICE u32 sub_scales(const u8 *tile, u32 lane) {
        const u8 *plane = tile + layout_tile_scales_at(FORMAT_IQ4_XS);
        return plane_16(plane, lane) | (u32)plane[64 + lane] << 16;
    }
    DEVICE void scales(const u8 *tile) {
        u32 d = plane_32(tile + SCALES + 96, lane_index() / 4), bits = sub_scales(tile, lane_index());
        u32 first = (bits << 4 & 0x03F0u) | (bits << 14 & 0x03F00000u);
        u32 second = (bits >> 8 & 0x03F0u) | (bits << 2 & 0x03F00000u);
        s[0] = multiply_f16x2(add_f16x2(first | 0x54005400u, 0xD600D600u), d); // (64 + scale) - 96
        s[1] = multiply_f16x2(add_f16x2(second | 0x54005400u, 0xD600D600u), d);
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 dd = plane_32(tile + layout_tile_scales_at(FORMAT_IQ4_XS) + 96, at.lane / 4);
        i32 sub = (i32)(sub_scales(tile, at.lane) >> (12 * at.h + 6 * at.up) & 63u) - 32;
        float d = side_f32(dd, at.up) * stored_unit(factor) * (float)sub;
        return iq4_value(tile_code<FORMAT_IQ4_XS>(tile, at)) * d;
    }
};

// E2M1 floats: a code is the sign, exponent and mantissa bit of an f16, times 2^-14, where it is masked.
template <int format> struct E2m1Codes : TileCodes<format> {
    DEVICE u32 codes(u32 up, u32 i) const {
        u32 w = this->word(up, i / 4), p = i % 4;
        if (p < 2) return (p ? w << 8 : w) & both_f16(0x8E00);
        u32 bytes = (w >> 3 & 0x0E0E0E0Eu) | (w << 7 & 0x80808080u); // of pairs 2 and 3
        // Each by one instruction: of a mask the compiler makes three, out of `w`. (GPT-OSS-20B, one row: 936
        // tokens/s → 955.)
        return look_up_bytes(bytes, 0, p == 2 ? 0x3414 : 0x2404);
    }
    // Twice a code's value, which is a whole number.
    static DEVICE float twice(const u8 *tile, const TilePlace &at) {
        u32 code = tile_code<format>(tile, at), size = code & 7u;
        i32 v = (i32)(size < 5 ? size : size == 5 ? 6 : size == 6 ? 8 : 12);
        return (float)(code & 8u ? -v : v);
    }
};

// s: of row g, of g + 8, both halves the same.
template <> struct Tile<FORMAT_MXFP4> : E2m1Codes<FORMAT_MXFP4> {
    u32 s[2];

    DEVICE void scales(const u8 *tile) {
        u32 v = plane_16(tile + SCALES, lane_index());
        s[0] = permute_bytes(v, 0, 0x0404);
        s[1] = permute_bytes(v, 0, 0x1414);
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            fragment_of(a, n / 4, n % 4) = multiply_f16x2(codes(n / 4, 4 * j + n % 4), s[n / 4]);
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float scale = f16_to_f32((f16)(tile[SCALES + at.lane * 2 + at.up] << 8)) * 0x1p-15f * factor;
        return twice(tile, at) * scale;
    }
};

// A scale for each 16 columns: its byte is the high bits of an f16 that is 2^8 too small. Codes are 2^14 too
// small, so with scales 2^15 times larger weights are 2^-7 of the file's, and exact.
template <> struct Tile<FORMAT_NVFP4> : E2m1Codes<FORMAT_NVFP4> {
    u32 s[2]; // of row g, of g + 8: {of columns 0-15, of columns 16-31}

    DEVICE void scales(const u8 *tile) {
        u32 v = plane_32(tile + SCALES, lane_index());
        s[0] = multiply_f16x2(permute_bytes(v, 0, 0x4140) << 7, both_f16(0x7800));
        s[1] = multiply_f16x2(permute_bytes(v, 0, 0x4342) << 7, both_f16(0x7800));
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            u32 v = j < 2 ? low_f16x2(s[n / 4]) : high_f16x2(s[n / 4]);
            fragment_of(a, n / 4, n % 4) = multiply_f16x2(codes(n / 4, 4 * j + n % 4), v);
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float) {
        u32 byte = tile[SCALES + at.lane * 4 + at.up * 2 + at.k / 16];
        return twice(tile, at) * (f16_to_f32((f16)(byte << 7)) * 0x1p7f); // 2^8 and half
    }
};

// d and -d: the bit turns the sign of -d. minus: {of row g, of g + 8}.
template <> struct Tile<FORMAT_Q1_0> : TileCodes<FORMAT_Q1_0> {
    u32 minus;

    DEVICE void scales(const u8 *tile) {
        minus = plane_32(tile + SCALES, lane_index() / 4) ^ both_f16(0x8000);
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
        const u32 s[2] = {permute_bytes(minus, 0, 0x1010), permute_bytes(minus, 0, 0x3232)};
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            u32 i = 4 * j + n % 4;
            fragment_of(a, n / 4, n % 4) = (word(n / 4, 0) << i & both_f16(0x8000)) ^ s[n / 4];
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float d = side_f32(plane_32(tile + SCALES, at.lane / 4), at.up) * factor;
        return tile_code<FORMAT_Q1_0>(tile, at) ? d : -d;
    }
};

// Codes 0 … 3 less 1. Q2_0 has a d for 64 columns, TQ2_0 for 256.
template <int format, u32 LANES> struct TernaryTile : RowScaleTile<PairCodes<format, 2>, 0x8001> {
    DEVICE void scales(const u8 *tile) {
        u32 d = plane_32(tile + this->SCALES, lane_index() / LANES);
#pragma unroll
        for (u32 h = 0; h < this->HALVES; h++) {
            this->s[h] = d;
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float d = side_f32(plane_32(tile + layout_tile_scales_at(format), at.lane / LANES), at.up);
        return (float)((i32)tile_code<format>(tile, at) - 1) * (d * stored_unit(factor));
    }
};
template <> struct Tile<FORMAT_Q2_0> : TernaryTile<FORMAT_Q2_0, 2> {};
template <> struct Tile<FORMAT_TQ2_0> : TernaryTile<FORMAT_TQ2_0, 4> {};

// Digits to base 3 of bytes that are fractions: of byte b the first is 3 b / 256, and 3 b % 256 has the
// others. Two bytes at a time, as the low ones of halves, so that a digit is q * 2^-16 where it is masked;
// those of pair 15 are moved there.
template <> struct Tile<FORMAT_TQ1_0> : TileCodes<FORMAT_TQ1_0> {
    static constexpr u32 LAST = SCALES + 256, D = LAST + 64;
    u32 thirds, last, last_at; // pairs 10-14 of both rows; pair 15, and from where on the half has it
    u32 d, s, offset;

    DEVICE void scales(const u8 *tile) {
        d = plane_32(tile + D, lane_index() / 4);
        s = multiply_f16x2(d, both_f16(0x1C00)); // 2^-8
        offset = multiply_f16x2(d, both_f16(0x8001));
        last = permute_bytes(plane_16(tile + LAST, lane_index()), 0, 0x4140);
    }
    DEVICE void half(const u8 *tile, u32 h) {
        TileCodes::half(tile, h);
        thirds = plane_32(tile + SCALES + h * 128, lane_index());
        last_at = 4 * h;
    }
    // Digit n of the low bytes of halves.
    static DEVICE u32 digit(u32 bytes, u32 n) {
        const u32 power = n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81;
        u32 rest = n == 0 ? bytes : bytes * power & both_f16(0x00FF);
        return rest * 3 & both_f16(0x0300);
    }
    DEVICE u32 bytes_of(u32 up, u32 i) const {
        u32 w = i < 10 ? word(up, 0) : thirds, odd = i < 10 ? i / 5 : up;
        return look_up_bytes(w, 0, odd ? 0x4341 : 0x4240);
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            u32 up = n / 4, i = 4 * j + n % 4, side = up ? high_f16x2(s) : low_f16x2(s);
            u32 codes = digit(bytes_of(up, i), i % 5);
            if (i == 15) { // scaled as the others: to bits 8 and 9
                codes = last << (8 - last_at - 2 * up) & both_f16(0x0300);
            }
            fragment_of(a, up, n % 4) = fma_f16x2(codes, side, up ? high_f16x2(offset) : low_f16x2(offset));
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float d = side_f32(plane_32(tile + D, at.lane / 4), at.up) * stored_unit(factor);
        u32 i = at.k / 2, odd = at.k % 2, shift = 4 * at.h + 2 * at.up + 8 * odd;
        u32 first = plane_32(tile + at.h * 256, at.lane * 2 + at.up),
            third = plane_32(tile + SCALES + at.h * 128, at.lane);
        u32 byte = (i < 10 ? first >> (i / 5 * 8 + odd * 16) : third >> (at.up * 8 + odd * 16)) & 255u;
        u32 code = i < 15 ? digit(byte, i % 5) >> 8 : plane_16(tile + LAST, at.lane) >> shift & 3u;
        return (float)((i32)code - 1) * d;
    }
};

// d and m of each block: Q4_1 Q5_1.
template <int format> struct BlockMinTile : ScaleMinTile<PairCodes<format, layout_code_bits(format)>> {
    DEVICE void scales(const u8 *tile) {
        uint2 v = ((const uint2 *)(tile + this->SCALES))[lane_index()];
        this->sm[0][0] = v.x, this->sm[0][1] = v.y;
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 dm = plane_32(tile + layout_tile_scales_at(format), at.lane * 2 + at.up);
        float d = side_f32(dm, 0) * stored_unit(factor);
        return fma_f32((float)tile_code<format>(tile, at), d, side_f32(dm, 1) * factor);
    }
};
template <> struct Tile<FORMAT_Q4_1> : BlockMinTile<FORMAT_Q4_1> {};
template <> struct Tile<FORMAT_Q5_1> : BlockMinTile<FORMAT_Q5_1> {};

// Q4_K Q5_K. {64 + scale, 2^-4 + 2^-10 min} * {d, m} - {64 d, 2^-4 m}, m = 2^10 times the row's.
template <int format> struct SuperMinTile : ScaleMinTile<PairCodes<format, layout_code_bits(format)>> {
    DEVICE void scales(const u8 *tile) {
        u32 w[2], lane = lane_index();
        six_bit_words(tile + this->SCALES, lane, w);
        uint2 rows = ((const uint2 *)(tile + this->SCALES + 192))[lane / 4];
        const u32 d[2] = {rows.x, rows.y};
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 less = multiply_f16x2(d[up], 0xAC00D400u);
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                this->sm[h][up] = fma_f16x2((w[h] >> 6 * up & 0x03F003F0u) | 0x2C005400u, d[up], less);
            }
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        const u8 *plane = tile + layout_tile_scales_at(format);
        u32 w[2], dm = plane_32(plane + 192, at.lane / 4 * 2 + at.up);
        six_bit_words(plane, at.lane, w);
        float d = side_f32(dm, 0) * stored_unit(factor) * (float)six_bits_of(w, at, 0);
        float m = side_f32(dm, 1) * (factor * 0x1p-10f) * (float)six_bits_of(w, at, 1);
        return fma_f32((float)tile_code<format>(tile, at), d, m);
    }
};
template <> struct Tile<FORMAT_Q4_K> : SuperMinTile<FORMAT_Q4_K> {};
template <> struct Tile<FORMAT_Q5_K> : SuperMinTile<FORMAT_Q5_K> {};

// Scales and minima of 4 bits each: a lane's word of a row has, for columns 0-15 in the low half and 16-31
// in the high one, scale and min of the first half tile and of the second.
template <> struct Tile<FORMAT_Q2_K> : GroupScaleTile<PairCodes<FORMAT_Q2_K, 2>> {
    DEVICE void scales(const u8 *tile) {
        uint2 v = ((const uint2 *)(tile + SCALES))[lane_index()];
        uint2 rows = ((const uint2 *)(tile + SCALES + 256))[lane_index() / 4];
        const u32 w[2] = {v.x, v.y}, d[2] = {rows.x, rows.y};
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 less = multiply_f16x2(d[up], 0xAC00D400u), low = low_f16x2(d[up]), high = high_f16x2(d[up]);
            s[0][up] = fma_f16x2((w[up] << 4 & 0x00F000F0u) | 0x54005400u, low, low_f16x2(less));
            m[0][up] = fma_f16x2((w[up] & 0x00F000F0u) | 0x2C002C00u, high, high_f16x2(less));
            s[1][up] = fma_f16x2((w[up] >> 4 & 0x00F000F0u) | 0x54005400u, low, low_f16x2(less));
            m[1][up] = fma_f16x2((w[up] >> 8 & 0x00F000F0u) | 0x2C002C00u, high, high_f16x2(less));
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 sub = plane_32(tile + SCALES, at.lane * 2 + at.up) >> (at.k / 16 * 16 + at.h * 8);
        u32 dm = plane_32(tile + SCALES + 256, at.lane / 4 * 2 + at.up);
        float d = side_f32(dm, 0) * stored_unit(factor) * (float)(sub & 15u);
        float m2 = side_f32(dm, 1) * (factor * 0x1p-10f) * (float)(sub >> 4 & 15u);
        return fma_f32((float)tile_code<FORMAT_Q2_K>(tile, at), d, m2);
    }
};

template <> struct Tile<FORMAT_Q3_K> : GroupScaleTile<PairCodes<FORMAT_Q3_K, 3>> {
    DEVICE void scales(const u8 *tile) {
        u32 w[2], lane = lane_index(), d = plane_32(tile + SCALES + 192, lane / 4);
        six_bit_words(tile + SCALES, lane, w);
#pragma unroll
        for (u32 h = 0; h < 2; h++) {
#pragma unroll
            for (u32 up = 0; up < 2; up++) { // (64 + scale) - 96
                u32 sub = add_f16x2((w[h] >> 6 * up & 0x03F003F0u) | 0x54005400u, 0xD600D600u);
                s[h][up] = multiply_f16x2(sub, up ? high_f16x2(d) : low_f16x2(d));
                m[h][up] = multiply_f16x2(s[h][up], 0x80048004u); // -4 * 2^-24
            }
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 w[2];
        six_bit_words(tile + SCALES, at.lane, w);
        float d = side_f32(plane_32(tile + SCALES + 192, at.lane / 4), at.up) * stored_unit(factor);
        float sub = (float)((i32)six_bits_of(w, at, at.k / 16) - 32);
        return (float)((i32)tile_code<FORMAT_Q3_K>(tile, at) - 4) * (d * sub);
    }
};

template <> struct Tile<FORMAT_Q6_K> : GroupScaleTile<PairCodes<FORMAT_Q6_K, 6>> {
    DEVICE void scales(const u8 *tile) {
        uint2 v = ((const uint2 *)(tile + SCALES))[lane_index()];
        u32 d = plane_32(tile + SCALES + 256, lane_index() / 4);
#pragma unroll
        for (u32 h = 0; h < 2; h++) {
#pragma unroll
            for (u32 up = 0; up < 2; up++) { // (1024 + 128 + scale) - 1152
                u32 sub = permute_bytes(up ? v.y : v.x, 0x64646464u, h ? 0x4342 : 0x4140);
                s[h][up] = multiply_f16x2(add_f16x2(sub, 0xE480E480u), up ? high_f16x2(d) : low_f16x2(d));
                m[h][up] = multiply_f16x2(s[h][up], 0x80208020u); // -32 * 2^-24
            }
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        float d = side_f32(plane_32(tile + SCALES + 256, at.lane / 4), at.up) * stored_unit(factor);
        i32 sub = (i32)tile[SCALES + at.lane * 8 + at.up * 4 + at.h * 2 + at.k / 16] - 128;
        return (float)((i32)tile_code<FORMAT_Q6_K>(tile, at) - 32) * (d * (float)sub);
    }
};

// F16, and F32 and BF16, which are repacked to it.
template <int format> struct FloatTile : TileCodes<FORMAT_F16> {
    DEVICE void scales(const u8 *) {
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            fragment_of(a, n / 4, n % 4) = word(n / 4, 4 * j + n % 4);
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        return f16_to_f32((f16)tile_code<FORMAT_F16>(tile, at)) * factor;
    }
};
template <> struct Tile<FORMAT_F32> : FloatTile<FORMAT_F32> {};
template <> struct Tile<FORMAT_F16> : FloatTile<FORMAT_F16> {};
template <> struct Tile<FORMAT_BF16> : FloatTile<FORMAT_BF16> {};

// ---- single weights ----

// matrix: [n_rows][n_cols] in tiles. The dequantiser's value to the bit, wherever repacking rounded nothing
// (layout.h; F32 and BF16: what rounding to f16 left).
template <int format> DEVICE float tile_value(const u8 *matrix, u32 n_rows, u32 n_cols, u32 row, u32 col) {
    constexpr u32 cols = layout_tile_cols(format);
    const u8 *tile = matrix + layout_band_tile_at(format, n_cols, row / BAND_ROWS, col / cols);
    float factor = *(const float *)(matrix + layout_factor_at(format, n_rows, n_cols, row));
    return Tile<format>::value(tile, tile_place(row, col % cols), factor);
}
