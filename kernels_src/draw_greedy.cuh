// Draws the rows whose slots do not sample: the largest logit.
//
//     token = argmax over the blocks' best (the lowest id among equals), TOKEN_INVALID (-1) where a logit is
//     not a number, is infinite, or all are -infinity
//
// Grid: a block of one warp a row. CPU reference: sampler_draw. Defines: HEAD_BLOCKS, MAX_ROWS (capacity of
// the logits).
#ifndef MAX_ROWS
#error "MAX_ROWS"
#endif

DEVICE void draw_greedy_run(const DrawArgs &a, u32 index) {
    BatchRow *row = draw_row(a, index, DRAW_SAMPLED, 0);
    if (row == 0) return;
    SlotState *slot = a.slots + row->slot;
    HeadBest best = best_of_blocks(draw_best(a, index, slot), HEAD_BLOCKS);
    if (lane_index() == 0) draw_advance(row, slot, best.token);
}

EXPORTED StageInfo draw_greedy_info = {WARP, {MAX_ROWS, 1}, 0};

KERNEL(32, 1) draw_greedy(DrawArgs a) {
    stage_launch_next();
    stage_wait();
    draw_greedy_run(a, block_index());
}
