#include "api/openai.h"

#include <math.h>

static double ms_from_ns(uint64_t ns) {
    return (double)ns / 1e6;
}

// Tokens after the first, over the time they took.
static double tokens_per_second(const JobEvent *e) {
    return e->tokens_out > 1 && e->decode_ns ? (double)(e->tokens_out - 1) * 1e9 / (double)e->decode_ns : 0;
}

static void log_start(const Api *api, const ApiRequest *r, const ApiJob *mine, const Job *job) {
    log_event(api->config.log, LOG_EXECUTE_START, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", str_from_c(r->correlation_id)),
              LOG_STR("api", str_from_c(r->dialect->name)), LOG_U64("tokens_in", job->n_tokens),
              LOG_F64("queued_ms", ms_from_ns(api_queued_ns(api, mine)), 3),
              LOG_U64("max_tokens", job->max_tokens), LOG_U64("prompt_bytes", job->prompt_bytes),
              LOG_STR("prompt_sha256", str_from_c(job->prompt_sha256)));
}

static void log_set_aside(const Api *api, const ApiRequest *r, const Job *job, const JobEvent *e) {
    log_event(api->config.log, LOG_EXECUTE_SET_ASIDE, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", str_from_c(r->correlation_id)), LOG_U64("tokens_in", job->n_tokens),
              LOG_U64("tokens_out", e->tokens_out));
}

static void log_end(const Api *api, const ApiRequest *r, const ApiJob *mine, const Job *job,
                    const JobEvent *e) {
    Str reason = str_from_c(stop_reason_name(e->end.reason));
    log_event(api->config.log, LOG_EXECUTE_END, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", str_from_c(r->correlation_id)), LOG_U64("tokens_in", job->n_tokens),
              LOG_U64("tokens_out", e->tokens_out), LOG_F64("prefill_time_ms", ms_from_ns(e->prefill_ns), 3),
              LOG_F64("decode_time_ms", ms_from_ns(e->decode_ns), 3),
              LOG_F64("first_token_ms", mine->first_token_ms, 3), LOG_STR("stop_reason", reason),
              LOG_U64("tokens_cached", e->tokens_cached),
              LOG_STR("cache_miss", str_from_c(cache_miss_name(e->cache_miss))),
              LOG_F64("tokens_per_second", tokens_per_second(e), 1));
}

static void log_error(const Api *api, const ApiRequest *r, const Job *job, const Error *err,
                      uint32_t tokens_out) {
    log_event(api->config.log, LOG_JOB_ERROR, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", str_from_c(r->correlation_id)),
              LOG_STR("code", str_from_c(error_info(err->code)->name)), LOG_U64("tokens_out", tokens_out),
              LOG_STR("message", str_from_c(err->message)));
}

static Outcome outcome_of(ErrCode code) {
    switch (code) {
    case ERR_NONE: return OUTCOME_SUCCESS;
    case ERR_CANCELLED: return OUTCOME_CANCELLED;
    case ERR_INFERENCE_TIMEOUT: return OUTCOME_TIMEOUT;
    default: return OUTCOME_ERROR;
    }
}

// After the terminal event.
static void count_job(Api *api, const Job *job, ErrCode code, uint32_t tokens_out) {
    api->metrics.requests[outcome_of(code)]++;
    api->metrics.tokens_generated += tokens_out;
    metrics_observe(&api->metrics, HISTOGRAM_INFERENCE,
                    ms_from_ns(api->config.bridge->now_ns() - job->accepted_ns));
}

// The client is told of one error, and wants nothing else then. The jobs end when the queue or the engine
// thread sees it.
static void fail_request(Api *api, ApiRequest *r, const Error *err) {
    uint32_t jobs[REQUEST_JOBS_MAX], n = r->n_jobs;
    if (r->has_failed) return;
    r->has_failed = true;
    r->dialect->error(api, r, err);
    memcpy(jobs, r->jobs, sizeof jobs);
    for (uint32_t i = 0; i < n; i++)
        api_cancel_job(api, &api->config.bridge->jobs[jobs[i]], CANCEL_TOGETHER);
}

void api_fail_job(Api *api, Job *job, const Error *err, uint32_t tokens_out) {
    ApiJob *mine = &api->jobs[bridge_job_index(api->config.bridge, job)];
    ApiRequest *r = &api->requests[mine->request];
    api->jobs_waiting -= mine->state == API_JOB_WAITS;
    mine->state = API_JOB_OVER; // before others of its request end, and their slots are given away
    log_error(api, r, job, err, tokens_out);
    fail_request(api, r, err);
    count_job(api, job, err->code, tokens_out);
    api_close_job(api, job);
}

// A whole answer that has become longer than can be kept is told at once.
static void check_length(Api *api, ApiRequest *r, const ApiJob *mine) {
    Error err;
    if (r->has_failed || !r->dialect->queues || r->fields.generate.stream || !mine->answer.is_full) return;
    openai_refuse_long(&err);
    fail_request(api, r, &err);
}

static void observe_times(Api *api, ApiJob *mine, const Job *job, const JobEvent *e) {
    if (e->prefill_ns && !mine->prefill_ns) {
        mine->prefill_ns = e->prefill_ns;
        // The time of this event, which may be later than the first token when that gave no text yet.
        mine->first_token_ms = ms_from_ns(e->at_ns - e->decode_ns - job->accepted_ns);
        metrics_observe(&api->metrics, HISTOGRAM_FIRST_TOKEN, mine->first_token_ms);
        api->metrics.prompt_hits += e->tokens_cached;
        api->metrics.prompt_misses += job->n_tokens - e->tokens_cached;
    }
    if (e->kind != EVENT_TOKEN) return;
    if (mine->last_token_ns)
        metrics_observe(&api->metrics, HISTOGRAM_INTER_TOKEN, ms_from_ns(e->at_ns - mine->last_token_ns));
    mine->last_token_ns = e->at_ns;
}

static void take_event(Api *api, const JobEvent *e) {
    Job *job = &api->config.bridge->jobs[e->job];
    ApiJob *mine = &api->jobs[e->job];
    ApiRequest *r = &api->requests[mine->request];
    if (e->kind != EVENT_SET_ASIDE) observe_times(api, mine, job, e); // no token came with that one
    switch (e->kind) {
    case EVENT_STARTED:
        api->metrics.tokens_in += job->n_tokens;
        if (r->dialect->started && !r->has_failed) r->dialect->started(api, r, mine, job);
        log_start(api, r, mine, job);
        return;
    case EVENT_TOKEN:
        if (!r->has_failed) r->dialect->token(api, r, mine, job, e);
        check_length(api, r, mine);
        return;
    case EVENT_METRICS:
        if (r->dialect->metrics && !r->has_failed) r->dialect->metrics(api, r, mine, job, e);
        return;
    case EVENT_SET_ASIDE:
        api->metrics.jobs_set_aside++;
        log_set_aside(api, r, job, e);
        return;
    case EVENT_END:
        if (!r->has_failed) r->dialect->done(api, r, mine, job, e);
        log_end(api, r, mine, job, e);
        count_job(api, job, ERR_NONE, e->tokens_out);
        api_close_job(api, job);
        return;
    case EVENT_ERROR: {
        Error err;
        bool ends = atomic_load(&job->cancel) == CANCEL_SHUTDOWN;
        // Not the client's doing; and those of these APIs ask elsewhere then.
        ErrCode code = ends && r->dialect->queues ? ERR_NOT_READY : e->error.code;
        error_fill(&err, code, ERROR_NO_POSITION, "%s", e->error.message);
        memcpy(err.field, e->error.field, sizeof err.field);
        api_fail_job(api, job, &err, e->tokens_out);
        return;
    }
    }
}

void api_take_events(Api *api) {
    // Those that are here now: what they are written to is sent before the next ones are looked at.
    Ring *events = &api->config.bridge->events;
    for (uint32_t n = ring_count(events); n > 0; n--) {
        take_event(api, ring_front(events));
        ring_drop(events);
    }
}

void api_fail_jobs(Api *api, const Error *err) {
    for (uint32_t i = 0; i < api->config.bridge->n_jobs; i++) {
        Job *job = &api->config.bridge->jobs[i];
        ApiJobState state = api->jobs[i].state;
        bool is_there = state == API_JOB_WAITS || state == API_JOB_RUNS;
        if (job->taken && is_there) api_fail_job(api, job, err, 0);
    }
}
