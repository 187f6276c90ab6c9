// Decode: norm, gate and up, activation.
//
//     h = rms_norm(x) ; out = act(W_gate h) * (W_up h)
//
// Operations: RMS_NORM, MATMUL x 2, GLU. Grid and order of sums: matvec.cuh; a unit is a row of gate and the
// same row of up. Defines: D_MODEL, D_FF, NORM_EPS, activate.cuh's, FORMAT_0 (of both), BLOCKS, WARPS,
// RING_BYTES.
#if !defined(D_FF) || !defined(NORM_EPS)
#error "D_FF, NORM_EPS"
#endif

struct GluRows {
    const u8 *weight[2];
    DEVICE u32 part(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        return weight[r] + unit * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

struct GluState {
    Matvec<GluRows> product;
    float4 norm[X_TURNS];
};

DEVICE void decode_glu_prepare(const GluArgs &a, u32 block, u8 *shared, GluState *s) {
    s->product.start(block, shared, {{a.weight[0], a.weight[1]}});
    norm_load_weight(a.norm, s->norm);
    s->product.settle(block);
}

DEVICE void decode_glu_run(const GluArgs &a, u32 block, u8 *shared, GluState *s) {
    float *squares = (float *)(shared + SQUARES_AT);
    float4 x[X_TURNS];
    x_load_global(a.x, x);
    norm_store<!UNPACKED>(shared + X_AT, squares, x, s->norm);
    block_sync();
    float factor = norm_factor(squares, NORM_EPS);
    s->product.run(block, shared, [&](u32 unit, const float sums[ROWS]) {
        if (unit < D_FF) a.out[unit] = gated(sums[0] * factor, sums[1] * factor);
    });
}

EXPORTED StageInfo decode_glu_info = {THREADS, {BLOCKS, 1}, MATVEC_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) decode_glu(GluArgs a) {
    GluState s;
    stage_launch_next();
    decode_glu_prepare(a, block_index(), shared_memory(), &s);
    stage_wait();
    decode_glu_run(a, block_index(), shared_memory(), &s);
}
