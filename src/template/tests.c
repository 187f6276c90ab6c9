// jinja2's tests: what stands behind `is`.
#include "template/functions.h"

#define TEST_IS(name) static bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)

// A test that looks at the kind of the value alone.
#define TEST_KIND(name, condition)          \
    TEST_IS(name) {                         \
        (void)run, (void)bound, (void)args; \
        *out = value_bool(condition);       \
        return true;                        \
    }

static bool is_sized(Value v) {
    return value_is_sequence(v) || v.kind == V_STRING || v.kind == V_DICT || v.kind == V_VIEW ||
           v.kind == V_UNDEFINED || v.kind == V_LOOP;
}

TEST_KIND(is_defined, self.kind != V_UNDEFINED)
TEST_KIND(is_undefined, self.kind == V_UNDEFINED)
TEST_KIND(is_none, self.kind == V_NONE)
TEST_KIND(is_boolean, self.kind == V_BOOL)
TEST_KIND(is_true, self.kind == V_BOOL && self.boolean)
TEST_KIND(is_false, self.kind == V_BOOL && !self.boolean)
TEST_KIND(is_integer, self.kind == V_INT)
TEST_KIND(is_float, self.kind == V_FLOAT)
TEST_KIND(is_number, value_is_number(self))
TEST_KIND(is_string, self.kind == V_STRING)
TEST_KIND(is_mapping, self.kind == V_DICT)
TEST_KIND(is_iterable, is_sized(self) || self.kind == V_ITERATOR)
// What has a length and items: views have no items, but Python's check is for the method's existence.
TEST_KIND(is_sequence,
          value_is_sequence(self) || self.kind == V_STRING || self.kind == V_DICT || self.kind == V_UNDEFINED)
TEST_KIND(is_callable, self.kind == V_MACRO || self.kind == V_METHOD || self.kind == V_FUNCTION ||
                           self.kind == V_LOOP || self.kind == V_JOINER || self.kind == V_UNDEFINED)
TEST_KIND(is_escaped, self.kind == V_STRING && self.text->is_markup)

static bool remainder_is(Run *run, Value self, Value divisor, int64_t wanted, Value *out) {
    Value rest;
    bool same;
    if (!value_binary(run, OP_MOD, self, divisor, &rest) || !value_equal(run, rest, value_int(wanted), &same))
        return false;
    *out = value_bool(same);
    return true;
}

TEST_IS(is_odd) {
    (void)bound, (void)args;
    return remainder_is(run, self, value_int(2), 1, out);
}

TEST_IS(is_even) {
    (void)bound, (void)args;
    return remainder_is(run, self, value_int(2), 0, out);
}

TEST_IS(is_divisibleby) {
    (void)args;
    return remainder_is(run, self, bound[0], 0, out);
}

static bool method_is(Run *run, Value self, Str name, Value *out) {
    Text text;
    Value string;
    const Args none = {0};
    return value_to_text(run, self, &text) && value_string(run, text, &string) &&
           function_call(run, method_find(V_STRING, name), string, &none, out);
}

TEST_IS(is_lower) {
    (void)bound, (void)args;
    return method_is(run, self, STR("islower"), out);
}

TEST_IS(is_upper) {
    (void)bound, (void)args;
    return method_is(run, self, STR("isupper"), out);
}

TEST_IS(is_in) {
    (void)args;
    bool found;
    if (!value_contains(run, bound[0], self, &found)) return false;
    *out = value_bool(found);
    return true;
}

// The same object: what has no identity of its own is the same where it is equal and of one kind.
TEST_IS(is_sameas) {
    (void)args;
    bool same = self.kind == bound[0].kind;
    if (same && !value_equal(run, self, bound[0], &same)) return false;
    bool has_identity = self.kind == V_LIST || self.kind == V_DICT || self.kind == V_TUPLE;
    *out = value_bool(same && (!has_identity || self.list == bound[0].list));
    return true;
}

TEST_IS(is_filter) {
    (void)bound, (void)args;
    if (self.kind == V_LIST || self.kind == V_DICT)
        return run_fail(run, "unhashable type: '%s'", value_type_name(self));
    *out = value_bool(self.kind == V_STRING && filter_find(text_str(self.text)) != UINT32_MAX);
    return true;
}

TEST_IS(is_test) {
    (void)bound, (void)args;
    if (self.kind == V_LIST || self.kind == V_DICT)
        return run_fail(run, "unhashable type: '%s'", value_type_name(self));
    *out = value_bool(self.kind == V_STRING && test_find(text_str(self.text)) != UINT32_MAX);
    return true;
}

TEST_IS(is_eq) {
    (void)args;
    bool same;
    if (!value_equal(run, self, bound[0], &same)) return false;
    *out = value_bool(same);
    return true;
}

TEST_IS(is_ne) {
    if (!is_eq(run, self, bound, args, out)) return false;
    out->boolean = !out->boolean;
    return true;
}

#define TEST_ORDER(name, condition)                                    \
    TEST_IS(name) {                                                    \
        (void)args;                                                    \
        int order;                                                     \
        if (!value_compare(run, self, bound[0], &order)) return false; \
        *out = value_bool(condition);                                  \
        return true;                                                   \
    }

TEST_ORDER(is_lt, order < 0)
TEST_ORDER(is_le, order <= 0)
TEST_ORDER(is_gt, order > 0)
TEST_ORDER(is_ge, order >= 0)

const Function TESTS[] = {
    {"defined", is_defined, "", 0, MARKUP_LOST},   {"undefined", is_undefined, "", 0, MARKUP_LOST},
    {"none", is_none, "", 0, MARKUP_LOST},         {"boolean", is_boolean, "", 0, MARKUP_LOST},
    {"true", is_true, "", 0, MARKUP_LOST},         {"false", is_false, "", 0, MARKUP_LOST},
    {"integer", is_integer, "", 0, MARKUP_LOST},   {"float", is_float, "", 0, MARKUP_LOST},
    {"number", is_number, "", 0, MARKUP_LOST},     {"string", is_string, "", 0, MARKUP_LOST},
    {"mapping", is_mapping, "", 0, MARKUP_LOST},   {"iterable", is_iterable, "", 0, MARKUP_LOST},
    {"sequence", is_sequence, "", 0, MARKUP_LOST}, {"callable", is_callable, "", 0, MARKUP_LOST},
    {"escaped", is_escaped, "", 0, MARKUP_LOST},   {"odd", is_odd, "", 0, MARKUP_LOST},
    {"even", is_even, "", 0, MARKUP_LOST},         {"divisibleby", is_divisibleby, "num", 1, MARKUP_LOST},
    {"lower", is_lower, "", 0, MARKUP_LOST},       {"upper", is_upper, "", 0, MARKUP_LOST},
    {"in", is_in, "seq", 1, MARKUP_LOST},          {"sameas", is_sameas, "other", 1, MARKUP_LOST},
    {"filter", is_filter, "", 0, MARKUP_LOST},     {"test", is_test, "", 0, MARKUP_LOST},
    {"eq", is_eq, "other", 1, MARKUP_LOST},        {"equalto", is_eq, "other", 1, MARKUP_LOST},
    {"==", is_eq, "other", 1, MARKUP_LOST},        {"ne", is_ne, "other", 1, MARKUP_LOST},
    {"!=", is_ne, "other", 1, MARKUP_LOST},        {"lt", is_lt, "other", 1, MARKUP_LOST},
    {"lessthan", is_lt, "other", 1, MARKUP_LOST},  {"<", is_lt, "other", 1, MARKUP_LOST},
    {"le", is_le, "other", 1, MARKUP_LOST},        {"<=", is_le, "other", 1, MARKUP_LOST},
    {"gt", is_gt, "other", 1, MARKUP_LOST},        {"greaterthan", is_gt, "other", 1, MARKUP_LOST},
    {">", is_gt, "other", 1, MARKUP_LOST},         {"ge", is_ge, "other", 1, MARKUP_LOST},
    {">=", is_ge, "other", 1, MARKUP_LOST},
};

uint32_t test_find(Str name) {
    for (uint32_t i = 0; i < COUNT_OF(TESTS); i++) {
        if (str_eq(name, str_from_c(TESTS[i].name))) return i;
    }
    return UINT32_MAX;
}
