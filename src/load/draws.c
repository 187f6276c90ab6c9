#include "load/draws.h"

#include "base/rng.h"

#include <math.h>

#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif

static uint64_t join(uint32_t low, uint32_t high) {
    return (uint64_t)high << 32 | low;
}

static double unit(uint64_t bits) {
    return ((double)(bits >> 12) + 0.5) * 0x1p-52;
}

uint64_t draw_key(uint64_t seed, DrawPurpose purpose) {
    RngBlock block = rng_philox(seed, (uint64_t)purpose);
    return join(block.word[0], block.word[1]);
}

double draw_uniform(uint64_t key, uint64_t number) {
    RngBlock block = rng_philox(key, number);
    return unit(join(block.word[0], block.word[1]));
}

uint32_t draw_between(uint64_t key, uint64_t number, uint32_t least, uint32_t most) {
    return least + (uint32_t)(draw_uniform(key, number) * ((double)most - least + 1));
}

double draw_exponential(uint64_t key, uint64_t number) {
    return -log(draw_uniform(key, number));
}

double draw_normal(uint64_t key, uint64_t number) {
    RngBlock block = rng_philox(key, number);
    double radius = sqrt(-2 * log(unit(join(block.word[0], block.word[1]))));
    return radius * cos(2 * M_PI * unit(join(block.word[2], block.word[3])));
}
