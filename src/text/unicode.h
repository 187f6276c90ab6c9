// What the pre-tokeniser patterns and the normaliser know about characters.
//
// The tables are generated (tests/make_unicode.py) from Python's unicodedata; unicode_version names the
// version of the standard. All of it is constant data: any thread may read it.
#pragma once

#include "base/base.h"

// The general categories (Unicode standard, chapter 4.5), and one more for U+0085, the only white space
// beyond ASCII that is not a separator: so every class that patterns use is a set of these.
#define UNICODE_CATEGORIES(ROW) \
    ROW(LU)                     \
    ROW(LL)                     \
    ROW(LT)                     \
    ROW(LM)                     \
    ROW(LO)                     \
    ROW(MN)                     \
    ROW(MC)                     \
    ROW(ME)                     \
    ROW(ND)                     \
    ROW(NL)                     \
    ROW(NO)                     \
    ROW(PC)                     \
    ROW(PD)                     \
    ROW(PS)                     \
    ROW(PE)                     \
    ROW(PI)                     \
    ROW(PF)                     \
    ROW(PO)                     \
    ROW(SM)                     \
    ROW(SC)                     \
    ROW(SK)                     \
    ROW(SO)                     \
    ROW(ZS)                     \
    ROW(ZL)                     \
    ROW(ZP)                     \
    ROW(CC)                     \
    ROW(CF)                     \
    ROW(CS)                     \
    ROW(CO)                     \
    ROW(CN)                     \
    ROW(NEXT_LINE)

typedef enum {
#define UNICODE_ENUM(name) UNICODE_##name,
    UNICODE_CATEGORIES(UNICODE_ENUM)
#undef UNICODE_ENUM
        UNICODE_CATEGORY_COUNT
} UnicodeCategory;

enum { UNICODE_MAX = 0x10FFFF, UNICODE_BLOCK = 128 };

// Two stages: the block of a character, then its byte in the block: bits 0-4 the category, bit 5 set when it
// may change in NFC, or change with its neighbours.
extern const char unicode_version[];
extern const uint16_t unicode_blocks[(UNICODE_MAX + 1) / UNICODE_BLOCK];
extern const uint8_t unicode_properties[][UNICODE_BLOCK];

static inline uint8_t unicode_property(uint32_t codepoint) {
    return unicode_properties[unicode_blocks[codepoint / UNICODE_BLOCK]][codepoint % UNICODE_BLOCK];
}

static inline UnicodeCategory unicode_category(uint32_t codepoint) {
    return (UnicodeCategory)(unicode_property(codepoint) & 31);
}

// The property White_Space.
static inline bool unicode_is_space(uint32_t codepoint) {
    if (codepoint < 128) return codepoint == ' ' || (codepoint >= '\t' && codepoint <= '\r');
    UnicodeCategory category = unicode_category(codepoint);
    return (category >= UNICODE_ZS && category <= UNICODE_ZP) || category == UNICODE_NEXT_LINE;
}

// A part of a word, \w in Rust (Unicode Technical Standard 18, annex C): letters, marks, decimal and letter
// numbers, connecting punctuation, joiners.
bool unicode_is_word(uint32_t codepoint);

// Where the white space that begins at `at` ends, and where that which ends at `at` begins, not before
// `from`. Each is `at` itself when there is none.
size_t unicode_space_behind(Str text, size_t at);
size_t unicode_space_before(Str text, size_t from, size_t at);

// The character that ends at `at` and begins at `from` or later: its length, or 0 when there is no whole one.
size_t unicode_character_before(Str text, size_t from, size_t at, uint32_t *codepoint);

static inline bool unicode_needs_nfc(uint32_t codepoint) {
    return unicode_property(codepoint) & 32;
}

// Canonical decompositions (one step, not recursive), sorted by character; `second` is 0 for a single
// character. Hangul syllables are not in it: their rule is arithmetic.
typedef struct {
    uint32_t codepoint, first, second;
} UnicodeDecomposition;
extern const UnicodeDecomposition unicode_decompositions[];
extern const uint32_t unicode_decomposition_count;

// Indices of the decompositions that NFC composes again, sorted by (first, second).
extern const uint16_t unicode_compositions[];
extern const uint32_t unicode_composition_count;

// Runs of characters with the same canonical combining class, other than 0; sorted.
typedef struct {
    uint32_t first, last;
    uint8_t combining_class;
} UnicodeCombiningRun;
extern const UnicodeCombiningRun unicode_combining_runs[];
extern const uint32_t unicode_combining_run_count;

// Scripts and other properties: sets of characters by name, in lower case without separators ("han", "hani",
// "alpha"). Each is some of the ranges, ascending, with gaps between them.
typedef struct {
    uint32_t first, last;
} UnicodeRange;
typedef struct {
    const char *name;
    uint16_t first, count;
} UnicodeSet;
extern const UnicodeRange unicode_ranges[];
extern const UnicodeSet unicode_sets[];
extern const uint32_t unicode_set_count;
