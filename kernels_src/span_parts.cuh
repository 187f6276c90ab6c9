// Stretches of prompts' attention (RowStretch), and their parts. Where a step has few stretches with long
// texts, the host divides them by their keys, at groups of 1,024 (attend.cuh), so that all multiprocessors
// have some. Parts leave each group's triple, and span_fold.cuh folds these in their order.
//
//     partial  [places][LISTS] triples. A stretch that is not divided has a place, for its total; a divided
//              one has a place for each of its groups.
//     triple   [queries / 16][groups of 8 dims][lane]float4 values, the two rows that a lane has of a product
//              (attend.cuh); [queries]{largest score, sum}, in parts alone
//
// Needs attend.cuh.

// Whether a part has all groups that the stretch's rows see in this layer: then it gives the result. (Where a
// window is short, one part has all, and the others nothing.)
DEVICE bool has_all_groups(const RowStretch &s) {
    u32 first = row_keys(s.position).first / ATTENTION_GROUP_KEYS,
        last = (s.position + s.n_rows - 1) / ATTENTION_GROUP_KEYS;
    return first / s.n_groups == last / s.n_groups;
}

// The triple at a place, of a list. queries: those of a block.
DEVICE float *span_triple(float *partial, u32 place, u32 list, u32 queries) {
    return partial + ((u64)place * LISTS + list) * queries * (HEAD_DIM + 2);
}
// Its values: of 16 queries, of which this is number `sixteen`, from group of dims `eight` on, WARP apart.
DEVICE float4 *triple_values(float *triple, u32 sixteen, u32 eight) {
    return (float4 *)triple + (sixteen * (HEAD_DIM / 8) + eight) * WARP + lane_index();
}
// One of them.
DEVICE float *triple_value(float *triple, u32 query, u32 dim) {
    u32 lane = query % 8 * 4 + dim % 8 / 2;
    return triple + ((query / 16 * (HEAD_DIM / 8) + dim / 8) * WARP + lane) * 4 + query / 8 % 2 * 2 + dim % 2;
}
// {largest score, sum} of a query.
DEVICE float2 *triple_sums(float *triple, u32 query, u32 queries) {
    return (float2 *)(triple + queries * HEAD_DIM) + query;
}
