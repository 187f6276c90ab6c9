// How the KV cache is cut into pages: which layers' caches share a page, and how many pages a text needs.
//
// A page is KV_PAGE_TOKENS positions of up to n_places caches. All pages have the same size, so that any page
// may serve any layers. Where caches have different sizes, as those of layers with and without a window may,
// a place is as large as their greatest common divisor, and a cache takes several side by side. A sequence
// has n_lists lists of pages; page i of a list has the positions from i * KV_PAGE_TOKENS on, of the caches of
// that list. The first n_full lists are of caches that are read from the first position on; the others are of
// caches with a window, and of these a sequence needs the last pages alone.
#pragma once

#include "base/base.h"
#include "base/limits.h"

enum {
    KV_LISTS_MAX = 8,
    // Pages behind the window that a sequence keeps: a text that is cut by a few tokens (its last ones are
    // written in another way) then still finds its window.
    KV_PAGES_BEHIND = 2,
};

// What a sequence keeps between steps for one layer. Paged kinds grow by pages of KV_PAGE_TOKENS tokens; the
// others have a fixed size for each slot.
//   KEYS_VALUES  paged: a key and a value of each head for every position
//   LAST_ROWS    of each slot: the rows that a short convolution sees before the next one, the oldest first
//   STATE        of each slot: a matrix [value_dim][key_dim] of each head, float32
typedef enum { CACHE_KEYS_VALUES, CACHE_LAST_ROWS, CACHE_STATE } CacheKind;

// What the values of keys and values are kept as.
//   F16  half floats
//   Q8   of each token and head, of keys and of values: codes of 8 bits, -127 … 127, and one scale, a half
//        float (kv_quantize)
typedef enum { KV_TYPE_F16, KV_TYPE_Q8 } KvType;

static inline const char *kv_type_name(KvType type) {
    return type == KV_TYPE_Q8 ? "q8" : "f16";
}

// Bytes of a head's keys (or values) of `dim` values each, of a page. Scales have room for one of every 256
// values, so that heads of 512 take twice what heads of 256 do, and share their pages without holes.
static inline uint64_t kv_head_bytes(KvType type, uint32_t dim) {
    uint64_t scales = KV_PAGE_TOKENS * div_up(dim, 256) * sizeof(uint16_t);
    return type == KV_TYPE_Q8 ? KV_PAGE_TOKENS * (uint64_t)dim + scales
                              : KV_PAGE_TOKENS * (uint64_t)dim * sizeof(uint16_t);
}

typedef struct {
    CacheKind kind;
    KvType type; // KEYS_VALUES
    uint32_t layer;
    uint32_t n_heads;     // KEYS_VALUES: heads of keys and values; LAST_ROWS: rows
    uint32_t key_dim;     // values of a head's key; LAST_ROWS: of a row
    uint32_t value_dim;   // values of a head's value; LAST_ROWS: 1
    uint32_t window;      // positions that a row reads, its own included; 0: all
    bool is_latent;       // KEYS_VALUES of one head: a position's value is the start of its key, kept once
    uint64_t page_bytes;  // KV_PAGE_TOKENS positions; 0 where the kind is not paged
    uint64_t slot_bytes;  // a slot, rows with f16 values; 0 where the kind is paged
    uint32_t list, place; // whose pages it is in, and which place of them is its first
} Cache;

// Values that a slot keeps.
static inline uint64_t cache_slot_values(const Cache *c) {
    return c->slot_bytes ? (uint64_t)c->n_heads * c->key_dim * c->value_dim : 0;
}

// Where such a cache begins in what a slot keeps, in values; of n_caches: how many values that is in all.
static inline uint64_t cache_slot_at(const Cache *caches, uint32_t index) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < index; i++)
        at += align_up(cache_slot_values(&caches[i]), 16);
    return at;
}

typedef struct {
    uint32_t n_places; // of a page
    uint64_t place_bytes;
    bool is_mixed;    // some caches take several places, or less than one
    uint32_t n_lists; // 0: nothing is paged
    uint32_t n_full;  // lists without a window: the first ones
    uint32_t window;  // positions that a row of the other lists reads, at most; 0: there are none
} KvLayout;

// Chooses the layout for texts of up to n_context tokens, and gives each paged cache its list and place.
KvLayout kv_layout_make(Cache *caches, uint32_t n_caches, uint32_t n_context);

static inline uint64_t kv_pages_of(uint64_t n_tokens) {
    return div_up(n_tokens, KV_PAGE_TOKENS);
}

// The first page of a list with a window that a row at a position reads.
static inline uint32_t kv_layout_first_page(const KvLayout *l, uint32_t position) {
    return position + 1 > l->window ? (position + 1 - l->window) / KV_PAGE_TOKENS : 0;
}

// Pages of such a list that a sequence has at most, while n_rows of its rows are in a step.
static inline uint64_t kv_layout_window_pages(const KvLayout *l, uint32_t n_rows) {
    return kv_pages_of((uint64_t)l->window - 1 + n_rows) + 1 + KV_PAGES_BEHIND;
}

// Pages of a text of n_tokens in all lists, with at most n_rows of its rows in a step.
static inline uint64_t kv_layout_pages(const KvLayout *l, uint64_t n_tokens, uint32_t n_rows) {
    uint64_t pages = kv_pages_of(n_tokens), n_windows = l->n_lists - l->n_full;
    if (n_windows == 0) return l->n_full * pages;
    return l->n_full * pages + n_windows * min_u64(pages, kv_layout_window_pages(l, n_rows));
}

// The longest text that n_pages hold by itself; at most n_context tokens.
uint32_t kv_layout_tokens(const KvLayout *l, uint64_t n_pages, uint32_t n_rows, uint32_t n_context);

// Texts of n_tokens that n_pages hold, where n_rows rows of all of them together are in a step.
uint64_t kv_layout_texts(const KvLayout *l, uint64_t n_pages, uint64_t n_tokens, uint32_t n_rows);

// Tokens of n_texts texts of the same length that n_pages hold; each has at most n_context.
uint64_t kv_layout_tokens_in_all(const KvLayout *l, uint64_t n_pages, uint32_t n_texts, uint32_t n_rows,
                                 uint32_t n_context);

// Lists for a text of n_tokens with a part of the cache for itself, the pages from `first` on: those of a
// window are used again when it has passed them. pages: [n_lists][kv_pages_of(n_tokens)]; NULL: none are
// wanted. Returns how many pages that takes.
uint64_t kv_layout_spread(const KvLayout *l, uint64_t n_tokens, uint32_t n_rows, uint32_t first,
                          uint32_t *pages);
