// Attention over a compressed cache, of rows that decode: what several blocks of mla_attention.cuh have of a
// list becomes its result. The order of folds is attend.cuh's.
//
//     out[row][head] = O / l of the list's total    f16 [MAX_ROWS][N_HEADS][KV_RANK]
//
// Lists that one block has finished are passed over; of few rows those of one group, too, which
// mla_values.cuh puts together, so that this stage is left out where there are no others. Grid: a task is
// FOLD_COLS columns of a list; a block takes several in turn where there are many. A thread has four
// columns of a query. Few rows: a few columns a block, of which FOLD_GROUPS sets of threads fold a group
// each at the same time, and the first set the groups.
//
// Needs attend.cuh, mla_list.cuh, mla_triples.cuh, and their defines.
enum : u32 {
    FOLD_COLS = MAX_ROWS <= 8       ? 8
                : CHUNK_HEADS <= 16 ? 64
                                    : 32,
    FOLD_PARTS = KV_RANK / FOLD_COLS,
    FOLD_SET = CHUNK_HEADS * FOLD_COLS / 4, // threads
    FOLD_GROUPS = MAX_ROWS <= 8 ? MIN(8u, MAX(256u / FOLD_SET, 1u)) : 1u,
    FOLD_THREADS = ROUND_UP(FOLD_SET * FOLD_GROUPS, 32u),
    FOLD_BLOCKS = MIN(MAX_ROWS * CHUNKS * FOLD_PARTS, ROW_BLOCKS_MAX),
};

struct FoldTask {
    MlaList list;
    u32 per_block;
    u32 set, query, col; // of this thread
};

// A group: one triple, or those that blocks have of it, which are asked for at once.
DEVICE FoldTriple load_group(const MlaAttentionArgs &a, const FoldTask &t, u32 number) {
    MlaGroup g = mla_group(t.list, number, t.per_block);
    if (g.is_whole()) return load_triple(group_triple(a.partial, t.list, number), t.query, t.col);
    FoldTriple part[GROUP_SPLITS];
    load_parts(a.partial, mla_parts(g), t.query, t.col, part);
    return fold_parts(mla_parts(g), part);
}

DEVICE void store_total(const MlaAttentionArgs &a, const FoldTask &t, const FoldTriple &total) {
    if (t.query >= list_heads(t.list)) return;
    u64 query = (u64)t.list.row * N_HEADS + t.list.chunk * MLA_QUERIES + t.query;
    *(uint2 *)(a.out + query * KV_RANK + t.col) = fold_result(total);
}

// All threads call it. shared, where there are several sets: [FOLD_GROUPS][FOLD_SET].
DEVICE void mla_fold_run(const MlaAttentionArgs &a, const FoldTask &t, FoldTriple *shared) {
    u32 n_groups = group_count(t.list), in_set = thread_index() % FOLD_SET;
    FoldTriple total = {};
    for (u32 i = 0; FOLD_GROUPS == 1 && t.set == 0 && i < n_groups; i++) {
        FoldTriple group = load_group(a, t, i);
        if (i == 0) total = group;
        else fold_join(&total, group);
    }
    for (u32 first = 0; FOLD_GROUPS > 1 && first < n_groups; first += FOLD_GROUPS) {
        u32 number = first + t.set;
        if (t.set < FOLD_GROUPS && number < n_groups) shared[thread_index()] = load_group(a, t, number);
        block_sync();
        for (u32 i = 0; t.set == 0 && i < MIN(n_groups - first, (u32)FOLD_GROUPS); i++) {
            if (first + i == 0) total = shared[in_set];
            else fold_join(&total, shared[i * FOLD_SET + in_set]);
        }
        block_sync();
    }
    if (t.set == 0) store_total(a, t, total);
}

EXPORTED StageInfo mla_fold_info = {
    FOLD_THREADS, {FOLD_BLOCKS, 1}, FOLD_GROUPS > 1 ? FOLD_GROUPS *FOLD_SET *(u32)sizeof(FoldTriple) : 0};

KERNEL(FOLD_THREADS, 1) mla_fold(MlaAttentionArgs a) {
    stage_launch_next();
    u32 n_rows = MAX_ROWS == 1 ? 1 : load_shared_data(&a.batch->n_rows);
    u32 per_block = splits_per_block(a.rows, n_rows);
    stage_wait();
    for (u32 i = block_index(); i < n_rows * CHUNKS * FOLD_PARTS; i += FOLD_BLOCKS) {
        u32 row = i / (CHUNKS * FOLD_PARTS), chunk = i / FOLD_PARTS % CHUNKS;
        MlaList first = mla_list(a.rows, row, 0, MAX_ROWS == 1 ? 0 : splits_before(a.rows, row));
        FoldTask t = {mla_list(a.rows, row, chunk, first.base + chunk * first.n), per_block,
                      thread_index() / FOLD_SET, thread_index() % FOLD_SET / (FOLD_COLS / 4),
                      i % FOLD_PARTS * FOLD_COLS + thread_index() % (FOLD_COLS / 4) * 4};
        if (!is_alone(t.list, per_block) && !folds_at_once(t.list))
            mla_fold_run(a, t, (FoldTriple *)shared_memory());
    }
}
