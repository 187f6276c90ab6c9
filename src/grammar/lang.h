// Regular languages over characters (Unicode code points without surrogates): deterministic automata, and
// what can be done with them: and, or, without. Schemas and grammars work with these; the
// automaton over bytes that a grammar's leaf needs (dfa.h) is made at the end, so that lengths count
// characters and complements stay within valid text.
//
// Every Lang is minimal, with its states in breadth-first order, so equal languages have equal tables. The
// empty language has no states. All tables live in the maker's arena. Not thread-safe while it is made.
#pragma once

#include "grammar/dfa.h"

#define LANG_NONE UINT32_MAX

enum {
    LANG_STATES_MAX = 1 << 16,
    LANG_CELLS_MAX = 4 << 20,        // states times classes
    LANG_LENGTH_MAX = (1 << 16) - 1, // of lang_length
};

typedef struct {
    uint32_t n_states; // the start is state 0
    uint32_t n_classes;
    uint32_t n_intervals;
    const uint32_t *first;    // [n_intervals] first characters of intervals, ascending; first[0] is 0
    const uint16_t *class_of; // [n_intervals]
    const uint32_t *next;     // [n_states][n_classes] a state, or LANG_NONE
    const uint8_t *accepts;   // [n_states]
} Lang;

// Whether nobody wants the result any more: asked every LANG_ASK_STEPS steps by the thread that makes it.
typedef struct {
    bool (*is_over)(const void *context);
    const void *context;
} LangStop;

enum { LANG_ASK_STEPS = 1 << 16 };

// What making languages works with. `keep` holds results. `work` counts steps of all constructions and is
// bounded by work_max: whoever compiles something gives one maker to all of it.
typedef struct {
    Arena *keep;
    Arena scratch; // taken by value in each operation
    uint64_t work, work_max;
    const LangStop *stop; // NULL: it is wanted
} LangMaker;

typedef enum { LANG_AND, LANG_OR, LANG_WITHOUT } LangOp;

// Each fails with ERR_TOO_LARGE (states or work), ERR_NO_MEMORY, or ERR_CANCELLED (m->stop).
MUST_CHECK bool lang_combine(LangMaker *m, LangOp op, const Lang *a, const Lang *b, Lang *out, Error *err);
// All texts of min to max characters; max LANG_NONE: no upper bound.
MUST_CHECK bool lang_length(LangMaker *m, uint32_t min, uint32_t max, Lang *out, Error *err);
// Exactly these texts.
MUST_CHECK bool lang_words(LangMaker *m, const Str *words, uint32_t n_words, Lang *out, Error *err);
MUST_CHECK bool lang_literal(LangMaker *m, Str text, Lang *out, Error *err);

static inline bool lang_is_empty(const Lang *a) {
    return a->n_states == 0;
}
bool lang_equal(const Lang *a, const Lang *b);
bool lang_accepts(const Lang *a, Str text);
// Whether it is all texts of min to max characters (LANG_NONE: no upper bound).
bool lang_is_length(const Lang *a, uint32_t *min, uint32_t *max);
// Whether it holds infinitely many texts.
bool lang_is_infinite(const LangMaker *m, const Lang *a);

// How characters are spelled in bytes.
typedef enum {
    LANG_UTF8,
    // The body of a JSON string, without its quotes: each character in every spelling that RFC 8259 allows:
    // itself, a short escape, \u and four digits in both cases, surrogate pairs.
    LANG_JSON_STRING,
    // … in one spelling each: itself where JSON allows it, else the short escape, else \u00xx.
    LANG_JSON_PLAIN,
} LangSpelling;

// `before` and `after` are bytes around it (quotes). The result lives in m->keep.
MUST_CHECK bool dfa_from_lang(LangMaker *m, const Lang *a, LangSpelling spelling, Str before, Str after,
                              Dfa *out, Error *err);

// … of at most `most` characters, counted beside the table (DfaCount).
MUST_CHECK bool dfa_from_lang_counted(LangMaker *m, const Lang *a, uint32_t most, LangSpelling spelling,
                                      Str before, Str after, Dfa *out, Error *err);

// The texts of an automaton in which `text` (1 to 63 bytes) does not occur, into m->keep; with `ends_clean`
// also without those at whose end a beginning of it stands, so that it cannot come about where texts meet.
// `out` may be `from`.
MUST_CHECK bool dfa_without_text(LangMaker *m, const Dfa *from, Str text, bool ends_clean, Dfa *out,
                                 Error *err);
