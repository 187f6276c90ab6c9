// Of attention.cuh: what a team does with tiles, and with the entries that are not in the cache yet.

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
