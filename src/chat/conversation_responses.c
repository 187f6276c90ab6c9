// OpenAI's Responses. Its input is a list of items; several items make one message of the assistant: the
// reasoning, the text, and the calls of one turn.
#include "chat/conversation_internal.h"

// ---- items ----

typedef enum { ITEM_MESSAGE, ITEM_CALL, ITEM_RESULT, ITEM_REASONING } ItemKind;

typedef struct {
    const JsonNode *node;
    ItemKind kind;
    Str role; // of a message
    uint32_t index;
} Item;

static bool read_item(Maker *m, const Place *input_at, const JsonNode *node, uint32_t index, Item *out) {
    static const struct {
        const char *type;
        ItemKind kind;
    } kinds[] = {
        {"message", ITEM_MESSAGE},
        {"function_call", ITEM_CALL},
        {"function_call_output", ITEM_RESULT},
        {"reasoning", ITEM_REASONING},
    };
    static const char *const roles[] = {"user", "assistant", "system", "developer", NULL};
    Place at = place_element(input_at, index), type_at = place_member(&at, "type");
    Place role_at = place_member(&at, "role");
    Str type;
    size_t i = 0;
    if (node->type != JSON_OBJECT) return fail_type(m, &at, "an object", node);
    if (!read_optional_string(m, &at, node, "type", &type)) return false;
    if (!type.ptr && !member(node, "role")) return fail_type(m, &type_at, "a string", NULL);
    if (!type.ptr) type = STR("message"); // the short form of one
    while (i < COUNT_OF(kinds) && !str_eq(type, str_from_c(kinds[i].type)))
        i++;
    if (i == COUNT_OF(kinds))
        return fail_value(m, &type_at, type,
                          "is not supported; message, function_call, function_call_output and reasoning are");
    *out = (Item){.node = node, .kind = kinds[i].kind, .index = index};
    if (out->kind != ITEM_MESSAGE) return true;
    if (!read_string(m, &role_at, member(node, "role"), &out->role)) return false;
    return is_one_of(out->role, roles) ||
           fail_value(m, &role_at, out->role,
                      "is not known; roles are user, assistant, system and developer");
}

static bool is_assistant(const Item *item) {
    return item->kind == ITEM_CALL || item->kind == ITEM_REASONING ||
           (item->kind == ITEM_MESSAGE && str_eq(item->role, STR("assistant")));
}

// ---- a turn of the assistant ----

// The items of one turn: reasoning, then at most one message, then calls.
typedef struct {
    const JsonNode *input;
    const Place *input_at;
    const JsonNode *next; // the first item that is not read yet
    uint32_t index;
} Items;

static bool peek(Maker *m, const Items *items, Item *out, bool *there) {
    *there = items->next != json_end(items->input);
    return !*there || read_item(m, items->input_at, items->next, items->index, out);
}

static void advance(Items *items) {
    items->next = json_next(items->next);
    items->index++;
}

// The texts of a reasoning item, into the string that is open: those of "content" where there are any, else
// those of "summary".
static bool put_reasoning_texts(Maker *m, const Place *at, const JsonNode *item, uint32_t *n_texts) {
    const char *name = member(item, "content") ? "content" : "summary";
    const JsonNode *parts = member(item, name);
    Place parts_at = place_member(at, name);
    uint32_t index = 0;
    if (!parts) return true; // encrypted, by somebody else
    if (parts->type != JSON_ARRAY) return fail_type(m, &parts_at, "an array", parts);
    for (const JsonNode *p = json_first(parts); p != json_end(parts); p = json_next(p)) {
        Place part_at = place_element(&parts_at, index++), text_at = place_member(&part_at, "text");
        Str kind, text;
        if (!read_type(m, &part_at, p, &kind) || !read_string(m, &text_at, member(p, "text"), &text))
            return false;
        if ((*n_texts)++) json_build_text(&m->b, STR("\n"));
        json_build_text(&m->b, text);
    }
    return true;
}

// All reasoning items that follow each other, as one text, which several names share.
static bool put_turn_reasoning(Maker *m, Items *items) {
    Item item;
    bool there;
    uint32_t n_texts = 0, at_node;
    json_build_key(&m->b, STR("reasoning_content"));
    at_node = m->b.count;
    json_build_text_begin(&m->b);
    for (;;) {
        if (!peek(m, items, &item, &there)) return false;
        if (!there || item.kind != ITEM_REASONING) break;
        Place at = place_element(items->input_at, item.index);
        if (!put_reasoning_texts(m, &at, item.node, &n_texts)) return false;
        advance(items);
    }
    json_build_text_end(&m->b);
    if (m->b.full) return true; // told at the end
    Str text = node_str(&m->b.nodes[at_node]);
    put_member(m, "reasoning", text);
    put_member(m, "thinking", text);
    return true;
}

static bool put_function_call(Maker *m, const Place *at, const JsonNode *node) {
    Place id_at = place_member(at, "call_id"), name_at = place_member(at, "name");
    Place arguments_at = place_member(at, "arguments");
    Str id, name;
    return read_string(m, &id_at, member(node, "call_id"), &id) &&
           read_string(m, &name_at, member(node, "name"), &name) && check_tool_name(m, &name_at, name) &&
           put_call(m, &arguments_at, id, name, member(node, "arguments"));
}

static bool put_turn_calls(Maker *m, Items *items) {
    Item item;
    bool there;
    json_build_key(&m->b, STR("tool_calls"));
    json_build_open(&m->b, JSON_ARRAY);
    for (;;) {
        if (!peek(m, items, &item, &there)) return false;
        if (!there || item.kind != ITEM_CALL) break;
        Place at = place_element(items->input_at, item.index);
        if (!put_function_call(m, &at, item.node)) return false;
        advance(items);
    }
    json_build_close(&m->b);
    return true;
}

static bool put_turn(Maker *m, Items *items) {
    Item item = {0};
    bool there, has_text = false;
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "role", STR("assistant"));
    if (!peek(m, items, &item, &there)) return false;
    if (there && item.kind == ITEM_REASONING && !put_turn_reasoning(m, items)) return false;
    if (!peek(m, items, &item, &there)) return false;
    if (there && item.kind == ITEM_MESSAGE && is_assistant(&item)) {
        Place at = place_element(items->input_at, item.index), content_at = place_member(&at, "content");
        json_build_key(&m->b, STR("content"));
        if (!put_content(m, &content_at, member(item.node, "content"), NULL)) return false;
        has_text = true;
        advance(items);
        if (!peek(m, items, &item, &there)) return false;
    }
    bool has_calls = there && item.kind == ITEM_CALL;
    if (!has_text) {
        json_build_key(&m->b, STR("content"));
        if (has_calls) put_no_content(m);
        else put_content_text(m, STR(""));
    }
    if (has_calls && !put_turn_calls(m, items)) return false;
    json_build_close(&m->b);
    return true;
}

// ---- all messages ----

static bool put_result(Maker *m, const Place *at, const JsonNode *node) {
    Place id_at = place_member(at, "call_id"), output_at = place_member(at, "output");
    Str id;
    if (!read_string(m, &id_at, member(node, "call_id"), &id)) return false;
    json_build_open(&m->b, JSON_OBJECT);
    put_result_head(m, id, false);
    json_build_key(&m->b, STR("content"));
    if (!put_content(m, &output_at, member(node, "output"), NULL)) return false;
    json_build_close(&m->b);
    return true;
}

static bool put_input_message(Maker *m, const Place *at, const Item *item) {
    Place content_at = place_member(at, "content");
    Str role = item->role;
    if (str_eq(role, STR("developer")))
        role = m->in->developer_role ? str_from_c(m->in->developer_role) : STR("system");
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "role", role);
    json_build_key(&m->b, STR("content"));
    if (!put_content(m, &content_at, member(item->node, "content"), NULL)) return false;
    json_build_close(&m->b);
    return true;
}

// Reasoning of which only an encrypted form is here.
static bool says_nothing(const Item *item) {
    const JsonNode *content = member(item->node, "content"), *summary = member(item->node, "summary");
    return item->kind == ITEM_REASONING && (!content || content->length == 0) &&
           (!summary || summary->length == 0);
}

static bool put_items(Maker *m, const Place *input_at, const JsonNode *input) {
    Items items = {.input = input, .input_at = input_at, .next = json_first(input)};
    Item item;
    bool there;
    for (;;) {
        if (!peek(m, &items, &item, &there)) return false;
        if (!there) return true;
        Place at = place_element(input_at, item.index);
        if (says_nothing(&item)) {
            advance(&items);
            continue;
        }
        if (is_assistant(&item)) {
            if (!put_turn(m, &items)) return false;
            continue;
        }
        if (item.kind == ITEM_RESULT ? !put_result(m, &at, item.node) : !put_input_message(m, &at, &item))
            return false;
        advance(&items);
    }
}

static void put_message(Maker *m, Str role, Str text) {
    json_build_open(&m->b, JSON_OBJECT);
    put_member(m, "role", role);
    json_build_key(&m->b, STR("content"));
    put_content_text(m, text);
    json_build_close(&m->b);
}

static bool put_messages(Maker *m) {
    const JsonNode *input = member(m->in->root, "input");
    Place input_at = place_member(NULL, "input");
    Str instructions;
    if (!read_optional_string(m, NULL, m->in->root, "instructions", &instructions)) return false;
    if (!input || (input->type != JSON_STRING && input->type != JSON_ARRAY))
        return fail_type(m, &input_at, "a string or an array of items", input);
    if (input->length == 0) return fail_at(m, &input_at, "must not be empty");
    json_build_key(&m->b, STR("messages"));
    json_build_open(&m->b, JSON_ARRAY);
    if (instructions.len) put_message(m, STR("system"), instructions);
    if (input->type == JSON_STRING) put_message(m, STR("user"), node_str(input));
    else if (!put_items(m, &input_at, input)) return false;
    json_build_close(&m->b);
    return true;
}

// ---- tools and the rest ----

static bool put_flat_tool(Maker *m, const Place *at, const JsonNode *tool) {
    Place type_at = place_member(at, "type"), name_at = place_member(at, "name");
    Place schema_at = place_member(at, "parameters");
    Str type, name, description;
    if (!read_type(m, at, tool, &type)) return false;
    if (!str_eq(type, STR("function")))
        return fail_value(m, &type_at, type, "is not supported; only tools of type \"function\" are");
    if (!read_string(m, &name_at, member(tool, "name"), &name) || !check_tool_name(m, &name_at, name) ||
        !read_optional_string(m, at, tool, "description", &description) ||
        !check_schema(m, &schema_at, member(tool, "parameters")))
        return false;
    put_tool(m, name, description, member(tool, "parameters"), member(tool, "strict"));
    return true;
}

static bool refuse_what_is_stored(Maker *m) {
    static const char *const names[] = {"previous_response_id", "conversation", "prompt"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Place where = place_member(NULL, names[i]);
        if (member(m->in->root, names[i]))
            return fail_at(
                m, &where,
                "is not supported: this server stores nothing; send the whole conversation as input");
    }
    return true;
}

bool conversation_from_responses(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                                 Error *err) {
    Maker m = conversation_begin(in, arena, err);
    Str effort = {0};
    Place root = place_member(NULL, "body"), reasoning_at = place_member(NULL, "reasoning");
    if (in->root->type != JSON_OBJECT) return fail_type(&m, &root, "an object", in->root);
    const JsonNode *reasoning = member(in->root, "reasoning");
    if (!refuse_what_is_stored(&m) || !put_messages(&m) || !put_tools(&m, put_flat_tool)) return false;
    if (reasoning && reasoning->type != JSON_OBJECT)
        return fail_type(&m, &reasoning_at, "an object", reasoning);
    return (!reasoning || read_effort(&m, &reasoning_at, reasoning, "effort", &effort)) &&
           conversation_end(&m, effort, -1, variables);
}
