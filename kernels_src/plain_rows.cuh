// A batch's activations (rows.cuh) as plain rows of f16, for a library that multiplies them (--products
// cublas).
//
//     out[row][col] = in[row][col]
//
// Grid: threads take eight columns in turn. It is launched behind the work whose memory `out` is, and not
// beside it. Defines: MAX_ROWS, BLOCKS.
#if !defined(MAX_ROWS) || !defined(BLOCKS)
#error "MAX_ROWS, BLOCKS"
#endif

enum : u32 { PLAIN_THREADS = 256 };

EXPORTED StageInfo plain_rows_info = {PLAIN_THREADS, {BLOCKS, 1}, 0};

KERNEL(PLAIN_THREADS, 1) plain_rows(PlainRowsArgs a) {
    u32 n_parts = a.n_cols / 8, n = MIN(load_shared_data(&a.batch->n_rows), (u32)MAX_ROWS) * n_parts;
    for (u32 i = block_index() * PLAIN_THREADS + thread_index(); i < n; i += BLOCKS * PLAIN_THREADS) {
        u32 row = i / n_parts, col = i % n_parts * 8, v[4];
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            v[k] = *(const u32 *)(a.in + activation_at(row, col + k * 2));
        }
        *(uint4 *)(a.out + (u64)row * a.n_cols + col) = {v[0], v[1], v[2], v[3]};
    }
}
