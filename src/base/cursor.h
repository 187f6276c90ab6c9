// A bounds-checked reader of little-endian bytes.
//
// Every read past the end returns zero and sets `failed`; nothing is read after that, so a caller may check
// once after a group of reads. `offset` then still names the first byte that could not be read.
#pragma once

#include "base/base.h"

#include <assert.h>

typedef struct {
    const uint8_t *data;
    uint64_t size;
    uint64_t offset;
    bool failed;
} Cursor;

static inline uint64_t cursor_left(const Cursor *c) {
    return c->size - c->offset;
}

// `size` bytes in place, or NULL.
static inline const uint8_t *cursor_take(Cursor *c, uint64_t size) {
    if (c->failed || size > cursor_left(c)) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *at = c->data + c->offset;
    c->offset += size;
    return at;
}

#define CURSOR_READ(name, Type)                           \
    static inline Type cursor_read_##name(Cursor *c) {    \
        Type value = 0;                                   \
        const uint8_t *at = cursor_take(c, sizeof value); \
        if (at) memcpy(&value, at, sizeof value);         \
        return value;                                     \
    }
CURSOR_READ(u8, uint8_t)
CURSOR_READ(u16, uint16_t)
CURSOR_READ(u32, uint32_t)
CURSOR_READ(u64, uint64_t)
CURSOR_READ(f32, float)
CURSOR_READ(f64, double)
#undef CURSOR_READ

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "reads are copies: the machine must be little-endian");
