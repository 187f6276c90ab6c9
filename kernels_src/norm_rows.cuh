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

DEVICE void norm_rows_run(const NormArgs &a, const Norm &norm, u32 row, float *sums) {
    u32 from = row;
#ifdef OF_LOGITS
    if (row >= load_shared_data(&a.batch->n_logits)) return;
    from = load_shared_data(a.logits_rows + row);
#else
    if (row >= load_shared_data(&a.batch->n_rows)) return;
#endif
    norm.run(a.x + (u64)from * D_MODEL, 1, a.out, row, sums, warp_index(), [] { block_sync(); });
}

EXPORTED StageInfo norm_rows_info = {NORM_STAGE_WARPS(D_MODEL) * 32, {MAX_ROWS, 1}, Norm::SHARED_FLOATS * 4};

KERNEL(NORM_STAGE_WARPS(D_MODEL) * 32, 1) norm_rows(NormArgs a) {
    Norm norm;
    stage_launch_next();
    norm.prepare(a.norm, a.bias, warp_index());
    stage_wait();
    norm_rows_run(a, norm, block_index(), (float *)shared_memory());
}
