// Decode: the chosen experts' down, summed into the residual stream.
//
//     x += sum_i W_down[e_i] in[i] + weight_i b_down[e_i]
//
// for the chosen experts e_i in their order (expert_choice.cuh); `in` is weighted (decode_experts_glu.cuh).
// Operations: (ROUTE,) EXPERT_MATMUL, EXPERT_SUM, ADD. Grid and order of sums: matvec.cuh; a unit is ROWS
// rows (1) side by side, and each expert's part of them is a segment.
// The router's logits are read before the wait: the stage before lets this one go when it has them itself.
// Defines: D_MODEL, D_FF (of an expert), expert_choice.cuh's, FORMAT_0, BLOCKS, WARPS, RING_BYTES; ROWS.
#ifndef D_FF
#error "D_FF"
#endif
static_assert(UNITS_PER_WARP <= (u32)WARP, "one finish a warp");

enum : u32 {
    CHOICE_AT = ROUND_UP(MATVEC_SHARED_BYTES, 16),
    EXPERTS_DOWN_SHARED_BYTES = CHOICE_AT + WARPS * N_USED * 8,
};

struct ExpertsDownRows {
    const u8 *weight;
    const ChosenExpert *chosen;
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        u32 row = MIN(unit * ROWS + r % ROWS, D_MODEL - 1u); // rows past the end are computed and dropped
        return weight + ((u64)chosen[r / ROWS].expert * D_MODEL + row) * layout_row_bytes(FORMAT_0, D_FF);
    }
};

struct ExpertsDownState {
    Matvec<ExpertsDownRows> product;
    float bias[ROWS]; // of the rows that this lane finishes
};

// Row r of a unit; D_MODEL or more for none.
DEVICE u32 down_row(u32 unit, u32 r) {
    return unit < UNITS ? unit * ROWS + r : ~0u;
}

DEVICE void decode_experts_down_prepare(const ExpertsDownArgs &a, u32 block, u8 *shared,
                                        ExpertsDownState *s) {
    const ChosenExpert *chosen = keep_choice(shared + CHOICE_AT, choose_experts_of(a.logits));
    s->product.start(block, shared, {a.weight, chosen});
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = down_row(my_unit(block), r);
        s->bias[r] = 0;
        for (u32 i = 0; i < N_USED && a.bias != 0 && row < D_MODEL; i++) {
            s->bias[r] = fma_f32(chosen[i].weight, a.bias[chosen[i].expert * D_MODEL + row], s->bias[r]);
        }
    }
    s->product.settle(block);
}

DEVICE void decode_experts_down_run(const ExpertsDownArgs &a, u32 block, u8 *shared, ExpertsDownState *s) {
    float residual[ROWS];
    for (u32 r = 0; r < ROWS; r++) {
        u32 row = down_row(my_unit(block), r);
        residual[r] = row < D_MODEL ? load_shared_data(a.x + row) : 0.0f;
    }
    float4 x[X_TURNS];
    x_load_global(a.in, x);
    x_store<!UNPACKED>(shared + X_AT, x);
    block_sync();
    s->product.run(block, shared, [&](u32 unit, const float sums[ROWS]) {
        for (u32 r = 0; r < ROWS; r++) {
            u32 row = down_row(unit, r);
            if (row < D_MODEL) a.x[row] = residual[r] + (sums[r] + s->bias[r]);
        }
    });
}

EXPORTED StageInfo decode_experts_down_info = {THREADS, {BLOCKS, 1}, SHARED_BYTES(EXPERTS_DOWN_SHARED_BYTES)};

KERNEL(THREADS, BLOCKS_PER_SM) decode_experts_down(ExpertsDownArgs a) {
    ExpertsDownState s;
    stage_launch_next();
    decode_experts_down_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    decode_experts_down_run(a, block_index(), shared_memory(), &s);
}
