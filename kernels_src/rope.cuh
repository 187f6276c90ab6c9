// The rope table of a batch's positions, once for all layers that share it.
//
//     rope[row][i] = {cos, sin}(position of row * inv_freq[i]) * ROPE_SCALE
//
// Operation: ROPE (its part that does not depend on the layer). Grid: ROPE_ROWS rows a block: four of
// a warp each, or (few rows) one with a thread for each value, since a sine takes long.
// Defines: ROPE_DIMS, ROPE_SCALE, MAX_ROWS.
#if !defined(ROPE_DIMS) || !defined(ROPE_SCALE) || !defined(MAX_ROWS)
#error "ROPE_DIMS, ROPE_SCALE, MAX_ROWS"
#endif

enum : u32 {
    ROPE_ROWS = MAX_ROWS <= 8 ? 1 : 4,
    ROPE_ROW_THREADS = MAX_ROWS <= 8 ? MIN(ROUND_UP(ROPE_DIMS / 2, 32), 1024) : 32,
    ROPE_THREADS = ROPE_ROWS * ROPE_ROW_THREADS,
};

DEVICE void rope_run(const RopeArgs &a, u32 row, u32 first) {
    if (row >= MAX_ROWS) return;
    u32 n_rows = load_shared_data(&a.batch->n_rows), position = load_shared_data(&a.rows[row].position);
    if (row >= n_rows) return;
    for (u32 i = first; i < ROPE_DIMS / 2; i += ROPE_ROW_THREADS) {
        float sine, cosine;
        sin_cos_f32((float)position * a.inv_freq[i], &sine, &cosine);
        ((float2 *)a.rope)[row * (ROPE_DIMS / 2) + i] = {cosine * ROPE_SCALE, sine * ROPE_SCALE};
    }
}

EXPORTED StageInfo rope_info = {ROPE_THREADS, {CEIL_DIV(MAX_ROWS, ROPE_ROWS), 1}, 0};

KERNEL(ROPE_THREADS, 1) rope(RopeArgs a) {
    stage_launch_next();
    stage_wait();
    rope_run(a, block_index() * ROPE_ROWS + thread_index() / ROPE_ROW_THREADS,
             thread_index() % ROPE_ROW_THREADS);
}
