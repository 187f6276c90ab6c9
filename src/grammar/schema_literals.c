// Literals and demands: each is kept once.
#include "base/hash.h"
#include "grammar/schema_internal.h"

bool schema_enter(SchemaReader *r, const JsonNode *at) {
    if (!lang_work(&r->maker, 1, r->err)) return schema_place(r, at);
    if (++r->depth <= SCHEMA_RECURSION_MAX) return true;
    return schema_refuse(r, at, ERR_TOO_LARGE, "schemas refer to each other through more than %d steps",
                         SCHEMA_RECURSION_MAX);
}

static bool add_literal(SchemaReader *r, Literal literal) {
    if (!lang_grow(&r->memory, (void **)&r->literals, &r->literals_cap, r->n_literals + 1, sizeof literal))
        return schema_no_memory(r);
    r->literals[r->n_literals++] = literal;
    return true;
}

static bool is_true(const JsonNode *schema) {
    return schema->type == JSON_BOOL ? schema->as.boolean
                                     : schema->type == JSON_OBJECT && schema->length == 0;
}

// A schema that only refers to another one in its document is that one: so "meets this, and not what that
// refers to" is seen to be empty. One that refers to itself is found where it is read.
static bool follow_reference(SchemaReader *r, const JsonNode **node) {
    enum { FOLLOWED = 8 };
    for (int i = 0; i < FOLLOWED && (*node)->type == JSON_OBJECT && (*node)->length == 1; i++) {
        const JsonNode *ref = json_get(*node, STR("$ref"));
        if (!json_is(ref, JSON_STRING) || ref->length == 0 || ref->as.string[0] != '#') break;
        if (!schema_resolve(r, *node, ref, false, node)) return false;
    }
    return true;
}

bool schema_literal(SchemaReader *r, LiteralKind kind, const JsonNode *node, uint32_t *out) {
    static const JsonNode anything = {.type = JSON_BOOL, .as.boolean = true, .span = 1};
    if (r->n_literals == 0 && !add_literal(r, (Literal){.node = &anything})) return false;
    if (kind == LITERAL_SCHEMA) {
        if (!follow_reference(r, &node)) return false;
        if (is_true(node) || node->type == JSON_BOOL) {
            *out = is_true(node) ? LITERAL_TRUE : LITERAL_FALSE;
            return true;
        }
    }
    uint32_t index;
    bool is_new;
    uint64_t key = 2 * (uint64_t)(node - r->root) + (kind == LITERAL_VALUE);
    if (!lang_pairs_find(&r->literal_of, key, r->n_literals, &index, &is_new)) return schema_no_memory(r);
    *out = 2 * index;
    return !is_new || add_literal(r, (Literal){.kind = kind, .node = node});
}

bool schema_any_of(SchemaReader *r, const uint32_t *literals, uint32_t count, uint32_t *out) {
    uint32_t *copy = arena_new(&r->memory, uint32_t, count);
    if (!copy) return schema_no_memory(r);
    memcpy(copy, literals, count * sizeof *copy);
    *out = 2 * r->n_literals;
    return add_literal(r, (Literal){.kind = LITERAL_ANY_OF,
                                    .node = r->literals[literals[0] / 2].node,
                                    .any_of = copy,
                                    .n_any_of = count});
}

// Ascending, without doubles; returns the new count.
static uint32_t sort_literals(uint32_t *a, uint32_t count) {
    uint32_t n = 0;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t moved = a[i], at = i;
        for (; at && a[at - 1] > moved; at--)
            a[at] = a[at - 1];
        a[at] = moved;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (a[i] != LITERAL_TRUE && (n == 0 || a[n - 1] != a[i])) a[n++] = a[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        bool contradicts = i + 1 < n && a[i] / 2 == a[i + 1] / 2;
        if (a[i] != LITERAL_FALSE && !contradicts) continue;
        a[0] = LITERAL_FALSE;
        return 1;
    }
    return n;
}

bool schema_demand(SchemaReader *r, const uint32_t *literals, uint32_t count, uint32_t *out) {
    uint32_t *sorted = arena_new(&r->memory, uint32_t, count);
    if (!sorted) return schema_no_memory(r);
    memcpy(sorted, literals, count * sizeof *sorted);
    if (!lang_work(&r->maker, (uint64_t)count * count, r->err)) return false;
    count = sort_literals(sorted, count);
    // Demands of one hash are probed one after the other.
    for (uint64_t hash = hash_bytes(sorted, count * sizeof *sorted) >> 2;; hash++) {
        bool is_new;
        if (!lang_pairs_find(&r->demand_of, hash, r->n_demands, out, &is_new)) return schema_no_memory(r);
        if (is_new) break;
        const Demand *known = &r->demands[*out];
        if (known->count == count && memcmp(known->literals, sorted, count * sizeof *sorted) == 0)
            return true;
    }
    if (r->n_demands == SCHEMA_DEMANDS_MAX)
        return error_set(r->err, ERR_TOO_LARGE,
                         "#: more than %d different schemas, or sets of schemas that one value has to meet",
                         SCHEMA_DEMANDS_MAX);
    if (!lang_grow(&r->memory, (void **)&r->demands, &r->demands_cap, r->n_demands + 1, sizeof *r->demands))
        return schema_no_memory(r);
    r->demands[r->n_demands++] = (Demand){.literals = sorted, .count = count};
    return true;
}
