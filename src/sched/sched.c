#include "sched/sched.h"

#include "base/utf8.h"
#include "os/os.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"

#include <assert.h>
#include <stdio.h>

// A job that runs: the engine thread's side of it.
typedef struct {
    Job *job; // NULL: not in use
    uint32_t slot;
    uint32_t tokens_out;
    uint32_t tokens_cached;
    CacheMiss cache_miss;
    uint32_t times_set_aside;
    uint64_t admitted_ns;
    uint64_t first_token_ns; // 0 before it
    uint64_t last_token_ns;
    uint64_t metrics_due_ns;
    Detokenizer *detokenizer; // the slot's
    StopMatcher stop;
} Running;

struct Sched {
    Bridge *bridge;
    Engine *engine;
    const Tokenizer *tokenizer;
    Running *running;          // [n_jobs], by index of the job
    Detokenizer *detokenizers; // [n_slots]
    uint32_t *job_of_slot;     // [n_slots]
    EngineOutput *outputs;     // [n_slots]
    uint32_t n_running;
    uint64_t residency_due_ns;
    uint64_t now_ns; // when the turn began, or its step was read
};

bool sched_create(Bridge *bridge, Engine *engine, const Tokenizer *tokenizer, Arena *arena, Sched **out,
                  Error *err) {
    uint32_t n = bridge->n_jobs;
    Sched *s = arena_new(arena, Sched, 1);
    bool ok = s != NULL;
    if (ok) {
        *s = (Sched){.bridge = bridge, .engine = engine, .tokenizer = tokenizer};
        engine_set_clock(engine, bridge->now_ns);
        s->residency_due_ns = bridge->now_ns() + RESIDENCY_INTERVAL_MS * 1000000ull; // checked at load, too
        s->running = arena_new(arena, Running, n);
        s->detokenizers = arena_new(arena, Detokenizer, bridge->n_slots);
        s->job_of_slot = arena_new(arena, uint32_t, bridge->n_slots);
        s->outputs = arena_new(arena, EngineOutput, bridge->n_slots);
        ok = s->running && s->detokenizers && s->job_of_slot && s->outputs;
    }
    for (uint32_t i = 0; ok && i < bridge->n_slots; i++)
        ok = detokenizer_init(&s->detokenizers[i], tokenizer, arena);
    *out = s;
    if (!ok) return error_set(err, ERR_NO_MEMORY, "no memory for the tables of %u jobs", n);
    return engine_take_grammars(engine, tokenizer, 0, arena, err) &&
           engine_mark_messages(engine, tokenizer, arena, err);
}

// ---- events ----

typedef struct {
    int32_t token;
    const TokenLogprobs *logprobs; // or NULL
    bool is_mark;
} Drawn;

// Each is to be ended at once (bridge_end_event).
static JobEvent *event_begin(Sched *s, const Running *r, JobEventKind kind) {
    JobEvent *e = bridge_begin_event(s->bridge);
    e->job = bridge_job_index(s->bridge, r->job);
    e->kind = kind;
    e->tokens_out = r->tokens_out;
    e->tokens_cached = r->tokens_cached;
    e->cache_miss = r->cache_miss;
    e->at_ns = s->now_ns;
    e->prefill_ns = r->first_token_ns ? r->first_token_ns - r->admitted_ns : 0;
    e->decode_ns = r->last_token_ns - r->first_token_ns;
    return e;
}

// Token events with a + b as their text. The first has the token that was drawn (NULL: none), where the job
// wants to know of it; then there is an event also without text.
static void send_text(Sched *s, const Running *r, Str a, Str b, const Drawn *drawn) {
    bool is_wanted = r->job->returns_tokens || r->job->sampler.logprobs || (drawn && drawn->is_mark);
    if (!is_wanted) drawn = NULL;
    while (a.len + b.len || drawn) {
        JobEvent *e = event_begin(s, r, EVENT_TOKEN);
        e->token.id = drawn ? drawn->token : TOKEN_INVALID;
        e->token.is_mark = drawn && drawn->is_mark;
        e->token.has_logprobs = drawn && drawn->logprobs;
        if (e->token.has_logprobs) e->token.logprobs = *drawn->logprobs;
        drawn = NULL;
        uint32_t length = 0;
        Str *parts[] = {&a, &b};
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
            Str *part = parts[i];
            size_t take = (size_t)min_u64(part->len, sizeof e->token.text - length);
            if (take < part->len) take -= utf8_incomplete_tail(str_slice(*part, 0, take));
            if (take) memcpy(e->token.text + length, part->ptr, take);
            length += (uint32_t)take;
            *part = str_slice(*part, take, part->len);
            if (part->len) break;
        }
        e->token.length = length;
        bridge_end_event(s->bridge);
    }
}

static void show_pages(Sched *s) {
    const KvPages *pages = engine_pages(s->engine);
    WorkerStatus *status = &s->bridge->status;
    atomic_store_explicit(&status->kv_pages_used, kv_pages_used(pages), memory_order_relaxed);
    atomic_store_explicit(&status->kv_pages_cached, pages->n_cached, memory_order_relaxed);
    const KvCheckpoints *c = &pages->checkpoints;
    atomic_store_explicit(&status->checkpoints_used, c->n_places - c->n_free, memory_order_relaxed);
    atomic_store_explicit(&status->checkpoints_saved, c->n_saved, memory_order_relaxed);
    atomic_store_explicit(&status->checkpoints_restored, c->n_restored, memory_order_relaxed);
    atomic_store_explicit(&status->checkpoints_evicted, c->n_evicted, memory_order_relaxed);
}

// Frees what the job holds in the engine; its terminal event must follow at once, and is the last use of it.
static void release(Sched *s, Running *r) {
    engine_release(s->engine, r->slot);
    show_pages(s);
    s->n_running--;
}

// All text that was held back goes out, as where a text ends. False: it ended in a stop string.
static bool send_held_text(Sched *s, Running *r) {
    StopOutput tail = stop_matcher_push(&r->stop, detokenizer_flush(r->detokenizer));
    send_text(s, r, tail.first, tail.second, NULL);
    if (!tail.stopped) send_text(s, r, stop_matcher_flush(&r->stop), (Str){0}, NULL);
    return !tail.stopped;
}

// `token` ended the text, or TOKEN_INVALID.
static void finish(Sched *s, Running *r, StopReason reason, int32_t token) {
    bool in_stop_string = reason == STOP_STRING && token == TOKEN_INVALID;
    if (!in_stop_string) (void)send_held_text(s, r);
    release(s, r);
    JobEvent *e = event_begin(s, r, EVENT_END);
    e->end.reason = reason;
    e->end.token = token;
    e->end.stop = in_stop_string ? r->stop.found : 0;
    r->job = NULL;
    bridge_end_event(s->bridge);
}

static void send_error(Sched *s, Running *r, const Error *err) {
    JobEvent *e = event_begin(s, r, EVENT_ERROR);
    e->error.code = err->code;
    memcpy(e->error.field, err->field, sizeof e->error.field);
    snprintf(e->error.message, sizeof e->error.message, "%s", err->message);
    r->job = NULL;
    bridge_end_event(s->bridge);
}

static void fail(Sched *s, Running *r, const Error *err) {
    release(s, r);
    send_error(s, r, err);
}

// ---- when a job is over ----

static bool should_end(const Job *job, uint64_t now_ns, bool stopping, Error *err) {
    switch ((CancelReason)atomic_load_explicit(&job->cancel, memory_order_relaxed)) {
    case CANCEL_REQUESTED: return !error_set(err, ERR_CANCELLED, "the job was cancelled");
    case CANCEL_GONE: return !error_set(err, ERR_CANCELLED, "the client disconnected");
    case CANCEL_SHUTDOWN: stopping = true; break;
    case CANCEL_TOGETHER:
        return !error_set(err, ERR_CANCELLED, "another answer of the same request has failed");
    case CANCEL_NONE: break;
    }
    if (stopping) return !error_set(err, ERR_CANCELLED, "the worker is shutting down");
    if (now_ns < job->expires_ns) return false;
    double seconds = (double)(now_ns - job->accepted_ns) / 1e9;
    return !error_set(err, ERR_INFERENCE_TIMEOUT, "the job's time was over after %.1f s", seconds);
}

// ---- jobs come ----

// False when the backend is lost.
static bool admit(Sched *s, Job *job, Error *err) {
    uint32_t index = bridge_job_index(s->bridge, job);
    Running *r = &s->running[index];
    assert(!r->job);
    *r = (Running){.job = job, .admitted_ns = s->now_ns};
    if (should_end(job, r->admitted_ns, false, err)) { // while it waited for a step to end
        send_error(s, r, err);
        return true;
    }
    EngineRequest request = {.tokens = job->tokens,
                             .n_prompt = job->n_tokens,
                             .max_tokens = job->max_tokens,
                             .sampler = job->sampler,
                             .grammar = job->grammar,
                             .grammar_field = job->grammar_field};
    memcpy(request.cache_salt, job->cache_salt, sizeof request.cache_salt);
    if (!stop_matcher_init(&r->stop, job->stop, job->n_stop, &job->arena, err) ||
        !engine_admit(s->engine, &request, &r->slot, err)) {
        send_error(s, r, err);
        return err->code != ERR_CUDA;
    }
    s->n_running++;
    s->job_of_slot[r->slot] = index;
    r->detokenizer = &s->detokenizers[r->slot];
    detokenizer_reset(r->detokenizer);
    detokenizer_show_special(r->detokenizer, job->shows_special);
    r->metrics_due_ns = r->admitted_ns + METRICS_INTERVAL_MS * 1000000ull;
    (void)event_begin(s, r, EVENT_STARTED);
    bridge_end_event(s->bridge);
    return true;
}

static void drop_cache(Sched *s) {
    if (!atomic_load(&s->bridge->drops_cache)) return;
    atomic_store(&s->bridge->drops_cache, false);
    engine_drop_cache(s->engine);
    show_pages(s);
}

static bool take_jobs(Sched *s, Error *err) {
    uint32_t index;
    while (ring_pop(&s->bridge->submitted, &index)) {
        if (!admit(s, &s->bridge->jobs[index], err)) return false;
    }
    return true;
}

static void end_overdue(Sched *s, bool stopping) {
    Error err;
    for (uint32_t i = 0, left = s->n_running; left; i++) {
        Running *r = &s->running[i];
        left -= r->job != NULL;
        if (r->job && should_end(r->job, s->now_ns, stopping, &err)) fail(s, r, &err);
    }
}

// ---- tokens come ----

static bool is_stop_token(const Job *job, int32_t token) {
    for (uint32_t i = 0; i < job->n_stop_tokens; i++) {
        if (job->stop_tokens[i] == token) return true;
    }
    return false;
}

static bool is_mark(const Job *job, int32_t token) {
    for (uint32_t i = 0; i < job->n_marks && job->marks[i] <= token; i++) {
        if (job->marks[i] == token) return true;
    }
    return false;
}

// Sends the text that a token lets go, and the token where that is wanted. False: the text ended in a stop
// string.
static bool push_token(Sched *s, Running *r, Drawn drawn) {
    if (is_mark(r->job, drawn.token)) {
        drawn.is_mark = true;
        if (!send_held_text(s, r)) return false; // what comes before a mark ends there
        send_text(s, r, (Str){0}, (Str){0}, &drawn);
        return true;
    }
    StopOutput text = stop_matcher_push(&r->stop, detokenizer_push(r->detokenizer, drawn.token));
    send_text(s, r, text.first, text.second, &drawn);
    return !text.stopped;
}

// How a token ends the text by itself, if it does.
typedef enum { ENDS_NOT, ENDS_LENGTH, ENDS_GRAMMAR } TokenEnds;

static void take_token(Sched *s, Running *r, Drawn drawn, TokenEnds ends) {
    if (!r->first_token_ns) r->first_token_ns = s->now_ns;
    r->last_token_ns = s->now_ns;
    if (!r->job->ignores_eos && tokenizer_is_end(s->tokenizer, drawn.token)) {
        finish(s, r, STOP_EOS, drawn.token);
        return;
    }
    if (is_stop_token(r->job, drawn.token)) {
        finish(s, r, STOP_STRING, drawn.token);
        return;
    }
    r->tokens_out++;
    bool stopped = !push_token(s, r, drawn);
    if (stopped || ends != ENDS_NOT) {
        StopReason reason = stopped ? STOP_STRING : ends == ENDS_GRAMMAR ? STOP_EOS : STOP_LENGTH;
        finish(s, r, reason, TOKEN_INVALID);
    } else if (s->now_ns >= r->metrics_due_ns) {
        r->metrics_due_ns = s->now_ns + METRICS_INTERVAL_MS * 1000000ull;
        (void)event_begin(s, r, EVENT_METRICS);
        bridge_end_event(s->bridge);
    }
}

// What a step brought for one job. The job may end before its last token.
static void take_output(Sched *s, const EngineOutput *o) {
    Running *r = &s->running[s->job_of_slot[o->slot]];
    r->tokens_cached = o->n_cached;
    r->cache_miss = o->cache_miss;
    for (uint32_t i = 0; r->job && i < o->n_tokens; i++) {
        Drawn drawn = {o->tokens[i], o->logprobs ? &o->logprobs[i] : NULL, false};
        bool is_last = o->last && i + 1 == o->n_tokens;
        take_token(s, r, drawn, !is_last ? ENDS_NOT : o->complete ? ENDS_GRAMMAR : ENDS_LENGTH);
    }
    if (r->job && o->failure) fail(s, r, o->failure);
}

static void count_step(Sched *s) {
    WorkerStatus *status = &s->bridge->status;
    uint32_t rows = engine_rows_read(s->engine), bucket = 0;
    if (rows == 0) return;
    while (bucket + 1 < BATCH_ROWS_BUCKETS && rows > 1u << bucket)
        bucket++;
    atomic_fetch_add_explicit(&status->batch_steps[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&status->batch_rows, rows, memory_order_relaxed);
}

// Tells of jobs that had to make room for older ones.
static void tell_of_set_aside(Sched *s) {
    for (uint32_t i = 0, left = s->n_running; left; i++) {
        Running *r = &s->running[i];
        left -= r->job != NULL;
        uint32_t times = r->job ? engine_times_set_aside(s->engine, r->slot) : 0;
        for (; r->job && r->times_set_aside < times; r->times_set_aside++) {
            (void)event_begin(s, r, EVENT_SET_ASIDE);
            bridge_end_event(s->bridge);
        }
    }
}

// One engine step. False when the backend is lost.
static bool step(Sched *s, Error *err) {
    uint32_t n_outputs = 0;
    if (!engine_step(s->engine, s->outputs, &n_outputs, err)) return false;
    s->now_ns = s->bridge->now_ns();
    count_step(s);
    show_pages(s);
    tell_of_set_aside(s);
    for (uint32_t i = 0; i < n_outputs; i++)
        take_output(s, &s->outputs[i]);
    return true;
}

// Looks every minute whether the device's memory still is the device's.
static void check_residency(Sched *s) {
    if (s->now_ns < s->residency_due_ns) return;
    s->residency_due_ns = s->now_ns + RESIDENCY_INTERVAL_MS * 1000000ull;
    WorkerStatus *status = &s->bridge->status;
    Error err;
    if (atomic_load(&status->residency_lost) || engine_check_residency(s->engine, &err)) return;
    status->residency_error = err;
    atomic_store(&status->residency_lost, true);
    s->bridge->wake_io(s->bridge->wake_context);
}

// The backend is lost: nothing in it is worth releasing.
static void fail_all(Sched *s, const Error *err) {
    uint32_t index;
    while (ring_pop(&s->bridge->submitted, &index)) {
        Running *r = &s->running[index];
        *r = (Running){.job = &s->bridge->jobs[index]};
    }
    for (uint32_t i = 0; i < s->bridge->n_jobs; i++) {
        if (s->running[i].job) send_error(s, &s->running[i], err);
    }
}

SchedTurn sched_turn(Sched *s, Error *err) {
    bool stopping = atomic_load(&s->bridge->stop);
    s->now_ns = s->bridge->now_ns();
    drop_cache(s);
    bool ok = take_jobs(s, err);
    if (ok) {
        end_overdue(s, stopping);
        check_residency(s);
        bridge_tell(s->bridge); // a step may be long
        if (s->n_running == 0) return stopping ? SCHED_TURN_STOPPED : SCHED_TURN_IDLE;
        ok = step(s, err);
    }
    if (!ok) fail_all(s, err);
    bridge_tell(s->bridge);
    return ok ? SCHED_TURN_WORKED : SCHED_TURN_LOST;
}

static bool serve(Sched *s, Error *err) {
    _Atomic uint32_t *signal = &s->bridge->signal;
    for (;;) {
        uint32_t seen = atomic_load(signal);
        switch (sched_turn(s, err)) {
        case SCHED_TURN_WORKED: break;
        case SCHED_TURN_IDLE: os_wait_word(signal, seen, RESIDENCY_INTERVAL_MS); break;
        case SCHED_TURN_STOPPED: return true;
        case SCHED_TURN_LOST: return false;
        }
    }
}

bool sched_run(Sched *s, Error *err) {
    bool ok = serve(s, err);
    engine_end(s->engine);
    return ok;
}
