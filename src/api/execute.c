#include "api/api_internal.h"

#include "http/sse.h"
#include "os/os.h"

#include <stdio.h>

// ---- POST /execute's dialect: events of a stream ----

static bool parse(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    (void)api;
    return execute_request_parse((Str){r->body, r->body_bytes}, nodes_max, &r->limits, &r->arena,
                                 &r->fields.execute, err);
}

static bool encode(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice; // there is one
    const ExecuteRequest *e = &r->fields.execute;
    return execute_request_encode(e, &r->limits, api->config.tokenizer, api_lane(api, r)->scratch, job,
                                  err) &&
           api_hold_answer(api, r, &e->structured, NULL, job, err);
}

static Str job_id(const ApiRequest *r) {
    return r->fields.execute.job_id;
}

static void send(ApiRequest *r, StrBuf *text) {
    sse_event_end(text);
    (void)http_stream_send(r->exchange, strbuf_str(text)); // gone: on_closed says so
}

static void started(Api *api, ApiRequest *r, ApiJob *mine, const Job *job) {
    (void)mine;
    api_begin_stream(api, r);
    char started_at[25];
    os_format_utc(api->config.bridge->unix_ms(), started_at);
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "started");
    json_open_object(&w);
    json_member_str(&w, "job_id", job->id);
    json_member_str(&w, "model", api->config.model);
    json_member_str(&w, "started_at", str_from_c(started_at));
    json_member_u64(&w, "seed", job->sampler.seed);
    json_member_u64(&w, "tokens_in", job->n_tokens);
    json_close_object(&w);
    send(r, &text);
}

static void put_logprob(JsonWriter *w, float value) {
    json_member_f64(w, "logprob", (double)value + 0.0); // -0 becomes 0; -infinity is written as null
}

static void put_logprobs(JsonWriter *w, const TokenLogprobs *l) {
    json_key(w, "logprobs");
    json_open_object(w);
    json_member_u64(w, "id", (uint64_t)l->token);
    put_logprob(w, l->logprob);
    json_key(w, "best");
    json_open_array(w);
    for (uint32_t i = 0; i < l->n_best; i++) {
        json_open_object(w);
        json_member_u64(w, "id", (uint64_t)l->best[i].id);
        put_logprob(w, l->best[i].logprob);
        json_close_object(w);
    }
    json_close_array(w);
    json_close_object(w);
}

static void token(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "token");
    json_open_object(&w);
    json_member_str(&w, "t", (Str){e->token.text, e->token.length});
    json_member_u64(&w, "i", mine->next_index++);
    if (job->returns_tokens) {
        json_key(&w, "ids");
        json_open_array(&w);
        if (e->token.id != TOKEN_INVALID) json_put_u64(&w, (uint64_t)e->token.id);
        json_close_array(&w);
    }
    if (e->token.has_logprobs) put_logprobs(&w, &e->token.logprobs);
    json_close_object(&w);
    send(r, &text);
}

static uint64_t whole_ms(uint64_t ns) {
    return (ns + 500000) / 1000000;
}

static void metrics(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    (void)mine;
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "metrics");
    json_open_object(&w);
    json_member_str(&w, "job_id", job->id);
    json_member_u64(&w, "tokens_out", e->tokens_out);
    json_member_u64(&w, "decode_time_ms", whole_ms(e->decode_ns));
    json_member_u64(&w, "vram_bytes", backend_vram_bytes(&api->config.bridge->status.info));
    json_close_object(&w);
    send(r, &text);
}

static void done(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    (void)mine;
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "end");
    json_open_object(&w);
    json_member_u64(&w, "tokens_out", e->tokens_out);
    json_member_u64(&w, "decode_time_ms", whole_ms(e->decode_ns));
    json_member_u64(&w, "tokens_in", job->n_tokens);
    json_member_u64(&w, "tokens_cached", e->tokens_cached);
    json_member_u64(&w, "prefill_time_ms", whole_ms(e->prefill_ns));
    json_member_str(&w, "stop_reason", str_from_c(stop_reason_name(e->end.reason)));
    if (job->returns_tokens && e->end.token != TOKEN_INVALID)
        json_member_u64(&w, "stop_token", (uint64_t)e->end.token);
    json_member_u64(&w, "seed", job->sampler.seed);
    json_close_object(&w);
    send(r, &text);
    (void)http_stream_end(r->exchange);
}

// Before the stream began the answer is a JSON error with its own status.
static void error(Api *api, ApiRequest *r, const Error *err) {
    if (!r->is_answering) {
        api_reply_request_error(api, r, err);
        return;
    }
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "error");
    json_open_object(&w);
    api_put_error(&w, err, str_from_c(r->correlation_id));
    json_close_object(&w);
    send(r, &text);
    (void)http_stream_end(r->exchange);
}

static const ApiDialect execute_dialect = {
    .name = "execute",
    .errors = ERRORS_OWN,
    .has_jobs = true,
    .parse = parse,
    .encode = encode,
    .job_id = job_id,
    .started = started,
    .token = token,
    .metrics = metrics,
    .done = done,
    .error = error,
};

void api_execute(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &execute_dialect);
}

// ---- POST /cancel ----

// All choices of a request have its name.
static void cancel_request_of(Api *api, const Job *job) {
    const ApiRequest *r = &api->requests[api->jobs[bridge_job_index(api->config.bridge, job)].request];
    uint32_t jobs[REQUEST_JOBS_MAX], n = r->n_jobs;
    memcpy(jobs, r->jobs, sizeof jobs);
    for (uint32_t i = 0; i < n; i++)
        api_cancel_job(api, &api->config.bridge->jobs[jobs[i]], CANCEL_REQUESTED);
}

void api_cancel(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    Error err;
    Arena arena = api->json_arena;
    const JsonNode *root =
        json_parse(request->body, &arena, &(JsonLimits){.nodes_max = CANCEL_BODY_BYTES_MAX}, &err);
    Str id;
    if (!root) {
        (void)error_prefix(&err, "the body");
        api_reply_error(api, exchange, &err);
        return;
    }
    if (!json_read_str(json_get(root, STR("job_id")), &id) || id.len == 0 || id.len > JOB_ID_BYTES_MAX) {
        error_fill(&err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "job_id: must be a string of 1 to %d bytes",
                   JOB_ID_BYTES_MAX);
        snprintf(err.field, sizeof err.field, "job_id");
        api_reply_error(api, exchange, &err);
        return;
    }
    Job *job = api_find_job(api, id);
    bool found = job != NULL;
    if (job) cancel_request_of(api, job);
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "job_id", id);
    json_member_str(&w, "status", found ? STR("cancelling") : STR("not_found"));
    json_close_object(&w);
    api_reply(api, exchange, 202, "application/json", strbuf_str(&text));
}
