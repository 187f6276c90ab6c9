// The rope tables of a batch's positions, once for all layers that share one. embed.cuh's first blocks make
// them, since a launch of its own would cost 3.5 µs.
//
//     rope[row][i] = {cos, sin}(position of row * inv_freq[i]) * scale
//
// Operation: ROPE (its part that does not depend on the layer). Work: a thread a value of a row, in all of
// its tables, since a sine takes long. Defines: ROPE_VALUES (of a row, in all tables), MAX_ROWS.
#if !defined(ROPE_VALUES) || !defined(MAX_ROWS)
#error "ROPE_VALUES, MAX_ROWS"
#endif

enum : u32 {
    ROPE_THREADS = 128,
    // A few turns a block where a prompt has many rows.
    ROPE_BLOCKS = MIN(CEIL_DIV(MAX_ROWS * ROPE_VALUES, ROPE_THREADS), ROW_BLOCKS_MAX / 2),
};

#if ROPE_VALUES > 0
// Value i of all rows' tables, the rows' side by side.
DEVICE void rope_value(const EmbedArgs &a, u32 i) {
    u32 row = i / ROPE_VALUES, value = i % ROPE_VALUES;
    // Asked for at once: each takes as long as all.
    u32 n_rows = load_shared_data(&a.batch->n_rows), position = load_shared_data(&a.rows[row].position);
    RopeTable table = a.tables[0];
#pragma unroll
    for (u32 t = 1; t < ROPE_TABLES_MAX; t++) {
        if (value < table.n_values) break;
        value -= table.n_values;
        table = a.tables[t];
    }
    float frequency = table.inv_freq[value], sine, cosine;
    if (row >= n_rows) return;
    sin_cos_f32((float)position * frequency, &sine, &cosine);
    ((float2 *)table.rope)[(u64)row * table.n_values + value] = {cosine * table.scale, sine * table.scale};
}

DEVICE void rope_tables_run(const EmbedArgs &a, u32 block) {
    for (u32 i = block * ROPE_THREADS + thread_index(); i < MAX_ROWS * ROPE_VALUES;
         i += ROPE_BLOCKS * ROPE_THREADS) {
        rope_value(a, i);
    }
}
#endif
