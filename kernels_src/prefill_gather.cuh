// Prefill: the norm before the experts, as the input of their products: each row once for each of its
// experts.
//
//     out[slot[row][i]] = x[row] * factor[row] * w, f16, in the order of layout.h, for i < N_USED
//
// Operation: RMS_NORM (its root is prefill_route's). Grid: a warp a row, GATHER_WARPS rows a block; a lane
// makes a unit of 16 bytes of every other 128 columns.
// Defines: D_MODEL, N_USED, MAX_ROWS (the slots, of `out`), CHUNK_ROWS (of a step).
#if !defined(D_MODEL) || !defined(N_USED) || !defined(MAX_ROWS) || !defined(CHUNK_ROWS) || D_MODEL % 32
#error "D_MODEL, N_USED, MAX_ROWS, CHUNK_ROWS"
#endif

enum : u32 { GATHER_WARPS = 4 };

DEVICE void prefill_gather_run(const PrefillGatherArgs &a, u32 row) {
    if (row >= a.span->n_rows) return;
    u32 slot[N_USED];
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        slot[i] = load_shared_data(a.slot + row * N_USED + i);
    }
    const float *x = a.x + (u64)row * D_MODEL, factor = load_shared_data(a.factor + row);
    // Place 32 w + 16 h + 8 t + 2 c + i of 128 columns is column 32 c + 16 h + 4 w + 2 i + t.
    u32 unit = lane_index() % 16, first = unit / 4 * 4 + unit / 2 % 2 * 16 + unit % 2;
    for (u32 step = lane_index() / 16; step < CEIL_DIV(D_MODEL, PREFILL_COLS); step += 2) {
        float v[8];
#pragma unroll
        for (u32 k = 0; k < 8; k++) {
            u32 col = step * PREFILL_COLS + first + k / 2 * 32 + k % 2 * 2;
            v[k] = col < D_MODEL ? load_shared_data(x + col) * factor * a.norm[col] : 0.0f;
        }
        uint4 packed = {pack_f16(v[0], v[1]), pack_f16(v[2], v[3]), pack_f16(v[4], v[5]),
                        pack_f16(v[6], v[7])};
        u32 sheet = step * 2 + unit / 8;
#pragma unroll
        for (u32 i = 0; i < N_USED; i++) {
            u64 at = (u64)(sheet * MAX_ROWS + slot[i]) * 64 + (unit % 8 ^ slot[i] % 8) * 8;
            *(uint4 *)(a.out + at) = packed;
        }
    }
}

EXPORTED StageInfo prefill_gather_info = {GATHER_WARPS * 32, {CEIL_DIV(CHUNK_ROWS, GATHER_WARPS), 1}, 0};

KERNEL(GATHER_WARPS * 32, 1) prefill_gather(PrefillGatherArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_gather_run(a, block_index() * GATHER_WARPS + warp_index());
}
