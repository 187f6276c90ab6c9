// The objects and the arrays that meet a schema, as alternatives ("cases") of facts. What is common to both:
// how cases are joined, and the keywords that apply schemas in place.
#include "grammar/schema_internal.h"

static const Case any_case[1] = {{.max = SCHEMA_UNBOUNDED}};
const Cases schema_any_case = {any_case, 1}, schema_no_cases = {NULL, 0};

// ---- joining ----

static Case *new_cases(SchemaReader *r, uint64_t count) {
    Case *made = arena_new(&r->memory, Case, count);
    if (!made) (void)schema_no_memory(r);
    return made;
}

bool schema_or(SchemaReader *r, const JsonNode *at, Cases a, Cases b, Cases *out) {
    *out = a.count ? a : b;
    if (!a.count || !b.count) return true;
    if (a.count + b.count > SCHEMA_CASES_MAX)
        return schema_refuse(r, at, ERR_TOO_LARGE, "more than %d alternatives that are objects or arrays",
                             SCHEMA_CASES_MAX);
    Case *made = new_cases(r, (uint64_t)a.count + b.count);
    if (!made) return false;
    memcpy(made, a.cases, a.count * sizeof *made);
    memcpy(made + a.count, b.cases, b.count * sizeof *made);
    *out = (Cases){made, a.count + b.count};
    return true;
}

// The facts of `a`, then those of `b`: so the newest first is b's.
static bool concatenate(SchemaReader *r, const Fact *a, const Fact *b, const Fact **out) {
    *out = a ? a : b;
    if (!a || !b) return true;
    const Fact *last = a;
    Fact *first = NULL, *before = NULL;
    for (const Fact *f = b; f; f = f->rest) {
        Fact *copy = arena_new(&r->memory, Fact, 1);
        if (!copy) return schema_no_memory(r);
        *copy = *f;
        copy->rest = last;
        if (before) before->rest = copy;
        else first = copy;
        before = copy;
        if (!lang_work(&r->maker, 1, r->err)) return false;
    }
    *out = first;
    return true;
}

static bool and_case(SchemaReader *r, const Case *a, const Case *b, Case *out) {
    *out = *a;
    if (b->min > out->min) out->min = b->min;
    if (b->max < out->max) out->max = b->max;
    if (b->unique) out->unique = true, out->unique_source = b->unique_source;
    if (b->seen_items > out->seen_items) out->seen_items = b->seen_items;
    return concatenate(r, a->facts, b->facts, &out->facts) &&
           concatenate(r, a->seen_matches, b->seen_matches, &out->seen_matches) &&
           schema_combine_names(r, LANG_OR, a->seen_names, b->seen_names, &out->seen_names);
}

static bool applies_to(const Fact *f, Str key) {
    return f->kind == FACT_EACH &&
           (f->is_named ? str_eq(f->key, key) : f->names && lang_accepts(f->names, key));
}

bool schema_case_is_never(SchemaReader *r, const Case *c, bool *out) {
    enum { LOOKED_AT = 64 };
    *out = c->min > c->max;
    for (const Fact *has = c->facts; has && !*out; has = has->rest) {
        if (has->kind != FACT_HAS) continue;
        uint32_t literals[LOOKED_AT], n = 0;
        for (const Fact *f = c->facts; f; f = f->rest) {
            if (!lang_work(&r->maker, 1, r->err)) return false;
            if (f->kind == FACT_LACKS && str_eq(f->key, has->key)) *out = true;
            if (n < LOOKED_AT && applies_to(f, has->key)) literals[n++] = f->literal;
        }
        bool never = false;
        if (!*out && n && !schema_is_never(r, literals, n, &never)) return false;
        *out |= never;
    }
    const Lang *names;
    if (*out || c->min == 0) return true;
    if (!schema_names_left(r, c, &r->all_strings, &names)) return false;
    *out = !names;
    return true;
}

bool schema_and(SchemaReader *r, CaseKind kind, const JsonNode *at, Cases a, Cases b, Cases *out) {
    *out = schema_no_cases;
    if (!a.count || !b.count) return true;
    if (a.cases == any_case || b.cases == any_case) {
        *out = a.cases == any_case ? b : a;
        return true;
    }
    Case *made = new_cases(r, min_u64((uint64_t)a.count * b.count, SCHEMA_CASES_MAX));
    if (!made) return false;
    uint32_t n = 0;
    bool has_choice = a.count > 1 || b.count > 1;
    for (uint32_t i = 0; i < a.count * b.count; i++) {
        Case one;
        bool never = false;
        if (!lang_work(&r->maker, 10, r->err)) return schema_place(r, at);
        if (!and_case(r, &a.cases[i / b.count], &b.cases[i % b.count], &one)) return false;
        // A schema without alternatives is left as it is: the message about it then names what is empty.
        if (has_choice && kind == KIND_OBJECT && !schema_case_is_never(r, &one, &never))
            return schema_place(r, at);
        if (has_choice && one.min > one.max) never = true;
        if (never) continue;
        if (n == SCHEMA_CASES_MAX)
            return schema_refuse(r, at, ERR_TOO_LARGE, "its alternatives combine in more than %d ways",
                                 SCHEMA_CASES_MAX);
        made[n++] = one;
    }
    *out = (Cases){made, n};
    return true;
}

bool schema_fact(SchemaReader *r, Fact fact, Cases *out) {
    Fact *f = arena_new(&r->memory, Fact, 1);
    Case *one = arena_new(&r->memory, Case, 1);
    if (!f || !one) return schema_no_memory(r);
    *f = fact;
    f->rest = NULL;
    *one = (Case){.facts = f, .max = SCHEMA_UNBOUNDED};
    *out = (Cases){one, 1};
    return true;
}

// ---- what cannot be ----

static const JsonType kind_types[] = {[KIND_OBJECT] = JSON_OBJECT, [KIND_ARRAY] = JSON_ARRAY};

// Whether objects (or arrays) may meet the literal, by what stands there in so many words.
static bool may_have_kind(SchemaReader *r, uint32_t literal, CaseKind kind, int depth, bool *out) {
    const Literal *l = &r->literals[literal / 2];
    *out = literal != LITERAL_FALSE;
    if (literal % 2 || literal / 2 == 0 || l->kind == LITERAL_ANY_OF || depth == 0) return true;
    const JsonNode *node = l->node;
    if (l->kind == LITERAL_VALUE) {
        *out = node->type == kind_types[kind];
        return true;
    }
    uint32_t types, target;
    if (!schema_read_types(r, node, &types)) return false;
    const JsonNode *value = json_get(node, STR("const")), *values = json_get(node, STR("enum")), *to;
    bool found = false;
    for (const JsonNode *e = values ? json_first(values) : NULL; e && e != json_end(values); e = json_next(e))
        found |= e->type == kind_types[kind];
    *out = types & (kind == KIND_OBJECT ? SCHEMA_OBJECT : SCHEMA_ARRAY) &&
           (!value || value->type == kind_types[kind]) && (!values || found);
    const JsonNode *ref = json_get(node, STR("$ref"));
    if (!*out || !ref) return true;
    return schema_resolve(r, node, ref, false, &to) && schema_literal(r, LITERAL_SCHEMA, to, &target) &&
           may_have_kind(r, target, kind, depth - 1, out);
}

bool schema_is_never(SchemaReader *r, const uint32_t *literals, uint32_t count, bool *out) {
    enum { FOLLOWED = 8 };
    ScalarSet set;
    if (!schema_demand_scalars(r, literals, count, &set)) return false;
    *out = !set.bits && !set.numbers && !set.strings;
    for (CaseKind kind = KIND_OBJECT; kind <= KIND_ARRAY && *out; kind++) {
        bool may = true;
        for (uint32_t i = 0; i < count && may; i++) {
            if (!may_have_kind(r, literals[i], kind, FOLLOWED, &may)) return false;
        }
        *out = !may;
    }
    return true;
}

// ---- schemas applied in place ----

static bool part(SchemaReader *r, CaseKind kind, const JsonNode *schema, bool negated, Cases *out) {
    uint32_t literal;
    return schema_literal(r, LITERAL_SCHEMA, schema, &literal) &&
           schema_cases(r, kind, literal ^ negated, out);
}

// What a schema that is only asked about has seen does not count.
static bool forget_seen(SchemaReader *r, Cases *cases) {
    if (!r->tracks || !cases->count) return true;
    Case *made = arena_new(&r->memory, Case, cases->count);
    if (!made) return schema_no_memory(r);
    for (uint32_t i = 0; i < cases->count; i++) {
        made[i] = cases->cases[i];
        made[i].seen_names = NULL;
        made[i].seen_items = 0;
        made[i].seen_matches = NULL;
    }
    cases->cases = made;
    return true;
}

static bool sees_nothing(const Cases *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->cases[i].seen_names || c->cases[i].seen_items || c->cases[i].seen_matches) return false;
    }
    return true;
}

// Of one list: says how many there are.
static bool check_count(SchemaReader *r, CaseKind kind, const JsonNode *list, uint32_t count) {
    return count <= SCHEMA_CASES_MAX ||
           schema_refuse(r, list, ERR_TOO_LARGE, "%u alternatives that are %s; at most %d are allowed", count,
                         kind == KIND_OBJECT ? "objects" : "arrays", SCHEMA_CASES_MAX);
}

static bool check_schemas(SchemaReader *r, CaseKind kind, const JsonNode *list) {
    Cases one;
    uint32_t n = 0;
    if (list->length <= SCHEMA_CASES_MAX) return true;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        if (!part(r, kind, e, false, &one)) return false;
        n += one.count > 0;
    }
    return check_count(r, kind, list, n);
}

static bool check_values(SchemaReader *r, CaseKind kind, const JsonNode *list) {
    uint32_t n = 0;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e))
        n += e->type == kind_types[kind];
    return check_count(r, kind, list, n);
}

// With unevaluated… somewhere, what is seen depends on all that hold, so each combination is a case.
static bool any_of(SchemaReader *r, CaseKind kind, const JsonNode *list, bool negated, Cases *out) {
    Cases one, both;
    *out = schema_no_cases;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        if (!part(r, kind, e, negated, &one)) return false;
        Cases before = *out;
        if (!schema_or(r, list, before, one, out)) return false;
        if (!r->tracks || sees_nothing(&one) || !before.count) continue;
        if (!schema_and(r, kind, list, before, one, &both) || !schema_or(r, list, *out, both, out))
            return false;
    }
    return true;
}

static bool all_of(SchemaReader *r, CaseKind kind, const JsonNode *list, bool negated, Cases *out) {
    Cases one;
    *out = schema_any_case;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        if (!part(r, kind, e, negated, &one) || !schema_and(r, kind, list, *out, one, out)) return false;
    }
    return true;
}

static bool are_disjoint(SchemaReader *r, CaseKind kind, const JsonNode *at, Cases a, Cases b, bool *out) {
    *out = true;
    for (uint32_t i = 0; i < a.count && *out; i++) {
        for (uint32_t k = 0; k < b.count && *out; k++) {
            Case both;
            if (!and_case(r, &a.cases[i], &b.cases[k], &both) || !schema_case_is_never(r, &both, out))
                return schema_place(r, at);
            if (kind == KIND_ARRAY) *out = both.min > both.max;
        }
    }
    return true;
}

// Each, where none of the others holds. Most lists are told apart by a member; those need no complement.
static bool one_of(SchemaReader *r, CaseKind kind, const JsonNode *list, Cases *out) {
    *out = schema_no_cases;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        Cases one, other, fails;
        if (!part(r, kind, e, false, &one)) return false;
        for (const JsonNode *o = json_first(list); o != json_end(list) && one.count; o = json_next(o)) {
            bool disjoint;
            if (o == e) continue;
            if (!part(r, kind, o, false, &other) || !are_disjoint(r, kind, list, one, other, &disjoint))
                return false;
            if (disjoint) continue;
            if (!part(r, kind, o, true, &fails) || !schema_and(r, kind, list, one, fails, &one)) return false;
        }
        if (!schema_or(r, list, *out, one, out)) return false;
    }
    return true;
}

// None, or at least two.
static bool one_of_negated(SchemaReader *r, CaseKind kind, const JsonNode *list, Cases *out) {
    Cases a, b, both;
    if (!all_of(r, kind, list, true, out)) return false;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        for (const JsonNode *o = json_next(e); o != json_end(list); o = json_next(o)) {
            if (!part(r, kind, e, false, &a) || !part(r, kind, o, false, &b) || !forget_seen(r, &a) ||
                !forget_seen(r, &b) || !schema_and(r, kind, list, a, b, &both) ||
                !schema_or(r, list, *out, both, out))
                return false;
        }
    }
    return true;
}

static bool conditional(SchemaReader *r, CaseKind kind, const JsonNode *schema, bool negated, Cases *out) {
    const JsonNode *condition = json_get(schema, STR("if"));
    const JsonNode *branches[2] = {json_get(schema, STR("then")), json_get(schema, STR("else"))};
    *out = negated ? schema_no_cases : schema_any_case;
    if (!condition) return true;
    *out = schema_no_cases;
    for (int i = 0; i < 2; i++) {
        Cases holds, branch = negated ? schema_no_cases : schema_any_case;
        if (!part(r, kind, condition, i == 1, &holds) || (negated && !forget_seen(r, &holds))) return false;
        if (branches[i] && !part(r, kind, branches[i], negated, &branch)) return false;
        if (!schema_and(r, kind, condition, holds, branch, &holds) ||
            !schema_or(r, condition, *out, holds, out))
            return false;
    }
    return true;
}

static bool reference(SchemaReader *r, CaseKind kind, const JsonNode *schema, Str keyword, bool negated,
                      Cases *out) {
    const JsonNode *ref = json_get(schema, keyword), *target;
    *out = negated ? schema_no_cases : schema_any_case;
    if (!ref) return true;
    return schema_resolve(r, schema, ref, keyword.len > 4, &target) && part(r, kind, target, negated, out);
}

// ---- values ----

static bool value_literal(SchemaReader *r, const JsonNode *value, uint32_t *out) {
    return schema_literal(r, LITERAL_VALUE, value, out);
}

static bool bounds_case(SchemaReader *r, uint32_t min, uint32_t max, const Fact *facts, Cases *out) {
    Case *one = arena_new(&r->memory, Case, 1);
    if (!one) return schema_no_memory(r);
    *one = (Case){.facts = facts, .min = min, .max = max};
    *out = (Cases){one, 1};
    return true;
}

static bool put_fact(SchemaReader *r, Fact fact, const Fact **list) {
    Fact *f = arena_new(&r->memory, Fact, 1);
    if (!f) return schema_no_memory(r);
    *f = fact;
    f->rest = *list;
    *list = f;
    return lang_work(&r->maker, 1, r->err);
}

// Exactly this object or array.
static bool value_case(SchemaReader *r, const JsonNode *value, Cases *out) {
    const Fact *facts = NULL;
    uint32_t n = 0;
    for (const JsonNode *e = json_first(value); e != json_end(value); e = json_next(e)) {
        Fact each = {.kind = FACT_EACH, .from = n, .to = n + 1, .source = value};
        if (value->type == JSON_OBJECT) {
            each.key = (Str){e->as.string, e->length};
            each.is_named = true;
            e = json_next(e);
            if (json_get(value, each.key) != e) continue; // the last of a name counts
            if (!put_fact(r, (Fact){.kind = FACT_HAS, .key = each.key, .source = value}, &facts))
                return false;
        }
        if (!value_literal(r, e, &each.literal) || !put_fact(r, each, &facts)) return false;
        n++;
    }
    return bounds_case(r, n, n, facts, out);
}

// Anything else: something is missing, or another, or there is more.
static bool value_negated(SchemaReader *r, const JsonNode *value, Cases *out) {
    Cases exact, one;
    if (!value_case(r, value, &exact)) return false;
    uint32_t n = exact.cases[0].max;
    const Fact *all = NULL; // where there is more, nothing is missing
    for (const Fact *f = exact.cases[0].facts; f; f = f->rest) {
        if (f->kind == FACT_HAS && !put_fact(r, *f, &all)) return false;
    }
    if (!bounds_case(r, n + 1, SCHEMA_UNBOUNDED, all, out)) return false;
    if (value->type == JSON_ARRAY && n > 0) {
        if (!bounds_case(r, 0, n - 1, NULL, &one) || !schema_or(r, value, *out, one, out)) return false;
    }
    for (const Fact *f = exact.cases[0].facts; f; f = f->rest) {
        const Fact *facts = NULL;
        Fact other = *f;
        if (f->kind == FACT_HAS) {
            other.kind = FACT_LACKS;
        } else {
            other.literal ^= 1;
            Fact has = {.kind = FACT_HAS, .key = f->key, .source = value};
            if (value->type == JSON_OBJECT && !put_fact(r, has, &facts)) return false;
        }
        uint32_t min = value->type == JSON_ARRAY ? f->to : 0;
        if (!put_fact(r, other, &facts) || !bounds_case(r, min, SCHEMA_UNBOUNDED, facts, &one) ||
            !schema_or(r, value, *out, one, out))
            return false;
    }
    return true;
}

// enum and const: one of the values of this kind, or none of them.
static bool values_cases(SchemaReader *r, CaseKind kind, const JsonNode *schema, bool negated, Cases *out) {
    const JsonNode *values = json_get(schema, STR("enum")), *value = json_get(schema, STR("const"));
    Cases one, any = schema_no_cases, none = schema_any_case;
    uint32_t literal;
    *out = negated ? schema_no_cases : schema_any_case;
    if (values && !negated && !check_values(r, kind, values)) return false;
    for (const JsonNode *e = values ? json_first(values) : NULL; e && e != json_end(values);
         e = json_next(e)) {
        if (e->type != kind_types[kind]) continue;
        if (!value_literal(r, e, &literal) || !schema_cases(r, kind, literal ^ negated, &one)) return false;
        if (negated ? !schema_and(r, kind, values, none, one, &none) : !schema_or(r, values, any, one, &any))
            return false;
    }
    if (values) *out = negated ? none : any;
    if (!value) return true;
    bool fits = value->type == kind_types[kind];
    one = negated ? schema_any_case : schema_no_cases;
    if (fits && (!value_literal(r, value, &literal) || !schema_cases(r, kind, literal ^ negated, &one)))
        return false;
    return negated ? schema_or(r, value, *out, one, out) : schema_and(r, kind, value, *out, one, out);
}

// ---- whole schemas ----

static bool positive(SchemaReader *r, CaseKind kind, const JsonNode *schema, Cases *out) {
    uint32_t types;
    Cases c;
    *out = schema_no_cases;
    if (!schema_read_types(r, schema, &types)) return false;
    if (!(types & (kind == KIND_OBJECT ? SCHEMA_OBJECT : SCHEMA_ARRAY))) return true;
    if (!(kind == KIND_OBJECT ? schema_object_keywords : schema_array_keywords)(r, schema, out)) return false;
#define AND(call) \
    if (!(call) || !schema_and(r, kind, schema, *out, c, out)) return false
    AND(values_cases(r, kind, schema, false, &c));
    AND(reference(r, kind, schema, STR("$ref"), false, &c));
    AND(reference(r, kind, schema, STR("$dynamicRef"), false, &c));
    const JsonNode *all = json_get(schema, STR("allOf")), *any = json_get(schema, STR("anyOf"));
    const JsonNode *one = json_get(schema, STR("oneOf")), *not = json_get(schema, STR("not"));
    if (all) AND(all_of(r, kind, all, false, &c));
    if (any) AND(check_schemas(r, kind, any) && any_of(r, kind, any, false, &c));
    if (one) AND(check_schemas(r, kind, one) && one_of(r, kind, one, &c));
    if (not ) AND(part(r, kind, not, true, &c));
    AND(conditional(r, kind, schema, false, &c));
#undef AND
    return schema_unevaluated(r, kind, schema, out);
}

static bool negative(SchemaReader *r, CaseKind kind, const JsonNode *schema, Cases *out) {
    static const char *const seen[] = {"unevaluatedProperties", "unevaluatedItems"};
    uint32_t types;
    Cases c;
    *out = schema_any_case;
    if (!schema_read_types(r, schema, &types)) return false;
    if (!(types & (kind == KIND_OBJECT ? SCHEMA_OBJECT : SCHEMA_ARRAY))) return true;
    const JsonNode *unevaluated = json_get(schema, str_from_c(seen[kind]));
    if (unevaluated)
        return schema_refuse(r, unevaluated, ERR_INVALID_REQUEST, "%s where its schema must not hold",
                             seen[kind]);
    if (!(kind == KIND_OBJECT ? schema_object_negated : schema_array_negated)(r, schema, out)) return false;
#define OR(call) \
    if (!(call) || !schema_or(r, schema, *out, c, out)) return false
    OR(values_cases(r, kind, schema, true, &c));
    OR(reference(r, kind, schema, STR("$ref"), true, &c));
    OR(reference(r, kind, schema, STR("$dynamicRef"), true, &c));
    const JsonNode *all = json_get(schema, STR("allOf")), *any = json_get(schema, STR("anyOf"));
    const JsonNode *one = json_get(schema, STR("oneOf")), *not = json_get(schema, STR("not"));
    if (all) OR(any_of(r, kind, all, true, &c));
    if (any) OR(all_of(r, kind, any, true, &c));
    if (one) OR(one_of_negated(r, kind, one, &c));
    if (not ) OR(part(r, kind, not, false, &c) && forget_seen(r, &c));
    OR(conditional(r, kind, schema, true, &c));
#undef OR
    return true;
}

static bool any_of_literals(SchemaReader *r, CaseKind kind, const Literal *l, bool negated, Cases *out) {
    Cases one;
    *out = negated ? schema_any_case : schema_no_cases;
    for (uint32_t i = 0; i < l->n_any_of; i++) {
        if (!schema_cases(r, kind, l->any_of[i] ^ negated, &one)) return false;
        if (negated ? !schema_and(r, kind, l->node, *out, one, out) : !schema_or(r, l->node, *out, one, out))
            return false;
    }
    return true;
}

bool schema_cases(SchemaReader *r, CaseKind kind, uint32_t literal, Cases *out) {
    bool negated = literal % 2;
    *out = literal == LITERAL_TRUE ? schema_any_case : schema_no_cases;
    if (literal / 2 == 0) return true;
    Literal l = r->literals[literal / 2];
    if (l.has_cases[kind][negated]) {
        *out = l.cases[kind][negated];
        return true;
    }
    if (l.cases_busy[kind][negated])
        return schema_refuse(r, l.node, ERR_INVALID_REQUEST, "refers to itself with nothing between");
    r->literals[literal / 2].cases_busy[kind][negated] = true;
    if (!schema_enter(r, l.node)) return false;
    bool ok;
    if (l.kind == LITERAL_SCHEMA) ok = (negated ? negative : positive)(r, kind, l.node, out);
    else if (l.kind == LITERAL_ANY_OF) ok = any_of_literals(r, kind, &l, negated, out);
    else if (l.node->type != kind_types[kind]) ok = true, *out = negated ? schema_any_case : schema_no_cases;
    else ok = (negated ? value_negated : value_case)(r, l.node, out);
    if (!ok) return false;
    r->depth--;
    r->literals[literal / 2].cases[kind][negated] = *out;
    r->literals[literal / 2].has_cases[kind][negated] = true;
    return true;
}

bool schema_demand_cases(SchemaReader *r, CaseKind kind, const uint32_t *literals, uint32_t count,
                         Cases *out) {
    Cases one;
    *out = schema_any_case;
    for (uint32_t i = 0; i < count; i++) {
        if (!schema_cases(r, kind, literals[i], &one) ||
            !schema_and(r, kind, r->literals[literals[i] / 2].node, *out, one, out))
            return false;
    }
    return true;
}
