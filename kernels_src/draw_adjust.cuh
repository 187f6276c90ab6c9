// The stage between the head and the draw, for rows whose slots have a mask, a logit bias, a presence or a
// frequency penalty.
//
//     v[i]    = logits[i], or -infinity where the slot's mask does not allow token i
//     v[i]    = v[i] + bias[i]
//     v[i]    = v[i] after the repetition penalty (logits.cuh)
//     v[i]    = v[i] - frequency n[i] - presence    where n[i] > 0: token i was drawn so often
//     best[p] = the largest v[i] of part p, the lowest id among equals
//
// The draw then takes v and best instead of the head's. Of such a row the head and the draw know no
// repetition penalty (SlotState has 1): it is taken off here, after the bias. A greedy draw needs best alone,
// so v of its rows is not written.
//
// A row with a mask and nothing else needs best alone, too, and nothing where its draw is DRAW_UNCUT: the
// draw takes the head's logits, after the repetition penalty, and looks at the mask itself. If the best token
// of all is allowed, best is the head's, without those that are not allowed, and no logit is read.
//
// Logits that are not allowed are not read, so a narrow mask costs little. Whether one of them is NaN or
// infinite, which spoils the row all the same, the head's bests say.
//
// A row's logits are HEAD_BLOCKS parts, a warp each. Grid: ADJUST_BLOCKS blocks a row. CPU reference:
// sampler_draw. Defines: N_VOCAB, HEAD_BLOCKS, MAX_ROWS (capacity of the logits), ADJUST_BLOCKS.
#if !defined(N_VOCAB) || !defined(MAX_ROWS) || !defined(ADJUST_BLOCKS)
#error "N_VOCAB, MAX_ROWS, ADJUST_BLOCKS"
#endif

enum : u32 {
    ADJUST_LOADS = 8,  // of a lane under way at once
    MASKED_LOADS = 16, // where there is only a mask
    // Shared memory: the list of biases.
    ADJUST_SHARED_BYTES = ROUND_UP(SAMPLE_BIAS_MAX * sizeof(SampleBias), 16),
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

// A row is spoiled by NaN and +infinity, whether its mask allows them or not.
DEVICE void take_spoiled(HeadBest *best, const HeadBest *of_head) {
    uint4 head = load_shared_data((const uint4 *)of_head);
    best->n_bad += head.z;
    if (float_of(head.x) == INFINITY_F32) *best = {INFINITY_F32, (i32)head.y, best->n_bad, 0};
}

// Part `part` of row `index`, by a warp.
DEVICE void adjust_part(const DrawArgs &a, const SlotState *slot, u32 index, u32 part,
                        const SampleBias *list) {
    const SampleRules *rules = slot->rules;
    u32 first = (u32)((u64)N_VOCAB * part / HEAD_BLOCKS),
        end = (u32)((u64)N_VOCAB * (part + 1) / HEAD_BLOCKS);
    // What of the list is for this part's tokens: mostly nothing.
    u32 from = bias_at(list, 0, rules->n_bias, first), to = bias_at(list, from, rules->n_bias, end);
    LogitRules repetition = logit_rules(rules->repetition_penalty, slot->seen);
    const u16 *counts = slot->counts;
    const u32 *mask = slot->mask;
    bool is_written = (slot->draws & DRAW_SAMPLED) != 0;
    const float *in = a.logits + (u64)index * N_VOCAB;
    float *out = a.adjusted + (u64)index * N_VOCAB;
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    for (u32 at = first; at < end; at += ADJUST_LOADS * WARP) {
        float v[ADJUST_LOADS];
        u16 n_drawn[ADJUST_LOADS];
#pragma unroll
        for (u32 k = 0; k < ADJUST_LOADS; k++) {
            u32 i = at + k * WARP + lane_index();
            v[k] = i < end && is_allowed(mask, i) ? load_shared_data(in + i) : -INFINITY_F32;
            n_drawn[k] = i < end && counts != 0 ? counts[i] : 0;
        }
#pragma unroll
        for (u32 k = 0; k < ADJUST_LOADS; k++) {
            u32 i = at + k * WARP + lane_index();
            if (i >= end) break;
            u32 b = bias_at(list, from, to, i);
            if (b < to && (u32)list[b].token == i) v[k] += list[b].bias;
            v[k] = count_logit(rules, n_drawn[k], penalise_logit(repetition, i, v[k]));
            if (is_written) out[i] = v[k];
            best_take(&best, v[k], (i32)i);
        }
    }
    best_of_warp(&best);
    if (mask != 0) take_spoiled(&best, a.best + (u64)index * HEAD_BLOCKS + part);
    if (lane_index() == 0) a.adjusted_best[(u64)index * HEAD_BLOCKS + part] = best;
}

// The head's bests, without those that the mask does not allow: of each part of the row one logit or none,
// the best one of all among them. False where that one is not allowed. (Infinity spoils the row, allowed or
// not.) The row's first block writes them.
DEVICE bool take_bests(const DrawArgs &a, u32 index, u32 block, const u32 *mask) {
    const HeadBest *from = a.best + (u64)index * HEAD_BLOCKS;
    HeadBest best = best_of_blocks<HEAD_BLOCKS>(from);
    if (best.token >= 0 && !is_allowed(mask, (u32)best.token)) return false;
    for (u32 i = thread_index(); block == 0 && i < HEAD_BLOCKS; i += THREADS) {
        uint4 own = load_shared_data((const uint4 *)(from + i));
        HeadBest b = {float_of(own.x), (i32)own.y, own.z, 0};
        bool is_kept = b.token < 0 || b.value == INFINITY_F32 || is_allowed(mask, (u32)b.token);
        a.adjusted_best[(u64)index * HEAD_BLOCKS + i] = is_kept ? b : HeadBest{-INFINITY_F32, -1, b.n_bad, 0};
    }
    return true;
}

// Part `part` of a row with a mask and nothing else, whose best logit is not allowed: by a warp, a word of
// the mask (32 tokens) a lane, all asked for at once. Where 16 words allow nothing, no logit is asked for.
DEVICE void masked_part(const DrawArgs &a, const SlotState *slot, u32 index, u32 part) {
    enum : u32 {
        WORDS = CEIL_DIV(N_VOCAB, (u32)WARP),
        OWN = CEIL_DIV(CEIL_DIV(WORDS, (u32)HEAD_BLOCKS), (u32)WARP), // of a lane
        GROUP = (1u << MASKED_LOADS) - 1,
    };
    u32 first = WORDS * part / HEAD_BLOCKS, end = WORDS * (part + 1) / HEAD_BLOCKS;
    LogitRules repetition = logit_rules(slot->repetition_penalty, slot->seen);
    const float *in = a.logits + (u64)index * N_VOCAB;
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    u32 own[OWN];
#pragma unroll
    for (u32 i = 0; i < OWN; i++) {
        u32 at = first + i * WARP + lane_index();
        own[i] = at < end ? slot->mask[at] : 0;
    }
#pragma unroll 1
    for (u32 group = 0; group < OWN * WARP; group += MASKED_LOADS) {
        u32 words = own[0], token = (first + group) * WARP + lane_index();
#pragma unroll
        for (u32 i = 1; i < OWN; i++)
            words = group / WARP == i ? own[i] : words;
        if ((ballot_lanes(words != 0) >> group % WARP & GROUP) == 0) continue;
        float v[MASKED_LOADS];
#pragma unroll
        for (u32 k = 0; k < MASKED_LOADS; k++) {
            u32 word = shuffle(words, group % WARP + k), t = token + k * WARP;
            bool is_asked = t < N_VOCAB && (word >> lane_index() & 1u);
            v[k] = is_asked ? load_shared_data(in + t) : -INFINITY_F32;
        }
#pragma unroll
        for (u32 k = 0; k < MASKED_LOADS; k++) {
            u32 t = token + k * WARP;
            if (v[k] > -INFINITY_F32) best_take(&best, penalise_logit(repetition, t, v[k]), (i32)t);
        }
    }
    best_of_warp(&best);
    if (lane_index() == 0) a.adjusted_best[(u64)index * HEAD_BLOCKS + part] = best;
}

DEVICE void draw_adjust_run(const DrawArgs &a, u32 index, u32 block, u8 *shared) {
    const BatchRow *row = draw_row(a, index, DRAW_ADJUSTED, DRAW_ADJUSTED);
    stage_wait();
    if (row == 0) return;
    const SlotState *slot = a.slots + row->slot;
    u32 first = block * WARPS + warp_index(), step = ADJUST_BLOCKS * WARPS;
    if (is_masked_alone(slot)) {
        if (take_bests(a, index, block, slot->mask)) return;
        for (u32 part = first; part < HEAD_BLOCKS; part += step)
            masked_part(a, slot, index, part);
        return;
    }
    SampleBias *list = (SampleBias *)shared;
    for (u32 i = thread_index(); i < slot->rules->n_bias; i += THREADS)
        list[i] = slot->rules->bias[i];
    block_sync();
    for (u32 part = first; part < HEAD_BLOCKS; part += step)
        adjust_part(a, slot, index, part, list);
}

EXPORTED StageInfo draw_adjust_info = {THREADS, {ADJUST_BLOCKS, MAX_ROWS}, ADJUST_SHARED_BYTES};

KERNEL(THREADS, 2) draw_adjust(DrawArgs a) {
    stage_launch_next();
    draw_adjust_run(a, block_index_y(), block_index(), shared_memory());
}
