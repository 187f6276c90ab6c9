// Decode: the chosen experts' gate and up, activation, and their weights.
//
//     h = rms_norm(x)
//     out[i] = act(W_gate[e_i] h + b_gate[e_i], W_up[e_i] h + b_up[e_i]) * weight_i
//
// for the chosen experts e_i (expert_choice.cuh). What they give is weighted here, before the next product,
// which is linear. Operations: (RMS_NORM, ROUTE,) EXPERT_MATMUL x 2, GLU. Grid and order of sums:
// matvec.cuh; a unit is a row of an expert's gate and the same row of its up.
// Which weights are wanted is known after the wait only. The next stage is let go after it, too: that one may
// read the router's logits before its own wait.
// Defines: D_MODEL, D_FF (of an expert), decode_norm.cuh's, expert_choice.cuh's, activate.cuh's, FORMAT_0 (of
// both), BLOCKS, WARPS, RING_BYTES.
#ifndef D_FF
#error "D_FF"
#endif
static_assert(UNITS_PER_WARP <= (u32)WARP, "one finish a warp");

enum : u32 {
    CHOICE_AT = ROUND_UP(MATVEC_SHARED_BYTES, 16),
    EXPERTS_GLU_SHARED_BYTES = CHOICE_AT + WARPS * N_USED * 8,
};

struct ExpertsGluRows {
    const u8 *weight[2];
    const ChosenExpert *chosen;
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        u64 row = (u64)chosen[unit / D_FF].expert * D_FF + unit % D_FF;
        return weight[r] + row * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

struct ExpertsGluState {
    Matvec<ExpertsGluRows> product;
    NormWeights norm;
};

DEVICE void decode_experts_glu_prepare(const ExpertsGluArgs &a, u32 block, u8 *shared, ExpertsGluState *s) {
    s->product.open(block, shared);
    norm_prepare(a.norm, 0, &s->norm);
}

DEVICE void decode_experts_glu_run(const ExpertsGluArgs &a, u32 block, u8 *shared, ExpertsGluState *s) {
    float4 x[X_TURNS];
    x_load_global(a.x, x);
    const ChosenExpert *chosen = keep_choice(shared + CHOICE_AT, choose_experts_of(a.logits));
    s->product.begin({{a.weight[0], a.weight[1]}, chosen});
    float bias[2] = {0, 0}, weight = 0; // of the unit that this lane finishes
    u32 unit = my_unit(block);
    if (unit < UNITS) {
        u32 row = chosen[unit / D_FF].expert * D_FF + unit % D_FF;
        if (a.bias[0] != 0) bias[0] = a.bias[0][row];
        if (a.bias[1] != 0) bias[1] = a.bias[1][row];
        weight = chosen[unit / D_FF].weight;
    }
    float factor = norm_run(shared, x, s->norm);
    s->product.settle(block);
    s->product.run(block, shared, [&](u32 done, const float sums[ROWS]) {
        if (done >= UNITS) return;
        float gate = fma_f32(sums[0], factor, bias[0]), up = fma_f32(sums[1], factor, bias[1]);
        a.out[done] = gated(gate, up) * weight;
    });
}

EXPORTED StageInfo decode_experts_glu_info = {THREADS, {BLOCKS, 1}, SHARED_BYTES(EXPERTS_GLU_SHARED_BYTES)};

KERNEL(THREADS, BLOCKS_PER_SM) decode_experts_glu(ExpertsGluArgs a) {
    ExpertsGluState s;
    decode_experts_glu_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    stage_launch_next();
    decode_experts_glu_run(a, block_index(), shared_memory(), &s);
}
