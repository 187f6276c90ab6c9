// Between the parts of the compiler of regex.h: the syntax tree (regex_parse.c, regex_class.c), the steps
// that are made of it (regex_steps.c), and the tables made of these (regex_forward.c, regex_two_pass.c).
#pragma once

#include "base/limits.h"
#include "text/regex.h"
#include "text/unicode.h"

enum {
    REGEX_PATTERN_BYTES_MAX = 8192,
    REGEX_GROUP_DEPTH_MAX = 32,
    REGEX_REPEAT_MAX = 1000,
    REGEX_BOUNDS_MAX = 4096,
    REGEX_SETS_MAX = 256,
    REGEX_NODES_MAX = 4096,
    REGEX_STEPS_MAX = 4096,
    REGEX_STATES_MAX = 4096,
    REGEX_CLASSES_MAX = 255,
    REGEX_BEHINDS_MAX = 16,
    REGEX_IN_VAIN_MAX = 16, // characters that matching forward may read behind a match, without a remedy
    REGEX_WORK_MAX = 64 * 1000 * 1000,       // steps looked at while tables are made: a fraction of a second
    REGEX_WORK_FOR_SPEED = 32 * 1000 * 1000, // … of tables that a pattern can do without
    REGEX_UNBOUNDED = UINT16_MAX,
};

// ---- tree ----

// All explicit characters and ranges of a pattern cut the code space into intervals; within an interval only
// the general category tells characters apart. So a set is a mask of categories for each interval.
typedef struct {
    uint32_t *masks; // [n_intervals]
} CharSet;

typedef enum {
    REGEX_EMPTY,
    REGEX_SET,       // set
    REGEX_CONCAT,    // a then b
    REGEX_ALTERNATE, // a, else b
    REGEX_REPEAT,    // a, min … max times
    REGEX_LOOK,      // the next character is in `set`; at the end of the text: at_end
    REGEX_AHEAD,     // a matches what follows, or not, where `negative`
    REGEX_BEHIND,    // a matches something that ends here, or not
} RegexKind;

typedef enum { REGEX_GREEDY, REGEX_LAZY, REGEX_POSSESSIVE } RegexMode;

typedef struct {
    uint8_t kind; // RegexKind
    uint8_t mode; // RegexMode
    bool at_end, negative;
    uint16_t a, b;
    uint16_t min, max;
    uint16_t set;
} RegexNode;

typedef struct {
    Str pattern;
    uint32_t bounds[REGEX_BOUNDS_MAX]; // first characters of the intervals, ascending; bounds[0] is 0
    uint32_t n_intervals;
    CharSet sets[REGEX_SETS_MAX];
    uint32_t n_sets;
    RegexNode nodes[REGEX_NODES_MAX];
    uint32_t n_nodes;
    uint16_t root;
} RegexTree;

// The tree and its sets live in `arena`.
MUST_CHECK bool regex_parse(Str pattern, Arena *arena, RegexTree **out, Error *err);

// Whether a part can match without taking a character.
bool regex_may_be_empty(const RegexTree *tree, uint16_t node);

// The index of a set with these masks, added where there is none; UINT16_MAX when there are too many.
uint16_t regex_add_set(RegexTree *tree, const uint32_t *masks, Arena *arena);

static inline bool char_set_has(const CharSet *set, uint32_t interval, uint32_t category) {
    return set->masks[interval] >> category & 1u;
}

// ---- the parser, in two files ----

// It runs twice: first only to learn which characters the pattern names, because they decide the intervals
// that every set is made of; then to build.
typedef struct {
    Str pattern;
    size_t at;
    RegexTree *tree;
    Arena *arena;
    Error *err;
    uint32_t depth;
    uint32_t class_depth;   // of brackets
    uint64_t *known_bounds; // the first pass: a bit for each character that is one
    uint32_t n_bounds;
    bool collecting; // the first pass: bounds are noted, and every set has 0 intervals
    bool ignore_case;
} RegexParser;

// Each fills *err and is false.
bool regex_refuse(RegexParser *p, size_t at, const char *what);
bool regex_full(RegexParser *p);

static inline bool regex_peek(const RegexParser *p, char c) {
    return p->at < p->pattern.len && p->pattern.ptr[p->at] == c;
}
bool regex_take(RegexParser *p, const char *text);

MUST_CHECK bool regex_add_bound(RegexParser *p, uint32_t first);
MUST_CHECK bool regex_new_set(RegexParser *p, CharSet *set);
void regex_invert(const RegexParser *p, CharSet *set);
void regex_join(const RegexParser *p, CharSet *set, const CharSet *other);
MUST_CHECK bool regex_add_range(RegexParser *p, CharSet *set, uint32_t first, uint32_t last);
MUST_CHECK bool regex_add_word(RegexParser *p, CharSet *set);
// Behind a backslash: either one character, or a set (*is_set), which is added to `set`.
MUST_CHECK bool regex_parse_escape(RegexParser *p, CharSet *set, bool *is_set, uint32_t *codepoint);
MUST_CHECK bool regex_parse_character(RegexParser *p, uint32_t *codepoint);
// Behind the opening bracket, up to and including the closing one.
MUST_CHECK bool regex_parse_class(RegexParser *p, CharSet *out);

// ---- steps ----

typedef enum {
    STEP_SET,   // a character in `set`, then a
    STEP_LOOK,  // the next one is in `set`, or at_end; then a
    STEP_SPLIT, // a, else b
    STEP_MATCH,
    STEP_AHEAD,  // what begins at `b` matches here, or not (negative); then a
    STEP_BEHIND, // the look behind of index `b` holds, or not; then a
} StepKind;

struct RegexStep {
    uint8_t kind; // StepKind
    bool at_end, negative;
    uint8_t owner; // 1 + the index of the look behind that it is a part of, or 0
    uint16_t set;
    uint16_t a, b;
};

typedef struct {
    RegexTree *tree;
    Arena *arena; // scratch
    Error *err;
    RegexStep steps[REGEX_STEPS_MAX];
    uint32_t n_steps;
    uint16_t start;
    bool matches_empty, has_empty_loops;
    // Classes of characters that are in the same sets.
    uint64_t class_sets[REGEX_CLASSES_MAX][REGEX_SETS_MAX / 64];
    uint32_t n_classes; // and one more, the end of the text
    // Looks beyond the next character. A look's steps follow each other; inner ones come before outer ones.
    struct {
        uint16_t from, to, start, body;
    } aheads[REGEX_NODES_MAX];
    uint32_t n_aheads;
    struct {
        uint16_t start, body;
    } behinds[REGEX_BEHINDS_MAX]; // of a look within another, the index is higher
    uint32_t n_behinds;
    uint64_t work, work_max; // steps looked at while tables are made
} RegexProgram;

// Steps and classes; the classes' tables go to `re` and live in `arena`.
MUST_CHECK bool regex_make_steps(RegexProgram *p, Regex *re, Arena *arena);

bool regex_too_large(RegexProgram *p);
bool regex_out_of_memory(RegexProgram *p);

// Whether a STEP_SET or STEP_LOOK takes a class, which may be the end of the text.
static inline bool regex_accepts(const RegexProgram *p, const RegexStep *s, uint32_t class) {
    if (class == p->n_classes) return s->kind == STEP_LOOK && s->at_end;
    return p->class_sets[class][s->set / 64] >> (s->set % 64) & 1u;
}

// How much matching forward may read behind a match: not more than REGEX_IN_VAIN_MAX characters, than
// REGEX_REPEAT_MAX, or all that is left of the text.
typedef enum { REGEX_VAIN_SHORT, REGEX_VAIN_BOUNDED, REGEX_VAIN_UNBOUNDED } RegexVain;

// Not for patterns with looks beyond the next character, or that match the empty string.
MUST_CHECK bool regex_make_forward(RegexProgram *p, Regex *re, Arena *arena, RegexVain *in_vain);
MUST_CHECK bool regex_make_two_pass(RegexProgram *p, Regex *re, Arena *arena);
