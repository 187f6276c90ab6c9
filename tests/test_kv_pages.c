// The table of cache pages under chance, beside a model of it that is too simple to be wrong: what is written
// to each node, what it has, and when that was used last.
#include "base/rng.h"
#include "engine/kv_pages.h"
#include "kv_checks.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

enum {
    PAGES = 29,
    TEXTS = 7,
    TEXT_NODES = 6,
    TEXT_TOKENS = TEXT_NODES * KV_PAGE_TOKENS,
    NODES = PAGES + TEXTS * TEXT_NODES,
    SALTS = 2,
};

typedef struct {
    uint8_t salt;
    uint32_t n; // tokens
    int32_t tokens[TEXT_TOKENS];
} Text;

// A sequence: its text, and the nodes that it holds for the first tokens of it; from first_window on with
// their windows.
typedef struct {
    Text text;
    uint32_t nodes[TEXT_NODES];
    uint32_t n_nodes, first_window;
    uint32_t n_written; // tokens
} Holder;

typedef struct {
    Text written;   // the text up to the end of what is written to it
    uint32_t known; // tokens of it
    bool is_held, has_window, window_is_held, is_passed, is_met_again;
    uint64_t used, window_used; // when it was given back last
} ModelNode;

typedef struct {
    KvPages p;
    Holder holders[TEXTS];
    ModelNode nodes[NODES];
    uint64_t draws, clock, n_held, n_held_windows;
    uint32_t found, copied, evicted, windows_evicted, same, windows_given;
} Model;

static uint32_t roll(Model *m, uint32_t below) {
    return rng_philox(11, m->draws++).word[0] % below;
}

static const uint8_t *salt_of(const Text *t) {
    static const uint8_t salts[SALTS][CACHE_SALT_BYTES] = {{0}, {1, 2, 3}};
    return salts[t->salt];
}

static bool begins_with(const Text *t, const Text *beginning, uint32_t n) {
    return t->salt == beginning->salt && t->n >= n && beginning->n >= n &&
           memcmp(t->tokens, beginning->tokens, n * sizeof *t->tokens) == 0;
}

static KvPlace place_of(const Holder *h, uint32_t at) {
    return (KvPlace){at ? h->nodes[at - 1] : KV_NO_NODE, salt_of(&h->text)};
}

// Few tokens and few texts, so that many begin alike.
static void make_text(Model *m, Text *t) {
    uint32_t seed = roll(m, 6), turn = roll(m, TEXT_TOKENS);
    *t = (Text){.salt = (uint8_t)(roll(m, 8) == 0), .n = 1 + roll(m, TEXT_TOKENS)};
    for (uint32_t i = 0; i < t->n; i++)
        t->tokens[i] = (int32_t)(i < turn ? rng_philox(5, i).word[0] % 3 : rng_philox(seed, i).word[0] % 3);
}

// Which node a whole node at the end of the n first tokens is in, by looking at all of them.
static uint32_t look_for(const Model *m, const Text *t, uint32_t n) {
    for (uint32_t i = 0; i < m->p.n_nodes; i++) {
        const ModelNode *x = &m->nodes[i];
        bool is_whole = x->known == KV_PAGE_TOKENS && x->written.n == n;
        if (is_whole && begins_with(t, &x->written, n)) return i;
    }
    return KV_NO_NODE;
}

static void note_held(Model *m) {
    for (uint32_t i = 0; i < m->p.n_nodes; i++)
        m->nodes[i].is_held = m->nodes[i].window_is_held = false;
    m->n_held = m->n_held_windows = 0;
    for (uint32_t i = 0; i < TEXTS; i++) {
        const Holder *h = &m->holders[i];
        m->n_held += h->n_nodes;
        m->n_held_windows += h->n_nodes - h->first_window;
        for (uint32_t k = 0; k < h->n_nodes; k++) {
            m->nodes[h->nodes[k]].is_held = true;
            m->nodes[h->nodes[k]].window_is_held |= k >= h->first_window;
        }
    }
}

// ---- what is taken ----

static bool is_in_use(const ModelNode *x) {
    return x->known || x->is_held;
}

static uint32_t pages_free(const Model *m) {
    uint32_t n = m->p.n_pages;
    for (uint32_t i = 0; i < m->p.n_nodes; i++) {
        if (is_in_use(&m->nodes[i])) n -= m->p.layout.n_full + (m->nodes[i].has_window ? m->p.n_windows : 0);
    }
    return n;
}

static uint32_t nodes_in_use(const Model *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->p.n_nodes; i++)
        n += is_in_use(&m->nodes[i]);
    return n;
}

static bool is_cached(const Model *m, uint32_t i, KvOrder order) {
    const ModelNode *x = &m->nodes[i];
    if (order == KV_NODES) return x->known && !x->is_held;
    return m->p.n_windows && x->has_window && !x->window_is_held && x->is_passed == (order == KV_PASSED);
}

static uint64_t used_at(const Model *m, uint32_t i, KvOrder order) {
    return order == KV_NODES ? m->nodes[i].used : m->nodes[i].window_used;
}

static uint32_t oldest(const Model *m, KvOrder order) {
    uint32_t first = KV_NO_NODE;
    for (uint32_t i = 0; i < m->p.n_nodes; i++) {
        bool is_older = first == KV_NO_NODE || used_at(m, i, order) < used_at(m, first, order);
        if (is_cached(m, i, order) && is_older) first = i;
    }
    return first;
}

static void forget_node(Model *m, uint32_t i) {
    m->nodes[i].known = 0;
    m->nodes[i].has_window = m->nodes[i].is_met_again = false;
}

// What must go next: windows that were passed, then by use. False: there is nothing.
static bool evict_next(Model *m) {
    uint32_t passed = oldest(m, KV_PASSED), window = oldest(m, KV_WINDOWS), node = oldest(m, KV_NODES);
    bool window_first =
        window != KV_NO_NODE && (node == KV_NO_NODE || m->nodes[window].window_used < m->nodes[node].used);
    uint32_t of = passed != KV_NO_NODE ? passed : window_first ? window : KV_NO_NODE;
    if (of == KV_NO_NODE && node == KV_NO_NODE) return false;
    if (of == KV_NO_NODE) {
        forget_node(m, node);
        m->evicted++;
        return true;
    }
    m->windows_evicted++;
    if (!m->nodes[of].is_held && m->nodes[of].known < KV_PAGE_TOKENS) forget_node(m, of);
    else m->nodes[of].has_window = false;
    return true;
}

// The table and the model know the same.
static void compare(const Model *m) {
    uint32_t differ = 0;
    for (uint32_t i = 0; i < m->p.n_nodes; i++) {
        const KvNode *x = &m->p.nodes[i];
        bool has_window = m->p.n_windows && is_in_use(&m->nodes[i]) && m->nodes[i].has_window;
        differ += x->n_tokens != m->nodes[i].known || x->has_window != has_window;
    }
    CHECK_INT_EQ(0, differ);
}

static bool take(Model *m, uint32_t *node) {
    uint32_t n_lists = m->p.layout.n_lists;
    bool has = kv_pages_available(&m->p) >= n_lists;
    if (!CHECK(kv_pages_take(&m->p, node) == has) || !has) return false;
    while (pages_free(m) < n_lists && CHECK(evict_next(m)))
        ;
    if (nodes_in_use(m) == m->p.n_nodes) forget_node(m, oldest(m, KV_NODES));
    CHECK(!is_in_use(&m->nodes[*node]));
    m->nodes[*node] = (ModelNode){.has_window = true, .is_held = true};
    compare(m);
    return true;
}

// ---- what sequences do ----

static void pass(Model *m, Holder *h, bool keep) {
    uint32_t node = h->nodes[h->first_window++];
    ModelNode *x = &m->nodes[node];
    kv_pages_pass(&m->p, node, keep);
    note_held(m);
    if (x->window_is_held) return;
    x->window_used = ++m->clock;
    x->is_passed = !keep && !x->is_met_again;
    if (x->known == 0) x->has_window = false;
}

// What is known of a node that nobody holds any more stays known, unless another one has it, too.
static void note_given_back(Model *m, uint32_t i, bool with_window) {
    ModelNode *x = &m->nodes[i];
    if (with_window && !x->window_is_held) x->window_used = ++m->clock, x->is_passed = false;
    if (x->is_held) return;
    x->used = ++m->clock;
    if (m->p.nodes[i].n_tokens) return;
    bool is_elsewhere = x->known == 0;
    for (uint32_t k = 0; k < m->p.n_nodes; k++) {
        const ModelNode *y = &m->nodes[k];
        is_elsewhere |=
            k != i && y->known && y->has_window && begins_with(&y->written, &x->written, x->written.n);
    }
    CHECK(is_elsewhere && x->known < KV_PAGE_TOKENS);
    forget_node(m, i);
}

// Whole nodes of the cache that continue the holder's text, and those windows of them that are there up to
// the end.
static void attach(Model *m, Holder *h) {
    for (uint32_t at = h->n_written / KV_PAGE_TOKENS; (at + 1) * KV_PAGE_TOKENS <= h->text.n; at++) {
        const int32_t *tokens = h->text.tokens + at * KV_PAGE_TOKENS;
        uint32_t node = kv_pages_find(&m->p, place_of(h, at), tokens);
        CHECK_INT_EQ(look_for(m, &h->text, (at + 1) * KV_PAGE_TOKENS), node);
        if (node == KV_NO_NODE) return;
        if (at < h->n_nodes) {
            bool holds_window = at >= h->first_window;
            kv_pages_give_back(&m->p, &h->nodes[at], 1, !holds_window);
            h->n_nodes = at;
            note_held(m);
            note_given_back(m, h->nodes[at], holds_window);
        }
        bool has_all = kv_pages_has_all(&m->p, node);
        while (!has_all && h->first_window < h->n_nodes)
            pass(m, h, false);
        kv_pages_share(&m->p, node);
        if (has_all) kv_pages_share_window(&m->p, node);
        m->nodes[node].is_met_again = true;
        h->nodes[at] = node;
        h->n_nodes = at + 1;
        if (!has_all) h->first_window = at + 1;
        h->n_written = (at + 1) * KV_PAGE_TOKENS;
        m->found++;
        note_held(m);
    }
}

// The most that any node at a place has in common with a text; n_seen: how many nodes may be looked at.
static uint32_t best_beginning(const Model *m, const Text *text, uint32_t at, uint32_t n, uint32_t *n_seen) {
    uint32_t first = at * KV_PAGE_TOKENS, best = 0;
    *n_seen = 0;
    for (uint32_t i = 0; i < m->p.n_nodes; i++) {
        const ModelNode *x = &m->nodes[i];
        if (x->known == 0 || (x->written.n - 1) / KV_PAGE_TOKENS != at) continue;
        if (!begins_with(text, &x->written, first)) continue;
        ++*n_seen;
        for (uint32_t k = best + 1; x->has_window && k <= n && begins_with(text, &x->written, first + k); k++)
            best = k;
    }
    return best;
}

// The beginning of the next node, out of one that begins likewise.
static void copy_border(Model *m, Holder *h) {
    uint32_t at = h->n_written / KV_PAGE_TOKENS, first = at * KV_PAGE_TOKENS, n_common, n_seen, own;
    uint32_t n = (uint32_t)min_u64(h->text.n - first, KV_PAGE_TOKENS);
    if (n == 0) return;
    uint32_t node = kv_pages_find_beginning(&m->p, place_of(h, at), h->text.tokens + first, n, &n_common);
    uint32_t best = best_beginning(m, &h->text, at, n, &n_seen);
    if (n_seen <= KV_CHILDREN_SEEN && at > 0) CHECK_INT_EQ(best, n_common);
    CHECK(n_common <= best && (node == KV_NO_NODE) == (n_common == 0));
    if (n_common) CHECK(begins_with(&h->text, &m->nodes[node].written, first + n_common));
    if (first + n_common <= h->n_written) return;
    kv_pages_share(&m->p, node);
    kv_pages_share_window(&m->p, node);
    ModelNode *x = &m->nodes[node];
    x->is_held = x->window_is_held = x->is_met_again = true;
    if (at == h->n_nodes && take(m, &own)) h->nodes[h->n_nodes++] = own;
    if (at < h->n_nodes) {
        h->n_written = first + n_common;
        m->copied++;
    }
    kv_pages_give_back(&m->p, &node, 1, 0);
    note_held(m);
    note_given_back(m, node, true);
}

// Publishes what is written: whole nodes, and with `rest` the one behind them.
static void publish(Model *m, Holder *h, bool rest) {
    for (uint32_t at = 0; at < h->n_nodes; at++) {
        uint32_t first = at * KV_PAGE_TOKENS;
        uint32_t n = (uint32_t)min_u64(h->n_written - first, KV_PAGE_TOKENS);
        if (n == 0 || (n < KV_PAGE_TOKENS && !rest)) return;
        uint32_t own = h->nodes[at], same = look_for(m, &h->text, first + KV_PAGE_TOKENS);
        bool holds_window = at >= h->first_window;
        if (h->n_written < first + KV_PAGE_TOKENS) same = KV_NO_NODE;
        uint32_t node =
            kv_pages_publish(&m->p, own, place_of(h, at), h->text.tokens + first, n, holds_window);
        CHECK_INT_EQ(same == KV_NO_NODE ? own : same, node);
        if (node == own) {
            m->nodes[own].written = h->text;
            m->nodes[own].written.n = first + n;
            m->nodes[own].known = n;
            continue;
        }
        m->same++;
        h->nodes[at] = node;
        forget_node(m, own);
        m->nodes[node].is_met_again = true;
        if (holds_window && !m->nodes[node].has_window) {
            m->nodes[node].has_window = true;
            m->windows_given += m->p.n_windows > 0;
        }
        note_held(m);
    }
}

static void end(Model *m, Holder *h) {
    uint32_t n = h->n_nodes, first_window = h->first_window, nodes[TEXT_NODES];
    bool is_spoiled = roll(m, 16) == 0;
    memcpy(nodes, h->nodes, sizeof nodes);
    if (is_spoiled) kv_pages_give_back_spoiled(&m->p, h->nodes, n, first_window);
    else kv_pages_give_back(&m->p, h->nodes, n, first_window);
    h->n_nodes = h->first_window = h->n_written = h->text.n = 0;
    note_held(m);
    for (uint32_t i = n; i-- > 0;) {
        if (is_spoiled && m->p.nodes[nodes[i]].n_tokens == 0) forget_node(m, nodes[i]);
        note_given_back(m, nodes[i], i >= first_window);
    }
}

// A node more of the text; where there is none, the sequence ends. Windows are passed two nodes behind.
static void write_some(Model *m, Holder *h) {
    uint32_t n = (uint32_t)min_u64(h->n_written + 1 + roll(m, 20), h->text.n), node;
    while (h->n_nodes * KV_PAGE_TOKENS < n) {
        if (!take(m, &node)) {
            end(m, h);
            return;
        }
        h->nodes[h->n_nodes++] = node;
        note_held(m);
    }
    h->n_written = n;
    while (m->p.n_windows && h->first_window + 2 < h->n_nodes)
        pass(m, h, roll(m, 2));
}

static void turn(Model *m) {
    Holder *h = &m->holders[roll(m, TEXTS)];
    if (h->text.n == 0) {
        make_text(m, &h->text);
        if (roll(m, 3)) attach(m, h);
    } else if (roll(m, 4) == 0) {
        publish(m, h, true);
        end(m, h);
    } else if (h->n_written < h->text.n) {
        publish(m, h, false);
        if (roll(m, 3)) attach(m, h);
        if (roll(m, 2)) copy_border(m, h);
        write_some(m, h);
        if (roll(m, 2)) publish(m, h, roll(m, 3) == 0);
    }
    note_held(m);
}

static void check_layout(Model *m, KvLayout layout, uint32_t rounds) {
    Arena arena = os_arena(1 << 20);
    Error err;
    *m = (Model){0};
    uint32_t n_nodes = kv_pages_nodes(&layout, PAGES, TEXTS, TEXT_TOKENS);
    TEST_CASE_LABEL("%u lists, %u without a window", layout.n_lists, layout.n_full);
    REQUIRE(kv_pages_init(&m->p, &layout, PAGES, n_nodes, 7, &arena, &err));
    for (uint32_t round = 0; round < rounds; round++) {
        turn(m);
        const char *problem = kv_pages_problem(&m->p, m->n_held, m->n_held_windows);
        if (!problem) problem = kv_pages_lookup_problem(&m->p);
        if (problem) FAIL("round %u: %s", round, problem);
        REQUIRE(!problem);
    }
    printf("%u lists: %u nodes found, %u copied, %u evicted, and %u windows; %u computed twice, %u windows "
           "for others\n",
           layout.n_lists, m->found, m->copied, m->evicted, m->windows_evicted, m->same, m->windows_given);
    CHECK(m->found > rounds / 100 && m->copied > rounds / 100);
    CHECK(m->evicted > rounds / 200 && m->same > rounds / 5000);
    if (m->p.n_windows) CHECK(m->windows_evicted > rounds / 100);
    if (m->p.n_windows && m->p.layout.n_full) CHECK(m->windows_given > 0); // else a node goes with its window
    for (uint32_t i = 0; i < TEXTS; i++) {
        Holder *h = &m->holders[i];
        kv_pages_give_back(&m->p, h->nodes, h->n_nodes, h->first_window);
    }
    CHECK_INT_EQ(0, kv_pages_used(&m->p));
    CHECK(m->p.n_cached > 0);
    kv_pages_drop_cached(&m->p);
    CHECK_INT_EQ(PAGES, m->p.n_free);
    CHECK(kv_pages_problem(&m->p, 0, 0) == NULL);
}

TEST(kv_pages_do_as_a_simple_model) {
    static Model m; // too large for the stack
    static const KvLayout layouts[] = {
        {.n_places = 1, .n_lists = 1, .n_full = 1},
        {.n_places = 1, .n_lists = 2, .n_full = 1, .window = 20},
        {.n_places = 1, .n_lists = 3, .n_full = 2, .window = 20},
        {.n_places = 1, .n_lists = 1, .n_full = 0, .window = 20},
    };
    for (size_t i = 0; i < COUNT_OF(layouts); i++)
        check_layout(&m, layouts[i], test_is_sanitized() ? 5000 : 25000);
}

static const KvLayout plain = {.n_places = 1, .n_lists = 1, .n_full = 1};

// A text that was evicted is told from one that never was.
TEST(kv_pages_remember_what_was_evicted) {
    KvPages p;
    Arena arena = os_arena(1 << 16);
    Error err;
    uint32_t page, other[4];
    int32_t tokens[KV_PAGE_TOKENS] = {1, 2, 3}, never[KV_PAGE_TOKENS] = {3, 2, 1};
    static const uint8_t salt[CACHE_SALT_BYTES], other_salt[CACHE_SALT_BYTES] = {9};
    KvPlace begin = {KV_NO_NODE, salt};
    REQUIRE(kv_pages_init(&p, &plain, 4, 4, 7, &arena, &err) && kv_pages_take(&p, &page));
    CHECK_INT_EQ(page, kv_pages_publish(&p, page, begin, tokens, KV_PAGE_TOKENS, true));
    kv_pages_give_back(&p, &page, 1, 0);
    CHECK(p.n_cached == 1 && !kv_pages_was_evicted(&p, begin, tokens));
    CHECK_INT_EQ(page, kv_pages_find(&p, begin, tokens));
    CHECK_INT_EQ(KV_NO_NODE, kv_pages_find(&p, (KvPlace){KV_NO_NODE, other_salt}, tokens));
    CHECK_INT_EQ(KV_NO_NODE, kv_pages_find(&p, begin, never));
    for (uint32_t i = 0; i < 4; i++)
        REQUIRE(kv_pages_take(&p, &other[i])); // the free ones first
    CHECK_INT_EQ(page, other[3]);
    CHECK(!kv_pages_take(&p, &page));
    CHECK(kv_pages_was_evicted(&p, begin, tokens) && !kv_pages_was_evicted(&p, begin, never));
    CHECK_INT_EQ(KV_NO_NODE, kv_pages_find(&p, begin, tokens));
}

// The check itself sees what it should.
TEST(kv_pages_problems_are_seen) {
    static const char *const expected[] = {
        "a node is neither held nor free",
        "a node in use is in the list of free ones",
        "nodes have more or fewer holders than hold them",
        "a node's hash and tokens disagree",
        "the node before a held one is not held",
        "an order of use is broken",
        "the node before a known one is not known",
        "a page is neither a node's nor free",
        "a page is in two places",
        "windows have more or fewer holders than hold them",
    };
    static const uint8_t salt[CACHE_SALT_BYTES];
    static const int32_t tokens[KV_PAGE_TOKENS];
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        KvPages p;
        Arena arena = os_arena(1 << 16);
        Error err;
        uint32_t pages[3];
        REQUIRE(kv_pages_init(&p, &plain, 5, 5, 7, &arena, &err));
        for (uint32_t k = 0; k < 3; k++)
            REQUIRE(kv_pages_take(&p, &pages[k]));
        kv_pages_publish(&p, pages[0], (KvPlace){KV_NO_NODE, salt}, tokens, KV_PAGE_TOKENS, true);
        kv_pages_publish(&p, pages[1], (KvPlace){pages[0], salt}, tokens, KV_PAGE_TOKENS, true);
        CHECK(kv_pages_problem(&p, 3, 3) == NULL);
        if (i == 0) p.nodes[pages[2]].n_holders = p.nodes[pages[2]].n_window_holders = 0;
        if (i == 1) p.nodes[4].n_holders = 1;
        if (i == 2) p.nodes[pages[0]].n_holders++;
        if (i == 3) p.nodes[pages[1]].n_tokens = 3;
        if (i == 4) p.nodes[pages[0]].n_holders = p.nodes[pages[0]].n_window_holders = 0;
        if (i == 5) kv_pages_give_back(&p, pages, 3, 0), p.nodes[p.orders[KV_NODES].last].use.before = 4;
        if (i == 6) p.nodes[pages[0]].hash = p.nodes[pages[0]].n_tokens = 0;
        if (i == 7) p.n_free--;
        if (i == 8) p.free[p.n_free++] = p.lists[pages[0]];
        if (i == 9) p.nodes[pages[0]].n_window_holders--;
        const char *problem = kv_pages_problem(&p, i == 5 ? 0 : 3, i == 5 ? 0 : 3);
        CHECK_STR_EQ(expected[i], problem ? problem : "");
    }
}
