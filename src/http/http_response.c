#include "http/http_response.h"

#include "base/error.h"
#include "http/http_chars.h"
#include "json/json_writer.h"

enum {
    HTTP_RESPONSE_HEAD_BYTES_MAX = 8 * 1024,
    HTTP_CHUNK_FRAME_BYTES_MAX = 16, // size, CR LF, and CR LF behind the data
};

static const Str http_last_chunk = {"0\r\n\r\n", 5};

static const struct {
    uint16_t status;
    const char *reason;
} http_reasons[] = {
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

// ---- heads ----

static void http_write_status_line(StrBuf *out, uint16_t status, const char *date) {
    const char *reason = "";
    for (size_t i = 0; i < COUNT_OF(http_reasons); i++) {
        if (http_reasons[i].status == status) reason = http_reasons[i].reason;
    }
    strbuf_printf(out, "HTTP/1.1 %u %s\r\n", status, reason);
    if (date[0]) strbuf_printf(out, "Date: %s\r\n", date);
}

// Values may come from a client (a correlation id), and must not be able to add lines.
static void http_write_header(StrBuf *out, Str name, Str value) {
    strbuf_put(out, name);
    strbuf_put(out, STR(": "));
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = (uint8_t)value.ptr[i];
        strbuf_put_char(out, c < 0x20 || c == 0x7F ? '?' : (char)c);
    }
    strbuf_put(out, STR("\r\n"));
}

static void http_write_headers(StrBuf *out, const HttpHeader *headers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        http_write_header(out, headers[i].name, headers[i].value);
}

static void http_write_connection(StrBuf *out, const HttpConnection *c) {
    if (c->close_after_response) {
        strbuf_put(out, STR("Connection: close\r\n"));
    } else if (c->request.minor_version == 0) {
        strbuf_put(out, STR("Connection: keep-alive\r\n"));
    }
}

// ---- refusals ----

static void http_write_plain_refusal(StrBuf *body, bool is_busy, Str message, const Str *correlation_id) {
    const ErrorInfo *info = error_info(is_busy ? ERR_BUSY : ERR_INVALID_REQUEST);
    JsonWriter w = json_writer_begin(body);
    json_open_object(&w);
    json_key(&w, "error");
    json_open_object(&w);
    json_member_str(&w, "code", str_from_c(info->name));
    json_member_str(&w, "message", message);
    json_member_bool(&w, "retriable", info->retriable);
    if (correlation_id) json_member_str(&w, "correlation_id", *correlation_id);
    json_close_object(&w);
    json_close_object(&w);
}

void http_write_refusal(const HttpShared *shared, const HttpFault *fault, const HttpRequest *request,
                        StrBuf *out) {
    HttpHeader headers[HTTP_REFUSAL_HEADERS_MAX];
    uint32_t header_count = 0;
    const HttpHandler *handler = &shared->handler;
    char memory[HTTP_REFUSAL_BYTES_MAX / 2], message[HTTP_REFUSAL_BYTES_MAX / 4];
    bool is_busy = fault->status == 503;
    StrBuf text = STRBUF(message), body = STRBUF(memory);
    strbuf_put(&text, str_from_c(fault->message));
    if (fault->limit) strbuf_printf(&text, ": at most %llu bytes", (unsigned long long)fault->limit);
    if (fault->status == 400 && fault->position != HTTP_NO_POSITION)
        strbuf_printf(&text, " (byte %u)", fault->position);
    if (handler->on_refused)
        header_count =
            handler->on_refused(handler->context, fault->status, strbuf_str(&text), request, headers, &body);
    if (!body.len)
        http_write_plain_refusal(&body, is_busy, strbuf_str(&text),
                                 http_headers_find(headers, header_count, STR("X-Correlation-Id")));
    http_write_status_line(out, fault->status, shared->date);
    strbuf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    if (is_busy) strbuf_put(out, STR("Retry-After: 1\r\n"));
    http_write_headers(out, headers, header_count);
    strbuf_put(out, STR("Connection: close\r\n\r\n"));
    strbuf_put(out, strbuf_str(&body));
}

// ---- exchanges ----

bool http_exchange_is_open(HttpExchange x) {
    if (!x.connection || x.connection->generation != x.generation) return false;
    HttpConnectionState state = x.connection->state;
    return state == HTTP_CONNECTION_HANDLING || state == HTTP_CONNECTION_STREAMING;
}

const HttpRequest *http_exchange_request(HttpExchange x) {
    return http_exchange_is_open(x) ? &x.connection->request : NULL;
}

bool http_exchange_is_from_this_machine(HttpExchange x) {
    return http_exchange_is_open(x) && x.connection->is_from_this_machine;
}

void http_exchange_limit_body(HttpExchange x, uint32_t most_bytes) {
    if (http_exchange_is_open(x)) x.connection->body_bytes_max = most_bytes;
}

void http_exchange_set_tag(HttpExchange x, uint64_t tag) {
    if (http_exchange_is_open(x)) x.connection->tag = tag;
}

uint64_t http_exchange_tag(HttpExchange x) {
    return http_exchange_is_open(x) ? x.connection->tag : 0;
}

static bool http_exchange_has_state(HttpExchange x, HttpConnectionState state) {
    return http_exchange_is_open(x) && x.connection->state == state;
}

static bool http_exchange_lose(HttpExchange x) {
    x.connection->shared->lost_responses++;
    http_connection_drop(x.connection);
    return false;
}

static void http_exchange_complete(HttpExchange x) {
    x.connection->state = HTTP_CONNECTION_RESPONDED;
    x.connection->generation = 0;
    http_connection_mark_dirty(x.connection);
}

bool http_respond(HttpExchange x, const HttpResponse *response) {
    if (!http_exchange_has_state(x, HTTP_CONNECTION_HANDLING)) return false;
    HttpConnection *c = x.connection;
    if (response->close || c->shared->draining) c->close_after_response = true;
    char memory[HTTP_RESPONSE_HEAD_BYTES_MAX];
    StrBuf head = STRBUF(memory);
    Str body = response->body;
    if (c->request.method == HTTP_HEAD) body.len = 0;
    http_write_status_line(&head, response->status, c->shared->date);
    if (response->content_type.len) http_write_header(&head, STR("Content-Type"), response->content_type);
    bool has_length = response->status != 204 && response->status != 304;
    if (has_length) strbuf_printf(&head, "Content-Length: %zu\r\n", response->body.len);
    http_write_connection(&head, c);
    http_write_headers(&head, response->headers, response->header_count);
    strbuf_put(&head, STR("\r\n"));
    if (head.truncated) return http_exchange_lose(x);
    if (!http_connection_send(c, strbuf_str(&head)) || !http_connection_send(c, body)) return false;
    http_exchange_complete(x);
    return true;
}

// ---- streams ----

bool http_stream_begin(HttpExchange x, const HttpHeader *headers, uint32_t header_count) {
    if (!http_exchange_has_state(x, HTTP_CONNECTION_HANDLING)) return false;
    HttpConnection *c = x.connection;
    bool is_chunked = c->request.minor_version > 0;
    if (!is_chunked || c->shared->draining) c->close_after_response = true;
    char memory[HTTP_RESPONSE_HEAD_BYTES_MAX];
    StrBuf head = STRBUF(memory);
    http_write_status_line(&head, 200, c->shared->date);
    strbuf_put(&head, STR("Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
                          "X-Accel-Buffering: no\r\n"));
    if (is_chunked) strbuf_put(&head, STR("Transfer-Encoding: chunked\r\n"));
    http_write_connection(&head, c);
    http_write_headers(&head, headers, header_count);
    strbuf_put(&head, STR("\r\n"));
    if (head.truncated) return http_exchange_lose(x);
    if (!http_connection_send(c, strbuf_str(&head))) return false;
    c->state = HTTP_CONNECTION_STREAMING;
    c->comment_due_ms = c->shared->now_ms + c->shared->timeouts.keepalive_comment_ms;
    return true;
}

// "1a\r\n"
static Str write_chunk_size(size_t size, char out[HTTP_CHUNK_FRAME_BYTES_MAX]) {
    static const char digits[] = "0123456789abcdef";
    char *end = out + HTTP_CHUNK_FRAME_BYTES_MAX, *at = end;
    *--at = '\n';
    *--at = '\r';
    do
        *--at = digits[size & 15];
    while (size >>= 4);
    return (Str){at, (size_t)(end - at)};
}

static bool send_events(HttpExchange x, Str events, size_t behind_max) {
    if (!http_exchange_has_state(x, HTTP_CONNECTION_STREAMING)) return false;
    HttpConnection *c = x.connection;
    // An empty chunk would end the stream.
    if (events.len == 0) return true;
    // The end of the stream has its room in any case.
    if (c->output.size + events.len + HTTP_CHUNK_FRAME_BYTES_MAX + http_last_chunk.len > behind_max)
        return http_exchange_lose(x);
    c->comment_due_ms = c->shared->now_ms + c->shared->timeouts.keepalive_comment_ms;
    if (c->request.minor_version == 0) return http_connection_send(c, events);
    char memory[HTTP_CHUNK_FRAME_BYTES_MAX];
    return http_connection_send(c, write_chunk_size(events.len, memory)) && http_connection_send(c, events) &&
           http_connection_send(c, STR("\r\n"));
}

bool http_stream_send(HttpExchange x, Str events) {
    return send_events(x, events, HTTP_STREAM_BEHIND_MAX);
}

bool http_stream_send_whole(HttpExchange x, Str events) {
    return send_events(x, events, HTTP_OUTPUT_BYTES_MAX);
}

bool http_stream_end(HttpExchange x) {
    if (!http_exchange_has_state(x, HTTP_CONNECTION_STREAMING)) return false;
    bool is_chunked = x.connection->request.minor_version > 0;
    if (is_chunked && !http_connection_send(x.connection, http_last_chunk)) return false;
    http_exchange_complete(x);
    return true;
}
