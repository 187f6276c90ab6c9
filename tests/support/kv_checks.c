#include "kv_checks.h"

const char *kv_pages_problem(const KvPages *p, uint64_t n_held) {
    uint64_t holders = 0;
    uint32_t n_free = 0;
    if (p->n_free > p->n_pages) return "more free pages than there are";
    for (uint32_t i = 0; i < p->n_pages; i++) {
        const KvPage *page = &p->pages[i];
        holders += page->n_holders;
        if (page->n_holders) continue;
        n_free++;
        if (page->free_at >= p->n_free || p->free[page->free_at] != i)
            return "a page is neither held nor free";
        if (page->hash) return "a free page has a hash";
    }
    if (n_free != p->n_free) return "a held page is in the list of free ones";
    if (holders != n_held) return "pages have more or fewer holders than hold them";
    return NULL;
}
