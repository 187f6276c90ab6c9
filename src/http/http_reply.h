// A server's reply: its head, and the body's bytes among those that arrive. For clients; pure and
// incremental.
#pragma once

#include "base/error.h"
#include "http/http_parser.h"

typedef struct {
    uint16_t status;
    HttpHeader headers[HTTP_HEADERS_MAX];
    uint32_t header_count;
    Str body; // only from http_client_exchange
} HttpClientReply;

const Str *http_client_reply_header(const HttpClientReply *reply, Str name);

// The size of the head in front of the bytes, with its empty line; 0 when its end has not come yet.
size_t http_reply_head_size(Str bytes);
// The slices point into `head`. Errors are ERR_IO.
MUST_CHECK bool http_reply_parse_head(Str head, HttpClientReply *reply, Error *err);

// How far the body has come.
typedef struct {
    bool chunked;
    bool until_close; // its end is the connection's
    bool done;
    uint64_t left; // of a body of known length
    HttpChunkedDecoder decoder;
} HttpReplyBody;

// is_head: the reply to a HEAD request, which has no body.
MUST_CHECK bool http_reply_begin_body(const HttpClientReply *reply, bool is_head, HttpReplyBody *body,
                                      Error *err);
// Takes [bytes, bytes + size) off the connection and moves the body's own bytes, *written of them, to the
// front. Bytes behind the body's end are dropped.
MUST_CHECK bool http_reply_take(HttpReplyBody *body, char *bytes, size_t size, size_t *written, Error *err);
// The server has closed the connection. False where the body is not whole.
MUST_CHECK bool http_reply_close(HttpReplyBody *body, Error *err);
