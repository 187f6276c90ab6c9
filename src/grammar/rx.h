// Regular expressions over characters: built node by node, or read from a pattern, then made a Lang.
//
//     Rx rx = rx_begin(&arena);
//     uint32_t word = rx_repeat(&rx, rx_ranges(&rx, letters, COUNT_OF(letters)), 1, RX_UNBOUNDED);
//     Lang words;
//     if (!rx_compile(&rx, rx_cat(&rx, word, rx_literal(&rx, STR("."))), &maker, &words, &err)) …
//
// A builder that is full gives RX_NEVER from then on, and rx_compile says so. Not thread-safe.
#pragma once

#include "grammar/lang.h"

enum { RX_UNBOUNDED = UINT16_MAX, RX_NODES_MAX = 1 << 16, RX_REPEAT_MAX = 10000 };

typedef struct {
    uint32_t first, last;
} RxRange;

typedef struct RxNode RxNode;
typedef enum { RX_HAS_ROOM, RX_TOO_MANY, RX_TOO_DEEP, RX_NO_MEMORY } RxFull;
typedef struct {
    Arena *arena;
    RxNode *nodes;
    uint32_t n_nodes, nodes_cap;
    RxFull full;
} Rx;

#define RX_NEVER 0u // matches nothing
#define RX_EMPTY 1u // matches the empty text

Rx rx_begin(Arena *arena);
uint32_t rx_ranges(Rx *rx, const RxRange *ranges, uint32_t count); // one character; in any order
uint32_t rx_literal(Rx *rx, Str text);                             // valid UTF-8
uint32_t rx_cat(Rx *rx, uint32_t a, uint32_t b);
uint32_t rx_alt(Rx *rx, uint32_t a, uint32_t b);
uint32_t rx_repeat(Rx *rx, uint32_t a, uint32_t min, uint32_t max);
uint32_t rx_lang(Rx *rx, const Lang *lang);

// How a pattern and a text meet.
typedef enum {
    RX_WHOLE,    // all of the text matches
    RX_SEARCHED, // it may match anywhere, as JSON Schema has it
    // All of a part of a text that may go on: a look ahead that could see beyond the part is refused.
    RX_PART,
} RxUse;

// A pattern in the syntax of ECMA-262 (with its flag u). What is not regular, or not supported, is refused by
// name and position (err->position is the byte in the pattern).
MUST_CHECK bool rx_read_pattern(Rx *rx, Str pattern, RxUse use, LangMaker *m, uint32_t *out, Error *err);

MUST_CHECK bool rx_compile(const Rx *rx, uint32_t root, LangMaker *m, Lang *out, Error *err);
