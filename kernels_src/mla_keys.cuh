// Attention with a compressed cache: the cache's new entries.
//
//     entry = {norm(c), turn(t)}    raw[row] = {c, t}
//
// c are the KV_RANK values of the latent vector, whose norm is an RMS norm; t the TURNED ones behind them,
// whose pairs 2 i, 2 i + 1 are turned by the angles of rope.cuh's table. An entry is f16, and lies where a
// key of one head of KV_RANK + TURNED dims would (layout_kv_at); there are no values.
//
// Operations: RMS_NORM, ROPE, KV_WRITE. Order of sums: rows.cuh. Grid: a block a row; where a prompt has
// many, a block takes several in turn. Needs rows.cuh, turned.cuh. Defines: KV_RANK (a multiple of 4),
// TURNED, NORM_EPS, MAX_ROWS.
#if !defined(KV_RANK) || !defined(TURNED) || !defined(NORM_EPS) || !defined(MAX_ROWS)
#error "KV_RANK, TURNED, NORM_EPS, MAX_ROWS"
#endif

enum : u32 {
    ENTRY_DIM = KV_RANK + TURNED,
    ENTRY_WARPS = NORM_STAGE_WARPS(KV_RANK),
    ENTRY_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX),
};

typedef RowNorms<KV_RANK, 1, ENTRY_WARPS> LatentNorm;

DEVICE void mla_keys_run(const MlaKeysArgs &a, const LatentNorm &norm, u32 row, float *sums) {
    u32 position = a.rows[row].position, page = a.rows[row].pages[a.list_at + position / KV_PAGE];
    f16 *entries = a.kv + (u64)page * KV_TILE_HALVES(ENTRY_DIM);
    const float *raw = a.raw + (u64)row * ENTRY_DIM;
    auto store = [&](u32 dim, float first, float second) {
        *(u32 *)(entries + layout_kv_at(ENTRY_DIM, 0, 0, position % KV_PAGE, dim)) = pack_f16(first, second);
    };
    for (u32 pair = thread_index(); pair < TURNED / 2; pair += ENTRY_WARPS * WARP) {
        float2 v = load_shared_data((const float2 *)(raw + KV_RANK) + pair);
        float2 angle = load_shared_data((const float2 *)a.rope + (u64)row * (TURNED / 2) + pair);
        store(KV_RANK + pair * 2, turned_first(v.x, v.y, angle.x, angle.y),
              turned_second(v.x, v.y, angle.x, angle.y));
    }
    norm.each(
        raw, 1, sums, warp_index(), [] { block_sync(); },
        [&](u32, u32 turn, u32 i, u32 col, float4 v, float factor) {
            v = norm_value(v, factor, norm.w[turn].v[i], float4{0, 0, 0, 0});
            store(col, v.x, v.y);
            store(col + 2, v.z, v.w);
        });
}

EXPORTED StageInfo mla_keys_info = {ENTRY_WARPS * 32, {ENTRY_BLOCKS, 1}, LatentNorm::SHARED_FLOATS * 4};

KERNEL(ENTRY_WARPS * 32, 1) mla_keys(MlaKeysArgs a) {
    LatentNorm norm;
    stage_launch_next();
    norm.prepare(a.norm, 0, warp_index());
    stage_wait();
    u32 n_rows = load_shared_data(&a.batch->n_rows);
    for (u32 row = block_index(); row < n_rows; row += ENTRY_BLOCKS) {
        mla_keys_run(a, norm, row, (float *)shared_memory());
        block_sync(); // the sums have been read
    }
}
