// Finds stop strings in a text that comes in pieces, and holds back what could still become one.
//
// A stop string may begin in one piece and end in a later one. The first to be complete wins; of several that
// become complete with the same byte, the longest. Memory is fixed: at most STOP_STRING_BYTES_MAX bytes are
// held back. Matching costs a few steps a byte (Knuth, Morris, Pratt: "Fast pattern matching in strings",
// 1977). One thread.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"

typedef struct {
    Str text;
    const uint16_t *border; // [text.len] length of the longest proper prefix that ends here
    uint32_t matched;       // bytes of `text` that the stream ends with now
} StopString;

typedef struct {
    StopString strings[STOP_STRINGS_MAX];
    uint32_t n_strings;
    bool done;      // a stop string was found: everything after it is dropped
    uint32_t found; // which one, once `done`
    char held[STOP_STRING_BYTES_MAX];
    uint32_t held_bytes;
    char released[STOP_STRING_BYTES_MAX];
} StopMatcher;

// Text that may be sent now: `first`, then `second`. Both are valid until the next call (and `second` points
// into the piece that was pushed).
typedef struct {
    Str first;
    Str second;
    bool stopped; // a stop string is complete; it is not part of the text
} StopOutput;

// Copies the strings into `arena`. With count 0 all text passes through. Errors: ERR_INVALID_REQUEST, field
// "stop" (more than STOP_STRINGS_MAX, an empty one, one longer than STOP_STRING_BYTES_MAX), ERR_NO_MEMORY.
MUST_CHECK bool stop_matcher_init(StopMatcher *m, const Str *strings, size_t count, Arena *arena, Error *err);

StopOutput stop_matcher_push(StopMatcher *m, Str piece);

// At the end of the stream, or where one text ends and another begins: what was held back after all. No stop
// string goes across.
Str stop_matcher_flush(StopMatcher *m);
