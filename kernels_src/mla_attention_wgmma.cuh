// Prompts on sm_90a: what mla_attention.cuh computes of stretches, to the same bits, by products of four
// warps (wgmma).
//
//     out[row][head] = softmax(q[row][head] K^T) V over the positions up to the row's; V = the start of K
//
// Order of sums, and what a tile, a split and a group are: attend.cuh. Queries are the columns of all
// products, so that few of them are enough: 64 rows of them times 512 dims, of a split and of a group, would
// be all registers of a multiprocessor.
//
//     S^T = K Q^T      [keys][queries]    a tile's keys are the rows
//     O^T = V^T P^T    [dims][queries]    64 dims at a time are the rows, read across (columns of V)
//
// A block has three teams of four warps that multiply, and three warps that fetch:
//
//     scores   of a tile; its weights go to shared memory, as rows of queries, with what splits, groups and
//              totals are multiplied by (TileFactors). Two places, so that it is a tile ahead.
//     values   two teams with half of the dims each: of the split and of the group in registers. Each warp of
//              theirs has the sums of eight queries' weights, as products with ones.
//
// A tile's entries come by their dims, SLOT_SHEETS sheets of all 64 keys in a slot of a ring: so products
// begin when the first dims are there.
//
// MLA_CLUSTER 2: two neighbours have tasks side by side. Each fetches every other eight of their tokens for
// both, so that the L2 is read once for 80 queries; a slot is free when both have used it.
//
// Grid: MLA_BLOCKS blocks, one a multiprocessor. Tasks and their order: mla_tasks.cuh. The total's values,
// which are wanted once in 1,024 keys, are in `partial`: [block][groups of 8 dims][thread]float4. Needs
// rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh, mla_tasks.cuh, ring.cuh. Defines: attend.cuh's with
// N_KV_HEADS 1, WINDOW 0 and HEAD_DIM a multiple of 64; KV_RANK (a multiple of 128), MAX_ROWS, MLA_QUERIES
// (32 or 40), MLA_BLOCKS, MLA_STRETCHES, MLA_CLUSTER.
#if !defined(KV_RANK) || !defined(MAX_ROWS) || !defined(MLA_QUERIES) || !defined(MLA_BLOCKS) ||    \
    !defined(MLA_STRETCHES) || KV_RANK % 128 || HEAD_DIM % 64 || N_KV_HEADS != 1 || WINDOW != 0 || \
    MLA_QUERIES % 8
#error "KV_RANK, MAX_ROWS, MLA_QUERIES, MLA_BLOCKS, MLA_STRETCHES"
#endif

enum : u32 {
    TEAM_WARPS = 4,
    TEAM_THREADS = TEAM_WARPS * WARP,
    VALUE_TEAMS = 2,
    VALUE_WARPS = VALUE_TEAMS * TEAM_WARPS,
    VALUE_THREADS = VALUE_WARPS * WARP,
    QUERY_WARPS = 2,                                // that fetch queries
    MLA_THREADS = (VALUE_TEAMS + 2) * TEAM_THREADS, // values, scores, those that fetch

    QUERY_EIGHTS = MLA_QUERIES / 8,
    LANE_QUERIES = 2 * QUERY_EIGHTS, // a lane's: 8 j + 2 c, and + 1
    GROUP_TILES = GROUP_SPLITS * SPLIT_TILES,

    // A sheet: 64 dims of eight tokens, whose rows are 128 bytes apart. Eights of tokens in a page, and in a
    // slot, are so far from each other:
    SHEET_DIMS = 64,
    SHEET_BYTES = 8 * SHEET_DIMS * 2,
    EIGHT_BYTES = 8 * KV_ROW_BYTES,
    SHEETS = HEAD_DIM / SHEET_DIMS,
    SLOT_SHEETS = SHEETS % 3 ? 1 : 3,
    SLOT_EIGHT_BYTES = SLOT_SHEETS * SHEET_BYTES,
    SLOT_BYTES = TILE_KEYS / 8 * SLOT_EIGHT_BYTES,
    TILE_SLOTS = SHEETS / SLOT_SHEETS,
    TEAM_SHEETS = KV_RANK / SHEET_DIMS / VALUE_TEAMS, // of values

    WEIGHT_ROW_BYTES = TILE_KEYS * 2, // a query's, of a tile: one sheet
    WEIGHTS_BYTES = MLA_QUERIES * WEIGHT_ROW_BYTES,
    WEIGHT_PLACES = 2,
    QUERIES_BYTES = MLA_QUERIES * KV_ROW_BYTES,
    SMALL_BYTES = 4096, // MlaShared
    SLOTS = MIN((SHARED_BYTES_MAX - QUERIES_BYTES - WEIGHT_PLACES * WEIGHTS_BYTES - SMALL_BYTES) / SLOT_BYTES,
                24u),
    QUERIES_AT = SLOTS * SLOT_BYTES, // rows as tokens of a page are
    WEIGHTS_AT = QUERIES_AT + QUERIES_BYTES,
    SMALL_AT = WEIGHTS_AT + WEIGHT_PLACES * WEIGHTS_BYTES,
    MLA_SHARED_BYTES = SMALL_AT + SMALL_BYTES,
    // Of 128 that a launch gives each. (A team waits for what others do not give up, for ever.)
    FETCH_REGISTERS = 40,
    SCORE_REGISTERS = 72,
    VALUE_REGISTERS = 200,

    SCORE_MEETING = 1,
    VALUE_MEETING = 2,
};
static_assert(FETCH_REGISTERS + SCORE_REGISTERS + VALUE_TEAMS * VALUE_REGISTERS <= 4 * 128,
              "as many are given as taken");
static_assert((u32)SLOTS >= TILE_SLOTS, "a tile fits");
static_assert((u32)QUERY_EIGHTS <= VALUE_WARPS, "a warp has the sums of eight queries at most");

// What a tile's values, or the split, group and total that end with it, are multiplied by, of each query.
struct TileFactors {
    float keep[MLA_QUERIES]; // the split so far, before the tile joins it
    float group_keep[MLA_QUERIES], group_add[MLA_QUERIES];
    float total_keep[MLA_QUERIES], total_add[MLA_QUERIES];
};
struct MlaShared {
    TileFactors factors[WEIGHT_PLACES];
    float tops[2][TEAM_WARPS][MLA_QUERIES]; // of a tile, of each warp's keys: tiles take turns
    float split_top[MLA_QUERIES], group_top[MLA_QUERIES], total_top[MLA_QUERIES];
    float inverse[2][MLA_QUERIES]; // of a result's sums: tasks take turns
    BulkBarrier slot_full[SLOTS], slot_read[SLOTS];
    BulkBarrier weights_full[WEIGHT_PLACES], weights_read[WEIGHT_PLACES];
    BulkBarrier queries_full[1], queries_read[1];
};
static_assert(sizeof(MlaShared) <= SMALL_BYTES, "beside the rings");

DEVICE MlaShared *small_of(u8 *shared) {
    return (MlaShared *)(shared + SMALL_AT);
}
// Places of rings are used one after the other: the n-th use.
DEVICE u8 *ring_slot(u8 *shared, u32 n) {
    return shared + n % SLOTS * SLOT_BYTES;
}
DEVICE u8 *weights_place(u8 *shared, u32 n) {
    return shared + WEIGHTS_AT + n % WEIGHT_PLACES * WEIGHTS_BYTES;
}
// A warp's arrival at all of the cluster's blocks, which fetch for each other. It needs no fence of the
// cluster, as nobody reads what was written before it:
// - The warp's reads of the slot are products that it has waited for, so they have ended. Those who fetch
//   begin a copy only when they have seen all arrivals: no copy is before a read.
// - The zeros of clear_missing are the only ordinary stores to a slot, and this block's own. The products
//   have waited for them (bulk_copy_fence, weights_full) and have read them in the one place that a byte of
//   shared memory has. So a later copy, the other block's too, comes behind them.
// - What a copy brings is told by slot_full, by the copy itself.
DEVICE void give_slot_up(MlaShared *b, u32 n) {
#if MLA_CLUSTER > 1
    if (lane_index() < MLA_CLUSTER) bulk_barrier_arrive_at(&b->slot_read[n % SLOTS], lane_index());
#else
    arrive_at(b->slot_read, n);
#endif
}
DEVICE u32 task_tiles(const MlaTask &t) {
    return CEIL_DIV(t.end_page, (u32)TILE_PAGES);
}
// Query i of the lane's, in order.
DEVICE u32 lane_query(u32 i) {
    return i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
}

// ---- fetching ----

// The page of a tile of which the lane copies an eight.
DEVICE u32 lane_page(const MlaTask &t, u32 tile) {
    return t.pages[MIN(tile * TILE_PAGES + lane_index() % 8 / 2, t.end_page - 1)];
}
// n: tiles that the block has behind it, here and below.
DEVICE void fetch_entries(const MlaAttentionArgs &a, const MlaTask &t, u8 *shared, u32 *n) {
    MlaShared *b = small_of(shared);
    u32 tiles = task_tiles(t), next = lane_page(t, 0), lane = lane_index();
#pragma unroll 1
    for (u32 tile = 0; tile < tiles; tile++, (*n)++) {
        u32 n_eights = MIN(t.end_page - tile * TILE_PAGES, (u32)TILE_PAGES) * 2;
        const u8 *from = (const u8 *)(a.kv + (u64)next * KV_TILE_HALVES(HEAD_DIM)) + lane % 2 * EIGHT_BYTES;
        if (tile + 1 < tiles) next = lane_page(t, tile + 1);
#pragma unroll 1
        for (u32 i = 0; i < TILE_SLOTS; i++) {
            u32 use = *n * TILE_SLOTS + i;
            BulkBarrier *full = &b->slot_full[use % SLOTS];
            wait_read(b->slot_read, use);
            if (lane == 0) bulk_barrier_expect(full, n_eights * SLOT_EIGHT_BYTES);
            warp_sync();
            u8 *to = ring_slot(shared, use) + lane * SLOT_EIGHT_BYTES;
#if MLA_CLUSTER > 1
            if (lane < n_eights && lane % MLA_CLUSTER == cluster_rank())
                bulk_copy_to_all(to, from + i * SLOT_EIGHT_BYTES, SLOT_EIGHT_BYTES, full, MLA_CLUSTER);
#else
            if (lane < n_eights) bulk_copy(to, from + i * SLOT_EIGHT_BYTES, SLOT_EIGHT_BYTES, full);
#endif
        }
    }
}

// The block's n-th task's queries, by QUERY_WARPS warps of which this is `warp`. Those that are not there are
// zeros.
DEVICE void fetch_queries(const MlaAttentionArgs &a, const MlaTask &t, u8 *shared, u32 warp, u32 n) {
    enum : u32 { UNITS = HEAD_DIM / 8 };
    MlaShared *b = small_of(shared);
    const f16 *from = a.q + (u64)t.query * HEAD_DIM;
    wait_read(b->queries_read, n);
#pragma unroll 4
    for (u32 i = warp * WARP + lane_index(); i < MLA_QUERIES * UNITS; i += QUERY_WARPS * WARP) {
        u8 *unit = kv_row(shared + QUERIES_AT, i / UNITS, i % UNITS);
        if (i < t.n * UNITS) copy_async_16(unit, from + i * 8);
        else *(uint4 *)unit = {0, 0, 0, 0};
    }
    copy_async_commit();
    copy_async_wait<0>();
    bulk_copy_fence();
    warp_sync();
    arrive_at(b->queries_full, n);
}

// ---- scores and weights ----

typedef float TileScores[QUERY_EIGHTS * 4]; // [keys][queries], a warp's 16 keys

DEVICE void multiply_keys(u8 *shared, u32 n, TileScores s) {
    MlaShared *b = small_of(shared);
    MatrixRows q = matrix_eights(shared + QUERIES_AT, SHEET_DIMS, EIGHT_BYTES);
#pragma unroll
    for (u32 i = 0; i < TILE_SLOTS; i++) {
        u32 use = n * TILE_SLOTS + i;
        wait_full(b->slot_full, use);
        warpgroup_fence(); // which the compiler would put behind each wait
        MatrixRows k = matrix_eights(ring_slot(shared, use), SHEET_DIMS, SLOT_EIGHT_BYTES);
#pragma unroll
        for (u32 step = 0; step < SLOT_SHEETS * 4; step++) {
            u32 on = step / 4 * SHEET_BYTES + step % 4 * 32; // 16 dims
            MatrixRows at = matrix_on(q, i * SLOT_EIGHT_BYTES + on);
            if (i == 0 && step == 0) warpgroup_multiply_rows<MLA_QUERIES, true>(s, k, at);
            else warpgroup_multiply_rows<MLA_QUERIES, false>(s, matrix_on(k, on), at);
        }
    }
    warpgroup_commit();
    warpgroup_wait<0>();
    warpgroup_keep<QUERY_EIGHTS * 4>(s);
}

// Hides what queries do not see of the tile at key `first`, where there is any such.
DEVICE void hide_later(const MlaTask &t, u32 first, TileScores s) {
    if (first + TILE_KEYS - 1 <= t.position) return;
    u32 key = first + warp_index() % TEAM_WARPS * 16 + lane_index() / 4;
#pragma unroll
    for (u32 i = 0; i < LANE_QUERIES; i++) {
        u32 position = query_position(t, lane_query(i));
        float *v = s + i / 2 * 4 + i % 2;
        if (key > position) v[0] = -INFINITY_F32;
        if (key + 8 > position) v[2] = -INFINITY_F32;
    }
}

// The largest scores of the warp's keys to where the team finds them.
DEVICE void tell_tops(const TileScores s, float tops[TEAM_WARPS][MLA_QUERIES]) {
#pragma unroll
    for (u32 j = 0; j < QUERY_EIGHTS; j++) {
        float top[2];
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            float v = max_f32(s[4 * j + i], s[4 * j + 2 + i]);
            v = max_f32(v, shuffle_xor(v, 4));
            v = max_f32(v, shuffle_xor(v, 8));
            top[i] = max_f32(v, shuffle_xor(v, 16));
        }
        if (lane_index() < 4) {
            *(float2 *)&tops[warp_index() % TEAM_WARPS][lane_query(2 * j)] = {top[0], top[1]};
        }
    }
}
// Of a split so far and the tile.
DEVICE void raise_by_tile(const float tops[TEAM_WARPS][MLA_QUERIES], float top[LANE_QUERIES]) {
#pragma unroll
    for (u32 j = 0; j < QUERY_EIGHTS; j++) {
#pragma unroll
        for (u32 w = 0; w < TEAM_WARPS; w++) {
            float2 v = *(const float2 *)&tops[w][lane_query(2 * j)];
            top[2 * j] = max_f32(top[2 * j], v.x);
            top[2 * j + 1] = max_f32(top[2 * j + 1], v.y);
        }
    }
}

// Where a tile is in its task.
struct TilePlace {
    u32 tile;
    bool ends; // the task
};
DEVICE bool ends_split(const TilePlace &p) {
    return p.ends || p.tile % SPLIT_TILES == SPLIT_TILES - 1;
}
DEVICE bool ends_group(const TilePlace &p) {
    return p.ends || p.tile % GROUP_TILES == GROUP_TILES - 1;
}

// Of query `query`, by the same thread for all tiles. tops: of the tile.
DEVICE void tell_factors(const TilePlace &p, MlaShared *b, TileFactors *f,
                         const float tops[TEAM_WARPS][MLA_QUERIES], u32 query) {
    float split = p.tile % SPLIT_TILES == 0 ? -INFINITY_F32 : b->split_top[query], before = split;
#pragma unroll
    for (u32 w = 0; w < TEAM_WARPS; w++) {
        split = max_f32(split, tops[w][query]);
    }
    b->split_top[query] = split;
    f->keep[query] = exp2_fast(before - base_of(split));
    if (!ends_split(p)) return;
    float group = p.tile % GROUP_TILES < SPLIT_TILES ? -INFINITY_F32 : b->group_top[query];
    FoldFactors fold = fold_factors(&group, split);
    b->group_top[query] = group;
    f->group_keep[query] = fold.keep, f->group_add[query] = fold.add;
    if (!ends_group(p)) return;
    float total = p.tile < GROUP_TILES ? -INFINITY_F32 : b->total_top[query];
    fold = fold_factors(&total, group);
    b->total_top[query] = total;
    f->total_keep[query] = fold.keep, f->total_add[query] = fold.add;
}

// Entries of the last tile that are not there become zeros: what lies there may be anything, and 0 times
// infinity is not 0. (Nobody reads them as keys any more.)
DEVICE void clear_missing(const MlaTask &t, u32 first, u8 *shared, u32 n) {
    u32 there = MIN(t.last + 1, t.end_page * KV_PAGE) - first;
    if (there >= TILE_KEYS) return;
#pragma unroll 1
    for (u32 sheet = 0; sheet < KV_RANK / SHEET_DIMS; sheet++) {
        u8 *at = ring_slot(shared, n * TILE_SLOTS + sheet / SLOT_SHEETS) + sheet % SLOT_SHEETS * SHEET_BYTES;
        for (u32 i = there * 8 + thread_index() % TEAM_THREADS; i < TILE_KEYS * 8; i += TEAM_THREADS) {
            *(uint4 *)(at + i / 64 * SLOT_EIGHT_BYTES + i % 64 * 16) = {0, 0, 0, 0};
        }
    }
}

// Scores of the block's n-th tile become weights; top: the split's largest scores before it.
DEVICE void weigh_tile(const TilePlace &p, u8 *shared, u32 n, const TileScores s, float top[LANE_QUERIES]) {
    MlaShared *b = small_of(shared);
    u8 *weights = weights_place(shared, n);
    u32 warp = warp_index() % TEAM_WARPS, lane = lane_index();
    raise_by_tile(b->tops[n % 2], top);
#pragma unroll
    for (u32 j = 0; j < QUERY_EIGHTS; j++) {
        const float *v = s + 4 * j;
        float base[2] = {base_of(top[2 * j]), base_of(top[2 * j + 1])};
        u32 first = pack_f16(exp2_fast(v[0] - base[0]), exp2_fast(v[1] - base[1]));
        u32 second = pack_f16(exp2_fast(v[2] - base[0]), exp2_fast(v[3] - base[1]));
        u32 at = layout_kv_unit_at(WEIGHT_ROW_BYTES, j * 8 + lane % 8, warp * 2 + lane / 8 % 2);
        store_matrix_2_transposed(weights + at, first, second);
    }
    u32 query = thread_index() % TEAM_THREADS;
    if (query < MLA_QUERIES) tell_factors(p, b, &b->factors[n % WEIGHT_PLACES], b->tops[n % 2], query);
}

DEVICE void score_task(const MlaTask &t, u8 *shared, u32 task, u32 *n) {
    MlaShared *b = small_of(shared);
    float top[LANE_QUERIES];
    u32 tiles = task_tiles(t);
    wait_full(b->queries_full, task);
#pragma unroll 1
    for (u32 tile = 0; tile < tiles; tile++, (*n)++) {
        TilePlace p = {tile, tile + 1 == tiles};
        TileScores s;
        multiply_keys(shared, *n, s);
        if (p.ends) arrive_at(b->queries_read, task);
        hide_later(t, tile * TILE_KEYS, s);
        tell_tops(s, b->tops[*n % 2]);
        group_sync(SCORE_MEETING, TEAM_THREADS);
        if (tile % SPLIT_TILES == 0) {
#pragma unroll
            for (u32 i = 0; i < LANE_QUERIES; i++) {
                top[i] = -INFINITY_F32;
            }
        }
        wait_read(b->weights_read, *n);
        weigh_tile(p, shared, *n, s, top);
        if (p.ends) clear_missing(t, tile * TILE_KEYS, shared, *n);
        bulk_copy_fence();
        warp_sync();
        arrive_at(b->weights_full, *n);
    }
}

// ---- values ----

// A team's, of all queries: [dims][queries] a sheet.
struct MlaValues {
    float of[TEAM_SHEETS][QUERY_EIGHTS * 4];
};
// Sums of weights, of the warp's eight queries: 2 c and 2 c + 1.
struct MlaSums {
    float split[2], group[2], total[2];
};
struct ValueTeam {
    u32 number, warp; // warp: of both teams'
    u32 task, tile;   // so many has the block behind it
};

// A team's m-th sheet: teams take turns, so that both have read the first slots when half of a tile is behind
// them.
DEVICE u32 sheet_of(const ValueTeam &team, u32 m) {
    return m * VALUE_TEAMS + team.number;
}
DEVICE bool has_sums(const ValueTeam &team) {
    return team.warp < QUERY_EIGHTS;
}
// Factors of the lane's queries of eight j.
DEVICE float2 lane_factors(const float *of, u32 j) {
    return *(const float2 *)(of + j * 8 + lane_index() % 4 * 2);
}

template <bool begins> DEVICE void begin_products(u8 *shared, const ValueTeam &team, MlaValues *split) {
    MatrixRows p = matrix_eights(weights_place(shared, team.tile), SHEET_DIMS, SHEET_BYTES);
    warpgroup_fence();
#pragma unroll
    for (u32 m = 0; m < TEAM_SHEETS; m++) {
        u32 sheet = sheet_of(team, m);
        const u8 *at = ring_slot(shared, team.tile * TILE_SLOTS + sheet / SLOT_SHEETS);
        MatrixRows v = matrix_eights(at + sheet % SLOT_SHEETS * SHEET_BYTES, SHEET_DIMS, SLOT_EIGHT_BYTES);
        warpgroup_multiply_columns<MLA_QUERIES, begins>(split->of[m], v, p);
#pragma unroll
        for (u32 page = 1; page < TILE_PAGES; page++) {
            warpgroup_multiply_columns<MLA_QUERIES, false>(
                split->of[m], matrix_on(v, page * 2 * SLOT_EIGHT_BYTES), matrix_on(p, page * KV_PAGE * 2));
        }
        warpgroup_commit();
    }
}
// Waits for the products of the team's sheets from `m` on, and gives each slot up when it has none that any
// team reads after its own m-th.
template <u32 m> DEVICE void end_products(MlaShared *b, const ValueTeam &team) {
    u32 n_read = m + 1 < TEAM_SHEETS ? (m + 1) * VALUE_TEAMS / SLOT_SHEETS : TILE_SLOTS;
    warpgroup_wait<TEAM_SHEETS - 1 - m>();
#pragma unroll
    for (u32 slot = m * VALUE_TEAMS / SLOT_SHEETS; slot < n_read; slot++) {
        give_slot_up(b, team.tile * TILE_SLOTS + slot);
    }
    if constexpr (m + 1 < TEAM_SHEETS) end_products<m + 1>(b, team);
}

DEVICE void add_weights(u8 *shared, const ValueTeam &team, bool begins, const TileFactors &f, MlaSums *sums) {
    const u32 ones[4] = {ONES_F16, ONES_F16, ONES_F16, ONES_F16};
    const u8 *weights = weights_place(shared, team.tile);
    float2 keep = lane_factors(f.keep, team.warp);
    float sum[4] = {begins ? 0 : sums->split[0] * keep.x, begins ? 0 : sums->split[1] * keep.y, 0, 0};
#pragma unroll
    for (u32 page = 0; page < TILE_PAGES; page += 2) {
        u32 b[4], lane = lane_index();
        load_matrix_4(
            b, weights + layout_kv_unit_at(WEIGHT_ROW_BYTES, team.warp * 8 + lane % 8, page * 2 + lane / 8));
        mma_f16(sum, ones, b);
        mma_f16(sum, ones, b + 2);
    }
    sums->split[0] = sum[0], sums->split[1] = sum[1];
}

// The block's next tile joins the split.
template <bool begins>
DEVICE void add_tile(u8 *shared, const ValueTeam &team, MlaValues *split, MlaSums *sums) {
    MlaShared *b = small_of(shared);
    const TileFactors &f = b->factors[team.tile % WEIGHT_PLACES];
    wait_full(b->weights_full, team.tile);
#pragma unroll
    for (u32 i = 0; i < TILE_SLOTS; i++) {
        wait_full(b->slot_full, team.tile * TILE_SLOTS + i); // as those who made the weights have done
    }
    if (!begins) {
#pragma unroll
        for (u32 j = 0; j < QUERY_EIGHTS; j++) {
            float2 keep = lane_factors(f.keep, j);
#pragma unroll
            for (u32 m = 0; m < TEAM_SHEETS; m++) {
                float *v = split->of[m] + 4 * j;
                v[0] *= keep.x, v[1] *= keep.y, v[2] *= keep.x, v[3] *= keep.y;
            }
        }
    }
    begin_products<begins>(shared, team, split);
    if (has_sums(team)) add_weights(shared, team, begins, f, sums);
    end_products<0>(b, team);
#pragma unroll
    for (u32 m = 0; m < TEAM_SHEETS; m++) {
        warpgroup_keep<QUERY_EIGHTS * 4>(split->of[m]);
    }
}

DEVICE void group_clear(MlaValues *group, MlaSums *sums) {
#pragma unroll
    for (u32 i = 0; i < TEAM_SHEETS * QUERY_EIGHTS * 4; i++) {
        group->of[i / (QUERY_EIGHTS * 4)][i % (QUERY_EIGHTS * 4)] = 0;
    }
    sums->group[0] = sums->group[1] = 0;
}
// (The first triple that joins a group is taken as it is: its factors are 0 and 1.)
DEVICE void join_group(const TileFactors &f, const ValueTeam &team, const MlaValues &split, MlaValues *group,
                       MlaSums *sums) {
#pragma unroll
    for (u32 j = 0; j < QUERY_EIGHTS; j++) {
        float2 keep = lane_factors(f.group_keep, j), add = lane_factors(f.group_add, j);
#pragma unroll
        for (u32 m = 0; m < TEAM_SHEETS; m++) {
            const float *o = split.of[m] + 4 * j;
            float *v = group->of[m] + 4 * j;
            v[0] = fma_f32(v[0], keep.x, o[0] * add.x);
            v[1] = fma_f32(v[1], keep.y, o[1] * add.y);
            v[2] = fma_f32(v[2], keep.x, o[2] * add.x);
            v[3] = fma_f32(v[3], keep.y, o[3] * add.y);
        }
    }
    if (!has_sums(team)) return;
    float2 keep = lane_factors(f.group_keep, team.warp), add = lane_factors(f.group_add, team.warp);
    sums->group[0] = fma_f32(sums->group[0], keep.x, sums->split[0] * add.x);
    sums->group[1] = fma_f32(sums->group[1], keep.y, sums->split[1] * add.y);
}
// The group joins the total, whose values are in memory, and takes it on where it is the last.
DEVICE void join_total(const MlaAttentionArgs &a, const TileFactors &f, const ValueTeam &team, bool begins,
                       bool ends, MlaValues *group, MlaSums *sums) {
    float4 *to = (float4 *)a.partial + (u64)block_index() * TEAM_SHEETS * QUERY_EIGHTS * VALUE_THREADS +
                 team.warp * WARP + lane_index();
#pragma unroll
    for (u32 j = 0; j < QUERY_EIGHTS; j++) {
        float2 keep = lane_factors(f.total_keep, j), add = lane_factors(f.total_add, j);
#pragma unroll
        for (u32 m = 0; m < TEAM_SHEETS; m++) {
            float *v = group->of[m] + 4 * j;
            float4 *at = to + (m * QUERY_EIGHTS + j) * VALUE_THREADS;
            if (!begins) {
                float4 o = *at;
                v[0] = fma_f32(o.x, keep.x, v[0] * add.x);
                v[1] = fma_f32(o.y, keep.y, v[1] * add.y);
                v[2] = fma_f32(o.z, keep.x, v[2] * add.x);
                v[3] = fma_f32(o.w, keep.y, v[3] * add.y);
            }
            if (!ends) *at = {v[0], v[1], v[2], v[3]};
        }
    }
    if (has_sums(team)) {
        float2 keep = lane_factors(f.total_keep, team.warp), add = lane_factors(f.total_add, team.warp);
        float *g = sums->group, *total = sums->total;
        total[0] = begins ? g[0] : fma_f32(total[0], keep.x, g[0] * add.x);
        total[1] = begins ? g[1] : fma_f32(total[1], keep.y, g[1] * add.y);
        g[0] = total[0], g[1] = total[1];
    }
}

// What all groups come to. Lanes whose dims are side by side exchange a query's, and have two of one.
DEVICE void store_result(const MlaAttentionArgs &a, const MlaTask &t, const ValueTeam &team, u8 *shared,
                         const MlaValues &group, const MlaSums &sums) {
    float *inverse = small_of(shared)->inverse[team.task % 2];
    u32 lane = lane_index(), odd = lane / 4 % 2;
    if (has_sums(team) && lane < 4) {
        *(float2 *)(inverse + team.warp * 8 + lane * 2) = {reciprocal_fast(sums.group[0]),
                                                           reciprocal_fast(sums.group[1])};
    }
    group_sync(VALUE_MEETING, VALUE_THREADS);
    u32 dim = sheet_of(team, 0) * SHEET_DIMS + team.warp % TEAM_WARPS * 16 + (lane / 4 - odd);
    f16 *out = a.out + (u64)t.query * KV_RANK + dim;
#pragma unroll
    for (u32 j = 0; j < QUERY_EIGHTS; j++) {
        float2 by = lane_factors(inverse, j);
        u32 query = lane_query(2 * j) + odd;
#pragma unroll
        for (u32 m = 0; m < TEAM_SHEETS; m++) {
            const float *v = group.of[m] + 4 * j;
            u32 own[2] = {pack_f16(attended(v[0], by.x), attended(v[2], by.x)),
                          pack_f16(attended(v[1], by.y), attended(v[3], by.y))};
            u32 other = shuffle_xor(odd ? own[0] : own[1], 4);
            u32 first = odd ? other : own[0], second = odd ? own[1] : other;
            if (query < t.n) {
                f16 *at = out + query * KV_RANK + m * VALUE_TEAMS * SHEET_DIMS;
                *(u32 *)at = permute_bytes(first, second, 0x5410);
                *(u32 *)(at + 8) = permute_bytes(first, second, 0x7632);
            }
        }
    }
}

DEVICE void add_task(const MlaAttentionArgs &a, const MlaTask &t, u8 *shared, ValueTeam *team) {
    MlaShared *b = small_of(shared);
    MlaValues split, group;
    MlaSums sums = {};
    u32 tiles = task_tiles(t);
#pragma unroll 1
    for (u32 tile = 0; tile < tiles; tile += SPLIT_TILES) {
        if (tile % GROUP_TILES == 0) group_clear(&group, &sums);
        add_tile<true>(shared, *team, &split, &sums);
        if (tile + 1 < tiles) {
            arrive_at(b->weights_read, team->tile++);
            add_tile<false>(shared, *team, &split, &sums);
        }
        TilePlace p = {tile + 1, tile + SPLIT_TILES >= tiles};
        const TileFactors &f = b->factors[team->tile % WEIGHT_PLACES];
        join_group(f, *team, split, &group, &sums);
        if (tiles > GROUP_TILES && ends_group(p))
            join_total(a, f, *team, tile < GROUP_TILES, p.ends, &group, &sums);
        warp_sync();
        arrive_at(b->weights_read, team->tile++);
    }
    store_result(a, t, *team, shared, group, sums);
    team->task++;
}

// ---- a block ----

DEVICE void rings_begin(u8 *shared) {
    MlaShared *b = small_of(shared);
    if (thread_index() == 0) {
        for (u32 i = 0; i < SLOTS; i++) {
            bulk_barrier_init(&b->slot_full[i], 1);
            bulk_barrier_init(&b->slot_read[i], VALUE_WARPS * MLA_CLUSTER);
        }
        for (u32 i = 0; i < WEIGHT_PLACES; i++) {
            bulk_barrier_init(&b->weights_full[i], TEAM_WARPS);
            bulk_barrier_init(&b->weights_read[i], VALUE_WARPS);
        }
        bulk_barrier_init(&b->queries_full[0], QUERY_WARPS);
        bulk_barrier_init(&b->queries_read[0], TEAM_WARPS);
        bulk_barrier_init_fence();
    }
#if MLA_CLUSTER > 1
    cluster_sync(); // the other's barriers are made, too
#else
    block_sync();
#endif
}

DEVICE void mla_attention_run(const MlaAttentionArgs &a) {
    u8 *shared = shared_memory();
    u32 warp = uniform_warp(), n = 0;
    MlaWalk walk = {0};
    MlaTask t;
    rings_begin(shared);
    stage_wait();
    if (warp < VALUE_WARPS) {
        registers_take<VALUE_REGISTERS>();
        ValueTeam team = {warp / TEAM_WARPS, warp, 0, 0};
        while (walk_next(a, &walk, &t)) {
            add_task(a, t, shared, &team);
        }
    } else if (warp < VALUE_WARPS + TEAM_WARPS) {
        registers_give<SCORE_REGISTERS>();
        for (u32 task = 0; walk_next(a, &walk, &t); task++) {
            score_task(t, shared, task, &n);
        }
    } else {
        registers_give<FETCH_REGISTERS>();
        u32 number = warp - VALUE_WARPS - TEAM_WARPS;
        if (number > QUERY_WARPS) return;
        while (walk_next(a, &walk, &t)) {
            if (number == 0) fetch_entries(a, t, shared, &n);
            else fetch_queries(a, t, shared, number - 1, n++);
        }
    }
}

#if MLA_CLUSTER > 1
EXPORTED StageInfo mla_attention_info = {MLA_THREADS, {MLA_BLOCKS, 1}, MLA_SHARED_BYTES, MLA_CLUSTER};

KERNEL_OF_CLUSTERS(MLA_THREADS, 1, MLA_CLUSTER) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    mla_attention_run(a);
    cluster_end(); // the other one may still give slots up
}
#else
EXPORTED StageInfo mla_attention_info = {MLA_THREADS, {MLA_BLOCKS, 1}, MLA_SHARED_BYTES};

KERNEL(MLA_THREADS, 1) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    mla_attention_run(a);
}
#endif
