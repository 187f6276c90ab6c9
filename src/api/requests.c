#include "api/api_internal.h"

#include "base/hash.h"
#include "os/os.h"

#include <assert.h>
#include <stdio.h>

// A small body, its JSON, what the fields make of it (ids, biases), and an answer that is made before it is
// sent.
enum {
    SMALL_NODES_MAX = REQUEST_SMALL_BODY_BYTES, // more than it can have
    SMALL_MEMORY_BYTES = REQUEST_SMALL_BODY_BYTES + SMALL_NODES_MAX * (int)sizeof(JsonNode) +
                         REQUEST_SMALL_BODY_BYTES * 2 + LOGIT_BIAS_MAX * (int)sizeof(LogitBias) + 4096 +
                         LOOK_SMALL_REPLY_BYTES,
    RENDERED_KEPT_BYTES = 16 * 1024 * 1024, // of a template's memory, from one request to the next
    LARGE_MEMORY_BYTES = HTTP_BODY_BYTES_MAX + REQUEST_LARGE_JSON_NODES_MAX * (int)sizeof(JsonNode) +
                         REQUEST_LARGE_JSON_NODES_MAX * 4 + LOGIT_BIAS_MAX * (int)sizeof(LogitBias) + 4096 +
                         HTTP_OUTPUT_BYTES_MAX,
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
        *r = (ApiRequest){.memory = r->memory, .arena = r->memory, .kept = r->memory, .large = -1};
        return r;
    }
    return NULL;
}

EncoderLane *api_lane(Api *api, const ApiRequest *r) {
    return &api->lanes[r->large >= 0 ? LANE_LARGE : LANE_SMALL];
}

void api_push_encoder(Api *api, ApiRequest *r, LaneId lane, EncoderWork work) {
    r->pushed_ns = api->config.bridge->now_ns();
    encoder_push(&api->lanes[lane].encoder, request_index(api, r), work);
}

static LaneId lane_of(const ApiRequest *r) {
    return r->large >= 0 ? LANE_LARGE : LANE_SMALL;
}

static void release_large(Api *api, ApiRequest *r) {
    if (r->large < 0) return;
    encoder_push(&api->lanes[LANE_LARGE].encoder, (uint32_t)r->large, ENCODER_CLEAR);
    r->large = -1;
}

void api_release_request(Api *api, ApiRequest *r) {
    release_large(api, r);
    api_release_grammar(api, r);
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        answer_release(&api->jobs[r->jobs[i]].answer);
        bridge_free_job(api->config.bridge, &api->config.bridge->jobs[r->jobs[i]]);
    }
    r->n_jobs = 0;
    r->exchange = (HttpExchange){0};
    r->state = REQUEST_FREE;
}

// What the client, or this program, calls the answer.
static Str request_name(const ApiRequest *r) {
    return r->dialect->job_id ? r->dialect->job_id(r) : str_from_c(r->id);
}

// Templates and conversations speak of what stands in messages, which is for the client alone.
static Str logged_message(const ApiRequest *r, const Error *err) {
    bool may_quote = r->dialect->errors != ERRORS_OWN && err->code == ERR_INVALID_REQUEST;
    return may_quote ? STR("its content is wrong; the client was told how") : str_from_c(err->message);
}

// Counts and logs a request for a job that became none, and answers it.
static void reject(Api *api, ApiRequest *r, const Error *err) {
    Str job_id = request_name(r);                      // as far as it is known
    if (job_id.len > JOB_ID_BYTES_MAX) job_id.len = 0; // it is what is wrong, and as long as a body
    Outcome outcome = err->code == ERR_INFERENCE_TIMEOUT ? OUTCOME_TIMEOUT
                      : err->code == ERR_CANCELLED       ? OUTCOME_CANCELLED
                                                         : OUTCOME_REJECTED;
    if (r->dialect->has_jobs) api->metrics.requests[outcome]++;
    log_event(api->config.log, LOG_EXECUTE_REJECTED, LOG_STR("job_id", job_id),
              LOG_STR("correlation_id", str_from_c(r->correlation_id)),
              LOG_STR("api", str_from_c(r->dialect->name)),
              LOG_STR("code", str_from_c(error_info(err->code)->name)),
              LOG_STR("field", str_from_c(err->field)), LOG_STR("message", logged_message(r, err)));
    Error shown = *err;
    StrBuf message = STRBUF(shown.message);
    strbuf_printf(&message, "%s%s", err->message, r->found);
    r->dialect->error(api, r, &shown);
    api_release_request(api, r);
}

// ---- jobs ----

static bool refuse_busy(const Api *api, const ApiRequest *r, uint32_t n, Error *err) {
    const Bridge *bridge = api->config.bridge;
    uint32_t n_slots = bridge->n_slots, n_waiting = bridge->n_jobs - n_slots;
    if (r->dialect->queues && n > bridge->n_jobs) {
        char message[128];
        snprintf(message, sizeof message, "%u answers at once are more than this worker holds (%u)", n,
                 bridge->n_jobs);
        return field_refuse(err, r->fields.generate.n > 1 ? "n" : "prompt", message);
    }
    if (r->dialect->queues && n_waiting)
        return error_set(err, ERR_BUSY,
                         "%u job%s and %u wait%s, which are all that may (--max-jobs, --max-queued)", n_slots,
                         n_slots == 1 ? " runs" : "s run", n_waiting, n_waiting == 1 ? "s" : "");
    if (n_slots == 1) return error_set(err, ERR_BUSY, "the only job slot is taken");
    return error_set(err, ERR_BUSY, "all %u job slots are taken", n_slots);
}

static bool take_job(Api *api, ApiRequest *r, uint32_t choice, bool has_slot, Error *err) {
    Bridge *bridge = api->config.bridge;
    Job *job = bridge_take_job(bridge);
    uint32_t index = bridge_job_index(bridge, job);
    ApiAnswer answer = api->jobs[index].answer;
    api->jobs[index] =
        (ApiJob){.request = request_index(api, r), .choice = choice, .has_slot = has_slot, .answer = answer};
    api->slots_taken += has_slot;
    r->jobs[r->n_jobs++] = index;
    r->jobs_open++;
    job->id = arena_copy_str(&job->arena, request_name(r));
    job->accepted_ns = r->accepted_ns;
    job->expires_ns = r->expires_ns;
    return job->id.ptr || error_set(err, ERR_NO_MEMORY, "no memory for the job's id");
}

// Takes the entries of a request whose fields are right, and where it may not wait, its slot.
static bool take_jobs(Api *api, ApiRequest *r, Error *err) {
    Bridge *bridge = api->config.bridge;
    const ApiDialect *dialect = r->dialect;
    uint32_t n = dialect->n_jobs ? dialect->n_jobs(r) : 1;
    if (dialect->job_id && api_find_job(api, dialect->job_id(r)))
        return field_refuse(err, "job_id", "a job with this id is running");
    bool fits =
        n <= bridge->n_jobs - bridge_jobs_taken(bridge) && (dialect->queues || n <= api_slots_free(api));
    if (!fits) return refuse_busy(api, r, n, err);
    for (uint32_t i = 0; i < n; i++) {
        if (!take_job(api, r, i, !dialect->queues, err)) return false;
    }
    return true;
}

static void give_up_jobs(Api *api, ApiRequest *r) {
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        ApiJob *mine = &api->jobs[r->jobs[i]];
        api->slots_taken -= mine->has_slot;
        mine->has_slot = false;
    }
}

void api_close_job(Api *api, Job *job) {
    ApiJob *mine = &api->jobs[bridge_job_index(api->config.bridge, job)];
    ApiRequest *r = &api->requests[mine->request];
    api->slots_taken -= mine->has_slot;
    mine->has_slot = false;
    mine->state = API_JOB_OVER;
    if (--r->jobs_open == 0) {
        if (!r->has_failed && r->dialect->answer) r->dialect->answer(api, r);
        api_release_request(api, r);
    }
    api_fill_slots(api);
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
    ok = ok && (!r->dialect->has_jobs || take_jobs(api, r, &err));
    if (!ok) {
        give_up_jobs(api, r);
        reject(api, r, &err);
        return;
    }
    r->state = REQUEST_ENCODES;
    api_push_encoder(api, r, lane_of(r), ENCODER_ENCODE);
}

// ---- bodies ----

// Notes the value of a wrong type while the body is at hand. Always false.
static bool show_found(ApiRequest *r) {
    StrBuf found = STRBUF(r->found);
    field_show_found((Str){r->body, r->body_bytes}, &r->error, &found);
    return false;
}

static bool parse(const Api *api, ApiRequest *r, uint32_t nodes_max) {
    return r->dialect->parse(api, r, nodes_max, &r->error) || show_found(r);
}

static void accept_small(Api *api, ApiRequest *r, Str body) {
    Arena at;
    bool ok = arena_split(&r->arena, body.len, &at);
    if (ok && body.len) memcpy(at.next, body.ptr, body.len);
    r->body = (char *)at.next;
    r->body_bytes = body.len;
    ok = ok ? parse(api, r, SMALL_NODES_MAX)
            : error_set(&r->error, ERR_NO_MEMORY, "no memory for a body of %zu bytes", body.len);
    take_fields(api, r, ok);
}

RequestLimits api_request_limits(const Api *api) {
    uint64_t context = api_context_length(api);
    return (RequestLimits){
        .max_tokens_in = api->config.max_tokens_in ? api->config.max_tokens_in : context,
        .max_tokens_out = api->config.max_tokens_out,
        .vocab_size = tokenizer_vocab_size(api->config.tokenizer),
        .context_length = context,
        .max_prompt_chars = api->config.max_prompt_chars,
    };
}

static void make_id(ApiRequest *r) {
    uint8_t random[12];
    char digits[2 * sizeof random + 1];
    if (!r->dialect->id_prefix) return;
    os_random(random, sizeof random);
    hex_from_bytes(random, sizeof random, digits);
    snprintf(r->id, sizeof r->id, "%s%s", r->dialect->id_prefix, digits);
}

void api_accept(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiDialect *dialect) {
    Error err;
    ApiRequest none = {.large = -1}, *r = take_request(api);
    bool has_place = r != NULL;
    if (!r) r = &none;
    r->dialect = dialect;
    r->exchange = exchange;
    r->accepted_ns = api->config.bridge->now_ns();
    r->accepted_unix_ms = api->config.bridge->unix_ms();
    r->ticket = api->tickets++;
    make_id(r);
    memcpy(r->correlation_id, api->correlation_id, sizeof r->correlation_id);
    bool ok = check_ready(api, &err) && read_deadline(api, request, &r->expires_ns, &err);
    if (ok && !has_place) ok = error_set(&err, ERR_BUSY, "too many requests are being read");
    if (!ok) {
        reject(api, r, &err);
        return;
    }
    http_exchange_set_tag(exchange, request_index(api, r) + 1);
    r->limits = api_request_limits(api);
    if (request->body.len <= REQUEST_SMALL_BODY_BYTES) {
        accept_small(api, r, request->body);
        return;
    }
    r->body_bytes = request->body.len;
    r->state = REQUEST_WAITS;
    api->bodies_to_copy++;
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
    api->bodies_to_copy--;
    r->state = REQUEST_PARSES;
    api_push_encoder(api, r, lane_of(r), ENCODER_PARSE);
}

// ---- the encoder thread's part ----

static bool encode_jobs(Api *api, ApiRequest *r) {
    Bridge *bridge = api->config.bridge;
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        Job *job = &bridge->jobs[r->jobs[i]];
        // Nobody waits for it any more, which the queue or the scheduler will find, too.
        bool is_over = atomic_load(&job->cancel) != CANCEL_NONE || bridge->now_ns() >= job->expires_ns;
        if (is_over) return true; // and so are the others
        if (!r->dialect->encode(api, r, i, job, &r->error)) return false;
    }
    return true;
}

static bool encode(Api *api, ApiRequest *r) {
    bool ok = r->dialect->has_jobs ? encode_jobs(api, r) : r->dialect->encode(api, r, 0, NULL, &r->error);
    ok = ok || show_found(r);
    EncoderLane *lane = api_lane(api, r);
    if (lane == &api->lanes[LANE_SMALL] && lane->rendered < RENDERED_KEPT_BYTES) return ok;
    os_discard(lane->scratch.next, arena_left(&lane->scratch));
    os_discard(lane->rendering.next, arena_left(&lane->rendering));
    lane->rendered = 0;
    return ok;
}

static bool run_encoder_work(void *context, const EncoderEntry *entry) {
    Api *api = context;
    if (entry->work == ENCODER_CLEAR) {
        Arena *memory = &api->large[entry->request];
        os_discard(memory->next, arena_left(memory));
        return true;
    }
    ApiRequest *r = &api->requests[entry->request];
    r->waited_ns += api->config.bridge->now_ns() - r->pushed_ns;
    switch (entry->work) {
    case ENCODER_PARSE: return parse(api, r, REQUEST_LARGE_JSON_NODES_MAX);
    case ENCODER_COMPILE: return api_compile_held(api, r, r->is_slow);
    default: return encode(api, r);
    }
}

static void wake_io_thread(void *context) {
    Bridge *bridge = ((Api *)context)->config.bridge;
    bridge->wake_io(bridge->wake_context);
}

static void *encoder_thread(void *context) {
    encoder_run(context);
    return NULL;
}

bool api_start_encoder(Api *api, Error *err) {
    static const char *const names[LANE_COUNT] = {"encoder", "large encoder", "grammars", "slow grammars"};
    for (int i = 0; i < LANE_COUNT; i++) {
        EncoderLane *lane = &api->lanes[i];
        if (!os_thread_start(&lane->thread, names[i], encoder_thread, &lane->encoder, err)) return false;
    }
    return true;
}

void api_stop_encoder(Api *api) {
    for (int i = 0; i < LANE_COUNT; i++)
        encoder_stop(&api->lanes[i].encoder);
    for (int i = 0; i < LANE_COUNT; i++)
        os_thread_join(&api->lanes[i].thread);
}

bool api_encoder_turn(Api *api) {
    bool worked = false;
    for (int i = 0; i < LANE_COUNT; i++)
        worked |= encoder_turn(&api->lanes[i].encoder);
    return worked;
}

// ---- what comes back ----

void api_take_encoded(Api *api, ApiRequest *r, bool ok) {
    Bridge *bridge = api->config.bridge;
    Error err = r->error;
    if (ok && r->held_to && !r->held) {
        api_take_grammar(api, r);
        return;
    }
    if (ok && bridge_phase(bridge) == WORKER_FAILED) {
        err = bridge->status.error;
        ok = false;
    }
    if (!ok) {
        give_up_jobs(api, r);
        reject(api, r, &err);
        api_fill_slots(api);
        return;
    }
    if (!r->dialect->has_jobs) {
        r->dialect->answer(api, r);
        api_release_request(api, r);
        return;
    }
    release_large(api, r);
    r->state = REQUEST_RUNS;
    for (uint32_t i = 0, n = r->n_jobs; i < n; i++)
        api_queue_job(api, &bridge->jobs[r->jobs[i]]);
    api_fill_slots(api);
}

// As many as there can be at once, so that a fast encoder cannot keep the I/O thread here.
static void take_finished(Api *api, Encoder *encoder) {
    EncoderEntry entry;
    for (uint32_t i = 0; i < ENCODER_RING_ENTRIES && encoder_pop(encoder, &entry); i++) {
        if (entry.work == ENCODER_CLEAR) api->large_taken[entry.request] = false;
        else if (entry.work == ENCODER_PARSE) take_fields(api, &api->requests[entry.request], entry.ok);
        else if (entry.work == ENCODER_COMPILE)
            api_take_compiled(api, &api->requests[entry.request], entry.ok);
        else api_take_encoded(api, &api->requests[entry.request], entry.ok);
    }
}

void api_advance_requests(Api *api) {
    for (int i = 0; i < LANE_COUNT; i++)
        take_finished(api, &api->lanes[i].encoder);
    size_t budget = REQUEST_COPY_BYTES;
    for (uint32_t i = 0; api->bodies_to_copy && i < api->n_requests; i++) {
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
        api->bodies_to_copy--;
        error_fill(&err, ERR_CANCELLED, ERROR_NO_POSITION, "the client disconnected");
        reject(api, r, &err);
        return;
    }
    if (r->state == REQUEST_PARSES || (r->state == REQUEST_ENCODES && !r->dialect->has_jobs)) return;
    uint32_t jobs[REQUEST_JOBS_MAX], n = r->n_jobs; // with the last of them the request is gone
    memcpy(jobs, r->jobs, sizeof jobs);
    for (uint32_t i = 0; i < n; i++)
        api_cancel_job(api, &api->config.bridge->jobs[jobs[i]], CANCEL_GONE);
}

uint64_t api_job_arena_bytes(uint64_t context_length) {
    return execute_job_arena_bytes(context_length);
}

// For the answers of all jobs: most of it is never touched.
static bool create_answers(Api *api) {
    const ApiConfig *c = &api->config;
    uint64_t bytes = answer_memory_bytes(c->max_tokens_out, c->tokenizer);
    bytes = (bytes + 4095) & ~(uint64_t)4095;
    Arena all = os_arena(bytes * c->bridge->n_jobs), each;
    for (uint32_t i = 0; i < c->bridge->n_jobs; i++) {
        if (!all.next || !arena_split(&all, bytes, &each) || !answer_create(&api->jobs[i].answer, &each))
            return false;
    }
    return true;
}

static bool create_lane(Api *api, LaneId id, Arena *arena) {
    const ApiConfig *c = &api->config;
    EncoderLane *lane = &api->lanes[id];
    uint64_t prompt_bytes =
        c->max_prompt_chars ? min_u64(c->max_prompt_chars * 4ull, HTTP_BODY_BYTES_MAX) : HTTP_BODY_BYTES_MAX;
    lane->encoder = (Encoder){.run = run_encoder_work, .wake_io = wake_io_thread, .context = api};
    if (!encoder_init(&lane->encoder, arena)) return false;
    if (id == LANE_GRAMMAR || id == LANE_SLOW) {
        lane->compiling = os_arena(STRUCTURED_SCRATCH_BYTES);
        return lane->compiling.next != NULL;
    }
    lane->scratch = os_arena(
        max_u64(execute_scratch_bytes(c->tokenizer, prompt_bytes), generate_scratch_bytes(c->tokenizer)));
    lane->rendering = os_arena(TEMPLATE_MEMORY_MAX);
    return lane->scratch.next && lane->rendering.next;
}

bool api_requests_create(Api *api, Arena *arena) {
    api->n_requests = api->config.bridge->n_jobs + REQUESTS_PENDING_MAX;
    api->requests = arena_new(arena, ApiRequest, api->n_requests);
    bool ok = api->requests != NULL;
    for (LaneId i = 0; ok && i < LANE_COUNT; i++)
        ok = create_lane(api, i, arena);
    ok = ok && grammar_cache_create(&api->grammars, api->config.bridge->n_jobs, arena);
    for (uint32_t i = 0; ok && i < api->n_requests; i++) { // most of these is never touched
        api->requests[i].memory = os_arena(SMALL_MEMORY_BYTES);
        ok = api->requests[i].memory.next != NULL;
    }
    for (uint32_t i = 0; ok && i < REQUEST_LARGE_BODIES_MAX; i++) {
        api->large[i] = os_arena(LARGE_MEMORY_BYTES);
        ok = api->large[i].next != NULL;
    }
    return ok && create_answers(api);
}
