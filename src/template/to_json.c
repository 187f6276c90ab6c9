// tojson, as transformers has it: Python's json.dumps(value, ensure_ascii, indent, separators, sort_keys).
#include "base/utf8.h"
#include "template/functions.h"
#include "template/py_format.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    Run *run;
    Pieces *out;
    bool ensure_ascii, sort_keys, is_indented;
    Text indent, item_separator, key_separator;
} JsonStyle;

static bool put(JsonStyle *j, Str s) {
    return pieces_add_str(j->run, j->out, s, ORIGIN_TEMPLATE);
}

static bool put_value(JsonStyle *j, Value v, uint32_t level);

static bool put_escape(JsonStyle *j, uint32_t c, Origin origin) {
    static const char letters[] = "\b\f\n\r\t\"\\", names[] = "bfnrt\"\\";
    const char *found = c < 0x80 && c ? strchr(letters, (int)c) : NULL;
    if (found) return pieces_printf(j->run, j->out, origin, "\\%c", names[found - letters]);
    if (c < 0x10000) return pieces_printf(j->run, j->out, origin, "\\u%04x", c);
    c -= 0x10000;
    return pieces_printf(j->run, j->out, origin, "\\u%04x\\u%04x", 0xD800 + (c >> 10), 0xDC00 + (c & 0x3FF));
}

static bool is_plain(char c) {
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

static bool put_string(JsonStyle *j, const Text *t) {
    Origin origin = text_derived(t);
    if (!pieces_add_str(j->run, j->out, STR("\""), origin)) return false;
    run_spend(j->run, t->len / 8);
    uint32_t c;
    for (size_t at = 0, length; at < t->len; at += length) {
        length = text_decode(t, at, &c);
        if (is_plain(t->ptr[at])) { // most are: all that follow, at once
            while (at + length < t->len && is_plain(t->ptr[at + length]))
                length++;
        }
        bool escaped = c < 0x20 || c == '"' || c == '\\' || (j->ensure_ascii && c >= 0x7F);
        if (c == 0x7F) escaped = false;
        bool ok =
            escaped ? put_escape(j, c, origin) : pieces_add(j->run, j->out, text_slice(*t, at, at + length));
        if (!ok) return false;
    }
    return pieces_add_str(j->run, j->out, STR("\""), origin);
}

static bool put_number(JsonStyle *j, Value v) {
    char text[PY_FLOAT_BYTES];
    run_spend(j->run, v.kind == V_INT ? 2 : FLOAT_STEPS);
    if (v.kind == V_INT) return pieces_printf(j->run, j->out, ORIGIN_TEMPLATE, "%lld", (long long)v.integer);
    if (isnan(v.real)) return put(j, STR("NaN"));
    if (isinf(v.real)) return put(j, v.real < 0 ? STR("-Infinity") : STR("Infinity"));
    py_float_repr(v.real, text);
    return pieces_printf(j->run, j->out, ORIGIN_TEMPLATE, "%s", text);
}

static bool put_line(JsonStyle *j, uint32_t level) {
    if (!j->is_indented) return true;
    if (!put(j, STR("\n"))) return false;
    for (uint32_t i = 0; i < level; i++) {
        if (!pieces_add(j->run, j->out, j->indent)) return false;
    }
    return true;
}

static bool put_list(JsonStyle *j, const List *list, uint32_t level) {
    if (list->count == 0) return put(j, STR("[]"));
    if (!put(j, STR("["))) return false;
    for (size_t i = 0; i < list->count; i++) {
        if ((i && !pieces_add(j->run, j->out, j->item_separator)) || !put_line(j, level + 1) ||
            !put_value(j, list->items[i], level + 1)) {
            return false;
        }
    }
    return put_line(j, level) && put(j, STR("]"));
}

// A key as a string: what is none is written as its value would be.
static bool put_key(JsonStyle *j, Value key) {
    if (key.kind == V_STRING) return put_string(j, key.text);
    if (!value_is_number(key) && key.kind != V_NONE)
        return run_fail(j->run, "keys must be str, int, float, bool or None, not %s", value_type_name(key));
    return put(j, STR("\"")) && put_value(j, key, 0) && put(j, STR("\""));
}

// The order of the members: as they are, or by key.
static bool member_order(JsonStyle *j, const Dict *d, size_t **out) {
    size_t *order = arena_new(j->run->arena, size_t, d->count);
    if (!order) return run_full(j->run);
    for (size_t i = 0; i < d->count; i++) {
        size_t at = i;
        for (; j->sort_keys && at > 0; at--) {
            int cmp;
            if (!run_steps(j->run, 1) || !value_compare(j->run, d->keys[order[at - 1]], d->keys[i], &cmp))
                return false;
            if (cmp <= 0) break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    *out = order;
    return true;
}

static bool put_dict(JsonStyle *j, const Dict *d, uint32_t level) {
    size_t *order = NULL;
    if (d->count == 0) return put(j, STR("{}"));
    if (!put(j, STR("{")) || !member_order(j, d, &order)) return false;
    for (size_t i = 0; i < d->count; i++) {
        if ((i && !pieces_add(j->run, j->out, j->item_separator)) || !put_line(j, level + 1) ||
            !put_key(j, d->keys[order[i]]) || !pieces_add(j->run, j->out, j->key_separator) ||
            !put_value(j, d->values[order[i]], level + 1)) {
            return false;
        }
    }
    return put_line(j, level) && put(j, STR("}"));
}

static bool put_kind(JsonStyle *j, Value v, uint32_t level) {
    switch (v.kind) {
    case V_NONE: return put(j, STR("null"));
    case V_BOOL: return put(j, v.boolean ? STR("true") : STR("false"));
    case V_INT:
    case V_FLOAT: return put_number(j, v);
    case V_STRING: return put_string(j, v.text);
    case V_LIST:
    case V_TUPLE: return put_list(j, v.list, level);
    case V_DICT: return put_dict(j, v.dict, level);
    default: return run_fail(j->run, "Object of type %s is not JSON serializable", value_type_name(v));
    }
}

static bool put_value(JsonStyle *j, Value v, uint32_t level) {
    if (!run_steps(j->run, 1)) return false;
    if (j->run->depth >= TEMPLATE_STACK_MAX) return run_fail(j->run, "values are nested too deep");
    j->run->depth++;
    bool ok = put_kind(j, v, level);
    j->run->depth--;
    return ok;
}

// indent: a number of spaces, or the text itself.
static bool set_indent(JsonStyle *j, Value v) {
    j->is_indented = !is_absent(v) && v.kind != V_NONE;
    if (!j->is_indented) return true;
    if (v.kind == V_STRING) {
        j->indent = *v.text;
        return true;
    }
    int64_t n;
    if (!arg_integer(j->run, v, "indent", 0, &n)) return false;
    if (n > 1000) return run_fail(j->run, "an indent that is too wide");
    char *spaces = arena_new(j->run->arena, char, n > 0 ? (uint64_t)n : 0);
    if (!spaces) return run_full(j->run);
    if (n > 0) memset(spaces, ' ', (size_t)n);
    j->indent = text_of((Str){spaces, n > 0 ? (size_t)n : 0}, ORIGIN_TEMPLATE);
    return true;
}

static bool set_separators(JsonStyle *j, Value v) {
    j->item_separator = text_of(j->is_indented ? STR(",") : STR(", "), ORIGIN_TEMPLATE);
    j->key_separator = text_of(STR(": "), ORIGIN_TEMPLATE);
    if (is_absent(v) || v.kind == V_NONE) return true;
    const List *pair;
    if (!value_iterate(j->run, v, &pair)) return false;
    if (pair->count != 2) return run_fail(j->run, "separators must be two");
    return arg_text(j->run, pair->items[0], "a separator", &j->item_separator) &&
           arg_text(j->run, pair->items[1], "a separator", &j->key_separator);
}

bool filter_tojson(Run *run, Value self, const Value *bound, const Args *args, Value *out) {
    (void)args;
    Pieces p = {0};
    JsonStyle j = {.run = run,
                   .out = &p,
                   .ensure_ascii = arg_truth(bound[0], false),
                   .sort_keys = arg_truth(bound[3], false)};
    return set_indent(&j, bound[1]) && set_separators(&j, bound[2]) && put_value(&j, self, 0) &&
           pieces_value(run, &p, out);
}
