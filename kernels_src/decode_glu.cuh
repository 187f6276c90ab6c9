// Decode: norm, gate and up, activation.
//
//     h = norm(x)
//     out = act(W_gate h + b_gate) * (W_up h + b_up)
// UNGATED: out = act(W_up h + b_up)
//
// Operations: RMS_NORM or LAYER_NORM (decode_norm.cuh), MATMUL x 2, GLU; UNGATED: MATMUL, ACTIVATION. Grid
// and order of sums: matvec.cuh; a unit is a row of gate and the same row of up, or a row of up. Defines:
// D_MODEL, D_FF, NORM_EPS, activate.cuh's, FORMAT_0 (of both; where up has another: ROW_FORMATS, FORMAT_1),
// BLOCKS, WARPS, RING_BYTES; UNGATED; HAS_BIAS where a matrix has one; LAYER_NORM.
#ifndef D_FF
#error "D_FF"
#endif
#ifdef HAS_BIAS
static_assert(UNITS_PER_WARP <= (u32)WARP, "one finish a warp");
#endif

struct GluRows {
    const u8 *weight[2];
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        return weight[r] +
               unit * (r == 0 ? layout_row_bytes(FORMAT_0, N_COLS) : layout_row_bytes(FORMAT_1, N_COLS));
    }
};

struct GluState {
    Matvec<GluRows> product;
    NormWeights norm;
#ifdef HAS_BIAS
    float bias[ROWS]; // of the unit that this lane finishes
#endif
};

DEVICE void decode_glu_prepare(const GluArgs &a, u32 block, u8 *shared, GluState *s) {
    s->product.start(block, shared, {{a.weight[0], a.weight[1]}});
    norm_prepare(a.norm, a.norm_bias, &s->norm);
#ifdef HAS_BIAS
    u32 unit = my_unit(block);
    for (u32 r = 0; r < ROWS; r++) {
        s->bias[r] = a.bias[r] != 0 && unit < D_FF ? a.bias[r][unit] : 0.0f;
    }
#endif
    s->product.settle(block);
}

DEVICE void decode_glu_run(const GluArgs &a, u32 block, u8 *shared, GluState *s) {
    float4 x[X_TURNS];
    x_load_global(a.x, x);
    float factor = norm_run(shared, x, s->norm);
    s->product.run(block, shared, [&](u32 unit, const float sums[ROWS]) {
        if (unit >= D_FF) return;
        float v[ROWS];
        for (u32 r = 0; r < ROWS; r++) {
#ifdef HAS_BIAS
            v[r] = fma_f32(sums[r], factor, s->bias[r]);
#else
            v[r] = sums[r] * factor;
#endif
        }
#ifdef UNGATED
        a.out[unit] = activate(v[0]);
#else
        a.out[unit] = gated(v[0], v[1]);
#endif
    });
}

EXPORTED StageInfo decode_glu_info = {THREADS, {BLOCKS, 1}, SHARED_BYTES(MATVEC_SHARED_BYTES)};

KERNEL(THREADS, BLOCKS_PER_SM) decode_glu(GluArgs a) {
    GluState s;
    stage_launch_next();
    decode_glu_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    decode_glu_run(a, block_index(), shared_memory(), &s);
}
