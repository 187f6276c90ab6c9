// Between the parser and the compiler of regex.h: the syntax tree, and sets of characters.
#pragma once

#include "base/limits.h"
#include "text/regex.h"
#include "text/unicode.h"

enum {
    REGEX_PATTERN_BYTES_MAX = 8192,
    REGEX_GROUP_DEPTH_MAX = 32,
    REGEX_REPEAT_MAX = 256,
    REGEX_BOUNDS_MAX = 1024,
    REGEX_SETS_MAX = 256,
    REGEX_NODES_MAX = 4096,
    REGEX_STATES_MAX = 4096,
    REGEX_UNBOUNDED = UINT16_MAX,
};

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
} RegexKind;

typedef enum { REGEX_GREEDY, REGEX_LAZY, REGEX_POSSESSIVE } RegexMode;

typedef struct {
    uint8_t kind; // RegexKind
    uint8_t mode; // RegexMode
    bool at_end;
    uint16_t a, b;
    uint16_t min, max;
    uint16_t set;
} RegexNode;

typedef struct {
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

// The index of a set with these masks, added where there is none; UINT16_MAX when there are too many.
uint16_t regex_add_set(RegexTree *tree, const uint32_t *masks, Arena *arena);

static inline bool char_set_has(const CharSet *set, uint32_t interval, uint32_t category) {
    return set->masks[interval] >> category & 1u;
}
