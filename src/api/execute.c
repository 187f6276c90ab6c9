#include "api/api_internal.h"

#include <stdio.h>

static Job *find_job(Api *api, Str id) {
    for (uint32_t i = 0; i < api->config.bridge->n_jobs; i++) {
        Job *job = &api->config.bridge->jobs[i];
        if (job->taken && str_eq(job->id, id)) return job;
    }
    return NULL;
}

static bool refuse_while_starting(WorkerStatus *status, Error *err) {
    switch ((StartStep)atomic_load(&status->start_step)) {
    case START_LOADING: break;
    case START_WARM_UP:
        return error_set(err, ERR_NOT_READY, "the model is loaded and computes a first token");
    case START_CALLBACK:
        return error_set(err, ERR_NOT_READY, "the model is loaded; --callback-url is being told so");
    }
    return error_set(err, ERR_NOT_READY, "the model is being loaded: %u%% of its weights are there",
                     atomic_load_explicit(&status->load_permille, memory_order_relaxed) / 10);
}

// Whether jobs are taken at all.
static bool check_ready(Api *api, Error *err) {
    if (api->drain_reason) return error_set(err, ERR_NOT_READY, "the worker is shutting down");
    WorkerStatus *status = &api->config.bridge->status;
    switch (bridge_phase(api->config.bridge)) {
    case WORKER_STARTING: return refuse_while_starting(status, err);
    case WORKER_READY: return true;
    case WORKER_FAILED: *err = status->error; return false;
    case WORKER_STOPPED: break;
    }
    return error_set(err, ERR_NOT_READY, "the worker has stopped");
}

// Unix seconds of some time from 2001 to 5138; the same number of milliseconds ends in 1973.
static bool looks_like_seconds(double unix_time) {
    return unix_time >= 1e9 && unix_time < 1e11;
}

static bool refuse_deadline(Str text, Error *err) {
    double number;
    bool in_seconds = str_parse_f64(text, &number) && looks_like_seconds(number);
    error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION,
               "X-Deadline: must be a time in milliseconds since 1970, digits only%s",
               in_seconds ? "; this looks like seconds" : "");
    snprintf(err->field, sizeof err->field, "X-Deadline");
    return false;
}

// When the job must be over: X-Deadline is in Unix milliseconds.
static bool read_deadline(Api *api, const HttpRequest *request, uint64_t *expires_ns, Error *err) {
    const Bridge *bridge = api->config.bridge;
    uint64_t now_ns = bridge->now_ns(), now_ms = bridge->unix_ms(), deadline_ms;
    *expires_ns = now_ns + api->config.inference_timeout_sec * 1000000000ull;
    const Str *header = http_request_header(request, STR("X-Deadline"));
    if (!header) return true;
    if (!str_parse_u64(*header, &deadline_ms)) return refuse_deadline(*header, err);
    if (deadline_ms <= now_ms) {
        const char *hint = looks_like_seconds((double)deadline_ms)
                               ? "; it is in milliseconds since 1970, and this looks like seconds"
                               : "";
        return error_set(err, ERR_INFERENCE_TIMEOUT, "X-Deadline: it was over %llu ms ago%s",
                         (unsigned long long)(now_ms - deadline_ms), hint);
    }
    uint64_t left_ms = min_u64(deadline_ms - now_ms, 1000000000); // far ones must not overflow
    *expires_ns = min_u64(*expires_ns, now_ns + left_ms * 1000000);
    return true;
}

// A request into a job that is ready for the engine, or an error. Of several things that stand in its way the
// one that the client can do least about by waiting is told: not ready, then what is wrong with the request,
// and only then that all slots are taken. (What takes the tokenizer is looked at last, for it takes a job's
// memory.)
static bool accept_job(Api *api, const HttpRequest *request, ExecuteRequest *fields, Job **out, Error *err) {
    Bridge *bridge = api->config.bridge;
    uint64_t accepted_ns = bridge->now_ns(), expires_ns;
    if (!check_ready(api, err) || !read_deadline(api, request, &expires_ns, err)) return false;
    uint64_t context = bridge->status.context_length;
    ExecuteLimits limits = {
        .max_tokens_in = api->config.max_tokens_in ? api->config.max_tokens_in : context,
        .max_tokens_out = api->config.max_tokens_out,
        .vocab_size = tokenizer_vocab_size(api->config.tokenizer),
        .context_length = context,
    };
    Arena arena = api->json_arena;
    if (!execute_request_parse(request->body, &limits, &arena, fields, err)) return false;
    if (find_job(api, fields->job_id)) {
        error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "job_id: a job with this id is running");
        snprintf(err->field, sizeof err->field, "job_id");
        return false;
    }
    Job *job = bridge_take_job(bridge);
    if (!job && bridge->n_jobs == 1) return error_set(err, ERR_BUSY, "the only job slot is taken");
    if (!job) return error_set(err, ERR_BUSY, "all %u job slots are taken", bridge->n_jobs);
    if (!execute_request_encode(fields, &limits, api->config.tokenizer, api->scratch, job, err)) {
        bridge_free_job(bridge, job);
        return false;
    }
    job->accepted_ns = accepted_ns;
    job->expires_ns = expires_ns;
    *out = job;
    return true;
}

// Counts and logs a request for a job that became none, and answers it. `job_id` as far as it is known.
static void reject_job(Api *api, HttpExchange exchange, Str job_id, const Error *err) {
    if (job_id.len > JOB_ID_BYTES_MAX) job_id.len = 0; // it is what is wrong, and as long as a body
    api->metrics.requests[err->code == ERR_INFERENCE_TIMEOUT ? OUTCOME_TIMEOUT : OUTCOME_REJECTED]++;
    log_event(api->config.log, LOG_EXECUTE_REJECTED, LOG_STR("job_id", job_id),
              LOG_STR("correlation_id", str_from_c(api->correlation_id)),
              LOG_STR("code", str_from_c(error_info(err->code)->name)),
              LOG_STR("field", str_from_c(err->field)), LOG_STR("message", str_from_c(err->message)));
    api_reply_error(api, exchange, err);
}

void api_execute(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    Error err;
    Job *job;
    ExecuteRequest fields = {0};
    if (!accept_job(api, request, &fields, &job, &err)) {
        reject_job(api, exchange, fields.job_id, &err);
        return;
    }
    uint32_t index = bridge_job_index(api->config.bridge, job);
    ApiJob *mine = &api->jobs[index];
    *mine = (ApiJob){.exchange = exchange};
    memcpy(mine->correlation_id, api->correlation_id, sizeof mine->correlation_id);
    api->metrics.tokens_in += job->n_tokens;
    http_exchange_set_tag(exchange, index + 1);
    bridge_submit(api->config.bridge, job);
}

void api_job_closed(Api *api, HttpExchange exchange, uint32_t index) {
    // The entry may have ended, and been given to another request, before the news came.
    if (api->jobs[index].exchange.generation != exchange.generation) return;
    Job *job = &api->config.bridge->jobs[index];
    api->jobs[index].exchange = (HttpExchange){0};
    bridge_cancel(api->config.bridge, job, CANCEL_GONE);
}

void api_cancel(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    Error err;
    Arena arena = api->json_arena;
    const JsonNode *root =
        json_parse(request->body, &arena, &(JsonLimits){.nodes_max = JSON_NODES_MAX}, &err);
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
    Job *job = find_job(api, id);
    if (job) bridge_cancel(api->config.bridge, job, CANCEL_REQUESTED);
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "job_id", id);
    json_member_str(&w, "status", job ? STR("cancelling") : STR("not_found"));
    json_close_object(&w);
    api_reply(api, exchange, 202, "application/json", strbuf_str(&text));
}
