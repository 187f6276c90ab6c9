// Fields of a request's JSON body: one table row each, for every API.
//
// A row says the field's name, type and range, what it is when absent, and where its value goes in the API's
// own struct. Unknown fields are ignored; of equal names the last one counts. Errors are
// ERR_INVALID_REQUEST; err->field has the field's name, and the message names field, value and what is
// allowed, never a text of the client's, since messages are logged.
//
// Pure: any thread may call everything here. Time is linear in the body.
#pragma once

#include "backend/sampler.h"
#include "base/arena.h"
#include "base/limits.h"
#include "base/strbuf.h"
#include "json/json_reader.h"

// Values of fields that are no plain numbers or strings. They point into the body or the arena.
typedef struct {
    Str texts[STOP_STRINGS_MAX];
    uint32_t count;
} FieldTexts;

typedef struct {
    const int32_t *ids;
    uint32_t count;
} FieldIds;

typedef struct {
    const LogitBias *entries; // as they came; of the same token the last one counts
    uint32_t count;
} FieldBiases;

typedef enum {
    FIELD_STR,    // Str; least and most are of its bytes, or of its characters
    FIELD_BOOL,   // bool
    FIELD_U64,    // uint64_t
    FIELD_I64,    // int64_t
    FIELD_F64,    // double
    FIELD_TEXTS,  // FieldTexts: an array of non-empty strings; most is of their number
    FIELD_IDS,    // FieldIds: a non-empty array of token ids
    FIELD_BIASES, // FieldBiases: an object of token ids and numbers; least and most are of the numbers
    FIELD_NODE,   // const JsonNode *: any value, looked at by its owner
} FieldType;

// Where a row's upper bound comes from: the row itself, or what the worker was started with.
typedef enum { MOST_FIXED, MOST_TOKENS_IN, MOST_TOKENS_OUT, MOST_VOCAB, MOST_PROMPT_CHARS } MostSource;

typedef struct {
    uint64_t max_tokens_in;    // tokens of a prompt
    uint64_t max_tokens_out;   // the largest max_tokens, and its default
    uint64_t vocab_size;       // the largest top_k; ids are below it
    uint64_t context_length;   // prompt and max_tokens together
    uint64_t max_prompt_chars; // characters of a prompt; 0: as many as fit the body
} RequestLimits;

typedef struct {
    const char *name;
    FieldType type;
    size_t offset; // of the value in the API's struct
    size_t given;  // 1 + the offset of a bool that says whether the field was there; 0: none
    bool required;
    double least, most;
    MostSource most_from; // another upper bound than `most`
    bool above_least;     // the least value itself is refused
    bool characters;      // strings are measured in characters, not bytes
    bool one_or_more;     // FIELD_TEXTS: one string, too
    bool may_be_empty;    // FIELD_STR, FIELD_IDS
    bool not_zero;        // FIELD_I64: -1 means no limit, and 0 nothing
    double fallback;      // of FIELD_F64; other absent values are zero
} FieldRule;

#define FIELD_U64_MOST 18446744073709551615.0
#define FIELD_I64_MOST 9223372036854775807.0

// *values is the API's struct, zero before. Null counts as absent where `null_is_absent`, else as a wrong
// type.
typedef struct {
    const FieldRule *rules;
    uint32_t n_rules; // at most REQUEST_FIELDS_MAX
    bool null_is_absent;
} FieldTable;

MUST_CHECK bool fields_read(const FieldTable *table, const JsonNode *root, const RequestLimits *limits,
                            Arena *arena, void *values, Error *err);

// A row's upper bound; infinite where there is none.
double field_most(const FieldRule *rule, const RequestLimits *limits);

// The body's root object, or NULL and *err.
MUST_CHECK const JsonNode *fields_parse_body(Str body, uint32_t nodes_max, Arena *arena, Error *err);

// "must be an array, found null": false. `found` is a value of the body, or NULL; err->position is its place.
bool field_refuse_type(Error *err, const char *field, const char *wanted, const JsonNode *found);
// For the client alone: puts where the value of the wrong type stands in the body, and its beginning as it
// was sent (": /stop/1 is 3"); nothing for other errors.
void field_show_found(Str body, const Error *err, StrBuf *out);
// An ERR_INVALID_REQUEST of this field ("stop" for "stop[2]"). Always false.
bool field_refuse(Error *err, const char *field, const char *message);
