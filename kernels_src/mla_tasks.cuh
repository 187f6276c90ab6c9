// What a block of attention over a compressed cache attends to at a time: for mla_attention.cuh and
// mla_attention_wgmma.cuh.
//
// Needs attend.cuh. Defines: attend.cuh's, MLA_QUERIES, MLA_BLOCKS; of prompts MLA_STRETCHES, rows of a
// stretch at most.
struct MlaTask {
    const u32 *pages;
    u32 query, n;       // of [row][head]: the first one, how many
    u32 position;       // of the first one's row
    u32 last;           // the sequence's last position in the batch: what lies past it may be anything
    u32 tile, end_page; // keys, to the end of a tile or of all
    u32 pair;           // where rows decode: of 16 of the values' dims, the warp's first one
    bool in_parts;      // likewise: it has those of the block's part, else of all
};
// Of a query: its row's position. Queries that are not there have the last one's.
DEVICE u32 query_position(const MlaTask &t, u32 i) {
    return t.position + (t.query % N_HEADS + MIN(i, t.n - 1)) / N_HEADS;
}

#ifdef MLA_STRETCHES
// Blocks of a cluster take tasks side by side, of one stretch, and all see the keys of the last query.
#ifndef MLA_CLUSTER
#define MLA_CLUSTER 1
#endif
enum : u32 {
    STRETCH_TASKS = CEIL_DIV(MLA_STRETCHES * N_HEADS, MLA_QUERIES *MLA_CLUSTER) * MLA_CLUSTER,
    MLA_CLUSTERS = MLA_BLOCKS / MLA_CLUSTER,
};
static_assert((u32)MLA_CLUSTERS * MLA_CLUSTER == MLA_BLOCKS, "whole clusters");

struct MlaWalk {
    u32 turn;
};
// The block's next task. Those with the most keys come first: the host has stretches in this order, and of a
// stretch the last queries are first here. So the last turn, which not all blocks have, is of short ones.
// (Tiles of the block that has the most, of a prompt of 2,048 rows on 132 multiprocessors: 130 with 20 heads,
// 105 with 16. In the opposite order 138 and 128; the average is 128 and 103.) Returns whether there is one;
// beside another one's it may have no queries.
DEVICE bool walk_next(const MlaAttentionArgs &a, MlaWalk *w, MlaTask *t) {
    u32 n_tasks = load_shared_data(&a.batch->n_stretches[a.cut]) * STRETCH_TASKS;
    u32 cluster = block_index() / MLA_CLUSTER, rank = block_index() % MLA_CLUSTER;
    while (w->turn * MLA_BLOCKS < n_tasks) {
        u32 i = w->turn % 2 ? MLA_CLUSTERS - 1 - cluster : cluster;
        u32 task = (w->turn++ * MLA_CLUSTERS + i) * MLA_CLUSTER;
        if (task >= n_tasks) continue;
        u32 of_stretch = STRETCH_TASKS - MLA_CLUSTER - task % STRETCH_TASKS;
        u32 first_of_all = of_stretch * MLA_QUERIES, first = first_of_all + rank * MLA_QUERIES;
        RowStretch s = a.stretches[task / STRETCH_TASKS];
        u32 queries = s.n_rows * N_HEADS;
        if (first_of_all >= queries) continue;
        *t = {s.pages + a.list_at,
              s.row * N_HEADS + first,
              first < queries ? MIN(queries - first, (u32)MLA_QUERIES) : 0,
              s.position + first / N_HEADS,
              s.last,
              0,
              0,
              0,
              false};
        u32 last = MIN(queries, first_of_all + MLA_CLUSTER * MLA_QUERIES) - 1;
        t->end_page = (s.position + last / N_HEADS) / KV_PAGE + 1;
        return true;
    }
    return false;
}
#endif
