#include "api/routes.h"

#include "base/strbuf.h"

#include <stdio.h>

ErrorShape route_error_shape(Str path) {
    static const struct {
        const char *beginning;
        ErrorShape shape;
    } rows[] = {
        // the first that fits
        {"/v1/messages", ERRORS_ANTHROPIC}, {"/v1/health/", ERRORS_OWN},
        {"/v1/metrics", ERRORS_OWN},        {"/v1/", ERRORS_OPENAI},
        {"/chat/", ERRORS_OPENAI},          {"/completions", ERRORS_OPENAI},
        {"/responses", ERRORS_OPENAI},      {"/models", ERRORS_OPENAI},
        {"/tokenize", ERRORS_OPENAI},       {"/detokenize", ERRORS_OPENAI},
        {"/apply-template", ERRORS_OPENAI},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (str_starts_with(path, str_from_c(rows[i].beginning))) return rows[i].shape;
    }
    return ERRORS_OWN;
}

// A HEAD is a GET whose answer goes without its body.
static bool route_takes(const Route *route, HttpMethod method) {
    return route->method == method || (route->method == HTTP_GET && method == HTTP_HEAD);
}

static bool path_matches(const char *pattern, Str path, Str *parameter) {
    size_t literal = strcspn(pattern, "{");
    *parameter = (Str){0};
    if (!pattern[literal]) return str_eq(path, str_from_c(pattern));
    if (path.len <= literal || memcmp(path.ptr, pattern, literal) != 0) return false;
    *parameter = str_slice(path, literal, path.len);
    return true;
}

static void put_method(StrBuf *list, HttpMethod method) {
    strbuf_printf(list, "%s%s", list->len ? ", " : "", http_method_name(method));
    if (method == HTTP_GET) strbuf_put(list, STR(", HEAD"));
}

enum { PATH_SHOWN_BYTES = 100 };

const Route *route_find(const Route *routes, size_t n_routes, HttpMethod method, Str path, Str *parameter,
                        Error *err) {
    char memory[ERROR_FIELD_BYTES];
    StrBuf allowed = STRBUF(memory);
    const char *known = NULL;
    // Paths without a parameter first: "/v1/models/x" is rather a row of its own than a value of {id}.
    for (int with_parameter = 0; with_parameter < 2; with_parameter++) {
        for (size_t i = 0; i < n_routes; i++) {
            const Route *r = &routes[i];
            bool has_parameter = strchr(r->path, '{') != NULL;
            if (has_parameter != with_parameter || !path_matches(r->path, path, parameter)) continue;
            if (route_takes(r, method)) return r;
            if (!known) known = r->path;
            if (known == r->path || strcmp(known, r->path) == 0) put_method(&allowed, r->method);
        }
    }
    *parameter = (Str){0};
    if (!known) {
        error_fill(err, ERR_NOT_FOUND, ERROR_NO_POSITION, "there is nothing at %.*s%s",
                   (int)min_u64(path.len, PATH_SHOWN_BYTES), path.ptr,
                   path.len > PATH_SHOWN_BYTES ? "…" : "");
        return NULL;
    }
    error_fill(err, ERR_METHOD_NOT_ALLOWED, ERROR_NO_POSITION, "%s: use %s, not %s", known, allowed.ptr,
               http_method_name(method));
    snprintf(err->field, sizeof err->field, "%s", allowed.ptr);
    return NULL;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool route_decode_parameter(Str parameter, char *out, size_t size, Str *decoded) {
    size_t length = 0;
    for (size_t i = 0; i < parameter.len; i++) {
        char c = parameter.ptr[i];
        if (c == '%') {
            if (parameter.len - i < 3) return false;
            int high = hex_value(parameter.ptr[i + 1]), low = hex_value(parameter.ptr[i + 2]);
            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (length == size) return false;
        out[length++] = c;
    }
    *decoded = (Str){out, length};
    return true;
}
