// Tiles of the formats whose codes are entries of codebooks (IQ1, IQ2, IQ3): tiles.cuh. Needs codebooks.h.
//
// A stage has its formats' codebooks in shared memory (product.cuh says where): a warp's 32 entries come in
// three to four turns of the banks, while from global memory each line that they touch is a turn. They have a
// form with which little is left to do after a look-up:
//     IQ1       16 bits an entry: the codes of even columns in the low byte, of odd ones in the high byte
//     IQ2       a word: a code a nibble, columns 0 2 1 3 4 6 5 7. With a sign in bit 2, four nibbles select
//               four values out of a table of eight bytes (PRMT).
//     IQ3       a word: a magnitude a byte, columns 0 2 1 3
// Pairs 4 j … 4 j + 3 of a row's block are the 8 columns of group j. Instructions a weight: README.md.

// Bytes from the begin of shared memory to the format's codebook.
template <int format> LAYOUT_FN u32 codebook_at();

// ---- entries ----

DEVICE u32 magnitude_iq3_xxs(u32 code) {
    return code == 7 ? 62u : 4 + 8 * code;
}
template <int format> DEVICE u32 codebook_entry(u32 number) {
    return FORMAT_IS_IQ1(format)      ? iq1_codebook[number]
           : format == FORMAT_IQ2_XXS ? iq2_xxs_codebook[number]
           : format == FORMAT_IQ2_XS  ? iq2_xs_codebook[number]
           : format == FORMAT_IQ2_S   ? iq2_s_codebook[number]
           : format == FORMAT_IQ3_XXS ? iq3_xxs_codebook[number]
                                      : iq3_s_codebook[number];
}
// The order of columns in words: those in the middle of four change places.
DEVICE u32 swap_middle_nibbles(u32 v) {
    return (v & 0xF00FF00Fu) | (v << 4 & 0x0F000F00u) | (v >> 4 & 0x00F000F0u);
}
template <int format> DEVICE u32 prepared_entry(u32 number) {
    u32 e = codebook_entry<format>(number);
    if (FORMAT_IS_IQ1(format)) { // 2 bits each: those of odd columns behind those of even ones
        u32 even = e & 0x3333u, odd = e >> 2 & 0x3333u;
        even = (even | even >> 2) & 0x0F0Fu, odd = (odd | odd >> 2) & 0x0F0Fu;
        return ((even | even >> 4) & 0xFFu) | ((odd | odd >> 4) & 0xFFu) << 8;
    }
    if (FORMAT_IS_IQ2(format)) {
        e = (e | e << 8) & 0x00FF00FFu, e = (e | e << 4) & 0x0F0F0F0Fu, e = (e | e << 2) & 0x33333333u;
        return swap_middle_nibbles(e);
    }
    u32 word = 0;
    for (u32 i = 0; i < 4; i++) {
        u32 code = e >> 3 * i & 7u, place = i == 1 ? 2 : i == 2 ? 1 : i;
        word |= (format == FORMAT_IQ3_XXS ? magnitude_iq3_xxs(code) : 2 * code + 1) << 8 * place;
    }
    return word;
}

// By all n_threads of a block, which meets before an entry is looked up.
template <int format> DEVICE void load_codebook(u8 *out, u32 n_threads) {
    const u32 size = FORMAT_IS_IQ1(format) ? 2 : 4;
    for (u32 i = thread_index(); i < layout_codebook_bytes(format) / size; i += n_threads) {
        if (size == 2) ((u16 *)out)[i] = (u16)prepared_entry<format>(i);
        else ((u32 *)out)[i] = prepared_entry<format>(i);
    }
}
template <int format> DEVICE u32 look_up_entry(u32 number) {
    const u8 *book = shared_memory() + codebook_at<format>();
    return FORMAT_IS_IQ1(format) ? ((const u16 *)book)[number] : ((const u32 *)book)[number];
}

// ---- signs ----

// Of IQ2 and IQ3, without the bits beside them: an even number of a group's are set.
DEVICE u32 complete_iq2_signs(u32 word) {
    u32 signs = word & 0x0FFFFFFFu, parity = signs ^ signs >> 16;
    parity ^= parity >> 8;
    return signs | (parity ^ parity >> 4) << 28;
}
DEVICE u32 complete_iq3_signs(u32 word) {
    u32 signs = word & 0xEEEEFFFFu, parity = signs ^ signs >> 16;
    parity ^= parity >> 2;
    return signs | ((parity ^ parity >> 1) << 16 & 0x11110000u);
}
// The four bits beside the signs of IQ3_XXS, as bits 4-7.
DEVICE u32 beside_iq3_signs(u32 word) {
    return (word >> 16 & 0x1111u) * 0x249u >> 5 & 0xF0u;
}

// ---- bits of a lane ----

// IQ1_M: 24 bits of scales, 3 from bit 12 h + 6 up + 3 e on.
DEVICE u32 iq1_m_subs(const u8 *plane, u32 lane) {
    return plane_16(plane, lane) | (u32)plane[64 + lane] << 16;
}
DEVICE u32 byte_of(u32 word, u32 i) {
    return word >> 8 * i & 255u;
}

// ---- the formats ----

template <int format> struct EntryTile : TileCodes<format> {
    // Where d is: behind all else.
    static constexpr u32 D = layout_tile_bytes16(format) - 32;

    static DEVICE float file_d(const u8 *tile, const TilePlace &at, float factor) {
        return side_f32(plane_32(tile + D, at.lane / 4), at.up) * stored_unit(factor);
    }
    static DEVICE u32 file_word(const u8 *tile, const TilePlace &at, u32 i) {
        return plane_32(tile + layout_code_word_at(TileCodes<format>::BITS, at.h, at.up, at.lane, i), 0);
    }
};

// A scale is (sub + 1/2) d / 4, for each 16 columns (IQ2_XXS: 32): 16 + that number has sub in its bits 4-7.
template <int format> struct Iq2Tile : EntryTile<format> {
    static constexpr bool WIDE = format == FORMAT_IQ2_XXS; // d and s: of a whole block
    u32 d, less, subs, high_bits, signs[2];
    u32 high[2];         // bits of entries' numbers
    u32 s[2], offset[2]; // of row g, of g + 8: {of columns 0-15, of 16-31}; WIDE: {of row g, of g + 8}

    DEVICE void scales(const u8 *tile) {
        d = plane_32(tile + this->D, lane_index() / 4);
        less = multiply_f16x2(d, both_f16(0xCC00)); // -16
        if (!WIDE) subs = plane_32(tile + this->SCALES, lane_index());
        if (format == FORMAT_IQ2_S) high_bits = plane_32(tile + this->SCALES + 128, lane_index());
    }
    DEVICE void half(const u8 *tile, u32 h) {
        EntryTile<format>::half(tile, h);
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 w = this->word(up, 1), n = 2 * h + up;
            signs[up] = format == FORMAT_IQ2_S ? w : complete_iq2_signs(w);
            if (format == FORMAT_IQ2_S) w = high_bits >> 8 * n;
            if (WIDE) continue;
            high[up] = w;
            u32 sub = (n == 0 ? subs << 4 : subs >> (4 * n - 4)) & both_f16(0x00F0);
            s[up] = fma_f16x2(sub | both_f16(0x4C08), up ? high_f16x2(d) : low_f16x2(d),
                              up ? high_f16x2(less) : low_f16x2(less));
            offset[up] = multiply_f16x2(s[up], both_f16(0x8080)); // -128 * 2^-24
        }
        if (!WIDE) return;
        u32 sub = permute_bytes(this->word(0, 1), this->word(1, 1), 0x7733) & both_f16(0x00F0);
        s[0] = fma_f16x2(sub | both_f16(0x4C08), d, less);
        offset[0] = multiply_f16x2(s[0], both_f16(0x8080));
    }
    DEVICE u32 number(u32 up, u32 j) const {
        u32 low = byte_of(this->word(up, 0), j);
        if (format == FORMAT_IQ2_XS) return low | (high[up] >> (20 + j) & 0x100u);
        if (format == FORMAT_IQ2_S) return low | (high[up] << (8 - 2 * j) & 0x300u);
        return low;
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 turned = j < 3 ? signs[up] << (2 - j) : signs[up] >> 1;
            u32 e = look_up_entry<format>(number(up, j)) ^ (turned & 0x44444444u);
            // 128 and 8, 25, 43 more or less.
            const u32 values[2] = {look_up_bytes(0x00AB9988u, 0x00556778u, e),
                                   look_up_bytes(0x00AB9988u, 0x00556778u, e >> 16)};
            bool second = WIDE ? up == 1 : j >= 2;
            u32 which = WIDE ? 0 : up;
            u32 v = second ? high_f16x2(s[which]) : low_f16x2(s[which]);
            u32 w = second ? high_f16x2(offset[which]) : low_f16x2(offset[which]);
#pragma unroll
            for (u32 n = 0; n < 4; n++) {
                u32 codes = look_up_bytes(values[n / 2], 0, n % 2 ? 0x4341 : 0x4240);
                fragment_of(a, up, n) = fma_f16x2(codes, v, w);
            }
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 l = at.k / 8, n = at.k % 8, place = n % 4 == 1 ? n + 1 : n % 4 == 2 ? n - 1 : n;
        u32 w = Iq2Tile::file_word(tile, at, 1), q = 2 * at.h + at.up;
        u32 number = byte_of(Iq2Tile::file_word(tile, at, 0), l), sub = w >> 28;
        if (format == FORMAT_IQ2_XS) number |= (w >> (28 + l) & 1u) << 8;
        if (format == FORMAT_IQ2_S)
            number |= (u32)(tile[Iq2Tile::SCALES + 128 + at.lane * 4 + q] >> 2 * l & 3) << 8;
        if (!WIDE) sub = plane_32(tile + Iq2Tile::SCALES, at.lane) >> (at.k / 16 * 16 + 4 * q) & 15u;
        u32 all = format == FORMAT_IQ2_S ? w : complete_iq2_signs(w);
        u32 code = codebook_entry<format>(number) >> 2 * n & 3u;
        float size = (float)(code == 0 ? 8 : code == 1 ? 25 : 43);
        float d = Iq2Tile::file_d(tile, at, factor) * (0.5f + (float)sub) * 0.25f;
        return (all >> (4 * place + l) & 1u ? -size : size) * d;
    }
};
template <> struct Tile<FORMAT_IQ2_XXS> : Iq2Tile<FORMAT_IQ2_XXS> {};
template <> struct Tile<FORMAT_IQ2_XS> : Iq2Tile<FORMAT_IQ2_XS> {};
template <> struct Tile<FORMAT_IQ2_S> : Iq2Tile<FORMAT_IQ2_S> {};

// A scale is (sub + 1/2) d / 2, or (1 + 2 sub) d, for a block: 32 or 128 and that number has sub in its bits
// 4-7.
template <int format> struct Iq3Tile : EntryTile<format> {
    static constexpr bool S = format == FORMAT_IQ3_S;
    u32 d, less, subs, high_bits, signs[2], s, high[2]; // s: {of row g, of g + 8}

    DEVICE void scales(const u8 *tile) {
        d = plane_32(tile + this->D, lane_index() / 4);
        less = multiply_f16x2(d, both_f16(S ? 0xD800 : 0xD000));
        if (!S) return;
        high_bits = plane_32(tile + this->SCALES, lane_index());
        subs = plane_16(tile + this->SCALES + 128, lane_index());
    }
    DEVICE void half(const u8 *tile, u32 h) {
        EntryTile<format>::half(tile, h);
        u32 sub;
        if (!S) sub = beside_iq3_signs(this->word(0, 2)) | beside_iq3_signs(this->word(1, 2)) << 16;
        else if (h) sub = (subs >> 4 & 0xF0u) | (subs << 8 & 0x00F00000u);
        else sub = (subs << 4 & 0xF0u) | (subs << 16 & 0x00F00000u);
        s = fma_f16x2(sub | both_f16(S ? 0x5808 : 0x5008), d, less);
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            signs[up] = S ? this->word(up, 2) : complete_iq3_signs(this->word(up, 2));
            if (S) high[up] = byte_of(high_bits, 2 * h + up);
        }
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            u32 up = n / 4, i = 4 * j + n % 4, entry = i / 2;
            u32 number = byte_of(this->word(up, entry / 4), entry % 4);
            if (S) number |= high[up] << (8 - entry) & 0x100u;
            u32 codes = look_up_bytes(look_up_entry<format>(number), 0, i % 2 ? 0x4341 : 0x4240);
            codes ^= signs[up] << i & both_f16(0x8000);
            fragment_of(a, up, n % 4) = multiply_f16x2(codes, up ? high_f16x2(s) : low_f16x2(s));
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 entry = at.k / 4, q = 2 * at.h + at.up, w = Iq3Tile::file_word(tile, at, 2);
        u32 number = byte_of(Iq3Tile::file_word(tile, at, entry / 4), entry % 4);
        if (S) number |= (u32)(tile[Iq3Tile::SCALES + at.lane * 4 + q] >> entry & 1) << 8;
        u32 code = codebook_entry<format>(number) >> at.k % 4 * 3 & 7u;
        float size = (float)(S ? 2 * code + 1 : magnitude_iq3_xxs(code));
        u32 sub =
            S ? plane_16(tile + Iq3Tile::SCALES + 128, at.lane) >> 4 * q & 15u : beside_iq3_signs(w) >> 4;
        float d = Iq3Tile::file_d(tile, at, factor);
        d = S ? d * (float)(1 + 2 * sub) : d * (0.5f + (float)sub) * 0.5f;
        u32 all = S ? w : complete_iq3_signs(w);
        return (all >> (at.k % 2 * 16 + 15 - at.k / 2) & 1u ? -size : size) * d;
    }
};
template <> struct Tile<FORMAT_IQ3_XXS> : Iq3Tile<FORMAT_IQ3_XXS> {};
template <> struct Tile<FORMAT_IQ3_S> : Iq3Tile<FORMAT_IQ3_S> {};

// A scale is (1 + 2 sub) d, for a block (IQ1_M: 16 columns): 16 and that number has sub in its bits 7-9. The
// codes of pair 4 j + n are q * 2^(2 n - 24), and have 1 too much, less or more an eighth.
template <int format> struct Iq1Tile : EntryTile<format> {
    static constexpr bool M = format == FORMAT_IQ1_M;
    u32 d, less, subs;
    uint2 bits;       // of rows g, g + 8
    u32 high[2];      // of this half
    u32 levels[2][4]; // of row g, of g + 8: {of columns 0-15, of 16-31}; IQ1_S: levels[0] has both rows'
    u32 offset;       // IQ1_S

    DEVICE void scales(const u8 *tile) {
        d = plane_32(tile + this->D, lane_index() / 4);
        less = multiply_f16x2(d, both_f16(0xCC00)); // -16
        bits = ((const uint2 *)(tile + this->SCALES))[lane_index()];
        if (M) subs = iq1_m_subs(tile + this->SCALES + 256, lane_index());
    }
    static DEVICE void divide(u32 s, u32 out[4]) {
        out[0] = s;
#pragma unroll
        for (u32 i = 1; i < 4; i++) {
            out[i] = multiply_f16x2(s, both_f16((15 - 2 * i) << 10));
        }
    }
    DEVICE void half(const u8 *tile, u32 h) {
        EntryTile<format>::half(tile, h);
        high[0] = h ? bits.x >> 16 : bits.x;
        high[1] = h ? bits.y >> 16 : bits.y;
        if (M) {
#pragma unroll
            for (u32 up = 0; up < 2; up++) {
                u32 sub = subs >> (12 * h + 6 * up);
                sub = (sub << 7 & 0x0380u) | (sub << 20 & 0x03800000u) | both_f16(0x4C40);
                divide(fma_f16x2(sub, up ? high_f16x2(d) : low_f16x2(d),
                                 up ? high_f16x2(less) : low_f16x2(less)),
                       levels[up]);
            }
        } else {
            u32 both = permute_bytes(bits.x, bits.y, h ? 0x7632 : 0x5410);
            divide(fma_f16x2((both >> 5 & both_f16(0x0380)) | both_f16(0x4C40), d, less), levels[0]);
            offset = multiply_f16x2(levels[0][3], less_or_more(both >> 11 & both_f16(0x0010)));
        }
    }
    // -1 and an eighth more or less, times 2^(6 - 24), as a subnormal. `less`: bit 4 of each half.
    static DEVICE u32 less_or_more(u32 less) {
        return both_f16(0x8038) + less;
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 low = byte_of(this->word(up, 0), j), bit = high[up] >> (M ? 4 * j : 3 * j);
            u32 entry = look_up_entry<format>(low | (bit << 8 & 0x700u));
            u32 codes = permute_bytes(entry, 0, 0x4140);
            bool second = M ? j >= 2 : up == 1;
            u32 w = offset;
            if (M) w = multiply_f16x2(levels[up][3], less_or_more((bit << 1 & 0x10u) * 0x10001u));
            w = second ? high_f16x2(w) : low_f16x2(w);
#pragma unroll
            for (u32 n = 0; n < 4; n++) {
                u32 v = levels[M ? up : 0][n];
                fragment_of(a, up, n) =
                    fma_f16x2(codes & both_f16(3u << 2 * n), second ? high_f16x2(v) : low_f16x2(v), w);
            }
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        const u8 *plane = tile + Iq1Tile::SCALES;
        u32 l = at.k / 8, all = plane_32(plane, at.lane * 2 + at.up) >> 16 * at.h & 0xFFFFu;
        u32 bit = all >> (M ? 4 * l : 3 * l), less = M ? bit >> 3 & 1u : all >> 15;
        u32 number = byte_of(Iq1Tile::file_word(tile, at, 0), l) | (bit & 7u) << 8;
        u32 sub = M ? iq1_m_subs(plane + 256, at.lane) >> (12 * at.h + 6 * at.up + at.k / 16 * 3) & 7u
                    : all >> 12 & 7u;
        float q = (float)((i32)(codebook_entry<format>(number) >> at.k % 8 * 2 & 3u) - 1);
        return Iq1Tile::file_d(tile, at, factor) * (float)(2 * sub + 1) * (q + (less ? -0.125f : 0.125f));
    }
};
template <> struct Tile<FORMAT_IQ1_S> : Iq1Tile<FORMAT_IQ1_S> {};
template <> struct Tile<FORMAT_IQ1_M> : Iq1Tile<FORMAT_IQ1_M> {};
