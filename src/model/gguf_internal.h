// What gguf.c and gguf_parse.c share.
#pragma once

#include "model/gguf.h"

#include <stdarg.h>

// What a message is about: a file, a place in it, and a key or tensor of it.
typedef struct {
    const char *file;
    uint64_t position; // or ERROR_NO_POSITION
    const char *kind;  // "key" or "tensor", NULL for neither
    Str name;          // valid UTF-8
} GgufPlace;

// Fills *err with "FILE: byte N: KIND \"NAME\": text" and returns false.
bool gguf_error_at(const GgufPlace *place, Error *err, ErrCode code, const char *format, va_list args)
    PRINTF_LIKE(4, 0);

// The slot that holds the row called `name`, or the empty one where it belongs. Rows of both tables start
// with their name. There is always an empty slot, because tables have twice as many slots as rows.
uint32_t *gguf_find_slot(const uint32_t *slots, uint32_t mask, const void *rows, size_t row_size, Str name);

// Slots for so many rows: a power of two, at least twice as many.
uint32_t gguf_slot_count(uint32_t n_rows);

// Bytes of one value in a file; 0 where that varies.
uint32_t gguf_type_size(GgufType type);
