// Decode: the norm that a stage's products begin with, into the activations in shared memory.
//
//     RMS norm    W h = (W (x * w)) / sqrt(mean(x^2) + eps)
//     LAYER_NORM  h = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b
//
// The root of an RMS norm is multiplied in afterwards (activations.cuh, which has the order of sums, too).
// Operations: RMS_NORM, LAYER_NORM. Every block takes the norm of all of x.
// Needs activations.cuh and matvec.cuh (UNPACKED, SPANS_AT). Defines: NORM_EPS; LAYER_NORM where it is one.
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
// The sum of the block's values, in all threads.
DEVICE float sum_of_block(float v[X_TURNS / 2], float *spans) {
    block_sync(); // the sums before have been read
    store_spans(v, spans);
    block_sync();
    return sum_of_spans(spans);
}
#endif

// Puts the norm of x where the products read it, and returns what they are to be multiplied by. Ends with a
// block_sync.
DEVICE float norm_run(u8 *shared, const float4 x[X_TURNS], const NormWeights &n) {
    float *spans = (float *)(shared + SPANS_AT);
#ifdef LAYER_NORM
    float sum[X_TURNS / 2] = {}, squares[X_TURNS / 2] = {};
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        sum[i / 2] += x[i].x + x[i].y + (x[i].z + x[i].w);
    }
    float mean = sum_of_block(sum, spans) * (1.0f / N_COLS);
    float4 d[X_TURNS];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        float m = x_group(i) < X_GROUPS ? mean : 0.0f; // the groups that a thread does not have are zeros
        d[i] = {x[i].x - m, x[i].y - m, x[i].z - m, x[i].w - m};
        squares[i / 2] = add_squares(d[i], squares[i / 2]);
    }
    float factor = norm_factor(sum_of_block(squares, spans), NORM_EPS);
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        d[i] = {fma_f32(d[i].x * factor, n.w[i].x, n.b[i].x), fma_f32(d[i].y * factor, n.w[i].y, n.b[i].y),
                fma_f32(d[i].z * factor, n.w[i].z, n.b[i].z), fma_f32(d[i].w * factor, n.w[i].w, n.b[i].w)};
    }
    x_store<!UNPACKED>(shared + X_AT, d);
    block_sync();
    return 1.0f;
#else
    norm_store<!UNPACKED>(shared + X_AT, spans, x, n.w);
    block_sync();
    return norm_factor(sum_of_spans(spans), NORM_EPS);
#endif
}
