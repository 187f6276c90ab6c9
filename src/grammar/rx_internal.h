// Between the builder of expressions, their compiler and the reader of patterns.
#pragma once

#include "grammar/lang_internal.h"
#include "grammar/rx.h"

typedef enum {
    RX_KIND_NEVER,
    RX_KIND_EMPTY,
    RX_KIND_SET,     // one character of `ranges`
    RX_KIND_LITERAL, // the characters of `text`
    RX_KIND_CAT,     // a then b
    RX_KIND_ALT,     // a or b
    RX_KIND_REPEAT,  // a, min to max times
    RX_KIND_LANG,    // a text of `lang`
    RX_KIND_START,   // nothing, at the text's start
    RX_KIND_END,     // nothing, at its end
} RxKind;

struct RxNode {
    uint8_t kind; // RxKind
    uint16_t depth;
    uint32_t a, b;
    uint32_t min, max;
    union {
        const RxRange *ranges; // [min] ascending, with gaps between them
        const char *text;      // [min] bytes
        const Lang *lang;
    } as;
};

enum { RX_DEPTH_MAX = 2000, RX_PROGRAM_MAX = 1 << 18 };

// Says what a builder that is full has too much of. Always false.
bool rx_refuse_full(const Rx *rx, Error *err);
// Sorted, joined; in place. Returns the new count.
uint32_t rx_sort_ranges(RxRange *ranges, uint32_t count);
uint32_t rx_add_kind(Rx *rx, RxKind kind); // RX_KIND_START, RX_KIND_END
