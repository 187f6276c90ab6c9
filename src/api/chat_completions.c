// POST /v1/chat/completions, as the OpenAI API has it.
#include "api/openai.h"

#include "api/chat_prompt.h"
#include "api/job_fill.h"
#include "http/sse.h"

#include <stdio.h>

// ---- requests ----

static const FieldRule rules[] = {
    GENERATE_RULES,
    {"max_completion_tokens", FIELD_I64, GENERATE_AT(max_completion_tokens), .least = -1,
     .most = FIELD_I64_MOST, .not_zero = true},
    {"logprobs", FIELD_BOOL, GENERATE_AT(logprobs)},
    {"top_logprobs", FIELD_U64, GENERATE_AT(n_logprobs), GENERATE_GIVEN(has_n_logprobs),
     .most = LOGPROBS_MAX},
    {"tools", FIELD_NODE, GENERATE_AT(tools)},
    {"tool_choice", FIELD_NODE, GENERATE_AT(tool_choice)},
};
const FieldTable chat_completions_fields = {rules, COUNT_OF(rules), .null_is_absent = true};

static const RefusalRule refused[] = {
    {"functions", 0, NULL, "use tools"},
    {"function_call", 0, "none", "use tool_choice"},
    {"audio", 0, NULL, "the model writes text"},
    {"web_search_options", 0, NULL, NULL},
    {"verbosity", 0, "medium", "say so in a message"},
    {"chat_template", 0, NULL, "the template is chosen when the worker starts (--chat-template)"},
    {"add_special_tokens", 0, NULL, "the template writes them"},
    {"echo", 0, NULL, "use continue_final_message"},
};

static bool check_modalities(const JsonNode *root, Error *err) {
    const JsonNode *list = json_get(root, STR("modalities"));
    for (const JsonNode *e = json_is(list, JSON_ARRAY) ? json_first(list) : NULL; e && e != json_end(list);
         e = json_next(e)) {
        Str text;
        if (!json_read_str(e, &text) || !str_eq(text, STR("text")))
            return field_refuse(err, "modalities", "the model writes text alone");
    }
    return true;
}

static bool parse(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    const JsonNode *root = fields_parse_body((Str){r->body, r->body_bytes}, nodes_max, &r->arena, err);
    if (!root || !fields_read(&chat_completions_fields, root, &r->limits, &r->arena, g, err) ||
        !generate_refuse(generate_refused, n_generate_refused, root, err) ||
        !structured_read(g->structured_fields, &g->structured, err) ||
        !generate_refuse(refused, COUNT_OF(refused), root, err) || !openai_check_model(api, g, err) ||
        !openai_read_stream_options(root, g, err) || !check_modalities(root, err) ||
        !chat_read_calls(root, g, err))
        return false;
    if (g->has_n_logprobs && g->n_logprobs && !g->logprobs)
        return field_refuse(err, "top_logprobs", "goes with logprobs: true");
    if (!json_is(json_get(root, STR("messages")), JSON_ARRAY))
        return field_refuse_type(err, "messages", "an array of messages", json_get(root, STR("messages")));
    g->root = root;
    return true;
}

static uint32_t n_jobs(const ApiRequest *r) {
    return r->fields.generate.n ? (uint32_t)r->fields.generate.n : 1;
}

static bool encode(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    if (choice) return job_copy(job, &api->config.bridge->jobs[r->jobs[0]], choice, err);
    return chat_encode_job(api, r, conversation_from_chat, "messages", job, err);
}

// ---- streams ----

typedef struct {
    Api *api;
    ApiRequest *r;
    ApiJob *mine;
    const TokenLogprobs *logprobs; // of this token, until a chunk has them
} Context;

static void put_logprobs(JsonWriter *w, Context *c) {
    json_key(w, "logprobs");
    if (!c->logprobs) {
        json_put_null(w);
        return;
    }
    json_open_object(w);
    json_key(w, "content");
    json_open_array(w);
    openai_put_logprobs(w, c->api, c->logprobs);
    json_close_array(w);
    json_member_null(w, "refusal");
    json_close_object(w);
    c->logprobs = NULL;
}

static void begin_chunk(JsonWriter *w, const Context *c) {
    json_open_object(w);
    openai_put_head(w, c->api, c->r, "chat.completion.chunk");
    json_key(w, "choices");
    json_open_array(w);
    json_open_object(w);
    json_member_u64(w, "index", c->mine->choice);
    json_key(w, "delta");
    json_open_object(w);
}

static void send_chunk(JsonWriter *w, Context *c, bool is_last) {
    json_close_object(w);
    put_logprobs(w, c);
    if (is_last) openai_put_finish(w, c->r, &c->mine->answer);
    else json_member_null(w, "finish_reason");
    json_close_object(w);
    json_close_array(w);
    if (c->r->fields.generate.include_usage) json_member_null(w, "usage");
    json_close_object(w);
    openai_send(c->r, w->out);
}

static void put_call_delta(JsonWriter *w, const Context *c, const AnswerPart *part) {
    char id[CALL_ID_BYTES];
    bool begins = part->kind == ANSWER_CALL;
    json_key(w, "tool_calls");
    json_open_array(w);
    json_open_object(w);
    json_member_u64(w, "index", part->call);
    if (begins) {
        openai_make_call_id(c->r, c->mine->choice, part->call, id);
        json_member_str(w, "id", str_from_c(id));
        json_member_str(w, "type", STR("function"));
    }
    json_key(w, "function");
    json_open_object(w);
    if (begins) json_member_str(w, "name", part->text);
    json_member_str(w, "arguments", begins ? STR("") : part->text);
    json_close_object(w);
    json_close_object(w);
    json_close_array(w);
}

static void send_part(Context *c, const AnswerPart *part) {
    StrBuf text = api_text(c->api);
    JsonWriter w = sse_event_begin(&text, NULL);
    begin_chunk(&w, c);
    switch (part->kind) {
    case ANSWER_CONTENT: json_member_str(&w, "content", part->text); break;
    case ANSWER_REASONING: json_member_str(&w, "reasoning_content", part->text); break;
    case ANSWER_CALL:
    case ANSWER_CALL_ARGUMENTS: put_call_delta(&w, c, part); break;
    case ANSWER_CALL_END: return; // what follows says so
    }
    send_chunk(&w, c, false);
}

static void take_part(void *context, const AnswerPart *part) {
    Context *c = context;
    AnswerPart shown;
    if (!chat_shows_part(&c->r->fields.generate, part, &shown)) return;
    chat_keep_part(&c->r->fields.generate, &c->mine->answer, &shown);
    if (c->r->fields.generate.stream) send_part(c, &shown);
}

static void started(Api *api, ApiRequest *r, ApiJob *mine, const Job *job) {
    (void)job;
    Context c = {api, r, mine, NULL};
    chat_begin_answer(api, r, mine, !r->fields.generate.stream);
    if (!r->fields.generate.stream) return;
    api_begin_stream(api, r);
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, NULL);
    begin_chunk(&w, &c);
    json_member_str(&w, "role", STR("assistant"));
    json_member_str(&w, "content", STR(""));
    send_chunk(&w, &c, false);
}

static void token(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    (void)job;
    Context c = {api, r, mine, e->token.has_logprobs ? &e->token.logprobs : NULL};
    openai_take_token(mine, e, (AnswerSink){take_part, &c});
    if (c.logprobs && r->fields.generate.stream) // no text goes with this token yet
        send_part(&c, &(AnswerPart){.kind = ANSWER_CONTENT});
}

static void done(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    Context c = {api, r, mine, NULL};
    openai_take_end(api, mine, job, e, (AnswerSink){take_part, &c});
    if (!r->fields.generate.stream) return;
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, NULL);
    begin_chunk(&w, &c);
    send_chunk(&w, &c, true);
}

// ---- whole answers ----

static void put_text(JsonWriter *w, const ApiAnswer *a, KeptKind kind) {
    KeptPart part;
    json_open_str(w);
    for (size_t at = 0; answer_next(a, &at, &part);) {
        if (part.kind == kind) json_add_to_str(w, part.text);
    }
    json_close_str(w);
}

static void put_calls(JsonWriter *w, const ApiRequest *r, const ApiJob *mine) {
    const ApiAnswer *a = &mine->answer;
    KeptPart part;
    char id[CALL_ID_BYTES];
    bool is_open = false;
    json_key(w, "tool_calls");
    json_open_array(w);
    for (size_t at = 0; answer_next(a, &at, &part);) {
        if (part.kind == KEPT_CALL) {
            openai_make_call_id(r, mine->choice, part.call, id);
            json_open_object(w);
            json_member_str(w, "id", str_from_c(id));
            json_member_str(w, "type", STR("function"));
            json_key(w, "function");
            json_open_object(w);
            json_member_str(w, "name", part.text);
            json_key(w, "arguments");
            json_open_str(w);
            is_open = true;
        } else if (part.kind == KEPT_CALL_ARGUMENTS && is_open) {
            json_add_to_str(w, part.text);
        } else if (part.kind == KEPT_CALL_END && is_open) {
            json_close_str(w);
            json_close_object(w);
            json_close_object(w);
            is_open = false;
        }
    }
    if (is_open) { // its text was cut
        json_close_str(w);
        json_close_object(w);
        json_close_object(w);
    }
    json_close_array(w);
}

static void put_all_logprobs(JsonWriter *w, const Api *api, const ApiAnswer *a, bool wanted) {
    KeptPart part;
    json_key(w, "logprobs");
    if (!wanted) {
        json_put_null(w);
        return;
    }
    json_open_object(w);
    json_key(w, "content");
    json_open_array(w);
    for (size_t at = 0; answer_next(a, &at, &part);) {
        if (part.kind == KEPT_TOKEN) openai_put_logprobs(w, api, &part.logprobs);
    }
    json_close_array(w);
    json_member_null(w, "refusal");
    json_close_object(w);
}

static void put_choice(JsonWriter *w, const Api *api, const ApiRequest *r, const ApiJob *mine) {
    const ApiAnswer *a = &mine->answer;
    bool calls = answer_has(a, KEPT_CALL);
    json_open_object(w);
    json_member_u64(w, "index", mine->choice);
    json_key(w, "message");
    json_open_object(w);
    json_member_str(w, "role", STR("assistant"));
    json_key(w, "content");
    if (calls && !answer_has(a, KEPT_CONTENT)) json_put_null(w);
    else put_text(w, a, KEPT_CONTENT);
    json_member_null(w, "refusal");
    if (answer_has(a, KEPT_REASONING)) {
        json_key(w, "reasoning_content");
        put_text(w, a, KEPT_REASONING);
    }
    if (calls) put_calls(w, r, mine);
    json_close_object(w);
    put_all_logprobs(w, api, a, r->fields.generate.logprobs);
    openai_put_finish(w, r, a);
    json_close_object(w);
}

static void answer(Api *api, ApiRequest *r) {
    openai_answer(api, r, "chat.completion", "chat.completion.chunk", put_choice);
}

const ApiDialect api_chat_dialect = {
    .name = "chat.completions",
    .errors = ERRORS_OPENAI,
    .queues = true,
    .has_jobs = true,
    .parse = parse,
    .n_jobs = n_jobs,
    .id_prefix = "chatcmpl-",
    .encode = encode,
    .started = started,
    .token = token,
    .done = done,
    .answer = answer,
    .error = openai_error,
};

void api_chat_completions(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &api_chat_dialect);
}
