// Sparse activations of a batch's rows: of the gate, what is more than SPARSITY deviations above its mean
// (You et al. 2025, "Spark Transformer").
//
//     least = mean(g) + SPARSITY sqrt(mean((g - mean(g))^2))
//     out[row] = act(max(g - least, 0)) * u / GLU_DIVISOR       g, u: gate and up, side by side in `raw`
//
// Operations: SPARSIFY, GLU. Grid: a block a row; where a prompt has many rows, a block takes several in
// turn. Order of the sums: a thread's columns, ascending; lanes 16 apart, 8, 4, 2, 1; the warps in their
// order. Defines: D_FF (a multiple of 4), MAX_ROWS, SPARSITY, activate.cuh's.
#if !defined(D_FF) || !defined(MAX_ROWS) || !defined(SPARSITY) || D_FF % 4
#error "D_FF, MAX_ROWS, SPARSITY"
#endif

enum : u32 {
    SPARSE_THREADS = MIN(ROUND_UP(D_FF / 4, 32), 512),
    SPARSE_WARPS = SPARSE_THREADS / WARP,
    SPARSE_TURNS = CEIL_DIV(D_FF / 4, SPARSE_THREADS), // four columns a thread each
    SPARSE_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX),
};

DEVICE u32 sparse_col(u32 turn) {
    return (turn * SPARSE_THREADS + thread_index()) * 4;
}

// The block's sum of what its threads have; `sums` is [SPARSE_WARPS].
DEVICE float sparse_sum(float v, float *sums) {
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        v += shuffle_xor(v, m);
    }
    block_sync(); // an earlier sum has been read
    if (lane_index() == 0) sums[warp_index()] = v;
    block_sync();
    float total = sums[0];
#pragma unroll
    for (u32 w = 1; w < SPARSE_WARPS; w++) {
        total += sums[w];
    }
    return total;
}

DEVICE float sparse_value(float gate, float up, float least) {
    gate = gate > least ? gate - least : 0.0f * gate; // not a number stays that
    return gated(gate, up) * (1 / GLU_DIVISOR);
}

DEVICE void sparse_glu_run(const SparseGluArgs &a, u32 row, float *sums) {
    const float *gates = a.raw + (u64)row * (2 * D_FF), *ups = gates + D_FF;
    float4 g[SPARSE_TURNS];
    float sum = 0, squares = 0;
#pragma unroll
    for (u32 t = 0; t < SPARSE_TURNS; t++) {
        u32 col = sparse_col(t);
        g[t] = col < D_FF ? load_shared_data((const float4 *)(gates + col)) : float4{0, 0, 0, 0};
        sum += ((g[t].x + g[t].y) + g[t].z) + g[t].w;
    }
    float mean = sparse_sum(sum, sums) * (1.0f / D_FF);
#pragma unroll
    for (u32 t = 0; t < SPARSE_TURNS; t++) {
        float4 v = {g[t].x - mean, g[t].y - mean, g[t].z - mean, g[t].w - mean};
        if (sparse_col(t) < D_FF)
            squares = fma_f32(v.w, v.w, fma_f32(v.z, v.z, fma_f32(v.y, v.y, fma_f32(v.x, v.x, squares))));
    }
    float square = sparse_sum(squares, sums) * (1.0f / D_FF);
    float deviation =
        square > 0.0f ? square * reciprocal_sqrt_fast(square) : square; // not a number stays that
    float least = fma_f32(deviation, SPARSITY, mean);
#pragma unroll
    for (u32 t = 0; t < SPARSE_TURNS; t++) {
        u32 col = sparse_col(t);
        if (col >= D_FF) break;
        float4 u = load_shared_data((const float4 *)(ups + col));
        activation_store_4(a.out, row, col,
                           {sparse_value(g[t].x, u.x, least), sparse_value(g[t].y, u.y, least),
                            sparse_value(g[t].z, u.z, least), sparse_value(g[t].w, u.w, least)});
    }
}

EXPORTED StageInfo sparse_glu_info = {SPARSE_THREADS, {SPARSE_BLOCKS, 1}, SPARSE_WARPS * 4};

KERNEL(SPARSE_THREADS, 1) sparse_glu(SparseGluArgs a) {
    stage_launch_next();
    stage_wait();
    u32 n_rows = load_shared_data(&a.batch->n_rows);
    for (u32 row = block_index(); row < n_rows; row += SPARSE_BLOCKS) {
        sparse_glu_run(a, row, (float *)shared_memory());
    }
}
