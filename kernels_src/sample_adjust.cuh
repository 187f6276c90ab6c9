// The stage between the head and the draw, for sequences with a logit bias, a presence or a frequency
// penalty.
//
//     v[i]    = logits[i] + bias[i]
//     v[i]    = v[i] after the repetition penalty (logits.cuh)
//     v[i]    = v[i] - frequency n[i] - presence    where n[i] > 0: token i was drawn so often
//     best[b] = the largest v[i] of block b's part, the lowest id among equals
//
// The draw then takes v and best instead of the head's. Of such a sequence the head and the draw know no
// repetition penalty (StepRow has 1): it is taken off here, after the bias.
//
// Grid: HEAD_BLOCKS blocks, each with its part of the logits. CPU reference: sampler_draw. Defines: N_VOCAB,
// HEAD_BLOCKS (blocks of decode_head).
#if !defined(N_VOCAB) || !defined(HEAD_BLOCKS)
#error "N_VOCAB, HEAD_BLOCKS"
#endif
#ifndef WARPS
#define WARPS 8
#endif
#define THREADS (WARPS * 32)

enum : u32 {
    // Shared memory: the list of biases, and each warp's best.
    BIAS_AT = 0,
    BEST_AT = BIAS_AT + ROUND_UP(SAMPLE_BIAS_MAX * sizeof(SampleBias), 16),
    ADJUST_SHARED_BYTES = BEST_AT + WARPS * sizeof(HeadBest),
};

// How many of list[from … to - 1], whose tokens ascend, are of lower tokens; plus `from`.
DEVICE u32 bias_at(const SampleBias *list, u32 from, u32 to, u32 token) {
    while (from < to) {
        u32 middle = (from + to) / 2;
        if ((u32)list[middle].token < token) from = middle + 1;
        else to = middle;
    }
    return from;
}

DEVICE float count_logit(const SampleRules *rules, u32 n_drawn, float logit) {
    if (n_drawn == 0) return logit;
    return fma_f32(-rules->frequency_penalty, (float)n_drawn, logit) - rules->presence_penalty;
}

DEVICE void sample_adjust_run(const SampleAdjustArgs &a, u32 block, u8 *shared) {
    SampleBias *list = (SampleBias *)(shared + BIAS_AT);
    u32 first = (u32)((u64)N_VOCAB * block / HEAD_BLOCKS),
        end = (u32)((u64)N_VOCAB * (block + 1) / HEAD_BLOCKS);
    for (u32 i = thread_index(); i < a.rules->n_bias; i += THREADS)
        list[i] = a.rules->bias[i];
    block_sync();
    // The part of the list that is for this block's tokens: mostly none.
    u32 from = bias_at(list, 0, a.rules->n_bias, first), to = bias_at(list, from, a.rules->n_bias, end);
    LogitRules repetition = {a.rules->repetition_penalty, 0, a.row->seen};
    const u16 *counts = a.row->counts;
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    for (u32 i = first + thread_index(); i < end; i += THREADS) {
        float v = load_shared_data(a.logits + i);
        u32 at = bias_at(list, from, to, i);
        if (at < to && (u32)list[at].token == i) v += list[at].bias;
        v = penalise_logit(repetition, i, v);
        if (counts != 0) v = count_logit(a.rules, counts[i], v);
        a.out[i] = v;
        best_take(&best, v, (i32)i);
    }
    best_of_warp(&best);
    HeadBest *warps = (HeadBest *)(shared + BEST_AT);
    if (lane_index() == 0) warps[warp_index()] = best;
    block_sync();
    if (thread_index() > 0) return;
    for (u32 w = 1; w < WARPS; w++)
        best_merge(&best, warps[w]);
    a.best[block] = best;
}

EXPORTED StageInfo sample_adjust_info = {THREADS, {HEAD_BLOCKS, 1}, ADJUST_SHARED_BYTES};

KERNEL(THREADS, 1) sample_adjust(SampleAdjustArgs a) {
    stage_launch_next();
    stage_wait();
    sample_adjust_run(a, block_index(), shared_memory());
}
