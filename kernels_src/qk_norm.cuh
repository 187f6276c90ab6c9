// The norms of a row's queries and of its keys, each over all heads, before they are turned.
//
//     raw[row]'s queries = v / sqrt(mean(v^2) + eps) * w, over all of them; likewise its keys
//
// Order of sums: rows.cuh. Operations: RMS_NORM x 2. Grid: a block a row; those past the batch's have nothing
// to do. Defines: N_HEADS, N_KV_HEADS, HEAD_DIM, NORM_EPS, MAX_ROWS.
#if !defined(N_HEADS) || !defined(N_KV_HEADS) || !defined(HEAD_DIM) || !defined(NORM_EPS) || \
    !defined(MAX_ROWS)
#error "N_HEADS, N_KV_HEADS, HEAD_DIM, NORM_EPS, MAX_ROWS"
#endif
#ifdef LAYER_NORM
#error "RMS norms alone"
#endif

enum : u32 {
    QUERY_COLS = N_HEADS * HEAD_DIM,
    KEY_COLS = N_KV_HEADS * HEAD_DIM,
    QK_WARPS = NORM_STAGE_WARPS(QUERY_COLS),
};

typedef RowNorms<QUERY_COLS, 1, QK_WARPS> QueryNorm;
typedef RowNorms<KEY_COLS, 1, QK_WARPS> KeyNorm;

template <class Norm> DEVICE void norm_in_place(const Norm &norm, float *v, float *sums) {
    norm.each((const float *)v, 1, sums, warp_index(), [] { block_sync(); },
              [&](u32, u32 turn, u32 i, u32 col, float4 x, float factor) {
                  *(float4 *)(v + col) = norm_value(x, factor, norm.w[turn].v[i], float4{0, 0, 0, 0});
              });
}

EXPORTED StageInfo qk_norm_info = {
    QK_WARPS * 32, {MAX_ROWS, 1}, MAX((u32)QueryNorm::SHARED_FLOATS, (u32)KeyNorm::SHARED_FLOATS) * 4};

KERNEL(QK_WARPS * 32, 1) qk_norm(QkNormArgs a) {
    QueryNorm queries;
    KeyNorm keys;
    stage_launch_next();
    queries.prepare(a.norm[0], 0, warp_index());
    keys.prepare(a.norm[1], 0, warp_index());
    stage_wait();
    if (block_index() >= load_shared_data(&a.batch->n_rows)) return;
    float *row = a.raw + (u64)block_index() * (QUERY_COLS + 2 * KEY_COLS), *sums = (float *)shared_memory();
    norm_in_place(queries, row, sums);
    block_sync(); // the sums have been read
    norm_in_place(keys, row + QUERY_COLS, sums);
}
