// Attention over a compressed cache, of rows that decode: what several blocks of mla_attention.cuh have of a
// list becomes its result. The order of folds is attend.cuh's.
//
//     out[row][head] = O / l of the list's total    f16 [MAX_ROWS][N_HEADS][KV_RANK]
//
// Lists that one block has finished are passed over. Grid: a task is FOLD_COLS columns of a list; a block
// takes several in turn where there are many. A thread has four columns of a query. Few rows: a few columns
// a block, of which FOLD_GROUPS sets of threads fold a group each at the same time, and the first set the
// groups.
//
// Needs attend.cuh, mla_list.cuh, and their defines.
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

// Of one query, four of its columns.
struct FoldTriple {
    float top, sum;
    float4 out;
};
DEVICE void fold_join(FoldTriple *t, const FoldTriple &o) {
    FoldFactors f = fold_factors(&t->top, o.top);
    t->sum = fma_f32(t->sum, f.keep, o.sum * f.add);
    t->out = {fma_f32(t->out.x, f.keep, o.out.x * f.add), fma_f32(t->out.y, f.keep, o.out.y * f.add),
              fma_f32(t->out.z, f.keep, o.out.z * f.add), fma_f32(t->out.w, f.keep, o.out.w * f.add)};
}

struct FoldTask {
    MlaList list;
    u32 per_block;
    u32 set, query, col; // of this thread
};

DEVICE FoldTriple load_triple(const float *triple, const FoldTask &t) {
    const float *tops = triple + CHUNK_HEADS * KV_RANK;
    return {load_shared_data(tops + t.query), load_shared_data(tops + CHUNK_HEADS + t.query),
            load_shared_data((const float4 *)(triple + t.query * KV_RANK + t.col))};
}

// A group: one triple, or those that blocks have of it, which are asked for at once.
DEVICE FoldTriple load_group(const MlaAttentionArgs &a, const FoldTask &t, u32 number) {
    MlaGroup g = mla_group(t.list, number, t.per_block);
    if (g.is_whole()) return load_triple(group_triple(a.partial, t.list, number), t);
    FoldTriple part[GROUP_SPLITS];
#pragma unroll
    for (u32 i = 0; i < GROUP_SPLITS; i++) {
        u32 at = i == 0 ? g.first : MIN(g.block_end + i - 1, g.end - 1);
        part[i] = load_triple(split_triple(a.partial, g, at), t);
    }
#pragma unroll
    for (u32 i = 1; i < GROUP_SPLITS; i++) {
        if (g.block_end + i - 1 < g.end) fold_join(&part[0], part[i]);
    }
    return part[0];
}

DEVICE void store_total(const MlaAttentionArgs &a, const FoldTask &t, const FoldTriple &total) {
    if (t.query >= list_heads(t.list)) return;
    u64 query = (u64)t.list.row * N_HEADS + t.list.chunk * MLA_QUERIES + t.query;
    float inverse = reciprocal_fast(total.sum);
    uint2 v = {pack_f16(attended(total.out.x, inverse), attended(total.out.y, inverse)),
               pack_f16(attended(total.out.z, inverse), attended(total.out.w, inverse))};
    *(uint2 *)(a.out + query * KV_RANK + t.col) = v;
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
        if (!is_alone(t.list, per_block)) mla_fold_run(a, t, (FoldTriple *)shared_memory());
    }
}
