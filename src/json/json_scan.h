// A cursor over JSON text that picks a few values out and passes over the rest, without a tree or memory: for
// streams of many small objects of which two or three fields count.
//
//     JsonScan s = json_scan_begin(text);
//     Str key, raw;
//     if (json_scan_open(&s, '{'))
//         while (json_scan_key(&s, &key))
//             if (!str_eq(key, STR("text")) || !json_scan_str(&s, &raw)) json_scan_skip(&s);
//
// A call that finds a value of another type leaves it in place and returns false; json_scan_skip passes over
// it. A text that ends too early, or where a value, a key or a bracket is missing, sets `bad`, and nothing
// more is found. Apart from that it is lenient: json_reader.h says whether a text is JSON, this only looks
// for fields.
#pragma once

#include "base/strbuf.h"

typedef struct {
    const char *at, *end;
    bool bad;
} JsonScan;

static inline JsonScan json_scan_begin(Str text) {
    return (JsonScan){.at = text.ptr, .end = text.ptr + text.len};
}

// Enters an object ('{') or an array ('[').
MUST_CHECK bool json_scan_open(JsonScan *s, char bracket);
// The next member's key, as it is written, with the cursor at its value; false behind the object's end.
MUST_CHECK bool json_scan_key(JsonScan *s, Str *key);
// The next element; false behind the array's end.
MUST_CHECK bool json_scan_element(JsonScan *s);

// A string between its quotes, with its escapes as they are written.
MUST_CHECK bool json_scan_str(JsonScan *s, Str *raw);
// Digits alone.
MUST_CHECK bool json_scan_u64(JsonScan *s, uint64_t *out);
// Any value with all that it contains.
void json_scan_skip(JsonScan *s);

// Looks for the value whose first byte is at `position` of a text that is JSON: puts its JSON pointer
// (RFC 6901, with escapes in names as they are written) and gives the value as it is written. False where no
// value begins there; what was put means nothing then. Time: the text's length for each container around the
// value.
MUST_CHECK bool json_scan_find(Str text, size_t position, StrBuf *pointer, Str *value);
