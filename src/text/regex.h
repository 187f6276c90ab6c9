// A small engine for the patterns that cut text into words before tokens are looked up.
//
// It finds what a backtracking engine would find (the leftmost match; of several, the one that the order of
// alternatives and quantifiers prefers), but runs tables, and its time is linear in the text for every
// pattern that it takes. There are two ways to match, and both find the same:
//
//   forward    An automaton over classes of characters reads from where a match may begin: one table access a
//              character. Patterns whose looks go beyond the next character cannot be matched so. Neither can
//              those that match the empty string.
//   two passes A pass from the back notes before each character which parts of the pattern can still be
//              matched from there (Frisch, Cardelli: "Greedy regular expression matching", 2004); what stands
//              behind a place is known by a pass from the front before that. Then each match is read off
//              without trying anything in vain.
//
// Forward matching reads in vain where a run goes on long after its match ended. A pattern that can do so has
// the tables of both, and a text on which it reads too much in vain is finished in two passes.
//
// The syntax is the part of Oniguruma's (Ruby) that published tokenizers use:
//     a|b  ab  (a) (?:a) (?i:a)             case-insensitive for ASCII letters, and what folds to them
//     * + ? {n} {n,} {n,m} {,m}             greedy; with ? behind lazy; * + ? with + behind possessive, of
//     one character                         n and m are at most 1000
//     .  \s \S \d \D \w \W  \p{L} \P{Lu} \p{^N}   general categories
//     \p{Han} \p{Latin} \p{Alpha} …         scripts, POSIX classes and a few more properties, by any case
//     [a-z\p{L}] [^…] [a[b-c]] […&&…] [[:alpha:]] [[:^digit:]]
//     [\w--\d]                              a difference, where Oniguruma sees an error; see regex_class.c
//     (?=x) (?!x) (?<=x) (?<!x)             looks; those behind hold no look ahead of several characters
//     ^ $ \A \z \Z \b \B                    lines, the text's ends, borders of words
//     \r \n \t \v \f \xHH \x{H…} \uHHHH, and any punctuation behind a backslash
// All else is refused when it is compiled (back references, atomic groups, names of groups, …), never
// misread, and so are patterns whose tables would be too large. A byte that is no UTF-8 counts as one U+FFFD.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "text/unicode.h"

typedef struct RegexStep RegexStep;

// The tables of matching in two passes. What is read at a place is a symbol: the class of the character, or
// the end of the text, and which looks behind hold there.
typedef struct {
    const uint16_t *behind_next; // [n_behind][n_classes] state of the pass from the front; NULL without looks
    const uint8_t *behind_holds; // [n_behind][n_classes] … and which looks hold before that character
    uint32_t n_holds;            // 1 without looks
    const uint16_t *before;      // [n_states][n_classes * n_holds] state of the pass from the back
    const uint64_t *live;        // [n_states][n_words] a bit for each step that can be matched from there
    uint32_t n_states;           // 0 where the pattern needs no such tables
    uint32_t n_words;
    const RegexStep *steps; // [n_steps]
    uint16_t start;
    bool has_empty_loops; // a repetition of something that may be empty
} RegexTwoPass;

// Constant once compiled; any thread may match with it.
typedef struct {
    // Matching forward. [n_states][n_classes] the row to go on with, and REGEX_MATCH when a match ends before
    // the character. NULL where it is always done in two passes.
    const uint32_t *next;
    uint32_t n_states;  // state 0 is dead, state 1 the start
    uint32_t n_classes; // the last one is the end of the text
    uint8_t ascii_class[128];
    const uint32_t *bounds; // [n_intervals] first characters of intervals; the first is 128
    uint32_t n_intervals;
    const uint8_t *class_of; // [n_intervals][UNICODE_CATEGORY_COUNT]
    RegexTwoPass two_pass;
    bool matches_empty;
} Regex;

#define REGEX_MATCH 0x80000000u

// `arena` keeps the tables (some 20 KB to 400 KB), `scratch` takes a few MB. Errors: ERR_UNSUPPORTED, which
// names the pattern and mostly the byte position in it, ERR_NO_MEMORY.
MUST_CHECK bool regex_compile(Str pattern, Arena *arena, Arena scratch, Regex *out, Error *err);

// Matches of one pattern in one text after another. Not shared between threads.
typedef struct {
    const Regex *regex;
    Str text;
    uint32_t *notes;  // what two passes note of each byte, and of the end; NULL where none are ever made
    bool is_noted;    // they are, of this text
    uint64_t n_steps; // bytes looked at in all texts, for tests of the bound
    uint64_t n_steps_before; // … before this one
    size_t last_end;         // of the last match in this text; SIZE_MAX before the first
} RegexScan;

// Scratch for texts of up to so many bytes. False when the arena is full.
uint64_t regex_scan_bytes(const Regex *re, uint64_t text_bytes);
MUST_CHECK bool regex_scan_init(RegexScan *scan, const Regex *re, size_t text_bytes, Arena *arena);
// Begins a text.
void regex_scan_text(RegexScan *scan, Str text);

// The first match that begins at `from` or later; false when there is none. `from` is where the last match
// ended. Only patterns with matches_empty have empty matches, which are not found where a match just ended.
MUST_CHECK bool regex_find(RegexScan *scan, size_t from, size_t *start, size_t *end);

// What \p{name} means, without regard to case, spaces, hyphens and underscores: a mask of general categories
// (bit n: category n), or a set. False where the name is unknown. "word" is not one of them.
MUST_CHECK bool regex_find_property(Str name, uint32_t *categories, const UnicodeSet **set);
