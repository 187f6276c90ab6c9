// Decode: the norm that a stage's products begin with, into the activations in shared memory.
//
//     RMS norm    W h = (W (x * w)) / sqrt(mean(x^2) + eps): the root is multiplied in afterwards
//     (activations.cuh) LAYER_NORM  h = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b
//
// Operations: RMS_NORM, LAYER_NORM. Every block takes the norm of all of x. Sums: a thread's values in the
// order of its groups, then lanes 16 apart, 8, 4, 2, 1, then warps in their order.
// Defines: NORM_EPS; LAYER_NORM where it is one.
#ifndef NORM_EPS
#error "NORM_EPS"
#endif

struct NormWeights {
    float4 w[X_TURNS];
#ifdef LAYER_NORM
    float4 b[X_TURNS];
#endif
};

// Before stage_wait. `b` is not read without LAYER_NORM.
DEVICE void norm_prepare(const float *w, const float *b, NormWeights *n) {
    norm_load_weight(w, n->w);
#ifdef LAYER_NORM
    norm_load_weight(b, n->b);
#else
    (void)b;
#endif
}

#ifdef LAYER_NORM
// The sum of the block's values, in all threads. `warps` [WARPS].
DEVICE float sum_of_block(float v, float *warps) {
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        v += shuffle_xor(v, m);
    }
    block_sync(); // the sums before have been read
    if (lane_index() == 0) warps[warp_index()] = v;
    block_sync();
    float sum = 0;
#pragma unroll
    for (u32 w = 0; w < WARPS; w++) {
        sum += warps[w];
    }
    return sum;
}
#endif

// Puts the norm of x where the products read it, and returns what they are to be multiplied by. Ends with a
// block_sync.
DEVICE float norm_run(u8 *shared, const float4 x[X_TURNS], const NormWeights &n) {
    float *warps = (float *)(shared + SQUARES_AT);
#ifdef LAYER_NORM
    float sum = 0, squares = 0;
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        sum += x[i].x + x[i].y + (x[i].z + x[i].w);
    }
    float mean = sum_of_block(sum, warps) * (1.0f / N_COLS);
    float4 d[X_TURNS];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        float m = x_group(i) < X_GROUPS ? mean : 0.0f; // the groups that a thread does not have are zeros
        d[i] = {x[i].x - m, x[i].y - m, x[i].z - m, x[i].w - m};
        squares = fma_f32(d[i].x, d[i].x,
                          fma_f32(d[i].y, d[i].y, fma_f32(d[i].z, d[i].z, fma_f32(d[i].w, d[i].w, squares))));
    }
    float factor = reciprocal_sqrt_fast(sum_of_block(squares, warps) * (1.0f / N_COLS) + NORM_EPS);
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        d[i] = {fma_f32(d[i].x * factor, n.w[i].x, n.b[i].x), fma_f32(d[i].y * factor, n.w[i].y, n.b[i].y),
                fma_f32(d[i].z * factor, n.w[i].z, n.b[i].z), fma_f32(d[i].w * factor, n.w[i].w, n.b[i].w)};
    }
    x_store<!UNPACKED>(shared + X_AT, d);
    block_sync();
    return 1.0f;
#else
    norm_store<!UNPACKED>(shared + X_AT, warps, x, n.w);
    block_sync();
    return norm_factor(warps, NORM_EPS);
#endif
}
