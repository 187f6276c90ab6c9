// The stage after the draws, for rows whose slots want log-probabilities: of the token drawn, and of the most
// probable tokens, by the logits as the model gives them.
//
//     logprob[i] = (logits[i] - top) - ln(sum over j of e^(logits[j] - top))
//
// Each block leaves of its part of a row's logits the largest, the sum of e^(logit - its largest), and the
// best n in their order. The block that comes last puts these together. Sums are of integers in units of
// 2^-40, so that they come out the same in any order. 0 is the rank of nothing.
//
// Grid: LOGPROBS_BLOCKS blocks a row. CPU reference: sampler_logprobs, whose results differ in the last bits
// (it adds in double). Defines: N_VOCAB, HEAD_BLOCKS, MAX_ROWS (capacity of the logits), LOGPROBS_BLOCKS.
#if !defined(N_VOCAB) || !defined(MAX_ROWS) || !defined(LOGPROBS_BLOCKS)
#error "N_VOCAB, MAX_ROWS, LOGPROBS_BLOCKS"
#endif

#define UNITS_OF_ONE 1099511627776.0f // 2^40

enum : u32 {
    PART = CEIL_DIV(N_VOCAB, LOGPROBS_BLOCKS), // logits a block
    BLOCKS_BEST = LOGPROBS_BLOCKS * SAMPLE_LOGPROBS_MAX,

    // Shared memory: ranks to choose from, the best of them, and what sums and choices need.
    RANKS_AT = 0,
    CHOSEN_AT = RANKS_AT + (PART > BLOCKS_BEST ? PART : BLOCKS_BEST) * 8,
    WARPS_AT = CHOSEN_AT + SAMPLE_LOGPROBS_MAX * 8, // [WARPS] u64
    IS_LAST_AT = WARPS_AT + WARPS * 8,
    LOGPROBS_SHARED_BYTES = IS_LAST_AT + 16,
};
static_assert(LOGPROBS_BLOCKS <= SAMPLE_BLOCKS_MAX, "each block has its place in the scratch");
static_assert(LOGPROBS_BLOCKS <= THREADS, "a thread for each block");

// Each warp's value, for all threads to read until the next call.
DEVICE const u64 *values_of_warps(u8 *shared, u64 v) {
    u64 *warps = (u64 *)(shared + WARPS_AT);
    block_sync(); // the last values' readers are done
    if (lane_index() == 0) warps[warp_index()] = v;
    block_sync();
    return warps;
}

// Of all threads' values; the whole block calls it.
DEVICE u64 block_largest(u8 *shared, u64 v) {
    for (u32 m = 16; m > 0; m /= 2) {
        u64 other = shuffle_xor(v, m);
        v = MAX(v, other);
    }
    const u64 *warps = values_of_warps(shared, v);
    for (u32 w = 0; w < WARPS; w++)
        v = MAX(v, warps[w]);
    return v;
}

DEVICE u64 block_sum(u8 *shared, u64 v) {
    for (u32 m = 16; m > 0; m /= 2)
        v += shuffle_xor(v, m);
    const u64 *warps = values_of_warps(shared, v);
    u64 sum = 0;
    for (u32 w = 0; w < WARPS; w++)
        sum += warps[w];
    return sum;
}

// The largest of this thread's ranks below `limit`; 0 where there is none.
DEVICE u64 largest_below(const u64 *ranks, u32 n, u64 limit) {
    u64 largest = 0;
    for (u32 i = thread_index(); i < n; i += THREADS) {
        if (ranks[i] < limit && ranks[i] > largest) largest = ranks[i];
    }
    return largest;
}

// The n_best largest of n ranks, and at least one, in their order, to CHOSEN_AT.
DEVICE const u64 *choose_best(u8 *shared, u32 n, u32 n_best) {
    const u64 *ranks = (const u64 *)(shared + RANKS_AT);
    u64 *chosen = (u64 *)(shared + CHOSEN_AT);
    block_sync(); // the ranks are there
    u64 mine = largest_below(ranks, n, ~0ull);
    for (u32 i = 0; i < MAX(n_best, 1u); i++) {
        u64 largest = block_largest(shared, mine);
        if (thread_index() == 0) chosen[i] = largest;
        if (mine == largest) mine = largest_below(ranks, n, largest);
    }
    block_sync();
    return chosen;
}

// `units` (of 2^-40: this many are 1) times e^(logit - top); 0 for a logit of -infinity, and where the draw
// reports logits that are not numbers.
DEVICE u64 weight_units(float units, float logit, float top) {
    return is_number(logit) && is_number(top) ? (u64)(units * exp_f32(logit - top)) : 0;
}

struct Logprobs {
    const BatchRow *row; // as the draw left it
    const SlotState *slot;
    const float *logits;
    LogprobsScratch *scratch;
    u32 n_best;
};

// A block's part of the logits.
DEVICE void reduce_part(const Logprobs &r, u32 block, u8 *shared) {
    u32 first = (u32)((u64)N_VOCAB * block / LOGPROBS_BLOCKS),
        end = (u32)((u64)N_VOCAB * (block + 1) / LOGPROBS_BLOCKS), n_best = r.n_best;
    u64 *ranks = (u64 *)(shared + RANKS_AT);
    for (u32 i = first + thread_index(); i < end; i += THREADS)
        ranks[i - first] = rank_of(load_shared_data(r.logits + i), i);
    const u64 *chosen = choose_best(shared, end - first, n_best);
    float top = rank_logit(chosen[0]);
    u64 sum = 0;
    for (u32 i = thread_index(); i < end - first; i += THREADS)
        sum += weight_units(UNITS_OF_ONE, rank_logit(ranks[i]), top);
    sum = block_sum(shared, sum);
    LogprobsPart *part = &r.scratch->part[block];
    if (thread_index() < MAX(n_best, 1u)) part->best[thread_index()] = chosen[thread_index()];
    if (thread_index() == 0) part->sum = sum;
}

// The natural logarithm of the sum of all weights relative to `top`.
DEVICE float log_of_sum(const Logprobs &r, u8 *shared, float top) {
    u32 t = thread_index();
    u64 units = 0;
    if (t < LOGPROBS_BLOCKS) {
        const LogprobsPart *part = &r.scratch->part[t];
        units = weight_units((float)load_shared_data(&part->sum),
                             rank_logit(load_shared_data(&part->best[0])), top);
    }
    return log_f32((float)block_sum(shared, units) * (1 / UNITS_OF_ONE));
}

// All parts together, by one block.
DEVICE void merge_parts(const Logprobs &r, u8 *shared) {
    u32 n_best = r.n_best, n = MAX(n_best, 1u), t = thread_index();
    u64 *ranks = (u64 *)(shared + RANKS_AT);
    for (u32 i = t; i < LOGPROBS_BLOCKS * n; i += THREADS)
        ranks[i] = load_shared_data(&r.scratch->part[i / n].best[i % n]);
    const u64 *chosen = choose_best(shared, LOGPROBS_BLOCKS * n, n_best);
    float top = rank_logit(chosen[0]), log_sum = log_of_sum(r, shared, top);
    SampleLogprobs *out = &r.slot->logprobs[(load_shared_data(&r.slot->step) - 1) % TOKEN_RING];
    if (t < MIN(n_best, (u32)N_VOCAB)) {
        out->best[t].token = (i32)rank_token(chosen[t]);
        out->best[t].logprob = rank_logit(chosen[t]) - top - log_sum;
    }
    if (t > 0) return;
    i32 token = load_shared_data(&r.row->token);
    out->logprob = load_shared_data(r.logits + token) - top - log_sum;
    out->n_best = MIN(n_best, (u32)N_VOCAB);
}

DEVICE void draw_logprobs_run(const DrawArgs &a, u32 index, u32 block, u8 *shared) {
    const BatchRow *row = draw_row(a, index, DRAW_LOGPROBS, DRAW_LOGPROBS);
    if (row == 0) return;
    const SlotState *slot = a.slots + row->slot;
    Logprobs r = {row, slot, a.logits + (u64)index * N_VOCAB, a.logprobs_scratch + index,
                  slot->rules->n_logprobs};
    reduce_part(r, block, shared);
    if (is_last_block(&r.scratch->arrived, (u32 *)(shared + IS_LAST_AT))) merge_parts(r, shared);
}

EXPORTED StageInfo draw_logprobs_info = {THREADS, {LOGPROBS_BLOCKS, MAX_ROWS}, LOGPROBS_SHARED_BYTES};

KERNEL(THREADS, 1) draw_logprobs(DrawArgs a) {
    stage_launch_next();
    stage_wait();
    draw_logprobs_run(a, block_index_y(), block_index(), shared_memory());
}
