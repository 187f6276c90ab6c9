// The vocabulary as a tree of bytes: which tokens a text can go on with is one walk through it.
//
// Nodes are in depth-first order: the children of node i begin at i + 1. Constant once made; any thread may
// read it.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "text/tokenizer.h"

// Plain tokens are made of whole characters, none of which is a quote, a backslash or a control character:
// most of a vocabulary, and what text within nearly any quotes may hold. So they are known by their number
// of characters: where text of n plain characters may come, all plain tokens up to n characters may.
//
// Short tokens are those of up to TRIE_SHORT_BYTES bytes (grammar_leaf.c).
enum { TRIE_PLAIN_MAX = 24, TRIE_PLAIN_ANY = TRIE_PLAIN_MAX + 1, TRIE_SHORT_BYTES = 16 };

// Bytes in 32 groups: those that languages tell apart are alone, the others are with their like.
uint32_t byte_group(uint8_t byte);

typedef struct {
    uint32_t end;   // the first node that is not below this one
    int32_t token;  // the token that ends here, or TOKEN_NONE
    uint16_t depth; // 1 for a token's first byte
    uint8_t byte;
    uint8_t plain; // of plain tokens here and below: the most characters, TRIE_PLAIN_ANY above TRIE_PLAIN_MAX
    bool other;    // there are other tokens here or below
    // The same of tokens of more than TRIE_SHORT_BYTES bytes alone.
    uint8_t plain_long;
    bool other_long;
} TrieNode;

typedef struct TokenTrie TokenTrie;
struct TokenTrie {
    uint32_t n_tokens; // rows of the model's logits
    uint32_t n_named;  // … of which those behind are no tokens
    uint32_t n_words;  // of a mask, a set of ids as in backend/sampler.h: (n_tokens + 31) / 32
    uint32_t n_nodes;
    uint32_t depth_max; // bytes of the longest token
    const TrieNode *nodes;
    const uint32_t *below;  // [n_nodes] the groups (byte_group) of all bytes below a node
    const uint32_t *firsts; // [n_nodes + 1] how many tokens end before a node
    const int32_t *order;   // all tokens of the trie, in the order of their nodes
    const int32_t *same;    // [n_tokens] the next token with the same bytes, or TOKEN_NONE
    const Str *pieces;      // [n_tokens] empty where a token has no text
    const uint32_t *plain;  // [TRIE_PLAIN_ANY][n_words] token_trie_plain
    const int32_t *end_tokens;
    uint32_t n_end_tokens;
    // The tree of rare tokens alone: those that are not plain, and plain ones of more than TRIE_PLAIN_MAX
    // characters. It is one in thirty of Qwen 3's: whoever knows about the others walks through this one.
    const TokenTrie *rare; // NULL in a tree of rare tokens
};

// The plain tokens of up to n characters, 1 … TRIE_PLAIN_ANY.
static inline const uint32_t *token_trie_plain(const TokenTrie *trie, uint32_t n) {
    return trie->plain + (size_t)(n - 1) * trie->n_words;
}

bool token_trie_is_end(const TokenTrie *trie, int32_t token);

// `pieces` [n_tokens] and `end_tokens` stay in place as long as the trie. Tokens without bytes are never part
// of a text; end tokens are not either, whatever their bytes. 27 bytes a token and 24 a node go into
// `arena`, for rare ones twice. ERR_NO_MEMORY, ERR_TOO_LARGE (a token of more than TOKEN_BYTES_MAX bytes or
// tokens of more than 4 GB).
MUST_CHECK bool token_trie_build(const Str *pieces, uint32_t n_tokens, const int32_t *end_tokens,
                                 uint32_t n_end_tokens, Arena *arena, Arena scratch, TokenTrie *out,
                                 Error *err);

// The trie of a tokenizer, for a model with n_tokens rows of logits (at least the vocabulary's size; rows
// that no token has are never allowed). Control and user-defined tokens have no text there, but for blanks.
MUST_CHECK bool token_trie_from_tokenizer(const Tokenizer *t, uint32_t n_tokens, Arena *arena, Arena scratch,
                                          TokenTrie *out, Error *err);
