// The norm before a product, as its input: of every row, or (OF_LOGITS) of those whose logits are wanted,
// packed in their order.
//
//     out[i] = norm of x[row i]                        rows.cuh: formula, order of sums and of values
//
// Operations: RMS_NORM, LAYER_NORM, COPY. Grid: a block a row; where a prompt has many rows, a block takes
// several in turn, and those past the last one cost nothing.
// Defines: D_MODEL, NORM_EPS, MAX_ROWS; LAYER_NORM or NORM_NONE, COPY_DIVIDED, OF_LOGITS.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS, MAX_ROWS"
#endif

enum : u32 { NORM_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX) };

typedef RowNorms<D_MODEL, 1, NORM_STAGE_WARPS(D_MODEL)> Norm;

// Which row of x, ~0 for none: known before the step began.
DEVICE u32 norm_source(const NormArgs &a, u32 row) {
    if (row >= MAX_ROWS) return ~0u;
#ifdef OF_LOGITS
    return row < load_shared_data(&a.batch->n_logits) ? load_shared_data(a.logits_rows + row) : ~0u;
#else
    return row < load_shared_data(&a.batch->n_rows) ? row : ~0u;
#endif
}

// from: of the block's first row.
DEVICE void norm_rows_run(const NormArgs &a, const Norm &norm, u32 from, u32 block, float *sums) {
    for (u32 row = block; from != ~0u;) {
        norm.run(a.x + (u64)from * D_MODEL, 1, a.out, row, sums, warp_index(), [] { block_sync(); });
        from = norm_source(a, row += NORM_BLOCKS);
        if (from != ~0u) block_sync(); // the sums have been read
    }
}

EXPORTED StageInfo norm_rows_info = {
    NORM_STAGE_WARPS(D_MODEL) * 32, {NORM_BLOCKS, 1}, Norm::SHARED_FLOATS * 4};

KERNEL(NORM_STAGE_WARPS(D_MODEL) * 32, 1) norm_rows(NormArgs a) {
    Norm norm;
    stage_launch_next();
    norm.prepare(a.norm, a.bias, warp_index());
    u32 from = norm_source(a, block_index());
    stage_wait();
    norm_rows_run(a, norm, from, block_index(), (float *)shared_memory());
}
