#include "kv_checks.h"

enum { PAGES_MAX = 4096 };

static const char *node_problem(const KvPages *p, uint32_t i) {
    const KvNode *node = &p->nodes[i];
    bool in_use = node->n_holders || node->n_tokens;
    if (node->n_window_holders > node->n_holders) return "a window has more holders than its node";
    if (p->n_windows && node->n_window_holders && !node->has_window)
        return "a window that is held is missing";
    if (node->has_window && !in_use) return "a free node has a window";
    if ((node->hash != 0) != (node->n_tokens == KV_PAGE_TOKENS)) return "a node's hash and tokens disagree";
    if (node->n_tokens == 0) return NULL;
    if (node->children != KV_NO_NODE && !node->hash) return "a node that is not whole has others behind it";
    if (node->parent == KV_NO_NODE) return NULL;
    const KvNode *parent = &p->nodes[node->parent];
    if (!parent->hash) return "the node before a known one is not known";
    if (node->n_holders && !parent->n_holders) return "the node before a held one is not held";
    return NULL;
}

// Every page is free, or a node's: once.
static const char *page_problem(const KvPages *p) {
    static uint8_t uses[PAGES_MAX];
    memset(uses, 0, p->n_pages);
    for (uint32_t i = 0; i < p->n_free; i++)
        uses[p->free[i]]++;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const KvNode *node = &p->nodes[i];
        uint32_t n_full = node->n_holders || node->n_tokens ? p->layout.n_full : 0;
        for (uint32_t k = 0; k < p->layout.n_lists; k++) {
            if (k < n_full || (k >= p->layout.n_full && node->has_window)) uses[kv_pages_lists(p, i)[k]]++;
        }
    }
    for (uint32_t i = 0; i < p->n_pages; i++) {
        if (uses[i] == 0) return "a page is neither a node's nor free";
        if (uses[i] > 1) return "a page is in two places";
    }
    return NULL;
}

static const char *free_nodes_problem(const KvPages *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++)
        n += !p->nodes[i].n_holders && !p->nodes[i].n_tokens;
    for (uint32_t i = 0; i < p->n_free_nodes; i++) {
        const KvNode *node = &p->nodes[p->free_nodes[i]];
        if (node->n_holders || node->n_tokens) return "a node in use is in the list of free ones";
    }
    return n == p->n_free_nodes ? NULL : "a node is neither held nor free";
}

static bool is_in(const KvNode *node, KvOrder order) {
    if (order == KV_NODES) return node->n_tokens && !node->n_holders;
    return node->has_window && !node->n_window_holders && node->is_passed == (order == KV_PASSED);
}

// Follows an order of use.
static const char *order_problem(const KvPages *p, KvOrder order) {
    uint32_t n = 0, n_in = 0, before = KV_NO_NODE;
    uint64_t at = 0;
    for (uint32_t i = p->orders[order].first; i != KV_NO_NODE && n <= p->n_nodes; n++) {
        const KvNode *node = &p->nodes[i];
        const KvUse *use = order == KV_NODES ? &node->use : &node->window_use;
        if (use->before != before || use->at <= at) return "an order of use is broken";
        if (!is_in(node, order)) return "what is held is in an order of use";
        at = use->at;
        before = i;
        i = use->after;
    }
    if (before != p->orders[order].last) return "an order of use is broken";
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const KvNode *node = &p->nodes[i];
        n_in += is_in(node, order);
        bool continues = order == KV_NODES && is_in(node, order) && node->parent != KV_NO_NODE;
        if (continues && !p->nodes[node->parent].n_holders && p->nodes[node->parent].use.at < node->use.at)
            return "a cached node was used before one behind it";
    }
    return n == n_in ? NULL : "what is cached is not in its order of use";
}

const char *kv_pages_lookup_problem(const KvPages *p) {
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const KvNode *node = &p->nodes[i];
        uint32_t found = node->hash ? kv_pages_find(p, (KvPlace){node->parent, node->salt}, node->tokens) : i;
        if (found != i) return "a whole node is not found";
    }
    return NULL;
}

// Each place is free, or a node's in use, and in one order.
static const char *checkpoints_problem(const KvPages *p) {
    const KvCheckpoints *c = &p->checkpoints;
    uint32_t n = c->n_free;
    if (c->n_places == 0) return NULL;
    for (uint32_t i = 0; i < c->n_free; i++)
        if (c->places[c->free[i]].node != KV_NO_CHECKPOINT) return "a checkpoint's free place has a node";
    for (CheckpointOrder order = 0; order < CHECKPOINT_ORDERS; order++) {
        uint32_t before = KV_NO_CHECKPOINT;
        for (uint32_t i = c->orders[order].first; i != KV_NO_CHECKPOINT && n <= c->n_places; n++) {
            const KvCheckpoint *x = &c->places[i];
            const KvNode *node = &p->nodes[x->node];
            if (x->before != before || x->order != order) return "an order of checkpoints is broken";
            if (c->of_node[x->node] != i) return "a checkpoint is not its node's";
            if (!node->n_holders && !node->hash) return "a node that is not whole or held has a checkpoint";
            before = i;
            i = x->after;
        }
        if (before != c->orders[order].last) return "an order of checkpoints is broken";
    }
    return n == c->n_places ? NULL : "a checkpoint's place is neither free nor used";
}

const char *kv_pages_problem(const KvPages *p, uint64_t n_held, uint64_t n_held_windows) {
    uint64_t holders = 0, window_holders = 0, n_cached = 0;
    const char *problem = free_nodes_problem(p);
    for (uint32_t i = 0; i < p->n_nodes && !problem; i++) {
        const KvNode *node = &p->nodes[i];
        problem = node_problem(p, i);
        holders += node->n_holders;
        window_holders += node->n_window_holders;
        n_cached += is_in(node, KV_NODES) ? p->layout.n_full : 0;
        n_cached += is_in(node, KV_PASSED) || is_in(node, KV_WINDOWS) ? p->n_windows : 0;
    }
    for (KvOrder order = 0; order < KV_ORDERS && !problem; order++)
        problem = order_problem(p, order);
    if (!problem) problem = page_problem(p);
    if (!problem) problem = checkpoints_problem(p);
    if (problem) return problem;
    if (n_cached != p->n_cached) return "pages are cached that do not count as such";
    if (holders != n_held) return "nodes have more or fewer holders than hold them";
    if (window_holders != n_held_windows) return "windows have more or fewer holders than hold them";
    return NULL;
}
