// What the sampler's rules do to one logit, and the best of many. (sampler_draw of src/backend/sampler.c:
// apply_penalty, find_best.)

// Orders as the floats do; the sum makes zeros equal, whatever their sign.
DEVICE u32 key_of(float v) {
    u32 bits = bits_of(v + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE float logit_of_key(u32 key) {
    return float_of(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

struct LogitRules {
    float penalty, weaker; // 1: none; and 1 / penalty
    const u32 *seen;
};
DEVICE LogitRules logit_rules(float penalty, const u32 *seen) {
    return {penalty, divide_f32(1, penalty), seen};
}

// Repetition penalty on seen tokens alone.
DEVICE bool is_penalised(const LogitRules &rules, u32 token) {
    return rules.penalty != 1.0f && (rules.seen[token / 32] >> token % 32 & 1u);
}
DEVICE float penalised(const LogitRules &rules, float logit) {
    return logit * (logit > 0 ? rules.weaker : rules.penalty);
}
DEVICE float penalise_logit(const LogitRules &rules, u32 token, float logit) {
    return is_penalised(rules, token) ? penalised(rules, logit) : logit;
}

// Of equal values the lower token; token -1 (none) is the last.
DEVICE bool is_better(float value, i32 token, float than, i32 than_token) {
    return value > than || (value == than && (u32)token < (u32)than_token);
}

DEVICE void best_take(HeadBest *best, float value, i32 token) {
    best->n_bad += value != value;
    if (value > best->value || (value == best->value && token < best->token)) {
        best->value = value;
        best->token = token;
    }
}

DEVICE void best_merge(HeadBest *best, const HeadBest &other) {
    if (is_better(other.value, other.token, best->value, best->token)) {
        best->value = other.value;
        best->token = other.token;
    }
    best->n_bad += other.n_bad;
}

// All lanes get the best of the warp.
DEVICE void best_of_warp(HeadBest *best) {
    for (u32 m = 16; m > 0; m /= 2) {
        HeadBest other = {shuffle_xor(best->value, m), shuffle_xor(best->token, m),
                          shuffle_xor(best->n_bad, m), 0};
        best_merge(best, other);
    }
}

// The best of the head's blocks, in all lanes of the calling warp; token -1 where there is none to draw: a
// logit is not a number, the largest is infinite. All are asked for at once.
template <u32 n_blocks> DEVICE HeadBest best_of_blocks(const HeadBest *blocks) {
    enum : u32 { OWN = CEIL_DIV(n_blocks, (u32)WARP) };
    HeadBest best = {-INFINITY_F32, -1, 0, 0};
    uint4 own[OWN];
#pragma unroll
    for (u32 i = 0; i < OWN; i++) {
        u32 at = i * WARP + lane_index();
        own[i] = load_shared_data((const uint4 *)(blocks + MIN(at, n_blocks - 1)));
    }
#pragma unroll
    for (u32 i = 0; i < OWN; i++) {
        if (i * WARP + lane_index() < n_blocks)
            best_merge(&best, {float_of(own[i].x), (i32)own[i].y, own[i].z, 0});
    }
    best_of_warp(&best);
    if (best.n_bad > 0 || !is_number(best.value)) best.token = -1;
    return best;
}
