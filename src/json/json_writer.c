#include "json/json_writer.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

JsonWriter json_writer_begin(StrBuf *out) {
    return (JsonWriter){.out = out};
}

// What stands before a key or an element; one that follows it then needs a comma.
static void json_begin_item(JsonWriter *w) {
    if (w->comma) strbuf_put_char(w->out, ',');
    w->comma = true;
}

static void json_open(JsonWriter *w, char bracket) {
    json_begin_item(w);
    strbuf_put_char(w->out, bracket);
    w->comma = false;
}

static void json_close(JsonWriter *w, char bracket) {
    strbuf_put_char(w->out, bracket);
    w->comma = true;
}

void json_open_object(JsonWriter *w) {
    json_open(w, '{');
}

void json_close_object(JsonWriter *w) {
    json_close(w, '}');
}

void json_open_array(JsonWriter *w) {
    json_open(w, '[');
}

void json_close_array(JsonWriter *w) {
    json_close(w, ']');
}

// ---- strings ----

void json_escape_byte(StrBuf *out, uint8_t c) {
    static const char letters[] = {
        ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't',
    };
    char letter = c < sizeof letters ? letters[c] : 0;
    if (letter) {
        strbuf_put(out, (Str){(char[2]){'\\', letter}, 2});
    } else {
        strbuf_printf(out, "\\u%04x", c);
    }
}

static void json_write_characters(StrBuf *out, Str s) {
    size_t done = 0, at = 0;
    while (at < s.len) {
        uint8_t c = (uint8_t)s.ptr[at];
        uint32_t codepoint;
        size_t length = c < 0x80 ? 1 : utf8_decode(str_slice(s, at, s.len), &codepoint);
        if (length > 0 && c >= 0x20 && c != '"' && c != '\\') {
            at += length;
            continue;
        }
        strbuf_put(out, str_slice(s, done, at));
        if (length > 0) {
            json_escape_byte(out, c);
        } else {
            strbuf_put(out, STR("\xEF\xBF\xBD"));
        }
        done = ++at;
    }
    strbuf_put(out, str_slice(s, done, s.len));
}

void json_put_shown(StrBuf *out, Str s) {
    size_t whole = out->len; // behind the last character that has room for "..." behind it
    while (s.len) {
        char text[16];
        StrBuf piece = STRBUF(text);
        uint32_t codepoint;
        size_t length = max_u64(utf8_decode(s, &codepoint), 1);
        json_write_characters(&piece, str_slice(s, 0, length));
        if (out->len + piece.len >= out->cap) {
            out->len = whole;
            strbuf_put(out, STR("..."));
            return;
        }
        strbuf_put(out, strbuf_str(&piece));
        if (out->len + 3 < out->cap) whole = out->len;
        s = str_slice(s, length, s.len);
    }
}

void json_open_str(JsonWriter *w) {
    json_begin_item(w);
    strbuf_put_char(w->out, '"');
}

void json_add_to_str(JsonWriter *w, Str piece) {
    json_write_characters(w->out, piece);
}

void json_close_str(JsonWriter *w) {
    strbuf_put_char(w->out, '"');
}

void json_put_str(JsonWriter *w, Str value) {
    json_open_str(w);
    json_add_to_str(w, value);
    json_close_str(w);
}

void json_key_str(JsonWriter *w, Str key) {
    json_put_str(w, key);
    strbuf_put_char(w->out, ':');
    w->comma = false;
}

void json_key(JsonWriter *w, const char *key) {
    json_begin_item(w);
    strbuf_put_char(w->out, '"');
    strbuf_put(w->out, str_from_c(key));
    strbuf_put(w->out, STR("\":"));
    w->comma = false;
}

// ---- the other values ----

void json_put_raw(JsonWriter *w, Str json) {
    json_begin_item(w);
    strbuf_put(w->out, json);
}

void json_put_null(JsonWriter *w) {
    json_put_raw(w, STR("null"));
}

void json_put_bool(JsonWriter *w, bool value) {
    json_put_raw(w, value ? STR("true") : STR("false"));
}

// (An answer with log-probabilities has a hundred thousand small numbers: printf takes 37 ns each, this 2.)
void json_put_u64(JsonWriter *w, uint64_t value) {
    char text[20];
    size_t at = sizeof text;
    do
        text[--at] = (char)('0' + value % 10);
    while (value /= 10);
    json_put_raw(w, (Str){text + at, sizeof text - at});
}

void json_put_i64(JsonWriter *w, int64_t value) {
    json_begin_item(w);
    strbuf_printf(w->out, "%" PRId64, value);
}

void json_put_f64(JsonWriter *w, double value) {
    char text[32];
    if (!isfinite(value)) {
        json_put_null(w);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    json_put_raw(w, str_from_c(text));
}

void json_put_f32(JsonWriter *w, float value) {
    char text[24];
    if (!isfinite(value)) {
        json_put_null(w);
        return;
    }
    int length = snprintf(text, sizeof text, "%.9g", (double)value);
    json_put_raw(w, (Str){text, (size_t)length});
}

void json_put_fixed(JsonWriter *w, double value, int digits) {
    if (!isfinite(value)) {
        json_put_null(w);
        return;
    }
    json_begin_item(w);
    strbuf_printf(w->out, "%.*f", digits, value);
}

void json_put_node(JsonWriter *w, const JsonNode *n) {
    Str text;
    switch ((JsonType)n->type) {
    case JSON_NULL: json_put_null(w); break;
    case JSON_BOOL: json_put_bool(w, n->as.boolean); break;
    case JSON_U64: json_put_u64(w, n->as.u64); break;
    case JSON_I64: json_put_i64(w, n->as.i64); break;
    case JSON_F64:
        if (json_number_text(n, &text)) json_put_raw(w, text);
        else json_put_f64(w, n->as.f64);
        break;
    case JSON_STRING: json_put_str(w, (Str){n->as.string, n->length}); break;
    case JSON_ARRAY:
        json_open_array(w);
        for (const JsonNode *e = json_first(n); e != json_end(n); e = json_next(e))
            json_put_node(w, e);
        json_close_array(w);
        break;
    case JSON_OBJECT:
        json_open_object(w);
        for (const JsonNode *k = json_first(n); k != json_end(n); k = json_next(json_next(k))) {
            json_key_str(w, (Str){k->as.string, k->length});
            json_put_node(w, json_next(k));
        }
        json_close_object(w);
        break;
    }
}

// ---- members ----

void json_member_null(JsonWriter *w, const char *key) {
    json_key(w, key);
    json_put_null(w);
}

void json_member_bool(JsonWriter *w, const char *key, bool value) {
    json_key(w, key);
    json_put_bool(w, value);
}

void json_member_u64(JsonWriter *w, const char *key, uint64_t value) {
    json_key(w, key);
    json_put_u64(w, value);
}

void json_member_i64(JsonWriter *w, const char *key, int64_t value) {
    json_key(w, key);
    json_put_i64(w, value);
}

void json_member_f64(JsonWriter *w, const char *key, double value) {
    json_key(w, key);
    json_put_f64(w, value);
}

void json_member_fixed(JsonWriter *w, const char *key, double value, int digits) {
    json_key(w, key);
    json_put_fixed(w, value, digits);
}

void json_member_str(JsonWriter *w, const char *key, Str value) {
    json_key(w, key);
    json_put_str(w, value);
}
