// Seeded randomness: each draw is a pure function of the seed, what it is for, and its number, so that the
// same seed gives the same load whatever the server does.
#pragma once

#include "base/base.h"

typedef enum {
    DRAW_ARRIVALS,
    DRAW_PROMPT_LENGTHS,
    DRAW_OUTPUT_LENGTHS,
    DRAW_CANCELS,
    DRAW_CANCEL_POINTS,
    DRAW_WORDS,
    DRAW_PREFIX_WORDS,
} DrawPurpose;

uint64_t draw_key(uint64_t seed, DrawPurpose purpose);
// In (0, 1), never 0 nor 1, with 52 bits.
double draw_uniform(uint64_t key, uint64_t number);
// A whole number of least … most, which are both possible.
uint32_t draw_between(uint64_t key, uint64_t number, uint32_t least, uint32_t most);
// Mean 1.
double draw_exponential(uint64_t key, uint64_t number);
// Mean 0, standard deviation 1 (Box and Muller, "A note on the generation of random normal deviates", 1958).
double draw_normal(uint64_t key, uint64_t number);
