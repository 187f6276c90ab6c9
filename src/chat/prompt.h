// A model's chat template, compiled once, and prompts made with it: conversation → text → token ids.
//
//     const JsonNode *variables;
//     TemplateText text;
//     TokenIds ids;
//     ConversationInput in = chat_model_input(model, body);
//     conversation_from_chat(&in, &arena, &variables, &err) &&
//         chat_render(model, variables, os_unix_ms(), &arena, &text, &err) &&
//         chat_encode_text(model, &text, &ids_arena, scratch, &ids, &err)
//
// A ChatModel is immutable: any thread may use it.
#pragma once

#include "chat/answer_format.h"
#include "chat/conversation.h"
#include "template/chat_template.h"

typedef struct {
    const Tokenizer *tokenizer;
    // The second is for conversations with tools, and may be the first. NULL, both: there is none that can be
    // used, and `missing` says why.
    const Template *plain, *with_tools;
    Str source; // of `plain`; empty where there is none
    TemplateConstant constants[CHAT_TEMPLATE_CONSTANTS_MAX];
    uint32_t n_constants;
    const char *developer_role;          // for ConversationInput
    bool content_parts, no_null_content; // likewise
    bool reads_tools;                    // `with_tools` has the word: else no prompt shows any
    AnswerFormats formats;
    Error missing;
} ChatModel;

// `file` may be NULL where `override_source` (--chat-template's text, else empty) is given. The sources stay
// where they are as long as `out`. A template that is missing or does not compile is no error here, since
// completions work without: `missing` holds it. Errors: ERR_USAGE for an unknown format's name,
// ERR_NO_MEMORY.
MUST_CHECK bool chat_model_open(const GgufFile *file, const Tokenizer *t, Str override_source,
                                const char *tool_format, const char *reasoning_format, Arena *arena,
                                ChatModel *out, Error *err);

ConversationInput chat_model_input(const ChatModel *m, const JsonNode *root);

// Renders into the arena, which also takes what is computed on the way. Where the variables say
// continue_final_message, the text ends with the last message's content. Errors: ERR_INVALID_REQUEST (there
// is no template, or it fails, with its line and reason), ERR_NO_MEMORY.
MUST_CHECK bool chat_render(const ChatModel *m, const JsonNode *variables, uint64_t unix_ms, Arena *arena,
                            TemplateText *out, Error *err);

// The ids of a rendered text. BOS and EOS are where the template has them, as with transformers. The sizes of
// both arenas are those of tokenizer_encode_spans.
MUST_CHECK bool chat_encode_text(const ChatModel *m, const TemplateText *text, Arena *ids_arena,
                                 Arena scratch, TokenIds *out, Error *err);
