#include "http/http_client.h"

#include "base/strbuf.h"
#include "http/http_chars.h"
#include "os/os.h"
#include "os/os_net.h"

enum { HTTP_CLIENT_REQUEST_BYTES_MAX = 16 * 1024, HTTP_CLIENT_PORT = 80 };

// ---- URLs ----

static bool http_url_fail(Str url, const char *what, Error *err) {
    return error_set(err, ERR_USAGE, "\"%.*s\": %s", STR_ARG(url), what);
}

static bool http_url_split_port(HttpUrl *out) {
    Str authority = out->authority;
    size_t host_end = 0;
    if (authority.ptr[0] == '[') {
        while (authority.ptr[host_end] != ']')
            host_end++;
        out->host = str_slice(authority, 1, host_end++);
    } else {
        while (host_end < authority.len && authority.ptr[host_end] != ':')
            host_end++;
        out->host = str_slice(authority, 0, host_end);
    }
    out->port = HTTP_CLIENT_PORT;
    if (host_end == authority.len) return true;
    uint64_t port;
    if (!str_parse_u64(str_slice(authority, host_end + 1, authority.len), &port)) return false;
    out->port = (uint16_t)port;
    return port > 0 && port <= UINT16_MAX;
}

bool http_url_parse(Str url, HttpUrl *out, Error *err) {
    Str scheme = STR("http://");
    if (url.len < scheme.len || !http_equal_any_case(str_slice(url, 0, scheme.len), scheme)) {
        return http_url_fail(url, "a URL must begin with http:// (https is not supported)", err);
    }
    for (size_t i = 0; i < url.len; i++) {
        if (url.ptr[i] == '#') return http_url_fail(url, "a fragment (#) has no place in this URL", err);
        if (!http_is_target_char((uint8_t)url.ptr[i])) {
            return http_url_fail(url, "a character that must be percent-encoded in a URL", err);
        }
    }
    size_t end = scheme.len;
    while (end < url.len && url.ptr[end] != '/' && url.ptr[end] != '?')
        end++;
    out->authority = str_slice(url, scheme.len, end);
    out->path = end == url.len ? STR("/") : str_slice(url, end, url.len);
    if (memchr(url.ptr, '@', end)) return http_url_fail(url, "user names in URLs are not supported", err);
    if (out->path.ptr[0] != '/') return http_url_fail(url, "a URL needs a / before its query", err);
    if (out->authority.len == 0 || !http_is_authority(out->authority)) {
        return http_url_fail(url, "the host is missing or malformed", err);
    }
    if (!http_url_split_port(out)) return http_url_fail(url, "the port must be 1 to 65535", err);
    if (out->host.len == 0 || out->host.len > HTTP_URL_HOST_BYTES_MAX) {
        return http_url_fail(url, "the host is missing or too long", err);
    }
    return true;
}

// ---- bytes, within the deadline ----

static bool http_client_fail(Error *err, const char *what) {
    return error_set(err, ERR_IO, "%s", what);
}

static uint32_t http_client_left_ms(const HttpClient *client) {
    uint64_t now_ms = os_monotonic_ns() / 1000000;
    return client->deadline_ms > now_ms ? (uint32_t)min_u64(client->deadline_ms - now_ms, UINT32_MAX) : 0;
}

static bool http_client_send(HttpClient *client, Str bytes, Error *err) {
    while (bytes.len) {
        size_t sent = 0;
        OsNetResult result = os_net_send(client->socket, bytes, &sent);
        if (result == OS_NET_OK) {
            bytes = str_slice(bytes, sent, bytes.len);
        } else if (result != OS_NET_WOULD_BLOCK) {
            return http_client_fail(err, "the connection broke while sending the request");
        } else if (!os_net_wait_ready(client->socket, true, http_client_left_ms(client))) {
            return http_client_fail(err, "timed out while sending the request");
        }
    }
    return true;
}

// At least one byte, or 0 when the server has finished sending.
static bool http_client_receive(HttpClient *client, char *out, size_t capacity, size_t *size, Error *err) {
    for (;;) {
        *size = 0;
        // Also of a server that never pauses.
        if (http_client_left_ms(client) == 0)
            return http_client_fail(err, "timed out while waiting for the reply");
        OsNetResult result = os_net_receive(client->socket, out, capacity, size);
        if (result == OS_NET_OK || result == OS_NET_ENDED) return true;
        if (result != OS_NET_WOULD_BLOCK) {
            return http_client_fail(err, "the connection broke while waiting for the reply");
        }
        if (!os_net_wait_ready(client->socket, false, http_client_left_ms(client))) {
            return http_client_fail(err, "timed out while waiting for the reply");
        }
    }
}

// ---- the request ----

static void http_client_put_header(StrBuf *out, Str name, Str prefix, Str value) {
    strbuf_put(out, name);
    strbuf_put(out, STR(": "));
    strbuf_put(out, prefix);
    strbuf_put(out, value);
    strbuf_put(out, STR("\r\n"));
}

static bool http_client_is_line(Str text) {
    for (size_t i = 0; i < text.len; i++) {
        if (!http_is_value_char((uint8_t)text.ptr[i])) return false;
    }
    return true;
}

static bool http_client_send_request(HttpClient *client, const HttpClientRequest *request, const HttpUrl *url,
                                     Error *err) {
    char memory[HTTP_CLIENT_REQUEST_BYTES_MAX];
    StrBuf head = STRBUF(memory);
    bool is_safe = http_client_is_line(request->bearer_token) && http_client_is_line(request->content_type);
    strbuf_printf(&head, "%s %.*s HTTP/1.1\r\n", request->method, STR_ARG(url->path));
    http_client_put_header(&head, STR("Host"), STR(""), url->authority);
    strbuf_put(&head, STR("Connection: close\r\n"));
    if (request->bearer_token.len) {
        http_client_put_header(&head, STR("Authorization"), STR("Bearer "), request->bearer_token);
    }
    if (request->content_type.len) {
        http_client_put_header(&head, STR("Content-Type"), STR(""), request->content_type);
        strbuf_printf(&head, "Content-Length: %zu\r\n", request->body.len);
    }
    for (uint32_t i = 0; i < request->header_count; i++) {
        is_safe = is_safe && http_client_is_line(request->headers[i].value);
        http_client_put_header(&head, request->headers[i].name, STR(""), request->headers[i].value);
    }
    strbuf_put(&head, STR("\r\n"));
    if (head.truncated) return http_client_fail(err, "the request's header is too long");
    if (!is_safe) return http_client_fail(err, "a line break or control character in the request's header");
    return http_client_send(client, strbuf_str(&head), err) &&
           (request->content_type.len == 0 || http_client_send(client, request->body, err));
}

// ---- the reply's head ----

// Receives until the final response's head is there; interim ones (1xx) are passed over.
static bool http_client_receive_head(HttpClient *client, HttpClientReply *reply, bool is_head, Error *err) {
    for (;;) {
        client->head_end = http_reply_head_size((Str){client->head, client->buffered_end});
        if (client->head_end) {
            if (!http_reply_parse_head((Str){client->head, client->head_end}, reply, err)) return false;
            if (reply->status >= 200) return http_reply_begin_body(reply, is_head, &client->body, err);
            client->buffered_end -= client->head_end;
            memmove(client->head, client->head + client->head_end, client->buffered_end);
            continue;
        }
        size_t room = sizeof client->head - client->buffered_end, size;
        if (room == 0) return http_client_fail(err, "the reply's header is too long");
        if (!http_client_receive(client, client->head + client->buffered_end, room, &size, err)) return false;
        if (size == 0) return http_client_fail(err, "the server closed the connection without a reply");
        client->buffered_end += size;
    }
}

bool http_client_open(HttpClient *client, const HttpClientRequest *request, HttpClientReply *reply,
                      Error *err) {
    HttpUrl url;
    *client = (HttpClient){.socket = -1, .deadline_ms = os_monotonic_ns() / 1000000 + request->timeout_ms};
    if (!http_url_parse(request->url, &url, err)) return false;
    bool is_head = str_eq(str_from_c(request->method), STR("HEAD"));
    bool ok = os_net_connect(url.host, url.port, request->timeout_ms, &client->socket, err) &&
              http_client_send_request(client, request, &url, err) &&
              http_client_receive_head(client, reply, is_head, err);
    if (ok) return true;
    http_client_close(client);
    return error_prefix(err, "%s %.*s", request->method, STR_ARG(request->url));
}

void http_client_close(HttpClient *client) {
    if (client->socket >= 0) os_net_close(client->socket);
    client->socket = -1;
}

// ---- the reply's body ----

// Coded bytes: first those that came with the head.
static bool http_client_read_raw(HttpClient *client, char *out, size_t capacity, size_t *size, Error *err) {
    size_t buffered = client->buffered_end - client->head_end;
    if (buffered == 0) return http_client_receive(client, out, capacity, size, err);
    *size = (size_t)min_u64(buffered, capacity);
    memcpy(out, client->head + client->head_end, *size);
    client->head_end += *size;
    return true;
}

bool http_client_read(HttpClient *client, char *out, size_t capacity, size_t *size, Error *err) {
    *size = 0;
    while (*size == 0 && !client->body.done) {
        size_t got;
        if (!http_client_read_raw(client, out, capacity, &got, err)) return false;
        if (got == 0) return http_reply_close(&client->body, err);
        if (!http_reply_take(&client->body, out, got, size, err)) return false;
    }
    return true;
}

// ---- all of it ----

static bool http_client_read_all(HttpClient *client, Arena *arena, Str *body, Error *err) {
    StrBuf out = strbuf_begin_in_arena(arena);
    size_t size;
    do {
        if (out.cap < 2 || out.len + 1 >= out.cap) return http_client_fail(err, "the reply is too long");
        if (!http_client_read(client, out.ptr + out.len, out.cap - 1 - out.len, &size, err)) return false;
        out.len += size;
    } while (size > 0);
    out.ptr[out.len] = 0;
    *body = strbuf_end_in_arena(&out, arena);
    return true;
}

bool http_client_exchange(const HttpClientRequest *request, Arena *arena, HttpClientReply *reply,
                          Error *err) {
    HttpClient client;
    if (!http_client_open(&client, request, reply, err)) return false;
    // The headers' slices point into the client, which goes away.
    for (uint32_t i = 0; i < reply->header_count; i++) {
        reply->headers[i].name = arena_copy_str(arena, reply->headers[i].name);
        reply->headers[i].value = arena_copy_str(arena, reply->headers[i].value);
    }
    bool ok = http_client_read_all(&client, arena, &reply->body, err);
    http_client_close(&client);
    return ok || error_prefix(err, "%s %.*s", request->method, STR_ARG(request->url));
}
