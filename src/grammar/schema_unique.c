// Arrays whose items are all different. Where an item is one of a few values, such an array is an object in
// disguise: each value comes at most once, in any order, which is what the members of an object do.
#include "base/strbuf.h"
#include "base/utf8.h"
#include "grammar/rx.h"
#include "grammar/schema_internal.h"

enum { VALUES_MAX = 500, VALUE_BYTES_MAX = 1024 };

typedef struct {
    SchemaReader *r;
    GrammarMember *members;
    uint32_t count;
    bool is_number;
} Values;

// ---- the values of a set ----

static bool add_value(Values *v, GrammarNode key) {
    if (v->count == VALUES_MAX) return false;
    v->members[v->count++] = (GrammarMember){.key = key, .value = GRAMMAR_EMPTY};
    return true;
}

static bool add_string(Values *v, Str text) {
    Lang lang;
    bool ok = lang_literal(&v->r->maker, text, &lang, v->r->err);
    GrammarNode key = ok ? schema_add_name(v->r, &lang, &ok) : GRAMMAR_NEVER;
    return ok && add_value(v, key);
}

// The spellings of the number whose shortest one is `text`.
static bool add_number(Values *v, Str text) {
    char pattern[VALUE_BYTES_MAX + 64];
    StrBuf b = STRBUF(pattern);
    bool has_fraction = memchr(text.ptr, '.', text.len) != NULL, is_zero = str_eq(text, STR("0"));
    bool plain = v->r->options->plain_numbers;
    if (is_zero && !plain) strbuf_put(&b, STR("-?"));
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '.') strbuf_put_char(&b, '\\');
        strbuf_put_char(&b, text.ptr[i]);
    }
    if (!plain) strbuf_put(&b, has_fraction ? STR("0*") : STR("(\\.0+)?"));
    const Lang *lang;
    bool ok = schema_read_pattern(v->r, v->r->root, strbuf_str(&b), false, &lang);
    GrammarNode key = ok ? schema_add_leaf(v->r, lang, LANG_UTF8, (Str){0}, (Str){0}, &ok) : GRAMMAR_NEVER;
    return ok && add_value(v, key);
}

// Every text of a finite language, from a state on; `text` holds the characters before it.
static bool walk(Values *v, const Lang *lang, uint32_t state, StrBuf *text) {
    if (lang->accepts[state] && !(v->is_number ? add_number : add_string)(v, strbuf_str(text))) return false;
    for (uint32_t i = 0; i < lang->n_intervals; i++) {
        uint32_t to = lang->next[(size_t)state * lang->n_classes + lang->class_of[i]];
        uint32_t end = i + 1 < lang->n_intervals ? lang->first[i + 1] : 0x110000;
        for (uint32_t c = lang->first[i]; to != LANG_NONE && c < end; c++) {
            char bytes[4];
            size_t before = text->len;
            strbuf_put(text, (Str){bytes, utf8_encode(c, bytes)});
            if (text->truncated || !walk(v, lang, to, text)) return false;
            text->len = before;
            text->ptr[before] = 0;
        }
    }
    return true;
}

static bool walk_finite(Values *v, const Lang *lang) {
    char memory[VALUE_BYTES_MAX];
    StrBuf text = STRBUF(memory);
    // A finite language of few texts is no deeper than it has states, and it has few.
    return !lang_is_infinite(&v->r->maker, lang) && lang->n_states < VALUE_BYTES_MAX &&
           walk(v, lang, 0, &text);
}

static bool add_numbers(Values *v, const Lang *numbers) {
    Lang few;
    if (!lang_combine(&v->r->maker, LANG_AND, numbers, &v->r->shortest, &few, v->r->err)) return false;
    v->is_number = true;
    return lang_is_empty(&few) || walk_finite(v, &few);
}

static bool add_values(Values *v, const ScalarSet *set) {
    static const uint8_t words[] = {SCALAR_NULL, SCALAR_FALSE, SCALAR_TRUE};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (set->bits & words[i] && !add_value(v, schema_add_word(v->r, words[i]))) return false;
    }
    if (set->strings && !walk_finite(v, set->strings)) return false;
    return !set->numbers || add_numbers(v, set->numbers);
}

// ---- the array ----

// The literals of every item; *same is false where places have their own, or something has to be contained.
static bool item_literals(SchemaReader *r, const Case *c, uint32_t **out, uint32_t *count, bool *same) {
    uint32_t n = 0;
    *same = true;
    for (const Fact *f = c->facts; f; f = f->rest)
        n++;
    *out = arena_new(&r->memory, uint32_t, n);
    if (!*out) return schema_no_memory(r);
    *count = 0;
    for (const Fact *f = c->facts; f; f = f->rest) {
        if (f->kind == FACT_SOME || f->from != 0 || f->to != SCHEMA_UNBOUNDED) *same = false;
        (*out)[(*count)++] = f->literal;
    }
    return true;
}

bool schema_emit_unique(SchemaReader *r, const Case *c, GrammarNode *out) {
    uint32_t *literals, count = 0;
    bool same;
    ScalarSet set;
    Values v = {.r = r, .members = arena_new(&r->memory, GrammarMember, VALUES_MAX)};
    if (!v.members) return schema_no_memory(r);
    if (!item_literals(r, c, &literals, &count, &same) || !schema_demand_scalars(r, literals, count, &set))
        return false;
    for (CaseKind kind = KIND_OBJECT; kind <= KIND_ARRAY; kind++) {
        Cases cases;
        if (!schema_demand_cases(r, kind, literals, count, &cases)) return false;
        same = same && cases.count == 0;
    }
    if (set.strings && schema_form(r) == ARGUMENTS_BRACED) // a string between marks is no leaf
        return schema_refuse(r, c->unique_source, ERR_INVALID_REQUEST,
                             "uniqueItems of strings cannot be held to in calls of this model's format");
    // An error that is no limit of this file's own stays.
    if (!same || !add_values(&v, &set)) {
        if (r->err->code == ERR_NO_MEMORY) return false;
        return schema_refuse(
            r, c->unique_source, ERR_INVALID_REQUEST,
            "uniqueItems is supported where all items are of the same few values, at most %d", VALUES_MAX);
    }
    GrammarMembers members = {.open = r->open[KIND_ARRAY],
                              .colon = GRAMMAR_EMPTY,
                              .comma = r->comma,
                              .close = r->close[KIND_ARRAY],
                              .members = v.members,
                              .n_members = v.count,
                              .min = c->min,
                              .max = c->max,
                              .any_order = true};
    *out = grammar_add_members(r->builder, &members);
    return true;
}
