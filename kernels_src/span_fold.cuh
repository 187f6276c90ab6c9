// Batches with prompts: what parts of stretches left of each group of keys (span_parts.cuh) becomes the rows'
// result. The order of folds is attend.cuh's.
//
//     out[row][h] = O / l of the groups' triples that the row sees, folded in their order
//
// Grid: a warp takes 16 dims of 16 queries of a list, and several such in turn where there are many. Groups
// are asked for several at a time.
//
// Needs rows.cuh, attend.cuh, span_parts.cuh. Defines: attend.cuh's, MAX_ROWS, HAS_SINKS; SPAN_QUERIES, those
// of a block of attention.
#ifndef SPAN_QUERIES
#error "SPAN_QUERIES"
#endif

enum : u32 {
    FOLD_WARPS = 8,
    FOLD_BLOCKS = ROW_BLOCKS_MAX / 4,
    FOLD_AT_ONCE = 8, // groups
    FOLD_SIXTEENS = SPAN_QUERIES / 16,
};

// What a warp folds, and which groups the lane's two queries see.
struct SpanFold {
    u32 list, row, n_rows; // of the stretch
    u32 place, sixteen, pair;
    SpanQuery query[2];
    u32 first[2], end[2];
};
DEVICE SpanFold span_fold_of(const RowStretch &s, u32 list, u32 sixteen, u32 pair) {
    SpanFold f = {list, s.row, s.n_rows, s.place, sixteen, pair, {}, {}, {}};
    for (u32 i = 0; i < 2; i++) {
        f.query[i] = span_query(f, sixteen * 16 + lane_index() / 4 + i * 8);
        RowKeys keys = row_keys(s.position + f.query[i].row - s.row);
        f.first[i] = f.query[i].is_there ? keys.first / ATTENTION_GROUP_KEYS : 0xFFFFFFFFu;
        f.end[i] = f.query[i].is_there ? keys.position / ATTENTION_GROUP_KEYS + 1 : 0;
    }
    return f;
}

// The triple of a group; empty for a query that does not see it: it may never have been written.
DEVICE Triple<2> load_group(const BatchAttentionArgs &a, const SpanFold &f, u32 group) {
    float *triple = span_triple(a.partial, f.place + group, f.list, SPAN_QUERIES);
    Triple<2> t;
    triple_clear(&t);
    bool sees[2] = {group >= f.first[0] && group < f.end[0], group >= f.first[1] && group < f.end[1]};
    for (u32 i = 0; i < 2; i++) {
        if (!sees[i]) continue;
        float2 v =
            load_shared_data(triple_sums(triple, f.sixteen * 16 + lane_index() / 4 + i * 8, SPAN_QUERIES));
        t.top[i] = v.x, t.sum[i] = v.y;
    }
    for (u32 j = 0; j < 2 && (sees[0] || sees[1]); j++) {
        float4 v = load_shared_data(triple_values(triple, f.sixteen, f.pair * 2) + j * WARP);
        if (sees[0]) t.out[j][0] = v.x, t.out[j][1] = v.y;
        if (sees[1]) t.out[j][2] = v.z, t.out[j][3] = v.w;
    }
    return t;
}

DEVICE void span_fold_run(const BatchAttentionArgs &a, const SpanFold &f) {
    u32 first = MIN(f.first[0], f.first[1]), end = MAX(f.end[0], f.end[1]);
    Triple<2> total;
    triple_clear(&total);
#pragma unroll 1
    for (u32 group = first; group < end; group += FOLD_AT_ONCE) {
        Triple<2> t[FOLD_AT_ONCE];
#pragma unroll
        for (u32 i = 0; i < FOLD_AT_ONCE; i++) {
            t[i] = load_group(a, f, group + i);
        }
#pragma unroll
        for (u32 i = 0; i < FOLD_AT_ONCE; i++) {
            triple_fold(&total, t[i]);
        }
    }
    SpanEnd ends[2] = {span_end(a, f.query[0], total.top[0], total.sum[0]),
                       span_end(a, f.query[1], total.top[1], total.sum[1])};
    for (u32 j = 0; j < 2; j++) {
        float4 v = {total.out[j][0], total.out[j][1], total.out[j][2], total.out[j][3]};
        store_span_values(a, f.query, ends, f.pair * 16 + j * 8 + lane_index() % 4 * 2, v);
    }
}

EXPORTED StageInfo span_fold_info = {FOLD_WARPS * WARP, {FOLD_BLOCKS, 1}, 0};

KERNEL(FOLD_WARPS *WARP, 1) span_fold(BatchAttentionArgs a) {
    stage_launch_next();
    u32 n_divided = load_shared_data(&a.batch->n_divided[a.cut]);
    stage_wait();
    for (u32 i = block_index() * FOLD_WARPS + warp_index(); i < n_divided * LISTS * FOLD_SIXTEENS * DIM_PAIRS;
         i += block_count() * FOLD_WARPS) {
        u32 pair = i % DIM_PAIRS, sixteen = i / DIM_PAIRS % FOLD_SIXTEENS,
            list = i / (DIM_PAIRS * FOLD_SIXTEENS) % LISTS;
        RowStretch s = a.stretches[i / (DIM_PAIRS * FOLD_SIXTEENS * LISTS)];
        if (!has_all_groups(s)) span_fold_run(a, span_fold_of(s, list, sixteen, pair));
    }
}
