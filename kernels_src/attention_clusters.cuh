// Batches: attention.cuh for few rows, with blocks in clusters (sm_90). TWO_WAYS: or without, as the host
// says at each launch (StageInfo.blocks_alone): clusters where a row has more than one split, and they have
// all groups at once; of long texts twice as many blocks, two a multiprocessor (ALL_TEAMS has room for them).
//
// Where the list has no more groups than there are clusters, a cluster takes a group, and its blocks the
// group's splits in turn. The blocks send each other their triples: those of 16 dims go to the block of that
// rank, which folds them in order. So nothing goes through the L2 where a row has one group (up to 1,024
// keys), and the rest once: groups are folded by the last block of each rank. Else blocks share the list out
// as they do in attention.cuh. The bits are the same. (One row of 256 keys, 0.5B's heads: 2.7 µs; merged by
// the last block 3.7.)
//
// The next stage may start when q k v has ended, not before: its weights would come at q k v's expense (3% of
// a step of 1B, 2% of GPT-OSS-20B).
//
// Rehearsal. Where few blocks have splits, each goes through its first step before stage_wait, with whatever
// the input is then, and for nobody: the instructions are in the multiprocessor's cache then, which other
// stages' have emptied. (0.5B, a step of one row: 332 µs → 320. Of 64 blocks and more it is in the way of the
// stage before: 8B at 1,024 keys 1.68 ms → 1.74.)
//
// Needs attention.cuh. Defines: attention.cuh's, with TEAM_WARPS of 4; CLUSTERS: blocks of a cluster (2, 4 or
// 8), without it there is nothing here; TWO_WAYS.
#ifdef CLUSTERS
#if TEAM_WARPS != 4
#error "TEAM_WARPS"
#endif

enum : u32 {
    CLUSTER = CLUSTERS,
    CLUSTERS_AT_ONCE = BLOCKS / CLUSTER,
    REHEARSING_BLOCKS = BLOCKS / 8,
    RANKS = MIN(VALUE_PAIRS, CLUSTER), // that fold: rank r has the pairs r, r + CLUSTER, … of 8 dims each
    RANK_PAIRS = CEIL_DIV(VALUE_PAIRS, CLUSTER), // a warp each
    ROW_HALVES = LIST_HEADS > 8 ? 2 : 1,

    // Shared memory: what the blocks of the cluster send, where else accumulators are.
    VALUES_IN_AT = GROUP_AT, // [split][RANK_PAIRS][ROW_HALVES][lane]float4
    TOPS_IN_AT = VALUES_IN_AT + GROUP_SPLITS * RANK_PAIRS * ROW_HALVES * WARP * 16, // [split][8]float4
    ARRIVED_AT = TOPS_IN_AT + GROUP_SPLITS * 8 * 16, // two barriers: arrived, rehearsed
    REHEARSED_AT = ARRIVED_AT + 16,                  // 16 bytes for what is sent to nobody
    CLUSTERS_SHARED_BYTES = MAX(REHEARSED_AT + 16, (u32)ATTENTION_SHARED_BYTES),
};
static_assert((u32)RANK_PAIRS <= (u32)TEAM_WARPS, "a warp a pair");

typedef Triple<2> PairTriple; // of 16 dims

// A group of a list, which is the cluster's.
struct ClusterGroup {
    ListPlace place;  // the block's first split, if it is below `last`
    u32 first, last;  // splits
    u32 number;       // of those of its list
    u32 n_groups;     // of the list
    u32 list_cluster; // that has the list's first group
    bool is_alone;    // a list of one split
};
DEVICE ClusterGroup cluster_group(const BatchAttentionArgs &a, u32 n_rows, u32 cluster, u32 rank) {
    ClusterGroup g;
    g.place = find_place<ATTENTION_GROUP_KEYS>(a, n_rows, cluster);
    u32 first_group = g.place.keys.first / ATTENTION_GROUP_KEYS, group = g.place.split;
    g.number = group - first_group;
    g.n_groups = g.place.end - first_group;
    g.list_cluster = g.place.base;
    g.first = MAX(group * GROUP_SPLITS, first_split(g.place.keys));
    g.last = MIN((group + 1) * GROUP_SPLITS, row_end_split(g.place.keys));
    g.place.split = g.first + rank;
    g.place.end = row_end_split(g.place.keys);
    g.is_alone = g.last - g.first == 1 && g.n_groups == 1;
    return g;
}

DEVICE float4 *values_in(u8 *shared, u32 split, u32 pair, u32 half) {
    return (float4 *)(shared + VALUES_IN_AT) + ((split * RANK_PAIRS + pair) * ROW_HALVES + half) * WARP +
           lane_index();
}
DEVICE float4 *tops_in(u8 *shared, u32 split) {
    return (float4 *)(shared + TOPS_IN_AT) + split * 8 + lane_index() / 4;
}
DEVICE BulkBarrier *arrived(u8 *shared, bool rehearses) {
    return (BulkBarrier *)(shared + ARRIVED_AT) + rehearses;
}
// What a rank is sent of n splits.
DEVICE u32 sent_bytes(u32 rank, u32 n) {
    u32 pairs = rank < VALUE_PAIRS ? CEIL_DIV(VALUE_PAIRS - rank, (u32)CLUSTER) : 0;
    return pairs > 0 ? n * (pairs * LIST_HEADS * 4 + MIN(LIST_HEADS, 8u)) * 16 : 0;
}

// What a block sends of a split, to all ranks.
enum : u32 { SPLIT_BYTES = (VALUE_PAIRS * LIST_HEADS * 4 + RANKS * MIN(LIST_HEADS, 8u)) * 16 };

// The triple of the group's split number `split`, to the blocks that fold it; in a rehearsal to nobody.
DEVICE void send_triple(u8 *shared, u32 split, const WarpTriple &t, bool rehearses) {
    u32 g = lane_index() / 4, own = cluster_rank();
#pragma unroll
    for (u32 i = 0; i < WARP_PAIRS; i++) {
        u32 pair = warp_index() + i * TEAM_WARPS, rank = rehearses ? own : pair % CLUSTER;
        if (pair >= VALUE_PAIRS) continue;
        auto send = [&](const void *to, float4 v) {
            if (rehearses) to = shared + REHEARSED_AT;
            cluster_store(cluster_address(to, rank), v, cluster_address(arrived(shared, rehearses), rank));
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
DEVICE void end_cluster_group(const BatchAttentionArgs &a, u8 *shared, const ClusterGroup &g,
                              const ListPlace &place, u32 rank, bool rehearses) {
    u32 pair = rank + warp_index() * CLUSTER;
    bool folds = warp_index() < RANK_PAIRS && pair < VALUE_PAIRS;
    u32 slot = MAX_ROWS * ROW_LISTS <= ALL_TEAMS ? place.row * ROW_LISTS + place.list : g.list_cluster;
    float *groups = a.partial + ((u64)ALL_TEAMS * GROUP_SPLITS + (u64)slot * GROUPS_MAX) * TRIPLE_FLOATS;
    PairTriple total;
    if (folds) {
        bulk_barrier_wait_cluster(arrived(shared, rehearses), 0);
        fold_sent(shared, g.last - g.first, &total);
    }
    if (g.n_groups > 1 && !rehearses) {
        if (folds) store_triple(groups + (u64)g.number * TRIPLE_FLOATS, total, pair, pair == rank);
        if (!is_last_of(a, shared, ALL_TEAMS + g.list_cluster * CLUSTER + rank, 1, g.n_groups)) return;
        if (folds) fold_stored(groups, g.n_groups, &total, pair);
    }
    if (folds) store_result(a, place, &total, pair, rehearses);
}

// The cluster's group and the block's splits of it. False: none.
DEVICE bool find_cluster_work(const BatchAttentionArgs &a, u8 *shared, u32 n_rows, u32 block, u32 rank,
                              ClusterGroup *g, ListWork *l, TeamWork *w, Fetches *f) {
    *g = cluster_group(a, n_rows, block / CLUSTER, rank);
    u32 n = g->last - g->first, n_own = n > rank ? CEIL_DIV(n - rank, (u32)CLUSTER) : 0;
    if (g->is_alone && n_own == 0) return false;
    u32 last = g->place.split + (n_own - 1) * CLUSTER; // of the block's
    *w = {n_own, n_own, n_rows, 0, 0, true, false, 0, last + 1 == g->place.end, {}};
    l->place = g->place;
    fetches_begin(a, g->place, n_own, CLUSTER, f);
    if (thread_index() == 0) {
        bulk_barrier_init(arrived(shared, false), 1);
        bulk_barrier_init(arrived(shared, true), 1);
        bulk_barrier_init_fence();
        bulk_barrier_expect(arrived(shared, false), sent_bytes(rank, n));
    }
    return true;
}

// After a split, whose triple is in *t. Returns false where it was the block's last, else goes to the next.
DEVICE bool end_cluster_split(const BatchAttentionArgs &a, u8 *shared, const ClusterGroup &g, ListWork *l,
                              TeamWork *w, WarpTriple *t) {
    if (g.is_alone) {
        store_result(a, l->place, t, warp_index(), w->rehearses);
        return false;
    }
    send_triple(shared, l->place.split - g.first, *t, w->rehearses);
    if (w->rehearses) return false;
    l->place.split += CLUSTER;
    return --w->left > 0;
}

// All that the block has to do, or of a rehearsal its first step.
DEVICE void attend_all(const BatchAttentionArgs &a, u8 *shared, const ClusterGroup &g, u32 rank, ListWork *l,
                       Fetches *f, TeamWork *w, bool in_clusters) {
    WarpTriple t, group;
    l->inside_end = 0;
    if (!in_clusters && !w->rehearses) enter_group(l, &group);
    for (bool more = w->per > 0; more;) { // one copy of what both ways need, since it takes long to compile
        attend_split(a, shared, l->place, l->place.split == l->begin, f, w, &t);
        if (stay_in_group(l, t, &group)) continue;
        if (in_clusters) more = end_cluster_split(a, shared, g, l, w, &t);
        else more = !w->rehearses && end_split(a, shared, l, w, &t, &group);
    }
    if (in_clusters && !g.is_alone && rank < RANKS)
        end_cluster_group(a, shared, g, l->place, rank, w->rehearses);
}

DEVICE void attention_clusters_run(const BatchAttentionArgs &a, u32 block, u8 *shared) {
    u32 n_rows = a.batch->n_rows, n_groups = count_pieces<ATTENTION_GROUP_KEYS>(a, n_rows);
    bool in_clusters = cluster_blocks() > 1 && n_groups <= CLUSTERS_AT_ONCE;
    u32 rank = cluster_rank();
    ClusterGroup g = {};
    ListWork l = {};
    TeamWork w;
    Fetches f;
    if (in_clusters) {
        if (block / CLUSTER >= n_groups) return;
        if (!find_cluster_work(a, shared, n_rows, block, rank, &g, &l, &w, &f)) return;
    } else if (!find_work(a, n_rows, block, block_count(), &l, &w, &f)) return;
    bool sends = in_clusters && !g.is_alone;
    team_begin(a, shared);
    if (sends) cluster_arrive();
    fill_ring(a, shared, 0, &f);
    l.begin = l.place.split;
    if (in_clusters) begin_list(a, l.place, &w);
    else enter_list(a, &l, &w);
    u32 n_splits = count_pieces<SPLIT_KEYS>(a, n_rows);
    u32 busy = in_clusters ? n_groups * CLUSTER : CEIL_DIV(n_splits, w.per);
    // Narrow heads count blocks without splits, too: counted as below, and with what else changed that day,
    // 8B had 651 tokens/s instead of 653.
    if (in_clusters && VALUE_PARTS > 1) busy = MIN(busy, n_splits);
    w.rehearses = busy <= REHEARSING_BLOCKS;
    if (w.rehearses && sends && thread_index() == 0)
        bulk_barrier_expect(arrived(shared, true), w.per > 0 ? (u32)SPLIT_BYTES : 0u);
    if (sends) cluster_wait(); // the others' barriers are made
    u32 left = f.left;
    if (w.rehearses) {
        f.left = 0; // what is on its way is all that a rehearsal needs
    } else {
        stage_wait();
        stage_launch_next();
    }
#pragma unroll 1
    for (bool again = w.rehearses;; again = false) {
        attend_all(a, shared, g, rank, &l, &f, &w, in_clusters);
        if (!again) break;
        if (sends) bulk_barrier_wait_cluster(arrived(shared, true), 0);
        team_sync();
        f.left = left;
        w.rehearses = false;
        w.n_steps = w.n_halves = 0; // the same split again
        stage_wait();
        stage_launch_next();
    }
}

#ifdef TWO_WAYS
#define BLOCKS_ALONE BLOCKS
#define ATTENTION_KERNEL KERNEL(ATTEND_THREADS, 1)
#else
#define BLOCKS_ALONE 0
#define ATTENTION_KERNEL KERNEL_OF_CLUSTERS(ATTEND_THREADS, 1, CLUSTER)
#endif
EXPORTED StageInfo attention_info = {
    ATTEND_THREADS, {CLUSTERS_AT_ONCE * CLUSTER, 1}, CLUSTERS_SHARED_BYTES, CLUSTER, BLOCKS_ALONE};

ATTENTION_KERNEL attention(BatchAttentionArgs a) {
    attention_clusters_run(a, block_index(), shared_memory());
}
#endif
