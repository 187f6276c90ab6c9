// Prefill: rows in the order of their experts.
//
// Each choice of each row gets a slot: the slots of an expert are side by side, in the order of its rows, and
// begin at a multiple of 8 (the unit of the activations' swizzle, layout.h). The experts' slots are cut into
// tiles of TILE_TOKENS for the matrix products.
//     slot[row][i] = the slot of row's i-th choice
//     tiles[k] = {expert, first slot, end of the expert's slots}; with no slots behind the last tile
//
// No operation's: it makes products of EXPERT_MATMUL. Grid: one block; each thread counts, and later numbers,
// the choices of a run of rows, so that the order is the rows', whatever the number of threads.
// Defines: N_EXPERTS, N_USED, GROUP_WARPS, TILE_TOKENS, EXPERT_TILES (of the table).
#if !defined(N_EXPERTS) || !defined(N_USED) || !defined(GROUP_WARPS) || !defined(TILE_TOKENS) || \
    !defined(EXPERT_TILES)
#error "N_EXPERTS, N_USED, GROUP_WARPS, TILE_TOKENS, EXPERT_TILES"
#endif

enum : u32 {
    GROUP_THREADS = GROUP_WARPS * 32,
    COUNTS_AT = N_EXPERTS * GROUP_THREADS * 2,      // before it: u16 [N_EXPERTS][GROUP_THREADS]
    GROUP_SHARED_BYTES = COUNTS_AT + N_EXPERTS * 8, // {rows, first slot}
};

struct ExpertSlots {
    u32 rows, first;
};

// Of one expert's counts a thread: how many each thread's rows come after; returns the sum.
DEVICE u32 number_threads(u16 *counts) {
    u32 total = 0;
    for (u32 t = lane_index(); t < GROUP_THREADS; t += WARP) {
        u32 mine = counts[t], before = mine;
#pragma unroll
        for (u32 d = 1; d < WARP; d *= 2) {
            u32 lower = shuffle_up(before, d);
            if (lane_index() >= d) before += lower;
        }
        counts[t] = (u16)(total + before - mine);
        total += shuffle(before, WARP - 1);
    }
    return total;
}

// One thread an expert: its first slot and its tiles. `n_tiles`: of all experts.
DEVICE void lay_out_expert(const PrefillGroupArgs &a, u32 expert, ExpertSlots *experts) {
    u32 first = 0, tile = 0;
    for (u32 e = 0; e < expert; e++) {
        first += ROUND_UP(experts[e].rows, 8u);
        tile += CEIL_DIV(experts[e].rows, (u32)TILE_TOKENS);
    }
    u32 rows = experts[expert].rows;
    experts[expert].first = first;
    for (u32 i = 0; i < rows; i += TILE_TOKENS) {
        a.tiles[tile++] = {expert, first + i, first + rows, 0};
    }
    for (; expert == N_EXPERTS - 1 && tile < EXPERT_TILES; tile++) {
        a.tiles[tile] = {0, 0, 0, 0};
    }
}

DEVICE void prefill_group_run(const PrefillGroupArgs &a, u8 *shared) {
    u16 *counts = (u16 *)shared;
    ExpertSlots *experts = (ExpertSlots *)(shared + COUNTS_AT);
    u32 n_rows = a.span->n_rows, each = CEIL_DIV(n_rows, (u32)GROUP_THREADS);
    u32 from = MIN(thread_index() * each, n_rows) * N_USED, to = MIN(from + each * N_USED, n_rows * N_USED);
    for (u32 e = 0; e < N_EXPERTS; e++) {
        counts[e * GROUP_THREADS + thread_index()] = 0;
    }
    for (u32 i = from; i < to; i++) {
        counts[load_shared_data(&a.choice[i].expert) * GROUP_THREADS + thread_index()]++;
    }
    block_sync();
    for (u32 e = warp_index(); e < N_EXPERTS; e += GROUP_WARPS) {
        u32 rows = number_threads(counts + e * GROUP_THREADS);
        if (lane_index() == 0) experts[e].rows = rows;
    }
    block_sync();
    for (u32 e = thread_index(); e < N_EXPERTS; e += GROUP_THREADS) {
        lay_out_expert(a, e, experts);
    }
    block_sync();
    for (u32 i = from; i < to; i++) {
        u32 expert = load_shared_data(&a.choice[i].expert);
        a.slot[i] = experts[expert].first + counts[expert * GROUP_THREADS + thread_index()]++;
    }
}

EXPORTED StageInfo prefill_group_info = {GROUP_THREADS, {1, 1}, GROUP_SHARED_BYTES};

KERNEL(GROUP_THREADS, 1) prefill_group(PrefillGroupArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_group_run(a, shared_memory());
}
