// Arrays whose items are all different (grammar_unique.h). Items are compared as they are written, so each
// value has one spelling here: strings as in names, numbers the shortest one without exponents. Every value
// can be written so. Where more than integers and finitely many other numbers may stand, they may have up to
// two digits behind the point that they do not need.
#include "grammar/schema_internal.h"

// As number_lang_shortest, and with such zeros.
#define NUMBERS_WITH_ZEROS "(0|-?[1-9]\\d*)(\\.\\d\\d?)?|-0\\.(\\d?[1-9]|[1-9]0)|-?(0|[1-9]\\d*)\\.\\d*[1-9]"

// What stands at a place; *is_scalar is false where an object or an array may.
static bool place_values(SchemaReader *r, const Case *c, uint32_t place, ScalarSet *set, bool *is_scalar) {
    uint32_t n = 0;
    for (const Fact *f = c->facts; f; f = f->rest)
        n++;
    uint32_t *literals = arena_new(&r->memory, uint32_t, n);
    if (!literals) return schema_no_memory(r);
    n = 0;
    for (const Fact *f = c->facts; f; f = f->rest)
        if (f->kind == FACT_EACH && f->from <= place && place < f->to) literals[n++] = f->literal;
    *is_scalar = true;
    for (CaseKind kind = KIND_OBJECT; kind <= KIND_ARRAY; kind++) {
        Cases cases;
        if (!schema_demand_cases(r, kind, literals, n, &cases)) return false;
        *is_scalar = *is_scalar && cases.count == 0;
    }
    return schema_demand_scalars(r, literals, n, set) && schema_settle(r, set);
}

static bool same_lang(const Lang *a, const Lang *b) {
    return a == b || (a && b && lang_equal(a, b));
}

static bool same_values(const ScalarSet *a, const ScalarSet *b) {
    return a->bits == b->bits && same_lang(a->numbers, b->numbers) && same_lang(a->strings, b->strings);
}

static bool refuse(SchemaReader *r, const Case *c, const char *message) {
    return schema_refuse(r, c->unique_source, ERR_INVALID_REQUEST, "%s", message);
}

// The values of all items. A place where none can stand ends the array: *max is lowered to it.
static bool item_values(SchemaReader *r, const Case *c, ScalarSet *out, uint32_t *max) {
    uint32_t n = schema_count_places(c);
    for (const Fact *f = c->facts; f; f = f->rest)
        if (f->kind == FACT_SOME) return refuse(r, c, "uniqueItems together with contains is not supported");
    *max = c->max;
    for (uint32_t place = 0; place <= n && place < *max; place++) {
        ScalarSet set;
        bool is_scalar = false;
        if (!place_values(r, c, place, &set, &is_scalar)) return false;
        if (is_scalar && !set.bits && !set.numbers && !set.strings) *max = place;
        else if (!is_scalar)
            return refuse(r, c,
                          "uniqueItems is supported where items are strings, numbers, booleans or null");
        else if (place == 0) *out = set;
        else if (!same_values(out, &set))
            return refuse(r, c, "uniqueItems is supported where all items have the same schema");
    }
    return true;
}

static bool emit_numbers(SchemaReader *r, const Lang *numbers, GrammarNode *out) {
    Lang shortest, fractions;
    const Lang *zeros;
    bool ok = lang_combine(&r->maker, LANG_AND, numbers, &r->shortest, &shortest, r->err) &&
              lang_combine(&r->maker, LANG_WITHOUT, &shortest, &r->integers, &fractions, r->err);
    if (ok && lang_is_infinite(&r->maker, &fractions))
        ok = schema_read_pattern(r, r->root, STR(NUMBERS_WITH_ZEROS), false, &zeros) &&
             lang_combine(&r->maker, LANG_AND, numbers, zeros, &shortest, r->err);
    *out = ok ? schema_add_leaf(r, &shortest, LANG_UTF8, (Str){0}, (Str){0}, &ok) : GRAMMAR_NEVER;
    return ok;
}

// A leaf for each kind of value.
static bool emit_values(SchemaReader *r, const Case *c, const ScalarSet *set, GrammarNode *out) {
    static const uint8_t words[] = {SCALAR_NULL, SCALAR_FALSE, SCALAR_TRUE};
    GrammarNode leaves[COUNT_OF(words) + 2];
    uint32_t n = 0;
    bool ok = true;
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (set->bits & words[i]) leaves[n++] = schema_add_word(r, words[i], true);
    if (set->numbers && !emit_numbers(r, set->numbers, &leaves[n++])) return false;
    if (set->strings && schema_form(r) == ARGUMENTS_BRACED) // a string between marks is no leaf
        return refuse(r, c, "uniqueItems of strings cannot be held to in calls of this model's format");
    if (set->strings) leaves[n++] = schema_add_name(r, set->strings, &ok);
    *out = grammar_add_choice(r->builder, leaves, n);
    return ok;
}

bool schema_emit_unique(SchemaReader *r, const Case *c, GrammarNode *out) {
    ScalarSet set = {0};
    GrammarNode item = GRAMMAR_NEVER;
    uint32_t max = 0;
    if (!item_values(r, c, &set, &max) || !emit_values(r, c, &set, &item)) return false;
    GrammarItems items = {.open = r->open[KIND_ARRAY],
                          .comma = r->comma,
                          .close = r->close[KIND_ARRAY],
                          .rest = {.other = item},
                          .min = c->min,
                          .max = max,
                          .contains_max = GRAMMAR_UNBOUNDED,
                          .unique = true};
    *out = grammar_add_items(r->builder, &items);
    return true;
}
