// Batches: attention of rows of any sequences, each with its own position and pages, over the cache.
//
//     out[row][h] = softmax(q[row][h] K^T) V over the positions that the row sees
//
// f16 activations (rows.cuh). (OP_ATTENTION.) Order of sums: attend.cuh.
//
// Grid: BLOCKS blocks, whatever the rows are. The work is a list of splits: row by row, of a row KV head by
// KV head (with more than 16 heads a KV head, 16 at a time), of those split by split. Each block takes `per`
// of the list, so that all have the same number of keys to read; it goes through them with a ring of tiles
// in shared memory. Heads that share a KV head are the 16 rows of a product. The four warps share a tile: a
// page of keys each, then some dims of the values each.
//
// Who folds. A block that has all splits of a group folds them in registers. Else each block leaves its
// splits' triples in `partial`, and the last one that comes to the group's counter folds them. The same with
// groups and the row's total. (One block that merged all splits of a row would read 256 KB at 16,384 keys:
// 34.8 µs, in two levels 24.5; 8B's heads, with the output stage behind it.)
//     partial   [BLOCKS][8] splits' triples, of the group that the block begins and does not end; then
//               [shared lists][GROUPS_MAX] groups' triples
//     a triple  out [heads][HEAD_DIM], {largest score, sum} [heads]
//     meetings  [BLOCKS] of groups, [BLOCKS] of rows' lists
//
// Before stage_wait a block fetches tiles that no row of this batch can have written.
// Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh. Defines: attend.cuh's, MAX_ROWS, BLOCKS,
// RING_BYTES (of tiles; at least half a tile), GROUPS_MAX (groups of the longest sequence), HAS_SINKS.
#if !defined(MAX_ROWS) || !defined(BLOCKS) || !defined(RING_BYTES) || !defined(GROUPS_MAX)
#error "MAX_ROWS, BLOCKS, RING_BYTES, GROUPS_MAX"
#endif

enum : u32 {
    ATTEND_WARPS = TILE_PAGES,
    ATTEND_THREADS = ATTEND_WARPS * WARP,
    KV_HEAD_SHARERS = N_HEADS / N_KV_HEADS,
    LISTS = layout_attention_lists(N_HEADS, N_KV_HEADS), // of a row
    LIST_PARTS = LISTS / N_KV_HEADS,                     // of a KV head
    LIST_HEADS = layout_attention_heads(N_HEADS, N_KV_HEADS),
    SHARED_LISTS = layout_attention_shared_lists(N_HEADS, N_KV_HEADS, MAX_ROWS, BLOCKS),
    TRIPLE_FLOATS = layout_attention_triple_floats(N_HEADS, N_KV_HEADS, HEAD_DIM),
    WARP_PAIRS = CEIL_DIV(DIM_PAIRS, ATTEND_WARPS), // of 8 dims: warp w has pairs w, w + 4, …
    WARP_DIMS = 2 * WARP_PAIRS,                     // groups of 8

    IN_PARTS = TILE_BYTES > RING_BYTES, // keys, then values
    RING_SLOTS = IN_PARTS ? 1 : RING_BYTES / TILE_BYTES,
    SLOT_BYTES = IN_PARTS ? TILE_BYTES / 2 : TILE_BYTES,
    PAGE_STRIDE = SLOT_BYTES / TILE_PAGES,
    VALUES_AT = PAGE_STRIDE - KV_PIECE_BYTES, // of a page

    // Shared memory.
    WEIGHTS_AT = RING_SLOTS * SLOT_BYTES,         // [16 heads][TILE_KEYS] f16, units of 16 bytes xor head % 8
    TOPS_AT = WEIGHTS_AT + 16 * TILE_KEYS * 2,    // [warp][16 heads]
    QUERIES_AT = TOPS_AT + ATTEND_WARPS * 16 * 4, // as 16 tokens of a page's keys
    LAST_AT = QUERIES_AT + KV_PIECE_BYTES,
    FULL_AT = LAST_AT + 16, // a barrier a slot
    ATTENTION_SHARED_BYTES = FULL_AT + RING_SLOTS * 8,
};
static_assert(KV_HEAD_SHARERS * N_KV_HEADS == N_HEADS, "heads share keys and values evenly");
static_assert(RING_SLOTS > 0 && (!IN_PARTS || RING_BYTES >= SLOT_BYTES), "RING_BYTES");
static_assert(!IN_PARTS || SM_ARCH < 90, "bulk copies bring whole tiles");

typedef Triple<WARP_DIMS> WarpTriple;

// ---- the list of splits ----

DEVICE u32 first_split(const RowKeys &row) {
    return row.first / SPLIT_KEYS;
}
DEVICE u32 end_split(const RowKeys &row) {
    return row.position / SPLIT_KEYS + 1;
}
// Pieces of so many keys (splits, groups) of all lists of a row; 0 past the batch's rows.
template <u32 keys> DEVICE u32 row_pieces(const BatchAttentionArgs &a, u32 n_rows, u32 row) {
    if (row >= n_rows) return 0;
    RowKeys r = row_keys(a.rows[row].position);
    return (r.position / keys + 1 - r.first / keys) * LISTS;
}

// Of 32 rows, a lane each: the sum over the lanes up to this one.
DEVICE u32 sum_up_to(u32 v) {
#pragma unroll
    for (u32 d = 1; d < WARP; d *= 2) {
        u32 below = shuffle_up(v, d);
        if (lane_index() >= d) v += below;
    }
    return v;
}

template <u32 keys> DEVICE u32 count_pieces(const BatchAttentionArgs &a, u32 n_rows) {
    if (MAX_ROWS == 1) return row_pieces<keys>(a, 1, 0);
    u32 total = 0;
    for (u32 first = 0; first < n_rows; first += WARP) {
        total += shuffle(sum_up_to(row_pieces<keys>(a, n_rows, first + lane_index())), WARP - 1);
    }
    return total;
}

// Where a block is in the list. All lanes have the same.
struct ListPlace {
    u32 row, list;
    u32 split, end; // of the list
    RowKeys keys;
    u32 base; // the list's first split, in the whole list
};
DEVICE void enter_row(const BatchAttentionArgs &a, ListPlace *p, u32 row) {
    p->row = row;
    p->keys = row_keys(a.rows[row].position);
    p->end = end_split(p->keys);
}
// The place of piece `at` of the whole list, in pieces; `at` is below the list's length.
template <u32 keys> DEVICE ListPlace find_place(const BatchAttentionArgs &a, u32 n_rows, u32 at) {
    ListPlace p;
    u32 row = 0, before = 0; // rows and pieces before this row
    while (MAX_ROWS > 1) {
        u32 own = row_pieces<keys>(a, n_rows, row + lane_index()), up_to = before + sum_up_to(own);
        u32 reached = ballot_lanes(at < up_to);
        if (reached) {
            u32 lane = count_ones((reached & -reached) - 1);
            before = shuffle(up_to - own, lane);
            row += lane;
            break;
        }
        before = shuffle(up_to, WARP - 1);
        row += WARP;
    }
    enter_row(a, &p, row);
    u32 first = p.keys.first / keys, n = p.keys.position / keys + 1 - first;
    p.end = first + n;
    p.list = (at - before) / n;
    p.base = before + p.list * n;
    p.split = first + at - p.base;
    return p;
}
// To the first split of the next list, of which there is one.
DEVICE void next_list(const BatchAttentionArgs &a, ListPlace *p) {
    p->base += p->end - first_split(p->keys);
    if (++p->list == LISTS) {
        p->list = 0;
        enter_row(a, p, p->row + 1);
    }
    p->split = first_split(p->keys);
}

DEVICE u32 first_tile(const ListPlace &p) {
    return MAX(p.split * SPLIT_TILES, p.keys.first / TILE_KEYS);
}
DEVICE u32 end_tile(const ListPlace &p) {
    return MIN((p.split + 1) * SPLIT_TILES, p.keys.position / TILE_KEYS + 1);
}

// ---- the ring ----

// The tiles of the block's splits as they are fetched, ahead of their use.
struct Fetches {
    ListPlace place;
    u32 left; // splits, with that of `tile`
    u32 tile;
    u32 n; // fetched so far
    const u32 *pages;
};
DEVICE void fetches_begin(const BatchAttentionArgs &a, const ListPlace &p, u32 n_splits, Fetches *f) {
    *f = {p, n_splits, first_tile(p), 0, a.rows[p.row].pages};
}
// Whether the next tile is complete since before this batch, whose rows may be of one sequence.
DEVICE bool is_old_tile(const Fetches &f, u32 n_rows) {
    return (f.tile + 1) * TILE_KEYS + n_rows - 1 <= f.place.keys.position;
}
DEVICE KvTile fetched_tile(const Fetches &f) {
    return {f.pages, f.place.list / LIST_PARTS, f.tile, f.place.keys.position};
}
DEVICE void fetches_advance(const BatchAttentionArgs &a, Fetches *f) {
    f->n++;
    if (++f->tile < end_tile(f->place)) return;
    if (--f->left == 0) return;
    if (++f->place.split == f->place.end) {
        next_list(a, &f->place);
        f->pages = a.rows[f->place.row].pages;
    }
    f->tile = first_tile(f->place);
}
// Sets off the next tile's copy, if there is one. All threads call it; their slot has been used.
DEVICE void fetch_next(const BatchAttentionArgs &a, u8 *shared, Fetches *f) {
    if (f->left > 0) {
        u8 *slot = shared + f->n % RING_SLOTS * SLOT_BYTES;
#if SM_ARCH >= 90
        if (warp_index() == 0) {
            bulk_copy_tile(a.kv, fetched_tile(*f), slot,
                           (BulkBarrier *)(shared + FULL_AT) + f->n % RING_SLOTS);
        }
#else
        copy_tile<ATTEND_THREADS>(a.kv, fetched_tile(*f), slot, IN_PARTS ? TILE_KEYS_ALONE : TILE_ALL);
#endif
        if (!IN_PARTS) fetches_advance(a, f); // else with the values
    }
    copy_tile_commit();
}
// Before the first copy, by all threads; a barrier has to follow.
DEVICE void ring_begin(u8 *shared) {
#if SM_ARCH >= 90
    if (thread_index() > 0) return;
    for (u32 i = 0; i < RING_SLOTS; i++) {
        bulk_barrier_init((BulkBarrier *)(shared + FULL_AT) + i, 1);
    }
    bulk_barrier_init_fence();
#endif
    (void)shared;
}
// The ring's first tiles, and stage_wait between those that may come before it and the others.
DEVICE void fetch_first(const BatchAttentionArgs &a, u8 *shared, u32 n_rows, Fetches *f) {
    while (!IN_PARTS && f->left > 0 && f->n < RING_SLOTS && is_old_tile(*f, n_rows)) {
        fetch_next(a, shared, f);
    }
    stage_wait();
    // One commit a slot, whether there is a tile or not: waits count them.
    for (u32 i = f->n; i < RING_SLOTS; i++) {
        fetch_next(a, shared, f);
    }
}
// Until tile number `n` is there, for all threads.
DEVICE void wait_for_tile(u8 *shared, u32 n) {
#if SM_ARCH >= 90
    bulk_barrier_wait((BulkBarrier *)(shared + FULL_AT) + n % RING_SLOTS, n / RING_SLOTS % 2);
#else
    copy_tile_wait<(RING_SLOTS > 2 ? RING_SLOTS - 2 : 0)>();
    block_sync();
    (void)shared, (void)n;
#endif
}
// IN_PARTS: in the place of the keys, which have been used.
DEVICE void fetch_values(const BatchAttentionArgs &a, u8 *shared, Fetches *f) {
    block_sync();
    copy_tile<ATTEND_THREADS>(a.kv, fetched_tile(*f), shared, TILE_VALUES_ALONE);
    fetches_advance(a, f);
    copy_tile_commit();
    copy_tile_wait<0>();
    block_sync();
}

// ---- a tile ----

// The largest scores over the four warps' pages.
DEVICE void share_tops(u8 *shared, float top[2]) {
    float *tops = (float *)(shared + TOPS_AT);
    u32 g = lane_index() / 4;
    if (lane_index() % 4 == 0) {
        tops[warp_index() * 16 + g] = top[0];
        tops[warp_index() * 16 + 8 + g] = top[1];
    }
    block_sync();
#pragma unroll
    for (u32 w = 0; w < ATTEND_WARPS; w++) {
        top[0] = max_f32(top[0], tops[w * 16 + g]);
        top[1] = max_f32(top[1], tops[w * 16 + 8 + g]);
    }
}

DEVICE u8 *weights_at(u8 *shared, u32 head, u32 unit) {
    return shared + WEIGHTS_AT + head * TILE_KEYS * 2 + (unit ^ head % 8) * 16;
}
DEVICE void store_weights(u8 *shared, const u32 weights[4]) {
    u32 g = lane_index() / 4, c = lane_index() % 4;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        *(u32 *)(weights_at(shared, g + i % 2 * 8, warp_index() * 2 + i / 2) + c * 4) = weights[i];
    }
}

// Of the tile's four pages, of which the first `there` values are there; this warp's dims.
template <bool masked>
DEVICE void add_values(u8 *shared, const u8 *slot, i32 there, float sum[4], WarpTriple *t) {
    const u32 ones[2] = {ONES_F16, ONES_F16};
#pragma unroll
    for (u32 p = 0; p < TILE_PAGES; p++) {
        u32 w[4];
        load_matrix_4(w, weights_at(shared, lane_index() % 16, 2 * p + lane_index() / 16));
        add_page<WARP_PAIRS, ATTEND_WARPS, masked>(w, slot + p * PAGE_STRIDE + VALUES_AT, warp_index(),
                                                   there - (i32)(p * KV_PAGE), t->out);
        mma_f16(sum, w, ones);
    }
}

// Adds the tile number n of the block, which is in the ring.
DEVICE void add_tile(const BatchAttentionArgs &a, u8 *shared, const QueryPiece &q, const RowKeys &keys,
                     u32 tile, u32 n, Fetches *f, WarpTriple *t) {
    const u8 *slot = shared + n % RING_SLOTS * SLOT_BYTES;
    u32 page = tile * TILE_PAGES + warp_index();
    RowKeys rows[2] = {keys, keys};
    float s[2][4], top[2] = {t->top[0], t->top[1]}, base[2], keep[2];
    wait_for_tile(shared, n);
    score_pages<1, PAGE_STRIDE>(q, slot + warp_index() * PAGE_STRIDE, s);
    hide_keys<1>(rows, page * KV_PAGE, s);
    raise_tops<1>(s, top);
    share_tops(shared, top);
    if (RING_SLOTS > 1 && n > 0) fetch_next(a, shared, f); // all warps have used the tile before
    if (IN_PARTS) fetch_values(a, shared, f);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        base[i] = base_of(top[i]);
        keep[i] = exp2_fast(t->top[i] - base[i]);
        t->top[i] = top[i];
    }
    u32 weights[4];
    weigh_page(s, base, weights);
    store_weights(shared, weights);
    block_sync();
#pragma unroll
    for (u32 j = 0; j < WARP_DIMS; j++) {
        t->out[j][0] *= keep[0], t->out[j][1] *= keep[0];
        t->out[j][2] *= keep[1], t->out[j][3] *= keep[1];
    }
    float sum[4] = {t->sum[0] * keep[0], 0, t->sum[1] * keep[1], 0};
    i32 there = (i32)(keys.position + 1) - (i32)(tile * TILE_KEYS);
    if (there < (i32)TILE_KEYS) add_values<true>(shared, slot, there, sum, t);
    else add_values<false>(shared, slot, there, sum, t);
    t->sum[0] = sum[0], t->sum[1] = sum[2];
    if (RING_SLOTS == 1) {
        block_sync();
        fetch_next(a, shared, f);
    }
}

// ---- triples in memory ----

// Calls f(i, head, j, dim) for what the lane has: row i of its two, group j of 8 dims. n / 2 pairs of groups,
// from `first` on.
template <u32 n, class F> DEVICE void for_each_pair(u32 first, F f) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head >= LIST_HEADS) continue;
#pragma unroll
        for (u32 j = 0; j < n; j++) {
            u32 pair = first + j / 2 * ATTEND_WARPS;
            if (DIM_PAIRS % ATTEND_WARPS && pair >= DIM_PAIRS) continue;
            f(i, head, j, pair * 16 + j % 2 * 8 + lane_index() % 4 * 2);
        }
    }
}

// with_tops: of this warp's copy of the largest scores and sums.
template <u32 n> DEVICE void store_triple(float *to, const Triple<n> &t, u32 first, bool with_tops) {
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        *(float2 *)(to + head * HEAD_DIM + dim) = {t.out[j][2 * i], t.out[j][2 * i + 1]};
    });
    float2 *tops = (float2 *)(to + LIST_HEADS * HEAD_DIM);
    if (!with_tops || lane_index() % 4 > 0) return;
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head < LIST_HEADS) tops[head] = {t.top[i], t.sum[i]};
    }
}

template <u32 n> DEVICE void load_triple(const float *from, Triple<n> *t, u32 first) {
    triple_clear(t);
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 v = load_shared_data((const float2 *)(from + head * HEAD_DIM + dim));
        t->out[j][2 * i] = v.x, t->out[j][2 * i + 1] = v.y;
    });
    const float2 *tops = (const float2 *)(from + LIST_HEADS * HEAD_DIM);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head >= LIST_HEADS) continue;
        float2 v = load_shared_data(tops + head);
        t->top[i] = v.x, t->sum[i] = v.y;
    }
}

// The fold of `count` triples in memory, in their order. Several are loaded at once: one after the other,
// each would cost the way to the L2 (8 of them: 4 µs).
template <u32 n> DEVICE void fold_stored(const float *from, u32 count, Triple<n> *t, u32 first) {
    enum : u32 { AT_ONCE = n * CEIL_DIV(LIST_HEADS, 8) <= 4 ? 4 : 2 }; // what registers hold
    for (u32 begin = 0; begin < count; begin += AT_ONCE) {
        Triple<n> next[AT_ONCE];
#pragma unroll
        for (u32 k = 0; k < AT_ONCE; k++) {
            if (begin + k < count) load_triple(from + (u64)(begin + k) * TRIPLE_FLOATS, &next[k], first);
        }
#pragma unroll
        for (u32 k = 0; k < AT_ONCE; k++) {
            if (begin + k >= count) break;
            if (begin + k == 0) *t = next[0];
            else triple_fold(t, next[k]);
        }
    }
}

template <u32 n>
DEVICE void store_result(const BatchAttentionArgs &a, const ListPlace &p, Triple<n> *t, u32 first) {
    u32 first_head = p.list / LIST_PARTS * KV_HEAD_SHARERS + p.list % LIST_PARTS * 16;
    float inverse[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
#ifdef HAS_SINKS
        u32 head = lane_index() / 4 + i * 8;
        if (head < LIST_HEADS && first_head + head < N_HEADS)
            triple_add_sink(t, i, a.sinks[first_head + head]);
#endif
        inverse[i] = reciprocal_fast(t->sum[i]);
    }
    u32 end_head = (p.list / LIST_PARTS + 1) * KV_HEAD_SHARERS;
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        if (first_head + head >= end_head) return;
        activation_store_2(a.out, p.row, (first_head + head) * HEAD_DIM + dim,
                           attended(t->out[j][2 * i], inverse[i]),
                           attended(t->out[j][2 * i + 1], inverse[i]));
    });
}

// ---- a block ----

struct BlockWork {
    u32 per; // splits of the list a block
    u32 left;
    u32 n_tiles; // used so far
};

DEVICE bool is_last_of(const BatchAttentionArgs &a, u8 *shared, u32 meeting, u32 n, u32 total) {
    return is_last_arrival(a.meetings + meeting, n, total, (u32 *)(shared + LAST_AT));
}

// The list's queries to shared memory, for all warps, which have used those before.
DEVICE QueryPiece load_list_queries(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p) {
    enum : u32 { UNITS = HEAD_DIM / 8 };
    u32 first_head = p.list / LIST_PARTS * KV_HEAD_SHARERS + p.list % LIST_PARTS * 16;
    u32 end_head = (p.list / LIST_PARTS + 1) * KV_HEAD_SHARERS;
    const f16 *row = a.q + (u64)p.row * N_HEADS * HEAD_DIM;
    for (u32 i = thread_index(); i < 16 * UNITS; i += ATTEND_THREADS) {
        u32 head = first_head + i / UNITS;
        uint4 v = head < end_head ? load_shared_data((const uint4 *)(row + head * HEAD_DIM) + i % UNITS)
                                  : uint4{0, 0, 0, 0};
        *(uint4 *)kv_row(shared + QUERIES_AT, i / UNITS, i % UNITS) = v;
    }
    block_sync();
    return {shared + QUERIES_AT};
}

// The splits [p->split, end) of a group, all of this block. True: the group's triple is in *group; false:
// another block folds it. The group's splits are [first, last).
DEVICE bool attend_group(const BatchAttentionArgs &a, u8 *shared, const QueryPiece &q, ListPlace *p, u32 end,
                         u32 first, u32 last, Fetches *f, BlockWork *w, WarpTriple *group) {
    u32 n = end - p->split,
        begin = (p->base + first - first_split(p->keys)) / w->per; // the block that begins it
    bool whole = p->split == first && end == last;
    float *splits = a.partial + (u64)begin * GROUP_SPLITS * TRIPLE_FLOATS;
    for (; p->split < end; p->split++) {
        WarpTriple t;
        triple_clear(&t);
        for (u32 tile = first_tile(*p); tile < end_tile(*p); tile++) {
            add_tile(a, shared, q, p->keys, tile, w->n_tiles++, f, &t);
        }
        if (!whole)
            store_triple(splits + (p->split - first) * TRIPLE_FLOATS, t, warp_index(), warp_index() == 0);
        else if (p->split == first) *group = t;
        else triple_fold(group, t);
    }
    if (whole) return true;
    if (!is_last_of(a, shared, begin, n, last - first)) return false;
    fold_stored(splits, last - first, group, warp_index());
    return true;
}

// The block's splits of one list, up to `end`.
DEVICE void attend_list(const BatchAttentionArgs &a, u8 *shared, ListPlace *p, u32 end, Fetches *f,
                        BlockWork *w) {
    u32 first = first_split(p->keys), first_group = first / GROUP_SPLITS;
    u32 n_groups = (p->end - 1) / GROUP_SPLITS + 1 - first_group, n_done = 0;
    bool whole = p->split == first && end == p->end;
    u32 shared_list = MAX_ROWS * LISTS <= BLOCKS ? p->row * LISTS + p->list : p->base / w->per;
    float *groups = a.partial + ((u64)BLOCKS * GROUP_SPLITS + (u64)shared_list * GROUPS_MAX) * TRIPLE_FLOATS;
    WarpTriple total, group;
    QueryPiece q = load_list_queries(a, shared, *p);
    while (p->split < end) {
        u32 number = p->split / GROUP_SPLITS;
        u32 group_first = MAX(number * GROUP_SPLITS, first),
            group_last = MIN((number + 1) * GROUP_SPLITS, p->end);
        if (!attend_group(a, shared, q, p, MIN(end, group_last), group_first, group_last, f, w, &group))
            continue;
        n_done++;
        if (!whole && n_groups > 1) {
            store_triple(groups + (u64)(number - first_group) * TRIPLE_FLOATS, group, warp_index(),
                         warp_index() == 0);
        } else if (number == first_group) total = group;
        else triple_fold(&total, group);
    }
    if (n_done == 0) return;
    if (!whole && n_groups > 1) {
        if (!is_last_of(a, shared, BLOCKS + shared_list, n_done, n_groups)) return;
        fold_stored(groups, n_groups, &total, warp_index());
    }
    store_result(a, *p, &total, warp_index());
}

DEVICE void attention_run(const BatchAttentionArgs &a, u32 block, u8 *shared) {
    u32 n_rows = a.batch->n_rows, n_splits = count_pieces<SPLIT_KEYS>(a, n_rows);
    BlockWork w = {CEIL_DIV(n_splits, (u32)BLOCKS), 0, 0};
    u32 at = block * w.per;
    if (at >= n_splits) return;
    w.left = MIN(w.per, n_splits - at);
    ListPlace p = find_place<SPLIT_KEYS>(a, n_rows, at);
    Fetches f;
    fetches_begin(a, p, w.left, &f);
    ring_begin(shared);
    block_sync();
    fetch_first(a, shared, n_rows, &f);
    while (w.left > 0) {
        u32 n = MIN(w.left, p.end - p.split);
        w.left -= n;
        attend_list(a, shared, &p, p.split + n, &f, &w);
        if (w.left > 0) next_list(a, &p);
    }
    copy_tile_wait<0>();
}

#ifndef CLUSTERS // attention_clusters.cuh
EXPORTED StageInfo attention_info = {ATTEND_THREADS, {BLOCKS, 1}, ATTENTION_SHARED_BYTES};

KERNEL(ATTEND_THREADS, 1) attention(BatchAttentionArgs a) {
    stage_launch_next();
    attention_run(a, block_index(), shared_memory());
}
#endif
