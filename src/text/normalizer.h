// Changes of a text before it is cut into words: the "normalizers" of tokenizer.json files, and what their
// pre-tokenisers put in.
//
// A list of steps, each of which reads what the one before it made. Constant once built; any thread may use
// it. Bytes that are no UTF-8 stay as they are.
#pragma once

#include "text/regex.h"

typedef enum {
    NORMALIZE_NFC,
    NORMALIZE_NFD,
    NORMALIZE_STRIP_ACCENTS, // drops all combining marks
    NORMALIZE_STRIP,         // drops white space at the text's ends
    NORMALIZE_PREPEND,       // puts `content` in front of a text that is not empty
    NORMALIZE_REPLACE,       // puts `content` in the place of each match of `pattern`
} NormalizerKind;

typedef struct {
    NormalizerKind kind;
    bool left, right;      // NORMALIZE_STRIP: at which ends
    bool unless_there;     // NORMALIZE_PREPEND: not where the text begins so already
    bool only_at_start;    // NORMALIZE_PREPEND: not to a text that follows a special token
    Str content;           // lives as long as the step
    Regex pattern;         // NORMALIZE_REPLACE
    uint32_t pattern_size; // NORMALIZE_REPLACE: the fewest bytes of a match
} NormalizerStep;

enum { NORMALIZER_STEPS_MAX = 8 };

typedef struct {
    NormalizerStep steps[NORMALIZER_STEPS_MAX];
    uint32_t n_steps;
} Normalizer;

// False when there are too many steps, or when they could make more than NORMALIZER_GROWTH_MAX bytes of one.
MUST_CHECK bool normalizer_add(Normalizer *n, const NormalizerStep *step);

// Bounds whatever the text: of the result, and of the arena that normalizer_apply needs. With
// `spaces_are_one`, each U+2581 that is put in counts as one instead of three.
uint64_t normalizer_bytes_max(const Normalizer *n, uint64_t text_bytes, bool spaces_are_one);
uint64_t normalizer_arena_bytes(const Normalizer *n, uint64_t text_bytes);

// `at_start`: nothing comes before the text. The result is `text` itself where nothing changes, else in the
// arena. False when the arena is full.
MUST_CHECK bool normalizer_apply(const Normalizer *n, Str text, bool at_start, Arena *arena, Str *out);
