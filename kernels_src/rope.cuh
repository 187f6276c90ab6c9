// The rope table of a batch's positions, once for all layers that share it.
//
//     rope[row][i] = {cos, sin}(position of row * inv_freq[i]) * ROPE_SCALE
//
// Operation: ROPE (its part that does not depend on the layer). Grid: a warp a row, ROPE_WARPS rows a block.
// Defines: ROPE_DIMS, ROPE_SCALE, MAX_ROWS.
#if !defined(ROPE_DIMS) || !defined(ROPE_SCALE) || !defined(MAX_ROWS)
#error "ROPE_DIMS, ROPE_SCALE, MAX_ROWS"
#endif

enum : u32 { ROPE_WARPS = MIN(MAX_ROWS, 4) };

DEVICE void rope_run(const RopeArgs &a, u32 row) {
    if (row >= load_shared_data(&a.batch->n_rows)) return;
    float position = (float)load_shared_data(&a.rows[row].position);
    for (u32 i = lane_index(); i < ROPE_DIMS / 2; i += WARP) {
        float sine, cosine;
        sin_cos_f32(position * a.inv_freq[i], &sine, &cosine);
        ((float2 *)a.rope)[row * (ROPE_DIMS / 2) + i] = {cosine * ROPE_SCALE, sine * ROPE_SCALE};
    }
}

EXPORTED StageInfo rope_info = {ROPE_WARPS * 32, {CEIL_DIV(MAX_ROWS, ROPE_WARPS), 1}, 0};

KERNEL(ROPE_WARPS * 32, 1) rope(RopeArgs a) {
    stage_launch_next();
    stage_wait();
    rope_run(a, block_index() * ROPE_WARPS + warp_index());
}
