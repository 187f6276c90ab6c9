// Prompts: what becomes of the heads that qkv.cuh left (turn_heads.cuh), and the cache's new entries.
//
//     q → args.q as f16
//     k, v → the cache's page of the row's position, as f16 or as Q8; SHARED_KV: there are none
//
// Operations: RMS_NORM x 2, ROPE x 2, KV_WRITE. Grid: a warp a head of a row, HEADS_WARPS a block, which
// take several in turn where there are many; those past the last one cost nothing. (Batches of rows:
// attention.cuh does it by itself.) Needs kv_cache.cuh, turn_heads.cuh. Defines: turn_heads.cuh's, MAX_ROWS.
#ifndef MAX_ROWS
#error "MAX_ROWS"
#endif

enum : u32 {
    HEADS_WARPS = MAX_ROWS > 128 ? 8 : 4,
    HEADS_BLOCKS = MIN(CEIL_DIV(MAX_ROWS * TURNED_HEADS, HEADS_WARPS), ROW_BLOCKS_MAX),
};

DEVICE void rope_heads_run(const RopeHeadsArgs &a, u32 row, u32 head) {
    u32 projection = head < N_HEADS ? 0 : head < N_HEADS + N_KV_HEADS ? 1 : 2;
    u32 kv_head = projection ? (head - N_HEADS) % N_KV_HEADS : 0;
    u32 position = a.rows[row].position, page = a.rows[row].pages[a.list_at + position / KV_PAGE];
    HeadAngles angles = load_angles(a.rope, row);
    RawHead h = load_raw_head(a.raw + ((u64)row * ROW_HEADS + head) * HEAD_DIM);
    if (projection < 2) turn_head(&h, a.norm[projection], angles);
    else norm_value(&h);
    if (projection > 0) {
        u8 *keys = (u8 *)kv_head_page(a.kv, page, kv_head);
        store_entry(projection == 2 ? keys + KV_PIECE_BYTES : keys, projection == 2, position % KV_PAGE,
                    make_entry(h));
        return;
    }
    heat_query(&h, position);
    f16 *queries = a.q + ((u64)row * N_HEADS + head) * HEAD_DIM;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim < HEAD_DIM) *(u32 *)(queries + dim) = packed_query(h.own[i]);
    }
}

EXPORTED StageInfo rope_heads_info = {HEADS_WARPS * 32, {HEADS_BLOCKS, 1}, 0};

KERNEL(HEADS_WARPS * 32, 1) rope_heads(RopeHeadsArgs a) {
    stage_launch_next();
    stage_wait();
    u32 n = a.batch->n_rows * TURNED_HEADS;
    for (u32 i = block_index() * HEADS_WARPS + warp_index(); i < n; i += HEADS_BLOCKS * HEADS_WARPS) {
        rope_heads_run(a, i / TURNED_HEADS, i % TURNED_HEADS);
    }
}
