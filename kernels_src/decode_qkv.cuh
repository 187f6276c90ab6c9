// Decode, stage 1 of a layer: norm, queries, keys and values, their biases, RoPE, and the cache's new entry.
//
//     h = rms_norm(x)
//     q, k, v = W_q h + b_q, W_k h + b_k, W_v h + b_v
//     q, k turned by RoPE at the token's position
//     q → args.q as f16, times SCORE_SCALE * log2(e) (attention works with powers of two)
//     k, v → the cache
// RAW: q, k and v → args.raw as they are, for decode_heads.
// FIRST: x is read from the embedding of the sequence's token (times EMBED_SCALE; LEARNED_POSITIONS: plus its
// position's vector), and written out by block 0.
//
// Operations: EMBED, ADD_POSITION, RMS_NORM or LAYER_NORM (decode_norm.cuh), MATMUL x 3, ROPE x 2 (none with
// ROPE_DIMS 0), KV_WRITE. Grid and order of sums: matvec.cuh. A unit is
// the two rows of a RoPE pair (of V: two rows side by side), so that the warp that has the sums turns them.
// Needs decode_norm.cuh, kv_cache.cuh and matvec.cuh.
// Defines: D_MODEL, N_HEADS, N_KV_HEADS, HEAD_DIM, ROPE_DIMS, ROPE_HALVES (pairs i, i + dims / 2; else
// 2 i, 2 i + 1), ROPE_SCALE (on cos and sin), NORM_EPS, SCORE_SCALE, FORMAT_0 … FORMAT_2 (of W_q, W_k, W_v),
// BLOCKS,
// WARPS, RING_BYTES; RAW; LAYER_NORM; FIRST with EMBED_FORMAT and EMBED_SCALE, LEARNED_POSITIONS.
#if !defined(HEAD_DIM) || !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(ROPE_DIMS) || \
    !defined(ROPE_HALVES) || !defined(ROPE_SCALE) || !defined(SCORE_SCALE)
#error "HEAD_DIM, N_HEADS, N_KV_HEADS, ROPE_DIMS, ROPE_HALVES, ROPE_SCALE, SCORE_SCALE"
#endif

enum : u32 {
    HEAD_UNITS = HEAD_DIM / 2,
    Q_UNITS = N_HEADS * HEAD_UNITS,
    K_UNITS = N_KV_HEADS * HEAD_UNITS,
    ROPE_PAIRS = ROPE_DIMS / 2,
};
static_assert(UNITS == Q_UNITS + 2 * K_UNITS && UNITS_PER_WARP <= (u32)WARP, "one finish a warp");

// What a unit is.
struct QkvUnit {
    u32 projection; // 0 query, 1 key, 2 value
    u32 head;       // within its projection
    u32 pair;       // RoPE pair, where it is turned
    u32 dim[2];     // within its head
    bool turned;
};
DEVICE QkvUnit qkv_unit(u32 unit) {
    QkvUnit u;
    u.projection = unit < Q_UNITS ? 0 : unit < Q_UNITS + K_UNITS ? 1 : 2;
    u32 in_projection = unit - (u.projection == 0   ? 0u
                                : u.projection == 1 ? (u32)Q_UNITS
                                                    : (u32)(Q_UNITS + K_UNITS));
    u.head = in_projection / HEAD_UNITS;
    u.pair = in_projection % HEAD_UNITS;
    u.turned = u.projection < 2 && u.pair < ROPE_PAIRS;
    bool halves = ROPE_HALVES && u.turned;
    u.dim[0] = halves ? u.pair : 2 * u.pair;
    u.dim[1] = halves ? u.pair + ROPE_PAIRS : 2 * u.pair + 1;
    return u;
}

struct QkvRows {
    const u8 *weight[3];
    DEVICE u32 projection(u32 unit) const {
        return unit < Q_UNITS ? 0 : unit < Q_UNITS + K_UNITS ? 1 : 2;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        QkvUnit u = qkv_unit(unit);
        u32 row = u.head * HEAD_DIM + u.dim[r];
        if (u.projection == 0) return weight[0] + row * layout_row_bytes(FORMAT_0, N_COLS);
        if (u.projection == 1) return weight[1] + row * layout_row_bytes(FORMAT_1, N_COLS);
        return weight[2] + row * layout_row_bytes(FORMAT_2, N_COLS);
    }
};

// What is known before the previous stage is done.
struct QkvState {
    Matvec<QkvRows> product;
    NormWeights norm;
    // Of the unit that this lane finishes:
    float cosine, sine, bias[2];
#ifdef RAW
    float *out[2];
#else
    float scale; // of queries; 1 for the rest
    f16 *out[2];
#endif
};

#ifdef RAW
DEVICE void find_outputs(const QkvArgs &a, const QkvUnit &u, float *out[2]) {
    u32 head = u.head + (u.projection == 0 ? 0u : u.projection == 1 ? N_HEADS : N_HEADS + N_KV_HEADS);
    out[0] = a.raw + head * HEAD_DIM + u.dim[0];
    out[1] = a.raw + head * HEAD_DIM + u.dim[1];
}
#else
// Where the unit's two results go.
DEVICE void find_outputs(const QkvArgs &a, const QkvUnit &u, f16 *out[2]) {
    u32 position = a.row->position, token = position % KV_PAGE;
    u32 page = a.row->pages[position / KV_PAGE];
    for (u32 i = 0; i < 2; i++) {
        if (u.projection == 0) out[i] = a.q + u.head * HEAD_DIM + u.dim[i];
        else if (u.projection == 1) out[i] = kv_key(a.kv, page, u.head, token) + u.dim[i];
        else out[i] = kv_value(a.kv, page, u.head, token) + u.dim[i] * VALUE_DIM_STRIDE;
    }
}
#endif

DEVICE void decode_qkv_prepare(const QkvArgs &a, u32 block, u8 *shared, QkvState *s) {
    s->product.start(block, shared, {{a.weight[0], a.weight[1], a.weight[2]}});
    norm_prepare(a.norm, a.norm_bias, &s->norm);
    s->cosine = 1;
    s->sine = s->bias[0] = s->bias[1] = 0;
    u32 unit = my_unit(block);
    if (unit < UNITS) {
        QkvUnit u = qkv_unit(unit);
#ifndef RAW
        if (u.turned) {
            sin_cos_f32((float)a.row->position * a.inv_freq[u.pair], &s->sine, &s->cosine);
            s->sine *= ROPE_SCALE;
            s->cosine *= ROPE_SCALE;
        }
        s->scale = u.projection == 0 ? SCORE_SCALE * 1.44269504089f : 1.0f;
#endif
        const float *bias = u.projection == 0 ? a.bias[0] : u.projection == 1 ? a.bias[1] : a.bias[2];
        if (bias != 0) {
            s->bias[0] = bias[u.head * HEAD_DIM + u.dim[0]];
            s->bias[1] = bias[u.head * HEAD_DIM + u.dim[1]];
        }
        find_outputs(a, u, s->out);
    }
    s->product.settle(block);
}

#ifdef FIRST
DEVICE u32 row_token(const StepRow *row) {
    i32 token = row->token;
    if (token == ROW_TOKEN_DRAWN) token = row->drawn[(row->step - 1) % TOKEN_RING];
    return (u32)MAX(token, 0); // what follows an invalid token is dropped
}

// x of the token: every block needs all of it, block 0 also writes it for the stages to come.
DEVICE void load_embedding(const QkvArgs &a, u32 block, float4 v[X_TURNS]) {
    const u8 *row = a.embed + (u64)row_token(a.row) * layout_row_bytes(EMBED_FORMAT, N_COLS);
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 g = x_group(i);
        v[i] = {0, 0, 0, 0};
        if (g >= X_GROUPS) continue;
        v[i].x = weight_value<EMBED_FORMAT>(row, N_COLS, g * 4) * EMBED_SCALE;
        v[i].y = weight_value<EMBED_FORMAT>(row, N_COLS, g * 4 + 1) * EMBED_SCALE;
        v[i].z = weight_value<EMBED_FORMAT>(row, N_COLS, g * 4 + 2) * EMBED_SCALE;
        v[i].w = weight_value<EMBED_FORMAT>(row, N_COLS, g * 4 + 3) * EMBED_SCALE;
#ifdef LEARNED_POSITIONS
        float4 p = ((const float4 *)(a.learned + (u64)a.row->position * N_COLS))[g];
        v[i] = {v[i].x + p.x, v[i].y + p.y, v[i].z + p.z, v[i].w + p.w};
#endif
        if (block == 0) ((float4 *)a.x)[g] = v[i];
    }
}
#endif

DEVICE void decode_qkv_run(const QkvArgs &a, u32 block, u8 *shared, QkvState *s) {
    float4 x[X_TURNS];
#ifdef FIRST
    load_embedding(a, block, x);
#else
    x_load_global(a.x, x);
#endif
    float factor = norm_run(shared, x, s->norm);

    s->product.run(block, shared, [&](u32 unit, const float sums[ROWS]) {
        if (unit >= UNITS) return;
        float v0 = fma_f32(sums[0], factor, s->bias[0]), v1 = fma_f32(sums[1], factor, s->bias[1]);
#ifdef RAW
        *s->out[0] = v0;
        *s->out[1] = v1;
#else
        *s->out[0] = f32_to_f16(fma_f32(v0, s->cosine, -(v1 * s->sine)) * s->scale);
        *s->out[1] = f32_to_f16(fma_f32(v0, s->sine, v1 * s->cosine) * s->scale);
#endif
    });
}

EXPORTED StageInfo decode_qkv_info = {THREADS, {BLOCKS, 1}, SHARED_BYTES(MATVEC_SHARED_BYTES)};

KERNEL(THREADS, BLOCKS_PER_SM) decode_qkv(QkvArgs a) {
    QkvState s;
    stage_launch_next();
    decode_qkv_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    decode_qkv_run(a, block_index(), shared_memory(), &s);
}
