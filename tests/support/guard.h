// Memory that ends at an inaccessible page, so that reading one byte too far is a crash and not a matter of
// luck.
#pragma once

#include "base/base.h"

typedef struct {
    uint8_t *begin;
    uint8_t *end; // the first byte that must not be touched
} GuardedMemory;

// `size` bytes, rounded up to pages; they stay until the test's process ends.
GuardedMemory guard_allocate(size_t size);
// A copy of s whose last byte is the last one before the guard page.
Str guard_press(const GuardedMemory *memory, Str s);
