#include "base/sort.h"

bool sort_u64_is_sorted(const uint64_t *values, size_t count) {
    for (size_t i = 1; i < count; i++) {
        if (values[i] < values[i - 1]) return false;
    }
    return true;
}

void sort_u64(uint64_t *values, uint64_t *spare, size_t count) {
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = (size_t)min_u64(start + width, count),
                   end = (size_t)min_u64(start + 2 * width, count);
            size_t a = start, b = middle;
            for (size_t k = start; k < end; k++) {
                bool take_a = a < middle && (b == end || values[a] <= values[b]);
                spare[k] = take_a ? values[a++] : values[b++];
            }
        }
        memcpy(values, spare, count * sizeof *values);
    }
}
