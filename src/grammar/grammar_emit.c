// The compiled grammar: a copy of the nodes that can be reached and can complete, without alternatives,
// members and items that cannot be.
#include "grammar/grammar_compile.h"
#include "grammar/lang_internal.h"

typedef struct {
    const GrammarBuilder *b;
    const uint16_t *need;
    Arena *arena;
    GrammarNode *to; // [n_nodes] of the builder's nodes: the copy, or GRAMMAR_NEVER
    GrammarNode *queue;
    uint32_t n_queue;
    LangMaker *work;
    bool full; // the arena
    bool over; // *err is set
    Error *err;
} Emit;

static bool emit_can(const Emit *e, GrammarNode node) {
    return e->need[node] != NEED_NEVER;
}

static void emit_reach(Emit *e, GrammarNode node) {
    if (!emit_can(e, node) || e->to[node] != GRAMMAR_NEVER || node <= GRAMMAR_EMPTY) return;
    e->to[node] = 2 + e->n_queue;
    e->queue[e->n_queue++] = node;
}

static void emit_reach_children(Emit *e, const Node *node) {
    GrammarNode child;
    for (uint32_t place = 0; node_child(node, place, &child); place++)
        emit_reach(e, child);
    if (node->kind == NODE_MEMBERS) {
        const MembersNode *m = node->members;
        emit_reach(e, m->open), emit_reach(e, m->colon), emit_reach(e, m->comma), emit_reach(e, m->close);
        for (uint32_t i = 0; i < m->n_members; i++)
            emit_reach(e, m->members[i].key);
        for (uint32_t i = 0; i < m->n_further; i++)
            emit_reach(e, m->further[i].key);
    } else if (node->kind == NODE_ITEMS) {
        emit_reach(e, node->items->open), emit_reach(e, node->items->comma);
        emit_reach(e, node->items->close);
    }
}

static void *emit_alloc(Emit *e, uint64_t count, uint64_t size) {
    void *memory = arena_alloc(e->arena, count, size, 8);
    e->full = e->full || !memory;
    return memory;
}

static void emit_parts(Emit *e, const Node *from, Node *to) {
    GrammarNode *parts = emit_alloc(e, from->count, sizeof *parts);
    if (!parts) return;
    to->count = 0;
    for (uint32_t i = 0; i < from->count; i++)
        if (emit_can(e, from->parts[i])) parts[to->count++] = e->to[from->parts[i]];
    to->parts = parts;
}

static void emit_dfa(Emit *e, const Dfa *from, Node *to) {
    uint64_t cells = (uint64_t)from->n_states * from->n_classes;
    Dfa *dfa = emit_alloc(e, 1, sizeof *dfa);
    uint32_t *next = emit_alloc(e, cells, sizeof *next);
    uint8_t *accepts = emit_alloc(e, from->n_states, 1);
    if (e->full) return;
    *dfa = *from;
    dfa->next = memcpy(next, from->next, cells * sizeof *next);
    dfa->accepts = memcpy(accepts, from->accepts, from->n_states);
    to->dfa = dfa;
}

// ---- members ----

// index[i]: the place of member i among those that can be, or UINT32_MAX. Returns how many can.
static uint32_t emit_choose_members(Emit *e, const MembersNode *m, uint32_t *index) {
    for (uint32_t i = 0; i < m->n_members; i++) {
        bool can = m->members[i].key != GRAMMAR_NEVER && emit_can(e, m->members[i].value);
        index[i] = can ? 0 : UINT32_MAX;
    }
    for (bool changed = m->has_needs; changed && !e->over;) {
        changed = false;
        for (uint32_t i = 0; i < m->n_members && !e->over; i++) {
            e->over = !lang_work(e->work, 1ull + m->members[i].n_needs, e->err);
            for (uint32_t k = 0; index[i] == 0 && k < m->members[i].n_needs; k++) {
                if (index[m->members[i].needs[k]] == 0) continue;
                index[i] = UINT32_MAX;
                changed = true;
            }
        }
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_members; i++)
        if (index[i] == 0) index[i] = n++;
    return n;
}

static void emit_copy_members(Emit *e, const MembersNode *from, MembersNode *to) {
    uint32_t index[GRAMMAR_MEMBERS_MAX];
    to->n_members = emit_choose_members(e, from, index);
    to->members = emit_alloc(e, to->n_members, sizeof *to->members);
    to->further = emit_alloc(e, from->n_further, sizeof *to->further);
    to->has_needs = false;
    if (e->full) return;
    for (uint32_t i = 0; i < from->n_members; i++) {
        const GrammarMember *member = &from->members[i];
        if (index[i] == UINT32_MAX) continue;
        uint32_t *needs = emit_alloc(e, member->n_needs, sizeof *needs);
        if (!needs) return;
        for (uint32_t k = 0; k < member->n_needs; k++)
            needs[k] = index[member->needs[k]];
        to->has_needs = to->has_needs || (member->n_needs > 0 && !member->required);
        to->members[index[i]] = (GrammarMember){.key = e->to[member->key],
                                                .value = e->to[member->value],
                                                .required = member->required,
                                                .needs = needs,
                                                .n_needs = member->n_needs};
    }
    to->n_further = 0;
    for (uint32_t i = 0; i < from->n_further; i++) {
        const GrammarFurther *further = &from->further[i];
        if (further->key == GRAMMAR_NEVER || !emit_can(e, further->value)) continue;
        to->further[to->n_further++] = (GrammarFurther){e->to[further->key], e->to[further->value]};
    }
}

static void emit_members(Emit *e, const MembersNode *from, Node *node) {
    MembersNode *to = emit_alloc(e, 1, sizeof *to);
    if (!to) return;
    *to = *from;
    to->open = e->to[from->open];
    to->colon = e->to[from->colon];
    to->comma = e->to[from->comma];
    to->close = e->to[from->close];
    emit_copy_members(e, from, to);
    if (to->min <= to->n_required) to->min = 0;
    if (to->n_further == 0 && to->max >= to->n_members) to->max = GRAMMAR_UNBOUNDED;
    to->keeps_set =
        (to->any_order && to->n_members > 0) || to->has_needs || to->min > 0 || to->max != GRAMMAR_UNBOUNDED;
    node->members = to;
}

// ---- items ----

static const uint8_t *emit_table(Emit *e, const ItemsNode *items, uint32_t need_max) {
    uint8_t *cells = emit_alloc(e, items->places + 1ull, items->matches + 1ull);
    if (cells) items_table(items, e->need, need_max, cells);
    return cells;
}

static void emit_items(Emit *e, const ItemsNode *from, Node *node) {
    ItemsNode *to = emit_alloc(e, 1, sizeof *to);
    if (!to) return;
    *to = *from;
    // A place where nothing can stand ends the array before it.
    for (uint32_t i = 0; i <= from->n_prefix && i < to->max; i++) {
        const GrammarItem *item = items_at(from, i);
        bool other = emit_can(e, item->other), match = from->contains && emit_can(e, item->match);
        if (!other && !match) to->max = i;
        if (other && e->need[item->other] > to->need_all) to->need_all = e->need[item->other];
        if (match && e->need[item->match] > to->need_all) to->need_all = e->need[item->match];
    }
    to->n_prefix = (uint32_t)min_u64(to->n_prefix, to->max);
    to->places = to->max == GRAMMAR_UNBOUNDED ? (uint32_t)max_u64(to->n_prefix, to->min) : to->max;
    if (to->contains) {
        to->can_end = emit_table(e, to, GRAMMAR_DEPTH_MAX);
        to->can_end_shallow = emit_table(e, to, node->need - 1u);
    }
    to->prefix = emit_alloc(e, to->n_prefix, sizeof *to->prefix);
    if (e->full) return;
    for (uint32_t i = 0; i < to->n_prefix; i++)
        to->prefix[i] = (GrammarItem){e->to[from->prefix[i].other], e->to[from->prefix[i].match]};
    to->rest = (GrammarItem){e->to[from->rest.other], e->to[from->rest.match]};
    to->open = e->to[from->open];
    to->comma = e->to[from->comma];
    to->close = e->to[from->close];
    node->items = to;
}

static void emit_node(Emit *e, GrammarNode id, Node *to) {
    const Node *from = &e->b->nodes[id];
    *to = *from;
    to->need = e->need[id];
    switch ((NodeKind)from->kind) {
    case NODE_TOKENS: {
        int32_t *tokens = emit_alloc(e, from->count, sizeof *tokens);
        if (tokens) memcpy(tokens, from->tokens, from->count * sizeof *tokens);
        to->tokens = tokens;
        return;
    }
    case NODE_SEQUENCE:
    case NODE_CHOICE: emit_parts(e, from, to); return;
    case NODE_REPEAT:
        if (!emit_can(e, from->body)) to->kind = NODE_EMPTY;
        to->body = e->to[from->body];
        return;
    case NODE_RULE: to->body = e->to[from->body]; return;
    case NODE_MEMBERS: emit_members(e, from->members, to); return;
    case NODE_ITEMS: emit_items(e, from->items, to); return;
    case NODE_LEAF:
        if (from->own_dfa) emit_dfa(e, from->dfa, to);
        return;
    case NODE_NEVER:
    case NODE_EMPTY:
    case NODE_OBJECTS: return;
    }
}

// Names of what a text may be read as in several ways; those of others are the builder's, and go.
static void emit_names(Emit *e, Node *nodes, uint32_t n_nodes) {
    for (uint32_t i = 0; i < n_nodes; i++) {
        Node *node = &nodes[i];
        bool keeps = node->kind == NODE_CHOICE || node->kind == NODE_MEMBERS;
        char *name = keeps && node->name ? emit_alloc(e, node->name_bytes, 1) : NULL;
        if (name) memcpy(name, node->name, node->name_bytes);
        node->name = name;
    }
}

bool grammar_emit(GrammarBuilder *b, GrammarNode root, const uint16_t *need, Arena *arena, Arena scratch,
                  Grammar *out, Error *err) {
    Emit e = {.b = b, .need = need, .arena = arena, .to = arena_new(&scratch, GrammarNode, b->n_nodes)};
    e.queue = arena_new(&scratch, GrammarNode, b->n_nodes);
    e.work = &b->work;
    e.err = err;
    Node *nodes = NULL;
    if (e.to && e.queue) {
        e.to[GRAMMAR_EMPTY] = GRAMMAR_EMPTY;
        emit_reach(&e, root);
        for (uint32_t q = 0; q < e.n_queue; q++)
            emit_reach_children(&e, &b->nodes[e.queue[q]]);
        nodes = arena_new(arena, Node, e.n_queue + 2ull);
    }
    if (!nodes) return error_set(err, ERR_NO_MEMORY, "no memory for a grammar of %u nodes", b->n_nodes);
    nodes[GRAMMAR_EMPTY].kind = NODE_EMPTY;
    for (uint32_t q = 0; q < e.n_queue && !e.full && !e.over; q++)
        emit_node(&e, e.queue[q], &nodes[q + 2]);
    if (e.over) return false;
    if (e.full) return error_set(err, ERR_NO_MEMORY, "no memory for a grammar of %u nodes", b->n_nodes);
    *out = (Grammar){.nodes = nodes, .n_nodes = e.n_queue + 2, .root = e.to[root]};
    if (!grammar_check_beginnings(out, nodes, scratch, err)) return false;
    emit_names(&e, nodes, out->n_nodes);
    return !e.full || error_set(err, ERR_NO_MEMORY, "no memory for a grammar of %u nodes", b->n_nodes);
}
