// Prompts on sm_90a by products of four warps (wgmma) whose columns are queries: what mla_attention_wgmma.cuh
// and span_attention_wide.cuh share.
//
// Order of sums, and what a tile, a split and a group are: attend.cuh. Queries are the columns of all
// products, so that few of them are enough: 64 rows of them times 512 dims, of a split and of a group, would
// be all registers of a multiprocessor.
//
//     S^T = K Q^T      [keys][queries]    a tile's keys are the rows
//     O^T = V^T P^T    [dims][queries]    64 dims at a time are the rows, read across (columns of V)
//
// A block has three teams of four warps that multiply, and up to four warps that fetch:
//
//     scores   of a tile; its weights go to shared memory, as rows of queries, with what splits, groups and
//              totals are multiplied by (TileFactors). Two places, so that it is a tile ahead.
//     values   two teams with half of the dims each: of the split and of the group in registers. Each warp of
//              theirs has the sums of eight queries' weights, as products with ones.
//
// Keys and values come by their dims, SLOT_SHEETS sheets of all 64 keys in a slot of a ring: so products
// begin when the first dims are there.
//
// COLUMN_CLUSTER 2: two neighbours have tasks side by side. Each fetches every other eight of their tokens
// for both, so that the L2 is read once for twice as many queries; a slot is free when both have used it.
//
// The total's values, which are wanted once in 1,024 keys, are in memory: [groups of 8 dims][thread]float4.
//
// A kernel has the rings, and a class `Form` of its task, which knows where things are (const but for
// next_task; n: tiles that the block has behind it):
//
//     bool next_task()                     the block's next task; false: there is none
//     task()                               .last: the sequence's last position in the batch, .end_page
//     u32 first_tile(), end_tile()         first_tile: of a group
//     bool is_part()                       it leaves its groups' triples
//     u32 position(query)                  of its row; of queries that are not there the last one's
//     const f16 *query(i)                  NULL: it is not there
//     void fetch(warp, n)                  by FETCH_WARPS warps, beside queries; n goes on
//     void multiply_keys(n, scores)        waits for keys
//     u8 *value_slot(use)                  a slot with sheets of values, TILE_SLOTS a tile
//     void wait_for_value(use)             until one is there
//     void give_value_up(use)              by all warps of the values' teams
//     void end_group(place, factors, team, group, sums), end_task(team, group, sums)
//     void store(query, dim, first, second)
//                                          two f16 each of dims `dim` and `dim` + 8 on
//
// Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh, ring.cuh. Defines: attend.cuh's with WINDOW 0 and
// HEAD_DIM a multiple of 64; of a compressed cache KV_RANK (a multiple of 128), MLA_QUERIES (32 or 40) and
// MLA_CLUSTER.
#if HEAD_DIM % 64 || WINDOW != 0
#error "HEAD_DIM, WINDOW"
#endif

enum : u32 {
    TEAM_WARPS = 4,
    TEAM_THREADS = TEAM_WARPS * WARP,
    VALUE_TEAMS = 2,
    VALUE_WARPS = VALUE_TEAMS * TEAM_WARPS,
    VALUE_THREADS = VALUE_WARPS * WARP,
    QUERY_WARPS = 2, // that fetch queries
    FETCH_WARPS = TEAM_WARPS - QUERY_WARPS,
    COLUMN_THREADS = (VALUE_TEAMS + 2) * TEAM_THREADS, // values, scores, those that fetch

    SHEETS = HEAD_DIM / 64,
#ifdef KV_RANK // values are the begin of keys
    COLUMNS = MLA_QUERIES,
    COLUMN_CLUSTER = MLA_CLUSTER,
    VALUE_DIMS = KV_RANK,
    SLOT_SHEETS = SHEETS % 3 ? 1 : 3,
#else
    COLUMNS = 40,
    COLUMN_CLUSTER = 2,
    VALUE_DIMS = HEAD_DIM,
    SLOT_SHEETS = 2,
#endif
    QUERY_EIGHTS = COLUMNS / 8,
    LANE_QUERIES = 2 * QUERY_EIGHTS, // a lane's: 8 j + 2 c, and + 1
    GROUP_TILES = GROUP_SPLITS * SPLIT_TILES,

    // A sheet: 64 dims of eight tokens, whose rows are 128 bytes apart. Eights of tokens in a page, and in a
    // slot, are so far from each other:
    SHEET_DIMS = 64,
    SHEET_BYTES = 8 * SHEET_DIMS * 2,
    EIGHT_BYTES = 8 * KV_ROW_BYTES,
    SLOT_EIGHT_BYTES = SLOT_SHEETS * SHEET_BYTES,
    SLOT_BYTES = TILE_KEYS / 8 * SLOT_EIGHT_BYTES,
    TILE_SLOTS = SHEETS / SLOT_SHEETS,
    VALUE_SHEETS = VALUE_DIMS / SHEET_DIMS,
    TEAM_SHEETS = VALUE_SHEETS / VALUE_TEAMS,
    TEAM_DIMS = VALUE_TEAMS * SHEET_DIMS, // from a team's sheet to its next one

    WEIGHT_ROW_BYTES = TILE_KEYS * 2, // a query's, of a tile: one sheet
    WEIGHTS_BYTES = COLUMNS * WEIGHT_ROW_BYTES,
    WEIGHT_PLACES = 2,
    QUERIES_BYTES = COLUMNS * KV_ROW_BYTES,
    QUERIES_AT = WEIGHT_PLACES * WEIGHTS_BYTES, // rows as tokens of a page are
    SMALL_AT = QUERIES_AT + QUERIES_BYTES,
    SMALL_BYTES = 4096, // ColumnsShared, and the rings' barriers behind it
    SLOTS_AT = SMALL_AT + SMALL_BYTES,
    SLOTS_FIT = (SHARED_BYTES_MAX - SLOTS_AT) / SLOT_BYTES,
    // Of 128 that a launch gives each. (A team waits for what others do not give up, for ever.)
    FETCH_REGISTERS = 40,
    SCORE_REGISTERS = 72,
    VALUE_REGISTERS = 200,

    SCORE_MEETING = 1,
    VALUE_MEETING = 2,
};
static_assert(FETCH_REGISTERS + SCORE_REGISTERS + VALUE_TEAMS * VALUE_REGISTERS <= 4 * 128,
              "as many are given as taken");
static_assert((u32)QUERY_EIGHTS <= VALUE_WARPS, "a warp has the sums of eight queries at most");
static_assert(COLUMNS % 8 == 0 && VALUE_DIMS % (VALUE_TEAMS * SHEET_DIMS) == 0, "whole eights and sheets");
static_assert(SLOTS_AT % 1024 == 0, "sheets are swizzled");

// What a tile's values, or the split, group and total that end with it, are multiplied by, of each query.
struct TileFactors {
    float keep[COLUMNS]; // the split so far, before the tile joins it
    float group_keep[COLUMNS], group_add[COLUMNS];
    union {
        float total_keep[COLUMNS];
        float group_top[COLUMNS]; // of a part, which leaves its groups
    };
    float total_add[COLUMNS];
};
struct ColumnsShared {
    TileFactors factors[WEIGHT_PLACES];
    float tops[2][TEAM_WARPS][COLUMNS]; // of a tile, of each warp's keys: tiles take turns
    float split_top[COLUMNS], group_top[COLUMNS], total_top[COLUMNS];
    float inverse[2][COLUMNS]; // of a result's sums: tasks take turns
    BulkBarrier weights_full[WEIGHT_PLACES], weights_read[WEIGHT_PLACES];
    BulkBarrier queries_full[1], queries_read[1];
};

DEVICE ColumnsShared *columns_of(u8 *shared) {
    return (ColumnsShared *)(shared + SMALL_AT);
}
DEVICE u8 *weights_place(u8 *shared, u32 n) {
    return shared + n % WEIGHT_PLACES * WEIGHTS_BYTES;
}
// Query i of the lane's, in order.
DEVICE u32 lane_query(u32 i) {
    return i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
}

// ---- rings ----

// A warp's arrival at all of the cluster's blocks, which fetch for each other. It needs no fence of the
// cluster, as nobody reads what was written before it:
// - The warp's reads of the slot are products that it has waited for, so they have ended. Those who fetch
//   begin a copy only when they have seen all arrivals: no copy is before a read.
// - The zeros of clear_missing are the only ordinary stores to a slot, and this block's own. The products
//   have waited for them (bulk_copy_fence, weights_full) and have read them in the one place that a byte of
//   shared memory has. So a later copy, the other block's too, comes behind them.
// - What a copy brings is told by the slot's other barrier, by the copy itself.
template <u32 slots> DEVICE void give_slot_up(BulkBarrier (&read)[slots], u32 use) {
    if (COLUMN_CLUSTER == 1) arrive_at(read, use);
    else if (lane_index() < COLUMN_CLUSTER) bulk_barrier_arrive_at(&read[use % slots], lane_index());
}
// The page of a tile of which the lane copies an eight.
template <class Task> DEVICE u32 lane_page(const Task &t, u32 tile) {
    return t.pages[MIN(tile * TILE_PAGES + lane_index() % 8 / 2, t.end_page - 1)];
}
// Eights of tokens of a tile that are fetched.
template <class Task> DEVICE u32 tile_eights(const Task &t, u32 tile) {
    return MIN(t.end_page - tile * TILE_PAGES, (u32)TILE_PAGES) * 2;
}
// The use-th slot of `ring`. from: SLOT_SHEETS sheets of the lane's eight of n_eights.
template <u32 slots>
DEVICE void fetch_slot(BulkBarrier (&full)[slots], BulkBarrier (&read)[slots], u8 *ring, u32 use,
                       const u8 *from, u32 n_eights) {
    BulkBarrier *b = &full[use % slots];
    u32 lane = lane_index();
    u8 *to = ring + use % slots * SLOT_BYTES + lane * SLOT_EIGHT_BYTES;
    wait_read(read, use);
    if (lane == 0) bulk_barrier_expect(b, n_eights * SLOT_EIGHT_BYTES);
    warp_sync();
    if (lane >= n_eights) return;
    if (COLUMN_CLUSTER == 1) bulk_copy(to, from, SLOT_EIGHT_BYTES, b);
    else if (lane % COLUMN_CLUSTER == cluster_rank())
        bulk_copy_to_all(to, from, SLOT_EIGHT_BYTES, b, COLUMN_CLUSTER);
}

// The block's n-th task's queries, by QUERY_WARPS warps of which this is `warp`. Those that are not there are
// zeros.
template <class Form> DEVICE void fetch_queries(const Form &form, u32 warp, u32 n) {
    enum : u32 { UNITS = HEAD_DIM / 8 };
    ColumnsShared *b = columns_of(form.shared);
    wait_read(b->queries_read, n);
#pragma unroll 2
    for (u32 row = warp; row < COLUMNS; row += QUERY_WARPS) {
        const f16 *from = form.query(row);
#pragma unroll
        for (u32 i = 0; i < CEIL_DIV(UNITS, WARP); i++) {
            u32 unit = i * WARP + lane_index();
            u8 *to = kv_row(form.shared + QUERIES_AT, row, unit);
            if (UNITS % WARP && unit >= UNITS) break;
            if (from) copy_async_16(to, from + unit * 8);
            else *(uint4 *)to = {0, 0, 0, 0};
        }
    }
    copy_async_commit();
    copy_async_wait<0>();
    bulk_copy_fence();
    warp_sync();
    arrive_at(b->queries_full, n);
}

// ---- scores and weights ----

typedef float TileScores[QUERY_EIGHTS * 4]; // [keys][queries], a warp's 16 keys

// Products of a slot of keys, the i-th of a tile.
template <u32 i> DEVICE void multiply_slot(u8 *shared, const u8 *slot, TileScores s) {
    MatrixRows q = matrix_eights(shared + QUERIES_AT, SHEET_DIMS, EIGHT_BYTES),
               k = matrix_eights(slot, SHEET_DIMS, SLOT_EIGHT_BYTES);
#pragma unroll
    for (u32 step = 0; step < SLOT_SHEETS * 4; step++) {
        u32 on = step / 4 * SHEET_BYTES + step % 4 * 32; // 16 dims
        MatrixRows at = matrix_on(q, i * SLOT_EIGHT_BYTES + on);
        if (i == 0 && step == 0) warpgroup_multiply_rows<COLUMNS, true>(s, k, at);
        else warpgroup_multiply_rows<COLUMNS, false>(s, matrix_on(k, on), at);
    }
}

// Hides what queries do not see of the tile at key `first`, where there is any such.
template <class Form> DEVICE void hide_later(const Form &form, u32 first, TileScores s) {
    if (first + TILE_KEYS - 1 <= form.position(0)) return;
    u32 key = first + warp_index() % TEAM_WARPS * 16 + lane_index() / 4;
#pragma unroll
    for (u32 i = 0; i < LANE_QUERIES; i++) {
        u32 position = form.position(lane_query(i));
        float *v = s + i / 2 * 4 + i % 2;
        if (key > position) v[0] = -INFINITY_F32;
        if (key + 8 > position) v[2] = -INFINITY_F32;
    }
}

// The largest scores of the warp's keys to where the team finds them.
DEVICE void tell_tops(const TileScores s, float tops[TEAM_WARPS][COLUMNS]) {
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
DEVICE void raise_by_tile(const float tops[TEAM_WARPS][COLUMNS], float top[LANE_QUERIES]) {
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

// Of query `query`, by the same thread for all tiles of a task, or of a part of one. tops: of the tile.
DEVICE void tell_factors(const TilePlace &p, bool is_part, ColumnsShared *b, TileFactors *f,
                         const float tops[TEAM_WARPS][COLUMNS], u32 query) {
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
    if (is_part) {
        f->group_top[query] = group;
        return;
    }
    float total = p.tile < GROUP_TILES ? -INFINITY_F32 : b->total_top[query];
    fold = fold_factors(&total, group);
    b->total_top[query] = total;
    f->total_keep[query] = fold.keep, f->total_add[query] = fold.add;
}

// Entries of the last tile that are not there become zeros: what lies there may be anything, and 0 times
// infinity is not 0. (Nobody reads them as keys any more.)
template <class Form> DEVICE void clear_missing(const Form &form, u32 first, u32 n) {
    u32 there = MIN(form.task().last + 1, form.task().end_page * KV_PAGE) - first;
    if (there >= TILE_KEYS) return;
#pragma unroll 1
    for (u32 sheet = 0; sheet < VALUE_SHEETS; sheet++) {
        u32 use = n * TILE_SLOTS + sheet / SLOT_SHEETS;
        form.wait_for_value(use);
        u8 *at = form.value_slot(use) + sheet % SLOT_SHEETS * SHEET_BYTES;
        for (u32 i = there * 8 + thread_index() % TEAM_THREADS; i < TILE_KEYS * 8; i += TEAM_THREADS) {
            *(uint4 *)(at + i / 64 * SLOT_EIGHT_BYTES + i % 64 * 16) = {0, 0, 0, 0};
        }
    }
}

// Scores of the block's n-th tile become weights; top: the split's largest scores before it.
template <class Form>
DEVICE void weigh_tile(const Form &form, const TilePlace &p, u32 n, const TileScores s,
                       float top[LANE_QUERIES]) {
    ColumnsShared *b = columns_of(form.shared);
    u8 *weights = weights_place(form.shared, n);
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
    if (query >= COLUMNS) return;
    tell_factors(p, form.is_part(), b, &b->factors[n % WEIGHT_PLACES], b->tops[n % 2], query);
}

template <class Form> DEVICE void score_task(const Form &form, u32 task, u32 *n) {
    ColumnsShared *b = columns_of(form.shared);
    float top[LANE_QUERIES];
    u32 end = form.end_tile();
    wait_full(b->queries_full, task);
#pragma unroll 1
    for (u32 tile = form.first_tile(); tile < end; tile++, (*n)++) {
        TilePlace p = {tile, tile + 1 == end};
        TileScores s;
        form.multiply_keys(*n, s);
        if (p.ends) arrive_at(b->queries_read, task);
#ifdef SOFT_CAP
#pragma unroll
        for (u32 i = 0; i < QUERY_EIGHTS * 4; i++) {
            s[i] = cap_score(s[i]);
        }
#endif
        hide_later(form, tile * TILE_KEYS, s);
        tell_tops(s, b->tops[*n % 2]);
        group_sync(SCORE_MEETING, TEAM_THREADS);
        if (tile % SPLIT_TILES == 0) {
#pragma unroll
            for (u32 i = 0; i < LANE_QUERIES; i++) {
                top[i] = -INFINITY_F32;
            }
        }
        wait_read(b->weights_read, *n);
        weigh_tile(form, p, *n, s, top);
        if (p.ends) clear_missing(form, tile * TILE_KEYS, *n);
        bulk_copy_fence();
        warp_sync();
        arrive_at(b->weights_full, *n);
    }
}

// ---- values ----

// A team's, of all queries: [dims][queries] a sheet.
struct ColumnValues {
    float of[TEAM_SHEETS][QUERY_EIGHTS * 4];
};
// Sums of weights, of the warp's eight queries: 2 c and 2 c + 1.
struct ColumnSums {
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
// The lane's first dim of the team's first sheet; it has the one 8 on, too. The next sheet is TEAM_DIMS on.
DEVICE u32 lane_dim(const ValueTeam &team) {
    return sheet_of(team, 0) * SHEET_DIMS + team.warp % TEAM_WARPS * 16 + lane_index() / 4;
}

template <bool begins, class Form>
DEVICE void begin_products(const Form &form, const ValueTeam &team, ColumnValues *split) {
    MatrixRows p = matrix_eights(weights_place(form.shared, team.tile), SHEET_DIMS, SHEET_BYTES);
#pragma unroll
    for (u32 m = 0; m < TEAM_SHEETS; m++) {
        u32 sheet = sheet_of(team, m), use = team.tile * TILE_SLOTS + sheet / SLOT_SHEETS;
        form.wait_for_value(use);
        warpgroup_fence(); // which the compiler would put behind each wait
        MatrixRows v = matrix_eights(form.value_slot(use) + sheet % SLOT_SHEETS * SHEET_BYTES, SHEET_DIMS,
                                     SLOT_EIGHT_BYTES);
        warpgroup_multiply_columns<COLUMNS, begins>(split->of[m], v, p);
#pragma unroll
        for (u32 page = 1; page < TILE_PAGES; page++) {
            warpgroup_multiply_columns<COLUMNS, false>(
                split->of[m], matrix_on(v, page * 2 * SLOT_EIGHT_BYTES), matrix_on(p, page * KV_PAGE * 2));
        }
        warpgroup_commit();
    }
}
// Waits for the products of the team's sheets from `m` on, and gives each slot up when it has none that any
// team reads after its own m-th.
template <u32 m, class Form> DEVICE void end_products(const Form &form, const ValueTeam &team) {
    u32 n_read = m + 1 < TEAM_SHEETS ? (m + 1) * VALUE_TEAMS / SLOT_SHEETS : TILE_SLOTS;
    warpgroup_wait<TEAM_SHEETS - 1 - m>();
#pragma unroll
    for (u32 slot = m * VALUE_TEAMS / SLOT_SHEETS; slot < n_read; slot++) {
        form.give_value_up(team.tile * TILE_SLOTS + slot);
    }
    if constexpr (m + 1 < TEAM_SHEETS) end_products<m + 1>(form, team);
}

DEVICE void add_weights(u8 *shared, const ValueTeam &team, bool begins, const TileFactors &f,
                        ColumnSums *sums) {
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
template <bool begins, class Form>
DEVICE void add_tile(const Form &form, const ValueTeam &team, ColumnValues *split, ColumnSums *sums) {
    ColumnsShared *b = columns_of(form.shared);
    const TileFactors &f = b->factors[team.tile % WEIGHT_PLACES];
    wait_full(b->weights_full, team.tile);
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
    begin_products<begins>(form, team, split);
    if (has_sums(team)) add_weights(form.shared, team, begins, f, sums);
    end_products<0>(form, team);
#pragma unroll
    for (u32 m = 0; m < TEAM_SHEETS; m++) {
        warpgroup_keep<QUERY_EIGHTS * 4>(split->of[m]);
    }
}

// (Zeros not before the branch to here: else the compiler chooses between them and the group in each split.)
DEVICE void group_clear(ColumnValues *group, ColumnSums *sums) {
#pragma unroll
    for (u32 i = 0; i < TEAM_SHEETS * QUERY_EIGHTS * 4; i++) {
        group->of[i / (QUERY_EIGHTS * 4)][i % (QUERY_EIGHTS * 4)] = not_before(0.0f);
    }
    sums->group[0] = sums->group[1] = 0;
}
// (The first triple that joins a group is taken as it is: its factors are 0 and 1.)
DEVICE void join_group(const TileFactors &f, const ValueTeam &team, const ColumnValues &split,
                       ColumnValues *group, ColumnSums *sums) {
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
// The group joins the total, whose values are at `total`, and takes it on where it is the last.
DEVICE void join_total(float *total_values, const TilePlace &p, const TileFactors &f, const ValueTeam &team,
                       ColumnValues *group, ColumnSums *sums) {
    float4 *to = (float4 *)total_values + team.warp * WARP + lane_index();
    bool begins = p.tile < GROUP_TILES;
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
            if (!p.ends) *at = {v[0], v[1], v[2], v[3]};
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
template <class Form>
DEVICE void store_result(const Form &form, const ValueTeam &team, const ColumnValues &group,
                         const ColumnSums &sums) {
    float *inverse = columns_of(form.shared)->inverse[team.task % 2];
    u32 lane = lane_index(), odd = lane / 4 % 2, dim = lane_dim(team) - odd;
    if (has_sums(team) && lane < 4) {
        *(float2 *)(inverse + team.warp * 8 + lane * 2) = {reciprocal_fast(sums.group[0]),
                                                           reciprocal_fast(sums.group[1])};
    }
    group_sync(VALUE_MEETING, VALUE_THREADS);
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
            form.store(query, dim + m * TEAM_DIMS, permute_bytes(first, second, 0x5410),
                       permute_bytes(first, second, 0x7632));
        }
    }
}

template <class Form> DEVICE void add_task(const Form &form, ValueTeam *team) {
    ColumnsShared *b = columns_of(form.shared);
    ColumnValues split, group;
    ColumnSums sums = {};
    u32 end = form.end_tile();
#pragma unroll 1
    for (u32 tile = form.first_tile(); tile < end; tile += SPLIT_TILES) {
        if (tile % GROUP_TILES == 0) group_clear(&group, &sums);
        add_tile<true>(form, *team, &split, &sums);
        if (tile + 1 < end) {
            arrive_at(b->weights_read, team->tile++);
            add_tile<false>(form, *team, &split, &sums);
        }
        TilePlace p = {tile + 1, tile + SPLIT_TILES >= end};
        const TileFactors &f = b->factors[team->tile % WEIGHT_PLACES];
        join_group(f, *team, split, &group, &sums);
        if (ends_group(p)) form.end_group(p, f, *team, &group, &sums);
        warp_sync();
        arrive_at(b->weights_read, team->tile++);
    }
    form.end_task(*team, group, sums);
    team->task++;
}

// ---- a block ----

template <u32 slots>
DEVICE void ring_begin(BulkBarrier (&full)[slots], BulkBarrier (&read)[slots], u32 warps) {
    for (u32 i = 0; i < slots; i++) {
        bulk_barrier_init(&full[i], 1);
        bulk_barrier_init(&read[i], warps * COLUMN_CLUSTER);
    }
}
// Behind the rings' own, by the same thread.
DEVICE void columns_begin(ColumnsShared *b) {
    for (u32 i = 0; i < WEIGHT_PLACES; i++) {
        bulk_barrier_init(&b->weights_full[i], TEAM_WARPS);
        bulk_barrier_init(&b->weights_read[i], VALUE_WARPS);
    }
    bulk_barrier_init(&b->queries_full[0], QUERY_WARPS);
    bulk_barrier_init(&b->queries_read[0], TEAM_WARPS);
    bulk_barrier_init_fence();
}

// A block's tasks, when its barriers are made.
template <class Form> DEVICE void columns_run(Form form) {
    u32 warp = uniform_warp(), n = 0;
    if (warp < VALUE_WARPS) {
        registers_take<VALUE_REGISTERS>();
        ValueTeam team = {warp / TEAM_WARPS, warp, 0, 0};
        while (form.next_task()) {
            add_task(form, &team);
        }
    } else if (warp < VALUE_WARPS + TEAM_WARPS) {
        registers_give<SCORE_REGISTERS>();
        for (u32 task = 0; form.next_task(); task++) {
            score_task(form, task, &n);
        }
    } else {
        registers_give<FETCH_REGISTERS>();
        u32 number = warp - VALUE_WARPS - TEAM_WARPS;
        while (form.next_task()) {
            if (number < FETCH_WARPS) form.fetch(number, &n);
            else fetch_queries(form, number - FETCH_WARPS, n++);
        }
    }
}
