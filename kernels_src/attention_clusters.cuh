// Batches: attention.cuh for few rows, with blocks in clusters of 8 (sm_90).
//
// Where the list has no more groups than there are clusters, a cluster takes a group and a block a split of
// it. The blocks send each other their triples: those of 16 dims go to the block of that rank, which folds
// them in order. So nothing goes through the L2 where a row has one group (up to 1,024 keys), and the rest
// once: groups are folded by the last block of each rank. Else blocks share the list out as they do in
// attention.cuh. The bits are the same. (8B's heads, one row of 1,024 keys, with the output stage behind it:
// 7.6 µs; merged by the last block 8.7.)
//
// Needs attention.cuh. Defines: attention.cuh's, with BLOCKS a multiple of 8; CLUSTERS.
#if !defined(CLUSTERS) || BLOCKS % 8
#error "CLUSTERS, BLOCKS"
#endif

enum : u32 {
    CLUSTER = GROUP_SPLITS,
    RANKS = MIN(DIM_PAIRS, CLUSTER),           // that fold: rank r has the pairs r, r + 8 of 8 dims each
    RANK_PAIRS = CEIL_DIV(DIM_PAIRS, CLUSTER), // a warp each
    ROW_HALVES = LIST_HEADS > 8 ? 2 : 1,

    // Shared memory: what the blocks of the cluster send.
    VALUES_IN_AT = ROUND_UP(ATTENTION_SHARED_BYTES, 16), // [split][RANK_PAIRS][ROW_HALVES][lane]float4
    TOPS_IN_AT = VALUES_IN_AT + CLUSTER * RANK_PAIRS * ROW_HALVES * WARP * 16, // [split][8]float4
    ARRIVED_AT = TOPS_IN_AT + CLUSTER * 8 * 16,
    CLUSTERS_SHARED_BYTES = ARRIVED_AT + 8,
};
static_assert((u32)RANK_PAIRS <= (u32)ATTEND_WARPS, "a warp a pair");

typedef Triple<2> PairTriple; // of 16 dims

// A group of a list, which is the cluster's.
struct ClusterGroup {
    ListPlace place;  // the block's split, if it is below `last`
    u32 first, last;  // splits
    u32 number;       // of those of its list
    u32 n_groups;     // of the list
    u32 list_cluster; // that has the list's first group
};
DEVICE ClusterGroup cluster_group(const BatchAttentionArgs &a, u32 n_rows, u32 cluster, u32 rank) {
    ClusterGroup g;
    g.place = find_place<ATTENTION_GROUP_KEYS>(a, n_rows, cluster);
    u32 first_group = g.place.keys.first / ATTENTION_GROUP_KEYS, group = g.place.split;
    g.number = group - first_group;
    g.n_groups = g.place.end - first_group;
    g.list_cluster = g.place.base;
    g.first = MAX(group * GROUP_SPLITS, first_split(g.place.keys));
    g.last = MIN((group + 1) * GROUP_SPLITS, end_split(g.place.keys));
    g.place.split = g.first + rank;
    g.place.end = end_split(g.place.keys);
    return g;
}

DEVICE float4 *values_in(u8 *shared, u32 split, u32 pair, u32 half) {
    return (float4 *)(shared + VALUES_IN_AT) + ((split * RANK_PAIRS + pair) * ROW_HALVES + half) * WARP +
           lane_index();
}
DEVICE float4 *tops_in(u8 *shared, u32 split) {
    return (float4 *)(shared + TOPS_IN_AT) + split * 8 + lane_index() / 4;
}
DEVICE BulkBarrier *arrived(u8 *shared) {
    return (BulkBarrier *)(shared + ARRIVED_AT);
}
// What a rank is sent of n splits.
DEVICE u32 sent_bytes(u32 rank, u32 n) {
    u32 pairs = rank < DIM_PAIRS ? CEIL_DIV(DIM_PAIRS - rank, (u32)CLUSTER) : 0;
    return pairs > 0 ? n * (pairs * LIST_HEADS * 4 + MIN(LIST_HEADS, 8u)) * 16 : 0;
}

// The triple of the group's split number `split`, to the blocks that fold it.
DEVICE void send_triple(u8 *shared, u32 split, const WarpTriple &t) {
    u32 g = lane_index() / 4;
#pragma unroll
    for (u32 i = 0; i < WARP_PAIRS; i++) {
        u32 pair = warp_index() + i * ATTEND_WARPS, rank = pair % CLUSTER;
        if (pair >= DIM_PAIRS) continue;
        auto send = [&](const void *to, float4 v) {
            cluster_store(cluster_address(to, rank), v, cluster_address(arrived(shared), rank));
        };
#pragma unroll
        for (u32 h = 0; h < ROW_HALVES; h++) {
            const float *v = t.out[2 * i] + 2 * h, *w = t.out[2 * i + 1] + 2 * h;
            if (g + h * 8 < LIST_HEADS)
                send(values_in(shared, split, pair / CLUSTER, h), {v[0], v[1], w[0], w[1]});
        }
        if (pair < CLUSTER && lane_index() % 4 == 0 && g < LIST_HEADS) {
            send(tops_in(shared, split), {t.top[0], t.sum[0], t.top[1], t.sum[1]});
        }
    }
}

// The fold of n splits' triples, of the rank's pair that this warp has.
DEVICE void fold_sent(u8 *shared, u32 n, PairTriple *group) {
    for (u32 split = 0; split < n; split++) {
        PairTriple t;
        triple_clear(&t);
        float4 tops = *tops_in(shared, split);
        t.top[0] = tops.x, t.sum[0] = tops.y;
        if (ROW_HALVES > 1) t.top[1] = tops.z, t.sum[1] = tops.w;
#pragma unroll
        for (u32 h = 0; h < ROW_HALVES; h++) {
            float4 v = *values_in(shared, split, warp_index(), h);
            t.out[0][2 * h] = v.x, t.out[0][2 * h + 1] = v.y;
            t.out[1][2 * h] = v.z, t.out[1][2 * h + 1] = v.w;
        }
        if (split == 0) *group = t;
        else triple_fold(group, t);
    }
}

// The rank's part of the group joins its list's total.
DEVICE void end_cluster_group(const BatchAttentionArgs &a, u8 *shared, const ClusterGroup &g, u32 rank) {
    u32 pair = rank + warp_index() * CLUSTER;
    bool folds = warp_index() < RANK_PAIRS && pair < DIM_PAIRS;
    u32 slot = MAX_ROWS * LISTS <= BLOCKS ? g.place.row * LISTS + g.place.list : g.list_cluster;
    float *groups = a.partial + ((u64)BLOCKS * GROUP_SPLITS + (u64)slot * GROUPS_MAX) * TRIPLE_FLOATS;
    PairTriple total;
    if (folds) {
        bulk_barrier_wait_cluster(arrived(shared), 0);
        fold_sent(shared, g.last - g.first, &total);
        if (g.n_groups > 1) store_triple(groups + (u64)g.number * TRIPLE_FLOATS, total, pair, pair == rank);
    }
    if (g.n_groups > 1) {
        if (!is_last_of(a, shared, BLOCKS + g.list_cluster * CLUSTER + rank, 1, g.n_groups)) return;
        if (folds) fold_stored(groups, g.n_groups, &total, pair);
    }
    if (folds) store_result(a, g.place, &total, pair);
}

DEVICE void attention_clusters_run(const BatchAttentionArgs &a, u32 block, u8 *shared) {
    u32 n_rows = a.batch->n_rows, n_groups = count_pieces<ATTENTION_GROUP_KEYS>(a, n_rows);
    if (n_groups > BLOCKS / CLUSTER) {
        attention_run(a, block, shared);
        return;
    }
    u32 rank = cluster_rank();
    if (block / CLUSTER >= n_groups) return;
    ClusterGroup g = cluster_group(a, n_rows, block / CLUSTER, rank);
    bool has_split = g.place.split < g.last, alone = g.last - g.first == 1 && g.n_groups == 1;
    if (alone && !has_split) return;
    Fetches f;
    fetches_begin(a, g.place, has_split ? 1 : 0, &f);
    ring_begin(shared);
    if (thread_index() == 0) {
        bulk_barrier_init(arrived(shared), 1);
        bulk_barrier_init_fence();
        bulk_barrier_expect(arrived(shared), sent_bytes(rank, g.last - g.first));
    }
    block_sync();
    if (!alone) cluster_arrive();
    fetch_first(a, shared, n_rows, &f);
    WarpTriple t;
    triple_clear(&t);
    if (has_split) {
        QueryPiece q = load_list_queries(a, shared, g.place);
        u32 n = 0;
        for (u32 tile = first_tile(g.place); tile < end_tile(g.place); tile++) {
            add_tile(a, shared, q, g.place.keys, tile, n++, &f, &t);
        }
    }
    if (alone) {
        store_result(a, g.place, &t, warp_index());
        return;
    }
    cluster_wait(); // the others' barriers are made
    if (has_split) send_triple(shared, rank, t);
    if (rank < RANKS) end_cluster_group(a, shared, g, rank);
}

EXPORTED StageInfo attention_clusters_info = {ATTEND_THREADS, {BLOCKS, 1}, CLUSTERS_SHARED_BYTES, CLUSTER};

KERNEL_OF_CLUSTERS(ATTEND_THREADS, 1, 8) attention_clusters(BatchAttentionArgs a) {
    stage_launch_next();
    attention_clusters_run(a, block_index(), shared_memory());
}
