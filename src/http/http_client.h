// A small blocking HTTP/1.1 client for the ready callback; tests use it too. One request a connection, plain
// http only.
//
// Every call has a deadline for the whole exchange, except for resolving a host name, which takes as long as
// the system's resolver does. Any thread; a client belongs to one.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "http/http_reply.h"

enum { HTTP_CLIENT_HEAD_BYTES_MAX = 16 * 1024, HTTP_URL_HOST_BYTES_MAX = 255 };

typedef struct {
    Str host; // without the brackets of an IPv6 address
    uint16_t port;
    Str authority; // host and port as written
    Str path;      // with the query; "/" when the URL has none
} HttpUrl;

// The slices point into `url`. Errors (ERR_USAGE) name the URL: not http://, no host, bad port, user
// information, a fragment or characters that do not belong in a URL.
MUST_CHECK bool http_url_parse(Str url, HttpUrl *out, Error *err);

typedef struct {
    const char *method; // "POST"
    Str url;
    Str bearer_token; // empty for none
    Str content_type; // empty for no body
    Str body;
    const HttpHeader *headers; // more of them
    uint32_t header_count;
    uint32_t timeout_ms;
} HttpClientRequest;

// Sends the request and receives the whole reply, head and body, into the arena; a body that does not fit is
// an error. Any status counts as success. Errors (ERR_IO) name the URL and the step that failed.
MUST_CHECK bool http_client_exchange(const HttpClientRequest *request, Arena *arena, HttpClientReply *reply,
                                     Error *err);

// ---- the same in steps, for replies that are streams ----

typedef struct {
    int socket;
    uint64_t deadline_ms;
    char head[HTTP_CLIENT_HEAD_BYTES_MAX]; // the reply's head, then the body bytes that came with it
    size_t head_end;
    size_t buffered_end;
    HttpReplyBody body;
} HttpClient;

// Connects, sends, and receives the head. On success the caller closes the client.
MUST_CHECK bool http_client_open(HttpClient *client, const HttpClientRequest *request, HttpClientReply *reply,
                                 Error *err);
// The next decoded body bytes, at least one unless the body has ended (*size 0).
MUST_CHECK bool http_client_read(HttpClient *client, char *out, size_t capacity, size_t *size, Error *err);
void http_client_close(HttpClient *client);
