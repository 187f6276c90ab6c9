// Checks JSON (RFC 8259) while it streams: keeps no text, only where in the grammar it is.
//
// Strings are not looked into beyond escapes and control characters: bytes that are no UTF-8 and lone
// surrogates pass, and so do numbers of any size. JSON_DEPTH_MAX nested containers at most.
#pragma once

#include "base/base.h"
#include "base/limits.h"

typedef enum { JSON_CHECK_MORE, JSON_CHECK_DONE, JSON_CHECK_BAD } JsonCheckState;

typedef struct {
    uint64_t objects; // a bit for each open container: an object, not an array
    uint8_t depth;
    uint8_t expects;  // what may come next
    uint8_t number;   // how far a number is
    uint8_t hex_left; // digits of an escape that are to come
    uint8_t literal;  // of true, false and null: which one
    uint8_t literal_at;
} JsonCheck;

JsonCheck json_check_begin(void);
// Takes bytes of one value, white space in front of it included; *taken says how many. DONE: the value ends
// behind those taken, which for a number is known only at the next byte, or by json_check_end. BAD: the byte
// behind those taken fits nowhere.
JsonCheckState json_check_push(JsonCheck *c, Str text, size_t *taken);
// Whether what was taken is a whole value where nothing follows.
bool json_check_end(const JsonCheck *c);
