// Prefill: queries, keys and values, their biases, RoPE, and the cache's new entries.
//
//     q, k, v = W_q in + b_q, W_k in + b_k, W_v in + b_v ; q, k turned by RoPE at the row's position
//     q → args.q as f16, times SCORE_SCALE * log2(e) ; k, v → the cache
//
// Operations: MATMUL x 3, ROPE x 2, KV_WRITE. Grid and order of sums: prefill_matmul.cuh; a unit is eight
// RoPE pairs (of V: rows side by side): row r < 8 the first of pair r, row 8 + r its second, so that a lane
// has both. Every part is whole units.
// Defines: D_MODEL, N_HEADS, N_KV_HEADS, HEAD_DIM (a multiple of 16), ROPE_DIMS, ROPE_HALVES, SCORE_SCALE,
// prefill_matmul.cuh's.
#if !defined(HEAD_DIM) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(ROPE_DIMS) || \
    !defined(ROPE_HALVES) || !defined(SCORE_SCALE) || HEAD_DIM % 16
#error "HEAD_DIM, N_HEADS, N_KV_HEADS, ROPE_DIMS, ROPE_HALVES, SCORE_SCALE"
#endif

enum : u32 {
    HEAD_UNITS = HEAD_DIM / 16,
    Q_UNITS = N_HEADS * HEAD_UNITS,
    K_UNITS = N_KV_HEADS * HEAD_UNITS,
};
static_assert(UNITS == Q_UNITS + 2 * K_UNITS, "a unit is 16 rows");

// The pair of lanes or rows r of a unit.
struct QkvPair {
    u32 part;   // 0 query, 1 key, 2 value
    u32 head;   // within its part
    u32 pair;   // RoPE pair, where it is turned
    u32 dim[2]; // within its head
    bool turned;
};
DEVICE u32 qkv_part(u32 unit) {
    return unit < Q_UNITS ? 0 : unit < Q_UNITS + K_UNITS ? 1 : 2;
}
DEVICE QkvPair qkv_pair(u32 unit, u32 r) {
    QkvPair p;
    p.part = qkv_part(unit);
    u32 in_part = unit - (p.part == 0 ? 0u : p.part == 1 ? (u32)Q_UNITS : (u32)(Q_UNITS + K_UNITS));
    p.head = in_part / HEAD_UNITS;
    p.pair = in_part % HEAD_UNITS * 8 + r;
    p.turned = p.part < 2 && p.pair < ROPE_DIMS / 2;
    bool halves = ROPE_HALVES && p.turned;
    p.dim[0] = halves ? p.pair : 2 * p.pair;
    p.dim[1] = halves ? p.pair + ROPE_DIMS / 2 : 2 * p.pair + 1;
    return p;
}

struct PrefillQkvRows {
    const u8 *weight[3];
    DEVICE u32 part(u32 unit) const {
        return qkv_part(unit);
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        QkvPair p = qkv_pair(unit, r % 8);
        u32 row = p.head * HEAD_DIM + (r < 8 ? p.dim[0] : p.dim[1]);
        if (p.part == 0) return weight[0] + row * layout_row_bytes(FORMAT_0, N_COLS);
        if (p.part == 1) return weight[1] + row * layout_row_bytes(FORMAT_1, N_COLS);
        return weight[2] + row * layout_row_bytes(FORMAT_2, N_COLS);
    }
};

// One token's pair of values to its place.
DEVICE void qkv_store(const PrefillQkvArgs &a, const QkvPair &p, u32 position, u32 token, float v0,
                      float v1) {
    float y0 = v0, y1 = v1;
    if (p.turned) {
        float2 turn = load_shared_data((const float2 *)a.rope + token * (ROPE_DIMS / 2) + p.pair);
        y0 = v0 * turn.x - v1 * turn.y;
        y1 = v0 * turn.y + v1 * turn.x;
    }
    if (p.part == 0) {
        const float scale = SCORE_SCALE * 1.44269504089f;
        f16 *q = a.q + ((u64)token * N_HEADS + p.head) * HEAD_DIM;
        q[p.dim[0]] = f32_to_f16(y0 * scale);
        q[p.dim[1]] = f32_to_f16(y1 * scale);
        return;
    }
    u32 page = a.chunk->pages[(position + token) / KV_PAGE], slot = (position + token) % KV_PAGE;
    f16 *tile = a.kv + (u64)page * KV_PAGE_HALVES(N_KV_HEADS, HEAD_DIM) +
                (p.head * 2 + (p.part == 2)) * KV_TILE_HALVES(HEAD_DIM);
    tile[p.part == 1 ? slot * HEAD_DIM + p.dim[0] : p.dim[0] * KV_PAGE + slot] = f32_to_f16(y0);
    tile[p.part == 1 ? slot * HEAD_DIM + p.dim[1] : p.dim[1] * KV_PAGE + slot] = f32_to_f16(y1);
}

DEVICE void prefill_qkv_run(const PrefillQkvArgs &a, u32 block, u8 *shared) {
    PrefillQkvRows rows = {{a.weight[0], a.weight[1], a.weight[2]}};
    matmul_stage(a.chunk, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
        QkvPair p = qkv_pair(unit, lane_index() / 4);
        u32 position = a.chunk->position;
        const float *b = p.part == 0 ? a.bias[0] : p.part == 1 ? a.bias[1] : a.bias[2];
        float bias[2] = {b != 0 ? b[p.head * HEAD_DIM + p.dim[0]] : 0.0f,
                         b != 0 ? b[p.head * HEAD_DIM + p.dim[1]] : 0.0f};
#pragma unroll
        for (u32 i = 0; i < TILE_TOKENS / 4; i++) {
            const float *s = sums + i / 2 * 4 + i % 2;
            u32 token = t.token + i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
            if (token < t.n_rows) qkv_store(a, p, position, token, s[0] + bias[0], s[2] + bias[1]);
        }
    });
}

EXPORTED StageInfo prefill_qkv_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_qkv(PrefillQkvArgs a) {
    stage_launch_next();
    prefill_qkv_run(a, block_index(), shared_memory());
}
