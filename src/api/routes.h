// Which handler a request goes to: a table of methods and paths.
//
// A path whose last segment is "{name}" takes everything that follows, slashes included ("/v1/models/{id}"
// takes "/v1/models/org/model"), but not nothing. The text of a path without a parameter goes first.
#pragma once

#include "base/error.h"
#include "http/http_connection.h"

typedef struct Api Api;

typedef struct {
    HttpMethod method;
    const char *path;
    bool open;         // to anybody, also where tokens are required
    uint32_t body_max; // bytes of a request's body; 0: HTTP_BODY_BYTES_MAX
    void (*handle)(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter);
} Route;

// In whose shape errors are written.
typedef enum { ERRORS_OWN, ERRORS_OPENAI, ERRORS_ANTHROPIC } ErrorShape;
// By the beginning of the path, so that also a request for what is not there is told in its client's words.
ErrorShape route_error_shape(Str path);

// The row for this method and path; *parameter is the text in place of "{name}" as it was sent, or empty. A
// HEAD is a GET (http_respond leaves its body out). NULL: ERR_NOT_FOUND, or ERR_METHOD_NOT_ALLOWED with the
// path's methods in err->field, as the Allow header has them.
const Route *route_find(const Route *routes, size_t n_routes, HttpMethod method, Str path, Str *parameter,
                        Error *err);

// A parameter without its percent escapes, written to `out`. False when an escape is cut or no hexadecimal
// number, and when `out` is too small.
MUST_CHECK bool route_decode_parameter(Str parameter, char *out, size_t size, Str *decoded);
