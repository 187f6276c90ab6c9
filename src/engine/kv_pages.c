#include "engine/kv_pages.h"

#include "base/hash.h"

#include <assert.h>

const char *cache_miss_name(CacheMiss miss) {
    static const char *const names[] = {
        [CACHE_MISS_NONE] = "none", [CACHE_MISS_NEW] = "new", [CACHE_MISS_EVICTED] = "evicted"};
    return names[miss];
}

bool kv_pages_init(KvPages *p, uint32_t n_pages, uint64_t seed, Arena *arena, Error *err) {
    *p = (KvPages){.n_pages = n_pages, .seed = seed, .n_index = 1};
    p->used_last = p->used_first = KV_NO_PAGE;
    while (p->n_index < n_pages)
        p->n_index *= 2;
    p->pages = arena_new(arena, KvPage, n_pages);
    p->free = arena_new(arena, uint32_t, n_pages);
    p->index = arena_new(arena, uint32_t, p->n_index);
    p->evicted = arena_new(arena, uint64_t, p->n_index);
    if (!p->pages || !p->free || !p->index || !p->evicted)
        return error_set(err, ERR_NO_MEMORY, "the table of %u cache pages does not fit its memory", n_pages);
    for (uint32_t i = 0; i < p->n_index; i++)
        p->index[i] = KV_NO_PAGE;
    for (uint32_t i = 0; i < KV_ROOT_LISTS; i++)
        p->roots[i] = KV_NO_PAGE;
    for (uint32_t i = n_pages; i-- > 0;) { // the first pages are taken first
        p->pages[i].free_at = p->n_free;
        p->free[p->n_free++] = i;
    }
    return true;
}

// ---- the order of use ----

static void push_used(KvPages *p, uint32_t page) {
    KvPage *x = &p->pages[page];
    x->used_before = p->used_last;
    x->used_after = KV_NO_PAGE;
    *(p->used_last == KV_NO_PAGE ? &p->used_first : &p->pages[p->used_last].used_after) = page;
    p->used_last = page;
    p->n_cached++;
}

static void remove_used(KvPages *p, uint32_t page) {
    const KvPage *x = &p->pages[page];
    *(x->used_before == KV_NO_PAGE ? &p->used_first : &p->pages[x->used_before].used_after) = x->used_after;
    *(x->used_after == KV_NO_PAGE ? &p->used_last : &p->pages[x->used_after].used_before) = x->used_before;
    p->n_cached--;
}

// ---- what is known ----

static uint64_t hash_of(const KvPages *p, KvPlace place, const int32_t *tokens) {
    struct {
        uint64_t seed, before;
        int32_t tokens[KV_PAGE_TOKENS];
    } text = {.seed = p->seed};
    text.before =
        place.parent == KV_NO_PAGE ? hash_bytes(place.salt, CACHE_SALT_BYTES) : p->pages[place.parent].hash;
    memcpy(text.tokens, tokens, sizeof text.tokens);
    uint64_t hash = hash_bytes(&text, sizeof text);
    return hash ? hash : 1;
}

static bool is_at(const KvPage *x, KvPlace place) {
    if (x->parent != place.parent) return false;
    return place.parent != KV_NO_PAGE || memcmp(x->salt, place.salt, CACHE_SALT_BYTES) == 0;
}

// The list of pages at a place; at the beginning of texts there are those of other salts, too.
static uint32_t *siblings_at(KvPages *p, KvPlace place) {
    if (place.parent != KV_NO_PAGE) return &p->pages[place.parent].children;
    return &p->roots[hash_bytes(place.salt, CACHE_SALT_BYTES) % KV_ROOT_LISTS];
}

static uint32_t find_whole(const KvPages *p, uint64_t hash, KvPlace place, const int32_t *tokens) {
    uint32_t page = p->index[hash & (p->n_index - 1)];
    for (; page != KV_NO_PAGE; page = p->pages[page].next_in_list) {
        const KvPage *x = &p->pages[page];
        if (x->hash == hash && is_at(x, place) && memcmp(x->tokens, tokens, sizeof x->tokens) == 0) break;
    }
    return page;
}

uint32_t kv_pages_find(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]) {
    return find_whole(p, hash_of(p, place, tokens), place, tokens);
}

bool kv_pages_was_evicted(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]) {
    uint64_t hash = hash_of(p, place, tokens);
    return p->evicted[hash & (p->n_index - 1)] == hash;
}

// Of the pages at a place but for one.
static uint32_t find_beginning(const KvPages *p, KvPlace place, uint32_t but, const int32_t *tokens,
                               uint32_t n, uint32_t *n_common) {
    uint32_t best = KV_NO_PAGE, page = *siblings_at((KvPages *)p, place);
    *n_common = 0;
    for (uint32_t i = 0; i < KV_CHILDREN_SEEN && page != KV_NO_PAGE; i++, page = p->pages[page].older) {
        const KvPage *x = &p->pages[page];
        uint32_t same = 0, most = (uint32_t)min_u64(n, x->n_tokens);
        if (page == but || !is_at(x, place)) continue;
        while (same < most && x->tokens[same] == tokens[same])
            same++;
        if (same <= *n_common) continue;
        *n_common = same;
        best = page;
    }
    return best;
}

uint32_t kv_pages_find_beginning(const KvPages *p, KvPlace place, const int32_t *tokens, uint32_t n,
                                 uint32_t *n_common) {
    return find_beginning(p, place, KV_NO_PAGE, tokens, n, n_common);
}

static void put_into_tables(KvPages *p, uint32_t page, KvPlace place) {
    KvPage *x = &p->pages[page];
    uint32_t *first = siblings_at(p, place);
    x->parent = place.parent;
    memcpy(x->salt, place.salt, CACHE_SALT_BYTES);
    x->children = x->newer = KV_NO_PAGE;
    x->older = *first;
    if (*first != KV_NO_PAGE) p->pages[*first].newer = page;
    *first = page;
}

// Nothing is known of the page any more. There is none behind it.
static void forget(KvPages *p, uint32_t page) {
    KvPage *x = &p->pages[page];
    assert(x->children == KV_NO_PAGE);
    if (x->newer != KV_NO_PAGE) p->pages[x->newer].older = x->older;
    else *siblings_at(p, (KvPlace){x->parent, x->salt}) = x->older;
    if (x->older != KV_NO_PAGE) p->pages[x->older].newer = x->newer;
    if (x->hash) {
        uint32_t *link = &p->index[x->hash & (p->n_index - 1)];
        while (*link != page)
            link = &p->pages[*link].next_in_list;
        *link = x->next_in_list;
    }
    x->n_tokens = 0;
    x->hash = 0;
}

uint32_t kv_pages_publish(KvPages *p, uint32_t page, KvPlace place, const int32_t *tokens, uint32_t n) {
    KvPage *x = &p->pages[page];
    assert(x->n_holders > 0 && n >= x->n_tokens && n > 0 && n <= KV_PAGE_TOKENS);
    assert(place.parent == KV_NO_PAGE || p->pages[place.parent].hash != 0);
    if (x->hash) return page; // all was known
    uint64_t hash = 0;
    if (n == KV_PAGE_TOKENS) {
        hash = hash_of(p, place, tokens);
        uint32_t same = find_whole(p, hash, place, tokens);
        if (same != KV_NO_PAGE) {
            if (x->n_tokens) forget(p, page);
            return same;
        }
    }
    if (x->n_tokens == 0) put_into_tables(p, page, place);
    memcpy(x->tokens, tokens, n * sizeof *tokens);
    x->n_tokens = n;
    x->hash = hash;
    if (hash) {
        uint32_t *first = &p->index[hash & (p->n_index - 1)];
        x->next_in_list = *first;
        *first = page;
    }
    return page;
}

// ---- who holds what ----

static void push_free(KvPages *p, uint32_t page) {
    p->pages[page].free_at = p->n_free;
    p->free[p->n_free++] = page;
}

// Of the cached pages the one that was used longest ago.
static void free_first(KvPages *p) {
    uint32_t page = p->used_first;
    remove_used(p, page);
    forget(p, page);
    push_free(p, page);
}

bool kv_pages_take(KvPages *p, uint32_t *out) {
    if (p->n_free == 0) {
        if (p->n_cached == 0) return false;
        uint64_t hash = p->pages[p->used_first].hash;
        if (hash) p->evicted[hash & (p->n_index - 1)] = hash;
        free_first(p);
    }
    *out = p->free[--p->n_free];
    p->pages[*out].n_holders = 1;
    return true;
}

void kv_pages_share(KvPages *p, uint32_t page) {
    KvPage *x = &p->pages[page];
    assert(page < p->n_pages && (x->n_holders > 0 || x->n_tokens > 0));
    if (x->n_holders++ == 0) remove_used(p, page);
}

// Whether another page has all that is known of this one. (No other has all tokens of a whole one.)
static bool is_of_no_use(const KvPages *p, uint32_t page) {
    const KvPage *x = &p->pages[page];
    uint32_t n_common;
    if (x->n_tokens == 0) return true;
    if (x->hash) return false;
    find_beginning(p, (KvPlace){x->parent, x->salt}, page, x->tokens, x->n_tokens, &n_common);
    return n_common == x->n_tokens;
}

static void give_back(KvPages *p, uint32_t page) {
    KvPage *x = &p->pages[page];
    assert(page < p->n_pages && x->n_holders > 0);
    if (--x->n_holders > 0) return;
    if (!is_of_no_use(p, page)) {
        push_used(p, page);
        return;
    }
    if (x->n_tokens) forget(p, page);
    push_free(p, page);
}

void kv_pages_give_back(KvPages *p, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = n; i-- > 0;)
        give_back(p, pages[i]);
}

void kv_pages_give_back_spoiled(KvPages *p, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = n; i-- > 0;) {
        const KvPage *x = &p->pages[pages[i]];
        if (x->n_holders == 1 && x->n_tokens && x->children == KV_NO_PAGE) forget(p, pages[i]);
        give_back(p, pages[i]);
    }
}

void kv_pages_drop_cached(KvPages *p) {
    while (p->n_cached)
        free_first(p);
}
