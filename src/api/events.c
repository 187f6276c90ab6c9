#include "api/api_internal.h"

#include "http/sse.h"
#include "os/os.h"

#include <math.h>
#include <stdio.h>

static double ms_from_ns(uint64_t ns) {
    return (double)ns / 1e6;
}

static uint64_t whole_ms(uint64_t ns) {
    return (ns + 500000) / 1000000;
}

static Str correlation_id(const ApiJob *mine) {
    return str_from_c(mine->correlation_id);
}

static void send(ApiJob *mine, StrBuf *text) {
    sse_event_end(text);
    (void)http_stream_send(mine->exchange, strbuf_str(text)); // gone: on_closed says so
}

static void send_started(Api *api, const Job *job, ApiJob *mine) {
    HttpHeader headers[API_HEADERS_MAX];
    mine->streaming = true;
    (void)http_stream_begin(mine->exchange, headers, api_common_headers(api, correlation_id(mine), headers));
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
    send(mine, &text);
    log_event(api->config.log, LOG_EXECUTE_START, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", correlation_id(mine)), LOG_U64("tokens_in", job->n_tokens),
              LOG_U64("max_tokens", job->max_tokens), LOG_U64("prompt_bytes", job->prompt_bytes),
              LOG_STR("prompt_sha256", str_from_c(job->prompt_sha256)));
}

static void send_token(Api *api, ApiJob *mine, const JobEvent *e) {
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "token");
    json_open_object(&w);
    json_member_str(&w, "t", (Str){e->token.text, e->token.length});
    json_member_u64(&w, "i", mine->next_index++);
    json_close_object(&w);
    send(mine, &text);
    if (mine->last_token_ns) {
        metrics_observe(&api->metrics, HISTOGRAM_INTER_TOKEN, ms_from_ns(e->at_ns - mine->last_token_ns));
    }
    mine->last_token_ns = e->at_ns;
}

static void send_metrics(Api *api, const Job *job, ApiJob *mine, const JobEvent *e) {
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "metrics");
    json_open_object(&w);
    json_member_str(&w, "job_id", job->id);
    json_member_u64(&w, "tokens_out", e->tokens_out);
    json_member_u64(&w, "decode_time_ms", whole_ms(e->decode_ns));
    json_member_u64(&w, "vram_bytes", backend_vram_bytes(&api->config.bridge->status.info));
    json_close_object(&w);
    send(mine, &text);
}

// Tokens after the first, over the time they took.
static double tokens_per_second(const JobEvent *e) {
    return e->tokens_out > 1 && e->decode_ns ? (double)(e->tokens_out - 1) * 1e9 / (double)e->decode_ns : 0;
}

static void send_end(Api *api, const Job *job, ApiJob *mine, const JobEvent *e) {
    Str reason = str_from_c(stop_reason_name(e->stop_reason));
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "end");
    json_open_object(&w);
    json_member_u64(&w, "tokens_out", e->tokens_out);
    json_member_u64(&w, "decode_time_ms", whole_ms(e->decode_ns));
    json_member_u64(&w, "tokens_in", job->n_tokens);
    json_member_u64(&w, "prefill_time_ms", whole_ms(e->prefill_ns));
    json_member_str(&w, "stop_reason", reason);
    json_member_u64(&w, "seed", job->sampler.seed);
    json_close_object(&w);
    send(mine, &text);
    (void)http_stream_end(mine->exchange);
    log_event(api->config.log, LOG_EXECUTE_END, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", correlation_id(mine)), LOG_U64("tokens_in", job->n_tokens),
              LOG_U64("tokens_out", e->tokens_out), LOG_F64("prefill_time_ms", ms_from_ns(e->prefill_ns), 3),
              LOG_F64("decode_time_ms", ms_from_ns(e->decode_ns), 3),
              LOG_F64("first_token_ms", mine->first_token_ms, 3), LOG_STR("stop_reason", reason),
              LOG_F64("tokens_per_second", tokens_per_second(e), 1));
}

// Before the stream began the answer is a JSON error with its own status.
static void send_error(Api *api, const Job *job, ApiJob *mine, const Error *err, uint32_t tokens_out) {
    const ErrorInfo *info = error_info(err->code);
    log_event(api->config.log, LOG_JOB_ERROR, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", correlation_id(mine)), LOG_STR("code", str_from_c(info->name)),
              LOG_U64("tokens_out", tokens_out), LOG_STR("message", str_from_c(err->message)));
    if (!mine->streaming) {
        memcpy(api->correlation_id, mine->correlation_id, sizeof api->correlation_id);
        api_reply_error(api, mine->exchange, err);
        return;
    }
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, "error");
    json_open_object(&w);
    api_put_error(&w, err, correlation_id(mine));
    json_close_object(&w);
    send(mine, &text);
    (void)http_stream_end(mine->exchange);
}

static Outcome outcome_of(ErrCode code) {
    switch (code) {
    case ERR_NONE: return OUTCOME_SUCCESS;
    case ERR_CANCELLED: return OUTCOME_CANCELLED;
    case ERR_INFERENCE_TIMEOUT: return OUTCOME_TIMEOUT;
    default: return OUTCOME_ERROR;
    }
}

// After the terminal event: the job's slot is free again.
static void close_job(Api *api, Job *job, ErrCode code, uint32_t tokens_out) {
    ApiJob *mine = &api->jobs[bridge_job_index(api->config.bridge, job)];
    api->metrics.requests[outcome_of(code)]++;
    api->metrics.tokens_generated += tokens_out;
    metrics_observe(&api->metrics, HISTOGRAM_INFERENCE,
                    ms_from_ns(api->config.bridge->now_ns() - job->accepted_ns));
    mine->exchange = (HttpExchange){0};
    bridge_free_job(api->config.bridge, job);
}

static void take_event(Api *api, const JobEvent *e) {
    Job *job = &api->config.bridge->jobs[e->job];
    ApiJob *mine = &api->jobs[e->job];
    if (e->prefill_ns && !mine->prefill_ns) {
        mine->prefill_ns = e->prefill_ns;
        // The time of this event, which may be later than the first token when that gave no text yet.
        mine->first_token_ms = ms_from_ns(e->at_ns - e->decode_ns - job->accepted_ns);
        metrics_observe(&api->metrics, HISTOGRAM_FIRST_TOKEN, mine->first_token_ms);
    }
    switch (e->kind) {
    case EVENT_STARTED: send_started(api, job, mine); return;
    case EVENT_TOKEN: send_token(api, mine, e); return;
    case EVENT_METRICS: send_metrics(api, job, mine, e); return;
    case EVENT_END:
        send_end(api, job, mine, e);
        close_job(api, job, ERR_NONE, e->tokens_out);
        return;
    case EVENT_ERROR: {
        Error err;
        error_fill(&err, e->error.code, ERROR_NO_POSITION, "%s", e->error.message);
        send_error(api, job, mine, &err, e->tokens_out);
        close_job(api, job, e->error.code, e->tokens_out);
        return;
    }
    }
}

void api_take_events(Api *api) {
    // As many as there can be at once, so that a fast engine cannot keep the I/O thread here.
    for (uint32_t i = 0; i < EVENT_RING_ENTRIES && ring_pop(&api->config.bridge->events, &api->event); i++) {
        take_event(api, &api->event);
    }
}

void api_fail_jobs(Api *api, const Error *err) {
    for (uint32_t i = 0; i < api->config.bridge->n_jobs; i++) {
        Job *job = &api->config.bridge->jobs[i];
        if (!job->taken) continue;
        send_error(api, job, &api->jobs[i], err, 0);
        close_job(api, job, err->code, 0);
    }
}
