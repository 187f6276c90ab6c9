// What the files of api/ share. See api.h.
#pragma once

#include "api/api.h"
#include "api/encoder.h"
#include "api/execute_request.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "json/json_writer.h"

enum {
    API_TEXT_BYTES = 32 * 1024,
    REQUEST_JOBS_MAX = 1, // jobs of one request: an API whose requests have several choices needs more
};

typedef struct ApiRequest ApiRequest;
typedef struct ApiJob ApiJob;

// The fields of a request, as its API has them.
typedef union {
    ExecuteRequest execute;
} ApiFields;

// How one API speaks with its clients; each has a const table of these. A request has one or more jobs (its
// choices) and one exchange. Its answer is a stream or one whole text, as its fields say: an API that answers
// whole gathers its text in the request's memory and replies from `done`.
typedef struct {
    // Any thread. Strings point into the body or the arena.
    bool (*parse)(Str body, uint32_t nodes_max, const RequestLimits *limits, Arena *arena, ApiFields *out,
                  Error *err);
    // Encoder thread: all of a job but its id and times. `choice` counts from 0.
    bool (*encode)(const ApiFields *fields, uint32_t choice, const RequestLimits *limits,
                   const Tokenizer *tokenizer, Arena scratch, Job *job, Error *err);
    Str (*job_id)(const ApiFields *fields);
    // I/O thread, as events come. `started` comes once a job and first, `done` or `error` once and last.
    void (*started)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job);
    void (*token)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job, const JobEvent *e);
    void (*metrics)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job, const JobEvent *e);
    void (*done)(Api *api, ApiRequest *request, ApiJob *mine, const Job *job, const JobEvent *e);
    // Also of requests that became no job. Before the answer began it is one with the error's status.
    void (*error)(Api *api, ApiRequest *request, const Error *err);
} ApiDialect;

typedef enum {
    REQUEST_FREE,
    REQUEST_WAITS,   // a large body, for memory
    REQUEST_COPIES,  // its body is copied out of the connection's memory, which ends with the connection
    REQUEST_PARSES,  // with the encoder thread
    REQUEST_ENCODES, // with the encoder thread, and has its jobs
    REQUEST_RUNS,    // its jobs are with the engine thread
} ApiRequestState;

// One HTTP request for jobs, from its arrival until its answer is complete.
struct ApiRequest {
    ApiRequestState state;
    const ApiDialect *dialect;
    HttpExchange exchange; // none once the client has gone
    char correlation_id[CORRELATION_ID_BYTES_MAX + 1];
    uint64_t accepted_ns;
    uint64_t expires_ns;
    RequestLimits limits;
    Arena memory; // of its own, for a small body
    int large;    // the large memory that it has, -1: none
    Arena arena;  // what is left of the one or the other
    char *body;   // in it
    size_t body_bytes, body_copied;
    ApiFields fields;
    Error error;       // of the encoder thread's work
    bool is_answering; // a part of the answer has gone out
    uint32_t jobs[REQUEST_JOBS_MAX];
    uint32_t n_jobs, jobs_open;
};

// The I/O thread's side of a job, beside the bridge's table.
struct ApiJob {
    uint32_t request;
    uint32_t next_index; // of token events
    uint64_t last_token_ns;
    uint64_t prefill_ns;
    double first_token_ms;
};

struct Api {
    ApiConfig config;
    HttpServer *server;
    ApiJob *jobs;         // [n_jobs] as in the bridge
    ApiRequest *requests; // [n_requests]
    uint32_t n_requests;
    Encoder encoder;
    OsThread encoder_thread;
    Arena large[REQUEST_LARGE_BODIES_MAX];
    bool large_taken[REQUEST_LARGE_BODIES_MAX];
    Metrics metrics;
    bool failed;         // the engine thread's failure was seen and passed on
    bool lost_residency; // was seen and logged
    bool server_stopped; // asked to
    const char *drain_reason;
    uint64_t drain_until_ms;
    uint64_t fail_until_ms; // a worker that has failed says so until then
    uint32_t hangups;       // SIGHUPs acted upon
    Arena token_memory[2];  // for the bearer tokens in use, and for those of the next reading
    uint32_t token_turn;    // the one in use
    Arena json_arena;       // for POST /cancel
    Arena scratch;          // the encoder thread's, for encoding
    char *text;             // [API_TEXT_BYTES] a body or an event being written
    JobEvent event;         // the one being handled
    // of the request being handled
    Route file_route; // where it is for a file
    char correlation_id[CORRELATION_ID_BYTES_MAX + 1];
};

// ---- reply.c: answers that are no streams ----

StrBuf api_text(Api *api); // the api's buffer, empty
// The headers of every answer: the correlation id, and who may read it.
enum { API_HEADERS_MAX = 3 };
uint32_t api_common_headers(const Api *api, Str correlation_id, HttpHeader out[API_HEADERS_MAX]);
// Each sends the correlation id along.
void api_reply(Api *api, HttpExchange exchange, uint16_t status, const char *content_type, Str body);
void api_reply_error(Api *api, HttpExchange exchange, const Error *err);
void api_reply_file(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiFile *file);
// An error's members: code, message, field, retriable, correlation_id.
void api_put_error(JsonWriter *w, const Error *err, Str correlation_id);
// To a browser that asks whether a page of another origin may send us a request.
void api_reply_preflight(Api *api, HttpExchange exchange);

// ---- requests.c: from a body to a job ----

bool api_requests_create(Api *api, Arena *arena);
void api_accept(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiDialect *dialect);
// Goes on with what waits, is copied, or comes back from the encoder thread.
void api_advance_requests(Api *api);
void api_request_closed(Api *api, HttpExchange exchange, uint32_t index); // its client has gone
void api_release_request(Api *api, ApiRequest *request);
Job *api_find_job(Api *api, Str id);

// ---- execute.c: POST /execute and POST /cancel ----

void api_execute(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_cancel(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);

// ---- events.c: the engine thread's events ----

void api_take_events(Api *api);
// Ends every job that the engine thread had with the error that lost the engine.
void api_fail_jobs(Api *api, const Error *err);

// ---- health.c ----

void api_health(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_live(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_ready(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_metrics(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
