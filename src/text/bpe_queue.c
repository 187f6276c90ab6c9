#include "text/bpe_queue.h"

#include "base/sort.h"

typedef struct {
    uint32_t position, next; // next entry of the bucket, or NO_ENTRY
} QueueEntry;

enum { NO_ENTRY = UINT32_MAX, QUEUE_LEVELS = 3 };
#define IN_BATCH 0x80000000u

typedef struct {
    const BpePairs *pairs;
    int32_t *symbols;
    size_t count;              // positions; also the "none" of next and previous
    uint32_t *next, *previous; // positions of the neighbours
    uint32_t *ranks; // of the pair that begins at a position, now; marked IN_BATCH while it is in the batch

    uint32_t *heads; // [n_ranks] first entry of a rank's bucket; undefined where the bucket is empty
    uint64_t
        *bits[QUEUE_LEVELS]; // one bit for each bucket that is not empty; above, one for each such word below
    QueueEntry *entries;
    uint32_t n_entries, free_entry;

    uint64_t *batch, *spare; // positions of pairs of rank batch_rank, ascending
    size_t batch_at, batch_count;
    uint32_t batch_rank;
    bool batch_is_open;

    // Pairs that came up since, of the batch's rank or a lower one: a binary heap of rank << 32 | position.
    // Few, where merges were learned in order.
    uint64_t *urgent;
    size_t urgent_count;
} LongWord;

static size_t level_words(uint32_t n_ranks, uint32_t level) {
    return (n_ranks >> (6 * (level + 1))) + 1;
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
    size_t n_words = level_words(w->pairs->n_ranks, QUEUE_LEVELS - 1), word = 0;
    while (word < n_words && !w->bits[QUEUE_LEVELS - 1][word])
        word++;
    if (word == n_words) return BPE_NO_RANK;
    for (uint32_t level = QUEUE_LEVELS; level-- > 0;) {
        word = word << 6 | (size_t)__builtin_ctzll(w->bits[level][word]);
    }
    return (uint32_t)word;
}

// Moves a bucket's pairs that still exist to the batch.
static void batch_open(LongWord *w, uint32_t rank) {
    w->batch_rank = rank;
    w->batch_is_open = true;
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
    if (sort_u64_is_sorted(w->batch, w->batch_count)) return;
    for (size_t i = 0, k = w->batch_count - 1; i < k; i++, k--) {
        uint64_t value = w->batch[i];
        w->batch[i] = w->batch[k];
        w->batch[k] = value;
    }
    if (!sort_u64_is_sorted(w->batch, w->batch_count)) sort_u64(w->batch, w->spare, w->batch_count);
}

static void urgent_push(LongWord *w, uint64_t entry) {
    size_t at = w->urgent_count++;
    for (; at > 0 && w->urgent[(at - 1) / 2] > entry; at = (at - 1) / 2)
        w->urgent[at] = w->urgent[(at - 1) / 2];
    w->urgent[at] = entry;
}

static uint64_t urgent_pop(LongWord *w) {
    uint64_t least = w->urgent[0], entry = w->urgent[--w->urgent_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < w->urgent_count; at = child) {
        if (child + 1 < w->urgent_count && w->urgent[child + 1] < w->urgent[child]) child++;
        if (w->urgent[child] >= entry) break;
        w->urgent[at] = w->urgent[child];
    }
    w->urgent[at] = entry;
    return least;
}

// The pair to merge next; false when no pair is known. Buckets hold only ranks above batch_rank while a batch
// is open.
static bool next_pair(LongWord *w, uint32_t *rank, uint32_t *position) {
    for (;;) {
        bool in_batch = w->batch_at < w->batch_count;
        uint64_t first = in_batch ? (uint64_t)w->batch_rank << 32 | w->batch[w->batch_at] : UINT64_MAX;
        uint32_t mark = 0;
        if (w->urgent_count && w->urgent[0] <= first) {
            first = urgent_pop(w);
        } else if (in_batch) {
            w->batch_at++;
            mark = IN_BATCH;
        } else {
            uint32_t least = queue_least(w);
            if (least == BPE_NO_RANK) return false;
            batch_open(w, least);
            continue;
        }
        *rank = (uint32_t)(first >> 32);
        *position = (uint32_t)first;
        if (w->ranks[*position] == (*rank | mark)) return true;
    }
}

static void add_pair(LongWord *w, size_t at) {
    size_t next = w->next[at];
    uint32_t rank = BPE_NO_RANK;
    if (next < w->count) rank = w->pairs->rank(w->pairs, w->symbols, at, next, w->next[next]);
    w->ranks[at] = rank;
    if (rank == BPE_NO_RANK) return;
    if (w->batch_is_open && rank <= w->batch_rank) urgent_push(w, (uint64_t)rank << 32 | at);
    else queue_push(w, rank, (uint32_t)at);
}

static void merge_all(LongWord *w) {
    w->free_entry = NO_ENTRY;
    for (size_t i = w->count; i-- > 0;) {
        w->next[i] = (uint32_t)i + 1;
        w->previous[i] = (uint32_t)(i ? i - 1 : w->count);
        add_pair(w, i);
    }
    // Each merge takes at least one entry out and puts at most two in, so there are never more than 2 *
    // count.
    uint32_t at, rank;
    while (next_pair(w, &rank, &at)) {
        uint32_t gone = w->next[at], after = w->next[gone], before = w->previous[at];
        w->symbols[at] = w->pairs->merged(w->pairs, rank, at, after);
        w->ranks[gone] = BPE_NO_RANK;
        w->next[at] = after;
        if (after < w->count) w->previous[after] = at;
        add_pair(w, at);
        if (before < w->count) add_pair(w, before);
    }
}

uint64_t bpe_queue_scratch_bytes(uint32_t n_ranks, uint64_t count) {
    uint64_t words = 0;
    for (uint32_t level = 0; level < QUEUE_LEVELS; level++)
        words += level_words(n_ranks, level);
    uint64_t each = 3 * sizeof(uint32_t) + 2 * sizeof(QueueEntry) + 4 * sizeof(uint64_t);
    return count * each + words * sizeof(uint64_t) + n_ranks * sizeof(uint32_t) + 64;
}

// As arena_alloc, but not cleared: of what is taken so, megabytes, most words use a few entries.
static void *take_uncleared(Arena *arena, uint64_t size, uint64_t count) {
    uint8_t *memory = arena_alloc(arena, 0, 1, size);
    if (!memory || arena_left(arena) / size < count) return NULL;
    arena->next = memory + size * count;
    return memory;
}

uint32_t *bpe_queue_merge(const BpePairs *pairs, int32_t *symbols, size_t count, Arena *arena) {
    LongWord w = {.pairs = pairs, .symbols = symbols, .count = count};
    for (uint32_t level = 0; level < QUEUE_LEVELS; level++) {
        w.bits[level] = arena_new(arena, uint64_t, level_words(pairs->n_ranks, level));
        if (!w.bits[level]) return NULL;
    }
    w.next = arena_new(arena, uint32_t, count);
    w.previous = arena_new(arena, uint32_t, count);
    w.ranks = arena_new(arena, uint32_t, count);
    w.batch = arena_new(arena, uint64_t, count);
    w.spare = arena_new(arena, uint64_t, count);
    w.entries = arena_new(arena, QueueEntry, 2 * count);
    if (!w.next || !w.previous || !w.ranks || !w.batch || !w.spare || !w.entries) return NULL;
    w.heads = take_uncleared(arena, sizeof *w.heads, pairs->n_ranks);
    w.urgent = take_uncleared(arena, sizeof *w.urgent, 2 * count);
    if (!w.heads || !w.urgent) return NULL;
    merge_all(&w);
    return w.next;
}
