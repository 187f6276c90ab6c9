// The norm before a product, as its input: of every row, or (OF_LOGITS) of those whose logits are wanted,
// packed in their order.
//
//     out[i] = norm of x[row i]                        rows.cuh: formula, order of sums and of values
//
// Operations: RMS_NORM, LAYER_NORM. Grid: a block a row; those past the batch's have nothing to do.
// Defines: D_MODEL, NORM_EPS, MAX_ROWS; LAYER_NORM, OF_LOGITS.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS, MAX_ROWS"
#endif

typedef RowNorms<D_MODEL, 1, NORM_STAGE_WARPS(D_MODEL)> Norm;

// Which row of x, ~0 for none: known before the step began.
DEVICE u32 norm_source(const NormArgs &a, u32 row) {
#ifdef OF_LOGITS
    return row < load_shared_data(&a.batch->n_logits) ? load_shared_data(a.logits_rows + row) : ~0u;
#else
    return row < load_shared_data(&a.batch->n_rows) ? row : ~0u;
#endif
}

DEVICE void norm_rows_run(const NormArgs &a, const Norm &norm, u32 from, u32 row, float *sums) {
    if (from == ~0u) return;
    norm.run(a.x + (u64)from * D_MODEL, 1, a.out, row, sums, warp_index(), [] { block_sync(); });
}

EXPORTED StageInfo norm_rows_info = {NORM_STAGE_WARPS(D_MODEL) * 32, {MAX_ROWS, 1}, Norm::SHARED_FLOATS * 4};

KERNEL(NORM_STAGE_WARPS(D_MODEL) * 32, 1) norm_rows(NormArgs a) {
    Norm norm;
    stage_launch_next();
    norm.prepare(a.norm, a.bias, warp_index());
    u32 from = norm_source(a, block_index());
    stage_wait();
    norm_rows_run(a, norm, from, block_index(), (float *)shared_memory());
}
