// jinja2's filters: what stands behind "|".
#include "template/filters.h"
#include "template/py_format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILTER(name) static bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)

// ---- helpers ----

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool ignore_case(Run *run, Value v, bool case_sensitive, Value *out) {
    *out = v;
    return case_sensitive || v.kind != V_STRING || text_change_case(run, v.text, CASE_LOWER, out);
}

// item.a.b.0 for the attribute "a.b.0"; the item itself where it is absent.
static bool get_attribute(Run *run, Value item, Value attribute, Value fallback, Value *out) {
    *out = item;
    if (is_absent(attribute) || attribute.kind == V_NONE) return true;
    if (attribute.kind != V_STRING) {
        if (!value_getitem_or_attr(run, item, attribute, out)) return false;
        if (out->kind == V_UNDEFINED && !is_absent(fallback) && fallback.kind != V_NONE) *out = fallback;
        return true;
    }
    Text path = *attribute.text;
    for (size_t from = 0, end; from <= path.len; from = end + 1) {
        const char *dot = path.len > from ? memchr(path.ptr + from, '.', path.len - from) : NULL;
        end = dot ? (size_t)(dot - path.ptr) : path.len;
        Str part = {path.ptr + from, end - from};
        uint64_t index;
        Value key;
        if (str_parse_u64(part, &index) && index <= INT64_MAX) key = value_int((int64_t)index);
        else if (!value_string(run, text_slice(path, from, end), &key)) return false;
        if (!value_getitem_or_attr(run, *out, key, out)) return false;
        if (out->kind == V_UNDEFINED && !is_absent(fallback) && fallback.kind != V_NONE) *out = fallback;
    }
    return true;
}

// An iterator over `count` items that are to be filled in.
static bool new_iterator(Run *run, size_t count, Value *out) {
    return value_list(run, V_ITERATOR, count, out);
}

// ---- numbers ----

FILTER(filter_abs) {
    (void)bound, (void)args;
    if (!value_is_number(self))
        return run_fail(run, "bad operand type for abs(): '%s'", value_type_name(self));
    *out = self.kind == V_FLOAT ? value_float(fabs(self.real)) : value_int(value_integer(self));
    return out->kind == V_FLOAT || out->integer >= 0 || value_negate(run, *out, out);
}

// float(text): white space around, underscores between digits, inf and nan; false for anything else.
static bool parse_float(const Text *t, double *out) {
    Text s = text_strip(t, NULL, true, true);
    char copy[400];
    size_t n = 0;
    if (s.len == 0 || s.len >= sizeof copy) return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool digits_around = i > 0 && i + 1 < s.len && is_digit(s.ptr[i - 1]) && is_digit(s.ptr[i + 1]);
        if (c == '_' && !digits_around) return false;
        if (c != '_') copy[n++] = c;
    }
    copy[n] = 0;
    if (strpbrk(copy, "xXpP(")) return false; // hexadecimal, which strtod would read
    char *end;
    *out = strtod(copy, &end);
    return end != copy && *end == 0;
}

FILTER(filter_float) {
    (void)args;
    double value;
    if (self.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", self.name);
    if (value_is_number(self)) *out = value_float(value_number(self));
    else if (self.kind == V_STRING && parse_float(self.text, &value)) *out = value_float(value);
    else *out = is_absent(bound[0]) ? value_float(0) : bound[0];
    return true;
}

static int digit_of(char c) {
    if (is_digit(c)) return c - '0';
    return is_letter(c) ? (c | 0x20) - 'a' + 10 : 99;
}

// int(text, base); false where it is none.
static bool parse_int(const Text *t, int64_t base, int64_t *out) {
    Text s = text_strip(t, NULL, true, true);
    size_t at = 0;
    bool negative = s.len && s.ptr[0] == '-';
    at += s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
    char kind = at + 1 < s.len && s.ptr[at] == '0' ? (char)(s.ptr[at + 1] | 0x20) : 0;
    int64_t named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (named && (base == named || base == 0)) {
        at += 2;
        base = named;
    }
    bool leading_zero = base == 0 && at < s.len && s.ptr[at] == '0';
    if (base == 0) base = 10;
    uint64_t value = 0;
    size_t from = at;
    for (; at < s.len; at++) {
        if (s.ptr[at] == '_' && at + 1 < s.len && s.ptr[at + 1] != '_' && (at > from || named)) continue;
        int digit = digit_of(s.ptr[at]);
        if (digit >= base) return false;
        if (!checked_mul(value, (uint64_t)base, &value) || !checked_add(value, (uint64_t)digit, &value))
            return false;
    }
    if (at == from || s.ptr[at - 1] == '_' || value > INT64_MAX || (leading_zero && value != 0)) return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

static bool float_to_int(double value, int64_t *out) {
    if (!(value > -9.2e18 && value < 9.2e18)) return false;
    *out = (int64_t)value;
    return true;
}

FILTER(filter_int) {
    (void)args;
    int64_t base, value;
    double real;
    if (!arg_integer(run, bound[1], "base", 10, &base)) return false;
    bool ok = false;
    if (self.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", self.name);
    if (self.kind == V_STRING) run_spend(run, self.text->len / 4);
    // Python would have the integer; a wrong one would be worse than none.
    if (self.kind == V_FLOAT && isfinite(self.real) && !float_to_int(self.real, &value))
        return run_fail(run, "an integer beyond 64 bits");
    if (value_is_integer(self)) {
        value = value_integer(self);
        ok = true;
    } else if (self.kind == V_FLOAT) {
        ok = float_to_int(self.real, &value);
    } else if (self.kind == V_STRING) {
        ok = (base == 0 || (base >= 2 && base <= 36)) && parse_int(self.text, base, &value);
        ok = ok || (parse_float(self.text, &real) && float_to_int(real, &value));
    }
    *out = ok ? value_int(value) : is_absent(bound[0]) ? value_int(0) : bound[0];
    return true;
}

FILTER(filter_round) {
    (void)args;
    int64_t digits;
    Text method = text_of(STR("common"), ORIGIN_TEMPLATE);
    if (!arg_integer(run, bound[0], "precision", 0, &digits)) return false;
    if (!is_absent(bound[1]) && !arg_text(run, bound[1], "method", &method)) return false;
    Str name = text_str(&method);
    bool is_ceil = str_eq(name, STR("ceil")), is_floor = str_eq(name, STR("floor"));
    if (!is_ceil && !is_floor && !str_eq(name, STR("common")))
        return run_fail(run, "method must be common, ceil or floor");
    if (!value_is_number(self))
        return run_fail(run, "type %s doesn't define __round__ method", value_type_name(self));
    if (digits > 400 || digits < -400) return run_fail(run, "a precision that is too large");
    if (is_ceil || is_floor) {
        double unit = pow(10, (double)digits), scaled = value_number(self) * unit;
        *out = value_float((is_ceil ? ceil(scaled) : floor(scaled)) / unit);
        return true;
    }
    run_spend(run, 100);
    if (self.kind == V_FLOAT) {
        *out = value_float(py_round(self.real, (int)digits));
        return true;
    }
    double rounded = digits < 0 ? py_round(value_number(self), (int)digits) : 0;
    *out = digits >= 0 ? value_int(value_integer(self)) : value_int((int64_t)rounded);
    return true;
}

FILTER(filter_filesizeformat) {
    (void)args;
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    bool is_binary = arg_truth(bound[0], false);
    double bytes, base = is_binary ? 1024 : 1000, unit = base;
    if (value_is_number(self)) bytes = value_number(self);
    else if (self.kind != V_STRING || !parse_float(self.text, &bytes))
        return run_fail(run, "could not convert to float");
    Pieces p = {0};
    run_spend(run, 16);
    if (bytes == 1) return value_str(run, STR("1 Byte"), ORIGIN_TEMPLATE, out);
    if (bytes < base)
        return pieces_printf(run, &p, ORIGIN_TEMPLATE, "%lld Bytes", (long long)bytes) &&
               pieces_value(run, &p, out);
    size_t i = 0;
    for (; i < COUNT_OF(decimal); i++) {
        unit *= base;
        if (bytes < unit) break;
    }
    if (i == COUNT_OF(decimal)) i--;
    return pieces_printf(run, &p, ORIGIN_TEMPLATE, "%.1f %s", base * bytes / unit,
                         is_binary ? binary[i] : decimal[i]) &&
           pieces_value(run, &p, out);
}

// ---- one of many ----

FILTER(filter_default) {
    (void)run, (void)args;
    bool missing = self.kind == V_UNDEFINED || (arg_truth(bound[1], false) && !value_truth(self));
    if (!missing) *out = self;
    else if (is_absent(bound[0])) return value_str(run, STR(""), ORIGIN_TEMPLATE, out);
    else *out = bound[0];
    return true;
}

FILTER(filter_first) {
    (void)bound, (void)args;
    const List *list;
    if (self.kind == V_ITERATOR) {
        List *from = self.list;
        *out = from->taken < from->count ? from->items[from->taken++] : value_undefined("the first item");
        return true;
    }
    if (!value_iterate(run, self, &list)) return false;
    *out = list->count ? list->items[0] : value_undefined("the first item");
    return true;
}

FILTER(filter_last) {
    (void)bound, (void)args;
    const List *list;
    if (self.kind == V_ITERATOR) return run_fail(run, "'generator' object is not reversible");
    if (!value_iterate(run, self, &list)) return false;
    *out = list->count ? list->items[list->count - 1] : value_undefined("the last item");
    return true;
}

FILTER(filter_length) {
    (void)bound, (void)args;
    size_t n;
    if (self.kind == V_LOOP) return value_getattr(run, self, STR("length"), out);
    if (!value_length(run, self, &n)) return false;
    *out = value_int((int64_t)n);
    return true;
}

FILTER(filter_attr) {
    (void)args;
    Text name;
    if (!arg_text(run, bound[0], "the attribute", &name)) return false;
    if (self.kind == V_DICT && !method_find(V_DICT, text_str(&name))) {
        *out = value_undefined("the attribute");
        return true;
    }
    Str kept = arena_copy_str(run->arena, text_str(&name));
    return kept.ptr ? value_getattr(run, self, kept, out) : run_full(run);
}

static bool extreme(Run *run, Value self, const Value *bound, int sign, Value *out) {
    const List *list;
    Value best_key, key, v;
    if (!value_iterate(run, self, &list)) return false;
    *out = value_undefined("the aggregated item");
    for (size_t i = 0; i < list->count; i++) {
        int order = 0;
        if (!get_attribute(run, list->items[i], bound[1], value_undefined(NULL), &v) ||
            !ignore_case(run, v, arg_truth(bound[0], false), &key) ||
            (i && !value_compare(run, key, best_key, &order))) {
            return false;
        }
        if (i && order * sign <= 0) continue;
        best_key = key;
        *out = list->items[i];
    }
    return true;
}

FILTER(filter_max) {
    (void)args;
    return extreme(run, self, bound, 1, out);
}

FILTER(filter_min) {
    (void)args;
    return extreme(run, self, bound, -1, out);
}

FILTER(filter_sum) {
    (void)args;
    const List *list;
    Value v;
    *out = is_absent(bound[1]) ? value_int(0) : bound[1];
    if (out->kind == V_STRING) return run_fail(run, "sum() can't sum strings");
    if (!value_iterate(run, self, &list)) return false;
    for (size_t i = 0; i < list->count; i++) {
        if (!get_attribute(run, list->items[i], bound[0], value_undefined(NULL), &v) ||
            !value_binary(run, OP_ADD, *out, v, out)) {
            return false;
        }
    }
    return true;
}

FILTER(filter_join) {
    (void)args;
    const List *list;
    Text separator = text_of(STR(""), ORIGIN_TEMPLATE);
    Pieces p = {0};
    Value v;
    if (!value_iterate(run, self, &list) ||
        (!is_absent(bound[0]) && !value_to_text(run, bound[0], &separator)))
        return false;
    for (size_t i = 0; i < list->count; i++) {
        if ((i && !pieces_add(run, &p, separator)) ||
            !get_attribute(run, list->items[i], bound[1], value_undefined(NULL), &v) ||
            !value_print(run, &p, v)) {
            return false;
        }
    }
    return pieces_value(run, &p, out);
}

// ---- lists ----

static bool copy_list(Run *run, const List *list, ValueKind kind, Value *out) {
    if (!value_list(run, kind, list->count, out)) return false;
    if (list->count) memcpy(out->list->items, list->items, list->count * sizeof(Value));
    return true;
}

FILTER(filter_list) {
    (void)bound, (void)args;
    const List *list;
    return value_iterate(run, self, &list) && copy_list(run, list, V_LIST, out);
}

FILTER(filter_reverse) {
    (void)bound, (void)args;
    const Value bounds[3] = {value_none(), value_none(), value_int(-1)};
    const List *list;
    if (self.kind == V_STRING) return value_slice(run, self, bounds, out);
    if (!value_iterate(run, self, &list) || !new_iterator(run, list->count, out)) return false;
    for (size_t i = 0; i < list->count; i++)
        out->list->items[i] = list->items[list->count - 1 - i];
    return true;
}

static bool merge_sort(Run *run, Value *items, Value *keys, Value *spare, size_t n, bool reverse) {
    if (n < 2) return true;
    size_t half = n / 2, left = 0, right = half;
    if (!run_steps(run, n) || !merge_sort(run, items, keys, spare, half, reverse) ||
        !merge_sort(run, items + half, keys + half, spare, n - half, reverse)) {
        return false;
    }
    Value *sorted = spare, *sorted_keys = spare + n;
    for (size_t i = 0; i < n; i++) {
        int order = 0;
        if (left < half && right < n && !value_compare(run, keys[left], keys[right], &order)) return false;
        bool take_left = right == n || (left < half && (reverse ? order >= 0 : order <= 0));
        size_t from = take_left ? left++ : right++;
        sorted[i] = items[from];
        sorted_keys[i] = keys[from];
    }
    memcpy(items, sorted, n * sizeof(Value));
    memcpy(keys, sorted_keys, n * sizeof(Value));
    return true;
}

bool sort_values(Run *run, Value *items, Value *keys, size_t n, bool reverse) {
    Value *spare = arena_new(run->arena, Value, 2 * n);
    return spare ? merge_sort(run, items, keys, spare, n, reverse) : run_full(run);
}

// The key of a sort, by one attribute or several, "a,b": a list of theirs.
static bool sort_key(Run *run, Value item, Value attribute, bool case_sensitive, Value *out) {
    Value v, part;
    if (attribute.kind != V_STRING || !memchr(attribute.text->ptr, ',', attribute.text->len)) {
        return value_list(run, V_LIST, 1, out) &&
               get_attribute(run, item, attribute, value_undefined(NULL), &v) &&
               ignore_case(run, v, case_sensitive, &out->list->items[0]);
    }
    size_t n = 1, i = 0;
    const Text *t = attribute.text;
    for (size_t at = 0; at < t->len; at++)
        n += t->ptr[at] == ',';
    if (!value_list(run, V_LIST, n, out)) return false;
    for (size_t from = 0, end; i < n; from = end + 1, i++) {
        const char *comma = from < t->len ? memchr(t->ptr + from, ',', t->len - from) : NULL;
        end = comma ? (size_t)(comma - t->ptr) : t->len;
        if (!value_string(run, text_slice(*t, from, end), &part) ||
            !get_attribute(run, item, part, value_undefined(NULL), &v) ||
            !ignore_case(run, v, case_sensitive, &out->list->items[i])) {
            return false;
        }
    }
    return true;
}

static bool sorted(Run *run, const List *list, Value attribute, bool case_sensitive, bool reverse, Value *out,
                   Value *keys_out) {
    Value keys;
    if (!copy_list(run, list, V_LIST, out) || !value_list(run, V_LIST, list->count, &keys)) return false;
    for (size_t i = 0; i < list->count; i++) {
        if (!sort_key(run, list->items[i], attribute, case_sensitive, &keys.list->items[i])) return false;
    }
    if (keys_out) *keys_out = keys;
    return sort_values(run, out->list->items, keys.list->items, list->count, reverse);
}

FILTER(filter_sort) {
    (void)args;
    const List *list;
    return value_iterate(run, self, &list) &&
           sorted(run, list, bound[2], arg_truth(bound[1], false), arg_truth(bound[0], false), out, NULL);
}

FILTER(filter_dictsort) {
    (void)args;
    const Args none = {0};
    Value items;
    Text by = text_of(STR("key"), ORIGIN_TEMPLATE);
    if (!is_absent(bound[1]) && !arg_text(run, bound[1], "by", &by)) return false;
    bool by_value = str_eq(text_str(&by), STR("value"));
    if (!by_value && !str_eq(text_str(&by), STR("key")))
        return run_fail(run, "You can only sort by either \"key\" or \"value\"");
    if (self.kind != V_DICT) return run_fail(run, "'%s' object has no items", value_type_name(self));
    return function_call(run, method_find(V_DICT, STR("items")), self, &none, &items) &&
           sorted(run, items.list, value_int(by_value), arg_truth(bound[0], false),
                  arg_truth(bound[2], false), out, NULL);
}

FILTER(filter_groupby) {
    (void)args;
    const List *list;
    bool case_sensitive = arg_truth(bound[2], false);
    Value all, keys, v;
    if (!value_iterate(run, self, &list) || !copy_list(run, list, V_LIST, &all) ||
        !value_list(run, V_LIST, list->count, &keys)) {
        return false;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (!get_attribute(run, list->items[i], bound[0], bound[1], &v) ||
            !ignore_case(run, v, case_sensitive, &keys.list->items[i])) {
            return false;
        }
    }
    if (!sort_values(run, all.list->items, keys.list->items, list->count, false) ||
        !value_list(run, V_LIST, list->count, out)) {
        return false;
    }
    size_t n = 0;
    for (size_t from = 0, to; from < list->count; from = to) {
        bool same = true;
        for (to = from + 1; to < list->count; to++) {
            if (!value_equal(run, keys.list->items[from], keys.list->items[to], &same)) return false;
            if (!same) break;
        }
        Value group, members;
        const List part = {.items = all.list->items + from, .count = to - from};
        if (!value_list(run, V_TUPLE, 2, &group) || !copy_list(run, &part, V_LIST, &members) ||
            !get_attribute(run, part.items[0], bound[0], bound[1], &group.list->items[0])) {
            return false;
        }
        if (case_sensitive) group.list->items[0] = keys.list->items[from];
        group.list->items[1] = members;
        group.list->is_group = true;
        out->list->items[n++] = group;
    }
    out->list->count = n;
    return true;
}

FILTER(filter_unique) {
    (void)args;
    const List *list;
    Value seen, v, key;
    size_t n = 0;
    if (!value_iterate(run, self, &list) || !new_iterator(run, list->count, out) ||
        !value_list(run, V_LIST, list->count, &seen)) {
        return false;
    }
    for (size_t i = 0; i < list->count; i++) {
        bool found = false;
        if (!get_attribute(run, list->items[i], bound[1], value_undefined(NULL), &v) ||
            !ignore_case(run, v, arg_truth(bound[0], false), &key)) {
            return false;
        }
        if (key.kind == V_LIST || key.kind == V_DICT)
            return run_fail(run, "unhashable type: '%s'", value_type_name(key));
        for (size_t k = 0; k < n && !found; k++) {
            if (!value_equal(run, key, seen.list->items[k], &found)) return false;
        }
        if (found) continue;
        seen.list->items[n] = key;
        out->list->items[n++] = list->items[i];
    }
    out->list->count = n;
    return true;
}

FILTER(filter_batch) {
    (void)args;
    const List *list;
    int64_t size;
    if (!value_iterate(run, self, &list) || !arg_integer(run, bound[0], "linecount", 0, &size)) return false;
    if (size < 1) return run_fail(run, "batches of %lld items", (long long)size);
    bool fills = !is_absent(bound[1]) && bound[1].kind != V_NONE;
    size_t per = (size_t)min_u64((uint64_t)size, fills ? TEMPLATE_RANGE_MAX : list->count + 1);
    size_t n = (size_t)div_up(list->count, per);
    if (!new_iterator(run, n, out)) return false;
    for (size_t i = 0; i < n; i++) {
        size_t there = min_u64(per, list->count - i * per);
        if (!value_list(run, V_LIST, fills ? per : there, &out->list->items[i])) return false;
        for (size_t k = 0; k < out->list->items[i].list->count; k++)
            out->list->items[i].list->items[k] = k < there ? list->items[i * per + k] : bound[1];
    }
    return true;
}

FILTER(filter_slice) {
    (void)args;
    const List *list;
    int64_t slices;
    if (!value_iterate(run, self, &list) || !arg_integer(run, bound[0], "slices", 0, &slices)) return false;
    if (slices == 0) return run_fail(run, "integer division or modulo by zero");
    if (slices > TEMPLATE_RANGE_MAX) return run_fail(run, "too many slices");
    size_t n = slices > 0 ? (size_t)slices : 0, at = 0;
    if (!new_iterator(run, n, out)) return false;
    bool fills = !is_absent(bound[1]) && bound[1].kind != V_NONE;
    for (size_t i = 0; i < n; i++) {
        bool is_long = i < list->count % n;
        size_t there = list->count / n + is_long, size = there + (fills && !is_long);
        if (!value_list(run, V_LIST, size, &out->list->items[i])) return false;
        for (size_t k = 0; k < size; k++)
            out->list->items[i].list->items[k] = k < there ? list->items[at + k] : bound[1];
        at += there;
    }
    return true;
}

FILTER(filter_items) {
    (void)bound, (void)args;
    const Args none = {0};
    Value view;
    if (self.kind == V_UNDEFINED) return new_iterator(run, 0, out);
    if (self.kind != V_DICT) return run_fail(run, "Can only get item pairs from a mapping.");
    if (!function_call(run, method_find(V_DICT, STR("items")), self, &none, &view)) return false;
    return copy_list(run, view.list, V_ITERATOR, out);
}

// ---- with other filters and tests ----

static bool call_named(Run *run, Value item, const Args *args, size_t at, bool is_test, Value *out) {
    Text name;
    run_spend(run, 6); // to find it
    if (!arg_text(run, args->items[at], is_test ? "the test" : "the filter", &name)) return false;
    uint32_t index = is_test ? test_find(text_str(&name)) : filter_find(text_str(&name));
    if (index == UINT32_MAX)
        return run_fail(run, "there is no %s '%.*s'", is_test ? "test" : "filter", STR_ARG(text_str(&name)));
    const Args rest = {.items = args->items + at + 1, .count = args->count - at - 1, .kwargs = args->kwargs};
    return function_call(run, is_test ? &TESTS[index] : &FILTERS[index], item, &rest, out);
}

FILTER(filter_map) {
    (void)bound;
    const List *list;
    if (!value_truth(self)) return new_iterator(run, 0, out);
    if (!value_iterate(run, self, &list) || !new_iterator(run, list->count, out)) return false;
    const Value *attribute = args->kwargs ? dict_get_str(run, args->kwargs, STR("attribute")) : NULL;
    bool by_attribute = args->count == 0 && attribute;
    if (!by_attribute && args->count == 0 && list->count)
        return run_fail(run, "map requires a filter argument");
    const Value *fallback = by_attribute ? dict_get_str(run, args->kwargs, STR("default")) : NULL;
    if (by_attribute && args->kwargs->count > (fallback ? 2u : 1u))
        return run_fail(run, "map() has no such argument");
    for (size_t i = 0; i < list->count; i++) {
        Value *to = &out->list->items[i];
        bool ok = by_attribute ? get_attribute(run, list->items[i], *attribute,
                                               fallback ? *fallback : value_undefined(NULL), to)
                               : call_named(run, list->items[i], args, 0, false, to);
        if (!ok) return false;
    }
    return true;
}

// Keeps items for which a test gives `wanted`; of an attribute where `by_attribute`.
static bool select_items(Run *run, Value self, const Args *args, bool by_attribute, bool wanted, Value *out) {
    const List *list;
    size_t n = 0;
    if (!value_truth(self)) return new_iterator(run, 0, out);
    if (!value_iterate(run, self, &list) || !new_iterator(run, list->count, out)) return false;
    if (by_attribute && args->count == 0) return run_fail(run, "Missing parameter for attribute name");
    for (size_t i = 0; i < list->count; i++) {
        Value v = list->items[i], verdict;
        if (by_attribute && !get_attribute(run, v, args->items[0], value_undefined(NULL), &v)) return false;
        if (args->count <= by_attribute) verdict = value_bool(value_truth(v));
        else if (!call_named(run, v, args, by_attribute, true, &verdict)) return false;
        if (value_truth(verdict) == wanted) out->list->items[n++] = list->items[i];
    }
    out->list->count = n;
    return true;
}

FILTER(filter_select) {
    (void)bound;
    return select_items(run, self, args, false, true, out);
}

FILTER(filter_reject) {
    (void)bound;
    return select_items(run, self, args, false, false, out);
}

FILTER(filter_selectattr) {
    (void)bound;
    return select_items(run, self, args, true, true, out);
}

FILTER(filter_rejectattr) {
    (void)bound;
    return select_items(run, self, args, true, false, out);
}

FILTER(filter_xmlattr) {
    (void)args;
    Pieces p = {0};
    bool first = !arg_truth(bound[0], true);
    if (self.kind != V_DICT) return run_fail(run, "xmlattr wants a dictionary");
    for (size_t i = 0; i < self.dict->count; i++) {
        Value v = self.dict->values[i], key;
        Text text;
        if (v.kind == V_NONE || v.kind == V_UNDEFINED) continue;
        if (self.dict->keys[i].kind != V_STRING) return run_fail(run, "an attribute's name is no string");
        Str name = text_str(self.dict->keys[i].text);
        for (size_t k = 0; k < name.len; k++) {
            if (strchr(" \t\n\f\v\r/>=", name.ptr[k]))
                return run_fail(run, "Invalid character in attribute name");
        }
        if (!html_escape(run, self.dict->keys[i].text, &key) || !value_to_text(run, v, &text) ||
            (text.is_markup ? !value_string(run, text, &v) : !html_escape(run, &text, &v)) ||
            (!first && !pieces_add_str(run, &p, STR(" "), ORIGIN_TEMPLATE)) ||
            !pieces_add(run, &p, *key.text) || !pieces_add_str(run, &p, STR("=\""), ORIGIN_TEMPLATE) ||
            !pieces_add(run, &p, *v.text) || !pieces_add_str(run, &p, STR("\""), ORIGIN_TEMPLATE)) {
            return false;
        }
        first = false;
    }
    return pieces_value(run, &p, out);
}

const Function FILTERS[] = {
    {"abs", filter_abs, "", 0, MARKUP_LOST},
    {"attr", filter_attr, "name", 1, MARKUP_LOST},
    {"batch", filter_batch, "linecount fill_with", 1, MARKUP_LOST},
    {"capitalize", filter_capitalize, "", 0, MARKUP_KEPT},
    {"center", filter_center, "width", 0, MARKUP_KEPT},
    {"count", filter_length, "", 0, MARKUP_LOST},
    {"d", filter_default, "default_value boolean", 0, MARKUP_LOST},
    {"default", filter_default, "default_value boolean", 0, MARKUP_LOST},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0, MARKUP_LOST},
    {"e", filter_escape, "", 0, MARKUP_LOST},
    {"escape", filter_escape, "", 0, MARKUP_LOST},
    {"filesizeformat", filter_filesizeformat, "binary", 0, MARKUP_LOST},
    {"first", filter_first, "", 0, MARKUP_LOST},
    {"float", filter_float, "default", 0, MARKUP_LOST},
    {"forceescape", filter_forceescape, "", 0, MARKUP_LOST},
    {"format", filter_format, "*", 0, MARKUP_ESCAPES_ALL},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1, MARKUP_LOST},
    {"indent", filter_indent, "width first blank", 0, MARKUP_KEPT},
    {"int", filter_int, "default base", 0, MARKUP_LOST},
    {"items", filter_items, "", 0, MARKUP_LOST},
    {"join", filter_join, "d attribute", 0, MARKUP_LOST},
    {"last", filter_last, "", 0, MARKUP_LOST},
    {"length", filter_length, "", 0, MARKUP_LOST},
    {"list", filter_list, "", 0, MARKUP_LOST},
    {"lower", filter_lower, "", 0, MARKUP_KEPT},
    {"map", filter_map, "*", 0, MARKUP_LOST},
    {"max", filter_max, "case_sensitive attribute", 0, MARKUP_LOST},
    {"min", filter_min, "case_sensitive attribute", 0, MARKUP_LOST},
    {"pprint", filter_pprint, "", 0, MARKUP_LOST},
    {"reject", filter_reject, "*", 0, MARKUP_LOST},
    {"rejectattr", filter_rejectattr, "*", 0, MARKUP_LOST},
    {"replace", filter_replace, "old new count", 2, MARKUP_LOST},
    {"reverse", filter_reverse, "", 0, MARKUP_KEPT},
    {"round", filter_round, "precision method", 0, MARKUP_LOST},
    {"safe", filter_safe, "", 0, MARKUP_LOST},
    {"select", filter_select, "*", 0, MARKUP_LOST},
    {"selectattr", filter_selectattr, "*", 0, MARKUP_LOST},
    {"slice", filter_slice, "slices fill_with", 1, MARKUP_LOST},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0, MARKUP_LOST},
    {"string", filter_string, "", 0, MARKUP_KEPT},
    {"striptags", filter_striptags, "", 0, MARKUP_LOST},
    {"sum", filter_sum, "attribute start", 0, MARKUP_LOST},
    {"title", filter_title, "", 0, MARKUP_LOST},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, MARKUP_LOST},
    {"trim", filter_trim, "chars", 0, MARKUP_KEPT},
    {"truncate", filter_truncate, "length killwords end leeway", 0, MARKUP_KEPT},
    {"unique", filter_unique, "case_sensitive attribute", 0, MARKUP_LOST},
    {"upper", filter_upper, "", 0, MARKUP_KEPT},
    {"urlencode", filter_urlencode, "", 0, MARKUP_LOST},
    {"urlize", filter_urlize, "trim_url_limit nofollow target rel extra_schemes", 0, MARKUP_LOST},
    {"wordcount", filter_wordcount, "", 0, MARKUP_LOST},
    {"wordwrap", filter_wordwrap, "width break_long_words wrapstring break_on_hyphens", 0, MARKUP_LOST},
    {"xmlattr", filter_xmlattr, "autospace", 0, MARKUP_LOST},
};

uint32_t filter_find(Str name) {
    for (uint32_t i = 0; i < COUNT_OF(FILTERS); i++) {
        if (str_eq(name, str_from_c(FILTERS[i].name))) return i;
    }
    return UINT32_MAX;
}
