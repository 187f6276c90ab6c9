// States that no token tells apart. A token has a bounded number of bytes, so what has been counted does not
// matter while every bound is further away than that: behind 3 items of an array and behind 300, of at most
// 1,000, the same may come. Such states have one mask, that of the state nearest to the bounds.
#include "grammar/grammar_matcher_internal.h"

// States of more readings have no mask in common: their stacks would take longer.
enum { NEAR_READINGS_MAX = 16 };

// The turn or the item that is open may end without a byte, and another one may begin.
static uint32_t near_turns(const GrammarMatcher *m) {
    return m->trie->depth_max + 2;
}

// A count whose next bound is `min`, or behind that `max`: the nearest one that is still far from it.
static uint32_t near_count(const GrammarMatcher *m, uint32_t count, uint32_t min, uint32_t max) {
    uint32_t bound = count < min ? min : max, turns = near_turns(m);
    bool is_far = bound != GRAMMAR_UNBOUNDED && (uint64_t)count + turns < bound;
    return is_far ? bound - turns : count;
}

static uint32_t near_at(const GrammarMatcher *m, const Frame *frame) {
    const Node *node = &m->g->nodes[frame->node];
    if (node->kind == NODE_REPEAT) return near_count(m, frame->at, node->min, node->max);
    if (node->kind != NODE_ITEMS || node->items->contains) return frame->at;
    uint32_t count = frame_index(frame);
    if (count < node->items->n_prefix) return frame->at;
    return frame_at(frame_phase(frame), near_count(m, count, node->items->min, node->items->max));
}

// POOL_NONE: no room.
static uint32_t near_stack(GrammarMatcher *m, uint32_t stack) {
    if (stack == 0) return 0;
    Frame f = m->pool.frames[stack];
    uint32_t parent = near_stack(m, f.parent), at = near_at(m, &f);
    if (parent == POOL_NONE || (parent == f.parent && at == f.at))
        return parent == POOL_NONE ? parent : stack;
    return pool_frame(&m->pool, parent, f.node, at, f.set);
}

static uint32_t near_leaf(const GrammarMatcher *m, const Dfa *dfa, uint32_t state) {
    const DfaCount *c = dfa->count;
    if (!c) return state;
    uint64_t count = state / dfa->n_states, far = (uint64_t)near_turns(m) + c->least_max;
    return count + far < c->most ? state % dfa->n_states + (uint32_t)(c->most - far) * dfa->n_states : state;
}

// The reading within the state near to its own. False: no room.
static bool near_reading(GrammarMatcher *m, Reading *r) {
    const Node *node = &m->g->nodes[r->node];
    if (node->kind == NODE_LEAF) r->dfa_state = near_leaf(m, node->dfa, r->dfa_state);
    r->stack = near_stack(m, r->stack);
    return r->stack != POOL_NONE;
}

GrammarState state_near(GrammarMatcher *m, GrammarState state) {
    Reading readings[NEAR_READINGS_MAX];
    PoolState s = m->pool.states[state];
    PoolCounts mark = pool_mark(&m->pool);
    uint32_t n = 0, near = POOL_NONE;
    bool room = true;
    // Items that must differ stand on the stack: all of it matters.
    if (s.count > NEAR_READINGS_MAX || m->g->texts_left) return state;
    for (uint32_t i = 0; i < s.count && room; i++) {
        Reading r = m->pool.readings[s.first + i];
        uint32_t like = 0;
        room = near_reading(m, &r);
        while (like < n && memcmp(&readings[like], &r, sizeof r))
            like++;
        if (like == n) readings[n++] = r;
    }
    if (room) near = pool_state(&m->pool, readings, n, s.may_end);
    if (near == POOL_NONE) pool_rewind(&m->pool, mark);
    return near == POOL_NONE ? state : near;
}
