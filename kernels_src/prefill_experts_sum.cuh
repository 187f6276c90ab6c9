// Prefill: what a row's experts gave, into the residual stream.
//
//     x[row] += sum_i choice[row][i].weight * in[slot[row][i]], i from 0 on
//
// Operations: EXPERT_SUM, ADD. Grid: a block a row. Defines: D_MODEL, N_USED, MAX_ROWS.
#if !defined(D_MODEL) || !defined(N_USED) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, N_USED, MAX_ROWS"
#endif

enum : u32 { SUM_THREADS = 256 };

DEVICE void prefill_experts_sum_run(const PrefillExpertsSumArgs &a, u32 row) {
    if (row >= a.span->n_rows) return;
    const float4 *in[N_USED];
    float weight[N_USED];
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        in[i] = (const float4 *)(a.in + (u64)load_shared_data(a.slot + row * N_USED + i) * D_MODEL);
        weight[i] = load_shared_data(&a.choice[row * N_USED + i].weight);
    }
    float4 *x = (float4 *)(a.x + (u64)row * D_MODEL);
    for (u32 g = thread_index(); g < D_MODEL / 4; g += SUM_THREADS) {
        float4 sum = {0, 0, 0, 0}, v[N_USED], before = load_shared_data(x + g);
#pragma unroll
        for (u32 i = 0; i < N_USED; i++) {
            v[i] = load_shared_data(in[i] + g);
        }
#pragma unroll
        for (u32 i = 0; i < N_USED; i++) {
            sum = {fma_f32(weight[i], v[i].x, sum.x), fma_f32(weight[i], v[i].y, sum.y),
                   fma_f32(weight[i], v[i].z, sum.z), fma_f32(weight[i], v[i].w, sum.w)};
        }
        x[g] = {before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w};
    }
}

EXPORTED StageInfo prefill_experts_sum_info = {SUM_THREADS, {MAX_ROWS, 1}, 0};

KERNEL(SUM_THREADS, 1) prefill_experts_sum(PrefillExpertsSumArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_experts_sum_run(a, block_index());
}
