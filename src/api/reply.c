#include "api/api_internal.h"

#include <assert.h>

enum { EXTRA_HEADERS_MAX = 2 };

StrBuf api_text(Api *api) {
    return strbuf_from_memory(api->text, API_TEXT_BYTES);
}

uint32_t api_common_headers(const Api *api, Str correlation_id, HttpHeader out[API_HEADERS_MAX]) {
    out[0] = (HttpHeader){STR("X-Correlation-Id"), correlation_id};
    Str cors_origin = api->config.web.cors_origin;
    if (cors_origin.len == 0) return 1;
    out[1] = (HttpHeader){STR("Access-Control-Allow-Origin"), cors_origin};
    out[2] = (HttpHeader){STR("Access-Control-Expose-Headers"), STR("X-Correlation-Id, Retry-After")};
    return 3;
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
    headers[n++] = (HttpHeader){STR("Access-Control-Allow-Headers"),
                                STR("Authorization, Content-Type, X-Correlation-Id, X-Deadline")};
    headers[n++] = (HttpHeader){STR("Access-Control-Max-Age"), STR("86400")};
    (void)http_respond(exchange, &(HttpResponse){.status = 204, .headers = headers, .header_count = n});
}

void api_reply_file(Api *api, HttpExchange exchange, const HttpRequest *request, const ApiFile *file) {
    char tag[API_FILE_TAG_BYTES];
    api_file_tag(file, tag);
    HttpHeader headers[] = {{STR("ETag"), str_from_c(tag)}, {STR("Cache-Control"), STR("no-cache")}};
    const Str *known = http_request_header(request, STR("If-None-Match"));
    if (known && api_file_is_known(*known, str_from_c(tag))) {
        reply(api, exchange, 304, NULL, (Str){0}, headers, COUNT_OF(headers));
        return;
    }
    Str body = {file->data, file->size};
    reply(api, exchange, 200, file->content_type, body, headers, COUNT_OF(headers));
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

void api_reply_error(Api *api, HttpExchange exchange, const Error *err) {
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_key(&w, "error");
    json_open_object(&w);
    api_put_error(&w, err, str_from_c(api->correlation_id));
    json_close_object(&w);
    json_close_object(&w);
    HttpHeader allow = {STR("Allow"), str_from_c(err->field)};
    HttpHeader retry = {STR("Retry-After"), STR("1")};
    HttpHeader challenge = {STR("WWW-Authenticate"), STR("Bearer")};
    const HttpHeader *extra = err->code == ERR_METHOD_NOT_ALLOWED                   ? &allow
                              : err->code == ERR_UNAUTHORIZED                       ? &challenge
                              : err->code == ERR_BUSY || err->code == ERR_NOT_READY ? &retry
                                                                                    : NULL;
    reply(api, exchange, error_info(err->code)->http_status, "application/json", strbuf_str(&text), extra,
          extra ? 1 : 0);
}
