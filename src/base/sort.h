// Sorting of integers; a key in the upper bits and an index in the lower ones sorts anything.
#pragma once

#include "base/base.h"

bool sort_u64_is_sorted(const uint64_t *values, size_t count);

// Ascending, a merge sort; `spare` has room for as many.
void sort_u64(uint64_t *values, uint64_t *spare, size_t count);
