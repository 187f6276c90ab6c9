// Repack: blocks as a GGUF file has them → the layout of layout.h, on the device, while the model is
// uploaded.
//
//     out[row] = layout of in[row]; the same bits in other places
//
// Shapes: in [n_rows][n_cols] blocks of FORMAT, without padding; out [n_rows][layout_row_bytes].
// Grid: one thread a block of 32 weights, blocks of one row side by side (writes are coalesced; reads go
// through the L1). Defines: FORMAT. Float formats need no repacking but the padding of a row, and are copied.
// Host reference: tests/kernel_reference.c.
#ifndef FORMAT
#error "FORMAT"
#endif

// Any alignment: file blocks are 18, 22, 34, 210 … bytes long.
DEVICE u32 read_16(const u8 *p) {
    return (u32)p[0] | (u32)p[1] << 8;
}
DEVICE u32 read_32(const u8 *p) {
    return read_16(p) | read_16(p + 2) << 16;
}

struct RepackTile {
    u8 *tile;
    u32 n; // blocks in it
    u32 i; // this block
};

DEVICE void write_nibbles(const RepackTile &t, const u8 *q) {
    for (u32 j = 0; j < 16; j++) {
        t.tile[t.i * 16 + j] = q[j];
    }
}

// From q[32] of 5 bits.
DEVICE void write_5_bits(const RepackTile &t, const u8 *q) {
    u8 nibbles[16];
    u32 fifth = 0;
    for (u32 k = 0; k < 16; k++) {
        nibbles[k] = (u8)((q[k] & 15u) | (u32)(q[16 + k] >> 1) << 4);
        u32 place = 8 * (k % 4) + 2 * (k / 4);
        fifth |= (u32)(q[k] >> 4) << (place + 4) % 32 | (q[16 + k] & 1u) << (place + 3) % 32;
    }
    write_nibbles(t, nibbles);
    ((u32 *)(t.tile + t.n * 16))[t.i] = fifth;
}

// From q[32] of 6 bits.
DEVICE void write_6_bits(const RepackTile &t, const u8 *q) {
    u8 nibbles[16];
    u32 bits[2] = {0, 0};
    for (u32 k = 0; k < 16; k++) {
        u32 low = q[k] ^ 32u, high = q[16 + k] ^ 32u;
        nibbles[k] = (u8)((low & 15u) | high >> 2 << 4);
        u32 place = 8 * (k % 4) + 2 * (k / 4 % 2);
        u32 word = (low >> 4) << (place + 6) % 32 | (high & 3u) << (place + 2) % 32;
        bits[k / 8] |= word;
    }
    write_nibbles(t, nibbles);
    ((u32 *)(t.tile + t.n * 16))[t.i * 2] = bits[0];
    ((u32 *)(t.tile + t.n * 16))[t.i * 2 + 1] = bits[1];
}

// From q[32], of which the low two bits are kept.
DEVICE void write_pairs(const RepackTile &t, const u8 *q) {
    u32 pairs[2] = {0, 0};
    for (u32 k = 0; k < 32; k++) {
        u32 place = 8 * (k % 4) + 5 + 2 * (k % 16 / 4);
        pairs[k / 16] |= rotate_right(q[k] & 3u, 32 - place);
    }
    ((u32 *)t.tile)[t.i * 2] = pairs[0];
    ((u32 *)t.tile)[t.i * 2 + 1] = pairs[1];
}

// From 16 bytes with weight k in the low half of byte k and weight 16 + k in its high half.
DEVICE void write_codes(const RepackTile &t, const u8 *nibbles) {
    for (u32 j = 0; j < 4; j++) {
        u32 word = 0;
        for (u32 k = 0; k < 4; k++) {
            u32 v = nibbles[4 * j + k];
            word |= (v & 15u) << 4 * k | v >> 4 << (16 + 4 * k);
        }
        ((u32 *)t.tile)[t.i * 4 + j] = word;
    }
}

// Q4_0, Q4_1, Q5_0, Q5_1: scale (and min) first, then the fifth bits, then nibbles as the layout has them.
DEVICE void repack_32(const RepackTile &t, const u8 *b) {
    const bool has_min = FORMAT == FORMAT_Q4_1 || FORMAT == FORMAT_Q5_1;
    const bool five = FORMAT == FORMAT_Q5_0 || FORMAT == FORMAT_Q5_1;
    const u8 *nibbles = b + (has_min ? 4 : 2) + (five ? 4 : 0);
    if (five) {
        u32 fifth = read_32(nibbles - 4);
        u8 q[32];
        for (u32 k = 0; k < 32; k++) {
            u32 nibble = k < 16 ? nibbles[k] & 15u : nibbles[k - 16] >> 4;
            q[k] = (u8)(nibble | (fifth >> k & 1u) << 4);
        }
        write_5_bits(t, q);
    } else {
        write_nibbles(t, nibbles);
    }
    u8 *scales = t.tile + t.n * (five ? 20 : 16);
    if (has_min) ((u32 *)scales)[t.i] = read_32(b);
    else ((u16 *)scales)[t.i] = (u16)read_16(b);
}

DEVICE void repack_q8_0(const RepackTile &t, const u8 *b) {
    for (u32 k = 0; k < 32; k++) {
        t.tile[(k / 16 * t.n + t.i) * 16 + k % 16] = b[2 + k];
    }
    ((u16 *)(t.tile + t.n * 32))[t.i] = (u16)read_16(b);
}

// Scales of 8 blocks at once, by the first block's thread: they share words.
DEVICE void write_12_bits(const RepackTile &t, u8 *plane, const u32 v[8]) {
    u32 words[3] = {0, 0, 0};
    for (u32 k = 0; k < 8; k++) {
        u32 bit = 12 * k;
        words[bit / 32] |= v[k] << bit % 32;
        if (bit % 32 > 20) words[bit / 32 + 1] |= v[k] >> (32 - bit % 32);
    }
    for (u32 w = 0; w < 3; w++) {
        ((u32 *)plane)[t.i / 8 * 3 + w] = words[w];
    }
}

// The 12 bits of block j of a Q4_K or Q5_K superblock: scale, then min (get_scale_min_k4 of GGML,
// rearranged).
DEVICE u32 scale_min_in_file(const u8 *s, u32 j) {
    if (j < 4) return (s[j] & 63u) | (s[j + 4] & 63u) << 6;
    return (s[j + 4] & 15u) | (u32)(s[j - 4] >> 6) << 4 | (u32)(s[j + 4] >> 4) << 6 | (u32)(s[j] >> 6) << 10;
}

// Q4_K: d, dmin, 12 bytes of scales, 128 of nibbles: 32 bytes hold block 2p in the low halves and 2p + 1 in
// the high. Q5_K: 32 bytes of fifth bits before the nibbles, bit j of byte k is weight k of block j.
DEVICE void repack_q45_k(const RepackTile &t, const u8 *super, u32 j) {
    const bool five = FORMAT == FORMAT_Q5_K;
    const u8 *nibbles = super + (five ? 48 : 16) + j / 2 * 32;
    u8 q[32];
    for (u32 k = 0; k < 32; k++) {
        q[k] = (u8)(j % 2 ? nibbles[k] >> 4 : nibbles[k] & 15);
        if (five) q[k] |= (u8)((super[16 + k] >> j & 1u) << 4);
    }
    if (five) {
        write_5_bits(t, q);
    } else {
        u8 packed[16];
        for (u32 k = 0; k < 16; k++) {
            packed[k] = (u8)(q[k] | q[16 + k] << 4);
        }
        write_nibbles(t, packed);
    }
    if (j != 0) return;
    u8 *scales = t.tile + t.n * (five ? 20 : 16);
    ((u32 *)scales)[t.i / 8] = read_32(super);
    u32 v[8];
    for (u32 k = 0; k < 8; k++) {
        v[k] = scale_min_in_file(super + 4, k);
    }
    write_12_bits(t, scales + t.n / 8 * 4, v);
}

// The low two bits of block j of a Q2_K or Q3_K superblock: weight 128 h + 32 g + k (g < 4) has them in byte
// 32 h + k at bit 2 g.
DEVICE void read_pairs(const u8 *pairs, u32 j, u8 q[32]) {
    for (u32 k = 0; k < 32; k++) {
        q[k] = (u8)(pairs[j / 4 * 32 + k] >> 2 * (j % 4) & 3);
    }
}

// Q2_K: 16 bytes of scales and minima, 64 of pairs, d, dmin.
DEVICE void repack_q2_k(const RepackTile &t, const u8 *super, u32 j) {
    u8 q[32];
    read_pairs(super + 16, j, q);
    write_pairs(t, q);
    ((u16 *)(t.tile + t.n * 8))[t.i] = (u16)read_16(super + j * 2);
    if (j == 0) ((u32 *)(t.tile + t.n * 10))[t.i / 8] = read_32(super + 80);
}

// The scale of 16 weights, number g of a Q3_K superblock.
DEVICE u32 q3_k_scale_in_file(const u8 *s, u32 g) {
    return (s[g % 8] >> g / 8 * 4 & 15u) | (s[8 + g % 4] >> g / 4 * 2 & 3u) << 4;
}

// Q3_K: 32 bytes of third bits (bit j of byte k is weight k of block j), 64 of pairs, 12 of scales, d.
DEVICE void repack_q3_k(const RepackTile &t, const u8 *super, u32 j) {
    u8 q[32];
    read_pairs(super + 32, j, q);
    write_pairs(t, q);
    u32 third = 0;
    for (u32 k = 0; k < 32; k++) {
        u32 place = 8 * (k % 4) + 7 + k / 4;
        third |= rotate_right(~(u32)super[k] >> j & 1u, 32 - place % 32);
    }
    ((u32 *)(t.tile + t.n * 8))[t.i] = third;
    if (j != 0) return;
    u8 *scales = t.tile + t.n * 12;
    u32 v[8];
    for (u32 k = 0; k < 8; k++) {
        v[k] = q3_k_scale_in_file(super + 96, 2 * k) | q3_k_scale_in_file(super + 96, 2 * k + 1) << 6;
    }
    write_12_bits(t, scales, v);
    ((u16 *)(scales + t.n / 8 * 12))[t.i / 8] = (u16)read_16(super + 108);
}

// Q6_K: 128 bytes of low bits, 64 of high bits, 16 scales, d. Weight 128 h + 32 g + k (g < 4) has its low
// bits in byte 64 h + 32 (g % 2) + k (half g / 2) and its high bits in byte 32 h + k at bit 2 g.
DEVICE void repack_q6_k(const RepackTile &t, const u8 *super, u32 j) {
    const u8 *low = super + j / 4 * 64 + j % 2 * 32, *high = super + 128 + j / 4 * 32;
    u32 g = j % 4;
    u8 q[32];
    for (u32 k = 0; k < 32; k++) {
        u32 nibble = g / 2 ? low[k] >> 4 : low[k] & 15u;
        q[k] = (u8)(nibble | (high[k] >> 2 * g & 3u) << 4);
    }
    write_6_bits(t, q);
    ((u16 *)(t.tile + t.n * 24))[t.i] = (u16)read_16(super + 192 + j * 2);
    if (j == 0) ((u16 *)(t.tile + t.n * 26))[t.i / 8] = (u16)read_16(super + 208);
}

DEVICE void repack_iq4_nl(const RepackTile &t, const u8 *b) {
    write_codes(t, b + 2);
    ((u16 *)(t.tile + t.n * 16))[t.i] = (u16)read_16(b);
}

// d, 2 bits of 8 scales, their low 4 bits, then 16 bytes of codes a block as IQ4_NL has them.
DEVICE void repack_iq4_xs(const RepackTile &t, const u8 *super, u32 j) {
    write_codes(t, super + 8 + j * 16);
    if (j != 0) return;
    u32 *scales = (u32 *)(t.tile + t.n * 16) + t.i / 8 * 2;
    scales[0] = read_32(super);
    scales[1] = read_32(super + 4);
}

DEVICE void repack_mxfp4(const RepackTile &t, const u8 *b) {
    write_codes(t, b + 1);
    t.tile[t.n * 16 + t.i] = b[0];
}

DEVICE void repack_float(const RepackArgs &a, u8 *tile, u32 row, u32 block) {
    const u32 size = FORMAT == FORMAT_F32 ? 4 : 2;
    const u8 *in = a.in + (u64)row * a.n_cols * size;
    for (u32 k = 0; k < BLOCK_WEIGHTS; k++) {
        u32 col = block * BLOCK_WEIGHTS + k;
        u8 *out = tile + (block % TILE_BLOCKS * BLOCK_WEIGHTS + k) * size;
        for (u32 byte = 0; byte < size; byte++) {
            out[byte] = col < a.n_cols ? in[(u64)col * size + byte] : 0;
        }
    }
}

DEVICE void repack(const RepackArgs &a, u64 index) {
    u32 n_blocks = CEIL_DIV(a.n_cols, BLOCK_WEIGHTS);
    if (index >= (u64)a.n_rows * n_blocks) return;
    u32 row = (u32)(index / n_blocks), block = (u32)(index % n_blocks), tile = block / TILE_BLOCKS;
    RepackTile t;
    t.tile =
        a.out + row * layout_row_bytes(FORMAT, a.n_cols) + (u64)tile * layout_tile_bytes(FORMAT, TILE_BLOCKS);
    t.n = MIN(n_blocks - tile * TILE_BLOCKS, (u32)TILE_BLOCKS);
    t.i = block % TILE_BLOCKS;
#if FORMAT_IS_FLOAT(FORMAT)
    repack_float(a, t.tile, row, block);
#else
    u64 b = (u64)row * n_blocks + block; // from the start of the matrix: rows are whole blocks
#endif
#if FORMAT == FORMAT_Q8_0
    repack_q8_0(t, a.in + b * 34);
#elif FORMAT == FORMAT_Q2_K
    repack_q2_k(t, a.in + b / 8 * 84, block % 8);
#elif FORMAT == FORMAT_Q3_K
    repack_q3_k(t, a.in + b / 8 * 110, block % 8);
#elif FORMAT == FORMAT_Q4_K
    repack_q45_k(t, a.in + b / 8 * 144, block % 8);
#elif FORMAT == FORMAT_Q5_K
    repack_q45_k(t, a.in + b / 8 * 176, block % 8);
#elif FORMAT == FORMAT_Q6_K
    repack_q6_k(t, a.in + b / 8 * 210, block % 8);
#elif FORMAT == FORMAT_IQ4_NL
    repack_iq4_nl(t, a.in + b * 18);
#elif FORMAT == FORMAT_IQ4_XS
    repack_iq4_xs(t, a.in + b / 8 * 136, block % 8);
#elif FORMAT == FORMAT_MXFP4
    repack_mxfp4(t, a.in + b * 17);
#elif !FORMAT_IS_FLOAT(FORMAT)
    repack_32(t, a.in + b * (FORMAT == FORMAT_Q4_0   ? 18
                             : FORMAT == FORMAT_Q4_1 ? 20
                             : FORMAT == FORMAT_Q5_0 ? 22
                                                     : 24));
#endif
}

KERNEL(256, 1) repack_kernel(RepackArgs a) {
    repack(a, (u64)block_index() * 256 + thread_index());
}
