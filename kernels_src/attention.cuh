// Batches: attention of rows of any sequences, each with its own position and pages, over the cache, and the
// cache's new entries.
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

// ---- new heads: queries, and entries of the cache ----

// Where a row's entry goes to: its page's keys and values in shared memory (NULL: they are kept), and its
// page in the cache (NULL: not by this team).
struct NewEntry {
    u8 *keys, *values, *cache;
    u32 token;      // of the page
    u32 part;       // of the values, in shared memory
    const u8 *from; // SHARED_KV: its page in the cache, which has it
};

DEVICE void store_query(u8 *shared, u32 unit, const RawHead &h) {
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim >= HEAD_DIM) continue;
        *(u32 *)(shared + QUERIES_AT + query_row_at(unit, dim / 8) + dim % 8 * 2) = packed_query(h.own[i]);
    }
}

// An entry's key or value to its place in shared memory.
DEVICE void store_in_tile(const NewEntry &e, bool is_value, const Entry &entry) {
    if (VALUE_PARTS == 1 || !is_value) {
        store_entry(is_value ? e.values : e.keys, is_value, e.token, entry);
        return;
    }
#pragma unroll
    for (u32 i = 0; i < HEAD_TURNS; i++) {
        u32 dim = head_dim_of(i);
        if (dim / VALUE_DIM != e.part) continue;
        *(u32 *)(e.values + layout_kv_unit_at(VALUE_ROW_BYTES, e.token, dim % VALUE_DIM / 8) + dim % 8 * 2) =
            entry.pair[i];
    }
}

DEVICE void store_new(bool is_value, const NewEntry &e, const Entry &entry, TeamWork *w) {
    if (e.keys) store_in_tile(e, is_value, entry);
    else if (is_value) w->entry[1] = entry;
    else w->entry[0] = entry;
    if (e.cache) store_entry(is_value ? e.cache + KV_PIECE_BYTES : e.cache, is_value, e.token, entry);
}

// The row's key and value, which the warps that turned them have, to their place.
DEVICE void store_kept(const TeamWork &w, u32 n_heads, const NewEntry &e) {
#pragma unroll
    for (u32 k = 0; k < 2; k++) {
        if ((n_heads + k) % TEAM_WARPS == team_warp()) store_in_tile(e, k, w.entry[k]);
    }
}

// Units [first, end) of a row and a list: the list's queries (n_heads of them), the key, the value. A warp
// takes several at once, since all of their loads take as long as one.
DEVICE void turn_units(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, u32 row, u32 first,
                       u32 end, const NewEntry &e, TeamWork *w) {
    enum : u32 {
        AT_ONCE = MIN(CEIL_DIV(LIST_HEADS + 2, TEAM_WARPS), TEAM_WARPS == 1  ? 128 / HEAD_DIM + 1
                                                            : HEAD_DIM > 256 ? 2
                                                                             : 5)
    };
    u32 n_heads = list_n_heads(p), first_head = list_first_head(p);
    const float *raw = a.raw + (u64)row * ROW_HEADS * HEAD_DIM;
    HeadAngles angles = load_angles(a.rope, row);
    for (u32 begin = first + team_warp(); begin < end; begin += TEAM_WARPS * AT_ONCE) {
        RawHead h[AT_ONCE];
        Entry cached[AT_ONCE]; // SHARED_KV
#pragma unroll
        for (u32 k = 0; k < AT_ONCE; k++) {
            u32 unit = begin + k * TEAM_WARPS;
            u32 head = unit < n_heads ? first_head + unit
                                      : N_HEADS + (unit - n_heads) * N_KV_HEADS + list_kv_head(p);
            if (unit >= end) continue;
            if (OWN_ENTRIES || unit < n_heads) h[k] = load_raw_head(raw + head * HEAD_DIM);
            else cached[k] = load_entry(e.from + (unit - n_heads) * KV_PIECE_BYTES, unit > n_heads, e.token);
        }
#pragma unroll
        for (u32 k = 0; k < AT_ONCE; k++) {
            u32 unit = begin + k * TEAM_WARPS;
            if (unit >= end) break;
            if (unit < (OWN_ENTRIES ? n_heads + 1 : n_heads))
                turn_head(&h[k], unit < n_heads ? a.norm[0] : a.norm[1], angles);
            else if (OWN_ENTRIES) norm_value(&h[k]);
            if (unit < n_heads) {
                heat_query(&h[k], a.rows[row].position);
                store_query(shared, unit, h[k]);
            } else {
                store_new(unit > n_heads, e, OWN_ENTRIES ? make_entry(h[k]) : cached[k], w);
            }
        }
    }
}

// Whether no other row of the batch is of the row's sequence.
DEVICE bool is_alone(const BatchAttentionArgs &a, u32 n_rows, u32 row) {
    u32 n = 0;
    for (u32 first = 0; MAX_ROWS > 1 && first < n_rows; first += WARP) {
        u32 other = first + lane_index();
        n += count_ones(ballot_lanes(other < n_rows && a.rows[other].pages == a.rows[row].pages));
    }
    return n <= 1;
}

// Tiles that are taken together: the halves from w.n_halves on.
struct Step {
    u32 tile, n;
    bool begins; // the list's first that the team has
};
DEVICE u8 *step_keys(u8 *shared, const ListPlace &p, const TeamWork &w, u32 i) {
    return keys_at(shared, w.n_halves, i) + page_begin(list_kv_head(p));
}
DEVICE u8 *step_values(u8 *shared, const ListPlace &p, const TeamWork &w, const Step &s, u32 i) {
    return values_at(shared, w.n_halves, s.n, i) + page_begin(list_kv_head(p));
}
DEVICE bool has_key(const Step &s, u32 key) {
    return key / TILE_KEYS - s.tile < s.n;
}
// The place of a key's entry in the step's tiles.
DEVICE NewEntry entry_in_step(u8 *shared, const ListPlace &p, const TeamWork &w, const Step &s, u32 key) {
    u32 i = key / TILE_KEYS - s.tile, page = key / KV_PAGE % TILE_PAGES;
    u8 *keys = step_keys(shared, p, w, i) + page * KEYS_STEP,
       *values = step_values(shared, p, w, s, i) + page * VALUES_STEP;
    return {keys, values, nullptr, key % KV_PAGE, value_part(p), nullptr};
}

// Units [first, end) of all rows of the same sequence whose positions are in the step, before the own one.
DEVICE bool turn_others(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, TeamWork *w,
                        const Step &s, u32 first_unit, u32 end_unit) {
    bool any = false;
    for (u32 first = 0; first < w->n_rows; first += WARP) {
        u32 row = first + lane_index();
        bool is_other = row < w->n_rows && row != p.row && a.rows[row].pages == a.rows[p.row].pages &&
                        a.rows[row].position < p.keys.position && has_key(s, a.rows[row].position);
        for (u32 found = ballot_lanes(is_other); found; found &= found - 1) {
            u32 other = first + count_ones((found & -found) - 1);
            u32 position = a.rows[other].position, page = a.rows[other].pages[a.list_at + position / KV_PAGE];
            NewEntry e = entry_in_step(shared, p, *w, s, position);
            if (!OWN_ENTRIES) e.from = (const u8 *)kv_head_page(a.kv, page, list_kv_head(p));
            turn_units(a, shared, p, other, first_unit, end_unit, e, w);
            any = true;
        }
    }
    return any;
}

// The entries of this batch's rows to the step's tiles, which are there, and with the list's first step its
// queries; with `values` alone (IN_PARTS), those. Ends with a barrier where anything was stored. A row's
// entry is turned beside its queries, where the team will have its place later: loads at the end would be
// waited for.
DEVICE void turn_new_heads(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, TeamWork *w,
                           const Step &s, bool values) {
    u32 n_heads = list_n_heads(p), position = p.keys.position;
    u32 first = n_heads + (values ? 1 : 0), end = n_heads + (IN_PARTS && !values ? 1 : 2);
    NewEntry e = {};
    bool has_own = has_key(s, position), any = has_own || s.begins;
    bool keeps = s.begins && w->keeps && !has_own;
    if (has_own) e = entry_in_step(shared, p, *w, s, position);
    if (keeps) e.token = position % KV_PAGE;
    u8 *page = (u8 *)kv_head_page(a.kv, w->page, list_kv_head(p));
    if (!OWN_ENTRIES) e.from = page;
    bool stores_kept = has_own && w->keeps && !s.begins;
    if ((has_own || keeps) && OWN_ENTRIES && list_writes(p) && !w->rehearses) e.cache = page;
    if (stores_kept) {
        store_kept(*w, n_heads, e);
    } else if (any && !(values && !has_own)) {
        turn_units(a, shared, p, p.row, s.begins && !values ? 0 : first, has_own || keeps ? end : first, e,
                   w);
    }
    if (MAX_ROWS > 1 && !w->alone) any |= turn_others(a, shared, p, w, s, first, end);
#if SM_ARCH >= 90
    if (any) bulk_copy_fence();
#endif
    if (any) team_sync();
}

// ---- tiles ----

// The largest scores of n tiles over the team's pages.
template <u32 n> DEVICE void share_tops(u8 *shared, float top[n][2]) {
    if (TEAM_WARPS == 1) return;
    float *tops = (float *)(shared + TOPS_AT);
    u32 g = lane_index() / 4;
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        if (lane_index() % 4 > 0) continue;
        tops[(i * 16 + g) * TEAM_WARPS + team_warp()] = top[i][0];
        if (HEAD_ROWS > 1) tops[(i * 16 + 8 + g) * TEAM_WARPS + team_warp()] = top[i][1];
    }
    team_sync();
#pragma unroll
    for (u32 i = 0; i < n * HEAD_ROWS; i++) {
        float4 v = *(const float4 *)(tops + (i / HEAD_ROWS * 16 + i % HEAD_ROWS * 8 + g) * TEAM_WARPS);
        top[i / HEAD_ROWS][i % HEAD_ROWS] = max_f32(max_f32(v.x, v.y), max_f32(v.z, v.w));
    }
}

// Of tile i of a step.
DEVICE u8 *weights_at(u8 *shared, u32 i, u32 head, u32 unit) {
    return shared + WEIGHTS_AT + i * WEIGHTS_BYTES + head * TILE_KEYS * 2 + (unit ^ head % 8) * 16;
}
DEVICE void store_weights(u8 *shared, u32 i, u32 page, const u32 weights[4]) {
    u32 g = lane_index() / 4, c = lane_index() % 4;
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        if (k % 2 >= HEAD_ROWS) continue;
        *(u32 *)(weights_at(shared, i, g + k % 2 * 8, page * 2 + k / 2) + c * 4) = weights[k];
    }
}

// Of a tile's four pages, of which the first `there` values are there; this warp's dims. weights: of a team
// of one warp, else they are in shared memory. (Rows that are no heads take the weights of those that are:
// nobody looks at their sums.)
template <bool masked>
DEVICE void add_values(u8 *shared, const u8 *values, u32 i, const u32 weights[WARP_PAGES][4], i32 there,
                       float sum[4], WarpTriple *t) {
    const u32 ones[2] = {ONES_F16, ONES_F16};
#pragma unroll
    for (u32 p = 0; p < TILE_PAGES; p++) {
        u32 w[4];
        if (TEAM_WARPS == 1) {
            w[0] = weights[p % WARP_PAGES][0], w[1] = weights[p % WARP_PAGES][1];
            w[2] = weights[p % WARP_PAGES][2], w[3] = weights[p % WARP_PAGES][3];
        } else {
            load_matrix_4(w,
                          weights_at(shared, i, lane_index() % 16 % WEIGHT_ROWS, 2 * p + lane_index() / 16));
        }
        add_page<WARP_PAIRS, TEAM_WARPS, masked, VALUE_ROW_BYTES>(w, values + p * VALUES_STEP, team_warp(),
                                                                  there - (i32)(p * KV_PAGE), t->out);
        mma_f16(sum, w, ones);
    }
}

// Tile i of a step joins the triple, which is put to the scale of `keep` times its own. is_first: of its
// split, whose triple is empty. is_last: of the step, so that some of its values may be missing.
template <bool is_first, bool is_last>
DEVICE void add_tile_values(u8 *shared, const u8 *values, u32 i, const u32 weights[WARP_PAGES][4], i32 there,
                            const float keep[2], WarpTriple *t) {
    float sum[4] = {0, 0, 0, 0};
    if (!is_first) {
#pragma unroll
        for (u32 j = 0; j < WARP_DIMS; j++) {
            t->out[j][0] *= keep[0], t->out[j][1] *= keep[0];
            if (HEAD_ROWS > 1) t->out[j][2] *= keep[1], t->out[j][3] *= keep[1];
        }
        sum[0] = t->sum[0] * keep[0];
        if (HEAD_ROWS > 1) sum[2] = t->sum[1] * keep[1];
    }
    if (is_last && there < (i32)TILE_KEYS) add_values<true>(shared, values, i, weights, there, sum, t);
    else add_values<false>(shared, values, i, weights, there, sum, t);
    t->sum[0] = sum[0], t->sum[1] = sum[2];
}

// Scores of the step's n tiles become weights; keep[i]: what tile i finds is multiplied by it.
template <u32 n>
DEVICE void weigh_tiles(u8 *shared, const float s[n * WARP_PAGES * 2][4], const float top[n][2],
                        u32 weights[n][WARP_PAGES][4], float keep[n][2], WarpTriple *t) {
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        float base[2];
#pragma unroll
        for (u32 r = 0; r < HEAD_ROWS; r++) {
            bool is_first = WHOLE_SPLITS && i == 0; // of the split: the triple is empty
            float larger = is_first ? top[i][r] : max_f32(t->top[r], top[i][r]);
            base[r] = base_of(larger);
            keep[i][r] = is_first ? 0.0f : exp2_fast(t->top[r] - base[r]);
            t->top[r] = larger;
        }
#pragma unroll
        for (u32 p = 0; p < WARP_PAGES; p++) {
            weigh_page<HEAD_ROWS>(s + (i * WARP_PAGES + p) * 2, base, weights[i][p]);
            if (TEAM_WARPS > 1) store_weights(shared, i, team_warp() * WARP_PAGES + p, weights[i][p]);
        }
    }
}

// The team's queries. Of wide heads a few steps at a time: a loop is less code, whose first way through takes
// longest, and takes fewer registers.
struct TeamQueries : QueryPiece {
#ifdef HEAD_GATES
    enum : u32{FEW_STEPS = 2};
#else
    enum : u32 { FEW_STEPS = 4 };
#endif
    enum : u32 { UNROLLED = HEAD_DIM > 128 && HEAD_DIM % 64 == 0 ? (u32)FEW_STEPS : (u32)Q_STEPS };
};

// Adds the step's n tiles. Two at once have their barriers together (8B's heads, 64 rows of 128 keys:
// 11.7 µs, one by one 13.0).
template <u32 n>
DEVICE void add_tiles(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, const Step &step,
                      Fetches *f, TeamWork *w, WarpTriple *t) {
    const u8 *keys[n], *values[n];
    u32 warp_page = team_warp() * WARP_PAGES;
    RowKeys rows[2] = {p.keys, p.keys};
    float s[n * WARP_PAGES * 2][4], top[n][2], keep[n][2];
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        keys[i] = step_keys(shared, p, *w, i);
        values[i] = step_values(shared, p, *w, step, i);
        top[i][0] = top[i][1] = -INFINITY_F32;
    }
    score_pages<n * WARP_PAGES>(
        TeamQueries{{shared + QUERIES_AT}},
        [&](u32 k) { return keys[k / WARP_PAGES] + (warp_page + k % WARP_PAGES) * KEYS_STEP; }, s);
    u32 first = step.tile * TILE_KEYS;
    if (first < p.keys.first || first + n * TILE_KEYS - 1 > p.keys.position) {
#pragma unroll
        for (u32 i = 0; i < n; i++) {
            hide_keys<WARP_PAGES, HEAD_ROWS>(rows, first + i * TILE_KEYS + warp_page * KV_PAGE,
                                             s + i * WARP_PAGES * 2);
        }
    }
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        raise_tops<WARP_PAGES, HEAD_ROWS>(s + i * WARP_PAGES * 2, top[i]);
    }
    share_tops<n>(shared, top);
    // All warps have used the keys (WHOLE_PAGES: the step before). One step: a loop would wait for the next
    // one's pages, which have just been asked for, and one a step is enough.
    if (FETCHES_AHEAD && may_fetch(*f, w->n_halves + (WHOLE_PAGES ? 0 : n))) fetch_step(a, shared, f);
    if (IN_PARTS) {
        fetch_values(a, shared, f);
        turn_new_heads(a, shared, p, w, step, true);
    }
    u32 weights[n][WARP_PAGES][4];
    weigh_tiles<n>(shared, s, top, weights, keep, t);
    if (TEAM_WARPS > 1) team_sync();
    wait_for_values(shared, *w);
    i32 there = (i32)(p.keys.position + 1) - (i32)((step.tile + n - 1) * TILE_KEYS);
    if (n > 1) add_tile_values<WHOLE_SPLITS, false>(shared, values[0], 0, weights[0], TILE_KEYS, keep[0], t);
    add_tile_values<WHOLE_SPLITS && n == 1, true>(shared, values[n - 1], n - 1, weights[n - 1], there,
                                                  keep[n - 1], t);
    w->n_steps++, w->n_halves += step_halves(n);
    if (FETCHES_AHEAD) return;
    team_sync();
    fill_ring(a, shared, w->n_halves, f);
}

// The split that the team is at, to *t; of a rehearsal the split's first step, which is in the ring.
DEVICE void attend_split(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, bool begins, Fetches *f,
                         TeamWork *w, WarpTriple *t) {
    triple_clear(t);
    u32 tile = first_tile(p), end = end_tile(p);
    do {
        Step step = {tile, step_tiles(p, tile), begins};
        bool has_own = WHOLE_SPLITS ? p.split + 1 == p.end : has_key(step, p.keys.position);
        bool has_new = has_own || (MAX_ROWS > 1 && !w->alone);
        if (has_new) {
            wait_for_keys(shared, *f, *w);
            wait_for_values(shared, *w);
        }
        if (has_new || begins) turn_new_heads(a, shared, p, w, step, false);
        wait_for_keys(shared, *f, *w);
        if (STEP_TILES > 1 && step.n > 1) add_tiles<STEP_TILES>(a, shared, p, step, f, w, t);
        else add_tiles<1>(a, shared, p, step, f, w, t);
        tile += step.n;
        begins = false;
    } while (!WHOLE_SPLITS && tile < end && !w->rehearses);
}

// ---- triples in memory ----

// Calls f(i, head, j, dim) for what the lane has: row i of its two, group j of 8 dims. n / 2 pairs of groups,
// from `first` on.
template <u32 n, class F> DEVICE void for_each_pair(u32 first, F f) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (i * 8 >= LIST_HEADS || head >= LIST_HEADS) continue;
#pragma unroll
        for (u32 j = 0; j < n; j++) {
            u32 pair = first + j / 2 * TEAM_WARPS;
            if (VALUE_PAIRS % TEAM_WARPS && pair >= VALUE_PAIRS) continue;
            f(i, head, j, pair * 16 + j % 2 * 8 + lane_index() % 4 * 2);
        }
    }
}

// with_tops: of this warp's copy of the largest scores and sums.
template <u32 n> DEVICE void store_triple(float *to, const Triple<n> &t, u32 first, bool with_tops) {
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        *(float2 *)(to + head * VALUE_DIM + dim) = {t.out[j][2 * i], t.out[j][2 * i + 1]};
    });
    float2 *tops = (float2 *)(to + LIST_HEADS * VALUE_DIM);
    if (!with_tops || lane_index() % 4 > 0) return;
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head < LIST_HEADS) tops[head] = {t.top[i], t.sum[i]};
    }
}

// in_ring: of shared memory.
template <u32 n, bool in_ring = false> DEVICE void load_triple(const float *from, Triple<n> *t, u32 first) {
    auto load = [](const float2 *p) { return in_ring ? *p : load_shared_data(p); };
    triple_clear(t);
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 v = load((const float2 *)(from + head * VALUE_DIM + dim));
        t->out[j][2 * i] = v.x, t->out[j][2 * i + 1] = v.y;
    });
    const float2 *tops = (const float2 *)(from + LIST_HEADS * VALUE_DIM);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head >= LIST_HEADS) continue;
        float2 v = load(tops + head);
        t->top[i] = v.x, t->sum[i] = v.y;
    }
}

// Triples that a team gathers in its shared memory, so that its registers are the tile's: each warp its dims
// and a copy of largest scores and sums.
DEVICE float *accumulator(u8 *shared, u32 at) {
    return (float *)(shared + at);
}
DEVICE float2 *accumulator_tops(float *to) {
    return (float2 *)(to + LIST_HEADS * VALUE_DIM) + team_warp() * LIST_HEADS;
}
// begins: the triple takes the place of what is there.
DEVICE void accumulate(float *to, const WarpTriple &t, bool begins) {
    FoldFactors f[2];
    float2 *tops = accumulator_tops(to), top[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        top[i] = {t.top[i], t.sum[i]};
        f[i] = {0, 1};
        if (i * 8 >= LIST_HEADS || head >= LIST_HEADS || begins) continue;
        float2 before = tops[head];
        f[i] = fold_factors(&before.x, t.top[i]);
        top[i] = {before.x, fma_f32(before.y, f[i].keep, t.sum[i] * f[i].add)};
    }
    warp_sync();
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (i * 8 < LIST_HEADS && head < LIST_HEADS && lane_index() % 4 == 0) tops[head] = top[i];
    }
    for_each_pair<WARP_DIMS>(team_warp(), [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 *at = (float2 *)(to + head * VALUE_DIM + dim), v = {t.out[j][2 * i], t.out[j][2 * i + 1]};
        if (!begins) {
            float2 o = *at;
            v = {fma_f32(o.x, f[i].keep, v.x * f[i].add), fma_f32(o.y, f[i].keep, v.y * f[i].add)};
        }
        *at = v;
    });
    warp_sync();
}
DEVICE void load_accumulator(float *from, WarpTriple *t) {
    const float2 *tops = accumulator_tops(from);
    triple_clear(t);
    for_each_pair<WARP_DIMS>(team_warp(), [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 v = *(const float2 *)(from + head * VALUE_DIM + dim);
        t->out[j][2 * i] = v.x, t->out[j][2 * i + 1] = v.y;
    });
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (i * 8 >= LIST_HEADS || head >= LIST_HEADS) continue;
        t->top[i] = tops[head].x, t->sum[i] = tops[head].y;
    }
}

// The fold of `count` triples in memory, in their order. Several are loaded at once: one after the other,
// each would cost the way to the L2 (8 of them: 4 µs).
template <u32 n> DEVICE void fold_stored(const float *from, u32 count, Triple<n> *t, u32 first) {
    enum : u32 {
        HELD = n * CEIL_DIV(LIST_HEADS, 8), // four registers each
        AT_ONCE = HELD <= 4    ? 4
                  : HELD <= 16 ? 2
                               : 1
    };
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

// ---- a fold of many triples, by way of the team's ring, which is empty ----
//
// All triples that fit come at once. What they are multiplied by depends on largest scores alone, so it is
// found for all of them first, a lane a triple. Then each thread runs through four values of all triples.

DEVICE float2 *triple_tops(float *triple) { // [heads]
    return (float2 *)(triple + LIST_HEADS * VALUE_DIM);
}

// Of a triple and a head: L = fma(L, keep, sum), O = fma(O, keep, o * add).
struct alignas(16) FoldStep {
    float keep, add, sum;
};
static_assert(sizeof(FoldStep) == FOLD_STEP_BYTES, "one load");
DEVICE FoldStep *fold_step(float *triples, u32 k, u32 head) {
    return (FoldStep *)(triples + FOLD_ROOM * TRIPLE_FLOATS) + k * LIST_HEADS + head;
}

// Of 32 numbers, a lane each: the largest of the lanes up to this one.
DEVICE float largest_up_to(float v) {
#pragma unroll
    for (u32 d = 1; d < WARP; d *= 2) {
        float below = float_of(shuffle_up(bits_of(v), d));
        if (lane_index() >= d) v = max_f32(v, below);
    }
    return v;
}

// A head's steps of the fold of n triples, by a warp. The first triple's largest score becomes that of all.
DEVICE void find_fold_steps(float *triples, u32 n, u32 head) {
    float before = -INFINITY_F32;
    for (u32 first = 0; first < n; first += WARP) {
        u32 k = first + lane_index();
        float2 own = {-INFINITY_F32, 0};
        if (k < n) own = triple_tops(triples + k * TRIPLE_FLOATS)[head];
        float up_to = max_f32(before, largest_up_to(own.x));
        float top = float_of(shuffle_up(bits_of(up_to), 1)); // of the triples before this one
        if (lane_index() == 0) top = before;
        FoldFactors f = fold_factors(&top, own.x);
        if (k < n) *fold_step(triples, k, head) = {f.keep, f.add, own.y * f.add};
        before = shuffle(up_to, WARP - 1);
    }
    if (lane_index() == 0) triple_tops(triples)[head].x = before;
}

// Folds n triples of shared memory into the first, by the steps that were found.
DEVICE void fold_triples(float *triples, u32 n) {
    for (u32 at = team_thread() * 4; at < LIST_HEADS * VALUE_DIM; at += TEAM_THREADS * 4) {
        u32 head = at / VALUE_DIM;
        float4 v = *(const float4 *)(triples + at);
        float sum = fold_step(triples, 0, head)->sum;
#pragma unroll 4
        for (u32 k = 1; k < n; k++) {
            FoldStep f = *fold_step(triples, k, head);
            float4 o = *(const float4 *)(triples + k * TRIPLE_FLOATS + at);
            v = {fma_f32(v.x, f.keep, o.x * f.add), fma_f32(v.y, f.keep, o.y * f.add),
                 fma_f32(v.z, f.keep, o.z * f.add), fma_f32(v.w, f.keep, o.w * f.add)};
            sum = fma_f32(sum, f.keep, f.sum);
        }
        *(float4 *)(triples + at) = v;
        if (at % VALUE_DIM == 0) triple_tops(triples)[head].y = sum;
    }
    team_sync();
}

// Asks for bytes [first, first + size) of n triples in memory; all are multiples of 16.
DEVICE void fetch_of_triples(u8 *to, const u8 *from, u32 n, u32 first, u32 size) {
    for (u32 i = team_thread(); i < n * (size / 16); i += TEAM_THREADS) {
        u32 at = i / (size / 16) * (TRIPLE_FLOATS * 4) + first + i % (size / 16) * 16;
        copy_async_16(to + at, from + at);
    }
    copy_async_commit();
}

// The same as fold_stored, of all of the team's dims. Steps are found while the triples' values come.
DEVICE void fold_in_ring(u8 *shared, const float *from, u32 count, WarpTriple *t) {
    float *triples = (float *)shared;
    for (u32 done = 0; done < count;) {
        u32 kept = done > 0 ? 1 : 0; // the fold so far is the first
        u32 n = MIN(count - done, (u32)FOLD_ROOM - kept);
        const u8 *next = (const u8 *)(from + (u64)done * TRIPLE_FLOATS);
        u8 *to = shared + kept * TRIPLE_FLOATS * 4;
        fetch_of_triples(to, next, n, LIST_HEADS * VALUE_DIM * 4, LIST_HEADS * 8);
        fetch_of_triples(to, next, n, 0, LIST_HEADS * VALUE_DIM * 4);
        copy_async_wait<1>();
        team_sync();
        for (u32 head = team_warp(); head < LIST_HEADS; head += TEAM_WARPS) {
            find_fold_steps(triples, kept + n, head);
        }
        copy_async_wait<0>();
        team_sync();
        fold_triples(triples, kept + n);
        done += n;
    }
    load_triple<WARP_DIMS, true>(triples, t, team_warp());
}

#ifdef HEAD_GATES
// What a prompt's attention leaves attention_gate.cuh.
DEVICE float rounded_f16(float v) {
    return f16_to_f32(f32_to_f16(v));
}
#endif

// The row's result, of the dims that the lane has. HEAD_GATES: times the gates.
template <u32 n>
DEVICE void store_result(const BatchAttentionArgs &a, const ListPlace &p, Triple<n> *t, u32 first,
                         bool rehearses = false) {
    u32 first_head = not_before(list_first_head(p)), n_heads = list_n_heads(p);
    float inverse[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
#ifdef HAS_SINKS
        u32 head = lane_index() / 4 + i * 8;
        if (head < n_heads) triple_add_sink(t, i, a.sinks[first_head + head]);
#endif
        inverse[i] = reciprocal_fast(t->sum[i]);
    }
#ifdef HEAD_GATES
    // All at once, since each is as far away as all of them. raw: [row][heads, gates][HEAD_DIM]
    const float *gates = a.raw + ((u64)p.row * ROW_HEADS + TURNED_HEADS + first_head) * HEAD_DIM;
    float2 gate[2][n];
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        const float *from = gates + head * HEAD_DIM + value_part(p) * VALUE_DIM + dim;
        if (head < n_heads) gate[i][j] = load_shared_data((const float2 *)from);
    });
#endif
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        if (head >= n_heads || rehearses) return;
        float x = attended(t->out[j][2 * i], inverse[i]), y = attended(t->out[j][2 * i + 1], inverse[i]);
#ifdef HEAD_GATES
        x = gated(gate[i][j].x, rounded_f16(x)), y = gated(gate[i][j].y, rounded_f16(y));
#endif
        u32 col = (first_head + head) * HEAD_DIM + value_part(p) * VALUE_DIM + dim;
        activation_store_2(a.out, p.row, col, x, y);
    });
}

// ---- a team's work ----

DEVICE bool is_last_of(const BatchAttentionArgs &a, u8 *shared, u32 meeting, u32 n, u32 total) {
    if (TEAM_WARPS == 1) return is_last_warp_arrival(a.meetings + meeting, n, total);
    return is_last_arrival(a.meetings + meeting, n, total, (u32 *)(shared + LAST_AT));
}

// A list's groups and who folds them.
struct ListGroups {
    u32 first, n;     // groups
    bool whole;       // all of the list is this team's
    float *in_memory; // of the list, where teams share it
    u32 meeting;
};
// begin, end: the team's splits of the list.
DEVICE ListGroups list_groups(const BatchAttentionArgs &a, const ListPlace &p, u32 begin, u32 end, u32 per) {
    ListGroups g;
    u32 first = first_split(p.keys);
    g.first = first / GROUP_SPLITS;
    g.n = (p.end - 1) / GROUP_SPLITS + 1 - g.first;
    g.whole = begin == first && end == p.end;
    u32 shared_list = MAX_ROWS * ROW_LISTS <= ALL_TEAMS ? p.row * ROW_LISTS + p.list : p.base / per;
    g.in_memory = a.partial + ((u64)ALL_TEAMS * GROUP_SPLITS + (u64)shared_list * GROUPS_MAX) * TRIPLE_FLOATS;
    g.meeting = ALL_TEAMS + shared_list;
    return g;
}

// A split's triple t joins its group. The team's splits of the list are [begin, end). Returns whether the
// group is in *group now: else there is more of it to come, or another team folds it.
DEVICE bool join_group(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, u32 begin, u32 end,
                       u32 per, const WarpTriple &t, WarpTriple *group) {
    u32 list_first = first_split(p.keys), number = p.split / GROUP_SPLITS;
    u32 first = MAX(number * GROUP_SPLITS, list_first), last = MIN((number + 1) * GROUP_SPLITS, p.end);
    bool more = p.split + 1 < MIN(end, last);
    if (begin <= first && end >= last) {
        if (GROUP_IN_REGISTERS) {
            triple_fold(group, t);
        } else {
            accumulate(accumulator(shared, GROUP_AT), t, p.split == first);
            if (!more) load_accumulator(accumulator(shared, GROUP_AT), group);
        }
        return !more;
    }
    u32 starter = (p.base + first - list_first) / per; // the team that begins it
    float *splits = a.partial + (u64)starter * GROUP_SPLITS * TRIPLE_FLOATS;
    store_triple(splits + (p.split - first) * TRIPLE_FLOATS, t, team_warp(), team_warp() == 0);
    u32 n = MIN(end, last) - MAX(begin, first);
    if (more || !is_last_of(a, shared, starter, n, last - first)) return false;
    fold_stored(splits, last - first, group, team_warp());
    return true;
}

// The list's total, of groups that have been stored, n_done of them by this team. Returns whether it is in
// *t. is_last: the team has no other list, so that nothing is on its way to its ring.
DEVICE bool join_total(const BatchAttentionArgs &a, u8 *shared, const ListGroups &g, u32 n_done, bool is_last,
                       WarpTriple *t) {
    if (g.whole) {
        load_accumulator(accumulator(shared, TOTAL_AT), t);
        return true;
    }
    if (n_done == 0 || !is_last_of(a, shared, g.meeting, n_done, g.n)) return false;
    if (FOLDS_IN_RING && is_last) fold_in_ring(shared, g.in_memory, g.n, t);
    else fold_stored(g.in_memory, g.n, t, team_warp());
    return true;
}

// What a team has of the list that it is in: the splits [begin, end), now at place.split.
struct ListWork {
    ListPlace place;
    u32 begin, end;
    u32 n_done;     // groups
    u32 inside_end; // the end of the group that the team is in, if it has all of that; else 0
};
// What is known of a list before its first split, of things that no stage of the step writes.
DEVICE void begin_list(const BatchAttentionArgs &a, const ListPlace &p, TeamWork *w) {
    w->alone = is_alone(a, w->n_rows, p.row);
    w->page = a.rows[p.row].pages[a.list_at + p.keys.position / KV_PAGE];
}
// Enters the list at `place`, of which the team has as much as there is or as it has left.
DEVICE void enter_list(const BatchAttentionArgs &a, ListWork *l, TeamWork *w) {
    const ListPlace &p = l->place;
    l->begin = p.split;
    l->end = p.split + MIN(w->left, p.end - p.split);
    w->left -= l->end - l->begin;
    l->n_done = 0;
    w->keeps = !IN_PARTS && l->end == p.end;
    begin_list(a, p, w);
}

// Where the next split is the first that the team has of a group. *group: no split yet.
DEVICE void enter_group(ListWork *l, WarpTriple *group) {
    const ListPlace &p = l->place;
    u32 first = p.split / GROUP_SPLITS * GROUP_SPLITS, last = MIN(first + GROUP_SPLITS, p.end);
    first = MAX(first, first_split(p.keys));
    l->inside_end = l->begin <= first && l->end >= last ? last : 0;
    if (GROUP_IN_REGISTERS) triple_clear(group);
}
// What is done after most splits: where more of the group follows, of which the team has all, the split's
// triple is folded. Returns false where end_split is needed.
DEVICE bool stay_in_group(ListWork *l, const WarpTriple &t, WarpTriple *group) {
    if (!GROUP_IN_REGISTERS || l->place.split + 1 >= l->inside_end) return false;
    triple_fold(group, t);
    l->place.split++;
    return true;
}

// After a split, whose triple is in *t: it joins its list, and where that is the list's last, the result is
// stored. Returns false where there is no more to do, else goes to the next split.
DEVICE bool end_split(const BatchAttentionArgs &a, u8 *shared, ListWork *l, TeamWork *w, WarpTriple *t,
                      WarpTriple *group) {
    if (!GROUP_IN_REGISTERS) group = t;
    const ListPlace &p = l->place;
    ListGroups g = list_groups(a, p, l->begin, l->end, w->per); // each time, since registers are few
    bool is_there = first_split(p.keys) + 1 == p.end;
    if (is_there) {
        *group = *t;
    } else if (join_group(a, shared, p, l->begin, l->end, w->per, *t, group)) {
        u32 number = p.split / GROUP_SPLITS - g.first;
        l->n_done++;
        if (g.n == 1) is_there = true;
        else if (g.whole) accumulate(accumulator(shared, TOTAL_AT), *group, number == 0);
        else store_triple(g.in_memory + (u64)number * TRIPLE_FLOATS, *group, team_warp(), team_warp() == 0);
    }
    if (++l->place.split < l->end) {
        enter_group(l, group);
        return true;
    }
    if (g.n > 1) is_there = join_total(a, shared, g, l->n_done, w->left == 0, group);
    if (is_there) store_result(a, p, group, team_warp());
    if (w->left == 0) return false;
    next_list(a, &l->place);
    enter_list(a, l, w);
    enter_group(l, group);
    return true;
}

// What the team needs that no stage writes: on its way before stage_wait. Rows of queries past the list's
// heads are zeros.
DEVICE void team_begin(const BatchAttentionArgs &a, u8 *shared) {
    for (u32 i = team_thread(); i < QUERY_PIECE_BYTES / 16; i += TEAM_THREADS) {
        ((uint4 *)(shared + QUERIES_AT))[i] = {0, 0, 0, 0};
    }
#if defined(HEAD_NORMS) && !defined(NORM_PLAIN)
    if (team_thread() * 32 < 2 * HEAD_DIM) {
        u32 i = team_thread() * 32;
        if (i < HEAD_DIM) prefetch_l2(a.norm[0] + i);
        else if (OWN_ENTRIES) prefetch_l2(a.norm[1] + i - HEAD_DIM);
    }
#endif
#ifdef HAS_SINKS
    if (team_thread() * 32 < N_HEADS) prefetch_l2(a.sinks + team_thread() * 32);
#endif
    (void)a;
    ring_begin(shared);
}

// Team `team` of n_teams: its part of the list, and its fetches. False: none.
DEVICE bool find_work(const BatchAttentionArgs &a, u32 n_rows, u32 team, u32 n_teams, ListWork *l,
                      TeamWork *w, Fetches *f) {
    u32 n_splits = count_pieces<SPLIT_KEYS>(a, n_rows);
    *w = {CEIL_DIV(n_splits, n_teams), 0, n_rows, 0, 0, true, false, 0, false, {}};
    u32 at = team * w->per, left = n_splits - at;
    RowKeys row = row_keys(a.rows[0].position);
    u32 n_parts = n_teams / ROW_LISTS; // of the list of one row
    if (MAX_ROWS == 1 && n_parts > 0 && longest_part(row, n_parts) <= w->per + SHARING_SPLITS) {
        if (team >= n_parts * ROW_LISTS) return false;
        ListPart part = list_part(row, team % n_parts, n_parts);
        at = team / n_parts * (row_end_split(row) - first_split(row)) + part.first - first_split(row);
        left = part.end > part.first ? part.end - part.first : 0;
    } else {
        if (at >= n_splits) return false;
        left = MIN(w->per, left);
    }
    if (left == 0) return false;
    w->left = left;
    l->place = find_place<SPLIT_KEYS>(a, n_rows, at);
    fetches_begin(a, l->place, w->left, 1, f);
    return true;
}

DEVICE void attention_run(const BatchAttentionArgs &a, u32 team, u8 *shared) {
    ListWork l;
    TeamWork w;
    Fetches f;
    if (!find_work(a, a.batch->n_rows, team, ALL_TEAMS, &l, &w, &f)) return;
    team_begin(a, shared);
    fill_ring(a, shared, 0, &f);
    enter_list(a, &l, &w);
    stage_wait();
    WarpTriple t, group;
    enter_group(&l, &group);
    do {
        attend_split(a, shared, l.place, l.place.split == l.begin, &f, &w, &t);
    } while (stay_in_group(&l, t, &group) || end_split(a, shared, &l, &w, &t, &group));
    copy_tile_wait<0>();
}

#ifndef CLUSTERS // attention_clusters.cuh
EXPORTED StageInfo attention_info = {ATTEND_THREADS, {BLOCKS, 1}, ATTENTION_SHARED_BYTES};

KERNEL(ATTEND_THREADS, BLOCKS_PER_SM) attention(BatchAttentionArgs a) {
    stage_launch_next();
    u32 team = TEAM_WARPS == 1 ? warp_index() : 0;
    attention_run(a, block_index() * TEAMS + team, shared_memory() + team * TEAM_BYTES);
}
#endif
