// Batches with prompts on sm_90a: what span_attention.cuh computes, to the same bits, by products of four
// warps (wgmma).
//
//     out[row][h] = softmax(q[row][h] K^T) V over the positions that the row sees
//
// A block has two teams of four warps that multiply, 64 queries each, and three warps that fetch (flash
// attention with producers: Shah et al. 2024). Order of sums, and what a tile, a split and a group
// are: attend.cuh. Keys come a split at a time (128), values a tile (64), through a ring each; a task's
// queries while the one before is at work. What a team does with a split:
//
//     S = Q K^T                             both operands in shared memory
//     P0 = weights of tile 0                in registers, as the operand of the values' product
//     O = P0 V
//     P1 = weights of tile 1
//     O = O * 2^(m0 - m1) + P1 V            behind it: S of the next split
//     the group's triple takes O in         beside the products of S
//
// One team makes its weights while the other multiplies, which comes about by itself. (With turns a prompt of
// 32,768 tokens of Llama-3.1-8B took 3% longer: README.md.)
//
// Heads of more than 128 dims: both teams have the same 64 queries, half of the dims each, and both make the
// scores.
//
// Grid: SPAN_BLOCKS blocks, one a multiprocessor. A task is a stretch, or a part of one, and a list
// (span_attention.cuh), those with the most keys first. Blocks take a task each, then the next ones in the
// opposite order, and so on: so all get about as many keys.
//
// The group's values are in registers, its largest scores and sums in shared memory with the total's. The
// total's values, which are wanted once in 1,024 keys, are in `partial`; a part leaves each group's triple
// there instead (span_parts.cuh).
//
// KV_Q8: what products take lies in shared memory as it does with a cache of f16. Four warps convert it, and
// fetch it and the queries besides (span_codes.cuh); teams multiply scores by their keys' scales.
//
// Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh, span_parts.cuh, ring.cuh, span_codes.cuh.
// Defines: attend.cuh's, MAX_ROWS, HAS_SINKS, SPAN_BLOCKS.
#if !defined(MAX_ROWS) || !defined(SPAN_BLOCKS)
#error "MAX_ROWS, SPAN_BLOCKS"
#endif

enum : u32 {
    TEAM_WARPS = 4,
    TEAM_THREADS = TEAM_WARPS * WARP,
    TEAMS = 2, // that multiply
    MULTIPLY_WARPS = TEAMS * TEAM_WARPS,
    MULTIPLY_THREADS = MULTIPLY_WARPS * WARP,
    SPAN_THREADS = MULTIPLY_THREADS + TEAM_THREADS, // those that fetch, which give registers up

    DIM_PARTS = HEAD_DIM > 128 ? 2 : 1,
    PART_DIMS = HEAD_DIM / DIM_PARTS,
    OUT_GROUPS = PART_DIMS / 8,
    QUERIES = TEAMS / DIM_PARTS * 64,
    STRETCH_ROWS = layout_stretch_rows(N_HEADS, N_KV_HEADS, QUERIES),

    // Keys, values and queries as products take them, tokens of f16.
    PIECE_BYTES = QUERY_PIECE_BYTES,
    KV_SHEET = layout_kv_sheet_bytes(QUERY_ROW_BYTES) / 2, // dims
    EIGHT_BYTES = 8 * QUERY_ROW_BYTES,                     // of eight tokens
    SHEET_EIGHT_BYTES = 8 * KV_SHEET * 2,                  // of a sheet's
    SPLIT_PAGES = SPLIT_KEYS / KV_PAGE,
    HALF_BYTES = SPLIT_PAGES * PIECE_BYTES, // a split's keys, or its values
    Q_BYTES = QUERIES * HEAD_DIM * 2,
    Q_SLOTS = HEAD_DIM > 128 ? 1 : 2,
    SUMS_BYTES = MULTIPLY_WARPS * 16 * 8,
#ifdef KV_Q8
    FILL_WARPS = CODE_WARPS, // that bring keys and values
    Q_WARPS = CODE_WARPS,    // that fetch queries
    CODE_RINGS = CODE_WARPS,
    CODES_BYTES = CODE_RINGS * CODE_RING_BYTES,
    SCALES_BYTES = KEY_SCALES_BYTES, // beside a slot of keys
#else
    FILL_WARPS = 1,
    Q_WARPS = 2,
    CODE_SLOTS = 0,
    CODE_RINGS = 0,
    CODES_BYTES = 0,
    SCALES_BYTES = 0,
#endif
    HALVES_FIT = MIN((SHARED_BYTES_MAX - Q_SLOTS * Q_BYTES - 2 * SUMS_BYTES - CODES_BYTES - 3 * SCALES_BYTES -
                      256 - CODE_RINGS * CODE_SLOTS * 8) /
                         HALF_BYTES,
                     6u),
    KEY_SLOTS = (HALVES_FIT + 1) / 2,
    VALUE_SLOTS = HALVES_FIT / 2 * SPLIT_TILES, // of a tile
    VALUES_BYTES = HALF_BYTES / SPLIT_TILES,
    VALUES_AT = KEY_SLOTS * HALF_BYTES,
    Q_AT = VALUES_AT + VALUE_SLOTS * VALUES_BYTES, // rows as tokens of a page's keys are
    // {largest score, sum} of each row's group and total, which would be too many registers
    GROUP_SUMS_AT = Q_AT + Q_SLOTS * Q_BYTES,
    TOTAL_SUMS_AT = GROUP_SUMS_AT + SUMS_BYTES,
    SCALES_AT = TOTAL_SUMS_AT + SUMS_BYTES,
    CODES_AT = SCALES_AT + KEY_SLOTS * SCALES_BYTES,
    BARRIERS_AT = CODES_AT + CODES_BYTES,
    SPAN_SHARED_BYTES =
        BARRIERS_AT + (2 * KEY_SLOTS + 2 * VALUE_SLOTS + 2 * Q_SLOTS + CODE_RINGS * CODE_SLOTS) * 8,
    // Of 168 that a launch gives each. (A team waits for what others do not give up, for ever.)
    KEPT_REGISTERS = KV_IS_Q8 ? 40 : 24,
    TAKEN_REGISTERS = KV_IS_Q8 ? 232 : 240,
};
static_assert(TEAMS * TAKEN_REGISTERS + KEPT_REGISTERS <= (TEAMS + 1) * 168, "as many are given as taken");
static_assert(VALUE_SLOTS > 0, "a split's keys and values fit");
static_assert(PART_DIMS % KV_SHEET == 0 && (PART_DIMS == 64 || PART_DIMS == 96 || PART_DIMS == 128),
              "64, 96, 128, 256 dims");

struct SpanBarriers {
    BulkBarrier keys_full[KEY_SLOTS], keys_read[KEY_SLOTS];
    BulkBarrier values_full[VALUE_SLOTS], values_read[VALUE_SLOTS];
    BulkBarrier queries_full[Q_SLOTS], queries_read[Q_SLOTS];
#ifdef KV_Q8
    BulkBarrier codes_full[CODE_RINGS][CODE_SLOTS];
#endif
};
DEVICE SpanBarriers *span_barriers(u8 *shared) {
    return (SpanBarriers *)(shared + BARRIERS_AT);
}

// Slots are used one after the other: the n-th use. (Of a single slot the compiler would work out all places
// ahead, more than there are registers: it does not know that n is small.)
DEVICE u8 *keys_slot(u8 *shared, u32 n) {
    return shared + (KEY_SLOTS > 1 ? n % KEY_SLOTS : n >> 31) * HALF_BYTES;
}
DEVICE u8 *values_slot(u8 *shared, u32 n) {
    return shared + VALUES_AT + n % VALUE_SLOTS * VALUES_BYTES;
}
DEVICE u8 *queries_slot(u8 *shared, u32 n) {
    return shared + Q_AT + n % Q_SLOTS * Q_BYTES;
}
DEVICE u32 team_thread() {
    return thread_index() % TEAM_THREADS;
}

// ---- tasks ----

// What a block attends to at a time.
struct SpanTask {
    u32 number, list;
    u32 row, n_rows;            // of the batch
    u32 position;               // of the first one
    u32 last;                   // of the sequence's last row in the batch
    u32 first_group, end_group; // of keys, that it goes through
    const u32 *pages;
};
DEVICE SpanTask span_task(const BatchAttentionArgs &a, u32 number) {
    RowStretch s = a.stretches[number / LISTS];
    u32 end_group = s.first_group + s.n_groups;
    return {number, number % LISTS, s.row,     s.n_rows,           s.position,
            s.last, s.first_group,  end_group, s.pages + a.list_at};
}
DEVICE u32 first_split(const SpanTask &t) {
    return MAX(row_keys(t.position).first / SPLIT_KEYS, t.first_group * GROUP_SPLITS);
}
DEVICE u32 end_split(const SpanTask &t) {
    return MIN(CEIL_DIV(t.position + t.n_rows, (u32)SPLIT_KEYS), t.end_group * GROUP_SPLITS);
}
// Calls run(task) for each of the block's tasks that has any keys.
template <class Run> DEVICE void for_each_task(const BatchAttentionArgs &a, u32 n_tasks, Run run) {
    u32 block = block_index();
#pragma unroll 1
    for (u32 first = 0; first < n_tasks; first += SPAN_BLOCKS) {
        u32 task = first + (first / SPAN_BLOCKS % 2 ? SPAN_BLOCKS - 1 - block : block);
        if (task >= n_tasks) continue;
        SpanTask t = span_task(a, task);
        if (first_split(t) < end_split(t)) run(t);
    }
}

// ---- fetching ----

// A page of a split. (tile_page)
DEVICE u32 split_page(const SpanTask &t, u32 split, u32 i) {
    u32 first = row_keys(t.position).first / KV_PAGE;
    return t.pages[MAX(MIN(split * SPLIT_PAGES + i, t.last / KV_PAGE), first)];
}

// The block's n-th task's queries, by Q_WARPS warps of which this is `warp`: they are asked for, and come.
DEVICE void ask_queries(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared, u32 warp, u32 n) {
    enum : u32 { UNITS = HEAD_DIM / 8 };
    u8 *to = queries_slot(shared, n);
    wait_read(span_barriers(shared)->queries_read, n);
#pragma unroll 1
    for (u32 i = warp * WARP + lane_index(); i < QUERIES * UNITS; i += Q_WARPS * WARP) {
        SpanQuery q = span_query(t, i / UNITS);
        u8 *unit = to + query_row_at(i / UNITS, i % UNITS);
        if (q.is_there) copy_async_16(unit, a.q + ((u64)q.row * N_HEADS + q.head) * HEAD_DIM + i % UNITS * 8);
        else *(uint4 *)unit = {0, 0, 0, 0};
    }
    copy_async_commit();
}
DEVICE void wait_for_queries(u8 *shared, u32 n) {
    copy_async_wait<0>();
    bulk_copy_fence();
    warp_sync();
    arrive_at(span_barriers(shared)->queries_full, n);
}

#ifdef KV_Q8
// Pieces of a task that a warp converts: of each split the keys of both tiles, then their values.
struct CodePages {
    u32 of[SPLIT_TILES];
};
DEVICE CodePages code_pages(const SpanTask &t, u32 split, u32 warp) {
    CodePages pages;
#pragma unroll
    for (u32 tile = 0; tile < SPLIT_TILES; tile++) {
        pages.of[tile] = split_page(t, split, tile * TILE_PAGES + warp);
    }
    return pages;
}
DEVICE const f16 *code_piece(const BatchAttentionArgs &a, const SpanTask &t, const CodePages &pages, u32 i) {
    return kv_head_page(a.kv, pages.of[i % SPLIT_TILES], list_kv_head(t.list)) +
           i / SPLIT_TILES * (KV_PIECE_BYTES / 2);
}
DEVICE float *key_scales(u8 *shared, u32 n) {
    return (float *)(shared + SCALES_AT + n % KEY_SLOTS * SCALES_BYTES);
}

// The block's n-th task's keys, values and queries, by CODE_WARPS warps.
DEVICE void convert_task(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared, u32 warp, u32 n,
                         CodeRing *ring, u32 *n_splits) {
    enum : u32 { PIECES = 2 * SPLIT_TILES };
    SpanBarriers *b = span_barriers(shared);
    u32 first = first_split(t), end = end_split(t);
    CodePages pages = code_pages(t, first, warp);
#pragma unroll
    for (u32 i = 0; i < CODE_SLOTS; i++) {
        ask_codes(*ring, (ring->slot + i) % CODE_SLOTS, code_piece(a, t, pages, i));
    }
#pragma unroll 1
    for (u32 split = first; split < end; split++) {
        bool more = split + 1 < end;
        u32 use = (*n_splits)++;
        CodePages next = pages;
        if (more) next = code_pages(t, split + 1, warp);
#pragma unroll
        for (u32 i = 0; i < PIECES; i++) {
            u32 tile = i % SPLIT_TILES, tile_use = use * SPLIT_TILES + tile, ahead = i + CODE_SLOTS;
            bool is_value = i >= SPLIT_TILES;
            if (is_value) wait_read(b->values_read, tile_use);
            else if (tile == 0) wait_read(b->keys_read, use);
            u32 slot = next_codes(ring);
            const u8 *codes = codes_slot(*ring, slot);
            if (is_value) {
                u32 key = split * SPLIT_KEYS + tile * TILE_KEYS + warp * KV_PAGE + lane_token();
                spread_values(codes, values_slot(shared, tile_use) + warp * PIECE_BYTES, key <= t.last);
            } else {
                u32 page = tile * TILE_PAGES + warp;
                spread_keys(codes, keys_slot(shared, use) + page * PIECE_BYTES,
                            key_scales(shared, use) + page * KV_PAGE);
            }
            if (ahead < PIECES) ask_codes(*ring, slot, code_piece(a, t, pages, ahead));
            else if (more) ask_codes(*ring, slot, code_piece(a, t, next, ahead - PIECES));
            if (!is_value && tile + 1 < SPLIT_TILES) continue; // keys of both tiles are there at once
            bulk_copy_fence();
            warp_sync();
            if (is_value) arrive_at(b->values_full, tile_use);
            else arrive_at(b->keys_full, use);
            if (!is_value && split == first) ask_queries(a, t, shared, warp, n);
        }
        if (split == first) wait_for_queries(shared, n);
        pages = next;
    }
}
#else
// Of n pages that lanes have, the first one lane `first`.
DEVICE void fetch_pages(u8 *to, const f16 *from, u32 first, u32 n, BulkBarrier *full) {
    u32 page = lane_index() - first;
    if (lane_index() == 0) bulk_barrier_expect(full, n * KV_PIECE_BYTES);
    warp_sync();
    if (page < n) bulk_copy(to + page * KV_PIECE_BYTES, from, KV_PIECE_BYTES, full);
}

DEVICE void fetch_task(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared, u32 *n_splits) {
    SpanBarriers *b = span_barriers(shared);
    u32 end = end_split(t), page_lane = lane_index() % SPLIT_PAGES,
        next = split_page(t, first_split(t), page_lane);
#pragma unroll 1
    for (u32 split = first_split(t); split < end; split++) {
        u32 page = next, n_pages = MIN(t.last / KV_PAGE - split * SPLIT_PAGES + 1, (u32)SPLIT_PAGES);
        if (split + 1 < end) next = split_page(t, split + 1, page_lane);
        const f16 *from = kv_head_page(a.kv, page, list_kv_head(t.list));
        u32 use = (*n_splits)++;
        wait_read(b->keys_read, use);
        fetch_pages(keys_slot(shared, use), from, 0, n_pages, &b->keys_full[use % KEY_SLOTS]);
#pragma unroll
        for (u32 tile = 0; tile < SPLIT_TILES; tile++) {
            u32 before = tile * TILE_PAGES, n = MIN(n_pages - MIN(n_pages, before), (u32)TILE_PAGES);
            u32 tile_use = use * SPLIT_TILES + tile;
            wait_read(b->values_read, tile_use);
            fetch_pages(values_slot(shared, tile_use), from + KV_PIECE_BYTES / 2, before, n,
                        &b->values_full[tile_use % VALUE_SLOTS]);
        }
    }
}
DEVICE void fetch_queries(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared, u32 warp, u32 n) {
    ask_queries(a, t, shared, warp, n);
    wait_for_queries(shared, n);
}
#endif

// ---- a team ----

struct SpanTeam {
    u32 number;      // of TEAMS
    u32 first, end;  // positions of its queries
    u32 task, split; // so many has the block behind it
};

DEVICE u32 first_query(const SpanTeam &team) {
    return team.number / DIM_PARTS * 64;
}
DEVICE u32 lane_sixteen(const SpanTeam &team) {
    return first_query(team) / 16 + team_thread() / WARP;
}
DEVICE u32 lane_query(const SpanTeam &team, u32 i) {
    return lane_sixteen(team) * 16 + lane_index() / 4 + i * 8;
}

DEVICE void team_meet(const SpanTeam &team) {
    if (DIM_PARTS > 1) group_sync(1, MULTIPLY_THREADS);
    else group_sync(1 + team.number, TEAM_THREADS);
}

// ---- products ----

DEVICE void begin_scores(u8 *shared, const SpanTeam &team, u32 split, float s[SPLIT_KEYS / 2]) {
    const u8 *queries = queries_slot(shared, team.task) + first_query(team) * HEAD_DIM * 2;
    MatrixRows q = matrix_eights(queries, KV_SHEET, EIGHT_BYTES),
               k = matrix_eights(keys_slot(shared, split), KV_SHEET, EIGHT_BYTES);
    warpgroup_fence();
    warpgroup_multiply_rows<SPLIT_KEYS, true>(s, q, k);
#pragma unroll
    for (u32 step = 1; step < Q_STEPS; step++) {
        u32 on = step * 16 / KV_SHEET * SHEET_EIGHT_BYTES + step * 16 % KV_SHEET * 2;
        warpgroup_multiply_rows<SPLIT_KEYS, false>(s, matrix_on(q, on), matrix_on(k, on));
    }
    warpgroup_commit();
}

template <bool begin>
DEVICE void begin_values(u8 *shared, const SpanTeam &team, u32 tile, const u32 weights[TILE_PAGES][4],
                         float out[OUT_GROUPS * 4]) {
    const u8 *values = values_slot(shared, team.split * SPLIT_TILES + tile);
    if (DIM_PARTS > 1) values += team.number * PART_DIMS / KV_SHEET * SHEET_EIGHT_BYTES;
    MatrixRows v = matrix_eights(values, KV_SHEET, EIGHT_BYTES);
    warpgroup_fence();
    warpgroup_multiply_by_rows<PART_DIMS, begin>(out, weights[0], v);
#pragma unroll
    for (u32 p = 1; p < TILE_PAGES; p++) {
        warpgroup_multiply_by_rows<PART_DIMS, false>(out, weights[p], matrix_on(v, p * PIECE_BYTES));
    }
    warpgroup_commit();
}

// ---- weights ----

struct SpanSums {
    float top[2], sum[2];
};

// Scores of a tile become weights; keep: what the split has is multiplied by it.
DEVICE void weigh_tile(const float s[2 * TILE_PAGES][4], SpanSums *split, u32 weights[TILE_PAGES][4],
                       float keep[2]) {
    float top[2] = {split->top[0], split->top[1]}, base[2], sum[4];
    raise_tops<TILE_PAGES>(s, top);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        base[i] = base_of(top[i]);
        keep[i] = exp2_fast(split->top[i] - base[i]);
        split->top[i] = top[i];
        sum[2 * i] = split->sum[i] * keep[i];
        sum[2 * i + 1] = 0;
    }
    const u32 ones[2] = {ONES_F16, ONES_F16};
#pragma unroll
    for (u32 p = 0; p < TILE_PAGES; p++) {
        weigh_page(s + 2 * p, base, weights[p]);
        mma_f16(sum, weights[p], ones);
    }
    split->sum[0] = sum[0], split->sum[1] = sum[2];
}

// Waits for the values of a tile of the split at key `first`. Those behind the sequence's last position may
// be anything, and 0 times infinity is not 0: they become zeros. (Of codes they are: spread_values.)
DEVICE void wait_for_values(const SpanTask &t, u32 first, u32 tile, u8 *shared, const SpanTeam &team) {
    enum : u32 { UNITS = HEAD_DIM / 8 };
    u32 use = team.split * SPLIT_TILES + tile, there = t.last + 1 - MIN(first + tile * TILE_KEYS, t.last + 1);
    if (KV_IS_Q8) there = TILE_KEYS;
    wait_full(span_barriers(shared)->values_full, use);
    if (there >= TILE_KEYS) return;
    for (u32 i = there * UNITS + team_thread(); i < TILE_KEYS * UNITS; i += TEAM_THREADS) {
        *(uint4 *)kv_row(values_slot(shared, use), i / UNITS, i % UNITS) = {0, 0, 0, 0};
    }
    bulk_copy_fence();
    team_meet(team);
}

// ---- folds ----

// Those of a group or total, of the lane's rows: {largest score, sum} of row g, of row g + 8.
DEVICE float4 *row_sums(u8 *sums) {
    return (float4 *)sums + thread_index() / 4;
}
// Begins a group or a total. (The first triple that joins it is taken as it is: its factors are 0 and 1.)
DEVICE void clear_sums(u8 *sums) {
    warp_sync();
    *row_sums(sums) = {-INFINITY_F32, 0, -INFINITY_F32, 0};
    warp_sync();
}
DEVICE void fold_sums(u8 *sums, const SpanSums &other, FoldFactors f[2]) {
    float4 joined = *row_sums(sums);
    warp_sync();
    f[0] = fold_factors(&joined.x, other.top[0]);
    f[1] = fold_factors(&joined.z, other.top[1]);
    joined.y = fma_f32(joined.y, f[0].keep, other.sum[0] * f[0].add);
    joined.w = fma_f32(joined.w, f[1].keep, other.sum[1] * f[1].add);
    if (lane_index() % 4 == 0) *row_sums(sums) = joined;
    warp_sync();
}
DEVICE void sums_clear(SpanSums *s) {
    s->top[0] = s->top[1] = -INFINITY_F32;
    s->sum[0] = s->sum[1] = 0;
}

// The values of a group's triple.
struct SpanValues {
    float of[OUT_GROUPS * 4];
};
DEVICE void begin_group(u8 *shared, SpanValues *group) {
    clear_sums(shared + GROUP_SUMS_AT);
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS * 4; j++) {
        group->of[j] = 0;
    }
}
DEVICE void join_group(u8 *shared, const SpanSums &sums, const float out[OUT_GROUPS * 4], SpanValues *group) {
    FoldFactors f[2];
    fold_sums(shared + GROUP_SUMS_AT, sums, f);
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS * 4; j++) {
        group->of[j] = fma_f32(group->of[j], f[j / 2 % 2].keep, out[j] * f[j / 2 % 2].add);
    }
}
// A task's triple in memory: its total, or, of a part, that of a group. (The stretch is loaded again: kept so
// long, it would be registers.)
DEVICE float *task_triple(const BatchAttentionArgs &a, const SpanTask &t, bool is_part, u32 group) {
    return span_triple(a.partial, a.stretches[t.number / LISTS].place + (is_part ? group : 0), t.list,
                       QUERIES);
}
DEVICE float4 *task_values(float *triple, const SpanTeam &team) {
    return triple_values(triple, lane_sixteen(team), DIM_PARTS > 1 ? team.number * OUT_GROUPS : 0);
}
// A group joins the total, whose values are in memory; begins: it is the first.
DEVICE void join_total(float4 *total, bool begins, u8 *shared, const SpanValues &group) {
    FoldFactors f[2];
    float4 of_rows = *row_sums(shared + GROUP_SUMS_AT);
    SpanSums sums = {{of_rows.x, of_rows.z}, {of_rows.y, of_rows.w}};
    if (begins) clear_sums(shared + TOTAL_SUMS_AT);
    fold_sums(shared + TOTAL_SUMS_AT, sums, f);
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS; j++) {
        const float *o = group.of + 4 * j;
        float4 v = {o[0], o[1], o[2], o[3]};
        if (!begins) {
            float4 before = total[j * WARP];
            v = {fma_f32(before.x, f[0].keep, v.x * f[0].add), fma_f32(before.y, f[0].keep, v.y * f[0].add),
                 fma_f32(before.z, f[1].keep, v.z * f[1].add), fma_f32(before.w, f[1].keep, v.w * f[1].add)};
        }
        total[j * WARP] = v;
    }
}
// What a part leaves of a group beside the values, which have joined an empty total.
DEVICE void store_sums(float *triple, const SpanTeam &team, u8 *shared) {
    float4 of_rows = *row_sums(shared + GROUP_SUMS_AT);
    if (lane_index() % 4 > 0) return;
    *triple_sums(triple, lane_query(team, 0), QUERIES) = {of_rows.x, of_rows.y};
    *triple_sums(triple, lane_query(team, 1), QUERIES) = {of_rows.z, of_rows.w};
}

// The result is the one group, or the total.
DEVICE void store_span_rows(const BatchAttentionArgs &a, const SpanTask &t, const SpanTeam &team,
                            bool one_group, u8 *shared, const SpanValues &group) {
    const float4 *total = task_values(task_triple(a, t, false, 0), team);
    float4 sums = *row_sums(shared + (one_group ? GROUP_SUMS_AT : TOTAL_SUMS_AT));
    SpanEnd end[2];
    SpanQuery q[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        q[i] = span_query(t, lane_query(team, i));
        end[i] = span_end(a, q[i], i ? sums.z : sums.x, i ? sums.w : sums.y);
    }
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS; j++) {
        const float *o = group.of + 4 * j;
        float4 v = {o[0], o[1], o[2], o[3]};
        if (!one_group) v = total[j * WARP];
        u32 dim = (DIM_PARTS > 1 ? team.number * PART_DIMS : 0) + j * 8 + lane_index() % 4 * 2;
        store_span_values(a, q, end, dim, v);
    }
}

// ---- a team's work ----

// Splits that the team sees nothing of: the others wait for its arrivals.
DEVICE void skip_splits(SpanBarriers *b, u32 n, SpanTeam *team) {
#pragma unroll 1
    for (u32 i = 0; i < n; i++, team->split++) {
        wait_full(b->keys_full, team->split);
        arrive_at(b->keys_read, team->split);
#pragma unroll 1
        for (u32 use = team->split * SPLIT_TILES; use < (team->split + 1) * SPLIT_TILES; use++) {
            wait_full(b->values_full, use);
            arrive_at(b->values_read, use);
        }
    }
}

// Hides what rows do not see of a split, where there is any such.
DEVICE void hide_split(const SpanTeam &team, u32 first, float s[SPLIT_KEYS / 2]) {
    bool sees_all = first + SPLIT_KEYS - 1 <= team.first && first >= row_keys(team.end - 1).first;
    if (sees_all) return;
    // (Worked out here: kept over the loop, they would be registers.)
    u32 position = not_before(team.first) - first_query(team) / LIST_HEADS;
    RowKeys keys[2] = {row_keys(position + lane_query(team, 0) / LIST_HEADS),
                       row_keys(position + lane_query(team, 1) / LIST_HEADS)};
    hide_keys<SPLIT_PAGES>(keys, first, (float(*)[4])s);
}

// One split, whose scores are being made; and the begin of the next one's, if there is one.
DEVICE void multiply_split(const SpanTask &t, u32 split, bool more, u8 *shared, SpanTeam *team,
                           float s[SPLIT_KEYS / 2], SpanValues *group) {
    SpanBarriers *b = span_barriers(shared);
    float out[OUT_GROUPS * 4], keep[2], (*scores)[4] = (float(*)[4])s;
    u32 weights[SPLIT_TILES][TILE_PAGES][4], first = split * SPLIT_KEYS;
    SpanSums sums;
#ifdef KV_Q8
    KeyScales scales; // while the products go on
    load_key_scales(key_scales(shared, team->split), &scales);
    warpgroup_wait<0>();
    warpgroup_keep<SPLIT_KEYS / 2>(s);
    scale_scores(scales, s);
#else
    warpgroup_wait<0>();
    warpgroup_keep<SPLIT_KEYS / 2>(s);
#endif
    arrive_at(b->keys_read, team->split);
#ifdef SOFT_CAP
#pragma unroll
    for (u32 i = 0; i < SPLIT_KEYS / 2; i++) {
        s[i] = cap_score(s[i]);
    }
#endif
    hide_split(*team, first, s);
    sums_clear(&sums);
    weigh_tile(scores, &sums, weights[0], keep);
    wait_for_values(t, first, 0, shared, *team);
    begin_values<true>(shared, *team, 0, weights[0], out);
    wait_for_values(t, first, 1, shared, *team);
    weigh_tile(scores + 2 * TILE_PAGES, &sums, weights[1], keep);
    warpgroup_wait<0>();
    warpgroup_keep<OUT_GROUPS * 4>(out);
    arrive_at(b->values_read, team->split * SPLIT_TILES);
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS * 4; j++) {
        out[j] *= keep[j / 2 % 2];
    }
    begin_values<false>(shared, *team, 1, weights[1], out);
    if (more) {
        wait_full(b->keys_full, team->split + 1);
        begin_scores(shared, *team, team->split + 1, s);
        warpgroup_wait<1>();
    } else {
        warpgroup_wait<0>();
    }
    warpgroup_keep<OUT_GROUPS * 4>(out);
    arrive_at(b->values_read, team->split * SPLIT_TILES + 1);
    team->split++;
    join_group(shared, sums, out, group);
}

// Splits [begin, end), of which the team sees something.
DEVICE void multiply_splits(const BatchAttentionArgs &a, const SpanTask &t, u32 begin, u32 end, u8 *shared,
                            SpanTeam *team) {
    SpanBarriers *b = span_barriers(shared);
    SpanValues group;
    float s[SPLIT_KEYS / 2];
    bool is_part = !has_all_groups(a.stretches[t.number / LISTS]),
         one_group = !is_part && begin / GROUP_SPLITS == (end - 1) / GROUP_SPLITS;
    begin_group(shared, &group);
    wait_full(b->keys_full, team->split);
    begin_scores(shared, *team, team->split, s);
#pragma unroll 1
    for (u32 split = begin; split < end; split++) {
        multiply_split(t, split, split + 1 < end, shared, team, s, &group);
        if (!one_group && ((split + 1) % GROUP_SPLITS == 0 || split + 1 == end)) {
            u32 number = split / GROUP_SPLITS;
            float *triple = task_triple(a, t, is_part, number);
            join_total(task_values(triple, *team), is_part || number == begin / GROUP_SPLITS, shared, group);
            if (is_part) store_sums(triple, *team, shared);
            begin_group(shared, &group);
        }
    }
    warpgroup_wait<0>(); // nothing is under way, which the compiler does not see
    if (is_part) return;
    // (The task is loaded again: kept so long, it would be registers.)
    store_span_rows(a, span_task(a, t.number), *team, one_group, shared, group);
}

DEVICE void multiply_task(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared, SpanTeam *team) {
    SpanBarriers *b = span_barriers(shared);
    u32 row = first_query(*team) / LIST_HEADS, last = (first_query(*team) + 63) / LIST_HEADS;
    u32 first_of_all = first_split(t), end_of_all = end_split(t), begin = 0, end = 0;
    wait_full(b->queries_full, team->task);
    if (row < t.n_rows) {
        team->first = t.position + row;
        team->end = t.position + MIN(last + 1, t.n_rows);
        begin = MAX(row_keys(team->first).first / SPLIT_KEYS, first_of_all);
        end = MIN(CEIL_DIV(team->end, (u32)SPLIT_KEYS), end_of_all);
    }
    if (begin < end) {
        skip_splits(b, begin - first_of_all, team);
        multiply_splits(a, t, begin, end, shared, team);
        skip_splits(b, end_split(span_task(a, t.number)) - end, team);
    } else {
        skip_splits(b, end_of_all - first_of_all, team);
    }
    arrive_at(b->queries_read, team->task);
    team->task++;
}

// ---- a block ----

DEVICE void rings_begin(u8 *shared) {
    SpanBarriers *b = span_barriers(shared);
    if (thread_index() == 0) {
        for (u32 i = 0; i < KEY_SLOTS; i++) {
            bulk_barrier_init(&b->keys_full[i], FILL_WARPS);
            bulk_barrier_init(&b->keys_read[i], MULTIPLY_WARPS);
        }
        for (u32 i = 0; i < VALUE_SLOTS; i++) {
            bulk_barrier_init(&b->values_full[i], FILL_WARPS);
            bulk_barrier_init(&b->values_read[i], MULTIPLY_WARPS);
        }
        for (u32 i = 0; i < Q_SLOTS; i++) {
            bulk_barrier_init(&b->queries_full[i], Q_WARPS);
            bulk_barrier_init(&b->queries_read[i], MULTIPLY_WARPS);
        }
#ifdef KV_Q8
        for (u32 i = 0; i < CODE_RINGS * CODE_SLOTS; i++) {
            bulk_barrier_init(&b->codes_full[i / CODE_SLOTS][i % CODE_SLOTS], 1);
        }
#endif
        bulk_barrier_init_fence();
    }
    block_sync();
}

EXPORTED StageInfo span_attention_info = {SPAN_THREADS, {SPAN_BLOCKS, 1}, SPAN_SHARED_BYTES};

KERNEL(SPAN_THREADS, 1) span_attention(BatchAttentionArgs a) {
    stage_launch_next();
    u8 *shared = shared_memory();
    u32 n_tasks = load_shared_data(&a.batch->n_stretches[a.cut]) * LISTS, warp = uniform_warp();
    rings_begin(shared);
    stage_wait();
    if (warp >= MULTIPLY_WARPS) {
        registers_give<KEPT_REGISTERS>();
        u32 number = warp - MULTIPLY_WARPS, n_splits = 0, n = 0;
#ifdef KV_Q8
        CodeRing ring = {shared + CODES_AT + number * CODE_RING_BYTES,
                         span_barriers(shared)->codes_full[number], 0, 0};
        for_each_task(a, n_tasks,
                      [&](const SpanTask &t) { convert_task(a, t, shared, number, n++, &ring, &n_splits); });
#else
        if (number > Q_WARPS) return;
        for_each_task(a, n_tasks, [&](const SpanTask &t) {
            if (number == 0) fetch_task(a, t, shared, &n_splits);
            else fetch_queries(a, t, shared, number - 1, n++);
        });
#endif
    } else {
        registers_take<TAKEN_REGISTERS>();
        SpanTeam team = {};
        team.number = warp / TEAM_WARPS;
        for_each_task(a, n_tasks, [&](const SpanTask &t) { multiply_task(a, t, shared, &team); });
    }
}
