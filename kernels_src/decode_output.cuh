// Decode, the stages that end in the residual stream: attention output and down.
//
//     x += W in + b
// FROM_ATTENTION: `in` is what decode_attention left, its splits put together:
//     in[h] = sum_s part[s][h] l_s 2^(m_s - m) / sum_s l_s 2^(m_s - m), m = max m_s
//
// Operations: (the end of ATTENTION,) MATMUL, ADD. Grid and order of sums: matvec.cuh, a unit is one row; splits are added in
// their order. Every block puts the splits together for itself.
// Defines: N_ROWS, N_COLS, FORMAT_0, BLOCKS, WARPS, RING_BYTES; FROM_ATTENTION with N_HEADS, HEAD_DIM, and attention_splits.cuh's.
#ifndef N_ROWS
#error "N_ROWS"
#endif
static_assert(UNITS_PER_WARP <= (u32)WARP, "one finish a warp");

struct OutputRows {
    const u8 *weight;
    DEVICE u32 part(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32) const {
        return weight + unit * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

struct OutputState {
    Stream stream;
    OutputRows rows;
    float bias; // of the row that this lane finishes
    u32 my_row; // N_ROWS: none
#ifdef FROM_ATTENTION
    u32 n_splits;
#endif
};

DEVICE void decode_output_prepare(const OutputArgs &a, u32 block, u8 *shared, OutputState *s) {
    s->rows = {a.weight};
    s->stream = stream_start(block, shared, s->rows);
    u32 row = (u32)((u64)UNITS * block / BLOCKS) + warp_index() + lane_index() * WARPS;
    s->my_row = row < s->stream.end ? row : N_ROWS;
    s->bias = a.bias != 0 && s->my_row < N_ROWS ? a.bias[s->my_row] : 0.0f;
#ifdef FROM_ATTENTION
    s->n_splits = attention_range(a.sequence->position).n_splits;
#endif
}

#ifdef FROM_ATTENTION
// Four values of one head, from all splits.
DEVICE float4 combine_splits(const OutputArgs &a, u32 group, u32 n_splits) {
    u32 head = group * 4 / HEAD_DIM;
    float largest = -INFINITY_F32, weights = 0;
    float4 v = {0, 0, 0, 0};
    for (u32 split = 0; split < n_splits; split++) {
        float2 w = load_shared_data((const float2 *)a.part_weight + split * N_HEADS + head);
        uint2 bits = load_shared_data((const uint2 *)(a.part + (u64)split * N_HEADS * HEAD_DIM) + group);
        Half2 low = unpack_f16(bits.x), high = unpack_f16(bits.y);
        float top = max_f32(largest, w.x);
        float keep = exp2_fast(largest - top), add = exp2_fast(w.x - top) * w.y;
        v.x = v.x * keep + low.low * add;
        v.y = v.y * keep + low.high * add;
        v.z = v.z * keep + high.low * add;
        v.w = v.w * keep + high.high * add;
        weights = weights * keep + add;
        largest = top;
    }
    float inverse = reciprocal_fast(weights);
    return {v.x * inverse, v.y * inverse, v.z * inverse, v.w * inverse};
}
#endif

DEVICE void decode_output_run(const OutputArgs &a, u32 block, u8 *shared, OutputState *s, bool real) {
    float residual = s->my_row < N_ROWS ? load_shared_data(a.x + s->my_row) : 0.0f;
#ifdef FROM_ATTENTION
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 g = x_group(i);
        x_store(shared + X_AT, g, g < X_GROUPS ? combine_splits(a, g, s->n_splits) : float4{0, 0, 0, 0});
    }
#else
    float4 x[X_TURNS];
    x_load_global(a.in, x);
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        x_store(shared + X_AT, x_group(i), x[i]);
    }
#endif
    block_sync();
    if (RESIDENT || real) stream_run(&s->stream, block, shared + X_AT, s->rows, [&](u32 unit, const float sums[ROWS]) {
        if (unit < N_ROWS && real) a.x[unit] = residual + (sums[0] + s->bias);
    });
}

EXPORTED StageInfo decode_output_info = {THREADS, {BLOCKS, 1}, MATVEC_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) decode_output(OutputArgs a) {
    OutputState s;
    stage_launch_next();
    decode_output_prepare(a, block_index(), shared_memory(), &s);
    stream_wait_resident(s.stream, block_index());
#if WARM
#pragma unroll 1
    for (u32 pass = 0; pass < 2; pass++) {
        if (pass == 1) stage_wait();
        decode_output_run(a, block_index(), shared_memory(), &s, pass == 1);
        block_sync();
    }
#else
    stage_wait();
    decode_output_run(a, block_index(), shared_memory(), &s, true);
#endif
}
