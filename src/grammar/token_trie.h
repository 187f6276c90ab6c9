// The vocabulary as a tree of bytes: which tokens a text can go on with is one walk through it.
//
// Nodes are in depth-first order: the children of node i begin at i + 1, and ends[i] is the first node that
// is not below it. Constant once made; any thread may read it.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "text/tokenizer.h"

typedef struct {
    uint32_t n_tokens; // rows of the model's logits; some may have no token
    uint32_t n_words; // of a mask: a set of token ids as in backend/sampler.h, uint32_t[(n_tokens + 31) / 32]
    uint32_t n_nodes;
    uint32_t depth_max;     // bytes of the longest token
    const uint8_t *bytes;   // [n_nodes]
    const uint16_t *depths; // [n_nodes] 1 for a token's first byte
    const uint32_t *ends;   // [n_nodes]
    const int32_t *tokens;  // [n_nodes] the token that ends there, or TOKEN_NONE
    const int32_t *same;    // [n_tokens] the next token with the same bytes, or TOKEN_NONE
    const Str *pieces;      // [n_tokens] empty where a token has no text
    const int32_t *end_tokens;
    uint32_t n_end_tokens;
} TokenTrie;

// `pieces` [n_tokens] and `end_tokens` stay in place as long as the trie. Tokens without bytes are never part
// of a text; end tokens are not either, whatever their bytes. A few bytes a token and 11 a node go into
// `arena`. ERR_NO_MEMORY, ERR_TOO_LARGE (a token of more than TOKEN_BYTES_MAX bytes or tokens of more than
// 4 GB).
MUST_CHECK bool token_trie_build(const Str *pieces, uint32_t n_tokens, const int32_t *end_tokens,
                                 uint32_t n_end_tokens, Arena *arena, Arena scratch, TokenTrie *out,
                                 Error *err);

// The trie of a tokenizer, for a model with n_tokens rows of logits (at least the vocabulary's size; rows
// that no token has are never allowed).
MUST_CHECK bool token_trie_from_tokenizer(const Tokenizer *t, uint32_t n_tokens, Arena *arena, Arena scratch,
                                          TokenTrie *out, Error *err);
