// What the readers of written grammars (gbnf.c, lark.c) share: a place in the text, names and their rules,
// parts of sequences in the making, leaves of characters.
#pragma once

#include "grammar/grammar_text_formats.h"
#include "grammar/rx.h"

enum {
    READER_NEST_MAX = 128, // parentheses within each other
    READER_SPARE_PARTS = 64,
};

typedef struct {
    Str name;
    GrammarNode rule;
    size_t used_at; // where it was met first
    bool is_set, is_imported;
} ReaderName;

typedef struct {
    const char *what; // "GBNF", "Lark": for messages
    Str text;
    size_t at;
    GrammarBuilder *b;
    LangMaker *maker;
    const Tokenizer *tokenizer;
    Arena arena; // tables of the reader
    ReaderName *names;
    uint32_t n_names;
    uint32_t *table; // [table_size] the number of a name and 1, by its hash
    uint32_t table_size;
    GrammarNode *parts; // a stack: those of all sequences that are open
    uint32_t n_parts, parts_max;
    uint32_t depth;
    Error *err;
} Reader;

MUST_CHECK bool reader_init(Reader *r, const char *what, Str text, GrammarBuilder *b, LangMaker *maker,
                            Arena scratch, Error *err);

// ERR_INVALID_REQUEST with the line and the byte.
bool reader_fail_at(Reader *r, size_t at, const char *format, ...) PRINTF_LIKE(3, 4);
#define reader_fail(r, ...) reader_fail_at((r), (r)->at, __VA_ARGS__)

static inline char reader_peek(const Reader *r) {
    return r->at < r->text.len ? r->text.ptr[r->at] : 0;
}

static inline bool reader_at_end(const Reader *r) {
    return r->at >= r->text.len;
}

// Whether the text goes on with this; then it is passed.
bool reader_take(Reader *r, const char *text);
// A decimal number up to GRAMMAR_COUNT_MAX.
MUST_CHECK bool reader_number(Reader *r, uint32_t *out);
// One character, as it is or, behind a backslash, \t \r \n \xHH \uHHHH \UHHHHHHHH or one of `others` itself.
MUST_CHECK bool reader_character(Reader *r, const char *others, uint32_t *out);

// The name's entry; NULL when the memory is full.
ReaderName *reader_name(Reader *r, Str name);
// The rule has its body now, at this place. False where it had one.
MUST_CHECK bool reader_set(Reader *r, ReaderName *name, size_t at);
// Every name that is used must be set.
MUST_CHECK bool reader_check_names(Reader *r);

MUST_CHECK bool reader_push(Reader *r, GrammarNode part);
// One node of the parts from `from` on, which leave the stack.
GrammarNode reader_pop(Reader *r, uint32_t from, bool sequence);

// Leaves. False: *err is set.
MUST_CHECK bool reader_ranges(Reader *r, const RxRange *ranges, uint32_t count, bool negated,
                              GrammarNode *out);
MUST_CHECK bool reader_pattern(Reader *r, Str pattern, GrammarNode *out);
// <[id]>, or <name> for the token whose text is exactly that; the place is at the '<'.
MUST_CHECK bool reader_token(Reader *r, int32_t *out);
