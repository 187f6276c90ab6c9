// The gates of attention's heads, on what attention of a prompt left. (attention.cuh takes those of rows that
// decode.)
//
//     a[row] *= sigmoid(raw[row][GATE_AT …])
//
// Operation: GLU. Grid: a block a row; where a prompt has many rows, a block takes several in turn.
// Defines: MAX_ROWS, N_COLS (of a row of a; even), RAW_COLS, GATE_AT (both even), ACTIVATION.
#if !defined(MAX_ROWS) || !defined(N_COLS) || !defined(RAW_COLS) || !defined(GATE_AT) || N_COLS % 2 || \
    RAW_COLS % 2 || GATE_AT % 2
#error "MAX_ROWS, N_COLS, RAW_COLS, GATE_AT"
#endif

enum : u32 { GATE_THREADS = 256, GATE_BLOCKS = MIN(MAX_ROWS, ROW_BLOCKS_MAX) };

EXPORTED StageInfo attention_gate_info = {GATE_THREADS, {GATE_BLOCKS, 1}, 0};

KERNEL(GATE_THREADS, 1) attention_gate(AttentionGateArgs args) {
    stage_launch_next();
    stage_wait();
    u32 n_rows = load_shared_data(&args.batch->n_rows);
    for (u32 row = block_index(); row < n_rows; row += GATE_BLOCKS) {
        const float *gates = args.raw + (u64)row * RAW_COLS + GATE_AT;
        for (u32 col = thread_index() * 2; col < N_COLS; col += GATE_THREADS * 2) {
            float2 gate = load_shared_data((const float2 *)(gates + col));
            u32 v = load_shared_data((const u32 *)(args.a + activation_at(row, col)));
            activation_store_2(args.a, row, col, gated(gate.x, f16_to_f32((f16)v)),
                               gated(gate.y, f16_to_f32((f16)(v >> 16))));
        }
    }
}
