// Prefill: the experts' gate and up, activation.
//
//     out[slot] = act(W_gate[e] in[slot] + b_gate[e], W_up[e] in[slot] + b_up[e]) / PREFILL_GLU_DIVISOR
//
// f16, in the order of layout.h; e is the slot's expert.
// Operations: EXPERT_MATMUL x 2, GLU. Grid: prefill_experts.cuh; units:
// prefill_glu_units.cuh. Defines: D_MODEL, D_FF (of an expert), prefill_glu_units.cuh's,
// prefill_experts.cuh's.

DEVICE void prefill_experts_glu_run(const PrefillExpertsGluArgs &a, u32 unit_tile, u32 tile, u8 *shared) {
    with_expert_tile(a.tiles, unit_tile, tile, [&](const MatmulTile &this_tile, u32 expert) {
        PrefillGluArgs of_expert = {};
        for (u32 i = 0; i < 2; i++) {
            of_expert.weight[i] = a.weight[i] + (u64)expert * D_FF * layout_row_bytes(FORMAT_0, N_COLS);
            of_expert.bias[i] = a.bias[i] != 0 ? a.bias[i] + expert * D_FF : 0;
        }
        of_expert.out = a.out;
        PrefillGluRows rows = {{of_expert.weight[0], of_expert.weight[1]}};
        matmul_tile_run(this_tile, a.in, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
            u32 end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
            for (u32 token = lane_index(); token < end; token += WARP) {
                const float4 *s = (const float4 *)(sums + token * SUM_STRIDE);
                glu_store(of_expert, t.token + token, unit, s, s + 2);
            }
        });
    });
}

EXPORTED StageInfo prefill_experts_glu_info = {THREADS, {UNIT_TILES, EXPERT_TILES}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_experts_glu(PrefillExpertsGluArgs a) {
    stage_launch_next();
    prefill_experts_glu_run(a, block_index(), block_index_y(), shared_memory());
}
