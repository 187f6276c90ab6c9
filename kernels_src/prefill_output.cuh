// Prefill, the stages that end in the residual stream: attention output and down.
//
//     x[row] += W in[row] + b
//
// Operations: MATMUL, ADD. Grid and order of sums: prefill_matmul.cuh; a unit is 16 rows of W side by side.
// Defines: N_ROWS, prefill_matmul.cuh's; FROM_GLU where `in` was divided by PREFILL_GLU_DIVISOR.
#if !defined(N_ROWS) || N_ROWS % 8
#error "N_ROWS"
#endif

#ifdef FROM_GLU
#define IN_FACTOR PREFILL_GLU_DIVISOR
#else
#define IN_FACTOR 1.0f
#endif

struct PrefillOutputRows {
    const u8 *weight;
    DEVICE u32 part(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        return weight + MIN(unit * 16 + r, N_ROWS - 1u) * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

DEVICE void prefill_output_run(const PrefillOutputArgs &a, u32 block, u8 *shared) {
    PrefillOutputRows rows = {a.weight};
    matmul_stage(a.chunk, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
        u32 row = unit * 16 + lane_index() / 4;
        float bias[2] = {a.bias != 0 ? a.bias[row] : 0.0f,
                         a.bias != 0 && row + 8 < N_ROWS ? a.bias[row + 8] : 0.0f};
#pragma unroll
        for (u32 i = 0; i < SUMS; i++) {
            u32 token = t.token + i / 4 * 8 + lane_index() % 4 * 2 + i % 2, r = row + i % 4 / 2 * 8;
            if (token >= t.n_rows || r >= N_ROWS) continue;
            float *x = a.x + (u64)token * N_ROWS + r;
            *x = load_shared_data(x) + (sums[i] * IN_FACTOR + bias[i % 4 / 2]);
        }
    });
}

EXPORTED StageInfo prefill_output_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_output(PrefillOutputArgs a) {
    stage_launch_next();
    prefill_output_run(a, block_index(), shared_memory());
}
