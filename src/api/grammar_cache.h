// Compiled grammars, by what they were made of: equal requests share one, and wait for it while it is made.
// What was refused is remembered, too.
//
// An entry has memory of its own (STRUCTURED_BYTES_MAX of address space) and counts its users. Those that
// nobody uses stay until their place or their memory is wanted: the one used longest ago goes first.
//
// I/O thread. While an entry's state is HELD_COMPILING, its `arena`, `grammar` and `error` belong to the
// encoder thread that compiles it.
#pragma once

#include "api/structured.h"

enum {
    GRAMMAR_KEY_BYTES = 32,
    HELD_IDLE_MAX = 32,             // entries beyond those that all jobs can use
    HELD_IDLE_BYTES_MAX = 64 << 20, // of compiled grammars that nobody uses
};

typedef enum { HELD_FREE, HELD_COMPILING, HELD_READY, HELD_REFUSED } HeldState;

typedef struct {
    HeldState state;
    uint8_t key[GRAMMAR_KEY_BYTES];
    uint32_t n_users; // requests
    uint64_t used_at; // a count of uses
    Arena arena;      // what is left of its memory
    uint8_t *memory;
    const Grammar *grammar;
    Error error;
} HeldGrammar;

typedef struct {
    HeldGrammar *entries;
    uint32_t count;
    uint64_t uses;
} GrammarCache;

// For so many requests at once that have a grammar.
MUST_CHECK bool grammar_cache_create(GrammarCache *c, uint32_t n_requests, Arena *arena);

// The entry with this key, with one user more; where there was none, a new one in HELD_FREE, whose user makes
// it.
HeldGrammar *grammar_cache_take(GrammarCache *c, const uint8_t key[GRAMMAR_KEY_BYTES]);
// One user less. `forgets`: nothing is kept of it, once it has no users.
void grammar_cache_release(GrammarCache *c, HeldGrammar *g, bool forgets);
