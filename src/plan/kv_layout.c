#include "plan/kv_layout.h"

// ---- choosing ----

// Of the paged caches of a kind, without a window or with one: how many, and the places that each takes.
typedef struct {
    uint32_t count, size;
} Kind;

typedef struct {
    Kind full, windowed;
} Kinds;

// Caches of so different sizes have places of the largest.
enum { PLACES_OF_A_CACHE_MAX = 8 };

static bool is_windowed(const Cache *c, uint32_t n_context) {
    return c->window > 0 && c->window < n_context;
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

static uint64_t choose_place_bytes(const Cache *caches, uint32_t n_caches) {
    uint64_t common = 0, most = 0;
    for (uint32_t i = 0; i < n_caches; i++) {
        common = common_divisor(caches[i].page_bytes, common);
        most = max_u64(most, caches[i].page_bytes);
    }
    return common && most / common <= PLACES_OF_A_CACHE_MAX ? common : most;
}

static Kinds count_kinds(const Cache *caches, uint32_t n_caches, uint32_t n_context, uint64_t place_bytes) {
    Kinds n = {0};
    for (uint32_t i = 0; i < n_caches; i++) {
        Kind *kind = is_windowed(&caches[i], n_context) ? &n.windowed : &n.full;
        if (caches[i].page_bytes == 0) continue;
        kind->count++;
        kind->size = (uint32_t)max_u64(kind->size, div_up(caches[i].page_bytes, place_bytes));
    }
    return n;
}

// Lists of pages of n_places for a kind's caches; more than there may be where none fits a page.
static uint64_t lists_of(Kind kind, uint32_t n_places) {
    if (kind.count == 0) return 0;
    return n_places >= kind.size ? div_up(kind.count, n_places / kind.size) : KV_LISTS_MAX + 1;
}

// Places that a text of n_context tokens takes where pages have n_places: those that no cache uses count,
// too.
static uint64_t places_taken(Kinds n, uint32_t n_places, uint64_t window, uint64_t n_context) {
    return n_places * (lists_of(n.full, n_places) * n_context + lists_of(n.windowed, n_places) * window);
}

// As few unused places as there may be with KV_LISTS_MAX lists, and then as few lists.
static uint32_t choose_places(Kinds n, uint64_t window, uint64_t n_context) {
    uint32_t best = n.full.count * n.full.size + n.windowed.count * n.windowed.size;
    for (uint32_t places = best; places > 0; places--) {
        if (lists_of(n.full, places) + lists_of(n.windowed, places) > KV_LISTS_MAX) break;
        uint64_t takes = places_taken(n, places, window, n_context);
        if (takes < places_taken(n, best, window, n_context)) best = places;
    }
    return best;
}

KvLayout kv_layout_make(Cache *caches, uint32_t n_caches, uint32_t n_context) {
    KvLayout l = {.place_bytes = choose_place_bytes(caches, n_caches)};
    if (l.place_bytes == 0) return l;
    Kinds n = count_kinds(caches, n_caches, n_context, l.place_bytes);
    for (uint32_t i = 0; i < n_caches; i++) {
        bool windowed = is_windowed(&caches[i], n_context);
        if (caches[i].page_bytes && windowed) l.window = (uint32_t)max_u64(l.window, caches[i].window);
        l.is_mixed |= caches[i].page_bytes && caches[i].page_bytes != l.place_bytes;
    }
    l.n_places = choose_places(n, l.window, n_context);
    l.n_full = (uint32_t)lists_of(n.full, l.n_places);
    l.n_lists = l.n_full + (uint32_t)lists_of(n.windowed, l.n_places);
    uint32_t at_full = 0, at_windowed = 0;
    for (uint32_t i = 0; i < n_caches; i++) {
        bool windowed = is_windowed(&caches[i], n_context);
        if (caches[i].page_bytes == 0) continue;
        uint32_t number = windowed ? at_windowed++ : at_full++,
                 size = windowed ? n.windowed.size : n.full.size;
        caches[i].list = number / (l.n_places / size) + (windowed ? l.n_full : 0);
        caches[i].place = number % (l.n_places / size) * size;
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
