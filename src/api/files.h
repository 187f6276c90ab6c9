// Files that are part of the program and served as they are: one row each, of API_FILE_BYTES_MAX at most.
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "http/http_connection.h"

typedef struct {
    const char *path; // of the request: "/", "/openapi.json"
    const char *content_type;
    const void *data;
    size_t size;
    bool open;                 // to anybody, also where tokens are required
    const HttpHeader *headers; // [n_headers], API_FILE_HEADERS_MAX at most, beside the usual ones
    uint32_t n_headers;
} ApiFile;

enum { API_FILE_TAG_BYTES = 19, API_FILE_HEADERS_MAX = 6 };

// The entity tag: the first 16 hexadecimal digits of the content's SHA-256, in quotes.
void api_file_tag(const ApiFile *file, char out[API_FILE_TAG_BYTES]);
// Whether a client's If-None-Match names this tag (RFC 9110, 13.1.2): "*", or a list that holds it, weak or
// not.
bool api_file_is_known(Str if_none_match, Str tag);
