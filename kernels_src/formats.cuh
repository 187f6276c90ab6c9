// One 32-weight block of each format: its dot product with 32 quantised activations, and its values as
// floats.
//
// Layouts are layout.h's. `tile` points to a tile of n blocks in shared or global memory, `i` is the block in
// it. Every format is w = d * q + m (m: its minimum, or its offset times d; 0 where it has neither), so that
// a dot product is
//     d * x.scale * sum(q * x.q) + m * x.sum
// with an exact integer sum. It is added to the sum of the blocks before it by two fused multiply-adds:
//     sum = fma(d * x.scale, sum(q * x.q), fma(m, x.sum, sum))
// These roundings and those of the factors are all there is, and they are the same whether the block is
// multiplied where it lies (add_dot) or was unpacked before (unpack, add_unpacked): with m = 0 the inner one
// changes nothing. CPU reference: OP_MATMUL.

// 32 activations as the integer formats want them: x[k] = scale * q[k] with q[k] = 16 * coarse[k] + fine[k]
// (12 bits in two signed bytes; activations.cuh), or coarse[k] alone (X_FINE 0: 8 bits). X_FINE costs 8 more
// products a block.
struct BlockX {
    uint4 low, high;           // coarse[0 … 15], [16 … 31]
    uint4 low_fine, high_fine; // fine, likewise
    float scale;
    float sum; // scale * sum of q
};

// A block ready to be multiplied: what a stage does with its weights while it waits for its input.
struct UnpackedBlock {
    u32 low[4], high[4]; // q as signed bytes, weights 0-15 and 16-31
    i32 low_scale, high_scale;
    float d, m;
};

struct Half2 {
    float low, high;
};
DEVICE Half2 unpack_f16(u32 v) {
    return {f16_to_f32((f16)v), f16_to_f32((f16)(v >> 16))};
}

#ifndef X_FINE
#define X_FINE 1
#endif

// -(a b). As a multiplication of -a it would take two instructions.
DEVICE float minus_product(float a, float b) {
    return fma_f32(-a, b, -0.0f);
}

template <int format> struct Block;

// ---- the integer part: sum of q * x.q ----

// Sums of products with the coarse and with the fine bytes of some activations.
struct Sums {
    i32 coarse, fine;
};
DEVICE i32 total_of(Sums s) {
    return X_FINE ? 16 * s.coarse + s.fine : s.coarse;
}
DEVICE void add_unsigned(Sums *s, u32 q, u32 coarse, u32 fine) {
    s->coarse = dp4a_unsigned(q, coarse, s->coarse);
    if (X_FINE) s->fine = dp4a_unsigned(q, fine, s->fine);
}
DEVICE void add_signed(Sums *s, u32 q, u32 coarse, u32 fine) {
    s->coarse = dp4a(q, coarse, s->coarse);
    if (X_FINE) s->fine = dp4a(q, fine, s->fine);
}

// The upper nibbles stay where they are: `high` sums 16 times what it should.
DEVICE i32 dot_nibbles(uint4 v, const BlockX &x) {
    Sums low = {0, 0}, high = {0, 0};
    add_unsigned(&low, v.x & 0x0F0F0F0Fu, x.low.x, x.low_fine.x);
    add_unsigned(&high, v.x & 0xF0F0F0F0u, x.high.x, x.high_fine.x);
    add_unsigned(&low, v.y & 0x0F0F0F0Fu, x.low.y, x.low_fine.y);
    add_unsigned(&high, v.y & 0xF0F0F0F0u, x.high.y, x.high_fine.y);
    add_unsigned(&low, v.z & 0x0F0F0F0Fu, x.low.z, x.low_fine.z);
    add_unsigned(&high, v.z & 0xF0F0F0F0u, x.high.z, x.high_fine.z);
    add_unsigned(&low, v.w & 0x0F0F0F0Fu, x.low.w, x.low_fine.w);
    add_unsigned(&high, v.w & 0xF0F0F0F0u, x.high.w, x.high_fine.w);
    return total_of(low) + (total_of(high) >> 4);
}

// Likewise; `high` sums 8 times what it should.
DEVICE i32 dot_5_bits(uint4 v, u32 h, const BlockX &x) {
    u32 h1 = rotate_right(h, 2), h2 = rotate_right(h, 4), h3 = rotate_right(h, 6);
    Sums low = {0, 0}, high = {0, 0};
    add_unsigned(&low, (v.x & 0x0F0F0F0Fu) | (h & 0x10101010u), x.low.x, x.low_fine.x);
    add_unsigned(&high, (v.x & 0xF0F0F0F0u) | (h & 0x08080808u), x.high.x, x.high_fine.x);
    add_unsigned(&low, (v.y & 0x0F0F0F0Fu) | (h1 & 0x10101010u), x.low.y, x.low_fine.y);
    add_unsigned(&high, (v.y & 0xF0F0F0F0u) | (h1 & 0x08080808u), x.high.y, x.high_fine.y);
    add_unsigned(&low, (v.z & 0x0F0F0F0Fu) | (h2 & 0x10101010u), x.low.z, x.low_fine.z);
    add_unsigned(&high, (v.z & 0xF0F0F0F0u) | (h2 & 0x08080808u), x.high.z, x.high_fine.z);
    add_unsigned(&low, (v.w & 0x0F0F0F0Fu) | (h3 & 0x10101010u), x.low.w, x.low_fine.w);
    add_unsigned(&high, (v.w & 0xF0F0F0F0u) | (h3 & 0x08080808u), x.high.w, x.high_fine.w);
    return total_of(low) + (total_of(high) >> 3);
}

// Four bytes each for the weights 4j … 4j + 3 and 16 + 4j … of word j.
struct WordBytes {
    u32 low, high;
};
// 4 (q - 32), signed.
DEVICE WordBytes six_bit_word(u32 v, u32 h) {
    return {(v << 2 & 0x3C3C3C3Cu) | (h & 0xC0C0C0C0u), (v & 0xF0F0F0F0u) | (h & 0x0C0C0C0Cu)};
}

// The words of a block's weights 0-15 and 16-31, or its word of third bits, turned for word j: 32 q of Q2_K,
// 32 (q - 4) of Q3_K, signed.
DEVICE u32 pair_bytes(u32 pairs, u32 j) {
    return rotate_right(pairs, 2 * j) & 0x60606060u;
}
DEVICE WordBytes three_bit_word(uint2 pairs, u32 third, u32 j) {
    return {pair_bytes(pairs.x, j) | (rotate_right(third, j) & 0x80808080u),
            pair_bytes(pairs.y, j) | (rotate_right(third, 4 + j) & 0x80808080u)};
}

// IQ4_NL and IQ4_XS: the values of a word's codes, signed, or with `turned` 0x80808080 as 128 + value. The
// codes 0-7 are looked up in one table and 8-15 in the other, then each byte is chosen from the two.
DEVICE u32 iq4_bytes(u32 index, u32 choice, u32 turned) {
    u32 low_table = in_register(0xBFAD9881u ^ turned), high_table = in_register(0x26190D01u ^ turned);
    u32 low = look_up_bytes(low_table, 0xF6EADDCFu ^ turned, index);   // -127 … -65, -49 … -10
    u32 high = look_up_bytes(high_table, 0x71594535u ^ turned, index); // 1 … 38, 53 … 113
    return look_up_bytes(low, high, choice);
}
DEVICE WordBytes iq4_word(u32 v, u32 turned) {
    u32 index = v & 0x77777777u, choice = (v >> 1 & 0x44444444u) | 0x32103210u; // byte k of low or high
    return {iq4_bytes(index, choice, turned), iq4_bytes(index >> 16, choice >> 16, turned)};
}

// MXFP4: 12 + twice the value of four codes, 0 … 24. The codes 0-7 are found in one table, the codes 8-15 in
// the other with their highest bit turned; the table that does not have the code gives 0.
DEVICE u32 e2m1_bytes(u32 codes, u32 turned) {
    return look_up_bytes(in_register(0x0F0E0D0Cu), 0x18141210u, codes) |
           look_up_bytes(in_register(0x090A0B0Cu), 0x00040608u, turned);
}
DEVICE WordBytes e2m1_word(u32 v) {
    u32 turned = v ^ 0x88888888u;
    return {e2m1_bytes(v, turned), e2m1_bytes(v >> 16, turned >> 16)};
}
// 2^(exponent - 128), half of a block's scale; the two smallest are subnormal. Exponent 255 is no exception.
DEVICE float e2m1_half_scale(u32 exponent) {
    return float_of(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
}

DEVICE i32 dot_bytes(const u32 w[4], uint4 coarse, uint4 fine) {
    Sums s = {0, 0};
    add_signed(&s, w[0], coarse.x, fine.x);
    add_signed(&s, w[1], coarse.y, fine.y);
    add_signed(&s, w[2], coarse.z, fine.z);
    add_signed(&s, w[3], coarse.w, fine.w);
    return total_of(s);
}

DEVICE i32 sum_bytes(uint4 coarse, uint4 fine) {
    const u32 ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
    return dot_bytes(ones, coarse, fine);
}

// sum + the block's dot product: of a format with a minimum or an offset, and of one without.
DEVICE float add_scaled(float sum, float d, float m, i32 q, const BlockX &x) {
    return fma_f32(d * x.scale, (float)q, fma_f32(m, x.sum, sum));
}
DEVICE float add_scaled(float sum, float d, i32 q, const BlockX &x) {
    return fma_f32(d * x.scale, (float)q, sum);
}

DEVICE i32 dot_unpacked(const UnpackedBlock &b, const BlockX &x) {
    i32 low = dot_bytes(b.low, x.low, x.low_fine), high = dot_bytes(b.high, x.high, x.high_fine);
    return low * b.low_scale + high * b.high_scale;
}
DEVICE float add_unpacked(float sum, const UnpackedBlock &b, const BlockX &x) {
    return add_scaled(sum, b.d, b.m, dot_unpacked(b, x), x);
}

// ---- unpacking ----

DEVICE void unpack_nibbles(uint4 v, UnpackedBlock *b) {
    const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        b->low[j] = words[j] & 0x0F0F0F0Fu;
        b->high[j] = words[j] >> 4 & 0x0F0F0F0Fu;
    }
}

DEVICE void unpack_5_bits(uint4 v, u32 h, UnpackedBlock *b) {
    const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        u32 turned = rotate_right(h, 2 * j);
        b->low[j] = (words[j] & 0x0F0F0F0Fu) | (turned & 0x10101010u);
        b->high[j] = ((words[j] & 0xF0F0F0F0u) | (turned & 0x08080808u)) >> 3;
    }
}

DEVICE void unpack_iq4(uint4 v, UnpackedBlock *b) {
    const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        WordBytes w = iq4_word(words[j], 0);
        b->low[j] = w.low;
        b->high[j] = w.high;
    }
}

DEVICE void set_scales(UnpackedBlock *b, float d, float m, i32 low_scale, i32 high_scale) {
    b->d = d;
    b->m = m;
    b->low_scale = low_scale;
    b->high_scale = high_scale;
}

// ---- q of single weights, for dequantising ----

DEVICE u32 nibble_of(const u8 *nibbles, u32 i, u32 k) {
    u8 v = nibbles[i * 16 + k % 16];
    return k < 16 ? v & 15u : v >> 4;
}
DEVICE u32 five_bits_of(const u8 *nibbles, const u32 *fifth, u32 i, u32 k) {
    u32 v = nibble_of(nibbles, i, k), j = k % 16;
    u32 h = rotate_right(fifth[i], 2 * (j / 4)) >> 8 * (j % 4);
    return k < 16 ? v | (h & 0x10u) : v << 1 | (h >> 3 & 1u);
}
DEVICE i32 six_bits_of(const u8 *nibbles, const uint2 *bits, u32 i, u32 k) {
    u32 v = nibble_of(nibbles, i, k), j = k % 16;
    u32 h = rotate_right(j < 8 ? bits[i].x : bits[i].y, 2 * (j / 4 % 2)) >> 8 * (j % 4);
    u32 u = k < 16 ? v | (h >> 2 & 0x30u) : v << 2 | (h >> 2 & 3u);
    return (i32)(u ^ 32u) - 32;
}

DEVICE u32 pair_of(const uint2 *pairs, u32 i, u32 k) {
    u32 word = k < 16 ? pairs[i].x : pairs[i].y;
    return pair_bytes(word, k % 16 / 4) >> (8 * (k % 4) + 5) & 3u;
}
DEVICE u32 code_of(const u8 *codes, u32 i, u32 k) {
    return ((const u32 *)codes)[i * 4 + k % 16 / 4] >> (4 * (k % 4) + k / 16 * 16) & 15u;
}

DEVICE float iq4_value_of(const u8 *codes, u32 i, u32 k) {
    u32 code = code_of(codes, i, k);
    return (float)(i8)iq4_word(code, 0).low;
}

// Scale and min of Q4_K and Q5_K, the two scales of Q3_K: 12 bits at bit 12 i of the plane.
struct ScaleMin {
    u32 scale, min;
};
DEVICE ScaleMin scale_min_of(const u32 *plane, u32 i) {
    u32 bit = 12 * i;
    u32 v = funnel_right(plane[bit / 32], plane[(bit + 11) / 32], bit % 32);
    return {v & 63u, v >> 6 & 63u};
}

// ---- the formats ----

template <> struct Block<FORMAT_Q4_0> {
    static DEVICE float scale(const u8 *tile, u32 n, u32 i) {
        return f16_to_f32(((const f16 *)(tile + n * 16))[i]);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        float d = scale(tile, n, i);
        return add_scaled(sum, d, -8.0f * d, dot_nibbles(((const uint4 *)tile)[i], x), x);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        float d = scale(tile, n, i);
        unpack_nibbles(((const uint4 *)tile)[i], b);
        set_scales(b, d, -8.0f * d, 1, 1);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        return scale(tile, n, i) * (float)((i32)nibble_of(tile, i, k) - 8);
    }
};

template <> struct Block<FORMAT_Q4_1> {
    static DEVICE Half2 scale(const u8 *tile, u32 n, u32 i) {
        return unpack_f16(((const u32 *)(tile + n * 16))[i]);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        Half2 dm = scale(tile, n, i);
        return add_scaled(sum, dm.low, dm.high, dot_nibbles(((const uint4 *)tile)[i], x), x);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        Half2 dm = scale(tile, n, i);
        unpack_nibbles(((const uint4 *)tile)[i], b);
        set_scales(b, dm.low, dm.high, 1, 1);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        Half2 dm = scale(tile, n, i);
        return fma_f32(dm.low, (float)nibble_of(tile, i, k), dm.high);
    }
};

template <> struct Block<FORMAT_Q5_0> {
    static DEVICE float scale(const u8 *tile, u32 n, u32 i) {
        return f16_to_f32(((const f16 *)(tile + n * 20))[i]);
    }
    static DEVICE u32 fifth(const u8 *tile, u32 n, u32 i) {
        return ((const u32 *)(tile + n * 16))[i];
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        float d = scale(tile, n, i);
        return add_scaled(sum, d, -16.0f * d, dot_5_bits(((const uint4 *)tile)[i], fifth(tile, n, i), x), x);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        float d = scale(tile, n, i);
        unpack_5_bits(((const uint4 *)tile)[i], fifth(tile, n, i), b);
        set_scales(b, d, -16.0f * d, 1, 1);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        return scale(tile, n, i) * (float)((i32)five_bits_of(tile, (const u32 *)(tile + n * 16), i, k) - 16);
    }
};

template <> struct Block<FORMAT_Q5_1> {
    static DEVICE Half2 scale(const u8 *tile, u32 n, u32 i) {
        return unpack_f16(((const u32 *)(tile + n * 20))[i]);
    }
    static DEVICE u32 fifth(const u8 *tile, u32 n, u32 i) {
        return ((const u32 *)(tile + n * 16))[i];
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        Half2 dm = scale(tile, n, i);
        return add_scaled(sum, dm.low, dm.high, dot_5_bits(((const uint4 *)tile)[i], fifth(tile, n, i), x),
                          x);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        Half2 dm = scale(tile, n, i);
        unpack_5_bits(((const uint4 *)tile)[i], fifth(tile, n, i), b);
        set_scales(b, dm.low, dm.high, 1, 1);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        Half2 dm = scale(tile, n, i);
        return fma_f32(dm.low, (float)five_bits_of(tile, (const u32 *)(tile + n * 16), i, k), dm.high);
    }
};

template <> struct Block<FORMAT_Q8_0> {
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        uint4 low = ((const uint4 *)tile)[i], high = ((const uint4 *)(tile + n * 16))[i];
        b->low[0] = low.x, b->low[1] = low.y, b->low[2] = low.z, b->low[3] = low.w;
        b->high[0] = high.x, b->high[1] = high.y, b->high[2] = high.z, b->high[3] = high.w;
        set_scales(b, f16_to_f32(((const f16 *)(tile + n * 32))[i]), 0.0f, 1, 1);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        UnpackedBlock b;
        unpack(tile, n, i, &b);
        i32 q = dot_bytes(b.low, x.low, x.low_fine) + dot_bytes(b.high, x.high, x.high_fine);
        return add_scaled(sum, b.d, q, x);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        i8 q = (i8)tile[(k / 16 * n + i) * 16 + k % 16];
        return f16_to_f32(((const f16 *)(tile + n * 32))[i]) * (float)q;
    }
};

// Minima of 16 weights each, for which an unpacked block has no place: multiplied where it lies (matvec.cuh).
template <> struct Block<FORMAT_Q2_K> {
    static DEVICE Half2 super_scale(const u8 *tile, u32 n, u32 i) {
        return unpack_f16(((const u32 *)(tile + n * 10))[i / 8]);
    }
    static DEVICE u32 scales(const u8 *tile, u32 n, u32 i) { // scale, min, scale, min: 4 bits each
        return ((const u16 *)(tile + n * 8))[i];
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        uint2 pairs = ((const uint2 *)tile)[i];
        u32 low[4], high[4], s = scales(tile, n, i);
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            low[j] = pair_bytes(pairs.x, j);
            high[j] = pair_bytes(pairs.y, j);
        }
        i32 q = dot_bytes(low, x.low, x.low_fine) * (i32)(s & 15u) +
                dot_bytes(high, x.high, x.high_fine) * (i32)(s >> 8 & 15u);
        i32 minima = sum_bytes(x.low, x.low_fine) * (i32)(s >> 4 & 15u) +
                     sum_bytes(x.high, x.high_fine) * (i32)(s >> 12);
        Half2 d = super_scale(tile, n, i);
        return fma_f32(d.low * (1.0f / 32) * x.scale, (float)q,
                       fma_f32(minus_product(d.high, x.scale), (float)minima, sum));
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        Half2 d = super_scale(tile, n, i);
        u32 s = scales(tile, n, i) >> k / 16 * 8;
        float q = (float)pair_of((const uint2 *)tile, i, k);
        return fma_f32(d.low * (float)(s & 15u), q, -(d.high * (float)(s >> 4 & 15u)));
    }
};

template <> struct Block<FORMAT_Q3_K> {
    static DEVICE float super_scale(const u8 *tile, u32 n, u32 i) {
        return f16_to_f32(((const f16 *)(tile + n * 12 + n / 8 * 12))[i / 8]);
    }
    static DEVICE ScaleMin scales(const u8 *tile, u32 n, u32 i) { // of the weights 0-15, of 16-31; plus 32
        return scale_min_of((const u32 *)(tile + n * 12), i);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        uint2 pairs = ((const uint2 *)tile)[i];
        u32 third = ((const u32 *)(tile + n * 8))[i];
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            WordBytes w = three_bit_word(pairs, third, j);
            b->low[j] = w.low;
            b->high[j] = w.high;
        }
        ScaleMin s = scales(tile, n, i);
        set_scales(b, super_scale(tile, n, i) * (1.0f / 32), 0.0f, (i32)s.scale - 32, (i32)s.min - 32);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        UnpackedBlock b;
        unpack(tile, n, i, &b);
        // The integer is at most 2 * 16 * 128 * 2040 * 32 < 2^31.
        return add_scaled(sum, b.d, dot_unpacked(b, x), x);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        ScaleMin s = scales(tile, n, i);
        u32 third = ((const u32 *)(tile + n * 8))[i],
            turned = rotate_right(third, k / 4) >> (8 * (k % 4) + 7);
        u32 q = pair_of((const uint2 *)tile, i, k) | (~turned & 1u) << 2;
        return super_scale(tile, n, i) * (float)((i32)(k < 16 ? s.scale : s.min) - 32) * (float)((i32)q - 4);
    }
};

template <> struct Block<FORMAT_Q4_K> {
    static DEVICE ScaleMin scale_min(const u8 *tile, u32 n, u32 i) {
        return scale_min_of((const u32 *)(tile + n * 16 + n / 8 * 4), i);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        Half2 d = unpack_f16(((const u32 *)(tile + n * 16))[i / 8]);
        ScaleMin s = scale_min(tile, n, i);
        i32 q = dot_nibbles(((const uint4 *)tile)[i], x) * (i32)s.scale;
        return add_scaled(sum, d.low, minus_product(d.high, (float)s.min), q, x);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        Half2 d = unpack_f16(((const u32 *)(tile + n * 16))[i / 8]);
        ScaleMin s = scale_min(tile, n, i);
        unpack_nibbles(((const uint4 *)tile)[i], b);
        set_scales(b, d.low, minus_product(d.high, (float)s.min), (i32)s.scale, (i32)s.scale);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        Half2 d = unpack_f16(((const u32 *)(tile + n * 16))[i / 8]);
        ScaleMin s = scale_min(tile, n, i);
        return fma_f32(d.low * (float)s.scale, (float)nibble_of(tile, i, k),
                       minus_product(d.high, (float)s.min));
    }
};

template <> struct Block<FORMAT_Q5_K> {
    static DEVICE u32 fifth(const u8 *tile, u32 n, u32 i) {
        return ((const u32 *)(tile + n * 16))[i];
    }
    static DEVICE ScaleMin scale_min(const u8 *tile, u32 n, u32 i) {
        return scale_min_of((const u32 *)(tile + n * 20 + n / 8 * 4), i);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        Half2 d = unpack_f16(((const u32 *)(tile + n * 20))[i / 8]);
        ScaleMin s = scale_min(tile, n, i);
        i32 q = dot_5_bits(((const uint4 *)tile)[i], fifth(tile, n, i), x) * (i32)s.scale;
        return add_scaled(sum, d.low, minus_product(d.high, (float)s.min), q, x);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        Half2 d = unpack_f16(((const u32 *)(tile + n * 20))[i / 8]);
        ScaleMin s = scale_min(tile, n, i);
        unpack_5_bits(((const uint4 *)tile)[i], fifth(tile, n, i), b);
        set_scales(b, d.low, minus_product(d.high, (float)s.min), (i32)s.scale, (i32)s.scale);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        Half2 d = unpack_f16(((const u32 *)(tile + n * 20))[i / 8]);
        ScaleMin s = scale_min(tile, n, i);
        u32 q = five_bits_of(tile, (const u32 *)(tile + n * 16), i, k);
        return fma_f32(d.low * (float)s.scale, (float)q, minus_product(d.high, (float)s.min));
    }
};

template <> struct Block<FORMAT_Q6_K> {
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        uint4 v = ((const uint4 *)tile)[i];
        uint2 h = ((const uint2 *)(tile + n * 16))[i];
        u32 scales = ((const u16 *)(tile + n * 24))[i];
        const u32 words[4] = {v.x, v.y, v.z, v.w},
                  bits[4] = {h.x, rotate_right(h.x, 2), h.y, rotate_right(h.y, 2)};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            WordBytes w = six_bit_word(words[j], bits[j]); // 4 (q - 32)
            b->low[j] = w.low;
            b->high[j] = w.high;
        }
        float d = 0.25f * f16_to_f32(((const f16 *)(tile + n * 26))[i / 8]);
        set_scales(b, d, 0.0f, (i8)scales, (i8)(scales >> 8));
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        UnpackedBlock b;
        unpack(tile, n, i, &b);
        // The integer is at most 2 * 16 * 128 * 2040 * 128 < 2^31.
        return add_scaled(sum, b.d, dot_unpacked(b, x), x);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        i8 scale = ((const i8 *)(tile + n * 24))[i * 2 + k / 16];
        float d = f16_to_f32(((const f16 *)(tile + n * 26))[i / 8]);
        return d * (float)scale * (float)six_bits_of(tile, (const uint2 *)(tile + n * 16), i, k);
    }
};

template <> struct Block<FORMAT_IQ4_NL> {
    static DEVICE float scale(const u8 *tile, u32 n, u32 i) {
        return f16_to_f32(((const f16 *)(tile + n * 16))[i]);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        unpack_iq4(((const uint4 *)tile)[i], b);
        set_scales(b, scale(tile, n, i), 0.0f, 1, 1);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        UnpackedBlock b;
        unpack(tile, n, i, &b);
        return add_scaled(sum, b.d, dot_unpacked(b, x), x);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        return scale(tile, n, i) * iq4_value_of(tile, i, k);
    }
};

// d, and the scale of 6 bits of one of 8 blocks, less 32.
struct Iq4Scale {
    float d;
    i32 scale;
};
DEVICE Iq4Scale iq4_scale_of(uint2 super, u32 i) {
    u32 low = super.y >> 4 * (i % 8) & 15u, high = super.x >> (16 + 2 * (i % 8)) & 3u;
    return {f16_to_f32((f16)super.x), (i32)(low | high << 4) - 32};
}

template <> struct Block<FORMAT_IQ4_XS> {
    static DEVICE Iq4Scale scale(const u8 *tile, u32 n, u32 i) {
        return iq4_scale_of(((const uint2 *)(tile + n * 16))[i / 8], i);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        Iq4Scale s = scale(tile, n, i);
        unpack_iq4(((const uint4 *)tile)[i], b);
        set_scales(b, s.d, 0.0f, s.scale, s.scale);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        UnpackedBlock b;
        unpack(tile, n, i, &b);
        // The integer is at most 32 * 127 * 2040 * 32 < 2^31.
        return add_scaled(sum, b.d, dot_unpacked(b, x), x);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        Iq4Scale s = scale(tile, n, i);
        return s.d * (float)s.scale * iq4_value_of(tile, i, k);
    }
};

template <> struct Block<FORMAT_MXFP4> {
    static DEVICE float half_scale(const u8 *tile, u32 n, u32 i) {
        return e2m1_half_scale(tile[n * 16 + i]);
    }
    static DEVICE void unpack(const u8 *tile, u32 n, u32 i, UnpackedBlock *b) {
        uint4 v = ((const uint4 *)tile)[i];
        const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            WordBytes w = e2m1_word(words[j]);
            b->low[j] = w.low;
            b->high[j] = w.high;
        }
        float d = half_scale(tile, n, i);
        set_scales(b, d, -12.0f * d, 1, 1);
    }
    static DEVICE float add_dot(float sum, const u8 *tile, u32 n, u32 i, const BlockX &x) {
        UnpackedBlock b;
        unpack(tile, n, i, &b);
        return add_unpacked(sum, b, x);
    }
    static DEVICE float value(const u8 *tile, u32 n, u32 i, u32 k) {
        u32 code = code_of(tile, i, k);
        i32 twice = (i32)(e2m1_bytes(code, code ^ 8u) & 0xFFu) - 12;
        return half_scale(tile, n, i) * (float)twice;
    }
};

// Float formats multiply with float activations; their rows are plain.
template <> struct Block<FORMAT_F32> {
    static DEVICE float value(const u8 *tile, u32, u32 i, u32 k) {
        return ((const float *)tile)[i * BLOCK_WEIGHTS + k];
    }
};
template <> struct Block<FORMAT_F16> {
    static DEVICE float value(const u8 *tile, u32, u32 i, u32 k) {
        return f16_to_f32(((const f16 *)tile)[i * BLOCK_WEIGHTS + k]);
    }
};
template <> struct Block<FORMAT_BF16> {
    static DEVICE float value(const u8 *tile, u32, u32 i, u32 k) {
        return bf16_to_f32(((const bf16 *)tile)[i * BLOCK_WEIGHTS + k]);
    }
};

// Four consecutive weights from `element` on of a float row piece.
template <int format> DEVICE float4 float_weights_4(const u8 *tile, u32 element) {
    if (format == FORMAT_F32) return ((const float4 *)tile)[element / 4];
    uint2 v = ((const uint2 *)tile)[element / 4];
    if (format == FORMAT_BF16) {
        return {float_of(v.x << 16), float_of(v.x & 0xFFFF0000u), float_of(v.y << 16),
                float_of(v.y & 0xFFFF0000u)};
    }
    Half2 a = unpack_f16(v.x), b = unpack_f16(v.y);
    return {a.low, a.high, b.low, b.high};
}

// Weight `col` of a row of n_cols.
template <int format> DEVICE float weight_value(const u8 *row, u32 n_cols, u32 col) {
    u32 tile = col / TILE_WEIGHTS, block = col % TILE_WEIGHTS / BLOCK_WEIGHTS;
    u32 n = MIN(CEIL_DIV(n_cols, BLOCK_WEIGHTS) - tile * TILE_BLOCKS, (u32)TILE_BLOCKS);
    const u8 *t = row + (u64)tile * layout_tile_bytes(format, TILE_BLOCKS);
    return Block<format>::value(t, n, block, col % BLOCK_WEIGHTS);
}

// Four of them, from a `col` that is a multiple of 4 on.
template <int format> DEVICE float4 weights_4(const u8 *row, u32 n_cols, u32 col) {
    if constexpr (FORMAT_IS_FLOAT(format)) {
        return float_weights_4<format>(row, col);
    } else {
        return {weight_value<format>(row, n_cols, col), weight_value<format>(row, n_cols, col + 1),
                weight_value<format>(row, n_cols, col + 2), weight_value<format>(row, n_cols, col + 3)};
    }
}
