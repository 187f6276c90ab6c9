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

// What no stage of the step writes before this one is read before stage_wait: four loads that wait for each
// other.
DEVICE void draw_greedy_run(const DrawArgs &a, u32 index) {
    BatchRow *row = draw_row(a, index, DRAW_SAMPLED, 0);
    DrawTarget to = {};
    if (row != 0) to = draw_target(row, a.slots + row->slot);
    stage_wait();
    if (row == 0) return;
    HeadBest best = best_of_blocks<HEAD_BLOCKS>(draw_best(a, index, to.draws));
    if (lane_index() == 0) draw_advance(to, best.token);
}

EXPORTED StageInfo draw_greedy_info = {WARP, {MAX_ROWS, 1}, 0};

KERNEL(32, 1) draw_greedy(DrawArgs a) {
    stage_launch_next();
    draw_greedy_run(a, block_index());
}
