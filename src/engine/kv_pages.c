#include "engine/kv_pages.h"

#include <assert.h>

const char *cache_miss_name(CacheMiss miss) {
    static const char *const names[] = {
        [CACHE_MISS_NONE] = "none", [CACHE_MISS_NEW] = "new", [CACHE_MISS_EVICTED] = "evicted"};
    return names[miss];
}

static void push_free(KvPages *p, uint32_t page) {
    p->pages[page] = (KvPage){.free_at = p->n_free};
    p->free[p->n_free++] = page;
}

bool kv_pages_init(KvPages *p, uint32_t n_pages, Arena *arena, Error *err) {
    *p = (KvPages){.n_pages = n_pages};
    p->pages = arena_new(arena, KvPage, n_pages);
    p->free = arena_new(arena, uint32_t, n_pages);
    if (!p->pages || !p->free)
        return error_set(err, ERR_NO_MEMORY, "the table of %u cache pages does not fit its memory", n_pages);
    for (uint32_t i = n_pages; i-- > 0;) // the first pages are taken first
        push_free(p, i);
    return true;
}

bool kv_pages_take(KvPages *p, uint32_t n, uint32_t *out) {
    if (n > p->n_free) return false;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = p->free[--p->n_free];
        p->pages[out[i]] = (KvPage){.n_holders = 1};
    }
    return true;
}

void kv_pages_share(KvPages *p, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        assert(pages[i] < p->n_pages && p->pages[pages[i]].n_holders > 0);
        p->pages[pages[i]].n_holders++;
    }
}

void kv_pages_give_back(KvPages *p, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = n; i-- > 0;) {
        assert(pages[i] < p->n_pages && p->pages[pages[i]].n_holders > 0);
        if (--p->pages[pages[i]].n_holders == 0) push_free(p, pages[i]);
    }
}
