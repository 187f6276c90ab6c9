// Prefill: gate and up, activation.
//
//     out[row] = act(W_gate in[row]) * (W_up in[row]) / PREFILL_GLU_DIVISOR, f16, in the order of layout.h
//
// Operations: MATMUL x 2, GLU. Grid and order of sums: prefill_matmul.cuh; a unit is 8 rows of gate and the
// same of up, so that the lane that has a row's gate has its up. Defines: D_MODEL, D_FF (a multiple of 8),
// ACTIVATION, prefill_matmul.cuh's.
#if !defined(D_FF) || !defined(ACTIVATION) || D_FF % 8
#error "D_FF, ACTIVATION"
#endif

struct PrefillGluRows {
    const u8 *weight[2];
    DEVICE u32 part(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        return (r < 8 ? weight[0] : weight[1]) + (u64)(unit * 8 + r % 8) * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

DEVICE void prefill_glu_run(const PrefillGluArgs &a, u32 block, u8 *shared) {
    PrefillGluRows rows = {{a.weight[0], a.weight[1]}};
    matmul_stage(a.chunk, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
        // Lanes 8 apart have columns col and col + 2 of the next product's input: neighbours in memory.
        bool upper = lane_index() & 8;
        u32 col = unit * 8 + lane_index() / 4 - (upper ? 2 : 0);
#pragma unroll
        for (u32 j = 0; j < TILE_TOKENS / 8; j++) {
            const float *s = sums + j * 4;
            const float factor = 1.0f / PREFILL_GLU_DIVISOR;
            ColumnPair v = exchange_columns(gated(s[0], s[2]) * factor, gated(s[1], s[3]) * factor, 8);
            u32 token = t.token + j * 8 + lane_index() % 4 * 2 + upper;
            if (token < t.n_rows) activation_store(a.out, token, col, v.first, v.second);
        }
    });
}

EXPORTED StageInfo prefill_glu_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_glu(PrefillGluArgs a) {
    stage_launch_next();
    prefill_glu_run(a, block_index(), shared_memory());
}
