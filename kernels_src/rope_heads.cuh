// Prompts: what becomes of the heads that qkv.cuh left (turn_heads.cuh), and the cache's new entries.
//
//     q → args.q as f16
//     k, v → the cache's page of the row's position, as f16 or as Q8; SHARED_KV: there are none
//
// Operations: RMS_NORM x 2, ROPE x 2, KV_WRITE. Grid: a warp some heads of a row, HEADS_WARPS a block, which
// take several in turn where there are many; those past the last one cost nothing. (Batches of rows:
// attention.cuh does it by itself.) Needs kv_cache.cuh, turn_heads.cuh. Defines: turn_heads.cuh's, MAX_ROWS.
#ifndef MAX_ROWS
#error "MAX_ROWS"
#endif

enum : u32 {
    // Of a row, by a warp at once: of many rows the time is that of their ways from memory.
    HEADS_TOGETHER = MAX_ROWS <= 128         ? 1
                     : TURNED_HEADS % 4 == 0 ? 4
                     : TURNED_HEADS % 2 == 0 ? 2
                                             : 1,
    HEADS_TASKS = TURNED_HEADS / HEADS_TOGETHER, // of a row
    HEADS_WARPS = MAX_ROWS > 128 ? 8 : 4,
    HEADS_BLOCKS = MIN(CEIL_DIV(MAX_ROWS * HEADS_TASKS, HEADS_WARPS), ROW_BLOCKS_MAX),
};

// page: of the position, where the head is one of keys or values.
DEVICE void rope_head_finish(const RopeHeadsArgs &a, u32 row, u32 head, u32 position, u32 page,
                             const HeadAngles &angles, RawHead *h) {
    u32 projection = head < N_HEADS ? 0 : head < N_HEADS + N_KV_HEADS ? 1 : 2;
    u32 kv_head = projection ? (head - N_HEADS) % N_KV_HEADS : 0;
    if (projection < 2) turn_head(h, a.norm[projection], angles);
    else norm_value(h);
    if (projection > 0) {
        u8 *keys = (u8 *)kv_head_page(a.kv, page, kv_head);
        store_entry(projection == 2 ? keys + KV_PIECE_BYTES : keys, projection == 2, position % KV_PAGE,
                    make_entry(*h));
        return;
    }
    heat_query(h, position);
    f16 *queries = a.q + ((u64)row * N_HEADS + head) * HEAD_DIM;
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim < HEAD_DIM) *(u32 *)(queries + dim) = packed_query(h->own[i]);
    }
}

// HEADS_TOGETHER heads of a row, from `head` on.
DEVICE void rope_heads_run(const RopeHeadsArgs &a, u32 row, u32 head) {
    RawHead h[HEADS_TOGETHER];
#pragma unroll
    for (u32 i = 0; i < HEADS_TOGETHER; i++) {
        h[i] = load_raw_head(a.raw + ((u64)row * ROW_HEADS + head + i) * HEAD_DIM);
    }
    HeadAngles angles = load_angles(a.rope, row);
    u32 position = a.rows[row].position, page = 0;
    if (head + HEADS_TOGETHER > N_HEADS) page = a.rows[row].pages[a.list_at + position / KV_PAGE];
    warp_sync(); // or the compiler makes some loads behind the first stores
#pragma unroll
    for (u32 i = 0; i < HEADS_TOGETHER; i++) {
        rope_head_finish(a, row, head + i, position, page, angles, &h[i]);
    }
}

EXPORTED StageInfo rope_heads_info = {HEADS_WARPS * 32, {HEADS_BLOCKS, 1}, 0};

KERNEL(HEADS_WARPS * 32, 1) rope_heads(RopeHeadsArgs a) {
    stage_launch_next();
    u32 n = load_shared_data(&a.batch->n_rows) * HEADS_TASKS; // known before the step began
    stage_wait();
    for (u32 i = block_index() * HEADS_WARPS + warp_index(); i < n; i += HEADS_BLOCKS * HEADS_WARPS) {
        rope_heads_run(a, i / HEADS_TASKS, i % HEADS_TASKS * HEADS_TOGETHER);
    }
}
