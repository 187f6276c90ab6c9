// Anthropic's Messages. What a user's message carries back from tools becomes messages of role tool, in front
// of its text; what the assistant thought, said and called becomes one message.
#include "chat/conversation_internal.h"

static const char *const assistant_blocks[] = {"tool_use", "thinking", "redacted_thinking", NULL};
static const char *const user_blocks[] = {"tool_result", NULL};

static bool is_block(const JsonNode *block, const char *type) {
    Str found;
    return json_read_str(json_get(block, STR("type")), &found) && str_eq(found, str_from_c(type));
}

static bool has_block(const JsonNode *content, const char *type) {
    if (content->type != JSON_ARRAY) return false;
    for (const JsonNode *b = json_first(content); b != json_end(content); b = json_next(b))
        if (is_block(b, type)) return true;
    return false;
}

// Whether it has any block that put_content writes (or refuses).
static bool has_text(const JsonNode *content, const char *const *others) {
    Str type;
    if (content->type != JSON_ARRAY) return true;
    for (const JsonNode *b = json_first(content); b != json_end(content); b = json_next(b))
        if (!json_read_str(json_get(b, STR("type")), &type) || !is_one_of(type, others)) return true;
    return false;
}

// ---- the assistant ----

static bool put_thinking(Maker *m, const Place *content_at, const JsonNode *content) {
    uint32_t index = 0, n_texts = 0, at_node;
    Str text;
    json_build_key(&m->b, STR("reasoning_content"));
    at_node = m->b.count;
    json_build_text_begin(&m->b);
    for (const JsonNode *b = json_first(content); b != json_end(content); b = json_next(b), index++) {
        Place at = place_element(content_at, index), text_at = place_member(&at, "thinking");
        if (!is_block(b, "thinking")) continue;
        if (!read_string(m, &text_at, member(b, "thinking"), &text)) return false;
        if (n_texts++) json_build_text(&m->b, STR("\n"));
        json_build_text(&m->b, text);
    }
    json_build_text_end(&m->b);
    if (m->b.full) return true; // told at the end
    text = node_str(&m->b.nodes[at_node]);
    put_member(m, "reasoning", text);
    bool with_calls_and_text = has_block(content, "tool_use") && has_text(content, assistant_blocks);
    if (!with_calls_and_text) put_member(m, "thinking", text); // see chat completions'
    return true;
}

static bool put_tool_uses(Maker *m, const Place *content_at, const JsonNode *content) {
    uint32_t index = 0;
    json_build_key(&m->b, STR("tool_calls"));
    json_build_open(&m->b, JSON_ARRAY);
    for (const JsonNode *b = json_first(content); b != json_end(content); b = json_next(b), index++) {
        Place at = place_element(content_at, index), id_at = place_member(&at, "id");
        Place name_at = place_member(&at, "name"), input_at = place_member(&at, "input");
        const JsonNode *input = member(b, "input");
        Str id, name;
        if (!is_block(b, "tool_use")) continue;
        if (input && input->type != JSON_OBJECT) return fail_type(m, &input_at, "an object", input);
        if (!read_string(m, &id_at, member(b, "id"), &id) ||
            !read_string(m, &name_at, member(b, "name"), &name) || !check_tool_name(m, &name_at, name) ||
            !put_call(m, &input_at, id, name, input))
            return false;
    }
    json_build_close(&m->b);
    return true;
}

static bool put_assistant(Maker *m, const Place *content_at, const JsonNode *content) {
    bool calls = has_block(content, "tool_use"), text = has_text(content, assistant_blocks);
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "role", STR("assistant"));
    if (has_block(content, "thinking") && !put_thinking(m, content_at, content)) return false;
    json_build_key(&m->b, STR("content"));
    if (calls && !text) put_no_content(m);
    else if (!put_content(m, content_at, content, assistant_blocks)) return false;
    if (calls && !put_tool_uses(m, content_at, content)) return false;
    json_build_close(&m->b);
    return true;
}

// ---- the user ----

// A result that is an error says so: templates have no other place for it.
static bool put_result_content(Maker *m, const Place *at, const JsonNode *block) {
    const JsonNode *content = member(block, "content");
    Place content_at = place_member(at, "content"), error_at = place_member(at, "is_error");
    bool is_error = false;
    const JsonNode *flag = member(block, "is_error");
    if (flag && !json_read_bool(flag, &is_error)) return fail_type(m, &error_at, "a boolean", flag);
    json_build_key(&m->b, STR("content"));
    if (!content) {
        put_content_text(m, is_error ? STR("Error") : STR(""));
        return true;
    }
    if (!is_error || content->type != JSON_STRING) return put_content(m, &content_at, content, NULL);
    if (m->in->content_parts) {
        put_content_text(m, node_str(content));
        return true;
    }
    json_build_text_begin(&m->b);
    if (!str_starts_with(node_str(content), STR("Error"))) json_build_text(&m->b, STR("Error: "));
    json_build_text(&m->b, node_str(content));
    json_build_text_end(&m->b);
    return true;
}

static bool put_results(Maker *m, const Place *content_at, const JsonNode *content) {
    uint32_t index = 0;
    for (const JsonNode *b = json_first(content); b != json_end(content); b = json_next(b), index++) {
        Place at = place_element(content_at, index), id_at = place_member(&at, "tool_use_id");
        Str id;
        if (!is_block(b, "tool_result")) continue;
        if (!read_string(m, &id_at, member(b, "tool_use_id"), &id)) return false;
        json_build_open(&m->b, JSON_OBJECT);
        put_result_head(m, id, false);
        if (!put_result_content(m, &at, b)) return false;
        json_build_close(&m->b);
    }
    return true;
}

static bool put_user(Maker *m, const Place *content_at, const JsonNode *content) {
    if (content->type == JSON_ARRAY && !put_results(m, content_at, content)) return false;
    if (has_block(content, "tool_result") && !has_text(content, user_blocks)) return true;
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "role", STR("user"));
    json_build_key(&m->b, STR("content"));
    if (!put_content(m, content_at, content, user_blocks)) return false;
    json_build_close(&m->b);
    return true;
}

// ---- all messages ----

static bool put_message(Maker *m, const Place *at, const JsonNode *message, bool is_last) {
    Place role_at = place_member(at, "role"), content_at = place_member(at, "content");
    Str role;
    if (message->type != JSON_OBJECT) return fail_type(m, at, "an object", message);
    if (!read_string(m, &role_at, member(message, "role"), &role)) return false;
    const JsonNode *content = member(message, "content");
    if (!content || (content->type != JSON_STRING && content->type != JSON_ARRAY))
        return fail_type(m, &content_at, "a string or an array of blocks", content);
    if (str_eq(role, STR("user"))) return put_user(m, &content_at, content);
    if (!str_eq(role, STR("assistant")))
        return fail_value(m, &role_at, role, "is not known; roles are user and assistant");
    // The beginning of the answer, put into the model's mouth.
    m->continues_final_message =
        is_last && !has_block(content, "tool_use") && has_text(content, assistant_blocks);
    return put_assistant(m, &content_at, content);
}

static bool put_messages(Maker *m) {
    const JsonNode *messages = member(m->in->root, "messages"), *system = member(m->in->root, "system");
    Place at = place_member(NULL, "messages"), system_at = place_member(NULL, "system");
    uint32_t index = 0;
    if (!json_is(messages, JSON_ARRAY)) return fail_type(m, &at, "an array", messages);
    if (messages->length == 0) return fail_at(m, &at, "must not be empty");
    json_build_key(&m->b, STR("messages"));
    json_build_open(&m->b, JSON_ARRAY);
    if (system && !(system->type == JSON_STRING && system->length == 0)) {
        json_build_open(&m->b, JSON_OBJECT);
        put_member(m, "role", STR("system"));
        json_build_key(&m->b, STR("content"));
        if (!put_content(m, &system_at, system, NULL)) return false;
        json_build_close(&m->b);
    }
    for (const JsonNode *e = json_first(messages); e != json_end(messages); e = json_next(e)) {
        Place message_at = place_element(&at, index++);
        if (!put_message(m, &message_at, e, index == messages->length)) return false;
    }
    json_build_close(&m->b);
    return true;
}

// ---- tools and the rest ----

static bool put_input_tool(Maker *m, const Place *at, const JsonNode *tool) {
    Place type_at = place_member(at, "type"), name_at = place_member(at, "name");
    Place schema_at = place_member(at, "input_schema");
    Str type, name, description;
    if (tool->type != JSON_OBJECT) return fail_type(m, at, "an object", tool);
    if (!read_optional_string(m, at, tool, "type", &type)) return false;
    if (type.ptr && !str_eq(type, STR("custom")))
        return fail_value(m, &type_at, type, "is not supported; only tools with an input_schema are");
    if (!read_string(m, &name_at, member(tool, "name"), &name) || !check_tool_name(m, &name_at, name) ||
        !read_optional_string(m, at, tool, "description", &description) ||
        !check_schema(m, &schema_at, member(tool, "input_schema")))
        return false;
    put_tool(m, name, description, member(tool, "input_schema"), member(tool, "strict"));
    return true;
}

// 1, 0, or -1: what the template does by itself.
static bool read_thinking(Maker *m, int *out) {
    const JsonNode *thinking = member(m->in->root, "thinking");
    Place at = place_member(NULL, "thinking"), type_at = place_member(&at, "type");
    Str type;
    *out = -1;
    if (!thinking) return true;
    if (!read_type(m, &at, thinking, &type)) return false;
    *out = !str_eq(type, STR("disabled"));
    return !*out || str_eq(type, STR("enabled")) || str_eq(type, STR("adaptive")) ||
           fail_value(m, &type_at, type, "is not known; there are enabled, disabled and adaptive");
}

bool conversation_from_messages(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                                Error *err) {
    Maker m = conversation_begin(in, arena, err);
    Str effort = {0};
    int thinks;
    Place root = place_member(NULL, "body"), output_at = place_member(NULL, "output_config");
    if (in->root->type != JSON_OBJECT) return fail_type(&m, &root, "an object", in->root);
    const JsonNode *output = member(in->root, "output_config");
    if (!put_messages(&m) || !put_tools(&m, put_input_tool) || !read_thinking(&m, &thinks)) return false;
    if (output && output->type != JSON_OBJECT) return fail_type(&m, &output_at, "an object", output);
    return (!output || read_effort(&m, &output_at, output, "effort", &effort)) &&
           conversation_end(&m, effort, thinks, variables);
}
