// The pages of the KV cache: who holds which, which are free, and what the others still hold.
//
// A node is KV_PAGE_TOKENS positions of a text. It has a page in each list of the layout (plan/kv_layout.h):
// in the lists without a window as long as there is the node, in those with a window as long as somebody may
// need them. All come from one pool. A node is held by one sequence or more, or by none: then it is free, or
// it is cached, because it is known which text it holds. A holder holds the node's window, too, or it does
// not any more: what nobody holds of a window's pages is cached by itself.
//
// What is known of a node: the node before it (the first one of a text has none, and the salt of its text
// instead), and the tokens of its first n_tokens positions, which do not change any more. So a node and those
// before it are the beginning of a text. A node's text becomes known by kv_pages_publish, from the first node
// on; a node with all tokens known can be held by any sequence whose text begins so, and is written to no
// more. Tokens are compared, so that no two texts are ever mixed up; hashes only say where to look. Two nodes
// never have the same whole text: who publishes the second one is given the first.
//
// Whoever holds a node holds the nodes before it, and gives back the last one first. So a node is used at
// least as late as those behind it, and where pages are needed, the cached one that was used longest ago has
// none behind it.
//
// Where pages are needed, windows come first that a sequence has left behind while its text went on: nobody
// else may ever need them, and without them a node costs little. (Kept longer are those at the end of a text
// or of its prompt, where the next turn of a conversation goes on, and those of nodes that a second text has
// had, too.) Then windows and nodes by their last use.
//
// One thread calls everything; nothing is allocated after init, and no call takes longer for more pages.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"
#include "engine/kv_checkpoints.h"
#include "plan/kv_layout.h"

enum {
    KV_NO_NODE = 0xFFFFFFFF,
    KV_ROOT_LISTS = 256,  // of first nodes, by salt
    KV_CHILDREN_SEEN = 8, // that are looked at for a beginning in common, the newest ones
};

// What may be cached, in the order of its last use.
typedef enum {
    KV_PASSED,  // windows that texts have left behind
    KV_WINDOWS, // windows that are kept longer
    KV_NODES,
    KV_ORDERS,
} KvOrder;

// Of what is cached: its neighbours in its order, and when it was used last.
typedef struct {
    uint32_t before, after;
    uint64_t at;
} KvUse;

typedef struct {
    uint32_t n_holders;
    uint32_t n_window_holders; // of these, those that hold its window, too
    bool has_window;           // it has pages in the lists with a window
    bool is_passed;            // its window is in KV_PASSED, where it is cached; else in KV_WINDOWS
    bool is_met_again;         // more than one text has had it
    uint32_t n_tokens;         // that are known; 0: it is not in the tables below
    int32_t tokens[KV_PAGE_TOKENS];
    uint8_t salt[CACHE_SALT_BYTES]; // of a first node
    uint32_t parent;                // the node before it, all of whose tokens are known; KV_NO_NODE: none
    uint32_t children;              // the newest node behind it, or KV_NO_NODE
    uint32_t older, newer;          // siblings: nodes behind the same one
    KvUse use, window_use;          // where nobody holds it, or its window
    uint64_t hash;         // of the text up to the end of a node with all tokens known, never 0; else 0
    uint32_t next_in_list; // of such a node: the next one in its list of KvPages.index
} KvNode;

typedef struct {
    KvLayout layout;
    uint32_t n_windows; // lists with a window
    KvNode *nodes;      // [n_nodes]
    uint32_t *lists;    // [n_nodes][layout.n_lists] each node's pages
    uint32_t *free;     // [n_free] pages, a stack: what was given back last is taken first
    uint32_t n_pages;
    uint32_t n_free;
    uint32_t n_cached;    // pages
    uint32_t *free_nodes; // [n_free_nodes] likewise
    uint32_t n_nodes, n_free_nodes;
    struct {
        uint32_t first, last; // used longest ago, and last
    } orders[KV_ORDERS];
    uint64_t clock;
    uint32_t *index;               // [n_index] lists of nodes with all tokens known, by hash
    uint64_t *evicted;             // [n_index] hashes of cached nodes that were taken, by hash; 0: none
    uint32_t n_index;              // a power of two
    uint64_t seed;                 // of the hashes
    uint32_t roots[KV_ROOT_LISTS]; // first nodes, likewise by the hash of their salt
    KvCheckpoints checkpoints;     // of nodes; none after init
} KvPages;

// Why the cache had no more of a prompt than it had.
typedef enum {
    CACHE_MISS_NONE,    // it had all that can be taken from it: all but the last token
    CACHE_MISS_NEW,     // no text before had these tokens there
    CACHE_MISS_EVICTED, // one had, and its pages were needed since
    CACHE_MISS_STATE,   // its pages are there, but no checkpoint of the model's state at their end
} CacheMiss;

const char *cache_miss_name(CacheMiss miss); // "none", "new", "evicted", "state"

// Where in a text a node is.
typedef struct {
    uint32_t parent;     // a node with all tokens known, or KV_NO_NODE at the beginning of a text
    const uint8_t *salt; // [CACHE_SALT_BYTES] of the text
} KvPlace;

// Nodes that there must be for n_pages: those that n_slots sequences of up to n_context tokens hold, and
// whatever else has pages.
uint32_t kv_pages_nodes(const KvLayout *layout, uint32_t n_pages, uint32_t n_slots, uint32_t n_context);

// All pages are free. `arena` keeps the tables. `seed` makes the hashes: where nobody can know it, nobody can
// choose texts that share one list of the index.
MUST_CHECK bool kv_pages_init(KvPages *p, const KvLayout *layout, uint32_t n_pages, uint32_t n_nodes,
                              uint64_t seed, Arena *arena, Error *err);

// Takes a node of which nothing is known, with pages in all lists, for one holder, which holds its window,
// too: free pages, or else cached ones. False where too many are held.
MUST_CHECK bool kv_pages_take(KvPages *p, uint32_t *out);

// The node's page in each list; those in lists with a window mean nothing where it has none.
static inline const uint32_t *kv_pages_lists(const KvPages *p, uint32_t node) {
    return p->lists + (uint64_t)node * p->layout.n_lists;
}

// One holder more of a node that is held or cached. Its parents are held.
void kv_pages_share(KvPages *p, uint32_t node);
// A holder holds the node's window, too, which it has.
void kv_pages_share_window(KvPages *p, uint32_t node);

// A holder of the node's window holds the node alone from now on. `keep`: as one of KV_WINDOWS.
void kv_pages_pass(KvPages *p, uint32_t node, bool keep);

// One holder less for each of n nodes of one text, the last of them first, and for the windows of those from
// first_window on. What nobody holds any more is cached or free. A node with some tokens known is free where
// another one has them, too.
void kv_pages_give_back(KvPages *p, const uint32_t *nodes, uint32_t n, uint32_t first_window);

// As kv_pages_give_back, for a text whose values are spoiled: as far as nobody else holds its nodes, nothing
// is known of them any more.
void kv_pages_give_back_spoiled(KvPages *p, const uint32_t *nodes, uint32_t n, uint32_t first_window);

// Whether rows behind the node can read its positions in all lists.
static inline bool kv_pages_has_all(const KvPages *p, uint32_t node) {
    return p->n_windows == 0 || p->nodes[node].has_window;
}

// The node with all tokens known that has these; KV_NO_NODE where there is none.
uint32_t kv_pages_find(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]);

// A node at this place, with its window, that begins with as many of n tokens (at most KV_PAGE_TOKENS) as any
// of those looked at, and how many these are; KV_NO_NODE where no node has the first token.
uint32_t kv_pages_find_beginning(const KvPages *p, KvPlace place, const int32_t *tokens, uint32_t n,
                                 uint32_t *n_common);

// Whether a node with these tokens at this place has been cached and taken, as far as that is remembered.
bool kv_pages_was_evicted(const KvPages *p, KvPlace place, const int32_t tokens[KV_PAGE_TOKENS]);

// The first n tokens of a held node are known, at least as many as before. Returns the node that has this
// text, which the caller holds from now on: `node`, or, where n is KV_PAGE_TOKENS, another one that had it
// before; then the caller's hold goes over to that one, and so does the window of `node`, where the other one
// has none.
uint32_t kv_pages_publish(KvPages *p, uint32_t node, KvPlace place, const int32_t *tokens, uint32_t n,
                          bool holds_window);

// Frees all that is cached.
void kv_pages_drop_cached(KvPages *p);

// Held by somebody.
static inline uint32_t kv_pages_used(const KvPages *p) {
    return p->n_pages - p->n_free - p->n_cached;
}

// That can be taken.
static inline uint32_t kv_pages_available(const KvPages *p) {
    return p->n_free + p->n_cached;
}
