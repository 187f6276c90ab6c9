// What a batch's rows' experts gave, into the residual stream.
//
//     x[row] += sum_i weight_i in[slot of row's i-th choice]      i from 0 on, each by fma
//
// SUM_ALONE: = in place of +=.
//
// Operations: EXPERT_SUM, ADD. Grid: SUM_BLOCKS blocks, which take turns in the rows that there are. Defines:
// D_MODEL, N_USED, SUM_BLOCKS; SUM_ALONE (1).
#if !defined(D_MODEL) || !defined(N_USED) || !defined(SUM_BLOCKS) || D_MODEL % 4
#error "D_MODEL, N_USED, SUM_BLOCKS"
#endif
#ifndef SUM_ALONE
#define SUM_ALONE 0
#endif

// With more than 16 experts a row a thread holds so much that no more of them find registers.
enum : u32 { EXPERTS_SUM_THREADS = MIN(ROUND_UP(D_MODEL / 4, 32), N_USED > 16 ? 256 : 512) };

// What the i-th expert gave, added to what those before it gave.
DEVICE float4 add_expert(float4 sum, float weight, float4 v) {
    return {fma_f32(weight, v.x, sum.x), fma_f32(weight, v.y, sum.y), fma_f32(weight, v.z, sum.z),
            fma_f32(weight, v.w, sum.w)};
}

DEVICE void experts_sum_run(const ExpertsSumArgs &a, u32 row) {
    const float4 *in[N_USED];
    float weight[N_USED];
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        u32 slot = row * N_USED + i;
        weight[i] = load_shared_data(&a.choice[slot].weight);
        if (a.slot != 0) slot = load_shared_data(a.slot + slot);
        in[i] = (const float4 *)(a.in + (u64)slot * D_MODEL);
    }
    float4 *x = (float4 *)(a.x + (u64)row * D_MODEL);
#pragma unroll 1
    for (u32 g = thread_index(); g < D_MODEL / 4; g += EXPERTS_SUM_THREADS) {
        float4 sum = {0, 0, 0, 0}, v[N_USED], before = {0, 0, 0, 0};
        if (!SUM_ALONE) before = load_shared_data(x + g);
#pragma unroll
        for (u32 i = 0; i < N_USED; i++) {
            v[i] = load_shared_data(in[i] + g);
        }
#pragma unroll
        for (u32 i = 0; i < N_USED; i++) {
            sum = add_expert(sum, weight[i], v[i]);
        }
        x[g] = {before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w};
    }
}

EXPORTED StageInfo experts_sum_info = {EXPERTS_SUM_THREADS, {SUM_BLOCKS, 1}, 0};

KERNEL(EXPERTS_SUM_THREADS, 1) experts_sum(ExpertsSumArgs a) {
    stage_launch_next();
    u32 n_rows = load_shared_data(&a.batch->n_rows); // the host wrote it
    stage_wait();
    for (u32 row = block_index(); row < n_rows; row += SUM_BLOCKS) {
        experts_sum_run(a, row);
    }
}
