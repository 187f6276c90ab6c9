// The pages of the KV cache: who holds each, which are free, and what the others still hold.
//
// A page is KV_PAGE_TOKENS positions of every layer. It is held by one sequence or more, or by none: then it
// is free, or it is cached, because it is known which text it holds.
//
// What is known of a page: the page before it (the first page of a text has none, and the salt of its text
// instead), and the tokens of its first n_tokens positions, which do not change any more. So a page and those
// before it are the beginning of a text. A page's text becomes known by kv_pages_publish, from the first page
// on; a page with all tokens known can be held by any sequence whose text begins so, and is written to no
// more. Tokens are compared, so that no two texts are ever mixed up; hashes only say where to look. Two pages
// never have the same whole text: who publishes the second one is given the first.
//
// Whoever holds a page holds the pages before it, and gives back the last one first. So a page is used at
// least as late as those behind it, and where pages are needed, the cached one that was used longest ago has
// none behind it.
//
// One thread calls everything; nothing is allocated after init, and no call takes longer for more pages.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"

enum {
    KV_NO_PAGE = 0xFFFFFFFF,
    KV_ROOT_LISTS = 256,  // of first pages, by salt
    KV_CHILDREN_SEEN = 8, // that are looked at for a beginning in common, the newest ones
};

typedef struct {
    uint32_t n_holders;
    uint32_t n_tokens; // that are known; 0: it is not in the tables below
    int32_t tokens[KV_PAGE_TOKENS];
    uint8_t salt[CACHE_SALT_BYTES];   // of a first page
    uint32_t parent;                  // the page before it, all of whose tokens are known; KV_NO_PAGE: none
    uint32_t children;                // the newest page behind it, or KV_NO_PAGE
    uint32_t older, newer;            // siblings: pages behind the same one
    uint32_t free_at;                 // of a free page: its place in KvPages.free
    uint32_t used_before, used_after; // of a cached page: its neighbours in the order of use
    uint64_t hash;         // of the text up to the end of a page with all tokens known, never 0; else 0
    uint32_t next_in_list; // of such a page: the next one in its list of KvPages.index
} KvPage;

typedef struct {
    KvPage *pages;  // [n_pages]
    uint32_t *free; // [n_free] a stack: what was given back last is taken first
    uint32_t n_pages;
    uint32_t n_free;
    uint32_t n_cached;
    uint32_t used_last, used_first; // cached pages by their last use: the ends of that list
    uint32_t *index;                // [n_index] lists of pages with all tokens known, by hash
    uint64_t *evicted;              // [n_index] hashes of cached pages that were taken, by hash; 0: none
    uint32_t n_index;               // a power of two
    uint64_t seed;                  // of the hashes
    uint32_t roots[KV_ROOT_LISTS];  // first pages, likewise by the hash of their salt
} KvPages;

// Why the cache had no more of a prompt than it had.
typedef enum {
    CACHE_MISS_NONE,    // it had all that can be taken from it: all but the last token
    CACHE_MISS_NEW,     // no text before had these tokens there
    CACHE_MISS_EVICTED, // one had, and its pages were needed since
} CacheMiss;

const char *cache_miss_name(CacheMiss miss); // "none", "new", "evicted"

// Where in a text a page is.
typedef struct {
    uint32_t parent;     // a page with all tokens known, or KV_NO_PAGE at the beginning of a text
    const uint8_t *salt; // [CACHE_SALT_BYTES] of the text
} KvPlace;

// All pages are free. `arena` keeps the tables. `seed` makes the hashes: where nobody can know it, nobody can
// choose texts that share one list of the index.
MUST_CHECK bool kv_pages_init(KvPages *p, uint32_t n_pages, uint64_t seed, Arena *arena, Error *err);

// Takes a page for one holder, of which nothing is known: a free one, or else the cached one that was used
// longest ago. False where all are held.
MUST_CHECK bool kv_pages_take(KvPages *p, uint32_t *out);

// One holder more of a page that is held or cached. Its parents are held.
void kv_pages_share(KvPages *p, uint32_t page);

// One holder less for each of n pages of one text, the last of them first. Those that nobody holds any more
// are cached or free. A page with some tokens known is free where another one has them, too.
void kv_pages_give_back(KvPages *p, const uint32_t *pages, uint32_t n);

// As kv_pages_give_back, for a text whose values are spoiled: as far as nobody else holds its pages, nothing
// is known of them any more.
void kv_pages_give_back_spoiled(KvPages *p, const uint32_t *pages, uint32_t n);

// The page with all tokens known that has these; KV_NO_PAGE where there is none.
uint32_t kv_pages_find(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]);

// A page at this place that begins with as many of n tokens (at most KV_PAGE_TOKENS) as any of those looked
// at, and how many these are; KV_NO_PAGE where no page has the first token.
uint32_t kv_pages_find_beginning(const KvPages *p, KvPlace place, const int32_t *tokens, uint32_t n,
                                 uint32_t *n_common);

// Whether a page with these tokens at this place has been cached and taken, as far as that is remembered.
bool kv_pages_was_evicted(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]);

// The first n tokens of a held page are known, at least as many as before. Returns the page that has this
// text: `page`, or, where n is KV_PAGE_TOKENS, another one that had it before. Then nothing is known of
// `page`; the caller goes on with the other one (kv_pages_share), and gives `page` back.
uint32_t kv_pages_publish(KvPages *p, uint32_t page, KvPlace place, const int32_t *tokens, uint32_t n);

// Frees all cached pages.
void kv_pages_drop_cached(KvPages *p);

// Held by somebody.
static inline uint32_t kv_pages_used(const KvPages *p) {
    return p->n_pages - p->n_free - p->n_cached;
}

// That can be taken.
static inline uint32_t kv_pages_available(const KvPages *p) {
    return p->n_free + p->n_cached;
}
