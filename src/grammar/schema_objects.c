// Keywords about objects, as facts.
#include "grammar/schema_internal.h"

static bool check_members(SchemaReader *r, const JsonNode *value) {
    if (value->length > SCHEMA_MEMBERS_MAX)
        return schema_refuse(r, value, ERR_TOO_LARGE, "more than %d members", SCHEMA_MEMBERS_MAX);
    return lang_work(&r->maker, value->length, r->err) || schema_place(r, value);
}

static bool check_names(SchemaReader *r, const JsonNode *value) {
    return value->length <= SCHEMA_MEMBERS_MAX ||
           schema_refuse(r, value, ERR_TOO_LARGE, "more than %d names", SCHEMA_MEMBERS_MAX);
}

static Str key_of(const JsonNode *key) {
    return (Str){key->as.string, key->length};
}

// Goes through the members of schema[keyword]; of equal names the last one counts.
typedef struct {
    const JsonNode *object, *at, *value;
    Str key;
} Members;

static bool members_begin(SchemaReader *r, const JsonNode *schema, Str keyword, Members *m) {
    *m = (Members){.object = json_get(schema, keyword)};
    if (!m->object) return true;
    m->at = json_first(m->object);
    return check_members(r, m->object);
}

static bool members_next(Members *m) {
    while (m->object && m->at != json_end(m->object)) {
        m->key = key_of(m->at);
        m->value = json_next(m->at);
        m->at = json_next(m->value);
        if (json_get(m->object, m->key) == m->value) return true;
    }
    return false;
}

// ---- facts of one case ----

typedef struct {
    SchemaReader *r;
    Case made;
} Maker;

static bool put(Maker *m, Fact fact) {
    Fact *f = arena_new(&m->r->memory, Fact, 1);
    if (!f) return schema_no_memory(m->r);
    *f = fact;
    f->rest = m->made.facts;
    m->made.facts = f;
    return true;
}

static bool see(Maker *m, const Lang *names) {
    return schema_combine_names(m->r, LANG_OR, m->made.seen_names, names, &m->made.seen_names);
}

static bool literal_of(SchemaReader *r, const JsonNode *schema, uint32_t *out) {
    return schema_literal(r, LITERAL_SCHEMA, schema, out);
}

// The names of `properties`, NULL where there are none.
static bool property_names(SchemaReader *r, const JsonNode *schema, const Lang **out) {
    Members m;
    *out = NULL;
    if (!members_begin(r, schema, STR("properties"), &m)) return false;
    if (!m.object || !m.object->length) return true;
    LangMaker maker = r->maker;
    Str *names = arena_new(&maker.scratch, Str, m.object->length);
    Lang *made = arena_new(&r->memory, Lang, 1);
    if (!names || !made) return schema_no_memory(r);
    uint32_t n = 0;
    while (members_next(&m))
        names[n++] = m.key;
    bool ok = lang_words(&maker, names, n, made, r->err);
    r->maker.work = maker.work;
    *out = made;
    return ok || schema_place(r, m.object);
}

// All names that properties and patternProperties do not have.
static bool other_names(SchemaReader *r, const JsonNode *schema, const Lang **out) {
    const Lang *known, *names;
    Members m;
    if (!property_names(r, schema, &known) || !members_begin(r, schema, STR("patternProperties"), &m))
        return false;
    while (members_next(&m)) {
        if (!schema_read_pattern(r, m.value, m.key, true, &names) ||
            !schema_combine_names(r, LANG_OR, known, lang_is_empty(names) ? NULL : names, &known))
            return false;
    }
    return schema_combine_names(r, LANG_WITHOUT, &r->all_strings, known, out);
}

static bool put_properties(Maker *m, const JsonNode *schema) {
    SchemaReader *r = m->r;
    Members members;
    if (!members_begin(r, schema, STR("properties"), &members)) return false;
    while (members_next(&members)) {
        Fact each = {.kind = FACT_EACH, .is_named = true, .key = members.key, .source = members.value};
        if (!literal_of(r, members.value, &each.literal) || !put(m, each)) return false;
    }
    const Lang *names;
    if (!r->tracks || !members.object) return true;
    return property_names(r, schema, &names) && see(m, names);
}

static bool put_patterns(Maker *m, const JsonNode *schema) {
    SchemaReader *r = m->r;
    Members members;
    if (!members_begin(r, schema, STR("patternProperties"), &members)) return false;
    while (members_next(&members)) {
        Fact each = {.kind = FACT_EACH, .source = members.value};
        if (!schema_read_pattern(r, members.value, members.key, true, &each.names) ||
            !literal_of(r, members.value, &each.literal))
            return false;
        if (lang_is_empty(each.names)) continue;
        if (!put(m, each) || !see(m, each.names)) return false;
    }
    return true;
}

static bool put_others(Maker *m, const JsonNode *schema) {
    SchemaReader *r = m->r;
    const JsonNode *others = json_get(schema, STR("additionalProperties"));
    const JsonNode *names = json_get(schema, STR("propertyNames"));
    if (others) {
        Fact each = {.kind = FACT_EACH, .source = others};
        if (!literal_of(r, others, &each.literal)) return false;
        if (each.literal != LITERAL_TRUE) {
            if (!other_names(r, schema, &each.names) || (each.names && !put(m, each))) return false;
        }
        m->made.seen_names = &r->all_strings;
    }
    if (names) {
        uint32_t literal;
        ScalarSet allowed;
        Fact each = {.kind = FACT_EACH, .literal = LITERAL_FALSE, .source = names};
        if (!literal_of(r, names, &literal) || !schema_scalars(r, literal, &allowed) ||
            !schema_settle(r, &allowed) ||
            !schema_combine_names(r, LANG_WITHOUT, &r->all_strings, allowed.strings, &each.names))
            return false;
        if (each.names && !put(m, each)) return false;
    }
    return true;
}

static bool put_required(Maker *m, const JsonNode *schema) {
    const JsonNode *required = json_get(schema, STR("required"));
    if (!required) return true;
    if (!check_names(m->r, required)) return false;
    for (const JsonNode *e = json_first(required); e != json_end(required); e = json_next(e)) {
        if (!put(m, (Fact){.kind = FACT_HAS, .key = key_of(e), .source = e})) return false;
    }
    return true;
}

static bool put_needs(Maker *m, Str key, const JsonNode *names) {
    if (!check_names(m->r, names)) return false;
    for (const JsonNode *e = json_first(names); e != json_end(names); e = json_next(e)) {
        if (!put(m, (Fact){.kind = FACT_NEEDS, .key = key, .needed = key_of(e), .source = e})) return false;
    }
    return true;
}

static const char *const dependents[] = {"dependentRequired", "dependentSchemas", "dependencies"};

// Of the three keywords, what has a list of names (is_list), or a schema.
static bool put_dependents(Maker *m, const JsonNode *schema) {
    for (size_t i = 0; i < COUNT_OF(dependents); i++) {
        Members members;
        if (!members_begin(m->r, schema, str_from_c(dependents[i]), &members)) return false;
        while (members_next(&members)) {
            bool is_list = i == 0 || (i == 2 && members.value->type == JSON_ARRAY);
            if (is_list && !put_needs(m, members.key, members.value)) return false;
        }
    }
    return true;
}

static bool dependent_schemas(SchemaReader *r, const JsonNode *schema, bool negated, Cases *out) {
    for (size_t i = 1; i < COUNT_OF(dependents); i++) {
        Members m;
        if (!members_begin(r, schema, str_from_c(dependents[i]), &m)) return false;
        while (members_next(&m)) {
            if (m.value->type == JSON_ARRAY) continue;
            uint32_t literal;
            Cases has, lacks, met;
            if (!schema_fact(r, (Fact){.kind = FACT_HAS, .key = m.key, .source = m.value}, &has) ||
                !schema_fact(r, (Fact){.kind = FACT_LACKS, .key = m.key, .source = m.value}, &lacks) ||
                !literal_of(r, m.value, &literal) || !schema_cases(r, KIND_OBJECT, literal ^ negated, &met) ||
                !schema_and(r, KIND_OBJECT, m.value, has, met, &met))
                return false;
            if (negated ? !schema_or(r, m.value, *out, met, out)
                        : !schema_or(r, m.value, lacks, met, &met) ||
                              !schema_and(r, KIND_OBJECT, m.value, *out, met, out))
                return false;
        }
    }
    return true;
}

bool schema_object_keywords(SchemaReader *r, const JsonNode *schema, Cases *out) {
    Maker m = {.r = r, .made = {.max = SCHEMA_UNBOUNDED}};
    if (!schema_read_min(r, schema, STR("minProperties"), &m.made.min) ||
        !schema_read_max(r, schema, STR("maxProperties"), &m.made.max) || !put_properties(&m, schema) ||
        !put_patterns(&m, schema) || !put_others(&m, schema) || !put_required(&m, schema) ||
        !put_dependents(&m, schema))
        return false;
    Case *one = arena_new(&r->memory, Case, 1);
    if (!one) return schema_no_memory(r);
    *one = m.made;
    *out = (Cases){one, 1};
    return dependent_schemas(r, schema, false, out);
}

// ---- the complement ----

// Adds the alternative that has these facts.
static bool or_facts(SchemaReader *r, const JsonNode *at, const Fact *facts, size_t count, Cases *out) {
    Maker m = {.r = r, .made = {.max = SCHEMA_UNBOUNDED}};
    for (size_t i = 0; i < count; i++) {
        if (!put(&m, facts[i])) return false;
    }
    Case *one = arena_new(&r->memory, Case, 1);
    if (!one) return schema_no_memory(r);
    *one = m.made;
    return schema_or(r, at, *out, (Cases){one, 1}, out);
}

static bool or_bounds(SchemaReader *r, const JsonNode *schema, Cases *out) {
    uint32_t min = 0, max = SCHEMA_UNBOUNDED;
    if (!schema_read_min(r, schema, STR("minProperties"), &min) ||
        !schema_read_max(r, schema, STR("maxProperties"), &max))
        return false;
    Case *made = arena_new(&r->memory, Case, 2);
    if (!made) return schema_no_memory(r);
    made[0].max = min - 1;
    made[1] = (Case){.min = max + 1, .max = SCHEMA_UNBOUNDED};
    if (min && !schema_or(r, schema, *out, (Cases){made, 1}, out)) return false;
    return max == SCHEMA_UNBOUNDED || schema_or(r, schema, *out, (Cases){made + 1, 1}, out);
}

static bool or_members(SchemaReader *r, const JsonNode *schema, Cases *out) {
    Members m;
    if (!members_begin(r, schema, STR("properties"), &m)) return false;
    while (members_next(&m)) {
        Fact facts[2] = {{.kind = FACT_HAS, .key = m.key, .source = m.value},
                         {.kind = FACT_EACH, .is_named = true, .key = m.key, .source = m.value}};
        if (!literal_of(r, m.value, &facts[1].literal)) return false;
        facts[1].literal ^= 1;
        if (facts[1].literal != LITERAL_FALSE && !or_facts(r, m.value, facts, 2, out)) return false;
    }
    if (!members_begin(r, schema, STR("patternProperties"), &m)) return false;
    while (members_next(&m)) {
        Fact some = {.kind = FACT_SOME, .source = m.value};
        if (!schema_read_pattern(r, m.value, m.key, true, &some.names) ||
            !literal_of(r, m.value, &some.literal))
            return false;
        some.literal ^= 1;
        if (some.literal != LITERAL_FALSE && !or_facts(r, m.value, &some, 1, out)) return false;
    }
    return true;
}

static bool or_others(SchemaReader *r, const JsonNode *schema, Cases *out) {
    const JsonNode *others = json_get(schema, STR("additionalProperties"));
    const JsonNode *names = json_get(schema, STR("propertyNames"));
    Fact some = {.kind = FACT_SOME, .source = others};
    if (others) {
        if (!literal_of(r, others, &some.literal) || !other_names(r, schema, &some.names)) return false;
        some.literal ^= 1;
        if (some.literal != LITERAL_FALSE && some.names && !or_facts(r, others, &some, 1, out)) return false;
    }
    if (names) {
        uint32_t literal;
        ScalarSet allowed;
        if (!literal_of(r, names, &literal) || !schema_scalars(r, literal, &allowed) ||
            !schema_settle(r, &allowed) ||
            !schema_combine_names(r, LANG_WITHOUT, &r->all_strings, allowed.strings, &some.names))
            return false;
        some.literal = LITERAL_TRUE;
        some.source = names;
        if (some.names && !or_facts(r, names, &some, 1, out)) return false;
    }
    return true;
}

static bool or_missing(SchemaReader *r, const JsonNode *schema, Cases *out) {
    const JsonNode *required = json_get(schema, STR("required"));
    if (required && !check_names(r, required)) return false;
    for (const JsonNode *e = required ? json_first(required) : NULL; e && e != json_end(required);
         e = json_next(e)) {
        Fact lacks = {.kind = FACT_LACKS, .key = key_of(e), .source = e};
        if (!or_facts(r, e, &lacks, 1, out)) return false;
    }
    Maker needs = {.r = r};
    if (!put_dependents(&needs, schema)) return false;
    for (const Fact *f = needs.made.facts; f; f = f->rest) {
        Fact facts[2] = {{.kind = FACT_HAS, .key = f->key, .source = f->source},
                         {.kind = FACT_LACKS, .key = f->needed, .source = f->source}};
        if (!or_facts(r, schema, facts, 2, out)) return false;
    }
    return true;
}

bool schema_object_negated(SchemaReader *r, const JsonNode *schema, Cases *out) {
    *out = schema_no_cases;
    return or_bounds(r, schema, out) && or_members(r, schema, out) && or_others(r, schema, out) &&
           or_missing(r, schema, out) && dependent_schemas(r, schema, true, out);
}
