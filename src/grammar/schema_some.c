// Objects in which some member must be one of many ("some member whose name is in this set meets this
// schema"): what is left of additionalProperties, patternProperties and propertyNames where they must not
// hold, as in oneOf. Where the names that are allowed are listed, it is spelled out: the first of them is
// such a member, or the second, and so on. Where infinitely many names could be it, it is left as it is, and
// refused.
#include "grammar/schema_internal.h"

static const Fact *find_some(const Case *c) {
    const Fact *f = c->facts;
    while (f && f->kind != FACT_SOME)
        f = f->rest;
    return f;
}

bool schema_names_left(SchemaReader *r, const Case *c, const Lang *names, const Lang **out) {
    *out = names;
    for (const Fact *f = c->facts; f && *out; f = f->rest) {
        bool forbids = f->kind == FACT_EACH && !f->is_named && f->literal == LITERAL_FALSE;
        if (forbids && !schema_combine_names(r, LANG_WITHOUT, *out, f->names, out)) return false;
    }
    return true;
}

static bool is_among(const Str *names, uint32_t n, Str name) {
    for (uint32_t i = 0; i < n; i++)
        if (str_eq(names[i], name)) return true;
    return false;
}

// The listed names of a set. *count is 0, and *all false, where they are not all of it.
static bool listed_names(SchemaReader *r, const Case *c, const Lang *set, Str *names, uint32_t *count,
                         bool *all) {
    const Lang *rest;
    LangMaker maker = r->maker;
    Lang *listed = arena_new(&r->memory, Lang, 1);
    if (!listed) return schema_no_memory(r);
    *count = 0;
    for (const Fact *f = c->facts; f; f = f->rest) {
        bool has_key = f->kind == FACT_EACH ? f->is_named : f->kind != FACT_SOME;
        if (!lang_work(&r->maker, 1 + *count, r->err)) return false;
        if (!has_key || !lang_accepts(set, f->key) || is_among(names, *count, f->key)) continue;
        if (*count == SCHEMA_MEMBERS_MAX) break;
        names[(*count)++] = f->key;
    }
    *all = false;
    if (*count == 0) return true;
    maker.work = r->maker.work;
    bool ok = lang_words(&maker, names, *count, listed, r->err);
    r->maker.work = maker.work;
    if (!ok || !schema_combine_names(r, LANG_WITHOUT, set, listed, &rest)) return false;
    *all = rest == NULL;
    if (!*all) *count = 0;
    return true;
}

// The case with a member `key` in the place of the fact that there is some.
static bool with_member(SchemaReader *r, const Case *c, const Fact *some, Str key, Case *out) {
    const Fact *rest = NULL;
    Fact added[] = {
        {.kind = FACT_HAS, .key = key, .source = some->source},
        {.kind = FACT_EACH, .is_named = true, .key = key, .literal = some->literal, .source = some->source}};
    uint32_t n = 0, n_added = some->literal == LITERAL_TRUE ? 1 : 2;
    for (const Fact *f = c->facts; f; f = f->rest)
        n++;
    Fact *made = arena_new(&r->memory, Fact, (uint64_t)n + n_added);
    if (!made) return schema_no_memory(r);
    uint32_t at = 0;
    for (const Fact *f = c->facts; f; f = f->rest)
        if (f != some) made[n_added + at++] = *f;
    memcpy(made, added, n_added * sizeof *made);
    for (uint32_t i = n_added + at; i-- > 0; rest = &made[i])
        made[i].rest = rest;
    *out = *c;
    out->facts = rest;
    return lang_work(&r->maker, n, r->err);
}

typedef struct {
    Case *cases;
    uint32_t count, cap;
} CaseList;

static bool add_case(SchemaReader *r, CaseList *list, Case one) {
    if (!lang_grow(&r->memory, (void **)&list->cases, &list->cap, list->count + 1, sizeof one))
        return schema_no_memory(r);
    list->cases[list->count++] = one;
    return true;
}

// Adds the case once for each of the names, where it can be.
static bool add_ways(SchemaReader *r, const Case *c, const Fact *some, const Str *names, uint32_t n_names,
                     CaseList *out) {
    for (uint32_t i = 0; i < n_names; i++) {
        bool never;
        Case one;
        if (!with_member(r, c, some, names[i], &one) || !schema_case_is_never(r, &one, &never)) return false;
        if (out->count == SCHEMA_CASES_MAX)
            return schema_refuse(r, some->source, ERR_TOO_LARGE,
                                 "must not hold, which can be in more than %d ways", SCHEMA_CASES_MAX);
        if (!never && !add_case(r, out, one)) return false;
    }
    return true;
}

bool schema_spell_out_some(SchemaReader *r, Cases *cases) {
    Str *names = arena_new(&r->memory, Str, SCHEMA_MEMBERS_MAX);
    if (!names) return schema_no_memory(r);
    // Each turn takes one such fact from each case.
    for (bool changed = true; changed;) {
        CaseList list = {0};
        changed = false;
        for (uint32_t i = 0; i < cases->count; i++) {
            const Case *one = &cases->cases[i];
            const Fact *some = find_some(one);
            const Lang *set = NULL;
            uint32_t n_names = 0;
            bool all = false;
            if (some && !schema_names_left(r, one, some->names, &set)) return false;
            if (set && !listed_names(r, one, set, names, &n_names, &all)) return false;
            changed |= some && (!set || all);
            if (some && !set) continue; // no name is left
            if (!(all ? add_ways(r, one, some, names, n_names, &list) : add_case(r, &list, *one)))
                return false;
        }
        *cases = (Cases){list.cases, list.count};
    }
    return true;
}
