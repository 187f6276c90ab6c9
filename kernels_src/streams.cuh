// Several copies of the residual stream, of which layers work on one (Baykal et al. 2023, "AltUp"). One of:
//
// STREAMS_SPREAD: xs[0] = x; xs[i] = v_i length(x, v_i)           v_i = products[i - 1], i from 1 on
// STREAMS_MIX:    m = tanh(W_router norm(xs[ACTIVE]) ROUTER_SCALE); c = W m
//                 xp[i] = xs[i] + sum_j xs[j] c[i][j]; x = xp[ACTIVE]
// STREAMS_NEWS:   m = tanh(W_router norm(x) ROUTER_SCALE); c = W m
//                 xs[i] = xp[i] + (x - xp[ACTIVE]) (c[i] + 1)
//                 h = xs[ACTIVE] scale / GLU_DIVISOR
// STREAMS_REST:   rest[i - 1] = xs[i] / GLU_DIVISOR
// STREAMS_MEAN:   x = (xs[0] + sum_i v_i length(xs[0], v_i)) / N_STREAMS
//     length(a, v) = sqrt(mean(a^2) / max(mean(v^2), 1e-5))
//
// Operations: STREAMS; STREAM, RMS_NORM, MATMUL, SCALE, ACTIVATION, MATMUL, then STREAMS_MIX, STREAM or
// STREAMS_NEWS, STREAM, SCALE; STREAMS_REST; STREAMS_MEAN. Float32 but for h and rest, which are activations.
// Grid: a block a row; where a prompt has many rows, a block takes several in turn. Order of the sums over a
// row: a thread's columns, ascending; lanes 16 apart, 8, 4, 2, 1; the warps in their order. Their number
// depends on D_MODEL alone. Defines: D_MODEL, N_STREAMS, MAX_ROWS; of MIX and NEWS: ACTIVE, NORM_EPS,
// ROUTER_SCALE.
#if !defined(D_MODEL) || !defined(N_STREAMS) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, N_STREAMS, MAX_ROWS"
#endif
#if defined(STREAMS_MIX) || defined(STREAMS_NEWS)
#define STREAMS_ROUTE
#endif
#if defined(STREAMS_ROUTE) && (!defined(ACTIVE) || !defined(NORM_EPS) || !defined(ROUTER_SCALE))
#error "ACTIVE, NORM_EPS, ROUTER_SCALE"
#endif

enum : u32 {
    STREAMS_THREADS = MIN(ROUND_UP(D_MODEL / 4, 32), 512),
    STREAMS_WARPS = STREAMS_THREADS / WARP,
    STREAMS_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX),
    STREAMS_SUMS = N_STREAMS + 1, // of a row, at most
    // Shared memory: sums [STREAMS_WARPS][STREAMS_SUMS], c
    STREAMS_MIXES = N_STREAMS * N_STREAMS,
    STREAMS_SHARED_BYTES = (STREAMS_WARPS * STREAMS_SUMS + STREAMS_MIXES) * 4,
};

DEVICE float4 float4_scaled(float4 v, float by) {
    return {v.x * by, v.y * by, v.z * by, v.w * by};
}
// sum + v * by
DEVICE float4 float4_add_scaled(float4 sum, float4 v, float by) {
    return {fma_f32(v.x, by, sum.x), fma_f32(v.y, by, sum.y), fma_f32(v.z, by, sum.z),
            fma_f32(v.w, by, sum.w)};
}
DEVICE float float4_dot(float4 a, float4 b, float sum) {
    return fma_f32(a.w, b.w, fma_f32(a.z, b.z, fma_f32(a.y, b.y, fma_f32(a.x, b.x, sum))));
}

DEVICE float4 stream_load(const float *v, u32 col) {
    return load_shared_data((const float4 *)(v + col));
}
DEVICE void stream_store(float *v, u32 col, float4 value) {
    *(float4 *)(v + col) = value;
}

// The block's sums of what its threads have, in all threads.
template <u32 n> DEVICE void sums_of_block(float v[n], float *shared) {
#pragma unroll
    for (u32 i = 0; i < n; i++) {
#pragma unroll
        for (u32 m = 16; m > 0; m /= 2) {
            v[i] += shuffle_xor(v[i], m);
        }
        if (lane_index() == 0) shared[warp_index() * n + i] = v[i];
    }
    block_sync();
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        v[i] = shared[i];
#pragma unroll 1
        for (u32 w = 1; w < STREAMS_WARPS; w++) {
            v[i] += shared[w * n + i];
        }
    }
}

#ifdef STREAMS_ROUTE
// c[i], i < n: in shared memory, behind the sums; the block has met.
DEVICE const float *route_streams(const StreamsArgs &a, const float *x, u32 n, float *shared) {
    float sum[STREAMS_SUMS] = {}; // squares, then the products
#pragma unroll 1
    for (u32 col = thread_index() * 4; col < D_MODEL; col += STREAMS_THREADS * 4) {
        float4 v = stream_load(x, col), w = *(const float4 *)(a.norm + col);
        sum[0] = float4_dot(v, v, sum[0]);
        v = {v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w};
#pragma unroll
        for (u32 i = 0; i < N_STREAMS; i++) {
            sum[i + 1] = float4_dot(v, *(const float4 *)(a.router + i * D_MODEL + col), sum[i + 1]);
        }
    }
    sums_of_block<STREAMS_SUMS>(sum, shared);
    float factor = reciprocal_sqrt_fast(fma_f32(sum[0], 1.0f / D_MODEL, NORM_EPS)) * ROUTER_SCALE;
    float *c = shared + STREAMS_WARPS * STREAMS_SUMS;
    for (u32 i = thread_index(); i < n; i += STREAMS_THREADS) {
        float v = 0;
#pragma unroll
        for (u32 k = 0; k < N_STREAMS; k++) {
            v = fma_f32(a.mix[i * N_STREAMS + k], tanh_f32(sum[k + 1] * factor), v);
        }
        c[i] = v;
    }
    block_sync();
    return c;
}
#endif

#if defined(STREAMS_SPREAD) || defined(STREAMS_MEAN)
// length(like, v_i) of each product's row.
DEVICE void lengths_of(const StreamsArgs &a, const float *like, u32 row, float *length, float *shared) {
    float sum[N_STREAMS] = {};
#pragma unroll 1
    for (u32 col = thread_index() * 4; col < D_MODEL; col += STREAMS_THREADS * 4) {
#pragma unroll
        for (u32 i = 0; i < N_STREAMS; i++) {
            float4 v = stream_load(i ? a.products[i - 1] + (u64)row * D_MODEL : like, col);
            sum[i] = float4_dot(v, v, sum[i]);
        }
    }
    sums_of_block<N_STREAMS>(sum, shared);
    float square = sum[0] * (1.0f / D_MODEL);
    float root = square > 0.0f ? square * reciprocal_sqrt_fast(square) : square; // not a number stays that
#pragma unroll
    for (u32 i = 1; i < N_STREAMS; i++) {
        float of = sum[i] * (1.0f / D_MODEL);
        length[i] = root * reciprocal_sqrt_fast(of < 1e-5f ? 1e-5f : of);
    }
}
#endif

// What a stream's values are made of.
DEVICE const float *stream_source(const StreamsArgs &a, u32 row, u32 stream) {
    u64 at = ((u64)row * N_STREAMS + stream) * D_MODEL;
#if defined(STREAMS_MIX) || defined(STREAMS_REST)
    return a.xs + at;
#elif defined(STREAMS_NEWS)
    return a.xp + at;
#else
    if (stream > 0) return a.products[stream - 1] + (u64)row * D_MODEL;
#ifdef STREAMS_SPREAD
    return a.x + (u64)row * D_MODEL;
#else
    return a.xs + at;
#endif
#endif
}

DEVICE void streams_run(const StreamsArgs &a, u32 row, float *shared) {
    float *x = a.x + (u64)row * D_MODEL, *xs = a.xs + (u64)row * (N_STREAMS * D_MODEL);
#ifdef STREAMS_ROUTE
    float *xp = a.xp + (u64)row * (N_STREAMS * D_MODEL);
#endif
#if defined(STREAMS_MIX)
    const float *c = route_streams(a, xs + ACTIVE * D_MODEL, N_STREAMS * N_STREAMS, shared);
#elif defined(STREAMS_NEWS)
    const float *c = route_streams(a, x, N_STREAMS, shared);
#elif defined(STREAMS_SPREAD) || defined(STREAMS_MEAN)
    float length[N_STREAMS];
#ifdef STREAMS_SPREAD
    lengths_of(a, x, row, length, shared);
#else
    lengths_of(a, xs, row, length, shared);
#endif
#endif
#pragma unroll 1
    for (u32 col = thread_index() * 4; col < D_MODEL; col += STREAMS_THREADS * 4) {
        float4 v[N_STREAMS];
#pragma unroll
        for (u32 i = 0; i < N_STREAMS; i++) {
            v[i] = stream_load(stream_source(a, row, i), col);
        }
#if defined(STREAMS_MIX)
#pragma unroll
        for (u32 i = 0; i < N_STREAMS; i++) {
            float4 sum = v[i];
#pragma unroll
            for (u32 j = 0; j < N_STREAMS; j++) {
                sum = float4_add_scaled(sum, v[j], c[i * N_STREAMS + j]);
            }
            stream_store(xp + i * D_MODEL, col, sum);
            if (i == ACTIVE) stream_store(x, col, sum);
        }
#elif defined(STREAMS_NEWS)
        float4 news = float4_add_scaled(stream_load(x, col), v[ACTIVE], -1.0f);
#pragma unroll
        for (u32 i = 0; i < N_STREAMS; i++) {
            float4 sum = float4_add_scaled(v[i], news, c[i] + 1.0f);
            stream_store(xs + i * D_MODEL, col, sum);
            if (i != ACTIVE) continue;
            float4 w = *(const float4 *)(a.scale + col);
            sum = float4_scaled(sum, 1 / GLU_DIVISOR);
            activation_store_4(a.h, row, col, {sum.x * w.x, sum.y * w.y, sum.z * w.z, sum.w * w.w});
        }
#elif defined(STREAMS_SPREAD)
#pragma unroll
        for (u32 i = 0; i < N_STREAMS; i++) {
            stream_store(xs + i * D_MODEL, col, i ? float4_scaled(v[i], length[i]) : v[i]);
        }
#elif defined(STREAMS_REST)
#pragma unroll
        for (u32 i = 1; i < N_STREAMS; i++) {
            activation_store_4(a.rest[i - 1], row, col, float4_scaled(v[i], 1 / GLU_DIVISOR));
        }
#else
        float4 sum = v[0];
#pragma unroll
        for (u32 i = 1; i < N_STREAMS; i++) {
            sum = float4_add_scaled(sum, v[i], length[i]);
        }
        stream_store(x, col, float4_scaled(sum, 1.0f / N_STREAMS));
#endif
    }
    (void)x, (void)shared;
}

EXPORTED StageInfo streams_info = {STREAMS_THREADS, {STREAMS_BLOCKS, 1}, STREAMS_SHARED_BYTES};

KERNEL(STREAMS_THREADS, 1) streams(StreamsArgs a) {
    float *shared = (float *)shared_memory();
    stage_launch_next();
    stage_wait();
    u32 n_rows = load_shared_data(&a.batch->n_rows);
    for (u32 row = block_index(); row < n_rows; row += STREAMS_BLOCKS) {
        streams_run(a, row, shared);
        block_sync(); // what is shared has been read
    }
}
