// Rows of a batch in the order of their experts: many rows.
//
// Each choice of each row gets a slot: the slots of an expert are side by side, in the order of its rows, and
// begin at a multiple of 8 (the unit of the activations' swizzle, rows.cuh). The experts' slots are cut into
// tiles of TILE_ROWS for the matrix products.
//     slot[row][i]  = the slot of row's i-th choice
//     tiles[k]      = {expert, first slot, end of the expert's slots}, k < n_tiles; behind them, no slots
//     out[slot]     = the row's norm; with tiles of 8, each has activations of its own
//     weight[slot]  = the choice's (EXPERTS_WEIGHED)
//
// No operation's: it makes products of EXPERT_MATMUL. Grid: GROUP_BLOCKS blocks, each of which finds all
// slots and copies its share of the rows: cheaper than to be told. A warp has a run of choices, so that the
// order is the rows', whatever the number of warps. Defines: D_MODEL, MAX_ROWS, N_EXPERTS, N_USED,
// GROUP_BLOCKS, EXPERT_SLOTS (of `out`), TILE_ROWS, EXPERT_TILES (of the table); EXPERTS_WEIGHED.
#if !defined(D_MODEL) || !defined(MAX_ROWS) || !defined(N_EXPERTS) || !defined(N_USED) || \
    !defined(GROUP_BLOCKS) || !defined(EXPERT_SLOTS) || !defined(TILE_ROWS) || !defined(EXPERT_TILES)
#error "D_MODEL, MAX_ROWS, N_EXPERTS, N_USED, GROUP_BLOCKS, EXPERT_SLOTS, TILE_ROWS, EXPERT_TILES"
#endif

enum : u32 {
    GROUP_WARPS = 16,
    GROUP_THREADS = GROUP_WARPS * 32,
    GROUP_SLOT_UNIT = 8,
    GROUP_NONE = 0xFFFFFFFFu,
    GROUP_ROWS = CEIL_DIV(MAX_ROWS, GROUP_BLOCKS), // of a block, at most
    GROUP_SHEETS = CEIL_DIV(D_MODEL, ACTIVATION_COLS) * 2,
};

struct GroupedExpert {
    u32 rows, slot, tile; // first slot, first tile
};

struct GroupShared {
    u32 before[GROUP_WARPS][N_EXPERTS]; // choices of earlier warps; then of earlier ones altogether
    GroupedExpert expert[N_EXPERTS];
    u32 n_tiles;
    u32 slot[GROUP_ROWS * N_USED]; // of the block's rows
};

// The lanes that have the same number below N_EXPERTS; whatever for others.
DEVICE u32 lanes_with_same(u32 v) {
    u32 same = ALL_LANES;
#pragma unroll
    for (u32 bit = 1; bit < N_EXPERTS; bit *= 2) {
        u32 set = ballot_lanes((v & bit) != 0);
        same &= v & bit ? set : ~set;
    }
    return same;
}

// A warp's run of choices.
struct GroupRun {
    u32 from, to;
};
DEVICE GroupRun group_run(u32 n_choices) {
    u32 each = ROUND_UP(CEIL_DIV(n_choices, (u32)GROUP_WARPS), (u32)WARP);
    u32 from = MIN(warp_index() * each, n_choices);
    return {from, MIN(from + each, n_choices)};
}

// Calls use(choice, expert, rank among the lanes with that expert, whether it is the last of them, how many)
// for 32 choices of the run at a time; lanes without a choice have GROUP_NONE.
template <class Use> DEVICE void group_walk(const GroupExpertsArgs &a, GroupRun run, const Use &use) {
    u32 below = (1u << lane_index()) - 1;
#pragma unroll 4
    for (u32 first = run.from; first < run.to; first += WARP) {
        u32 i = first + lane_index();
        u32 expert = i < run.to ? load_shared_data(&a.choice[i].expert) : GROUP_NONE;
        u32 same = lanes_with_same(expert) & ballot_lanes(expert != GROUP_NONE);
        u32 rank = count_ones(same & below), n = count_ones(same);
        use(i, expert, rank, rank + 1 == n, n);
        warp_sync();
    }
}

// Threads of experts: what earlier warps have of it, and its rows.
DEVICE void group_add_up(GroupShared *shared) {
    for (u32 e = thread_index(); e < N_EXPERTS; e += GROUP_THREADS) {
        u32 total = 0;
#pragma unroll
        for (u32 w = 0; w < GROUP_WARPS; w++) {
            u32 n = shared->before[w][e];
            shared->before[w][e] = total;
            total += n;
        }
        shared->expert[e].rows = total;
    }
}

// One warp: the experts' first slots and first tiles.
DEVICE void group_lay_out(GroupShared *shared) {
    u32 slots = 0, tiles = 0; // before these 32 experts
#pragma unroll 1
    for (u32 first = 0; first < N_EXPERTS; first += WARP) {
        u32 e = first + lane_index(), rows = e < N_EXPERTS ? shared->expert[e].rows : 0;
        u32 my_slots = ROUND_UP(rows, (u32)GROUP_SLOT_UNIT), my_tiles = CEIL_DIV(rows, (u32)TILE_ROWS);
        u32 slot_end = my_slots, tile_end = my_tiles;
#pragma unroll
        for (u32 d = 1; d < WARP; d *= 2) {
            u32 s = shuffle_up(slot_end, d), t = shuffle_up(tile_end, d);
            if (lane_index() >= d) slot_end += s, tile_end += t;
        }
        if (e < N_EXPERTS) {
            shared->expert[e].slot = slots + slot_end - my_slots;
            shared->expert[e].tile = tiles + tile_end - my_tiles;
        }
        slots += shuffle(slot_end, WARP - 1);
        tiles += shuffle(tile_end, WARP - 1);
    }
    if (lane_index() == 0) shared->n_tiles = tiles;
}

DEVICE void group_store_tiles(const GroupExpertsArgs &a, const GroupShared *shared) {
    for (u32 e = thread_index(); e < N_EXPERTS; e += GROUP_THREADS) {
        GroupedExpert g = shared->expert[e];
        u32 tile = g.tile;
        for (u32 i = 0; i < g.rows; i += TILE_ROWS) {
            a.tiles[tile++] = {e, g.slot + i, g.slot + g.rows, 0};
        }
    }
    for (u32 tile = shared->n_tiles + thread_index(); tile < EXPERT_TILES; tile += GROUP_THREADS) {
        a.tiles[tile] = {0, 0, 0, 0};
    }
    if (thread_index() == 0) *a.n_tiles = shared->n_tiles;
}

// Of the block's rows first … first + n - 1: 16 bytes a thread, once for each of the row's slots.
DEVICE void group_copy_rows(const GroupExpertsArgs &a, u32 first, u32 n, const GroupShared *shared) {
#pragma unroll 2
    for (u32 i = thread_index(); i < n * GROUP_SHEETS * 8; i += GROUP_THREADS) {
        u32 unit = i % 8, r = i / 8 % n, sheet = i / 8 / n, row = first + r;
        uint4 v = load_shared_data((const uint4 *)a.normed + (sheet * MAX_ROWS + row) * 8 + (unit ^ row % 8));
#pragma unroll
        for (u32 k = 0; k < N_USED; k++) {
            u32 slot = shared->slot[r * N_USED + k];
            // Tiles of eight have a buffer each (experts_units.cuh).
            u32 at = TILE_ROWS == 8 ? (slot / 8 * GROUP_SHEETS + sheet) * 8 + slot % 8
                                    : sheet * EXPERT_SLOTS + slot;
            ((uint4 *)a.out)[at * 8 + (unit ^ slot % 8)] = v;
        }
    }
}

DEVICE void group_experts_run(const GroupExpertsArgs &a, u32 block, GroupShared *shared) {
    u32 n_rows = load_shared_data(&a.batch->n_rows), each = CEIL_DIV(n_rows, (u32)GROUP_BLOCKS);
    u32 first = MIN(block * each, n_rows), n = MIN(each, n_rows - first);
    if (block > 0 && n == 0) return;
    GroupRun run = group_run(n_rows * N_USED);
    u32 *before = shared->before[warp_index()];
    for (u32 e = lane_index(); e < N_EXPERTS; e += WARP) {
        before[e] = 0;
    }
    warp_sync();
    group_walk(a, run, [&](u32, u32 expert, u32, bool last, u32 lanes) {
        if (expert != GROUP_NONE && last) before[expert] += lanes;
    });
    block_sync();
    group_add_up(shared);
    block_sync();
    if (warp_index() == 0) group_lay_out(shared);
    block_sync();
    group_walk(a, run, [&](u32 i, u32 expert, u32 rank, bool last, u32 lanes) {
        u32 earlier = expert != GROUP_NONE ? before[expert] : 0;
        warp_sync();
        if (expert == GROUP_NONE) return;
        if (last) before[expert] = earlier + lanes;
        u32 slot = shared->expert[expert].slot + earlier + rank, mine = i - first * N_USED;
        if (i < first * N_USED || mine >= n * N_USED) return;
        shared->slot[mine] = slot;
        a.slot[i] = slot;
#ifdef EXPERTS_WEIGHED
        a.weight[slot] = load_shared_data(&a.choice[i].weight);
#endif
    });
    if (block == 0) group_store_tiles(a, shared);
    block_sync();
    group_copy_rows(a, first, n, shared);
}

EXPORTED StageInfo group_experts_info = {GROUP_THREADS, {GROUP_BLOCKS, 1}, sizeof(GroupShared)};

KERNEL(GROUP_THREADS, 1) group_experts(GroupExpertsArgs a) {
    stage_launch_next();
    stage_wait();
    group_experts_run(a, block_index(), (GroupShared *)shared_memory());
}
