// What the files of api/ share. See api.h.
#pragma once

#include "api/answers.h"
#include "api/api.h"
#include "api/encoder.h"
#include "api/execute_request.h"
#include "api/generate_request.h"
#include "api/grammar_cache.h"
#include "api/look_fields.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "json/json_writer.h"

// A body or an event being written: the largest is a whole answer, and most of it is never touched.
enum { API_TEXT_BYTES = HTTP_OUTPUT_BYTES_MAX, API_REQUEST_ID_BYTES = 48 };

typedef struct ApiRequest ApiRequest;
typedef struct ApiJob ApiJob;

// The fields of a request, as its API has them.
typedef union {
    ExecuteRequest execute;
    GenerateRequest generate;
    LookRequest look;
} ApiFields;

// How one API speaks with its clients; each has a const table of these. A request has one or more jobs (its
// choices) and one exchange, or no job at all where its text is only looked at. Its answer is a stream or
// one whole text, as its fields say: one that answers whole gathers its text (answers.h) and replies when
// its last job is done.
typedef struct {
    const char *name; // for the log
    ErrorShape errors;
    bool queues;   // its jobs wait for a slot; without it a request that finds none is told BUSY
    bool has_jobs; // else `answer` follows `encode`
    // Any thread. Fills request->fields from request->body; strings point into the body or request->arena.
    bool (*parse)(const Api *api, ApiRequest *request, uint32_t nodes_max, Error *err);
    // How many jobs the request has, 1 to REQUEST_JOBS_MAX. NULL: one.
    uint32_t (*n_jobs)(const ApiRequest *request);
    // The client's own name for the job; NULL: it has none, and one is made up that begins with id_prefix.
    Str (*job_id)(const ApiRequest *request);
    const char *id_prefix;
    // Encoder thread, which lends the memory of api_lane: all of a job but its id and times.
    // `choice` counts from 0, in order. Without jobs `job` is NULL.
    bool (*encode)(Api *api, ApiRequest *request, uint32_t choice, Job *job, Error *err);
    // I/O thread, as events come. `started` comes once a job and first, `done` once and last, unless there
    // was an error. NULL: nothing is done.
    void (*started)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job);
    void (*token)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job, const JobEvent *e);
    void (*metrics)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job, const JobEvent *e);
    void (*done)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job, const JobEvent *e);
    // After the last job's `done`, or after `encode` where there are no jobs.
    void (*answer)(Api *api, ApiRequest *request);
    // Once, also of requests that became no job. Before the answer began it is one with the error's status.
    void (*error)(Api *api, ApiRequest *request, const Error *err);
} ApiDialect;

typedef enum {
    REQUEST_FREE,
    REQUEST_WAITS,   // a large body, for memory
    REQUEST_COPIES,  // its body is copied out of the connection's memory, which ends with the connection
    REQUEST_PARSES,  // with the encoder thread
    REQUEST_ENCODES, // with the encoder thread, and has its jobs
    REQUEST_RUNS,    // its jobs wait for a slot, are with the engine thread, or are over
} ApiRequestState;

// One HTTP request for jobs, from its arrival until its answer is complete.
struct ApiRequest {
    ApiRequestState state;
    const ApiDialect *dialect;
    HttpExchange exchange; // none once the client has gone
    char correlation_id[CORRELATION_ID_BYTES_MAX + 1];
    char id[API_REQUEST_ID_BYTES]; // of the answer, where the client has none of its own
    uint64_t accepted_ns;
    uint64_t accepted_unix_ms;
    uint64_t expires_ns;
    uint64_t ticket; // by arrival
    RequestLimits limits;
    Arena memory; // of its own, for a small body, and for what is kept of a large one
    Arena kept;   // what is left of it for the latter
    int large;    // the large memory that it has until its text is encoded, -1: none
    Arena arena;  // what is left of the one or the other
    char *body;   // in it
    // What its answers are held to (hold.c). NULL: to nothing.
    const StructuredAnswer *held_to; // in `fields`
    AnswerGrammar frame;             // where `has_frame`
    bool has_frame;
    uint8_t held_key[GRAMMAR_KEY_BYTES];
    HeldGrammar *held;      // its entry
    bool waits_for_grammar; // that another request makes
    bool is_slow;           // it is in LANE_SLOW
    bool must_slow;         // of the encoder thread's work: it has to go there
    bool gave_up;           // … nobody waits for the answer any more
    uint64_t pushed_ns;     // to an encoder's ring, or since it waits for a grammar
    uint64_t waited_ns;     // in all, so far
    size_t body_bytes, body_copied;
    ApiFields fields;
    Error error;       // of the encoder thread's work
    char found[160];   // … and the value of a wrong type, for the client alone
    bool is_answering; // a part of the answer has gone out
    bool has_failed;   // its error was told; what comes of its other jobs is nobody's
    uint32_t jobs[REQUEST_JOBS_MAX];
    uint32_t n_jobs, jobs_open;
};

typedef enum {
    API_JOB_ENCODES,
    API_JOB_WAITS, // for a slot
    API_JOB_RUNS,
    API_JOB_OVER, // its entry is kept until its request ends
} ApiJobState;

// The I/O thread's side of a job, beside the bridge's table.
struct ApiJob {
    ApiJobState state;
    bool has_slot;
    uint32_t request;
    uint32_t choice;     // of the request's
    uint32_t next_index; // of token events
    uint64_t characters; // of the text so far
    uint64_t encoded_ns; // it waits for a slot since
    uint64_t submitted_ns;
    uint64_t last_token_ns;
    uint64_t prefill_ns;
    double first_token_ms;
    ApiAnswer answer;
};

// Four encoder threads, so that what comes in small bodies waits for no large one, and neither for grammars.
// Those have a thread for themselves, which gives up soon (STRUCTURED_QUICK_WORK); what takes long is made
// from the beginning by the last one. Each lends its memory to what it is at.
typedef enum { LANE_SMALL, LANE_LARGE, LANE_GRAMMAR, LANE_SLOW, LANE_COUNT } LaneId;

// Of the last one, with the one that it is at: what comes then is told that the worker is busy.
enum { SLOW_GRAMMARS_MAX = 8 };

typedef struct {
    Encoder encoder;
    OsThread thread;
    Arena scratch;   // the first two, for encoding
    Arena rendering; // … for templates
    size_t rendered; // bytes of it that were touched
    Arena compiling; // the last two, for schemas and grammars
} EncoderLane;

struct Api {
    ApiConfig config;
    HttpServer *server;
    ApiJob *jobs;         // [n_jobs] as in the bridge
    ApiRequest *requests; // [n_requests]
    uint32_t n_requests;
    uint64_t tickets;        // given to requests so far
    uint32_t slots_taken;    // by jobs that are with the engine thread, or have a slot kept for them
    uint32_t jobs_waiting;   // for a slot
    uint32_t bodies_to_copy; // requests that wait for memory, or are copied
    uint32_t slow_grammars;  // requests in LANE_SLOW
    EncoderLane lanes[LANE_COUNT];
    GrammarCache grammars;
    Arena large[REQUEST_LARGE_BODIES_MAX];
    bool large_taken[REQUEST_LARGE_BODIES_MAX];
    Metrics metrics;
    uint64_t created_unix_ms; // when this was made
    char fingerprint[128];    // system_fingerprint
    bool failed;              // the engine thread's failure was seen and passed on
    bool lost_residency;      // was seen and logged
    bool server_stopped;      // asked to
    const char *drain_reason;
    uint64_t drain_until_ms;
    uint64_t fail_until_ms; // a worker that has failed says so until then
    uint32_t hangups;       // SIGHUPs acted upon
    Arena token_memory[2];  // for the bearer tokens in use, and for those of the next reading
    uint32_t token_turn;    // the one in use
    Arena json_arena;       // for POST /cancel
    Arena answers;          // [n_jobs] answers.h
    char *text;             // [API_TEXT_BYTES] a body or an event being written
    // of the request being handled
    Route file_route; // where it is for a file
    ErrorShape error_shape;
    char correlation_id[CORRELATION_ID_BYTES_MAX + 1];
};

// ---- reply.c: answers that are no streams ----

StrBuf api_text(Api *api); // the api's buffer, empty
// The headers of every answer: the correlation id under the names that each API's clients read, and who may
// read it.
enum { API_HEADERS_MAX = 5 };
uint32_t api_common_headers(const Api *api, Str correlation_id, HttpHeader out[API_HEADERS_MAX]);
// Each sends the correlation id along.
void api_reply(Api *api, HttpExchange exchange, uint16_t status, const char *content_type, Str body);
// In the shape of api->error_shape.
void api_reply_error(Api *api, HttpExchange exchange, const Error *err);
// The same for a request's exchange, whenever that is.
void api_reply_request_error(Api *api, const ApiRequest *request, const Error *err);
void api_reply_request(Api *api, const ApiRequest *request, uint16_t status, Str json);
void api_begin_stream(Api *api, ApiRequest *request);
void api_reply_file(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiFile *file);
// {"error": …} as the API has it.
void api_put_error_body(JsonWriter *w, ErrorShape shape, const Error *err, Str correlation_id);
// An error's members: code, message, field, retriable, correlation_id.
void api_put_error(JsonWriter *w, const Error *err, Str correlation_id);
// To a browser that asks whether a page of another origin may send us a request.
void api_reply_preflight(Api *api, HttpExchange exchange);

// ---- requests.c: from a body to a job ----

RequestLimits api_request_limits(const Api *api);
bool api_requests_create(Api *api, Arena *arena);
EncoderLane *api_lane(Api *api, const ApiRequest *request);
void api_push_encoder(Api *api, ApiRequest *request, LaneId lane, EncoderWork work);
// Its text is encoded, or that failed: it gets its grammar, where it has one, and goes on to the queue.
void api_take_encoded(Api *api, ApiRequest *request, bool ok);
void api_accept(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiDialect *dialect);
// Goes on with what waits, is copied, or comes back from the encoder thread.
void api_advance_requests(Api *api);
void api_request_closed(Api *api, HttpExchange exchange, uint32_t index); // its client has gone
// A job of it is over, and with the last one the request.
void api_close_job(Api *api, Job *job);
void api_release_request(Api *api, ApiRequest *request);
// For what of a request is needed until its answer is complete: a large body's memory ends with encoding.
static inline Arena *api_kept_memory(ApiRequest *request) {
    return request->large >= 0 ? &request->kept : &request->arena;
}
Job *api_find_job(Api *api, Str id);

// ---- hold.c: what answers are held to ----

// Notes what the answers have to be, if anything; `chat` as in structured.h. Refused where the backend cannot
// hold draws to a set of tokens. Encoder thread.
MUST_CHECK bool api_hold_answer(Api *api, ApiRequest *r, const StructuredAnswer *a, const AnswerGrammar *chat,
                                const Job *job, Error *err);
// Compiles it into the request's entry of the cache. False: refused, or r->must_slow, or r->gave_up. Encoder
// thread.
MUST_CHECK bool api_compile_held(Api *api, ApiRequest *r, bool is_slow);
// The I/O thread's part: an entry of the cache for an encoded request; what came of compiling; its end.
void api_take_grammar(Api *api, ApiRequest *r);
void api_take_compiled(Api *api, ApiRequest *r, bool ok);
void api_release_grammar(Api *api, ApiRequest *r);
// Those that only wait for a grammar end with their jobs. Not while some jobs of a request are cancelled, and
// others are about to be.
void api_expire_held(Api *api);

// ---- queue.c: jobs that wait for a slot ----

// A job with its text encoded: it runs as soon as there is a slot.
void api_queue_job(Api *api, Job *job);
// Gives free slots to those that came first.
void api_fill_slots(Api *api);
// How long a job that runs has waited: for encoders, for a grammar that others wait for, too, and for a slot.
uint64_t api_queued_ns(const Api *api, const ApiJob *mine);
// Slots that a job which does not wait may take now.
uint32_t api_slots_free(const Api *api);
// Ends a job in its own time: at once where it waits, else when the encoder or engine thread sees it.
void api_cancel_job(Api *api, Job *job, CancelReason reason);
// Ends those that have waited too long.
void api_expire_waiting(Api *api);

// ---- execute.c: POST /execute and POST /cancel ----

void api_execute(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_cancel(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);

// ---- events.c: the engine thread's events ----

void api_take_events(Api *api);
// Ends a job with an error that the engine thread has no part in.
void api_fail_job(Api *api, Job *job, const Error *err, uint32_t tokens_out);
// Ends every job that the engine thread had with the error that lost the engine.
void api_fail_jobs(Api *api, const Error *err);

// ---- the OpenAI and Anthropic routes, a file each ----

extern const ApiDialect api_chat_dialect, api_completions_dialect, api_responses_dialect,
    api_messages_dialect;

void api_chat_completions(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_completions(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_responses(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_messages(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_count_tokens(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);

// Their fields.
extern const FieldTable execute_fields, chat_completions_fields, completions_fields, responses_fields,
    messages_fields;

// ---- look.c: what a text is for the model, without an answer to it ----

void api_tokenize(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_detokenize(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_apply_template(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);

// ---- api.c and openapi.c: the routes ----

const Route *api_routes(size_t *n);
void api_openapi(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);

// ---- models.c ----

void api_models(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_model(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
bool api_is_anthropic(const HttpRequest *request);
uint64_t api_context_length(const Api *api); // of one sequence

// ---- introspect.c: what routers ask ----

void api_load(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_server_info(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_model_info(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_props(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_version(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_is_sleeping(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_flush_cache(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);

// ---- health.c ----

void api_health(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_live(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_ready(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_metrics(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
