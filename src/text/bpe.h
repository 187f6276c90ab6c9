// Byte-pair encoding: neighbouring symbols are merged, the pair of the lowest rank first, the leftmost of
// equal ones, until no pair is known (Sennrich, Haddow, Birch: "Neural machine translation of rare words with
// subword units", 2016).
#pragma once

#include "text/bpe_queue.h"

enum { BPE_ID_BITS = 20, BPE_MERGES_MAX = (1 << 24) - 1 };

// Constant once built.
typedef struct {
    uint64_t *slots; // hash table: left id (20 bits), right id (20), rank (24); all ones for empty
    uint32_t slot_shift;
    uint32_t *merged; // [n_merges] the id that a rank's merge makes
    uint32_t n_merges;
} BpeMerges;

// Room for `n_merges` ranks, at most BPE_MERGES_MAX. False when the arena is full.
MUST_CHECK bool bpe_init(BpeMerges *m, uint32_t n_merges, Arena *arena);

// Ranks are added in ascending order; of equal pairs the first counts.
void bpe_add(BpeMerges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged);

static inline uint64_t bpe_slot(const BpeMerges *m, uint32_t left, uint32_t right) {
    uint64_t key = (uint64_t)left << BPE_ID_BITS | right;
    return key * 0x9E3779B97F4A7C15u >> m->slot_shift;
}

// Rank of a pair, or BPE_NO_RANK.
static inline uint32_t bpe_rank(const BpeMerges *m, uint32_t left, uint32_t right) {
    uint64_t key = (uint64_t)left << BPE_ID_BITS | right;
    uint64_t mask = (1ull << (64 - m->slot_shift)) - 1;
    uint64_t slot = bpe_slot(m, left, right);
    for (;; slot = (slot + 1) & mask) {
        uint64_t entry = m->slots[slot];
        if (entry >> 24 == key) return (uint32_t)(entry & BPE_MERGES_MAX);
        if (entry == UINT64_MAX) return BPE_NO_RANK;
    }
}

// Scratch that bpe_merge needs for `count` symbols.
uint64_t bpe_scratch_bytes(const BpeMerges *m, uint64_t count);

// Merges in place and returns how many symbols are left. O(n log n); count is at most 2^31. Returns 0 when
// count is not 0 and the scratch is too small.
MUST_CHECK size_t bpe_merge(const BpeMerges *m, int32_t *symbols, size_t count, Arena scratch);
