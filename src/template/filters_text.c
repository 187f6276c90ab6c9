// jinja2's filters of text.
#include "base/utf8.h"
#include "template/filters.h"
#include "template/py_format.h"
#include "text/unicode.h"

#define FILTER(name) bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)

// The same string's method, on the value's text.
static bool string_method(Run *run, Value self, const char *name, const Args *args, Value *out) {
    Text text;
    Value string;
    return value_to_text(run, self, &text) && value_string(run, text, &string) &&
           function_call(run, method_find(V_STRING, str_from_c(name)), string, args, out);
}

FILTER(filter_capitalize) {
    (void)bound;
    return string_method(run, self, "capitalize", args, out);
}

FILTER(filter_lower) {
    (void)bound;
    return string_method(run, self, "lower", args, out);
}

FILTER(filter_upper) {
    (void)bound;
    return string_method(run, self, "upper", args, out);
}

FILTER(filter_string) {
    (void)bound, (void)args;
    Text text;
    return value_to_text(run, self, &text) && value_string(run, text, out);
}

// Where a word begins for `title`: behind white space, "-", "(", "{", "[" and "<".
static bool starts_word(uint32_t c) {
    return py_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

FILTER(filter_title) {
    (void)bound, (void)args;
    Text t;
    Pieces p = {0};
    if (!value_to_text(run, self, &t)) return false;
    uint32_t c;
    for (size_t at = 0; at < t.len;) {
        size_t first = text_decode(&t, at, &c), end = at + first, length;
        while (!starts_word(c) && end < t.len && (length = text_decode(&t, end, &c)) && !starts_word(c))
            end += length;
        Text head = text_slice(t, at, at + first), tail = text_slice(t, at + first, end);
        Value upper, lower;
        if (!text_change_case(run, &head, CASE_UPPER, &upper) ||
            !text_change_case(run, &tail, CASE_LOWER, &lower) || !pieces_add(run, &p, *upper.text) ||
            !pieces_add(run, &p, *lower.text)) {
            return false;
        }
        at = end;
    }
    return pieces_value(run, &p, out);
}

FILTER(filter_trim) {
    (void)args;
    Text text, characters;
    bool given = !is_absent(bound[0]) && bound[0].kind != V_NONE;
    return value_to_text(run, self, &text) && (!given || arg_strip(run, &text, bound[0], &characters)) &&
           value_string(run, text_strip(&text, given ? &characters : NULL, true, true), out);
}

FILTER(filter_replace) {
    (void)args;
    Text text, from, to;
    int64_t count;
    Value limit = bound[2].kind == V_NONE ? value_undefined(NULL) : bound[2];
    return value_to_text(run, self, &text) && value_to_text(run, bound[0], &from) &&
           value_to_text(run, bound[1], &to) && arg_integer(run, limit, "count", -1, &count) &&
           text_replace(run, &text, &from, &to, count, out);
}

FILTER(filter_center) {
    (void)args;
    Value width = is_absent(bound[0]) ? value_int(80) : bound[0];
    const Args inner = {.items = &width, .count = 1};
    return string_method(run, self, "center", &inner, out);
}

FILTER(filter_format) {
    (void)bound;
    Text text;
    Value values;
    if (args->count && args->kwargs && args->kwargs->count)
        return run_fail(run, "can't handle positional and keyword arguments at the same time");
    if (!value_to_text(run, self, &text) || !value_list(run, V_TUPLE, args->count, &values)) return false;
    if (args->kwargs && args->kwargs->count)
        values = (Value){.kind = V_DICT, .dict = (Dict *)(uintptr_t)args->kwargs};
    else
        for (size_t i = 0; i < args->count; i++)
            values.list->items[i] = args->items[i];
    return py_format_percent(run, &text, values, out);
}

// Lines of the text, with an indent in front of all but the first, and but empty ones.
FILTER(filter_indent) {
    (void)args;
    bool first = arg_truth(bound[1], false), blank = arg_truth(bound[2], false);
    Text indent;
    Pieces p = {0};
    int64_t width = 4;
    Value lines;
    if (!is_absent(bound[0]) && bound[0].kind == V_STRING) indent = *bound[0].text;
    else {
        if (!arg_integer(run, bound[0], "width", 4, &width)) return false;
        if (width > 100000) return run_fail(run, "an indent that is too wide");
        char *spaces = arena_new(run->arena, char, width > 0 ? (uint64_t)width : 0);
        if (!spaces) return run_full(run);
        if (width > 0) memset(spaces, ' ', (size_t)width);
        indent = text_of((Str){spaces, width > 0 ? (size_t)width : 0}, ORIGIN_TEMPLATE);
    }
    if (self.kind != V_STRING) return run_fail(run, "indent wants a string, not %s", value_type_name(self));
    Pieces ended = {0};
    Value text;
    const Args none = {0};
    if (!pieces_add(run, &ended, *self.text) || !pieces_add_str(run, &ended, STR("\n"), ORIGIN_TEMPLATE) ||
        !pieces_value(run, &ended, &text) || !string_method(run, text, "splitlines", &none, &lines)) {
        return false;
    }
    for (size_t i = 0; i < lines.list->count; i++) {
        const Text *line = lines.list->items[i].text;
        bool indented = i == 0 ? first : blank || line->len > 0;
        if ((i && !pieces_add_str(run, &p, STR("\n"), ORIGIN_TEMPLATE)) ||
            (indented && !pieces_add(run, &p, indent)) || !pieces_add(run, &p, *line)) {
            return false;
        }
    }
    return pieces_value(run, &p, out);
}

FILTER(filter_truncate) {
    (void)args;
    int64_t length, leeway;
    Text text, end = text_of(STR("..."), ORIGIN_TEMPLATE);
    Value slack = bound[3].kind == V_NONE ? value_undefined(NULL) : bound[3];
    size_t size;
    if (!value_length(run, self, &size)) return false;
    if (!value_to_text(run, self, &text) || !arg_integer(run, bound[0], "length", 255, &length) ||
        !arg_integer(run, slack, "leeway", 5, &leeway) ||
        (!is_absent(bound[2]) && !arg_text(run, bound[2], "end", &end))) {
        return false;
    }
    int64_t n_end = (int64_t)text_characters(&end), n = (int64_t)text_characters(&text);
    if (length < n_end || leeway < 0)
        return run_fail(run, "expected length >= %lld, got %lld", (long long)n_end, (long long)length);
    if (self.kind != V_STRING) n = (int64_t)size;
    if (n <= length + leeway) {
        *out = self;
        return true;
    }
    if (self.kind != V_STRING) return run_fail(run, "'%s' object cannot be truncated", value_type_name(self));
    Text kept = text_slice(text, 0, text_offset(&text, (size_t)(length - n_end)));
    if (!arg_truth(bound[1], false)) {
        const char *space = kept.len ? memrchr(kept.ptr, ' ', kept.len) : NULL;
        if (space) kept = text_slice(kept, 0, (size_t)(space - kept.ptr));
    }
    Pieces p = {0};
    return pieces_add(run, &p, kept) && pieces_add(run, &p, end) && pieces_value(run, &p, out);
}

FILTER(filter_wordcount) {
    (void)bound, (void)args;
    Text t;
    int64_t n = 0;
    bool inside = false;
    uint32_t c;
    if (!value_to_text(run, self, &t)) return false;
    for (size_t at = 0, length; at < t.len; at += length) {
        length = text_decode(&t, at, &c);
        bool is_word = py_is_word(c);
        n += is_word && !inside;
        inside = is_word;
    }
    *out = value_int(n);
    return true;
}

// HTML's signs escaped: & < > ' "
bool html_escape(Run *run, const Text *t, Value *out) {
    static const char signs[] = "&<>'\"";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    Pieces p = {0};
    Text text;
    run_spend(run, t->len / 8);
    for (size_t at = 0; at < t->len; at++) {
        const char *found = t->ptr[at] ? strchr(signs, t->ptr[at]) : NULL;
        Text sign = text_slice(*t, at, at + 1);
        bool ok = found ? pieces_add_str(run, &p, str_from_c(names[found - signs]), text_derived(&sign))
                        : pieces_add(run, &p, sign);
        if (!ok) return false;
    }
    if (!pieces_join(run, &p, &text)) return false;
    text.is_markup = true;
    return value_string(run, text, out);
}

FILTER(filter_escape) {
    (void)bound, (void)args;
    Text text;
    if (!value_to_text(run, self, &text)) return false;
    return text.is_markup ? value_string(run, text, out) : html_escape(run, &text, out);
}

FILTER(filter_forceescape) {
    (void)bound, (void)args;
    Text text;
    return value_to_text(run, self, &text) && html_escape(run, &text, out);
}

FILTER(filter_safe) {
    (void)bound, (void)args;
    Text text;
    if (!value_to_text(run, self, &text)) return false;
    text.is_markup = true;
    return value_string(run, text, out);
}

static bool quote_url(Run *run, Value v, bool keep_slash, Pieces *p) {
    Text t;
    if (!value_to_text(run, v, &t)) return false;
    run_spend(run, t.len / 8);
    for (size_t at = 0; at < t.len; at++) {
        char c = t.ptr[at];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash);
        Text sign = text_slice(t, at, at + 1);
        if (!plain) run_spend(run, 2);
        bool ok = plain ? pieces_add(run, p, sign)
                  : c == ' ' && !keep_slash
                      ? pieces_add_str(run, p, STR("+"), text_derived(&sign))
                      : pieces_printf(run, p, text_derived(&sign), "%%%02X", (uint8_t)c);
        if (!ok) return false;
    }
    return true;
}

FILTER(filter_urlencode) {
    (void)bound, (void)args;
    Pieces p = {0};
    bool is_pairs = self.kind == V_DICT || self.kind == V_LIST || self.kind == V_TUPLE || self.kind == V_VIEW;
    if (!is_pairs) return quote_url(run, self, true, &p) && pieces_value(run, &p, out);
    const List *list = self.kind == V_DICT ? NULL : self.list;
    size_t n = list ? list->count : self.dict->count;
    for (size_t i = 0; i < n; i++) {
        Value pair[2] = {list ? value_none() : self.dict->keys[i],
                         list ? value_none() : self.dict->values[i]};
        const List *items;
        if (list) {
            if (!value_iterate(run, list->items[i], &items)) return false;
            if (items->count != 2) return run_fail(run, "urlencode wants pairs");
            pair[0] = items->items[0];
            pair[1] = items->items[1];
        }
        if ((i && !pieces_add_str(run, &p, STR("&"), ORIGIN_TEMPLATE)) ||
            !quote_url(run, pair[0], false, &p) || !pieces_add_str(run, &p, STR("="), ORIGIN_TEMPLATE) ||
            !quote_url(run, pair[1], false, &p)) {
            return false;
        }
    }
    return pieces_value(run, &p, out);
}
