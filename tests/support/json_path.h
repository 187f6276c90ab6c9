// Looking into JSON answers: "choices.0.message.content".
#pragma once

#include "json/json_reader.h"

// Ends the case where the text is no JSON.
const JsonNode *json_root(Str text);
// The value at a path of member names and indices of elements, or NULL.
const JsonNode *json_at(const JsonNode *root, const char *path);
// A string's text, else the value as JSON; "nothing" where there is none.
Str json_text_at(const JsonNode *root, const char *path);

// The data of a stream's events, in order: JSON texts and "[DONE]". Returns their number, at most `most`.
uint32_t stream_data(Str stream, Str *out, uint32_t most);
