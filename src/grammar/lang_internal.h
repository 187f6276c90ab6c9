// Between the files that make languages: the table that every construction ends with, and what they share.
#pragma once

#include "grammar/lang.h"

// An automaton in the making: state 0 is the start; states may be unreachable, dead or equivalent.
typedef struct {
    Arena *arena;
    uint32_t n_states, cap;
    uint32_t n_classes;
    uint32_t *next; // [cap][n_classes]
    uint8_t *accepts;
} LangTable;

typedef struct {
    uint32_t n_intervals;
    const uint32_t *first;
    const uint16_t *class_of;
    uint32_t n_classes;
} LangAlphabet;

// Counts `amount` steps; false once m->work_max is passed, or m->stop says so.
MUST_CHECK bool lang_work(LangMaker *m, uint64_t amount, Error *err);
// Whether m->stop lets it go on; else ERR_CANCELLED.
MUST_CHECK bool lang_is_wanted(LangMaker *m, Error *err);
bool lang_no_memory(Error *err);

static inline LangTable lang_table(Arena *arena, uint32_t n_classes) {
    return (LangTable){.arena = arena, .n_classes = n_classes};
}
// Adds a state without transitions that does not accept.
MUST_CHECK bool lang_table_add(LangTable *t, uint32_t *state, Error *err);

// Makes an array of at least `needed` elements of `size` bytes of one of `*cap` elements.
MUST_CHECK bool lang_grow(Arena *arena, void **array, uint32_t *cap, uint32_t needed, size_t size);

// Trims and minimises: fills block[state], LANG_NONE for states that are useless, and returns their number in
// *n_blocks (lang_minimise.c).
MUST_CHECK bool lang_minimise(LangMaker *m, Arena scratch, const LangTable *t, uint32_t *block,
                              uint32_t *n_blocks, Error *err);

// The minimal Lang of a table, in m->keep.
MUST_CHECK bool lang_finish(LangMaker *m, Arena scratch, const LangTable *t, const LangAlphabet *alphabet,
                            Lang *out, Error *err);

// A table of 64-bit keys to numbers; grows in its arena.
typedef struct {
    Arena *arena;
    uint64_t *keys; // 0 is empty, so keys are stored with 1 added
    uint32_t *values;
    uint32_t count, cap;
} LangPairs;

// The value of a key, or `fresh` where it is new (*is_new). False when the arena is full.
MUST_CHECK bool lang_pairs_find(LangPairs *p, uint64_t key, uint32_t fresh, uint32_t *value, bool *is_new);

// The interval that holds a character.
uint32_t lang_interval(const uint32_t *first, uint32_t n_intervals, uint32_t codepoint);
