// The last stage of a decode step at temperature 0: the largest logit, and the sequence made ready for the
// next step.
//
//     token = argmax over the blocks' best (the lowest id among equals), TOKEN_INVALID (-1) where a logit is
//     not a number, is infinite, or all are -infinity
//
// Grid: one block of one warp. CPU reference: sampler_draw. Defines: HEAD_BLOCKS (blocks of decode_head).
#ifndef HEAD_BLOCKS
#error "HEAD_BLOCKS"
#endif

DEVICE void sample_greedy_run(const SampleArgs &a) {
    HeadBest best = best_of_blocks(a.best, HEAD_BLOCKS);
    if (lane_index() == 0) row_advance(a.row, best.token);
}

EXPORTED StageInfo sample_greedy_info = {WARP, {1, 1}, 0};

KERNEL(32, 1) sample_greedy(SampleArgs a) {
    stage_launch_next();
    stage_wait();
    sample_greedy_run(a);
}
