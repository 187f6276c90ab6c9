// Tiles of the formats whose codes are entries of codebooks (IQ1, IQ2, IQ3): tiles.cuh. Needs codebooks.h.
//
// A stage has its formats' codebooks in shared memory (product.cuh says where), each entry CODEBOOK_COPIES
// times side by side. A lane has one of the copies, so that few lanes ask the same banks: 32 random words of
// one copy come in three to four turns of the banks, while from global memory each line that they touch is a
// turn. Entries have a form with which little is left to do after a look-up:
//     IQ1       16 bits: the codes of even columns in the low byte, of odd ones in the high byte
//     IQ2 IQ3   a magnitude a byte: 8 columns, or 4. With bytes of signs four of them become two pairs, f16
//               subnormals (PRMT).
// Pairs 4 j … 4 j + 3 of a row's block are the 8 columns of group j. Instructions a weight: README.md.
//
// Defines: CODEBOOK_COPIES (1, a power of two up to 32).
#ifndef CODEBOOK_COPIES
#define CODEBOOK_COPIES 1
#endif

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
// Bytes of an entry in shared memory.
template <int format> LAYOUT_FN u32 entry_bytes() {
    return FORMAT_IS_IQ1(format) ? 2 : FORMAT_IS_IQ2(format) ? 8 : 4;
}
// Columns first … first + 3 of an entry, a magnitude a byte.
template <int format> DEVICE u32 entry_magnitudes(u32 entry, u32 first) {
    u32 word = 0;
    for (u32 i = 0; i < 4; i++) {
        u32 code = FORMAT_IS_IQ2(format) ? entry >> 2 * (first + i) & 3u : entry >> 3 * i & 7u;
        word |= (FORMAT_IS_IQ2(format)      ? (code == 0   ? 8u
                                               : code == 1 ? 25u
                                                           : 43u)
                 : format == FORMAT_IQ3_XXS ? magnitude_iq3_xxs(code)
                                            : 2 * code + 1)
                << 8 * i;
    }
    return word;
}
template <int format> DEVICE void store_entry(u8 *out, u32 e) {
    if (FORMAT_IS_IQ1(format)) { // 2 bits each: those of odd columns behind those of even ones
        u32 even = e & 0x3333u, odd = e >> 2 & 0x3333u;
        even = (even | even >> 2) & 0x0F0Fu, odd = (odd | odd >> 2) & 0x0F0Fu;
        *(u16 *)out = (u16)(((even | even >> 4) & 0xFFu) | ((odd | odd >> 4) & 0xFFu) << 8);
    } else if (FORMAT_IS_IQ2(format)) {
        *(uint2 *)out = {entry_magnitudes<format>(e, 0), entry_magnitudes<format>(e, 4)};
    } else {
        *(u32 *)out = entry_magnitudes<format>(e, 0);
    }
}

// By all n_threads of a block, which meets before an entry is looked up.
template <int format> DEVICE void load_codebook(u8 *out, u32 n_threads) {
    constexpr u32 bytes = entry_bytes<format>();
    for (u32 i = thread_index(); i < layout_codebook_bytes(format) / bytes; i += n_threads) {
        u32 entry = codebook_entry<format>(i);
        for (u32 copy = 0; copy < CODEBOOK_COPIES; copy++) { // neighbours begin at different banks
            store_entry<format>(out + (i * CODEBOOK_COPIES + (copy + i) % CODEBOOK_COPIES) * bytes, entry);
        }
    }
}

// This lane's copy of the format's codebook.
template <int format> DEVICE SharedPlace own_codebook() {
    u32 copy = lane_index() % CODEBOOK_COPIES * entry_bytes<format>();
    return shared_place(shared_memory() + codebook_at<format>() + copy);
}
// Bytes from the copy's begin to an entry.
template <int format> DEVICE u32 entry_at(u32 number) {
    return number * (entry_bytes<format>() * CODEBOOK_COPIES);
}
// The number of entry i of four: byte i of `low`, and of `high`, whose bytes are small.
DEVICE u32 entry_number(u32 low, u32 high, u32 i) {
    return look_up_bytes(low, high, 0xCC40u + 0x11u * i);
}

// ---- signs ----

// Of IQ2 and IQ3, those of columns 4 e … 4 e + 3 of group l, as the highest bits of bytes.
DEVICE u32 sign_bytes(u32 signs, u32 l, u32 e) {
    return signs << (e ? l : 4 + l) & 0x80808080u;
}
// The eighth signs of rows g and g + 8, in place of the four bits beside the signs: an even number of a
// group's are set.
DEVICE void complete_signs(u32 signs[2]) {
    u32 parity = permute_bytes(signs[0], signs[1], 0x5410) ^
                 (permute_bytes(signs[0], signs[1], 0x7632) & both_f16(0x0FFF));
    parity ^= parity >> 8;
    parity ^= parity >> 4;
    signs[0] = choose_bits(0x0FFFFFFFu, signs[0], parity << 28);
    signs[1] = choose_bits(0x0FFFFFFFu, signs[1], parity << 12);
}
// The four bits beside the signs, as bits 4-7 of halves: of row g, of row g + 8.
DEVICE u32 beside_signs(u32 g, u32 g8) {
    return permute_bytes(g, g8, 0x7733) & both_f16(0x00F0);
}

// Four magnitudes with their signs as two pairs of f16, 2^24 too small.
DEVICE u32 signed_pair(u32 magnitudes, u32 signs, u32 second) {
    return permute_bytes(magnitudes, signs, second ? 0x7362 : 0x5140);
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
    SharedPlace book;

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
    static constexpr bool WIDE = format == FORMAT_IQ2_XXS; // s: of a whole block
    u32 d, less, subs, high_bits, signs[2];
    u32 high[2]; // high bits of entries' numbers, a byte each
    u32 s[2];    // of row g, of g + 8: {of columns 0-15, of 16-31}; WIDE: {of row g, of g + 8}

    DEVICE void scales(const u8 *tile) {
        this->book = own_codebook<format>();
        d = plane_32(tile + this->D, lane_index() / 4);
        less = multiply_f16x2(d, both_f16(0xCC00)); // -16
        if (!WIDE) subs = plane_32(tile + this->SCALES, lane_index());
        if (format == FORMAT_IQ2_S) high_bits = plane_32(tile + this->SCALES + 128, lane_index());
    }
    DEVICE void half(const u8 *tile, u32 h) {
        EntryTile<format>::half(tile, h);
        signs[0] = this->word(0, 1), signs[1] = this->word(1, 1);
        if (format != FORMAT_IQ2_S) complete_signs(signs);
        if (WIDE) {
            u32 sub = beside_signs(this->word(0, 1), this->word(1, 1));
            s[0] = fma_f16x2(sub | both_f16(0x4C08), d, less);
            high[0] = high[1] = 0;
            return;
        }
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 n = 2 * h + up, sub = (n == 0 ? subs << 4 : subs >> (4 * n - 4)) & both_f16(0x00F0);
            if (format == FORMAT_IQ2_S) high[up] = high_bits >> 2 * n & 0x03030303u;
            else high[up] = (this->word(up, 1) >> 28) * 0x00204081u & 0x01010101u;
            s[up] = fma_f16x2(sub | both_f16(0x4C08), up ? high_f16x2(d) : low_f16x2(d),
                              up ? high_f16x2(less) : low_f16x2(less));
        }
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 up = 0; up < 2; up++) {
            u32 number = entry_number(this->word(up, 0), high[up], j);
            uint2 entry = load_shared_64(this->book, entry_at<format>(number));
            u32 both = s[WIDE ? 0 : up], v = low_f16x2(both);
            if (WIDE ? up == 1 : j >= 2) v = high_f16x2(both);
#pragma unroll
            for (u32 n = 0; n < 4; n++) {
                u32 codes = signed_pair(n / 2 ? entry.y : entry.x, sign_bytes(signs[up], j, n / 2), n % 2);
                fragment_of(a, up, n) = multiply_f16x2(codes, v);
            }
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 l = at.k / 8, n = at.k % 8, w = Iq2Tile::file_word(tile, at, 1), q = 2 * at.h + at.up;
        u32 number = byte_of(Iq2Tile::file_word(tile, at, 0), l), sub = w >> 28, all[2] = {w, w};
        if (format == FORMAT_IQ2_XS) number |= (w >> (28 + l) & 1u) << 8;
        if (format == FORMAT_IQ2_S)
            number |= (plane_32(tile + Iq2Tile::SCALES + 128, at.lane) >> (8 * l + 2 * q) & 3u) << 8;
        if (!WIDE) sub = plane_32(tile + Iq2Tile::SCALES, at.lane) >> (at.k / 16 * 16 + 4 * q) & 15u;
        if (format != FORMAT_IQ2_S) complete_signs(all);
        u32 code = codebook_entry<format>(number) >> 2 * n & 3u;
        float size = (float)(code == 0 ? 8 : code == 1 ? 25 : 43);
        float d = Iq2Tile::file_d(tile, at, factor) * (0.5f + (float)sub) * 0.25f;
        return (all[0] >> layout_sign_place(l, n) & 1u ? -size : size) * d;
    }
};
template <> struct Tile<FORMAT_IQ2_XXS> : Iq2Tile<FORMAT_IQ2_XXS> {};
template <> struct Tile<FORMAT_IQ2_XS> : Iq2Tile<FORMAT_IQ2_XS> {};
template <> struct Tile<FORMAT_IQ2_S> : Iq2Tile<FORMAT_IQ2_S> {};

// A scale is (sub + 1/2) d / 2, or (1 + 2 sub) d, for a block: 32 or 128 and that number has sub in its bits
// 4-7.
template <int format> struct Iq3Tile : EntryTile<format> {
    static constexpr bool S = format == FORMAT_IQ3_S;
    u32 d, less, subs, high_bits, signs[2];
    u32 high[2][2]; // high bits of entries' numbers, a byte each, of four at a time
    u32 s;          // {of row g, of g + 8}

    DEVICE void scales(const u8 *tile) {
        this->book = own_codebook<format>();
        d = plane_32(tile + this->D, lane_index() / 4);
        less = multiply_f16x2(d, both_f16(S ? 0xD800 : 0xD000));
        if (!S) return;
        high_bits = plane_32(tile + this->SCALES, lane_index());
        subs = plane_16(tile + this->SCALES + 128, lane_index());
    }
    DEVICE void half(const u8 *tile, u32 h) {
        EntryTile<format>::half(tile, h);
        u32 sub;
        if (!S) sub = beside_signs(this->word(0, 2), this->word(1, 2));
        else if (h) sub = (subs >> 4 & 0xF0u) | (subs << 8 & 0x00F00000u);
        else sub = (subs << 4 & 0xF0u) | (subs << 16 & 0x00F00000u);
        s = fma_f16x2(sub | both_f16(S ? 0x5808 : 0x5008), d, less);
        signs[0] = this->word(0, 2), signs[1] = this->word(1, 2);
        if (!S) complete_signs(signs);
#pragma unroll
        for (u32 n = 0; n < 4; n++) {
            high[n / 2][n % 2] = S ? high_bits >> (4 * h + n) & 0x01010101u : 0;
        }
    }
    DEVICE void pair(u32, u32 j, u32 a[2][4]) const {
#pragma unroll
        for (u32 n = 0; n < 4; n++) {
            u32 up = n / 2, e = n % 2, i = 2 * j + e;
            u32 number = entry_number(this->word(up, i / 4), high[up][i / 4], i % 4);
            u32 entry = load_shared_32(this->book, entry_at<format>(number));
            u32 minus = sign_bytes(signs[up], j, e);
            u32 v = up ? high_f16x2(s) : low_f16x2(s);
            fragment_of(a, up, 2 * e) = multiply_f16x2(signed_pair(entry, minus, 0), v);
            fragment_of(a, up, 2 * e + 1) = multiply_f16x2(signed_pair(entry, minus, 1), v);
        }
    }
    static DEVICE float value(const u8 *tile, const TilePlace &at, float factor) {
        u32 entry = at.k / 4, q = 2 * at.h + at.up, w = Iq3Tile::file_word(tile, at, 2), all[2] = {w, w};
        u32 number = byte_of(Iq3Tile::file_word(tile, at, entry / 4), entry % 4), sub = w >> 28;
        u32 high = 8 * (entry % 4) + 2 * q + entry / 4;
        if (S) number |= (plane_32(tile + Iq3Tile::SCALES, at.lane) >> high & 1u) << 8;
        u32 code = codebook_entry<format>(number) >> at.k % 4 * 3 & 7u;
        float size = (float)(S ? 2 * code + 1 : magnitude_iq3_xxs(code));
        if (S) sub = plane_16(tile + Iq3Tile::SCALES + 128, at.lane) >> 4 * q & 15u;
        else complete_signs(all);
        float d = Iq3Tile::file_d(tile, at, factor);
        d = S ? d * (float)(1 + 2 * sub) : d * (0.5f + (float)sub) * 0.5f;
        return (all[0] >> layout_sign_place(at.k / 8, at.k % 8) & 1u ? -size : size) * d;
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
        this->book = own_codebook<format>();
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
            u32 entry = load_shared_16(this->book, entry_at<format>(low | (bit << 8 & 0x700u)));
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
