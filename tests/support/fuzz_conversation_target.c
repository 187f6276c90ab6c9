#include "chat/conversation.h"
#include "base/utf8.h"
#include "fuzz_targets.h"
#include "os/os.h"

#include <stdlib.h>

enum { ARENA_BYTES = 16 << 20, NODES = 64 * 1024 };

static void require(bool ok) {
    if (!ok) abort();
}

// Lengths and spans fit what is inside; returns the node behind it.
static const JsonNode *check_tree(const JsonNode *node, int depth) {
    require(depth < 100);
    if (node->type == JSON_STRING) {
        Str text = {node->as.string, node->length};
        require(utf8_valid_prefix(text) == text.len);
    }
    if (node->type != JSON_ARRAY && node->type != JSON_OBJECT) return json_next(node);
    const JsonNode *e = json_first(node);
    for (uint32_t i = 0; i < node->length; i++) {
        if (node->type == JSON_OBJECT) {
            require(e->type == JSON_STRING);
            e = json_next(e);
        }
        e = check_tree(e, depth + 1);
    }
    require(e == json_end(node));
    return e;
}

static bool is_role(const JsonNode *node) {
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    Str role;
    require(json_read_str(node, &role));
    for (size_t i = 0; i < COUNT_OF(roles); i++)
        if (str_eq(role, str_from_c(roles[i]))) return true;
    return false;
}

static void check_call(const JsonNode *call) {
    const JsonNode *function = json_get(call, STR("function"));
    require(json_is(json_get(function, STR("name")), JSON_STRING));
    require(json_is(json_get(function, STR("arguments")), JSON_OBJECT));
}

static void check_variables(const JsonNode *variables, bool as_parts) {
    check_tree(variables, 0);
    const JsonNode *messages = json_get(variables, STR("messages")),
                   *tools = json_get(variables, STR("tools"));
    require(json_is(messages, JSON_ARRAY));
    for (const JsonNode *m = json_first(messages); m != json_end(messages); m = json_next(m)) {
        const JsonNode *content = json_get(m, STR("content")), *calls = json_get(m, STR("tool_calls"));
        require(is_role(json_get(m, STR("role"))) && content);
        require(json_is(content, as_parts ? JSON_ARRAY : JSON_STRING) ||
                (calls && json_is(content, JSON_NULL)));
        require(!calls || calls->type == JSON_ARRAY);
        for (const JsonNode *c = calls ? json_first(calls) : NULL; c && c != json_end(calls);
             c = json_next(c))
            check_call(c);
    }
    require(tools && (tools->type == JSON_NULL || (tools->type == JSON_ARRAY && tools->length > 0)));
    require(json_is(json_get(variables, STR("continue_final_message")), JSON_BOOL) ||
            json_get(variables, STR("chat_template_kwargs")) == NULL); // kwargs may name anything else
}

void fuzz_conversation(const uint8_t *data, size_t size) {
    static bool (*const apis[])(const ConversationInput *, Arena *, const JsonNode **, Error *) = {
        conversation_from_chat, conversation_from_responses, conversation_from_messages};
    static Arena whole;
    if (!whole.next) whole = os_arena(ARENA_BYTES);
    Arena arena = whole;
    const JsonNode *variables;
    Error err = {0};
    if (size == 0) return;
    unsigned which = data[0] % 6u;
    ConversationInput in = {.content_parts = which >= 3};
    in.root =
        json_parse((Str){(const char *)data + 1, size - 1}, &arena, &(JsonLimits){.nodes_max = NODES}, &err);
    if (!in.root) return;
    if (apis[which % 3](&in, &arena, &variables, &err)) {
        check_variables(variables, in.content_parts);
        return;
    }
    require(err.code == ERR_INVALID_REQUEST || err.code == ERR_NO_MEMORY);
    require(err.code == ERR_NO_MEMORY || (err.field[0] && strstr(err.message, ": ")));
}
