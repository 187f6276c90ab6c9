// A model's chat template, compiled once, and the prompts that it makes.
#pragma once

#include "chat/answer_format.h"
#include "template/chat_template.h"

typedef struct {
    const Tokenizer *tokenizer;
    const Template *plain, *with_tools; // NULL: there is none, and `missing` says why
    Str source;                         // of `plain`
    TemplateConstant constants[CHAT_TEMPLATE_CONSTANTS_MAX];
    uint32_t n_constants;
    AnswerFormats formats;
    Error missing;
} ChatModel;

// `override_source` is the template to use instead of the file's, or empty. One that does not compile is no
// error: `missing` has it. Errors: ERR_USAGE (names of formats), ERR_NO_MEMORY.
MUST_CHECK bool chat_model_open(const GgufFile *file, const Tokenizer *t, Str override_source,
                                const char *tool_format, const char *reasoning_format, Arena *arena,
                                ChatModel *out, Error *err);
// Any thread.
MUST_CHECK bool chat_render(const ChatModel *m, const JsonNode *variables, uint64_t unix_ms, Arena *arena,
                            TemplateText *out, Error *err);
MUST_CHECK bool chat_encode_text(const ChatModel *m, const TemplateText *text, Arena *ids_arena,
                                 Arena scratch, TokenIds *out, Error *err);
