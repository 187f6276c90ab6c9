// Which experts a token uses.
//
//     expert[0 … N_USED - 1] = the N_USED largest of the router's logits, falling; lower indices first
//     weight[i] = softmax over the chosen ones' logits
//
// Operation: ROUTE (Shazeer et al. 2017). A warp computes it for itself: cheaper than to be told. All lanes
// get the same; a logit that is not a number leaves the indices in range and makes the weights not numbers.
// Defines: N_EXPERTS, N_USED.
#if !defined(N_EXPERTS) || !defined(N_USED)
#error "N_EXPERTS, N_USED"
#endif

struct ExpertChoice {
    u32 expert[N_USED];
    float weight[N_USED];
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
    ExpertChoice c;
    float total = 0;
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        u32 mine = order[0], at = 0;
#pragma unroll
        for (u32 j = 1; j < LANE_EXPERTS; j++) {
            if (order[j] > mine) mine = order[j], at = j;
        }
        u32 most = warp_max(mine), lanes = ballot_lanes(mine == most);
        u32 winner = count_ones((lanes - 1) & ~lanes); // the lowest lane
        c.expert[i] = shuffle(first + at, winner);
#pragma unroll
        for (u32 j = 0; j < LANE_EXPERTS; j++) {
            if (lane_index() == winner && at == j) order[j] = 1;
        }
        c.weight[i] = float_of_order(most);
    }
    const float top = c.weight[0];
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        c.weight[i] = exp2_fast((c.weight[i] - top) * 1.44269504089f);
        total += c.weight[i];
    }
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        c.weight[i] *= reciprocal_fast(total);
    }
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

// A chosen expert as a warp keeps it in shared memory, where it is indexed.
struct ChosenExpert {
    u32 expert;
    float weight;
};
// To the warp's part of [WARPS][N_USED]; returns that.
DEVICE const ChosenExpert *keep_choice(u8 *shared, const ExpertChoice &c) {
    ChosenExpert *kept = (ChosenExpert *)shared + warp_index() * N_USED;
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        if (lane_index() == i) kept[i] = {c.expert[i], c.weight[i]};
    }
    warp_sync();
    return kept;
}
