// POST /v1/messages and /v1/messages/count_tokens, as the Anthropic API has them.
//
// An answer's items (answers.h) are its content blocks: thinking, text and tool_use. The input of a tool_use
// block must be an object, so a call that broke off is given as text in a whole answer. In a stream its block
// has begun by then, and ends where the call broke; stop_reason then is not "tool_use".
#include "api/openai.h"

#include "api/chat_prompt.h"
#include "http/sse.h"

// ---- requests ----

static const FieldRule rules[] = {
    GENERATE_RULES,
    {"stop_sequences", FIELD_TEXTS, GENERATE_AT(stop), .most = STOP_STRINGS_MAX},
    {"tools", FIELD_NODE, GENERATE_AT(tools)},
    {"tool_choice", FIELD_NODE, GENERATE_AT(tool_choice)},
};
const FieldTable messages_fields = {rules, COUNT_OF(rules), .null_is_absent = true};

static const RefusalRule refused[] = {
    {"container", 0, NULL, "nothing is run here"},
    {"mcp_servers", 0, NULL, "call them yourself and give their tools as tools"},
    {"n", 1, NULL, "a message is one answer"},
};

// output_config.format, and output_format as it was called before.
static bool read_output_format(const JsonNode *root, GenerateRequest *g, Error *err) {
    const JsonNode *config = json_get(root, STR("output_config"));
    return structured_read_format("output_config.format", json_get(config, STR("format")), &g->structured,
                                  err) &&
           structured_read_format("output_format", json_get(root, STR("output_format")), &g->structured, err);
}

// Edits that drop parts of a long conversation are refused. Clients also send one that says to keep what is
// kept here anyway.
static bool check_context_edits(const JsonNode *root, Error *err) {
    const JsonNode *edits = json_get(json_get(root, STR("context_management")), STR("edits"));
    if (!json_is(edits, JSON_ARRAY)) return true;
    for (const JsonNode *e = json_first(edits); e != json_end(edits); e = json_next(e)) {
        Str type, keep;
        bool keeps_all = json_read_str(json_get(e, STR("type")), &type) &&
                         str_eq(type, STR("clear_thinking_20251015")) &&
                         json_read_str(json_get(e, STR("keep")), &keep) && str_eq(keep, STR("all"));
        if (!keeps_all)
            return field_refuse(err, "context_management",
                                "is not supported; shorten the conversation yourself");
    }
    return true;
}

// The choice is an object here, and says whether one call is enough.
static bool read_choice(GenerateRequest *g, Error *err) {
    const JsonNode *choice = g->tool_choice, *type = json_get(choice, STR("type"));
    const JsonNode *one_call = json_get(choice, STR("disable_parallel_tool_use"));
    Str word;
    if (!choice) return true;
    if (!json_is(choice, JSON_OBJECT)) return field_refuse_type(err, "tool_choice", "an object", choice);
    if (!json_read_str(type, &word)) return field_refuse_type(err, "tool_choice.type", "a string", type);
    if (one_call && !json_is(one_call, JSON_NULL) && !json_read_bool(one_call, &g->one_call))
        return field_refuse_type(err, "tool_choice.disable_parallel_tool_use", "a boolean", one_call);
    if (str_eq(word, STR("auto")) || str_eq(word, STR("none"))) return true;
    if (str_eq(word, STR("any"))) return chat_force_calls((Str){0}, g, err);
    if (str_eq(word, STR("tool"))) {
        Str name;
        if (json_read_str(json_get(choice, STR("name")), &name) && name.len)
            return chat_force_calls(name, g, err);
        return field_refuse(err, "tool_choice.name", "must be the name of a tool");
    }
    return field_refuse(err, "tool_choice.type", "must be \"auto\", \"any\", \"tool\" or \"none\"");
}

// What the model thinks may be left out of the answer.
static void read_display(const JsonNode *root, GenerateRequest *g) {
    Str display;
    const JsonNode *thinking = json_get(root, STR("thinking"));
    g->hides_reasoning =
        json_read_str(json_get(thinking, STR("display")), &display) && str_eq(display, STR("omitted"));
}

static bool parse(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    const JsonNode *root = fields_parse_body((Str){r->body, r->body_bytes}, nodes_max, &r->arena, err);
    if (!root || !fields_read(&messages_fields, root, &r->limits, &r->arena, g, err) ||
        !generate_refuse(generate_refused, n_generate_refused, root, err) ||
        !structured_read(g->structured_fields, &g->structured, err) ||
        !generate_refuse(refused, COUNT_OF(refused), root, err) || !openai_check_model(api, g, err) ||
        !read_output_format(root, g, err) || !check_context_edits(root, err) || !read_choice(g, err))
        return false;
    const JsonNode *messages = json_get(root, STR("messages"));
    if (!json_is(messages, JSON_ARRAY))
        return field_refuse_type(err, "messages", "an array of messages", messages);
    read_display(root, g);
    g->root = root;
    return true;
}

static bool encode(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice;
    return chat_encode_job(api, r, conversation_from_messages, "messages", job, err);
}

// ---- what answers say ----

static const char *stop_reason_of(const ApiAnswer *a) {
    if (a->reason == STOP_LENGTH) return "max_tokens";
    if (answer_parser_calls(a->parser)) return "tool_use";
    return a->reason == STOP_STRING ? "stop_sequence" : "end_turn";
}

static void put_stop(JsonWriter *w, const ApiAnswer *a) {
    json_member_str(w, "stop_reason", str_from_c(stop_reason_of(a)));
    if (a->reason == STOP_STRING) json_member_str(w, "stop_sequence", a->stop);
    else json_member_null(w, "stop_sequence");
}

// This API's input_tokens are those that came from no cache. A stream's first event cannot know how many do,
// and counts all; its last one says it again.
static void put_usage(JsonWriter *w, uint64_t tokens_in, const ApiAnswer *a) {
    json_key(w, "usage");
    json_open_object(w);
    json_member_u64(w, "input_tokens", tokens_in - a->tokens_cached);
    json_member_u64(w, "cache_creation_input_tokens", 0); // nobody pays for what is kept
    json_member_u64(w, "cache_read_input_tokens", a->tokens_cached);
    json_member_u64(w, "output_tokens", a->tokens_out);
    json_key(w, "output_tokens_details");
    json_open_object(w);
    json_member_u64(w, "thinking_tokens", a->reasoning_tokens);
    json_close_object(w);
    json_close_object(w);
}

static void put_head(JsonWriter *w, const Api *api, const ApiRequest *r) {
    json_member_str(w, "id", str_from_c(r->id));
    json_member_str(w, "type", STR("message"));
    json_member_str(w, "role", STR("assistant"));
    json_member_str(w, "model", api->config.served_model);
    json_key(w, "content");
    json_open_array(w);
}

static void put_call_head(JsonWriter *w, const ApiRequest *r, uint32_t call, Str name) {
    char id[CALL_ID_BYTES];
    openai_make_call_id(r, 0, call, id);
    json_member_str(w, "type", STR("tool_use"));
    json_member_str(w, "id", str_from_c(id));
    json_member_str(w, "name", name);
    json_key(w, "input");
}

// ---- streams ----

typedef struct {
    Api *api;
    ApiRequest *r;
    ApiJob *mine;
    const Job *job;
} Context;

static JsonWriter begin_event(StrBuf *text, Api *api, const char *type) {
    *text = api_text(api);
    JsonWriter w = sse_event_begin(text, type);
    json_open_object(&w);
    json_member_str(&w, "type", str_from_c(type));
    return w;
}

static void send_event(JsonWriter *w, const ApiRequest *r) {
    json_close_object(w);
    openai_send(r, w->out);
}

static JsonWriter begin_block_event(StrBuf *text, const Context *c, const char *type) {
    JsonWriter w = begin_event(text, c->api, type);
    json_member_u64(&w, "index", c->mine->answer.item.index);
    return w;
}

static void send_delta(const Context *c, const char *type, const char *key, Str piece) {
    StrBuf text;
    JsonWriter w = begin_block_event(&text, c, "content_block_delta");
    json_key(&w, "delta");
    json_open_object(&w);
    json_member_str(&w, "type", str_from_c(type));
    json_member_str(&w, key, piece);
    json_close_object(&w);
    send_event(&w, c->r);
}

static void close_block(const Context *c) {
    ApiAnswer *a = &c->mine->answer;
    StrBuf text;
    if (!a->item_is_open) return;
    a->item_is_open = false;
    if (a->item.kind == KEPT_REASONING) send_delta(c, "signature_delta", "signature", STR(""));
    JsonWriter w = begin_block_event(&text, c, "content_block_stop");
    send_event(&w, c->r);
}

static void open_block(const Context *c, const AnswerPart *part) {
    ApiAnswer *a = &c->mine->answer;
    StrBuf text;
    close_block(c);
    a->item = (AnswerItem){.kind = (KeptKind)part->kind, .index = a->item.index + 1, .call = part->call};
    a->item_is_open = true;
    JsonWriter w = begin_block_event(&text, c, "content_block_start");
    json_key(&w, "content_block");
    json_open_object(&w);
    if (part->kind == ANSWER_CALL) {
        put_call_head(&w, c->r, part->call, part->text);
        json_open_object(&w);
        json_close_object(&w);
    } else if (part->kind == ANSWER_REASONING) {
        json_member_str(&w, "type", STR("thinking"));
        json_member_str(&w, "thinking", STR(""));
        json_member_str(&w, "signature", STR(""));
    } else {
        json_member_str(&w, "type", STR("text"));
        json_member_str(&w, "text", STR(""));
    }
    json_close_object(&w);
    send_event(&w, c->r);
}

static void send_part(const Context *c, const AnswerPart *part) {
    ApiAnswer *a = &c->mine->answer;
    if (part->kind != ANSWER_CALL && part->kind != ANSWER_CALL_END && part->text.len == 0) return;
    if (answer_begins_item(&a->item, (KeptKind)part->kind)) open_block(c, part);
    switch (part->kind) {
    case ANSWER_CONTENT: send_delta(c, "text_delta", "text", part->text); break;
    case ANSWER_REASONING: send_delta(c, "thinking_delta", "thinking", part->text); break;
    case ANSWER_CALL_ARGUMENTS: send_delta(c, "input_json_delta", "partial_json", part->text); break;
    case ANSWER_CALL_END: close_block(c); break;
    case ANSWER_CALL: break;
    }
}

static void take_part(void *context, const AnswerPart *part) {
    const Context *c = context;
    AnswerPart shown;
    if (!chat_shows_part(&c->r->fields.generate, part, &shown)) return;
    answer_keep(&c->mine->answer, (KeptKind)shown.kind, shown.call, shown.text);
    if (c->r->fields.generate.stream) send_part(c, &shown);
}

static void started(Api *api, ApiRequest *r, ApiJob *mine, const Job *job) {
    StrBuf text;
    chat_begin_answer(api, r, mine, !r->fields.generate.stream);
    if (!r->fields.generate.stream) return;
    api_begin_stream(api, r);
    JsonWriter w = begin_event(&text, api, "message_start");
    json_key(&w, "message");
    json_open_object(&w);
    put_head(&w, api, r);
    json_close_array(&w);
    json_member_null(&w, "stop_reason");
    json_member_null(&w, "stop_sequence");
    put_usage(&w, job->n_tokens, &mine->answer);
    json_close_object(&w);
    send_event(&w, r);
    w = begin_event(&text, api, "ping");
    send_event(&w, r);
}

static void token(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    Context c = {api, r, mine, job};
    openai_take_token(mine, e, (AnswerSink){take_part, &c});
}

static void done(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    Context c = {api, r, mine, job};
    StrBuf text;
    openai_take_end(api, mine, job, e, (AnswerSink){take_part, &c});
    if (!r->fields.generate.stream) return;
    close_block(&c);
    JsonWriter w = begin_event(&text, api, "message_delta");
    json_key(&w, "delta");
    json_open_object(&w);
    put_stop(&w, &mine->answer);
    json_close_object(&w);
    put_usage(&w, job->n_tokens, &mine->answer);
    openai_put_timings(&w, api, r);
    send_event(&w, r);
    w = begin_event(&text, api, "message_stop");
    send_event(&w, r);
    (void)http_stream_end(r->exchange); // gone: on_closed says so
}

static void error(Api *api, ApiRequest *r, const Error *err) {
    if (!r->is_answering) {
        api_reply_request_error(api, r, err);
        return;
    }
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "error");
    api_put_error_body(&w, r->dialect->errors, err, str_from_c(r->correlation_id));
    openai_send(r, &text);
    (void)http_stream_end(r->exchange);
}

// ---- whole answers ----

// A call that broke off: its name and what there is of its arguments.
static void put_broken_call(JsonWriter *w, const ApiAnswer *a, const AnswerItem *item) {
    KeptPart part;
    json_member_str(w, "type", STR("text"));
    json_key(w, "text");
    json_open_str(w);
    json_add_to_str(w, item->name);
    json_add_to_str(w, STR(" "));
    for (size_t at = item->begins; answer_next_of_item(a, item, &at, &part);) {
        if (part.kind == KEPT_CALL_ARGUMENTS) json_add_to_str(w, part.text);
    }
    json_close_str(w);
}

static void put_call(JsonWriter *w, const ApiRequest *r, const ApiAnswer *a, const AnswerItem *item) {
    KeptPart part;
    put_call_head(w, r, item->call, item->name);
    json_put_raw(w, (Str){0}); // the object comes in pieces
    for (size_t at = item->begins; answer_next_of_item(a, item, &at, &part);) {
        if (part.kind == KEPT_CALL_ARGUMENTS) strbuf_put(w->out, part.text);
    }
}

static void put_block(JsonWriter *w, const ApiRequest *r, const ApiAnswer *a, const AnswerItem *item) {
    json_open_object(w);
    if (item->kind == KEPT_CALL && answer_call_is_whole(a, item)) {
        put_call(w, r, a, item);
    } else if (item->kind == KEPT_CALL) {
        put_broken_call(w, a, item);
    } else {
        const char *type = item->kind == KEPT_REASONING ? "thinking" : "text";
        json_member_str(w, "type", str_from_c(type));
        json_key(w, type);
        answer_put_item_text(w, a, item);
        if (item->kind == KEPT_REASONING) json_member_str(w, "signature", STR(""));
    }
    json_close_object(w);
}

static void answer(Api *api, ApiRequest *r) {
    if (r->fields.generate.stream) return;
    const ApiAnswer *a = &api->jobs[r->jobs[0]].answer;
    AnswerItem item = ANSWER_ITEM_NONE;
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    put_head(&w, api, r);
    while (answer_next_item(a, &item))
        put_block(&w, r, a, &item);
    json_close_array(&w);
    put_stop(&w, a);
    put_usage(&w, a->tokens_in, a);
    openai_put_timings(&w, api, r);
    json_close_object(&w);
    openai_reply(api, r, &text);
}

// ---- counting ----

static bool count(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice, (void)job;
    TokenIds ids;
    Str text;
    Arena scratch;
    if (!chat_encode_conversation(api, r, conversation_from_messages, &ids, &text, &scratch, err))
        return false;
    r->fields.generate.n_text = ids.count;
    return true;
}

static void answer_count(Api *api, ApiRequest *r) {
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_u64(&w, "input_tokens", r->fields.generate.n_text);
    json_close_object(&w);
    api_reply_request(api, r, 200, strbuf_str(&text));
}

// ---- both routes ----

const ApiDialect api_messages_dialect = {
    .name = "messages",
    .errors = ERRORS_ANTHROPIC,
    .queues = true,
    .has_jobs = true,
    .parse = parse,
    .id_prefix = "msg_",
    .encode = encode,
    .started = started,
    .token = token,
    .done = done,
    .answer = answer,
    .error = error,
};

static const ApiDialect count_dialect = {
    .name = "messages.count_tokens",
    .errors = ERRORS_ANTHROPIC,
    .parse = parse,
    .encode = count,
    .answer = answer_count,
    .error = error,
};

void api_messages(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &api_messages_dialect);
}

void api_count_tokens(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &count_dialect);
}
