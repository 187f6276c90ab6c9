// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include "base/base.h"

// Decodes the character at the front of s. Returns its length in bytes (1-4) and sets *codepoint;
// 0 when s is empty or does not start with a valid, complete character.
static inline size_t utf8_decode(Str s, uint32_t *codepoint) {
    if (s.len == 0) return 0;
    const uint8_t *b = (const uint8_t *)s.ptr;
    if (b[0] < 0x80) {
        *codepoint = b[0];
        return 1;
    }
    size_t need = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
    if (b[0] < 0xC2 || b[0] > 0xF4 || s.len < need) return 0;
    uint32_t cp = need == 4 ? b[0] & 7u : need == 3 ? b[0] & 15u : b[0] & 31u;
    for (size_t i = 1; i < need; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        cp = cp << 6 | (b[i] & 63u);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (cp < least[need] || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) return 0;
    *codepoint = cp;
    return need;
}

// Whether a terminal obeys the character instead of showing it (C0, DEL and C1 of ISO 6429).
static inline bool utf8_is_control(uint32_t codepoint) {
    return codepoint < 0x20 || (codepoint >= 0x7F && codepoint < 0xA0);
}

// Writes the character's 1-4 bytes; the caller passes a valid code point. Returns the length.
size_t utf8_encode(uint32_t codepoint, char out[4]);

// The length of the longest prefix made of whole, valid characters.
size_t utf8_valid_prefix(Str s);

// How many bytes at the end of s could still become one valid character when more follow (0-3).
// "abc\xE2\x82" gives 2; "abc\xFF" gives 0, because that byte can never be part of one.
size_t utf8_incomplete_tail(Str s);

// Number of characters; s must be valid.
size_t utf8_count(Str s);
