// Which experts a token uses.
//
//     expert[0 … N_USED - 1] = the N_USED largest of the router's logits, falling; lower indices first
//     weight[i] = softmax over the chosen ones' logits
//
// Operation: ROUTE (Shazeer et al. 2017). A warp computes it for itself: cheaper than to be told. Lane i gets
// the i-th; a logit that is not a number leaves the indices in range and makes the weights not numbers.
// Defines: N_EXPERTS, N_USED.
#if !defined(N_EXPERTS) || !defined(N_USED)
#error "N_EXPERTS, N_USED"
#endif

struct ExpertChoice {
    u32 expert;
    float weight;
};

enum : u32 { LANE_EXPERTS = CEIL_DIV(N_EXPERTS, WARP) }; // lane i has i * LANE_EXPERTS and those behind it

// A number whose order is the float's; both zeros are one.
DEVICE u32 order_of(float v) {
    u32 bits = bits_of(v + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float float_of_order(u32 order) {
    return float_of(order & 0x80000000u ? order ^ 0x80000000u : ~order);
}

// `logit[j]`: of this lane's j-th expert; whatever for those past N_EXPERTS.
DEVICE ExpertChoice choose_experts(const float logit[LANE_EXPERTS]) {
    u32 first = lane_index() * LANE_EXPERTS, order[LANE_EXPERTS];
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        order[j] = first + j < N_EXPERTS ? MAX(order_of(logit[j]), 2u) : 0; // 0: none, 1: taken
    }
    ExpertChoice c = {0, 0};
    u32 key = 0;
// A loop, since code that runs once comes slowly: 8 of 128 by ranks, in straight code, took 0.3 us more.
#pragma unroll 1
    for (u32 i = 0; i < N_USED; i++) {
        u32 mine = order[0], at = 0;
#pragma unroll
        for (u32 j = 1; j < LANE_EXPERTS; j++) {
            if (order[j] > mine) mine = order[j], at = j;
        }
        u32 most = warp_max(mine), lanes = ballot_lanes(mine == most);
        u32 winner = count_ones((lanes - 1) & ~lanes); // the lowest lane
        u32 expert = shuffle(first + at, winner);
#pragma unroll
        for (u32 j = 0; j < LANE_EXPERTS; j++) {
            if (lane_index() == winner && at == j) order[j] = 1;
        }
        if (lane_index() == i) c.expert = expert, key = most;
    }
    float logit_of = float_of_order(key), total = 0;
    c.weight = exp2_fast((logit_of - shuffle(logit_of, 0)) * 1.44269504089f);
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        total += shuffle(c.weight, i);
    }
    c.weight *= reciprocal_fast(total);
    return c;
}

// From logits that an earlier stage wrote.
DEVICE ExpertChoice choose_experts_of(const float *logits) {
    float logit[LANE_EXPERTS];
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        u32 expert = lane_index() * LANE_EXPERTS + j;
        logit[j] = expert < N_EXPERTS ? load_shared_data(logits + expert) : 0.0f;
    }
    return choose_experts(logit);
}
