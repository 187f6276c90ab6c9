#include "load/histogram.h"

// Values below 2 * 2^7 have a bucket each; above, each power of two has 2^7 of them.
static uint32_t bucket_of(uint64_t value) {
    const uint64_t last = ((uint64_t)1 << HISTOGRAM_VALUE_BITS) - 1;
    if (value > last) value = last;
    uint32_t top = value ? 63 - (uint32_t)__builtin_clzll(value) : 0;
    uint32_t shift = top > HISTOGRAM_STEP_BITS ? top - HISTOGRAM_STEP_BITS : 0;
    return (shift << HISTOGRAM_STEP_BITS) + (uint32_t)(value >> shift);
}

// The middle of a bucket.
static uint64_t bucket_value(uint32_t bucket) {
    const uint32_t steps = 1u << HISTOGRAM_STEP_BITS;
    uint32_t shift = bucket < 2 * steps ? 0 : (bucket >> HISTOGRAM_STEP_BITS) - 1;
    uint64_t start = (uint64_t)(bucket - (shift << HISTOGRAM_STEP_BITS)) << shift;
    return start + (((uint64_t)1 << shift) >> 1);
}

void histogram_add(Histogram *h, uint64_t value) {
    if (h->count == 0 || value < h->least) h->least = value;
    if (value > h->most) h->most = value;
    h->count++;
    h->sum += value;
    h->buckets[bucket_of(value)]++;
}

void histogram_merge(Histogram *into, const Histogram *from) {
    if (from->count == 0) return;
    if (into->count == 0 || from->least < into->least) into->least = from->least;
    into->most = max_u64(into->most, from->most);
    into->count += from->count;
    into->sum += from->sum;
    for (uint32_t i = bucket_of(from->least); i <= bucket_of(from->most); i++)
        into->buckets[i] += from->buckets[i];
}

uint64_t histogram_percentile(const Histogram *h, double share) {
    if (h->count == 0) return 0;
    uint64_t wanted = (uint64_t)(share * (double)h->count);
    if ((double)wanted < share * (double)h->count) wanted++;
    if (wanted == 0) return h->least;
    uint64_t seen = 0;
    for (uint32_t i = bucket_of(h->least); i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= wanted) return min_u64(max_u64(bucket_value(i), h->least), h->most);
    }
    return h->most;
}

double histogram_mean(const Histogram *h) {
    return h->count ? (double)h->sum / (double)h->count : 0;
}
