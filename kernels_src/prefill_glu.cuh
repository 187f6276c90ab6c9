// Prefill: gate and up, activation.
//
//     out[row] = act(W_gate in[row]) * (W_up in[row]) / PREFILL_GLU_DIVISOR, f16, in the order of layout.h
//
// Operations: MATMUL x 2, GLU. Grid and order of sums: prefill_matmul.cuh; a unit is 8 rows of gate and the
// same of up: those that make the columns of one 16-byte unit of `out`. Defines: D_MODEL, D_FF (a multiple of
// 8), ACTIVATION, prefill_matmul.cuh's.
#if !defined(D_FF) || !defined(ACTIVATION) || D_FF % 8
#error "D_FF, ACTIVATION"
#endif

// Place 8 * unit + r of 128 columns has this one (layout.h).
DEVICE u32 glu_column(u32 unit, u32 r) {
    return unit / 16 * PREFILL_COLS + unit % 16 / 4 * 4 + unit % 4 / 2 * 16 + unit % 2 + r / 2 * 32 +
           r % 2 * 2;
}

struct PrefillGluRows {
    const u8 *weight[2];
    DEVICE u32 part(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        u32 row = MIN(glu_column(unit, r % 8), D_FF - 1u);
        return (r < 8 ? weight[0] : weight[1]) + (u64)row * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

// Columns r and r + 1 of a unit; zeros past the last.
DEVICE u32 glu_pair(u32 unit, u32 r, float gate, float up, float next_gate, float next_up) {
    const float factor = 1.0f / PREFILL_GLU_DIVISOR;
    float v = gated(gate, up) * factor, next = gated(next_gate, next_up) * factor;
    if (D_FF % PREFILL_COLS) {
        v = glu_column(unit, r) < D_FF ? v : 0.0f;
        next = glu_column(unit, r + 1) < D_FF ? next : 0.0f;
    }
    return pack_f16(v, next);
}

// A lane has a token's eight columns.
DEVICE void prefill_glu_run(const PrefillGluArgs &a, u32 block, u8 *shared) {
    PrefillGluRows rows = {{a.weight[0], a.weight[1]}};
    matmul_stage(a.chunk, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
        u32 end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
        f16 *sheet = a.out + (u64)(unit / 8) * MAX_ROWS * 64;
        for (u32 token = lane_index(); token < end; token += WARP) {
            const float4 *s = (const float4 *)(sums + token * SUM_STRIDE);
            float4 g = s[0], h = s[1], u = s[2], v = s[3];
            uint4 out = {glu_pair(unit, 0, g.x, u.x, g.y, u.y), glu_pair(unit, 2, g.z, u.z, g.w, u.w),
                         glu_pair(unit, 4, h.x, v.x, h.y, v.y), glu_pair(unit, 6, h.z, v.z, h.w, v.w)};
            u32 row = t.token + token;
            *(uint4 *)(sheet + row * 64 + (unit % 8 ^ row % 8) * 8) = out;
        }
    });
}

EXPORTED StageInfo prefill_glu_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_glu(PrefillGluArgs a) {
    stage_launch_next();
    prefill_glu_run(a, block_index(), shared_memory());
}
