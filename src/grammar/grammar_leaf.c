// What a leaf's state says of the whole vocabulary: one walk through the trie. States of automata that count
// (text of at most 200 characters) differ from each other only for texts as long as what is left; so short
// tokens are looked at once for all states that are alike for as many bytes, and only long ones for each.
#include "grammar/grammar_matcher_internal.h"

#include <assert.h>

enum {
    ALIKE_STATES_MIN = 48,     // smaller automata have few states to share anything
    ALIKE_STEPS_MAX = 1 << 14, // of one comparison
    NODES_A_STEP = 32 // of the trie, for Step's `work`: walks are longer than all else that is counted
};

uint64_t leaf_bytes_min(const TokenTrie *trie) {
    // Two masks of one state, each with all tokens and all nodes.
    return 2 * (sizeof(LeafMask) + (trie->n_words + (uint64_t)trie->n_nodes) * sizeof(uint32_t) + 64);
}

void leaf_forget(GrammarMatcher *m) {
    memset(m->leaves, 0xFF, LEAF_ENTRIES * sizeof *m->leaves);
    memset(m->models, 0xFF, LEAF_MODELS * sizeof *m->models);
    m->n_leaves = 0;
    m->leaf_memory = m->leaf_all;
}

// ---- states that are alike ----

typedef struct {
    const Dfa *dfa;
    LeafPair *pairs;
    uint32_t steps;
} Alike;

// Whether two states differ only in what has been counted, which so many bytes do not bring to its bound.
static bool counts_alike(const Dfa *dfa, uint32_t a, uint32_t b, uint32_t bytes) {
    if (!dfa->count || a % dfa->n_states != b % dfa->n_states) return false;
    uint64_t count = max_u64(a, b) / dfa->n_states;
    return count + bytes + dfa->count->least_max <= dfa->count->most;
}

// Whether no text of up to `bytes` bytes tells two states apart.
static bool alike(Alike *x, uint32_t a, uint32_t b, uint32_t bytes) {
    const Dfa *dfa = x->dfa;
    if (a == b || counts_alike(dfa, a, b, bytes)) return true;
    if (dfa_may_end(dfa, a) != dfa_may_end(dfa, b)) return false;
    LeafPair *pair = &x->pairs[(a * 31u + b) % LEAF_PAIRS];
    if (bytes == 0 || (pair->a == a && pair->b == b && pair->bytes >= bytes)) return true;
    *pair = (LeafPair){a, b, bytes}; // if it turns out otherwise, all is lost anyway
    x->steps += dfa->n_classes;
    if (x->steps > ALIKE_STEPS_MAX) return false;
    for (uint32_t c = 0; c < dfa->n_classes; c++) {
        uint32_t next_a = dfa_step_class(dfa, a, c), next_b = dfa_step_class(dfa, b, c);
        if ((next_a == DFA_NONE) != (next_b == DFA_NONE)) return false;
        if (next_a != DFA_NONE && !alike(x, next_a, next_b, bytes - 1)) return false;
    }
    return true;
}

// Whether the state says the same of short tokens as the model.
static bool leaf_is_like(GrammarMatcher *m, const Dfa *dfa, const LeafEntry *model, uint32_t state,
                         uint32_t plain) {
    if (min_u64(model->plain, TRIE_SHORT_BYTES) != min_u64(plain, TRIE_SHORT_BYTES)) return false;
    memset(m->pairs, 0xFF, LEAF_PAIRS * sizeof *m->pairs);
    Alike x = {.dfa = dfa, .pairs = m->pairs};
    return alike(&x, model->state, state, TRIE_SHORT_BYTES);
}

// ---- walks ----

typedef struct {
    uint32_t state, groups;
} LeafLoops;

enum { LEAF_LOOPS = 64 };

typedef enum { LEAF_ALL, LEAF_SHORT, LEAF_LONG } LeafTokens;

// What a walk through the trie has found: tokens as a list while they are few.
typedef struct {
    const TokenTrie *trie;
    const Dfa *dfa;
    const ByteSet *follow;
    uint32_t follow_groups;
    const uint8_t *group_of;
    LeafLoops loops[LEAF_LOOPS];
    uint32_t *exits, *tokens;
    uint32_t n_exits, n_tokens;
    uint32_t *words;
    bool is_set;
    LeafTokens which;
} LeafWalk;

// Tokens become a set when they are too many for a list.
static void leaf_become_set(LeafWalk *w) {
    if (w->is_set) return;
    memset(w->words, 0, w->trie->n_words * sizeof *w->words);
    for (uint32_t i = 0; i < w->n_tokens; i++)
        words_add(w->words, (int32_t)w->tokens[i]);
    w->is_set = true;
}

static void leaf_add_tokens(LeafWalk *w, uint32_t from, uint32_t to) {
    const int32_t *order = w->trie->order;
    if (w->n_tokens + (to - from) > w->trie->n_words) leaf_become_set(w);
    for (uint32_t i = from; i < to; i++) {
        if (w->is_set) words_add(w->words, order[i]);
        else w->tokens[w->n_tokens++] = (uint32_t)order[i];
    }
}

// Whether a token goes on from this node with one of these bytes.
static bool trie_goes_on(const TokenTrie *trie, uint32_t node, const ByteSet *bytes) {
    for (uint32_t i = node + 1; i < trie->nodes[node].end; i = trie->nodes[i].end)
        if (byte_set_has(bytes, trie->nodes[i].byte)) return true;
    return false;
}

// The groups of bytes all of which lead from a state to itself.
static uint32_t leaf_loops(LeafWalk *w, uint32_t state) {
    LeafLoops *known = &w->loops[state % LEAF_LOOPS];
    if (known->state == state) return known->groups;
    uint32_t groups = UINT32_MAX;
    for (int byte = 0; byte < 256; byte++)
        if (dfa_step(w->dfa, state, (uint8_t)byte) != state) groups &= ~(1u << w->group_of[byte]);
    *known = (LeafLoops){state, groups};
    return groups;
}

// Whether a walk has nothing to look for from a node on. Of plain tokens of up to `plain` characters is known
// whether they stay.
static bool leaf_passes(const LeafWalk *w, const TrieNode *node, uint32_t plain) {
    if (w->which == LEAF_LONG) return !node->other_long && node->plain_long <= plain;
    return !node->other && node->plain <= plain;
}

// Whether all that is below a node can be taken at once: tokens of the wrong length may not.
static bool leaf_takes_whole(const LeafWalk *w, const TrieNode *node) {
    return w->which == LEAF_ALL || (w->which == LEAF_SHORT && !node->other_long && node->plain_long == 0);
}

// Of plain tokens of up to `plain` characters is known already whether they stay. Where a state goes round
// with every byte that is below a node, all tokens there stay within the leaf. (At 151,669 tokens: a leaf of
// letters, digits and marks took 4.7 ms and takes 1.3; text up to "<tool_call>" took 6.4 ms and takes 1.6.)
// Returns how many nodes it has looked at.
static uint32_t leaf_walk(LeafWalk *w, uint32_t state, uint32_t plain, uint32_t *states) {
    const TokenTrie *trie = w->trie;
    bool followed = !byte_set_is_empty(w->follow);
    uint32_t n_nodes = 0;
    states[0] = state;
    for (uint32_t i = 0; i < trie->n_nodes; n_nodes++) {
        TrieNode node = trie->nodes[i];
        uint32_t before = states[node.depth - 1], next = dfa_step(w->dfa, before, node.byte);
        if (next == DFA_NONE || leaf_passes(w, &node, plain)) {
            i = node.end;
            continue;
        }
        bool exits = followed && dfa_may_end(w->dfa, next);
        uint32_t below = trie->below[i];
        if (next == before && !(exits && below & w->follow_groups) && leaf_takes_whole(w, &node) &&
            !(below & ~leaf_loops(w, next))) {
            leaf_add_tokens(w, trie->firsts[i], trie->firsts[node.end]);
            i = node.end;
            continue;
        }
        states[node.depth] = next;
        if (w->which != LEAF_LONG || node.depth > TRIE_SHORT_BYTES) {
            if (node.token != TOKEN_NONE) leaf_add_tokens(w, trie->firsts[i], trie->firsts[i + 1]);
            if (exits && trie_goes_on(trie, i, w->follow)) w->exits[w->n_exits++] = i;
        }
        i = w->which == LEAF_SHORT && node.depth == TRIE_SHORT_BYTES ? node.end : i + 1;
    }
    return n_nodes;
}

static const LeafMask *leaf_make(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state,
                                 uint32_t plain, LeafTokens which) {
    // Where all plain tokens but the longest are decided, only rare ones are left. (A string took 1.3 ms and
    // takes 0.2.)
    const TokenTrie *trie = plain >= TRIE_PLAIN_MAX ? m->trie->rare : m->trie;
    LeafMask *mask = arena_alloc_dirty(&m->leaf_memory, 1, sizeof *mask, _Alignof(LeafMask));
    assert(mask);
    LeafWalk w = {.trie = trie, .dfa = dfa, .follow = &m->follow[number], .group_of = m->group_of};
    w.which = which;
    w.exits = mask->data;
    w.tokens = m->leaf_list;
    w.words = m->leaf_words;
    memset(w.loops, 0xFF, sizeof w.loops);
    for (int byte = 0; byte < 256; byte++)
        if (byte_set_has(w.follow, (uint8_t)byte)) w.follow_groups |= 1u << m->group_of[byte];
    mask->work = leaf_walk(&w, state, plain, m->walk) / NODES_A_STEP;
    uint32_t n_data = w.is_set ? trie->n_words : w.n_tokens;
    memcpy(mask->data + w.n_exits, w.is_set ? w.words : w.tokens, n_data * sizeof *w.words);
    mask->trie = trie;
    mask->n_exits = w.n_exits;
    mask->n_tokens = w.is_set ? UINT32_MAX : w.n_tokens;
    m->leaf_memory.next = (uint8_t *)(mask->data + w.n_exits + n_data);
    m->figures.leaf_masks++;
    return mask;
}

// Both masks of a state of a large automaton.
static void leaf_make_parts(GrammarMatcher *m, const Dfa *dfa, LeafEntry *e, uint32_t known) {
    LeafEntry *model = &m->models[(e->dfa + e->rare_only) % LEAF_MODELS];
    bool is_like = model->dfa == e->dfa && model->rare_only == e->rare_only &&
                   leaf_is_like(m, dfa, model, e->state, e->plain);
    e->parts[0] = is_like ? model->parts[0] : leaf_make(m, dfa, e->dfa, e->state, known, LEAF_SHORT);
    e->parts[1] = leaf_make(m, dfa, e->dfa, e->state, known, LEAF_LONG);
    *model = *e;
}

PlainDepth leaf_plain(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state) {
    return plain_depth(&m->plain, dfa, number, state, !byte_set_is_empty(&m->follow[number]));
}

// Counts the walks that it took, or would have taken if it had not been there: so what is too much work does
// not depend on what was asked for before.
static LeafEntry leaf_counted(GrammarMatcher *m, const LeafEntry *e) {
    for (int part = 0; part < 2; part++)
        if (e->parts[part]) m->step.work += e->parts[part]->work;
    return *e;
}

LeafEntry leaf_entry(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state, bool rare_only) {
    uint64_t h = ((uint64_t)(number * 2 + rare_only) << 32 | state) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 40) % LEAF_ENTRIES;
    for (; m->leaves[at].dfa != UINT32_MAX; at = (at + 1) % LEAF_ENTRIES) {
        const LeafEntry *e = &m->leaves[at];
        if (e->dfa == number && e->state == state && e->rare_only == rare_only) return leaf_counted(m, e);
    }
    if (arena_left(&m->leaf_memory) < leaf_bytes_min(m->trie) || m->n_leaves >= LEAF_ENTRIES / 2) {
        leaf_forget(m);
        at = (uint32_t)(h >> 40) % LEAF_ENTRIES;
    }
    LeafEntry e = {.dfa = number, .state = state, .rare_only = rare_only};
    PlainDepth plain = leaf_plain(m, dfa, number, state);
    // Longer ones are all refused where a bounded length ends: there is nothing to look at either. (The last
    // states of a text of at most 200 characters took 4 to 6 ms and take 0.2.)
    uint32_t known = rare_only ? TRIE_PLAIN_MAX : plain.ends ? TRIE_PLAIN_ANY : plain.most;
    e.plain = plain.most;
    if (dfa->n_states < ALIKE_STATES_MIN) e.parts[0] = leaf_make(m, dfa, number, state, known, LEAF_ALL);
    else leaf_make_parts(m, dfa, &e, known);
    m->n_leaves++;
    m->leaves[at] = e;
    return leaf_counted(m, &e);
}
