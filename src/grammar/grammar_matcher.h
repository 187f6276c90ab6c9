// Runs a compiled grammar over tokens: where a sequence stands, which tokens may come next.
//
//     GrammarMatcher *m;
//     if (!grammar_matcher_new(grammar, trie, memory, &m, &err)) …
//     GrammarState at = grammar_start(m);
//     … per step:  const uint32_t *allowed = grammar_mask(m, at);   for the sampler
//                  at = grammar_step(m, at, token);                  what was drawn
//
// A state is a number that says all there is to know of the tokens so far. Copying it copies the place (one
// for each choice), keeping an old one is enough to go back (guesses that did not hold), and stepping through
// the tokens drawn from grammar_start makes it again (a sequence that was set aside). So a matcher serves any
// number of sequences with the same grammar.
//
// The matcher keeps every state that it gave out, in memory of a fixed size. When that is full, calls say
// GRAMMAR_FULL: grammar_keep drops all states but those that are in use, and the call can be made again.
//
// Threads: one at a time uses a matcher; grammar and trie are shared. Nothing is allocated after
// grammar_matcher_new.
#pragma once

#include "grammar/grammar.h"
#include "grammar/token_trie.h"

typedef struct GrammarMatcher GrammarMatcher;
typedef uint32_t GrammarState;

// What a step gives where it gives no state: the grammar does not take this here; there is no room for
// another state (grammar_keep); the text so far can be read in more than GRAMMAR_READINGS_MAX ways; it was
// an end token, where the text may end.
#define GRAMMAR_REFUSED UINT32_MAX
#define GRAMMAR_FULL (UINT32_MAX - 1)
#define GRAMMAR_AMBIGUOUS (UINT32_MAX - 2)
#define GRAMMAR_ENDED (UINT32_MAX - 3)

static inline bool grammar_is_state(GrammarState state) {
    return state < GRAMMAR_ENDED;
}

enum {
    GRAMMAR_READINGS_MAX = 1024,
    GRAMMAR_WORK_MAX = 8 * GRAMMAR_READINGS_MAX, // steps within the grammar between two bytes
    // Steps for one mask: 0.02 to 0.3 s. Masks of usual schemas take up to 10,000, those of SQL in Lark up to
    // 200,000. Where texts can be read in hundreds of ways at once, they would take millions.
    GRAMMAR_MASK_WORK_MAX = 1 << 19,
};

// Bytes that a matcher needs at least; more memory keeps more masks. With a vocabulary of 150,000 tokens that
// is 11 MB for a usual grammar, and 64 MB keep all that a text comes by.
uint64_t grammar_matcher_bytes_min(const Grammar *g, const TokenTrie *trie);

// Takes all of `memory`, which lives as long as the matcher. The vocabulary should have a token for each
// byte, as byte-level and byte-fallback ones do: otherwise it may have no way to spell what the grammar asks
// for. ERR_NO_MEMORY, ERR_TOO_LARGE (it can begin in more than GRAMMAR_READINGS_MAX ways),
// ERR_INVALID_REQUEST (the grammar names a token that the vocabulary does not have, or an end token).
MUST_CHECK bool grammar_matcher_new(const Grammar *g, const TokenTrie *trie, Arena memory,
                                    GrammarMatcher **out, Error *err);

// Whether the matcher was made with the same grammar, wherever that lies: then it may go on with this one,
// with all states and masks that it has.
bool grammar_matcher_fits(const GrammarMatcher *m, const Grammar *g);
// From now on it reads this copy; the one before may be gone already.
void grammar_matcher_move(GrammarMatcher *m, const Grammar *g);

// ---- states ----

GrammarState grammar_start(GrammarMatcher *m);
// The state after one more token, or one of the values above.
GrammarState grammar_step(GrammarMatcher *m, GrammarState state, int32_t token);
// … after more bytes, however they come as tokens.
GrammarState grammar_step_bytes(GrammarMatcher *m, GrammarState state, Str bytes);
// After GRAMMAR_AMBIGUOUS: what the grammar's builder called the innermost node that the text is read in too
// many ways as, or around them (a schema's JSON pointer); empty where that has no name. Until the next call.
Str grammar_ambiguous_name(const GrammarMatcher *m);
// Whether the text may end here.
bool grammar_may_end(const GrammarMatcher *m, GrammarState state);
// Drops all states but these (at most GRAMMAR_READINGS_MAX), whose numbers change and whose masks stay.
// False: these alone fill the memory.
MUST_CHECK bool grammar_keep(GrammarMatcher *m, GrammarState *states[], uint32_t count);

// ---- tokens ----

// The set of tokens that may come next: exactly those for which grammar_step gives a state or GRAMMAR_ENDED,
// as long as no text has too many readings (then it may hold a token that is GRAMMAR_AMBIGUOUS). It has
// trie->n_words words. It stays as it is until its state is dropped, or as many other masks as
// grammar_masks_kept says have been asked for since it was last. NULL: GRAMMAR_FULL, or too
// much work; then grammar_mask_work is above GRAMMAR_MASK_WORK_MAX, and asking again would not help.
const uint32_t *grammar_mask(GrammarMatcher *m, GrammarState state);
// How many steps the mask asked for last takes: those behind the ends of leaves, and walks through the
// vocabulary for leaves, also where it, or they, were there already.
uint32_t grammar_mask_work(const GrammarMatcher *m);
uint32_t grammar_masks_kept(const GrammarMatcher *m);

// ---- figures ----

typedef struct {
    uint64_t masks;        // asked for
    uint64_t masks_cached; // … that were there
    uint64_t leaf_masks;   // walks through the whole vocabulary
    uint32_t states, frames;
    uint32_t readings_max; // of one state, so far
} GrammarFigures;

GrammarFigures grammar_figures(const GrammarMatcher *m);
