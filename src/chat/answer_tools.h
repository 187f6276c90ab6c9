// What a parser of answers knows of a request's tools: their names, and which types each parameter takes.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "json/json_reader.h"

typedef struct AnswerTools AnswerTools;

enum { ANSWER_TOOLS_MAX = 1024, ANSWER_TOOL_NAME_BYTES_MAX = 128 };

// `tools` is an array in chat completions' shape ({"type": "function", "function": {"name", "parameters"}}),
// checked before: an element of another shape is passed over. Everything is copied into the arena. NULL or an
// empty array: *out is NULL. Errors: ERR_INVALID_REQUEST with the field "tools" (too many tools, a name that
// is too long), ERR_NO_MEMORY.
MUST_CHECK bool answer_tools_read(const JsonNode *tools, Arena *arena, const AnswerTools **out, Error *err);
// The name in {"type": "function", "function": {"name": …}}, or in {"type": "function", "name": …}, as
// requests choose a tool. False: it is of another type, or has none.
MUST_CHECK bool answer_tools_read_name(const JsonNode *choice, Str *out);
