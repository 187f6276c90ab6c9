// Unicode normalisation forms C and D (Unicode Standard Annex 15), over text that may hold bytes that are no
// UTF-8: those stay as they are and combine with nothing.
#pragma once

#include "base/arena.h"

// True when the text certainly is its own normal form: one look at each character.
bool nfc_is_done(Str text);

// Bounds for both forms, whatever the text: of the result, and of the arena it is made in.
static inline uint64_t nfc_bytes_max(uint64_t text_bytes) {
    return text_bytes * 3;
}
static inline uint64_t nfc_arena_bytes(uint64_t text_bytes) {
    return nfc_bytes_max(text_bytes) + text_bytes * 2 * 8 + 64;
}

// O(n) but for the runs of combining marks, which are sorted by counting. False when the arena is full.
MUST_CHECK bool nfc_normalize(Str text, Arena *arena, Str *out);
MUST_CHECK bool nfd_normalize(Str text, Arena *arena, Str *out);
