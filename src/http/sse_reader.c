#include "http/sse_reader.h"

// Takes a whole line off the bytes. What there is of one that is not whole goes into the reader's memory.
static SseResult take_line(SseReader *r, Str *bytes, Str *line) {
    if (r->given) r->length = 0;
    r->given = false;
    const char *end = bytes->len ? memchr(bytes->ptr, '\n', bytes->len) : NULL;
    size_t size = end ? (size_t)(end - bytes->ptr) : bytes->len;
    if (end && r->length == 0) {
        *line = str_slice(*bytes, 0, size);
    } else {
        if (size > r->capacity - r->length) return SSE_TOO_LONG;
        if (size) memcpy(r->memory + r->length, bytes->ptr, size);
        r->length += size;
        *line = (Str){r->memory, r->length};
        r->given = end != NULL;
    }
    *bytes = str_slice(*bytes, size + (end != NULL), bytes->len);
    if (!end) return SSE_INCOMPLETE;
    if (line->len && line->ptr[line->len - 1] == '\r') line->len--;
    return SSE_EVENT;
}

// What follows "NAME:" and a space.
static bool field_value(Str line, Str field, Str *value) {
    if (!str_starts_with(line, field)) return false;
    *value = str_slice(line, field.len, line.len);
    if (value->len && value->ptr[0] == ' ') *value = str_slice(*value, 1, value->len);
    return true;
}

SseResult sse_reader_next(SseReader *r, Str *bytes, SseEvent *event) {
    for (;;) {
        Str line, value;
        SseResult result = take_line(r, bytes, &line);
        if (result != SSE_EVENT) return result;
        if (line.len == 0) {
            r->name_length = 0;
        } else if (field_value(line, STR("data:"), &value)) {
            *event = (SseEvent){.name = {r->name, r->name_length}, .data = value};
            return SSE_EVENT;
        } else if (field_value(line, STR("event:"), &value)) {
            r->name_length = (uint8_t)min_u64(value.len, SSE_NAME_BYTES_MAX);
            memcpy(r->name, value.ptr, r->name_length);
        }
    }
}
