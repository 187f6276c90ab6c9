#include "api/fields.h"

#include "base/utf8.h"
#include "json/json_scan.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

// ---- errors ----

bool field_refuse(Error *err, const char *field, const char *message) {
    error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "%s: %s", field, message);
    snprintf(err->field, sizeof err->field, "%.*s", (int)strcspn(field, "["), field);
    return false;
}

bool field_refuse_type(Error *err, const char *field, const char *wanted, const JsonNode *found) {
    char message[96];
    snprintf(message, sizeof message, "must be %s, found %s", wanted, json_type_name(found));
    (void)field_refuse(err, field, message);
    if (found) err->position = found->position;
    return false;
}

void field_show_found(Str body, const Error *err, StrBuf *out) {
    enum { POINTER_BYTES = 64, VALUE_BYTES = 48 };
    char place[POINTER_BYTES];
    StrBuf pointer = STRBUF(place);
    Str value;
    // (A body that is no JSON has a position, too, but no field.)
    if (!err->field[0] || err->position >= body.len) return;
    if (!json_scan_find(body, (size_t)err->position, &pointer, &value)) return;
    Str cut = str_slice(value, 0, utf8_valid_prefix(str_slice(value, 0, min_u64(value.len, VALUE_BYTES))));
    strbuf_printf(out, ": %.*s%s is %.*s%s", STR_ARG(strbuf_str(&pointer)), pointer.truncated ? "..." : "",
                  STR_ARG(cut), cut.len < value.len ? "..." : "");
}

// With as many digits as tell it from a limit next to it.
static void put_number(StrBuf *b, double value) {
    char text[32];
    double read;
    snprintf(text, sizeof text, "%.15g", value);
    if (!str_parse_f64(str_from_c(text), &read) || read != value) snprintf(text, sizeof text, "%.17g", value);
    strbuf_put(b, str_from_c(text));
}

typedef struct {
    double least, most;
    bool above_least;
} Range;

static bool refuse_value(const char *field, Range range, double value, const char *what, Error *err) {
    char message[160];
    StrBuf b = STRBUF(message);
    put_number(&b, value);
    strbuf_printf(&b, " %s; allowed is ", what);
    if (range.above_least) {
        strbuf_printf(&b, "more than %.15g and at most %.15g", range.least, range.most);
    } else if (range.most == FIELD_I64_MOST && range.least == -FIELD_I64_MOST) {
        strbuf_put(&b, STR("a whole number of 64 bits"));
    } else if (range.most == FIELD_I64_MOST) {
        strbuf_printf(&b, "%.15g or more", range.least);
    } else if (range.most == FIELD_U64_MOST) {
        strbuf_printf(&b, "%.15g to 18446744073709551615", range.least);
    } else {
        strbuf_printf(&b, "%.15g to %.15g", range.least, range.most);
    }
    return field_refuse(err, field, message);
}

static bool is_in(Range range, double value) {
    return value <= range.most && (range.above_least ? value > range.least : value >= range.least);
}

static bool check_range(const char *field, Range range, double value, Error *err) {
    return is_in(range, value) || refuse_value(field, range, value, "is out of range", err);
}

// ---- values of one type each ----

static bool check_text(const char *field, Str text, double most, bool in_characters, Error *err) {
    size_t size = in_characters ? utf8_count(text) : text.len;
    if ((double)size <= most) return true;
    char message[96];
    snprintf(message, sizeof message, "%zu %s; at most %.0f are allowed", size,
             in_characters ? "characters" : "bytes", most);
    return field_refuse(err, field, message);
}

static bool read_u64(const char *field, const JsonNode *node, Range range, uint64_t *out, Error *err) {
    double number; // of a wrong one, for the message: negative, 2^64 or more, or with a fraction
    if (json_read_u64(node, out)) return check_range(field, range, (double)*out, err);
    if (!json_read_f64(node, &number)) return field_refuse_type(err, field, "a whole number", node);
    if (number >= FIELD_U64_MOST) return refuse_value(field, range, number, "is out of range", err);
    if (!check_range(field, range, number, err)) return false;
    return refuse_value(field, range, number, "is no whole number in digits", err);
}

static bool read_i64(const FieldRule *rule, const JsonNode *node, Range range, int64_t *out, Error *err) {
    double number;
    const char *field = rule->name;
    if (rule->not_zero && json_read_f64(node, &number) && number == 0)
        return field_refuse(err, field, "0 is out of range; allowed is 1 or more, or -1 for no limit");
    if (json_read_i64(node, out)) return check_range(field, range, (double)*out, err);
    if (!json_read_f64(node, &number)) return field_refuse_type(err, field, "a whole number", node);
    if (!check_range(field, range, number, err)) return false;
    return refuse_value(field, range, number, "is no whole number in digits", err);
}

static bool refuse_empty(Error *err, const char *field) {
    return field_refuse(err, field, "must not be empty");
}

static bool refuse_count(Error *err, const char *field, uint64_t count, const char *what, double most) {
    char message[96];
    snprintf(message, sizeof message, "%llu %s; at most %.0f are allowed", (unsigned long long)count, what,
             most);
    return field_refuse(err, field, message);
}

static bool add_text(const char *field, const JsonNode *node, FieldTexts *out, Error *err) {
    Str *text = &out->texts[out->count++];
    if (!json_read_str(node, text)) return field_refuse_type(err, field, "a string", node);
    return text->len ? check_text(field, *text, STOP_STRING_BYTES_MAX, false, err) : refuse_empty(err, field);
}

static bool read_texts(const FieldRule *rule, const JsonNode *node, double most, FieldTexts *out,
                       Error *err) {
    const char *name = rule->name;
    if (rule->one_or_more && json_is(node, JSON_STRING)) return add_text(name, node, out, err);
    if (!json_is(node, JSON_ARRAY)) {
        const char *wanted = rule->one_or_more ? "a string or an array of strings" : "an array of strings";
        return field_refuse_type(err, name, wanted, node);
    }
    assert(most <= (double)COUNT_OF(out->texts));
    if (node->length > most) return refuse_count(err, name, node->length, "strings", most);
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e)) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "%s[%u]", name, out->count);
        if (!add_text(field, e, out, err)) return false;
    }
    return true;
}

static bool read_ids(const FieldRule *rule, const JsonNode *node, double most, uint64_t vocab_size,
                     Arena *arena, FieldIds *out, Error *err) {
    const char *name = rule->name;
    if (!json_is(node, JSON_ARRAY)) return field_refuse_type(err, name, "an array of token ids", node);
    if (node->length == 0) return rule->may_be_empty || refuse_empty(err, name);
    if (node->length > most) return refuse_count(err, name, node->length, "tokens", most);
    int32_t *ids = arena_new(arena, int32_t, node->length);
    if (!ids) return error_set(err, ERR_NO_MEMORY, "no memory for %u token ids", node->length);
    Range range = {.most = (double)vocab_size - 1};
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e)) {
        char field[ERROR_FIELD_BYTES];
        uint64_t id;
        if (json_read_u64(e, &id) && id < vocab_size) {
            ids[out->count++] = (int32_t)id;
            continue;
        }
        snprintf(field, sizeof field, "%s[%u]", name, out->count);
        return read_u64(field, e, range, &id, err) && field_refuse(err, field, "is no token id");
    }
    out->ids = ids;
    return true;
}

// Digits as JSON writes numbers, so that no two keys mean the same id.
static bool parse_id(Str key, uint64_t vocab_size, int32_t *out) {
    uint64_t id;
    if (key.len > 1 && key.ptr[0] == '0') return false;
    if (!str_parse_u64(key, &id) || id >= vocab_size) return false;
    *out = (int32_t)id;
    return true;
}

static bool read_biases(const FieldRule *rule, const JsonNode *node, uint64_t vocab_size, Arena *arena,
                        FieldBiases *out, Error *err) {
    const char *name = rule->name;
    if (!json_is(node, JSON_OBJECT)) return field_refuse_type(err, name, "an object", node);
    if (node->length > LOGIT_BIAS_MAX)
        return refuse_count(err, name, node->length, "entries", LOGIT_BIAS_MAX);
    LogitBias *entries = arena_new(arena, LogitBias, LOGIT_BIAS_MAX);
    if (!entries) return error_set(err, ERR_NO_MEMORY, "no memory for %s", name);
    uint32_t n = 0;
    for (const JsonNode *key = json_first(node), *value; key != json_end(node); key = json_next(value), n++) {
        Str text = {0};
        char field[ERROR_FIELD_BYTES], message[96];
        double bias;
        LogitBias *entry = &entries[n];
        value = json_next(key);
        snprintf(field, sizeof field, "%s[%u]", name, n); // the n-th entry: a key is the client's own text
        snprintf(message, sizeof message, "its key must be a token id of 0 to %llu in digits",
                 (unsigned long long)vocab_size - 1);
        if (!json_read_str(key, &text) || !parse_id(text, vocab_size, &entry->token))
            return field_refuse(err, field, message);
        if (!json_read_f64(value, &bias)) return field_refuse_type(err, field, "a number", value);
        if (!check_range(field, (Range){rule->least, rule->most, false}, bias, err)) return false;
        entry->bias = (float)bias;
    }
    out->count = n;
    out->entries = entries;
    return true;
}

// ---- the table ----

double field_most(const FieldRule *rule, const RequestLimits *limits) {
    switch (rule->most_from) {
    case MOST_TOKENS_IN: return (double)limits->max_tokens_in;
    case MOST_TOKENS_OUT: return (double)limits->max_tokens_out;
    case MOST_VOCAB: return (double)limits->vocab_size;
    case MOST_PROMPT_CHARS: return limits->max_prompt_chars ? (double)limits->max_prompt_chars : INFINITY;
    case MOST_FIXED: break;
    }
    return rule->most;
}

static bool read_field(const FieldRule *rule, const JsonNode *node, const RequestLimits *limits, Arena *arena,
                       void *at, Error *err) {
    Range range = {rule->least, field_most(rule, limits), rule->above_least};
    switch (rule->type) {
    case FIELD_STR:
        if (!json_read_str(node, at)) return field_refuse_type(err, rule->name, "a string", node);
        if (((Str *)at)->len == 0) return rule->may_be_empty || refuse_empty(err, rule->name);
        return check_text(rule->name, *(Str *)at, range.most, rule->characters, err);
    case FIELD_BOOL: return json_read_bool(node, at) || field_refuse_type(err, rule->name, "a boolean", node);
    case FIELD_U64: return read_u64(rule->name, node, range, at, err);
    case FIELD_I64: return read_i64(rule, node, range, at, err);
    case FIELD_F64:
        if (!json_read_f64(node, at)) return field_refuse_type(err, rule->name, "a number", node);
        return check_range(rule->name, range, *(double *)at, err);
    case FIELD_TEXTS: return read_texts(rule, node, range.most, at, err);
    case FIELD_IDS: return read_ids(rule, node, range.most, limits->vocab_size, arena, at, err);
    case FIELD_NODE: memcpy(at, &node, sizeof node); return true;
    case FIELD_BIASES: break;
    }
    return read_biases(rule, node, limits->vocab_size, arena, at, err);
}

// The value of each row's field, or NULL. One walk, whatever else the object holds.
static void find_members(const FieldTable *t, const JsonNode *root,
                         const JsonNode *found[REQUEST_FIELDS_MAX]) {
    for (const JsonNode *key = json_first(root), *value; key != json_end(root); key = json_next(value)) {
        Str name = {0};
        value = json_next(key);
        if (!json_read_str(key, &name)) continue;
        for (uint32_t i = 0; i < t->n_rules; i++) {
            if (str_eq(name, str_from_c(t->rules[i].name))) found[i] = value;
        }
    }
}

bool fields_read(const FieldTable *t, const JsonNode *root, const RequestLimits *limits, Arena *arena,
                 void *values, Error *err) {
    const JsonNode *found[REQUEST_FIELDS_MAX] = {0};
    assert(t->n_rules <= REQUEST_FIELDS_MAX);
    find_members(t, root, found);
    for (uint32_t i = 0; i < t->n_rules; i++) {
        const FieldRule *rule = &t->rules[i];
        char *at = (char *)values + rule->offset;
        const JsonNode *node = t->null_is_absent && json_is(found[i], JSON_NULL) ? NULL : found[i];
        if (rule->type == FIELD_F64) memcpy(at, &rule->fallback, sizeof rule->fallback);
        if (node && !read_field(rule, node, limits, arena, at, err)) return false;
        if (!node && rule->required) return field_refuse(err, rule->name, "is required");
        if (node && rule->given) *((bool *)values + rule->given - 1) = true;
    }
    return true;
}

const JsonNode *fields_parse_body(Str body, uint32_t nodes_max, Arena *arena, Error *err) {
    const JsonNode *root = json_parse(body, arena, &(JsonLimits){.nodes_max = nodes_max}, err);
    if (!root) {
        (void)error_prefix(err, "the body");
        return NULL;
    }
    if (json_is(root, JSON_OBJECT)) return root;
    (void)error_set(err, ERR_INVALID_REQUEST, "the body must be a JSON object, found %s",
                    json_type_name(root));
    return NULL;
}
