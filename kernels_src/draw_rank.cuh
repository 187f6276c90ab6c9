// The stage before draw_sample, for rows with top-p, or with a top-k of more than HEAD_BLOCKS: how many
// logits, and how much weight, lie at what distance from the best.
//
// Grid: DRAW_BLOCKS blocks a row, each with its part of the row's logits. Defines: N_VOCAB, HEAD_BLOCKS,
// MAX_ROWS (capacity of the logits), DRAW_BLOCKS.
#if !defined(N_VOCAB) || !defined(MAX_ROWS) || !defined(DRAW_BLOCKS)
#error "N_VOCAB, MAX_ROWS, DRAW_BLOCKS"
#endif

DEVICE void draw_rank_run(const DrawArgs &a, u32 index, u32 block, u8 *shared) {
    Draw d;
    bool is_mine = draw_find(a, index, &d);
    stage_wait();
    if (!is_mine || d.kind != DRAWS_RANKED) return;
    draw_begin(&d);
    if (d.kind != DRAWS_RANKED) return;
    add_to_histogram(d, shared, chunks_before(block, DRAW_BLOCKS), chunks_before(block + 1, DRAW_BLOCKS),
                     [&](u32, float v) { return distance_bin(d, v); });
}

EXPORTED StageInfo draw_rank_info = {THREADS, {DRAW_BLOCKS, MAX_ROWS}, HISTOGRAM_BYTES};

KERNEL(THREADS, 2) draw_rank(DrawArgs a) {
    stage_launch_next();
    draw_rank_run(a, block_index_y(), block_index(), shared_memory());
}
