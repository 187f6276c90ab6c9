// Prefill, the stages that end in the residual stream: attention output and down.
//
//     x[row] += W in[row] + b
// RAW: x[row] = W in[row] + b; x is then another buffer, for prefill_post_norm.
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
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
        return weight + MIN(unit * 16 + r, N_ROWS - 1u) * layout_row_bytes(FORMAT_0, N_COLS);
    }
};

// Lane 4 i + c has rows 4 c … 4 c + 3 of every eighth token. What is added to is loaded for OUTPUT_AHEAD of
// its tokens before the first is stored: one after the other cost 50 us a tile of 256 tokens.
enum : u32 { OUTPUT_AHEAD = 8 };
DEVICE void prefill_output_run(const PrefillOutputArgs &a, u32 block, u8 *shared) {
    PrefillOutputRows rows = {a.weight};
    matmul_stage(a.span, a.in, block, shared, rows, [&](const MatmulTile &t, u32 unit, const float *sums) {
        u32 r = lane_index() % 4 * 4, row = unit * 16 + r, end = MIN(t.n_rows - t.token, (u32)TILE_TOKENS);
        if (row >= N_ROWS) return;
        float4 bias = a.bias != 0 ? *(const float4 *)(a.bias + row) : float4{0, 0, 0, 0};
        float *x = a.x + (u64)t.token * N_ROWS + row;
        for (u32 first = lane_index() / 4; first < end; first += OUTPUT_AHEAD * 8) {
            float4 before[OUTPUT_AHEAD];
#pragma unroll
            for (u32 i = 0; i < OUTPUT_AHEAD; i++) {
#ifdef RAW
                before[i] = {0, 0, 0, 0};
#else
                u32 token = first + i * 8;
                if (token < end) before[i] = load_shared_data((const float4 *)(x + (u64)token * N_ROWS));
#endif
            }
#pragma unroll
            for (u32 i = 0; i < OUTPUT_AHEAD; i++) {
                u32 token = first + i * 8;
                float4 v = *(const float4 *)(sums + MIN(token, end - 1) * SUM_STRIDE + r);
                v = {before[i].x + fma_f32(v.x, IN_FACTOR, bias.x),
                     before[i].y + fma_f32(v.y, IN_FACTOR, bias.y),
                     before[i].z + fma_f32(v.z, IN_FACTOR, bias.z),
                     before[i].w + fma_f32(v.w, IN_FACTOR, bias.w)};
                if (token < end) *(float4 *)(x + (u64)token * N_ROWS) = v;
            }
        }
    });
}

EXPORTED StageInfo prefill_output_info = {THREADS, {MATMUL_BLOCKS, 1}, MATMUL_SHARED_BYTES};

KERNEL(THREADS, BLOCKS_PER_SM) prefill_output(PrefillOutputArgs a) {
    stage_launch_next();
    prefill_output_run(a, block_index(), shared_memory());
}
