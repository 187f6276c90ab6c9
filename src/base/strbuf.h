// Text built into a buffer of fixed size. What does not fit is dropped and `truncated` says so.
// The text is always zero-terminated. Not thread-safe.
#pragma once

#include "base/arena.h"

#include <stdarg.h>

typedef struct {
    char *ptr;
    size_t len;
    size_t cap; // including the terminating zero
    bool truncated;
} StrBuf;

static inline StrBuf strbuf_from_memory(char *memory, size_t size) {
    if (size) memory[0] = 0;
    return (StrBuf){.ptr = memory, .cap = size};
}

#define STRBUF(array) strbuf_from_memory((array), sizeof(array))

static inline Str strbuf_str(const StrBuf *b) {
    return (Str){b->ptr, b->len};
}

// Takes the rest of the arena as the buffer; strbuf_end_in_arena gives back what was not used.
StrBuf strbuf_begin_in_arena(Arena *arena);
Str strbuf_end_in_arena(StrBuf *b, Arena *arena);

// What of s fits.
void strbuf_put_cut(StrBuf *b, Str s);

static inline void strbuf_put(StrBuf *b, Str s) {
    if (s.len >= b->cap - b->len) {
        strbuf_put_cut(b, s);
        return;
    }
    if (s.len) memcpy(b->ptr + b->len, s.ptr, s.len);
    b->len += s.len;
    b->ptr[b->len] = 0;
}

static inline void strbuf_put_char(StrBuf *b, char c) {
    strbuf_put(b, (Str){&c, 1});
}

void strbuf_printf(StrBuf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void strbuf_vprintf(StrBuf *b, const char *format, va_list args) PRINTF_LIKE(2, 0);

// Text from outside for a terminal, which must not obey it: '?' for each control character and each byte that
// is not UTF-8. A newline is one of them, too, where the text must stay on its line.
void strbuf_put_shown(StrBuf *b, Str s);

// "94.2 MB", powers of ten
void strbuf_put_bytes(StrBuf *b, uint64_t bytes);
// "12,345"
void strbuf_put_count(StrBuf *b, uint64_t count);
// "12,345.6" with so many digits, at most 2, right-aligned in so many columns. Not for negative values.
void strbuf_put_decimal(StrBuf *b, double value, int digits, int columns);
