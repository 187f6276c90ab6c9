#include "engine/kv_pages.h"

#include "base/hash.h"

#include <assert.h>

const char *cache_miss_name(CacheMiss miss) {
    static const char *const names[] = {[CACHE_MISS_NONE] = "none",
                                        [CACHE_MISS_NEW] = "new",
                                        [CACHE_MISS_EVICTED] = "evicted",
                                        [CACHE_MISS_STATE] = "state"};
    return names[miss];
}

uint32_t kv_pages_nodes(const KvLayout *l, uint32_t n_pages, uint32_t n_slots, uint32_t n_context) {
    if (l->n_full > 0) return n_pages / l->n_full;
    uint64_t held = n_slots * kv_pages_of(n_context), cached = l->n_lists ? n_pages / l->n_lists : 0;
    return (uint32_t)min_u64(held + cached, KV_NO_NODE - 1);
}

static bool allocate(KvPages *p, Arena *arena) {
    p->nodes = arena_new(arena, KvNode, p->n_nodes);
    p->lists = arena_new(arena, uint32_t, (uint64_t)p->n_nodes * p->layout.n_lists);
    p->free = arena_new(arena, uint32_t, p->n_pages);
    p->free_nodes = arena_new(arena, uint32_t, p->n_nodes);
    p->index = arena_new(arena, uint32_t, p->n_index);
    p->evicted = arena_new(arena, uint64_t, p->n_index);
    return p->nodes && p->lists && p->free && p->free_nodes && p->index && p->evicted;
}

bool kv_pages_init(KvPages *p, const KvLayout *layout, uint32_t n_pages, uint32_t n_nodes, uint64_t seed,
                   Arena *arena, Error *err) {
    *p = (KvPages){.layout = *layout,
                   .n_windows = layout->n_lists - layout->n_full,
                   .n_pages = n_pages,
                   .n_nodes = n_nodes,
                   .seed = seed,
                   .n_index = 1};
    while (p->n_index < n_nodes)
        p->n_index *= 2;
    if (!allocate(p, arena))
        return error_set(err, ERR_NO_MEMORY, "the table of %u cache pages does not fit its memory", n_pages);
    for (uint32_t i = 0; i < p->n_index; i++)
        p->index[i] = KV_NO_NODE;
    for (uint32_t i = 0; i < KV_ROOT_LISTS; i++)
        p->roots[i] = KV_NO_NODE;
    for (uint32_t i = 0; i < KV_ORDERS; i++)
        p->orders[i].first = p->orders[i].last = KV_NO_NODE;
    for (uint32_t i = n_pages; i-- > 0;) // the first pages are taken first
        p->free[p->n_free++] = i;
    for (uint32_t i = n_nodes; i-- > 0;)
        p->free_nodes[p->n_free_nodes++] = i;
    return true;
}

// ---- the orders of use ----

static KvUse *use_in(KvPages *p, KvOrder order, uint32_t node) {
    return order == KV_NODES ? &p->nodes[node].use : &p->nodes[node].window_use;
}

static uint32_t pages_in(const KvPages *p, KvOrder order) {
    return order == KV_NODES ? p->layout.n_full : p->n_windows;
}

static void push_used(KvPages *p, KvOrder order, uint32_t node) {
    uint32_t last = p->orders[order].last;
    *use_in(p, order, node) = (KvUse){.before = last, .after = KV_NO_NODE, .at = ++p->clock};
    *(last == KV_NO_NODE ? &p->orders[order].first : &use_in(p, order, last)->after) = node;
    p->orders[order].last = node;
    p->n_cached += pages_in(p, order);
}

static void remove_used(KvPages *p, KvOrder order, uint32_t node) {
    KvUse use = *use_in(p, order, node);
    *(use.before == KV_NO_NODE ? &p->orders[order].first : &use_in(p, order, use.before)->after) = use.after;
    *(use.after == KV_NO_NODE ? &p->orders[order].last : &use_in(p, order, use.after)->before) = use.before;
    p->n_cached -= pages_in(p, order);
}

static KvOrder window_order(const KvNode *x) {
    return x->is_passed ? KV_PASSED : KV_WINDOWS;
}

// ---- what is known ----

static uint64_t hash_of(const KvPages *p, KvPlace place, const int32_t *tokens) {
    struct {
        uint64_t seed, before;
        int32_t tokens[KV_PAGE_TOKENS];
    } text = {.seed = p->seed};
    text.before =
        place.parent == KV_NO_NODE ? hash_bytes(place.salt, CACHE_SALT_BYTES) : p->nodes[place.parent].hash;
    memcpy(text.tokens, tokens, sizeof text.tokens);
    uint64_t hash = hash_bytes(&text, sizeof text);
    return hash ? hash : 1;
}

static bool is_at(const KvNode *x, KvPlace place) {
    if (x->parent != place.parent) return false;
    return place.parent != KV_NO_NODE || memcmp(x->salt, place.salt, CACHE_SALT_BYTES) == 0;
}

// The list of nodes at a place; at the beginning of texts there are those of other salts, too.
static uint32_t *siblings_at(KvPages *p, KvPlace place) {
    if (place.parent != KV_NO_NODE) return &p->nodes[place.parent].children;
    return &p->roots[hash_bytes(place.salt, CACHE_SALT_BYTES) % KV_ROOT_LISTS];
}

static uint32_t find_whole(const KvPages *p, uint64_t hash, KvPlace place, const int32_t *tokens) {
    uint32_t node = p->index[hash & (p->n_index - 1)];
    for (; node != KV_NO_NODE; node = p->nodes[node].next_in_list) {
        const KvNode *x = &p->nodes[node];
        if (x->hash == hash && is_at(x, place) && memcmp(x->tokens, tokens, sizeof x->tokens) == 0) break;
    }
    return node;
}

uint32_t kv_pages_find(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]) {
    return find_whole(p, hash_of(p, place, tokens), place, tokens);
}

bool kv_pages_was_evicted(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]) {
    uint64_t hash = hash_of(p, place, tokens);
    return p->evicted[hash & (p->n_index - 1)] == hash;
}

// Of the nodes at a place but for one, those with their windows.
static uint32_t find_beginning(const KvPages *p, KvPlace place, uint32_t but, const int32_t *tokens,
                               uint32_t n, uint32_t *n_common) {
    uint32_t best = KV_NO_NODE, node = *siblings_at((KvPages *)p, place);
    *n_common = 0;
    for (uint32_t i = 0; i < KV_CHILDREN_SEEN && node != KV_NO_NODE; i++, node = p->nodes[node].older) {
        const KvNode *x = &p->nodes[node];
        uint32_t same = 0, most = (uint32_t)min_u64(n, x->n_tokens);
        if (node == but || !is_at(x, place) || !kv_pages_has_all(p, node)) continue;
        while (same < most && x->tokens[same] == tokens[same])
            same++;
        if (same <= *n_common) continue;
        *n_common = same;
        best = node;
    }
    return best;
}

uint32_t kv_pages_find_beginning(const KvPages *p, KvPlace place, const int32_t *tokens, uint32_t n,
                                 uint32_t *n_common) {
    return find_beginning(p, place, KV_NO_NODE, tokens, n, n_common);
}

static void put_into_tables(KvPages *p, uint32_t node, KvPlace place) {
    KvNode *x = &p->nodes[node];
    uint32_t *first = siblings_at(p, place);
    x->parent = place.parent;
    memcpy(x->salt, place.salt, CACHE_SALT_BYTES);
    x->children = x->newer = KV_NO_NODE;
    x->older = *first;
    if (*first != KV_NO_NODE) p->nodes[*first].newer = node;
    *first = node;
}

// Nothing is known of the node any more. There is none behind it.
static void forget(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    assert(x->children == KV_NO_NODE);
    if (x->newer != KV_NO_NODE) p->nodes[x->newer].older = x->older;
    else *siblings_at(p, (KvPlace){x->parent, x->salt}) = x->older;
    if (x->older != KV_NO_NODE) p->nodes[x->older].newer = x->newer;
    if (x->hash) {
        uint32_t *link = &p->index[x->hash & (p->n_index - 1)];
        while (*link != node)
            link = &p->nodes[*link].next_in_list;
        *link = x->next_in_list;
    }
    x->n_tokens = 0;
    x->hash = 0;
}

// ---- who holds what ----

static void free_pages(KvPages *p, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = n; i-- > 0;)
        p->free[p->n_free++] = pages[i];
}

// Of a node whose window nobody holds.
static void free_window(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    if (!x->has_window) return;
    free_pages(p, kv_pages_lists(p, node) + p->layout.n_full, p->n_windows);
    x->has_window = false;
}

// Of a node that nobody holds, and that is in no order.
static void free_node(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    kv_checkpoints_drop(&p->checkpoints, node);
    if (x->n_tokens) forget(p, node);
    free_window(p, node);
    free_pages(p, kv_pages_lists(p, node), p->layout.n_full);
    x->is_met_again = false;
    p->free_nodes[p->n_free_nodes++] = node;
}

// A cached node becomes free, with its window.
static void drop_node(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    remove_used(p, KV_NODES, node);
    if (x->has_window) remove_used(p, window_order(x), node);
    free_node(p, node);
}

// A cached window becomes free. The end of a text is of no use without it.
static void drop_window(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    if (x->n_holders == 0 && !x->hash) {
        drop_node(p, node);
        return;
    }
    remove_used(p, window_order(x), node);
    free_window(p, node);
}

static void evict_node(KvPages *p) {
    uint32_t node = p->orders[KV_NODES].first;
    uint64_t hash = p->nodes[node].hash;
    if (hash) p->evicted[hash & (p->n_index - 1)] = hash;
    drop_node(p, node);
}

// Frees pages of what is cached; there is something.
static void evict(KvPages *p) {
    uint32_t passed = p->orders[KV_PASSED].first, window = p->orders[KV_WINDOWS].first,
             node = p->orders[KV_NODES].first;
    bool window_is_older = window != KV_NO_NODE &&
                           (node == KV_NO_NODE || p->nodes[window].window_use.at < p->nodes[node].use.at);
    if (passed != KV_NO_NODE) drop_window(p, passed);
    else if (window_is_older) drop_window(p, window);
    else evict_node(p);
}

bool kv_pages_take(KvPages *p, uint32_t *out) {
    uint32_t n = p->layout.n_lists;
    bool has_node = p->n_free_nodes > 0 || p->orders[KV_NODES].first != KV_NO_NODE;
    if (kv_pages_available(p) < n || !has_node) return false;
    while (p->n_free < n)
        evict(p);
    if (p->n_free_nodes == 0) evict_node(p);
    *out = p->free_nodes[--p->n_free_nodes];
    for (uint32_t i = 0; i < n; i++)
        p->lists[(uint64_t)*out * n + i] = p->free[--p->n_free];
    KvNode *x = &p->nodes[*out];
    x->n_holders = x->n_window_holders = 1;
    x->has_window = p->n_windows > 0;
    return true;
}

void kv_pages_share(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    assert(node < p->n_nodes && (x->n_holders > 0 || x->n_tokens > 0));
    if (x->n_holders++ == 0) remove_used(p, KV_NODES, node);
    x->is_met_again = true;
}

void kv_pages_share_window(KvPages *p, uint32_t node) {
    KvNode *x = &p->nodes[node];
    assert(kv_pages_has_all(p, node) && x->n_window_holders < x->n_holders);
    if (x->n_window_holders++ == 0 && x->has_window) remove_used(p, window_order(x), node);
}

void kv_pages_pass(KvPages *p, uint32_t node, bool keep) {
    KvNode *x = &p->nodes[node];
    assert(x->n_window_holders > 0);
    if (--x->n_window_holders > 0 || !x->has_window) return;
    x->is_passed = !keep && !x->is_met_again;
    if (x->n_tokens == 0) free_window(p, node);
    else push_used(p, window_order(x), node);
}

// Whether another node has all that is known of this one. (No other has all tokens of a whole one.)
static bool is_of_no_use(const KvPages *p, uint32_t node) {
    const KvNode *x = &p->nodes[node];
    uint32_t n_common;
    if (x->n_tokens == 0) return true;
    if (x->hash) return false;
    find_beginning(p, (KvPlace){x->parent, x->salt}, node, x->tokens, x->n_tokens, &n_common);
    return n_common == x->n_tokens || !kv_pages_has_all(p, node);
}

static void give_back(KvPages *p, uint32_t node, bool with_window) {
    KvNode *x = &p->nodes[node];
    assert(node < p->n_nodes && x->n_holders > 0);
    if (with_window) kv_pages_pass(p, node, true);
    if (--x->n_holders > 0) return;
    push_used(p, KV_NODES, node);
    if (is_of_no_use(p, node)) drop_node(p, node);
}

void kv_pages_give_back(KvPages *p, const uint32_t *nodes, uint32_t n, uint32_t first_window) {
    for (uint32_t i = n; i-- > 0;)
        give_back(p, nodes[i], i >= first_window);
}

void kv_pages_give_back_spoiled(KvPages *p, const uint32_t *nodes, uint32_t n, uint32_t first_window) {
    for (uint32_t i = n; i-- > 0;) {
        const KvNode *x = &p->nodes[nodes[i]];
        bool is_own = x->n_holders == 1 && x->n_tokens && x->children == KV_NO_NODE;
        give_back(p, nodes[i], i >= first_window);
        if (is_own && x->n_tokens) drop_node(p, nodes[i]);
    }
}

void kv_pages_drop_cached(KvPages *p) {
    while (p->orders[KV_PASSED].first != KV_NO_NODE)
        drop_window(p, p->orders[KV_PASSED].first);
    while (p->orders[KV_WINDOWS].first != KV_NO_NODE)
        drop_window(p, p->orders[KV_WINDOWS].first);
    while (p->orders[KV_NODES].first != KV_NO_NODE)
        drop_node(p, p->orders[KV_NODES].first);
}

// ---- what becomes known ----

// The hold of one goes over to the other, which has the same text.
static void change_over(KvPages *p, uint32_t from, uint32_t to, bool holds_window) {
    KvNode *x = &p->nodes[from], *y = &p->nodes[to];
    uint32_t n_full = p->layout.n_full, n_lists = p->layout.n_lists;
    assert(x->n_holders == 1);
    if (x->n_tokens) forget(p, from);
    kv_checkpoints_move(&p->checkpoints, from, to);
    kv_pages_share(p, to);
    if (holds_window && !kv_pages_has_all(p, to)) {
        memcpy(p->lists + (uint64_t)to * n_lists + n_full, kv_pages_lists(p, from) + n_full,
               p->n_windows * sizeof *p->lists);
        x->has_window = false;
        y->has_window = true;
        y->n_window_holders = 1;
    } else if (holds_window) {
        kv_pages_share_window(p, to);
    }
    give_back(p, from, holds_window);
}

uint32_t kv_pages_publish(KvPages *p, uint32_t node, KvPlace place, const int32_t *tokens, uint32_t n,
                          bool holds_window) {
    KvNode *x = &p->nodes[node];
    assert(x->n_holders > 0 && n >= x->n_tokens && n > 0 && n <= KV_PAGE_TOKENS);
    assert(place.parent == KV_NO_NODE || p->nodes[place.parent].hash != 0);
    if (x->hash) return node; // all was known
    uint64_t hash = 0;
    if (n == KV_PAGE_TOKENS) {
        hash = hash_of(p, place, tokens);
        uint32_t same = find_whole(p, hash, place, tokens);
        if (same != KV_NO_NODE) {
            change_over(p, node, same, holds_window);
            return same;
        }
    }
    if (x->n_tokens == 0) put_into_tables(p, node, place);
    memcpy(x->tokens, tokens, n * sizeof *tokens);
    x->n_tokens = n;
    x->hash = hash;
    if (hash) {
        uint32_t *first = &p->index[hash & (p->n_index - 1)];
        x->next_in_list = *first;
        *first = node;
    }
    return node;
}
