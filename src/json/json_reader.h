// A JSON reader (RFC 8259, strict): one pass over a whole text into an array of nodes in the caller's arena.
//
// The nodes lie in document order: a container, then its elements; an object's members are a key (a string)
// followed by its value. Walk them with json_first and json_next; all of it is O(n), and nothing recurses.
//
//     JsonNode *root = json_parse(text, &arena, &(JsonLimits){.nodes_max = JSON_NODES_MAX}, &err);
//     const JsonNode *value = json_get(root, STR("max_tokens"));
//     uint64_t max_tokens;
//     if (value && !json_read_u64(value, &max_tokens)) … wrong type …
//
// Ownership: a string without escapes points into the text, one with escapes into the arena, so both must
// outlive the nodes. Strings are valid UTF-8 and may hold zero bytes. Threads: a parsed document is
// read-only; any thread may read it.
//
// Refused, with the byte position: whatever the grammar does not allow (also a byte-order mark), invalid
// UTF-8, lone surrogates in escapes, numbers beyond the range of a double or longer than
// JSON_NUMBER_BYTES_MAX, more than JSON_DEPTH_MAX nested containers, more than nodes_max nodes, texts of 4
// GiB or more. Of members with equal keys the last one counts, as in most readers; whoever minds duplicates
// walks the members.
#pragma once

#include "base/arena.h"
#include "base/error.h"

typedef enum {
    JSON_NULL,
    JSON_BOOL,
    JSON_U64, // an integer 0 … 2^64-1, kept exactly
    JSON_I64, // an integer -2^63 … -1, kept exactly
    JSON_F64, // any other number: the nearest double; json_number_text has what a double may not hold
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
} JsonType;

typedef struct {
    uint8_t type;      // a JsonType
    uint32_t position; // of its first byte in the text
    uint32_t length; // bytes of a string (or of a number's text), elements of an array, members of an object
    uint32_t span;   // slots from here to the node that follows this one and all it contains
    union {
        bool boolean;
        uint64_t u64;
        int64_t i64;
        double f64;
        const char *string;
    } as;
} JsonNode;

typedef struct {
    uint32_t nodes_max; // 0: JSON_NODES_MAX. Escaped strings count one more for every 24 bytes
    ErrCode error_code; // what a malformed text is reported as; 0 gives ERR_INVALID_REQUEST
} JsonLimits;

// The root node, or NULL with *err set: limits->error_code for a text that is refused, ERR_NO_MEMORY when the
// arena is full (24 bytes a node; the unused rest stays available). After a failure the arena is as before.
MUST_CHECK const JsonNode *json_parse(Str text, Arena *arena, const JsonLimits *limits, Error *err);

// ---- walking ----
//
//     for (const JsonNode *e = json_first(array); e != json_end(array); e = json_next(e)) …
//     for (const JsonNode *k = json_first(object), *v; k != json_end(object); k = json_next(v)) {
//         v = json_next(k); …
//     }

// The first element or key; equal to json_end when there is none. The node must be an array or an object.
const JsonNode *json_first(const JsonNode *container);
// The node after this one and everything it contains.
const JsonNode *json_next(const JsonNode *node);
const JsonNode *json_end(const JsonNode *container);

// The value of the last member with this key; NULL when there is none, or when `object` is NULL or no object.
// Linear in the number of members: walk a large object once instead.
const JsonNode *json_get(const JsonNode *object, Str key);

// ---- values ----
//
// Each returns false when the node is NULL or of another type, and leaves *out alone.

// Integers by value: 5, 5.0 and 5e0 are the same number. A double counts as an integer up to 2^53.
MUST_CHECK bool json_read_u64(const JsonNode *node, uint64_t *out);
MUST_CHECK bool json_read_i64(const JsonNode *node, int64_t *out);
// Any number; integers above 2^53 are rounded.
MUST_CHECK bool json_read_f64(const JsonNode *node, double *out);
// A number as it is written, where its double may be another: of more than 15 digits or beyond 10^±22. Points
// into the text.
MUST_CHECK bool json_number_text(const JsonNode *node, Str *out);
MUST_CHECK bool json_read_bool(const JsonNode *node, bool *out);
MUST_CHECK bool json_read_str(const JsonNode *node, Str *out);

static inline bool json_is(const JsonNode *node, JsonType type) {
    return node && node->type == type;
}

static inline bool json_is_number(const JsonNode *node) {
    return node && (node->type == JSON_U64 || node->type == JSON_I64 || node->type == JSON_F64);
}

// For messages: "null", "a boolean", "a number", "a string", "an array", "an object"; NULL is "nothing".
const char *json_type_name(const JsonNode *node);
