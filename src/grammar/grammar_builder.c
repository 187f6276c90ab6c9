#include "grammar/grammar_unique.h"

#include <assert.h>

enum { BUILDER_FIRST_NODES = 64 };

GrammarBuilder *grammar_builder_new(Arena *arena) {
    GrammarBuilder *b = arena_new(arena, GrammarBuilder, 1);
    Node *nodes = b ? arena_new(arena, Node, BUILDER_FIRST_NODES) : NULL;
    if (!nodes) return NULL;
    nodes[GRAMMAR_EMPTY].kind = NODE_EMPTY;
    *b = (GrammarBuilder){.arena = arena, .nodes = nodes, .n_nodes = 2, .nodes_cap = BUILDER_FIRST_NODES};
    b->work.work_max = GRAMMAR_COMPILE_WORK_MAX;
    return b;
}

bool grammar_builder_ok(const GrammarBuilder *b) {
    return b->err.code == ERR_NONE;
}

GrammarNode grammar_fail(GrammarBuilder *b, const Error *err) {
    if (grammar_builder_ok(b)) b->err = *err;
    return GRAMMAR_NEVER;
}

#define BUILDER_FAIL(b, code, ...)                                        \
    do {                                                                  \
        Error builder_err = {0};                                          \
        error_fill(&builder_err, (code), ERROR_NO_POSITION, __VA_ARGS__); \
        return grammar_fail((b), &builder_err);                           \
    } while (0)

static GrammarNode builder_no_memory(GrammarBuilder *b) {
    BUILDER_FAIL(b, ERR_NO_MEMORY, "no memory for a grammar of %u nodes", b->n_nodes);
}

static GrammarNode builder_add(GrammarBuilder *b, Node node) {
    if (!grammar_builder_ok(b)) return GRAMMAR_NEVER;
    if (b->n_nodes == GRAMMAR_NODES_MAX)
        BUILDER_FAIL(b, ERR_TOO_LARGE, "the grammar has more than %u nodes", GRAMMAR_NODES_MAX);
    if (b->n_nodes == b->nodes_cap) {
        Node *grown = arena_new(b->arena, Node, 2 * (uint64_t)b->nodes_cap);
        if (!grown) return builder_no_memory(b);
        memcpy(grown, b->nodes, b->n_nodes * sizeof *grown);
        b->nodes = grown;
        b->nodes_cap *= 2;
    }
    b->nodes[b->n_nodes] = node;
    return b->n_nodes++;
}

// A copy of `count` elements of which at least one is counted as a part; NULL after a failure.
static void *builder_copy(GrammarBuilder *b, const void *from, uint64_t count, uint64_t size) {
    if (!grammar_builder_ok(b)) return NULL;
    if (count > GRAMMAR_PARTS_MAX - b->n_parts) {
        Error err = {0};
        error_fill(&err, ERR_TOO_LARGE, ERROR_NO_POSITION, "the grammar's nodes have more than %u parts",
                   GRAMMAR_PARTS_MAX);
        grammar_fail(b, &err);
        return NULL;
    }
    void *copy = arena_alloc(b->arena, count, size, 8);
    if (!copy) {
        builder_no_memory(b);
        return NULL;
    }
    if (count) memcpy(copy, from, count * size);
    b->n_parts += (uint32_t)count;
    return copy;
}

static bool builder_knows(GrammarBuilder *b, GrammarNode node) {
    assert(node < b->n_nodes || !grammar_builder_ok(b));
    return node < b->n_nodes;
}

// ---- leaves ----

GrammarNode grammar_add_dfa(GrammarBuilder *b, const Dfa *dfa) {
    if (dfa->n_states == 0) return GRAMMAR_NEVER;
    return builder_add(b, (Node){.kind = NODE_LEAF, .dfa = dfa});
}

GrammarNode grammar_add_literal(GrammarBuilder *b, Str bytes) {
    if (!grammar_builder_ok(b)) return GRAMMAR_NEVER;
    if (bytes.len == 0) return GRAMMAR_EMPTY;
    Dfa *dfa = arena_new(b->arena, Dfa, 1);
    if (!dfa) return builder_no_memory(b);
    Error err;
    if (!dfa_from_bytes(bytes, b->arena, dfa, &err)) return grammar_fail(b, &err);
    return builder_add(b, (Node){.kind = NODE_LEAF, .dfa = dfa, .own_dfa = true});
}

static GrammarNode builder_add_markers(GrammarBuilder *b, const Str *markers, uint32_t count, bool until) {
    if (!grammar_builder_ok(b)) return GRAMMAR_NEVER;
    Dfa *dfa = arena_new(b->arena, Dfa, 1);
    if (!dfa) return builder_no_memory(b);
    Error err;
    if (!dfa_from_markers(markers, count, until, b->arena, dfa, &err)) return grammar_fail(b, &err);
    return builder_add(b, (Node){.kind = NODE_LEAF, .dfa = dfa, .own_dfa = true});
}

GrammarNode grammar_add_text_until(GrammarBuilder *b, const Str *markers, uint32_t count) {
    return count ? builder_add_markers(b, markers, count, true) : GRAMMAR_NEVER;
}

GrammarNode grammar_add_text_without(GrammarBuilder *b, const Str *markers, uint32_t count) {
    return builder_add_markers(b, markers, count, false);
}

GrammarNode grammar_add_texts(GrammarBuilder *b, const Str *texts, uint32_t count) {
    if (!grammar_builder_ok(b) || count == 0) return GRAMMAR_NEVER;
    Dfa *dfa = arena_new(b->arena, Dfa, 1);
    if (!dfa) return builder_no_memory(b);
    Error err;
    if (!dfa_from_texts(texts, count, b->arena, dfa, &err)) return grammar_fail(b, &err);
    return builder_add(b, (Node){.kind = NODE_LEAF, .dfa = dfa, .own_dfa = true});
}

static GrammarNode builder_add_tokens(GrammarBuilder *b, const int32_t *ids, uint32_t count, bool except) {
    int32_t *sorted = builder_copy(b, ids, count, sizeof *ids);
    if (!sorted || (count == 0 && !except)) return GRAMMAR_NEVER;
    for (uint32_t i = 1; i < count; i++) {
        int32_t id = sorted[i];
        uint32_t k = i;
        for (; k > 0 && sorted[k - 1] > id; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = id;
    }
    return builder_add(b, (Node){.kind = NODE_TOKENS, .count = count, .tokens = sorted, .except = except});
}

GrammarNode grammar_add_tokens(GrammarBuilder *b, const int32_t *ids, uint32_t count) {
    return builder_add_tokens(b, ids, count, false);
}

GrammarNode grammar_add_tokens_except(GrammarBuilder *b, const int32_t *ids, uint32_t count) {
    return builder_add_tokens(b, ids, count, true);
}

// ---- combinations ----

static GrammarNode builder_add_parts(GrammarBuilder *b, NodeKind kind, const GrammarNode *parts,
                                     uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (!builder_knows(b, parts[i])) return GRAMMAR_NEVER;
    if (count == 1) return parts[0];
    GrammarNode *copy = builder_copy(b, parts, count, sizeof *parts);
    return copy ? builder_add(b, (Node){.kind = (uint8_t)kind, .count = count, .parts = copy})
                : GRAMMAR_NEVER;
}

GrammarNode grammar_add_sequence(GrammarBuilder *b, const GrammarNode *parts, uint32_t count) {
    return count ? builder_add_parts(b, NODE_SEQUENCE, parts, count) : GRAMMAR_EMPTY;
}

GrammarNode grammar_add_choice(GrammarBuilder *b, const GrammarNode *alternatives, uint32_t count) {
    return count ? builder_add_parts(b, NODE_CHOICE, alternatives, count) : GRAMMAR_NEVER;
}

static bool builder_bounds_fit(GrammarBuilder *b, uint32_t min, uint32_t max) {
    if (min <= GRAMMAR_COUNT_MAX && (max <= GRAMMAR_COUNT_MAX || max == GRAMMAR_UNBOUNDED)) return true;
    Error err = {0};
    error_fill(&err, ERR_TOO_LARGE, ERROR_NO_POSITION, "a bound of a repetition is above %u",
               GRAMMAR_COUNT_MAX);
    grammar_fail(b, &err);
    return false;
}

GrammarNode grammar_add_repeat(GrammarBuilder *b, GrammarNode body, uint32_t min, uint32_t max) {
    if (!builder_knows(b, body) || !builder_bounds_fit(b, min, max)) return GRAMMAR_NEVER;
    if (max < min) return GRAMMAR_NEVER;
    if (max == 0) return GRAMMAR_EMPTY;
    if (min == 1 && max == 1) return body;
    // A choice keeps no frame, so that lists that go on at their end (`(item list)?`) stay flat.
    if (min == 0 && max == 1) return grammar_add_choice(b, (GrammarNode[]){GRAMMAR_EMPTY, body}, 2);
    return builder_add(b, (Node){.kind = NODE_REPEAT, .body = body, .min = min, .max = max});
}

GrammarNode grammar_add_rule(GrammarBuilder *b, Str name) {
    GrammarNode rule = builder_add(b, (Node){.kind = NODE_RULE, .body = GRAMMAR_NEVER});
    grammar_name(b, rule, name);
    return rule;
}

void grammar_set_rule(GrammarBuilder *b, GrammarNode rule, GrammarNode body) {
    if (!builder_knows(b, rule) || !builder_knows(b, body) || !grammar_builder_ok(b)) return;
    assert(b->nodes[rule].kind == NODE_RULE);
    b->nodes[rule].body = body;
}

void grammar_bound_work(GrammarBuilder *b, uint64_t work_max, const LangStop *stop) {
    b->work.work_max = work_max;
    b->work.stop = stop;
}

void grammar_merge_leaves(GrammarBuilder *b) {
    b->merges = true;
}

void grammar_name(GrammarBuilder *b, GrammarNode node, Str name) {
    if (!grammar_builder_ok(b) || node <= GRAMMAR_EMPTY || !builder_knows(b, node)) return;
    Str kept = arena_copy_str(b->arena, str_slice(name, 0, min_u64(name.len, GRAMMAR_NAME_BYTES_MAX)));
    if (!kept.ptr) {
        builder_no_memory(b);
        return;
    }
    b->nodes[node].name = kept.ptr;
    b->nodes[node].name_bytes = (uint32_t)kept.len;
}

// ---- members and items ----

// Members that a required one needs are required. Returns how many are.
static uint32_t builder_close_required(GrammarMember *members, uint32_t count) {
    uint32_t n_required = 0;
    for (bool changed = true; changed;) {
        changed = false;
        n_required = 0;
        for (uint32_t i = 0; i < count; i++) {
            n_required += members[i].required;
            for (uint32_t k = 0; members[i].required && k < members[i].n_needs; k++) {
                GrammarMember *needed = &members[members[i].needs[k]];
                changed = changed || !needed->required;
                needed->required = true;
            }
        }
    }
    return n_required;
}

static bool builder_is_leaf(const GrammarBuilder *b, GrammarNode node) {
    return node < b->n_nodes && b->nodes[node].kind == NODE_LEAF && !b->nodes[node].dfa->accepts[0];
}

// Whether it is what punctuation may be: a leaf, or nothing where that is allowed.
static bool builder_is_punctuation(const GrammarBuilder *b, GrammarNode node) {
    return node == GRAMMAR_EMPTY || (node < b->n_nodes && b->nodes[node].kind == NODE_LEAF);
}

static bool builder_copy_members(GrammarBuilder *b, const GrammarMembers *m, MembersNode *node) {
    node->members = builder_copy(b, m->members, m->n_members, sizeof *m->members);
    node->further = builder_copy(b, m->further, m->n_further, sizeof *m->further);
    if (!node->members || !node->further) return false;
    for (uint32_t i = 0; i < m->n_members; i++) {
        GrammarMember *member = &node->members[i];
        assert(member->key == GRAMMAR_NEVER || builder_is_leaf(b, member->key));
        assert(member->value < b->n_nodes);
        node->has_needs = node->has_needs || member->n_needs > 0;
        member->needs = builder_copy(b, member->needs, member->n_needs, sizeof *member->needs);
        if (!member->needs) return false;
        for (uint32_t k = 0; k < member->n_needs; k++)
            assert(member->needs[k] < m->n_members);
    }
    for (uint32_t i = 0; i < m->n_further; i++) {
        assert(node->further[i].key == GRAMMAR_NEVER || builder_is_leaf(b, node->further[i].key));
        assert(node->further[i].value < b->n_nodes);
    }
    return true;
}

GrammarNode grammar_add_members(GrammarBuilder *b, const GrammarMembers *m) {
    if (!builder_bounds_fit(b, m->min, m->max) || !grammar_builder_ok(b)) return GRAMMAR_NEVER;
    assert(builder_is_leaf(b, m->open) && builder_is_punctuation(b, m->colon));
    assert(builder_is_punctuation(b, m->comma) && builder_is_punctuation(b, m->close));
    if (m->max < m->min) return GRAMMAR_NEVER;
    if (m->n_members > GRAMMAR_MEMBERS_MAX)
        BUILDER_FAIL(b, ERR_TOO_LARGE, "an object has more than %u named members", GRAMMAR_MEMBERS_MAX);
    MembersNode *node = arena_new(b->arena, MembersNode, 1);
    if (!node) return builder_no_memory(b);
    *node = (MembersNode){.open = m->open,
                          .colon = m->colon,
                          .comma = m->comma,
                          .close = m->close,
                          .n_members = m->n_members,
                          .n_further = m->n_further,
                          .any_order = m->any_order,
                          .min = m->min,
                          .max = m->max};
    if (!builder_copy_members(b, m, node)) return GRAMMAR_NEVER;
    node->n_required = builder_close_required(node->members, node->n_members);
    return builder_add(b, (Node){.kind = NODE_MEMBERS, .members = node});
}

GrammarNode grammar_add_items(GrammarBuilder *b, const GrammarItems *items) {
    if (!builder_bounds_fit(b, items->min, items->max) || !grammar_builder_ok(b) ||
        !builder_bounds_fit(b, items->contains_min, items->contains_max))
        return GRAMMAR_NEVER;
    assert(builder_is_leaf(b, items->open) && builder_is_leaf(b, items->comma));
    assert(builder_is_punctuation(b, items->close));
    uint32_t max = items->max, n_texts = UINT32_MAX;
    if (items->unique && !unique_count_items(b->nodes, items->rest.other, *b->arena, &n_texts))
        return builder_no_memory(b);
    // More than a bound may be: no matcher has room for so many.
    if (n_texts <= GRAMMAR_COUNT_MAX) max = (uint32_t)min_u64(max, n_texts);
    if (max < items->min || items->contains_max < items->contains_min) return GRAMMAR_NEVER;
    ItemsNode *node = arena_new(b->arena, ItemsNode, 1);
    if (!node) return builder_no_memory(b);
    *node = (ItemsNode){.open = items->open,
                        .comma = items->comma,
                        .close = items->close,
                        .rest = items->rest,
                        .n_prefix = items->n_prefix,
                        .min = items->min,
                        .max = max,
                        .contains_min = items->contains_min,
                        .contains_max = items->contains_max,
                        .unique = items->unique};
    bool unbounded = max == GRAMMAR_UNBOUNDED;
    node->contains = items->contains_min > 0 || items->contains_max != GRAMMAR_UNBOUNDED;
    node->places = unbounded ? (uint32_t)max_u64(items->n_prefix, items->min) : max;
    assert(!items->unique || (!node->contains && items->n_prefix == 0));
    node->matches = items->contains_max == GRAMMAR_UNBOUNDED ? items->contains_min : items->contains_max;
    if (node->contains) b->n_cells += (node->places + 1ull) * (node->matches + 1ull);
    if (b->n_cells > GRAMMAR_CONTAINS_CELLS || (node->contains && items->n_prefix > GRAMMAR_CONTAINS_PREFIX))
        BUILDER_FAIL(b, ERR_TOO_LARGE, "an array's bounds are too large for an item that it must contain");
    node->prefix = builder_copy(b, items->prefix, items->n_prefix, sizeof *items->prefix);
    if (!node->prefix) return GRAMMAR_NEVER;
    return builder_add(b, (Node){.kind = NODE_ITEMS, .items = node});
}
