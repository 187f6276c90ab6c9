#include "json/json_reader.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static_assert(sizeof(JsonNode) == 24, "the header tells callers what a node costs");

enum { JSON_FIRST_NODES = 64, JSON_GROWTH_NODES_MAX = 64 * 1024 };

typedef struct {
    const char *begin;
    const char *at;
    const char *end;
    Arena *arena;
    JsonNode *nodes; // one array, at the arena's front while parsing
    uint32_t count;
    uint32_t capacity;
    uint32_t nodes_max;
    uint32_t depth;
    uint32_t open[JSON_DEPTH_MAX]; // the containers around the current place
    ErrCode error_code;
    Error *err;
} JsonReader;

static bool json_fail_at(JsonReader *r, const char *where, const char *what) {
    uint64_t position = (uint64_t)(where - r->begin);
    return error_set_at(r->err, r->error_code, position, "invalid JSON at byte %llu: %s",
                        (unsigned long long)position, what);
}

static bool json_fail(JsonReader *r, const char *what) {
    return json_fail_at(r, r->at, r->at == r->end ? "the text ends too early" : what);
}

static void json_skip_blanks(JsonReader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

// ---- nodes ----

// Makes room for `slots` more nodes. Allocations from one arena follow each other, so the array only gets
// longer.
static bool json_grow(JsonReader *r, uint64_t slots) {
    uint64_t wanted = r->count + slots;
    if (wanted > r->nodes_max) {
        uint64_t position = (uint64_t)(r->at - r->begin);
        return error_set_at(r->err, r->error_code, position,
                            "JSON with more than %u values or too much escaped text, at byte %llu",
                            r->nodes_max, (unsigned long long)position);
    }
    uint64_t more = max_u64(wanted - r->capacity, min_u64(r->capacity, JSON_GROWTH_NODES_MAX));
    more = max_u64(more, JSON_FIRST_NODES);
    uint64_t left = arena_left(r->arena) / sizeof(JsonNode);
    if (more > left && left >= wanted - r->capacity) more = left;
    JsonNode *grown = arena_new(r->arena, JsonNode, more);
    if (!grown) return error_set(r->err, ERR_NO_MEMORY, "no memory for JSON of %u values", r->count);
    if (!r->nodes) r->nodes = grown;
    assert(grown == r->nodes + r->capacity);
    r->capacity += (uint32_t)more;
    return true;
}

static JsonNode *json_add_node(JsonReader *r, JsonType type, const char *where) {
    if ((r->count == r->capacity || r->count == r->nodes_max) && !json_grow(r, 1)) return NULL;
    JsonNode *node = &r->nodes[r->count++];
    *node = (JsonNode){.type = (uint8_t)type, .position = (uint32_t)(where - r->begin), .span = 1};
    return node;
}

// ---- strings ----

// Bytes of plain ASCII before the first that needs a look: quote, backslash, control or above 0x7F.
static size_t json_plain_run(uint64_t eight) {
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t quote = eight ^ (ones * '"'), backslash = eight ^ (ones * '\\');
    // In each term the lowest marked byte is exact, and only the lowest is used.
    uint64_t marks = eight | ((eight - ones * 0x20) & ~eight) | ((quote - ones) & ~quote) |
                     ((backslash - ones) & ~backslash);
    marks &= highs;
    return marks ? (size_t)__builtin_ctzll(marks) / 8 : 8;
}

// From after the opening quote to the closing one; checks everything but what follows a backslash.
static bool json_scan_string(JsonReader *r, bool *has_escapes) {
    *has_escapes = false;
    for (;;) {
        uint64_t eight;
        if (r->end - r->at >= 8) {
            memcpy(&eight, r->at, 8);
            size_t run = json_plain_run(eight);
            r->at += run;
            if (run == 8) continue;
        }
        if (r->at == r->end) return json_fail(r, "");
        uint8_t c = (uint8_t)*r->at;
        if (c == '"') return true;
        if (c < 0x20) return json_fail(r, "a control character inside a string must be escaped");
        if (c == '\\') {
            *has_escapes = true;
            if (r->end - r->at < 2) return json_fail_at(r, r->end, "the text ends too early");
            r->at += 2;
        } else if (c >= 0x80) {
            uint32_t codepoint;
            size_t length = utf8_decode((Str){r->at, (size_t)(r->end - r->at)}, &codepoint);
            if (length == 0) return json_fail(r, "invalid UTF-8");
            r->at += length;
        } else {
            r->at++;
        }
    }
}

static bool json_read_hex4(JsonReader *r, const char *at, const char *end, uint32_t *out) {
    uint32_t value = 0;
    if (end - at < 4) return json_fail_at(r, at, "\\u needs four hexadecimal digits");
    for (int i = 0; i < 4; i++) {
        uint32_t c = (uint8_t)at[i], lower = c | 0x20;
        if (c >= '0' && c <= '9') {
            value = value << 4 | (c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            value = value << 4 | (lower - 'a' + 10);
        } else {
            return json_fail_at(r, at + i, "\\u needs four hexadecimal digits");
        }
    }
    *out = value;
    return true;
}

// The code point of a \u escape at *at, which may take two of them; leaves *at behind the last digit.
static bool json_read_unicode_escape(JsonReader *r, const char **at, const char *end, uint32_t *out) {
    uint32_t high, low;
    const char *escape = *at;
    if (!json_read_hex4(r, escape + 2, end, &high)) return false;
    *at = escape + 6;
    *out = high;
    if (high < 0xD800 || high > 0xDFFF) return true;
    if (high > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') {
        return json_fail_at(r, escape, "half of a surrogate pair");
    }
    if (!json_read_hex4(r, *at + 2, end, &low)) return false;
    if (low < 0xDC00 || low > 0xDFFF) return json_fail_at(r, escape, "half of a surrogate pair");
    *at += 6;
    *out = 0x10000 + ((high - 0xD800) << 10 | (low - 0xDC00));
    return true;
}

static char json_simple_escape(char c) {
    switch (c) {
    case '"':
    case '\\':
    case '/': return c;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return 0;
    }
}

// Writes the text of [at, end) to `out`, which has room for as many bytes.
static bool json_unescape(JsonReader *r, const char *at, const char *end, char *out, size_t *length) {
    char *to = out;
    while (at < end) {
        const char *escape = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((escape ? escape : end) - at);
        memcpy(to, at, plain);
        to += plain;
        at += plain;
        if (!escape) break;
        if (at[1] == 'u') {
            uint32_t codepoint;
            if (!json_read_unicode_escape(r, &at, end, &codepoint)) return false;
            to += utf8_encode(codepoint, to);
            continue;
        }
        *to = json_simple_escape(at[1]);
        if (!*to) return json_fail_at(r, at, "unknown escape");
        to++;
        at += 2;
    }
    *length = (size_t)(to - out);
    return true;
}

static bool json_parse_string(JsonReader *r) {
    const char *quote = r->at++;
    const char *from = r->at;
    bool has_escapes;
    if (!json_scan_string(r, &has_escapes)) return false;
    const char *to = r->at++;
    JsonNode *node = json_add_node(r, JSON_STRING, quote);
    if (!node) return false;
    node->length = (uint32_t)(to - from);
    node->as.string = from;
    if (!has_escapes) return true;
    // The text lies in the slots behind its node. Unescaping makes it shorter, so some are given back.
    uint64_t slots = div_up(node->length, sizeof(JsonNode));
    if ((r->count + slots > r->capacity || r->count + slots > r->nodes_max) && !json_grow(r, slots))
        return false;
    char *text = (char *)(node + 1);
    size_t length = 0;
    if (!json_unescape(r, from, to, text, &length)) return false;
    node->length = (uint32_t)length;
    node->as.string = text;
    node->span += (uint32_t)div_up(length, sizeof(JsonNode));
    r->count += node->span - 1;
    return true;
}

// ---- numbers ----

typedef struct {
    uint64_t digits;  // all of them as one integer, where exact
    bool exact;       // they fitted
    int64_t exponent; // the power of ten that the digits are multiplied by
    bool is_negative;
    bool is_integer; // neither a fraction nor an exponent
} JsonDecimal;

static bool json_is_digit(const JsonReader *r) {
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

// At least one digit, appended to d->digits.
static bool json_scan_digits(JsonReader *r, JsonDecimal *d) {
    if (!json_is_digit(r)) return json_fail(r, "expected a digit");
    for (; json_is_digit(r); r->at++) {
        uint64_t more;
        d->exact = d->exact && checked_mul(d->digits, 10, &more) &&
                   checked_add(more, (uint64_t)(*r->at - '0'), &more);
        if (d->exact) d->digits = more;
    }
    return true;
}

static bool json_scan_number(JsonReader *r, JsonDecimal *d) {
    *d = (JsonDecimal){.exact = true, .is_integer = true};
    if (*r->at == '-') {
        d->is_negative = true;
        r->at++;
    }
    const char *first = r->at;
    if (!json_scan_digits(r, d)) return false;
    if (*first == '0' && r->at - first > 1) return json_fail_at(r, first, "a number must not begin with 0");
    if (r->at < r->end && *r->at == '.') {
        const char *point = r->at++;
        d->is_integer = false;
        if (!json_scan_digits(r, d)) return false;
        d->exponent = -(r->at - point - 1);
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        d->is_integer = false;
        bool down = r->at < r->end && *r->at == '-';
        if (r->at < r->end && (*r->at == '-' || *r->at == '+')) r->at++;
        JsonDecimal power = {.exact = true};
        if (!json_scan_digits(r, &power)) return false;
        // A power that large takes the slow way, which knows what it means.
        d->exact = d->exact && power.exact && power.digits < 10000;
        if (d->exact) d->exponent += down ? -(int64_t)power.digits : (int64_t)power.digits;
    }
    return true;
}

static bool json_double(JsonReader *r, const char *from, const JsonDecimal *d, double *out) {
    // Both factors are exact doubles, so one operation rounds correctly (W. D. Clinger, "How to read floating
    // point numbers accurately", 1990). Four times as fast as strtod, and nearly all numbers are of this
    // kind.
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int64_t power_max = COUNT_OF(powers) - 1;
    if (d->exact && d->digits <= 1ull << 53 && d->exponent >= -power_max && d->exponent <= power_max) {
        double value = (double)d->digits;
        value = d->exponent < 0 ? value / powers[-d->exponent] : value * powers[d->exponent];
        *out = d->is_negative ? -value : value;
        return true;
    }
    char text[JSON_NUMBER_BYTES_MAX + 1]; // strtod wants a zero behind it
    size_t length = (size_t)(r->at - from);
    memcpy(text, from, length);
    text[length] = 0;
    *out = strtod(text, NULL);
    return isfinite(*out) || json_fail_at(r, from, "a number out of range");
}

static bool json_parse_number(JsonReader *r) {
    const char *from = r->at;
    JsonDecimal d;
    if (!json_scan_number(r, &d)) return false;
    if (r->at - from > JSON_NUMBER_BYTES_MAX) return json_fail_at(r, from, "a number with too many digits");
    JsonNode *node = json_add_node(r, JSON_F64, from);
    if (!node) return false;
    if (d.is_integer && d.exact && !d.is_negative) {
        node->type = JSON_U64;
        node->as.u64 = d.digits;
        return true;
    }
    // -0 stays a double, which alone can tell it from 0.
    if (d.is_integer && d.exact && d.digits > 0 && d.digits <= 1ull << 63) {
        node->type = JSON_I64;
        node->as.i64 = (int64_t)(0 - d.digits);
        return true;
    }
    if (!json_double(r, from, &d, &node->as.f64)) return false;
    // Few digits and no large power: what a double of them prints is what was written.
    if (d.exact && d.digits < 1000000000000000 && d.exponent >= -22 && d.exponent <= 22) return true;
    JsonNode *text = json_add_node(r, JSON_F64, from);
    if (!text) return false;
    text->as.string = from;
    node->length = (uint32_t)(r->at - from);
    node->span = 2;
    return true;
}

// ---- structure ----

static bool json_parse_word(JsonReader *r, Str word, JsonType type, bool value) {
    if (!str_starts_with((Str){r->at, (size_t)(r->end - r->at)}, word)) {
        return json_fail(r, "expected true, false or null");
    }
    JsonNode *node = json_add_node(r, type, r->at);
    if (!node) return false;
    node->as.boolean = value;
    r->at += word.len;
    return true;
}

// A member's key and the colon after it.
static bool json_parse_key(JsonReader *r) {
    json_skip_blanks(r);
    if (r->at == r->end || *r->at != '"') return json_fail(r, "expected a key in quotes");
    if (!json_parse_string(r)) return false;
    json_skip_blanks(r);
    if (r->at == r->end || *r->at != ':') return json_fail(r, "expected ':'");
    r->at++;
    r->nodes[r->open[r->depth - 1]].length++;
    return true;
}

// '[' or '{', and the first key of an object. *is_open is false when the container is empty and complete.
static bool json_open_container(JsonReader *r, bool *is_open) {
    bool is_object = *r->at == '{';
    static_assert(JSON_DEPTH_MAX == 64, "the message says it");
    if (r->depth == JSON_DEPTH_MAX) return json_fail(r, "nested more than 64 deep");
    uint32_t index = r->count;
    if (!json_add_node(r, is_object ? JSON_OBJECT : JSON_ARRAY, r->at)) return false;
    r->at++;
    json_skip_blanks(r);
    *is_open = r->at == r->end || *r->at != (is_object ? '}' : ']');
    if (!*is_open) {
        r->at++;
        return true;
    }
    r->open[r->depth++] = index;
    if (is_object) return json_parse_key(r);
    r->nodes[index].length = 1;
    return true;
}

// A scalar, an empty container, or the opening of one (*is_open).
static bool json_parse_value(JsonReader *r, bool *is_open) {
    *is_open = false;
    json_skip_blanks(r);
    if (r->at == r->end) return json_fail(r, "");
    switch (*r->at) {
    case '{':
    case '[': return json_open_container(r, is_open);
    case '"': return json_parse_string(r);
    case 't': return json_parse_word(r, STR("true"), JSON_BOOL, true);
    case 'f': return json_parse_word(r, STR("false"), JSON_BOOL, false);
    case 'n': return json_parse_word(r, STR("null"), JSON_NULL, false);
    case '-': return json_parse_number(r);
    default: break;
    }
    if (json_is_digit(r)) return json_parse_number(r);
    return json_fail(r, "expected a value");
}

// After a value: closes what ends here, and stops at the next value's place or at the root's end.
static bool json_parse_after_value(JsonReader *r) {
    while (r->depth > 0) {
        uint32_t index = r->open[r->depth - 1];
        bool in_object = r->nodes[index].type == JSON_OBJECT;
        json_skip_blanks(r);
        char c = r->at < r->end ? *r->at : 0;
        if (c == ',') {
            r->at++;
            if (in_object) return json_parse_key(r);
            r->nodes[index].length++;
            return true;
        }
        if (c != (in_object ? '}' : ']')) {
            return json_fail(r, in_object ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        r->at++;
        r->nodes[index].span = r->count - index;
        r->depth--;
    }
    return true;
}

static bool json_parse_document(JsonReader *r) {
    do {
        bool is_open;
        if (!json_parse_value(r, &is_open)) return false;
        if (is_open) continue;
        if (!json_parse_after_value(r)) return false;
    } while (r->depth > 0);
    json_skip_blanks(r);
    return r->at == r->end || json_fail(r, "something follows the end");
}

const JsonNode *json_parse(Str text, Arena *arena, const JsonLimits *limits, Error *err) {
    JsonReader r = {
        .begin = text.ptr,
        .at = text.ptr,
        .end = text.ptr + text.len,
        .arena = arena,
        .nodes_max = limits->nodes_max ? limits->nodes_max : JSON_NODES_MAX,
        .error_code = limits->error_code ? limits->error_code : ERR_INVALID_REQUEST,
        .err = err,
    };
    uint8_t *arena_before = arena->next;
    if (text.len == 0) {
        error_set_at(err, r.error_code, 0, "invalid JSON: the text is empty");
        return NULL;
    }
    if (text.len >= UINT32_MAX) {
        error_set(err, r.error_code, "invalid JSON: 4 GiB or more of text");
        return NULL;
    }
    if (!json_parse_document(&r)) {
        arena->next = arena_before;
        return NULL;
    }
    arena->next = (uint8_t *)(r.nodes + r.count);
    return r.nodes;
}

// ---- walking ----

const JsonNode *json_first(const JsonNode *container) {
    return container + 1;
}

const JsonNode *json_next(const JsonNode *node) {
    return node + node->span;
}

const JsonNode *json_end(const JsonNode *container) {
    return container + container->span;
}

const JsonNode *json_get(const JsonNode *object, Str key) {
    if (!json_is(object, JSON_OBJECT)) return NULL;
    const JsonNode *found = NULL, *end = json_end(object);
    for (const JsonNode *k = json_first(object), *value; k != end; k = json_next(value)) {
        value = json_next(k);
        if (str_eq((Str){k->as.string, k->length}, key)) found = value;
    }
    return found;
}

// ---- values ----

static const double json_exact_integers = 9007199254740992.0; // 2^53

bool json_read_u64(const JsonNode *node, uint64_t *out) {
    if (json_is(node, JSON_U64)) {
        *out = node->as.u64;
        return true;
    }
    if (!json_is(node, JSON_F64)) return false;
    double value = node->as.f64;
    if (!(value >= 0 && value <= json_exact_integers) || value != floor(value)) return false;
    *out = (uint64_t)value;
    return true;
}

bool json_read_i64(const JsonNode *node, int64_t *out) {
    uint64_t magnitude;
    if (json_is(node, JSON_I64)) {
        *out = node->as.i64;
        return true;
    }
    if (json_is(node, JSON_F64) && node->as.f64 < 0) {
        double value = node->as.f64;
        if (value < -json_exact_integers || value != floor(value)) return false;
        *out = (int64_t)value;
        return true;
    }
    if (!json_read_u64(node, &magnitude) || magnitude > INT64_MAX) return false;
    *out = (int64_t)magnitude;
    return true;
}

bool json_read_f64(const JsonNode *node, double *out) {
    if (!json_is_number(node)) return false;
    *out = node->type == JSON_U64   ? (double)node->as.u64
           : node->type == JSON_I64 ? (double)node->as.i64
                                    : node->as.f64;
    return true;
}

bool json_number_text(const JsonNode *node, Str *out) {
    if (!json_is(node, JSON_F64) || node->length == 0) return false;
    *out = (Str){node[1].as.string, node->length}; // it lies in the slot behind its node
    return true;
}

bool json_read_bool(const JsonNode *node, bool *out) {
    if (!json_is(node, JSON_BOOL)) return false;
    *out = node->as.boolean;
    return true;
}

bool json_read_str(const JsonNode *node, Str *out) {
    if (!json_is(node, JSON_STRING)) return false;
    *out = (Str){node->as.string, node->length};
    return true;
}

const char *json_type_name(const JsonNode *node) {
    static const char *const names[] = {
        [JSON_NULL] = "null",      [JSON_BOOL] = "a boolean",   [JSON_U64] = "a number",
        [JSON_I64] = "a number",   [JSON_F64] = "a number",     [JSON_STRING] = "a string",
        [JSON_ARRAY] = "an array", [JSON_OBJECT] = "an object",
    };
    return node ? names[node->type] : "nothing";
}
