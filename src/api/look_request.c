#include "api/look_request.h"

#include "api/openai.h"

// ---- fields ----

#define LOOK_AT(field) .offset = offsetof(LookRequest, field)
#define LOOK_GIVEN(field) .given = 1 + offsetof(LookRequest, field)
#define CONVERSATION_RULES                                                                             \
    {"model", FIELD_STR, LOOK_AT(generate.model), .most = 1024},                                       \
        {"messages", FIELD_NODE, LOOK_AT(messages)}, {"tools", FIELD_NODE, LOOK_AT(generate.tools)}, { \
        "tool_choice", FIELD_NODE, LOOK_AT(generate.tool_choice)                                       \
    }

static const FieldRule tokenize_rules[] = {
    CONVERSATION_RULES,
    {"prompt", FIELD_NODE, LOOK_AT(prompt)},
    {"content", FIELD_NODE, LOOK_AT(content)},
    {"add_special_tokens", FIELD_BOOL, LOOK_AT(add_special_tokens), LOOK_GIVEN(has_add_special_tokens)},
    {"add_special", FIELD_BOOL, LOOK_AT(add_special)},
    {"parse_special", FIELD_BOOL, LOOK_AT(parse_special), LOOK_GIVEN(has_parse_special)},
    {"return_token_strs", FIELD_BOOL, LOOK_AT(returns_texts)},
    {"with_pieces", FIELD_BOOL, LOOK_AT(with_pieces)},
};
static const FieldRule detokenize_rules[] = {
    {"model", FIELD_STR, LOOK_AT(generate.model), .most = 1024},
    {"tokens", FIELD_NODE, LOOK_AT(tokens)},
    {"skip_special_tokens", FIELD_BOOL, LOOK_AT(skips_special)},
};
static const FieldRule template_rules[] = {CONVERSATION_RULES};

const FieldTable look_tokenize_fields = {tokenize_rules, COUNT_OF(tokenize_rules), .null_is_absent = true};
const FieldTable look_detokenize_fields = {detokenize_rules, COUNT_OF(detokenize_rules),
                                           .null_is_absent = true};
const FieldTable look_template_fields = {template_rules, COUNT_OF(template_rules), .null_is_absent = true};

static const RefusalRule refused[] = {
    {"chat_template", 0, NULL, "the template is chosen when the worker starts (--chat-template)"},
    {"mm_processor_kwargs", 0, NULL, "the model reads text"},
};

static bool read_fields(const FieldTable *table, const Api *api, ApiRequest *r, uint32_t nodes_max,
                        Error *err) {
    LookRequest *look = &r->fields.look;
    const JsonNode *root = fields_parse_body((Str){r->body, r->body_bytes}, nodes_max, &r->arena, err);
    if (!root || !fields_read(table, root, &r->limits, &r->arena, look, err) ||
        !generate_refuse(refused, COUNT_OF(refused), root, err))
        return false;
    look->generate.root = root;
    return openai_check_model(api, &look->generate, err);
}

static bool check_conversation(LookRequest *look, Error *err) {
    if (!json_is(look->messages, JSON_ARRAY))
        return field_refuse_type(err, "messages", "an array of messages", look->messages);
    if (look->add_special_tokens)
        return field_refuse(err, "add_special_tokens",
                            "is for a prompt; a conversation's template writes "
                            "them");
    return chat_read_calls(look->generate.root, &look->generate, err);
}

// A text, or an array of them.
static bool check_prompt(const JsonNode *prompt, Error *err) {
    static const char wanted[] = "a string or an array of strings";
    if (json_is(prompt, JSON_STRING)) return true;
    if (!json_is(prompt, JSON_ARRAY)) return field_refuse_type(err, "prompt", wanted, prompt);
    for (const JsonNode *e = json_first(prompt); e != json_end(prompt); e = json_next(e)) {
        if (!json_is(e, JSON_STRING)) return field_refuse_type(err, "prompt", wanted, e);
    }
    return true;
}

bool look_parse_tokenize(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    LookRequest *look = &r->fields.look;
    if (!read_fields(&look_tokenize_fields, api, r, nodes_max, err)) return false;
    if (look->messages) return check_conversation(look, err);
    if (look->prompt) return check_prompt(look->prompt, err);
    if (!look->content) return field_refuse(err, "prompt", "one of prompt, content and messages is required");
    return json_is(look->content, JSON_STRING) ||
           field_refuse_type(err, "content", "a string", look->content);
}

bool look_parse_detokenize(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    LookRequest *look = &r->fields.look;
    if (!read_fields(&look_detokenize_fields, api, r, nodes_max, err)) return false;
    if (!look->tokens) return field_refuse(err, "tokens", "is required");
    return json_is(look->tokens, JSON_ARRAY) ||
           field_refuse_type(err, "tokens", "an array of token ids, or of such arrays", look->tokens);
}

bool look_parse_template(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    return read_fields(&look_template_fields, api, r, nodes_max, err) &&
           check_conversation(&r->fields.look, err);
}

// ---- answers ----

StrBuf look_begin_reply(ApiRequest *r) {
    return strbuf_begin_in_arena(&r->arena);
}

bool look_end_reply(ApiRequest *r, StrBuf *text, Error *err) {
    enum { MOST = HTTP_OUTPUT_BYTES_MAX - HTTP_HEADER_BYTES_MAX };
    if (text->truncated || text->len > MOST)
        return error_set(err, ERR_INVALID_REQUEST,
                         "the answer would be longer than %d KiB, as much as one to a body of %zu bytes may "
                         "have; ask for a part of the text at a time",
                         r->large < 0 ? LOOK_SMALL_REPLY_BYTES >> 10 : MOST >> 10, r->body_bytes);
    r->fields.look.reply = strbuf_end_in_arena(text, &r->arena);
    return true;
}

void look_answer(Api *api, ApiRequest *r) {
    api_reply_request(api, r, 200, r->fields.look.reply);
}
