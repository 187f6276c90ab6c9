#include "base/strbuf.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>

StrBuf strbuf_begin_in_arena(Arena *arena) {
    return strbuf_from_memory((char *)arena->next, arena_left(arena));
}

Str strbuf_end_in_arena(StrBuf *b, Arena *arena) {
    if (b->cap) arena->next += b->len + 1;
    return strbuf_str(b);
}

void strbuf_put_cut(StrBuf *b, Str s) {
    size_t room = b->cap ? b->cap - 1 - b->len : 0;
    b->truncated |= s.len > room;
    if (room) strbuf_put(b, str_slice(s, 0, (size_t)min_u64(s.len, room)));
}

void strbuf_put_shown(StrBuf *b, Str s) {
    for (uint32_t codepoint; s.len;) {
        size_t length = utf8_decode(s, &codepoint);
        strbuf_put(b, length && !utf8_is_control(codepoint) ? str_slice(s, 0, length) : STR("?"));
        s = str_slice(s, length ? length : 1, s.len);
    }
}

void strbuf_vprintf(StrBuf *b, const char *format, va_list args) {
    size_t room = b->cap - b->len;
    int length = vsnprintf(room ? b->ptr + b->len : NULL, room, format, args);
    if (length < 0) {
        b->truncated = true;
    } else if ((size_t)length >= room) {
        b->truncated = true;
        if (room) b->len = b->cap - 1;
    } else {
        b->len += (size_t)length;
    }
}

void strbuf_printf(StrBuf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    strbuf_vprintf(b, format, args);
    va_end(args);
}

void strbuf_put_bytes(StrBuf *b, uint64_t bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < COUNT_OF(units)) {
        value /= 1000;
        unit++;
    }
    strbuf_printf(b, unit && value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void strbuf_put_count(StrBuf *b, uint64_t count) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) strbuf_put_char(b, ',');
        strbuf_put_char(b, digits[i]);
    }
}

void strbuf_put_decimal(StrBuf *b, double value, int digits, int columns) {
    char memory[64];
    StrBuf text = STRBUF(memory);
    uint64_t scale = digits == 2 ? 100 : digits == 1 ? 10 : 1, all = (uint64_t)(value * (double)scale + 0.5);
    strbuf_put_count(&text, all / scale);
    if (digits) strbuf_printf(&text, ".%0*" PRIu64, digits, all % scale);
    strbuf_printf(b, "%*s", columns, memory);
}
