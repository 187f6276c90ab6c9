// OpenAI's chat completions.
#include "chat/conversation_internal.h"

// ---- messages ----

static bool put_calls(Maker *m, const Place *message_at, const JsonNode *calls) {
    Place calls_at = place_member(message_at, "tool_calls");
    uint32_t index = 0;
    if (calls->type != JSON_ARRAY) return fail_type(m, &calls_at, "an array", calls);
    json_build_key(&m->b, STR("tool_calls"));
    json_build_open(&m->b, JSON_ARRAY);
    for (const JsonNode *c = json_first(calls); c != json_end(calls); c = json_next(c)) {
        Place at = place_element(&calls_at, index++), type_at = place_member(&at, "type");
        Place function_at = place_member(&at, "function"), name_at = place_member(&function_at, "name");
        Place arguments_at = place_member(&function_at, "arguments");
        Str type, id, name;
        if (c->type != JSON_OBJECT) return fail_type(m, &at, "an object", c);
        if (!read_optional_string(m, &at, c, "type", &type)) return false;
        if (type.ptr && !str_eq(type, STR("function")))
            return fail_value(m, &type_at, type, "is not supported; only calls of type \"function\" are");
        const JsonNode *function = member(c, "function");
        if (!json_is(function, JSON_OBJECT)) return fail_type(m, &function_at, "an object", function);
        if (!read_optional_string(m, &at, c, "id", &id) ||
            !read_string(m, &name_at, member(function, "name"), &name) ||
            !check_tool_name(m, &name_at, name) ||
            !put_call(m, &arguments_at, id, name, member(function, "arguments")))
            return false;
    }
    json_build_close(&m->b);
    return true;
}

static bool read_reasoning(Maker *m, const Place *at, const JsonNode *message, Str *out) {
    static const char *const names[] = {"reasoning_content", "reasoning", "thinking"};
    *out = (Str){0};
    for (size_t i = 0; i < COUNT_OF(names) && !out->ptr; i++)
        if (!read_optional_string(m, at, message, names[i], out)) return false;
    return true;
}

static bool is_empty_content(const JsonNode *content) {
    return !content || content->length == 0; // a string or an array
}

static bool put_assistant(Maker *m, const Place *at, const JsonNode *message) {
    const JsonNode *content = member(message, "content"), *calls = member(message, "tool_calls");
    Place content_at = place_member(at, "content"), function_call_at = place_member(at, "function_call");
    Place audio_at = place_member(at, "audio");
    Str reasoning, refusal;
    bool has_calls = json_is(calls, JSON_ARRAY) && calls->length > 0;
    if (member(message, "function_call"))
        return fail_at(m, &function_call_at, "is not supported; tool_calls took its place");
    if (member(message, "audio"))
        return fail_at(m, &audio_at, "is not supported; this model reads text alone");
    if (!read_reasoning(m, at, message, &reasoning) ||
        !read_optional_string(m, at, message, "refusal", &refusal))
        return false;
    json_build_key(&m->b, STR("content"));
    // Without content a message of calls has none; any other is empty.
    if (!content && refusal.ptr) put_content_text(m, refusal);
    else if (!content && has_calls) put_no_content(m);
    else if (!content) put_content_text(m, STR(""));
    else if (!put_content(m, &content_at, content, NULL)) return false;
    // GPT-OSS's template refuses a message of calls with both content and thinking.
    if (reasoning.ptr) put_reasoning(m, reasoning, !has_calls || is_empty_content(content));
    return !calls || (!has_calls && calls->type == JSON_ARRAY) || put_calls(m, at, calls);
}

static bool put_tool_result(Maker *m, const Place *at, const JsonNode *message) {
    Place id_at = place_member(at, "tool_call_id"), content_at = place_member(at, "content");
    Str id, name;
    if (!read_string(m, &id_at, member(message, "tool_call_id"), &id) ||
        !read_optional_string(m, at, message, "name", &name))
        return false;
    put_result_head(m, id, name.ptr != NULL);
    json_build_key(&m->b, STR("content"));
    return put_content(m, &content_at, member(message, "content"), NULL);
}

// What is not known here may be known to a template.
static void put_others(Maker *m, const JsonNode *message) {
    static const char *const known[] = {
        "role",          "content",           "tool_calls", "tool_call_id", "reasoning", "thinking",
        "function_call", "reasoning_content", "audio",      "refusal",      NULL};
    for (const JsonNode *k = json_first(message), *v; k != json_end(message); k = json_next(v)) {
        v = json_next(k);
        if (v->type == JSON_NULL || is_one_of(node_str(k), known)) continue;
        json_build_key(&m->b, node_str(k));
        json_build_node(&m->b, v);
    }
}

static bool put_message(Maker *m, const Place *at, const JsonNode *message) {
    static const char *const plain[] = {"system", "developer", "user", NULL};
    Place role_at = place_member(at, "role"), content_at = place_member(at, "content");
    Str role;
    if (message->type != JSON_OBJECT) return fail_type(m, at, "an object", message);
    if (!read_string(m, &role_at, member(message, "role"), &role)) return false;
    json_build_open(&m->b, JSON_OBJECT);
    if (str_eq(role, STR("assistant"))) {
        put_member(m, "role", role);
        if (!put_assistant(m, at, message)) return false;
    } else if (str_eq(role, STR("tool"))) {
        if (!put_tool_result(m, at, message)) return false;
    } else if (is_one_of(role, plain)) {
        bool renamed = str_eq(role, STR("developer")) && m->in->developer_role;
        if (str_eq(role, STR("developer"))) role = STR("system");
        put_member(m, "role", renamed ? str_from_c(m->in->developer_role) : role);
        json_build_key(&m->b, STR("content"));
        if (!put_content(m, &content_at, member(message, "content"), NULL)) return false;
    } else if (str_eq(role, STR("function"))) {
        return fail_value(m, &role_at, role, "is not supported; \"tool\" took its place");
    } else {
        return fail_value(m, &role_at, role,
                          "is not known; roles are system, developer, user, assistant and tool");
    }
    put_others(m, message);
    json_build_close(&m->b);
    return true;
}

static bool put_messages(Maker *m) {
    const JsonNode *messages = member(m->in->root, "messages");
    Place at = place_member(NULL, "messages");
    uint32_t index = 0;
    if (!json_is(messages, JSON_ARRAY)) return fail_type(m, &at, "an array", messages);
    if (messages->length == 0) return fail_at(m, &at, "must not be empty");
    json_build_key(&m->b, STR("messages"));
    json_build_open(&m->b, JSON_ARRAY);
    for (const JsonNode *e = json_first(messages); e != json_end(messages); e = json_next(e)) {
        Place message_at = place_element(&at, index++);
        if (!put_message(m, &message_at, e)) return false;
    }
    json_build_close(&m->b);
    return true;
}

// ---- tools ----

// As it is: templates print it.
static bool put_whole_tool(Maker *m, const Place *at, const JsonNode *tool) {
    Place type_at = place_member(at, "type"), function_at = place_member(at, "function");
    Place name_at = place_member(&function_at, "name"), schema_at = place_member(&function_at, "parameters");
    Str type, name, description;
    if (!read_type(m, at, tool, &type)) return false;
    if (!str_eq(type, STR("function")))
        return fail_value(m, &type_at, type, "is not supported; only tools of type \"function\" are");
    const JsonNode *function = member(tool, "function");
    if (!json_is(function, JSON_OBJECT)) return fail_type(m, &function_at, "an object", function);
    if (!read_string(m, &name_at, member(function, "name"), &name) || !check_tool_name(m, &name_at, name) ||
        !read_optional_string(m, &function_at, function, "description", &description) ||
        !check_schema(m, &schema_at, member(function, "parameters")))
        return false;
    json_build_node(&m->b, tool);
    return true;
}

bool conversation_from_chat(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                            Error *err) {
    Maker m = conversation_begin(in, arena, err);
    Str effort;
    Place root = place_member(NULL, "body");
    if (in->root->type != JSON_OBJECT) return fail_type(&m, &root, "an object", in->root);
    return put_messages(&m) && put_tools(&m, put_whole_tool) &&
           read_optional_bool(&m, in->root, "continue_final_message", &m.continues_final_message) &&
           read_effort(&m, NULL, in->root, "reasoning_effort", &effort) &&
           conversation_end(&m, effort, -1, variables);
}
