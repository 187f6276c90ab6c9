// A deterministic automaton over bytes: the leaves of grammars.
//
// It is trimmed and minimal: every state can be reached and can still accept, so whoever follows transitions
// never runs into a dead end. Bytes are read through classes: bytes of one class have the same transitions in
// every state. Automata over bytes are made of languages over characters (lang.h), as UTF-8 or as bodies of
// JSON strings. Constant once made; any thread may read it.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#define DFA_NONE UINT32_MAX

enum {
    DFA_STATES_MAX = 1 << 20,
    DFA_CELLS_MAX = 8 << 20, // states times classes: 32 MB
};

// At most so many characters, counted beside the automaton: a state of such a Dfa is one of the table and
// n_states times the characters that have begun. So a long bound needs no larger table.
typedef struct {
    uint32_t most;
    uint32_t border, inner, after; // first states: between characters, within them, behind the last one
    uint32_t least_max;
    const uint32_t *least; // [n_states] how many more characters it takes at least to the end
} DfaCount;

// The start is state 0. The empty language has n_states 0; no grammar holds it.
typedef struct {
    uint32_t n_states;
    uint32_t n_classes;
    uint8_t class_of[256];
    const uint32_t *next;   // [n_states][n_classes] a state, or DFA_NONE
    const uint8_t *accepts; // [n_states] 1 where a text may end
    const DfaCount *count;  // or NULL
} Dfa;

// Whether a character begins with a step of the table.
static inline bool dfa_begins(const DfaCount *c, uint32_t from, uint32_t to) {
    return from >= c->border && from < c->inner && to < c->after;
}

static inline uint32_t dfa_step_counted(const Dfa *d, uint32_t state, uint32_t class) {
    const DfaCount *c = d->count;
    uint32_t from = state % d->n_states, count = state / d->n_states;
    uint32_t next = d->next[(size_t)from * d->n_classes + class];
    if (next == DFA_NONE) return DFA_NONE;
    count += dfa_begins(c, from, next);
    return (uint64_t)count + c->least[next] <= c->most ? next + count * d->n_states : DFA_NONE;
}

static inline uint32_t dfa_step_class(const Dfa *d, uint32_t state, uint32_t class) {
    return d->count ? dfa_step_counted(d, state, class) : d->next[(size_t)state * d->n_classes + class];
}

static inline uint32_t dfa_step(const Dfa *d, uint32_t state, uint8_t byte) {
    return dfa_step_class(d, state, d->class_of[byte]);
}

static inline bool dfa_may_end(const Dfa *d, uint32_t state) {
    return d->accepts[d->count ? state % d->n_states : state];
}

// Whether the text can be read from there: the state behind it, or DFA_NONE.
uint32_t dfa_run(const Dfa *d, uint32_t state, Str text);
// Whether the whole text is in the language.
bool dfa_accepts(const Dfa *d, Str text);

// The bytes of one text, exactly (they need not be UTF-8).
MUST_CHECK bool dfa_from_bytes(Str text, Arena *arena, Dfa *out, Error *err);
