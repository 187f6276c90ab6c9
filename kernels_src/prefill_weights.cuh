// Prefill: 32-weight blocks of each format as f16 operands of the tensor cores, dequantised in registers.
//
// A lane has whole blocks of its rows: lane 4 g + c of a warp has block 4 j + c of rows g and g + 8 for the
// 128 columns of step j. Word w of a block, i.e. weights 4 w … 4 w + 3 and 16 + 4 w …, becomes four registers
// of two weights each:
//     low[0] 4 w, 4 w + 2   low[1] 4 w + 1, 4 w + 3   high[0], high[1] the same of 16 + 4 w
// `low` are the row's two registers of one product of 16 columns, `high` of the next; activations are stored
// in that order (layout.h). A block's scale is decoded once for 32 weights.
//
// A nibble q put under the bits 0x6400 is the f16 number 1024 + q; in the upper half of a byte, 1024 + 16 q.
// Subtracting is exact, so that a weight is rounded twice: its block's scale (and minimum) to f16, and the
// product (with the minimum added). Instructions a weight: about 2 (Q4, Q8), 2.5 (Q5, Q6).

struct WeightBlock {
    uint4 q;      // nibbles, or the first 16 bytes
    uint4 q_high; // Q8_0: the other 16 bytes
    uint2 bits;   // fifth bits, or bits 5 and 6, or pairs
    u32 raw[3];   // scales as they lie in memory
    const u8 *at; // float formats: the block
};
struct BlockScale {
    u32 scale[2]; // of the low and high halves of the block, twice each
    u32 minimum;
    u32 high_minimum; // Q2_K: `minimum` is of the low half
};

DEVICE u32 twice_f16(float v) {
    return pack_f16(v, v);
}

#define F16X2_1024 0x64006400u
#define F16X2_16TH 0x2C002C00u
#define F16X2_8TH 0x30003000u
#define F16X2_32ND 0x28002800u

// Bytes 0 and 2, and 1 and 3, as 1024 + byte.
DEVICE void widen_bytes(u32 v, u32 out[2]) {
    out[0] = permute_bytes(v, F16X2_1024, 0x7270);
    out[1] = permute_bytes(v, F16X2_1024, 0x7371);
}
DEVICE void scale_f16x2(u32 v[2], u32 offset, u32 scale) {
    v[0] = multiply_f16x2(add_f16x2(v[0], offset), scale);
    v[1] = multiply_f16x2(add_f16x2(v[1], offset), scale);
}

// Nibbles of a word as q + offset: low 1024 + q, high 1024 + 16 q to begin with.
DEVICE void nibbles_to_f16x2(u32 v, u32 minus_low, u32 minus_high, u32 low[2], u32 high[2]) {
    u32 odd = v >> 8;
    low[0] = add_f16x2((v & 0x000F000Fu) | F16X2_1024, minus_low);
    low[1] = add_f16x2((odd & 0x000F000Fu) | F16X2_1024, minus_low);
    high[0] = fma_f16x2((v & 0x00F000F0u) | F16X2_1024, F16X2_16TH, minus_high);
    high[1] = fma_f16x2((odd & 0x00F000F0u) | F16X2_1024, F16X2_16TH, minus_high);
}
DEVICE void five_bits_to_f16x2(u32 v, u32 h, u32 minus_low, u32 minus_high, u32 low[2], u32 high[2]) {
    widen_bytes((v & 0x0F0F0F0Fu) | (h & 0x10101010u), low);
    widen_bytes((v & 0xF0F0F0F0u) | (h & 0x08080808u), high);
    for (u32 i = 0; i < 2; i++) {
        low[i] = add_f16x2(low[i], minus_low);
        high[i] = fma_f16x2(high[i], F16X2_8TH, minus_high);
    }
}
DEVICE void scale_all(const BlockScale &s, u32 low[2], u32 high[2]) {
    for (u32 i = 0; i < 2; i++) {
        low[i] = multiply_f16x2(low[i], s.scale[0]);
        high[i] = multiply_f16x2(high[i], s.scale[0]);
    }
}
DEVICE void scale_and_add_all(const BlockScale &s, u32 low[2], u32 high[2]) {
    for (u32 i = 0; i < 2; i++) {
        low[i] = fma_f16x2(low[i], s.scale[0], s.minimum);
        high[i] = fma_f16x2(high[i], s.scale[0], s.minimum);
    }
}

DEVICE u32 word_of(const uint4 &v, u32 w) {
    return w == 0 ? v.x : w == 1 ? v.y : w == 2 ? v.z : v.w;
}
DEVICE u32 same_twice(u32 half) {
    return permute_bytes(half, 0, 0x1010);
}

// Each format: load (block i of a tile of n; memory only), scale (what the words need), word.
template <int format> struct Fragment;

template <> struct Fragment<FORMAT_Q4_0> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->raw[0] = ((const f16 *)(tile + n * 16))[i];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        s->scale[0] = same_twice(b.raw[0]);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        nibbles_to_f16x2(word_of(b.q, w), 0xE408E408u, 0xD480D480u, low, high); // -1032, -72
        scale_all(s, low, high);
    }
};

template <> struct Fragment<FORMAT_Q4_1> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->raw[0] = ((const u32 *)(tile + n * 16))[i];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        s->scale[0] = same_twice(b.raw[0]);
        s->minimum = permute_bytes(b.raw[0], 0, 0x3232);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        nibbles_to_f16x2(word_of(b.q, w), 0xE400E400u, 0xD400D400u, low, high); // -1024, -64
        scale_and_add_all(s, low, high);
    }
};

template <> struct Fragment<FORMAT_Q5_0> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->bits.x = ((const u32 *)(tile + n * 16))[i];
        b->raw[0] = ((const f16 *)(tile + n * 20))[i];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        s->scale[0] = same_twice(b.raw[0]);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        five_bits_to_f16x2(word_of(b.q, w), rotate_right(b.bits.x, 2 * w), 0xE410E410u, 0xD880D880u, low,
                           high); // -1040, -144
        scale_all(s, low, high);
    }
};

template <> struct Fragment<FORMAT_Q5_1> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->bits.x = ((const u32 *)(tile + n * 16))[i];
        b->raw[0] = ((const u32 *)(tile + n * 20))[i];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        s->scale[0] = same_twice(b.raw[0]);
        s->minimum = permute_bytes(b.raw[0], 0, 0x3232);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        five_bits_to_f16x2(word_of(b.q, w), rotate_right(b.bits.x, 2 * w), 0xE400E400u, 0xD800D800u, low,
                           high); // -1024, -128
        scale_and_add_all(s, low, high);
    }
};

template <> struct Fragment<FORMAT_Q8_0> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->q_high = ((const uint4 *)(tile + n * 16))[i];
        b->raw[0] = ((const f16 *)(tile + n * 32))[i];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        s->scale[0] = same_twice(b.raw[0]);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        widen_bytes(word_of(b.q, w) ^ 0x80808080u, low);
        widen_bytes(word_of(b.q_high, w) ^ 0x80808080u, high);
        scale_f16x2(low, 0xE480E480u, s.scale[0]); // -1152
        scale_f16x2(high, 0xE480E480u, s.scale[0]);
    }
};

// Bytes 32 q as 32 + q + offset.
DEVICE void pairs_to_f16x2(u32 v, u32 offset, u32 out[2]) {
    widen_bytes(v, out);
    out[0] = fma_f16x2(out[0], F16X2_32ND, offset);
    out[1] = fma_f16x2(out[1], F16X2_32ND, offset);
}

template <> struct Fragment<FORMAT_Q2_K> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->bits = ((const uint2 *)tile)[i];
        b->raw[0] = ((const u16 *)(tile + n * 8))[i];
        b->raw[1] = ((const u32 *)(tile + n * 10))[i / 8];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        Half2 d = unpack_f16(b.raw[1]);
        s->scale[0] = twice_f16(d.low * (float)(b.raw[0] & 15u));
        s->scale[1] = twice_f16(d.low * (float)(b.raw[0] >> 8 & 15u));
        s->minimum = twice_f16(minus_product(d.high, (float)(b.raw[0] >> 4 & 15u)));
        s->high_minimum = twice_f16(minus_product(d.high, (float)(b.raw[0] >> 12)));
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        pairs_to_f16x2(pair_bytes(b.bits.x, w), 0xD000D000u, low); // -32
        pairs_to_f16x2(pair_bytes(b.bits.y, w), 0xD000D000u, high);
        for (u32 i = 0; i < 2; i++) {
            low[i] = fma_f16x2(low[i], s.scale[0], s.minimum);
            high[i] = fma_f16x2(high[i], s.scale[1], s.high_minimum);
        }
    }
};

template <> struct Fragment<FORMAT_Q3_K> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        const u32 *scales = (const u32 *)(tile + n * 12);
        b->bits = ((const uint2 *)tile)[i];
        b->q.x = ((const u32 *)(tile + n * 8))[i]; // third bits
        b->raw[0] = ((const f16 *)(tile + n * 12 + n / 8 * 12))[i / 8];
        b->raw[1] = scales[12 * i / 32];
        b->raw[2] = scales[(12 * i + 11) / 32];
    }
    static DEVICE void scale(const WeightBlock &b, u32 i, BlockScale *s) {
        float d = f16_to_f32((f16)b.raw[0]);
        u32 v = funnel_right(b.raw[1], b.raw[2], 12 * i % 32);
        s->scale[0] = twice_f16(d * (float)((i32)(v & 63u) - 32));
        s->scale[1] = twice_f16(d * (float)((i32)(v >> 6 & 63u) - 32));
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        WordBytes v = three_bit_word(b.bits, b.q.x, w);
        pairs_to_f16x2(v.low ^ 0x80808080u, 0xD080D080u, low); // 32 (q - 4) + 128; -36
        pairs_to_f16x2(v.high ^ 0x80808080u, 0xD080D080u, high);
        for (u32 i = 0; i < 2; i++) {
            low[i] = multiply_f16x2(low[i], s.scale[0]);
            high[i] = multiply_f16x2(high[i], s.scale[1]);
        }
    }
};

// Q4_K and Q5_K: `plane` is where {d, dmin} of 8 blocks begin, the 12 bits of each block behind them.
DEVICE void load_k_scales(const u8 *plane, u32 n, u32 i, WeightBlock *b) {
    const u32 *bits = (const u32 *)(plane + n / 8 * 4);
    b->raw[0] = ((const u32 *)plane)[i / 8];
    b->raw[1] = bits[12 * i / 32];
    b->raw[2] = bits[(12 * i + 11) / 32];
}
DEVICE void k_scale(const WeightBlock &b, u32 i, BlockScale *s) {
    Half2 d = unpack_f16(b.raw[0]);
    u32 v = funnel_right(b.raw[1], b.raw[2], 12 * i % 32);
    s->scale[0] = twice_f16(d.low * (float)(v & 63u));
    s->minimum = twice_f16(minus_product(d.high, (float)(v >> 6 & 63u)));
}

template <> struct Fragment<FORMAT_Q4_K> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        load_k_scales(tile + n * 16, n, i, b);
    }
    static DEVICE void scale(const WeightBlock &b, u32 i, BlockScale *s) {
        k_scale(b, i, s);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        nibbles_to_f16x2(word_of(b.q, w), 0xE400E400u, 0xD400D400u, low, high);
        scale_and_add_all(s, low, high);
    }
};

template <> struct Fragment<FORMAT_Q5_K> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->bits.x = ((const u32 *)(tile + n * 16))[i];
        load_k_scales(tile + n * 20, n, i, b);
    }
    static DEVICE void scale(const WeightBlock &b, u32 i, BlockScale *s) {
        k_scale(b, i, s);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        five_bits_to_f16x2(word_of(b.q, w), rotate_right(b.bits.x, 2 * w), 0xE400E400u, 0xD800D800u, low,
                           high);
        scale_and_add_all(s, low, high);
    }
};

template <> struct Fragment<FORMAT_Q6_K> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->bits = ((const uint2 *)(tile + n * 16))[i];
        b->raw[0] = ((const u16 *)(tile + n * 24))[i];
        b->raw[1] = ((const f16 *)(tile + n * 26))[i / 8];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        float d = 0.25f * f16_to_f32((f16)b.raw[1]);
        s->scale[0] = twice_f16(d * (float)(i8)b.raw[0]);
        s->scale[1] = twice_f16(d * (float)(i8)(b.raw[0] >> 8));
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        u32 v = word_of(b.q, w), h = rotate_right(w < 2 ? b.bits.x : b.bits.y, 2 * (w % 2));
        widen_bytes(((v << 2 & 0x3C3C3C3Cu) | (h & 0xC0C0C0C0u)) ^ 0x80808080u, low); // 4 (q - 32) + 128
        widen_bytes(((v & 0xF0F0F0F0u) | (h & 0x0C0C0C0Cu)) ^ 0x80808080u, high);
        scale_f16x2(low, 0xE480E480u, s.scale[0]);
        scale_f16x2(high, 0xE480E480u, s.scale[1]);
    }
};

// A table's values as f16: 1024 + 128 + value to begin with.
DEVICE void iq4_to_f16x2(u32 v, u32 scale, u32 low[2], u32 high[2]) {
    WordBytes bytes = iq4_word(v, 0x80808080u);
    widen_bytes(bytes.low, low);
    widen_bytes(bytes.high, high);
    scale_f16x2(low, 0xE480E480u, scale); // -1152
    scale_f16x2(high, 0xE480E480u, scale);
}

template <> struct Fragment<FORMAT_IQ4_NL> : Fragment<FORMAT_Q4_0> { // the same planes
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        iq4_to_f16x2(word_of(b.q, w), s.scale[0], low, high);
    }
};

template <> struct Fragment<FORMAT_IQ4_XS> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->bits = ((const uint2 *)(tile + n * 16))[i / 8]; // d and scales
    }
    static DEVICE void scale(const WeightBlock &b, u32 i, BlockScale *s) {
        Iq4Scale v = iq4_scale_of(b.bits, i);
        s->scale[0] = twice_f16(v.d * (float)v.scale);
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        iq4_to_f16x2(word_of(b.q, w), s.scale[0], low, high);
    }
};

// Twice a value is an integer up to 12 and the scale a power of two, so that these weights are exact, from
// 2^-24 up to 6 * 2^6. A block of a smaller scale becomes zeros; one of a larger scale (2^7 and more: weights
// of 64 and more) becomes infinite, and the step's result not a number, which those who read it look for.
template <> struct Fragment<FORMAT_MXFP4> {
    static DEVICE void load(const u8 *tile, u32 n, u32 i, WeightBlock *b) {
        b->q = ((const uint4 *)tile)[i];
        b->raw[0] = tile[n * 16 + i];
    }
    static DEVICE void scale(const WeightBlock &b, u32, BlockScale *s) {
        s->scale[0] = twice_f16(e2m1_half_scale(b.raw[0]));
        s->minimum = multiply_f16x2(s->scale[0], 0xE40CE40Cu); // -(1024 + 12)
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &s, u32 w, u32 low[2], u32 high[2]) {
        WordBytes v = e2m1_word(word_of(b.q, w));
        widen_bytes(v.low, low);
        widen_bytes(v.high, high);
        scale_and_add_all(s, low, high);
    }
};

// Float formats: read when they are needed.
template <int format> struct FloatFragment {
    static DEVICE void load(const u8 *tile, u32, u32 i, WeightBlock *b) {
        b->at = tile + i * layout_tile_bytes(format, 1);
    }
    static DEVICE void scale(const WeightBlock &, u32, BlockScale *) {
    }
    static DEVICE void word(const WeightBlock &b, const BlockScale &, u32 w, u32 low[2], u32 high[2]) {
        float4 v = float_weights_4<format>(b.at, 4 * w), u = float_weights_4<format>(b.at, 16 + 4 * w);
        low[0] = pack_f16(v.x, v.z), low[1] = pack_f16(v.y, v.w);
        high[0] = pack_f16(u.x, u.z), high[1] = pack_f16(u.y, u.w);
    }
};
template <> struct Fragment<FORMAT_F32> : FloatFragment<FORMAT_F32> {};
template <> struct Fragment<FORMAT_F16> : FloatFragment<FORMAT_F16> {};
template <> struct Fragment<FORMAT_BF16> : FloatFragment<FORMAT_BF16> {};
