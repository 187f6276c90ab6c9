// Which tokens may come next. Most of a vocabulary's tokens stay within one leaf, and whether they do depends
// on the leaf's automaton alone: that is found by one walk through the trie for each state of an automaton,
// and kept. Only tokens that go on behind the end of a leaf are looked at with all that is around it.
#include "grammar/grammar_matcher_internal.h"

#include <assert.h>

static void words_add(uint32_t *words, int32_t token) {
    words[token >> 5] |= 1u << (token & 31);
}

CPU_CLONES static void words_join(uint32_t *words, const uint32_t *more, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        words[i] |= more[i];
}

uint64_t mask_bytes_min(const TokenTrie *trie) {
    uint64_t words = trie->n_words * sizeof(uint32_t);
    uint64_t leaf = sizeof(LeafMask) + words + trie->n_nodes * sizeof(uint32_t);
    return (MASKS_MIN + 3) * (words + sizeof(MaskSlot)) + leaf + (1u << 15) * sizeof(uint32_t) +
           LEAF_ENTRIES * sizeof(LeafEntry) + PLAIN_ENTRIES * sizeof(PlainEntry) +
           WALK_STEPS * sizeof(WalkStep) + (trie->depth_max + 1ull) * sizeof(uint32_t) + 4096;
}

// Numbers for automata: equal for leaves with the same one.
static bool mask_number_automata(GrammarMatcher *m, Arena scratch) {
    uint32_t size = 4, n_nodes = m->g->n_nodes;
    while (size < 2 * n_nodes)
        size *= 2;
    uint32_t *first = arena_new(&scratch, uint32_t, size); // the leaf that came with an automaton first
    if (!first) return false;
    for (uint32_t i = 2; i < n_nodes; i++) {
        if (m->g->nodes[i].kind != NODE_LEAF) continue;
        uint64_t h = (uint64_t)(uintptr_t)m->g->nodes[i].dfa * 0x9E3779B97F4A7C15u;
        uint32_t at = (uint32_t)(h >> 32) & (size - 1);
        while (first[at] && m->g->nodes[first[at]].dfa != m->g->nodes[i].dfa)
            at = (at + 1) & (size - 1);
        if (!first[at]) first[at] = i;
        m->dfa_of[i] = first[at];
        byte_set_join(&m->follow[first[at]], &m->g->follow[i]);
    }
    return true;
}

static void leaf_forget(GrammarMatcher *m) {
    memset(m->leaves, 0xFF, LEAF_ENTRIES * sizeof *m->leaves);
    m->n_leaves = 0;
    m->leaf_memory = m->leaf_all;
}

bool mask_init(GrammarMatcher *m, Arena *arena) {
    const TokenTrie *trie = m->trie;
    m->slot_of = arena_new(arena, uint32_t, m->pool.max.states);
    m->dfa_of = arena_new(arena, uint32_t, m->g->n_nodes);
    m->follow = arena_new(arena, ByteSet, m->g->n_nodes);
    m->leaves = arena_new_dirty(arena, LeafEntry, LEAF_ENTRIES);
    m->leaf_words = arena_new(arena, uint32_t, trie->n_words);
    m->leaf_list = arena_new(arena, uint32_t, trie->n_words);
    m->walk = arena_new(arena, uint32_t, trie->depth_max + 1ull);
    m->steps = arena_new(arena, WalkStep, WALK_STEPS);
    if (!m->slot_of || !m->dfa_of || !m->follow || !m->leaves || !m->leaf_words || !m->leaf_list ||
        !m->walk || !m->steps || !plain_init(&m->plain, arena))
        return false;
    if (!mask_number_automata(m, *arena)) return false;
    // A third of what is left is for masks of states, the rest for those of leaves.
    uint64_t slot_bytes = sizeof(MaskSlot) + trie->n_words * sizeof(uint32_t);
    uint64_t leaf = sizeof(LeafMask) + (trie->n_words + (uint64_t)trie->n_nodes) * sizeof(uint32_t) + 64;
    uint64_t slots = min_u64(MASKS_MAX, max_u64(MASKS_MIN, arena_left(arena) / 3 / slot_bytes));
    m->n_slots = (uint32_t)slots;
    m->slots = arena_new(arena, MaskSlot, slots);
    m->masks = arena_new_dirty(arena, uint32_t, slots * trie->n_words);
    if (!m->slots || !m->masks || arena_left(arena) < leaf) return false;
    m->leaf_all = *arena;
    arena->next = arena->end;
    for (uint32_t i = 0; i < m->n_slots; i++)
        m->slots[i].state = GRAMMAR_REFUSED;
    leaf_forget(m);
    for (int byte = 0; byte < 256; byte++)
        m->group_of[byte] = (uint8_t)byte_group((uint8_t)byte);
    return true;
}

void mask_forget_states(GrammarMatcher *m) {
    for (uint32_t i = 0; i < m->n_slots; i++)
        m->slots[i] = (MaskSlot){.state = GRAMMAR_REFUSED};
}

// ---- leaves ----

// What a walk through the trie has found: tokens as a list while they are few.
typedef struct {
    uint32_t state, groups;
} LeafLoops;

enum { LEAF_LOOPS = 64 };

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

// Plain tokens of up to `plain` characters are known already. Where a state goes round with every byte
// that is below a node, all tokens there stay within the leaf. (At 151,669 tokens: a leaf of letters, digits
// and marks took 4.7 ms and takes 1.3; text up to "<tool_call>" took 6.4 ms and takes 1.6.)
static void leaf_walk(LeafWalk *w, uint32_t state, uint32_t plain, uint32_t *states) {
    const TokenTrie *trie = w->trie;
    bool followed = !byte_set_is_empty(w->follow);
    states[0] = state;
    for (uint32_t i = 0; i < trie->n_nodes;) {
        TrieNode node = trie->nodes[i];
        uint32_t before = states[node.depth - 1], next = dfa_step(w->dfa, before, node.byte);
        if (next == DFA_NONE || (!node.other && node.plain <= plain)) {
            i = node.end;
            continue;
        }
        bool exits = followed && w->dfa->accepts[next];
        uint32_t below = trie->below[i];
        if (next == before && !(exits && below & w->follow_groups) && !(below & ~leaf_loops(w, next))) {
            leaf_add_tokens(w, trie->firsts[i], trie->firsts[node.end]);
            i = node.end;
            continue;
        }
        states[node.depth] = next;
        if (node.token != TOKEN_NONE) leaf_add_tokens(w, trie->firsts[i], trie->firsts[i + 1]);
        if (exits && trie_goes_on(trie, i, w->follow)) w->exits[w->n_exits++] = i;
        i++;
    }
}

static LeafMask *leaf_make(GrammarMatcher *m, const Dfa *dfa, uint32_t number, uint32_t state) {
    const TokenTrie *trie = m->trie;
    uint64_t most = sizeof(LeafMask) + (trie->n_nodes + (uint64_t)trie->n_words) * sizeof(uint32_t) + 16;
    if (arena_left(&m->leaf_memory) < most || m->n_leaves > LEAF_ENTRIES / 2) leaf_forget(m);
    LeafMask *mask = arena_alloc_dirty(&m->leaf_memory, 1, sizeof *mask, _Alignof(LeafMask));
    assert(mask);
    LeafWalk w = {.trie = trie, .dfa = dfa, .follow = &m->follow[number], .group_of = m->group_of};
    w.exits = mask->data;
    w.tokens = m->leaf_list;
    w.words = m->leaf_words;
    memset(w.loops, 0xFF, sizeof w.loops);
    for (int byte = 0; byte < 256; byte++)
        if (byte_set_has(w.follow, (uint8_t)byte)) w.follow_groups |= 1u << m->group_of[byte];
    mask->plain = plain_depth(&m->plain, dfa, number, state, !byte_set_is_empty(w.follow));
    leaf_walk(&w, state, mask->plain, m->walk);
    uint32_t n_data = w.is_set ? trie->n_words : w.n_tokens;
    memcpy(mask->data + w.n_exits, w.is_set ? w.words : w.tokens, n_data * sizeof *w.words);
    mask->n_exits = w.n_exits;
    mask->n_tokens = w.is_set ? UINT32_MAX : w.n_tokens;
    m->leaf_memory.next = (uint8_t *)(mask->data + w.n_exits + n_data);
    m->figures.leaf_masks++;
    return mask;
}

static const LeafMask *leaf_mask(GrammarMatcher *m, const Reading *r) {
    uint32_t dfa = m->dfa_of[r->node];
    uint64_t h = ((uint64_t)dfa << 32 | r->dfa_state) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(h >> 40) % LEAF_ENTRIES;
    while (m->leaves[at].dfa != UINT32_MAX) {
        if (m->leaves[at].dfa == dfa && m->leaves[at].state == r->dfa_state) return m->leaves[at].mask;
        at = (at + 1) % LEAF_ENTRIES;
    }
    LeafMask *mask = leaf_make(m, m->g->nodes[r->node].dfa, dfa, r->dfa_state);
    if (m->n_leaves++ == 0) at = (uint32_t)(h >> 40) % LEAF_ENTRIES; // all others were forgotten
    m->leaves[at] = (LeafEntry){.dfa = dfa, .state = r->dfa_state, .mask = mask};
    return mask;
}

// ---- behind a leaf's end ----

static GrammarState walk_byte(GrammarMatcher *m, GrammarState state, uint8_t byte) {
    WalkStep *step = &m->steps[(state * 257u + byte) % WALK_STEPS];
    if (step->stamp != m->stamp || step->state != state || step->byte != byte)
        *step = (WalkStep){m->stamp, state, byte, matcher_step_byte(m, state, byte)};
    return step->next;
}

// Adds the tokens that go on behind this node of the trie as `state` does. False: GRAMMAR_FULL.
static bool walk_below(GrammarMatcher *m, uint32_t exit, GrammarState state, uint32_t *words) {
    const TokenTrie *trie = m->trie;
    uint32_t *states = m->walk;
    states[trie->nodes[exit].depth] = state;
    for (uint32_t i = exit + 1; i < trie->nodes[exit].end;) {
        TrieNode node = trie->nodes[i];
        GrammarState next = walk_byte(m, states[node.depth - 1], node.byte);
        if (next == GRAMMAR_FULL) return false;
        if (!grammar_is_state(next)) {
            i = node.end;
            continue;
        }
        states[node.depth] = next;
        for (int32_t token = node.token; token != TOKEN_NONE; token = trie->same[token])
            words_add(words, token);
        i++;
    }
    return true;
}

// What follows when the leaf on this stack has ended.
static GrammarState state_behind(GrammarMatcher *m, uint32_t stack) {
    step_begin(&m->step);
    step_return(&m->step, stack, true);
    step_close(&m->step);
    return step_state(&m->step);
}

static bool mask_add_leaf(GrammarMatcher *m, const Reading *r, uint32_t *words) {
    const LeafMask *mask = leaf_mask(m, r);
    const uint32_t *tokens = mask->data + mask->n_exits;
    if (mask->plain) words_join(words, token_trie_plain(m->trie, mask->plain), m->trie->n_words);
    if (mask->n_tokens == UINT32_MAX) {
        words_join(words, tokens, m->trie->n_words);
    } else {
        for (uint32_t i = 0; i < mask->n_tokens; i++)
            words_add(words, (int32_t)tokens[i]);
    }
    if (mask->n_exits == 0) return true;
    GrammarState behind = state_behind(m, r->stack);
    if (!grammar_is_state(behind) || m->pool.states[behind].count == 0) return behind != GRAMMAR_FULL;
    for (uint32_t i = 0; i < mask->n_exits; i++)
        if (!walk_below(m, mask->data[i], behind, words)) return false;
    return true;
}

// ---- states ----

static void mask_add_named(const TokenTrie *trie, const Node *node, uint32_t *words) {
    uint32_t next = 0;
    for (uint32_t token = 0; node->except && token < trie->n_named; token++) {
        while (next < node->count && node->tokens[next] < (int32_t)token)
            next++;
        bool named = next < node->count && node->tokens[next] == (int32_t)token;
        if (!named && !token_trie_is_end(trie, (int32_t)token)) words_add(words, (int32_t)token);
    }
    for (uint32_t k = 0; !node->except && k < node->count; k++)
        words_add(words, node->tokens[k]);
}

static bool mask_fill(GrammarMatcher *m, GrammarState state, uint32_t *words) {
    PoolState s = m->pool.states[state];
    memset(words, 0, m->trie->n_words * sizeof *words);
    if (++m->stamp == 0) {
        memset(m->steps, 0, WALK_STEPS * sizeof *m->steps);
        m->stamp = 1;
    }
    for (uint32_t i = 0; i < s.count; i++) {
        Reading r = m->pool.readings[s.first + i];
        const Node *node = &m->g->nodes[r.node];
        if (node->kind == NODE_LEAF) {
            if (!mask_add_leaf(m, &r, words)) return false;
            continue;
        }
        mask_add_named(m->trie, node, words);
    }
    for (uint32_t i = 0; s.may_end && i < m->trie->n_end_tokens; i++)
        words_add(words, m->trie->end_tokens[i]);
    return true;
}

const uint32_t *grammar_mask(GrammarMatcher *m, GrammarState state) {
    assert(state < m->pool.n.states);
    m->figures.masks++;
    uint32_t slot = m->slot_of[state];
    if (m->slots[slot].state != state) {
        slot = 0;
        for (uint32_t i = 1; i < m->n_slots; i++)
            if (m->slots[i].used < m->slots[slot].used) slot = i;
        PoolCounts mark = pool_mark(&m->pool);
        m->slots[slot] = (MaskSlot){.state = GRAMMAR_REFUSED};
        bool filled = mask_fill(m, state, m->masks + (size_t)slot * m->trie->n_words);
        pool_rewind(&m->pool, mark);
        if (!filled) return NULL;
        m->slots[slot].state = state;
        m->slot_of[state] = slot;
    } else m->figures.masks_cached++;
    m->slots[slot].used = ++m->uses;
    return m->masks + (size_t)slot * m->trie->n_words;
}
