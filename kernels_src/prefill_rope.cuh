// Prefill: the rope table of a step's positions, once for all layers that share it.
//
//     rope[row][i] = {cos, sin}((position + row) * inv_freq[i]) * ROPE_SCALE
//
// Operation: ROPE (its part that does not depend on the layer). Grid: a block a row.
// Defines: ROPE_DIMS, ROPE_SCALE, MAX_ROWS.
#if !defined(ROPE_DIMS) || !defined(ROPE_SCALE) || !defined(MAX_ROWS)
#error "ROPE_DIMS, ROPE_SCALE, MAX_ROWS"
#endif

DEVICE void prefill_rope_run(const PrefillRopeArgs &a, u32 row) {
    if (row >= a.span->n_rows) return;
    for (u32 i = lane_index(); i < ROPE_DIMS / 2; i += WARP) {
        float sine, cosine;
        sin_cos_f32((float)(a.span->position + row) * a.inv_freq[i], &sine, &cosine);
        ((float2 *)a.rope)[row * (ROPE_DIMS / 2) + i] = {cosine * ROPE_SCALE, sine * ROPE_SCALE};
    }
}

EXPORTED StageInfo prefill_rope_info = {WARP, {MAX_ROWS, 1}, 0};

KERNEL(32, 1) prefill_rope(PrefillRopeArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_rope_run(a, block_index());
}
