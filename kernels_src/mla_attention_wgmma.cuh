// Prompts on sm_90a: what mla_attention.cuh computes of stretches, to the same bits, by products of four
// warps (wgmma).
//
//     out[row][head] = softmax(q[row][head] K^T) V over the positions up to the row's; V = the start of K
//
// Queries are the columns of all products, and who does what is in attend_columns.cuh. A tile's entries are
// keys and values at once: the team of scores waits for them, and the values' teams give their slots up.
//
// Grid: MLA_BLOCKS blocks, one a multiprocessor. Tasks and their order: mla_tasks.cuh. The total's values are
// in `partial`, a block's after another's. Needs rows.cuh, kv_cache.cuh, soft_cap.cuh, attend.cuh,
// mla_tasks.cuh, ring.cuh, attend_columns.cuh. Defines: attend_columns.cuh's with N_KV_HEADS 1; MAX_ROWS,
// MLA_BLOCKS, MLA_STRETCHES.
#if !defined(KV_RANK) || !defined(MAX_ROWS) || !defined(MLA_QUERIES) || !defined(MLA_BLOCKS) || \
    !defined(MLA_STRETCHES) || N_KV_HEADS != 1
#error "KV_RANK, MAX_ROWS, MLA_QUERIES, MLA_BLOCKS, MLA_STRETCHES"
#endif

enum : u32 {
    SLOTS = MIN((u32)SLOTS_FIT, 24u),
    MLA_SHARED_BYTES = SLOTS_AT + SLOTS * SLOT_BYTES,
};
static_assert((u32)SLOTS >= TILE_SLOTS, "a tile fits");

struct MlaShared : ColumnsShared {
    BulkBarrier slot_full[SLOTS], slot_read[SLOTS];
};
static_assert(sizeof(MlaShared) <= SMALL_BYTES, "beside the rings");

DEVICE MlaShared *small_of(u8 *shared) {
    return (MlaShared *)(shared + SMALL_AT);
}

struct MlaForm {
    const MlaAttentionArgs &a;
    u8 *shared;
    MlaWalk walk;
    MlaTask t;

    DEVICE bool next_task() {
        return walk_next(a, &walk, &t);
    }
    DEVICE const MlaTask &task() const {
        return t;
    }
    DEVICE u32 first_tile() const {
        return 0;
    }
    DEVICE u32 end_tile() const {
        return CEIL_DIV(t.end_page, (u32)TILE_PAGES);
    }
    DEVICE bool is_part() const {
        return false;
    }
    DEVICE u32 position(u32 query) const {
        return query == 0 ? t.position : query_position(t, query);
    }
    DEVICE const f16 *query(u32 i) const {
        return i < t.n ? a.q + (u64)(t.query + i) * HEAD_DIM : nullptr;
    }

    DEVICE void fetch(u32 warp, u32 *n) const {
        MlaShared *b = small_of(shared);
        u32 tiles = end_tile(), next = lane_page(t, 0);
        if (warp > 0) return;
#pragma unroll 1
        for (u32 tile = 0; tile < tiles; tile++, (*n)++) {
            const u8 *from =
                (const u8 *)(a.kv + (u64)next * KV_TILE_HALVES(HEAD_DIM)) + lane_index() % 2 * EIGHT_BYTES;
            if (tile + 1 < tiles) next = lane_page(t, tile + 1);
#pragma unroll 1
            for (u32 i = 0; i < TILE_SLOTS; i++) {
                fetch_slot(b->slot_full, b->slot_read, shared + SLOTS_AT, *n * TILE_SLOTS + i,
                           from + i * SLOT_EIGHT_BYTES, tile_eights(t, tile));
            }
        }
    }

    template <u32 i = 0> DEVICE void multiply_keys(u32 n, TileScores s) const {
        u32 use = n * TILE_SLOTS + i;
        wait_full(small_of(shared)->slot_full, use);
        warpgroup_fence(); // which the compiler would put behind each wait
        multiply_slot<i>(shared, value_slot(use), s);
        if constexpr (i + 1 < TILE_SLOTS) {
            multiply_keys<i + 1>(n, s);
        } else {
            warpgroup_commit();
            warpgroup_wait<0>();
            warpgroup_keep<QUERY_EIGHTS * 4>(s);
        }
    }

    DEVICE u8 *value_slot(u32 use) const {
        return shared + SLOTS_AT + use % SLOTS * SLOT_BYTES;
    }
    DEVICE void wait_for_value(u32 use) const {
        wait_full(small_of(shared)->slot_full, use); // as the scores' team has done
    }
    DEVICE void give_value_up(u32 use) const {
        give_slot_up(small_of(shared)->slot_read, use);
    }

    DEVICE void end_group(const TilePlace &p, const TileFactors &f, const ValueTeam &team,
                          ColumnValues *group, ColumnSums *sums) const {
        if (end_tile() <= GROUP_TILES) return;
        join_total(a.partial + (u64)block_index() * COLUMNS * VALUE_DIMS, p, f, team, group, sums);
    }
    DEVICE void end_task(const ValueTeam &team, const ColumnValues &group, const ColumnSums &sums) const {
        store_result(*this, team, group, sums);
    }
    DEVICE void store(u32 query, u32 dim, u32 first, u32 second) const {
        f16 *at = a.out + (u64)(t.query + query) * KV_RANK + dim;
        if (query >= t.n) return;
        *(u32 *)at = first;
        *(u32 *)(at + 8) = second;
    }
};

DEVICE void mla_attention_run(const MlaAttentionArgs &a) {
    u8 *shared = shared_memory();
    MlaShared *b = small_of(shared);
    if (thread_index() == 0) {
        ring_begin(b->slot_full, b->slot_read, VALUE_WARPS);
        columns_begin(b);
    }
#if MLA_CLUSTER > 1
    cluster_sync(); // the other's barriers are made, too
#else
    block_sync();
#endif
    stage_wait();
    columns_run(MlaForm{a, shared, {0}, {}});
}

#if MLA_CLUSTER > 1
EXPORTED StageInfo mla_attention_info = {COLUMN_THREADS, {MLA_BLOCKS, 1}, MLA_SHARED_BYTES, MLA_CLUSTER};

KERNEL_OF_CLUSTERS(COLUMN_THREADS, 1, MLA_CLUSTER) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    mla_attention_run(a);
    cluster_end(); // the other one may still give slots up
}
#else
EXPORTED StageInfo mla_attention_info = {COLUMN_THREADS, {MLA_BLOCKS, 1}, MLA_SHARED_BYTES};

KERNEL(COLUMN_THREADS, 1) mla_attention(MlaAttentionArgs a) {
    stage_launch_next();
    mla_attention_run(a);
}
#endif
