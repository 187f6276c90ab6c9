// Decode, the stages that end in the residual stream: attention output and down.
//
//     x += W in + b
// RAW: x = W in + b; x is then args.x of another buffer, for decode_post_norm.
// FROM_ATTENTION: `in` is what decode_attention left, its splits put together:
//     m = max m_s
//     in[h] = sum_s part[s][h] l_s 2^(m_s - m) / sum_s l_s 2^(m_s - m)
// HAS_SINKS: a sink is one more split, before the others, with a score and no value: it takes its share of
// the softmax and gives nothing back.
//
// Operations: (the end of ATTENTION,) MATMUL, ADD. Grid and order of sums: matvec.cuh, a unit is ROWS rows
// (1) side by side; splits are added in their order. Every block puts the splits together for itself.
// Defines: N_ROWS, N_COLS, FORMAT_0, BLOCKS, WARPS, RING_BYTES; RAW; LAUNCH_AFTER_WAIT (the next stage is let
// go when this one's input is there); FROM_ATTENTION with N_HEADS, HEAD_DIM, attention_splits.cuh's, and
// perhaps HAS_SINKS.
#ifndef N_ROWS
#error "N_ROWS"
#endif
static_assert(UNITS_PER_WARP <= (u32)WARP, "one finish a warp");

struct OutputRows {
    const u8 *weight;
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        u32 row = MIN(unit * ROWS + r, N_ROWS - 1u); // rows past the end are computed and dropped
        return weight + row * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

struct OutputState {
    Matvec<OutputRows> product;
    float bias[ROWS]; // of the rows that this lane finishes
#ifdef FROM_ATTENTION
    u32 n_splits;
    float sink[X_TURNS]; // of the heads of this thread's groups, in powers of two like the scores
#endif
};

// Row r of a unit; N_ROWS or more for none.
DEVICE u32 output_row(u32 unit, u32 r) {
    return unit < UNITS ? unit * ROWS + r : ~0u;
}

DEVICE void decode_output_prepare(const OutputArgs &a, u32 block, u8 *shared, OutputState *s) {
    s->product.start(block, shared, {a.weight});
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = output_row(my_unit(block), r);
        s->bias[r] = a.bias != 0 && row < N_ROWS ? a.bias[row] : 0.0f;
    }
#ifdef FROM_ATTENTION
    s->n_splits = attention_range(a.row->position).n_splits;
#ifdef HAS_SINKS
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 head = x_group(i) * 4 / HEAD_DIM;
        s->sink[i] = head < N_HEADS ? a.sinks[head] * 1.44269504089f : 0.0f;
    }
#endif
#endif
    s->product.settle(block);
}

#ifdef FROM_ATTENTION
enum : u32 { SPLITS_AT_ONCE = MAX(8 / X_TURNS, 1) }; // whose loads are in flight together

struct SplitValues {
    uint2 v; // four f16
    float2 weight;
};

DEVICE SplitValues load_split(const OutputArgs &a, u32 group, u32 split, u32 n_splits) {
    if (group >= X_GROUPS || split >= n_splits) return {{0, 0}, {-INFINITY_F32, 0}};
    const f16 *part = a.part + (u64)split * N_HEADS * HEAD_DIM;
    u32 head = group * 4 / HEAD_DIM;
    return {load_shared_data((const uint2 *)part + group),
            load_shared_data((const float2 *)a.part_weight + split * N_HEADS + head)};
}

// The splits' weighted mean so far: v / weight.
struct Combined {
    float4 v;
    float top, weight;
};

DEVICE void combine(Combined *c, const SplitValues &split) {
    Half2 low = unpack_f16(split.v.x), high = unpack_f16(split.v.y);
    float top = max_f32(c->top, split.weight.x);
    float keep = exp2_fast(c->top - top), add = exp2_fast(split.weight.x - top) * split.weight.y;
    c->v = {fma_f32(c->v.x, keep, low.low * add), fma_f32(c->v.y, keep, low.high * add),
            fma_f32(c->v.z, keep, high.low * add), fma_f32(c->v.w, keep, high.high * add)};
    c->weight = fma_f32(c->weight, keep, add);
    c->top = top;
}

// Loads come in rounds: a split at a time would be 0.3 us each (1.9 us of a stage with 9 splits).
DEVICE void store_splits(const OutputArgs &a, u8 *shared_x, const OutputState &state) {
    u32 n_splits = state.n_splits;
    Combined c[X_TURNS];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
#ifdef HAS_SINKS
        c[i] = {{0, 0, 0, 0}, state.sink[i], 1};
#else
        c[i] = {{0, 0, 0, 0}, -1e30f, 0}; // finite: infinity - infinity is not a number
#endif
    }
#pragma unroll 1
    for (u32 first = 0; first < n_splits; first += SPLITS_AT_ONCE) {
        SplitValues split[X_TURNS][SPLITS_AT_ONCE];
#pragma unroll
        for (u32 k = 0; k < SPLITS_AT_ONCE * X_TURNS; k++) {
            split[k % X_TURNS][k / X_TURNS] =
                load_split(a, x_group(k % X_TURNS), first + k / X_TURNS, n_splits);
        }
#pragma unroll
        for (u32 k = 0; k < SPLITS_AT_ONCE * X_TURNS; k++) {
            if (first + k / X_TURNS >= n_splits) break;
            combine(&c[k % X_TURNS], split[k % X_TURNS][k / X_TURNS]);
        }
    }
    float4 x[X_TURNS];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        float inverse = c[i].weight > 0 ? reciprocal_fast(c[i].weight) : 0.0f;
        x[i] = {c[i].v.x * inverse, c[i].v.y * inverse, c[i].v.z * inverse, c[i].v.w * inverse};
    }
    x_store<!UNPACKED>(shared_x, x);
}
#endif

DEVICE void decode_output_run(const OutputArgs &a, u32 block, u8 *shared, OutputState *s) {
    float residual[ROWS] = {};
#ifndef RAW
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = output_row(my_unit(block), r);
        if (row < N_ROWS) residual[r] = load_shared_data(a.x + row);
    }
#endif
#ifdef FROM_ATTENTION
    store_splits(a, shared + X_AT, *s);
#else
    float4 x[X_TURNS];
    x_load_global(a.in, x);
    x_store<!UNPACKED>(shared + X_AT, x);
#endif
    block_sync();
    s->product.run(block, shared, [&](u32 unit, const float sums[ROWS]) {
        for (u32 r = 0; r < ROWS; r++) {
            u32 row = output_row(unit, r);
            if (row < N_ROWS) a.x[row] = residual[r] + (sums[r] + s->bias[r]);
        }
    });
}

EXPORTED StageInfo decode_output_info = {THREADS, {BLOCKS, 1}, SHARED_BYTES(MATVEC_SHARED_BYTES)};

KERNEL(THREADS, BLOCKS_PER_SM) decode_output(OutputArgs a) {
    OutputState s;
#ifndef LAUNCH_AFTER_WAIT
    stage_launch_next();
#endif
    decode_output_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
#ifdef LAUNCH_AFTER_WAIT
    stage_launch_next();
#endif
    decode_output_run(a, block_index(), shared_memory(), &s);
}
