// The frequencies of rotary position embeddings (Su et al. 2021, "RoFormer"), with the scalings that extend a
// context.
#pragma once

#include "plan/plan.h"

// What cosines and sines are multiplied by: attn_factor and YaRN's own factor.
double rope_scale(const RopeConfig *c);

// `factors` [dims / 2] divides each frequency (Llama 3.1's rope_freqs), or is NULL. False when the arena
// is full.
MUST_CHECK bool rope_init(const RopeConfig *c, RopePairs pairs, const float *factors, Arena *arena,
                          Rope *out);
