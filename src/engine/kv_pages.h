// The pages of the KV cache: who holds each, and which are free.
//
// A page is KV_PAGE_TOKENS positions of every layer. It is free, or held by one sequence or more: sequences
// that begin with the same tokens can share pages, which nobody writes to any more. A page is free again when
// the last of its holders gives it back. One thread calls everything; nothing is allocated after init.
#pragma once

#include "base/arena.h"
#include "base/error.h"

typedef struct {
    uint32_t n_holders; // 0: free
    uint32_t free_at;   // where it is in KvPages.free, of a free page
    uint64_t hash;      // of the text up to the end of a full page, written by its holder; 0: not known
} KvPage;

typedef struct {
    KvPage *pages;  // [n_pages]
    uint32_t *free; // [n_free] a stack: what was given back last is taken first
    uint32_t n_pages;
    uint32_t n_free;
} KvPages;

// Why the cache had no more of a prompt than it had.
typedef enum {
    CACHE_MISS_NONE,    // it had all that can be taken from it: all but the last token
    CACHE_MISS_NEW,     // no text before had these tokens there
    CACHE_MISS_EVICTED, // one had, and its pages were needed since
} CacheMiss;

const char *cache_miss_name(CacheMiss miss); // "none", "new", "evicted"

// All pages are free. `arena` keeps the tables.
MUST_CHECK bool kv_pages_init(KvPages *p, uint32_t n_pages, Arena *arena, Error *err);

// Takes n free pages with no hash; their numbers go to out [n]. False where there are fewer: none is taken.
MUST_CHECK bool kv_pages_take(KvPages *p, uint32_t n, uint32_t *out);

// One holder more for each of n pages that are held already.
void kv_pages_share(KvPages *p, const uint32_t *pages, uint32_t n);

// One holder less for each of n pages, the last of them first.
void kv_pages_give_back(KvPages *p, const uint32_t *pages, uint32_t n);

static inline uint32_t kv_pages_used(const KvPages *p) {
    return p->n_pages - p->n_free;
}
