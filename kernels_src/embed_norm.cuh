// The norm of embeddings, which begin the residual stream so.
//
//     x[row] = x[row] * factor                         rows.cuh: factor, order of sums
//
// Operation: RMS_NORM without a weight. Grid: a block a row; where a prompt has many rows, a block takes
// several in turn, and those past the last one cost nothing. Defines: D_MODEL, NORM_EPS, NORM_PLAIN,
// MAX_ROWS.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(NORM_PLAIN) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS, NORM_PLAIN, MAX_ROWS"
#endif

enum : u32 { NORM_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX) };

typedef RowNorms<D_MODEL, 1, NORM_STAGE_WARPS(D_MODEL)> Norm;

DEVICE void embed_norm_run(const EmbedNormArgs &a, const Norm &norm, u32 row, float *sums) {
    float *x = a.x + (u64)row * D_MODEL;
    norm.each((const float *)x, 1, sums, warp_index(), [] { block_sync(); },
              [&](u32, u32, u32, u32 col, float4 v, float factor) {
                  *(float4 *)(x + col) = {v.x * factor, v.y * factor, v.z * factor, v.w * factor};
              });
}

EXPORTED StageInfo embed_norm_info = {
    NORM_STAGE_WARPS(D_MODEL) * 32, {NORM_BLOCKS, 1}, Norm::SHARED_FLOATS * 4};

KERNEL(NORM_STAGE_WARPS(D_MODEL) * 32, 1) embed_norm(EmbedNormArgs a) {
    Norm norm;
    stage_launch_next();
    norm.prepare(0, 0, warp_index());
    u32 n_rows = load_shared_data(&a.batch->n_rows); // the host wrote it
    stage_wait();
    for (u32 row = block_index(); row < n_rows; row += NORM_BLOCKS) {
        if (row != block_index()) block_sync(); // the sums have been read
        embed_norm_run(a, norm, row, (float *)shared_memory());
    }
}
