// Between the loaders and the encoder of tokenizer.h.
#pragma once

#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/special.h"
#include "text/tokenizer.h"
#include "text/vocab.h"
#include "text/word_cuts.h"

typedef enum {
    MODEL_BYTE_BPE, // bytes are the first symbols, merged by rank within pieces of the pre-tokeniser
    MODEL_CHAR_BPE, // so are characters; those that are no token become bytes or the unknown token
    MODEL_SPM,      // characters are the first symbols, merged by the scores of what they make
} TokenModel;

// Tokens that are found in a text by their spelling.
typedef struct {
    SpecialTrie always; // user-defined ones
    SpecialTrie parsed; // … and control tokens, found with TOKENIZER_PARSE_SPECIAL
} SpecialTries;

struct Tokenizer {
    const char *kind;
    const char *pre_name;
    TokenModel model;
    Vocab vocab;
    uint32_t *ends; // one bit for each token that ends a text
    int32_t *end_ids;
    uint32_t n_ends;
    const char *warnings[TOKENIZER_WARNINGS_MAX];
    uint32_t n_warnings;
    int32_t bos, eos, unknown;
    bool adds_bos, adds_eos;
    bool strips_leading_space; // as tokenizer_strips_leading_space

    // A text is cut at the tokens found in it as it is; what lies between them is normalised and cut at those
    // found then; and what lies between these gets what the pre-tokeniser puts in.
    SpecialTries raw;
    Normalizer normalizer;
    SpecialTries normalized;
    Normalizer inserts;
    uint8_t *special_flags; // [vocab] SPECIAL_…

    // MODEL_BYTE_BPE and MODEL_CHAR_BPE
    Pretokenizer pretokenizer;
    BpeMerges merges;
    bool whole_words;   // a word that is a token is taken whole
    bool fuses_unknown; // neighbours that are no token are one unknown token

    // MODEL_CHAR_BPE and MODEL_SPM
    int32_t byte_ids[256];  // MODEL_BYTE_BPE, too; -1 where the vocabulary has no such byte
    int32_t ascii_ids[128]; // the tokens that are one ASCII character, or -1
    WordCuts *cuts;         // MODEL_CHAR_BPE: NULL where U+2581 is no token
    bool space_is_token;    // U+2581

    // MODEL_SPM
    const uint32_t
        *spm_ranks;       // [vocab] place of each token's score, best first; BPE_NO_RANK: not made by merging
    uint32_t spm_n_ranks; // distinct scores
    uint32_t spm_bytes_max; // the longest token that merging makes
};

// Ids appended to the free end of an arena.
typedef struct {
    int32_t *ids;
    size_t count, capacity;
} IdList;

// False when the list is full.
MUST_CHECK static inline bool id_list_add(IdList *list, int32_t id) {
    if (list->count == list->capacity) return false;
    list->ids[list->count++] = id;
    return true;
}

// Fills `raw`, `normalized` and `ends` from the vocabulary and special_flags, which are made if NULL;
// `extra_ends` are ids or TOKEN_NONE.
MUST_CHECK bool tokenizer_index_special(Tokenizer *t, const int32_t *extra_ends, size_t n_extra_ends,
                                        Arena *arena);

// Finds the ids of single bytes, spelled in the alphabet of byte_level.h.
void tokenizer_index_bytes(Tokenizer *t);

// Of a MODEL_CHAR_BPE: finds the ids of bytes ("<0x0A>") and of ASCII characters; and where texts are cut
// into words, if U+2581 is a token. The vocabulary has all tokens that merging can make. False when the arena
// is full.
void tokenizer_index_characters(Tokenizer *t);
MUST_CHECK bool tokenizer_index_cuts(Tokenizer *t, Arena *arena);

// A merge as the file gives it: two spellings.
typedef struct {
    Str left, right;
} MergeText;

// "left right"; the first character may itself be a space in old files. False for anything else.
MUST_CHECK bool tokenizer_split_merge(Str merge, MergeText *out);

// Adds the merges of ranks rank … rank + count - 1, at most MERGE_GROUP of them, to t->merges. On failure
// *bad is the one at fault and *missing the spelling that is no token, in `joined` if it is the two together.
enum { MERGE_GROUP = 32 };
MUST_CHECK bool tokenizer_add_merges(Tokenizer *t, const MergeText *merges, uint32_t count, uint32_t rank,
                                     uint32_t *bad, Str *missing, char joined[TOKEN_BYTES_MAX]);

// What tokens are flagged with in special_flags.
enum {
    SPECIAL_STRIPS_LEFT = 1, // white space on that side belongs to the token
    SPECIAL_STRIPS_RIGHT = 2,
    SPECIAL_SINGLE_WORD = 4, // not found within a word
    SPECIAL_NORMALIZED = 8,  // found in the normalised text
    SPECIAL_IN_MODEL = 16,   // an added token that the model's own vocabulary has, too
};

// Whether plain text may become this token where words or characters are looked up as they are: only tokens
// of the model's own vocabulary, and control tokens never.
static inline bool tokenizer_is_plain(const Tokenizer *t, int32_t id) {
    uint8_t type = t->vocab.types[id];
    bool own = t->special_flags && (t->special_flags[id] & SPECIAL_IN_MODEL);
    return type != TOKEN_CONTROL && type != TOKEN_UNKNOWN && (type != TOKEN_USER_DEFINED || own);
}

// Adds a warning; what does not fit, or finds no memory, is left out.
void tokenizer_warn(Tokenizer *t, Arena *arena, const char *format, ...) PRINTF_LIKE(3, 4);

// Whether a token's text is a well-known mark of an end, or of a turn.
bool tokenizer_is_end_text(Str text);

// A step that writes spaces as U+2581. Errors as regex_compile, and ERR_UNSUPPORTED when there are too many.
MUST_CHECK bool tokenizer_replace_spaces(Normalizer *n, Arena *arena, Arena scratch, Error *err);

// The ids of the tokens that end a text as a GGUF names them, the first of them eos, and of the first token;
// TOKEN_NONE for those that are missing, or out of range, of which a warning tells.
enum { GGUF_ENDS = 24 };
MUST_CHECK bool tokenizer_read_gguf_ids(const GgufFile *file, Tokenizer *t, Arena *arena, int32_t *bos,
                                        int32_t ends[GGUF_ENDS], Error *err);

// ---- tokenizer_spm.c ----

// Builds the tables from scores[vocab]. False when the arena is full.
MUST_CHECK bool tokenizer_spm_init(Tokenizer *t, const float *scores, Arena *arena, Arena scratch);

// A word of `count` characters. False when there is not enough scratch or room for ids.
MUST_CHECK bool tokenizer_spm_encode_word(const Tokenizer *t, Str word, size_t count, IdList *out,
                                          Arena scratch);
uint64_t tokenizer_spm_scratch_bytes(const Tokenizer *t, uint64_t text_bytes);
