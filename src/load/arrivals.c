#include "load/arrivals.h"

#include "load/draws.h"

Arrivals arrivals_begin(double rate, uint32_t burst, uint64_t seed) {
    return (Arrivals){
        .key = draw_key(seed, DRAW_ARRIVALS), .groups_per_second = rate / burst, .burst = burst};
}

uint64_t arrivals_next(Arrivals *a) {
    uint64_t at_ns = (uint64_t)(a->at_s * 1e9);
    if (++a->number % a->burst == 0)
        a->at_s += draw_exponential(a->key, a->number / a->burst) / a->groups_per_second;
    return at_ns;
}
