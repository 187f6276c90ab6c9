#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

static const ErrorInfo error_table[ERR_COUNT] = {
#define ERROR_ROW(code, name, http, retriable, exit_code) [code] = {name, http, retriable, exit_code},
    ERROR_CODES(ERROR_ROW)
#undef ERROR_ROW
};

const ErrorInfo *error_info(ErrCode code) {
    return &error_table[(unsigned)code < ERR_COUNT ? code : ERR_INTERNAL];
}

// vsnprintf may cut a character in half; the message goes into JSON, so the torn bytes are dropped.
static void error_trim_torn_character(char *text, size_t len) {
    size_t start = len;
    while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0) return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (len - (start - 1) < need) text[start - 1] = 0;
}

void error_fill(Error *err, ErrCode code, uint64_t position, const char *format, ...) {
    *err = (Error){.code = code, .position = position};
    va_list args;
    va_start(args, format);
    int length = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (length >= (int)sizeof err->message) error_trim_torn_character(err->message, sizeof err->message - 1);
}

void error_fill_prefix(Error *err, const char *format, ...) {
    char old[ERROR_MESSAGE_BYTES];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    int prefix = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (prefix < 0 || (size_t)prefix >= sizeof err->message) return;
    int rest = snprintf(err->message + prefix, sizeof err->message - (size_t)prefix, ": %s", old);
    if (prefix + rest >= (int)sizeof err->message)
        error_trim_torn_character(err->message, sizeof err->message - 1);
}

void error_fill_field(Error *err, const char *field) {
    error_fill_prefix(err, "%s", field);
    err->code = ERR_INVALID_REQUEST;
    snprintf(err->field, sizeof err->field, "%.*s", (int)strcspn(field, "."), field);
}
