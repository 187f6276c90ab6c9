// Byte-pair merging of long words: a list of symbols, and a queue of their pairs with a bucket for each rank.
//
// All pairs of one rank are taken out of their bucket at once and merged from left to right, which for merges
// that were learned in order is one pass over the word for each rank that occurs in it. A heap took three
// times as long on a megabyte of one letter.
#pragma once

#include "base/arena.h"

#define BPE_NO_RANK UINT32_MAX

// How pairs are known. The symbols of a word lie at positions 0 … count - 1; a symbol that was merged keeps
// the first position. The pair of the symbols at `at` and `next` reaches to the position `end` (count where
// it is the last).
typedef struct BpePairs BpePairs;
struct BpePairs {
    // Lower ranks first, or BPE_NO_RANK.
    uint32_t (*rank)(const BpePairs *pairs, const int32_t *symbols, size_t at, size_t next, size_t end);
    // The symbol that the pair of this rank makes.
    int32_t (*merged)(const BpePairs *pairs, uint32_t rank, size_t at, size_t end);
    uint32_t n_ranks; // at most 2^24
};

uint64_t bpe_queue_scratch_bytes(uint32_t n_ranks, uint64_t count);

// Merges until no pair is known. Returns next[count], in the arena: the position of the symbol after each
// that is left, count after the last; position 0 is always left. NULL when the arena is full. count is 1 …
// 2^31.
MUST_CHECK uint32_t *bpe_queue_merge(const BpePairs *pairs, int32_t *symbols, size_t count, Arena *arena);
