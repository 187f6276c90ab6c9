// Tokens of a template's source: text between tags, and what is in the tags.
//
// Follows jinja2's lexer with trim_blocks and lstrip_blocks: the line end behind a block is dropped, and so
// is the white space between a line's start and a block; "-" in a tag drops all white space on its side, "+"
// none. Line ends become "\n", and one at the source's end is dropped.
#pragma once

#include "base/arena.h"
#include "base/error.h"

typedef enum {
    T_EOF,
    T_DATA, // text between tags
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_NAME,
    T_STRING, // the value, without quotes and escapes
    T_INTEGER,
    T_FLOAT,
    T_OPERATOR, // text: "+", "==", …
} TokenKind;

typedef struct {
    TokenKind kind;
    uint32_t line;
    Str text;
    int64_t integer;
    double real;
} Token;

// All tokens of a source, ended by T_EOF, in the arena. Errors: "line N: …".
MUST_CHECK bool template_lex(Str source, Arena *arena, const Token **out, Error *err);
