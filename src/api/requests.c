#include "api/api_internal.h"

#include "os/os.h"

#include <assert.h>
#include <stdio.h>

// A small body, its JSON, and what the fields make of it (ids, biases).
enum {
    SMALL_NODES_MAX = REQUEST_SMALL_BODY_BYTES, // more than it can have
    SMALL_MEMORY_BYTES = REQUEST_SMALL_BODY_BYTES + SMALL_NODES_MAX * (int)sizeof(JsonNode) +
                         REQUEST_SMALL_BODY_BYTES * 2 + LOGIT_BIAS_MAX * (int)sizeof(LogitBias) + 4096,
    LARGE_MEMORY_BYTES = HTTP_BODY_BYTES_MAX + REQUEST_LARGE_JSON_NODES_MAX * (int)sizeof(JsonNode) +
                         REQUEST_LARGE_JSON_NODES_MAX * 4 + LOGIT_BIAS_MAX * (int)sizeof(LogitBias) + 4096,
};

Job *api_find_job(Api *api, Str id) {
    for (uint32_t i = 0; i < api->config.bridge->n_jobs; i++) {
        Job *job = &api->config.bridge->jobs[i];
        if (job->taken && str_eq(job->id, id)) return job;
    }
    return NULL;
}

// ---- whether jobs are taken ----

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

// ---- the life of a request ----

static uint32_t request_index(const Api *api, const ApiRequest *r) {
    return (uint32_t)(r - api->requests);
}

static ApiRequest *take_request(Api *api) {
    for (uint32_t i = 0; i < api->n_requests; i++) {
        ApiRequest *r = &api->requests[i];
        if (r->state != REQUEST_FREE) continue;
        *r = (ApiRequest){.memory = r->memory, .arena = r->memory, .large = -1};
        return r;
    }
    return NULL;
}

static void release_large(Api *api, ApiRequest *r) {
    if (r->large < 0) return;
    encoder_push(&api->encoder, (uint32_t)r->large, ENCODER_CLEAR);
    r->large = -1;
}

void api_release_request(Api *api, ApiRequest *r) {
    release_large(api, r);
    r->exchange = (HttpExchange){0};
    r->state = REQUEST_FREE;
}

// Counts and logs a request for a job that became none, and answers it.
static void reject(Api *api, ApiRequest *r, const Error *err) {
    Str job_id = r->dialect->job_id(&r->fields);       // as far as it is known
    if (job_id.len > JOB_ID_BYTES_MAX) job_id.len = 0; // it is what is wrong, and as long as a body
    Outcome outcome = err->code == ERR_INFERENCE_TIMEOUT ? OUTCOME_TIMEOUT
                      : err->code == ERR_CANCELLED       ? OUTCOME_CANCELLED
                                                         : OUTCOME_REJECTED;
    api->metrics.requests[outcome]++;
    log_event(api->config.log, LOG_EXECUTE_REJECTED, LOG_STR("job_id", job_id),
              LOG_STR("correlation_id", str_from_c(r->correlation_id)),
              LOG_STR("code", str_from_c(error_info(err->code)->name)),
              LOG_STR("field", str_from_c(err->field)), LOG_STR("message", str_from_c(err->message)));
    r->dialect->error(api, r, err);
    api_release_request(api, r);
}

// Takes the slots of a request whose fields are right.
static bool take_jobs(Api *api, ApiRequest *r, Error *err) {
    Bridge *bridge = api->config.bridge;
    Str id = r->dialect->job_id(&r->fields);
    if (api_find_job(api, id)) return field_refuse(err, "job_id", "a job with this id is running");
    Job *job = bridge_take_job(bridge);
    if (!job && bridge->n_jobs == 1) return error_set(err, ERR_BUSY, "the only job slot is taken");
    if (!job) return error_set(err, ERR_BUSY, "all %u job slots are taken", bridge->n_jobs);
    job->id = arena_copy_str(&job->arena, id);
    job->accepted_ns = r->accepted_ns;
    job->expires_ns = r->expires_ns;
    if (!job->id.ptr) {
        bridge_free_job(bridge, job);
        return error_set(err, ERR_NO_MEMORY, "no memory for the job's id");
    }
    uint32_t index = bridge_job_index(bridge, job);
    api->jobs[index] = (ApiJob){.request = request_index(api, r)};
    r->jobs[0] = index;
    r->n_jobs = r->jobs_open = 1;
    return true;
}

// The fields are here, or what is wrong with them. Of several things that stand in a request's way the one
// that the client can do least about by waiting is told: not ready, then what is wrong with the request, and
// only then that all slots are taken. (What takes the tokenizer is looked at last, for it takes a job's
// memory.) Of a large body some time has passed.
static void take_fields(Api *api, ApiRequest *r, bool ok) {
    Error err = r->error;
    if (!http_exchange_is_open(r->exchange)) ok = error_set(&err, ERR_CANCELLED, "the client disconnected");
    ok = ok && check_ready(api, &err);
    if (ok && api->config.bridge->now_ns() >= r->expires_ns)
        ok = error_set(&err, ERR_INFERENCE_TIMEOUT, "the job's time was over before its body was read");
    if (!ok || !take_jobs(api, r, &err)) {
        reject(api, r, &err);
        return;
    }
    r->state = REQUEST_ENCODES;
    encoder_push(&api->encoder, request_index(api, r), ENCODER_ENCODE);
}

// ---- bodies ----

static bool parse(ApiRequest *r, uint32_t nodes_max) {
    Str body = {r->body, r->body_bytes};
    return r->dialect->parse(body, nodes_max, &r->limits, &r->arena, &r->fields, &r->error);
}

static void accept_small(Api *api, ApiRequest *r, Str body) {
    Arena at;
    bool ok = arena_split(&r->arena, body.len, &at);
    if (ok && body.len) memcpy(at.next, body.ptr, body.len);
    r->body = (char *)at.next;
    r->body_bytes = body.len;
    ok = ok ? parse(r, SMALL_NODES_MAX)
            : error_set(&r->error, ERR_NO_MEMORY, "no memory for a body of %zu bytes", body.len);
    take_fields(api, r, ok);
}

static RequestLimits request_limits(const Api *api) {
    uint64_t context = api->config.bridge->status.context_length;
    return (RequestLimits){
        .max_tokens_in = api->config.max_tokens_in ? api->config.max_tokens_in : context,
        .max_tokens_out = api->config.max_tokens_out,
        .vocab_size = tokenizer_vocab_size(api->config.tokenizer),
        .context_length = context,
        .max_prompt_chars = api->config.max_prompt_chars,
    };
}

void api_accept(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiDialect *dialect) {
    Error err;
    ApiRequest none = {.large = -1}, *r = take_request(api);
    bool has_place = r != NULL;
    if (!r) r = &none;
    r->dialect = dialect;
    r->exchange = exchange;
    r->accepted_ns = api->config.bridge->now_ns();
    memcpy(r->correlation_id, api->correlation_id, sizeof r->correlation_id);
    bool ok = check_ready(api, &err) && read_deadline(api, request, &r->expires_ns, &err);
    if (ok && !has_place) ok = error_set(&err, ERR_BUSY, "too many requests are being read");
    if (!ok) {
        reject(api, r, &err);
        return;
    }
    http_exchange_set_tag(exchange, request_index(api, r) + 1);
    r->limits = request_limits(api);
    if (request->body.len <= REQUEST_SMALL_BODY_BYTES) {
        accept_small(api, r, request->body);
        return;
    }
    r->body_bytes = request->body.len;
    r->state = REQUEST_WAITS;
    api_advance_requests(api);
}

static void begin_copy(Api *api, ApiRequest *r) {
    for (int i = 0; i < REQUEST_LARGE_BODIES_MAX && r->large < 0; i++) {
        if (!api->large_taken[i]) r->large = i;
    }
    if (r->large < 0) return;
    Arena body;
    api->large_taken[r->large] = true;
    r->arena = api->large[r->large];
    bool fits = arena_split(&r->arena, r->body_bytes, &body);
    assert(fits);
    (void)fits;
    r->body = (char *)body.next;
    r->state = REQUEST_COPIES;
}

// Copies at most `*budget` bytes, and takes what it copied off it.
static void go_on_copying(Api *api, ApiRequest *r, size_t *budget) {
    const HttpRequest *request = http_exchange_request(r->exchange);
    if (!request) return; // on_closed follows
    assert(request->body.len == r->body_bytes);
    size_t size = (size_t)min_u64(*budget, r->body_bytes - r->body_copied);
    memcpy(r->body + r->body_copied, request->body.ptr + r->body_copied, size);
    r->body_copied += size;
    *budget -= size;
    if (r->body_copied < r->body_bytes) return;
    r->state = REQUEST_PARSES;
    encoder_push(&api->encoder, request_index(api, r), ENCODER_PARSE);
}

// ---- the encoder thread's part ----

static bool encode(Api *api, ApiRequest *r) {
    Bridge *bridge = api->config.bridge;
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        Job *job = &bridge->jobs[r->jobs[i]];
        // Nobody waits for it any more, which the scheduler will find, too.
        bool is_over = atomic_load(&job->cancel) != CANCEL_NONE || bridge->now_ns() >= job->expires_ns;
        if (is_over) continue;
        if (!r->dialect->encode(&r->fields, i, &r->limits, api->config.tokenizer, api->scratch, job,
                                &r->error))
            return false;
    }
    if (r->large >= 0) os_discard(api->scratch.next, arena_left(&api->scratch));
    return true;
}

static bool run_encoder_work(void *context, const EncoderEntry *entry) {
    Api *api = context;
    if (entry->work == ENCODER_CLEAR) {
        Arena *memory = &api->large[entry->request];
        os_discard(memory->next, arena_left(memory));
        return true;
    }
    ApiRequest *r = &api->requests[entry->request];
    return entry->work == ENCODER_PARSE ? parse(r, REQUEST_LARGE_JSON_NODES_MAX) : encode(api, r);
}

static void wake_io_thread(void *context) {
    Bridge *bridge = ((Api *)context)->config.bridge;
    bridge->wake_io(bridge->wake_context);
}

static void *encoder_thread(void *context) {
    encoder_run(&((Api *)context)->encoder);
    return NULL;
}

bool api_start_encoder(Api *api, Error *err) {
    return os_thread_start(&api->encoder_thread, "encoder", encoder_thread, api, err);
}

void api_stop_encoder(Api *api) {
    encoder_stop(&api->encoder);
    os_thread_join(&api->encoder_thread);
}

bool api_encoder_turn(Api *api) {
    return encoder_turn(&api->encoder);
}

// ---- what comes back ----

static void take_encoded(Api *api, ApiRequest *r, bool ok) {
    Bridge *bridge = api->config.bridge;
    release_large(api, r);
    Error err = r->error;
    if (ok && bridge_phase(bridge) == WORKER_FAILED) {
        err = bridge->status.error;
        ok = false;
    }
    if (ok) {
        r->state = REQUEST_RUNS;
        for (uint32_t i = 0; i < r->n_jobs; i++)
            bridge_submit(bridge, &bridge->jobs[r->jobs[i]]);
        return;
    }
    for (uint32_t i = 0; i < r->n_jobs; i++)
        bridge_free_job(bridge, &bridge->jobs[r->jobs[i]]);
    reject(api, r, &err);
}

void api_advance_requests(Api *api) {
    EncoderEntry entry;
    // As many as there can be at once, so that a fast encoder cannot keep the I/O thread here.
    for (uint32_t i = 0; i < ENCODER_RING_ENTRIES && encoder_pop(&api->encoder, &entry); i++) {
        if (entry.work == ENCODER_CLEAR) api->large_taken[entry.request] = false;
        else if (entry.work == ENCODER_PARSE) take_fields(api, &api->requests[entry.request], entry.ok);
        else take_encoded(api, &api->requests[entry.request], entry.ok);
    }
    size_t budget = REQUEST_COPY_BYTES;
    for (uint32_t i = 0; i < api->n_requests; i++) {
        ApiRequest *r = &api->requests[i];
        if (r->state == REQUEST_WAITS) begin_copy(api, r);
        if (r->state == REQUEST_COPIES && budget) go_on_copying(api, r, &budget);
    }
    if (budget == 0) wake_io_thread(api); // the next turn goes on, after others' events
}

void api_request_closed(Api *api, HttpExchange exchange, uint32_t index) {
    ApiRequest *r = &api->requests[index];
    // The entry may have ended, and been given to another request, before the news came.
    if (r->state == REQUEST_FREE || r->exchange.generation != exchange.generation) return;
    r->exchange = (HttpExchange){0};
    if (r->state == REQUEST_WAITS || r->state == REQUEST_COPIES) {
        Error err;
        error_fill(&err, ERR_CANCELLED, ERROR_NO_POSITION, "the client disconnected");
        reject(api, r, &err);
        return;
    }
    for (uint32_t i = 0; i < r->n_jobs; i++)
        bridge_cancel(api->config.bridge, &api->config.bridge->jobs[r->jobs[i]], CANCEL_GONE);
}

uint64_t api_job_arena_bytes(uint64_t context_length) {
    return execute_job_arena_bytes(context_length);
}

bool api_requests_create(Api *api, Arena *arena) {
    const ApiConfig *c = &api->config;
    uint64_t prompt_bytes =
        c->max_prompt_chars ? min_u64(c->max_prompt_chars * 4ull, HTTP_BODY_BYTES_MAX) : HTTP_BODY_BYTES_MAX;
    api->n_requests = c->bridge->n_jobs + REQUESTS_PENDING_MAX;
    api->requests = arena_new(arena, ApiRequest, api->n_requests);
    api->encoder = (Encoder){.run = run_encoder_work, .wake_io = wake_io_thread, .context = api};
    bool ok = api->requests && encoder_init(&api->encoder, arena);
    for (uint32_t i = 0; ok && i < api->n_requests; i++) { // most of these is never touched
        api->requests[i].memory = os_arena(SMALL_MEMORY_BYTES);
        ok = api->requests[i].memory.next != NULL;
    }
    for (uint32_t i = 0; ok && i < REQUEST_LARGE_BODIES_MAX; i++) {
        api->large[i] = os_arena(LARGE_MEMORY_BYTES);
        ok = api->large[i].next != NULL;
    }
    api->scratch = os_arena(execute_scratch_bytes(c->tokenizer, prompt_bytes));
    return ok && api->scratch.next != NULL;
}
