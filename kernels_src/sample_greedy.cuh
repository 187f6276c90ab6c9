// The last stage of a decode step at temperature 0: the largest logit, and the sequence made ready for the next step.
//
//     token = argmax over the blocks' best (the lowest id among equals), TOKEN_INVALID (-1) where a logit is not a number,
//     is infinite, or all are -infinity
//
// Grid: one block of one warp. CPU reference: sampler_draw. Defines: HEAD_BLOCKS (blocks of decode_head).
#ifndef HEAD_BLOCKS
#error "HEAD_BLOCKS"
#endif

DEVICE void sample_greedy_run(const SampleArgs &a) {
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    for (u32 i = lane_index(); i < HEAD_BLOCKS; i += WARP) {
        float2 value_token = load_shared_data((const float2 *)(a.best + i));
        u32 n_bad = load_shared_data(&a.best[i].n_bad);
        best_merge(&best, {value_token.x, (i32)bits_of(value_token.y), n_bad, 0});
    }
    best_of_warp(&best);
    bool good = best.n_bad == 0 && best.token >= 0 && is_number(best.value);
    if (lane_index() == 0) sequence_advance(a.sequence, good ? best.token : -1, a.out);
}

EXPORTED StageInfo sample_greedy_info = {WARP, {1, 1}, 0};

KERNEL(32, 1) sample_greedy(SampleArgs a) {
    stage_launch_next();
    stage_wait();
    sample_greedy_run(a);
}
