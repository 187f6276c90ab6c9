// The stage between the head and the draw, for rows whose slots have a logit bias, a presence or a frequency
// penalty.
//
//     v[i]    = logits[i] + bias[i]
//     v[i]    = v[i] after the repetition penalty (logits.cuh)
//     v[i]    = v[i] - frequency n[i] - presence    where n[i] > 0: token i was drawn so often
//     best[p] = the largest v[i] of part p, the lowest id among equals
//
// The draw then takes v and best instead of the head's. Of such a row the head and the draw know no
// repetition penalty (SlotState has 1): it is taken off here, after the bias.
//
// A row's logits are HEAD_BLOCKS parts. Grid: ADJUST_BLOCKS blocks a row, each with some of the parts. CPU
// reference: sampler_draw. Defines: N_VOCAB, HEAD_BLOCKS, MAX_ROWS (capacity of the logits), ADJUST_BLOCKS.
#if !defined(N_VOCAB) || !defined(MAX_ROWS) || !defined(ADJUST_BLOCKS)
#error "N_VOCAB, MAX_ROWS, ADJUST_BLOCKS"
#endif

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

// Part `part` of row `index`.
DEVICE void adjust_part(const DrawArgs &a, const SlotState *slot, u32 index, u32 part, u8 *shared) {
    const SampleBias *list = (const SampleBias *)(shared + BIAS_AT);
    const SampleRules *rules = slot->rules;
    u32 first = (u32)((u64)N_VOCAB * part / HEAD_BLOCKS),
        end = (u32)((u64)N_VOCAB * (part + 1) / HEAD_BLOCKS);
    // What of the list is for this part's tokens: mostly nothing.
    u32 from = bias_at(list, 0, rules->n_bias, first), to = bias_at(list, from, rules->n_bias, end);
    LogitRules repetition = {rules->repetition_penalty, 0, slot->seen};
    const u16 *counts = slot->counts;
    u64 row = (u64)index * N_VOCAB;
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    for (u32 i = first + thread_index(); i < end; i += THREADS) {
        float v = load_shared_data(a.logits + row + i);
        u32 at = bias_at(list, from, to, i);
        if (at < to && (u32)list[at].token == i) v += list[at].bias;
        v = penalise_logit(repetition, i, v);
        if (counts != 0) v = count_logit(rules, counts[i], v);
        a.adjusted[row + i] = v;
        best_take(&best, v, (i32)i);
    }
    best_of_warp(&best);
    HeadBest *warps = (HeadBest *)(shared + BEST_AT);
    block_sync(); // the last part's readers are done
    if (lane_index() == 0) warps[warp_index()] = best;
    block_sync();
    if (thread_index() > 0) return;
    for (u32 w = 1; w < WARPS; w++)
        best_merge(&best, warps[w]);
    a.adjusted_best[(u64)index * HEAD_BLOCKS + part] = best;
}

DEVICE void draw_adjust_run(const DrawArgs &a, u32 index, u32 block, u8 *shared) {
    const BatchRow *row = draw_row(a, index, DRAW_ADJUSTED, DRAW_ADJUSTED);
    if (row == 0) return;
    const SlotState *slot = a.slots + row->slot;
    SampleBias *list = (SampleBias *)(shared + BIAS_AT);
    for (u32 i = thread_index(); i < slot->rules->n_bias; i += THREADS)
        list[i] = slot->rules->bias[i];
    block_sync();
    for (u32 part = HEAD_BLOCKS * block / ADJUST_BLOCKS; part < HEAD_BLOCKS * (block + 1) / ADJUST_BLOCKS;
         part++)
        adjust_part(a, slot, index, part, shared);
}

EXPORTED StageInfo draw_adjust_info = {THREADS, {ADJUST_BLOCKS, MAX_ROWS}, ADJUST_SHARED_BYTES};

KERNEL(THREADS, 1) draw_adjust(DrawArgs a) {
    stage_launch_next();
    stage_wait();
    draw_adjust_run(a, block_index_y(), block_index(), shared_memory());
}
