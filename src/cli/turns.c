#include "cli/turns.h"

#include "json/json_builder.h"
#include "os/os.h"

static const JsonNode *request_body(const ChatTurn *turns, size_t n_turns, const TurnsSetting *settings,
                                    size_t n_settings, Arena *arena, Error *err) {
    JsonBuilder b = json_builder_begin(arena);
    json_build_open(&b, JSON_OBJECT);
    json_build_key(&b, STR("messages"));
    json_build_open(&b, JSON_ARRAY);
    for (size_t i = 0; i < n_turns; i++) {
        json_build_open(&b, JSON_OBJECT);
        json_build_key(&b, STR("role"));
        json_build_str(&b, str_from_c(turns[i].role));
        json_build_key(&b, STR("content"));
        json_build_str(&b, turns[i].text);
        if (turns[i].reasoning.ptr) {
            json_build_key(&b, STR("reasoning_content"));
            json_build_str(&b, turns[i].reasoning);
        }
        json_build_close(&b);
    }
    json_build_close(&b);
    json_build_key(&b, STR("chat_template_kwargs"));
    json_build_open(&b, JSON_OBJECT);
    for (size_t i = 0; i < n_settings; i++) {
        json_build_key(&b, settings[i].name);
        json_build_node(&b, &settings[i].value);
    }
    json_build_close(&b);
    json_build_close(&b);
    return json_builder_end(&b, err);
}

static bool encode(const ChatModel *m, const TemplateText *text, Arena *arena, TokenIds *out, Error *err) {
    size_t size = tokenizer_encode_spans_scratch_bytes(m->tokenizer, text->text.len, text->n_spans);
    Arena scratch = os_arena(size);
    void *start = scratch.next;
    if (!start) return error_set(err, ERR_NO_MEMORY, "the system refuses %zu bytes to encode a text", size);
    bool ok = chat_encode_text(m, text, arena, scratch, out, err);
    os_release(start, size);
    return ok;
}

bool turns_prompt(const ChatModel *m, const ChatTurn *turns, size_t n_turns, const TurnsSetting *settings,
                  size_t n_settings, Arena *arena, TurnsPrompt *out, Error *err) {
    const size_t size = TEMPLATE_MEMORY_MAX; // as the server has for a conversation
    Arena rendering = os_arena(size);
    void *start = rendering.next;
    const JsonNode *variables;
    TemplateText text;
    if (!start) return error_set(err, ERR_NO_MEMORY, "the system refuses %zu bytes of address space", size);
    ConversationInput in =
        chat_model_input(m, request_body(turns, n_turns, settings, n_settings, &rendering, err));
    bool ok = in.root && conversation_from_chat(&in, &rendering, &variables, err) &&
              chat_render(m, variables, os_unix_ms(), &rendering, &text, err) &&
              encode(m, &text, arena, &out->ids, err);
    if (ok) out->opening = answer_opening(&m->formats, text.text);
    os_release(start, size);
    return ok;
}
