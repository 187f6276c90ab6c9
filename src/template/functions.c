// Calling: arguments to parameters; global functions; methods of what is no string.
#include "template/filters.h"

#include "base/strbuf.h"

#include <time.h>

// ---- arguments ----

// The index of a name in a list of names; SIZE_MAX where it is not in it.
static size_t param_index(const char *params, Str name) {
    for (size_t i = 0; *params; i++) {
        size_t length = strcspn(params, " ");
        if (str_eq((Str){params, length}, name)) return i;
        params += length + (params[length] == ' ');
    }
    return SIZE_MAX;
}

static size_t param_count(const char *params) {
    size_t n = *params != 0;
    for (; *params; params++)
        n += *params == ' ';
    return n;
}

static bool bind(Run *run, const Function *f, const Args *args, Value bound[PARAMS_MAX]) {
    size_t n = param_count(f->params);
    if (args->count > n)
        return run_fail(run, "%s() takes %zu argument(s), %zu are given", f->name, n, args->count);
    for (size_t i = 0; i < PARAMS_MAX; i++)
        bound[i] = i < args->count ? args->items[i] : value_undefined(NULL);
    for (size_t i = 0; args->kwargs && i < args->kwargs->count; i++) {
        Str name = text_str(args->kwargs->keys[i].text);
        size_t at = param_index(f->params, name);
        if (at == SIZE_MAX) return run_fail(run, "%s() has no argument '%.*s'", f->name, STR_ARG(name));
        if (!is_absent(bound[at])) return run_fail(run, "%s() has '%.*s' twice", f->name, STR_ARG(name));
        bound[at] = args->kwargs->values[i];
    }
    for (size_t i = 0; i < f->required; i++) {
        if (is_absent(bound[i])) return run_fail(run, "%s() lacks an argument", f->name);
    }
    return true;
}

// ---- Markup ----

static bool escape_items(Run *run, Value *items, size_t count) {
    if (!run_steps(run, count)) return false;
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "values are nested too deep");
    run->depth++;
    for (size_t i = 0; i < count; i++) {
        if (!value_escape(run, &items[i])) return false;
    }
    run->depth--;
    return true;
}

bool value_escape(Run *run, Value *v) {
    Value copy;
    if (v->kind == V_STRING)
        return v->text->is_markup || (run_steps(run, v->text->len / 16) && html_escape(run, v->text, v));
    if (v->kind == V_LIST || v->kind == V_TUPLE) {
        if (!value_list(run, v->kind, v->list->count, &copy)) return false;
        for (size_t i = 0; i < v->list->count; i++)
            copy.list->items[i] = v->list->items[i];
        *v = copy;
        return escape_items(run, copy.list->items, copy.list->count);
    }
    if (v->kind != V_DICT) return true;
    if (!value_dict(run, v->dict->count, &copy)) return false;
    for (size_t i = 0; i < v->dict->count; i++) {
        if (!dict_set(run, copy.dict, v->dict->keys[i], v->dict->values[i])) return false;
    }
    *v = copy;
    return escape_items(run, copy.dict->values, copy.dict->count);
}

static bool escape_args(Run *run, const Args *args, Args *out) {
    Value items, kwargs = {.kind = V_DICT, .dict = (Dict *)args->kwargs};
    if (!value_list(run, V_TUPLE, args->count, &items)) return false;
    for (size_t i = 0; i < args->count; i++)
        items.list->items[i] = args->items[i];
    if (!value_escape(run, &items) || (args->kwargs && !value_escape(run, &kwargs))) return false;
    *out = (Args){items.list->items, args->count, kwargs.dict};
    return true;
}

static bool mark_result(Run *run, Value *out) {
    if (out->kind != V_LIST && out->kind != V_TUPLE) return value_as_markup(run, out);
    for (size_t i = 0; i < out->list->count; i++) {
        if (!value_as_markup(run, &out->list->items[i])) return false;
    }
    return true;
}

static bool call(Run *run, const Function *f, Value self, const Args *args, MarkupRule rule, Value *out) {
    Value bound[PARAMS_MAX];
    Args escaped;
    // Most that is done with a text looks at all of it.
    if (self.kind == V_STRING && !run_steps(run, self.text->len / 16)) return false;
    if (rule == MARKUP_ESCAPES_ALL) {
        if (!escape_args(run, args, &escaped)) return false;
        args = &escaped;
    }
    if (f->params[0] == '*') return f->call(run, self, NULL, args, out);
    if (!bind(run, f, args, bound)) return false;
    if (rule == MARKUP_ESCAPES_SECOND && !value_escape(run, &bound[1])) return false;
    return f->call(run, self, bound, args, out);
}

bool function_call(Run *run, const Function *f, Value self, const Args *args, Value *out) {
    bool is_markup = self.kind == V_STRING && self.text->is_markup;
    MarkupRule rule = is_markup ? f->markup : MARKUP_LOST;
    return call(run, f, self, args, rule, out) && (rule == MARKUP_LOST || mark_result(run, out));
}

#define FUNCTION(name) \
    static bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)

// ---- global functions ----

FUNCTION(global_range) {
    (void)self, (void)bound;
    int64_t v[3] = {0, 0, 1};
    if (args->count < 1 || args->count > 3 || args->kwargs->count)
        return run_fail(run, "range() takes 1 to 3 integers");
    for (size_t i = 0; i < args->count; i++) {
        if (!arg_integer(run, args->items[i], "range()'s argument", 0, &v[args->count == 1 ? 1 : i]))
            return false;
    }
    if (v[2] == 0) return run_fail(run, "range() arg 3 must not be zero");
    uint64_t distance = v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0] : (uint64_t)v[0] - (uint64_t)v[1];
    bool empty = v[2] > 0 ? v[0] >= v[1] : v[0] <= v[1];
    uint64_t size = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2], n = empty ? 0 : (distance - 1) / size + 1;
    if (n > TEMPLATE_RANGE_MAX) return run_fail(run, "range() of more than %d numbers", TEMPLATE_RANGE_MAX);
    if (!value_list(run, V_RANGE, n, out)) return false;
    for (uint64_t i = 0; i < n; i++)
        out->list->items[i] = value_int(v[0] + (int64_t)i * v[2]);
    memcpy(out->list->bounds, v, sizeof v);
    return true;
}

// From a mapping or pairs, and keyword arguments.
static bool fill_dict(Run *run, const Args *args, Value *out) {
    const List *pairs = NULL;
    const Value *first = args->count ? &args->items[0] : NULL;
    if (args->count > 1) return run_fail(run, "dict() takes one argument at most");
    if (first && first->kind != V_DICT && !value_iterate(run, *first, &pairs)) return false;
    size_t n = first ? (pairs ? pairs->count : first->dict->count) : 0;
    if (!value_dict(run, n + args->kwargs->count, out)) return false;
    for (size_t i = 0; i < n; i++) {
        Value key, value;
        if (pairs) {
            const List *pair;
            if (!value_iterate(run, pairs->items[i], &pair)) return false;
            if (pair->count != 2)
                return run_fail(run, "dictionary update sequence element has not two items");
            key = pair->items[0];
            value = pair->items[1];
        } else {
            key = first->dict->keys[i];
            value = first->dict->values[i];
        }
        if (!dict_set(run, out->dict, key, value)) return false;
    }
    for (size_t i = 0; i < args->kwargs->count; i++) {
        if (!dict_set(run, out->dict, args->kwargs->keys[i], args->kwargs->values[i])) return false;
    }
    return true;
}

FUNCTION(global_dict) {
    (void)self, (void)bound;
    return fill_dict(run, args, out);
}

FUNCTION(global_namespace) {
    (void)self, (void)bound;
    if (!fill_dict(run, args, out)) return false;
    out->kind = V_NAMESPACE;
    return true;
}

FUNCTION(global_cycler) {
    (void)self, (void)bound;
    if (args->count == 0) return run_fail(run, "at least one item has to be provided");
    Cycler *c = arena_new(run->arena, Cycler, 1);
    if (!c) return run_full(run);
    *c = (Cycler){.items = args->items, .count = args->count};
    *out = (Value){.kind = V_CYCLER, .cycler = c};
    return true;
}

FUNCTION(global_joiner) {
    (void)self, (void)args;
    Joiner *j = arena_new(run->arena, Joiner, 1);
    if (!j) return run_full(run);
    j->separator = bound[0];
    *out = (Value){.kind = V_JOINER, .joiner = j};
    return !is_absent(bound[0]) || value_str(run, STR(", "), ORIGIN_TEMPLATE, &j->separator);
}

FUNCTION(global_lipsum) {
    (void)self, (void)bound, (void)args, (void)out;
    return run_fail(run, "lipsum() is random, which templates may not be");
}

FUNCTION(global_raise_exception) {
    (void)self, (void)args, (void)out;
    Text message;
    return value_to_text(run, bound[0], &message) && run_fail(run, "%.*s", STR_ARG(text_str(&message)));
}

FUNCTION(global_strftime_now) {
    (void)self, (void)args;
    Text format;
    char copy[256], text[512];
    if (!arg_text(run, bound[0], "the format", &format)) return false;
    if (format.len >= sizeof copy)
        return run_fail(run, "a time's format of more than %zu bytes", sizeof copy - 1);
    memcpy(copy, format.ptr, format.len);
    copy[format.len] = 0;
    time_t seconds = (time_t)(run->unix_ms / 1000);
    struct tm fields;
    run_spend(run, 64);
    gmtime_r(&seconds, &fields);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t length = strftime(text, sizeof text, copy, &fields);
#pragma GCC diagnostic pop
    Str kept = arena_copy_str(run->arena, (Str){text, length});
    return kept.ptr ? value_str(run, kept, ORIGIN_TEMPLATE, out) : run_full(run);
}

const Function GLOBALS[] = {
    {"range", global_range, "*", 0, MARKUP_LOST},
    {"dict", global_dict, "*", 0, MARKUP_LOST},
    {"namespace", global_namespace, "*", 0, MARKUP_LOST},
    {"cycler", global_cycler, "*", 0, MARKUP_LOST},
    {"joiner", global_joiner, "sep", 0, MARKUP_LOST},
    {"lipsum", global_lipsum, "*", 0, MARKUP_LOST},
    {"raise_exception", global_raise_exception, "message", 1, MARKUP_LOST},
    {"strftime_now", global_strftime_now, "format", 1, MARKUP_LOST},
};
const uint32_t n_globals = COUNT_OF(GLOBALS);

// ---- methods of dictionaries and lists ----

static bool dict_view(Run *run, const Dict *d, const char *name, Value *out) {
    if (!value_list(run, V_VIEW, d->count, out)) return false;
    out->list->name = name;
    for (size_t i = 0; i < d->count; i++) {
        Value *item = &out->list->items[i];
        if (name[5] == 'k') *item = d->keys[i];
        else if (name[5] == 'v') *item = d->values[i];
        else {
            if (!value_list(run, V_TUPLE, 2, item)) return false;
            item->list->items[0] = d->keys[i];
            item->list->items[1] = d->values[i];
        }
    }
    return true;
}

static const char KEYS[] = "dict_keys", VALUES[] = "dict_values", ITEMS[] = "dict_items";

FUNCTION(dict_keys) {
    (void)bound, (void)args;
    return dict_view(run, self.dict, KEYS, out);
}

FUNCTION(dict_values) {
    (void)bound, (void)args;
    return dict_view(run, self.dict, VALUES, out);
}

FUNCTION(dict_items) {
    (void)bound, (void)args;
    return dict_view(run, self.dict, ITEMS, out);
}

FUNCTION(dict_get_method) {
    (void)args;
    if (bound[0].kind == V_LIST || bound[0].kind == V_DICT)
        return run_fail(run, "unhashable type: '%s'", value_type_name(bound[0]));
    const Value *found = dict_get(run, self.dict, bound[0]);
    *out = found ? *found : is_absent(bound[1]) ? value_none() : bound[1];
    return run_steps(run, 1);
}

FUNCTION(copy) {
    (void)run, (void)bound, (void)args;
    *out = self; // nothing changes them
    return true;
}

FUNCTION(list_index) {
    (void)args;
    for (size_t i = 0; i < self.list->count; i++) {
        bool same;
        if (!value_equal(run, self.list->items[i], bound[0], &same)) return false;
        if (!same) continue;
        *out = value_int((int64_t)i);
        return true;
    }
    return run_fail(run, "the item is not in the list");
}

FUNCTION(list_count) {
    (void)args;
    int64_t n = 0;
    for (size_t i = 0; i < self.list->count; i++) {
        bool same;
        if (!value_equal(run, self.list->items[i], bound[0], &same)) return false;
        n += same;
    }
    *out = value_int(n);
    return true;
}

FUNCTION(float_is_integer) {
    (void)run, (void)bound, (void)args;
    double v = value_number(self);
    *out = value_bool(v >= -9007199254740992.0 && v <= 9007199254740992.0 ? v == (double)(int64_t)v
                                                                          : v - v == 0);
    return true;
}

FUNCTION(int_bit_length) {
    (void)run, (void)bound, (void)args;
    int64_t v = value_integer(self), bits = 0;
    for (uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v; magnitude; magnitude >>= 1)
        bits++;
    *out = value_int(bits);
    return true;
}

FUNCTION(cycler_next) {
    (void)run, (void)bound, (void)args;
    *out = self.cycler->items[self.cycler->position];
    self.cycler->position = (self.cycler->position + 1) % self.cycler->count;
    return true;
}

FUNCTION(cycler_reset) {
    (void)run, (void)bound, (void)args;
    self.cycler->position = 0;
    *out = value_none();
    return true;
}

FunctionCall loop_cycle, loop_changed; // eval.c
extern const Function STR_METHODS[];   // str_methods.c

static const Function DICT_METHODS[] = {
    {"keys", dict_keys, "", 0, MARKUP_LOST},   {"values", dict_values, "", 0, MARKUP_LOST},
    {"items", dict_items, "", 0, MARKUP_LOST}, {"get", dict_get_method, "key default", 1, MARKUP_LOST},
    {"copy", copy, "", 0, MARKUP_LOST},        {NULL, NULL, NULL, 0, MARKUP_LOST}};
static const Function LIST_METHODS[] = {{"index", list_index, "value", 1, MARKUP_LOST},
                                        {"count", list_count, "value", 1, MARKUP_LOST},
                                        {"copy", copy, "", 0, MARKUP_LOST},
                                        {NULL, NULL, NULL, 0, MARKUP_LOST}};
static const Function TUPLE_METHODS[] = {{"index", list_index, "value", 1, MARKUP_LOST},
                                         {"count", list_count, "value", 1, MARKUP_LOST},
                                         {NULL, NULL, NULL, 0, MARKUP_LOST}};
static const Function INT_METHODS[] = {{"bit_length", int_bit_length, "", 0, MARKUP_LOST},
                                       {NULL, NULL, NULL, 0, MARKUP_LOST}};
static const Function FLOAT_METHODS[] = {{"is_integer", float_is_integer, "", 0, MARKUP_LOST},
                                         {NULL, NULL, NULL, 0, MARKUP_LOST}};
static const Function LOOP_METHODS[] = {{"cycle", loop_cycle, "*", 0, MARKUP_LOST},
                                        {"changed", loop_changed, "*", 0, MARKUP_LOST},
                                        {NULL, NULL, NULL, 0, MARKUP_LOST}};
static const Function CYCLER_METHODS[] = {{"next", cycler_next, "", 0, MARKUP_LOST},
                                          {"reset", cycler_reset, "", 0, MARKUP_LOST},
                                          {NULL, NULL, NULL, 0, MARKUP_LOST}};

static const Function *methods_of(ValueKind kind) {
    switch (kind) {
    case V_STRING: return STR_METHODS;
    case V_DICT: return DICT_METHODS;
    case V_LIST: return LIST_METHODS;
    case V_TUPLE:
    case V_RANGE: return TUPLE_METHODS;
    case V_BOOL:
    case V_INT: return INT_METHODS;
    case V_FLOAT: return FLOAT_METHODS;
    case V_LOOP: return LOOP_METHODS;
    case V_CYCLER: return CYCLER_METHODS;
    case V_UNDEFINED:
    case V_NONE:
    case V_VIEW:
    case V_ITERATOR:
    case V_NAMESPACE:
    case V_MACRO:
    case V_METHOD:
    case V_FUNCTION:
    case V_JOINER: return NULL;
    }
    return NULL;
}

const Function *method_find(ValueKind kind, Str name) {
    const Function *f = methods_of(kind);
    for (; f && f->name; f++) {
        if (str_eq(name, str_from_c(f->name))) return f;
    }
    return NULL;
}
