// What the files of api/ share. See api.h.
#pragma once

#include "api/api.h"
#include "api/execute_request.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "json/json_writer.h"

// The I/O thread's side of a job, beside the bridge's table.
typedef struct {
    HttpExchange exchange;
    bool streaming;      // `started` was sent
    uint32_t next_index; // of token events
    uint64_t last_token_ns;
    uint64_t prefill_ns;
    double first_token_ms;
    char correlation_id[CORRELATION_ID_BYTES_MAX + 1];
} ApiJob;

struct Api {
    ApiConfig config;
    HttpServer *server;
    ApiJob *jobs; // [n_jobs] as in the bridge
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
    Arena json_arena;       // for one request's JSON
    Arena scratch;          // for encoding a prompt
    char *text;             // [API_TEXT_BYTES] a body or an event being written
    JobEvent event;         // the one being handled
    // of the request being handled
    Route file_route; // where it is for a file
    char correlation_id[CORRELATION_ID_BYTES_MAX + 1];
};

enum { API_TEXT_BYTES = 32 * 1024 };

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

// ---- execute.c: POST /execute and POST /cancel ----

void api_execute(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_cancel(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_job_closed(Api *api, HttpExchange exchange, uint32_t index); // its client has gone

// ---- events.c: the engine thread's events ----

void api_take_events(Api *api);
// Ends every job with the error that lost the engine.
void api_fail_jobs(Api *api, const Error *err);

// ---- health.c ----

void api_health(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_live(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_ready(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
void api_metrics(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
