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

static uint64_t needs_max(const Grammar *g) {
    uint64_t most = 0;
    for (uint32_t i = 2; i < g->n_nodes; i++)
        if (g->nodes[i].kind == NODE_LEAF && g->nodes[i].dfa->count)
            most = max_u64(most, g->nodes[i].dfa->count->most + 1ull);
    return most;
}

uint64_t leaf_bytes_min(const Grammar *g, const TokenTrie *trie) {
    // Two masks of one state, each with all tokens and all nodes.
    uint64_t needs = needs_max(g), words = trie->n_words + (uint64_t)trie->n_nodes;
    if (needs) words += needs + trie->n_tokens + trie->n_nodes;
    return 2 * (sizeof(LeafMask) + words * sizeof(uint32_t) + 64);
}

// As many entries as leaves have states, four times over, while that is not too many.
static uint32_t entries_max(const Grammar *g) {
    uint64_t states = 0;
    uint32_t entries = 64;
    for (uint32_t i = 2; i < g->n_nodes; i++)
        if (g->nodes[i].kind == NODE_LEAF) states += g->nodes[i].dfa->n_states;
    while (entries < LEAF_ENTRIES && entries < 4 * states)
        entries *= 2;
    return entries;
}

bool leaf_init(GrammarMatcher *m, Arena *arena) {
    bool counts = needs_max(m->g) > 0;
    m->leaves_max = entries_max(m->g);
    m->leaves = arena_new_dirty(arena, LeafEntry, m->leaves_max);
    m->leaf_words = arena_new(arena, uint32_t, m->trie->n_words);
    m->leaf_list = arena_new(arena, uint32_t, m->trie->n_words);
    if (counts) m->leaf_needs = arena_new_dirty(arena, uint64_t, m->trie->n_tokens);
    return m->leaves && m->leaf_words && m->leaf_list && (m->leaf_needs || !counts);
}

void leaf_forget(GrammarMatcher *m) {
    memset(m->leaves, 0xFF, m->leaves_max * sizeof *m->leaves);
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

// A step of the table. *far: how many characters more it takes to the end than before, those that begin here
// among them; 0 where nothing is counted.
static uint32_t table_step(const Dfa *dfa, uint32_t state, uint32_t class, uint32_t *far) {
    const DfaCount *c = dfa->count;
    uint32_t next = dfa->next[(size_t)state * dfa->n_classes + class];
    *far = 0;
    if (c && next != DFA_NONE) *far = dfa_begins(c, state, next) + c->least[next] - c->least[state];
    return next;
}

// Whether no text of up to `bytes` bytes tells two states of the table apart, whatever the count.
static bool alike(Alike *x, uint32_t a, uint32_t b, uint32_t bytes) {
    const Dfa *dfa = x->dfa;
    if (a == b) return true;
    if (dfa->accepts[a] != dfa->accepts[b]) return false;
    LeafPair *pair = &x->pairs[(a * 31u + b) % LEAF_PAIRS];
    if (bytes == 0 || (pair->a == a && pair->b == b && pair->bytes >= bytes)) return true;
    *pair = (LeafPair){a, b, bytes}; // if it turns out otherwise, all is lost anyway
    x->steps += dfa->n_classes;
    if (x->steps > ALIKE_STEPS_MAX) return false;
    for (uint32_t c = 0; c < dfa->n_classes; c++) {
        uint32_t far_a, far_b;
        uint32_t next_a = table_step(dfa, a, c, &far_a), next_b = table_step(dfa, b, c, &far_b);
        if ((next_a == DFA_NONE) != (next_b == DFA_NONE) || far_a != far_b) return false;
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
    uint64_t *needs;
    uint32_t depths; // of a trie, and one more
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

// The same for a state of the table of an automaton that counts. w->needs gets what each token needs.
static uint32_t leaf_walk_counted(LeafWalk *w, uint32_t state, uint32_t plain, uint32_t *states) {
    const TokenTrie *trie = w->trie;
    const DfaCount *c = w->dfa->count;
    bool followed = !byte_set_is_empty(w->follow);
    uint32_t *begun = states + w->depths, *needs = begun + w->depths, n_nodes = 0;
    states[0] = state;
    begun[0] = needs[0] = 0;
    for (uint32_t i = 0; i < trie->n_nodes; n_nodes++) {
        TrieNode node = trie->nodes[i];
        uint32_t before = states[node.depth - 1];
        uint32_t next = w->dfa->next[(size_t)before * w->dfa->n_classes + w->dfa->class_of[node.byte]];
        i++;
        if (next == DFA_NONE || leaf_passes(w, &node, plain)) {
            i = node.end;
            continue;
        }
        uint32_t n_begun = begun[node.depth - 1] + dfa_begins(c, before, next),
                 far = n_begun + c->least[next];
        uint32_t need = far > c->least[state] ? far - c->least[state] : 0;
        need = (uint32_t)max_u64(need, needs[node.depth - 1]);
        if (need > c->most) {
            i = node.end;
            continue;
        }
        states[node.depth] = next;
        begun[node.depth] = n_begun;
        needs[node.depth] = need;
        if (w->which != LEAF_LONG || node.depth > TRIE_SHORT_BYTES) {
            for (uint32_t k = trie->firsts[i - 1]; node.token != TOKEN_NONE && k < trie->firsts[i]; k++)
                w->needs[w->n_tokens++] = (uint64_t)need << 32 | (uint32_t)trie->order[k];
            if (followed && w->dfa->accepts[next] && trie_goes_on(trie, i - 1, w->follow)) {
                w->exits[2 * w->n_exits] = i - 1;
                w->exits[2 * w->n_exits++ + 1] = need;
            }
        }
        if (w->which == LEAF_SHORT && node.depth == TRIE_SHORT_BYTES) i = node.end;
    }
    return n_nodes;
}

// Sorts the tokens by what they need; returns the end of the mask's data.
static uint32_t *leaf_sort_needs(LeafMask *mask, const uint64_t *needs) {
    uint32_t *ends = mask->data + 2 * mask->n_exits, n_words = mask->trie->n_words;
    for (uint32_t i = 0; i < mask->n_tokens; i++)
        mask->n_needs = (uint32_t)max_u64(mask->n_needs, (needs[i] >> 32) + 1);
    uint32_t *tokens = ends + mask->n_needs, *words = tokens + mask->n_tokens, n = 0;
    memset(ends, 0, mask->n_needs * sizeof *ends);
    for (uint32_t i = 0; i < mask->n_tokens; i++)
        ends[needs[i] >> 32]++;
    for (uint32_t need = 0; need < mask->n_needs; need++) { // where each need's tokens begin …
        uint32_t count = ends[need];
        ends[need] = n;
        n += count;
    }
    for (uint32_t i = 0; i < mask->n_tokens; i++) // … and then end
        tokens[ends[needs[i] >> 32]++] = (uint32_t)needs[i];
    uint32_t n_few = mask->n_needs ? ends[min_u64(LEAF_WORDS_NEED, mask->n_needs - 1)] : 0;
    mask->has_words = n_few > n_words / 8; // what takes about as long
    if (!mask->has_words) return words;
    memset(words, 0, n_words * sizeof *words);
    for (uint32_t i = 0; i < n_few; i++)
        words_add(words, (int32_t)tokens[i]);
    return words + n_words;
}

CPU_CLONES void words_join(uint32_t *words, const uint32_t *more, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        words[i] |= more[i];
}

void leaf_add(const TokenTrie *trie, const LeafMask *mask, uint32_t slack, uint32_t *words) {
    const uint32_t *ends = mask->data + (mask->counts ? 2 : 1) * mask->n_exits, *tokens = ends;
    uint32_t from = 0, to = mask->n_tokens;
    if (mask->n_tokens == UINT32_MAX) {
        words_join(words, tokens, trie->n_words);
        return;
    }
    if (mask->counts) {
        if (mask->n_needs == 0) return;
        tokens += mask->n_needs;
        to = ends[min_u64(slack, mask->n_needs - 1)];
        bool joins = mask->has_words && slack >= LEAF_WORDS_NEED;
        if (joins) from = ends[min_u64(LEAF_WORDS_NEED, mask->n_needs - 1)];
        if (joins) words_join(words, tokens + mask->n_tokens, trie->n_words);
    }
    for (uint32_t i = from; i < to; i++)
        words_add(words, (int32_t)tokens[i]);
}

static const LeafMask *leaf_make(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state,
                                 uint32_t plain, LeafTokens which) {
    // Where all plain tokens but the longest are decided, only rare ones are left. (A string took 1.3 ms and
    // takes 0.2.)
    const TokenTrie *trie = plain >= TRIE_PLAIN_MAX ? m->trie->rare : m->trie;
    LeafMask *mask = arena_alloc_dirty(&m->leaf_memory, 1, sizeof *mask, _Alignof(LeafMask));
    assert(mask);
    *mask = (LeafMask){.trie = trie, .counts = dfa->count != NULL};
    LeafWalk w = {.trie = trie, .dfa = dfa, .follow = &m->follow[number], .group_of = m->group_of};
    w.which = which;
    w.exits = mask->data;
    w.tokens = m->leaf_list;
    w.words = m->leaf_words;
    memset(w.loops, 0xFF, sizeof w.loops);
    for (int byte = 0; byte < 256; byte++)
        if (byte_set_has(w.follow, (uint8_t)byte)) w.follow_groups |= 1u << m->group_of[byte];
    uint32_t *end;
    if (mask->counts) {
        w.needs = m->leaf_needs;
        w.depths = m->trie->depth_max + 1;
        mask->work = leaf_walk_counted(&w, state, plain, m->walk) / NODES_A_STEP;
        mask->n_exits = w.n_exits;
        mask->n_tokens = w.n_tokens;
        end = leaf_sort_needs(mask, m->leaf_needs);
    } else {
        mask->work = leaf_walk(&w, state, plain, m->walk) / NODES_A_STEP;
        uint32_t n_data = w.is_set ? trie->n_words : w.n_tokens;
        memcpy(mask->data + w.n_exits, w.is_set ? w.words : w.tokens, n_data * sizeof *w.words);
        mask->n_exits = w.n_exits;
        mask->n_tokens = w.is_set ? UINT32_MAX : w.n_tokens;
        end = mask->data + w.n_exits + n_data;
    }
    m->leaf_memory.next = (uint8_t *)end;
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

// `known`: of plain tokens of up to so many characters nothing is said.
static LeafEntry leaf_find(GrammarMatcher *m, const Dfa *dfa, LeafEntry e, uint32_t known) {
    uint64_t h = ((uint64_t)(e.dfa * 2 + e.rare_only) << 32 | e.state) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 40) % m->leaves_max;
    for (; m->leaves[at].dfa != UINT32_MAX; at = (at + 1) % m->leaves_max) {
        const LeafEntry *found = &m->leaves[at];
        if (found->dfa == e.dfa && found->state == e.state && found->rare_only == e.rare_only)
            return leaf_counted(m, found);
    }
    if (arena_left(&m->leaf_memory) < m->leaf_bytes || m->n_leaves >= m->leaves_max / 2) {
        leaf_forget(m);
        at = (uint32_t)(h >> 40) % m->leaves_max;
    }
    if (dfa->n_states < ALIKE_STATES_MIN) e.parts[0] = leaf_make(m, dfa, e.dfa, e.state, known, LEAF_ALL);
    else leaf_make_parts(m, dfa, &e, known);
    m->n_leaves++;
    m->leaves[at] = e;
    return leaf_counted(m, &e);
}

LeafEntry leaf_entry(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state, bool rare_only) {
    LeafEntry e = {.dfa = number, .state = state, .rare_only = rare_only};
    PlainDepth plain = leaf_plain(m, dfa, number, state);
    if (!dfa->count) {
        // Longer ones are all refused where a bounded length ends: there is nothing to look at either. (The
        // last states of a text of at most 200 characters took 4 to 6 ms and take 0.2.)
        e.plain = plain.most;
        return leaf_find(m, dfa, e, rare_only ? TRIE_PLAIN_MAX : plain.ends ? TRIE_PLAIN_ANY : plain.most);
    }
    // Plain tokens are decided by their length, or walked through like all others.
    bool decided = !rare_only && (plain.ends || plain.most >= TRIE_PLAIN_MAX);
    e.state = state % dfa->n_states;
    e.rare_only = rare_only || decided;
    e = leaf_find(m, dfa, e, e.rare_only ? TRIE_PLAIN_MAX : 0);
    e.plain = decided ? (uint32_t)min_u64(plain.most, TRIE_PLAIN_MAX) : 0;
    e.slack = dfa->count->most - dfa->count->least[e.state] - state / dfa->n_states;
    return e;
}
