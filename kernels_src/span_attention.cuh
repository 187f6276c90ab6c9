// Batches with prompts: attention of rows in stretches, each of one sequence at positions one after the
// other, over the cache.
//
//     out[row][h] = softmax(q[row][h] K^T) V over the positions that the row sees
//
// f16 activations (rows.cuh). (OP_ATTENTION.) Order of sums: attend.cuh, so that a row has the bits that
// attention.cuh gives it. Flash attention (Dao 2023) with online softmax (Milakov, Gimelshein 2018): scores
// are never stored.
//
// Grid: SPAN_BLOCKS blocks. A task is a stretch of up to STRETCH_ROWS rows, or a part of one, and a list of
// heads that share keys (attend.cuh); the host has those with the most keys first. What the tensor cores
// take as rows are queries: of the stretch's first row all heads of the list, then of the second one, 16 a
// warp. So the heads of a row that decodes, which is a stretch by itself, read its keys together. All warps
// share the tiles, a ring in shared memory. There are blocks for the stretches of one long prompt, or, where
// rows are few, enough for the GPU; where stretches are shorter and more, a block takes several tasks in
// turn, since blocks that find none take time to start, too (ROW_BLOCKS_MAX).
//
// A split's triple is in registers; the group's, too, or with large heads in shared memory; the total's,
// which is wanted once in 1,024 keys, in `partial`; a part leaves each group's there (span_parts.cuh). (It
// may be where qkv.cuh's raw rows were.) Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh,
// span_parts.cuh. Defines: attend.cuh's, MAX_ROWS, SPAN_WARPS, HAS_SINKS; SPAN_BLOCKS_LEAST (1).
#if !defined(MAX_ROWS) || !defined(SPAN_WARPS)
#error "MAX_ROWS, SPAN_WARPS"
#endif
#ifndef SPAN_BLOCKS_LEAST
#define SPAN_BLOCKS_LEAST 1
#endif

// Whether two blocks with so much shared memory run on a multiprocessor, which keeps 1,024 bytes of each for
// itself.
#define FITS_TWICE(bytes) (2 * ((bytes) + 1024) <= SHARED_BYTES_MAX + 1024)

enum : u32 {
    SPAN_THREADS = SPAN_WARPS * WARP,
    QUERIES = SPAN_WARPS * 16,
    STRETCH_ROWS = layout_stretch_rows(N_HEADS, N_KV_HEADS, QUERIES),
    // Wide heads' values are taken in halves, each by a task of its own, which makes the scores again: a lane
    // has registers for 256 dims.
    DIM_PARTS = HEAD_DIM > 256 ? 2 : 1,
    SPAN_BLOCKS =
        MAX(CEIL_DIV(MAX_ROWS, STRETCH_ROWS) * LISTS, MIN((u32)SPAN_BLOCKS_LEAST, MAX_ROWS *LISTS)) *
        DIM_PARTS,
    PART_PAIRS = DIM_PAIRS / DIM_PARTS,
    OUT_GROUPS = 2 * PART_PAIRS,

    // Else registers. (8B's on sm_90: with it there ptxas has one register quad left for a page's values and
    // waits for each of its loads.)
    GROUP_IN_SHARED = HEAD_DIM > 128 || (HEAD_DIM > 64 && SHARED_BYTES_MAX >= 160 * 1024),
    GROUP_BYTES = GROUP_IN_SHARED ? QUERIES * PART_PAIRS * 16 * 4 : 0,
    IN_PARTS = GROUP_BYTES + TILE_BYTES + 64 > SHARED_BYTES_MAX, // keys, then values
    SLOT_BYTES = IN_PARTS ? TILE_BYTES / 2 : TILE_BYTES,
    PAGE_STRIDE = SLOT_BYTES / TILE_PAGES,
    VALUES_AT = PAGE_STRIDE - KV_PIECE_BYTES, // of a page
    Q_IN_SHARED =
        GROUP_BYTES + SLOT_BYTES + SPAN_WARPS * QUERY_PIECE_BYTES + 64 <= SHARED_BYTES_MAX, // else registers
    Q_BYTES = Q_IN_SHARED ? SPAN_WARPS * QUERY_PIECE_BYTES : 0,
    ONE_SLOT_BYTES = GROUP_BYTES + Q_BYTES + SLOT_BYTES + 64,
    TWO_SLOTS_BYTES = ONE_SLOT_BYTES + SLOT_BYTES,
    // Two blocks of one tile each are better than one of two.
    RING_SLOTS = !IN_PARTS && TWO_SLOTS_BYTES <= SHARED_BYTES_MAX &&
                         (FITS_TWICE(TWO_SLOTS_BYTES) || !FITS_TWICE(ONE_SLOT_BYTES))
                     ? 2
                     : 1,
    Q_AT = RING_SLOTS * SLOT_BYTES,   // 16 rows a warp
    GROUP_AT = Q_AT + Q_BYTES,        // [warp][groups of 8 dims][lane]float4
    FULL_AT = GROUP_AT + GROUP_BYTES, // a barrier a slot
    SPAN_SHARED_BYTES = FULL_AT + (SM_ARCH >= 90 ? RING_SLOTS * 8 : 0),
};
static_assert(DIM_PAIRS % DIM_PARTS == 0, "halves of whole pairs");
static_assert(!IN_PARTS || SM_ARCH < 90, "bulk copies bring whole tiles");

typedef Triple<OUT_GROUPS> RowsTriple;
enum : u32 { GROUP_TILES = GROUP_SPLITS * SPLIT_TILES };

// What a block attends to at a time.
struct SpanTask {
    u32 list;
    u32 first_pair;  // of 8 dims each: of its half
    u32 row, n_rows; // of the batch
    u32 position;    // of the first one
    u32 end;         // behind that of the last one
    u32 last;        // of the sequence's last row in the batch
    u32 first_tile, end_tile;
    u32 tiles_before; // tile t is the (tiles_before + t)-th of all that the block goes through
    const u32 *pages;
    bool is_part;
    u32 place; // of its total, or its stretch's groups
};
// n_before: tiles of the tasks that the block has behind it.
DEVICE SpanTask span_task(const BatchAttentionArgs &a, u32 task, u32 n_before) {
    RowStretch s = a.stretches[task / (LISTS * DIM_PARTS)];
    SpanTask t;
    t.list = task / DIM_PARTS % LISTS;
    t.first_pair = task % DIM_PARTS * PART_PAIRS;
    t.row = s.row;
    t.n_rows = s.n_rows;
    t.position = s.position;
    t.end = s.position + s.n_rows;
    t.last = s.last;
    t.first_tile = MAX(row_keys(s.position).first / TILE_KEYS, (u32)s.first_group * GROUP_TILES);
    t.end_tile = MIN(CEIL_DIV(t.end, (u32)TILE_KEYS), (u32)(s.first_group + s.n_groups) * GROUP_TILES);
    t.tiles_before = n_before - t.first_tile;
    t.pages = s.pages + a.list_at;
    t.is_part = !has_all_groups(s);
    t.place = s.place;
    return t;
}

// The query that is the lane's row g + 8 i.
DEVICE u32 lane_query(u32 i) {
    return warp_index() * 16 + lane_index() / 4 + i * 8;
}

// ---- the ring ----

DEVICE KvTile span_tile(const SpanTask &t, u32 tile) {
    return {t.pages, list_kv_head(t.list), tile, row_keys(t.position).first, t.last};
}
// Tile `tile`, if the block wants it, to its slot, which has been used. All threads call it.
DEVICE void fetch_tile(const BatchAttentionArgs &a, const SpanTask &t, u32 tile, u8 *shared) {
    if (tile < t.end_tile) {
        KvTile kv = span_tile(t, tile);
        u32 i = (t.tiles_before + tile) % RING_SLOTS;
        u8 *slot = shared + i * SLOT_BYTES;
#if SM_ARCH >= 90
        if (warp_index() == 0) bulk_copy_tile(a.kv, kv, slot, (BulkBarrier *)(shared + FULL_AT) + i);
#else
        copy_tile<SPAN_THREADS>(a.kv, kv, slot, thread_index(), IN_PARTS ? TILE_KEYS_ALONE : TILE_ALL);
#endif
    }
    copy_tile_commit();
}
// Until a tile is there, for all threads, and all have used the one before.
DEVICE void wait_for_tile(const SpanTask &t, u32 tile, u8 *shared) {
#if SM_ARCH >= 90
    u32 n = t.tiles_before + tile;
    bulk_barrier_wait((BulkBarrier *)(shared + FULL_AT) + n % RING_SLOTS, n / RING_SLOTS % 2);
#else
    copy_tile_wait<0>();
    (void)t, (void)tile, (void)shared;
#endif
    block_sync();
}
// IN_PARTS: the tile's values in the place of its keys, which all have used.
DEVICE void fetch_values(const BatchAttentionArgs &a, const SpanTask &t, u32 tile, u8 *shared) {
    block_sync();
    copy_tile<SPAN_THREADS>(a.kv, span_tile(t, tile), shared, thread_index(), TILE_VALUES_ALONE);
    copy_tile_commit();
    copy_tile_wait<0>();
    block_sync();
}

// Zeroes the values of a tile's tokens from `first` on. What lies past the sequence's last position may be
// anything, and 0 times infinity is not 0. (The task's last tile.)
DEVICE void clear_values(u8 *slot, u32 first) {
#ifdef KV_Q8
    for (u32 i = first + thread_index(); i < TILE_KEYS; i += SPAN_THREADS) { // scales: a code is a number
        u8 *values = slot + i / KV_PAGE * PAGE_STRIDE + VALUES_AT;
        *(u16 *)(values + layout_kv_scale_at(HEAD_DIM, i % KV_PAGE)) = 0;
    }
#else
    enum : u32 { UNITS = HEAD_DIM / 8 };
    for (u32 i = first * UNITS + thread_index(); i < TILE_KEYS * UNITS; i += SPAN_THREADS) {
        u32 token = i / UNITS;
        u8 *values = slot + token / KV_PAGE * PAGE_STRIDE + VALUES_AT;
        *(uint4 *)kv_row(values, token % KV_PAGE, i % UNITS) = {0, 0, 0, 0};
    }
#endif
#if SM_ARCH >= 90
    bulk_copy_fence(); // the next task's tile may come to the same place
#endif
    block_sync();
}

// ---- a warp's rows ----

template <bool in_shared> struct SpanQueries : QueryRegisters {
    DEVICE void load(const f16 *const row[2], u8 *) {
        load_queries(row, this);
    }
};
template <> struct SpanQueries<true> : QueryPiece {
    DEVICE void load(const f16 *const row[2], u8 *shared) {
        u8 *to = shared + Q_AT + warp_index() * QUERY_PIECE_BYTES;
        for (u32 i = 0; i < 2; i++) {
            for (u32 unit = lane_index() % 4; unit < HEAD_DIM / 8; unit += 4) {
                uint4 v = row[i] ? load_shared_data((const uint4 *)row[i] + unit) : uint4{0, 0, 0, 0};
                *(uint4 *)(to + query_row_at(lane_index() / 4 + i * 8, unit)) = v;
            }
        }
        warp_sync();
        piece = to;
    }
};

struct SpanRows {
    SpanQueries<Q_IN_SHARED> q;
    RowKeys keys[2]; // of rows g and g + 8
    u32 first, end;  // positions of the warp's queries; end 0: it has none
    RowsTriple group;
    float total_top[2], total_sum[2];
    bool has_group, has_total; // the warp's rows have seen something of it
};
// The split's triple. The values of the last split stay until the first tile multiplies them by 0.
struct SpanSplit {
    RowsTriple t;
    bool begun; // the warp's rows have seen something of it
};

DEVICE void load_span_rows(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared, SpanRows *r) {
    const f16 *from[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        SpanQuery q = span_query(t, lane_query(i));
        from[i] = q.is_there ? a.q + ((u64)q.row * N_HEADS + q.head) * HEAD_DIM : nullptr;
        r->keys[i] = row_keys(t.position + q.row - t.row);
    }
    r->q.load(from, shared);
    u32 first = warp_index() * 16 / LIST_HEADS, last = (warp_index() * 16 + 15) / LIST_HEADS;
    r->first = t.position + first;
    r->end = first < t.n_rows ? MIN(t.position + last + 1, t.end) : 0;
    r->has_group = r->has_total = false;
}

// Scores become weights, and what the split has is put to the new scale.
DEVICE void weigh_tile(const float s[2 * TILE_PAGES][4], SpanSplit *split, u32 weights[TILE_PAGES][4],
                       float sum[4]) {
    RowsTriple &t = split->t;
    float top[2] = {t.top[0], t.top[1]}, base[2], keep[2];
    raise_tops<TILE_PAGES>(s, top);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        base[i] = base_of(top[i]);
        keep[i] = exp2_fast(t.top[i] - base[i]);
        t.top[i] = top[i];
        sum[2 * i] = t.sum[i] * keep[i];
        sum[2 * i + 1] = 0;
    }
#pragma unroll
    for (u32 p = 0; p < TILE_PAGES; p++) {
        weigh_page(s + 2 * p, base, weights[p]);
    }
    split->begun = true;
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS; j++) {
        t.out[j][0] *= keep[0], t.out[j][1] *= keep[0];
        t.out[j][2] *= keep[1], t.out[j][3] *= keep[1];
    }
}

DEVICE void add_tile(const BatchAttentionArgs &a, const SpanTask &t, u32 tile, u8 *shared, const SpanRows &r,
                     SpanSplit *split) {
    u8 *slot = shared + (t.tiles_before + tile) % RING_SLOTS * SLOT_BYTES;
    u32 first = tile * TILE_KEYS;
    // Else the warp sees none of it.
    bool sees = first < r.end && first + TILE_KEYS > row_keys(r.first).first;
    float s[2 * TILE_PAGES][4], sum[4];
    u32 weights[TILE_PAGES][4];
    if (sees) {
        score_pages<TILE_PAGES>(
            r.q, [&](u32 p) { return slot + p * PAGE_STRIDE; }, s);
        bool sees_all = first + TILE_KEYS - 1 <= r.first && first >= row_keys(r.end - 1).first;
        if (!sees_all) hide_keys<TILE_PAGES>(r.keys, first, s);
        weigh_tile(s, split, weights, sum);
    }
    if (IN_PARTS) fetch_values(a, t, tile, shared);
    if (t.last < first + TILE_KEYS - 1) clear_values(slot, t.last - first + 1);
    if (!sees) return;
    const u32 ones[2] = {ONES_F16, ONES_F16};
#pragma unroll
    for (u32 p = 0; p < TILE_PAGES; p++) {
        add_page<PART_PAIRS, 1, false>(weights[p], slot + p * PAGE_STRIDE + VALUES_AT, t.first_pair, KV_PAGE,
                                       split->t.out);
        mma_f16(sum, weights[p], ones);
    }
    split->t.sum[0] = sum[0], split->t.sum[1] = sum[2];
}

// ---- folds ----

// A triple's values in memory: [OUT_GROUPS], WARP apart.
DEVICE float4 *group_in_shared(u8 *shared) {
    return (float4 *)(shared + GROUP_AT) + warp_index() * OUT_GROUPS * WARP + lane_index();
}
// The task's triple: its total, or, of a part, that of a group.
DEVICE float *task_triple(const BatchAttentionArgs &a, const SpanTask &t, u32 group) {
    return span_triple(a.partial, t.place + (t.is_part ? group : 0), t.list, QUERIES);
}
DEVICE float4 *task_values(const BatchAttentionArgs &a, const SpanTask &t, u32 group) {
    return triple_values(task_triple(a, t, group), warp_index(), t.first_pair * 2);
}
DEVICE float4 values_of(const RowsTriple &t, u32 j) {
    return {t.out[j][0], t.out[j][1], t.out[j][2], t.out[j][3]};
}
DEVICE float4 group_values(const SpanRows &r, u8 *shared, u32 j) {
    return GROUP_IN_SHARED ? group_in_shared(shared)[j * WARP] : values_of(r.group, j);
}

// Folds a triple, whose values value(j) gives, into one whose values are in memory; `begins`: it takes their
// place.
template <class Value>
DEVICE void fold_into(float4 *to, float top[2], float sum[2], bool begins, const float other_top[2],
                      const float other_sum[2], Value value) {
    FoldFactors f[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (begins) {
            top[i] = other_top[i], sum[i] = other_sum[i];
        } else {
            f[i] = fold_factors(&top[i], other_top[i]);
            sum[i] = fma_f32(sum[i], f[i].keep, other_sum[i] * f[i].add);
        }
    }
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS; j++) {
        float4 v = value(j);
        if (!begins) {
            float4 o = to[j * WARP];
            v = {fma_f32(o.x, f[0].keep, v.x * f[0].add), fma_f32(o.y, f[0].keep, v.y * f[0].add),
                 fma_f32(o.z, f[1].keep, v.z * f[1].add), fma_f32(o.w, f[1].keep, v.w * f[1].add)};
        }
        to[j * WARP] = v;
    }
}

DEVICE void end_split(SpanRows *r, const SpanSplit &split, u8 *shared) {
    if (!split.begun) return;
    if (GROUP_IN_SHARED) {
        fold_into(group_in_shared(shared), r->group.top, r->group.sum, !r->has_group, split.t.top,
                  split.t.sum, [&](u32 j) { return values_of(split.t, j); });
    } else if (r->has_group) {
        triple_fold(&r->group, split.t);
    } else {
        r->group = split.t;
    }
    r->has_group = true;
}

// Joins the total, of which there is one only where the task goes through several groups; or is what a part
// leaves.
DEVICE void end_group(const BatchAttentionArgs &a, const SpanTask &t, u32 number, SpanRows *r, u8 *shared) {
    if (!r->has_group) return;
    fold_into(task_values(a, t, number), r->total_top, r->total_sum, t.is_part || !r->has_total, r->group.top,
              r->group.sum, [&](u32 j) { return group_values(*r, shared, j); });
    for (u32 i = 0; i < 2 && t.is_part && lane_index() % 4 == 0; i++) {
        *triple_sums(task_triple(a, t, number), lane_query(i), QUERIES) = {r->group.top[i], r->group.sum[i]};
    }
    r->has_total = true;
    r->has_group = false;
}

// The result is the total, where there is one, or the one group.
DEVICE void store_span_rows(const BatchAttentionArgs &a, const SpanTask &t, const SpanRows &r, u8 *shared) {
    SpanEnd end[2];
    SpanQuery q[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        q[i] = span_query(t, lane_query(i));
        end[i] = span_end(a, q[i], r.has_total ? r.total_top[i] : r.group.top[i],
                          r.has_total ? r.total_sum[i] : r.group.sum[i]);
    }
#pragma unroll
    for (u32 j = 0; j < OUT_GROUPS; j++) {
        float4 v = r.has_total ? task_values(a, t, 0)[j * WARP] : group_values(r, shared, j);
        store_span_values(a, q, end, t.first_pair * 16 + j * 8 + lane_index() % 4 * 2, v);
    }
}

// ---- a block ----

DEVICE void ring_begin(u8 *shared) {
#if SM_ARCH >= 90
    if (thread_index() == 0) {
        for (u32 i = 0; i < RING_SLOTS; i++) {
            bulk_barrier_init((BulkBarrier *)(shared + FULL_AT) + i, 1);
        }
        bulk_barrier_init_fence();
    }
    block_sync();
#endif
    (void)shared;
}

DEVICE void span_task_run(const BatchAttentionArgs &a, const SpanTask &t, u8 *shared) {
    fetch_tile(a, t, t.first_tile, shared);
    SpanRows r;
    load_span_rows(a, t, shared, &r);
    bool one_group = !t.is_part && t.first_tile / GROUP_TILES == (t.end_tile - 1) / GROUP_TILES;
    SpanSplit split;
    triple_clear(&split.t);
    for (u32 tile = t.first_tile; tile < t.end_tile;) {
        split.begun = false;
        split.t.top[0] = split.t.top[1] = -INFINITY_F32;
        split.t.sum[0] = split.t.sum[1] = 0;
        for (u32 end = MIN((tile / SPLIT_TILES + 1) * SPLIT_TILES, t.end_tile); tile < end; tile++) {
            wait_for_tile(t, tile, shared);
            if (RING_SLOTS > 1) fetch_tile(a, t, tile + 1, shared);
            add_tile(a, t, tile, shared, r, &split);
            if (RING_SLOTS == 1) {
                block_sync();
                fetch_tile(a, t, tile + 1, shared);
            }
        }
        end_split(&r, split, shared);
        if (!one_group && (tile % GROUP_TILES == 0 || tile == t.end_tile)) {
            end_group(a, t, (tile - 1) / GROUP_TILES, &r, shared);
        }
    }
    copy_tile_wait<0>();
    if (!t.is_part) store_span_rows(a, t, r, shared);
}

DEVICE void span_attention_run(const BatchAttentionArgs &a, u32 n_tasks, u32 block, u8 *shared) {
    u32 n_tiles = 0;
    if (block < n_tasks) ring_begin(shared);
    for (u32 task = block; task < n_tasks; task += SPAN_BLOCKS) {
        SpanTask t = span_task(a, task, n_tiles);
        if (t.first_tile >= t.end_tile) continue; // a part whose keys no row sees
        span_task_run(a, t, shared);
        n_tiles += t.end_tile - t.first_tile;
        warp_sync(); // its queries have been used
    }
}

EXPORTED StageInfo span_attention_info = {SPAN_THREADS, {SPAN_BLOCKS, 1}, SPAN_SHARED_BYTES};

KERNEL(SPAN_THREADS, 2) span_attention(BatchAttentionArgs a) {
    stage_launch_next();
    u32 n_tasks = load_shared_data(&a.batch->n_stretches[a.cut]) * LISTS * DIM_PARTS;
    stage_wait();
    span_attention_run(a, n_tasks, block_index(), shared_memory());
}
