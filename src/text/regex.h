// A small engine for the patterns that cut text into words before tokens are looked up.
//
// It finds what a backtracking engine would find (the leftmost match; of several, the one that the order of
// alternatives and quantifiers prefers), but runs a table: the pattern becomes an automaton over classes of
// characters when it is compiled, and matching is one step a character. A run that went past its match leaves
// a trail, at which later runs that would repeat it stop, so that no text makes the time quadratic for
// patterns whose runs meet again.
//
// The syntax is the part of Oniguruma's (Ruby) that published tokenizers use:
//     a|b  ab  (a) (?:a) (?i:a)             case-insensitive for ASCII letters, and what folds to them
//     * + ? {n} {n,} {n,m} {,m}             greedy; with ? behind lazy; * + ? with + behind possessive, of
//     one character .  \s \S \d \D \w \W  \p{L} \P{Lu} \p{^N}   general categories, short names [a-z\p{L}]
//     [^…] [a[b-c]] […&&…]
//     (?=x) (?!x) $                         looks at one character, or the end of a line
//     \r \n \t \v \f \xHH \x{H…} \uHHHH, and any punctuation behind a backslash
// All else is refused when it is compiled (back references, borders of words, look-behind, scripts, …), never
// misread. So are patterns that match the empty string. A byte that is no UTF-8 counts as one U+FFFD.
#pragma once

#include "base/arena.h"
#include "base/error.h"

// Constant once compiled; any thread may match with it.
typedef struct {
    // [n_states][n_classes] the row to go on with, and REGEX_MATCH when a match ends before the character.
    const uint32_t *next;
    uint32_t n_states;  // state 0 is dead, state 1 the start
    uint32_t n_classes; // the last one is the end of the text
    uint8_t ascii_class[128];
    const uint32_t *bounds; // [n_intervals] first characters of intervals; the first is 128
    uint32_t n_intervals;
    const uint8_t *class_of; // [n_intervals][UNICODE_CATEGORY_COUNT]
} Regex;

#define REGEX_MATCH 0x80000000u

// `arena` keeps the tables (some 20 KB to 200 KB), `scratch` takes a few MB. Errors: ERR_UNSUPPORTED with the
// byte position in the pattern, ERR_NO_MEMORY.
MUST_CHECK bool regex_compile(Str pattern, Arena *arena, Arena scratch, Regex *out, Error *err);

// A pass over one text. Not shared between threads.
typedef struct {
    const Regex *regex;
    Str text;
    uint32_t *trail; // [text.len] rows of an earlier run that found no match at or after trail_from
    size_t trail_from, trail_to;
    uint64_t n_steps; // bytes looked at, for tests of the bound
} RegexScan;

// Scratch bytes of a scan over a text of this length.
static inline uint64_t regex_scan_bytes(uint64_t text_bytes) {
    return text_bytes * sizeof(uint32_t) + sizeof(uint32_t);
}

// The first match that begins at `from` or later; false when there is none. A match is never empty.
MUST_CHECK bool regex_find(RegexScan *scan, size_t from, size_t *start, size_t *end);
