// Prefill: norm, the router, and the experts of each row.
//
//     choice[row] = {expert, weight} of the N_USED chosen (expert_choice.cuh) of W rms_norm(x[row]) + b
//     factor[row] = 1 / sqrt(mean(x[row]^2) + eps), for prefill_gather
//
// Operations: RMS_NORM (its root), MATMUL (of the router), ROUTE. Grid: a block ROUTE_ROWS rows, whose values
// times the norm's are in shared memory; a warp has all rows' products with four experts at once. Float32
// throughout, since a rounded logit could choose another expert. Order of the sums: a lane's columns (4 of
// each 128), then lanes 16 apart, 8, 4, 2, 1.
// Defines: D_MODEL, NORM_EPS, expert_choice.cuh's, FORMAT_0, ROUTE_ROWS (1, 2, 4 or 8), MAX_ROWS.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(FORMAT_0) || !defined(ROUTE_ROWS) || \
    !defined(MAX_ROWS) || D_MODEL % 32
#error "D_MODEL, NORM_EPS, FORMAT_0, ROUTE_ROWS, MAX_ROWS"
#endif

enum : u32 {
    ROUTE_WARPS = 8,
    ROUTE_THREADS = ROUTE_WARPS * 32,
    ROUTE_EXPERTS = 4, // of a warp at once
    ROUTE_SUMS = ROUTE_EXPERTS * ROUTE_ROWS,
    FACTORS_AT = ROUTE_ROWS * D_MODEL * 4,
    LOGITS_AT = ROUND_UP(FACTORS_AT + ROUTE_ROWS * 4, 16), // [ROUTE_ROWS][N_EXPERTS]
    PREFILL_ROUTE_SHARED_BYTES = LOGITS_AT + ROUTE_ROWS * N_EXPERTS * 4,
};
static_assert(ROUTE_ROWS <= ROUTE_WARPS && (ROUTE_ROWS & (ROUTE_ROWS - 1)) == 0, "a warp a row");

// A warp's row times the norm into shared memory (zeros past the last row), and its factor.
DEVICE void load_route_row(const PrefillRouteArgs &a, u32 row, u32 n_rows, u8 *shared) {
    float4 *to = (float4 *)shared + warp_index() * (D_MODEL / 4);
    const float4 *x = (const float4 *)(a.x + (u64)row * D_MODEL);
    float squares = 0;
    for (u32 g = lane_index(); g < D_MODEL / 4; g += WARP) {
        float4 v = row < n_rows ? load_shared_data(x + g) : float4{0, 0, 0, 0};
        float4 n = ((const float4 *)a.norm)[g];
        squares = fma_f32(v.x, v.x, fma_f32(v.y, v.y, fma_f32(v.z, v.z, fma_f32(v.w, v.w, squares))));
        to[g] = {v.x * n.x, v.y * n.y, v.z * n.z, v.w * n.w};
    }
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    float factor = reciprocal_sqrt_fast(fma_f32(squares, 1.0f / D_MODEL, NORM_EPS));
    if (lane_index() > 0) return;
    ((float *)(shared + FACTORS_AT))[warp_index()] = factor;
    if (row < n_rows) a.factor[row] = factor;
}

// The warp's sums of n values (a power of two, at most 32): lane i gets value i * n / 32.
template <u32 n> DEVICE float sums_of_lanes(float v[n]) {
#pragma unroll
    for (u32 step = 0; step < 5; step++) {
        const u32 distance = 16u >> step, kept = (n >> step) / 2;
        bool upper = lane_index() & distance;
        if (kept == 0) v[0] += shuffle_xor(v[0], distance);
#pragma unroll
        for (u32 i = 0; i < kept; i++) {
            float keep = upper ? v[i + kept] : v[i], give = upper ? v[i] : v[i + kept];
            v[i] = keep + shuffle_xor(give, distance);
        }
    }
    return v[0];
}

// Logits of all rows of four experts.
DEVICE void route_experts(const PrefillRouteArgs &a, u32 first, u8 *shared) {
    const u8 *weight[ROUTE_EXPERTS];
    for (u32 e = 0; e < ROUTE_EXPERTS; e++) {
        weight[e] = a.weight + MIN(first + e, N_EXPERTS - 1u) * layout_row_bytes(FORMAT_0, D_MODEL);
    }
    float sums[ROUTE_SUMS] = {};
#pragma unroll 1
    for (u32 g = lane_index(); g < D_MODEL / 4; g += WARP) {
        float4 w[ROUTE_EXPERTS];
#pragma unroll
        for (u32 e = 0; e < ROUTE_EXPERTS; e++) {
            w[e] = weights_4<FORMAT_0>(weight[e], D_MODEL, g * 4);
        }
#pragma unroll
        for (u32 r = 0; r < ROUTE_ROWS; r++) {
            float4 x = ((const float4 *)shared)[r * (D_MODEL / 4) + g];
#pragma unroll
            for (u32 e = 0; e < ROUTE_EXPERTS; e++) {
                float *s = &sums[e * ROUTE_ROWS + r];
                *s = fma_f32(x.x, w[e].x,
                             fma_f32(x.y, w[e].y, fma_f32(x.z, w[e].z, fma_f32(x.w, w[e].w, *s))));
            }
        }
    }
    float sum = sums_of_lanes<ROUTE_SUMS>(sums);
    u32 i = lane_index() * ROUTE_SUMS / WARP, expert = first + i / ROUTE_ROWS, row = i % ROUTE_ROWS;
    if (expert >= N_EXPERTS || lane_index() % (WARP / ROUTE_SUMS) > 0) return;
    float factor = ((const float *)(shared + FACTORS_AT))[row];
    ((float *)(shared + LOGITS_AT))[row * N_EXPERTS + expert] =
        fma_f32(sum, factor, a.bias != 0 ? a.bias[expert] : 0.0f);
}

DEVICE void prefill_route_run(const PrefillRouteArgs &a, u32 block, u8 *shared) {
    u32 n_rows = a.span->n_rows, row = block * ROUTE_ROWS + warp_index();
    if (block * ROUTE_ROWS >= n_rows) return;
    if (warp_index() < ROUTE_ROWS) load_route_row(a, row, n_rows, shared);
    block_sync();
    for (u32 e = warp_index() * ROUTE_EXPERTS; e < N_EXPERTS; e += ROUTE_WARPS * ROUTE_EXPERTS) {
        route_experts(a, e, shared);
    }
    block_sync();
    if (warp_index() >= ROUTE_ROWS || row >= n_rows) return;
    float logit[LANE_EXPERTS];
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        u32 expert = lane_index() * LANE_EXPERTS + j;
        logit[j] = expert < N_EXPERTS
                       ? ((const float *)(shared + LOGITS_AT))[warp_index() * N_EXPERTS + expert]
                       : 0.0f;
    }
    ExpertChoice c = choose_experts(logit);
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        if (lane_index() == i) a.choice[row * N_USED + i] = {c.expert[i], c.weight[i]};
    }
}

EXPORTED StageInfo prefill_route_info = {
    ROUTE_THREADS, {CEIL_DIV(MAX_ROWS, ROUTE_ROWS), 1}, PREFILL_ROUTE_SHARED_BYTES};

KERNEL(ROUTE_THREADS, 1) prefill_route(PrefillRouteArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_route_run(a, block_index(), shared_memory());
}
