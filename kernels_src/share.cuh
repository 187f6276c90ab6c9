// A shared expert's share of a row, on what comes before its down.
//
//     f[row] *= sigmoid(w . h[row])
//
// Operation: SHARE. The sum: a thread's columns 2 i and 2 i + 1 of each 256, ascending; lanes 16 apart, 8, 4,
// 2, 1; the warps in their order. Grid: a block a row; where a prompt has many rows, a block takes several in
// turn. Defines: D_MODEL (even), D_FF (even), MAX_ROWS.
#if !defined(D_MODEL) || !defined(D_FF) || !defined(MAX_ROWS) || D_MODEL % 2 || D_FF % 2
#error "D_MODEL, D_FF, MAX_ROWS"
#endif

enum : u32 {
    SHARE_WARPS = 4,
    SHARE_COLS = SHARE_WARPS * WARP * 2,
    SHARE_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX)
};

// All warps; sums [SHARE_WARPS].
DEVICE float share_of_row(const ShareArgs &a, u32 row, float *sums) {
    float sum = 0;
    for (u32 col = thread_index() * 2; col < D_MODEL; col += SHARE_COLS) {
        float2 h = activation_load_2(a.h, row, col), w = *(const float2 *)(a.weight + col);
        sum = fma_f32(h.y, w.y, fma_f32(h.x, w.x, sum));
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        sum += shuffle_xor(sum, m);
    }
    if (lane_index() == 0) sums[warp_index()] = sum;
    block_sync();
    float total = sums[0];
#pragma unroll
    for (u32 w = 1; w < SHARE_WARPS; w++) {
        total += sums[w];
    }
    return reciprocal_fast(1.0f + exp2_fast(-1.44269504089f * total));
}

EXPORTED StageInfo share_info = {SHARE_WARPS * 32, {SHARE_BLOCKS, 1}, SHARE_WARPS * 4};

KERNEL(SHARE_WARPS * 32, 1) share(ShareArgs a) {
    float *sums = (float *)shared_memory();
    stage_launch_next();
    stage_wait();
    u32 n_rows = load_shared_data(&a.batch->n_rows);
    for (u32 row = block_index(); row < n_rows; row += SHARE_BLOCKS) {
        float share = share_of_row(a, row, sums);
        for (u32 col = thread_index() * 2; col < D_FF; col += SHARE_COLS) {
            float2 v = activation_load_2(a.f, row, col);
            activation_store_2(a.f, row, col, v.x * share, v.y * share);
        }
        block_sync(); // the sums have been read
    }
}
