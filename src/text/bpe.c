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
    uint64_t slot = key * 0x9E3779B97F4A7C15u >> m->slot_shift;
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

// ---- long words: a list of symbols, and a queue of pairs with a bucket for each rank ----

// All pairs of one rank are taken out of their bucket at once and merged from left to right, which for merges
// that were learned in order is one pass over the word for each rank that occurs in it. A heap took three
// times as long on a megabyte of one letter.
typedef struct {
    uint32_t position, next; // next entry of the bucket, or NO_ENTRY
} QueueEntry;

enum { NO_ENTRY = UINT32_MAX, QUEUE_LEVELS = 3 };
#define IN_BATCH 0x80000000u

typedef struct {
    const BpeMerges *merges;
    int32_t *symbols;
    size_t count;              // positions; also the "none" of next and previous
    uint32_t *next, *previous; // positions of the neighbours
    uint32_t *ranks; // of the pair that begins at a position, now; marked IN_BATCH while it is in the batch

    uint32_t *heads; // [n_merges] first entry of a rank's bucket; undefined where the bucket is empty
    uint64_t
        *bits[QUEUE_LEVELS]; // one bit for each bucket that is not empty; above, one for each such word below
    QueueEntry *entries;
    uint32_t n_entries, free_entry;

    uint32_t *batch, *spare; // positions of pairs of rank batch_rank, ascending
    size_t batch_at, batch_count;
    uint32_t batch_rank;
} LongWord;

static size_t level_words(uint32_t n_merges, uint32_t level) {
    return (n_merges >> (6 * (level + 1))) + 1;
}

static void queue_push(LongWord *w, uint32_t rank, uint32_t position) {
    uint32_t entry = w->free_entry;
    if (entry != NO_ENTRY) w->free_entry = w->entries[entry].next;
    else entry = w->n_entries++;
    bool empty = !(w->bits[0][rank >> 6] >> (rank & 63) & 1u);
    w->entries[entry] = (QueueEntry){position, empty ? NO_ENTRY : w->heads[rank]};
    w->heads[rank] = entry;
    if (!empty) return;
    for (uint32_t level = 0, bit = rank; level < QUEUE_LEVELS; level++, bit >>= 6) {
        w->bits[level][bit >> 6] |= 1ull << (bit & 63);
    }
}

// The lowest rank with a bucket that is not empty, or BPE_NO_RANK.
static uint32_t queue_least(const LongWord *w) {
    size_t n_words = level_words(w->merges->n_merges, QUEUE_LEVELS - 1), word = 0;
    while (word < n_words && !w->bits[QUEUE_LEVELS - 1][word])
        word++;
    if (word == n_words) return BPE_NO_RANK;
    for (uint32_t level = QUEUE_LEVELS; level-- > 0;) {
        word = word << 6 | (size_t)__builtin_ctzll(w->bits[level][word]);
    }
    return (uint32_t)word;
}

static bool is_ascending(const uint32_t *values, size_t count) {
    for (size_t i = 1; i < count; i++) {
        if (values[i] < values[i - 1]) return false;
    }
    return true;
}

// Merge sort; `spare` has room for as many.
static void sort_ascending(uint32_t *values, uint32_t *spare, size_t count) {
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = (size_t)min_u64(start + width, count),
                   end = (size_t)min_u64(start + 2 * width, count);
            size_t a = start, b = middle;
            for (size_t k = start; k < end; k++) {
                bool take_a = a < middle && (b == end || values[a] <= values[b]);
                spare[k] = take_a ? values[a++] : values[b++];
            }
        }
        memcpy(values, spare, count * sizeof *values);
    }
}

// Moves a bucket's pairs that still exist to the batch.
static void batch_open(LongWord *w, uint32_t rank) {
    w->batch_rank = rank;
    w->batch_at = w->batch_count = 0;
    for (uint32_t entry = w->heads[rank], next; entry != NO_ENTRY; entry = next) {
        uint32_t position = w->entries[entry].position;
        next = w->entries[entry].next;
        w->entries[entry].next = w->free_entry;
        w->free_entry = entry;
        if (w->ranks[position] != rank) continue;
        w->ranks[position] = rank | IN_BATCH;
        w->batch[w->batch_count++] = position;
    }
    for (uint32_t level = 0, bit = rank; level < QUEUE_LEVELS; level++, bit >>= 6) {
        w->bits[level][bit >> 6] &= ~(1ull << (bit & 63));
        if (w->bits[level][bit >> 6]) break;
    }
    // Buckets are last in, first out, so the positions are mostly in order, forwards or backwards.
    if (is_ascending(w->batch, w->batch_count)) return;
    for (size_t i = 0, k = w->batch_count - 1; i < k; i++, k--) {
        uint32_t value = w->batch[i];
        w->batch[i] = w->batch[k];
        w->batch[k] = value;
    }
    if (!is_ascending(w->batch, w->batch_count)) sort_ascending(w->batch, w->spare, w->batch_count);
}

// Puts back what is left of the batch, because a pair of lower rank has come up.
static void batch_return(LongWord *w) {
    while (w->batch_count > w->batch_at) {
        uint32_t position = w->batch[--w->batch_count];
        if (w->ranks[position] != (w->batch_rank | IN_BATCH)) continue;
        w->ranks[position] = w->batch_rank;
        queue_push(w, w->batch_rank, position);
    }
}

// The position of the pair to merge next; false when no pair is known.
static bool next_pair(LongWord *w, uint32_t *position) {
    for (;;) {
        while (w->batch_at < w->batch_count) {
            *position = w->batch[w->batch_at++];
            if (w->ranks[*position] == (w->batch_rank | IN_BATCH)) return true;
        }
        uint32_t rank = queue_least(w);
        if (rank == BPE_NO_RANK) return false;
        batch_open(w, rank);
    }
}

static void add_pair(LongWord *w, size_t at) {
    size_t next = w->next[at];
    uint32_t rank = BPE_NO_RANK;
    if (next < w->count) rank = bpe_rank(w->merges, (uint32_t)w->symbols[at], (uint32_t)w->symbols[next]);
    w->ranks[at] = rank;
    if (rank == BPE_NO_RANK) return;
    if (rank <= w->batch_rank && w->batch_at < w->batch_count) batch_return(w);
    queue_push(w, rank, (uint32_t)at);
}

static size_t merge_long(LongWord *w) {
    w->free_entry = NO_ENTRY;
    for (size_t i = w->count; i-- > 0;) {
        w->next[i] = (uint32_t)i + 1;
        w->previous[i] = (uint32_t)(i ? i - 1 : w->count);
        add_pair(w, i);
    }
    // Each merge takes at least one entry out and puts at most two in, so there are never more than 2 *
    // count.
    uint32_t at;
    while (next_pair(w, &at)) {
        uint32_t gone = w->next[at], after = w->next[gone], before = w->previous[at];
        w->symbols[at] = (int32_t)w->merges->merged[w->batch_rank];
        w->ranks[gone] = BPE_NO_RANK;
        w->next[at] = after;
        if (after < w->count) w->previous[after] = at;
        add_pair(w, at);
        if (before < w->count) add_pair(w, before);
    }
    size_t left = 0;
    for (size_t i = 0; i < w->count; i = w->next[i])
        w->symbols[left++] = w->symbols[i];
    return left;
}

uint64_t bpe_scratch_bytes(const BpeMerges *m, uint64_t count) {
    uint64_t words = 0;
    for (uint32_t level = 0; level < QUEUE_LEVELS; level++)
        words += level_words(m->n_merges, level);
    return count * (5 * sizeof(uint32_t) + 2 * sizeof(QueueEntry)) + words * sizeof(uint64_t) +
           m->n_merges * sizeof(uint32_t) + 64;
}

size_t bpe_merge(const BpeMerges *m, int32_t *symbols, size_t count, Arena scratch) {
    if (count <= BPE_SHORT) return merge_short(m, symbols, count);
    LongWord w = {.merges = m, .symbols = symbols, .count = count};
    for (uint32_t level = 0; level < QUEUE_LEVELS; level++) {
        w.bits[level] = arena_new(&scratch, uint64_t, level_words(m->n_merges, level));
        if (!w.bits[level]) return 0;
    }
    w.next = arena_new(&scratch, uint32_t, count);
    w.previous = arena_new(&scratch, uint32_t, count);
    w.ranks = arena_new(&scratch, uint32_t, count);
    w.batch = arena_new(&scratch, uint32_t, count);
    w.spare = arena_new(&scratch, uint32_t, count);
    w.entries = arena_new(&scratch, QueueEntry, 2 * count);
    if (!w.next || !w.previous || !w.ranks || !w.batch || !w.spare || !w.entries) return 0;
    // The heads come last and are not cleared: of megabytes, a word uses a few entries.
    w.heads = arena_new(&scratch, uint32_t, 1);
    if (!w.heads || arena_left(&scratch) / sizeof *w.heads < m->n_merges) return 0;
    return merge_long(&w);
}
