// Writes JSON into a StrBuf. Commas come by themselves; nesting is the caller's to get right.
//
//     JsonWriter w = json_writer_begin(&buf);
//     json_open_object(&w);
//     json_member_str(&w, "job_id", job_id);
//     json_key(&w, "stop"); json_open_array(&w); json_put_str(&w, STR("\n")); json_close_array(&w);
//     json_close_object(&w);                       // {"job_id":"…","stop":["\n"]}
//
// The output is always valid UTF-8 (each byte that belongs to no character becomes U+FFFD) on a single line,
// without spaces. What does not fit is dropped: look at buf.truncated at the end. Not thread-safe.
#pragma once

#include "base/strbuf.h"
#include "json/json_reader.h"

typedef struct {
    StrBuf *out;
    bool comma; // the next key or element needs one before it
} JsonWriter;

JsonWriter json_writer_begin(StrBuf *out);

void json_open_object(JsonWriter *w);
void json_close_object(JsonWriter *w);
void json_open_array(JsonWriter *w);
void json_close_array(JsonWriter *w);
void json_key(JsonWriter *w, const char *key); // as it is: of this program, and without quotes
void json_key_str(JsonWriter *w, Str key);

void json_put_null(JsonWriter *w);
void json_put_bool(JsonWriter *w, bool value);
void json_put_u64(JsonWriter *w, uint64_t value);
void json_put_i64(JsonWriter *w, int64_t value);
// The shortest of 15, 16 or 17 digits that reads back as the same double; nan and infinities become null.
void json_put_f64(JsonWriter *w, double value);
// With 9 digits, which read back as the same float.
void json_put_f32(JsonWriter *w, float value);
// With this many digits after the point, for figures that people read ("12.3").
void json_put_fixed(JsonWriter *w, double value, int digits);
void json_put_str(JsonWriter *w, Str value);
// A string in pieces, each of whole characters.
void json_open_str(JsonWriter *w);
void json_add_to_str(JsonWriter *w, Str piece);
void json_close_str(JsonWriter *w);
// The escape of a quote, a backslash or a control character, which no string holds as itself: the short one
// where JSON has one (\n), else \u00xx.
void json_escape_byte(StrBuf *out, uint8_t c);
// A name or value from a request for a message, with escapes but without quotes: whole where there is room
// for it, else cut behind a character, with "..." behind it.
void json_put_shown(StrBuf *out, Str s);
// A value that was read, as this writer spells it. Recurses at most JSON_DEPTH_MAX deep.
void json_put_node(JsonWriter *w, const JsonNode *node);
// Text that is already JSON: a value, or the members of an object without its braces.
void json_put_raw(JsonWriter *w, Str json);

// A key and its value in one call.
void json_member_null(JsonWriter *w, const char *key);
void json_member_bool(JsonWriter *w, const char *key, bool value);
void json_member_u64(JsonWriter *w, const char *key, uint64_t value);
void json_member_i64(JsonWriter *w, const char *key, int64_t value);
void json_member_f64(JsonWriter *w, const char *key, double value);
void json_member_fixed(JsonWriter *w, const char *key, double value, int digits);
void json_member_str(JsonWriter *w, const char *key, Str value);
