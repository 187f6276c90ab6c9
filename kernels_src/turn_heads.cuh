// What becomes of a head that qkv.cuh left, by a warp: norms of the heads of queries and keys (HEAD_NORMS),
// and RoPE at the row's position.
//
//     n = v / sqrt(mean(v^2) + eps) * w          over a head of queries or keys; else n = v
//     q, k = n, its first ROPE_DIMS dims turned by the angles of rope.cuh's table
// NORM_TURNED: the norm is of what has been turned. NORM_PLAIN: without w.
//     q is times SCORE_SCALE * log2(e); TEMPERATURE_SCALE: at position p also times
//     1 + TEMPERATURE_SCALE * ln(1 + floor((p + TEMPERATURE_OFFSET) / TEMPERATURE_LENGTH))
//
// Operations: RMS_NORM, ROPE. A lane has two neighbouring dims a turn: 2 lane + 64 turn. Sums of squares: a
// lane's values in the order of its dims, then lanes 16 apart, 8, 4, 2, 1. Needs kv_cache.cuh.
// Defines: N_HEADS, N_KV_HEADS, HEAD_DIM (even), ROPE_DIMS (a multiple of 4; 0: nothing is turned),
// ROPE_HALVES (dims i and i + ROPE_DIMS / 2 are turned together; else 2 i and 2 i + 1), SCORE_SCALE;
// HEAD_NORMS and NORM_EPS, NORM_TURNED, NORM_PLAIN; VALUE_NORMS (with HEAD_NORMS): n of values, without w;
// SHARED_KV: the rows have queries alone; HEAD_GATES (gates of N_HEADS heads lie behind the values);
// TEMPERATURE_SCALE, TEMPERATURE_LENGTH, TEMPERATURE_OFFSET.
#if !defined(HEAD_DIM) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(ROPE_DIMS) || \
    !defined(ROPE_HALVES) || !defined(SCORE_SCALE)
#error "HEAD_DIM, N_HEADS, N_KV_HEADS, ROPE_DIMS, ROPE_HALVES, SCORE_SCALE"
#endif
#if defined(HEAD_NORMS) && !defined(NORM_EPS)
#error "NORM_EPS"
#endif

enum : u32 {
    ROPE_PAIRS = ROPE_DIMS / 2,
#ifdef SHARED_KV
    TURNED_HEADS = N_HEADS,
#else
    TURNED_HEADS = N_HEADS + 2 * N_KV_HEADS, // of a row: queries, keys, values
#endif
#ifdef HEAD_GATES
    ROW_HEADS = TURNED_HEADS + N_HEADS, // and the gates behind them
#else
    ROW_HEADS = TURNED_HEADS,
#endif
    HEAD_TURNS = CEIL_DIV(HEAD_DIM, 2 * WARP),
    // ROPE_HALVES: a lane has what its dims are turned with, so many turns on; 0: other lanes may have it.
    TURNS_ACROSS = ROPE_HALVES && ROPE_PAIRS % (2 * WARP) == 0 ? ROPE_PAIRS / (2 * WARP) : 0,
};
static_assert(ROPE_DIMS % 4 == 0, "pairs of pairs are loaded together");

DEVICE u32 head_dim_of(u32 turn) {
    return (turn * WARP + lane_index()) * 2;
}
// ROPE_HALVES: the dims that dim and dim + 1 are turned with.
DEVICE u32 dim_across(u32 dim) {
    return dim < ROPE_PAIRS ? dim + ROPE_PAIRS : dim - ROPE_PAIRS;
}

// What a lane has of a head, as it comes from memory; `across`: ROPE_HALVES without TURNS_ACROSS, of
// dim_across.
struct RawHead {
    float2 own[HEAD_TURNS], across[HEAD_TURNS];
};
// Loads of several heads, of angles and of weights may go side by side.
DEVICE RawHead load_raw_head(const float *raw) {
    RawHead h;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        h.own[i] = h.across[i] = {0, 0};
        if (dim < HEAD_DIM) h.own[i] = load_shared_data((const float2 *)(raw + dim));
#if ROPE_HALVES && ROPE_DIMS > 0
        if (TURNS_ACROSS == 0 && dim < ROPE_DIMS)
            h.across[i] = load_shared_data((const float2 *)(raw + dim_across(dim)));
#endif
    }
    return h;
}

// A lane's angles at a row's position: {cosine, sine} of its dims, which with ROPE_HALVES are of two pairs.
struct HeadAngles {
    float4 turn[HEAD_TURNS];
};
// rope: rope.cuh's table.
DEVICE HeadAngles load_angles(const float *rope, u32 row) {
    HeadAngles a = {};
#if ROPE_DIMS > 0
    const float2 *angles = (const float2 *)rope + (u64)row * ROPE_PAIRS;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        a.turn[i] = {1, 0, 1, 0};
        if (dim >= ROPE_DIMS || (TURNS_ACROSS > 0 && i >= TURNS_ACROSS)) continue;
        if (ROPE_HALVES) {
            a.turn[i] = load_shared_data((const float4 *)(angles + dim % ROPE_PAIRS));
        } else {
            float2 v = load_shared_data(angles + dim / 2);
            a.turn[i] = {v.x, v.y, v.x, v.y};
        }
    }
#else
    (void)rope, (void)row;
#endif
    return a;
}

#ifdef HEAD_NORMS
// 1 / sqrt(mean(v^2) + eps) of the head.
DEVICE float head_factor(const RawHead *h) {
    float squares = 0;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        float2 v = h->own[i];
        if (head_dim_of(i) < HEAD_DIM) squares = fma_f32(v.y, v.y, fma_f32(v.x, v.x, squares));
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    return reciprocal_sqrt_fast(fma_f32(squares, 1.0f / HEAD_DIM, NORM_EPS));
}

DEVICE void norm_head(RawHead *h, const float *norm) {
    float factor = head_factor(h);
    auto times = [&](float2 v, u32 dim) {
#ifdef NORM_PLAIN
        (void)norm, (void)dim;
        return float2{v.x * factor, v.y * factor};
#else
        float2 w = *(const float2 *)(norm + dim);
        return float2{v.x * factor * w.x, v.y * factor * w.y};
#endif
    };
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim < HEAD_DIM) h->own[i] = times(h->own[i], dim);
#if ROPE_HALVES && ROPE_DIMS > 0 && !defined(NORM_TURNED)
        if (TURNS_ACROSS == 0 && dim < ROPE_DIMS) h->across[i] = times(h->across[i], dim_across(dim));
#endif
    }
}
#endif

// A head of values.
DEVICE void norm_value(RawHead *h) {
#ifdef VALUE_NORMS
    float factor = head_factor(h);
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        h->own[i] = {h->own[i].x * factor, h->own[i].y * factor};
    }
#else
    (void)h;
#endif
}

// h->own becomes what it is behind the turn.
DEVICE void turn_pairs(RawHead *h, const HeadAngles &angles) {
#if ROPE_DIMS > 0
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        float2 own = h->own[i], across = h->across[i];
        float4 t = angles.turn[i];
        if (TURNS_ACROSS > 0) {
            if (i >= TURNS_ACROSS) break;
            float2 *second = &h->own[(i + TURNS_ACROSS) % HEAD_TURNS], v = *second;
            h->own[i] = {turned_first(own.x, v.x, t.x, t.y), turned_first(own.y, v.y, t.z, t.w)};
            *second = {turned_second(own.x, v.x, t.x, t.y), turned_second(own.y, v.y, t.z, t.w)};
            continue;
        }
        if (dim >= ROPE_DIMS) continue;
        if (!ROPE_HALVES) {
            h->own[i] = {turned_first(own.x, own.y, t.x, t.y), turned_second(own.x, own.y, t.x, t.y)};
        } else if (dim < ROPE_PAIRS) {
            h->own[i] = {turned_first(own.x, across.x, t.x, t.y), turned_first(own.y, across.y, t.z, t.w)};
        } else {
            h->own[i] = {turned_second(across.x, own.x, t.x, t.y), turned_second(across.y, own.y, t.z, t.w)};
        }
    }
#endif
    (void)h, (void)angles;
}

// A head of queries or keys: h->own becomes what it is after norm and turn. norm [HEAD_DIM].
DEVICE void turn_head(RawHead *h, const float *norm, const HeadAngles &angles) {
#if defined(HEAD_NORMS) && !defined(NORM_TURNED)
    norm_head(h, norm);
#endif
    (void)norm;
    turn_pairs(h, angles);
#ifdef NORM_TURNED
    norm_head(h, norm);
#endif
}

// A head of queries, behind turn_head.
DEVICE void heat_query(RawHead *h, u32 position) {
#ifdef TEMPERATURE_SCALE
    u32 lengths = (position + TEMPERATURE_OFFSET) / TEMPERATURE_LENGTH;
    float heat = fma_f32(TEMPERATURE_SCALE, log_f32(1.0f + (float)lengths), 1.0f);
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        h->own[i] = {h->own[i].x * heat, h->own[i].y * heat};
    }
#else
    (void)h, (void)position;
#endif
}

// A lane's pair of a query as it is stored.
DEVICE u32 packed_query(float2 v) {
    const float scale = SCORE_SCALE * 1.44269504089f;
    return pack_f16(v.x * scale, v.y * scale);
}

// A lane's part of a head's key or value, as the cache has it: pairs of its dims. KV_Q8:
//     scale = largest |v| of the head * (1 / 127), rounded to f16
//     code = v * (1 / scale), rounded to the nearest integer (ties to even), -127 … 127
// A NaN or an infinity makes the scale one. Whoever reads an entry, also in the step that makes it, reads
// this. (cpu_round_to_q8.)
struct Entry {
    u32 pair[HEAD_TURNS]; // KV_Q8: two bytes, code + 128
#ifdef KV_Q8
    u32 scale;
#endif
};
#ifdef KV_Q8
DEVICE u32 code_of(float v) {
    v = v > 127 ? 127 : v;
    v = v < -127 ? -127 : v;
    return bits_of(v + (12582912.0f + 128)) & 0xFF; // 1.5 * 2^23: what is behind the point is rounded off
}
#endif
DEVICE Entry make_entry(const RawHead &h) {
    Entry e;
#ifdef KV_Q8
    u32 largest = 0; // as bits, so that a NaN is larger than all
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 x = bits_of(h.own[i].x) & 0x7FFFFFFF, y = bits_of(h.own[i].y) & 0x7FFFFFFF;
        largest = MAX(largest, MAX(x, y));
    }
    f16 scale = f32_to_f16(float_of(warp_max(largest)) * (1 / 127.0f));
    float inverse = f16_to_f32(scale) > 0 ? divide_f32(1, f16_to_f32(scale)) : 0.0f;
    e.scale = scale;
#endif
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
#ifdef KV_Q8
        e.pair[i] = code_of(h.own[i].x * inverse) | code_of(h.own[i].y * inverse) << 8;
#else
        e.pair[i] = pack_f16(h.own[i].x, h.own[i].y);
#endif
    }
    return e;
}
// To its token of a piece of keys or values, in the cache or in shared memory.
DEVICE void store_entry(u8 *piece, bool is_value, u32 token, const Entry &e) {
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim >= HEAD_DIM) continue;
#ifdef KV_Q8
        if (is_value) {
            piece[layout_kv_code_at(HEAD_DIM, 1, token, dim)] = (u8)e.pair[i];
            piece[layout_kv_code_at(HEAD_DIM, 1, token, dim + 1)] = (u8)(e.pair[i] >> 8);
        } else {
            *(u16 *)(piece + layout_kv_code_at(HEAD_DIM, 0, token, dim)) = (u16)e.pair[i];
        }
#else
        *(u32 *)(piece + layout_kv_unit_at(KV_ROW_BYTES, token, dim / 8) + dim % 8 * 2) = e.pair[i];
#endif
    }
#ifdef KV_Q8
    if (lane_index() == 0) *(u16 *)(piece + layout_kv_scale_at(HEAD_DIM, token)) = (u16)e.scale;
#endif
    (void)is_value;
}
// What store_entry left in the cache. KV_Q8: the word with a pair of codes has those of the dims 8 on or
// back, too.
DEVICE Entry load_entry(const u8 *piece, bool is_value, u32 token) {
    Entry e = {};
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim >= HEAD_DIM) continue;
#ifdef KV_Q8
        u32 at = layout_kv_code_at(HEAD_DIM, is_value, token, dim) / 4 * 4;
        u32 codes = load_shared_data((const u32 *)(piece + at)), upper = dim / 8 % 2;
        if (is_value) codes >>= 8 * upper, e.pair[i] = (codes & 0xFF) | (codes >> 8 & 0xFF00);
        else e.pair[i] = codes >> 16 * upper & 0xFFFF;
#else
        e.pair[i] = load_shared_data(
            (const u32 *)(piece + layout_kv_unit_at(KV_ROW_BYTES, token, dim / 8) + dim % 8 * 2));
#endif
    }
#ifdef KV_Q8
    u32 scales = load_shared_data((const u32 *)(piece + layout_kv_scale_at(HEAD_DIM, token / 2 * 2)));
    e.scale = scales >> token % 2 * 16 & 0xFFFF;
#endif
    (void)is_value;
    return e;
}
