// Heads of queries and keys that have a norm of their own: what decoding and prefill have in common. A warp
// takes one head of one token.
//
//     v / sqrt(mean(v^2) + eps) * w, over the head; then turned by RoPE, times a scale
//
// Operations: RMS_NORM in groups of a head, ROPE. Sums: a lane's values in the order of its pairs, then lanes
// 16 apart, 8, 4, 2, 1. Needs kv_cache.cuh.
// Defines: N_HEADS, N_KV_HEADS, HEAD_DIM (even), ROPE_DIMS, ROPE_HALVES (pairs i, i + dims / 2; else
// 2 i, 2 i + 1), NORM_EPS, SCORE_SCALE.
#if !defined(HEAD_DIM) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(ROPE_DIMS) || \
    !defined(ROPE_HALVES) || !defined(NORM_EPS) || !defined(SCORE_SCALE)
#error "HEAD_DIM, N_HEADS, N_KV_HEADS, ROPE_DIMS, ROPE_HALVES, NORM_EPS, SCORE_SCALE"
#endif

enum : u32 {
    HEAD_PAIRS = HEAD_DIM / 2,
    ROPE_PAIRS = ROPE_DIMS / 2,
    PAIR_TURNS = CEIL_DIV(HEAD_DIM / 2, 32), // pairs a lane
    ROW_HEADS = N_HEADS + 2 * N_KV_HEADS,    // of a token: queries, keys, values
    HEADS_WARPS = 4,                         // of a block
};

struct HeadPair {
    u32 dim[2];
    bool turned;
};
DEVICE HeadPair head_pair(u32 pair) {
    bool turned = pair < ROPE_PAIRS, halves = ROPE_HALVES && turned;
    return {{halves ? pair : 2 * pair, halves ? pair + ROPE_PAIRS : 2 * pair + 1}, turned};
}

// Where a head of the row goes.
struct HeadPlace {
    u32 projection; // 0 query, 1 key, 2 value
    f16 *out;       // of its first value
    u32 stride;
};
// q of the row; the layer's cache and the row's place in it.
DEVICE HeadPlace head_place(u32 head, f16 *q, f16 *kv, u32 page, u32 token) {
    if (head < N_HEADS) return {0, q + head * HEAD_DIM, 1};
    if (head < N_HEADS + N_KV_HEADS) return {1, kv_key(kv, page, head - N_HEADS, token), 1};
    return {2, kv_value(kv, page, head - N_HEADS - N_KV_HEADS, token), VALUE_DIM_STRIDE};
}

// `norm` [HEAD_DIM] of queries or keys; turn(pair) gives {cosine, sine}. Values only move.
template <class Turn>
DEVICE void head_run(const float *raw, const float *norm, const HeadPlace &place, const Turn &turn) {
    float v[PAIR_TURNS][2], squares = 0;
#pragma unroll
    for (u32 i = 0; i < PAIR_TURNS; i++) {
        u32 pair = i * WARP + lane_index();
        v[i][0] = v[i][1] = 0;
        if (pair >= HEAD_PAIRS) continue;
        HeadPair p = head_pair(pair);
        for (u32 k = 0; k < 2; k++) {
            v[i][k] = load_shared_data(raw + p.dim[k]);
            squares = fma_f32(v[i][k], v[i][k], squares);
        }
    }
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    float factor = reciprocal_sqrt_fast(fma_f32(squares, 1.0f / HEAD_DIM, NORM_EPS));
    float scale = place.projection == 0 ? SCORE_SCALE * 1.44269504089f : 1.0f;
#pragma unroll
    for (u32 i = 0; i < PAIR_TURNS; i++) {
        u32 pair = i * WARP + lane_index();
        if (pair >= HEAD_PAIRS) continue;
        HeadPair p = head_pair(pair);
        float y0 = v[i][0], y1 = v[i][1];
        if (place.projection < 2) {
            float n0 = y0 * factor * norm[p.dim[0]], n1 = y1 * factor * norm[p.dim[1]];
            float2 t = p.turned ? turn(pair) : float2{1, 0};
            y0 = fma_f32(n0, t.x, -(n1 * t.y)) * scale;
            y1 = fma_f32(n0, t.y, n1 * t.x) * scale;
        }
        place.out[p.dim[0] * place.stride] = f32_to_f16(y0);
        place.out[p.dim[1] * place.stride] = f32_to_f16(y1);
    }
}
