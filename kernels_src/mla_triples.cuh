// Attention over a compressed cache, of rows that decode: what blocks of mla_attention.cuh have of a group
// is put together. For mla_fold.cuh and mla_values.cuh; a lane has four columns of a query. The order of
// folds is attend.cuh's. Needs attend.cuh, mla_list.cuh.

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
// O / l, f16.
DEVICE uint2 fold_result(const FoldTriple &t) {
    float inverse = reciprocal_fast(t.sum);
    return {pack_f16(attended(t.out.x, inverse), attended(t.out.y, inverse)),
            pack_f16(attended(t.out.z, inverse), attended(t.out.w, inverse))};
}

// query: of the triple's heads.
DEVICE FoldTriple load_triple(const float *triple, u32 query, u32 col) {
    const float *tops = triple + CHUNK_HEADS * KV_RANK;
    return {load_shared_data(tops + query), load_shared_data(tops + CHUNK_HEADS + query),
            load_shared_data((const float4 *)(triple + query * KV_RANK + col))};
}

// A group that is not one block's: the triple of the block that begins it, and one each split behind that.
struct MlaParts {
    u32 at;          // the place in `partial` of the first split's triple, in triples
    u32 next, count; // splits from the first to the second triple; triples
};
DEVICE MlaParts mla_parts(const MlaGroup &g) {
    return {g.block * GROUP_SPLITS, g.block_end - g.first, 1 + g.end - g.block_end};
}
// All of the loads are on their way at once; `most` is at least the parts' number.
template <u32 most>
DEVICE void load_parts(const float *partial, const MlaParts &p, u32 query, u32 col,
                       FoldTriple (&part)[most]) {
#pragma unroll
    for (u32 i = 0; i < most; i++) {
        u32 k = MIN(i, p.count - 1), split = k == 0 ? 0 : p.next + k - 1;
        part[i] = load_triple(partial + (u64)(p.at + split) * TRIPLE_FLOATS, query, col);
    }
}
template <u32 most> DEVICE FoldTriple fold_parts(const MlaParts &p, FoldTriple (&part)[most]) {
#pragma unroll
    for (u32 i = 1; i < most; i++) {
        if (i < p.count) fold_join(&part[0], part[i]);
    }
    return part[0];
}
