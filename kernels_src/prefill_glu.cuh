// Prefill: gate and up, activation.
//
//     out[row] = act(W_gate in[row] + b_gate) * (W_up in[row] + b_up) / PREFILL_GLU_DIVISOR
// UNGATED:
//     out[row] = act(W_up in[row] + b_up) / PREFILL_GLU_DIVISOR
//
// f16, in the order of layout.h.
// Operations: MATMUL x 2, GLU; UNGATED: MATMUL, ACTIVATION. Grid and order of sums: prefill_matmul.cuh;
// units: prefill_glu_units.cuh. Defines: D_MODEL, prefill_glu_units.cuh's, prefill_matmul.cuh's. A lane has
// all columns of a token's unit.
DEVICE void prefill_glu_run(const PrefillGluArgs &a, u32 block, u8 *shared) {
    PrefillGluRows rows = {{a.weight[0], a.weight[1]}};
    matmul_stage(a.span, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
        u32 end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
        for (u32 token = lane_index(); token < end; token += WARP) {
            const float4 *s = (const float4 *)(sums + token * SUM_STRIDE);
#ifdef UNGATED
            glu_store(a, t.token + token, unit * 2, s, s);
            glu_store(a, t.token + token, unit * 2 + 1, s + 2, s + 2);
#else
            glu_store(a, t.token + token, unit, s, s + 2);
#endif
        }
    });
}

EXPORTED StageInfo prefill_glu_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_glu(PrefillGluArgs a) {
    stage_launch_next();
    prefill_glu_run(a, block_index(), shared_memory());
}
