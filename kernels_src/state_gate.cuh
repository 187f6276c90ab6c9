// Heads with a state: the norm of what they give, and the gate; in either order.
//
//     NORM_FIRST   out = norm(y) * w * silu(z)           STATE_DELTA's
//     else         out = norm(y * silu(z)) * w           STATE_SSM's
//     norm(v) = v / sqrt(mean(v^2) + eps) over NORM_COLS neighbours; out is divided by GLU_DIVISOR
//
// The sum of squares: a thread's pairs of columns 2 i, 2 i + 1 of each 64 GATE_WARPS, ascending; lanes 16
// apart, 8, 4, 2, 1; the warps in their order. GATE_WARPS follows from NORM_COLS alone.
//
// Operations: RMS_NORM, GLU. Grid: norms of rows, GATE_WARPS warps each, several a block where they have one;
// blocks take several in turn. Defines: MAX_ROWS, CONV_COLS, VALUE_AT (where a row of `mixed` has y),
// RAW_COLS, GATE_AT (where a row of `raw` has z), STATE_COLS, NORM_COLS (even, divides STATE_COLS),
// NORM_WEIGHTS (1, or STATE_COLS / NORM_COLS), NORM_EPS, ACTIVATION; NORM_FIRST.
// state_few.cuh has what is above the norm of a row.
#if !defined(STAGE_STATE_FEW) && !defined(VALUE_AT)
#error "VALUE_AT"
#endif
#if !defined(MAX_ROWS) || !defined(CONV_COLS) || !defined(RAW_COLS) || !defined(GATE_AT) ||            \
    !defined(STATE_COLS) || !defined(NORM_COLS) || !defined(NORM_WEIGHTS) || STATE_COLS % NORM_COLS || \
    NORM_COLS % 2
#error "MAX_ROWS, CONV_COLS, VALUE_AT, RAW_COLS, GATE_AT, STATE_COLS, NORM_COLS, NORM_WEIGHTS"
#endif

enum : u32 {
    GATE_WARPS = MIN(CEIL_DIV(NORM_COLS, 512), 8), // of a norm
    TURN_COLS = GATE_WARPS * WARP * 2,
    TURNS = CEIL_DIV(NORM_COLS, TURN_COLS),
    NORMS = STATE_COLS / NORM_COLS, // of a row
    SIDE = GATE_WARPS == 1 ? 4 : 1, // of a block
    GATE_THREADS = SIDE * GATE_WARPS * WARP,
    GATE_BLOCKS = MIN(CEIL_DIV(MAX_ROWS * NORMS, SIDE), ROW_BLOCKS_MAX),
};

// What the norm is of.
DEVICE float gate_before(float y, float gate) {
#ifdef NORM_FIRST
    (void)gate;
    return y;
#else
    return y * gate;
#endif
}
DEVICE float gate_squares(float2 v, float squares) {
    return fma_f32(v.y, v.y, fma_f32(v.x, v.x, squares));
}
DEVICE float gate_of_lanes(float squares) {
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    return squares;
}
DEVICE float gate_factor(float squares) {
    return reciprocal_sqrt_fast(fma_f32(squares, 1.0f / NORM_COLS, NORM_EPS));
}
DEVICE float gate_behind(float v, float factor, float weight, float gate) {
    float n = v * factor * weight;
#ifdef NORM_FIRST
    n *= gate;
#endif
    (void)gate;
    return n * (1 / GLU_DIVISOR);
}

#ifndef STAGE_STATE_FEW
// A sum over the GATE_WARPS warps, of which each has its own in all lanes. sums [GATE_WARPS].
DEVICE float sum_of_warps(float v, float *sums) {
    if (GATE_WARPS == 1) return v;
    if (lane_index() == 0) sums[warp_index()] = v;
    block_sync();
    float total = sums[0];
#pragma unroll
    for (u32 w = 1; w < GATE_WARPS; w++) {
        total += sums[w];
    }
    block_sync(); // they have been read
    return total;
}

// Norm number `number` of a row, by its warps; thread: of them.
DEVICE void gate_norm(const StateGateArgs &a, u32 row, u32 number, u32 thread, float *sums) {
    const float *y = a.mixed + (u64)row * CONV_COLS + VALUE_AT + number * NORM_COLS;
    const float *z = a.raw + (u64)row * RAW_COLS + GATE_AT + number * NORM_COLS;
    const float *weight = a.norm + number % NORM_WEIGHTS * NORM_COLS;
    float2 v[TURNS], gate[TURNS], w[TURNS];
    float squares = 0;
#pragma unroll
    for (u32 i = 0; i < TURNS; i++) {
        u32 col = i * TURN_COLS + thread * 2;
        v[i] = gate[i] = w[i] = {0, 0};
        if (col >= NORM_COLS) continue;
        v[i] = load_shared_data((const float2 *)(y + col));
        gate[i] = load_shared_data((const float2 *)(z + col));
        w[i] = *(const float2 *)(weight + col); // before a store, which they would wait for in turn
    }
#pragma unroll
    for (u32 i = 0; i < TURNS; i++) {
        gate[i] = {activate(gate[i].x), activate(gate[i].y)};
        v[i] = {gate_before(v[i].x, gate[i].x), gate_before(v[i].y, gate[i].y)};
        squares = gate_squares(v[i], squares);
    }
    float factor = gate_factor(sum_of_warps(gate_of_lanes(squares), sums));
#pragma unroll
    for (u32 i = 0; i < TURNS; i++) {
        u32 col = i * TURN_COLS + thread * 2;
        if (col >= NORM_COLS) continue;
        activation_store_2(a.out, row, number * NORM_COLS + col,
                           gate_behind(v[i].x, factor, w[i].x, gate[i].x),
                           gate_behind(v[i].y, factor, w[i].y, gate[i].y));
    }
}

EXPORTED StageInfo state_gate_info = {GATE_THREADS, {GATE_BLOCKS, 1}, GATE_WARPS * 4};

KERNEL(GATE_THREADS, 1) state_gate(StateGateArgs a) {
    u32 side = SIDE == 1 ? 0 : warp_index(), thread = SIDE == 1 ? thread_index() : lane_index();
    stage_launch_next();
    stage_wait();
    u32 n = a.batch->n_rows * NORMS;
    for (u32 i = block_index() * SIDE + side; i < n; i += GATE_BLOCKS * SIDE) {
        gate_norm(a, i / NORMS, i % NORMS, thread, (float *)shared_memory());
    }
}
#endif
