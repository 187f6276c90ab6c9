// Between the loaders and the encoder of tokenizer.h.
#pragma once

#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/special.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

typedef enum {
    MODEL_BYTE_BPE, // bytes are the first symbols, merged within pieces of the pre-tokeniser
    MODEL_SPM,      // characters are the first symbols, merged by the scores of what they make
} TokenModel;

struct Tokenizer {
    const char *kind;
    const char *pre_name;
    TokenModel model;
    Vocab vocab;
    uint32_t *ends; // one bit for each token that ends generation
    int32_t bos, eos, unknown;
    bool adds_bos, adds_eos;

    SpecialTrie user_defined; // always found in text
    SpecialTrie all_special;  // … and control tokens, found with TOKENIZER_PARSE_SPECIAL
    uint8_t *special_flags;   // [vocab] SPECIAL_STRIPS_…

    bool nfc;

    // MODEL_BYTE_BPE
    Pretokenizer pretokenizer;
    BpeMerges merges;
    int32_t byte_ids[256]; // for MODEL_SPM, too; -1 where the vocabulary has no such byte
    bool whole_words;

    // MODEL_SPM
    const uint32_t
        *spm_ranks;       // [vocab] place of each token's score, best first; BPE_NO_RANK: not made by merging
    uint32_t spm_n_ranks; // distinct scores
    uint32_t spm_bytes_max;       // the longest token that merging makes
    int32_t spm_ascii[128];       // the tokens that are one ASCII character, or -1
    const uint64_t *spm_crossing; // 65,536 bits: where words do not end although a space follows
    bool adds_space_prefix;
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

// Fills `user_defined`, `all_special` and `ends` from the vocabulary; `extra_ends` are ids or TOKEN_NONE.
MUST_CHECK bool tokenizer_index_special(Tokenizer *t, const int32_t *extra_ends, size_t n_extra_ends,
                                        Arena *arena);

// Finds the ids of single bytes, spelled in the alphabet of byte_level.h.
void tokenizer_index_bytes(Tokenizer *t);

// A merge as the file gives it: two spellings.
typedef struct {
    Str left, right;
} MergeText;

// Adds the merges of ranks rank … rank + count - 1, at most MERGE_GROUP of them, to t->merges. On failure
// *bad is the one at fault and *missing the spelling that is no token, in `joined` if it is the two together.
enum { MERGE_GROUP = 32 };
MUST_CHECK bool tokenizer_add_merges(Tokenizer *t, const MergeText *merges, uint32_t count, uint32_t rank,
                                     uint32_t *bad, Str *missing, char joined[TOKEN_BYTES_MAX]);

// What tokens are flagged with in special_flags: white space on a side belongs to the token.
enum { SPECIAL_STRIPS_LEFT = 1, SPECIAL_STRIPS_RIGHT = 2 };

// `text` without the white space at its front that belongs to the token before it (or TOKEN_NONE).
Str tokenizer_text_behind(const Tokenizer *t, int32_t token, Str text);

// ---- tokenizer_spm.c ----

// Builds the tables from scores[vocab]. False when the arena is full.
MUST_CHECK bool tokenizer_spm_init(Tokenizer *t, const float *scores, Arena *arena, Arena scratch);

// A stretch of text without special tokens. False when there is not enough scratch or room for ids.
MUST_CHECK bool tokenizer_spm_encode(const Tokenizer *t, Str text, IdList *out, Arena scratch);
uint64_t tokenizer_spm_scratch_bytes(const Tokenizer *t, uint64_t text_bytes);
