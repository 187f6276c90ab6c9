// Decode: norms of the heads of queries and keys, RoPE, and the cache's new entry, of what decode_qkv left.
//
//     q, k = rms_norm of each head, turned by RoPE at the token's position
//     q → args.q as f16, times SCORE_SCALE * log2(e)
//     k, v → the cache
//
// Operations: RMS_NORM x 2, ROPE x 2, KV_WRITE. Grid: a warp a head (heads.cuh), HEADS_WARPS a block.
// Defines: heads.cuh's, ROPE_SCALE (on cos and sin).
#ifndef ROPE_SCALE
#error "ROPE_SCALE"
#endif

DEVICE void decode_heads_run(const HeadsArgs &a, u32 head) {
    if (head >= ROW_HEADS) return;
    u32 position = a.row->position;
    HeadPlace place = head_place(head, a.q, a.kv, a.row->pages[position / KV_PAGE], position % KV_PAGE);
    head_run(a.raw + head * HEAD_DIM, place.projection == 0 ? a.norm[0] : a.norm[1], place, [&](u32 pair) {
        float sine, cosine;
        sin_cos_f32((float)position * a.inv_freq[pair], &sine, &cosine);
        return float2{cosine * ROPE_SCALE, sine * ROPE_SCALE};
    });
}

EXPORTED StageInfo decode_heads_info = {HEADS_WARPS * 32, {CEIL_DIV(ROW_HEADS, HEADS_WARPS), 1}, 0};

KERNEL(HEADS_WARPS * 32, 1) decode_heads(HeadsArgs a) {
    stage_launch_next();
    stage_wait();
    decode_heads_run(a, block_index() * HEADS_WARPS + warp_index());
}
