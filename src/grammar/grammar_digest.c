// What a compiled grammar says, as one number: a matcher that has been used with a grammar goes on with
// another one that says the same.
#include "grammar/grammar_compile.h"

#include "base/hash.h"

typedef struct {
    Sha256 hash;
    const Grammar *g;
    uint32_t *first; // [size] the leaf that came with an automaton first, at the hash of its address
    uint32_t size;
} Digest;

static void add(Digest *d, const void *data, size_t size) {
    if (size) sha256_add(&d->hash, data, size);
}

static void add_u32(Digest *d, uint32_t value) {
    add(d, &value, sizeof value);
}

// A table of states in as few bytes as they need: nearly all that is hashed is such tables. The number of
// states, which says how many, has been added before.
static void add_states(Digest *d, const uint32_t *next, size_t count, uint32_t n_states) {
    uint8_t small[1024];
    if (n_states >= UINT8_MAX) {
        add(d, next, count * sizeof *next);
        return;
    }
    for (size_t done = 0, part; done < count; done += part) {
        part = (size_t)min_u64(sizeof small, count - done);
        for (size_t i = 0; i < part; i++)
            small[i] = (uint8_t)next[done + i]; // DFA_NONE becomes 255
        add(d, small, part);
    }
}

// An automaton that leaves share is added with the first of them; the others name that one.
static void add_leaf(Digest *d, uint32_t id) {
    const Node *nodes = d->g->nodes;
    const Dfa *dfa = nodes[id].dfa;
    uint32_t at = (uint32_t)((uint64_t)(uintptr_t)dfa * 0x9E3779B97F4A7C15u >> 32) & (d->size - 1);
    while (d->first[at] && nodes[d->first[at]].dfa != dfa)
        at = (at + 1) & (d->size - 1);
    add_u32(d, d->first[at]);
    if (d->first[at]) return;
    d->first[at] = id;
    add_u32(d, dfa->n_states);
    add_u32(d, dfa->n_classes);
    add(d, dfa->class_of, sizeof dfa->class_of);
    add_states(d, dfa->next, (size_t)dfa->n_states * dfa->n_classes, dfa->n_states);
    add(d, dfa->accepts, dfa->n_states);
    add_u32(d, dfa->count ? dfa->count->most : UINT32_MAX);
}

static void add_members(Digest *d, const MembersNode *m) {
    const uint32_t head[] = {m->open,       m->colon, m->comma, m->close,     m->n_members, m->n_further,
                             m->n_required, m->min,   m->max,   m->any_order, m->has_needs, m->keeps_set};
    add(d, head, sizeof head);
    for (uint32_t i = 0; i < m->n_members; i++) {
        const GrammarMember *member = &m->members[i];
        const uint32_t of[] = {member->key, member->value, member->required, member->n_needs};
        add(d, of, sizeof of);
        add(d, member->needs, member->n_needs * sizeof *member->needs);
    }
    for (uint32_t i = 0; i < m->n_further; i++) {
        const uint32_t of[] = {m->further[i].key, m->further[i].value};
        add(d, of, sizeof of);
    }
}

static void add_items(Digest *d, const ItemsNode *n) {
    const uint32_t head[] = {n->open,     n->comma,  n->close,        n->rest.other,   n->rest.match,
                             n->min,      n->max,    n->contains_min, n->contains_max, n->n_prefix,
                             n->contains, n->places, n->matches,      n->need_all,     n->unique};
    add(d, head, sizeof head);
    for (uint32_t i = 0; i < n->n_prefix; i++) {
        const uint32_t of[] = {n->prefix[i].other, n->prefix[i].match};
        add(d, of, sizeof of);
    }
    if (!n->contains) return;
    size_t cells = (size_t)(n->places + 1) * (n->matches + 1);
    add(d, n->can_end, cells);
    add(d, n->can_end_shallow, cells);
}

// The rest follows from the objects.
static void add_objects(Digest *d, const ObjectsNode *o) {
    add_u32(d, o->count);
    add(d, o->objects, o->count * sizeof *o->objects);
}

static void add_node(Digest *d, uint32_t id) {
    const Node *n = &d->g->nodes[id];
    const uint32_t head[] = {n->kind, n->nullable, n->except, n->need, n->count, n->min, n->max};
    add(d, head, sizeof head);
    switch ((NodeKind)n->kind) {
    case NODE_LEAF: add_leaf(d, id); return;
    case NODE_TOKENS: add(d, n->tokens, n->count * sizeof *n->tokens); return;
    case NODE_SEQUENCE:
    case NODE_CHOICE: add(d, n->parts, n->count * sizeof *n->parts); return;
    case NODE_REPEAT:
    case NODE_RULE: add_u32(d, n->body); return;
    case NODE_MEMBERS: add_members(d, n->members); return;
    case NODE_ITEMS: add_items(d, n->items); return;
    case NODE_OBJECTS: add_objects(d, n->objects); return;
    case NODE_NEVER:
    case NODE_EMPTY: return;
    }
}

bool grammar_find_digest(Grammar *g, Arena scratch) {
    Digest d = {.g = g, .size = 4};
    while (d.size < 2 * g->n_nodes)
        d.size *= 2;
    d.first = arena_new(&scratch, uint32_t, d.size);
    if (!d.first) return false;
    sha256_begin(&d.hash);
    add_u32(&d, g->n_nodes);
    add_u32(&d, g->root);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        add_node(&d, i);
    add(&d, g->follow, g->n_nodes * sizeof *g->follow);
    sha256_end(&d.hash, g->digest);
    return true;
}
