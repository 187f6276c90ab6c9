#include "http/http_parser.h"

#include "http/http_chars.h"

enum { HTTP_METHOD_BYTES_MAX = 32, HTTP_VERSION_BYTES = 8 };

static const char *const http_methods[HTTP_METHOD_COUNT] = {
    [HTTP_GET] = "GET",       [HTTP_HEAD] = "HEAD",       [HTTP_POST] = "POST",   [HTTP_PUT] = "PUT",
    [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS", [HTTP_PATCH] = "PATCH", [HTTP_TRACE] = "TRACE",
};

const char *http_method_name(HttpMethod method) {
    return http_methods[method];
}

static bool http_fault_set(HttpFault *fault, uint16_t status, size_t position, const char *message) {
    *fault = (HttpFault){.status = status, .position = (uint32_t)position, .message = message};
    return false;
}

// ---- lists and look-up ----

// Takes the next element off a comma-separated list; false at its end. Empty elements are passed over.
static bool http_list_next(Str *list, Str *element) {
    while (list->len) {
        const char *comma = memchr(list->ptr, ',', list->len);
        size_t length = comma ? (size_t)(comma - list->ptr) : list->len;
        *element = http_trim((Str){list->ptr, length});
        *list = str_slice(*list, comma ? length + 1 : length, list->len);
        if (element->len) return true;
    }
    return false;
}

bool http_list_has_token(Str list, Str token) {
    Str element;
    while (http_list_next(&list, &element)) {
        if (http_equal_any_case(element, token)) return true;
    }
    return false;
}

const Str *http_headers_find(const HttpHeader *headers, uint32_t count, Str name) {
    for (uint32_t i = 0; i < count; i++) {
        if (http_equal_any_case(headers[i].name, name)) return &headers[i].value;
    }
    return NULL;
}

const Str *http_request_header(const HttpRequest *request, Str name) {
    return http_headers_find(request->headers, request->header_count, name);
}

// ---- lines ----

// Looks at new bytes up to the end of a line. Every check is made on the byte at which it fails, so the
// outcome does not depend on how the bytes were cut into pieces.
static HttpParse http_scan_line(HttpHeadParser *p, Str bytes, HttpFault *fault) {
    while (p->scanned < bytes.len) {
        uint32_t at = p->scanned, in_line = at - p->line_start;
        uint8_t c = (uint8_t)bytes.ptr[at];
        bool after_cr = in_line > 0 && bytes.ptr[at - 1] == '\r';
        if (at >= HTTP_HEADER_BYTES_MAX) {
            http_fault_set(fault, 431, at, "the header is larger than 32 KiB");
            return HTTP_PARSE_BAD;
        }
        if (p->lines == 0 && in_line > HTTP_METHOD_BYTES_MAX + HTTP_TARGET_BYTES_MAX + HTTP_VERSION_BYTES) {
            bool has_method = memchr(bytes.ptr + p->line_start, ' ', HTTP_METHOD_BYTES_MAX) != NULL;
            http_fault_set(fault, has_method ? 414 : 501, at,
                           has_method ? "the request target is longer than 8 KiB" : "unknown method");
            return HTTP_PARSE_BAD;
        }
        if (after_cr != (c == '\n')) {
            http_fault_set(fault, 400, at, "lines must end with CR LF, and neither may stand alone");
            return HTTP_PARSE_BAD;
        }
        bool is_text = http_is_value_char(c) && (p->lines > 0 || c < 0x80);
        if (c != '\r' && c != '\n' && !is_text) {
            http_fault_set(fault, 400, at, "a byte that has no place in an HTTP header");
            return HTTP_PARSE_BAD;
        }
        p->scanned++;
        if (c == '\n') return HTTP_PARSE_DONE;
    }
    return HTTP_PARSE_INCOMPLETE;
}

// ---- the request line ----

bool http_is_authority(Str s) {
    size_t at = 0;
    if (s.len && s.ptr[0] == '[') {
        const char *close = memchr(s.ptr, ']', s.len);
        if (!close || close == s.ptr + 1) return false;
        for (at = 1; s.ptr + at < close; at++) {
            uint8_t c = (uint8_t)s.ptr[at];
            if (http_hex_digit(c) < 0 && c != ':' && c != '.') return false;
        }
        at++;
    } else {
        while (at < s.len && http_is_host_char((uint8_t)s.ptr[at]))
            at++;
    }
    if (at < s.len && s.ptr[at++] != ':') return false;
    while (at < s.len && http_is_digit((uint8_t)s.ptr[at]))
        at++;
    return at == s.len;
}

size_t http_scheme_length(Str url) {
    static const Str schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        size_t length = schemes[i].len;
        if (url.len >= length && http_equal_any_case(str_slice(url, 0, length), schemes[i])) return length;
    }
    return 0;
}

// http://host/path?query or the same with https: what a client sends to a proxy. Servers must take it too.
static bool http_split_absolute_target(HttpRequest *request, Str *path) {
    Str target = request->target;
    size_t from = http_scheme_length(target), to = from;
    while (to < target.len && target.ptr[to] != '/' && target.ptr[to] != '?')
        to++;
    *path = str_slice(target, to, target.len);
    Str authority = str_slice(target, from, to);
    return from && authority.len && authority.ptr[0] != ':' && http_is_authority(authority);
}

static bool http_check_target_chars(Str target, size_t position, HttpFault *fault) {
    for (size_t i = 0; i < target.len; i++) {
        uint8_t c = (uint8_t)target.ptr[i];
        if (!http_is_target_char(c)) {
            return http_fault_set(fault, 400, position + i,
                                  "a character that a request target must not have");
        }
        if (c != '%') continue;
        int high = target.len - i > 2 ? http_hex_digit((uint8_t)target.ptr[i + 1]) : -1;
        int low = high >= 0 ? http_hex_digit((uint8_t)target.ptr[i + 2]) : -1;
        if (low < 0) return http_fault_set(fault, 400, position + i, "'%' needs two hexadecimal digits");
        int value = high * 16 + low;
        if (value < 0x20 || value == 0x7F) {
            return http_fault_set(fault, 400, position + i, "an escaped control character in the target");
        }
    }
    return true;
}

static bool http_parse_target(HttpRequest *request, size_t position, HttpFault *fault) {
    Str target = request->target, path = target;
    if (!http_check_target_chars(target, position, fault)) return false;
    bool is_asterisk = str_eq(target, STR("*")) && request->method == HTTP_OPTIONS;
    bool is_origin = target.len && target.ptr[0] == '/';
    if (!is_asterisk && !is_origin && !http_split_absolute_target(request, &path)) {
        return http_fault_set(fault, 400, position, "the request target is neither a path nor an http URL");
    }
    const char *question = path.len ? memchr(path.ptr, '?', path.len) : NULL;
    size_t path_len = question ? (size_t)(question - path.ptr) : path.len;
    request->query = question ? str_slice(path, path_len + 1, path.len) : (Str){0};
    request->path = path_len ? str_slice(path, 0, path_len) : STR("/");
    return true;
}

static bool http_parse_version(HttpRequest *request, Str version, size_t position, HttpFault *fault) {
    if (version.len != HTTP_VERSION_BYTES || !str_starts_with(version, STR("HTTP/")) ||
        version.ptr[6] != '.' || !http_is_digit((uint8_t)version.ptr[5]) ||
        !http_is_digit((uint8_t)version.ptr[7])) {
        return http_fault_set(fault, 400, position, "expected HTTP/1.1 after the request target");
    }
    if (version.ptr[5] != '1') {
        return http_fault_set(fault, 505, position, "this server speaks HTTP 1.1 and 1.0");
    }
    request->minor_version = version.ptr[7] == '0' ? 0 : 1;
    return true;
}

static bool http_parse_request_line(HttpRequest *request, Str line, size_t position, HttpFault *fault) {
    size_t method_len = 0;
    while (method_len < line.len && http_is_token_char((uint8_t)line.ptr[method_len]))
        method_len++;
    if (method_len == 0 || method_len == line.len || line.ptr[method_len] != ' ') {
        return http_fault_set(fault, 400, position + method_len, "expected a method and a space");
    }
    Str rest = str_slice(line, method_len + 1, line.len);
    const char *space = memchr(rest.ptr, ' ', rest.len);
    if (!space) return http_fault_set(fault, 400, position + line.len, "expected a target and HTTP/1.1");
    size_t target_at = method_len + 1, target_len = (size_t)(space - rest.ptr);
    request->target = str_slice(rest, 0, target_len);
    if (target_len > HTTP_TARGET_BYTES_MAX) {
        return http_fault_set(fault, 414, position + target_at, "the request target is longer than 8 KiB");
    }
    Str version = str_slice(rest, target_len + 1, rest.len);
    if (!http_parse_version(request, version, position + target_at + target_len + 1, fault)) return false;
    uint32_t method = 0;
    while (method < HTTP_METHOD_COUNT &&
           !str_eq(str_slice(line, 0, method_len), str_from_c(http_methods[method]))) {
        method++;
    }
    if (method == HTTP_METHOD_COUNT) return http_fault_set(fault, 501, position, "unknown method");
    request->method = (HttpMethod)method;
    return http_parse_target(request, position + target_at, fault);
}

// ---- header lines ----

static bool http_parse_header_line(HttpRequest *request, Str line, size_t position, HttpFault *fault) {
    size_t name_len = 0;
    while (name_len < line.len && http_is_token_char((uint8_t)line.ptr[name_len]))
        name_len++;
    if (name_len == 0 && http_is_blank(line.ptr[0])) {
        return http_fault_set(fault, 400, position, "a header line must not begin with a blank");
    }
    if (name_len == 0 || name_len == line.len || line.ptr[name_len] != ':') {
        return http_fault_set(fault, 400, position + name_len, "expected a header name followed by ':'");
    }
    if (request->header_count == HTTP_HEADERS_MAX) {
        return http_fault_set(fault, 431, position, "more than 100 header lines");
    }
    request->headers[request->header_count++] = (HttpHeader){
        .name = str_slice(line, 0, name_len),
        .value = http_trim(str_slice(line, name_len + 1, line.len)),
    };
    return true;
}

// ---- what the headers mean for framing (RFC 9112, section 6) ----

typedef struct {
    HttpRequest *request;
    const char *begin;
    HttpFault *fault;
    bool has_host;
    bool has_transfer_encoding;
    bool wants_close;
    bool wants_keep_alive;
} HttpHeadCheck;

static bool http_head_fault(HttpHeadCheck *check, uint16_t status, Str value, const char *message) {
    return http_fault_set(check->fault, status, (size_t)(value.ptr - check->begin), message);
}

static bool http_check_host(HttpHeadCheck *check, Str value) {
    if (check->has_host) return http_head_fault(check, 400, value, "more than one Host header");
    check->has_host = true;
    return http_is_authority(value) || http_head_fault(check, 400, value, "Host is not a host and port");
}

// Repeated headers and lists are refused even where all values agree.
static bool http_check_content_length(HttpHeadCheck *check, Str value) {
    HttpRequest *request = check->request;
    if (request->has_content_length)
        return http_head_fault(check, 400, value, "more than one Content-Length");
    request->has_content_length = true;
    if (value.len == 0) return http_head_fault(check, 400, value, "Content-Length is empty");
    for (size_t i = 0; i < value.len; i++) {
        if (!http_is_digit((uint8_t)value.ptr[i])) {
            return http_head_fault(check, 400, value, "Content-Length is not a decimal number");
        }
    }
    if (!str_parse_u64(value, &request->content_length) || request->content_length > HTTP_BODY_BYTES_MAX) {
        http_head_fault(check, 413, value, "the body is too large");
        check->fault->limit = HTTP_BODY_BYTES_MAX;
        return false;
    }
    return true;
}

static bool http_check_transfer_encoding(HttpHeadCheck *check, Str value) {
    Str list = value, coding;
    check->has_transfer_encoding = true;
    while (http_list_next(&list, &coding)) {
        if (check->request->chunked)
            return http_head_fault(check, 400, coding, "chunked must come last and once");
        if (!http_equal_any_case(coding, STR("chunked"))) {
            return http_head_fault(check, 501, coding, "the only transfer coding known here is chunked");
        }
        check->request->chunked = true;
    }
    return true;
}

static bool http_check_connection(HttpHeadCheck *check, Str value) {
    check->wants_close |= http_list_has_token(value, STR("close"));
    check->wants_keep_alive |= http_list_has_token(value, STR("keep-alive"));
    return true;
}

static bool http_check_expect(HttpHeadCheck *check, Str value) {
    if (check->request->minor_version == 0) return true;
    check->request->expects_continue = true;
    return http_equal_any_case(value, STR("100-continue")) ||
           http_head_fault(check, 417, value, "the only expectation known here is 100-continue");
}

static bool http_check_content_encoding(HttpHeadCheck *check, Str value) {
    return value.len == 0 || http_equal_any_case(value, STR("identity")) ||
           http_head_fault(check, 415, value, "no Content-Encoding is known here: send the body as it is");
}

static const struct {
    Str name;
    bool (*check)(HttpHeadCheck *check, Str value);
} http_framing_headers[] = {
    {{"host", 4}, http_check_host},
    {{"content-length", 14}, http_check_content_length},
    {{"transfer-encoding", 17}, http_check_transfer_encoding},
    {{"connection", 10}, http_check_connection},
    {{"expect", 6}, http_check_expect},
    {{"content-encoding", 16}, http_check_content_encoding},
};

static bool http_check_head(HttpRequest *request, Str head, HttpFault *fault) {
    HttpHeadCheck check = {.request = request, .begin = head.ptr, .fault = fault};
    for (uint32_t i = 0; i < request->header_count; i++) {
        for (size_t row = 0; row < COUNT_OF(http_framing_headers); row++) {
            if (!http_equal_any_case(request->headers[i].name, http_framing_headers[row].name)) continue;
            if (!http_framing_headers[row].check(&check, request->headers[i].value)) return false;
        }
    }
    if (check.has_transfer_encoding) {
        const char *problem = request->has_content_length   ? "both Content-Length and Transfer-Encoding"
                              : request->minor_version == 0 ? "Transfer-Encoding in an HTTP/1.0 request"
                              : !request->chunked           ? "Transfer-Encoding is empty"
                                                            : NULL;
        if (problem) return http_fault_set(fault, 400, HTTP_NO_POSITION, problem);
    }
    if (!check.has_host && request->minor_version > 0) {
        return http_fault_set(fault, 400, HTTP_NO_POSITION, "the Host header is missing");
    }
    request->keep_alive = !check.wants_close && (request->minor_version > 0 || check.wants_keep_alive);
    return true;
}

HttpParse http_parse_head(HttpHeadParser *p, Str bytes, HttpRequest *request, HttpFault *fault) {
    for (;;) {
        HttpParse scan = http_scan_line(p, bytes, fault);
        if (scan != HTTP_PARSE_DONE) return scan;
        uint32_t from = p->line_start;
        Str line = str_slice(bytes, from, p->scanned - 2);
        p->line_start = p->scanned;
        if (line.len == 0 && p->lines == 0) {
            if (p->skipped_empty) {
                http_fault_set(fault, 400, from, "more than one empty line before the request");
                return HTTP_PARSE_BAD;
            }
            p->skipped_empty = true;
            continue;
        }
        if (line.len == 0) {
            p->head_bytes = p->scanned;
            Str head = str_slice(bytes, 0, p->scanned);
            return http_check_head(request, head, fault) ? HTTP_PARSE_DONE : HTTP_PARSE_BAD;
        }
        bool ok = p->lines == 0 ? http_parse_request_line(request, line, from, fault)
                                : http_parse_header_line(request, line, from, fault);
        if (!ok) return HTTP_PARSE_BAD;
        p->lines++;
    }
}
