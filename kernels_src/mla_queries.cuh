// Attention with a compressed cache: a row's queries become as wide as the cache's keys; and what
// mla_keys.cuh makes: the turned values of queries and the cache's new entries, which nothing else here
// waits for.
//
//     q[row][head] up to KV_RANK = W[head] n * SCORE_SCALE * log2(e)    raw[row][head] = {n, t}
//
// n are the first UNTURNED values; W [KV_RANK][UNTURNED] would make a head's keys of the latent vector. f16
// both ways.
//
// Operations: HEAD_MATMUL (DeepSeek-AI 2024, section 2.1.2), and mla_keys.cuh's. Grid: head_product.cuh's,
// and behind it mla_keys.cuh's. Order of sums: theirs. Defines: N_HEADS, FORMAT_0, mla_keys.cuh's;
// PRODUCT_ROWS is KV_RANK, PRODUCT_COLS UNTURNED. Needs mla_keys.cuh.
DEVICE void mla_queries_run(const MlaQueriesArgs &a, const HeadTask &t, const BandFactors &ahead,
                            u8 *shared) {
    u64 first = (u64)t.first * N_HEADS + t.head; // row `token` of the task is N_HEADS * token further
    const float *raw = a.raw + (u64)t.first * QUERY_COLS + t.head * QUERY_DIM;
    f16 *q = a.out + first * ENTRY_DIM;
    load_head_inputs(shared, t.n, [&](u32 token, u32 col) {
        float2 v = load_shared_data((const float2 *)(raw + (u64)token * QUERY_COLS + col));
        return pack_f16(v.x, v.y);
    });
    block_sync();
    head_product(a.weight, t, shared, ahead, [&](u32 token, u32 row, float v) {
        q[(u64)token * N_HEADS * ENTRY_DIM + row] = f32_to_f16(v * QUERY_SCALE);
    });
    block_sync(); // the inputs have been used
}

enum : u32 { QUERIES_SHARED_BYTES = MAX(HEAD_SHARED_BYTES, LatentNorm::SHARED_FLOATS * 4u) };

EXPORTED StageInfo mla_queries_info = {HEAD_THREADS, {HEAD_BLOCKS + ENTRY_BLOCKS, 1}, QUERIES_SHARED_BYTES};

KERNEL(HEAD_THREADS, 1) mla_queries(MlaQueriesArgs a) {
    stage_launch_next();
    u32 n_rows = MAX_ROWS == 1 ? 1 : load_shared_data(&a.batch->n_rows);
    if (block_index() >= HEAD_BLOCKS) {
        mla_keys_block(a, block_index() - HEAD_BLOCKS, n_rows, (float *)shared_memory());
        return;
    }
    BandFactors ahead = head_prepare(a.weight, n_rows, shared_memory());
    stage_wait();
    for (u32 i = block_index(); i < head_task_count(n_rows); i += HEAD_BLOCKS) {
        mla_queries_run(a, head_task(i, n_rows), ahead, shared_memory());
    }
}
