// Server-sent events as they arrive, in pieces of any size.
//
// An event is given out with its line of data, before the empty line behind it has come; the name is that of
// the line "event:" before. Data of several lines come as several events. Lines end with LF or CR LF.
// Comments and other fields are passed over.
#pragma once

#include "base/base.h"

typedef struct {
    Str name; // empty for none
    Str data;
} SseEvent;

enum { SSE_NAME_BYTES_MAX = 31 }; // of a longer name this much counts

// `memory` holds the part of a line that has come, so `capacity` is the most that a cut line may have.
typedef struct {
    char *memory;
    size_t capacity, length;
    bool given; // the line in memory was given out
    char name[SSE_NAME_BYTES_MAX];
    uint8_t name_length;
} SseReader;

static inline SseReader sse_reader_begin(char *memory, size_t capacity) {
    return (SseReader){.memory = memory, .capacity = capacity};
}

typedef enum { SSE_EVENT, SSE_INCOMPLETE, SSE_TOO_LONG } SseResult;

// Takes what it reads off *bytes. The event's slices point into the bytes or into the reader, and hold until
// the next call.
SseResult sse_reader_next(SseReader *r, Str *bytes, SseEvent *event);
