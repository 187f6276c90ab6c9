// Prefill: the norm of a block's output, before it joins the residual stream.
//
//     x[row] += t[row] / sqrt(mean(t[row]^2) + eps) * w
//
// Operations: RMS_NORM, ADD. Grid: a warp a row, POST_NORM_WARPS rows a block. Sums: a lane's values in the
// order of the columns, then lanes 16 apart, 8, 4, 2, 1. Defines: D_MODEL, NORM_EPS, MAX_ROWS.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS, MAX_ROWS"
#endif

enum : u32 { POST_NORM_WARPS = 4 };

DEVICE void prefill_post_norm_run(const PrefillPostNormArgs &a, u32 row) {
    if (row >= a.span->n_rows) return;
    const float4 *t = (const float4 *)(a.t + (u64)row * D_MODEL), *w = (const float4 *)a.norm;
    float4 *x = (float4 *)(a.x + (u64)row * D_MODEL);
    float squares = 0;
    for (u32 g = lane_index(); g < D_MODEL / 4; g += WARP) {
        float4 v = load_shared_data(t + g);
        squares = fma_f32(v.x, v.x, fma_f32(v.y, v.y, fma_f32(v.z, v.z, fma_f32(v.w, v.w, squares))));
    }
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    float factor = reciprocal_sqrt_fast(fma_f32(squares, 1.0f / D_MODEL, NORM_EPS));
    for (u32 g = lane_index(); g < D_MODEL / 4; g += WARP) {
        float4 v = load_shared_data(t + g), y = load_shared_data(x + g);
        x[g] = {fma_f32(v.x * factor, w[g].x, y.x), fma_f32(v.y * factor, w[g].y, y.y),
                fma_f32(v.z * factor, w[g].z, y.z), fma_f32(v.w * factor, w[g].w, y.w)};
    }
}

EXPORTED StageInfo prefill_post_norm_info = {
    POST_NORM_WARPS * 32, {CEIL_DIV(MAX_ROWS, POST_NORM_WARPS), 1}, 0};

KERNEL(POST_NORM_WARPS * 32, 1) prefill_post_norm(PrefillPostNormArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_post_norm_run(a, block_index() * POST_NORM_WARPS + warp_index());
}
