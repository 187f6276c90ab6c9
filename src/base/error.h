// Errors are values: a code, a sentence for a person, and where it happened.
//
//   bool thing_do(…, Error *err)   returns false and fills *err; the caller hands it up or prints it, once.
//
// A message names the thing and the place ("blk.3.attn_q.weight: expected [576, 576], found [576, 192]").
#pragma once

#include "base/base.h"

// code, name in the API, HTTP status, retriable, exit code when it ends the program at start-up
#define ERROR_CODES(ROW)                                             \
    ROW(ERR_NONE, "OK", 200, false, 0)                               \
    ROW(ERR_USAGE, "USAGE", 400, false, 2)                           \
    ROW(ERR_BAD_FILE, "MODEL_LOAD_FAILED", 500, false, 1)            \
    ROW(ERR_UNSUPPORTED, "MODEL_LOAD_FAILED", 500, false, 1)         \
    ROW(ERR_IO, "INTERNAL", 500, false, 1)                           \
    ROW(ERR_READER_LEFT, "OUTPUT_CLOSED", 500, false, 0)             \
    ROW(ERR_NO_MEMORY, "INTERNAL", 500, false, 1)                    \
    ROW(ERR_NO_DEVICE, "NO_DEVICE", 500, false, 1)                   \
    ROW(ERR_NO_FILE, "FILE_NOT_FOUND", 500, false, 1)                \
    ROW(ERR_PERMISSION, "PERMISSION_DENIED", 500, false, 1)          \
    ROW(ERR_ADDRESS_IN_USE, "ADDRESS_IN_USE", 500, true, 1)          \
    ROW(ERR_ADDRESS, "ADDRESS_UNAVAILABLE", 500, false, 1)           \
    ROW(ERR_INVALID_REQUEST, "INVALID_REQUEST", 400, false, 1)       \
    ROW(ERR_UNAUTHORIZED, "UNAUTHORIZED", 401, false, 1)             \
    ROW(ERR_FORBIDDEN, "FORBIDDEN", 403, false, 1)                   \
    ROW(ERR_NOT_FOUND, "NOT_FOUND", 404, false, 1)                   \
    ROW(ERR_METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", 405, false, 1) \
    ROW(ERR_TOO_LARGE, "INVALID_REQUEST", 413, false, 1)             \
    ROW(ERR_TOO_LONG, "INVALID_REQUEST", 400, false, 1)              \
    ROW(ERR_BUSY, "BUSY", 503, true, 1)                              \
    ROW(ERR_NOT_READY, "NOT_READY", 503, true, 1)                    \
    ROW(ERR_INSUFFICIENT_VRAM, "INSUFFICIENT_VRAM", 503, true, 1)    \
    ROW(ERR_VRAM_OOM, "VRAM_OOM", 500, true, 1)                      \
    ROW(ERR_CUDA, "CUDA_ERROR", 500, true, 1)                        \
    ROW(ERR_INFERENCE_TIMEOUT, "INFERENCE_TIMEOUT", 504, true, 1)    \
    ROW(ERR_CANCELLED, "CANCELLED", 499, false, 1)                   \
    ROW(ERR_INTERNAL, "INTERNAL", 500, false, 1)

typedef enum {
#define ERROR_ENUM(code, name, http, retriable, exit_code) code,
    ERROR_CODES(ERROR_ENUM)
#undef ERROR_ENUM
        ERR_COUNT
} ErrCode;

enum { ERROR_MESSAGE_BYTES = 512, ERROR_FIELD_BYTES = 48 };

// `position` when the error has no place in a file or buffer.
#define ERROR_NO_POSITION UINT64_MAX

typedef struct {
    ErrCode code;
    uint64_t position;                 // byte offset in the input, or ERROR_NO_POSITION
    char field[ERROR_FIELD_BYTES];     // the request field or flag at fault, or empty
    char message[ERROR_MESSAGE_BYTES]; // zero-terminated, cut when too long, always valid UTF-8 if its parts
                                       // are
} Error;

typedef struct {
    const char *name;
    uint16_t http_status;
    bool retriable;
    uint8_t exit_code;
} ErrorInfo;

const ErrorInfo *error_info(ErrCode code);

static inline bool error_false(void) {
    return false;
}

// Each fills *err and is the value false, so that a failing function can end in `return error_set(…)`.
// (Macros, so that the compiler sees the false.)
#define error_set(err, code, ...) (error_fill((err), (code), ERROR_NO_POSITION, __VA_ARGS__), error_false())
#define error_set_at(err, code, position, ...) \
    (error_fill((err), (code), (position), __VA_ARGS__), error_false())
// Puts "prefix: " before the message that is there.
#define error_prefix(err, ...) (error_fill_prefix((err), __VA_ARGS__), error_false())
// Makes it an error of a request's field ("a.b" is of field a): ERR_INVALID_REQUEST, "a.b: message".
#define error_of_field(err, field) (error_fill_field((err), (field)), error_false())

void error_fill(Error *err, ErrCode code, uint64_t position, const char *format, ...) PRINTF_LIKE(4, 5);
void error_fill_prefix(Error *err, const char *format, ...) PRINTF_LIKE(2, 3);
void error_fill_field(Error *err, const char *field);
