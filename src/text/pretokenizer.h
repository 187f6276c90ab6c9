// Cuts text into the words within which BPE merges tokens.
//
// A pre-tokeniser is a row of a table: its name in GGUF files and one to six regular expressions. Each cuts
// the pieces that the one before left: every match is a piece, and so is what lies between two matches. The
// expressions are those of the models' published tokenizer.json files, in the engine of text/regex.h.
#pragma once

#include "text/regex.h"

enum { PRETOKENIZER_LEVELS_MAX = 6 };

// What a name in "tokenizer.ggml.pre" stands for.
typedef struct {
    const char *name;
    const char *const *patterns; // [PRETOKENIZER_LEVELS_MAX], the unused ones NULL
    bool whole_words; // a word that is a token is taken whole, without looking at merges ("ignore_merges")
    bool adds_bos;    // where the file does not say
    bool nfc;         // the text is normalised to NFC first
} PretokenizerRow;

extern const PretokenizerRow pretokenizer_rows[];
extern const uint32_t pretokenizer_row_count;

// NULL when the name is not known.
const PretokenizerRow *pretokenizer_find(Str name);

// Constant once compiled.
typedef struct {
    Regex levels[PRETOKENIZER_LEVELS_MAX];
    uint32_t n_levels; // 0: the text is one piece
} Pretokenizer;

// Errors as regex_compile.
MUST_CHECK bool pretokenizer_compile(const PretokenizerRow *row, Arena *arena, Arena scratch,
                                     Pretokenizer *out, Error *err);

// A pass over one text.
typedef struct {
    RegexScan scan;
    size_t at;                   // what is done of scan.text
    size_t match_from, match_to; // a match that comes after the gap just given; empty for none
} PretokenizerLevel;

typedef struct {
    const Pretokenizer *pretokenizer;
    PretokenizerLevel levels[PRETOKENIZER_LEVELS_MAX];
    Str text; // what the first level has not been given yet
} PretokenizerScan;

uint64_t pretokenizer_scan_bytes(const Pretokenizer *p, uint64_t text_bytes);

// Scratch of pretokenizer_scan_bytes comes from `arena`; false when it is full.
MUST_CHECK bool pretokenizer_begin(const Pretokenizer *p, Str text, Arena *arena, PretokenizerScan *scan);

// The next piece, never empty; false at the end of the text. The pieces in order are the text.
MUST_CHECK bool pretokenizer_next(PretokenizerScan *scan, Str *piece);
