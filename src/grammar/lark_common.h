// Terminals that Lark grammars import from its module `common`, as patterns of rx.h.
#pragma once

#include "base/base.h"

// The pattern of a terminal, or NULL.
const char *lark_common_pattern(Str name);

// A Lark pattern (Python's re) as rx.h reads it: `.` is any character but a line feed, or any with the flag
// s; ASCII letters stand for both cases with the flag i. Writes at most lark_pattern_bytes(length); returns
// the length.
size_t lark_pattern_translate(Str pattern, bool any_case, bool dot_all, char *out);

static inline size_t lark_pattern_bytes(size_t length) {
    return 6 * length; // `.` becomes [\s\S]
}
