#include "api/api_internal.h"

#include <assert.h>

enum { EXTRA_HEADERS_MAX = 2 + API_FILE_HEADERS_MAX };

StrBuf api_text(Api *api) {
    return strbuf_from_memory(api->text, API_TEXT_BYTES);
}

uint32_t api_common_headers(const Api *api, Str correlation_id, HttpHeader out[API_HEADERS_MAX]) {
    uint32_t n = 0;
    out[n++] = (HttpHeader){STR("X-Correlation-Id"), correlation_id};
    out[n++] = (HttpHeader){STR("X-Request-Id"), correlation_id}; // the OpenAI client's name for it
    if (api->error_shape == ERRORS_ANTHROPIC) out[n++] = (HttpHeader){STR("Request-Id"), correlation_id};
    Str cors_origin = api->config.web.cors_origin;
    if (cors_origin.len == 0) return n;
    out[n++] = (HttpHeader){STR("Access-Control-Allow-Origin"), cors_origin};
    out[n++] = (HttpHeader){STR("Access-Control-Expose-Headers"),
                            STR("X-Correlation-Id, X-Request-Id, Request-Id, Retry-After")};
    return n;
}

static void reply(Api *api, HttpExchange exchange, uint16_t status, const char *content_type, Str body,
                  const HttpHeader *extra, uint32_t n_extra) {
    HttpHeader headers[API_HEADERS_MAX + EXTRA_HEADERS_MAX];
    uint32_t n_headers = api_common_headers(api, str_from_c(api->correlation_id), headers);
    assert(n_extra <= EXTRA_HEADERS_MAX);
    for (uint32_t i = 0; i < n_extra; i++)
        headers[n_headers++] = extra[i];
    const HttpRequest *request = http_exchange_request(exchange);
    if (request) {
        // Only the known paths and methods get here with a status of their own, and a query is not logged.
        log_event(api->config.log, LOG_REQUEST,
                  LOG_STR("method", str_from_c(http_method_name(request->method))),
                  LOG_STR("path", status == 404 ? STR("(unknown path)") : request->path),
                  LOG_U64("status", status), LOG_STR("correlation_id", str_from_c(api->correlation_id)));
    }
    (void)http_respond(exchange, &(HttpResponse){.status = status,
                                                 .content_type = str_from_c(content_type),
                                                 .body = body,
                                                 .headers = headers,
                                                 .header_count = n_headers}); // gone: on_closed says so
}

void api_reply(Api *api, HttpExchange exchange, uint16_t status, const char *content_type, Str body) {
    reply(api, exchange, status, content_type, body, NULL, 0);
}

void api_reply_preflight(Api *api, HttpExchange exchange) {
    HttpHeader headers[API_HEADERS_MAX + 3];
    uint32_t n = api_common_headers(api, str_from_c(api->correlation_id), headers);
    headers[n++] = (HttpHeader){STR("Access-Control-Allow-Methods"), STR("GET, POST")};
    headers[n++] = (HttpHeader){
        STR("Access-Control-Allow-Headers"),
        STR("Authorization, X-Api-Key, Content-Type, X-Correlation-Id, X-Request-Id, X-Deadline, "
            "Anthropic-Version, Anthropic-Beta, Anthropic-Dangerous-Direct-Browser-Access")};
    headers[n++] = (HttpHeader){STR("Access-Control-Max-Age"), STR("86400")};
    (void)http_respond(exchange, &(HttpResponse){.status = 204, .headers = headers, .header_count = n});
}

void api_reply_file(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiFile *file) {
    char tag[API_FILE_TAG_BYTES];
    api_file_tag(file, tag);
    HttpHeader headers[EXTRA_HEADERS_MAX] = {{STR("ETag"), str_from_c(tag)},
                                             {STR("Cache-Control"), STR("no-cache")}};
    uint32_t n_headers = 2;
    for (uint32_t i = 0; i < file->n_headers; i++)
        headers[n_headers++] = file->headers[i];
    const Str *known = http_request_header(request, STR("If-None-Match"));
    if (known && api_file_is_known(*known, str_from_c(tag))) {
        reply(api, exchange, 304, NULL, (Str){0}, headers, n_headers);
        return;
    }
    Str body = {file->data, file->size};
    reply(api, exchange, 200, file->content_type, body, headers, n_headers);
}

void api_put_error(JsonWriter *w, const Error *err, Str correlation_id) {
    // `field` carries the methods of a 405, which are a header.
    bool has_field = err->field[0] && err->code != ERR_METHOD_NOT_ALLOWED;
    json_member_str(w, "code", str_from_c(error_info(err->code)->name));
    json_member_str(w, "message", str_from_c(err->message));
    if (has_field) json_member_str(w, "field", str_from_c(err->field));
    json_member_bool(w, "retriable", error_info(err->code)->retriable);
    json_member_str(w, "correlation_id", correlation_id);
}

// The message, after the words by which clients of an API know that a request is longer than the context:
// they look for them in the text.
static void put_message(JsonWriter *w, const Error *err, const char *too_long) {
    json_key(w, "message");
    json_open_str(w);
    if (err->code == ERR_TOO_LONG) json_add_to_str(w, str_from_c(too_long));
    json_add_to_str(w, str_from_c(err->message));
    json_close_str(w);
}

// In the shape of the OpenAI API. `param` is the field, and `code` what clients tell errors apart by.
static void put_openai_error(JsonWriter *w, const Error *err, Str correlation_id) {
    const char *type = err->code == ERR_UNAUTHORIZED              ? "authentication_error"
                       : err->code == ERR_FORBIDDEN               ? "permission_error"
                       : err->code == ERR_BUSY                    ? "rate_limit_error"
                       : error_info(err->code)->http_status < 500 ? "invalid_request_error"
                                                                  : "server_error";
    bool is_model = err->code == ERR_NOT_FOUND && strcmp(err->field, "model") == 0;
    const char *code = err->code == ERR_TOO_LONG       ? "context_length_exceeded"
                       : is_model                      ? "model_not_found"
                       : err->code == ERR_BUSY         ? "rate_limit_exceeded"
                       : err->code == ERR_UNAUTHORIZED ? "invalid_api_key"
                                                       : error_info(err->code)->name;
    bool has_field = err->field[0] && err->code != ERR_METHOD_NOT_ALLOWED;
    json_key(w, "error");
    json_open_object(w);
    put_message(w, err, "the request is longer than the model's context length: ");
    json_member_str(w, "type", str_from_c(type));
    if (has_field) json_member_str(w, "param", str_from_c(err->field));
    else json_member_null(w, "param");
    json_member_str(w, "code", str_from_c(code));
    json_member_bool(w, "retriable", error_info(err->code)->retriable);
    json_member_str(w, "correlation_id", correlation_id);
    json_close_object(w);
}

// In the shape of the Anthropic API.
static void put_anthropic_error(JsonWriter *w, const Error *err, Str correlation_id) {
    uint16_t status = error_info(err->code)->http_status;
    const char *type = err->code == ERR_UNAUTHORIZED ? "authentication_error"
                       : err->code == ERR_FORBIDDEN  ? "permission_error"
                       : err->code == ERR_NOT_FOUND  ? "not_found_error"
                       : err->code == ERR_TOO_LARGE  ? "request_too_large"
                       : err->code == ERR_BUSY       ? "rate_limit_error"
                       : err->code == ERR_NOT_READY  ? "overloaded_error"
                       : status < 500                ? "invalid_request_error"
                                                     : "api_error";
    json_member_str(w, "type", STR("error"));
    json_key(w, "error");
    json_open_object(w);
    json_member_str(w, "type", str_from_c(type));
    put_message(w, err, "prompt is too long: ");
    json_member_str(w, "code", str_from_c(error_info(err->code)->name));
    if (err->field[0] && err->code != ERR_METHOD_NOT_ALLOWED)
        json_member_str(w, "field", str_from_c(err->field));
    json_member_bool(w, "retriable", error_info(err->code)->retriable);
    json_member_str(w, "correlation_id", correlation_id);
    json_close_object(w);
    json_member_str(w, "request_id", correlation_id);
}

void api_put_error_body(JsonWriter *w, ErrorShape shape, const Error *err, Str correlation_id) {
    json_open_object(w);
    switch (shape) {
    case ERRORS_OPENAI: put_openai_error(w, err, correlation_id); break;
    case ERRORS_ANTHROPIC: put_anthropic_error(w, err, correlation_id); break;
    case ERRORS_OWN:
        json_key(w, "error");
        json_open_object(w);
        api_put_error(w, err, correlation_id);
        json_close_object(w);
        break;
    }
    json_close_object(w);
}

// Clients of these APIs, and routers before them, come back after a 429, and drop a worker that says 503.
static uint16_t status_of(ErrorShape shape, const Error *err) {
    if (shape != ERRORS_OWN && err->code == ERR_BUSY) return 429;
    return error_info(err->code)->http_status;
}

void api_reply_error(Api *api, HttpExchange exchange, const Error *err) {
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    api_put_error_body(&w, api->error_shape, err, str_from_c(api->correlation_id));
    HttpHeader allow = {STR("Allow"), str_from_c(err->field)};
    HttpHeader retry = {STR("Retry-After"), STR("1")};
    HttpHeader challenge = {STR("WWW-Authenticate"), STR("Bearer")};
    const HttpHeader *extra = err->code == ERR_METHOD_NOT_ALLOWED                   ? &allow
                              : err->code == ERR_UNAUTHORIZED                       ? &challenge
                              : err->code == ERR_BUSY || err->code == ERR_NOT_READY ? &retry
                                                                                    : NULL;
    reply(api, exchange, status_of(api->error_shape, err), "application/json", strbuf_str(&text), extra,
          extra ? 1 : 0);
}

// ---- requests that are answered later ----

void api_reply_request_error(Api *api, const ApiRequest *r, const Error *err) {
    memcpy(api->correlation_id, r->correlation_id, sizeof api->correlation_id);
    api->error_shape = r->dialect->errors;
    api_reply_error(api, r->exchange, err);
}

void api_reply_request(Api *api, const ApiRequest *r, uint16_t status, Str json) {
    memcpy(api->correlation_id, r->correlation_id, sizeof api->correlation_id);
    api->error_shape = r->dialect->errors;
    api_reply(api, r->exchange, status, "application/json", json);
}

void api_begin_stream(Api *api, ApiRequest *r) {
    HttpHeader headers[API_HEADERS_MAX];
    if (r->is_answering) return;
    api->error_shape = r->dialect->errors;
    uint32_t n_headers = api_common_headers(api, str_from_c(r->correlation_id), headers);
    r->is_answering = true;
    (void)http_stream_begin(r->exchange, headers, n_headers); // gone: on_closed says so
}
