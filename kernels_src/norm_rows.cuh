// The norm before a product, as its input: of every row, or (OF_LOGITS) of those whose logits are wanted,
// packed in their order.
//
//     out[i] = norm of x[row i]                        rows.cuh: formula, order of sums and of values
//
// Operations: RMS_NORM, LAYER_NORM, COPY. Grid: a block a row; where a prompt has many rows, a block takes
// several in turn, and those past the last one cost nothing.
// Defines: D_MODEL, NORM_EPS, MAX_ROWS; LAYER_NORM or NORM_NONE, COPY_DIVIDED, OF_LOGITS; X_COLS (D_MODEL):
// values from a row of x to the next.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS, MAX_ROWS"
#endif

#ifndef X_COLS
#define X_COLS D_MODEL
#endif

enum : u32 {
    NORM_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX),
    // Of many rows a multiprocessor has several at once: with 96 registers a lane, 20 warps.
    NORM_BLOCKS_PER_SM = NORM_OF_MANY ? MAX(20 / NORM_STAGE_WARPS(D_MODEL), 1u) : 1,
};

typedef RowNorms<D_MODEL, 1, NORM_STAGE_WARPS(D_MODEL)> Norm;

// How many rows there are, and which one of x is the row-th: known before the step began.
DEVICE u32 norm_count(const NormArgs &a) {
#ifdef OF_LOGITS
    return MIN(load_shared_data(&a.batch->n_logits), (u32)MAX_ROWS);
#else
    return MIN(load_shared_data(&a.batch->n_rows), (u32)MAX_ROWS);
#endif
}
DEVICE u32 norm_source(const NormArgs &a, u32 row) {
#ifdef OF_LOGITS
    return load_shared_data(a.logits_rows + row);
#else
    (void)a;
    return row;
#endif
}

// from: the row of x.
DEVICE void norm_row(const NormArgs &a, const Norm &norm, u32 from, u32 row, float *sums) {
    norm.each_lane((const float *)a.x + (u64)from * X_COLS, 1, sums, warp_index(), [] { block_sync(); },
                   [&](u32, u32 turn, u32 i, u32 col, float4 v, float factor) {
                       bool there = col < D_MODEL;
                       float4 w = norm.w[turn].v[i], b = norm.b[turn].v[i];
                       float4 out = norm_value(v, factor, w, b);
                       if constexpr (MAX_ROWS > 1 && D_MODEL % 64 == 0)
                           activation_store_lanes(a.out, row, col, out, there);
                       else if (there) activation_store_4(a.out, row, col, out);
                   });
}

EXPORTED StageInfo norm_rows_info = {
    NORM_STAGE_WARPS(D_MODEL) * 32, {NORM_BLOCKS, 1}, Norm::SHARED_FLOATS * 4};

KERNEL(NORM_STAGE_WARPS(D_MODEL) * 32, NORM_BLOCKS_PER_SM) norm_rows(NormArgs a) {
    Norm norm;
    float *sums = (float *)shared_memory();
    stage_launch_next();
    norm.prepare(a.norm, a.bias, warp_index());
    u32 n = norm_count(a), row = block_index(), from = row < n ? norm_source(a, row) : 0;
    stage_wait();
    while (row < n) {
        norm_row(a, norm, from, row, sums);
        row += NORM_BLOCKS;
        if (row >= n) break;
        from = norm_source(a, row);
        block_sync(); // the sums have been read
    }
}
