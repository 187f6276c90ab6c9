// Which experts a token uses.
//
//     expert[0 … N_USED - 1] = the N_USED largest of the router's logits, falling; lower indices first
//     weight[i] = softmax over the chosen ones' logits, times ROUTE_SCALE
// ROUTE_SCORES:
//     score[e] = softmax over all logits (ROUTE_SCORES_OF_ALL) or sigmoid (ROUTE_SCORES_SIGMOID)
//     expert[i] = those with the largest score + select (ROUTE_SELECTS); with ROUTE_GROUPS of neighbours,
//                 of the ROUTE_GROUPS_USED groups alone whose two largest add up to most
//                 (ROUTE_BY_LARGEST: whose largest is largest)
//     weight[i] = score[expert[i]] (ROUTE_NORMED: over their sum), times ROUTE_SCALE
//
// ROUTE_LOGIT_SCALE: a factor on the logits, first of all.
// ROUTE_EXPERT_SCALES: weight[i] is multiplied by scales[expert[i]], last of all.
//
// Operation: ROUTE (Shazeer et al. 2017; DeepSeek-AI 2024). A warp computes it for itself: cheaper than to be
// told. Lane i gets the i-th; a logit that is not a number leaves the indices in range and makes the weights
// not numbers. Defines: N_EXPERTS, N_USED; ROUTE_SCALE, ROUTE_SCORES, ROUTE_SELECTS, ROUTE_NORMED,
// ROUTE_GROUPS (at most 32), ROUTE_GROUPS_USED, ROUTE_BY_LARGEST, ROUTE_LOGIT_SCALE,
// ROUTE_EXPERT_SCALES.
#define ROUTE_SCORES_OF_ALL 1 // as of RouteScores (src/arch/arch.h)
#define ROUTE_SCORES_SIGMOID 2
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

// Lane i has the i-th expert; `key`: the order of its logit, where there are no scores.
DEVICE void weigh_experts(ExpertChoice *c, u32 key) {
#ifdef ROUTE_SCORES
    const bool normed =
#ifdef ROUTE_NORMED
        true;
#else
        false;
#endif
    (void)key;
#else
    const bool normed = true;
    float logit = float_of_order(key);
    c->weight = exp2_fast((logit - shuffle(logit, 0)) * 1.44269504089f);
#endif
    float total = 0;
#pragma unroll
    for (u32 i = 0; i < N_USED; i++) {
        total += shuffle(c->weight, i);
    }
    if (normed) c->weight *= reciprocal_fast(total);
#ifdef ROUTE_SCALE
    c->weight *= ROUTE_SCALE;
#endif
}

#ifdef ROUTE_SCORES
DEVICE bool expert_is_there(u32 j) {
    return lane_index() * LANE_EXPERTS + j < N_EXPERTS;
}

DEVICE void score_experts(const float logit[LANE_EXPERTS], float score[LANE_EXPERTS]) {
#if ROUTE_SCORES == ROUTE_SCORES_SIGMOID
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        score[j] = reciprocal_fast(1.0f + exp2_fast(-1.44269504089f * logit[j]));
    }
#else
    u32 most = 0;
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        if (expert_is_there(j)) most = MAX(most, order_of(logit[j]));
    }
    float top = float_of_order(warp_max(most)), total = 0;
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        score[j] = expert_is_there(j) ? exp2_fast((logit[j] - top) * 1.44269504089f) : 0.0f;
        total += score[j];
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        total += shuffle_xor(total, m);
    }
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        score[j] *= reciprocal_fast(total);
    }
#endif
}
#endif

#ifdef ROUTE_GROUPS
enum : u32 { GROUP_EXPERTS = N_EXPERTS / ROUTE_GROUPS };

// The order of the sum of the group's two largest, or of the largest.
DEVICE u32 group_order(const u32 order[LANE_EXPERTS], u32 group) {
    u32 first = 0, second = 0;
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        bool mine = (lane_index() * LANE_EXPERTS + j) / GROUP_EXPERTS == group;
        u32 v = mine ? order[j] : 0;
        second = MAX(second, MIN(first, v)), first = MAX(first, v);
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        u32 a = shuffle_xor(first, m), b = shuffle_xor(second, m);
        second = MAX(MIN(first, a), MAX(second, b)), first = MAX(first, a);
    }
#ifdef ROUTE_BY_LARGEST
    return first;
#else
    return order_of(float_of_order(first) + float_of_order(second));
#endif
}

// Takes those of the other groups away.
DEVICE void keep_groups(u32 order[LANE_EXPERTS]) {
    u32 mine = 0, kept = 0; // lane g has group g's
#pragma unroll 1
    for (u32 g = 0; g < ROUTE_GROUPS; g++) {
        u32 of_group = group_order(order, g);
        if (lane_index() == g) mine = MAX(of_group, 2u);
    }
#pragma unroll 1
    for (u32 i = 0; i < ROUTE_GROUPS_USED; i++) {
        u32 lanes = ballot_lanes(mine == warp_max(mine)), winner = count_ones((lanes - 1) & ~lanes);
        kept |= 1u << winner;
        if (lane_index() == winner) mine = 1;
    }
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        u32 group = (lane_index() * LANE_EXPERTS + j) / GROUP_EXPERTS;
        if (group >= ROUTE_GROUPS || !(kept >> group & 1)) order[j] = 0;
    }
}
#endif

// `logit[j]`, `select[j]`: of this lane's j-th expert; whatever for those past N_EXPERTS.
DEVICE ExpertChoice choose_experts(const float logit[LANE_EXPERTS], const float select[LANE_EXPERTS]) {
    u32 first = lane_index() * LANE_EXPERTS, order[LANE_EXPERTS];
#ifdef ROUTE_SCORES
    float score[LANE_EXPERTS];
    score_experts(logit, score);
#else
    const float *score = logit;
#endif
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
#ifdef ROUTE_SELECTS
        float wanted = score[j] + select[j];
#else
        float wanted = score[j];
        (void)select;
#endif
        order[j] = first + j < N_EXPERTS ? MAX(order_of(wanted), 2u) : 0; // 0: none, 1: taken
    }
#ifdef ROUTE_GROUPS
    keep_groups(order);
#endif
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
#ifdef ROUTE_SCORES
        float own = score[0];
#pragma unroll
        for (u32 j = 1; j < LANE_EXPERTS; j++) {
            if (at == j) own = score[j];
        }
        float weight = shuffle(own, winner);
        if (lane_index() == i) c.weight = weight;
#endif
#pragma unroll
        for (u32 j = 0; j < LANE_EXPERTS; j++) {
            if (lane_index() == winner && at == j) order[j] = 1;
        }
        if (lane_index() == i) c.expert = expert, key = most;
    }
    weigh_experts(&c, key);
    return c;
}

// What a warp chooses of: logits that an earlier stage wrote, the biases, and factors of weights.
struct RouterLogits {
    const float *logits, *select, *scales;
    DEVICE RouterLogits row(u32 row) const {
        return {logits + row * N_EXPERTS, select, scales};
    }
};

DEVICE ExpertChoice choose_experts_of(const RouterLogits &of) {
    float logit[LANE_EXPERTS], select[LANE_EXPERTS];
#pragma unroll
    for (u32 j = 0; j < LANE_EXPERTS; j++) {
        u32 expert = lane_index() * LANE_EXPERTS + j;
        logit[j] = expert < N_EXPERTS ? load_shared_data(of.logits + expert) : 0.0f;
#ifdef ROUTE_LOGIT_SCALE
        logit[j] *= ROUTE_LOGIT_SCALE;
#endif
        select[j] = 0;
#ifdef ROUTE_SELECTS
        if (expert < N_EXPERTS) select[j] = of.select[expert];
#endif
    }
    ExpertChoice c = choose_experts(logit, select);
#ifdef ROUTE_EXPERT_SCALES
    c.weight *= of.scales[c.expert];
#endif
    return c;
}
