// Prefill: the norm before a matrix product, as its input.
//
//     out[row] = x[row] / sqrt(mean(x[row]^2) + eps) * w, f16, in the order of layout.h
// LAYER_NORM:
//     d = x[row] - mean(x[row])
//     out[row] = d / sqrt(mean(d^2) + eps) * w + b
//
// Operations: RMS_NORM, LAYER_NORM. Grid: a warp a row, NORM_WARPS rows a block. Sums: a lane's values in the
// order of the columns, then lanes 16 apart, 8, 4, 2, 1.
// Defines: D_MODEL, NORM_EPS, MAX_ROWS; LAYER_NORM.
#if !defined(D_MODEL) || !defined(NORM_EPS) || D_MODEL % 32
#error "D_MODEL, NORM_EPS"
#endif

enum : u32 {
    NORM_WARPS = 4,
    NORM_TURNS = CEIL_DIV(D_MODEL, PREFILL_COLS), // a lane takes four columns of each 128
};

#ifdef LAYER_NORM
// Takes the mean of a row from its values.
DEVICE void subtract_mean(float4 v[NORM_TURNS]) {
    float sum = 0;
#pragma unroll
    for (u32 i = 0; i < NORM_TURNS; i++) {
        sum += v[i].x + v[i].y + (v[i].z + v[i].w);
    }
    for (u32 m = 16; m > 0; m /= 2) {
        sum += shuffle_xor(sum, m);
    }
    float mean = sum * (1.0f / D_MODEL);
#pragma unroll
    for (u32 i = 0; i < NORM_TURNS; i++) {
        if (i * PREFILL_COLS + lane_index() * 4 >= D_MODEL) continue;
        v[i] = {v[i].x - mean, v[i].y - mean, v[i].z - mean, v[i].w - mean};
    }
}
#endif

DEVICE void prefill_norm_run(const PrefillNormArgs &a, u32 row) {
    if (row >= a.span->n_rows) return;
    const float4 *x = (const float4 *)(a.x + (u64)row * D_MODEL);
    float4 v[NORM_TURNS];
    float squares = 0;
#pragma unroll
    for (u32 i = 0; i < NORM_TURNS; i++) {
        u32 col = i * PREFILL_COLS + lane_index() * 4;
        v[i] = col < D_MODEL ? load_shared_data(x + col / 4) : float4{0, 0, 0, 0};
    }
#ifdef LAYER_NORM
    subtract_mean(v);
#endif
#pragma unroll
    for (u32 i = 0; i < NORM_TURNS; i++) {
        squares = fma_f32(v[i].x, v[i].x,
                          fma_f32(v[i].y, v[i].y, fma_f32(v[i].z, v[i].z, fma_f32(v[i].w, v[i].w, squares))));
    }
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    float factor = reciprocal_sqrt_fast(fma_f32(squares, 1.0f / D_MODEL, NORM_EPS));
#pragma unroll
    for (u32 i = 0; i < NORM_TURNS; i++) {
        u32 col = i * PREFILL_COLS + lane_index() * 4;
        if (col >= D_MODEL) continue;
        float4 w = ((const float4 *)a.norm)[col / 4];
        float4 y = {v[i].x * factor, v[i].y * factor, v[i].z * factor, v[i].w * factor};
#ifdef LAYER_NORM
        float4 b = ((const float4 *)a.bias)[col / 4];
        y = {fma_f32(y.x, w.x, b.x), fma_f32(y.y, w.y, b.y), fma_f32(y.z, w.z, b.z), fma_f32(y.w, w.w, b.w)};
#else
        y = {y.x * w.x, y.y * w.y, y.z * w.z, y.w * w.w};
#endif
        activation_store(a.out, row, col, y.x, y.z);
        activation_store(a.out, row, col + 1, y.y, y.w);
    }
}

EXPORTED StageInfo prefill_norm_info = {NORM_WARPS * 32, {CEIL_DIV(MAX_ROWS, NORM_WARPS), 1}, 0};

KERNEL(NORM_WARPS * 32, 1) prefill_norm(PrefillNormArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_norm_run(a, block_index() * NORM_WARPS + warp_index());
}
