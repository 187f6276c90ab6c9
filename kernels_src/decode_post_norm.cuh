// Decode: the norm of a block's output, before it joins the residual stream.
//
//     x += t / sqrt(mean(t^2) + eps) * w
//
// Operations: RMS_NORM, ADD. Grid: one block. Sums: a thread's values in the order of its groups, then lanes
// 16 apart, 8, 4, 2, 1, then warps in their order. Defines: D_MODEL, NORM_EPS.
#if !defined(D_MODEL) || !defined(NORM_EPS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS"
#endif

enum : u32 {
    POST_NORM_WARPS = 16,
    POST_NORM_THREADS = POST_NORM_WARPS * 32,
    POST_NORM_GROUPS = D_MODEL / 4,
    POST_NORM_TURNS = CEIL_DIV(D_MODEL / 4, POST_NORM_THREADS), // groups of four values a thread
};

struct PostNormState {
    float4 norm[POST_NORM_TURNS];
};

DEVICE void decode_post_norm_prepare(const PostNormArgs &a, PostNormState *s) {
#pragma unroll
    for (u32 i = 0; i < POST_NORM_TURNS; i++) {
        u32 g = i * POST_NORM_THREADS + thread_index();
        s->norm[i] = g < POST_NORM_GROUPS ? ((const float4 *)a.norm)[g] : float4{0, 0, 0, 0};
    }
}

DEVICE void decode_post_norm_run(const PostNormArgs &a, u8 *shared, const PostNormState &s) {
    float *warps = (float *)shared;
    float4 t[POST_NORM_TURNS], x[POST_NORM_TURNS];
    float squares = 0;
#pragma unroll
    for (u32 i = 0; i < POST_NORM_TURNS; i++) {
        u32 g = i * POST_NORM_THREADS + thread_index();
        t[i] = x[i] = {0, 0, 0, 0};
        if (g >= POST_NORM_GROUPS) continue;
        t[i] = load_shared_data((const float4 *)a.t + g);
        x[i] = load_shared_data((const float4 *)a.x + g);
        squares = fma_f32(t[i].x, t[i].x,
                          fma_f32(t[i].y, t[i].y, fma_f32(t[i].z, t[i].z, fma_f32(t[i].w, t[i].w, squares))));
    }
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    if (lane_index() == 0) warps[warp_index()] = squares;
    block_sync();
    float sum = 0;
#pragma unroll
    for (u32 w = 0; w < POST_NORM_WARPS; w++) {
        sum += warps[w];
    }
    float factor = reciprocal_sqrt_fast(fma_f32(sum, 1.0f / D_MODEL, NORM_EPS));
#pragma unroll
    for (u32 i = 0; i < POST_NORM_TURNS; i++) {
        u32 g = i * POST_NORM_THREADS + thread_index();
        if (g >= POST_NORM_GROUPS) continue;
        float4 w = s.norm[i];
        ((float4 *)a.x)[g] = {fma_f32(t[i].x * factor, w.x, x[i].x), fma_f32(t[i].y * factor, w.y, x[i].y),
                              fma_f32(t[i].z * factor, w.z, x[i].z), fma_f32(t[i].w * factor, w.w, x[i].w)};
    }
}

EXPORTED StageInfo decode_post_norm_info = {POST_NORM_THREADS, {1, 1}, POST_NORM_WARPS * 4};

KERNEL(POST_NORM_THREADS, 1) decode_post_norm(PostNormArgs a) {
    PostNormState s;
    stage_launch_next();
    decode_post_norm_prepare(a, &s);
    stage_wait();
    decode_post_norm_run(a, shared_memory(), s);
}
