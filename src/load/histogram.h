// Counts of values up to 2^44 (nanoseconds: nearly five hours) in buckets that are 1/128 of their value wide
// at most: a percentile is within 0.4% of the exact one. Count, sum, least and most are exact. Values beyond
// the last bucket count there.
#pragma once

#include "base/base.h"

enum {
    HISTOGRAM_STEP_BITS = 7,
    HISTOGRAM_VALUE_BITS = 44,
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS,
};

// All zero is empty.
typedef struct {
    uint64_t count, sum, least, most;
    uint32_t buckets[HISTOGRAM_BUCKETS];
} Histogram;

void histogram_add(Histogram *h, uint64_t value);
void histogram_merge(Histogram *into, const Histogram *from);
// The least value that `share` of them (0 to 1) do not exceed; 0 where there is none.
uint64_t histogram_percentile(const Histogram *h, double share);
double histogram_mean(const Histogram *h);
