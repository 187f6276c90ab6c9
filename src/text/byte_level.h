// The alphabet in which byte-level vocabularies are written: each byte is one printable character, itself
// where it is one in Latin-1, else the next free character from U+0100 on (GPT-2's bytes_to_unicode).
#pragma once

#include "base/base.h"

static inline uint32_t byte_level_char(uint8_t byte) {
    if (byte <= 32) return 256u + byte;
    if (byte >= 127 && byte <= 160) return 162u + byte;
    return byte == 173 ? 323u : byte;
}

// The byte of a character, or -1 when it is not in the alphabet.
static inline int byte_level_byte(uint32_t codepoint) {
    if (codepoint <= 32 || codepoint > 323) return -1;
    if (codepoint >= 256)
        return (int)(codepoint <= 288 ? codepoint - 256 : codepoint <= 322 ? codepoint - 162 : 173);
    return codepoint == 173 || (codepoint >= 127 && codepoint <= 160) ? -1 : (int)codepoint;
}
