// The scalars that meet a schema: null, booleans, numbers, strings.
#include "base/utf8.h"
#include "grammar/format_patterns.h"
#include "grammar/rx.h"
#include "grammar/schema_internal.h"

enum { ALL_BITS = SCALAR_NULL | SCALAR_BOOLS | SCALAR_EXPONENTS };

// ---- sets ----

static ScalarSet everything(const SchemaReader *r) {
    return (ScalarSet){.bits = ALL_BITS, .numbers = &r->all_numbers, .strings = &r->all_strings};
}

static bool combine(SchemaReader *r, LangOp op, const Lang *a, const Lang *b, const Lang *all,
                    const Lang **out) {
    if (op == LANG_WITHOUT) {
        *out = a == b || b == all ? NULL : a;
        if (!*out || !b) return true;
    } else if (!a || !b || a == b || a == all || b == all) {
        if (op == LANG_AND) *out = !a || !b ? NULL : a == all ? b : a;
        else *out = a == all || b == all ? all : a ? a : b;
        return true;
    }
    Lang *made = arena_new(&r->memory, Lang, 1);
    if (!made) return schema_no_memory(r);
    if (!lang_combine(&r->maker, op, a, b, made, r->err)) return false;
    *out = lang_is_empty(made) ? NULL : lang_equal(made, all) ? all : made;
    return true;
}

bool schema_combine_names(SchemaReader *r, LangOp op, const Lang *a, const Lang *b, const Lang **out) {
    return combine(r, op, a, b, &r->all_strings, out);
}

// Lengths of more states are counted beside another language, unless that is finite, so that it has a bound
// of its own, and both together have no more than COUNT_STATES_MAX.
enum { COUNT_STATES_MIN = 16, COUNT_STATES_MAX = 1 << 14 };

static bool is_small(const SchemaReader *r, const Lang *strings, uint64_t lengths) {
    return strings->n_states * lengths <= COUNT_STATES_MAX && !lang_is_infinite(&r->maker, strings);
}

bool schema_settle(SchemaReader *r, ScalarSet *set) {
    Lang length;
    uint32_t most = set->most;
    set->most = 0;
    if (!set->strings || !most) return true;
    return lang_length(&r->maker, 0, most, &length, r->err) &&
           combine(r, LANG_AND, set->strings, &length, &r->all_strings, &set->strings);
}

// Whether `length` is one that is to be counted beside the other language; *rest is what is left of it then.
static bool is_counted(SchemaReader *r, const Lang *length, const Lang *other, const Lang **rest,
                       uint32_t *most, bool *ok) {
    uint32_t min, max, other_min, other_max;
    *rest = length;
    if (length->n_states < COUNT_STATES_MIN || other == &r->all_strings) return false;
    if (is_small(r, other, length->n_states)) return false;
    if (!lang_is_length(length, &min, &max) || max == LANG_NONE) return false;
    if (lang_is_length(other, &other_min, &other_max)) return false;
    *most = *most ? (uint32_t)min_u64(*most, max) : max;
    *rest = &r->all_strings;
    if (min == 0) return true;
    Lang *made = arena_new(&r->memory, Lang, 1);
    *ok = made ? lang_length(&r->maker, min, LANG_NONE, made, r->err) : schema_no_memory(r);
    *rest = made;
    return true;
}

static bool and_strings_of(SchemaReader *r, const ScalarSet *a, const ScalarSet *b, ScalarSet *made) {
    const Lang *x = a->strings, *y = b->strings;
    uint32_t most = a->most && b->most ? (uint32_t)min_u64(a->most, b->most) : a->most | b->most;
    bool ok = true;
    if (!x || !y) return true;
    if (!is_counted(r, x, y, &x, &most, &ok)) (void)is_counted(r, y, x, &y, &most, &ok);
    if (!ok || !combine(r, LANG_AND, x, y, &r->all_strings, &made->strings)) return false;
    made->most = most;
    bool settles = !made->strings || is_small(r, made->strings, most + 1ull);
    return settles ? schema_settle(r, made) : true;
}

static bool combine_strings(SchemaReader *r, LangOp op, const ScalarSet *a, const ScalarSet *b,
                            ScalarSet *made) {
    if (op == LANG_AND) return and_strings_of(r, a, b, made);
    if (!a->strings || !b->strings) {
        const ScalarSet *from = op == LANG_OR && !a->strings ? b : a;
        made->strings = from->strings;
        made->most = from->most;
        return true;
    }
    ScalarSet x = *a, y = *b;
    return schema_settle(r, &x) && schema_settle(r, &y) &&
           combine(r, op, x.strings, y.strings, &r->all_strings, &made->strings);
}

static bool combine_sets(SchemaReader *r, LangOp op, const ScalarSet *a, const ScalarSet *b, ScalarSet *out) {
    ScalarSet made = {0};
    if (!combine(r, op, a->numbers, b->numbers, &r->all_numbers, &made.numbers) ||
        !combine_strings(r, op, a, b, &made))
        return false;
    uint8_t bits = op == LANG_AND  ? a->bits & b->bits
                   : op == LANG_OR ? a->bits | b->bits
                                   : a->bits & ~b->bits;
    // Spellings with an exponent are known of all numbers or of none.
    bits &= (uint8_t)~SCALAR_EXPONENTS;
    made.bits = made.numbers == &r->all_numbers ? bits | SCALAR_EXPONENTS : bits;
    *out = made;
    return true;
}

static bool and_set(SchemaReader *r, ScalarSet *set, const ScalarSet *other) {
    return combine_sets(r, LANG_AND, set, other, set);
}

static bool or_set(SchemaReader *r, ScalarSet *set, const ScalarSet *other) {
    return combine_sets(r, LANG_OR, set, other, set);
}

static bool without(SchemaReader *r, const ScalarSet *a, const ScalarSet *b, ScalarSet *out) {
    return combine_sets(r, LANG_WITHOUT, a, b, out);
}

// ---- keywords ----

static bool and_numbers(SchemaReader *r, ScalarSet *set, const Lang *made) {
    ScalarSet other = everything(r);
    other.numbers = lang_is_empty(made) ? NULL : made;
    other.bits &= (uint8_t)~SCALAR_EXPONENTS;
    return and_set(r, set, &other);
}

static bool and_strings(SchemaReader *r, ScalarSet *set, const Lang *made) {
    ScalarSet other = everything(r);
    other.strings = lang_is_empty(made) ? NULL : lang_equal(made, &r->all_strings) ? &r->all_strings : made;
    return and_set(r, set, &other);
}

static bool and_types(SchemaReader *r, const JsonNode *schema, ScalarSet *set) {
    uint32_t types;
    if (!schema_read_types(r, schema, &types)) return false;
    ScalarSet allowed = {0};
    if (types & SCHEMA_NULL) allowed.bits |= SCALAR_NULL;
    if (types & SCHEMA_BOOLEAN) allowed.bits |= SCALAR_BOOLS;
    if (types & SCHEMA_INTEGER) allowed.numbers = &r->integers;
    if (types & SCHEMA_NUMBER) allowed.numbers = &r->all_numbers, allowed.bits |= SCALAR_EXPONENTS;
    if (types & SCHEMA_STRING) allowed.strings = &r->all_strings;
    return and_set(r, set, &allowed);
}

static bool and_number_keywords(SchemaReader *r, const JsonNode *schema, ScalarSet *set) {
    static const struct {
        const char *keyword;
        int relations;
    } bounds[] = {{"minimum", NUMBER_EQUAL | NUMBER_GREATER},
                  {"maximum", NUMBER_EQUAL | NUMBER_LESS},
                  {"exclusiveMinimum", NUMBER_GREATER},
                  {"exclusiveMaximum", NUMBER_LESS},
                  {"multipleOf", 0}};
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        const JsonNode *value = json_get(schema, str_from_c(bounds[i].keyword));
        if (!value) continue;
        Decimal decimal = decimal_from_json(value);
        bool is_step = bounds[i].relations == 0;
        Lang *made = arena_new(&r->memory, Lang, 1);
        if (!made) return schema_no_memory(r);
        if (is_step ? !number_lang_multiple(&r->maker, &decimal, made, r->err)
                    : !number_lang_compare(&r->maker, &decimal, bounds[i].relations, made, r->err))
            return schema_place(r, value);
        if (!and_numbers(r, set, made)) return schema_place(r, value);
    }
    return true;
}

// Lengths and patterns are one automaton, of as many states as both together: says that it is too large.
static bool refuse_length(SchemaReader *r, const JsonNode *at_length, const JsonNode *at) {
    Error why = *r->err;
    if (!at_length || r->err->code != ERR_TOO_LARGE) return schema_place(r, at);
    return schema_refuse(
        r, at_length, ERR_TOO_LARGE,
        "a length together with a pattern or format is too much (it %s); leave one of them out", why.message);
}

static bool and_string_keywords(SchemaReader *r, const JsonNode *schema, ScalarSet *set) {
    uint32_t min = 0, max = SCHEMA_UNBOUNDED;
    const JsonNode *at_min = json_get(schema, STR("minLength")), *at_max = json_get(schema, STR("maxLength"));
    if (!schema_read_min(r, schema, STR("minLength"), &min) ||
        !schema_read_max(r, schema, STR("maxLength"), &max))
        return false;
    if (at_min || at_max) {
        Lang *made = arena_new(&r->memory, Lang, 1);
        if (!made) return schema_no_memory(r);
        if (!lang_length(&r->maker, min, max, made, r->err) || !and_strings(r, set, made))
            return schema_place(r, at_max ? at_max : at_min);
    }
    const JsonNode *pattern = json_get(schema, STR("pattern")), *format = json_get(schema, STR("format"));
    const Lang *made;
    Str text;
    if (pattern) {
        text = (Str){pattern->as.string, pattern->length};
        if (!schema_read_pattern(r, pattern, text, true, &made)) return false;
        if (!and_strings(r, set, made)) return refuse_length(r, at_max ? at_max : at_min, pattern);
    }
    if (format) {
        const char *known;
        text = (Str){format->as.string, format->length};
        if (r->options->ignore_formats || !format_has_pattern(text, &known)) return true;
        if (!schema_read_pattern(r, format, str_from_c(known), false, &made)) return false;
        if (!and_strings(r, set, made)) return refuse_length(r, at_max ? at_max : at_min, format);
    }
    return true;
}

// ---- values ----

// Whether a number can be written: passed over, it would be missing among the values in silence.
static bool number_has_spellings(SchemaReader *r, const JsonNode *value) {
    Decimal d = decimal_from_json(value);
    return (d.point <= DECIMAL_DIGITS_MAX && d.point >= -DECIMAL_DIGITS_MAX) ||
           schema_refuse(r, value, ERR_TOO_LARGE, "a number of more than %d digits", DECIMAL_DIGITS_MAX);
}

// The spellings of a number without an exponent: its digits, and zeros behind the point.
static uint32_t rx_number(Rx *rx, const JsonNode *node) {
    static const RxRange zero[] = {{'0', '0'}};
    Decimal d = decimal_from_json(node);
    char text[1024];
    size_t n = 0;
    bool is_integer = decimal_is_integer(&d);
    if (d.negative) text[n++] = '-';
    for (int32_t place = d.point > 1 ? d.point - 1 : 0;
         place >= 0 || d.point - 1 - place < (int32_t)d.n_digits; place--) {
        int32_t at = d.point - 1 - place;
        if (place == -1) text[n++] = '.';
        text[n++] = at >= 0 && at < (int32_t)d.n_digits ? d.digits[at] : '0';
    }
    uint32_t digits = rx_literal(rx, (Str){text, n}), zeros = rx_ranges(rx, zero, 1);
    if (d.n_digits == 0) digits = rx_cat(rx, rx_repeat(rx, rx_literal(rx, STR("-")), 0, 1), digits);
    if (!is_integer) return rx_cat(rx, digits, rx_repeat(rx, zeros, 0, RX_UNBOUNDED));
    uint32_t fraction = rx_cat(rx, rx_literal(rx, STR(".")), rx_repeat(rx, zeros, 1, RX_UNBOUNDED));
    return rx_cat(rx, digits, rx_repeat(rx, fraction, 0, 1));
}

// Halves at a time, so that the tree stays low.
static uint32_t rx_numbers(Rx *rx, const JsonNode *const *nodes, uint32_t count) {
    if (count == 1) return rx_number(rx, nodes[0]);
    uint32_t half = count / 2;
    return rx_alt(rx, rx_numbers(rx, nodes, half), rx_numbers(rx, nodes + half, count - half));
}

typedef struct {
    Str *strings;
    const JsonNode **numbers;
    uint32_t n_strings, n_numbers;
    ScalarSet set;
} Values;

static bool add_value(SchemaReader *r, Values *v, const JsonNode *at, const JsonNode *value) {
    Str text;
    if (json_is_number(value) && !number_has_spellings(r, value)) return false;
    if (value->type == JSON_NULL) v->set.bits |= SCALAR_NULL;
    if (value->type == JSON_BOOL) v->set.bits |= value->as.boolean ? SCALAR_TRUE : SCALAR_FALSE;
    if (json_read_str(value, &text)) v->strings[v->n_strings++] = text;
    if (json_is_number(value)) v->numbers[v->n_numbers++] = value;
    return lang_work(&r->maker, 1, r->err) || schema_place(r, at);
}

// The set of `count` values; `first` and what follows it.
static bool values_set(SchemaReader *r, const JsonNode *at, const JsonNode *first, uint32_t count,
                       ScalarSet *out) {
    LangMaker m = r->maker;
    Rx rx = rx_begin(&m.scratch);
    Values v = {.strings = arena_new(&m.scratch, Str, count),
                .numbers = arena_new(&m.scratch, const JsonNode *, count)};
    Lang *strings = arena_new(&r->memory, Lang, 1), *numbers = arena_new(&r->memory, Lang, 1);
    if (!v.strings || !v.numbers || !strings || !numbers) return schema_no_memory(r);
    for (uint32_t i = 0; i < count; i++, first = json_next(first)) {
        if (!add_value(r, &v, at, first)) return false;
    }
    m.work = r->maker.work;
    bool ok = true;
    if (v.n_strings) ok = lang_words(&m, v.strings, v.n_strings, strings, r->err);
    if (ok && v.n_numbers) {
        uint32_t root = rx_numbers(&rx, v.numbers, v.n_numbers);
        ok = rx_compile(&rx, root, &m, numbers, r->err);
    }
    r->maker.work = m.work;
    if (!ok) return schema_place(r, at);
    *out = v.set;
    if (v.n_strings) out->strings = strings;
    if (v.n_numbers && !lang_is_empty(numbers)) out->numbers = numbers;
    return true;
}

static bool and_values(SchemaReader *r, const JsonNode *schema, ScalarSet *set) {
    const JsonNode *values = json_get(schema, STR("enum")), *value = json_get(schema, STR("const"));
    ScalarSet named;
    if (values) {
        if (!values_set(r, values, json_first(values), values->length, &named) || !and_set(r, set, &named))
            return false;
    }
    return !value || (values_set(r, value, value, 1, &named) && and_set(r, set, &named));
}

// ---- parts ----

static bool part(SchemaReader *r, const JsonNode *schema, ScalarSet *out) {
    uint32_t literal;
    return schema_literal(r, LITERAL_SCHEMA, schema, &literal) && schema_scalars(r, literal, out);
}

static bool and_all_of(SchemaReader *r, const JsonNode *list, ScalarSet *set) {
    ScalarSet one;
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e)) {
        if (!part(r, e, &one) || !and_set(r, set, &one)) return false;
    }
    return true;
}

// What meets at least one of the schemas, and exactly one (where `exactly` is given). Halves at a time: sets
// that are joined one by one would each be walked through as often as there are schemas.
static bool choose(SchemaReader *r, const JsonNode *const *schemas, uint32_t count, ScalarSet *at_least,
                   ScalarSet *exactly) {
    ScalarSet other_least, other_exactly, *other = exactly ? &other_exactly : NULL;
    if (count == 1) {
        if (!part(r, schemas[0], at_least)) return false;
        if (exactly) *exactly = *at_least;
        return true;
    }
    uint32_t half = count / 2;
    if (!choose(r, schemas, half, at_least, exactly) ||
        !choose(r, schemas + half, count - half, &other_least, other))
        return false;
    if (exactly &&
        (!without(r, exactly, &other_least, exactly) ||
         !without(r, &other_exactly, at_least, &other_exactly) || !or_set(r, exactly, &other_exactly)))
        return false;
    return or_set(r, at_least, &other_least);
}

static bool and_choice(SchemaReader *r, const JsonNode *list, bool is_one_of, ScalarSet *set) {
    const JsonNode **schemas = arena_new(&r->memory, const JsonNode *, list->length);
    ScalarSet at_least, exactly;
    uint32_t n = 0;
    if (!schemas) return schema_no_memory(r);
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e))
        schemas[n++] = e;
    return choose(r, schemas, n, &at_least, is_one_of ? &exactly : NULL) &&
           and_set(r, set, is_one_of ? &exactly : &at_least);
}

static bool and_any_of(SchemaReader *r, const JsonNode *list, ScalarSet *set) {
    return and_choice(r, list, false, set);
}

static bool and_one_of(SchemaReader *r, const JsonNode *list, ScalarSet *set) {
    return and_choice(r, list, true, set);
}

static bool and_if(SchemaReader *r, const JsonNode *schema, const JsonNode *condition, ScalarSet *set) {
    const JsonNode *then = json_get(schema, STR("then")), *otherwise = json_get(schema, STR("else"));
    ScalarSet all = everything(r), holds, fails, branch;
    if (!part(r, condition, &holds) || !without(r, &all, &holds, &fails)) return false;
    if (then && (!part(r, then, &branch) || !and_set(r, &holds, &branch))) return false;
    if (otherwise && (!part(r, otherwise, &branch) || !and_set(r, &fails, &branch))) return false;
    return or_set(r, &holds, &fails) && and_set(r, set, &holds);
}

static bool and_reference(SchemaReader *r, const JsonNode *schema, Str keyword, ScalarSet *set) {
    const JsonNode *ref = json_get(schema, keyword), *target;
    ScalarSet one;
    if (!ref) return true;
    return schema_resolve(r, schema, ref, keyword.len > 4, &target) && part(r, target, &one) &&
           and_set(r, set, &one);
}

static bool and_parts(SchemaReader *r, const JsonNode *schema, ScalarSet *set) {
    static const struct {
        const char *keyword;
        bool (*add)(SchemaReader *r, const JsonNode *list, ScalarSet *set);
    } lists[] = {{"allOf", and_all_of}, {"anyOf", and_any_of}, {"oneOf", and_one_of}};
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        const JsonNode *list = json_get(schema, str_from_c(lists[i].keyword));
        if (list && !lists[i].add(r, list, set)) return false;
    }
    const JsonNode *not = json_get(schema, STR("not")), *condition = json_get(schema, STR("if"));
    ScalarSet refused;
    if (not &&(!part(r, not, &refused) || !without(r, set, &refused, set))) return false;
    if (condition && !and_if(r, schema, condition, set)) return false;
    return and_reference(r, schema, STR("$ref"), set) && and_reference(r, schema, STR("$dynamicRef"), set);
}

static bool schema_set(SchemaReader *r, const JsonNode *schema, ScalarSet *out) {
    *out = everything(r);
    return and_types(r, schema, out) && and_number_keywords(r, schema, out) &&
           and_string_keywords(r, schema, out) && and_values(r, schema, out) && and_parts(r, schema, out);
}

static bool any_of_set(SchemaReader *r, const Literal *l, ScalarSet *out) {
    ScalarSet one;
    *out = (ScalarSet){0};
    for (uint32_t i = 0; i < l->n_any_of; i++) {
        if (!schema_scalars(r, l->any_of[i], &one) || !or_set(r, out, &one)) return false;
    }
    return true;
}

bool schema_scalars(SchemaReader *r, uint32_t literal, ScalarSet *out) {
    ScalarSet all = everything(r);
    *out = literal == LITERAL_TRUE ? all : (ScalarSet){0};
    if (literal / 2 == 0) return true;
    Literal l = r->literals[literal / 2];
    if (!l.has_scalars) {
        if (l.scalars_busy)
            return schema_refuse(r, l.node, ERR_INVALID_REQUEST, "refers to itself with nothing between");
        r->literals[literal / 2].scalars_busy = true;
        if (!schema_enter(r, l.node)) return false;
        bool ok = l.kind == LITERAL_SCHEMA  ? schema_set(r, l.node, out)
                  : l.kind == LITERAL_VALUE ? values_set(r, l.node, l.node, 1, out)
                                            : any_of_set(r, &l, out);
        if (!ok) return schema_place_within(r, l.node);
        r->depth--;
        r->literals[literal / 2].scalars = *out;
        r->literals[literal / 2].has_scalars = true;
    }
    *out = r->literals[literal / 2].scalars;
    return literal % 2 ? without(r, &all, out, out) : true;
}

bool schema_demand_scalars(SchemaReader *r, const uint32_t *literals, uint32_t count, ScalarSet *out) {
    ScalarSet one;
    *out = everything(r);
    for (uint32_t i = 0; i < count; i++) {
        if (!schema_scalars(r, literals[i], &one) || !and_set(r, out, &one)) return false;
    }
    return true;
}
