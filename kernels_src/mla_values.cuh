// Attention with a compressed cache: a head's part of the latent vectors becomes its output.
//
//     out[row][head] = W[head] latent[row][head]    W [PRODUCT_ROWS][PRODUCT_COLS = KV_RANK]
//
// f16 in, f16 activations (rows.cuh) of N_HEADS * PRODUCT_ROWS columns out. Operation: HEAD_MATMUL. Grid,
// order of sums: head_product.cuh, and its defines.
DEVICE void mla_values_run(const MlaValuesArgs &a, const HeadTask &t, const BandFactors &ahead, u8 *shared) {
    const f16 *latent = a.latent + ((u64)t.first * N_HEADS + t.head) * PRODUCT_COLS;
    load_head_inputs(shared, t.n, [&](u32 token, u32 col) {
        return load_shared_data((const u32 *)(latent + (u64)token * N_HEADS * PRODUCT_COLS + col));
    });
    block_sync();
    head_product(a.weight, t, shared, ahead, [&](u32 token, u32 row, float v) {
        a.out[activation_at(t.first + token, t.head * PRODUCT_ROWS + row)] = f32_to_f16(v);
    });
    block_sync(); // the inputs have been used
}

EXPORTED StageInfo mla_values_info = {HEAD_THREADS, {HEAD_BLOCKS, 1}, HEAD_SHARED_BYTES};

KERNEL(HEAD_THREADS, 1) mla_values(MlaValuesArgs a) {
    stage_launch_next();
    u32 n_rows = MAX_ROWS == 1 ? 1 : load_shared_data(&a.batch->n_rows);
    BandFactors ahead = head_prepare(a.weight, n_rows, shared_memory());
    stage_wait();
    for (u32 i = block_index(); i < head_task_count(n_rows); i += HEAD_BLOCKS) {
        mla_values_run(a, head_task(i, n_rows), ahead, shared_memory());
    }
}
