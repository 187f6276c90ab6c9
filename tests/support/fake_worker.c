#include "fake_worker.h"

#include "api/execute_request.h"
#include "base/rng.h"
#include "runner.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { SCRIPT_TOKENS_MAX = 4096, MAX_ROWS = 64 };

struct FakeWorker {
    Backend backend; // first: the functions below get a pointer to it
    FakeConfig config;
    Arena arena;
    const GgufFile *file;
    Tokenizer *tokenizer;
    ChatModel chat;
    const int32_t *marks; // [n_marks] of jobs
    uint32_t n_marks;
    Plan plan;
    Arch arch;
    int32_t script[SCRIPT_TOKENS_MAX];
    uint32_t n_script;
    int32_t *repeats[JOBS_MAX]; // with repeats_prompt: a script for each slot; NULL: the one above
    uint32_t n_repeats[JOBS_MAX];
    char *prompt;                         // likewise: room for a prompt's text
    Arena repeat_scratch, encode_scratch; // likewise: to encode it
    uint32_t drawn[JOBS_MAX];             // of each slot's sequence
    StepResult results[2];                // ring
    uint32_t first_result, n_results;
    // A step that waits for its masks.
    StepSequence sequences[JOBS_MAX];
    uint32_t n_sequences;           // 0: none
    SamplerParams params[JOBS_MAX]; // of each slot's sequence
    TokenLogprobs logprobs[JOBS_MAX];
    _Atomic uint32_t fail_code, refuse_code;
    _Atomic bool nan;
    _Atomic bool residency_lost;
    _Atomic uint64_t last_step_ns;
    _Atomic uint64_t steps, wakes;
    uint64_t step_due_ns;
    _Atomic uint32_t start_signal;
    Bridge bridge;
    Engine *engine;
    Sched *sched;
    bool sched_result;
    OsThread engine_thread, io_thread;
    Api *api;
    HttpServer *server;
};

// ---- the backend ----

// The last text between the marks, which may have been several tokens. Empty: there is none.
static Str find_repeated(FakeWorker *f, const SequenceStart *start) {
    static const char begin[] = "[say]", end[] = "[/say]";
    size_t length = 0;
    Str found = {0};
    for (uint32_t i = 0; i < start->n_prompt; i++) {
        Str piece = tokenizer_piece(f->tokenizer, start->tokens[i], false);
        memcpy(f->prompt + length, piece.ptr, piece.len);
        length += piece.len;
    }
    const char *last = f->prompt + length;
    for (const char *at = f->prompt; at < last;) {
        const char *from = memmem(at, (size_t)(last - at), begin, sizeof begin - 1);
        if (!from) break;
        from += sizeof begin - 1;
        const char *to = memmem(from, (size_t)(last - from), end, sizeof end - 1);
        if (!to) break;
        found = (Str){from, (size_t)(to - from)};
        at = to;
    }
    return found;
}

// In what is repeated, the text of a control token stands for the token: so a client decides what it is told.
static bool begin_repeating(FakeWorker *f, uint32_t slot, const SequenceStart *start, Error *err) {
    Str text = find_repeated(f, start);
    f->n_repeats[slot] = 0;
    if (!text.ptr) return true;
    Arena scratch = f->repeat_scratch;
    TokenIds ids;
    if (!tokenizer_encode(f->tokenizer, text, TOKENIZER_PARSE_SPECIAL, &scratch, f->encode_scratch, &ids,
                          err))
        return false;
    if (ids.count + 1 > SCRIPT_TOKENS_MAX) return error_set(err, ERR_INVALID_REQUEST, "too much to say");
    memcpy(f->repeats[slot], ids.ptr, ids.count * sizeof *ids.ptr);
    f->repeats[slot][ids.count] = tokenizer_eos(f->tokenizer);
    f->n_repeats[slot] = (uint32_t)ids.count + 1;
    return true;
}

static bool fake_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err) {
    FakeWorker *f = (FakeWorker *)b;
    uint32_t code = atomic_load(&f->fail_code);
    if (!code) code = atomic_load(&f->refuse_code);
    if (f->config.repeats_prompt && !begin_repeating(f, slot, start, err)) return false;
    f->drawn[slot] = start->n_drawn;
    f->params[slot] = start->params;
    return !code || error_set(err, (ErrCode)code, "the script says so");
}

// The i-th best has the id i and the log-probability -i; the token drawn has -1/2.
static const TokenLogprobs *make_logprobs(FakeWorker *f, uint32_t slot, int32_t token) {
    TokenLogprobs *l = &f->logprobs[slot];
    if (!f->params[slot].logprobs) return NULL;
    *l = (TokenLogprobs){.token = token, .logprob = -0.5f, .n_best = f->params[slot].n_logprobs};
    for (uint32_t i = 0; i < l->n_best; i++) {
        l->best[i].id = (int32_t)i;
        l->best[i].logprob = -(float)i;
    }
    return l;
}

// The script's last token is drawn again and again.
static int32_t next_token(FakeWorker *f, uint32_t slot) {
    bool repeats = f->n_repeats[slot] != 0;
    const int32_t *script = repeats ? f->repeats[slot] : f->script;
    uint32_t last = (repeats ? f->n_repeats[slot] : f->n_script) - 1, at = f->drawn[slot]++;
    return atomic_load(&f->nan) ? TOKEN_INVALID : script[min_u64(at, last)];
}

// Where a mask does not allow what the script says, one of the tokens that it allows, by the request's seed.
static int32_t allow(FakeWorker *f, const StepSequence *q, int32_t token) {
    uint32_t n = 0, words = token_set_words(f->plan.n_vocab);
    if (!q->mask || token == TOKEN_INVALID || token_set_has(q->mask, token)) return token;
    for (uint32_t i = 0; i < words; i++)
        n += (uint32_t)__builtin_popcount(q->mask[i]);
    if (n == 0) return TOKEN_INVALID;
    uint32_t left = rng_philox(f->params[q->slot].seed, f->drawn[q->slot]).word[0] % n;
    for (int32_t id = 0;; id++) {
        if (token_set_has(q->mask, id) && left-- == 0) return id;
    }
}

static void draw(FakeWorker *f, const StepSequence *sequences, uint32_t n) {
    StepResult *result = &f->results[(f->first_result + f->n_results++) % COUNT_OF(f->results)];
    result->n_runs = 0;
    for (uint32_t i = 0; i < n; i++) {
        const StepSequence *s = &sequences[i];
        if (!s->n_draws) continue;
        int32_t token = allow(f, s, next_token(f, s->slot));
        result->runs[result->n_runs++] = (StepRun){
            .slot = s->slot, .n_tokens = 1, .tokens = {token}, .logprobs = make_logprobs(f, s->slot, token)};
    }
}

static bool fake_step(Backend *b, const Step *step, Error *err) {
    FakeWorker *f = (FakeWorker *)b;
    uint32_t code = atomic_load(&f->fail_code);
    atomic_store(&f->last_step_ns, os_monotonic_ns());
    atomic_fetch_add(&f->steps, 1);
    if (code) return error_set(err, (ErrCode)code, "the script says so");
    if (!step_check(step, &b->info, err)) return false;
    REQUIRE(f->n_sequences == 0 && f->n_results < b->info.pipeline_depth);
    if (!step->masks_come_later) {
        draw(f, step->sequences, step->n_sequences);
        return true;
    }
    memcpy(f->sequences, step->sequences, step->n_sequences * sizeof *f->sequences);
    f->n_sequences = step->n_sequences;
    return true;
}

static bool fake_draw(Backend *b, const uint32_t *const *masks, Error *err) {
    FakeWorker *f = (FakeWorker *)b;
    (void)err;
    REQUIRE(f->n_sequences > 0);
    for (uint32_t i = 0; i < f->n_sequences; i++)
        f->sequences[i].mask = masks[i];
    draw(f, f->sequences, f->n_sequences);
    f->n_sequences = 0;
    return true;
}

static void wait_for_step(FakeWorker *f) {
    struct timespec until;
    f->step_due_ns = max_u64(f->step_due_ns + f->config.step_us * 1000ull, os_monotonic_ns());
    until.tv_sec = (time_t)(f->step_due_ns / 1000000000);
    until.tv_nsec = (long)(f->step_due_ns % 1000000000);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static bool fake_copy_page(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)b, (void)from, (void)to, (void)err;
    return true; // its answers do not come from pages
}

static bool fake_read(Backend *b, StepResult *out, Error *err) {
    FakeWorker *f = (FakeWorker *)b;
    (void)err;
    if (f->config.step_ms) os_sleep_ms(f->config.step_ms);
    if (f->config.step_us) wait_for_step(f);
    REQUIRE(f->n_results > 0);
    *out = f->results[f->first_result];
    f->first_result = (f->first_result + 1) % COUNT_OF(f->results);
    f->n_results--;
    return true;
}

static bool fake_check_residency(Backend *b, Error *err) {
    bool lost = atomic_load(&((FakeWorker *)b)->residency_lost);
    return !lost || error_set(err, ERR_CUDA, "a region is host memory");
}

static void fake_close(Backend *b) {
    (void)b;
}

// ---- set-up ----

static void must(bool ok, const Error *err) {
    if (ok) return;
    FAIL("%s", err->message);
    test_end();
}

static void make_script(FakeWorker *f) {
    const char *text = f->config.script ? f->config.script : "a";
    Arena scratch = os_arena(tokenizer_encode_scratch_bytes(f->tokenizer, strlen(text)));
    TokenIds ids;
    Error err;
    must(tokenizer_encode(f->tokenizer, str_from_c(text), TOKENIZER_PARSE_SPECIAL, &f->arena, scratch, &ids,
                          &err),
         &err);
    REQUIRE(ids.count + 1 < SCRIPT_TOKENS_MAX);
    memcpy(f->script, ids.ptr, ids.count * sizeof *ids.ptr);
    f->n_script = (uint32_t)ids.count;
    if (f->config.script) f->script[f->n_script++] = tokenizer_eos(f->tokenizer);
}

static void make_room_to_repeat(FakeWorker *f) {
    uint64_t prompt_bytes = (uint64_t)f->config.context * tokenizer_piece_bytes_max(f->tokenizer);
    f->prompt = os_reserve(prompt_bytes);
    f->repeat_scratch = os_arena(tokenizer_encode_ids_bytes(f->tokenizer, prompt_bytes));
    f->encode_scratch = os_arena(tokenizer_encode_scratch_bytes(f->tokenizer, prompt_bytes));
    for (uint32_t i = 0; i < f->config.n_jobs; i++) {
        f->repeats[i] = arena_new(&f->arena, int32_t, SCRIPT_TOKENS_MAX);
        REQUIRE(f->repeats[i]);
    }
    REQUIRE(f->prompt);
}

static _Atomic uint64_t clock_ahead_ns;

static uint64_t advanced_ns(void) {
    return os_monotonic_ns() + atomic_load(&clock_ahead_ns);
}

static FakeWorker *make(const FakeConfig *config) {
    Arena arena = os_arena(512u << 20), scratch = os_arena(64u << 20);
    FakeWorker *f = arena_new(&arena, FakeWorker, 1);
    Error err = {0};
    REQUIRE(f && scratch.next);
    *f = (FakeWorker){.config = *config, .arena = arena};
    FakeConfig *c = &f->config;
    if (!c->n_jobs) c->n_jobs = 1;
    if (!c->context) c->context = 2048;
    if (!c->n_pages) c->n_pages = c->n_jobs * (uint32_t)div_up(c->context, KV_PAGE_TOKENS);
    TinyModel model = tiny_model_llama();
    model.adds_bos = c->adds_bos;
    Str file = tiny_model_build(&model);
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "tiny.gguf"};
    must(gguf_parse(&part, 1, &f->arena, &f->file, &err), &err);
    must(tokenizer_from_gguf(f->file, &f->arena, scratch, &f->tokenizer, &err), &err);
    f->arch.name = "fake";
    f->plan.arch = &f->arch;
    f->plan.n_vocab = tokenizer_vocab_size(f->tokenizer);
    f->plan.n_context = c->context;
    f->plan.kv = (KvLayout){.n_places = 1, .n_lists = 1, .n_full = 1};
    f->backend = (Backend){.begin = fake_begin,
                           .copy_page = fake_copy_page,
                           .step = fake_step,
                           .draw = fake_draw,
                           .read = fake_read,
                           .close = fake_close};
    f->backend.info = (BackendInfo){.kind = "fake",
                                    .device_name = "a script",
                                    .products = c->products,
                                    .bits_vary = c->products != NULL,
                                    .n_kv_pages = c->n_pages,
                                    .max_rows = MAX_ROWS,
                                    .masks = !c->no_masks,
                                    .late_masks = c->late_masks,
                                    .pipeline_depth = c->late_masks ? 2 : 1};
    f->backend.check_residency = fake_check_residency;
    f->backend.info.vram_bytes_used = 1 << 30;
    if (c->in_vram) {
        f->backend.info.vram_bytes_total = f->backend.info.vram_bytes_used;
        f->backend.info.sm = 90;
        f->backend.info.runtime_version = "12.4";
        f->backend.info.driver_version = "580.1";
    }
    make_script(f);
    if (c->repeats_prompt) make_room_to_repeat(f);
    must(engine_create(&f->backend, &f->plan, c->n_jobs, &f->arena, &f->engine, &err), &err);
    must(bridge_init(&f->bridge, c->n_jobs, c->n_queued, api_job_arena_bytes(c->context), &f->arena, &err),
         &err);
    f->bridge.now_ns = advanced_ns;
    must(sched_create(&f->bridge, f->engine, f->tokenizer, &f->arena, &f->sched, &err), &err);
    return f;
}

static void *run_engine(void *argument) {
    FakeWorker *f = argument;
    if (f->config.hold_start) os_wait_word(&f->start_signal, 0, UINT32_MAX);
    WorkerStatus *status = &f->bridge.status;
    if (f->config.start_error) {
        error_fill(&status->error, f->config.start_error, ERROR_NO_POSITION, "the script says so");
        bridge_set_phase(&f->bridge, WORKER_FAILED);
        return NULL;
    }
    status->info = f->backend.info;
    status->context_length = engine_context_length(f->engine);
    status->kv_pages_total = engine_pages(f->engine)->n_pages;
    status->kv_tokens_total = engine_tokens_held(f->engine);
    bridge_set_phase(&f->bridge, WORKER_READY);
    f->sched_result = sched_run(f->sched, &status->error);
    bridge_set_phase(&f->bridge, f->sched_result ? WORKER_STOPPED : WORKER_FAILED);
    return NULL;
}

static void no_wake(void *context) {
    FakeWorker *f = context; // the test polls
    atomic_fetch_add(&f->wakes, 1);
}

FakeWorker *fake_sched_start(const FakeConfig *config) {
    Error err;
    FakeWorker *f = make(config);
    f->bridge.wake_io = no_wake;
    f->bridge.wake_context = f;
    must(os_thread_start(&f->engine_thread, "engine", run_engine, f, &err), &err);
    return f;
}

static void wake_server(void *context) {
    FakeWorker *f = context;
    atomic_fetch_add(&f->wakes, 1);
    http_server_wake(f->server);
}

static void *run_io(void *argument) {
    FakeWorker *f = argument;
    Error err;
    if (!http_server_run(f->server, &err)) FAIL("%s", err.message);
    return NULL;
}

FakeWorker *fake_worker_start(const FakeConfig *config) {
    Error err;
    FakeWorker *f = make(config);
    Str template = config->chat_template ? str_from_c(config->chat_template) : (Str){0};
    must(chat_model_open(f->file, f->tokenizer, template, config->tool_format, NULL, &f->arena, &f->chat,
                         &err),
         &err);
    ApiConfig api = {
        .bridge = &f->bridge,
        .tokenizer = f->tokenizer,
        .log = config->log,
        .started_ns = os_monotonic_ns(),
        .max_tokens_out = config->max_tokens_out ? config->max_tokens_out : 2048,
        .max_prompt_chars = PROMPT_CHARACTERS_MAX,
        .inference_timeout_sec = config->timeout_sec ? config->timeout_sec : 300,
        .shutdown_grace_ms = config->grace_ms,
        .context_length = f->config.context,
        .opened = f->backend.info,
        .model_bytes = f->file->size_bytes,
        .n_params = 12345,
        .worker_id = STR("00000000-0000-4000-8000-000000000000"),
        .chat = &f->chat,
        .sampling = SAMPLING_DEFAULTS_NONE,
        .model = STR("tiny"),
        .served_model = STR("tiny"),
        .strict_model_name = config->strict_model_name,
        .model_ref = STR("file:tiny.gguf"),
        .quant_kind = STR("Q4_K"),
        .kv_cache_type = STR("f16"),
        .web = {.host = STR("127.0.0.1"),
                .cors_origin = str_from_c(config->cors_origin),
                .allowed_hosts = &config->allowed_host,
                .n_allowed_hosts = config->allowed_host ? 1 : 0},
        .files = config->files,
        .n_files = config->n_files,
    };
    if (config->tokens) must(auth_parse(str_from_c(config->tokens), &api.auth, &err), &err);
    must(api_create(&api, &f->arena, &f->api, &err), &err);
    HttpServerConfig server = {.host = STR("127.0.0.1"), .handler = api_handler(f->api)};
    must(http_server_open(&f->server, &f->arena, &server, &err), &err);
    api_attach(f->api, f->server);
    f->bridge.wake_io = wake_server;
    f->bridge.wake_context = f;
    must(os_thread_start(&f->engine_thread, "engine", run_engine, f, &err), &err);
    must(os_thread_start(&f->io_thread, "io", run_io, f, &err), &err);
    if (!config->hold_encoder) must(api_start_encoder(f->api, &err), &err);
    if (!config->hold_start) {
        while (bridge_phase(&f->bridge) == WORKER_STARTING)
            os_sleep_ms(1);
    }
    return f;
}

void fake_worker_release_start(FakeWorker *f) {
    atomic_store(&f->start_signal, 1);
    os_wake_word(&f->start_signal);
    while (bridge_phase(&f->bridge) == WORKER_STARTING)
        os_sleep_ms(1);
}

void fake_worker_release_encoder(FakeWorker *f) {
    Error err;
    f->config.hold_encoder = false;
    must(api_start_encoder(f->api, &err), &err);
}

// ---- for the tests ----

Bridge *fake_bridge(FakeWorker *f) {
    return &f->bridge;
}

Api *fake_api(FakeWorker *f) {
    return f->api;
}

const Tokenizer *fake_tokenizer(const FakeWorker *f) {
    return f->tokenizer;
}

uint16_t fake_port(const FakeWorker *f) {
    return http_server_port(f->server);
}

void fake_refuse(FakeWorker *f, ErrCode code) {
    atomic_store(&f->refuse_code, code);
}

void fake_fail(FakeWorker *f, ErrCode code) {
    atomic_store(&f->fail_code, code);
}

void fake_lose_residency(FakeWorker *f) {
    atomic_store(&f->residency_lost, true);
}

void fake_advance_clock(FakeWorker *f, uint64_t ms) {
    atomic_fetch_add(&clock_ahead_ns, ms * 1000000);
    atomic_fetch_add(&f->bridge.signal, 1);
    os_wake_word(&f->bridge.signal);
}

void fake_emit_nan(FakeWorker *f) {
    atomic_store(&f->nan, true);
}

uint64_t fake_last_step_ns(const FakeWorker *f) {
    return atomic_load(&f->last_step_ns);
}

uint32_t fake_pages_used(const FakeWorker *f) {
    return atomic_load(&f->bridge.status.kv_pages_used);
}

static uint64_t thread_cpu_ns(const OsThread *thread) {
    clockid_t clock;
    struct timespec now;
    REQUIRE(pthread_getcpuclockid(thread->handle, &clock) == 0 && clock_gettime(clock, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t fake_steps(const FakeWorker *f) {
    return atomic_load(&f->steps);
}

uint64_t fake_wakes(const FakeWorker *f) {
    return atomic_load(&f->wakes);
}

uint64_t fake_io_cpu_ns(const FakeWorker *f) {
    return thread_cpu_ns(&f->io_thread);
}

uint64_t fake_engine_cpu_ns(const FakeWorker *f) {
    return thread_cpu_ns(&f->engine_thread);
}

bool fake_sched_stop(FakeWorker *f) {
    bridge_stop(&f->bridge);
    os_thread_join(&f->engine_thread);
    return f->sched_result;
}

void fake_worker_join(FakeWorker *f) {
    os_thread_join(&f->io_thread);
    bridge_stop(&f->bridge);
    os_thread_join(&f->engine_thread);
    if (!f->config.hold_encoder) api_stop_encoder(f->api);
    http_server_close(f->server);
}

void fake_next_event(FakeWorker *f, JobEvent *out) {
    for (uint32_t waited_ms = 0; !ring_pop(&f->bridge.events, out); waited_ms++) {
        if (waited_ms > 10000) FAIL("no event within 10 s"), test_end();
        os_sleep_ms(1);
    }
    if (out->kind == EVENT_END || out->kind == EVENT_ERROR) {
        bridge_free_job(&f->bridge, &f->bridge.jobs[out->job]);
    }
}

void fake_set_marks(FakeWorker *f, const int32_t *marks, uint32_t n_marks) {
    f->marks = marks;
    f->n_marks = n_marks;
}

Job *fake_submit_request(FakeWorker *f, const ExecuteRequest *request) {
    Error err;
    RequestLimits limits = {.max_tokens_in = f->config.context,
                            .max_tokens_out = f->config.context,
                            .vocab_size = tokenizer_vocab_size(f->tokenizer),
                            .context_length = f->config.context};
    Arena scratch = os_arena(execute_scratch_bytes(f->tokenizer, request->prompt.len));
    Job *job = bridge_take_job(&f->bridge);
    REQUIRE(job != NULL);
    must(execute_request_encode(request, &limits, f->tokenizer, scratch, job, &err), &err);
    job->marks = f->marks;
    job->n_marks = f->n_marks;
    job->id = request->job_id;
    job->accepted_ns = os_monotonic_ns();
    job->expires_ns = UINT64_MAX;
    bridge_submit(&f->bridge, job);
    return job;
}

Job *fake_submit(FakeWorker *f, const char *prompt, uint32_t max_tokens, const char *stop) {
    ExecuteRequest request = {.job_id = STR("job"),
                              .prompt = str_from_c(prompt),
                              .max_tokens = max_tokens,
                              .top_p = 1,
                              .repetition_penalty = 1};
    if (stop) request.stop.texts[request.stop.count++] = str_from_c(stop);
    return fake_submit_request(f, &request);
}
