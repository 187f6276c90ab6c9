// The worker's HTTP face: a table of routes, requests into jobs, events of the engine thread into streams.
//
//   GET /health   GET /ready   GET /v1/health/live   GET /v1/health/ready   GET /metrics
//   POST /execute   POST /cancel   POST /shutdown   the OpenAI API's routes, what routers ask of a worker
//   (introspect.c), and the files of ApiConfig
//
// All but the encoder's work runs on the I/O thread, as the HTTP server's handler. Nothing there waits and
// nothing calls the engine: what is told about it comes from the bridge. All memory is allocated by
// api_create.
//
// A request for a job goes from the I/O thread (body, fields, slot) to the encoder thread (prompt to tokens),
// back, and on to the engine thread; a body of more than 64 KiB is parsed on the encoder thread, too. So the
// longest prompt and the largest body hold up no other connection.
//
// Where no tokens are asked for, requests of foreign web pages are refused (web_access.h), and only this
// machine may POST /shutdown.
//
// The end of the server is decided here, too: draining (POST /shutdown, stop signals, a terminal that is
// gone) refuses new jobs, waits for the running ones, at most the grace time, then ends them and stops the
// server; when the engine thread reports WORKER_FAILED, all jobs get its error and the server stops.
#pragma once

#include "api/auth.h"
#include "api/files.h"
#include "api/generate_request.h"
#include "api/web_access.h"
#include "base/log.h"
#include "chat/prompt.h"
#include "jobs/bridge.h"
#include "http/http_server.h"
#include "text/tokenizer.h"

enum { SHUTDOWN_GRACE_MS = 30 * 1000 };

typedef struct Api Api;

// What is known before the engine has started. Strings outlive the Api.
typedef struct {
    Bridge *bridge;
    const Tokenizer *tokenizer;
    const Log *log;
    Auth auth;
    const char *api_token_file; // where its tokens came from, to be read again on SIGHUP; NULL: nowhere
    WebAccess web;              // looked at where no tokens are required
    int supervisor;             // os_supervisor_open; 0: none
    uint64_t started_ns;        // monotonic, of the process
    uint32_t max_tokens_in;     // 0: the context
    uint32_t max_prompt_chars;  // 0: as many as the largest body holds
    uint32_t max_tokens_out;
    uint32_t inference_timeout_sec;
    uint32_t shutdown_grace_ms; // 0: SHUTDOWN_GRACE_MS
    uint32_t context_length;    // of the model; the engine's may be shorter
    BackendInfo opened;         // the backend before it has loaded anything: what it is and on which device
    const ChatModel *chat;      // the model's chat template; in it why there is none
    SamplingDefaults sampling;  // by the model's file
    Str worker_id;
    Str model;        // its name
    Str served_model; // what the OpenAI and Anthropic routes call it
    bool strict_model_name;
    uint64_t model_bytes;  // of its file
    uint64_t n_params;     // of its tensors
    uint64_t content_hash; // of the model's file, for system_fingerprint
    Str model_ref;         // where it came from
    Str quant_kind;
    Str kv_cache_type;    // kv_type_name
    const ApiFile *files; // [n_files] served as they are, each at most API_FILE_BYTES_MAX
    uint32_t n_files;
} ApiConfig;

MUST_CHECK bool api_create(const ApiConfig *config, Arena *arena, Api **out, Error *err);
HttpHandler api_handler(Api *api);
// Before the server runs. A simulator that drives the handler itself attaches none.
void api_attach(Api *api, HttpServer *server);

// The encoder thread: between api_create and the end of http_server_run, or, for a simulator, turns of it
// (true: there was something to do) on the thread that drives the handler.
MUST_CHECK bool api_start_encoder(Api *api, Error *err);
void api_stop_encoder(Api *api);
bool api_encoder_turn(Api *api);
// What the arena of a job must hold (bridge_init).
uint64_t api_job_arena_bytes(uint64_t context_length);

// Why the server stopped, NULL if it was not asked to.
const char *api_drain_reason(const Api *api);
