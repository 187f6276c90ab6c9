#include "text/bpe.h"

// Up to here, finding the best pair by looking at all is faster than a heap.
enum { BPE_SHORT = 32 };

bool bpe_init(BpeMerges *m, uint32_t n_merges, Arena *arena) {
    uint32_t bits = 4;
    while (1ull << bits < 2ull * n_merges)
        bits++;
    uint64_t n_slots = 1ull << bits;
    *m = (BpeMerges){.slot_shift = 64 - bits, .n_merges = n_merges};
    m->slots = arena_new(arena, uint64_t, n_slots);
    m->merged = arena_new(arena, uint32_t, n_merges);
    if (!m->slots || !m->merged) return false;
    memset(m->slots, 0xFF, n_slots * sizeof *m->slots);
    return true;
}

void bpe_add(BpeMerges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged) {
    m->merged[rank] = merged;
    uint64_t key = (uint64_t)left << BPE_ID_BITS | right;
    uint64_t mask = (1ull << (64 - m->slot_shift)) - 1;
    uint64_t slot = bpe_slot(m, left, right);
    for (; m->slots[slot] != UINT64_MAX; slot = (slot + 1) & mask) {
        if (m->slots[slot] >> 24 == key) return;
    }
    m->slots[slot] = key << 24 | rank;
}

static size_t merge_short(const BpeMerges *m, int32_t *symbols, size_t count) {
    uint32_t ranks[BPE_SHORT]; // of each symbol and the next
    for (size_t i = 0; i + 1 < count; i++) {
        ranks[i] = bpe_rank(m, (uint32_t)symbols[i], (uint32_t)symbols[i + 1]);
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            if (ranks[i] < ranks[best]) best = i;
        }
        if (ranks[best] == BPE_NO_RANK) break;
        symbols[best] = (int32_t)m->merged[ranks[best]];
        count--;
        memmove(symbols + best + 1, symbols + best + 2, (count - best - 1) * sizeof *symbols);
        if (best + 2 < count) memmove(ranks + best + 1, ranks + best + 2, (count - best - 2) * sizeof *ranks);
        if (best) ranks[best - 1] = bpe_rank(m, (uint32_t)symbols[best - 1], (uint32_t)symbols[best]);
        if (best + 1 < count) ranks[best] = bpe_rank(m, (uint32_t)symbols[best], (uint32_t)symbols[best + 1]);
    }
    return count;
}

// For bpe_queue.h: positions are symbols, and a pair is known by its ids.
typedef struct {
    BpePairs pairs;
    const BpeMerges *merges;
} TablePairs;

static uint32_t table_rank(const BpePairs *pairs, const int32_t *symbols, size_t at, size_t next,
                           size_t end) {
    (void)end;
    const BpeMerges *m = ((const TablePairs *)pairs)->merges;
    return bpe_rank(m, (uint32_t)symbols[at], (uint32_t)symbols[next]);
}

static int32_t table_merged(const BpePairs *pairs, uint32_t rank, size_t at, size_t end) {
    (void)at;
    (void)end;
    return (int32_t)((const TablePairs *)pairs)->merges->merged[rank];
}

uint64_t bpe_scratch_bytes(const BpeMerges *m, uint64_t count) {
    return bpe_queue_scratch_bytes(m->n_merges, count);
}

size_t bpe_merge(const BpeMerges *m, int32_t *symbols, size_t count, Arena scratch) {
    if (count <= BPE_SHORT) return merge_short(m, symbols, count);
    TablePairs table = {.pairs = {table_rank, table_merged, m->n_merges}, .merges = m};
    uint32_t *next = bpe_queue_merge(&table.pairs, symbols, count, &scratch);
    if (!next) return 0;
    size_t left = 0;
    for (size_t i = 0; i < count; i = next[i])
        symbols[left++] = symbols[i];
    return left;
}
