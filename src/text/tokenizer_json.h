// Between the two halves of the tokenizer.json loader: the vocabulary, and the steps around it.
//
// The format is that of the library that writes these files (https://github.com/huggingface/tokenizers),
// which documents it by its behaviour; what is not understood here is refused.
#pragma once

#include "json/json_reader.h"
#include "text/tokenizer_internal.h"

typedef struct {
    Tokenizer *t;
    const char *part; // of the file, for messages
    Arena *arena;
    Arena scratch; // what lies before it holds the JSON nodes
    Error *err;
    bool is_byte_level; // the pre-tokeniser ends in ByteLevel
    bool decodes_bytes; // tokens spelled <0xNN> are bytes
    PieceRule pieces;
} TokenizerJson;

// Each fills *err, with the part of the file and the byte of `node` in it, and is the value false.
#define json_bad(l, node, ...) (tokenizer_json_fail((l), ERR_BAD_FILE, (node), __VA_ARGS__), error_false())
#define json_unsupported(l, node, ...) \
    (tokenizer_json_fail((l), ERR_UNSUPPORTED, (node), __VA_ARGS__), error_false())
void tokenizer_json_fail(TokenizerJson *l, ErrCode code, const JsonNode *node, const char *format, ...)
    PRINTF_LIKE(4, 5);

// A member that may be missing or null, which leaves *out alone.
MUST_CHECK bool json_opt_bool(TokenizerJson *l, const JsonNode *object, const char *key, bool *out);
MUST_CHECK bool json_opt_str(TokenizerJson *l, const JsonNode *object, const char *key, Str *out);
// A member that must be there.
MUST_CHECK bool json_need_str(TokenizerJson *l, const JsonNode *object, const char *key, Str *out);
MUST_CHECK bool json_need_array(TokenizerJson *l, const JsonNode *object, const char *key,
                                const JsonNode **out);
static inline bool json_is_null(const JsonNode *node) {
    return !node || node->type == JSON_NULL;
}

// A string that stays where it is after the JSON nodes are gone; {0} when the arena is full.
Str json_keep(TokenizerJson *l, Str s);
MUST_CHECK bool json_no_memory(TokenizerJson *l);

// What a message shows of a string.
#define JSON_SHOWN(s) (int)min_u64((s).len, 64), (s).ptr

// ---- tokenizer_json_steps.c: members of the root; each may be NULL ----

MUST_CHECK bool json_load_normalizer(TokenizerJson *l, const JsonNode *node);
MUST_CHECK bool json_load_pre_tokenizer(TokenizerJson *l, const JsonNode *node);
MUST_CHECK bool json_load_decoder(TokenizerJson *l, const JsonNode *node);
// Needs the vocabulary.
MUST_CHECK bool json_load_post_processor(TokenizerJson *l, const JsonNode *node);
