#include "chat/prompt.h"

bool chat_model_open(const GgufFile *file, const Tokenizer *t, Str override_source, const char *tool_format,
                     const char *reasoning_format, Arena *arena, ChatModel *m, Error *err) {
    *m = (ChatModel){.tokenizer = t, .source = override_source};
    if (!m->source.len && (!file || !chat_template_find(file, false, &m->source, &m->missing))) return true;
    m->n_constants = chat_template_constants(t, file, m->constants);
    if (!template_compile(m->source, arena, &m->plain, &m->missing)) return true;
    m->with_tools = m->plain;
    return answer_formats_find(m->source, t, tool_format, reasoning_format, &m->formats, err);
}

bool chat_render(const ChatModel *m, const JsonNode *variables, uint64_t unix_ms, Arena *arena,
                 TemplateText *out, Error *err) {
    TemplateInput input = {
        .variables = variables, .constants = m->constants, .n_constants = m->n_constants, .unix_ms = unix_ms};
    return template_render(m->plain, &input, arena, out, err);
}

bool chat_encode_text(const ChatModel *m, const TemplateText *text, Arena *ids_arena, Arena scratch,
                      TokenIds *out, Error *err) {
    return tokenizer_encode_spans(m->tokenizer, text->text, text->spans, text->n_spans, ids_arena, scratch,
                                  out, err);
}
