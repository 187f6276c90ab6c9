// Prefill: queries, keys and values, their biases, RoPE, and the cache's new entries.
//
//     q, k, v = W_q in + b_q, W_k in + b_k, W_v in + b_v
//     q, k turned by RoPE at the row's position
//     q → args.q as f16, times SCORE_SCALE * log2(e)
//     k, v → the cache
// RAW: q, k and v → args.raw as they are, for prefill_heads; ROPE_DIMS is 0.
//
// Operations: MATMUL x 3, ROPE x 2 (none with ROPE_DIMS 0), KV_WRITE. Grid and order of sums:
// prefill_matmul.cuh; a unit is eight RoPE pairs (of V: rows side by side): row r < 8 the first of pair r,
// row 8 + r its second. Every projection is whole units. Defines: D_MODEL, N_HEADS, N_KV_HEADS, HEAD_DIM (a
// multiple of 16), ROPE_DIMS (of 4), ROPE_HALVES, SCORE_SCALE, prefill_matmul.cuh's; RAW. Needs kv_cache.cuh.
#if !defined(HEAD_DIM) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(ROPE_DIMS) || \
    !defined(ROPE_HALVES) || !defined(SCORE_SCALE) || HEAD_DIM % 16 || ROPE_DIMS % 4
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
    u32 projection; // 0 query, 1 key, 2 value
    u32 head;       // within its projection
    u32 pair;       // RoPE pair, where it is turned
    u32 dim[2];     // within its head
    bool turned;
};
DEVICE u32 qkv_projection(u32 unit) {
    return unit < Q_UNITS ? 0 : unit < Q_UNITS + K_UNITS ? 1 : 2;
}
DEVICE QkvPair qkv_pair(u32 unit, u32 r) {
    QkvPair p;
    p.projection = qkv_projection(unit);
    u32 in_projection = unit - (p.projection == 0   ? 0u
                                : p.projection == 1 ? (u32)Q_UNITS
                                                    : (u32)(Q_UNITS + K_UNITS));
    p.head = in_projection / HEAD_UNITS;
    p.pair = in_projection % HEAD_UNITS * 8 + r;
    p.turned = p.projection < 2 && p.pair < ROPE_DIMS / 2;
    bool halves = ROPE_HALVES && p.turned;
    p.dim[0] = halves ? p.pair : 2 * p.pair;
    p.dim[1] = halves ? p.pair + ROPE_DIMS / 2 : 2 * p.pair + 1;
    return p;
}

struct PrefillQkvRows {
    const u8 *weight[3];
    DEVICE u32 projection(u32 unit) const {
        return qkv_projection(unit);
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        QkvPair p = qkv_pair(unit, r % 8);
        u32 row = p.head * HEAD_DIM + (r < 8 ? p.dim[0] : p.dim[1]);
        if (p.projection == 0) return weight[0] + row * layout_row_bytes(FORMAT_0, N_COLS);
        if (p.projection == 1) return weight[1] + row * layout_row_bytes(FORMAT_1, N_COLS);
        return weight[2] + row * layout_row_bytes(FORMAT_2, N_COLS);
    }
};

// A pair and the next one, as they were multiplied, turned and scaled.
struct TwoPairs {
    float2 first, second; // of each pair
};
DEVICE TwoPairs turn_pairs(const TwoPairs &v, float4 turn, float scale) {
    return {{fma_f32(v.first.x, turn.x, -(v.second.x * turn.y)) * scale,
             fma_f32(v.first.y, turn.z, -(v.second.y * turn.w)) * scale},
            {fma_f32(v.first.x, turn.y, v.second.x * turn.x) * scale,
             fma_f32(v.first.y, turn.w, v.second.y * turn.z) * scale}};
}

// Queries and keys: lane 4 i + c has pairs 2 c and 2 c + 1 of every eighth token. Turns and places of
// QKV_AHEAD of its tokens are loaded before the first of them is stored.
enum : u32 { QKV_AHEAD = 4 };
DEVICE void store_queries_or_keys(const PrefillQkvArgs &a, const MatmulTile &t, u32 unit, const float *sums) {
    u32 r = lane_index() % 4 * 2, end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
    u32 position = a.span->position + t.token;
    QkvPair p = qkv_pair(unit, r), next = qkv_pair(unit, r + 1);
    float scale = p.projection == 0 ? SCORE_SCALE * 1.44269504089f : 1.0f;
    TwoPairs bias = {{0, 0}, {0, 0}};
    const float *b = p.projection == 0 ? a.bias[0] : a.bias[1];
    if (b != 0) {
        b += p.head * HEAD_DIM;
        bias = {{b[p.dim[0]], b[next.dim[0]]}, {b[p.dim[1]], b[next.dim[1]]}};
    }
    for (u32 first = lane_index() / 4; first < end; first += QKV_AHEAD * 8) {
        float4 turn[QKV_AHEAD];
        f16 *to[QKV_AHEAD];
#pragma unroll
        for (u32 i = 0; i < QKV_AHEAD; i++) {
            u32 token = MIN(first + i * 8, end - 1), row = t.token + token, at = position + token;
            turn[i] = {1, 0, 1, 0};
            if (p.turned) turn[i] = load_shared_data((const float4 *)(a.rope + row * ROPE_DIMS + 2 * p.pair));
            to[i] = p.projection == 0 ? a.q + ((u64)row * N_HEADS + p.head) * HEAD_DIM
                                      : kv_key(a.kv, a.span->pages[at / KV_PAGE], p.head, at % KV_PAGE);
        }
#pragma unroll
        for (u32 i = 0; i < QKV_AHEAD; i++) {
            u32 token = first + i * 8;
            if (token >= end) break;
            const float2 *s = (const float2 *)(sums + token * SUM_STRIDE + r);
            TwoPairs v = {{s[0].x + bias.first.x, s[0].y + bias.first.y},
                          {s[4].x + bias.second.x, s[4].y + bias.second.y}};
            v = turn_pairs(v, turn[i], scale);
            if (ROPE_HALVES && p.turned) {
                *(u32 *)(to[i] + p.dim[0]) = pack_f16(v.first.x, v.first.y);
                *(u32 *)(to[i] + p.dim[1]) = pack_f16(v.second.x, v.second.y);
            } else {
                *(uint2 *)(to[i] + p.dim[0]) = {pack_f16(v.first.x, v.second.x),
                                                pack_f16(v.first.y, v.second.y)};
            }
        }
    }
}

// Values: lane 16 h + i has the first (h: second) of all eight pairs of every sixteenth token.
DEVICE void store_values(const PrefillQkvArgs &a, const MatmulTile &t, u32 unit, const float *sums) {
    u32 h = lane_index() / 16, end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
    u32 position = a.span->position + t.token;
    QkvPair p = qkv_pair(unit, 0);
    u32 dim = p.dim[0] + h; // and every second from there
    float bias[8];
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        bias[i] = a.bias[2] != 0 ? a.bias[2][p.head * HEAD_DIM + dim + 2 * i] : 0.0f;
    }
    for (u32 token = lane_index() % 16; token < end; token += 16) {
        u32 at = position + token;
        f16 *to = kv_value(a.kv, a.span->pages[at / KV_PAGE], p.head, at % KV_PAGE) + dim * VALUE_DIM_STRIDE;
        const float4 *s = (const float4 *)(sums + token * SUM_STRIDE + h * 8);
        float4 low = s[0], high = s[1];
        float v[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            to[2 * i * VALUE_DIM_STRIDE] = f32_to_f16(v[i] + bias[i]);
        }
    }
}

#ifdef RAW
static_assert(ROPE_DIMS == 0, "raw rows are side by side");
// Lane 4 i + c has four values of every eighth token: pairs 2 c and 2 c + 1.
DEVICE void store_raw(const PrefillQkvArgs &a, const MatmulTile &t, u32 unit, const float *sums) {
    const u32 width = (N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM;
    u32 r = lane_index() % 4 * 2, end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
    QkvPair p = qkv_pair(unit, r);
    u32 row = p.head * HEAD_DIM + p.dim[0];
    u32 first_head = p.projection == 0 ? 0u : p.projection == 1 ? N_HEADS : N_HEADS + N_KV_HEADS;
    const float *b = p.projection == 0 ? a.bias[0] : p.projection == 1 ? a.bias[1] : a.bias[2];
    float4 bias = b != 0 ? *(const float4 *)(b + row) : float4{0, 0, 0, 0};
    for (u32 token = lane_index() / 4; token < end; token += 8) {
        const float2 *s = (const float2 *)(sums + token * SUM_STRIDE + r);
        float4 v = {s[0].x + bias.x, s[4].x + bias.y, s[0].y + bias.z, s[4].y + bias.w};
        *(float4 *)(a.raw + (u64)(t.token + token) * width + first_head * HEAD_DIM + row) = v;
    }
}
#endif

DEVICE void prefill_qkv_run(const PrefillQkvArgs &a, u32 block, u8 *shared) {
    PrefillQkvRows rows = {{a.weight[0], a.weight[1], a.weight[2]}};
    matmul_stage(a.span, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
#ifdef RAW
        store_raw(a, t, unit, sums);
#else
        if (qkv_projection(unit) < 2) store_queries_or_keys(a, t, unit, sums);
        else store_values(a, t, unit, sums);
#endif
    });
}

EXPORTED StageInfo prefill_qkv_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_qkv(PrefillQkvArgs a) {
    stage_launch_next();
    prefill_qkv_run(a, block_index(), shared_memory());
}
