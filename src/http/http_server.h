// The HTTP server: an epoll loop on one thread, with everything allocated when it is opened.
//
// Memory: each connection has its own reserved range of addresses for a head and body of the largest size and
// for HTTP_OUTPUT_BYTES_MAX of output. Pages are touched only as far as bytes arrive, and what lies beyond
// HTTP_SMALL_INPUT_BYTES is given back to the system after each request. At most HTTP_LARGE_BODIES_MAX
// connections may be beyond that at once (others get 503 with Retry-After), so the resident size stays under
// about HTTP_LARGE_BODIES_MAX * HTTP_BODY_BYTES_MAX + connections_max * HTTP_SMALL_INPUT_BYTES, plus unread
// output.
//
// Work is given out in turns (http_connection.h): whoever was served longest ago has the next one. With
// connections_max connections open, a new one takes the place of one that can be spared (HttpPlace);
// where the requests of all are being answered, it gets 503 and is closed.
//
// Threads: http_server_run and the handler run on the I/O thread; http_server_wake may be called from any
// thread and from signal handlers.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "http/http_connection.h"

typedef struct HttpServer HttpServer;

typedef struct {
    Str host;                 // name or address, such as "127.0.0.1", "::1", "0.0.0.0"
    uint16_t port;            // 0: the system picks one
    uint32_t connections_max; // 0: HTTP_CONNECTIONS_MAX
    HttpTimeouts timeouts;
    HttpHandler handler;
} HttpServerConfig;

// Listens from here on; connections are taken up by http_server_run. Errors name host and port (in
// use, not permitted, no such address) or say ERR_NO_MEMORY.
MUST_CHECK bool http_server_open(HttpServer **out, Arena *arena, const HttpServerConfig *config, Error *err);
// The port that it listens on.
uint16_t http_server_port(const HttpServer *server);
// Whether it listens on an address that other machines may reach.
bool http_server_is_open_to_others(const HttpServer *server);
// Serves until http_server_stop has done its work. Errors: the system refuses to wait for events (ERR_IO).
MUST_CHECK bool http_server_run(HttpServer *server, Error *err);
// Runs the handler's on_wake soon.
void http_server_wake(HttpServer *server);
// A descriptor to which 8 bytes (a number from 1) may be written instead, for os_install_stop_signals.
int http_server_wake_fd(const HttpServer *server);
// Takes no more connections, closes the idle ones, lets requests in progress be answered for `grace_ms`, then
// drops them (on_closed); after that http_server_run returns. For the I/O thread.
void http_server_stop(HttpServer *server, uint32_t grace_ms);
// Frees what the system holds, after run has returned or instead of it.
void http_server_close(HttpServer *server);

typedef struct {
    uint32_t connections;
    uint64_t connections_accepted;
    uint64_t connections_refused;
    uint64_t responses_lost; // to clients that did not read
} HttpServerStats;
// For the I/O thread, or after http_server_run has returned.
HttpServerStats http_server_stats(const HttpServer *server);
