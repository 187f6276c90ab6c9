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
// lane's values in the order of its dims, then lanes 16 apart, 8, 4, 2, 1.
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
};
static_assert(ROPE_DIMS % 4 == 0, "pairs of pairs are loaded together");

DEVICE u32 head_dim_of(u32 turn) {
    return (turn * WARP + lane_index()) * 2;
}
// ROPE_HALVES: the dims that dim and dim + 1 are turned with.
DEVICE u32 dim_across(u32 dim) {
    return dim < ROPE_PAIRS ? dim + ROPE_PAIRS : dim - ROPE_PAIRS;
}

// What a lane has of a head, as it comes from memory; `across`: ROPE_HALVES, of dim_across.
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
        if (dim < ROPE_DIMS) h.across[i] = load_shared_data((const float2 *)(raw + dim_across(dim)));
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
        if (dim >= ROPE_DIMS) continue;
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
        if (dim < ROPE_DIMS) h->across[i] = times(h->across[i], dim_across(dim));
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

// A head of queries or keys: h->own becomes what it is after norm and turn. norm [HEAD_DIM].
DEVICE void turn_head(RawHead *h, const float *norm, const HeadAngles &angles) {
#if defined(HEAD_NORMS) && !defined(NORM_TURNED)
    norm_head(h, norm);
#endif
    (void)h, (void)norm, (void)angles;
#if ROPE_DIMS > 0
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim >= ROPE_DIMS) continue;
        float2 own = h->own[i], across = h->across[i];
        float4 t = angles.turn[i];
        if (!ROPE_HALVES) {
            h->own[i] = {turned_first(own.x, own.y, t.x, t.y), turned_second(own.x, own.y, t.x, t.y)};
        } else if (dim < ROPE_PAIRS) {
            h->own[i] = {turned_first(own.x, across.x, t.x, t.y), turned_first(own.y, across.y, t.z, t.w)};
        } else {
            h->own[i] = {turned_second(across.x, own.x, t.x, t.y), turned_second(across.y, own.y, t.z, t.w)};
        }
    }
#endif
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

// A lane's pair as it is stored: of a query (which is scaled), a key or a value.
DEVICE u32 packed_query(float2 v) {
    const float scale = SCORE_SCALE * 1.44269504089f;
    return pack_f16(v.x * scale, v.y * scale);
}
DEVICE u32 packed_entry(float2 v) {
    return pack_f16(v.x, v.y);
}
