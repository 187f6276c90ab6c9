// Batches: attention of rows of any sequences, each with its own position and pages, over the cache, and the
// cache's new entries. This file has a team and its ring; attention_tiles.cuh, attention_triples.cuh and
// attention_run.cuh come behind it.
//
//     out[row][h] = softmax(q[row][h] K^T) V over the positions that the row sees
//     HEAD_GATES: that, rounded to f16, times sigmoid(gate[row][h]) (ACTIVATION), as attention_gate.cuh does
//
// f16 activations (rows.cuh). q, and the rows' own keys and values, come from what qkv.cuh left
// (turn_heads.cuh). (RMS_NORM x 2, ROPE x 2, KV_WRITE, OP_ATTENTION, GLU.) Order of sums: attend.cuh.
//
// Grid: BLOCKS blocks of TEAMS teams, whatever the rows are. The work is a list of splits
// (attention_list.cuh). Each team takes `per` of it, so that all have the same number of keys to read, or, of
// one row, whole groups, and goes through them with a ring of tiles in shared memory. Heads that share a KV
// head are the 16 rows of a product. A team is
//     4 warps, the block   that share a tile: a page of keys each, then some dims of the values each. They
//                          take both tiles of a split at once: scores, largest scores and weights of both,
//                          then their values in order.
//     1 warp               where there are many lists: no warp waits for another one. (Phi-3's heads, 64 rows
//                          of 128 keys: 29 µs, not 48.)
//
// New entries. Keys and values of this batch's rows are not in the cache yet, so a team fetches its first
// tiles before stage_wait. What their copies bring of those entries may be anything, since another team may
// be writing them at that moment; the team puts the right ones in their place in shared memory before it
// reads the tile. The team with a row's last split writes the row's entries to the cache, for batches that
// follow.
//
// SHARED_KV: the layer reads the entries of an earlier one, which writes those of this batch's rows to the
// cache, maybe while the tiles are fetched. So these are taken from there behind stage_wait; the rest is as
// above.
//
// Wide heads (VALUE_PARTS, attention_list.cuh). Two tiles of heads of 256 dims take 128 KB, which would find
// no room beside the stage before: a block has all keys of its tiles, and some of the values' dims.
//
// Who folds. A team that has all splits of a group folds them in its shared memory. Else each team leaves its
// splits' triples in `partial`, and the last one that comes to the group's counter folds them. The same with
// groups and the row's total. (One block that merged all splits of a row would read 256 KB at 16,384 keys:
// 34.8 µs, in two levels 24.5; 8B's heads, with the output stage behind it.)
//     partial   [teams][8] splits' triples, of the group that the team begins and does not end; then
//               [shared lists][GROUPS_MAX] groups' triples
//     a triple  out [heads][VALUE_DIM], {largest score, sum} [heads]
//     meetings  [teams] of groups, [teams] of rows' lists
//
// Needs rows.cuh, kv_cache.cuh, turn_heads.cuh, soft_cap.cuh, attend.cuh, attention_list.cuh, with HEAD_GATES
// activate.cuh. Defines: theirs, BLOCKS, BLOCKS_PER_SM, TEAMS, TEAM_WARPS, RING_BYTES (of a team's tiles; at
// least half a tile), GROUPS_MAX (groups of the longest sequence), HAS_SINKS.
#if !defined(BLOCKS) || !defined(BLOCKS_PER_SM) || !defined(TEAMS) || !defined(TEAM_WARPS) || \
    !defined(RING_BYTES) || !defined(GROUPS_MAX)
#error "BLOCKS, BLOCKS_PER_SM, TEAMS, TEAM_WARPS, RING_BYTES, GROUPS_MAX"
#endif

#ifdef TWO_WAYS
#define BLOCKS_MOST (2 * BLOCKS)
#else
#define BLOCKS_MOST BLOCKS
#endif

enum : u32 {
    TEAM_THREADS = TEAM_WARPS * WARP,
    ATTEND_THREADS = TEAMS * TEAM_THREADS,
    ALL_TEAMS = BLOCKS_MOST * TEAMS, // at most
    SHARED_LISTS =
        layout_attention_shared_lists(N_HEADS * VALUE_PARTS, N_KV_HEADS *VALUE_PARTS, MAX_ROWS, ALL_TEAMS),
    TRIPLE_FLOATS = layout_attention_triple_floats(N_HEADS, N_KV_HEADS, VALUE_DIM),
    WARP_PAGES = TILE_PAGES / TEAM_WARPS,           // of keys
    WARP_PAIRS = CEIL_DIV(VALUE_PAIRS, TEAM_WARPS), // of 8 dims: warp w has pairs w, w + TEAM_WARPS, …
    WARP_DIMS = 2 * WARP_PAIRS,                     // groups of 8
    HEAD_ROWS = LIST_HEADS > 8 ? 2 : 1,             // of a lane that are heads

    // A cache of 8 bits and a ring of three steps of two tiles: a page's keys and values come as one copy, to
    // PAGE_ROOM bytes of the ring (layout_kv_page_room).
    PAGE_ROOM = layout_kv_page_room(KV_IS_Q8, HEAD_DIM),
    WHOLE_TILES = 3 * SPLIT_TILES,
    WHOLE_PAGES = (SM_ARCH >= 90 && KV_IS_Q8 && VALUE_PARTS == 1 && TEAM_WARPS > 1 &&
                   RING_BYTES >= WHOLE_TILES * TILE_PAGES * PAGE_ROOM),

    VALUE_ROW_BYTES = VALUE_PARTS > 1 ? 2 * VALUE_DIM : KV_ROW_BYTES,
    VALUE_PIECE_BYTES = VALUE_PARTS > 1 ? KV_PAGE *VALUE_ROW_BYTES : KV_PIECE_BYTES,
    HALF_BYTES = TILE_BYTES / 2, // a tile's keys, or all of its values
    VALUES_BYTES = TILE_PAGES * VALUE_PIECE_BYTES,
    RING_TILES = RING_BYTES / (HALF_BYTES + VALUES_BYTES),
    RING_HALVES = WHOLE_PAGES       ? 2 * WHOLE_TILES
                  : VALUE_PARTS > 1 ? 2 * RING_TILES
                                    : RING_BYTES / HALF_BYTES,
    KEYS_STEP = WHOLE_PAGES ? PAGE_ROOM : KV_PIECE_BYTES, // from a page's keys in the ring to the next one's
    VALUES_STEP = WHOLE_PAGES ? PAGE_ROOM : VALUE_PIECE_BYTES,
    IN_PARTS = (RING_HALVES < 2),                              // values in the place of the keys
    STEP_TILES = (TEAM_WARPS > 1 && RING_HALVES >= 4 ? 2 : 1), // that a team takes at once, at most
    WHOLE_SPLITS = (STEP_TILES >= SPLIT_TILES),                // a step is a split
    // A step's keys make room for the next one's, which is fetched meanwhile. Else at the step's end.
    FETCHES_AHEAD = (VALUE_PARTS == 1 && TEAM_WARPS > 1 && RING_HALVES >= 3 * STEP_TILES),
    RING_STEPS = RING_HALVES < 10 ? 4 : 8, // under way, at most
    // Triples are folded in the ring, FOLD_ROOM at once, with a FoldStep of each head behind them all. They
    // come by copies of 16 bytes, which pass by the L1 (sm_80).
    FOLD_STEP_BYTES = 16,
    FOLD_BYTES = TRIPLE_FLOATS * 4 + LIST_HEADS * FOLD_STEP_BYTES,
    FOLD_ROOM = RING_BYTES / FOLD_BYTES,
    FOLDS_IN_RING = SM_ARCH >= 80 && TEAM_WARPS > 1 && TRIPLE_FLOATS % 4 == 0 && FOLD_ROOM >= 2,
    // The triple of a group that a team has all of; else in shared memory.
    GROUP_IN_REGISTERS = TEAM_WARPS > 1 && WARP_DIMS *HEAD_ROWS <= 4,
    SHARING_SPLITS = 3, // that take as long as to share two groups with other teams

    // Shared memory of a team.
    WEIGHT_ROWS = HEAD_ROWS * 8,
    WEIGHTS_BYTES = TEAM_WARPS > 1 ? WEIGHT_ROWS *TILE_KEYS * 2 : 0, // of a tile
    TOPS_BYTES = TEAM_WARPS > 1 ? TEAM_WARPS * 16 * 4 : 0,           // of a tile
    RING_END = WHOLE_PAGES       ? WHOLE_TILES * TILE_PAGES * PAGE_ROOM
               : VALUE_PARTS > 1 ? RING_TILES *(HALF_BYTES + VALUES_BYTES)
                                 : RING_HALVES *HALF_BYTES,
    WEIGHTS_AT = RING_END, // [heads][TILE_KEYS] f16, units of 16 bytes xor head % 8
    TOPS_AT = WEIGHTS_AT + STEP_TILES * WEIGHTS_BYTES, // [16 heads][warp]
    QUERIES_AT = TOPS_AT + STEP_TILES * TOPS_BYTES,    // 16 rows
    FULL_AT = QUERIES_AT + QUERY_PIECE_BYTES,          // two barriers a step: its keys, its values
    LAST_AT = FULL_AT + RING_STEPS * 2 * 8,
    ACCUMULATOR_BYTES = LIST_HEADS * (VALUE_DIM * 4 + TEAM_WARPS * 8),
    GROUP_AT = ROUND_UP(LAST_AT + 4, 16), // accumulators: out [heads][VALUE_DIM], {top, sum} [warp][heads]
    TOTAL_AT = GROUP_AT + ACCUMULATOR_BYTES,
    TEAM_BYTES = ROUND_UP(TOTAL_AT + ACCUMULATOR_BYTES, 128),
    ATTENTION_SHARED_BYTES = TEAMS * TEAM_BYTES,
};
static_assert(TEAM_WARPS == 1 || (TEAM_WARPS == 4 && TEAMS == 1), "a team is a warp or a block");
static_assert(TILE_PAGES % TEAM_WARPS == 0, "warps have the same number of pages");
static_assert(RING_HALVES > 0 && RING_HALVES < 2 * (RING_STEPS + 1), "RING_BYTES");
static_assert(!IN_PARTS || SM_ARCH < 90, "bulk copies bring whole tiles");
static_assert(VALUE_PARTS == 1 || (SM_ARCH >= 90 && !KV_IS_Q8 && VALUE_DIM % 64 == 0), "sheets of 64 dims");
static_assert(VALUE_PARTS == 1 || VALUE_PAIRS % TEAM_WARPS == 0, "warps have as many of a part's dims");

#ifdef SHARED_KV
#define OWN_ENTRIES false
#else
#define OWN_ENTRIES true
#endif

typedef Triple<WARP_DIMS> WarpTriple;

// ---- a team ----

DEVICE u32 team_warp() {
    return TEAM_WARPS == 1 ? 0 : warp_index();
}
DEVICE u32 team_thread() {
    return TEAM_WARPS == 1 ? lane_index() : thread_index();
}
DEVICE void team_sync() {
    if (TEAM_WARPS == 1) warp_sync();
    else block_sync();
}

// What a team does, in its part of the shared memory.
struct TeamWork {
    u32 per;               // splits of the list a team
    u32 left;              // of them
    u32 n_rows;            // of the batch
    u32 n_steps, n_halves; // used so far
    bool alone;            // no other row of the batch is of the sequence of the list's row
    bool rehearses;        // what it does is for nobody (attention_clusters.cuh)
    u32 page;              // of the row's entry
    bool keeps;            // it has the list's last split, maybe behind others
    Entry entry[2];        // `keeps`: a lane's part of the row's key and value
};

// ---- the ring ----
//
// Halves of tiles, in the order of their use: of a step of one tile or two its keys, then its values.
// VALUE_PARTS: keys and values, which are of different sizes, have a ring each. WHOLE_PAGES: tiles of pages,
// with their keys and values; a step of one tile takes the place of two.

// Halves of the ring that a step of so many tiles takes.
DEVICE u32 step_halves(u32 tiles) {
    return 2 * (WHOLE_PAGES ? (u32)STEP_TILES : tiles);
}
// Tiles that are taken together.
DEVICE u32 step_tiles(const ListPlace &p, u32 tile) {
    return STEP_TILES > 1 && tile + 1 < end_tile(p) ? 2 : 1;
}

// The steps of the team's splits as they are fetched, ahead of their use.
struct Fetches {
    ListPlace place;
    u32 left;              // splits, with that of `tile`
    u32 stride;            // from one to the next
    u32 tile, tiles;       // of the next step
    u32 n_steps, n_halves; // fetched so far
    const u32 *pages;
    u32 page[STEP_TILES * WARP_PAGES]; // that the warp copies: known a step ahead
};
// Page i of those of the next step that the warp copies: of each tile as many as it has scores of.
DEVICE u32 step_page(const Fetches &f, u32 i) {
    return (f.tile + i / WARP_PAGES) * TILE_PAGES + team_warp() * WARP_PAGES + i % WARP_PAGES;
}
DEVICE u32 last_page(const Fetches &f) {
    return f.place.keys.position / KV_PAGE;
}
DEVICE KvTile place_tile(const Fetches &f, u32 tile) {
    return {f.pages, list_kv_head(f.place), tile, f.place.keys.first, f.place.keys.position};
}
DEVICE void fetches_look_ahead(Fetches *f) {
    f->tiles = step_tiles(f->place, f->tile);
#if SM_ARCH >= 90
#pragma unroll
    for (u32 i = 0; i < STEP_TILES * WARP_PAGES; i++) {
        u32 page = MIN(step_page(*f, i), last_page(*f));
        f->page[i] = f->pages[MAX(page, f->place.keys.first / KV_PAGE)]; // (tile_page)
    }
#endif
}
// The numbers of the pages that follow in the list: they are read one step ahead, which the memory may take
// longer than.
DEVICE void prefetch_pages(const Fetches &f) {
    prefetch_l2(f.pages + MIN(first_tile(f.place) * TILE_PAGES + lane_index() * 32, last_page(f)));
}
DEVICE void fetches_begin(const BatchAttentionArgs &a, const ListPlace &p, u32 n_splits, u32 stride,
                          Fetches *f) {
    *f = {p, n_splits, stride, first_tile(p), 1, 0, 0, a.rows[p.row].pages + a.list_at, {}};
    if (n_splits == 0) return;
    prefetch_pages(*f);
    fetches_look_ahead(f);
}
DEVICE void fetches_advance(const BatchAttentionArgs &a, Fetches *f) {
    f->n_steps++, f->n_halves += step_halves(f->tiles);
    f->tile += f->tiles;
    if (WHOLE_SPLITS || f->tile == end_tile(f->place)) {
        if (--f->left == 0) return;
        f->place.split += f->stride;
        if (f->place.split == f->place.end) {
            next_list(a, &f->place);
            f->pages = a.rows[f->place.row].pages + a.list_at;
            prefetch_pages(*f);
        }
        f->tile = first_tile(f->place);
    }
    fetches_look_ahead(f);
}
// Tile i of a step of n tiles, before which n_halves were used.
DEVICE u8 *keys_at(u8 *shared, u32 n_halves, u32 i) {
    if (WHOLE_PAGES) return shared + (n_halves / 2 % WHOLE_TILES + i) * TILE_PAGES * PAGE_ROOM;
    if (VALUE_PARTS > 1) return shared + (n_halves / 2 + i) % MAX(RING_TILES, 1u) * HALF_BYTES;
    return shared + (n_halves + i) % RING_HALVES * HALF_BYTES;
}
DEVICE u8 *values_at(u8 *shared, u32 n_halves, u32 n, u32 i) {
    if (WHOLE_PAGES) return keys_at(shared, n_halves, i) + KV_PIECE_BYTES;
    if (VALUE_PARTS == 1) return keys_at(shared, n_halves + (IN_PARTS ? 0 : n), i);
    return shared + RING_TILES * HALF_BYTES + (n_halves / 2 + i) % MAX(RING_TILES, 1u) * VALUES_BYTES;
}
// WHOLE_PAGES: where a page begins in its room: as far behind a multiple of 128 as in the cache, where every
// other head's begins in the middle of 128 bytes.
DEVICE u32 page_begin(u32 kv_head) {
    return WHOLE_PAGES && (u32)PAGE_ROOM > (u32)KV_PAGE_BYTES ? kv_head % 2 * 64 : 0;
}
#if SM_ARCH >= 90
DEVICE BulkBarrier *step_full(u8 *shared, u32 n_steps, u32 is_values) {
    return (BulkBarrier *)(shared + FULL_AT) + n_steps % RING_STEPS * 2 + is_values;
}
// A page's values, of which a part is a piece of each eight tokens (layout.h). from: its keys and values.
DEVICE void copy_values(u8 *to, const f16 *from, u32 part, BulkBarrier *full) {
    enum : u32 { PIECES = VALUE_PARTS > 1 ? 2 : 1, BYTES = VALUE_PIECE_BYTES / PIECES };
#pragma unroll
    for (u32 i = 0; i < PIECES; i++) {
        u32 at = KV_PIECE_BYTES + i * 8 * KV_ROW_BYTES + part * BYTES;
        bulk_copy(to + i * BYTES, (const u8 *)from + at, BYTES, full);
    }
}
// WHOLE_PAGES: the pages of the next step that the warp copies. Behind the last one that is wanted, that one.
DEVICE void fetch_pages(const BatchAttentionArgs &a, u8 *shared, const Fetches &f) {
    BulkBarrier *full = step_full(shared, f.n_steps, 0);
    u32 head = list_kv_head(f.place);
    u8 *to = keys_at(shared, f.n_halves, 0) + team_warp() * WARP_PAGES * PAGE_ROOM + page_begin(head);
    if (!is_elected()) return;
    bulk_barrier_expect(full, f.tiles * WARP_PAGES * KV_PAGE_BYTES);
#pragma unroll
    for (u32 i = 0; i < STEP_TILES * WARP_PAGES; i++) {
        u32 tile = i / WARP_PAGES, room = tile * TILE_PAGES + i % WARP_PAGES;
        if (tile == 0 || f.tiles > 1)
            bulk_copy(to + room * PAGE_ROOM, kv_head_page(a.kv, f.page[i], head), KV_PAGE_BYTES, full);
    }
}
#endif
// Sets off the next step's copies. All threads call it; the halves that were in its place have been used.
DEVICE void fetch_step(const BatchAttentionArgs &a, u8 *shared, Fetches *f) {
#if SM_ARCH >= 90
    if (WHOLE_PAGES) {
        fetch_pages(a, shared, *f);
        return fetches_advance(a, f);
    }
    // A page a warp: one warp that asks for all of them would be what the others wait for.
    BulkBarrier *keys_full = step_full(shared, f->n_steps, 0),
                *values_full = step_full(shared, f->n_steps, 1);
    u32 n = 0; // pages that are there: the first ones
#pragma unroll
    for (u32 i = 0; i < STEP_TILES * WARP_PAGES; i++) {
        n += i / WARP_PAGES < f->tiles && step_page(*f, i) <= last_page(*f);
    }
    if (is_elected()) {
        bulk_barrier_expect(keys_full, n * KV_PIECE_BYTES);
        bulk_barrier_expect(values_full, n * VALUE_PIECE_BYTES);
#pragma unroll
        for (u32 i = 0; i < STEP_TILES * WARP_PAGES; i++) {
            if (i >= n) continue;
            const f16 *from = kv_head_page(a.kv, f->page[i], list_kv_head(f->place));
            u32 tile = i / WARP_PAGES, page = step_page(*f, i) % TILE_PAGES;
            bulk_copy(keys_at(shared, f->n_halves, tile) + page * KV_PIECE_BYTES, from, KV_PIECE_BYTES,
                      keys_full);
            copy_values(values_at(shared, f->n_halves, f->tiles, tile) + page * VALUE_PIECE_BYTES, from,
                        value_part(f->place), values_full);
        }
    }
#else
    for (u32 i = 0; i < f->tiles; i++) {
        KvTile tile = place_tile(*f, f->tile + i);
        u8 *keys = keys_at(shared, f->n_halves, i), *values = values_at(shared, f->n_halves, f->tiles, i);
        copy_tile<TEAM_THREADS>(a.kv, tile, keys, team_thread(), TILE_KEYS_ALONE);
        if (!IN_PARTS) copy_tile<TEAM_THREADS>(a.kv, tile, values, team_thread(), TILE_VALUES_ALONE);
    }
#endif
    copy_tile_commit();
    if (!IN_PARTS) fetches_advance(a, f); // else with the values
}
// Whether there is a step to fetch, and room for it: the first n_used halves have been used.
DEVICE bool may_fetch(const Fetches &f, u32 n_used) {
    return f.left > 0 && (IN_PARTS || f.n_halves + step_halves(f.tiles) <= n_used + RING_HALVES);
}
// As many steps as there is room for.
DEVICE void fill_ring(const BatchAttentionArgs &a, u8 *shared, u32 n_used, Fetches *f) {
    while (may_fetch(*f, n_used)) {
        fetch_step(a, shared, f);
        if (IN_PARTS) break;
    }
}
// Before the first copy.
DEVICE void ring_begin(u8 *shared) {
#if SM_ARCH >= 90
    if (team_thread() == 0) {
        for (u32 i = 0; i < 2 * RING_STEPS; i++) {
            bulk_barrier_init(step_full(shared, 0, i), TEAM_WARPS);
        }
        bulk_barrier_init_fence();
    }
#endif
    (void)shared;
    team_sync();
}
// Until the keys of the team's next step are there, for all threads; before sm_90 its values, too.
DEVICE void wait_for_keys(u8 *shared, const Fetches &f, const TeamWork &w) {
#if SM_ARCH >= 90
    bulk_barrier_wait(step_full(shared, w.n_steps, 0), w.n_steps / RING_STEPS % 2);
    (void)f;
#else
    // Steps fetched after it may be under way.
    if (!IN_PARTS && f.n_steps > w.n_steps + 1) copy_tile_wait<1>();
    else copy_tile_wait<0>();
    team_sync();
    (void)shared;
#endif
}
// Until its values are there. (Scores are made while these come, and the next step is asked for that much
// sooner.)
DEVICE void wait_for_values(u8 *shared, const TeamWork &w) {
#if SM_ARCH >= 90
    if (WHOLE_PAGES) return;
    bulk_barrier_wait(step_full(shared, w.n_steps, 1), w.n_steps / RING_STEPS % 2);
#endif
    (void)shared, (void)w;
}
// IN_PARTS: in the place of the keys, which have been used.
DEVICE void fetch_values(const BatchAttentionArgs &a, u8 *shared, Fetches *f) {
    team_sync();
    copy_tile<TEAM_THREADS>(a.kv, place_tile(*f, f->tile), shared, team_thread(), TILE_VALUES_ALONE);
    fetches_advance(a, f);
    copy_tile_commit();
    copy_tile_wait<0>();
    team_sync();
}
