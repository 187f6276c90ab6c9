#include "api/api_internal.h"

#include "base/uuid.h"
#include "os/os.h"
#include "os/os_net.h"

#include <assert.h>
#include <stdio.h>

// How long clients may take to fetch the last of their streams when the server stops.
enum { STREAM_FLUSH_MS = 2000 };

// A worker that could not start, or lost its device, answers for a moment more, so that whoever looks at its
// health or asks for a job hears why; all of its end takes less than 2 s.
enum { FAILED_ANSWERS_MS = 500, FAILED_FLUSH_MS = 1000 };

// ---- draining ----

// No new jobs from now on. `reason` is for the log, and static; the first counts.
static void drain(Api *api, const char *reason) {
    if (api->drain_reason) return;
    api->drain_reason = reason;
    uint32_t grace_ms = api->config.shutdown_grace_ms ? api->config.shutdown_grace_ms : SHUTDOWN_GRACE_MS;
    api->drain_until_ms = api->config.bridge->now_ns() / 1000000 + grace_ms;
    log_event(api->config.log, LOG_DRAINING, LOG_STR("reason", str_from_c(reason)),
              LOG_U64("jobs_active", bridge_jobs_taken(api->config.bridge)));
    os_supervisor_tell(api->config.supervisor, STR("STOPPING=1"));
    if (api->server) http_server_wake(api->server); // so that an idle worker ends at once
}

// ---- routes ----

static void handle_shutdown(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    if (!api->config.auth.required && !http_exchange_is_from_this_machine(exchange)) {
        Error err;
        error_fill(
            &err, ERR_FORBIDDEN, ERROR_NO_POSITION,
            "only this machine may stop a worker that asks for no tokens; --api-token-file makes it ask");
        api_reply_error(api, exchange, &err);
        return;
    }
    api_reply(api, exchange, 202, "application/json", STR("{\"status\":\"draining\"}"));
    drain(api, "POST /shutdown");
}

static const ApiFile *find_file(const Api *api, Str path) {
    for (uint32_t i = 0; i < api->config.n_files; i++) {
        if (str_eq(path, str_from_c(api->config.files[i].path))) return &api->config.files[i];
    }
    return NULL;
}

static void handle_file(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_reply_file(api, exchange, request, find_file(api, request->path));
}

static const Route routes[] = {
    {HTTP_GET, "/health", true, 0, api_health},
    {HTTP_GET, "/ready", true, 0, api_ready},
    {HTTP_GET, "/v1/health/live", true, 0, api_live},
    {HTTP_GET, "/v1/health/ready", true, 0, api_ready},
    {HTTP_GET, "/metrics", false, 0, api_metrics},
    {HTTP_GET, "/v1/metrics", false, 0, api_metrics},
    {HTTP_POST, "/execute", false, 0, api_execute},
    {HTTP_POST, "/v1/chat/completions", false, 0, api_chat_completions},
    {HTTP_POST, "/chat/completions", false, 0, api_chat_completions},
    {HTTP_POST, "/v1/completions", false, 0, api_completions},
    {HTTP_POST, "/completions", false, 0, api_completions},
    {HTTP_POST, "/v1/responses", false, 0, api_responses},
    {HTTP_POST, "/responses", false, 0, api_responses},
    {HTTP_POST, "/v1/messages", false, 0, api_messages},
    {HTTP_POST, "/v1/messages/count_tokens", false, 0, api_count_tokens},
    {HTTP_POST, "/tokenize", false, 0, api_tokenize},
    {HTTP_POST, "/v1/tokenize", false, 0, api_tokenize},
    {HTTP_POST, "/detokenize", false, 0, api_detokenize},
    {HTTP_POST, "/v1/detokenize", false, 0, api_detokenize},
    {HTTP_POST, "/apply-template", false, 0, api_apply_template},
    {HTTP_GET, "/v1/models", false, 0, api_models},
    {HTTP_GET, "/models", false, 0, api_models},
    {HTTP_GET, "/v1/models/{id}", false, 0, api_model},
    {HTTP_GET, "/models/{id}", false, 0, api_model},
    {HTTP_GET, "/get_load", false, 0, api_load},
    {HTTP_GET, "/server_info", false, 0, api_server_info},
    {HTTP_GET, "/get_server_info", false, 0, api_server_info},
    {HTTP_GET, "/model_info", false, 0, api_model_info},
    {HTTP_GET, "/get_model_info", false, 0, api_model_info},
    {HTTP_GET, "/props", false, 0, api_props},
    {HTTP_GET, "/version", false, 0, api_version},
    {HTTP_GET, "/is_sleeping", false, 0, api_is_sleeping},
    {HTTP_GET, "/openapi.json", false, 0, api_openapi},
    {HTTP_POST, "/flush_cache", false, CANCEL_BODY_BYTES_MAX, api_flush_cache},
    {HTTP_POST, "/cancel", false, CANCEL_BODY_BYTES_MAX, api_cancel},
    {HTTP_POST, "/shutdown", false, CANCEL_BODY_BYTES_MAX, handle_shutdown},
};

const Route *api_routes(size_t *n) {
    *n = COUNT_OF(routes);
    return routes;
}

// The client's, where it is short and printable; else one of our own.
static void choose_correlation_id(Api *api, const HttpRequest *request) {
    const Str *given = http_request_header(request, STR("X-Correlation-Id"));
    if (!given) given = http_request_header(request, STR("X-Request-Id"));
    bool usable = given && given->len > 0 && given->len <= CORRELATION_ID_BYTES_MAX;
    for (size_t i = 0; usable && i < given->len; i++)
        usable = given->ptr[i] > 0x20 && given->ptr[i] < 0x7F;
    if (usable) snprintf(api->correlation_id, sizeof api->correlation_id, "%.*s", STR_ARG(*given));
    if (usable) return;
    uint8_t random[16];
    os_random(random, sizeof random);
    uuid_from_random(random, api->correlation_id);
}

// ---- the handler ----

static bool is_preflight(const Api *api, const HttpRequest *request) {
    return api->config.web.cors_origin.len && request->method == HTTP_OPTIONS &&
           http_request_header(request, STR("Access-Control-Request-Method"));
}

// What is asked of every request where no token is: see web_access.h.
static bool check_web_access(const Api *api, const HttpRequest *request, Error *err) {
    const WebAccess *access = &api->config.web;
    if (api->config.auth.required) return true; // a page that has a token was given it
    if (!web_host_is_allowed(access, request)) {
        return error_set(err, ERR_FORBIDDEN,
                         "the Host header names neither an address nor a name of this worker; "
                         "--allowed-host adds a name");
    }
    if (!web_page_is_allowed(access, request)) {
        return error_set(err, ERR_FORBIDDEN,
                         "pages of other origins may not use this worker; --cors-origin names one that may");
    }
    return true;
}

// A route of each file: what is checked of the others is checked of it, too.
static const Route *find_route(Api *api, const HttpRequest *request, Str *parameter, Error *err) {
    const ApiFile *file = find_file(api, request->path);
    if (!file) return route_find(routes, COUNT_OF(routes), request->method, request->path, parameter, err);
    api->file_route =
        (Route){.method = HTTP_GET, .path = file->path, .open = file->open, .handle = handle_file};
    return route_find(&api->file_route, 1, request->method, request->path, parameter, err);
}

// Clients of the Anthropic API send the token in a header of its own.
static bool is_authorized(const Api *api, const HttpRequest *request) {
    const Auth *auth = &api->config.auth;
    return auth_allows(auth, http_request_header(request, STR("Authorization"))) ||
           auth_allows_token(auth, http_request_header(request, STR("X-Api-Key")));
}

static void choose_error_shape(Api *api, const HttpRequest *request) {
    api->error_shape = route_error_shape(request->path);
    if (api->error_shape == ERRORS_OPENAI && api_is_anthropic(request)) api->error_shape = ERRORS_ANTHROPIC;
}

// The route of a request that may take it; NULL when the request has been answered. `body_bytes` is how long
// its body is, as far as that is known.
static const Route *admit_request(Api *api, HttpExchange exchange, const HttpRequest *request,
                                  uint64_t body_bytes, Str *parameter) {
    Error err;
    choose_correlation_id(api, request);
    choose_error_shape(api, request);
    if (!check_web_access(api, request, &err)) {
        api_reply_error(api, exchange, &err);
        return NULL;
    }
    if (is_preflight(api, request)) { // comes without credentials
        api_reply_preflight(api, exchange);
        return NULL;
    }
    const Route *route = find_route(api, request, parameter, &err);
    if (route && !route->open && !is_authorized(api, request)) {
        error_fill(&err, ERR_UNAUTHORIZED, ERROR_NO_POSITION, "a valid bearer token is required");
        route = NULL;
    }
    if (route && route->body_max && body_bytes > route->body_max) {
        error_fill(&err, ERR_TOO_LARGE, ERROR_NO_POSITION, "%s: the body is larger than %u bytes",
                   route->path, route->body_max);
        route = NULL;
    }
    if (!route) api_reply_error(api, exchange, &err);
    return route;
}

// Nobody sends us megabytes that lead to nothing.
static void on_head(void *context, HttpExchange exchange, const HttpRequest *request) {
    Str parameter;
    const Route *route = admit_request(context, exchange, request, request->content_length, &parameter);
    if (route && route->body_max) http_exchange_limit_body(exchange, route->body_max); // of unknown length
}

static void on_request(void *context, HttpExchange exchange, const HttpRequest *request) {
    Str parameter;
    const Route *route = admit_request(context, exchange, request, request->body.len, &parameter);
    if (route) route->handle(context, exchange, request, parameter);
}

// What is no request, or too long a one, has its correlation id like any other, and its API's form of errors
// as far as its path is known.
static uint32_t on_refused(void *context, uint16_t status, Str message, const HttpRequest *request,
                           HttpHeader *headers, StrBuf *body) {
    static_assert((int)API_HEADERS_MAX <= (int)HTTP_REFUSAL_HEADERS_MAX,
                  "a refusal says what each answer says");
    Api *api = context;
    choose_correlation_id(api, request);
    choose_error_shape(api, request);
    if (api->error_shape != ERRORS_OWN) {
        Error err;
        JsonWriter w = json_writer_begin(body);
        (void)error_set(&err,
                        status == 413   ? ERR_TOO_LARGE
                        : status == 503 ? ERR_BUSY
                                        : ERR_INVALID_REQUEST,
                        "%.*s", STR_ARG(message));
        api_put_error_body(&w, api->error_shape, &err, str_from_c(api->correlation_id));
    }
    log_event(api->config.log, LOG_REQUEST_REFUSED, LOG_U64("status", status),
              LOG_STR("correlation_id", str_from_c(api->correlation_id)));
    return api_common_headers(api, str_from_c(api->correlation_id), headers);
}

static void on_closed(void *context, HttpExchange exchange, uint64_t tag) {
    if (tag) api_request_closed(context, exchange, (uint32_t)tag - 1);
}

static void stop_server(Api *api) {
    if (api->server_stopped) return;
    api->server_stopped = true;
    if (api->server) http_server_stop(api->server, api->failed ? FAILED_FLUSH_MS : STREAM_FLUSH_MS);
}

// What SIGHUP asks for: new tokens in place of the old ones, which stay where no new ones can be had.
static void reread_tokens(Api *api) {
    const char *path = api->config.api_token_file;
    api->hangups = os_hangup_signals();
    if (!path) {
        log_event(api->config.log, LOG_HANGUP, LOG_STR("signal", STR("SIGHUP")));
        return;
    }
    Error err;
    if (!auth_reread_file(path, api->token_memory[!api->token_turn], &api->config.auth, &err)) {
        log_event(api->config.log, LOG_TOKENS_KEPT, LOG_STR("message", str_from_c(err.message)));
        return;
    }
    api->token_turn = !api->token_turn;
    log_event(api->config.log, LOG_TOKENS_READ, LOG_U64("tokens", api->config.auth.n_tokens));
}

// What follows from signals, the engine's phase and the clock.
static void advance(Api *api) {
    Bridge *bridge = api->config.bridge;
    if (os_stop_signals()) drain(api, "stop signal");
    if (os_terminal_hung_up()) drain(api, "the terminal is gone");
    if (os_hangup_signals() != api->hangups) reread_tokens(api);
    uint64_t now_ms = bridge->now_ns() / 1000000;
    WorkerPhase phase = bridge_phase(bridge); // looked at before the events that came before it
    api_advance_requests(api);
    api_take_events(api);
    if (atomic_load(&bridge->status.residency_lost) && !api->lost_residency) {
        api->lost_residency = true;
        const Error *err = &bridge->status.residency_error;
        log_event(api->config.log, LOG_ERROR, LOG_STR("code", str_from_c(error_info(err->code)->name)),
                  LOG_STR("message", str_from_c(err->message)));
    }
    if (phase == WORKER_FAILED && !api->failed) {
        api->failed = true;
        api->fail_until_ms = now_ms + FAILED_ANSWERS_MS;
        api_fail_jobs(api, &bridge->status.error);
    }
    if (api->failed && now_ms >= api->fail_until_ms) stop_server(api);
    if (!api->drain_reason) return;
    if (bridge_jobs_taken(bridge) == 0) {
        stop_server(api);
    } else if (now_ms >= api->drain_until_ms) {
        for (uint32_t i = 0; i < bridge->n_jobs; i++) {
            api_cancel_job(api, &bridge->jobs[i], CANCEL_SHUTDOWN);
        }
    }
}

static void on_wake(void *context) {
    advance(context);
}

static void on_tick(void *context, uint64_t now_ms) {
    (void)now_ms;
    advance(context);
    api_expire_waiting(context);
    api_expire_held(context);
}

// ---- life ----

bool api_create(const ApiConfig *config, Arena *arena, Api **out, Error *err) {
    Api *api = *out = arena_new(arena, Api, 1);
    bool ok = api != NULL;
    if (ok) {
        api->config = *config;
        api->created_unix_ms = config->bridge->unix_ms();
        for (uint32_t i = 0; i < config->n_files; i++) {
            assert(config->files[i].size <= API_FILE_BYTES_MAX);
            assert(config->files[i].n_headers <= API_FILE_HEADERS_MAX);
        }
        api->jobs = arena_new(arena, ApiJob, config->bridge->n_jobs);
        api->text = (char *)os_arena(API_TEXT_BYTES).next; // most of it is never touched
        ok = api->jobs && api->text && api_requests_create(api, arena) &&
             arena_split(arena, CANCEL_BODY_BYTES_MAX * sizeof(JsonNode) + CANCEL_BODY_BYTES_MAX,
                         &api->json_arena);
        for (size_t i = 0; ok && i < COUNT_OF(api->token_memory); i++)
            ok = arena_split(arena, AUTH_MEMORY_BYTES, &api->token_memory[i]);
    }
    return ok || error_set(err, ERR_NO_MEMORY, "no memory for the tables of the HTTP interface");
}

HttpHandler api_handler(Api *api) {
    return (HttpHandler){.context = api,
                         .on_head = on_head,
                         .on_request = on_request,
                         .on_refused = on_refused,
                         .on_closed = on_closed,
                         .on_wake = on_wake,
                         .on_tick = on_tick};
}

void api_attach(Api *api, HttpServer *server) {
    api->server = server;
}

const char *api_drain_reason(const Api *api) {
    return api->drain_reason;
}
