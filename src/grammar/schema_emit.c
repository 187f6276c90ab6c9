// Demands become nodes of a grammar.
#include "grammar/schema_internal.h"
#include "json/json_writer.h"

// ---- leaves ----

// Where the schema leaves only integers and finitely many other numbers, each has one spelling.
static bool emit_numbers(SchemaReader *r, const Lang *numbers, GrammarNode *out) {
    bool ok = true, is_integer = numbers == &r->integers;
    Lang shortest, fractions;
    *out = is_integer ? r->integer : 0;
    if (*out) return true;
    if (r->options->plain_numbers) {
        if (!lang_combine(&r->maker, LANG_AND, numbers, &r->shortest, &shortest, r->err) ||
            !lang_combine(&r->maker, LANG_WITHOUT, &shortest, &r->integers, &fractions, r->err))
            return false;
        if (!lang_is_infinite(&r->maker, &fractions)) numbers = &shortest;
    }
    *out = schema_add_leaf(r, numbers, LANG_UTF8, (Str){0}, (Str){0}, &ok);
    if (is_integer) r->integer = *out;
    return ok;
}

static bool emit_number(SchemaReader *r, const ScalarSet *set, GrammarNode *out) {
    bool ok = true;
    Lang both;
    if (!(set->bits & SCALAR_EXPONENTS)) return emit_numbers(r, set->numbers, out);
    if (!r->any_number) {
        if (!lang_combine(&r->maker, LANG_OR, set->numbers, &r->exponents, &both, r->err)) return false;
        r->any_number = schema_add_leaf(r, &both, LANG_UTF8, (Str){0}, (Str){0}, &ok);
    }
    *out = r->any_number;
    return ok;
}

typedef struct {
    GrammarNode *nodes;
    uint32_t count, cap;
} Nodes;

static bool add_node(SchemaReader *r, Nodes *list, GrammarNode node) {
    if (!lang_grow(&r->memory, (void **)&list->nodes, &list->cap, list->count + 1, sizeof node))
        return schema_no_memory(r);
    list->nodes[list->count++] = node;
    return true;
}

static bool emit_scalars(SchemaReader *r, const ScalarSet *set, Nodes *out) {
    static const uint8_t words[] = {SCALAR_NULL, SCALAR_FALSE, SCALAR_TRUE};
    GrammarNode node;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (set->bits & words[i] && !add_node(r, out, schema_add_word(r, words[i], false))) return false;
    }
    if (set->numbers && (!emit_number(r, set, &node) || !add_node(r, out, node))) return false;
    return !set->strings || (schema_emit_strings(r, set, &node) && add_node(r, out, node));
}

// ---- objects ----

// The literals that a member of this name has to meet.
static bool member_demand(SchemaReader *r, const Case *c, Str key, uint32_t *demand) {
    Arena scratch = r->maker.scratch;
    uint32_t n = 0, *literals;
    for (const Fact *f = c->facts; f; f = f->rest)
        n++;
    literals = arena_new(&scratch, uint32_t, n);
    if (!literals) return schema_no_memory(r);
    n = 0;
    for (const Fact *f = c->facts; f; f = f->rest) {
        bool named = f->is_named && str_eq(f->key, key);
        bool lacks = f->kind == FACT_LACKS && str_eq(f->key, key);
        bool matches = f->kind == FACT_EACH && (named || (!f->is_named && lang_accepts(f->names, key)));
        if (lacks) literals[n++] = LITERAL_FALSE;
        if (matches) literals[n++] = f->literal;
        if (!lang_work(&r->maker, 1, r->err)) return false;
    }
    return schema_demand(r, literals, n, demand);
}

// Names that are not listed, by which patterns they match.
typedef struct {
    const Lang *names;
    const uint32_t *literals;
    uint32_t n_literals;
} Group;

typedef struct {
    SchemaReader *r;
    const Case *c;
    bool is_arguments;
    Str *keys; // listed names, in the order of the schema
    uint32_t n_keys;
    Group *groups;
    uint32_t n_groups;
    GrammarMember *members;
    GrammarFurther *further;
} ObjectMaker;

static uint32_t find_key(const ObjectMaker *m, Str key) {
    for (uint32_t i = 0; i < m->n_keys; i++) {
        if (str_eq(m->keys[i], key)) return i;
    }
    return UINT32_MAX;
}

static bool add_key(ObjectMaker *m, Str key, const JsonNode *at) {
    if (!lang_work(&m->r->maker, m->n_keys, m->r->err)) return schema_place(m->r, at);
    if (find_key(m, key) != UINT32_MAX) return true;
    if (m->n_keys == SCHEMA_MEMBERS_MAX)
        return schema_refuse(m->r, at, ERR_TOO_LARGE, "its object has more than %d names",
                             SCHEMA_MEMBERS_MAX);
    m->keys[m->n_keys++] = key;
    return true;
}

// Facts are listed the newest first, so keys are found from the last one.
static bool collect_keys(ObjectMaker *m) {
    SchemaReader *r = m->r;
    uint32_t n = 0;
    for (const Fact *f = m->c->facts; f; f = f->rest)
        n++;
    const Fact **facts = arena_new(&r->memory, const Fact *, n);
    m->keys = arena_new(&r->memory, Str, SCHEMA_MEMBERS_MAX);
    if (!facts || !m->keys) return schema_no_memory(r);
    for (const Fact *f = m->c->facts; f; f = f->rest)
        facts[--n] = f;
    // `properties` before names that stand only in `required` and the like.
    uint32_t count = 0;
    for (const Fact *f = m->c->facts; f; f = f->rest, count++) {
    }
    for (int named = 1; named >= 0; named--) {
        for (uint32_t i = 0; i < count; i++) {
            const Fact *f = facts[i];
            bool has_key = named ? f->is_named : f->kind != FACT_EACH && f->kind != FACT_SOME;
            if (has_key && !add_key(m, f->key, f->source)) return false;
            if (has_key && f->kind == FACT_NEEDS && !add_key(m, f->needed, f->source)) return false;
        }
    }
    return true;
}

static bool add_group(ObjectMaker *m, const Lang *names, const uint32_t *literals, uint32_t n, uint32_t added,
                      const JsonNode *at) {
    if (!names || added == LITERAL_FALSE) return true;
    if (m->n_groups == SCHEMA_GROUPS_MAX)
        return schema_refuse(m->r, at, ERR_TOO_LARGE, "patterns of names combine in more than %d ways",
                             SCHEMA_GROUPS_MAX);
    uint32_t *copy = arena_new(&m->r->memory, uint32_t, (uint64_t)n + 1);
    if (!copy) return schema_no_memory(m->r);
    if (n) memcpy(copy, literals, n * sizeof *copy);
    if (added != LITERAL_TRUE) copy[n++] = added;
    m->groups[m->n_groups++] = (Group){names, copy, n};
    return true;
}

static bool split_groups(ObjectMaker *m, const Fact *f) {
    SchemaReader *r = m->r;
    if (f->literal == LITERAL_TRUE) return true;
    Group *before = m->groups;
    uint32_t n = m->n_groups;
    m->groups = arena_new(&r->memory, Group, SCHEMA_GROUPS_MAX);
    m->n_groups = 0;
    if (!m->groups) return schema_no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        const Lang *within = NULL, *outside;
        if (f->literal != LITERAL_FALSE &&
            !schema_combine_names(r, LANG_AND, before[i].names, f->names, &within))
            return schema_place(r, f->source);
        if (!schema_combine_names(r, LANG_WITHOUT, before[i].names, f->names, &outside))
            return schema_place(r, f->source);
        if (!add_group(m, within, before[i].literals, before[i].n_literals, f->literal, f->source) ||
            !add_group(m, outside, before[i].literals, before[i].n_literals, LITERAL_TRUE, f->source))
            return false;
    }
    return true;
}

static bool collect_groups(ObjectMaker *m) {
    SchemaReader *r = m->r;
    const Lang *unlisted = &r->all_strings;
    if (m->n_keys) {
        LangMaker maker = r->maker;
        Lang *listed = arena_new(&r->memory, Lang, 1);
        if (!listed) return schema_no_memory(r);
        bool ok = lang_words(&maker, m->keys, m->n_keys, listed, r->err);
        r->maker.work = maker.work;
        if (!ok || !schema_combine_names(r, LANG_WITHOUT, unlisted, listed, &unlisted)) return false;
    }
    m->groups = arena_new(&r->memory, Group, 1);
    if (!m->groups) return schema_no_memory(r);
    if (!add_group(m, unlisted, NULL, 0, LITERAL_TRUE, NULL)) return false;
    // What forbids names comes first: mostly nothing is left then.
    for (int forbids = 1; forbids >= 0; forbids--) {
        for (const Fact *f = m->c->facts; f; f = f->rest) {
            if (f->kind != FACT_EACH || f->is_named || (f->literal == LITERAL_FALSE) != forbids) continue;
            if (!split_groups(m, f)) return false;
        }
    }
    return true;
}

// Values of arguments between marks stand with their marks.
static bool is_marked(const ObjectMaker *m) {
    return m->is_arguments && schema_form(m->r) == ARGUMENTS_MARKED;
}

static bool emit_member_value(ObjectMaker *m, const Str *key, GrammarNode name, uint32_t demand,
                              GrammarNode *out) {
    return is_marked(m) ? schema_emit_marked(m->r, key, name, demand, out) : schema_emit(m->r, demand, out);
}

static bool emit_members(ObjectMaker *m, const JsonNode *at) {
    SchemaReader *r = m->r;
    m->members = arena_new(&r->memory, GrammarMember, m->n_keys);
    if (!m->members) return schema_no_memory(r);
    for (uint32_t i = 0; i < m->n_keys; i++) {
        uint32_t demand, n_needs = 0, *needs = NULL, cap = 0;
        LangMaker maker = r->maker;
        Lang key;
        bool ok;
        if (!schema_can_name(r, m->keys[i], m->is_arguments)) {
            char text[256];
            StrBuf shown = STRBUF(text);
            json_put_shown(&shown, m->keys[i]);
            return schema_refuse(r, at, ERR_INVALID_REQUEST,
                                 "the name \"%s\" cannot be written in calls of this model's format", text);
        }
        maker.keep = &r->memory;
        ok = lang_literal(&maker, m->keys[i], &key, r->err);
        r->maker.work = maker.work;
        if (ok) m->members[i].key = schema_add_names(r, &key, m->is_arguments, true, &ok);
        if (!ok || !member_demand(r, m->c, m->keys[i], &demand) ||
            !emit_member_value(m, &m->keys[i], m->members[i].key, demand, &m->members[i].value))
            return false;
        for (const Fact *f = m->c->facts; f; f = f->rest) {
            if (f->kind == FACT_HAS && str_eq(f->key, m->keys[i])) m->members[i].required = true;
            if (f->kind != FACT_NEEDS || !str_eq(f->key, m->keys[i])) continue;
            if (!lang_grow(&r->memory, (void **)&needs, &cap, n_needs + 1, sizeof *needs))
                return schema_no_memory(r);
            needs[n_needs++] = find_key(m, f->needed);
        }
        m->members[i].needs = needs;
        m->members[i].n_needs = n_needs;
    }
    return true;
}

static bool emit_further(ObjectMaker *m) {
    SchemaReader *r = m->r;
    m->further = arena_new(&r->memory, GrammarFurther, m->n_groups);
    if (!m->further) return schema_no_memory(r);
    for (uint32_t i = 0; i < m->n_groups; i++) {
        uint32_t demand;
        bool ok;
        m->further[i].key = schema_add_names(r, m->groups[i].names, m->is_arguments, false, &ok);
        if (!ok || !schema_demand(r, m->groups[i].literals, m->groups[i].n_literals, &demand) ||
            !emit_member_value(m, NULL, m->further[i].key, demand, &m->further[i].value))
            return false;
    }
    return true;
}

static bool check_object(ObjectMaker *m, const JsonNode *at) {
    uint32_t n_required = 0;
    for (const Fact *f = m->c->facts; f; f = f->rest) {
        if (f->kind == FACT_SOME)
            return schema_refuse(m->r, f->source, ERR_INVALID_REQUEST,
                                 "must not hold, so some member would have to break it");
    }
    for (uint32_t i = 0; i < m->n_keys; i++)
        n_required += m->members[i].required;
    // Names that are not listed may be repeated, which counts but adds none.
    if (m->n_groups && m->c->min > n_required + 1)
        return schema_refuse(m->r, at, ERR_INVALID_REQUEST,
                             "minProperties is more than one above the required members, "
                             "where any names are allowed");
    return true;
}

static bool emit_object(SchemaReader *r, const Case *c, const JsonNode *at, bool is_arguments,
                        GrammarNode *out) {
    ObjectMaker m = {.r = r, .c = c, .is_arguments = is_arguments};
    if (!collect_keys(&m) || !collect_groups(&m) || !emit_members(&m, at) || !check_object(&m, at) ||
        !emit_further(&m))
        return false;
    bool is_python = is_arguments && schema_form(r) == ARGUMENTS_PYTHON;
    GrammarMembers members = {.open = is_python ? r->open_arguments : r->open[KIND_OBJECT],
                              .colon = is_python ? grammar_add_literal(r->builder, STR("=")) : r->colon,
                              .comma = r->comma,
                              .close = is_python ? r->close_arguments : r->close[KIND_OBJECT],
                              .members = m.members,
                              .n_members = m.n_keys,
                              .further = m.further,
                              .n_further = m.n_groups,
                              .min = c->min,
                              .max = c->max,
                              .any_order = !r->options->schema_order};
    if (is_marked(&m)) return schema_add_marked_members(r, &members, at, out);
    *out = grammar_add_members(r->builder, &members);
    return true;
}

// ---- arrays ----

typedef struct {
    SchemaReader *r;
    const Case *c;
    const Fact *some; // NULL, or what the array has to contain
} ArrayMaker;

// The literals of a place, and `added`.
static bool place_demand(ArrayMaker *m, uint32_t place, uint32_t added, GrammarNode *out) {
    SchemaReader *r = m->r;
    uint32_t n = 0, demand;
    for (const Fact *f = m->c->facts; f; f = f->rest)
        n++;
    Arena scratch = r->maker.scratch;
    uint32_t *literals = arena_new(&scratch, uint32_t, (uint64_t)n + 1);
    if (!literals) return schema_no_memory(r);
    n = 0;
    for (const Fact *f = m->c->facts; f; f = f->rest) {
        if (f->kind == FACT_EACH && f->from <= place && place < f->to) literals[n++] = f->literal;
    }
    literals[n++] = added;
    return schema_demand(r, literals, n, &demand) && schema_emit(r, demand, out);
}

static bool emit_place(ArrayMaker *m, uint32_t place, GrammarItem *out) {
    const Fact *some = m->some;
    *out = (GrammarItem){0};
    if (!some || place < some->from) return place_demand(m, place, LITERAL_TRUE, &out->other);
    bool exact = some->max != SCHEMA_UNBOUNDED; // then what is no match must not match
    return place_demand(m, place, some->literal, &out->match) &&
           place_demand(m, place, exact ? some->literal ^ 1 : LITERAL_TRUE, &out->other);
}

uint32_t schema_count_places(const Case *c) {
    uint32_t n = 0;
    for (const Fact *f = c->facts; f; f = f->rest) {
        if (f->kind == FACT_EACH && f->to != SCHEMA_UNBOUNDED && f->to > n) n = f->to;
        if (f->from > n) n = f->from;
    }
    return n < c->max ? n : c->max;
}

static bool find_some(ArrayMaker *m) {
    for (const Fact *f = m->c->facts; f; f = f->rest) {
        if (f->kind != FACT_SOME) continue;
        if (m->some)
            return schema_refuse(m->r, m->some->source, ERR_INVALID_REQUEST,
                                 "a second contains for the same array");
        m->some = f;
    }
    return true;
}

static bool emit_array(SchemaReader *r, const Case *c, GrammarNode *out) {
    ArrayMaker m = {.r = r, .c = c};
    uint32_t n = schema_count_places(c);
    if (!find_some(&m)) return false;
    if (c->unique && c->max > 1) return schema_emit_unique(r, c, out);
    GrammarItem *prefix = arena_new(&r->memory, GrammarItem, n), rest;
    if (!prefix) return schema_no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        if (!emit_place(&m, i, &prefix[i])) return false;
    }
    if (!emit_place(&m, n, &rest)) return false;
    GrammarItems items = {.open = r->open[KIND_ARRAY],
                          .comma = r->comma,
                          .close = r->close[KIND_ARRAY],
                          .prefix = prefix,
                          .n_prefix = n,
                          .rest = rest,
                          .min = c->min,
                          .max = c->max,
                          .contains_min = m.some ? m.some->min : 0,
                          .contains_max = m.some ? m.some->max : GRAMMAR_UNBOUNDED};
    *out = grammar_add_items(r->builder, &items);
    return true;
}

// ---- values ----

static const JsonNode *demand_source(const SchemaReader *r, const Demand *d) {
    for (uint32_t i = d->count; i-- > 0;) {
        if (d->literals[i] / 2) return r->literals[d->literals[i] / 2].node;
    }
    return r->root;
}

static bool emit_value(SchemaReader *r, const Demand *d, const JsonNode *at, bool with_strings,
                       GrammarNode *out) {
    Nodes alternatives = {0};
    ScalarSet set;
    if (!schema_demand_scalars(r, d->literals, d->count, &set)) return false;
    if (!with_strings) set.strings = NULL;
    if (!emit_scalars(r, &set, &alternatives)) return false;
    for (CaseKind kind = KIND_OBJECT; kind <= KIND_ARRAY; kind++) {
        Cases cases;
        if (!schema_demand_cases(r, kind, d->literals, d->count, &cases)) return false;
        if (kind == KIND_OBJECT && !schema_spell_out_some(r, &cases)) return false;
        for (uint32_t i = 0; i < cases.count; i++) {
            GrammarNode node = GRAMMAR_NEVER;
            if (!(kind == KIND_OBJECT ? emit_object(r, &cases.cases[i], at, false, &node)
                                      : emit_array(r, &cases.cases[i], &node)) ||
                !add_node(r, &alternatives, node))
                return false;
        }
    }
    *out = grammar_add_choice(r->builder, alternatives.nodes, alternatives.count);
    return true;
}

bool schema_emit_others(SchemaReader *r, uint32_t demand, GrammarNode *out) {
    Demand d = r->demands[demand];
    return emit_value(r, &d, demand_source(r, &d), false, out);
}

bool schema_emit_arguments(SchemaReader *r, uint32_t demand, GrammarNode *out) {
    Demand d = r->demands[demand];
    Nodes ways = {0};
    Cases cases;
    if (!schema_demand_cases(r, KIND_OBJECT, d.literals, d.count, &cases) ||
        !schema_spell_out_some(r, &cases))
        return false;
    for (uint32_t i = 0; i < cases.count; i++) {
        GrammarNode node = GRAMMAR_NEVER;
        if (!emit_object(r, &cases.cases[i], r->root, true, &node) || !add_node(r, &ways, node)) return false;
    }
    Str name = schema_title(r, r->root);
    if (!name.ptr) return schema_no_memory(r);
    *out = grammar_add_rule(r->builder, name); // which has its name even where nothing is in it
    grammar_set_rule(r->builder, *out, grammar_add_choice(r->builder, ways.nodes, ways.count));
    return grammar_builder_ok(r->builder) ? true : error_false();
}

// emit_value, whose work is noted.
static bool emit_noted(SchemaReader *r, const Demand *d, const JsonNode *at, GrammarNode *out) {
    uint64_t before = r->maker.work, around = r->work_within;
    r->work_within = 0;
    bool ok = schema_enter(r, at) && emit_value(r, d, at, true, out);
    uint64_t all = r->maker.work - before, own = all - min_u64(all, r->work_within);
    r->work_within = around + all;
    if (own > r->dearest_work) r->dearest_work = own, r->dearest = at;
    r->depth -= ok;
    return ok || schema_place_within(r, at);
}

bool schema_emit(SchemaReader *r, uint32_t demand, GrammarNode *out) {
    Demand d = r->demands[demand];
    *out = d.node;
    if (d.has_node) return true;
    if (d.count == 1 && d.literals[0] == LITERAL_FALSE) {
        *out = GRAMMAR_NEVER;
        return true;
    }
    const JsonNode *at = demand_source(r, &d);
    Str name = d.count ? schema_title(r, at) : STR("any value");
    if (!name.ptr) return schema_no_memory(r);
    GrammarNode rule = grammar_add_rule(r->builder, name), body;
    r->demands[demand].node = rule;
    r->demands[demand].has_node = true;
    if (!emit_noted(r, &d, at, &body)) return false;
    grammar_name(r->builder, body, name);
    grammar_set_rule(r->builder, rule, body);
    *out = rule;
    return grammar_builder_ok(r->builder) ? true : error_false();
}
