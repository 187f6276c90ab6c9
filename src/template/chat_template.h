// The chat templates that a model's file carries, and what they are given, as transformers'
// apply_chat_template has it.
#pragma once

#include "model/gguf.h"
#include "template/template.h"
#include "text/tokenizer.h"

// The file's template: "tokenizer.chat_template.tool_use" where there is one and tools are given, else
// "tokenizer.chat_template". Errors (ERR_UNSUPPORTED): the file has none, or only named ones, which the
// message lists.
MUST_CHECK bool chat_template_find(const GgufFile *file, bool with_tools, Str *out, Error *err);

enum { CHAT_TEMPLATE_CONSTANTS_MAX = 5 };

// The texts of the vocabulary's special tokens under the names that templates know: bos_token, eos_token,
// unk_token, pad_token, sep_token. Those that the vocabulary has not are left out. `file` may be NULL. The
// texts live as long as the Tokenizer.
uint32_t chat_template_constants(const Tokenizer *t, const GgufFile *file,
                                 TemplateConstant out[CHAT_TEMPLATE_CONSTANTS_MAX]);

// The variables that a request gives a template. `request` is an array of messages, or an object with
// "messages"; its other members are variables, too. Members of "chat_template_kwargs" become variables,
// and win. Where they are missing, add_generation_prompt is true, and tools and documents are none. *out
// lives in the arena and uses the request's texts. No messages are no error here, as in transformers: a
// template may say something of its own then; an API that wants some asks before. Errors:
// ERR_INVALID_REQUEST, ERR_NO_MEMORY.
MUST_CHECK bool chat_template_variables(const JsonNode *request, Arena *arena, const JsonNode **out,
                                        Error *err);

// Whether the variables hold tools.
bool chat_template_has_tools(const JsonNode *variables);
