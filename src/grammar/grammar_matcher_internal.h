// What grammar_matcher.c (states) and grammar_mask.c (masks) share.
#pragma once

#include "grammar/grammar_plain.h"
#include "grammar/grammar_step.h"

// What a leaf's state says of tokens, whatever is around the leaf: those that stay within the leaf, as a
// list or as a set, and the places in the trie behind which the leaf may have ended while tokens go on.
//
// Of an automaton that counts (DfaCount) it is what a state of the table says, whatever the count: each token
// and each exit has a need, the least slack of a state with which it stays.
typedef struct {
    const TokenTrie *trie; // whose nodes the exits are: of all tokens, or of rare ones where others have none
    uint32_t work;         // steps that the walk took
    uint32_t n_exits;
    uint32_t n_tokens; // UINT32_MAX: a set
    bool counts;
    bool has_words;
    uint32_t n_needs;
    // Exits [n_exits], then tokens [n_tokens] or words. Where it counts: exits and their needs
    // [n_exits][2]; how many tokens need at most so much [n_needs]; tokens in the order of their needs; and,
    // with has_words, those of needs up to LEAF_WORDS_NEED as a set.
    uint32_t data[];
} LeafMask;

// A state of an automaton. Besides what its masks say, all plain tokens of up to `plain` characters stay
// within the leaf (0: none). One mask is of all tokens; or there are two: of short tokens, which states that
// are alike for so many bytes share, and of long ones.
typedef struct {
    uint32_t dfa, state; // dfa UINT32_MAX: free
    uint32_t plain;
    uint32_t slack; // of an automaton that counts: characters that may still come beside those that have to
    bool rare_only; // nothing is said of plain tokens of up to TRIE_PLAIN_MAX characters
    const LeafMask *parts[2];
} LeafEntry;

typedef struct {
    uint32_t a, b, bytes;
} LeafPair;

typedef struct {
    uint32_t stamp, state, next;
    uint8_t byte;
    bool needs_item; // of Step
} WalkStep;

enum {
    LEAF_ENTRIES = 1 << 14,
    LEAF_MODELS = 64, // entries of late that others may be like
    LEAF_PAIRS = 1 << 10,
    LEAF_WORDS_NEED = TRIE_SHORT_BYTES, // what nearly all tokens need at most
    WALK_STEPS = 1 << 12,
    MASKS_MIN = 4,
    MASKS_MAX = 4096,
};

// Slots are a ring in the order in which they were asked for.
typedef struct {
    uint32_t state;        // or GRAMMAR_REFUSED: free
    uint32_t older, newer; // of the slots
    uint32_t keeper;       // while only some states are kept: the number of one that has this mask, from 1 on
    uint32_t work;         // that it took
} MaskSlot;

struct GrammarMatcher {
    const Grammar *g;
    uint8_t digest[sizeof((Grammar *)0)->digest]; // of g, whose memory may be gone
    const TokenTrie *trie;
    Pool pool;
    Step step;
    Reading *readings;  // [GRAMMAR_READINGS_MAX] those of the byte before
    uint8_t *refers_to; // [n_nodes] pool_keep
    GrammarState start;
    GrammarNode ambiguous; // grammar_ambiguous_name
    GrammarFigures figures;

    // masks of states
    MaskSlot *slots; // [n_slots]
    uint32_t *masks; // [n_slots][n_words]
    uint32_t n_slots;
    uint32_t *slot_of; // [states] its slot, if that says so too
    uint32_t *near_of; // [states] state_near, or GRAMMAR_REFUSED: not asked for yet
    uint32_t newest;   // slot; the one that is newer than it is the oldest

    // masks of leaves
    uint32_t *dfa_of; // [n_nodes] of a leaf: a number for its automaton
    ByteSet *follow;  // [n_nodes] at an automaton's number: what may come behind it
    PlainCache plain;
    LeafEntry *leaves; // [leaves_max]
    uint32_t n_leaves, leaves_max;
    LeafEntry *models;   // [LEAF_MODELS] at an automaton's number
    LeafPair *pairs;     // [LEAF_PAIRS] states found alike for so many bytes, in the present comparison
    uint64_t leaf_bytes; // leaf_bytes_min
    Arena leaf_memory;   // what is left of it
    Arena leaf_all;
    uint32_t *leaf_words; // [n_words] a walk's tokens as a set
    uint32_t *leaf_list;  // [n_words] … and as a list
    uint64_t *leaf_needs; // [n_tokens] … of an automaton that counts: need, then token; NULL: there is none
    uint32_t *walk;       // [3][depth_max + 1] states of an automaton or of the matcher; counts; needs
    WalkStep *steps;      // [WALK_STEPS]
    uint32_t stamp;
    uint64_t work_end;     // of the step's work, for the mask in the making
    uint32_t mask_work;    // grammar_mask_work
    uint8_t group_of[256]; // byte_group

    // Items that must differ; NULL where there are none.
    uint32_t *item_words; // [n_words] the tokens of one reading
    uint32_t *used;       // [n_nodes of the trie] while a mask is made, 0 else: items that begin so
};

static inline void words_add(uint32_t *words, int32_t token) {
    words[token >> 5] |= 1u << (token & 31);
}

// Whether what is behind an exit counts for a state with so much slack.
static inline bool leaf_exit(const LeafMask *mask, uint32_t i, uint32_t slack, uint32_t *node) {
    *node = mask->counts ? mask->data[2 * i] : mask->data[i];
    return !mask->counts || mask->data[2 * i + 1] <= slack;
}

void words_join(uint32_t *words, const uint32_t *more, uint32_t count);

// grammar_leaf.c
PlainDepth leaf_plain(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state);
// The entry's masks stay until the next call.
LeafEntry leaf_entry(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state, bool rare_only);
bool leaf_init(GrammarMatcher *m, Arena *arena);
void leaf_forget(GrammarMatcher *m);
uint64_t leaf_bytes_min(const Grammar *g, const TokenTrie *trie);
// Adds the tokens that stay within the leaf.
void leaf_add(const TokenTrie *trie, const LeafMask *mask, uint32_t slack, uint32_t *words);

bool mask_init(GrammarMatcher *m, Arena *arena);
uint64_t mask_bytes_min(const Grammar *g, const TokenTrie *trie);
// Around pool_keep: of these states, at most GRAMMAR_READINGS_MAX, the masks stay, all others are forgotten.
void mask_begin_keep(GrammarMatcher *m, GrammarState *states[], uint32_t count);
void mask_end_keep(GrammarMatcher *m, GrammarState *states[], uint32_t count);

// grammar_near.c: a state that no token tells from this one, the same for as many as possible; so they have
// one mask.
GrammarState state_near(GrammarMatcher *m, GrammarState state);

// The state after a byte.
GrammarState matcher_step_byte(GrammarMatcher *m, GrammarState state, uint8_t byte);
