// Keywords about arrays, as facts, and unevaluatedItems and unevaluatedProperties.
#include "grammar/schema_internal.h"

// Schemas of single places, and of all behind them; NULL where there are none.
typedef struct {
    const JsonNode *prefix; // an array
    const JsonNode *rest;
    const JsonNode *contains;
    uint32_t contains_min, contains_max;
} ArrayKeywords;

static bool read_keywords(SchemaReader *r, const JsonNode *schema, ArrayKeywords *k) {
    const JsonNode *items = json_get(schema, STR("items"));
    bool is_old = json_is(items, JSON_ARRAY); // before draft 2020-12
    *k = (ArrayKeywords){.prefix = is_old ? items : json_get(schema, STR("prefixItems")),
                         .rest = is_old ? json_get(schema, STR("additionalItems")) : items,
                         .contains = json_get(schema, STR("contains")),
                         .contains_min = 1,
                         .contains_max = SCHEMA_UNBOUNDED};
    if (k->prefix && k->prefix->length > SCHEMA_PLACES_MAX)
        return schema_refuse(r, k->prefix, ERR_TOO_LARGE, "more than %d items", SCHEMA_PLACES_MAX);
    return schema_read_min(r, schema, STR("minContains"), &k->contains_min) &&
           schema_read_max(r, schema, STR("maxContains"), &k->contains_max);
}

static bool is_unique(const JsonNode *schema) {
    const JsonNode *unique = json_get(schema, STR("uniqueItems"));
    return unique && unique->as.boolean;
}

static bool put(SchemaReader *r, Case *made, Fact fact) {
    Fact *f = arena_new(&r->memory, Fact, 1);
    if (!f) return schema_no_memory(r);
    *f = fact;
    f->rest = made->facts;
    made->facts = f;
    return true;
}

static bool put_items(SchemaReader *r, const ArrayKeywords *k, Case *made) {
    uint32_t n = 0;
    for (const JsonNode *e = k->prefix ? json_first(k->prefix) : NULL; e && e != json_end(k->prefix);
         e = json_next(e), n++) {
        Fact each = {.kind = FACT_EACH, .from = n, .to = n + 1, .source = e};
        if (!schema_literal(r, LITERAL_SCHEMA, e, &each.literal) || !put(r, made, each)) return false;
    }
    made->seen_items = n;
    if (!k->rest) return true;
    Fact each = {.kind = FACT_EACH, .from = n, .to = SCHEMA_UNBOUNDED, .source = k->rest};
    made->seen_items = SCHEMA_UNBOUNDED;
    return schema_literal(r, LITERAL_SCHEMA, k->rest, &each.literal) && put(r, made, each);
}

static bool put_contains(SchemaReader *r, const ArrayKeywords *k, Case *made) {
    if (!k->contains) return true;
    Fact some = {.kind = FACT_SOME, .min = k->contains_min, .max = k->contains_max, .source = k->contains};
    Fact *seen = arena_new(&r->memory, Fact, 1);
    if (!seen) return schema_no_memory(r);
    if (!schema_literal(r, LITERAL_SCHEMA, k->contains, &some.literal)) return false;
    *seen = some;
    made->seen_matches = seen;
    return (some.min == 0 && some.max == SCHEMA_UNBOUNDED) || put(r, made, some);
}

bool schema_array_keywords(SchemaReader *r, const JsonNode *schema, Cases *out) {
    ArrayKeywords k;
    Case *made = arena_new(&r->memory, Case, 1);
    if (!made) return schema_no_memory(r);
    *made = (Case){.max = SCHEMA_UNBOUNDED};
    if (!read_keywords(r, schema, &k) || !schema_read_min(r, schema, STR("minItems"), &made->min) ||
        !schema_read_max(r, schema, STR("maxItems"), &made->max) || !put_items(r, &k, made) ||
        !put_contains(r, &k, made))
        return false;
    made->unique = is_unique(schema);
    if (made->unique) made->unique_source = json_get(schema, STR("uniqueItems"));
    *out = (Cases){made, 1};
    return true;
}

// ---- the complement ----

// Adds an alternative of at least `min` and at most `max` items, and one fact where `fact` has a source.
static bool or_case(SchemaReader *r, const JsonNode *at, uint32_t min, uint32_t max, Fact fact, Cases *out) {
    Case *made = arena_new(&r->memory, Case, 1);
    if (!made) return schema_no_memory(r);
    *made = (Case){.min = min, .max = max};
    return (!fact.source || put(r, made, fact)) && schema_or(r, at, *out, (Cases){made, 1}, out);
}

static bool or_items(SchemaReader *r, const ArrayKeywords *k, Cases *out) {
    uint32_t n = 0, literal;
    for (const JsonNode *e = k->prefix ? json_first(k->prefix) : NULL; e && e != json_end(k->prefix);
         e = json_next(e), n++) {
        if (!schema_literal(r, LITERAL_SCHEMA, e, &literal)) return false;
        Fact each = {.kind = FACT_EACH, .literal = literal ^ 1, .from = n, .to = n + 1, .source = e};
        if (each.literal != LITERAL_FALSE && !or_case(r, e, n + 1, SCHEMA_UNBOUNDED, each, out)) return false;
    }
    if (!k->rest) return true;
    if (!schema_literal(r, LITERAL_SCHEMA, k->rest, &literal)) return false;
    Fact some = {.kind = FACT_SOME,
                 .literal = literal ^ 1,
                 .from = n,
                 .min = 1,
                 .max = SCHEMA_UNBOUNDED,
                 .source = k->rest};
    if (some.literal == LITERAL_TRUE) return or_case(r, k->rest, n + 1, SCHEMA_UNBOUNDED, (Fact){0}, out);
    return some.literal == LITERAL_FALSE || or_case(r, k->rest, n + 1, SCHEMA_UNBOUNDED, some, out);
}

static bool or_contains(SchemaReader *r, const ArrayKeywords *k, Cases *out) {
    if (!k->contains) return true;
    Fact some = {.kind = FACT_SOME, .max = SCHEMA_UNBOUNDED, .source = k->contains};
    if (!schema_literal(r, LITERAL_SCHEMA, k->contains, &some.literal)) return false;
    Fact few = some, many = some;
    few.max = k->contains_min - 1;
    many.min = k->contains_max + 1;
    if (k->contains_min && !or_case(r, k->contains, 0, SCHEMA_UNBOUNDED, few, out)) return false;
    return k->contains_max == SCHEMA_UNBOUNDED || or_case(r, k->contains, 0, SCHEMA_UNBOUNDED, many, out);
}

bool schema_array_negated(SchemaReader *r, const JsonNode *schema, Cases *out) {
    ArrayKeywords k;
    uint32_t min = 0, max = SCHEMA_UNBOUNDED;
    *out = schema_no_cases;
    if (!read_keywords(r, schema, &k) || !schema_read_min(r, schema, STR("minItems"), &min) ||
        !schema_read_max(r, schema, STR("maxItems"), &max))
        return false;
    if (is_unique(schema))
        return schema_refuse(r, json_get(schema, STR("uniqueItems")), ERR_INVALID_REQUEST,
                             "uniqueItems where its schema must not hold");
    if (min && !or_case(r, schema, 0, min - 1, (Fact){0}, out)) return false;
    if (max != SCHEMA_UNBOUNDED && !or_case(r, schema, max + 1, SCHEMA_UNBOUNDED, (Fact){0}, out))
        return false;
    return or_items(r, &k, out) && or_contains(r, &k, out);
}

// ---- what no other keyword has seen ----

static bool unseen_names(SchemaReader *r, const JsonNode *source, uint32_t literal, Case *c) {
    Fact each = {.kind = FACT_EACH, .literal = literal, .source = source};
    if (!schema_combine_names(r, LANG_WITHOUT, &r->all_strings, c->seen_names, &each.names)) return false;
    c->seen_names = &r->all_strings;
    return !each.names || put(r, c, each);
}

static bool unseen_items(SchemaReader *r, const JsonNode *source, uint32_t literal, Case *c) {
    enum { MATCHES_MAX = 32 };
    Fact each = {.kind = FACT_EACH,
                 .literal = literal,
                 .from = c->seen_items,
                 .to = SCHEMA_UNBOUNDED,
                 .source = source};
    if (c->seen_items == SCHEMA_UNBOUNDED || literal == LITERAL_TRUE) {
        c->seen_items = SCHEMA_UNBOUNDED;
        return true;
    }
    uint32_t either[MATCHES_MAX], n = 0;
    either[n++] = literal;
    for (const Fact *f = c->seen_matches; f; f = f->rest) {
        if (n == MATCHES_MAX)
            return schema_refuse(r, source, ERR_TOO_LARGE, "more than %d contains with it", MATCHES_MAX - 1);
        either[n++] = f->literal;
    }
    c->seen_items = SCHEMA_UNBOUNDED;
    return (n == 1 || schema_any_of(r, either, n, &each.literal)) && put(r, c, each);
}

bool schema_unevaluated(SchemaReader *r, CaseKind kind, const JsonNode *schema, Cases *cases) {
    const JsonNode *source =
        json_get(schema, kind == KIND_OBJECT ? STR("unevaluatedProperties") : STR("unevaluatedItems"));
    uint32_t literal;
    if (!source) return true;
    if (!schema_literal(r, LITERAL_SCHEMA, source, &literal)) return false;
    Case *made = arena_new(&r->memory, Case, cases->count);
    if (!made) return schema_no_memory(r);
    for (uint32_t i = 0; i < cases->count; i++) {
        made[i] = cases->cases[i];
        if (!(kind == KIND_OBJECT ? unseen_names : unseen_items)(r, source, literal, &made[i]))
            return schema_place(r, source);
    }
    cases->cases = made;
    return true;
}
