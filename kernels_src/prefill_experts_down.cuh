// Prefill: the experts' down.
//
//     out[slot] = W[e] in[slot] + b[e], e the slot's expert; `in` was divided by PREFILL_GLU_DIVISOR
//
// Operation: EXPERT_MATMUL. Grid: prefill_experts.cuh; units and order of sums as in prefill_output.cuh.
// Defines: N_ROWS (a multiple of 8), N_COLS, prefill_experts.cuh's.
#if !defined(N_ROWS) || N_ROWS % 8
#error "N_ROWS"
#endif

struct PrefillExpertsDownRows {
    const u8 *weight;
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        return weight + MIN(unit * 16 + r, N_ROWS - 1u) * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

// Lane 4 i + c has rows 4 c … 4 c + 3 of every eighth slot.
DEVICE void prefill_experts_down_run(const PrefillExpertsDownArgs &a, u32 unit_tile, u32 tile, u8 *shared) {
    with_expert_tile(a.tiles, unit_tile, tile, [&](const MatmulTile &this_tile, u32 expert) {
        PrefillExpertsDownRows rows = {a.weight + (u64)expert * N_ROWS * layout_row_bytes(FORMAT_0, N_COLS)};
        matmul_tile_run(this_tile, a.in, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
            u32 r = lane_index() % 4 * 4, row = unit * 16 + r,
                end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
            if (row >= N_ROWS) return;
            float4 bias = {0, 0, 0, 0};
            if (a.bias != 0) bias = *(const float4 *)(a.bias + expert * N_ROWS + row);
            for (u32 token = lane_index() / 4; token < end; token += 8) {
                float4 v = *(const float4 *)(sums + token * SUM_STRIDE + r);
                v = {fma_f32(v.x, PREFILL_GLU_DIVISOR, bias.x), fma_f32(v.y, PREFILL_GLU_DIVISOR, bias.y),
                     fma_f32(v.z, PREFILL_GLU_DIVISOR, bias.z), fma_f32(v.w, PREFILL_GLU_DIVISOR, bias.w)};
                *(float4 *)(a.out + (u64)(t.token + token) * N_ROWS + row) = v;
            }
        });
    });
}

EXPORTED StageInfo prefill_experts_down_info = {THREADS, {UNIT_TILES, EXPERT_TILES}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_experts_down(PrefillExpertsDownArgs a) {
    stage_launch_next();
    prefill_experts_down_run(a, block_index(), block_index_y(), shared_memory());
}
