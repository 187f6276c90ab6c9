#include "grammar/grammar_compile.h"
#include "grammar/grammar_unique.h"
#include "grammar/lang_internal.h"

bool node_child(const Node *node, uint32_t place, GrammarNode *child) {
    *child = GRAMMAR_NEVER;
    switch ((NodeKind)node->kind) {
    case NODE_SEQUENCE:
    case NODE_CHOICE:
        if (place >= node->count) return false;
        *child = node->parts[place];
        return true;
    case NODE_REPEAT:
    case NODE_RULE: *child = node->body; return place == 0;
    case NODE_MEMBERS: {
        const MembersNode *m = node->members;
        if (place >= m->n_members + m->n_further) return false;
        *child = place < m->n_members ? m->members[place].value : m->further[place - m->n_members].value;
        return true;
    }
    case NODE_ITEMS: {
        const ItemsNode *items = node->items;
        if (place / 2 > items->n_prefix) return false;
        const GrammarItem *item = items_at(items, place / 2);
        *child = place % 2 ? item->match : item->other;
        return true;
    }
    case NODE_OBJECTS:
        if (place >= node->objects->count) return false;
        *child = node->objects->objects[place];
        return true;
    case NODE_NEVER:
    case NODE_EMPTY:
    case NODE_LEAF:
    case NODE_TOKENS: return false;
    }
    return false;
}

bool node_edges(const Node *nodes, uint32_t n_nodes, Arena *arena, NodeEdges *out) {
    GrammarNode child;
    out->first = arena_new(arena, uint32_t, (uint64_t)n_nodes + 1);
    if (!out->first) return false;
    uint32_t *first = out->first;
    for (uint32_t i = 0; i < n_nodes; i++)
        for (uint32_t place = 0; node_child(&nodes[i], place, &child); place++)
            first[child + 1]++;
    for (uint32_t i = 0; i < n_nodes; i++)
        first[i + 1] += first[i];
    out->to = arena_alloc(arena, first[n_nodes], sizeof *out->to, _Alignof(uint32_t));
    if (!out->to) return false;
    // Filled from behind: first[i + 1], the end of node i's edges, moves to their beginning.
    uint32_t n_edges = first[n_nodes];
    for (uint32_t i = n_nodes; i-- > 0;) {
        for (uint32_t place = 0; node_child(&nodes[i], place, &child); place++) {
            uint32_t at = --first[child + 1];
            out->to[at].parent = i;
            out->to[at].place = place;
        }
    }
    for (uint32_t i = 0; i < n_nodes; i++)
        first[i] = first[i + 1];
    first[n_nodes] = n_edges;
    return true;
}

// ---- an empty language ----

// The part of a node that keeps it from completing; the node itself where none does alone.
static GrammarNode part_at_fault(const GrammarBuilder *b, GrammarNode id, const uint16_t *need) {
    const Node *node = &b->nodes[id];
    GrammarNode child;
    for (uint32_t place = 0; node_child(node, place, &child); place++) {
        bool mandatory = node->kind != NODE_MEMBERS ||
                         (place < node->members->n_members && node->members->members[place].required);
        if (node->kind == NODE_ITEMS)
            mandatory = place % 2 == 0 && place / 2 < node->items->min && !node->items->contains;
        if (mandatory && need[child] == NEED_NEVER) return child;
    }
    return id;
}

// Why a node cannot complete though each of its parts can.
static const char *reason_of(const GrammarBuilder *b, const Node *node) {
    switch ((NodeKind)node->kind) {
    case NODE_MEMBERS: return "no object has the members it asks for";
    case NODE_ITEMS: return "no array has the items it asks for";
    case NODE_SEQUENCE:
    case NODE_REPEAT:
    case NODE_RULE: return "each text of it would hold another one, without end";
    default: return b->merges ? "it asks for a character that is none" : "no value meets all that it says";
    }
}

static bool grammar_refuse_empty(const GrammarBuilder *b, GrammarNode root, const uint16_t *need,
                                 Error *err) {
    GrammarNode named = GRAMMAR_NEVER, at = root;
    // As many steps as there are nodes may go in circles, through rules that only begin themselves again.
    for (uint32_t steps = 0; steps < b->n_nodes; steps++) {
        if (b->nodes[at].name) named = at;
        GrammarNode next = part_at_fault(b, at, need);
        if (next == at) break;
        at = next;
    }
    const Node *node = &b->nodes[named];
    Str name = node->name ? (Str){node->name, node->name_bytes} : STR("the grammar");
    return error_set(err, ERR_INVALID_REQUEST, "no text matches %.*s: %s", STR_ARG(name),
                     reason_of(b, &b->nodes[at]));
}

// ---- rules that begin with themselves ----

// The place-th child that the node may begin with.
static bool node_beginning(const Node *nodes, const Node *node, uint32_t place, GrammarNode *child) {
    if (node->kind == NODE_MEMBERS || node->kind == NODE_ITEMS) return false;
    if (node->kind == NODE_SEQUENCE && place > 0 && place < node->count &&
        !nodes[node->parts[place - 1]].nullable)
        return false;
    return node_child(node, place, child);
}

static bool find_nullable(Node *nodes, uint32_t n_nodes, Arena scratch) {
    NodeEdges edges;
    uint32_t *left = arena_new(&scratch, uint32_t, n_nodes), *queue = arena_new(&scratch, uint32_t, n_nodes);
    uint32_t n_queue = 0;
    if (!left || !queue || !node_edges(nodes, n_nodes, &scratch, &edges)) return false;
    for (uint32_t i = 0; i < n_nodes; i++) {
        const Node *node = &nodes[i];
        left[i] = node->kind == NODE_SEQUENCE ? node->count : 1;
        if (node->kind == NODE_EMPTY || (node->kind == NODE_LEAF && node->dfa->accepts[0]) ||
            (node->kind == NODE_REPEAT && node->min == 0))
            left[i] = 0, queue[n_queue++] = i;
    }
    for (uint32_t q = 0; q < n_queue; q++) {
        nodes[queue[q]].nullable = true;
        for (uint32_t e = edges.first[queue[q]]; e < edges.first[queue[q] + 1]; e++) {
            uint32_t parent = edges.to[e].parent;
            if (nodes[parent].kind == NODE_MEMBERS || nodes[parent].kind == NODE_ITEMS) continue;
            if (left[parent] > 0 && --left[parent] == 0) queue[n_queue++] = parent;
        }
    }
    // Empty repetitions count as many as it takes.
    for (uint32_t i = 0; i < n_nodes; i++)
        if (nodes[i].kind == NODE_REPEAT && nodes[nodes[i].body].nullable) nodes[i].min = 0;
    return true;
}

static bool refuse_beginning(const Grammar *g, const uint32_t *path, uint32_t depth, Error *err) {
    const Node *rule = &g->nodes[path[depth - 1]];
    for (uint32_t i = depth; i-- > 0 && !rule->name;)
        rule = &g->nodes[path[i]];
    if (!rule->name) return error_set(err, ERR_INVALID_REQUEST, "a rule begins with itself");
    return error_set(err, ERR_INVALID_REQUEST, "%.*s begins with itself (left recursion)",
                     (int)rule->name_bytes, rule->name);
}

bool grammar_check_beginnings(Grammar *g, Node *nodes, Arena scratch, Error *err) {
    uint32_t *path = arena_new(&scratch, uint32_t, g->n_nodes);
    uint32_t *place = arena_new(&scratch, uint32_t, g->n_nodes);
    uint8_t *seen = arena_new(&scratch, uint8_t, g->n_nodes); // 1: on the path, 2: done
    if (!path || !place || !seen || !find_nullable(nodes, g->n_nodes, scratch))
        return error_set(err, ERR_NO_MEMORY, "no memory to check a grammar of %u nodes", g->n_nodes);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        uint32_t depth = 0;
        if (!seen[i]) path[depth++] = i, seen[i] = 1;
        while (depth > 0) {
            uint32_t at = path[depth - 1];
            GrammarNode child;
            if (!node_beginning(nodes, &nodes[at], place[at], &child)) {
                seen[at] = 2;
                depth--;
                continue;
            }
            place[at]++;
            if (seen[child] == 1) return refuse_beginning(g, path, depth, err);
            if (seen[child] == 0) path[depth++] = child, seen[child] = 1;
        }
    }
    return true;
}

static bool grammar_refuse_members(const Node *node, Error *err) {
    return error_set(
        err, ERR_UNSUPPORTED,
        "%.*s%sa least number of members together with members that need others is not supported",
        (int)node->name_bytes, node->name ? node->name : "", node->name ? ": " : "");
}

bool grammar_compile(GrammarBuilder *b, GrammarNode root, Arena *arena, Arena scratch, const Grammar **out,
                     Error *err) {
    if (!grammar_builder_ok(b)) {
        *err = b->err;
        return false;
    }
    // Some ten passes over all nodes and parts.
    if (!lang_work(&b->work, 10 * ((uint64_t)b->n_nodes + b->n_parts), err)) return false;
    Grammar *g = arena_new(arena, Grammar, 1);
    NodeEdges edges;
    GrammarNode unsupported = GRAMMAR_NEVER;
    uint16_t *need = arena_new(&scratch, uint16_t, b->n_nodes);
    if (!g || !need || !node_edges(b->nodes, b->n_nodes, &scratch, &edges) ||
        !needs_find(b, &edges, need, scratch, &unsupported))
        return error_set(err, ERR_NO_MEMORY, "no memory for a grammar of %u nodes", b->n_nodes);
    if (unsupported != GRAMMAR_NEVER) return grammar_refuse_members(&b->nodes[unsupported], err);
    if (need[root] == NEED_NEVER) return grammar_refuse_empty(b, root, need, err);
    if (!grammar_emit(b, root, need, arena, scratch, g, err)) return false;
    if (!grammar_join_objects(g, &b->work, arena, scratch, err)) return false;
    if (b->merges && !grammar_merge(g, &b->work, arena, scratch, err)) return false;
    if (!grammar_find_follow(g, &b->work, arena, scratch, err)) return false;
    if (!unique_find_texts(g, arena, scratch) || !grammar_find_digest(g, scratch))
        return error_set(err, ERR_NO_MEMORY, "no memory for a grammar of %u nodes", b->n_nodes);
    *out = g;
    return true;
}
