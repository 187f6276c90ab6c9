// Attention with a compressed cache: a row's queries become as wide as the cache's keys.
//
//     q[row][head] = {W[head] n, turn(t)} * SCORE_SCALE * log2(e)    raw[row][head] = {n, t}
//
// n are the first UNTURNED values, t the TURNED ones behind them, whose pairs 2 i, 2 i + 1 are turned by the
// angles of rope.cuh's table; W [KV_RANK][UNTURNED] would make a head's keys of the latent vector. f16 both
// ways.
//
// Operations: ROPE, HEAD_MATMUL (DeepSeek-AI 2024, section 2.1.2). Grid, order of sums: head_product.cuh.
// Defines: N_HEADS, KV_RANK, UNTURNED, TURNED, SCORE_SCALE, FORMAT_0, MAX_ROWS; PRODUCT_ROWS is KV_RANK,
// PRODUCT_COLS UNTURNED.
#if !defined(KV_RANK) || !defined(UNTURNED) || !defined(TURNED) || !defined(SCORE_SCALE)
#error "KV_RANK, UNTURNED, TURNED, SCORE_SCALE"
#endif
static_assert(UNTURNED % 2 == 0 && TURNED % 2 == 0, "pairs");

DEVICE void mla_queries_run(const MlaProductArgs &a, const HeadTask &t, u8 *shared) {
    const float scale = SCORE_SCALE * 1.44269504089f;
    u64 first = (u64)t.first * N_HEADS + t.head; // row `token` of the task is N_HEADS * token further
    const float *raw = a.raw + first * (UNTURNED + TURNED);
    f16 *q = a.out + first * (KV_RANK + TURNED);
    auto pair_at = [&](u32 token, u32 col) {
        return load_shared_data((const float2 *)(raw + (u64)token * N_HEADS * (UNTURNED + TURNED) + col));
    };
    auto query = [&](u32 token) { return q + (u64)token * N_HEADS * (KV_RANK + TURNED); };
    load_head_inputs(shared, t.n, [&](u32 token, u32 col) {
        float2 v = pair_at(token, col);
        return pack_f16(v.x, v.y);
    });
    for (u32 i = thread_index(); t.part == 0 && i < t.n * (TURNED / 2); i += HEAD_THREADS) {
        u32 token = i / (TURNED / 2), pair = i % (TURNED / 2);
        float2 v = pair_at(token, UNTURNED + pair * 2);
        float2 angle =
            load_shared_data((const float2 *)a.rope + (u64)(t.first + token) * (TURNED / 2) + pair);
        *(u32 *)(query(token) + KV_RANK + pair * 2) =
            pack_f16(turned_first(v.x, v.y, angle.x, angle.y) * scale,
                     turned_second(v.x, v.y, angle.x, angle.y) * scale);
    }
    block_sync();
    head_product(a.weight, t, shared,
                 [&](u32 token, u32 row, float v) { query(token)[row] = f32_to_f16(v * scale); });
    block_sync(); // the inputs have been used
}

EXPORTED StageInfo mla_queries_info = {HEAD_THREADS, {HEAD_BLOCKS, 1}, INPUT_BYTES};

KERNEL(HEAD_THREADS, 1) mla_queries(MlaProductArgs a) {
    stage_launch_next();
    u32 n_rows = load_shared_data(&a.batch->n_rows);
    prefetch_head(a.weight, n_rows);
    stage_wait();
    for (u32 i = block_index(); i < head_task_count(n_rows); i += HEAD_BLOCKS) {
        mla_queries_run(a, head_task(i, n_rows), shared_memory());
    }
}
