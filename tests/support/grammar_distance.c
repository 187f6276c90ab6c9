#include "grammar_distance.h"

struct GrammarDistance {
    const GrammarMatcher *m;
    uint64_t *least; // [n_nodes] bytes of a shortest text
};

enum { FAR = 1 << 20 };

// From a state of an automaton to the nearest end, by walking from there.
static uint64_t dfa_distance(const Dfa *dfa, uint32_t from) {
    static uint32_t queue[4096], far[4096];
    uint32_t n = 1;
    queue[0] = dfa->count ? from % dfa->n_states : from; // whatever has been counted
    far[0] = 0;
    for (uint32_t q = 0; q < n; q++) {
        if (dfa->accepts[queue[q]]) return far[q];
        for (uint32_t c = 0; c < dfa->n_classes; c++) {
            uint32_t next = dfa->next[queue[q] * dfa->n_classes + c];
            bool is_new = next != DFA_NONE && n < COUNT_OF(queue);
            for (uint32_t i = 0; i < n && is_new; i++)
                is_new = queue[i] != next;
            if (is_new) queue[n] = next, far[n++] = far[q] + 1;
        }
    }
    return FAR;
}

static uint64_t members_least(const GrammarDistance *d, const MembersNode *m) {
    uint64_t sum = d->least[m->open] + d->least[m->close];
    for (uint32_t i = 0; i < m->n_members; i++)
        if (m->members[i].required)
            sum += d->least[m->members[i].key] + d->least[m->members[i].value] + d->least[m->comma] +
                   d->least[m->colon];
    return sum;
}

static uint64_t items_least(const GrammarDistance *d, const ItemsNode *items) {
    uint64_t sum = d->least[items->open] + d->least[items->close];
    for (uint32_t i = 0; i < items->min || i < items->contains_min; i++) {
        const GrammarItem *item = items_at(items, i);
        sum += d->least[items->comma] + min_u64(d->least[item->other], d->least[item->match]);
    }
    return sum;
}

static uint64_t node_least(const GrammarDistance *d, const Node *node) {
    uint64_t sum = 0, least = FAR;
    switch ((NodeKind)node->kind) {
    case NODE_NEVER: return FAR;
    case NODE_EMPTY: return 0;
    case NODE_TOKENS: return 1;
    case NODE_LEAF: return dfa_distance(node->dfa, 0);
    case NODE_SEQUENCE:
        for (uint32_t i = 0; i < node->count; i++)
            sum += d->least[node->parts[i]];
        return sum;
    case NODE_CHOICE:
        for (uint32_t i = 0; i < node->count; i++)
            least = min_u64(least, d->least[node->parts[i]]);
        return least;
    case NODE_REPEAT: return node->min * d->least[node->body];
    case NODE_RULE: return d->least[node->body];
    case NODE_MEMBERS: return members_least(d, node->members);
    case NODE_ITEMS: return items_least(d, node->items);
    case NODE_OBJECTS:
        for (uint32_t i = 0; i < node->objects->count; i++)
            least = min_u64(least, d->least[node->objects->objects[i]]);
        return least;
    }
    return FAR;
}

GrammarDistance *grammar_distance_new(const GrammarMatcher *m, Arena *arena) {
    GrammarDistance *d = arena_new(arena, GrammarDistance, 1);
    *d = (GrammarDistance){.m = m, .least = arena_new(arena, uint64_t, m->g->n_nodes)};
    for (uint32_t i = 0; i < m->g->n_nodes; i++)
        d->least[i] = FAR;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < m->g->n_nodes; i++) {
            uint64_t least = min_u64(FAR, node_least(d, &m->g->nodes[i]));
            changed = changed || least < d->least[i];
            d->least[i] = least;
        }
    }
    return d;
}

// What is left of the node behind the part that is open above it.
static uint64_t frame_left(const GrammarDistance *d, const Frame *frame) {
    const Node *node = &d->m->g->nodes[frame->node];
    uint64_t sum = 0;
    if (node->kind == NODE_ITEMS && frame_phase(frame) == AT_BYTE) return 0; // its array's frame is below
    switch ((NodeKind)node->kind) {
    case NODE_SEQUENCE:
        for (uint32_t i = frame->at + 1; i < node->count; i++)
            sum += d->least[node->parts[i]];
        return sum;
    case NODE_REPEAT:
        return frame->at + 1 < node->min ? (node->min - frame->at - 1) * d->least[node->body] : 0;
    case NODE_MEMBERS: return members_least(d, node->members);
    case NODE_ITEMS: return items_least(d, node->items);
    case NODE_OBJECTS: return node_least(d, node);
    default: return 0;
    }
}

uint64_t grammar_distance(const GrammarDistance *d, GrammarState state) {
    const Pool *pool = &d->m->pool;
    const PoolState *s = &pool->states[state];
    uint64_t least = s->may_end ? 0 : FAR;
    for (uint32_t i = 0; i < s->count; i++) {
        const Reading *r = &pool->readings[s->first + i];
        const Node *leaf = &d->m->g->nodes[r->node];
        uint64_t far = leaf->kind == NODE_LEAF ? dfa_distance(leaf->dfa, r->dfa_state) : 1;
        for (uint32_t f = r->stack; f != 0; f = pool->frames[f].parent)
            far += frame_left(d, &pool->frames[f]);
        least = min_u64(least, far);
    }
    return least;
}
