// Which tokens may come next. Most of a vocabulary's tokens stay within one leaf, and whether they do depends
// on the leaf's automaton alone: that is found by one walk through the trie for each state of an automaton,
// and kept. Only tokens that go on behind the end of a leaf are looked at with all that is around it.
#include "grammar/grammar_unique.h"

#include <assert.h>

uint64_t mask_bytes_min(const Grammar *g, const TokenTrie *trie) {
    uint64_t words = trie->n_words * sizeof(uint32_t);
    uint64_t leaf = leaf_bytes_min(g, trie) + trie->n_tokens * sizeof(uint64_t);
    return (MASKS_MIN + 3) * (words + sizeof(MaskSlot)) + leaf + 2 * (1u << 15) * sizeof(uint32_t) +
           (LEAF_ENTRIES + LEAF_MODELS) * sizeof(LeafEntry) + LEAF_PAIRS * sizeof(LeafPair) +
           PLAIN_ENTRIES * sizeof(PlainEntry) + WALK_STEPS * sizeof(WalkStep) +
           3 * (trie->depth_max + 1ull) * sizeof(uint32_t) + 4096;
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

bool mask_init(GrammarMatcher *m, Arena *arena) {
    const TokenTrie *trie = m->trie;
    m->slot_of = arena_new(arena, uint32_t, m->pool.max.states);
    m->near_of = arena_new_dirty(arena, uint32_t, m->pool.max.states);
    m->dfa_of = arena_new(arena, uint32_t, m->g->n_nodes);
    m->follow = arena_new(arena, ByteSet, m->g->n_nodes);
    m->models = arena_new(arena, LeafEntry, LEAF_MODELS);
    m->pairs = arena_new_dirty(arena, LeafPair, LEAF_PAIRS);
    m->walk = arena_new(arena, uint32_t, 3 * (trie->depth_max + 1ull));
    m->steps = arena_new(arena, WalkStep, WALK_STEPS);
    if (!m->slot_of || !m->near_of || !m->dfa_of || !m->follow || !m->models || !m->pairs || !m->walk ||
        !m->steps || !plain_init(&m->plain, arena) || !leaf_init(m, arena))
        return false;
    memset(m->near_of, 0xFF, m->pool.max.states * sizeof *m->near_of);
    m->leaf_bytes = leaf_bytes_min(m->g, trie);
    if (!mask_number_automata(m, *arena)) return false;
    // A third of what is left is for masks of states, the rest for those of leaves.
    uint64_t slot_bytes = sizeof(MaskSlot) + trie->n_words * sizeof(uint32_t);
    uint64_t slots = min_u64(MASKS_MAX, max_u64(MASKS_MIN, arena_left(arena) / 3 / slot_bytes));
    m->n_slots = (uint32_t)slots;
    m->slots = arena_new_dirty(arena, MaskSlot, slots);
    m->masks = arena_new_dirty(arena, uint32_t, slots * trie->n_words);
    if (!m->slots || !m->masks || arena_left(arena) < m->leaf_bytes) return false;
    m->leaf_all = *arena;
    arena->next = arena->end;
    for (uint32_t i = 0; i < m->n_slots; i++)
        m->slots[i] = (MaskSlot){.state = GRAMMAR_REFUSED,
                                 .older = (i + m->n_slots - 1) % m->n_slots,
                                 .newer = (i + 1) % m->n_slots};
    leaf_forget(m);
    for (int byte = 0; byte < 256; byte++)
        m->group_of[byte] = (uint8_t)byte_group((uint8_t)byte);
    return true;
}

// The slot that has a state's mask; n_slots: none.
static uint32_t mask_slot(const GrammarMatcher *m, GrammarState state) {
    return m->slots[m->slot_of[state]].state == state ? m->slot_of[state] : m->n_slots;
}

// The state whose mask it has.
static GrammarState mask_state(GrammarMatcher *m, GrammarState state) {
    if (m->near_of[state] == GRAMMAR_REFUSED) m->near_of[state] = state_near(m, state);
    return m->near_of[state];
}

// One state that is kept has the mask from then on, whatever state had it, and the others have that one's.
void mask_begin_keep(GrammarMatcher *m, GrammarState *states[], uint32_t count) {
    assert(count <= GRAMMAR_READINGS_MAX);
    for (uint32_t i = 0; i < m->n_slots; i++)
        m->slots[i].keeper = 0;
    for (uint32_t i = 0; i < count; i++) {
        GrammarState near = m->near_of[*states[i]];
        uint32_t slot = near == GRAMMAR_REFUSED ? m->n_slots : mask_slot(m, near);
        if (slot < m->n_slots) m->slots[slot].keeper = i + 1;
        m->readings[i].node = slot;
    }
    memset(m->near_of, 0xFF, m->pool.max.states * sizeof *m->near_of);
}

void mask_end_keep(GrammarMatcher *m, GrammarState *states[], uint32_t count) {
    for (uint32_t i = 0; i < m->n_slots; i++) {
        MaskSlot *slot = &m->slots[i];
        slot->state = slot->keeper ? *states[slot->keeper - 1] : GRAMMAR_REFUSED;
        if (slot->keeper) m->slot_of[slot->state] = i;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = m->readings[i].node;
        if (slot < m->n_slots) m->near_of[*states[i]] = m->slots[slot].state;
    }
}

// ---- behind a leaf's end ----

static GrammarState walk_byte(GrammarMatcher *m, GrammarState state, uint8_t byte) {
    WalkStep *step = &m->steps[(state * 257u + byte) % WALK_STEPS];
    bool is_known = step->stamp == m->stamp && step->state == state && step->byte == byte;
    if (!is_known || (step->needs_item && !m->step.has_any)) {
        m->step.needs_item = false;
        GrammarState next = matcher_step_byte(m, state, byte);
        *step = (WalkStep){m->stamp, state, next, byte, m->step.needs_item};
    }
    m->step.needs_item = step->needs_item;
    return step->next;
}

// Adds the tokens that go on behind this node of the trie as `state` does. False: GRAMMAR_FULL, or too much
// work; or, with m->step.needs_item, it depends on an item of which `state` does not say which one it is.
static bool walk_below(GrammarMatcher *m, const TokenTrie *trie, uint32_t exit, GrammarState state,
                       uint32_t *words) {
    uint32_t *states = m->walk;
    states[trie->nodes[exit].depth] = state;
    for (uint32_t i = exit + 1; i < trie->nodes[exit].end;) {
        TrieNode node = trie->nodes[i];
        GrammarState next = walk_byte(m, states[node.depth - 1], node.byte);
        if (next == GRAMMAR_FULL || m->step.work > m->work_end || m->step.needs_item) return false;
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

// Whether two readings are in the same state of the same automaton, on whatever stacks. Within an item that
// must differ from others the stack counts.
static bool is_same_leaf(const GrammarMatcher *m, const Reading *a, const Reading *b) {
    if (m->dfa_of[a->node] != m->dfa_of[b->node] || a->dfa_state != b->dfa_state) return false;
    return a->stack == b->stack || (!unique_is_item(&m->step, a) && !unique_is_item(&m->step, b));
}

// What follows when the leaf of a state's reading has ended, on all stacks that the state has it on.
static GrammarState state_behind(GrammarMatcher *m, GrammarState state, uint32_t reading) {
    PoolState s = m->pool.states[state];
    Reading leaf = m->pool.readings[s.first + reading];
    step_begin(&m->step);
    for (uint32_t i = reading; i < s.count; i++) {
        Reading r = m->pool.readings[s.first + i];
        if (m->g->nodes[r.node].kind == NODE_LEAF && is_same_leaf(m, &leaf, &r))
            step_return(&m->step, r.stack, true);
    }
    step_close(&m->step);
    return step_state(&m->step);
}

// How much plain text any of a state's readings takes. False where longer ones may be taken in part.
static bool plain_behind(GrammarMatcher *m, GrammarState state, uint32_t *most) {
    PoolState s = grammar_is_state(state) ? m->pool.states[state] : (PoolState){0};
    bool ends = true;
    *most = 0;
    for (uint32_t i = 0; i < s.count; i++) {
        Reading r = m->pool.readings[s.first + i];
        if (m->g->nodes[r.node].kind != NODE_LEAF) continue;
        bool is_item = unique_is_item(&m->step, &r);
        ends &= !is_item;
        if (is_item) continue;
        PlainDepth plain = leaf_plain(m, m->g->nodes[r.node].dfa, m->dfa_of[r.node], r.dfa_state);
        *most = (uint32_t)max_u64(*most, plain.most);
        ends &= plain.ends;
    }
    return ends || *most == TRIE_PLAIN_ANY;
}

// A long string is cut in chunks, and near the end of one all longer plain tokens go on in the next. Where it
// is known how many characters any plain text may have there, too, they need not be read one by one. (That
// took 23 ms.) Gives the characters, or 0.
static uint32_t plain_across(GrammarMatcher *m, GrammarState state, uint32_t reading, GrammarState *behind) {
    Reading r = m->pool.readings[m->pool.states[state].first + reading];
    PlainDepth here = leaf_plain(m, m->g->nodes[r.node].dfa, m->dfa_of[r.node], r.dfa_state);
    uint32_t more;
    if (!here.exits) return 0;
    *behind = state_behind(m, state, reading);
    if (*behind == GRAMMAR_FULL) return 0;
    bool decided = plain_behind(m, *behind, &more);
    uint32_t most = here.most + 1 + more;
    if (most < TRIE_PLAIN_MAX && !decided) return 0;
    return (uint32_t)min_u64(most, TRIE_PLAIN_MAX);
}

// Of a state's reading. The first one of a mask finds words that mean nothing yet.
static bool mask_add_leaf(GrammarMatcher *m, GrammarState state, uint32_t reading, uint32_t *words) {
    Reading r = m->pool.readings[m->pool.states[state].first + reading];
    GrammarState behind = GRAMMAR_REFUSED;
    bool is_first = reading == 0;
    uint32_t across = plain_across(m, state, reading, &behind);
    LeafEntry leaf = leaf_entry(m, m->g->nodes[r.node].dfa, m->dfa_of[r.node], r.dfa_state, across > 0);
    if (m->step.work > m->work_end) return false;
    uint32_t n_plain = across ? across : leaf.plain;
    const uint32_t *plain = n_plain ? token_trie_plain(m->trie, n_plain) : NULL;
    if (is_first && plain) memcpy(words, plain, m->trie->n_words * sizeof *words);
    else if (is_first) memset(words, 0, m->trie->n_words * sizeof *words);
    else if (plain) words_join(words, plain, m->trie->n_words);
    for (int part = 0; part < 2; part++) {
        const LeafMask *mask = leaf.parts[part];
        if (!mask) continue;
        leaf_add(m->trie, mask, leaf.slack, words);
        if (mask->n_exits == 0) continue;
        if (behind == GRAMMAR_REFUSED) behind = state_behind(m, state, reading);
        if (behind == GRAMMAR_FULL) return false;
        if (!grammar_is_state(behind) || m->pool.states[behind].count == 0) continue;
        for (uint32_t i = 0, exit; i < mask->n_exits; i++) {
            bool counts = leaf_exit(mask, i, leaf.slack, &exit);
            if (counts && !walk_below(m, mask->trie, exit, behind, words)) return false;
        }
    }
    return true;
}

// Adds the tokens that end an item, which must differ from others, and go on behind it. `behind`: any item.
static bool mask_add_behind_item(GrammarMatcher *m, const Reading *r, const LeafMask *mask, uint32_t slack,
                                 GrammarState behind, uint32_t *words) {
    const TokenTrie *trie = mask->trie;
    for (uint32_t i = 0, exit; i < mask->n_exits; i++) {
        if (!leaf_exit(mask, i, slack, &exit)) continue;
        Str token = m->trie->pieces[trie->order[trie->firsts[exit]]]; // the first one that goes that way
        Str rest = str_slice(token, 0, trie->nodes[exit].depth);
        if (unique_is_used(m, r, rest)) continue;
        m->step.has_any = true;
        m->step.needs_item = false;
        bool done = walk_below(m, trie, exit, behind, words), needs_item = m->step.needs_item;
        m->step.has_any = m->step.needs_item = false;
        if (!done && !needs_item) return false;
        if (!needs_item) continue;
        GrammarState exact = unique_behind(m, r, rest);
        if (exact == GRAMMAR_FULL) return false;
        if (grammar_is_state(exact) && !walk_below(m, trie, exit, exact, words)) return false;
    }
    return true;
}

// Within an item that must differ from others, what stays in the leaf depends on those before.
static bool mask_add_item(GrammarMatcher *m, const Reading *r, uint32_t *words) {
    LeafEntry leaf = leaf_entry(m, m->g->nodes[r->node].dfa, m->dfa_of[r->node], r->dfa_state, false);
    uint32_t *own = m->item_words, n_words = m->trie->n_words;
    if (leaf.plain) memcpy(own, token_trie_plain(m->trie, leaf.plain), n_words * sizeof *own);
    else memset(own, 0, n_words * sizeof *own);
    for (int part = 0; part < 2; part++)
        if (leaf.parts[part]) leaf_add(m->trie, leaf.parts[part], leaf.slack, own);
    unique_remove_used(m, r, own);
    GrammarState behind = unique_behind_any(m, r);
    if (behind == GRAMMAR_FULL) return false;
    for (int part = 0; part < 2 && grammar_is_state(behind); part++)
        if (leaf.parts[part] && !mask_add_behind_item(m, r, leaf.parts[part], leaf.slack, behind, own))
            return false;
    words_join(words, own, n_words);
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

// Whether an earlier reading has said all of this one.
static bool is_known_leaf(const GrammarMatcher *m, GrammarState state, uint32_t reading) {
    const Reading *r = m->pool.readings + m->pool.states[state].first;
    for (uint32_t i = 0; i < reading; i++)
        if (m->g->nodes[r[i].node].kind == NODE_LEAF && is_same_leaf(m, &r[i], &r[reading])) return true;
    return false;
}

static bool mask_fill(GrammarMatcher *m, GrammarState state, uint32_t *words) {
    PoolState s = m->pool.states[state];
    const Reading *first = &m->pool.readings[s.first];
    bool begins_with_leaf =
        s.count && m->g->nodes[first->node].kind == NODE_LEAF && !unique_is_item(&m->step, first);
    if (!begins_with_leaf) memset(words, 0, m->trie->n_words * sizeof *words);
    if (++m->stamp == 0) {
        memset(m->steps, 0, WALK_STEPS * sizeof *m->steps);
        m->stamp = 1;
    }
    for (uint32_t i = 0; i < s.count; i++) {
        Reading r = m->pool.readings[s.first + i];
        const Node *node = &m->g->nodes[r.node];
        if (node->kind == NODE_LEAF && unique_is_item(&m->step, &r)) {
            if (!mask_add_item(m, &r, words)) return false;
            continue;
        }
        if (node->kind == NODE_LEAF) {
            if (!is_known_leaf(m, state, i) && !mask_add_leaf(m, state, i, words)) return false;
            continue;
        }
        mask_add_named(m->trie, node, words);
    }
    for (uint32_t i = 0; s.may_end && i < m->trie->n_end_tokens; i++)
        words_add(words, m->trie->end_tokens[i]);
    return true;
}

static void mask_become_newest(GrammarMatcher *m, uint32_t slot) {
    if (slot == m->newest) return;
    MaskSlot *s = &m->slots[slot], *newest = &m->slots[m->newest];
    m->slots[s->older].newer = s->newer;
    m->slots[s->newer].older = s->older;
    s->older = m->newest;
    s->newer = newest->newer;
    m->slots[s->newer].older = slot;
    newest->newer = slot;
    m->newest = slot;
}

const uint32_t *grammar_mask(GrammarMatcher *m, GrammarState state) {
    assert(state < m->pool.n.states);
    m->figures.masks++;
    state = mask_state(m, state);
    uint32_t slot = mask_slot(m, state);
    if (slot == m->n_slots) {
        slot = m->slots[m->newest].newer;
        PoolCounts mark = pool_mark(&m->pool);
        uint64_t before = m->step.work;
        m->slots[slot].state = GRAMMAR_REFUSED;
        m->work_end = before + GRAMMAR_MASK_WORK_MAX;
        bool filled = mask_fill(m, state, m->masks + (size_t)slot * m->trie->n_words);
        pool_rewind(&m->pool, mark);
        m->mask_work = (uint32_t)(m->step.work - before);
        if (!filled) return NULL;
        m->slots[slot].work = m->mask_work;
        m->slots[slot].state = state;
        m->slot_of[state] = slot;
    } else m->figures.masks_cached++;
    mask_become_newest(m, slot);
    m->mask_work = m->slots[slot].work;
    return m->masks + (size_t)slot * m->trie->n_words;
}

uint32_t grammar_mask_work(const GrammarMatcher *m) {
    return m->mask_work;
}

uint32_t grammar_masks_kept(const GrammarMatcher *m) {
    return m->n_slots;
}
