#include "http/http_reply.h"

#include "http/http_chars.h"

static bool reply_fail(Error *err, const char *what) {
    return error_set(err, ERR_IO, "%s", what);
}

// ---- the head ----

const Str *http_client_reply_header(const HttpClientReply *reply, Str name) {
    return http_headers_find(reply->headers, reply->header_count, name);
}

size_t http_reply_head_size(Str bytes) {
    static const Str end = {"\r\n\r\n", 4};
    const char *at = bytes.len ? memmem(bytes.ptr, bytes.len, end.ptr, end.len) : NULL;
    return at ? (size_t)(at - bytes.ptr) + end.len : 0;
}

static Str reply_take_line(Str *text) {
    const char *end = memmem(text->ptr, text->len, "\r\n", 2);
    size_t length = end ? (size_t)(end - text->ptr) : text->len;
    Str line = str_slice(*text, 0, length);
    *text = str_slice(*text, end ? length + 2 : length, text->len);
    return line;
}

bool http_reply_parse_head(Str head, HttpClientReply *reply, Error *err) {
    Str line = reply_take_line(&head);
    uint64_t status = 0;
    *reply = (HttpClientReply){0};
    if (line.len < 12 || !str_starts_with(line, STR("HTTP/1.")) || line.ptr[8] != ' ' ||
        !str_parse_u64(str_slice(line, 9, 12), &status)) {
        return reply_fail(err, "the reply is not HTTP/1.1");
    }
    reply->status = (uint16_t)status;
    while ((line = reply_take_line(&head)).len) {
        const char *colon = memchr(line.ptr, ':', line.len);
        if (!colon || reply->header_count == HTTP_HEADERS_MAX) {
            return reply_fail(err, "the reply's header is malformed");
        }
        size_t name_len = (size_t)(colon - line.ptr);
        reply->headers[reply->header_count++] = (HttpHeader){
            .name = str_slice(line, 0, name_len),
            .value = http_trim(str_slice(line, name_len + 1, line.len)),
        };
    }
    return true;
}

// ---- the body ----

bool http_reply_begin_body(const HttpClientReply *reply, bool is_head, HttpReplyBody *body, Error *err) {
    const Str *coding = http_client_reply_header(reply, STR("Transfer-Encoding"));
    const Str *length = http_client_reply_header(reply, STR("Content-Length"));
    *body = (HttpReplyBody){.chunked = coding && http_list_has_token(*coding, STR("chunked"))};
    body->until_close = !body->chunked && !length;
    if (!body->chunked && length && !str_parse_u64(*length, &body->left)) {
        return reply_fail(err, "the reply's Content-Length is malformed");
    }
    body->done = is_head || reply->status == 204 || reply->status == 304 ||
                 (!body->chunked && length && body->left == 0);
    return true;
}

bool http_reply_take(HttpReplyBody *body, char *bytes, size_t size, size_t *written, Error *err) {
    *written = 0;
    if (body->done) return true;
    if (body->chunked) {
        size_t consumed;
        HttpFault fault;
        HttpParse parse = http_decode_chunked(&body->decoder, bytes, bytes, size, &consumed, written, &fault);
        if (parse == HTTP_PARSE_BAD) return reply_fail(err, fault.message);
        body->done = parse == HTTP_PARSE_DONE;
        return true;
    }
    *written = size;
    if (body->until_close) return true;
    *written = (size_t)min_u64(size, body->left);
    body->left -= *written;
    body->done = body->left == 0;
    return true;
}

bool http_reply_close(HttpReplyBody *body, Error *err) {
    if (!body->done && !body->until_close) return reply_fail(err, "the reply ended too early");
    body->done = true;
    return true;
}
