// Cuts text into the words within which BPE merges tokens.
//
// A pre-tokeniser is a list of regular expressions, in the engine of text/regex.h. Each cuts the pieces that
// the one before left; mostly every match is a piece, and so is what lies between two matches. For GGUF files
// they are rows of a table with a name, one to six of those of the models' published tokenizer.json files; a
// tokenizer.json brings its own, with more ways of cutting.
#pragma once

#include "text/regex.h"

enum { PRETOKENIZER_LEVELS_MAX = 8 };

// What becomes of the matches, in the words of tokenizer.json files. Where an empty one lies, the text is
// cut.
typedef enum {
    SPLIT_ISOLATED,             // pieces of their own
    SPLIT_REMOVED,              // nothing
    SPLIT_MERGED_WITH_PREVIOUS, // joined to the end of what lies before, unless that is a match, too
    SPLIT_MERGED_WITH_NEXT,     // joined to the front of what lies behind, unless that is a match, too
    SPLIT_CONTIGUOUS,           // matches that follow each other are one piece
} SplitBehavior;

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

typedef struct {
    Regex regex;
    SplitBehavior behavior;
    bool is_inverted; // what lies between two matches is what `behavior` is about
} PretokenizerSplit;

// Constant once compiled.
typedef struct {
    PretokenizerSplit levels[PRETOKENIZER_LEVELS_MAX];
    uint32_t n_levels; // 0: the text is one piece
} Pretokenizer;

// Adds a level. Errors as regex_compile, and ERR_UNSUPPORTED when there are too many.
MUST_CHECK bool pretokenizer_add(Pretokenizer *p, Str pattern, SplitBehavior behavior, bool is_inverted,
                                 Arena *arena, Arena scratch, Error *err);

// The levels of a row. Errors as regex_compile.
MUST_CHECK bool pretokenizer_compile(const PretokenizerRow *row, Arena *arena, Arena scratch,
                                     Pretokenizer *out, Error *err);

// A pass over one text.
typedef struct {
    size_t from, to;
    bool is_match; // or what lies between two
} PretokenizerStretch;

typedef struct {
    RegexScan scan;
    size_t at;                 // what is done of scan.text
    bool has_match, has_held;  // of the next two
    PretokenizerStretch match; // comes after the gap just given
    PretokenizerStretch held;  // could not be joined to the last piece
} PretokenizerLevel;

typedef struct {
    const Pretokenizer *pretokenizer;
    PretokenizerLevel levels[PRETOKENIZER_LEVELS_MAX];
    Str text; // what the first level has not been given yet
} PretokenizerScan;

uint64_t pretokenizer_scan_bytes(const Pretokenizer *p, uint64_t text_bytes);

// Scratch of pretokenizer_scan_bytes comes from `arena`; false when it is full.
MUST_CHECK bool pretokenizer_begin(const Pretokenizer *p, Str text, Arena *arena, PretokenizerScan *scan);

// The next piece, never empty; false at the end of the text. The pieces in order are the text, less what
// SPLIT_REMOVED removes.
MUST_CHECK bool pretokenizer_next(PretokenizerScan *scan, Str *piece);
