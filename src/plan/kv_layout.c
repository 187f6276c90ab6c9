#include "plan/kv_layout.h"

// ---- choosing ----

// Caches without a window, and with one, among those that are paged.
typedef struct {
    uint32_t full, windowed;
} Counts;

static bool is_windowed(const Cache *c, uint32_t n_context) {
    return c->window > 0 && c->window < n_context;
}

// Places that a text of n_context tokens takes where pages have n_places, by pages of one cache: those that
// no cache uses count, too.
static uint64_t places_taken(Counts n, uint32_t n_places, uint64_t window, uint64_t n_context) {
    return n_places * (div_up(n.full, n_places) * n_context + div_up(n.windowed, n_places) * window);
}

// As few unused places as there may be with KV_LISTS_MAX lists, and then as few lists.
static uint32_t choose_places(Counts n, uint64_t window, uint64_t n_context) {
    uint32_t best = n.full + n.windowed;
    for (uint32_t places = best; places > 0; places--) {
        if (div_up(n.full, places) + div_up(n.windowed, places) > KV_LISTS_MAX) break;
        uint64_t takes = places_taken(n, places, window, n_context);
        if (takes < places_taken(n, best, window, n_context)) best = places;
    }
    return best;
}

KvLayout kv_layout_make(Cache *caches, uint32_t n_caches, uint32_t n_context) {
    KvLayout l = {0};
    Counts n = {0}, at = {0};
    for (uint32_t i = 0; i < n_caches; i++) {
        bool windowed = is_windowed(&caches[i], n_context);
        if (caches[i].page_bytes == 0) continue;
        *(windowed ? &n.windowed : &n.full) += 1;
        if (windowed) l.window = (uint32_t)max_u64(l.window, caches[i].window);
    }
    if (n.full + n.windowed == 0) return l;
    l.n_places = choose_places(n, l.window, n_context);
    l.n_full = (uint32_t)div_up(n.full, l.n_places);
    l.n_lists = l.n_full + (uint32_t)div_up(n.windowed, l.n_places);
    for (uint32_t i = 0; i < n_caches; i++) {
        bool windowed = is_windowed(&caches[i], n_context);
        if (caches[i].page_bytes == 0) continue;
        uint32_t number = windowed ? at.windowed++ : at.full++;
        caches[i].list = number / l.n_places + (windowed ? l.n_full : 0);
        caches[i].place = number % l.n_places;
    }
    return l;
}

// ---- what fits ----

uint64_t kv_layout_texts(const KvLayout *l, uint64_t n_pages, uint64_t n_tokens, uint32_t n_rows) {
    uint64_t first = kv_layout_pages(l, n_tokens, n_rows), each = kv_layout_pages(l, n_tokens, 1);
    if (n_pages < first) return 0;
    return each ? 1 + (n_pages - first) / each : UINT64_MAX;
}

// The most tokens with which there is room for n_texts; at most n_context.
static uint32_t longest(const KvLayout *l, uint64_t n_pages, uint64_t n_texts, uint32_t n_rows,
                        uint32_t n_context) {
    uint64_t low = 0, high = kv_pages_of(n_context); // pages of a list
    while (low < high) {
        uint64_t middle = (low + high + 1) / 2;
        if (kv_layout_texts(l, n_pages, middle * KV_PAGE_TOKENS, n_rows) >= n_texts) low = middle;
        else high = middle - 1;
    }
    return (uint32_t)min_u64(low * KV_PAGE_TOKENS, n_context);
}

uint32_t kv_layout_tokens(const KvLayout *l, uint64_t n_pages, uint32_t n_rows, uint32_t n_context) {
    return longest(l, n_pages, 1, n_rows, n_context);
}

uint64_t kv_layout_tokens_in_all(const KvLayout *l, uint64_t n_pages, uint32_t n_texts, uint32_t n_rows,
                                 uint32_t n_context) {
    if (l->n_lists == l->n_full && l->n_full > 0) return n_pages / l->n_full * KV_PAGE_TOKENS;
    return (uint64_t)n_texts * longest(l, n_pages, n_texts, n_rows, n_context);
}

uint64_t kv_layout_spread(const KvLayout *l, uint64_t n_tokens, uint32_t n_rows, uint32_t first,
                          uint32_t *pages) {
    uint64_t n = kv_pages_of(n_tokens), next = first;
    for (uint32_t list = 0; list < l->n_lists; list++) {
        uint64_t own = list < l->n_full ? n : min_u64(n, kv_layout_window_pages(l, n_rows));
        for (uint64_t i = 0; pages && i < n; i++)
            pages[list * n + i] = (uint32_t)(next + i % own);
        next += own;
    }
    return next - first;
}
