// Arguments of calls that are not written as JSON (ArgumentsForm in schema.h): names, constants, strings, and
// members that stand between marks.
#include "base/strbuf.h"
#include "grammar/schema_internal.h"

// A name of an object, by where it stands.
typedef enum { NAME_JSON, NAME_QUOTED, NAME_WORD, NAME_BARE, NAME_MARKED } NameForm;

// Characters that no name has, and the language of those that are not listed by name, of which nobody else
// says how long they may be. NAME_JSON may be anything.
static const struct {
    const char *forbidden;
    uint8_t least; // byte
    bool blanks;   // none at either end; else none at all
    const char *pattern;
} name_forms[] = {
    [NAME_JSON] = {.forbidden = ""},
    [NAME_QUOTED] = {.forbidden = "", .blanks = true, .pattern = "[\\s\\S]{0,64}"},
    [NAME_WORD] = {"{}[](),:='\"<", '!', false, "[^\\x00- {}\\[\\](),:='\"<]{1,64}"},
    [NAME_BARE] = {"{}[](),:='\"<", ' ', true,
                   "[^\\x00- {}\\[\\](),:='\"<]([^\\x00-\\x1f{}\\[\\](),:='\"<]{0,62}[^\\x00- "
                   "{}\\[\\](),:='\"<])?"},
    [NAME_MARKED] = {"<>\"", 0, true, "[^ \\t\\n\\r<>\"]([^<>\"]{0,62}[^ \\t\\n\\r<>\"])?"},
};

static NameForm name_form(const SchemaReader *r, bool is_argument) {
    switch (schema_form(r)) {
    case ARGUMENTS_JSON: break;
    case ARGUMENTS_PYTHON: return is_argument ? NAME_WORD : NAME_QUOTED;
    case ARGUMENTS_BRACED: return NAME_BARE;
    case ARGUMENTS_MARKED: return is_argument ? NAME_MARKED : NAME_JSON;
    }
    return NAME_JSON;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool schema_can_name(const SchemaReader *r, Str name, bool is_argument) {
    NameForm form = name_form(r, is_argument);
    if (form == NAME_JSON) return true;
    if (name.len > SCHEMA_ARGUMENT_NAME_BYTES_MAX) return false;
    if (form == NAME_QUOTED) return true;
    if (name.len == 0 || is_blank(name.ptr[0]) || is_blank(name.ptr[name.len - 1])) return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = (uint8_t)name.ptr[i];
        if (byte < name_forms[form].least || (byte && strchr(name_forms[form].forbidden, byte))) return false;
    }
    return true;
}

GrammarNode schema_add_names(SchemaReader *r, const Lang *names, bool is_argument, bool is_listed, bool *ok) {
    NameForm form = name_form(r, is_argument);
    Lang bounded;
    if (form == NAME_JSON) return schema_add_name(r, names, ok);
    if (!is_listed) {
        const Lang *possible;
        *ok = schema_read_pattern(r, r->root, str_from_c(name_forms[form].pattern), false, &possible) &&
              lang_combine(&r->maker, LANG_AND, names, possible, &bounded, r->err);
        if (!*ok) return GRAMMAR_NEVER;
        names = &bounded;
    }
    if (form == NAME_QUOTED) return schema_add_leaf(r, names, LANG_JSON_PLAIN, STR("\""), STR("\""), ok);
    return schema_add_leaf(r, names, LANG_UTF8, (Str){0}, (Str){0}, ok);
}

GrammarNode schema_add_word(SchemaReader *r, uint8_t bit, bool once) {
    static const Str json[] = {STR("null"), STR("false"), STR("true")};
    static const Str python[][2] = {
        {STR("None"), STR("null")}, {STR("False"), STR("false")}, {STR("True"), STR("true")}};
    uint32_t which = bit == SCALAR_NULL ? 0 : bit == SCALAR_FALSE ? 1 : 2;
    if (schema_form(r) == ARGUMENTS_PYTHON) return grammar_add_texts(r->builder, python[which], once ? 1 : 2);
    return grammar_add_literal(r->builder, json[which]);
}

// A string as it is, without quotes.
static bool emit_raw(SchemaReader *r, const Lang *strings, GrammarNode *out) {
    bool ok;
    *out = schema_add_leaf(r, strings, LANG_UTF8, (Str){0}, (Str){0}, &ok);
    return ok;
}

bool schema_emit_braced_string(SchemaReader *r, const Lang *strings, GrammarNode *out) {
    GrammarNode quote = r->options->arguments->quote, parts[] = {quote, GRAMMAR_NEVER, quote};
    if (!emit_raw(r, strings, &parts[1])) return false;
    *out = grammar_add_sequence(r->builder, parts, COUNT_OF(parts));
    return true;
}

// ---- members between marks ----

typedef struct {
    SchemaReader *r;
    GrammarNode name;
    GrammarNode ways[2];
    uint32_t n_ways;
} Marked;

static void add_way(Marked *m, GrammarNode key_close, GrammarNode value) {
    const SchemaArguments *a = m->r->options->arguments;
    GrammarNode parts[] = {a->key_open, m->name, key_close, a->value_open, value, a->value_close};
    m->ways[m->n_ways++] = grammar_add_sequence(m->r->builder, parts, COUNT_OF(parts));
}

// Strings that nobody takes for something else.
static bool strings_as_they_are(SchemaReader *r, const Lang *strings, const ArgumentReading *reading,
                                const Lang **out) {
    const Lang *others;
    *out = strings;
    if (!strings || !reading->not_strings.len) return true;
    return schema_read_pattern(r, r->root, reading->not_strings, false, &others) &&
           schema_combine_names(r, LANG_WITHOUT, strings, others, out);
}

bool schema_emit_marked(SchemaReader *r, const Str *key, GrammarNode name, uint32_t demand,
                        GrammarNode *out) {
    const SchemaArguments *a = r->options->arguments;
    ArgumentReading reading;
    Marked m = {.r = r, .name = name};
    a->read(a->context, key, &reading);
    const Demand d = r->demands[demand];
    if (reading.as_string) {
        ScalarSet set;
        const Lang *strings;
        GrammarNode raw;
        if (!schema_demand_scalars(r, d.literals, d.count, &set) || !schema_settle(r, &set) ||
            !strings_as_they_are(r, set.strings, &reading, &strings))
            return false;
        if (strings && !emit_raw(r, strings, &raw)) return false;
        if (strings) add_way(&m, a->string_key_close, raw);
    }
    if (reading.as_json) {
        GrammarNode json;
        bool quotes_strings = !reading.as_string || reading.as_quoted;
        if (!(quotes_strings ? schema_emit(r, demand, &json) : schema_emit_others(r, demand, &json)))
            return false;
        add_way(&m, a->key_close, json);
    }
    *out = grammar_add_choice(r->builder, m.ways, m.n_ways);
    return true;
}

// In the order of the schema, and then names that it does not list. Where the required ones are as many as
// there may be (a constant, say), no other comes.
bool schema_add_marked_members(SchemaReader *r, const GrammarMembers *m, const JsonNode *at,
                               GrammarNode *out) {
    uint32_t n_required = 0, n_parts = 0;
    for (uint32_t i = 0; i < m->n_members; i++)
        n_required += m->members[i].required;
    bool is_full = n_required == m->max;
    uint32_t n_further = is_full ? 0 : m->n_further;
    uint32_t most = is_full ? n_required : n_further ? SCHEMA_UNBOUNDED : m->n_members;
    GrammarNode *parts = arena_new(&r->memory, GrammarNode, (uint64_t)m->n_members + 1);
    GrammarNode *others = arena_new(&r->memory, GrammarNode, n_further);
    if (!parts || !others) return schema_no_memory(r);
    for (uint32_t i = 0; i < m->n_members; i++) {
        const GrammarMember *member = &m->members[i];
        if (member->n_needs)
            return schema_refuse(r, at, ERR_INVALID_REQUEST,
                                 "dependentRequired cannot be held to in calls of this model's format");
        if (member->required) parts[n_parts++] = member->value;
        else if (!is_full) parts[n_parts++] = grammar_add_repeat(r->builder, member->value, 0, 1);
    }
    if (m->min > n_required || m->max < most)
        return schema_refuse(r, at, ERR_INVALID_REQUEST,
                             "minProperties and maxProperties cannot be held to in calls of this model's "
                             "format");
    for (uint32_t i = 0; i < n_further; i++)
        others[i] = m->further[i].value;
    GrammarNode other = grammar_add_choice(r->builder, others, n_further);
    if (n_further) parts[n_parts++] = grammar_add_repeat(r->builder, other, 0, GRAMMAR_UNBOUNDED);
    *out = grammar_add_sequence(r->builder, parts, n_parts);
    return true;
}
