// The tokens of a vocabulary: their spelling in the file, their types, the bytes they stand for, and a table
// to find them.
//
// Constant once built. Spellings point into the file; the rest lies in the arena given when it is built.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"

// As in "tokenizer.ggml.token_type".
typedef enum {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
} TokenType;

typedef struct {
    uint32_t count;
    const Str *texts;     // [count] as the file spells them
    const uint8_t *types; // [count] TokenType
    // Private.
    const uint64_t *slots; // hash table: the upper bits of the hash, then id + 1; 0 for empty
    uint64_t slot_mask;
    bool tags_differ;             // the parts of the hashes that are kept tell all tokens apart
    const char *pieces;           // the bytes of all tokens, one after the other
    const uint32_t *piece_starts; // [count + 1]
    uint32_t piece_bytes_max;
} Vocab;

static_assert(VOCAB_MAX <= 1 << 20, "an id and one more fit in the 21 bits of a slot");

// `texts` and `types` live as long as the Vocab. Empty spellings are never found. False when two are equal:
// *first and *second are their ids; or, with *first == *second, when the arena is full.
MUST_CHECK bool vocab_build(Vocab *v, const Str *texts, const uint8_t *types, uint32_t count, Arena *arena,
                            uint32_t *first, uint32_t *second);

// The id of the token that is spelled so, or -1.
int32_t vocab_find(const Vocab *v, Str text);

// The same for many lookups of spellings that should be there, such as those of merges: hash first, fetch the
// slots of a group, then find. Spellings are not compared, so one that is no token is mistaken for one with a
// probability of 2^-43; one that is a token is found exactly while tags_differ.
uint64_t vocab_hash(Str text);
static inline void vocab_prefetch(const Vocab *v, uint64_t hash) {
    __builtin_prefetch(&v->slots[hash & v->slot_mask]);
}
int32_t vocab_find_hash(const Vocab *v, uint64_t hash);

// What tokens stand for, decoded from their spelling; control and user-defined tokens are taken as they are.
typedef enum {
    PIECES_BYTE_LEVEL, // the alphabet of byte_level.h; a spelling with other characters stands for itself
    PIECES_SPM,        // U+2581 for a space, <0xNN> of type TOKEN_BYTE for a byte
} PieceRule;
MUST_CHECK bool vocab_decode_pieces(Vocab *v, PieceRule rule, Arena *arena);

// The caller has checked that id < count.
static inline Str vocab_piece(const Vocab *v, uint32_t id) {
    return (Str){v->pieces + v->piece_starts[id], v->piece_starts[id + 1] - v->piece_starts[id]};
}

// The byte of a spelling like <0x0A>, or -1.
int vocab_parse_byte_token(Str text);
