// Attention over a compressed cache: all heads share one key a position, whose first KV_RANK values are its
// value, too.
//
//     out[row][head] = softmax(q[row][head] K^T) V over the positions up to the row's; V = the start of K
//
// f16 [MAX_ROWS][N_HEADS][KV_RANK]. (OP_ATTENTION.) Order of sums: attend.cuh, so a row has the same bits
// whichever class it is in.
//
// Grid: MLA_BLOCKS blocks. A block takes MLA_QUERIES queries at a time, the rows of the tensor cores, and
// goes through the keys that they share once: of a row that decodes (mla_list.cuh) heads of it and a run of
// splits, whose triples mla_fold.cuh folds; MLA_STRETCHES, of a prompt all heads of a row, then of the next
// one, as many as there are places, and all keys. Stretches that see most keys come first, and blocks take
// them to and fro, so that all have about the same to do.
//
// A page's entries are in shared memory once, as keys and as values: a ring of pages. Each tile:
//
//     scores   four warps have a page each; they tell the others their largest scores
//     weights  of the same, for all warps
//     values   a warp has an eighth of their dims, and all queries
//
// Few rows: scores and weights of a split's two tiles at once, by eight warps. The ring is no larger than
// that, so that a block finds room beside those of the stage before, and has its pages when that one ends.
// Where there are so few splits that most multiprocessors would have none, PARTS blocks have the same one:
// each makes its scores, and adds values of its own part of the dims, whose sums are as they were.
//
// What a row does not see of its last page is masked, since 0 times infinity is not 0. A split's triple and a
// group's are in registers; a prompt's total, which is wanted once in 1,024 keys, in `partial`:
// [block][groups of 8 dims of all queries][thread]float4.
//
// Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh, where rows decode mla_list.cuh; mla_tasks.cuh.
// Defines: attend.cuh's with N_KV_HEADS 1, WINDOW 0 and HEAD_DIM a multiple of 32; KV_RANK (a multiple of
// 128), MAX_ROWS, MLA_QUERIES (16 or 32), MLA_BLOCKS; MLA_STRETCHES or GROUPS_MAX.
#if !defined(KV_RANK) || !defined(MAX_ROWS) || !defined(MLA_QUERIES) || !defined(MLA_BLOCKS) || \
    KV_RANK % 128 || HEAD_DIM % 32 || N_KV_HEADS != 1 || WINDOW != 0 || MLA_QUERIES % 16
#error "KV_RANK, MAX_ROWS, MLA_QUERIES, MLA_BLOCKS"
#endif

#ifdef MLA_STRETCHES
#define MLA_FEW 0
#else
#define MLA_FEW (MAX_ROWS <= 8)
#endif

enum : u32 {
    MLA_WARPS = 8,
    MLA_THREADS = MLA_WARPS * WARP,
    QUERY_SETS = MLA_QUERIES / 16,
    WARP_PAIRS = KV_RANK / 16 / MLA_WARPS, // of 16 dims, which a warp has of the values
    OUT_GROUPS = 2 * WARP_PAIRS,
    PARTS = MLA_FEW && (WARP_PAIRS == 2 || WARP_PAIRS == 4) ? WARP_PAIRS : 1, // a pair a warp of each
    PART_PAIRS = WARP_PAIRS / PARTS,                                          // of a warp
    GROUP_TILES = GROUP_SPLITS * SPLIT_TILES,
    STEPS_AHEAD = 4, // of 16 dims, whose operands are on their way

    MLA_Q_BYTES = QUERY_SETS * KV_PIECE_BYTES,           // 16 queries as the tokens of a page are
    PAGE_BYTES = KV_PIECE_BYTES + 8,                     // with its barrier
    PAGE_MORE_BYTES = QUERY_SETS * (WARP * 16 + 16 * 4), // weights and largest scores, of a step's pages
    STEP_TILES =
        MLA_FEW && MLA_Q_BYTES + SPLIT_TILES * TILE_PAGES * (PAGE_BYTES + PAGE_MORE_BYTES) <= SHARED_BYTES_MAX
            ? (u32)SPLIT_TILES
            : 1u, // tiles at once
    STEP_PAGES = STEP_TILES * TILE_PAGES,
    MLA_RING_LEFT = SHARED_BYTES_MAX - MLA_Q_BYTES - STEP_PAGES * PAGE_MORE_BYTES,
    MLA_PAGES = STEP_TILES > 1 ? STEP_PAGES : MIN(MLA_RING_LEFT / PAGE_BYTES, 16u),
    RING_AT = MLA_Q_BYTES,
    WEIGHTS_AT = RING_AT + MLA_PAGES * KV_PIECE_BYTES,          // [sets][a step's pages][lane]uint4
    TOPS_AT = WEIGHTS_AT + QUERY_SETS * STEP_PAGES * WARP * 16, // [sets][a step's pages][16]
    FULL_AT = TOPS_AT + QUERY_SETS * STEP_PAGES * 64,           // a barrier a page
    MLA_SHARED_BYTES = FULL_AT + (SM_ARCH >= 90 ? MLA_PAGES * 8 : 0),
    // Where there is room for two tiles, pages are asked for while the tile before is used, else behind it.
    ASKS_EARLY = STEP_TILES == 1 && MLA_PAGES >= 2 * TILE_PAGES,
};
static_assert((u32)MLA_PAGES >= TILE_PAGES, "the host refuses GPUs with less");
static_assert((u32)STEP_PAGES <= MLA_WARPS, "a warp has a page at most");

typedef Triple<OUT_GROUPS> SetTriple; // of 16 queries, a warp's part

// ---- what a block attends to at a time ----

#ifndef MLA_STRETCHES
struct MlaWalk {
    MlaList list;
    u32 split; // of the list
    u32 left;  // splits, of the block
    u32 per_block;
    u32 pair; // MlaTask.pair
    bool in_parts;
};
DEVICE MlaWalk mla_walk(const MlaAttentionArgs &a, u32 n_rows) {
    MlaWalk w = {};
    u32 n_splits = splits_before(a.rows, n_rows);
    w.per_block = CEIL_DIV(n_splits, (u32)MLA_BLOCKS);
    u32 block = block_index();
    w.pair = warp_index() * WARP_PAIRS;
    w.in_parts = PARTS > 1 && n_splits * PARTS <= MLA_BLOCKS; // per_block is 1
    if (w.in_parts) {
        w.pair = (block % PARTS * MLA_WARPS + warp_index()) * PART_PAIRS;
        block /= PARTS;
    }
    u32 at = block * w.per_block;
    if (at >= n_splits) return w;
    w.left = MIN(w.per_block, n_splits - at);
    w.list = find_list(a.rows, n_rows, at);
    w.split = at - w.list.base;
    return w;
}
// The next run of splits of one list. Returns whether there is one; it is `list` then.
DEVICE bool walk_next(const MlaAttentionArgs &a, MlaWalk *w, MlaTask *t) {
    if (w->left == 0) return false;
    if (w->split == w->list.n) {
        w->list = next_list(a.rows, w->list);
        w->split = 0;
    }
    const MlaList &l = w->list;
    u32 n = MIN(w->left, l.n - w->split), head = l.chunk * MLA_QUERIES;
    *t = {a.rows[l.row].pages + a.list_at,
          l.row * N_HEADS + head,
          list_heads(l),
          l.position,
          l.position,
          w->split * SPLIT_TILES,
          MIN((w->split + n) * SPLIT_KEYS, l.position + 1),
          w->pair,
          w->in_parts};
    t->end_page = CEIL_DIV(t->end_page, (u32)KV_PAGE);
    w->split += n;
    w->left -= n;
    return true;
}
#endif

// ---- the ring ----

// Pages that the block has asked for, over all of its tasks: page i is in place i % MLA_PAGES.
struct MlaFetches {
    MlaWalk walk;
    const u32 *pages;   // of a task
    u32 page, end_page; // what it has left; the same: there are no more tasks
    u32 n;
};
DEVICE void fetch_next_task(const MlaAttentionArgs &a, MlaFetches *f) {
    MlaTask t;
    if (!walk_next(a, &f->walk, &t)) return;
    f->pages = t.pages;
    f->page = t.tile * TILE_PAGES;
    f->end_page = t.end_page;
}
DEVICE void fetches_begin(const MlaAttentionArgs &a, const MlaWalk &walk, MlaFetches *f) {
    *f = {walk, nullptr, 0, 0, 0};
    fetch_next_task(a, f);
}
DEVICE u8 *ring_page(u8 *shared, u32 i) {
    return shared + RING_AT + i % MLA_PAGES * KV_PIECE_BYTES;
}
DEVICE const f16 *cache_page(const MlaAttentionArgs &a, const MlaFetches &f, u32 page) {
    return a.kv + (u64)f.pages[page] * KV_TILE_HALVES(HEAD_DIM);
}
// Asks for pages until `end` have been asked for in all. Bulk copies: the first warp alone; else all threads.
DEVICE void fetch_pages(const MlaAttentionArgs &a, MlaFetches *f, u32 end, u8 *shared) {
    if (SM_ARCH >= 90 && warp_index() != 0) return;
    while (f->page < f->end_page && f->n < end) {
        u32 n = MIN(f->end_page - f->page, end - f->n);
#if SM_ARCH >= 90
        u32 i = lane_index();
        if (i < n) {
            BulkBarrier *full = (BulkBarrier *)(shared + FULL_AT) + (f->n + i) % MLA_PAGES;
            bulk_barrier_expect(full, KV_PIECE_BYTES);
            bulk_copy(ring_page(shared, f->n + i), cache_page(a, *f, f->page + i), KV_PIECE_BYTES, full);
        }
#else
        for (u32 p = 0; p < n; p++) {
            const f16 *from = cache_page(a, *f, f->page + p);
            u8 *to = ring_page(shared, f->n + p);
            for (u32 i = thread_index(); i < KV_PIECE_BYTES / 16; i += MLA_THREADS) {
                copy_async_16(to + i * 16, from + i * 8);
            }
        }
#endif
        f->n += n;
        f->page += n;
        if (f->page == f->end_page) fetch_next_task(a, f);
    }
    copy_tile_commit();
}
// Until page i is there (and its tile), for this warp.
DEVICE void wait_for_page(u32 i, u8 *shared) {
#if SM_ARCH >= 90
    bulk_barrier_wait((BulkBarrier *)(shared + FULL_AT) + i % MLA_PAGES, i / MLA_PAGES % 2);
#endif
    (void)i, (void)shared;
}
DEVICE void ring_begin(u8 *shared) {
#if SM_ARCH >= 90
    if (thread_index() == 0) {
        for (u32 i = 0; i < MLA_PAGES; i++) {
            bulk_barrier_init((BulkBarrier *)(shared + FULL_AT) + i, 1);
        }
        bulk_barrier_init_fence();
    }
    block_sync();
#endif
    (void)shared;
}

// ---- a tile ----

// Where a block is: a step of tiles, or one of them; its first page in the ring, and how many there are.
struct TilePlace {
    u32 tile, page, n;
};
// Tile i of a step.
DEVICE TilePlace step_tile(const TilePlace &step, u32 i) {
    u32 skip = i * TILE_PAGES;
    return {step.tile + i, step.page + skip, step.n > skip ? MIN(step.n - skip, (u32)TILE_PAGES) : 0};
}

DEVICE void load_task_queries(const MlaAttentionArgs &a, const MlaTask &t, u8 *shared) {
    // All of a thread's loads are on their way at once, or half of them.
    enum : u32 {
        UNITS = HEAD_DIM / 8,
        ALL = MLA_QUERIES * UNITS,
        AT_ONCE = CEIL_DIV(16u * UNITS, (u32)MLA_THREADS)
    };
    const uint4 *q = (const uint4 *)(a.q + (u64)t.query * HEAD_DIM);
    for (u32 first = thread_index(); first < ALL; first += AT_ONCE * MLA_THREADS) {
        uint4 v[AT_ONCE];
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
            u32 at = first + i * MLA_THREADS;
            v[i] = {0, 0, 0, 0};
            if (at < t.n * UNITS) v[i] = load_shared_data(q + at);
        }
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
            u32 at = first + i * MLA_THREADS, query = at / UNITS;
            if (at < ALL)
                *(uint4 *)kv_row(shared + query / 16 * KV_PIECE_BYTES, query % 16, at % UNITS) = v[i];
        }
    }
}

// Scores of a page, as score_pages of attend.cuh makes them, of all sets, so that its keys are read once.
// What the next steps read is on its way: the compiler by itself asks for one step's operands at a time, and
// each takes as long as the product that waits for it.
typedef float PageScores[QUERY_SETS][2][4];
DEVICE void multiply_page(const u8 *queries, const u8 *page, PageScores s) {
    u32 lane = lane_index(), a[STEPS_AHEAD][QUERY_SETS][4], b[STEPS_AHEAD][4];
    u32 query_at = kv_row_at(lane % 16, lane / 16);
    u32 key_at = kv_row_at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    auto load = [&](u32 k) {
        load_matrix_4(b[k % STEPS_AHEAD], page + kv_units_on(key_at, k));
#pragma unroll
        for (u32 m = 0; m < QUERY_SETS; m++) {
            load_matrix_4(a[k % STEPS_AHEAD][m], queries + m * KV_PIECE_BYTES + kv_units_on(query_at, k));
        }
    };
#pragma unroll
    for (u32 i = 0; i < QUERY_SETS * 8; i++) {
        s[i / 8][i / 4 % 2][i % 4] = 0;
    }
#pragma unroll
    for (u32 k = 0; k < STEPS_AHEAD; k++) {
        load(k);
    }
#pragma unroll
    for (u32 k = 0; k < Q_STEPS; k++) {
#pragma unroll
        for (u32 m = 0; m < QUERY_SETS; m++) {
            mma_f16(s[m][0], a[k % STEPS_AHEAD][m], b[k % STEPS_AHEAD]);
            mma_f16(s[m][1], a[k % STEPS_AHEAD][m], b[k % STEPS_AHEAD] + 2);
        }
        if (k + STEPS_AHEAD < Q_STEPS) load(k + STEPS_AHEAD);
    }
}

// The scores of the warp's page, and the largest of each query, to where all warps find them.
DEVICE void score_page(const MlaTask &t, const TilePlace &at, u8 *shared, PageScores s) {
    u32 p = warp_index(), key = at.tile * TILE_KEYS + p * KV_PAGE;
    bool is_there = p < at.n;
    if (is_there) {
        wait_for_page(at.page + p, shared);
        multiply_page(shared, ring_page(shared, at.page + p), s);
    }
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        float top[2] = {-INFINITY_F32, -INFINITY_F32};
        if (!is_there || key + KV_PAGE - 1 > t.position) {
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                u32 query = m * 16 + lane_index() / 4 + i % 4 / 2 * 8;
                u32 of = key + i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
                if (!is_there || of > query_position(t, query)) s[m][i / 4][i % 4] = -INFINITY_F32;
            }
        }
        raise_tops<1>(s[m], top);
        float *tops = (float *)(shared + TOPS_AT) + (m * STEP_PAGES + p) * 16;
        if (lane_index() % 4 == 0) tops[lane_index() / 4] = top[0], tops[lane_index() / 4 + 8] = top[1];
    }
}

// The largest scores of a set's rows g and g + 8 so far, those of tile i of the step among them.
DEVICE void tile_tops(const u8 *shared, u32 set, u32 i, const float before[2], float top[2]) {
    const float *tops = (const float *)(shared + TOPS_AT) + lane_index() / 4;
#pragma unroll
    for (u32 r = 0; r < 2; r++) {
        top[r] = before[r];
#pragma unroll
        for (u32 p = 0; p < TILE_PAGES; p++) {
            top[r] = max_f32(top[r], tops[(set * STEP_PAGES + i * TILE_PAGES + p) * 16 + r * 8]);
        }
    }
}

DEVICE uint4 *page_weights(u8 *shared, u32 set, u32 page) {
    return (uint4 *)(shared + WEIGHTS_AT) + (set * STEP_PAGES + page) * WARP + lane_index();
}
// What splits are multiplied by before a tile joins them.
struct StepKeeps {
    float of[STEP_TILES][QUERY_SETS][2];
};
// Weights of the warp's page. Splits' largest scores become those with the step's tiles.
DEVICE void weigh_step(u8 *shared, const PageScores s, SetTriple split[QUERY_SETS], StepKeeps *keeps) {
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        SetTriple &t = split[m];
        float base_of_warp[2] = {};
#pragma unroll
        for (u32 i = 0; i < STEP_TILES; i++) {
            float top[2];
            tile_tops(shared, m, i, t.top, top);
#pragma unroll
            for (u32 r = 0; r < 2; r++) {
                float base = base_of(top[r]);
                keeps->of[i][m][r] = exp2_fast(t.top[r] - base);
                t.top[r] = top[r];
                if (warp_index() / TILE_PAGES == i) base_of_warp[r] = base;
            }
        }
        if (warp_index() < STEP_PAGES) {
            u32 w[4];
            weigh_page(s[m], base_of_warp, w);
            *page_weights(shared, m, warp_index()) = {w[0], w[1], w[2], w[3]};
        }
    }
}
// Splits' triples are put to the scale of tile i of the step.
DEVICE void scale_splits(const StepKeeps &keeps, u32 i, SetTriple split[QUERY_SETS]) {
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
#pragma unroll
        for (u32 r = 0; r < 2; r++) {
            float keep = keeps.of[i][m][r];
            split[m].sum[r] *= keep;
#pragma unroll
            for (u32 j = 0; j < OUT_GROUPS; j++) {
                split[m].out[j][2 * r] *= keep, split[m].out[j][2 * r + 1] *= keep;
            }
        }
    }
}

// A page's values join the splits: of the dims that the warp has, pairs `from` … of 16. masked: only its
// first n_keys are there.
template <bool masked, u32 from, u32 end>
DEVICE void add_values(const MlaTask &t, const u32 weights[QUERY_SETS][4], const u8 *page, i32 n_keys,
                       SetTriple split[QUERY_SETS]) {
    // In two steps: the first pair is a multiple of a power of two of pairs, or there is no other.
    u32 at = kv_units_on(kv_row_at(lane_index() % 16, lane_index() / 16), PARTS == 1 ? 0 : t.pair);
#pragma unroll
    for (u32 i = from; i < end; i++) {
        u32 b[4];
        load_matrix_4_transposed(b, page + kv_units_on(at, PARTS == 1 ? warp_index() * WARP_PAIRS + i : i));
        if (masked) {
            keep_values(b, n_keys);
            keep_values(b + 2, n_keys);
        }
#pragma unroll
        for (u32 m = 0; m < QUERY_SETS; m++) {
            mma_f16(split[m].out[2 * i], weights[m], b);
            mma_f16(split[m].out[2 * i + 1], weights[m], b + 2);
        }
    }
}
// Page p of a tile; its weights are those of page `first` + p of the step, which join `sum` with pair 0.
template <bool masked, u32 from, u32 end>
DEVICE void add_tile_page(const MlaTask &t, const TilePlace &at, u32 first, u32 p, i32 n_keys, u8 *shared,
                          float sum[QUERY_SETS][4], SetTriple split[QUERY_SETS]) {
    const u32 ones[2] = {ONES_F16, ONES_F16};
    u32 weights[QUERY_SETS][4];
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        uint4 w = *page_weights(shared, m, first + p);
        weights[m][0] = w.x, weights[m][1] = w.y, weights[m][2] = w.z, weights[m][3] = w.w;
        if (from == 0) mma_f16(sum[m], weights[m], ones);
    }
    add_values<masked, from, end>(t, weights, ring_page(shared, at.page + p), n_keys, split);
}
// The pages of tile i of a step.
template <u32 from, u32 end>
DEVICE void add_tile_pages(const MlaTask &t, const TilePlace &at, u32 i, u8 *shared, float sum[QUERY_SETS][4],
                           SetTriple split[QUERY_SETS]) {
    // Tiles that are full are nearly all: their pages' loads go side by side.
    if ((at.tile + 1) * TILE_KEYS <= t.last + 1 && at.n == TILE_PAGES) {
#pragma unroll
        for (u32 p = 0; p < TILE_PAGES; p++) {
            add_tile_page<false, from, end>(t, at, i * TILE_PAGES, p, KV_PAGE, shared, sum, split);
        }
    } else {
#pragma unroll 1
        for (u32 p = 0; p < at.n; p++) {
            u32 first = at.tile * TILE_KEYS + p * KV_PAGE;
            i32 n_keys = (i32)MIN(t.last + 1 - first, (u32)KV_PAGE);
            add_tile_page<true, from, end>(t, at, i * TILE_PAGES, p, n_keys, shared, sum, split);
        }
    }
}
// Tile i of a step, which `at` is the place of.
DEVICE void add_tile(const MlaTask &t, const TilePlace &at, u32 i, u8 *shared, SetTriple split[QUERY_SETS]) {
    float sum[QUERY_SETS][4];
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        sum[m][0] = split[m].sum[0], sum[m][2] = split[m].sum[1], sum[m][1] = sum[m][3] = 0;
    }
    for (u32 p = 0; p < at.n; p++) {
        wait_for_page(at.page + p, shared);
    }
    add_tile_pages<0, PART_PAIRS>(t, at, i, shared, sum, split);
    if (PARTS > 1 && !t.in_parts) add_tile_pages<PART_PAIRS, WARP_PAIRS>(t, at, i, shared, sum, split);
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        split[m].sum[0] = sum[m][0], split[m].sum[1] = sum[m][2];
    }
}

// ---- folds ----

DEVICE void join(SetTriple to[QUERY_SETS], const SetTriple from[QUERY_SETS], bool begins) {
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        if (begins) to[m] = from[m];
        else triple_fold(&to[m], from[m]);
    }
}

// Calls f(set, i, query, j, dim) for the lane's rows g + 8 i of a set and the groups of 8 dims that the warp
// has.
template <class F> DEVICE void each_value(const MlaTask &t, F f) {
    u32 first = PARTS == 1 ? warp_index() * WARP_PAIRS : not_before(t.pair); // or addresses take 45 registers
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            u32 query = m * 16 + lane_index() / 4 + i * 8;
            if (query >= t.n) continue;
#pragma unroll
            for (u32 j = 0; j < OUT_GROUPS; j++) {
                if (j >= 2 * PART_PAIRS && t.in_parts) break;
                f(m, i, query, j, first * 16 + j * 8 + lane_index() % 4 * 2);
            }
        }
    }
}

DEVICE void store_result(const MlaAttentionArgs &a, const MlaTask &t, const SetTriple total[QUERY_SETS]) {
    float inverse[QUERY_SETS][2];
#pragma unroll
    for (u32 i = 0; i < 2 * QUERY_SETS; i++) {
        inverse[i / 2][i % 2] = reciprocal_fast(total[i / 2].sum[i % 2]);
    }
    f16 *out = a.out + (u64)t.query * KV_RANK;
    each_value(t, [&](u32 m, u32 i, u32 query, u32 j, u32 dim) {
        const float *v = total[m].out[j] + 2 * i;
        *(u32 *)(out + query * KV_RANK + dim) =
            pack_f16(attended(v[0], inverse[m][i]), attended(v[1], inverse[m][i]));
    });
}

// What becomes of a task's splits, which come in their order.
#ifdef MLA_STRETCHES
struct MlaFolds {
    SetTriple group[QUERY_SETS];
    float top[QUERY_SETS][2], sum[QUERY_SETS][2]; // of the total
};
DEVICE float4 *totals_of(const MlaAttentionArgs &a) {
    return (float4 *)a.partial + (u64)block_index() * QUERY_SETS * OUT_GROUPS * MLA_THREADS + thread_index();
}
// The group joins the total, whose values are in memory, and takes it on where it is the last.
DEVICE void join_total(const MlaAttentionArgs &a, MlaFolds *f, bool begins, bool ends) {
    float4 *to = totals_of(a);
#pragma unroll
    for (u32 m = 0; m < QUERY_SETS; m++) {
        SetTriple &g = f->group[m];
        FoldFactors x[2] = {};
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            if (begins) {
                f->top[m][i] = g.top[i], f->sum[m][i] = g.sum[i];
            } else {
                x[i] = fold_factors(&f->top[m][i], g.top[i]);
                f->sum[m][i] = fma_f32(f->sum[m][i], x[i].keep, g.sum[i] * x[i].add);
            }
            g.sum[i] = f->sum[m][i];
        }
#pragma unroll
        for (u32 j = 0; j < OUT_GROUPS; j++) {
            float *v = g.out[j];
            float4 *at = to + (m * OUT_GROUPS + j) * MLA_THREADS;
            if (!begins) {
                float4 o = *at;
                v[0] = fma_f32(o.x, x[0].keep, v[0] * x[0].add);
                v[1] = fma_f32(o.y, x[0].keep, v[1] * x[0].add);
                v[2] = fma_f32(o.z, x[1].keep, v[2] * x[1].add);
                v[3] = fma_f32(o.w, x[1].keep, v[3] * x[1].add);
            }
            if (!ends) *at = {v[0], v[1], v[2], v[3]};
        }
    }
}
DEVICE void end_split(const MlaAttentionArgs &a, const MlaTask &t, const MlaWalk &, u32 tile, bool ends,
                      const SetTriple split[QUERY_SETS], MlaFolds *f) {
    join(f->group, split, tile % GROUP_TILES < SPLIT_TILES);
    if (!ends && tile % GROUP_TILES != GROUP_TILES - 1) return;
    bool one = ends && tile < GROUP_TILES;
    if (!one) join_total(a, f, tile < GROUP_TILES, ends);
    if (ends) store_result(a, t, f->group);
}
#else
struct MlaFolds {
    SetTriple group[QUERY_SETS];
};
DEVICE void store_triple(const MlaTask &t, float *to, const SetTriple v[QUERY_SETS]) {
    float *tops = to + CHUNK_HEADS * KV_RANK;
    each_value(t, [&](u32 m, u32 i, u32 query, u32 j, u32 dim) {
        *(float2 *)(to + query * KV_RANK + dim) = {v[m].out[j][2 * i], v[m].out[j][2 * i + 1]};
        if (j > 0 || dim > 0) return;
        tops[query] = v[m].top[i];
        tops[CHUNK_HEADS + query] = v[m].sum[i];
    });
}
// walk: of the task, whose list it is in.
DEVICE void end_split(const MlaAttentionArgs &a, const MlaTask &t, const MlaWalk &walk, u32 tile, bool,
                      const SetTriple split[QUERY_SETS], MlaFolds *f) {
    const MlaList &l = walk.list;
    u32 at = tile / SPLIT_TILES, number = at / GROUP_SPLITS;
    MlaGroup g = mla_group(l, number, walk.per_block);
    if (at >= g.block_end) { // the block does not begin the group
        store_triple(t, split_triple(a.partial, g, at), split);
        return;
    }
    join(f->group, split, at == g.first);
    if (at + 1 < g.block_end) return;
    if (!g.is_whole()) store_triple(t, split_triple(a.partial, g, g.first), f->group);
    else if (l.n > GROUP_SPLITS) store_triple(t, group_triple(a.partial, l, number), f->group);
    else store_result(a, t, f->group);
}
#endif

// ---- a block ----

// n: pages that the block has behind it.
DEVICE void mla_task_run(const MlaAttentionArgs &a, const MlaTask &t, const MlaWalk &walk, u32 n,
                         MlaFetches *f, u8 *shared) {
    SetTriple split[QUERY_SETS];
    MlaFolds folds;
    load_task_queries(a, t, shared);
    block_sync();
    TilePlace at = {t.tile, n, 0};
#pragma unroll 1
    for (; at.tile * TILE_PAGES < t.end_page; at.tile += STEP_TILES, at.page += at.n) {
        at.n = MIN(t.end_page - at.tile * TILE_PAGES, (u32)STEP_PAGES);
        bool ends = (at.tile + STEP_TILES) * TILE_PAGES >= t.end_page;
        PageScores s;
        StepKeeps keeps;
        if (SM_ARCH < 90) {
            copy_tile_wait<0>();
            block_sync();
        }
        if (warp_index() < STEP_PAGES) score_page(t, at, shared, s);
        block_sync(); // and all have used the tile before
        if (ASKS_EARLY) fetch_pages(a, f, at.page + MLA_PAGES, shared);
        if (at.tile % SPLIT_TILES == 0) {
            for (u32 m = 0; m < QUERY_SETS; m++) {
                triple_clear(&split[m]);
            }
        }
        weigh_step(shared, s, split, &keeps);
        block_sync();
#pragma unroll
        for (u32 i = 0; i < STEP_TILES; i++) {
            TilePlace tile = step_tile(at, i);
            scale_splits(keeps, i, split);
            add_tile(t, tile, i, shared, split);
            if (ASKS_EARLY) continue;
            block_sync();
            fetch_pages(a, f, at.page + MIN(at.n, (i + 1) * TILE_PAGES) + MLA_PAGES, shared);
        }
        if (ends || (at.tile + STEP_TILES) % SPLIT_TILES == 0)
            end_split(a, t, walk, at.tile + STEP_TILES - 1, ends, split, &folds);
    }
}

DEVICE void mla_attention_run(const MlaAttentionArgs &a, MlaWalk walk, MlaFetches *f, u8 *shared) {
    MlaTask t;
    u32 n = 0;
    fetch_pages(a, f, MLA_PAGES, shared);
    while (walk_next(a, &walk, &t)) {
        mla_task_run(a, t, walk, n, f, shared);
        n += t.end_page - t.tile * TILE_PAGES;
    }
    copy_tile_wait<0>();
}

EXPORTED StageInfo mla_attention_info = {MLA_THREADS, {MLA_BLOCKS, 1}, MLA_SHARED_BYTES};

#ifdef MLA_STRETCHES
KERNEL(MLA_THREADS, 1) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    MlaWalk walk = {0};
    MlaFetches f;
    fetches_begin(a, walk, &f);
    bool has_task = f.end_page > 0;
    if (has_task) ring_begin(shared_memory());
    stage_wait();
    if (has_task) mla_attention_run(a, walk, &f, shared_memory());
}
#else
// Rows of one sequence are at positions one after the other: entries that are at least as many behind the row
// as there are rows were written by an earlier step.
DEVICE void fetch_earlier(const MlaAttentionArgs &a, u32 n_rows, u32 n_keys, MlaFetches *f, u8 *shared) {
    u32 earlier = n_keys > n_rows ? (n_keys - n_rows) / KV_PAGE : 0, end_page = MIN(earlier, f->end_page);
    if (end_page > f->page) fetch_pages(a, f, MIN(end_page - f->page, (u32)MLA_PAGES), shared);
}

KERNEL(MLA_THREADS, 1) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    u32 n_rows = MAX_ROWS == 1 ? 1 : load_shared_data(&a.batch->n_rows);
    MlaWalk walk = mla_walk(a, n_rows);
    MlaFetches f;
    fetches_begin(a, walk, &f);
    bool has_task = f.end_page > 0;
    // The stage ends behind the one before it as long as one block waits; the others leave their places.
    if (!has_task && block_index() > 0) return;
    if (has_task) {
        ring_begin(shared_memory());
        fetch_earlier(a, n_rows, walk.list.position + 1, &f, shared_memory());
    }
    stage_wait();
    if (has_task) mla_attention_run(a, walk, &f, shared_memory());
}
#endif
