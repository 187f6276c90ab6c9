// Finds tokens that are spelled out in a text, such as <|im_start|>: the longest of those that begin at a
// place.
//
// A trie of bytes. Looking is one table access for each byte that begins no token, and at most
// SPECIAL_BYTES_MAX steps for one that does. Constant once built.
#pragma once

#include "base/arena.h"

enum { SPECIAL_BYTES_MAX = 1024 }; // longer spellings are not recognised in text

typedef struct {
    int32_t id;              // of the token that ends here, or -1
    uint32_t child, sibling; // indices of nodes, 0 for none
    uint8_t byte;
} SpecialNode;

typedef struct {
    SpecialNode *nodes; // nodes[0] is the root
    uint32_t n_nodes;
    uint32_t nodes_max;
    uint32_t first[256]; // the root's children by their byte
} SpecialTrie;

// `total_bytes` is the sum of the lengths of all spellings to be added. False when the arena is full.
MUST_CHECK bool special_init(SpecialTrie *trie, uint64_t total_bytes, Arena *arena);

// Empty and too long spellings are ignored.
void special_add(SpecialTrie *trie, Str text, int32_t id);

// The longest token at exactly `at` that ends at `limit` or before; false when there is none.
MUST_CHECK bool special_match(const SpecialTrie *trie, Str text, size_t at, size_t limit, size_t *end,
                              int32_t *id);
