// How much plain text (token_trie.h) a state of an automaton takes, whatever the text is.
#pragma once

#include "grammar/byte_set.h"
#include "grammar/dfa.h"
#include "grammar/token_trie.h"

enum { PLAIN_ENTRIES = 1 << 12, PLAIN_NEXT_MAX = 4 };

// Where one plain character leads from a state.
typedef struct {
    uint32_t dfa, state;
    bool takes_all;  // no plain character ends the text
    bool takes_none; // no plain character can come
    bool exits;      // every plain character ends the automaton: nothing can come behind it there
    uint32_t n_next;
    uint32_t next[PLAIN_NEXT_MAX];
} PlainEntry;

typedef struct {
    PlainEntry *entries; // [PLAIN_ENTRIES] a newer one takes the place of an older one
} PlainCache;

MUST_CHECK bool plain_init(PlainCache *p, Arena *arena);

typedef struct {
    uint32_t most; // characters, up to TRIE_PLAIN_MAX, or TRIE_PLAIN_ANY
    bool ends;     // no longer plain text is taken, not even in part: what is left of a bounded length
    bool exits;    // every plain text of one character more ends the automaton, and what is behind it goes on
} PlainDepth;

// Any plain text of up to `most` characters stays within the automaton from this state on. 0 where it does
// not, or where it may end in between and be followed by something. `number` is the automaton's, `followed`
// whether anything can come behind it.
PlainDepth plain_depth(PlainCache *p, const Dfa *dfa, uint32_t number, uint32_t state, bool followed);
