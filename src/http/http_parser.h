// The head of an HTTP/1.1 request (RFC 9112, read strictly) and the chunked coding of a body.
//
// Both are pure and incremental: give them what has arrived so far, in pieces of any size; the outcome does
// not depend on where the pieces were cut. Wherever the RFC lets a recipient choose between repairing and
// refusing, this one refuses, so that it and any proxy before it cannot disagree on where a request ends.
#pragma once

#include "base/base.h"
#include "base/limits.h"

typedef enum {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_PATCH,
    HTTP_TRACE,
    HTTP_METHOD_COUNT,
} HttpMethod;

const char *http_method_name(HttpMethod method);

typedef struct {
    Str name;
    Str value; // without the blanks around it
} HttpHeader;

// The slices point into the bytes that were parsed.
typedef struct {
    HttpMethod method;
    Str target; // as sent
    Str path;   // begins with '/' ("*" for OPTIONS *); percent escapes are left as they are
    Str query;  // what follows '?', or empty
    HttpHeader headers[HTTP_HEADERS_MAX];
    uint32_t header_count;
    uint32_t minor_version; // 0 for HTTP/1.0, else 1
    Str body;               // decoded; set by http_connection
    // framing, for http_connection
    uint64_t content_length;
    bool has_content_length;
    bool chunked;
    bool keep_alive;
    bool expects_continue;
} HttpRequest;

// The first header of this name, in any case, or NULL.
const Str *http_request_header(const HttpRequest *request, Str name);
// Whether a comma-separated list header holds the token, in any case.
bool http_list_has_token(Str list, Str token);

// The length of "http://" or "https://" in front of a URL or a page's origin; 0 where neither is.
size_t http_scheme_length(Str url);

// Where no single byte is at fault.
#define HTTP_NO_POSITION UINT32_MAX

// Why a request is refused. The connection is closed after the answer.
typedef struct {
    uint16_t status;     // 400, 408, 413, 414, 415, 417, 431, 501, 503, 505
    uint32_t position;   // of the byte at fault, in the head or the coded body; or HTTP_NO_POSITION
    const char *message; // a constant sentence
    uint64_t limit;      // of a 413: the most bytes that a body may have; else 0
} HttpFault;

typedef enum {
    HTTP_PARSE_INCOMPLETE,
    HTTP_PARSE_DONE,
    HTTP_PARSE_BAD,
} HttpParse;

// ---- the head ----

typedef struct {
    uint32_t scanned;    // bytes looked at
    uint32_t line_start; // of the line being scanned
    uint32_t lines;      // complete ones before it, the request line included
    bool skipped_empty;  // one empty line before the request line is tolerated
    uint32_t head_bytes; // when done: the size of the head
} HttpHeadParser;

// `bytes` is all that has arrived since the request's first byte, at the same address in every call for this
// request (the slices in *request point there). Zero *parser and *request for each new one. Takes time linear
// in the new bytes. When done, parser->head_bytes says where the body begins.
HttpParse http_parse_head(HttpHeadParser *parser, Str bytes, HttpRequest *request, HttpFault *fault);

// ---- a chunked body ----

typedef struct {
    uint8_t state;
    uint8_t size_digits;
    uint64_t chunk_left;
    uint64_t body_bytes;    // decoded so far
    uint64_t coded_bytes;   // consumed so far
    uint32_t ignored_bytes; // chunk extensions and trailers, together bounded by HTTP_CHUNK_IGNORED_BYTES_MAX
    uint32_t line_bytes;    // of the trailer line being read
    bool line_has_colon;
    uint32_t body_bytes_max; // set before the first byte; 0: HTTP_BODY_BYTES_MAX
} HttpChunkedDecoder;

// Decodes as much of [from, from + size) as there is to `to` (which may overlap, at or before `from`).
// *consumed and *written are set on every outcome; nothing after the body's end is consumed. Zero *decoder
// first. At most body_bytes_max bytes are written in all.
HttpParse http_decode_chunked(HttpChunkedDecoder *decoder, char *to, const char *from, size_t size,
                              size_t *consumed, size_t *written, HttpFault *fault);
