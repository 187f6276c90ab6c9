#include "template/value.h"

#include "base/utf8.h"
#include "template/py_format.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void run_set_error(Run *run, const char *format, ...) {
    va_list args;
    char message[ERROR_MESSAGE_BYTES];
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    error_fill(run->err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "%s", message);
}

void run_set_full(Run *run) {
    error_fill(run->err, ERR_NO_MEMORY, ERROR_NO_POSITION, "the template needs more memory than it may have");
}

void run_spend(Run *run, uint64_t n) {
    run->steps_left -= min_u64(n, run->steps_left);
}

bool run_steps(Run *run, uint64_t n) {
    const uint8_t *next = run->arena->next;
    uint64_t taken = next > run->counted ? (uint64_t)(next - run->counted) / STEP_BYTES : 0;
    if (n + taken > run->steps_left) {
        run->steps_left = 0;
        return run_fail(run, "the template takes too many steps");
    }
    run->steps_left -= n + taken;
    if (taken || next < run->counted) run->counted = next;
    return true;
}

// ---- texts ----

Text text_slice(Text t, size_t from, size_t to) {
    t.ptr += from;
    t.len = to - from;
    if (t.origins) t.origins += from;
    return t;
}

Origin text_derived(const Text *t) {
    return t->origin == ORIGIN_TEMPLATE ? ORIGIN_TEMPLATE : ORIGIN_REQUEST;
}

size_t text_decode(const Text *t, size_t at, uint32_t *codepoint) {
    size_t length = utf8_decode((Str){t->ptr + at, t->len - at}, codepoint);
    if (length) return length;
    *codepoint = 0xFFFD;
    return 1;
}

size_t text_characters(const Text *t) {
    size_t n = 0;
    for (size_t i = 0; i < t->len; i++)
        n += ((uint8_t)t->ptr[i] & 0xC0) != 0x80;
    return n;
}

size_t text_offset(const Text *t, size_t n_characters) {
    size_t at = 0;
    for (; at < t->len; at++) {
        if (((uint8_t)t->ptr[at] & 0xC0) != 0x80 && n_characters-- == 0) break;
    }
    return at;
}

bool pieces_append(Run *run, Pieces *p, Text text) {
    Piece *piece = arena_new(run->arena, Piece, 1);
    if (!piece) return run_full(run);
    piece->text = text;
    if (p->last) p->last->next = piece;
    else p->first = piece;
    p->last = piece;
    return run_steps(run, 1);
}

bool pieces_add(Run *run, Pieces *p, Text text) {
    if (text.len == 0) return true;
    p->len += text.len;
    p->has[ORIGIN_TEMPLATE] |= text.origin != ORIGIN_REQUEST;
    p->has[ORIGIN_REQUEST] |= text.origin != ORIGIN_TEMPLATE;
    Text *last = p->last ? &p->last->text : NULL;
    bool follows = last && last->ptr + last->len == text.ptr && last->origin == text.origin &&
                   (!text.origins || last->origins + last->len == text.origins);
    if (follows) {
        last->len += text.len;
        return true;
    }
    return pieces_append(run, p, text);
}

bool pieces_add_str(Run *run, Pieces *p, Str s, Origin origin) {
    return pieces_add(run, p, text_of(s, origin));
}

bool pieces_printf(Run *run, Pieces *p, Origin origin, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    Str copy = arena_copy_str(run->arena, (Str){text, min_u64((uint64_t)length, sizeof text - 1)});
    return copy.ptr ? pieces_add_str(run, p, copy, origin) : run_full(run);
}

bool pieces_join(Run *run, const Pieces *p, Text *out) {
    *out = (Text){.ptr = "", .origin = p->has[ORIGIN_REQUEST] ? ORIGIN_REQUEST : ORIGIN_TEMPLATE};
    if (p->first && !p->first->next) {
        *out = p->first->text;
        out->is_markup = false;
        return true;
    }
    bool mixed = p->has[ORIGIN_TEMPLATE] && p->has[ORIGIN_REQUEST];
    char *bytes = arena_new(run->arena, char, p->len);
    uint8_t *origins = mixed ? arena_new(run->arena, uint8_t, p->len) : NULL;
    if (!bytes || (mixed && !origins)) return run_full(run);
    size_t at = 0;
    for (const Piece *piece = p->first; piece; at += piece->text.len, piece = piece->next) {
        const Text *t = &piece->text;
        memcpy(bytes + at, t->ptr, t->len);
        if (!mixed) continue;
        if (t->origins) memcpy(origins + at, t->origins, t->len);
        else memset(origins + at, t->origin, t->len);
    }
    *out =
        (Text){.ptr = bytes, .len = p->len, .origins = origins, .origin = mixed ? ORIGIN_MIXED : out->origin};
    return true;
}

bool pieces_value(Run *run, const Pieces *p, Value *out) {
    Text text;
    return pieces_join(run, p, &text) && value_string(run, text, out);
}

bool value_as_markup(Run *run, Value *v) {
    if (v->kind != V_STRING || v->text->is_markup) return true;
    Text text = *v->text;
    text.is_markup = true;
    return value_string(run, text, v);
}

// ---- making ----

bool value_string(Run *run, Text text, Value *out) {
    Text *kept = arena_new(run->arena, Text, 1);
    if (!kept) return run_full(run);
    *kept = text;
    *out = value_of_text(kept);
    return true;
}

bool value_str(Run *run, Str s, Origin origin, Value *out) {
    return value_string(run, text_of(s, origin), out);
}

bool value_list(Run *run, ValueKind kind, size_t count, Value *out) {
    List *list = arena_new(run->arena, List, 1);
    Value *items = arena_new(run->arena, Value, count);
    if (!list || !items) return run_full(run);
    *list = (List){.items = items, .count = count};
    *out = (Value){.kind = kind, .list = list};
    return run_steps(run, 1);
}

bool value_dict(Run *run, size_t capacity, Value *out) {
    Dict *d = arena_new(run->arena, Dict, 1);
    Value *keys = arena_new(run->arena, Value, capacity), *values = arena_new(run->arena, Value, capacity);
    if (!d || !keys || !values) return run_full(run);
    *d = (Dict){.keys = keys, .values = values, .capacity = capacity};
    *out = (Value){.kind = V_DICT, .dict = d};
    return true;
}

static bool texts_equal(Run *run, const Text *a, const Text *b) {
    if (a->len != b->len) return false;
    run_spend(run, a->len / STEP_BYTES);
    return str_eq(text_str(a), text_str(b));
}

// As a dictionary's keys: those that Python hashes alike and holds equal.
static bool same_key(Run *run, Value a, Value b) {
    if (a.kind == V_STRING && b.kind == V_STRING) return texts_equal(run, a.text, b.text);
    if (value_is_number(a) && value_is_number(b)) return value_number(a) == value_number(b);
    if (a.kind != b.kind) return false;
    if (a.kind == V_NONE) return true;
    if (a.kind != V_TUPLE || a.list->count != b.list->count) return false;
    for (size_t i = 0; i < a.list->count; i++) {
        if (a.list->items[i].kind == V_TUPLE || !same_key(run, a.list->items[i], b.list->items[i]))
            return false;
    }
    return true;
}

const Value *dict_get(Run *run, const Dict *d, Value key) {
    run_spend(run, d->count / 8);
    for (size_t i = 0; i < d->count; i++) {
        if (same_key(run, d->keys[i], key)) return &d->values[i];
    }
    return NULL;
}

const Value *dict_get_str(Run *run, const Dict *d, Str key) {
    Text text = text_of(key, ORIGIN_TEMPLATE);
    return dict_get(run, d, value_of_text(&text));
}

static bool dict_grow(Run *run, Dict *d) {
    size_t capacity = d->capacity ? 2 * d->capacity : 8;
    Value *keys = arena_new(run->arena, Value, capacity), *values = arena_new(run->arena, Value, capacity);
    if (!keys || !values) return run_full(run);
    if (d->count) {
        memcpy(keys, d->keys, d->count * sizeof *keys);
        memcpy(values, d->values, d->count * sizeof *values);
    }
    d->keys = keys;
    d->values = values;
    d->capacity = capacity;
    return true;
}

bool dict_set(Run *run, Dict *d, Value key, Value value) {
    if (key.kind == V_LIST || key.kind == V_DICT) {
        return run_fail(run, "unhashable type: '%s'", value_type_name(key));
    }
    if (!run_steps(run, 1)) return false;
    Value *there = (Value *)(uintptr_t)dict_get(run, d, key);
    if (there) {
        *there = value;
        return true;
    }
    if (d->count == d->capacity && !dict_grow(run, d)) return false;
    d->keys[d->count] = key;
    d->values[d->count++] = value;
    return true;
}

static bool array_from_json(Run *run, const JsonNode *node, Value *out) {
    if (!value_list(run, V_LIST, node->length, out)) return false;
    size_t i = 0;
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e)) {
        if (!value_from_json(run, e, &out->list->items[i++])) return false;
    }
    return true;
}

static bool object_from_json(Run *run, const JsonNode *node, Value *out) {
    if (!value_dict(run, node->length, out)) return false;
    for (const JsonNode *k = json_first(node), *v; k != json_end(node); k = json_next(v)) {
        v = json_next(k);
        Value key, value;
        if (!value_from_json(run, k, &key) || !value_from_json(run, v, &value) ||
            !dict_set(run, out->dict, key, value)) {
            return false;
        }
    }
    return true;
}

// The depth is bounded by the JSON reader.
bool value_from_json(Run *run, const JsonNode *node, Value *out) {
    if (!run_steps(run, 1)) return false;
    switch ((JsonType)node->type) {
    case JSON_NULL: *out = value_none(); return true;
    case JSON_BOOL: *out = value_bool(node->as.boolean); return true;
    case JSON_I64: *out = value_int(node->as.i64); return true;
    case JSON_U64:
        *out =
            node->as.u64 <= INT64_MAX ? value_int((int64_t)node->as.u64) : value_float((double)node->as.u64);
        return true;
    case JSON_F64: *out = value_float(node->as.f64); return true;
    case JSON_STRING: return value_str(run, (Str){node->as.string, node->length}, ORIGIN_REQUEST, out);
    case JSON_ARRAY: return array_from_json(run, node, out);
    case JSON_OBJECT: return object_from_json(run, node, out);
    }
    return run_fail(run, "a value of an unknown kind");
}

// ---- asking ----

const char *value_type_name(Value v) {
    static const char *const names[] = {
        [V_UNDEFINED] = "Undefined", [V_NONE] = "NoneType",
        [V_BOOL] = "bool",           [V_INT] = "int",
        [V_FLOAT] = "float",         [V_STRING] = "str",
        [V_LIST] = "list",           [V_TUPLE] = "tuple",
        [V_RANGE] = "range",         [V_VIEW] = "dict view",
        [V_ITERATOR] = "generator",  [V_DICT] = "dict",
        [V_NAMESPACE] = "Namespace", [V_LOOP] = "LoopContext",
        [V_MACRO] = "Macro",         [V_METHOD] = "method",
        [V_FUNCTION] = "function",   [V_CYCLER] = "Cycler",
        [V_JOINER] = "Joiner",
    };
    return names[v.kind];
}

bool value_is_integer(Value v) {
    return v.kind == V_INT || v.kind == V_BOOL;
}

bool value_is_number(Value v) {
    return value_is_integer(v) || v.kind == V_FLOAT;
}

int64_t value_integer(Value v) {
    return v.kind == V_BOOL ? v.boolean : v.integer;
}

double value_number(Value v) {
    return v.kind == V_FLOAT ? v.real : (double)value_integer(v);
}

bool value_truth(Value v) {
    switch (v.kind) {
    case V_UNDEFINED:
    case V_NONE: return false;
    case V_BOOL: return v.boolean;
    case V_INT: return v.integer != 0;
    case V_FLOAT: return v.real != 0;
    case V_STRING: return v.text->len > 0;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: return v.list->count > 0;
    case V_DICT: return v.dict->count > 0;
    case V_ITERATOR:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_METHOD:
    case V_FUNCTION:
    case V_CYCLER:
    case V_JOINER: return true;
    }
    return true;
}

// One level of recursion; false when there are too many.
static bool enter(Run *run) {
    if (!run_steps(run, 1)) return false;
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "values are nested too deep");
    run->depth++;
    return true;
}

static bool lists_equal(Run *run, const List *a, const List *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        if (!value_equal(run, a->items[i], b->items[i], out)) return false;
    }
    return true;
}

static bool dicts_equal(Run *run, const Dict *a, const Dict *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        const Value *other = dict_get(run, b, a->keys[i]);
        if (!run_steps(run, 1)) return false;
        if (!other) *out = false;
        else if (!value_equal(run, a->values[i], *other, out)) return false;
    }
    return true;
}

// A dictionary's keys and items are sets: those of two are equal whatever their order.
static bool views_equal(Run *run, const List *a, const List *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        bool found = false;
        for (size_t k = 0; !found && k < b->count; k++) {
            if (!value_equal(run, a->items[i], b->items[k], &found)) return false;
        }
        *out = found;
    }
    return true;
}

static bool integers_equal(Value a, Value b) {
    return value_is_integer(a) && value_is_integer(b) ? value_integer(a) == value_integer(b)
                                                      : value_number(a) == value_number(b);
}

static bool equal(Run *run, Value a, Value b, bool *out) {
    if (value_is_number(a) && value_is_number(b)) {
        *out = integers_equal(a, b);
        return true;
    }
    *out = false;
    if (a.kind != b.kind) return true;
    switch (a.kind) {
    case V_UNDEFINED:
    case V_NONE: *out = true; return true;
    case V_STRING: *out = texts_equal(run, a.text, b.text); return true;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE: return lists_equal(run, a.list, b.list, out);
    case V_DICT: return dicts_equal(run, a.dict, b.dict, out);
    case V_VIEW:
        if (a.list->name != b.list->name || strcmp(a.list->name, "dict_values") == 0) *out = a.list == b.list;
        else return views_equal(run, a.list, b.list, out);
        return true;
    case V_FUNCTION: *out = a.function == b.function; return true;
    case V_METHOD: *out = a.method == b.method; return true;
    case V_ITERATOR:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_CYCLER:
    case V_JOINER: *out = a.list == b.list; return true; // the same object
    case V_BOOL:
    case V_INT:
    case V_FLOAT: break; // numbers, above
    }
    return true;
}

bool value_equal(Run *run, Value a, Value b, bool *out) {
    if (!enter(run)) return false;
    bool ok = equal(run, a, b, out);
    run->depth--;
    return ok;
}

static bool compare_lists(Run *run, const List *a, const List *b, int *out) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool same;
        if (!value_equal(run, a->items[i], b->items[i], &same)) return false;
        if (!same) return value_compare(run, a->items[i], b->items[i], out);
    }
    *out = (a->count > b->count) - (a->count < b->count);
    return true;
}

static int compare_strings(Run *run, const Text *a, const Text *b) {
    size_t common = a->len < b->len ? a->len : b->len;
    run_spend(run, common / STEP_BYTES);
    int order = common ? memcmp(a->ptr, b->ptr, common) : 0; // UTF-8 sorts as its characters do
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

bool value_compare(Run *run, Value a, Value b, int *out) {
    if (!enter(run)) return false;
    bool ok = true;
    if (value_is_integer(a) && value_is_integer(b)) {
        *out = (value_integer(a) > value_integer(b)) - (value_integer(a) < value_integer(b));
    } else if (value_is_number(a) && value_is_number(b)) {
        *out = (value_number(a) > value_number(b)) - (value_number(a) < value_number(b));
    } else if (a.kind == V_STRING && b.kind == V_STRING) {
        *out = compare_strings(run, a.text, b.text);
    } else if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        ok = compare_lists(run, a.list, b.list, out);
    } else if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED) {
        ok = run_fail(run, "'%s' is undefined", a.kind == V_UNDEFINED ? a.name : b.name);
    } else {
        ok = run_fail(run, "'%s' and '%s' have no order", value_type_name(a), value_type_name(b));
    }
    run->depth--;
    return ok;
}

bool value_contains(Run *run, Value container, Value item, bool *out) {
    *out = false;
    if (container.kind == V_STRING) {
        if (item.kind != V_STRING) {
            return run_fail(run, "'in <string>' requires string as left operand, not %s",
                            value_type_name(item));
        }
        *out = item.text->len == 0 ||
               memmem(container.text->ptr, container.text->len, item.text->ptr, item.text->len) != NULL;
        return run_steps(run, 1 + container.text->len / 32);
    }
    if (container.kind == V_DICT) {
        if (item.kind == V_LIST || item.kind == V_DICT)
            return run_fail(run, "unhashable type: '%s'", value_type_name(item));
        *out = dict_get(run, container.dict, item) != NULL;
        return run_steps(run, 1);
    }
    const List *list;
    if (!value_iterate(run, container, &list)) return false;
    for (size_t i = 0; !*out && i < list->count; i++) {
        if (!value_equal(run, item, list->items[i], out)) return false;
    }
    return true;
}

bool value_length(Run *run, Value v, size_t *out) {
    switch (v.kind) {
    case V_UNDEFINED: *out = 0; return true;
    case V_STRING: *out = text_characters(v.text); return run_steps(run, 1 + v.text->len / 16);
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: *out = v.list->count; return true;
    case V_DICT: *out = v.dict->count; return true;
    default: return run_fail(run, "object of type '%s' has no len()", value_type_name(v));
    }
}

static bool characters(Run *run, const Text *t, Value *out) {
    if (!value_list(run, V_LIST, text_characters(t), out)) return false;
    size_t n = 0, from = 0;
    for (size_t at = 1; at <= t->len; at++) {
        if (at < t->len && ((uint8_t)t->ptr[at] & 0xC0) == 0x80) continue;
        Text character = text_slice(*t, from, at);
        character.is_markup = false;
        if (!value_string(run, character, &out->list->items[n++])) return false;
        from = at;
    }
    return true;
}

bool value_iterate(Run *run, Value v, const List **out) {
    Value list;
    switch (v.kind) {
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW: *out = v.list; return true;
    case V_ITERATOR:
        if (!value_list(run, V_LIST, 0, &list)) return false;
        *list.list = (List){.items = v.list->items + v.list->taken, .count = v.list->count - v.list->taken};
        v.list->taken = v.list->count;
        break;
    case V_UNDEFINED:
        if (!value_list(run, V_LIST, 0, &list)) return false;
        break;
    case V_STRING:
        if (!characters(run, v.text, &list)) return false;
        break;
    case V_DICT:
        if (!value_list(run, V_LIST, 0, &list)) return false;
        *list.list = (List){.items = v.dict->keys, .count = v.dict->count};
        break;
    default: return run_fail(run, "'%s' object is not iterable", value_type_name(v));
    }
    *out = list.list;
    return true;
}

// ---- items ----

// What v[key] is where there is none: messages name the key.
static bool missing_item(Run *run, Value key, Value *out) {
    char name[64] = "the item";
    Str text = STR("");
    if (key.kind == V_STRING) text = text_str(key.text);
    if (key.kind == V_STRING) snprintf(name, sizeof name, "%.*s", (int)min_u64(text.len, 60), text.ptr);
    if (value_is_integer(key)) snprintf(name, sizeof name, "[%lld]", (long long)value_integer(key));
    size_t length = strlen(name), whole = utf8_valid_prefix((Str){name, length});
    Str kept = arena_copy_str(run->arena, (Str){name, text.len > 60 ? whole : length});
    if (!kept.ptr) return run_full(run);
    *out = value_undefined(kept.ptr);
    return true;
}

bool value_getitem(Run *run, Value v, Value key, Value *out) {
    if (v.kind == V_DICT) {
        const Value *found = dict_get(run, v.dict, key);
        if (!found) return missing_item(run, key, out);
        *out = *found;
        return run_steps(run, 1);
    }
    if (!missing_item(run, key, out)) return false;
    bool has_items = value_is_sequence(v) || v.kind == V_STRING;
    if (!has_items || !value_is_integer(key)) return true;
    int64_t i = value_integer(key);
    size_t count;
    if (!value_length(run, v, &count)) return false;
    if (i < 0) i += (int64_t)count;
    if (i < 0 || (uint64_t)i >= count) return true;
    if (v.kind != V_STRING) {
        *out = v.list->items[i];
        return true;
    }
    size_t from = text_offset(v.text, (size_t)i), to = text_offset(v.text, (size_t)i + 1);
    run_spend(run, to / 8);
    return value_string(run, text_slice(*v.text, from, to), out);
}

// Python's slice.indices of one bound.
static int64_t clamp_bound(int64_t i, int64_t count, int64_t least, int64_t most) {
    if (i < 0) i += count;
    return i < least ? least : i > most ? most : i;
}

static bool slice_bounds(Run *run, const Value bounds[3], int64_t count, int64_t *start, int64_t *stop,
                         int64_t *step) {
    for (int i = 0; i < 3; i++) {
        if (bounds[i].kind == V_NONE || value_is_integer(bounds[i])) continue;
        return run_fail(run, "slice indices must be integers or None");
    }
    *step = bounds[2].kind == V_NONE ? 1 : value_integer(bounds[2]);
    if (*step == 0) return run_fail(run, "slice step cannot be zero");
    int64_t least = *step < 0 ? -1 : 0, most = *step < 0 ? count - 1 : count;
    *start = *step < 0 ? most : least;
    *stop = *step < 0 ? least : most;
    if (bounds[0].kind != V_NONE) *start = clamp_bound(value_integer(bounds[0]), count, least, most);
    if (bounds[1].kind != V_NONE) *stop = clamp_bound(value_integer(bounds[1]), count, least, most);
    return true;
}

static int64_t slice_count(int64_t start, int64_t stop, int64_t step) {
    if (step > 0 ? start >= stop : start <= stop) return 0;
    uint64_t distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t size = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    return (int64_t)((distance - 1) / size + 1);
}

bool value_slice(Run *run, Value v, const Value bounds[3], Value *out) {
    if (v.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", v.name);
    if (!value_is_sequence(v) && v.kind != V_STRING)
        return run_fail(run, "'%s' object is not subscriptable", value_type_name(v));
    size_t count;
    int64_t start, stop, step;
    if (!value_length(run, v, &count) || !slice_bounds(run, bounds, (int64_t)count, &start, &stop, &step))
        return false;
    int64_t n = slice_count(start, stop, step);
    if (v.kind == V_STRING) run_spend(run, v.text->len / 8);
    if (v.kind == V_STRING && step == 1) {
        size_t from = text_offset(v.text, (size_t)start);
        Text rest = text_slice(*v.text, from, v.text->len);
        return value_string(run, text_slice(rest, 0, text_offset(&rest, (size_t)n)), out);
    }
    const List *list;
    Value taken;
    ValueKind kind = v.kind == V_STRING ? V_LIST : v.kind;
    if (!value_iterate(run, v, &list) || !value_list(run, kind, (size_t)n, &taken)) return false;
    for (int64_t i = 0; i < n; i++)
        taken.list->items[i] = list->items[start + i * step];
    *out = taken;
    if (v.kind == V_RANGE) {
        const int64_t *b = v.list->bounds;
        const int64_t bounds_of_part[3] = {b[0] + start * b[2], b[0] + stop * b[2], b[2] * step};
        memcpy(taken.list->bounds, bounds_of_part, sizeof bounds_of_part);
    }
    if (v.kind != V_STRING) return true;
    Pieces p = {0};
    for (int64_t i = 0; i < n; i++) {
        if (!pieces_add(run, &p, *taken.list->items[i].text)) return false;
    }
    return pieces_value(run, &p, out) && (!v.text->is_markup || value_as_markup(run, out));
}

// ---- printing ----

static bool print_items(Run *run, Pieces *p, const char *open, const Value *items, size_t count,
                        const char *close) {
    if (!pieces_add_str(run, p, str_from_c(open), ORIGIN_TEMPLATE)) return false;
    for (size_t i = 0; i < count; i++) {
        if (i && !pieces_add_str(run, p, STR(", "), ORIGIN_TEMPLATE)) return false;
        if (!value_repr(run, p, items[i])) return false;
    }
    return pieces_add_str(run, p, str_from_c(close), ORIGIN_TEMPLATE);
}

static bool print_dict(Run *run, Pieces *p, const Dict *d) {
    if (!pieces_add_str(run, p, STR("{"), ORIGIN_TEMPLATE)) return false;
    for (size_t i = 0; i < d->count; i++) {
        if (i && !pieces_add_str(run, p, STR(", "), ORIGIN_TEMPLATE)) return false;
        if (!value_repr(run, p, d->keys[i]) || !pieces_add_str(run, p, STR(": "), ORIGIN_TEMPLATE) ||
            !value_repr(run, p, d->values[i])) {
            return false;
        }
    }
    return pieces_add_str(run, p, STR("}"), ORIGIN_TEMPLATE);
}

static bool print_range(Run *run, Pieces *p, const List *r) {
    long long start = r->bounds[0], stop = r->bounds[1], step = r->bounds[2];
    if (step == 1) return pieces_printf(run, p, ORIGIN_TEMPLATE, "range(%lld, %lld)", start, stop);
    return pieces_printf(run, p, ORIGIN_TEMPLATE, "range(%lld, %lld, %lld)", start, stop, step);
}

static bool repr(Run *run, Pieces *p, Value v) {
    char number[PY_FLOAT_BYTES];
    if (v.kind == V_FLOAT) run_spend(run, FLOAT_STEPS);
    switch (v.kind) {
    case V_UNDEFINED: return pieces_add_str(run, p, STR("Undefined"), ORIGIN_TEMPLATE);
    case V_NONE: return pieces_add_str(run, p, STR("None"), ORIGIN_TEMPLATE);
    case V_BOOL: return pieces_add_str(run, p, v.boolean ? STR("True") : STR("False"), ORIGIN_TEMPLATE);
    case V_INT: return pieces_printf(run, p, ORIGIN_TEMPLATE, "%lld", (long long)v.integer);
    case V_FLOAT: py_float_repr(v.real, number); return pieces_printf(run, p, ORIGIN_TEMPLATE, "%s", number);
    case V_STRING:
        if (!v.text->is_markup) return py_str_repr(run, p, v.text);
        return pieces_add_str(run, p, STR("Markup("), ORIGIN_TEMPLATE) && py_str_repr(run, p, v.text) &&
               pieces_add_str(run, p, STR(")"), ORIGIN_TEMPLATE);
    case V_LIST: return print_items(run, p, "[", v.list->items, v.list->count, "]");
    case V_TUPLE:
        return print_items(run, p, "(", v.list->items, v.list->count, v.list->count == 1 ? ",)" : ")");
    case V_RANGE: return print_range(run, p, v.list);
    case V_VIEW:
        return pieces_printf(run, p, ORIGIN_TEMPLATE, "%s(", v.list->name) &&
               print_items(run, p, "[", v.list->items, v.list->count, "])");
    case V_DICT: return print_dict(run, p, v.dict);
    case V_NAMESPACE:
        return pieces_add_str(run, p, STR("<Namespace "), ORIGIN_TEMPLATE) && print_dict(run, p, v.dict) &&
               pieces_add_str(run, p, STR(">"), ORIGIN_TEMPLATE);
    case V_LOOP: return loop_print(run, p, v.loop);
    case V_ITERATOR:
    case V_MACRO:
    case V_METHOD:
    case V_FUNCTION:
    case V_CYCLER:
    case V_JOINER: return run_fail(run, "a %s has no text", value_type_name(v)); // Python shows its address
    }
    return false;
}

bool value_repr(Run *run, Pieces *p, Value v) {
    if (!enter(run)) return false;
    bool ok = repr(run, p, v);
    run->depth--;
    return ok;
}

bool value_print(Run *run, Pieces *p, Value v) {
    if (v.kind == V_STRING) return pieces_add(run, p, *v.text);
    if (v.kind == V_UNDEFINED) return true;
    return value_repr(run, p, v);
}

bool value_to_text(Run *run, Value v, Text *out) {
    if (v.kind == V_STRING) {
        *out = *v.text;
        return true;
    }
    Pieces p = {0};
    return value_print(run, &p, v) && pieces_join(run, &p, out);
}
