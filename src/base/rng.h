// Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011): random numbers are a pure function of a key and a counter, so the draw of step n needs
// no state from step n - 1. The same function runs in the kernels.
#pragma once

#include "base/base.h"

typedef struct {
    uint32_t word[4];
} RngBlock;

RngBlock rng_philox(uint64_t key, uint64_t counter);

// Uniform in [0, 1), 24 bits, the same value on every machine.
static inline float rng_uniform_f32(uint64_t seed, uint64_t step) {
    return (float)(rng_philox(seed, step).word[0] >> 8) * 0x1p-24f;
}
