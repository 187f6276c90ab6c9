#include "http/http_output.h"

#include <assert.h>

bool http_output_put(HttpOutput *output, Str bytes) {
    if (bytes.len > http_output_room(output)) return false;
    if (bytes.len == 0) return true;
    size_t to = (output->start + output->size) & (HTTP_OUTPUT_BYTES_MAX - 1);
    size_t before_wrap = (size_t)min_u64(bytes.len, HTTP_OUTPUT_BYTES_MAX - to);
    memcpy(output->bytes + to, bytes.ptr, before_wrap);
    memcpy(output->bytes, bytes.ptr + before_wrap, bytes.len - before_wrap);
    output->size += bytes.len;
    output->touched = (size_t)max_u64(output->touched, to + before_wrap);
    return true;
}

Str http_output_front(const HttpOutput *output) {
    size_t before_wrap = HTTP_OUTPUT_BYTES_MAX - output->start;
    return (Str){output->bytes + output->start, (size_t)min_u64(output->size, before_wrap)};
}

void http_output_drop_front(HttpOutput *output, size_t size) {
    assert(size <= output->size);
    output->size -= size;
    output->start = output->size ? (output->start + size) & (HTTP_OUTPUT_BYTES_MAX - 1) : 0;
}
