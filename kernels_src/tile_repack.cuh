// Blocks as a GGUF file has them → tiles (layout.h, "Weights in tiles"), on the device, while the model is
// uploaded.
//
//     out = tiles and factors of the rows first_row … of a matrix [n_rows][n_cols]
//
// In pieces of whole rows: 16 at least, and any multiple (layout_piece_bands). Grid: [bands of the
// piece][columns / REPACK_COLS]. Each block looks through the scales of its band's 16 rows for their largest,
// which gives E; then each warp makes tiles, a lane what it will read of them. Defines: FORMAT. Shared
// memory: 64 bytes. Host reference: the dequantiser of src/model/dtype.c; tests/test_kernel_tiles.c.
#ifndef FORMAT
#error "FORMAT"
#endif

enum : u32 { REPACK_THREADS = 256 };

// ---- what a file's blocks are ----

LAYOUT_FN u32 file_block_bytes(int format) {
    return format == FORMAT_Q4_0                                ? 18
           : format == FORMAT_Q4_1                              ? 20
           : format == FORMAT_Q5_0                              ? 22
           : format == FORMAT_Q5_1                              ? 24
           : format == FORMAT_Q8_0                              ? 34
           : format == FORMAT_Q2_K                              ? 84
           : format == FORMAT_Q3_K                              ? 110
           : format == FORMAT_Q4_K                              ? 144
           : format == FORMAT_Q5_K                              ? 176
           : format == FORMAT_Q6_K                              ? 210
           : format == FORMAT_IQ4_NL                            ? 18
           : format == FORMAT_IQ4_XS                            ? 136
           : format == FORMAT_MXFP4                             ? 17
           : format == FORMAT_NVFP4                             ? 36
           : format == FORMAT_TQ1_0                             ? 54
           : format == FORMAT_TQ2_0 || format == FORMAT_IQ2_XXS ? 66
           : format == FORMAT_Q1_0 || format == FORMAT_Q2_0     ? 18
           : format == FORMAT_IQ1_S                             ? 50
           : format == FORMAT_IQ1_M                             ? 56
           : format == FORMAT_IQ2_XS                            ? 74
           : format == FORMAT_IQ2_S                             ? 82
           : format == FORMAT_IQ3_XXS                           ? 98
           : format == FORMAT_IQ3_S                             ? 110
           : format == FORMAT_F32                               ? 4
                                                                : 2;
}
LAYOUT_FN u32 file_block_cols(int format) {
    return FORMAT_IS_FLOAT(format)                           ? 1
           : layout_tile_cols(format) == 256                 ? 256
           : format == FORMAT_NVFP4 || format == FORMAT_Q2_0 ? 64
           : format == FORMAT_Q1_0                           ? 128
                                                             : 32;
}
// Where d is; dmin (or m) follows it.
LAYOUT_FN u32 file_scale_at(int format) {
    return format == FORMAT_Q2_K    ? 80
           : format == FORMAT_Q3_K  ? 108
           : format == FORMAT_Q6_K  ? 208
           : format == FORMAT_TQ1_0 ? 52
           : format == FORMAT_TQ2_0 ? 64
                                    : 0;
}
LAYOUT_FN bool format_has_min(int format) {
    return format == FORMAT_Q4_1 || format == FORMAT_Q5_1 || format == FORMAT_Q2_K || format == FORMAT_Q4_K ||
           format == FORMAT_Q5_K;
}
// A stored d is below 2^scale_top, a stored m below 2^16, and an m 2^min_shift times what it is in the tile.
LAYOUT_FN i32 scale_top(int format) {
    return format == FORMAT_Q6_K || format == FORMAT_IQ3_S                           ? 9
           : format == FORMAT_Q2_K || format == FORMAT_Q4_K || format == FORMAT_Q5_K ? 10
           : format == FORMAT_Q3_K || format == FORMAT_IQ4_XS                        ? 11
           : format == FORMAT_IQ3_XXS                                                ? 11
           : FORMAT_HAS_CODEBOOK(format)                                             ? 12
                                                                                     : 16;
}
LAYOUT_FN i32 min_shift(int format) {
    return layout_tile_cols(format) == 256 ? 10 : 0;
}

// The bits of d.
template <int format> DEVICE u32 file_scale(const u8 *b) {
    return format == FORMAT_IQ1_M ? file_iq1_m_scale(b) : file_16(b + file_scale_at(format));
}

// Code of column k of the block number j (of 32 columns) in b.
template <int format> DEVICE u32 file_code(const u8 *b, u32 j, u32 k) {
    const u32 low_at = format == FORMAT_Q5_1     ? 8
                       : format == FORMAT_Q5_0   ? 6
                       : format == FORMAT_Q4_1   ? 4
                       : format == FORMAT_MXFP4  ? 1
                       : format == FORMAT_IQ4_XS ? 8 + j * 16
                                                 : 2;
    const u32 pairs_at = format == FORMAT_Q3_K    ? 32
                         : format == FORMAT_Q2_K  ? 16
                         : format == FORMAT_TQ2_0 ? 0
                                                  : 128;
    if (format == FORMAT_Q8_0) return b[2 + k] ^ 0x80u;
    if (format == FORMAT_Q1_0) return b[2 + j * 4 + k / 8] >> k % 8 & 1u;
    if (format == FORMAT_Q2_0) return b[2 + j * 8 + k / 4] >> k % 4 * 2 & 3u;
    if (format == FORMAT_NVFP4) return b[4 + j * 16 + k / 16 * 8 + k % 8] >> k / 8 % 2 * 4 & 15u;
    if (format == FORMAT_Q4_K) return b[16 + j / 2 * 32 + k] >> j % 2 * 4 & 15u;
    if (format == FORMAT_Q5_K) {
        return (b[48 + j / 2 * 32 + k] >> j % 2 * 4 & 15u) | (b[16 + k] >> j & 1u) << 4;
    }
    if (layout_tile_cols(format) == 256 && format != FORMAT_IQ4_XS) {
        u32 pair = b[pairs_at + j / 4 * 32 + k] >> j % 4 * 2 & 3u;
        if (format == FORMAT_Q2_K || format == FORMAT_TQ2_0) return pair;
        if (format == FORMAT_Q3_K) return pair | (b[k] >> j & 1u) << 2;
        return pair << 4 | (b[j / 4 * 64 + j % 2 * 32 + k] >> j % 4 / 2 * 4 & 15u);
    }
    u32 low = k < 16 ? b[low_at + k] & 15u : b[low_at + k - 16] >> 4;
    bool five = layout_code_bits(format) == 5;
    return five ? low | (b[low_at - 4 + k / 8] >> k % 8 & 1u) << 4 : low;
}

// Sub-scale number i of 6 bits: scale and min of Q4_K and Q5_K's blocks (GGML's get_scale_min_k4).
DEVICE u32 file_sub_scale(const u8 *s, u32 i) {
    return i < 4 ? s[i] & 63u : (s[i + 4] & 15u) | (u32)(s[i - 4] >> 6) << 4;
}
DEVICE u32 file_sub_min(const u8 *s, u32 i) {
    return i < 4 ? s[i + 4] & 63u : (u32)(s[i + 4] >> 4) | (u32)(s[i] >> 6) << 4;
}
// Q3_K: the scale of 16 columns.
DEVICE u32 file_q3_scale(const u8 *s, u32 i) {
    return (s[i % 8] >> i / 8 * 4 & 15u) | (s[8 + i % 4] >> i / 4 * 2 & 3u) << 4;
}
DEVICE u32 file_iq4_scale(const u8 *b, u32 i) {
    return (b[4 + i / 2] >> i % 2 * 4 & 15u) | (file_16(b + 2) >> i * 2 & 3u) << 4;
}

// ---- E ----

// The larger of `largest` and the magnitude of a number's bits, if it is a number.
DEVICE u32 largest_f16(u32 largest, u32 bits) {
    u32 v = bits & 0x7FFFu;
    return v < 0x7C00u && v > largest ? v : largest;
}
DEVICE u32 largest_f32(u32 largest, u32 bits) {
    u32 v = bits & 0x7FFFFFFFu;
    return v < 0x7F800000u && v > largest ? v : largest;
}
// floor(log2) of a number that is not 0.
DEVICE i32 exponent_f32(float v) {
    i32 e = (i32)(bits_of(v) >> 23 & 255u);
    return e > 0 ? e - 127 : (i32)(bits_of(v * 0x1p32f) >> 23 & 255u) - 127 - 32;
}

struct Largest {
    u32 d, m; // bits; MXFP4: exponent + 1; NVFP4: of all scales
};
// Value number `index` of a float row, as f32.
template <int format> DEVICE float file_float(const u8 *row, u32 index) {
    return format == FORMAT_F32    ? ((const float *)row)[index]
           : format == FORMAT_BF16 ? bf16_to_f32(((const bf16 *)row)[index])
                                   : f16_to_f32(((const f16 *)row)[index]);
}
template <int format> DEVICE void look_at_block(const u8 *row, u32 index, Largest *most) {
    const u8 *b = row + (u64)index * file_block_bytes(format);
    if (format == FORMAT_MXFP4) { // blocks of zeros do not count
        u32 any = 0;
        for (u32 i = 0; i < 16; i++) {
            any |= b[1 + i] & 0x77u;
        }
        if (any != 0) most->d = MAX(most->d, b[0] + 1u);
    } else if (format == FORMAT_NVFP4) {
        most->d |= file_32(b);
    } else {
        most->d = largest_f16(most->d, file_scale<format>(b));
        if (format_has_min(format)) most->m = largest_f16(most->m, file_16(b + file_scale_at(format) + 2));
    }
}
// A word of a row of F32 or BF16.
template <int format> DEVICE void look_at_word(u32 word, Largest *most) {
    most->d = largest_f32(most->d, format == FORMAT_F32 ? word : word << 16);
    if (format == FORMAT_BF16) most->d = largest_f32(most->d, word & 0xFFFF0000u);
}
// By 16 threads, this one is number i: 16 bytes at a time, where rows allow that.
template <int format>
DEVICE void look_at_floats(const u8 *row, u32 n_cols, u64 row_bytes, u32 i, Largest *most) {
    constexpr u32 n = FORMAT_IS_FLOAT(format) ? 16 / file_block_bytes(format) : 1; // values in 16 bytes
    u32 whole = row_bytes % 16 == 0 ? n_cols / n : 0;
#pragma unroll 8
    for (u32 k = i; k < whole; k += 16) {
        uint4 v = ((const uint4 *)row)[k];
        look_at_word<format>(v.x, most), look_at_word<format>(v.y, most);
        look_at_word<format>(v.z, most), look_at_word<format>(v.w, most);
    }
    for (u32 k = whole * n + i; k < n_cols; k += 16) {
        most->d = largest_f32(most->d, bits_of(file_float<format>(row, k)));
    }
}
template <int format> DEVICE i32 row_exponent(Largest most) {
    if (format == FORMAT_F16 || format == FORMAT_Q1_0) return 0;
    if (format == FORMAT_NVFP4) return most.d == 0 ? 0 : 7;
    if (format == FORMAT_MXFP4) return most.d == 0 ? 0 : MAX((i32)most.d - 1 - 128, -126);
    if (FORMAT_IS_FLOAT(format)) return most.d == 0 ? 0 : MAX(exponent_f32(float_of(most.d)) - 14, -126);
    i32 e = -126;
    if (most.d != 0) e = 24 + exponent_f32(f16_to_f32((f16)most.d)) + 1 - scale_top(format);
    if (most.m != 0) e = MAX(e, exponent_f32(f16_to_f32((f16)most.m)) + min_shift(format) - 15);
    return e == -126 ? 0 : e;
}

// Rows of the matrix that the piece has, as the file has them.
struct FileRows {
    const u8 *in;
    u32 first_row, end_row, n_cols;
    u64 row_bytes;
    DEVICE const u8 *row(u32 r) const { // NULL past the last
        return r < end_row ? in + (r - first_row) * row_bytes : (const u8 *)0;
    }
};

// E of the rows of a band, by 16 threads each.
template <int format> DEVICE void find_exponents(const FileRows &rows, u32 band, i32 *exponents) {
    const u8 *row = rows.row(band * BAND_ROWS + thread_index() / 16);
    u32 n_blocks = rows.n_cols / file_block_cols(format);
    Largest most = {0, 0};
    if (row && format != FORMAT_F16) {
        u32 i = thread_index() % 16;
        if (FORMAT_IS_FLOAT(format)) look_at_floats<format>(row, rows.n_cols, rows.row_bytes, i, &most);
#pragma unroll 4
        for (u32 k = i; !FORMAT_IS_FLOAT(format) && k < n_blocks; k += 16) {
            look_at_block<format>(row, k, &most);
        }
    }
    for (u32 mask = 8; mask > 0; mask /= 2) {
        u32 d = shuffle_xor(most.d, mask), m = shuffle_xor(most.m, mask);
        most.d = MAX(most.d, d);
        most.m = MAX(most.m, m);
    }
    if (thread_index() % 16 == 0) exponents[thread_index() / 16] = row_exponent<format>(most);
    block_sync();
}

// 2^e, -126 <= e <= 127.
DEVICE float power_of_2(i32 e) {
    return float_of((u32)(e + 127) << 23);
}

// ---- codes ----

// Places of a block's codes, made while this is compiled.
template <int format> struct CodePlaces {
    static constexpr u32 BITS = layout_code_bits(format);
    u16 of[BLOCK_WEIGHTS][BITS];
    bool together[BLOCK_WEIGHTS]; // a code's bits lie one after the other
    LAYOUT_INLINE constexpr CodePlaces() : of(), together() {
        for (u32 k = 0; k < BLOCK_WEIGHTS; k++) {
            for (u32 b = 0; b < BITS; b++) {
                of[k][b] = (u16)layout_code_place(format, k, b);
            }
            together[k] = of[k][BITS - 1] == of[k][0] + BITS - 1;
        }
    }
};

// The words of a row's block from its codes.
template <int format, class Code> DEVICE void pack_codes(Code code, u32 words[]) {
    constexpr CodePlaces<format> places;
#pragma unroll
    for (u32 k = 0; k < BLOCK_WEIGHTS; k++) {
        u32 q = code(k), place = places.of[k][0];
        if (places.together[k]) {
            words[place / 32] |= q << place % 32;
            continue;
        }
#pragma unroll
        for (u32 b = 0; b < places.BITS; b++) {
            place = places.of[k][b];
            words[place / 32] |= (q >> b & 1u) << place % 32;
        }
    }
}

// Of one row and half: what the lane reads of it.
struct RowPart {
    u8 *tile;
    u32 lane, h, up;
    u32 col;       // of the matrix: where the lane's block begins
    const u8 *row; // or NULL
    i32 exponent;
};

template <int format> DEVICE void write_codes(const FileRows &rows, const RowPart &p) {
    constexpr u32 bits = layout_code_bits(format), cols = file_block_cols(format);
    u32 words[bits] = {};
    if (p.row && p.col < rows.n_cols) {
        const u8 *b = p.row + (u64)(p.col / cols) * file_block_bytes(format);
        u32 j = p.col % cols / BLOCK_WEIGHTS;
        if constexpr (FORMAT_HAS_CODEBOOK(format)) {
            file_words<format>(b, j, words);
        } else if constexpr (format == FORMAT_TQ1_0) {
            words[0] = tq1_fraction(b, j, 0, 0) | tq1_fraction(b, j, 5, 0) << 8 |
                       tq1_fraction(b, j, 0, 1) << 16 | tq1_fraction(b, j, 5, 1) << 24;
        } else if constexpr (FORMAT_IS_FLOAT(format)) {
            float scale = power_of_2(-p.exponent);
            pack_codes<format>(
                [&](u32 k) -> u32 {
                    u32 index = p.col + k;
                    if (index >= rows.n_cols) return 0;
                    if (format == FORMAT_F16) return ((const u16 *)p.row)[index];
                    return f32_to_f16(file_float<format>(p.row, index) * scale);
                },
                words);
        } else {
            pack_codes<format>([&](u32 k) { return file_code<format>(b, j, k); }, words);
        }
    }
#pragma unroll
    for (u32 i = 0; i < bits; i++) {
        *(u32 *)(p.tile + layout_code_word_at(bits, p.h, p.up, p.lane, i)) = words[i];
    }
}

// ---- scales ----

// An f16 times 2^e.
DEVICE f16 scaled_f16(u32 bits, i32 e) {
    return f32_to_f16(f16_to_f32((f16)bits) * power_of_2(e));
}
// d, and with a min {d, m}, as stored. K-quants subtract their min.
template <int format> DEVICE u32 stored_scale(const u8 *b, i32 exponent) {
    u32 d = scaled_f16(file_scale<format>(b), (format == FORMAT_Q1_0 ? 0 : 24) - exponent);
    if (!format_has_min(format)) return d;
    u32 minus = layout_tile_cols(format) == 256 ? 0x8000u : 0;
    return d | (u32)scaled_f16(file_16(b + file_scale_at(format) + 2) ^ minus, min_shift(format) - exponent)
                   << 16;
}

// Of the lane's blocks in a tile: rows g and g + 8, and in tiles of 256 columns both halves of them.
struct LaneBlocks {
    u8 *plane; // the tile's scales
    u32 lane;
    const u8 *block[2]; // of rows g, g + 8; or NULL
    i32 exponent[2];
};

template <int format> DEVICE u32 lane_scale(const LaneBlocks &p, u32 up) {
    return p.block[up] ? stored_scale<format>(p.block[up], p.exponent[up]) : 0;
}
// {d, m} of both rows, at entry i of a plane of 8 bytes; or d of both at one of 4.
template <int format> DEVICE void write_row_scales(const LaneBlocks &p, u8 *plane, u32 i) {
    u32 low = lane_scale<format>(p, 0), high = lane_scale<format>(p, 1);
    if (format_has_min(format)) {
        ((u32 *)plane)[2 * i] = low;
        ((u32 *)plane)[2 * i + 1] = high;
    } else {
        ((u32 *)plane)[i] = low | high << 16;
    }
}

// SIX of layout.h; `sub(b, h, second)` is a sub-scale of the lane's block of that half.
template <class Sub> DEVICE void write_six_bits(const LaneBlocks &p, Sub sub) {
    u32 w[2] = {0, 0};
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        u32 h = i % 2, up = i / 2 % 2, second = i / 4;
        if (p.block[up]) w[h] |= sub(p.block[up], h, second) << (4 + 6 * up + 16 * second);
    }
    ((u32 *)p.plane)[p.lane] = w[0] | (w[1] >> 4 & 0x000F000Fu);
    ((u16 *)(p.plane + 128))[p.lane] = (u16)((w[1] >> 8 & 0x00FFu) | (w[1] >> 16 & 0xFF00u));
}

// Sub-scales of Q2_K and Q6_K: bytes in the file.
DEVICE void write_q2_scales(const LaneBlocks &p) {
#pragma unroll
    for (u32 up = 0; up < 2; up++) {
        u32 word = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            if (!p.block[up]) continue;
            word |= (u32)p.block[up][(i % 2 * 4 + p.lane % 4) * 2 + i / 2] << (i / 2 * 16 + i % 2 * 8);
        }
        ((u32 *)p.plane)[p.lane * 2 + up] = word;
    }
}
DEVICE void write_q6_scales(const LaneBlocks &p) {
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        const u8 *b = p.block[i / 4];
        p.plane[p.lane * 8 + i] = b ? b[192 + (i / 2 % 2 * 4 + p.lane % 4) * 2 + i % 2] ^ 0x80 : 0;
    }
}
DEVICE void write_iq4_scales(const LaneBlocks &p) {
    u32 bits = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u8 *b = p.block[i % 2];
        if (b) bits |= file_iq4_scale(b, i / 2 * 4 + p.lane % 4) << 6 * i;
    }
    ((u16 *)p.plane)[p.lane] = (u16)bits;
    p.plane[64 + p.lane] = (u8)(bits >> 16);
}

// The high byte of the f16 2^(x - 127 + 14 - E).
DEVICE void write_exponents(const LaneBlocks &p) {
#pragma unroll
    for (u32 up = 0; up < 2; up++) {
        i32 e = p.block[up] ? (i32)p.block[up][0] - 127 + 14 + 15 - p.exponent[up] : 0;
        p.plane[p.lane * 2 + up] = e < 1 ? 0 : (u8)(MIN(e, 30) << 2);
    }
}

// 0x7F stands for 0, and the highest bit for nothing.
DEVICE void write_nvfp4_scales(const LaneBlocks &p) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u8 *b = p.block[i / 2];
        u32 scale = b ? b[p.lane % 2 * 2 + i % 2] : 0;
        p.plane[p.lane * 4 + i] = scale == 0x7F ? 0 : (u8)(scale & 0x7F);
    }
}

// TQ1_0: the pairs 10-14 and 15.
DEVICE void write_tq1_codes(const LaneBlocks &p) {
    u32 last = 0;
#pragma unroll 1
    for (u32 i = 0; i < 8; i++) {
        u32 h = i / 4, up = i / 2 % 2, odd = i % 2, j = h * 4 + p.lane % 4;
        const u8 *b = p.block[up];
        p.plane[h * 128 + p.lane * 4 + odd * 2 + up] = b ? (u8)tq1_fraction(b, j, 10, odd) : 0;
        if (b) last |= tq1_code(b, j, 30 + odd) << (8 * odd + 4 * h + 2 * up);
    }
    ((u16 *)(p.plane + 256))[p.lane] = (u16)last;
}

// Formats with a codebook: what is beside the words.
template <int format> DEVICE void write_entry_bits(const LaneBlocks &p) {
    u32 high[2] = {0, 0}, subs = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u32 h = i / 2, up = i % 2, j = h * 4 + p.lane % 4;
        const u8 *b = p.block[up];
        if (!b) continue;
        if (format == FORMAT_IQ2_S || format == FORMAT_IQ3_S)
            high[0] |= file_high_bytes<format>(b, j) << 2 * i;
        if (FORMAT_IS_IQ1(format)) high[up] |= file_high_bits<format>(b, j) << 16 * h;
        if (format == FORMAT_IQ1_M) subs |= (file_iq1_m_sub(b, j, 0) | file_iq1_m_sub(b, j, 1) << 3) << 6 * i;
        if (format == FORMAT_IQ2_XS || format == FORMAT_IQ2_S)
            subs |= (file_sub<format>(b, j, 0) | file_sub<format>(b, j, 1) << 16) << 4 * i;
        if (format == FORMAT_IQ3_S) subs |= file_sub<format>(b, j, 0) << 4 * i;
    }
    if (FORMAT_IS_IQ1(format)) {
        ((u32 *)p.plane)[p.lane * 2] = high[0];
        ((u32 *)p.plane)[p.lane * 2 + 1] = high[1];
    }
    if (format == FORMAT_IQ1_M) {
        ((u16 *)(p.plane + 256))[p.lane] = (u16)subs;
        p.plane[256 + 64 + p.lane] = (u8)(subs >> 16);
    }
    if (format == FORMAT_IQ2_XS || format == FORMAT_IQ2_S) ((u32 *)p.plane)[p.lane] = subs;
    if (format == FORMAT_IQ2_S) ((u32 *)(p.plane + 128))[p.lane] = high[0];
    if (format == FORMAT_IQ3_S) ((u32 *)p.plane)[p.lane] = high[0];
    if (format == FORMAT_IQ3_S) ((u16 *)(p.plane + 128))[p.lane] = (u16)subs;
}

template <int format> DEVICE void write_scales(const LaneBlocks &p) {
    const bool super = layout_tile_cols(format) == 256;
    u32 c = p.lane % 4;
    if (format == FORMAT_MXFP4) write_exponents(p);
    else if (format == FORMAT_NVFP4) write_nvfp4_scales(p);
    else if (format == FORMAT_Q2_0 && c % 2 == 0) write_row_scales<format>(p, p.plane, p.lane / 2);
    else if (!super && file_block_cols(format) == 32) write_row_scales<format>(p, p.plane, p.lane);
    if (format == FORMAT_TQ1_0) write_tq1_codes(p);
    if constexpr (FORMAT_HAS_CODEBOOK(format)) write_entry_bits<format>(p);
    if (format == FORMAT_Q2_K) write_q2_scales(p);
    if (format == FORMAT_Q6_K) write_q6_scales(p);
    if (format == FORMAT_IQ4_XS) write_iq4_scales(p);
    if (format == FORMAT_Q3_K) {
        write_six_bits(p,
                       [&](const u8 *b, u32 h, u32 e) { return file_q3_scale(b + 96, (h * 4 + c) * 2 + e); });
    }
    if (format == FORMAT_Q4_K || format == FORMAT_Q5_K) {
        write_six_bits(p, [&](const u8 *b, u32 h, u32 min) {
            return min ? file_sub_min(b + 4, h * 4 + c) : file_sub_scale(b + 4, h * 4 + c);
        });
    }
    // One for a row's block is behind all else.
    const u32 at =
        layout_tile_bytes16(format) - layout_tile_scales_at(format) - (format_has_min(format) ? 64 : 32);
    if ((super || format == FORMAT_Q1_0) && c == 0) write_row_scales<format>(p, p.plane + at, p.lane / 4);
}

// ---- tiles ----

template <int format>
DEVICE void write_tile(const FileRows &rows, u8 *out, u32 band, u32 tile, const i32 *exponents) {
    constexpr u32 cols = layout_tile_cols(format), block_cols = file_block_cols(format);
    u32 lane = lane_index(), g = lane / 4, c = lane % 4;
#pragma unroll 1
    for (u32 i = 0; i < 2 * cols / 128; i++) {
        u32 row = band * BAND_ROWS + g + i % 2 * 8, col = tile * cols + i / 2 * 128 + c * BLOCK_WEIGHTS;
        write_codes<format>(rows, {out, lane, i / 2, i % 2, col, rows.row(row), exponents[row % BAND_ROWS]});
    }
    LaneBlocks blocks = {out + layout_tile_scales_at(format), lane, {}, {}};
#pragma unroll
    for (u32 up = 0; up < 2; up++) {
        const u8 *row = rows.row(band * BAND_ROWS + g + 8 * up);
        u32 block = cols == 256 ? tile : (tile * 128 + c * BLOCK_WEIGHTS) / block_cols;
        bool inside = row && (u64)block * block_cols < rows.n_cols;
        blocks.block[up] = inside ? row + (u64)block * file_block_bytes(format) : (const u8 *)0;
        blocks.exponent[up] = exponents[g + 8 * up];
    }
    if (!FORMAT_IS_FLOAT(format)) write_scales<format>(blocks);
}

template <int format> DEVICE void tile_repack(const TileRepackArgs &a) {
    FileRows rows = {a.in, a.first_row, a.first_row + a.piece_rows, a.n_cols,
                     (u64)(a.n_cols / file_block_cols(format)) * file_block_bytes(format)};
    i32 *exponents = (i32 *)shared_memory();
    u32 band = a.first_row / BAND_ROWS + block_index();
    constexpr u32 block_tiles = REPACK_COLS / layout_tile_cols(format);
    u32 n_tiles = CEIL_DIV(a.n_cols, layout_tile_cols(format)), first = block_index_y() * block_tiles;
    find_exponents<format>(rows, band, exponents);
    u32 end = MIN(first + block_tiles, n_tiles);
    for (u32 tile = first + warp_index(); tile < end; tile += REPACK_THREADS / WARP) {
        u8 *out = a.out + layout_band_tile_at(format, a.n_cols, band, tile);
        write_tile<format>(rows, out, band, tile, exponents);
    }
    if (block_index_y() == 0 && thread_index() < BAND_ROWS) {
        u64 at = layout_factor_at(format, a.n_rows, a.n_cols, band * BAND_ROWS + thread_index());
        *(float *)(a.out + at) = power_of_2(exponents[thread_index()]);
    }
}

KERNEL(256, 2) tile_repack_kernel(TileRepackArgs a) {
    tile_repack<FORMAT>(a);
}
