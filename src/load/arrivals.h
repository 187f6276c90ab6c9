// When requests arrive in an open loop: a Poisson process of `rate` requests a second, or of groups of
// `burst` requests that come at once, at the same mean rate.
#pragma once

#include "base/base.h"

typedef struct {
    uint64_t key;
    double groups_per_second;
    uint32_t burst;
    uint64_t number; // of the arrival that is next
    double at_s;     // of its group
} Arrivals;

Arrivals arrivals_begin(double rate, uint32_t burst, uint64_t seed);
// Nanoseconds since the start of the next arrival, and the one that follows is next. The first comes at 0.
uint64_t arrivals_next(Arrivals *a);
