// Batches: what becomes of the heads that qkv.cuh left: norms of the heads of queries and keys (HEAD_NORMS),
// RoPE at each row's position, and the cache's new entries.
//
//     n = v / sqrt(mean(v^2) + eps) * w          over a head of queries or keys; else n = v
//     q, k = n, its first ROPE_DIMS dims turned by the angles of rope.cuh's table
//     q → args.q as f16, times SCORE_SCALE * log2(e)
//     k, v → the cache's page of the row's position
//
// Operations: RMS_NORM x 2, ROPE x 2, KV_WRITE. Grid: a warp a head of a row, HEADS_WARPS a block; those
// past the batch's rows end at once. A lane has two neighbouring dims a turn: 2 lane + 64 turn. Sums of
// squares: a lane's values in the order of its dims, then lanes 16 apart, 8, 4, 2, 1. Needs kv_cache.cuh.
// Defines: N_HEADS, N_KV_HEADS, HEAD_DIM (even), ROPE_DIMS (0: nothing is turned), ROPE_HALVES (dims i and i
// + ROPE_DIMS / 2 are turned together; else 2 i and 2 i + 1), SCORE_SCALE, MAX_ROWS; HEAD_NORMS and
// NORM_EPS.
#if !defined(HEAD_DIM) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(ROPE_DIMS) || \
    !defined(ROPE_HALVES) || !defined(SCORE_SCALE) || !defined(MAX_ROWS)
#error "HEAD_DIM, N_HEADS, N_KV_HEADS, ROPE_DIMS, ROPE_HALVES, SCORE_SCALE, MAX_ROWS"
#endif
#if defined(HEAD_NORMS) && !defined(NORM_EPS)
#error "NORM_EPS"
#endif

enum : u32 {
    ROPE_PAIRS = ROPE_DIMS / 2,
    ROW_HEADS = N_HEADS + 2 * N_KV_HEADS, // of a row: queries, keys, values
    HEAD_TURNS = CEIL_DIV(HEAD_DIM, 2 * WARP),
    HEADS_WARPS = MAX_ROWS > 128 ? 8 : 4,
};

// A head of queries or keys: its values as they come from memory, and what they are normed with.
struct HeadValues {
    const float *raw;  // [HEAD_DIM]
    const float *norm; // [HEAD_DIM]
    float factor;

    DEVICE float at(u32 dim) const {
        float v = load_shared_data(raw + dim);
#ifdef HEAD_NORMS
        v = v * factor * norm[dim];
#endif
        return v;
    }
};

// Value `dim` after the turn, by the row's angles [ROPE_PAIRS]{cosine, sine}.
DEVICE float turned_value(const HeadValues &h, const float2 *angles, u32 dim) {
    float own = h.at(dim);
#if ROPE_DIMS > 0
    if (dim >= ROPE_DIMS) return own;
    bool first = ROPE_HALVES ? dim < ROPE_PAIRS : dim % 2 == 0;
    u32 pair = ROPE_HALVES ? (first ? dim : dim - ROPE_PAIRS) : dim / 2;
    float other = h.at(ROPE_HALVES ? (first ? dim + ROPE_PAIRS : dim - ROPE_PAIRS) : dim ^ 1u);
    float2 turn = load_shared_data(angles + pair);
    return first ? fma_f32(own, turn.x, -(other * turn.y)) : fma_f32(other, turn.y, own * turn.x);
#else
    (void)angles;
    return own;
#endif
}

#ifdef HEAD_NORMS
DEVICE float head_factor(const float *raw) {
    float squares = 0;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = (i * WARP + lane_index()) * 2;
        if (dim >= HEAD_DIM) continue;
        float2 v = load_shared_data((const float2 *)(raw + dim));
        squares = fma_f32(v.y, v.y, fma_f32(v.x, v.x, squares));
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    return reciprocal_sqrt_fast(fma_f32(squares, 1.0f / HEAD_DIM, NORM_EPS));
}
#endif

DEVICE void rope_heads_run(const RopeHeadsArgs &a, u32 row, u32 head) {
    if (row >= a.batch->n_rows) return;
    u32 projection = head < N_HEADS ? 0 : head < N_HEADS + N_KV_HEADS ? 1 : 2;
    u32 kv_head = projection ? (head - N_HEADS) % N_KV_HEADS : 0;
    u32 position = a.rows[row].position, page = a.rows[row].pages[position / KV_PAGE];
    f16 *entries = kv_page(a.kv, page), *queries = a.q + ((u64)row * N_HEADS + head) * HEAD_DIM;
    HeadValues h = {a.raw + ((u64)row * ROW_HEADS + head) * HEAD_DIM, a.norm[projection % 2], 1};
#ifdef HEAD_NORMS
    if (projection < 2) h.factor = head_factor(h.raw);
#endif
    const float2 *angles = (const float2 *)a.rope + (u64)row * ROPE_PAIRS;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = (i * WARP + lane_index()) * 2;
        if (dim >= HEAD_DIM) continue;
        if (projection == 2) {
            float2 v = load_shared_data((const float2 *)(h.raw + dim));
            *(u32 *)(entries + layout_kv_at(HEAD_DIM, kv_head, 1, position % KV_PAGE, dim)) =
                pack_f16(v.x, v.y);
            continue;
        }
        float first = turned_value(h, angles, dim), second = turned_value(h, angles, dim + 1);
        const float scale = SCORE_SCALE * 1.44269504089f;
        if (projection == 0) *(u32 *)(queries + dim) = pack_f16(first * scale, second * scale);
        else {
            *(u32 *)(entries + layout_kv_at(HEAD_DIM, kv_head, 0, position % KV_PAGE, dim)) =
                pack_f16(first, second);
        }
    }
}

EXPORTED StageInfo rope_heads_info = {HEADS_WARPS * 32, {CEIL_DIV(MAX_ROWS * ROW_HEADS, HEADS_WARPS), 1}, 0};

KERNEL(HEADS_WARPS * 32, 1) rope_heads(RopeHeadsArgs a) {
    stage_launch_next();
    stage_wait();
    u32 i = block_index() * HEADS_WARPS + warp_index();
    rope_heads_run(a, i / ROW_HEADS, i % ROW_HEADS);
}
