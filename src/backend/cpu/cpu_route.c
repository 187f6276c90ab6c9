#include "backend/cpu/cpu_route.h"

#include "base/limits.h"

#include <math.h>

// The index of the largest value that is not among the n_chosen before it; of equal ones the first.
static uint32_t largest_but(const float *values, uint32_t n, const float *chosen, uint32_t n_chosen) {
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++) {
        bool taken = false;
        for (uint32_t j = 0; j < n_chosen && !taken; j++)
            taken = (uint32_t)chosen[j] == i;
        if (!taken && (best == n || values[i] > values[best])) best = i;
    }
    return best;
}

static void softmax(float *values, uint32_t n) {
    float most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmaxf(most, values[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += values[i] = expf(values[i] - most);
    for (uint32_t i = 0; i < n; i++)
        values[i] /= sum;
}

static void make_scores(const RouteConfig *r, const float *logits, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = logits[i] * r->logit_scale;
    if (r->scores == SCORES_OF_ALL) softmax(out, n);
    for (uint32_t i = 0; i < n && r->scores == SCORES_SIGMOID; i++)
        out[i] = 1 / (1 + expf(-out[i]));
}

// Experts of other groups than the preferred ones get no chance.
static void mask_groups(const RouteConfig *r, float *wanted, uint32_t n_experts) {
    uint32_t size = n_experts / r->n_groups;
    float sums[32], chosen[32];
    for (uint32_t g = 0; g < r->n_groups; g++) {
        const float *of_group = wanted + g * size;
        float first = (float)largest_but(of_group, size, NULL, 0);
        sums[g] = of_group[(uint32_t)first];
        if (!r->by_largest) sums[g] += of_group[largest_but(of_group, size, &first, 1)];
    }
    for (uint32_t i = 0; i < r->n_groups_used; i++)
        chosen[i] = (float)largest_but(sums, r->n_groups, chosen, i);
    for (uint32_t e = 0; e < n_experts; e++) {
        bool has_chance = false;
        for (uint32_t i = 0; i < r->n_groups_used; i++)
            has_chance |= (uint32_t)chosen[i] == e / size;
        if (!has_chance) wanted[e] = -INFINITY;
    }
}

void cpu_route(const RouteConfig *r, const float *logits, uint32_t n_experts, const float *bias,
               uint32_t n_used, float *experts, float *weights) {
    float score[EXPERTS_MAX], wanted[EXPERTS_MAX], sum = 0;
    bool is_broken = false;
    make_scores(r, logits, n_experts, score);
    for (uint32_t e = 0; e < n_experts; e++) {
        wanted[e] = score[e] + (bias ? bias[e] : 0);
        is_broken |= isnan(wanted[e]);
    }
    if (r->n_groups > 1) mask_groups(r, wanted, n_experts);
    for (uint32_t i = 0; i < n_used; i++) {
        uint32_t expert = largest_but(wanted, n_experts, experts, i);
        experts[i] = (float)expert;
        weights[i] = score[expert];
    }
    if (r->scores == SCORES_OF_CHOSEN) softmax(weights, n_used);
    for (uint32_t i = 0; i < n_used; i++)
        sum += weights[i];
    for (uint32_t i = 0; i < n_used; i++) {
        if (r->normed && r->scores != SCORES_OF_CHOSEN) weights[i] /= sum;
        weights[i] = is_broken ? NAN : weights[i] * r->scale;
    }
}
