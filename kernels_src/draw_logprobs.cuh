// The stage after the draws, for rows whose slots want log-probabilities: of the token drawn, and of the most
// probable tokens, by the logits as the model gives them.
//
//     logprob[i] = (logits[i] - top) - ln(sum over j of e^(logits[j] - top))
//
// Candidates for the n most probable are those that reach the n-th of the bests of the head's blocks. Where a
// repetition penalty changed these bests, each block takes the best of every THREADS-th logit instead, which
// reads the whole row. The block that comes last adds the chunks' sums (integers in units of 2^-40, so that
// they come out the same in any order) and ranks the candidates.
//
// Grid: LOGPROBS_BLOCKS blocks a row. No block waits for another. CPU reference: sampler_logprobs, whose
// results differ in the last bits (it adds in double). Defines: N_VOCAB, HEAD_BLOCKS, MAX_ROWS (capacity of
// the logits), LOGPROBS_BLOCKS.
#if !defined(N_VOCAB) || !defined(MAX_ROWS) || !defined(LOGPROBS_BLOCKS)
#error "N_VOCAB, MAX_ROWS, LOGPROBS_BLOCKS"
#endif

enum : u32 {
    SCAN_AT = CANDIDATES_BYTES,
    FOUND_AT = SCAN_AT + SCAN_BYTES,
    LOGPROBS_SHARED_BYTES = FOUND_AT + 16,
};
static_assert(THREADS >= SAMPLE_LOGPROBS_MAX, "a thread for each of the most probable");

// The key of the best of this thread's logits, to KEYS_AT.
DEVICE void keys_of_threads(const Draw &d, u8 *shared) {
    u32 best = 0;
    for (u32 i = thread_index(); i < N_VOCAB; i += THREADS)
        best = MAX(best, key_of(load_shared_data(d.logits + i)));
    ((u32 *)(shared + KEYS_AT))[thread_index()] = best;
}

// Sets up the row as one that is drawn from without rules. False: its logits are not all numbers, which the
// draw has reported.
DEVICE bool logprobs_begin(const DrawArgs &a, u32 index, BatchRow *row, u8 *shared, Draw *d, u32 *n_keys) {
    SlotState *slot = a.slots + row->slot;
    *d = {DRAWS_FEW,
          row,
          slot,
          a.logits + (u64)index * N_VOCAB,
          0,
          a.best + (u64)index * HEAD_BLOCKS,
          a.scratch + index,
          {1, 1, 0},
          1,
          0,
          0,
          MIN(slot->rules->n_logprobs, (u32)N_VOCAB),
          1,
          0,
          0};
    HeadBest best = best_of_blocks<HEAD_BLOCKS>(d->bests);
    if (best.token < 0) return false;
    d->best = best.value;
    *n_keys = HEAD_BLOCKS;
    if (slot->repetition_penalty == 1.0f && d->top_k <= HEAD_BLOCKS) {
        keys_of_bests(*d, shared);
        return true;
    }
    *n_keys = THREADS;
    keys_of_threads(*d, shared);
    u32 top = bound_of_keys(shared, (u32 *)(shared + FOUND_AT), THREADS, 1);
    d->best = logit_of_key(top);
    return true;
}

// The largest rank of the row below `limit`, by this block alone.
DEVICE u64 largest_below(const Draw &d, u8 *shared, u64 limit) {
    u64 *warps = (u64 *)(shared + SCAN_AT), largest = 0;
    for (u32 i = thread_index(); i < N_VOCAB; i += THREADS) {
        u64 rank = rank_of(load_shared_data(d.logits + i), i);
        if (rank < limit) largest = MAX(largest, rank);
    }
    for (u32 m = 16; m > 0; m /= 2) {
        u64 other = shuffle_xor(largest, m);
        largest = MAX(largest, other);
    }
    block_sync(); // the last one's readers are done
    if (lane_index() == 0) warps[warp_index()] = largest;
    block_sync();
    for (u32 w = 0; w < WARPS; w++)
        largest = MAX(largest, warps[w]);
    return largest;
}

// The ranks of the d.top_k most probable, in their order, to CANDIDATES_AT.
DEVICE void rank_most_probable(const Draw &d, u8 *shared) {
    u64 *ranks = (u64 *)(shared + CANDIDATES_AT);
    u32 n = load_shared_data(&d.scratch->n_candidates);
    if (n > CANDIDATES_MAX) { // nearly all logits are equal
        u64 rank = ~0ull;
        for (u32 i = 0; i < d.top_k; i++) {
            rank = largest_below(d, shared, rank);
            if (thread_index() == 0) ranks[i] = rank;
        }
        block_sync();
        return;
    }
    for (u32 i = thread_index(); i < n; i += THREADS)
        ranks[i] = load_shared_data(&d.scratch->candidates[i]);
    sort_ranks(ranks, n);
}

DEVICE void logprobs_end(const Draw &d, u8 *shared) {
    const u64 *ranks = (const u64 *)(shared + CANDIDATES_AT);
    u64 sum = 0;
    for (u32 i = thread_index(); i < N_CHUNKS; i += THREADS)
        sum += load_shared_data(&d.scratch->chunk_mass[i]);
    rank_most_probable(d, shared);
    float log_sum = log_f32((float)block_scan(SCAN_AT, sum).all * (1 / 1099511627776.0f)); // 2^40
    SampleLogprobs *out = &d.slot->logprobs[(load_shared_data(&d.slot->step) - 1) % TOKEN_RING];
    u32 t = thread_index();
    if (t < d.top_k) {
        out->best[t].token = (i32)rank_token(ranks[t]);
        out->best[t].logprob = rank_logit(ranks[t]) - d.best - log_sum;
    }
    if (t > 0) return;
    out->logprob = load_shared_data(d.logits + load_shared_data(&d.row->token)) - d.best - log_sum;
    out->n_best = d.top_k;
    d.scratch->n_candidates = 0;
}

DEVICE void draw_logprobs_run(const DrawArgs &a, u32 index, u32 block, u8 *shared) {
    Draw d;
    u32 n_keys, *n = (u32 *)(shared + FOUND_AT);
    BatchRow *row = draw_row(a, index, DRAW_LOGPROBS, DRAW_LOGPROBS);
    if (row == 0 || !logprobs_begin(a, index, row, shared, &d, &n_keys)) return;
    u32 bound = d.top_k > 0 ? bound_of_keys(shared, n, n_keys, d.top_k) : 0xFFFFFFFFu; // the key of no number
    u64 sum = 0;
    count_candidates(n);
    for_logits(
        d, chunks_before(block, LOGPROBS_BLOCKS), chunks_before(block + 1, LOGPROBS_BLOCKS),
        [&](u32 token, const float(&v)[LANE_LOADS]) {
            u32 which = 0;
#pragma unroll
            for (u32 i = 0; i < LANE_LOADS; i++) {
                sum += draw_weight(d, v[i]);
                which |= (u32)(token + i * WARP < N_VOCAB && key_of(v[i]) >= bound) << i;
            }
            take_candidates(d, FOUND_AT, which, token);
        },
        [&](u32 chunk) { give_chunk(d, chunk, &sum); });
    give_candidates(d, shared, n);
    if (is_last_block(&d.scratch->arrived, n)) logprobs_end(d, shared);
}

EXPORTED StageInfo draw_logprobs_info = {THREADS, {LOGPROBS_BLOCKS, MAX_ROWS}, LOGPROBS_SHARED_BYTES};

KERNEL(THREADS, 2) draw_logprobs(DrawArgs a) {
    stage_launch_next();
    stage_wait();
    draw_logprobs_run(a, block_index_y(), block_index(), shared_memory());
}
