// The fields of requests that look at a text: see look_request.h.
#pragma once

#include "api/generate_request.h"

typedef struct {
    GenerateRequest generate;                        // first: the model's name, and what chat_prompt.h reads
    const JsonNode *messages;                        // a conversation, or one of the next two
    const JsonNode *prompt;                          // a text, or an array of texts
    const JsonNode *content;                         // a text
    bool add_special_tokens, has_add_special_tokens; // prompt: BOS, unless it is given and false
    bool add_special;                                // content: BOS
    bool parse_special, has_parse_special; // a control token's text is that token, unless given and false
    bool returns_texts;                    // token_strs
    bool with_pieces;                      // tokens with their texts
    const JsonNode *tokens;                // ids, or an array of arrays of them
    bool skips_special;                    // control tokens give no text
    // made by the encoder thread
    Str reply; // JSON, in the request's memory
} LookRequest;

extern const FieldTable look_tokenize_fields, look_detokenize_fields, look_template_fields;
