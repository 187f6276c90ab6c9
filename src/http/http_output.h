// Bytes on their way to a client: a ring of HTTP_OUTPUT_BYTES_MAX bytes that starts again at 0 whenever it
// has run empty, so that only a connection with a slow reader ever touches much of it.
#pragma once

#include "base/base.h"
#include "base/limits.h"

typedef struct {
    char *bytes;
    size_t start;
    size_t size;
    size_t touched; // the most that was ever reached
} HttpOutput;

static inline size_t http_output_room(const HttpOutput *output) {
    return HTTP_OUTPUT_BYTES_MAX - output->size;
}

// All of the bytes, or none where they do not fit: false.
MUST_CHECK bool http_output_put(HttpOutput *output, Str bytes);
// The longest piece at the front that lies in one part; empty when there is nothing.
Str http_output_front(const HttpOutput *output);
void http_output_drop_front(HttpOutput *output, size_t size);
