// What a request says, as the variables that a chat template knows.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "json/json_reader.h"

typedef struct {
    const JsonNode *root; // the request's body, an object
} ConversationInput;

// Of the OpenAI API's chat completions. Errors: ERR_INVALID_REQUEST, ERR_NO_MEMORY.
MUST_CHECK bool conversation_from_chat(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                                       Error *err);
