// Drawing one token from a row of logits.
//
// The draw is a pure function of (logits, tokens seen so far, parameters, seed, step), in this order:
// repetition penalty on the raw logits, temperature, top-k, top-p, min-p, draw. This is the reference that
// the kernels are tested against.
#pragma once

#include "base/arena.h"

typedef struct {
    float temperature;        // 0: the largest logit, ties to the lower id
    float top_p;              // 1: off
    float min_p;              // 0: off
    float repetition_penalty; // 1: off; a seen token's logit is divided by it where positive, multiplied
                              // where negative
    uint32_t top_k;           // 0: off
    uint64_t seed;
} SamplerParams;

#define SAMPLER_GREEDY ((SamplerParams){.top_p = 1, .repetition_penalty = 1})

// A set of token ids, one bit each, in (n_vocab + 31) / 32 words.
static inline void token_set_add(uint32_t *set, int32_t token) {
    set[token >> 5] |= 1u << (token & 31);
}

static inline bool token_set_has(const uint32_t *set, int32_t token) {
    return set[token >> 5] >> (token & 31) & 1u;
}

// `logits` [n_vocab] is changed in place (penalty and temperature). `seen` may be NULL when the penalty is
// off. `step` counts the tokens drawn for this request, from 0. `scratch` holds at least
// sampler_scratch_bytes(n_vocab). Returns the id, or -1 when a logit is not a number or all are -infinity.
int32_t sampler_draw(const SamplerParams *params, float *logits, uint32_t n_vocab, const uint32_t *seen,
                     uint64_t step, Arena scratch);

static inline size_t sampler_scratch_bytes(uint32_t n_vocab) {
    return (size_t)n_vocab * 8 + 64;
}
