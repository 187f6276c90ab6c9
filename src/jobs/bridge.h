// What the threads of a worker share: a table of jobs, a ring of new jobs to the engine thread (sched/), a
// ring of their events to the I/O thread (api/), and the state of the worker as all may read it.
//
// A job's entry in the table has one owner at a time:
//   the I/O thread takes it (bridge_take_job), writes its id and times, and gives it to
//   the encoder thread (api/encoder.h), which writes the tokens and the rest of the request and gives it
//   back; the I/O thread answers a request that turned out to be wrong, or gives it (bridge_submit) to the
//   engine thread, until the I/O thread has taken the job's terminal event (EVENT_END or EVENT_ERROR, exactly
//   one); the I/O thread frees it (bridge_free_job).
// Meanwhile the I/O thread may write `cancel` and read the id and the times.
//
// Full rings: the job ring never is, since of the submitted jobs, at most JOBS_MAX, each is in it once. When
// the event ring is, the engine thread waits; so the I/O thread never waits for the engine thread before the
// phase is WORKER_STOPPED or WORKER_FAILED, after which no event comes.
#pragma once

#include "backend/backend.h"
#include "backend/sampler.h"
#include "base/limits.h"
#include "base/ring.h"
#include "engine/kv_pages.h"
#include "grammar/grammar.h"

typedef enum {
    CANCEL_NONE,
    CANCEL_REQUESTED, // POST /cancel
    CANCEL_GONE,      // the client has disconnected
    CANCEL_SHUTDOWN,  // the worker stops
    CANCEL_TOGETHER,  // another job of the same request has failed
} CancelReason;

typedef struct {
    Arena arena; // the job's own; empty again after bridge_free_job
    uint8_t *arena_start;
    bool taken; // I/O thread only
    // The request, checked. Strings and ids are in the arena.
    Str id;
    const int32_t *tokens; // [n_tokens]
    uint32_t n_tokens;
    uint32_t max_tokens;
    SamplerParams sampler;
    Str stop[STOP_STRINGS_MAX];
    uint32_t n_stop;
    int32_t stop_tokens[STOP_STRINGS_MAX]; // control tokens that end the text as a stop string does
    uint32_t n_stop_tokens;
    bool ignores_eos;    // ends of text are tokens like others
    bool shows_special;  // control tokens give their text
    bool returns_tokens; // ids with the events; so do sampler.logprobs
    // Whose cached beginnings the job may go on from, and who may from its own: jobs with the same salt. The
    // start of the SHA-256 of the request's `cache_salt`; zeros where it has none.
    uint8_t cache_salt[CACHE_SALT_BYTES];
    // What the text is held to, or NULL; stays in place until the job's entry is freed.
    const Grammar *grammar;
    const char *grammar_field; // of the request that had it
    // Tokens that the reader of the answer knows by id: each has an event of its own, and no text.
    const int32_t *marks; // [n_marks] ascending; outlive the job
    uint32_t n_marks;
    // What the log may say of the prompt: its length, and the start of its SHA-256. Of ids, those of their
    // bytes (32 bits each, little-endian).
    uint64_t prompt_bytes;
    char prompt_sha256[17];
    uint64_t accepted_ns;    // monotonic
    uint64_t expires_ns;     // monotonic: the timeout or the client's deadline, whichever is first
    _Atomic uint32_t cancel; // a CancelReason
} Job;

typedef enum { STOP_EOS, STOP_STRING, STOP_LENGTH } StopReason;

const char *stop_reason_name(StopReason reason); // "eos", "stop", "length"

typedef enum {
    EVENT_STARTED, // admitted; comes first, unless the first is EVENT_ERROR
    EVENT_TOKEN,
    EVENT_METRICS,
    EVENT_SET_ASIDE, // the cache is full: it waits for pages that older jobs have taken, then goes on
    EVENT_END,
    EVENT_ERROR,
} JobEventKind;

typedef struct {
    uint32_t job; // index in the table
    JobEventKind kind;
    uint32_t tokens_out;    // drawn so far, without the one that ends a text
    uint32_t tokens_cached; // of the prompt, that were in the cache and not computed
    CacheMiss cache_miss;   // why no more of them were
    uint64_t at_ns;         // monotonic
    uint64_t prefill_ns;    // from admission to the first token drawn; 0 before it
    uint64_t decode_ns;     // from the first token drawn to the last so far
    union {
        struct {
            uint32_t length;
            // Where the job wants ids or log-probabilities there is an event for every token, when it is
            // drawn, with the text that it lets go: none, or that of earlier tokens. Else TOKEN_INVALID, and
            // events have text, or are marks.
            int32_t id;
            bool is_mark;      // of job.marks, with an id and without text; all text before it has been sent
            bool has_logprobs; // sampler.logprobs, and an id
            char text[TEXT_PIECE_BYTES_MAX]; // whole characters
            TokenLogprobs logprobs;
        } token;
        struct {
            StopReason reason;
            int32_t token; // that ended the text, or TOKEN_INVALID
            uint32_t stop; // STOP_STRING without a token: which of job.stop it was
        } end;             // EVENT_END
        struct {
            ErrCode code;
            char field[ERROR_FIELD_BYTES];
            char message[ERROR_MESSAGE_BYTES];
        } error; // EVENT_ERROR
    };
} JobEvent;

typedef enum {
    WORKER_STARTING,
    WORKER_READY,
    WORKER_FAILED,  // could not start, or the backend was lost while serving: see `error`
    WORKER_STOPPED, // asked to, and done
} WorkerPhase;

// What a worker that starts is at, for those who ask it for something meanwhile.
typedef enum { START_LOADING, START_WARM_UP, START_CALLBACK } StartStep;

// Steps by their rows: bucket i has those of more than 2^(i-1) and at most 2^i, the last one all others.
enum { BATCH_ROWS_BUCKETS = 13 };
static_assert(1 << (BATCH_ROWS_BUCKETS - 2) >= PREFILL_CHUNK_TOKENS, "a bound for a step with a chunk alone");

// Written by the engine thread. What is not atomic is written before the phase that publishes it.
typedef struct {
    _Atomic uint32_t phase;      // a WorkerPhase
    _Atomic uint32_t start_step; // a StartStep
    _Atomic uint32_t load_permille;
    _Atomic uint32_t kv_pages_used;   // held by jobs
    _Atomic uint32_t kv_pages_cached; // held by none, and kept for texts that begin as theirs did
    _Atomic uint32_t checkpoints_used;
    _Atomic uint64_t checkpoints_saved, checkpoints_restored, checkpoints_evicted; // since the start
    _Atomic uint64_t batch_steps[BATCH_ROWS_BUCKETS];
    _Atomic uint64_t batch_rows; // of all steps
    _Atomic bool residency_lost; // a check of the device's memory has failed, for good: residency_error
    // from WORKER_READY on
    BackendInfo info;
    uint32_t context_length;
    uint32_t kv_pages_total;
    uint64_t kv_tokens_total; // engine_tokens_held
    double load_seconds;      // everything between start and readiness that the engine thread did
    // from WORKER_FAILED on
    Error error;
    // where residency_lost
    Error residency_error;
} WorkerStatus;

typedef struct {
    Job *jobs; // [n_jobs]
    // Jobs that the engine thread may have at once, and with those that wait or are encoded. They get fewer
    // at most once, before WORKER_READY (bridge_cut_slots).
    _Atomic uint32_t n_slots, n_jobs;
    Ring submitted;           // of uint32_t, indices of jobs
    Ring events;              // of JobEvent
    _Atomic uint32_t signal;  // changes when there is something for the engine thread to look at
    _Atomic bool stop;        // the engine thread ends
    _Atomic bool drops_cache; // it forgets what is kept of texts that are over, and sets this back
    WorkerStatus status;
    // What time it is, monotonic and in Unix time: os_monotonic_ns and os_unix_ms, or a simulator's.
    uint64_t (*now_ns)(void);
    uint64_t (*unix_ms)(void);
    void (*wake_io)(void *context); // from the engine thread, after events or a new phase
    void *wake_context;
    bool has_news; // engine thread only: events since the last bridge_tell
} Bridge;

// `arena` keeps the tables; the jobs' arenas are reserved from the system, for good. There are n_waiting
// entries beside those of the slots. wake_io may be set later, before the engine thread starts.
MUST_CHECK bool bridge_init(Bridge *b, uint32_t n_slots, uint32_t n_waiting, uint64_t job_arena_bytes,
                            Arena *arena, Error *err);

// ---- I/O thread ----

// A free entry with an empty arena, or NULL when all are taken.
Job *bridge_take_job(Bridge *b);
void bridge_free_job(Bridge *b, Job *job);
uint32_t bridge_jobs_taken(const Bridge *b);
static inline uint32_t bridge_job_index(const Bridge *b, const Job *job) {
    return (uint32_t)(job - b->jobs);
}
void bridge_submit(Bridge *b, Job *job);
// The first reason given counts.
void bridge_cancel(Bridge *b, Job *job, CancelReason reason);
// The engine thread forgets what is kept of texts that are over, before it takes jobs submitted later.
void bridge_drop_cache(Bridge *b);
// The engine thread ends its jobs and itself.
void bridge_stop(Bridge *b);

// ---- engine thread ----

// The event to be filled; waits while the ring is full. bridge_end_event hands it over.
JobEvent *bridge_begin_event(Bridge *b);
void bridge_end_event(Bridge *b);
// Wakes the I/O thread where there are events that it was not woken for: a system call, so once a step.
void bridge_tell(Bridge *b);
// The engine has no more slots than this; as many jobs as before may wait. In the phase WORKER_STARTING.
void bridge_cut_slots(Bridge *b, uint32_t n_slots);
void bridge_set_phase(Bridge *b, WorkerPhase phase);

// ---- both ----

static inline WorkerPhase bridge_phase(const Bridge *b) {
    return (WorkerPhase)atomic_load_explicit(&b->status.phase, memory_order_acquire);
}
