// Decode: norm, and the router's logits.
//
//     logits = W rms_norm(x) + b
//
// Operations: RMS_NORM, MATMUL (of the router); who reads the logits also chooses (expert_choice.cuh). Grid:
// a block an expert. Everything is float32, since a rounded logit could choose another expert: a thread
// multiplies its columns' weights with the norm's before the wait, and after it the columns. Order of the
// sums: a thread's columns, lanes 16 apart, 8, 4, 2, 1, the warps in their order.
// Defines: D_MODEL, N_EXPERTS, NORM_EPS, FORMAT_0.
#if !defined(D_MODEL) || !defined(N_EXPERTS) || !defined(NORM_EPS) || !defined(FORMAT_0) || D_MODEL % 32
#error "D_MODEL, N_EXPERTS, NORM_EPS, FORMAT_0"
#endif

enum : u32 {
    ROUTE_WARPS = 8,
    ROUTE_THREADS = ROUTE_WARPS * 32,
    ROUTE_TURNS = CEIL_DIV(D_MODEL / 4, ROUTE_THREADS), // groups of 4 columns a thread
    ROUTE_SHARED_BYTES = ROUTE_WARPS * 8,
};

struct RouteState {
    float4 weight[ROUTE_TURNS]; // the expert's, times the norm's
    float bias;
};

DEVICE u32 route_group(u32 turn) {
    return turn * ROUTE_THREADS + thread_index();
}

DEVICE void decode_route_prepare(const RouteArgs &a, u32 expert, RouteState *s) {
    const u8 *row = a.weight + expert * layout_row_bytes(FORMAT_0, D_MODEL);
#pragma unroll
    for (u32 i = 0; i < ROUTE_TURNS; i++) {
        u32 g = route_group(i);
        s->weight[i] = {0, 0, 0, 0};
        if (g >= D_MODEL / 4) continue;
        float4 w = weights_4<FORMAT_0>(row, D_MODEL, g * 4), n = ((const float4 *)a.norm)[g];
        s->weight[i] = {w.x * n.x, w.y * n.y, w.z * n.z, w.w * n.w};
    }
    s->bias = a.bias != 0 ? a.bias[expert] : 0.0f;
}

DEVICE void decode_route_run(const RouteArgs &a, u32 expert, u8 *shared, const RouteState &s) {
    float4 x[ROUTE_TURNS];
#pragma unroll
    for (u32 i = 0; i < ROUTE_TURNS; i++) {
        u32 g = route_group(i);
        x[i] = g < D_MODEL / 4 ? load_shared_data((const float4 *)a.x + g) : float4{0, 0, 0, 0};
    }
    float sum = 0, squares = 0;
#pragma unroll
    for (u32 i = 0; i < ROUTE_TURNS; i++) {
        float4 v = x[i], w = s.weight[i];
        sum = fma_f32(v.x, w.x, fma_f32(v.y, w.y, fma_f32(v.z, w.z, fma_f32(v.w, w.w, sum))));
        squares = fma_f32(v.x, v.x, fma_f32(v.y, v.y, fma_f32(v.z, v.z, fma_f32(v.w, v.w, squares))));
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        sum += shuffle_xor(sum, m);
        squares += shuffle_xor(squares, m);
    }
    float2 *sums = (float2 *)shared;
    if (lane_index() == 0) sums[warp_index()] = {sum, squares};
    block_sync();
    if (thread_index() > 0) return;
    float2 total = {0, 0};
#pragma unroll
    for (u32 w = 0; w < ROUTE_WARPS; w++) {
        total = {total.x + sums[w].x, total.y + sums[w].y};
    }
    float factor = reciprocal_sqrt_fast(fma_f32(total.y, 1.0f / D_MODEL, NORM_EPS));
    a.logits[expert] = fma_f32(total.x, factor, s.bias);
}

EXPORTED StageInfo decode_route_info = {ROUTE_THREADS, {N_EXPERTS, 1}, ROUTE_SHARED_BYTES};

KERNEL(ROUTE_THREADS, 1) decode_route(RouteArgs a) {
    RouteState s;
    stage_launch_next();
    decode_route_prepare(a, block_index(), &s);
    stage_wait();
    decode_route_run(a, block_index(), shared_memory(), s);
}
