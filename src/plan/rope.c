#include "plan/rope.h"

#include <math.h>

// YaRN (Peng et al. 2023, section 3.2): the index of the pair that turns `rotations` times within the
// original context.
static double yarn_pair_of_rotations(const RopeConfig *c, double rotations) {
    return c->dims * log(c->original_context / (rotations * 2 * M_PI)) / (2 * log((double)c->base));
}

// YaRN keeps the frequencies of pairs that turn often, divides those that turn seldom by the factor, and
// mixes between. Returns the share of the kept frequency for one pair.
static double yarn_kept_share(const RopeConfig *c, uint32_t pair) {
    double low = yarn_pair_of_rotations(c, (double)c->yarn_beta_fast);
    double high = yarn_pair_of_rotations(c, (double)c->yarn_beta_slow);
    if (!c->yarn_exact_bounds) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, c->dims - 1);
    double ramp = (pair - low) / fmax(high - low, 0.001);
    return 1 - fmin(fmax(ramp, 0), 1);
}

double rope_scale(const RopeConfig *c) {
    double scale = (double)c->attn_factor;
    if (c->scaling == ROPE_SCALING_YARN && c->yarn_score_growth == 0) {
        double growth = 0.1 * log((double)c->factor);
        scale *= (growth + 1) / (growth * (double)c->yarn_log_multiplier + 1);
    }
    return scale;
}

bool rope_init(const RopeConfig *c, RopePairs pairs, const float *factors, Arena *arena, Rope *out) {
    float *inv_freq = arena_new(arena, float, c->dims / 2);
    if (!inv_freq) return false;
    for (uint32_t i = 0; i < c->dims / 2; i++) {
        double freq = pow((double)c->base, -2.0 * i / c->dims);
        if (factors) freq /= (double)factors[i];
        double divided = freq / (double)c->factor;
        if (c->scaling == ROPE_SCALING_LINEAR) freq = divided;
        if (c->scaling == ROPE_SCALING_YARN) {
            double kept = yarn_kept_share(c, i);
            freq = freq * kept + divided * (1 - kept);
        }
        inv_freq[i] = (float)freq;
    }
    *out = (Rope){.inv_freq = inv_freq, .dims = c->dims, .pairs = pairs, .scale = (float)rope_scale(c)};
    return true;
}
