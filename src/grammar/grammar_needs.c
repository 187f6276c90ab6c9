// Which nodes can complete, and how many frames that takes: Knuth's generalisation of Dijkstra's algorithm
// ("A generalization of Dijkstra's algorithm", 1977). Nodes are settled by rising need, so each is looked at
// once and each edge once.
#include "grammar/grammar_compile.h"

typedef struct {
    uint32_t node, next;
} Offer;

typedef struct {
    const GrammarBuilder *b;
    uint16_t *need;
    uint32_t *left;  // parts that have to be settled before the node can be
    uint32_t *could; // of an object: optional members that can be
    bool *further;   // … and whether further ones can
    uint16_t *most;  // of a sequence: the largest need so far
    uint32_t heads[GRAMMAR_DEPTH_MAX + 1];
    Offer *offers;
    uint32_t n_offers;
    uint8_t *cells; // for items_table
} Needs;

static void needs_offer(Needs *n, GrammarNode node, uint32_t need) {
    if (need > GRAMMAR_DEPTH_MAX || n->need[node] != NEED_NEVER) return;
    n->offers[n->n_offers] = (Offer){node, n->heads[need]};
    n->heads[need] = n->n_offers++;
}

// ---- arrays with items that they must contain ----

void items_table(const ItemsNode *items, const uint16_t *need, uint32_t need_max, uint8_t *cells) {
    uint32_t width = items->matches + 1;
    bool unbounded = items->max == GRAMMAR_UNBOUNDED, any_matches = items->contains_max == GRAMMAR_UNBOUNDED;
    for (uint32_t i = items->places + 1; i-- > 0;) {
        const GrammarItem *item = items_at(items, i);
        bool more = i < items->places || unbounded;
        bool other = more && need[item->other] <= need_max, match = more && need[item->match] <= need_max;
        uint8_t *row = cells + (size_t)i * width, *after = i < items->places ? row + width : row;
        for (uint32_t c = width; c-- > 0;) {
            bool room = c < items->matches || any_matches;
            uint32_t next = c < items->matches ? c + 1 : c;
            bool done = i >= items->min && c >= items->contains_min;
            bool by_other = other && after != row && after[c];
            bool by_match = match && room && (after != row || next != c) && after[next];
            row[c] = done || by_other || by_match;
        }
    }
}

static uint32_t items_mandatory(const ItemsNode *items) {
    return (uint32_t)min_u64(items->min, items->n_prefix) + (items->min > items->n_prefix);
}

// `place` counts others and matches in turn; those of the rest come last.
static void needs_settle_item(Needs *n, GrammarNode parent, const ItemsNode *items, uint32_t place,
                              uint32_t need) {
    if (items->contains) {
        items_table(items, n->need, need, n->cells);
        if (n->cells[0]) needs_offer(n, parent, need + 1);
        return;
    }
    bool mandatory = place / 2 < items->n_prefix ? place / 2 < items->min : items->min > items->n_prefix;
    if (place % 2 == 1 || !mandatory) return;
    if (--n->left[parent] == 0) needs_offer(n, parent, need + 1);
}

// ---- the other kinds ----

static void needs_settle_member(Needs *n, GrammarNode parent, const MembersNode *m, uint32_t place,
                                uint32_t need) {
    bool named = place < m->n_members;
    GrammarNode key = named ? m->members[place].key : m->further[place - m->n_members].key;
    if (key == GRAMMAR_NEVER || m->n_required > m->max) return;
    if (!named) n->further[parent] = true;
    else if (m->members[place].required) n->left[parent]--;
    else n->could[parent]++;
    // Optional members that need others may be too many together: then only further ones are counted on.
    bool few = !m->has_needs && m->n_required + n->could[parent] >= m->min;
    bool enough = n->further[parent] || few || m->n_required >= m->min;
    if (n->left[parent] == 0 && enough) needs_offer(n, parent, need + 1);
}

static void needs_settle_part(Needs *n, GrammarNode parent, uint32_t place, uint32_t need) {
    const Node *node = &n->b->nodes[parent];
    if (n->need[parent] != NEED_NEVER) return;
    switch ((NodeKind)node->kind) {
    case NODE_SEQUENCE: {
        uint32_t frames = need + (place + 1 < node->count);
        if (frames > n->most[parent]) n->most[parent] = (uint16_t)frames;
        if (--n->left[parent] == 0) needs_offer(n, parent, n->most[parent]);
        return;
    }
    case NODE_CHOICE:
    case NODE_RULE: needs_offer(n, parent, need); return;
    case NODE_REPEAT: needs_offer(n, parent, need + 1); return;
    case NODE_MEMBERS: needs_settle_member(n, parent, node->members, place, need); return;
    case NODE_ITEMS: needs_settle_item(n, parent, node->items, place, need); return;
    case NODE_NEVER:
    case NODE_EMPTY:
    case NODE_LEAF:
    case NODE_TOKENS:
    case NODE_OBJECTS: return;
    }
}

static void needs_begin_node(Needs *n, GrammarNode id) {
    const Node *node = &n->b->nodes[id];
    switch ((NodeKind)node->kind) {
    case NODE_EMPTY:
    case NODE_LEAF:
    case NODE_TOKENS: needs_offer(n, id, 0); return;
    case NODE_SEQUENCE: n->left[id] = node->count; return;
    case NODE_REPEAT:
        if (node->min == 0) needs_offer(n, id, 0);
        return;
    case NODE_MEMBERS:
        n->left[id] = node->members->n_required;
        if (n->left[id] == 0 && node->members->min == 0) needs_offer(n, id, 1);
        return;
    case NODE_ITEMS:
        n->left[id] = items_mandatory(node->items);
        if (node->items->min == 0 && node->items->contains_min == 0) needs_offer(n, id, 1);
        return;
    case NODE_NEVER:
    case NODE_CHOICE:
    case NODE_RULE:
    case NODE_OBJECTS: return;
    }
}

bool needs_find(const GrammarBuilder *b, const NodeEdges *edges, uint16_t *need, Arena scratch,
                GrammarNode *unsupported) {
    Needs n = {.b = b, .need = need};
    n.left = arena_new(&scratch, uint32_t, b->n_nodes);
    n.could = arena_new(&scratch, uint32_t, b->n_nodes);
    n.further = arena_new(&scratch, bool, b->n_nodes);
    n.most = arena_new(&scratch, uint16_t, b->n_nodes);
    n.offers = arena_new(&scratch, Offer, (uint64_t)b->n_nodes + edges->first[b->n_nodes]);
    n.cells = arena_new(&scratch, uint8_t, GRAMMAR_CONTAINS_CELLS);
    if (!n.left || !n.could || !n.further || !n.most || !n.offers || !n.cells) return false;
    memset(n.heads, 0xFF, sizeof n.heads);
    for (uint32_t i = 0; i < b->n_nodes; i++)
        n.need[i] = NEED_NEVER;
    for (uint32_t i = 0; i < b->n_nodes; i++)
        needs_begin_node(&n, i);
    for (uint32_t now = 0; now <= GRAMMAR_DEPTH_MAX; now++) {
        while (n.heads[now] != UINT32_MAX) {
            Offer offer = n.offers[n.heads[now]];
            n.heads[now] = offer.next;
            if (need[offer.node] != NEED_NEVER) continue;
            need[offer.node] = (uint16_t)now;
            for (uint32_t e = edges->first[offer.node]; e < edges->first[offer.node + 1]; e++)
                needs_settle_part(&n, edges->to[e].parent, edges->to[e].place, now);
        }
    }
    for (uint32_t i = 0; i < b->n_nodes; i++) {
        const MembersNode *m = b->nodes[i].members;
        if (b->nodes[i].kind == NODE_MEMBERS && m->has_needs && need[i] == NEED_NEVER && n.left[i] == 0 &&
            m->n_required <= m->max && m->n_required + n.could[i] >= m->min)
            *unsupported = i;
    }
    return true;
}
