// What blocks of TQ1_0 and of the formats with a codebook have in a file (src/model/dtype_blocks.h), as the
// words and bits of layout.h. For tile_repack.cuh. b: a block; j: which 32 of its columns, a group.

DEVICE u32 file_16(const u8 *p) {
    return (u32)p[0] | (u32)p[1] << 8;
}
DEVICE u32 file_32(const u8 *p) {
    return file_16(p) | file_16(p + 2) << 16;
}

// ---- TQ1_0 ----

DEVICE u32 power_of_3(u32 n) {
    return n == 0 ? 1 : n == 1 ? 3 : n == 2 ? 9 : n == 3 ? 27 : 81;
}
DEVICE u32 tq1_code(const u8 *b, u32 j, u32 k) {
    u32 i = j * 32 + k, byte = i % 32, digit = j;
    if (i >= 160) byte = 32 + i % 16, digit = (i - 160) / 16;
    if (i >= 240) byte = 48 + i % 4, digit = (i - 240) / 4;
    return (b[byte] * power_of_3(digit) & 255u) * 3 >> 8;
}
// The fraction whose first digits the pairs first … first + 4 have, of their column `odd`.
DEVICE u32 tq1_fraction(const u8 *b, u32 j, u32 first, u32 odd) {
    u32 v = 0;
    for (u32 n = 0; n < 5; n++) {
        v = v * 3 + tq1_code(b, j, 2 * (first + n) + odd);
    }
    return (v * 256 + 242) / 243;
}

// ---- codebooks ----

// The four low bytes of entries' numbers from number `first` on.
template <int format> DEVICE u32 file_entries(const u8 *b, u32 j, u32 first) {
    if (format == FORMAT_IQ1_M) return file_32(b + j * 4);
    if (format == FORMAT_IQ2_XXS) return file_32(b + 2 + j * 8);
    if (FORMAT_IS_IQ3(format)) return file_32(b + 2 + j * 8 + first);
    if (format != FORMAT_IQ2_XS) return file_32(b + 2 + j * 4);
    const u8 *p = b + 2 + j * 8;
    return (u32)p[0] | (u32)p[2] << 8 | (u32)p[4] << 16 | (u32)p[6] << 24;
}

// High bits of a group's numbers: IQ1 (with what else is beside them there) 16 bits, others a byte.
template <int format> DEVICE u32 file_high_bits(const u8 *b, u32 j) {
    return format == FORMAT_IQ1_S   ? file_16(b + 34 + j * 2)
           : format == FORMAT_IQ1_M ? file_16(b + 32 + j * 2)
                                    : b[66 + j]; // IQ2_S, IQ3_S
}

// High bits of the numbers of IQ2_S and IQ3_S, those of entry i from bit 8 (i % 4) + i / 4 on.
template <int format> DEVICE u32 file_high_bytes(const u8 *b, u32 j) {
    u32 bits = file_high_bits<format>(b, j), bytes = 0;
    for (u32 i = 0; i < 4; i++) {
        if (format == FORMAT_IQ2_S) bytes |= (bits >> 2 * i & 3u) << 8 * i;
        else bytes |= (bits >> i & 1u) << 8 * i | (bits >> (4 + i) & 1u) << (8 * i + 1);
    }
    return bytes;
}

// Signs of 8 columns; the eighth is not there in IQ2_XXS, IQ2_XS and IQ3_XXS.
template <int format> DEVICE u32 file_signs(const u8 *b, u32 j, u32 l) {
    return format == FORMAT_IQ2_XXS   ? file_32(b + 6 + j * 8) >> 7 * l & 127u
           : format == FORMAT_IQ2_XS  ? (u32)b[3 + j * 8 + l * 2] >> 1
           : format == FORMAT_IQ3_XXS ? file_32(b + 66 + j * 4) >> 7 * l & 127u
           : format == FORMAT_IQ2_S   ? (u32)b[34 + j * 4 + l]
                                      : (u32)b[74 + j * 4 + l];
}

// What lies in place of the signs that are not there: four bits.
template <int format> DEVICE u32 file_beside_signs(const u8 *b, u32 j) {
    if (format == FORMAT_IQ2_XXS) return b[9 + j * 8] >> 4;
    if (format == FORMAT_IQ3_XXS) return b[69 + j * 4] >> 4;
    const u8 *p = b + 3 + j * 8;
    return (p[0] & 1u) | (p[2] & 1u) << 1 | (p[4] & 1u) << 2 | (p[6] & 1u) << 3;
}

// Signs of a block's columns, and what lies beside them.
template <int format> DEVICE u32 file_all_signs(const u8 *b, u32 j) {
    u32 word = 0;
    for (u32 l = 0; l < 4; l++) {
        u32 signs = file_signs<format>(b, j, l);
        for (u32 n = 0; n < 8; n++) {
            word |= (signs >> n & 1u) << layout_sign_place(l, n);
        }
    }
    bool has_all = format == FORMAT_IQ2_S || format == FORMAT_IQ3_S;
    return has_all ? word : word | file_beside_signs<format>(b, j) << 28;
}

// The words of a row's group.
template <int format> DEVICE void file_words(const u8 *b, u32 j, u32 words[]) {
    words[0] = file_entries<format>(b, j, 0);
    if (FORMAT_IS_IQ2(format)) words[1] = file_all_signs<format>(b, j);
    if (!FORMAT_IS_IQ3(format)) return;
    words[1] = file_entries<format>(b, j, 4);
    words[2] = file_all_signs<format>(b, j);
}

// Scales of groups where they have bytes of their own. e: of columns 0-15 or 16-31.
DEVICE u32 file_iq1_m_sub(const u8 *b, u32 j, u32 e) {
    return file_16(b + 48 + j / 2 * 2) >> (j % 2 * 6 + e * 3) & 7u;
}
template <int format> DEVICE u32 file_sub(const u8 *b, u32 j, u32 e) {
    return format == FORMAT_IQ2_XS  ? b[66 + j] >> 4 * e & 15u
           : format == FORMAT_IQ2_S ? b[74 + j] >> 4 * e & 15u
                                    : b[106 + j / 2] >> j % 2 * 4 & 15u; // IQ3_S
}
// d of IQ1_M: nibbles.
DEVICE u32 file_iq1_m_scale(const u8 *b) {
    return (u32)(b[49] >> 4) | (u32)(b[51] >> 4) << 4 | (u32)(b[53] >> 4) << 8 | (u32)(b[55] >> 4) << 12;
}
