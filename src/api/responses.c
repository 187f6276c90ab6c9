// POST /v1/responses, as the OpenAI API has it, without what needs stored answers.
//
// An answer's items (answers.h) are its output: reasoning, messages and function calls. A stream tells of
// each piece when it comes, and of each whole text, item and response once more when it is complete, so
// streamed answers are kept like whole ones.
#include "api/openai.h"

#include "api/chat_prompt.h"
#include "http/sse.h"

#include <assert.h>
#include <stdio.h>

// What is repeated of a request (instructions, tools, metadata), which a stream says three times.
enum { MEMBERS_BYTES_MAX = 128 * 1024 };
static_assert(MEMBERS_BYTES_MAX < HTTP_STREAM_BEHIND_MAX / 4, "a stream may begin with two of them");

// ---- requests ----

static const FieldRule rules[] = {
    GENERATE_RULES,
    {"max_output_tokens", FIELD_I64, GENERATE_AT(max_completion_tokens), .least = 1, .most = FIELD_I64_MOST},
    {"top_logprobs", FIELD_U64, GENERATE_AT(n_logprobs), GENERATE_GIVEN(has_n_logprobs),
     .most = LOGPROBS_MAX},
    {"tools", FIELD_NODE, GENERATE_AT(tools)},
    {"tool_choice", FIELD_NODE, GENERATE_AT(tool_choice)},
};
const FieldTable responses_fields = {rules, COUNT_OF(rules), .null_is_absent = true};

static const RefusalRule refused[] = {
    {"previous_response_id", 0, NULL, "nothing is stored here: send the whole conversation as input"},
    {"conversation", 0, NULL, "nothing is stored here: send the whole conversation as input"},
    {"prompt", 0, NULL, "nothing is stored here: send instructions and input"},
    {"background", 0, NULL, "ask for a stream"},
    {"context_management", 0, NULL, "shorten the input yourself"},
    {"n", 1, NULL, "a response is one answer"},
};

static bool is_word(const JsonNode *node, const char *word) {
    Str text;
    return json_read_str(node, &text) && str_eq(text, str_from_c(word));
}

static bool is_absent(const JsonNode *node) {
    return !node || json_is(node, JSON_NULL);
}

// "text": its format and how much is said.
static bool read_text(const JsonNode *root, GenerateRequest *g, Error *err) {
    const JsonNode *text = json_get(root, STR("text")), *format = json_get(text, STR("format"));
    const JsonNode *verbosity = json_get(text, STR("verbosity"));
    if (is_absent(text)) return true;
    if (!json_is(text, JSON_OBJECT)) return field_refuse_type(err, "text", "an object", text);
    if (!is_absent(verbosity) && !is_word(verbosity, "medium"))
        return field_refuse(err, "text.verbosity", "is not supported; say so in the instructions");
    return structured_read_format("text.format", format, &g->structured, err);
}

// What an answer shall have beside its usual members. Log-probabilities are computed; encrypted reasoning is
// nothing that a client here needs, since reasoning is given as text; the rest belongs to tools that are
// refused.
static bool read_include(const JsonNode *root, GenerateRequest *g, Error *err) {
    const JsonNode *include = json_get(root, STR("include"));
    g->logprobs = g->n_logprobs > 0;
    if (is_absent(include)) return true;
    if (!json_is(include, JSON_ARRAY))
        return field_refuse_type(err, "include", "an array of strings", include);
    for (const JsonNode *e = json_first(include); e != json_end(include); e = json_next(e)) {
        if (!json_is(e, JSON_STRING)) return field_refuse_type(err, "include", "an array of strings", e);
        if (is_word(e, "message.output_text.logprobs")) g->logprobs = true;
    }
    return true;
}

// What is said again in the answer must be what the API has there. "auto" truncates inputs that are too long;
// those are refused, so it changes no answer.
static bool check_rest(const JsonNode *root, Error *err) {
    const JsonNode *truncation = json_get(root, STR("truncation")), *input = json_get(root, STR("input"));
    const JsonNode *metadata = json_get(root, STR("metadata"));
    if (!is_absent(truncation) && !is_word(truncation, "auto") && !is_word(truncation, "disabled"))
        return field_refuse(err, "truncation", "must be \"auto\" or \"disabled\"");
    if (!is_absent(metadata) && !json_is(metadata, JSON_OBJECT))
        return field_refuse_type(err, "metadata", "an object", metadata);
    if (json_is(input, JSON_STRING) || json_is(input, JSON_ARRAY)) return true;
    return field_refuse_type(err, "input", "a string or an array of items", input);
}

static bool parse(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    const JsonNode *root = fields_parse_body((Str){r->body, r->body_bytes}, nodes_max, &r->arena, err);
    if (!root || !fields_read(&responses_fields, root, &r->limits, &r->arena, g, err) ||
        !generate_refuse(generate_refused, n_generate_refused, root, err) ||
        !structured_read(g->structured_fields, &g->structured, err) ||
        !generate_refuse(refused, COUNT_OF(refused), root, err) || !openai_check_model(api, g, err) ||
        !read_text(root, g, err) || !read_include(root, g, err) || !check_rest(root, err) ||
        !chat_read_calls(root, g, err))
        return false;
    g->root = root;
    return true;
}

// ---- what an answer says again of its request ----

static void put_node_or(JsonWriter *w, const char *key, const JsonNode *node, const char *otherwise) {
    json_key(w, key);
    if (is_absent(node)) json_put_raw(w, str_from_c(otherwise));
    else json_put_node(w, node);
}

static void put_sampling(JsonWriter *w, const Api *api, const GenerateRequest *g) {
    const SamplingDefaults *d = &api->config.sampling;
    double temperature = !isnan(g->temperature) ? g->temperature : d->temperature;
    double top_p = !isnan(g->top_p) ? g->top_p : d->top_p;
    json_member_f64(w, "temperature", isnan(temperature) ? 1 : temperature);
    json_member_f64(w, "top_p", isnan(top_p) ? 1 : top_p);
    json_member_u64(w, "top_logprobs", g->n_logprobs);
    if (g->max_completion_tokens > 0)
        json_member_u64(w, "max_output_tokens", (uint64_t)g->max_completion_tokens);
    else json_member_null(w, "max_output_tokens");
}

// `brief`: without what a client may have written any amount of.
static void put_members(JsonWriter *w, const Api *api, const GenerateRequest *g, bool brief) {
    const JsonNode *root = brief ? NULL : g->root;
    const JsonNode *reasoning = json_get(g->root, STR("reasoning"));
    bool has_tools = json_is(json_get(root, STR("tools")), JSON_ARRAY);
    put_sampling(w, api, g);
    put_node_or(w, "instructions", json_get(root, STR("instructions")), "null");
    put_node_or(w, "metadata", json_get(root, STR("metadata")), "{}");
    put_node_or(w, "user", json_get(root, STR("user")), "null");
    put_node_or(w, "tools", json_get(root, STR("tools")), "[]");
    put_node_or(w, "tool_choice", has_tools ? g->tool_choice : NULL, "\"auto\"");
    json_member_bool(w, "parallel_tool_calls", !g->one_call);
    json_key(w, "reasoning");
    json_open_object(w);
    put_node_or(w, "effort", brief ? NULL : json_get(reasoning, STR("effort")), "null");
    json_member_null(w, "summary"); // the text itself is given
    json_close_object(w);
    json_key(w, "text");
    json_open_object(w);
    put_node_or(w, "format", json_get(json_get(root, STR("text")), STR("format")), "{\"type\":\"text\"}");
    json_member_str(w, "verbosity", STR("medium"));
    json_close_object(w);
    json_member_str(w, "truncation", STR("disabled"));
    json_member_bool(w, "store", false);
    json_member_bool(w, "background", false);
    json_member_null(w, "previous_response_id");
    json_member_str(w, "service_tier", STR("default"));
}

static bool keep_members(const Api *api, ApiRequest *r, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    Arena *kept = api_kept_memory(r);
    for (int brief = 0; brief < 2; brief++) {
        StrBuf b = strbuf_begin_in_arena(kept);
        JsonWriter w = json_writer_begin(&b);
        put_members(&w, api, g, brief);
        if (b.truncated || b.len > MEMBERS_BYTES_MAX) continue;
        g->members = strbuf_end_in_arena(&b, kept);
        return true;
    }
    return error_set(err, ERR_NO_MEMORY, "no memory to repeat the request in its answer");
}

static bool encode(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice;
    return chat_encode_job(api, r, conversation_from_responses, "input", job, err) &&
           keep_members(api, r, err);
}

// ---- items ----

typedef struct {
    Api *api;
    ApiRequest *r;
    ApiJob *mine;
} Context;

static void put_item_id(JsonWriter *w, const char *key, const ApiRequest *r, const AnswerItem *item) {
    char id[API_REQUEST_ID_BYTES + 16];
    const char *prefix = item->kind == KEPT_CALL ? "fc" : item->kind == KEPT_REASONING ? "rs" : "msg";
    snprintf(id, sizeof id, "%s_%s_%u", prefix, strchr(r->id, '_') + 1, item->index);
    json_member_str(w, key, str_from_c(id));
}

// Of the tokens that the text of an item came with. Marks, and what ended the reasoning, are no part of it.
static void put_logprobs(JsonWriter *w, const Context *c, const AnswerItem *item, bool wanted) {
    KeptPart part;
    const AnswerFormats *formats = &c->api->config.chat->formats;
    json_key(w, "logprobs");
    json_open_array(w);
    for (size_t at = item->begins; wanted && answer_next_of_item(&c->mine->answer, item, &at, &part);) {
        if (part.kind == KEPT_TOKEN && !part.call && !answer_is_mark(formats, part.logprobs.token))
            openai_put_logprobs(w, c->api, &part.logprobs);
    }
    json_close_array(w);
}

// A part of a message's or a reasoning item's content. `item` NULL: it is empty so far.
static void put_content(JsonWriter *w, const Context *c, const AnswerItem *item, bool is_text,
                        bool with_logprobs) {
    const AnswerItem none = {0};
    json_open_object(w);
    json_member_str(w, "type", is_text ? STR("output_text") : STR("reasoning_text"));
    json_key(w, "text");
    if (item) answer_put_item_text(w, &c->mine->answer, item);
    else json_put_str(w, STR(""));
    if (is_text) {
        json_key(w, "annotations");
        json_open_array(w);
        json_close_array(w);
        put_logprobs(w, c, item ? item : &none, with_logprobs && item);
    }
    json_close_object(w);
}

static void put_call(JsonWriter *w, const Context *c, const AnswerItem *item, bool begins) {
    char id[CALL_ID_BYTES];
    openai_make_call_id(c->r, 0, item->call, id);
    json_member_str(w, "call_id", str_from_c(id));
    json_member_str(w, "name", item->name);
    json_key(w, "arguments");
    if (begins) json_put_str(w, STR(""));
    else answer_put_item_text(w, &c->mine->answer, item);
}

// `status` NULL: it begins.
static void put_item(JsonWriter *w, const Context *c, const AnswerItem *item, const char *status,
                     bool with_logprobs) {
    bool is_text = item->kind == KEPT_CONTENT;
    json_open_object(w);
    put_item_id(w, "id", c->r, item);
    if (item->kind == KEPT_CALL) {
        json_member_str(w, "type", STR("function_call"));
        put_call(w, c, item, !status);
    } else {
        json_member_str(w, "type", is_text ? STR("message") : STR("reasoning"));
        if (is_text) {
            json_member_str(w, "role", STR("assistant"));
        } else {
            json_key(w, "summary");
            json_open_array(w);
            json_close_array(w);
        }
        json_key(w, "content");
        json_open_array(w);
        if (status) put_content(w, c, item, is_text, with_logprobs);
        json_close_array(w);
    }
    json_member_str(w, "status", str_from_c(status ? status : "in_progress"));
    json_close_object(w);
}

// `is_cut`: it is the last of an answer that did not end by itself.
static const char *item_status(const ApiAnswer *a, const AnswerItem *item, bool is_cut) {
    if (item->kind == KEPT_CALL) is_cut = !answer_call_is_whole(a, item);
    return is_cut ? "incomplete" : "completed";
}

// ---- the response ----

typedef enum { RESPONSE_BEGINS, RESPONSE_ENDS, RESPONSE_FAILS } ResponseState;

static void put_output(JsonWriter *w, const Context *c, bool is_cut) {
    const ApiAnswer *a = &c->mine->answer;
    AnswerItem item = ANSWER_ITEM_NONE, next = ANSWER_ITEM_NONE;
    bool has_next = answer_next_item(a, &next);
    while (has_next) {
        item = next;
        has_next = answer_next_item(a, &next);
        put_item(w, c, &item, item_status(a, &item, is_cut && !has_next), c->r->fields.generate.logprobs);
    }
}

static void put_usage(JsonWriter *w, const Context *c) {
    ApiFigures f = openai_add_up(c->api, c->r);
    json_key(w, "usage");
    json_open_object(w);
    json_member_u64(w, "input_tokens", f.tokens_in);
    json_key(w, "input_tokens_details");
    json_open_object(w);
    json_member_u64(w, "cached_tokens", f.tokens_cached);
    json_member_u64(w, "cache_write_tokens", 0);
    json_close_object(w);
    json_member_u64(w, "output_tokens", f.tokens_out);
    json_key(w, "output_tokens_details");
    json_open_object(w);
    json_member_u64(w, "reasoning_tokens", f.reasoning);
    json_close_object(w);
    json_member_u64(w, "total_tokens", f.tokens_in + f.tokens_out);
    json_close_object(w);
    openai_put_timings(w, c->api, c->r);
}

static void put_failure(JsonWriter *w, const Error *err) {
    json_key(w, "error");
    json_open_object(w);
    json_member_str(w, "code", STR("server_error")); // of the codes that clients know, the one that fits
    json_member_str(w, "message", str_from_c(err->message));
    json_close_object(w);
}

// `err` where it fails.
static void put_response(JsonWriter *w, const Context *c, ResponseState state, const Error *err) {
    bool is_cut = state == RESPONSE_ENDS && c->mine->answer.reason == STOP_LENGTH;
    json_open_object(w);
    json_member_str(w, "id", str_from_c(c->r->id));
    json_member_str(w, "object", STR("response"));
    json_member_u64(w, "created_at", c->r->accepted_unix_ms / 1000);
    json_member_str(w, "status",
                    state == RESPONSE_BEGINS  ? STR("in_progress")
                    : state == RESPONSE_FAILS ? STR("failed")
                    : is_cut                  ? STR("incomplete")
                                              : STR("completed"));
    if (state == RESPONSE_ENDS && !is_cut)
        json_member_u64(w, "completed_at", c->api->config.bridge->unix_ms() / 1000);
    else json_member_null(w, "completed_at");
    if (err) put_failure(w, err);
    else json_member_null(w, "error");
    json_key(w, "incomplete_details");
    json_put_raw(w, is_cut ? STR("{\"reason\":\"max_output_tokens\"}") : STR("null"));
    json_member_str(w, "model", c->api->config.served_model);
    json_key(w, "output");
    json_open_array(w);
    if (state != RESPONSE_BEGINS) put_output(w, c, is_cut || state == RESPONSE_FAILS);
    json_close_array(w);
    json_put_raw(w, c->r->fields.generate.members);
    if (state == RESPONSE_ENDS) put_usage(w, c);
    else json_member_null(w, "usage");
    json_close_object(w);
}

// ---- streams ----

static JsonWriter begin_event(StrBuf *text, const Context *c, const char *type) {
    *text = api_text(c->api);
    JsonWriter w = sse_event_begin(text, type);
    json_open_object(&w);
    json_member_str(&w, "type", str_from_c(type));
    json_member_u64(&w, "sequence_number", c->mine->answer.n_events++);
    return w;
}

static void send_event(JsonWriter *w, const Context *c) {
    json_close_object(w);
    openai_send(c->r, w->out);
}

// Of an event that says again what was sent in pieces.
static void send_whole(JsonWriter *w, const Context *c) {
    json_close_object(w);
    sse_event_end(w->out);
    (void)http_stream_send_whole(c->r->exchange, strbuf_str(w->out)); // gone: on_closed says so
}

static void send_response(const Context *c, const char *type, ResponseState state, const Error *err) {
    StrBuf text;
    JsonWriter w = begin_event(&text, c, type);
    json_key(&w, "response");
    put_response(&w, c, state, err);
    send_whole(&w, c);
}

// An event of the newest item itself. `status` as for put_item.
static void send_item(const Context *c, const char *type, const AnswerItem *item, const char *status) {
    StrBuf text;
    JsonWriter w = begin_event(&text, c, type);
    json_member_u64(&w, "output_index", item->index);
    json_key(&w, "item");
    put_item(&w, c, item, status, false);
    send_whole(&w, c);
}

// An event of what is in an item.
static JsonWriter begin_inner(StrBuf *text, const Context *c, const char *type, const AnswerItem *item) {
    JsonWriter w = begin_event(text, c, type);
    put_item_id(&w, "item_id", c->r, item);
    json_member_u64(&w, "output_index", item->index);
    if (item->kind != KEPT_CALL) json_member_u64(&w, "content_index", 0);
    return w;
}

// `whole` NULL: it begins.
static void send_content_part(const Context *c, const char *type, const AnswerItem *item,
                              const AnswerItem *whole) {
    StrBuf text;
    JsonWriter w = begin_inner(&text, c, type, item);
    json_key(&w, "part");
    put_content(&w, c, whole, item->kind == KEPT_CONTENT, false);
    send_whole(&w, c);
}

static void send_text_done(const Context *c, const AnswerItem *item) {
    StrBuf text;
    JsonWriter w = begin_inner(&text, c,
                               item->kind == KEPT_CALL        ? "response.function_call_arguments.done"
                               : item->kind == KEPT_REASONING ? "response.reasoning_text.done"
                                                              : "response.output_text.done",
                               item);
    if (item->kind == KEPT_CALL) json_member_str(&w, "name", item->name);
    json_key(&w, item->kind == KEPT_CALL ? "arguments" : "text");
    answer_put_item_text(&w, &c->mine->answer, item);
    if (item->kind == KEPT_CONTENT) put_logprobs(&w, c, item, false); // they came with the deltas
    send_whole(&w, c);
}

static void close_item(const Context *c, bool is_cut) {
    ApiAnswer *a = &c->mine->answer;
    AnswerItem item = {.kind = KEPT_TOKEN, .index = a->item.index - 1, .ends = a->item.begins};
    if (!a->item_is_open) return;
    a->item_is_open = false;
    if (!answer_next_item(a, &item)) return; // nothing of it could be kept
    a->item = item;
    send_text_done(c, &item);
    if (item.kind != KEPT_CALL) send_content_part(c, "response.content_part.done", &item, &item);
    send_item(c, "response.output_item.done", &item, item_status(a, &item, is_cut));
}

static void open_item(const Context *c, const AnswerPart *part) {
    ApiAnswer *a = &c->mine->answer;
    close_item(c, false);
    a->item = (AnswerItem){.kind = (KeptKind)part->kind,
                           .index = a->item.index + 1,
                           .call = part->call,
                           .begins = a->item.ends,
                           .ends = a->item.ends};
    if (part->kind == ANSWER_CALL) a->item.name = part->text;
    a->item_is_open = true;
    send_item(c, "response.output_item.added", &a->item, NULL);
    if (part->kind != ANSWER_CALL) send_content_part(c, "response.content_part.added", &a->item, NULL);
}

static void send_delta(const Context *c, const AnswerPart *part) {
    const ApiAnswer *a = &c->mine->answer;
    StrBuf text;
    JsonWriter w = begin_inner(&text, c,
                               part->kind == ANSWER_CALL_ARGUMENTS ? "response.function_call_arguments.delta"
                               : part->kind == ANSWER_REASONING    ? "response.reasoning_text.delta"
                                                                   : "response.output_text.delta",
                               &a->item);
    AnswerItem untold = {.begins = a->told, .ends = a->size};
    json_member_str(&w, "delta", part->text);
    if (part->kind == ANSWER_CONTENT) put_logprobs(&w, c, &untold, true);
    send_event(&w, c);
}

// Before the part is kept, so that what is kept is what was told.
static void send_part(const Context *c, const AnswerPart *part) {
    ApiAnswer *a = &c->mine->answer;
    if (answer_begins_item(&a->item, (KeptKind)part->kind)) open_item(c, part);
    if (part->kind != ANSWER_CALL && part->kind != ANSWER_CALL_END && a->item_is_open) send_delta(c, part);
}

static void take_part(void *context, const AnswerPart *part) {
    const Context *c = context;
    ApiAnswer *a = &c->mine->answer;
    AnswerPart shown;
    bool stream = c->r->fields.generate.stream;
    if (!chat_shows_part(&c->r->fields.generate, part, &shown)) return;
    if (shown.kind != ANSWER_CALL && shown.kind != ANSWER_CALL_END && shown.text.len == 0) return;
    if (stream) send_part(c, &shown);
    answer_keep(a, (KeptKind)shown.kind, shown.call, shown.text);
    a->told = a->last;
    if (stream && shown.kind == ANSWER_CALL_END) close_item(c, false);
}

static void started(Api *api, ApiRequest *r, ApiJob *mine, const Job *job) {
    (void)job;
    Context c = {api, r, mine};
    chat_begin_answer(api, r, mine, true);
    if (!r->fields.generate.stream) return;
    api_begin_stream(api, r);
    send_response(&c, "response.created", RESPONSE_BEGINS, NULL);
    send_response(&c, "response.in_progress", RESPONSE_BEGINS, NULL);
}

static void token(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    (void)job;
    Context c = {api, r, mine};
    openai_take_token(mine, e, (AnswerSink){take_part, &c});
}

static void done(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    Context c = {api, r, mine};
    openai_take_end(api, mine, job, e, (AnswerSink){take_part, &c});
    if (r->fields.generate.stream) close_item(&c, mine->answer.reason == STOP_LENGTH);
}

static void send_failure(const Context *c, const Error *err) {
    StrBuf text;
    JsonWriter w = begin_event(&text, c, "error");
    json_member_str(&w, "code", str_from_c(error_info(err->code)->name));
    json_member_str(&w, "message", str_from_c(err->message));
    json_member_null(&w, "param");
    send_event(&w, c);
    send_response(c, "response.failed", RESPONSE_FAILS, err);
    (void)http_stream_end(c->r->exchange);
}

static void error(Api *api, ApiRequest *r, const Error *err) {
    if (!r->is_answering) {
        api_reply_request_error(api, r, err);
        return;
    }
    Context c = {api, r, &api->jobs[r->jobs[0]]};
    send_failure(&c, err);
}

// ---- the end ----

static void answer(Api *api, ApiRequest *r) {
    Context c = {api, r, &api->jobs[r->jobs[0]]};
    const char *type = c.mine->answer.reason == STOP_LENGTH ? "response.incomplete" : "response.completed";
    if (!r->fields.generate.stream) {
        StrBuf text = api_text(api);
        JsonWriter w = json_writer_begin(&text);
        put_response(&w, &c, RESPONSE_ENDS, NULL);
        openai_reply(api, r, &text);
        return;
    }
    if (!openai_is_whole(api, r)) {
        Error err;
        error_fill(&err, ERR_INVALID_REQUEST, ERROR_NO_POSITION,
                   "the answer is longer than a response may be (%d MiB)", ANSWER_KEPT_BYTES_MAX >> 20);
        send_failure(&c, &err);
        return;
    }
    send_response(&c, type, RESPONSE_ENDS, NULL);
    (void)http_stream_end(r->exchange); // gone: on_closed says so
}

const ApiDialect api_responses_dialect = {
    .name = "responses",
    .errors = ERRORS_OPENAI,
    .queues = true,
    .has_jobs = true,
    .parse = parse,
    .id_prefix = "resp_",
    .encode = encode,
    .started = started,
    .token = token,
    .done = done,
    .answer = answer,
    .error = error,
};

void api_responses(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &api_responses_dialect);
}
