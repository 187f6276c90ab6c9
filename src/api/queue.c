// The waiting room: jobs whose text is encoded, and for which there is no slot yet. Those whose request came
// first go first; the choices of one request in their order.
#include "api/api_internal.h"

static ApiJob *mine_of(Api *api, const Job *job) {
    return &api->jobs[bridge_job_index(api->config.bridge, job)];
}

static const ApiRequest *request_of(const Api *api, const ApiJob *mine) {
    return &api->requests[mine->request];
}

uint64_t api_queued_ns(const Api *api, const ApiJob *mine) {
    return request_of(api, mine)->waited_ns + (mine->submitted_ns - mine->encoded_ns);
}

uint32_t api_slots_free(const Api *api) {
    uint32_t n_slots = api->config.bridge->n_slots, wanted = api->slots_taken + api->jobs_waiting;
    return wanted < n_slots ? n_slots - wanted : 0;
}

static void submit(Api *api, Job *job) {
    ApiJob *mine = mine_of(api, job);
    api->jobs_waiting -= mine->state == API_JOB_WAITS;
    api->slots_taken += !mine->has_slot;
    mine->has_slot = true;
    mine->state = API_JOB_RUNS;
    mine->submitted_ns = api->config.bridge->now_ns();
    metrics_observe(&api->metrics, HISTOGRAM_QUEUE, (double)api_queued_ns(api, mine) / 1e6);
    bridge_submit(api->config.bridge, job);
}

static bool is_before(const Api *api, const ApiJob *a, const ApiJob *b) {
    uint64_t x = request_of(api, a)->ticket, y = request_of(api, b)->ticket;
    return x != y ? x < y : a->choice < b->choice;
}

// Why a job that waits is over.
static bool is_over(const Api *api, const Job *job, Error *err) {
    switch ((CancelReason)atomic_load(&job->cancel)) {
    case CANCEL_REQUESTED: return !error_set(err, ERR_CANCELLED, "the job was cancelled");
    case CANCEL_GONE: return !error_set(err, ERR_CANCELLED, "the client disconnected");
    case CANCEL_SHUTDOWN: return !error_set(err, ERR_NOT_READY, "the worker is shutting down");
    case CANCEL_TOGETHER:
        return !error_set(err, ERR_CANCELLED, "another answer of the same request has failed");
    case CANCEL_NONE: break;
    }
    uint64_t now_ns = api->config.bridge->now_ns();
    if (now_ns < job->expires_ns) return false;
    return !error_set(err, ERR_INFERENCE_TIMEOUT, "the job's time was over after %.1f s in the queue",
                      (double)(now_ns - job->accepted_ns) / 1e9);
}

static void log_queued(const Api *api, const ApiJob *mine, const Job *job) {
    log_event(api->config.log, LOG_EXECUTE_QUEUED, LOG_STR("job_id", job->id),
              LOG_STR("correlation_id", str_from_c(request_of(api, mine)->correlation_id)),
              LOG_U64("position", api->jobs_waiting), LOG_U64("tokens_in", job->n_tokens));
}

void api_queue_job(Api *api, Job *job) {
    Error err;
    ApiJob *mine = mine_of(api, job);
    mine->encoded_ns = api->config.bridge->now_ns();
    if (mine->has_slot) { // the scheduler looks whether it is over
        submit(api, job);
        return;
    }
    bool has_to_wait = api_slots_free(api) == 0;
    mine->state = API_JOB_WAITS;
    api->jobs_waiting++;
    if (is_over(api, job, &err)) api_fail_job(api, job, &err, 0);
    else if (has_to_wait) log_queued(api, mine, job);
}

void api_fill_slots(Api *api) {
    Bridge *bridge = api->config.bridge;
    while (api->jobs_waiting && api->slots_taken < bridge->n_slots) {
        Job *first = NULL;
        for (uint32_t i = 0; i < bridge->n_jobs; i++) {
            Job *job = &bridge->jobs[i];
            if (!job->taken || api->jobs[i].state != API_JOB_WAITS) continue;
            if (!first || is_before(api, &api->jobs[i], mine_of(api, first))) first = job;
        }
        submit(api, first);
    }
}

void api_cancel_job(Api *api, Job *job, CancelReason reason) {
    Error err;
    ApiJob *mine = mine_of(api, job);
    if (!job->taken || mine->state == API_JOB_OVER) return;
    bridge_cancel(api->config.bridge, job, reason);
    if (mine->state == API_JOB_WAITS && is_over(api, job, &err)) api_fail_job(api, job, &err, 0);
}

void api_expire_waiting(Api *api) {
    Bridge *bridge = api->config.bridge;
    Error err;
    for (uint32_t i = 0; api->jobs_waiting && i < bridge->n_jobs; i++) {
        Job *job = &bridge->jobs[i];
        if (job->taken && api->jobs[i].state == API_JOB_WAITS && is_over(api, job, &err))
            api_fail_job(api, job, &err, 0);
    }
}
