// Prefill: norms of the heads of queries and keys, RoPE, and the cache's new entries, of what prefill_qkv
// left.
//
//     q, k = rms_norm of each head, turned by RoPE at the row's position
//     q → args.q as f16, times SCORE_SCALE * log2(e)
//     k, v → the cache
//
// Operations: RMS_NORM x 2, ROPE x 2, KV_WRITE. Grid: a warp a head of a row (heads.cuh), HEADS_WARPS a
// block; those past the step's rows have nothing to do. Defines: heads.cuh's, MAX_ROWS.
#ifndef MAX_ROWS
#error "MAX_ROWS"
#endif

DEVICE void prefill_heads_run(const PrefillHeadsArgs &a, u32 row, u32 head) {
    if (row >= a.span->n_rows) return;
    u32 position = a.span->position + row;
    f16 *q = a.q + (u64)row * N_HEADS * HEAD_DIM;
    HeadPlace place = head_place(head, q, a.kv, a.span->pages[position / KV_PAGE], position % KV_PAGE);
    const float *raw = a.raw + ((u64)row * ROW_HEADS + head) * HEAD_DIM;
    head_run(raw, place.projection == 0 ? a.norm[0] : a.norm[1], place,
             [&](u32 pair) { return load_shared_data((const float2 *)a.rope + row * ROPE_PAIRS + pair); });
}

EXPORTED StageInfo prefill_heads_info = {
    HEADS_WARPS * 32, {CEIL_DIV(MAX_ROWS * ROW_HEADS, HEADS_WARPS), 1}, 0};

KERNEL(HEADS_WARPS * 32, 1) prefill_heads(PrefillHeadsArgs a) {
    stage_launch_next();
    stage_wait();
    u32 i = block_index() * HEADS_WARPS + warp_index();
    prefill_heads_run(a, i / ROW_HEADS, i % ROW_HEADS);
}
