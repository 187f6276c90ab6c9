#include "kv_checks.h"

enum { PAGES_MAX = 4096 };

static const char *page_problem(const KvPages *p, uint32_t i) {
    const KvPage *page = &p->pages[i];
    bool is_free = page->free_at < p->n_free && p->free[page->free_at] == i;
    if (page->n_holders == 0 && page->n_tokens == 0 && !is_free) return "a page is neither held nor free";
    if (is_free && (page->n_holders || page->n_tokens)) return "a page in use is in the list of free ones";
    if ((page->hash != 0) != (page->n_tokens == KV_PAGE_TOKENS)) return "a page's hash and tokens disagree";
    if (page->n_tokens == 0) return NULL;
    if (page->children != KV_NO_PAGE && !page->hash) return "a page that is not whole has others behind it";
    if (page->parent == KV_NO_PAGE) return NULL;
    const KvPage *parent = &p->pages[page->parent];
    if (!parent->hash) return "the page before a known one is not known";
    if (page->n_holders && !parent->n_holders) return "the page before a held one is not held";
    return NULL;
}

// Follows the order of use.
static const char *order_problem(const KvPages *p) {
    static uint32_t place[PAGES_MAX]; // in that order, from 1 on; 0: not in it
    uint32_t n = 0, before = KV_NO_PAGE;
    memset(place, 0, p->n_pages * sizeof *place);
    for (uint32_t i = p->used_first; i != KV_NO_PAGE && n < p->n_cached; i = p->pages[i].used_after) {
        if (p->pages[i].used_before != before) return "the list of cached pages is broken";
        place[i] = ++n;
        before = i;
    }
    if (n != p->n_cached || before != p->used_last) return "cached pages are not all in their list";
    for (uint32_t i = 0; i < p->n_pages; i++) {
        const KvPage *page = &p->pages[i];
        if ((place[i] != 0) != (page->n_tokens && !page->n_holders))
            return "a cached page is not in the list";
        bool continues = place[i] && page->parent != KV_NO_PAGE && place[page->parent];
        if (continues && place[page->parent] < place[i]) return "a cached page was used before one behind it";
    }
    return NULL;
}

const char *kv_pages_lookup_problem(const KvPages *p) {
    for (uint32_t i = 0; i < p->n_pages; i++) {
        const KvPage *page = &p->pages[i];
        uint32_t found = page->hash ? kv_pages_find(p, (KvPlace){page->parent, page->salt}, page->tokens) : i;
        if (found != i) return "a whole page is not found";
    }
    return NULL;
}

const char *kv_pages_problem(const KvPages *p, uint64_t n_held) {
    uint64_t holders = 0;
    uint32_t n_free = 0, n_cached = 0;
    if (p->n_free + p->n_cached > p->n_pages) return "more free and cached pages than there are";
    for (uint32_t i = 0; i < p->n_pages; i++) {
        const KvPage *page = &p->pages[i];
        const char *problem = page_problem(p, i);
        if (problem) return problem;
        holders += page->n_holders;
        n_free += !page->n_holders && !page->n_tokens;
        n_cached += !page->n_holders && page->n_tokens;
    }
    if (n_free != p->n_free) return "the list of free pages has others";
    if (n_cached != p->n_cached) return "pages are cached that do not count as such";
    if (holders != n_held) return "pages have more or fewer holders than hold them";
    return order_problem(p);
}
