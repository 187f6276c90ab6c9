// Batches with prompts on sm_90a, heads of 512 dims: what span_attention.cuh computes, to the same bits, by
// products of four warps (wgmma).
//
//     out[row][h] = softmax(q[row][h] K^T) V over the positions up to the row's
//
// Queries are the columns of all products, and who does what is in attend_columns.cuh: 40 queries a block,
// 80 a cluster of two, which are a stretch or a part of one, and a list of heads that share keys
// (span_attention.cuh). Keys and values have a ring each, of slots of two sheets, and a warp each that
// fetches them. The team of scores gives keys up, the values' teams values.
//
// Grid: SPAN_BLOCKS blocks, one a multiprocessor. Clusters take a task each, those with the most keys first,
// then the next ones in the opposite order, and so on: so all get about as many keys. A part leaves each
// group's triple in `partial` (span_parts.cuh); a whole stretch has its total there, a block's values behind
// the other's, as its threads have them.
//
// A cache of f16, no windows and no sinks. Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh,
// span_parts.cuh, ring.cuh, attend_columns.cuh. Defines: attend_columns.cuh's with HEAD_DIM a multiple of
// 128; MAX_ROWS, SPAN_BLOCKS (even).
#if !defined(MAX_ROWS) || !defined(SPAN_BLOCKS) || SPAN_BLOCKS % 2 || HEAD_DIM % 128 || defined(KV_Q8) || \
    defined(HAS_SINKS)
#error "MAX_ROWS, SPAN_BLOCKS, HEAD_DIM"
#endif

enum : u32 {
    QUERIES = COLUMN_CLUSTER * COLUMNS,
    STRETCH_ROWS = layout_stretch_rows(N_HEADS, N_KV_HEADS, QUERIES),
    SPAN_CLUSTERS = SPAN_BLOCKS / COLUMN_CLUSTER,
    KEY_SLOTS = SLOTS_FIT / 2,
    VALUE_SLOTS = SLOTS_FIT - KEY_SLOTS,
    VALUES_AT = SLOTS_AT + KEY_SLOTS * SLOT_BYTES,
    SPAN_SHARED_BYTES = VALUES_AT + VALUE_SLOTS * SLOT_BYTES,
};
static_assert((u32)KEY_SLOTS >= TILE_SLOTS, "a tile fits");

struct SpanShared : ColumnsShared {
    BulkBarrier keys_full[KEY_SLOTS], keys_read[KEY_SLOTS];
    BulkBarrier values_full[VALUE_SLOTS], values_read[VALUE_SLOTS];
};
static_assert(sizeof(SpanShared) <= SMALL_BYTES, "beside the rings");

DEVICE SpanShared *small_of(u8 *shared) {
    return (SpanShared *)(shared + SMALL_AT);
}

// What a block attends to at a time, beside the other one of its cluster.
struct SpanTask {
    const u32 *pages;
    u32 list;
    u32 row, n_rows;                    // of the batch, of both blocks
    u32 position;                       // of the first one
    u32 last;                           // of the sequence's last row in the batch
    u32 first_tile, end_tile, end_page; // of keys
    u32 place;                          // of its total, or of its stretch's groups
    bool in_parts;                      // it is a part
};

struct SpanForm {
    const BatchAttentionArgs &a;
    u8 *shared;
    u32 first_query; // of the block, among the cluster's
    u32 turn;
    SpanTask t;

    // (A part may have no keys that its rows see.)
    DEVICE bool next_task() {
        u32 n_tasks = load_shared_data(&a.batch->n_stretches[a.cut]) * LISTS;
        u32 cluster = block_index() / COLUMN_CLUSTER;
        while (turn * SPAN_CLUSTERS < n_tasks) {
            u32 task = turn * SPAN_CLUSTERS + (turn % 2 ? SPAN_CLUSTERS - 1 - cluster : cluster);
            turn++;
            if (task >= n_tasks) continue;
            RowStretch s = a.stretches[task / LISTS];
            u32 first = s.first_group * GROUP_TILES, end = first + s.n_groups * GROUP_TILES,
                end_page = (s.position + s.n_rows - 1) / KV_PAGE + 1;
            end_page = MIN(end_page, end * TILE_PAGES);
            t = {s.pages + a.list_at,
                 task % LISTS,
                 s.row,
                 s.n_rows,
                 s.position,
                 s.last,
                 first,
                 CEIL_DIV(end_page, (u32)TILE_PAGES),
                 end_page,
                 s.place,
                 !has_all_groups(s)};
            if (t.first_tile < t.end_tile) return true;
        }
        return false;
    }
    DEVICE const SpanTask &task() const {
        return t;
    }
    DEVICE u32 first_tile() const {
        return t.first_tile;
    }
    DEVICE u32 end_tile() const {
        return t.end_tile;
    }
    DEVICE bool is_part() const {
        return t.in_parts;
    }
    DEVICE u32 position(u32 query) const {
        return t.position + MIN((first_query + query) / LIST_HEADS, t.n_rows - 1);
    }
    DEVICE const f16 *query(u32 i) const {
        SpanQuery q = span_query(t, first_query + i);
        return q.is_there ? a.q + ((u64)q.row * N_HEADS + q.head) * HEAD_DIM : nullptr;
    }

    // The first warp keys, the second one values.
    DEVICE void fetch(u32 warp, u32 *n) const {
        SpanShared *b = small_of(shared);
        u32 next = lane_page(t, t.first_tile), head = list_kv_head(t.list);
#pragma unroll 1
        for (u32 tile = t.first_tile; tile < t.end_tile; tile++, (*n)++) {
            const u8 *from = (const u8 *)kv_head_page(a.kv, next, head) + warp * KV_PIECE_BYTES +
                             lane_index() % 2 * EIGHT_BYTES;
            u32 n_eights = tile_eights(t, tile);
            if (tile + 1 < t.end_tile) next = lane_page(t, tile + 1);
#pragma unroll 1
            for (u32 i = 0; i < TILE_SLOTS; i++) {
                const u8 *sheets = from + i * SLOT_EIGHT_BYTES;
                u32 use = *n * TILE_SLOTS + i;
                if (warp == 0)
                    fetch_slot(b->keys_full, b->keys_read, shared + SLOTS_AT, use, sheets, n_eights);
                else fetch_slot(b->values_full, b->values_read, shared + VALUES_AT, use, sheets, n_eights);
            }
        }
    }

    template <u32 i = 0> DEVICE void multiply_keys(u32 n, TileScores s) const {
        SpanShared *b = small_of(shared);
        u32 use = n * TILE_SLOTS + i;
        wait_full(b->keys_full, use);
        warpgroup_fence(); // which the compiler would put behind each wait
        multiply_slot<i>(shared, shared + SLOTS_AT + use % KEY_SLOTS * SLOT_BYTES, s);
        warpgroup_commit();
        if constexpr (i > 0) {
            warpgroup_wait<1>();
            give_slot_up(b->keys_read, use - 1);
        }
        if constexpr (i + 1 < TILE_SLOTS) {
            multiply_keys<i + 1>(n, s);
        } else {
            warpgroup_wait<0>();
            warpgroup_keep<QUERY_EIGHTS * 4>(s);
            give_slot_up(b->keys_read, use);
        }
    }

    DEVICE u8 *value_slot(u32 use) const {
        return shared + VALUES_AT + use % VALUE_SLOTS * SLOT_BYTES;
    }
    DEVICE void wait_for_value(u32 use) const {
        wait_full(small_of(shared)->values_full, use);
    }
    DEVICE void give_value_up(u32 use) const {
        give_slot_up(small_of(shared)->values_read, use);
    }

    // What a part leaves of a group.
    DEVICE void leave_group(u32 number, const TileFactors &f, const ValueTeam &team,
                            const ColumnValues &group, const ColumnSums &sums) const {
        float *triple = span_triple(a.partial, t.place + number, t.list, QUERIES);
#pragma unroll
        for (u32 i = 0; i < QUERY_EIGHTS * 4; i++) {
            u32 query = first_query + lane_query(i / 4 * 2 + i % 2), dim = lane_dim(team) + i / 2 % 2 * 8;
#pragma unroll
            for (u32 m = 0; m < TEAM_SHEETS; m++) {
                *triple_value(triple, query, dim + m * TEAM_DIMS) = group.of[m][i];
            }
        }
        if (!has_sums(team) || lane_index() >= 4) return;
        float2 top = lane_factors(f.group_top, team.warp);
        u32 query = first_query + team.warp * 8 + lane_index() * 2;
        *triple_sums(triple, query, QUERIES) = {top.x, sums.group[0]};
        *triple_sums(triple, query + 1, QUERIES) = {top.y, sums.group[1]};
    }
    DEVICE void end_group(const TilePlace &p, const TileFactors &f, const ValueTeam &team,
                          ColumnValues *group, ColumnSums *sums) const {
        if (t.in_parts) {
            leave_group(p.tile / GROUP_TILES, f, team, *group, *sums);
        } else if (t.end_tile > GROUP_TILES) {
            float *total = span_triple(a.partial, t.place, t.list, QUERIES);
            join_total(total + first_query * HEAD_DIM, p, f, team, group, sums);
        }
    }
    DEVICE void end_task(const ValueTeam &team, const ColumnValues &group, const ColumnSums &sums) const {
        if (!t.in_parts) store_result(*this, team, group, sums);
    }
    DEVICE void store(u32 query, u32 dim, u32 first, u32 second) const {
        SpanQuery q = span_query(t, first_query + query);
        if (!q.is_there) return;
        *(u32 *)(a.out + activation_at(q.row, q.head * HEAD_DIM + dim)) = first;
        *(u32 *)(a.out + activation_at(q.row, q.head * HEAD_DIM + dim + 8)) = second;
    }
};

EXPORTED StageInfo span_attention_info = {
    COLUMN_THREADS, {SPAN_BLOCKS, 1}, SPAN_SHARED_BYTES, COLUMN_CLUSTER};

KERNEL_OF_CLUSTERS(COLUMN_THREADS, 1, 2) span_attention(BatchAttentionArgs a) {
    stage_launch_next();
    u8 *shared = shared_memory();
    SpanShared *b = small_of(shared);
    if (thread_index() == 0) {
        ring_begin(b->keys_full, b->keys_read, TEAM_WARPS);
        ring_begin(b->values_full, b->values_read, VALUE_WARPS);
        columns_begin(b);
    }
    cluster_sync(); // the other's barriers are made, too
    stage_wait();
    columns_run(SpanForm{a, shared, block_index() % COLUMN_CLUSTER * COLUMNS, 0, {}});
    cluster_end(); // the other one may still give slots up
}
