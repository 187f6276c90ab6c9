// A set of bytes.
#pragma once

#include "base/base.h"

typedef struct {
    uint64_t words[4];
} ByteSet;

static inline bool byte_set_has(const ByteSet *s, uint8_t byte) {
    return s->words[byte >> 6] >> (byte & 63) & 1u;
}

static inline void byte_set_add(ByteSet *s, uint8_t byte) {
    s->words[byte >> 6] |= (uint64_t)1 << (byte & 63);
}

// Whether it has become larger.
static inline bool byte_set_join(ByteSet *s, const ByteSet *more) {
    uint64_t grown = 0;
    for (int i = 0; i < 4; i++) {
        grown |= more->words[i] & ~s->words[i];
        s->words[i] |= more->words[i];
    }
    return grown != 0;
}

static inline bool byte_set_is_empty(const ByteSet *s) {
    return !(s->words[0] | s->words[1] | s->words[2] | s->words[3]);
}
