// The table of cache pages under chance, beside a model of it that is too simple to be wrong: what is written
// to each page, and when each was used last.
#include "base/rng.h"
#include "engine/kv_pages.h"
#include "kv_checks.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

enum { PAGES = 29, TEXTS = 7, TEXT_PAGES = 6, TEXT_TOKENS = TEXT_PAGES * KV_PAGE_TOKENS, SALTS = 2 };

typedef struct {
    uint8_t salt;
    uint32_t n; // tokens
    int32_t tokens[TEXT_TOKENS];
} Text;

// A sequence: its text, and the pages that it holds for the first tokens of it.
typedef struct {
    Text text;
    uint32_t pages[TEXT_PAGES];
    uint32_t n_pages;
    uint32_t n_written; // tokens
} Holder;

typedef struct {
    KvPages p;
    Holder holders[TEXTS];
    uint64_t draws, clock, n_held;
    Text written[PAGES]; // the text up to the end of what is written to each page
    uint32_t known[PAGES];
    uint64_t used[PAGES]; // when it was given back last
    bool is_held[PAGES];
    uint32_t found, copied, evicted, same;
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
    return (KvPlace){at ? h->pages[at - 1] : KV_NO_PAGE, salt_of(&h->text)};
}

// Few tokens and few texts, so that many begin alike.
static void make_text(Model *m, Text *t) {
    uint32_t seed = roll(m, 6), turn = roll(m, TEXT_TOKENS);
    *t = (Text){.salt = (uint8_t)(roll(m, 8) == 0), .n = 1 + roll(m, TEXT_TOKENS)};
    for (uint32_t i = 0; i < t->n; i++)
        t->tokens[i] = (int32_t)(i < turn ? rng_philox(5, i).word[0] % 3 : rng_philox(seed, i).word[0] % 3);
}

// Which page a whole page at the end of the n first tokens is in, by looking at all of them.
static uint32_t look_for(const Model *m, const Text *t, uint32_t n) {
    for (uint32_t i = 0; i < PAGES; i++) {
        bool is_whole = m->known[i] == KV_PAGE_TOKENS && m->written[i].n == n;
        if (is_whole && begins_with(t, &m->written[i], n)) return i;
    }
    return KV_NO_PAGE;
}

static void note_held(Model *m) {
    memset(m->is_held, 0, sizeof m->is_held);
    m->n_held = 0;
    for (uint32_t i = 0; i < TEXTS; i++) {
        m->n_held += m->holders[i].n_pages;
        for (uint32_t k = 0; k < m->holders[i].n_pages; k++)
            m->is_held[m->holders[i].pages[k]] = true;
    }
}

// The page that must be taken next, where none is free: known, held by nobody, used longest ago.
static uint32_t oldest_cached(const Model *m) {
    uint32_t oldest = KV_NO_PAGE;
    for (uint32_t i = 0; i < PAGES; i++) {
        bool is_older = oldest == KV_NO_PAGE || m->used[i] < m->used[oldest];
        if (m->known[i] && !m->is_held[i] && is_older) oldest = i;
    }
    return oldest;
}

static bool take(Model *m, uint32_t *page) {
    uint32_t oldest = m->p.n_free ? KV_NO_PAGE : oldest_cached(m);
    bool has = m->p.n_free || oldest != KV_NO_PAGE;
    if (!CHECK(kv_pages_take(&m->p, page) == has) || !has) return false;
    if (oldest != KV_NO_PAGE) {
        CHECK_INT_EQ(oldest, *page);
        m->evicted++;
    }
    CHECK(!m->is_held[*page]);
    m->known[*page] = 0;
    return true;
}

// Whole pages of the cache that continue the holder's text.
static void attach(Model *m, Holder *h) {
    for (uint32_t at = h->n_written / KV_PAGE_TOKENS; (at + 1) * KV_PAGE_TOKENS <= h->text.n; at++) {
        const int32_t *tokens = h->text.tokens + at * KV_PAGE_TOKENS;
        uint32_t page = kv_pages_find(&m->p, place_of(h, at), tokens);
        CHECK_INT_EQ(look_for(m, &h->text, (at + 1) * KV_PAGE_TOKENS), page);
        if (page == KV_NO_PAGE) return;
        kv_pages_share(&m->p, page);
        if (at < h->n_pages) kv_pages_give_back(&m->p, &h->pages[at], 1);
        h->pages[at] = page;
        h->n_pages = at + 1;
        h->n_written = (at + 1) * KV_PAGE_TOKENS;
        m->found++;
    }
}

// The beginning of the next page, out of one that begins likewise.
static void copy_border(Model *m, Holder *h) {
    uint32_t at = h->n_written / KV_PAGE_TOKENS, first = at * KV_PAGE_TOKENS, n_common, best = 0, n_seen = 0;
    uint32_t n = (uint32_t)min_u64(h->text.n - first, KV_PAGE_TOKENS);
    if (n == 0) return;
    uint32_t page = kv_pages_find_beginning(&m->p, place_of(h, at), h->text.tokens + first, n, &n_common);
    for (uint32_t i = 0; i < PAGES; i++) { // all that may be looked at
        const Text *t = &m->written[i];
        if (m->known[i] == 0 || (t->n - 1) / KV_PAGE_TOKENS != at || !begins_with(&h->text, t, first))
            continue;
        n_seen++;
        for (uint32_t k = best + 1; k <= n && begins_with(&h->text, t, first + k); k++)
            best = k;
    }
    if (n_seen <= KV_CHILDREN_SEEN && at > 0) CHECK_INT_EQ(best, n_common);
    CHECK(n_common <= best && (page == KV_NO_PAGE) == (n_common == 0));
    if (n_common) CHECK(begins_with(&h->text, &m->written[page], first + n_common));
    if (first + n_common <= h->n_written) return;
    kv_pages_share(&m->p, page);
    m->is_held[page] = true;
    if (at < h->n_pages || take(m, &h->pages[at])) {
        h->n_pages = at + 1;
        h->n_written = first + n_common;
        m->copied++;
    }
    uint64_t now = ++m->clock;
    kv_pages_give_back(&m->p, &page, 1);
    note_held(m);
    if (!m->is_held[page]) m->used[page] = now;
}

// Publishes what is written: whole pages, and with `rest` the one behind them.
static void publish(Model *m, Holder *h, bool rest) {
    for (uint32_t at = 0; at < h->n_pages; at++) {
        uint32_t first = at * KV_PAGE_TOKENS;
        uint32_t n = (uint32_t)min_u64(h->n_written - first, KV_PAGE_TOKENS);
        if (n == 0 || (n < KV_PAGE_TOKENS && !rest)) return;
        uint32_t own = h->pages[at], same = look_for(m, &h->text, first + KV_PAGE_TOKENS);
        if (h->n_written < first + KV_PAGE_TOKENS) same = KV_NO_PAGE;
        uint32_t page = kv_pages_publish(&m->p, own, place_of(h, at), h->text.tokens + first, n);
        CHECK_INT_EQ(same == KV_NO_PAGE ? own : same, page);
        if (page == own) {
            m->written[own] = h->text;
            m->written[own].n = first + n;
            m->known[own] = n;
            continue;
        }
        m->same++;
        m->known[own] = 0;
        kv_pages_share(&m->p, page);
        kv_pages_give_back(&m->p, &own, 1);
        h->pages[at] = page;
    }
}

// What is known of a page that nobody holds any more stays known, unless another page has it, too.
static void note_given_back(Model *m, uint32_t page) {
    bool is_free = m->p.pages[page].n_tokens == 0;
    if (m->is_held[page]) return;
    m->used[page] = ++m->clock;
    if (!is_free || m->known[page] == 0) return;
    bool is_elsewhere = false;
    for (uint32_t i = 0; i < PAGES; i++) {
        const Text *t = &m->written[i];
        is_elsewhere |= i != page && m->known[i] && begins_with(t, &m->written[page], m->written[page].n);
    }
    CHECK(is_elsewhere && m->known[page] < KV_PAGE_TOKENS);
    m->known[page] = 0;
}

static void end(Model *m, Holder *h) {
    uint32_t n = h->n_pages, pages[TEXT_PAGES];
    bool is_spoiled = roll(m, 16) == 0;
    memcpy(pages, h->pages, sizeof pages);
    if (is_spoiled) kv_pages_give_back_spoiled(&m->p, h->pages, n);
    else kv_pages_give_back(&m->p, h->pages, n);
    h->n_pages = h->n_written = h->text.n = 0;
    note_held(m);
    for (uint32_t i = n; i-- > 0;) {
        if (is_spoiled && m->p.pages[pages[i]].n_tokens == 0) m->known[pages[i]] = 0;
        note_given_back(m, pages[i]);
    }
}

// A page more of the text; where there is none, the sequence ends.
static void write_some(Model *m, Holder *h) {
    uint32_t n = (uint32_t)min_u64(h->n_written + 1 + roll(m, 20), h->text.n);
    while (h->n_pages * KV_PAGE_TOKENS < n) {
        if (!take(m, &h->pages[h->n_pages])) {
            end(m, h);
            return;
        }
        h->n_pages++;
        note_held(m);
    }
    h->n_written = n;
}

TEST(kv_pages_do_as_a_simple_model) {
    static Model m; // too large for the stack
    Arena arena = os_arena(1 << 20);
    Error err;
    uint32_t rounds = test_is_sanitized() ? 20000 : 100000;
    m = (Model){0};
    REQUIRE(kv_pages_init(&m.p, PAGES, 7, &arena, &err));
    for (uint32_t round = 0; round < rounds; round++) {
        TEST_CASE_LABEL("round %u", round);
        Holder *h = &m.holders[roll(&m, TEXTS)];
        if (h->text.n == 0) {
            make_text(&m, &h->text);
            attach(&m, h);
        } else if (roll(&m, 4) == 0) {
            publish(&m, h, true);
            end(&m, h);
        } else if (h->n_written < h->text.n) {
            publish(&m, h, false);
            attach(&m, h);
            note_held(&m);
            if (roll(&m, 2)) copy_border(&m, h);
            write_some(&m, h);
            if (roll(&m, 2)) publish(&m, h, roll(&m, 3) == 0);
        }
        note_held(&m);
        const char *problem = kv_pages_problem(&m.p, m.n_held);
        if (!problem) problem = kv_pages_lookup_problem(&m.p);
        if (problem) FAIL("%s", problem);
        REQUIRE(!problem);
    }
    printf("%u pages found, %u copied, %u evicted, %u computed twice\n", m.found, m.copied, m.evicted,
           m.same);
    CHECK(m.found > rounds / 100 && m.copied > rounds / 100);
    CHECK(m.evicted > rounds / 100 && m.same > rounds / 5000);
    for (uint32_t i = 0; i < TEXTS; i++)
        kv_pages_give_back(&m.p, m.holders[i].pages, m.holders[i].n_pages);
    CHECK_INT_EQ(0, kv_pages_used(&m.p));
    CHECK(m.p.n_cached > 0);
    kv_pages_drop_cached(&m.p);
    CHECK_INT_EQ(PAGES, m.p.n_free);
    CHECK(kv_pages_problem(&m.p, 0) == NULL);
}

// A text that was evicted is told from one that never was.
TEST(kv_pages_remember_what_was_evicted) {
    KvPages p;
    Arena arena = os_arena(1 << 16);
    Error err;
    uint32_t page, other[4];
    int32_t tokens[KV_PAGE_TOKENS] = {1, 2, 3}, never[KV_PAGE_TOKENS] = {3, 2, 1};
    static const uint8_t salt[CACHE_SALT_BYTES], other_salt[CACHE_SALT_BYTES] = {9};
    KvPlace begin = {KV_NO_PAGE, salt};
    REQUIRE(kv_pages_init(&p, 4, 7, &arena, &err) && kv_pages_take(&p, &page));
    CHECK_INT_EQ(page, kv_pages_publish(&p, page, begin, tokens, KV_PAGE_TOKENS));
    kv_pages_give_back(&p, &page, 1);
    CHECK(p.n_cached == 1 && !kv_pages_was_evicted(&p, begin, tokens));
    CHECK_INT_EQ(page, kv_pages_find(&p, begin, tokens));
    CHECK_INT_EQ(KV_NO_PAGE, kv_pages_find(&p, (KvPlace){KV_NO_PAGE, other_salt}, tokens));
    CHECK_INT_EQ(KV_NO_PAGE, kv_pages_find(&p, begin, never));
    for (uint32_t i = 0; i < 4; i++)
        REQUIRE(kv_pages_take(&p, &other[i])); // the free ones first
    CHECK_INT_EQ(page, other[3]);
    CHECK(!kv_pages_take(&p, &page));
    CHECK(kv_pages_was_evicted(&p, begin, tokens) && !kv_pages_was_evicted(&p, begin, never));
    CHECK_INT_EQ(KV_NO_PAGE, kv_pages_find(&p, begin, tokens));
}

// The check itself sees what it should.
TEST(kv_pages_problems_are_seen) {
    static const char *const expected[] = {
        "a page is neither held nor free",
        "a page in use is in the list of free ones",
        "pages have more or fewer holders than hold them",
        "a page's hash and tokens disagree",
        "the page before a held one is not held",
        "the list of cached pages is broken",
        "the page before a known one is not known",
    };
    static const uint8_t salt[CACHE_SALT_BYTES];
    static const int32_t tokens[KV_PAGE_TOKENS];
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        KvPages p;
        Arena arena = os_arena(1 << 16);
        Error err;
        uint32_t pages[3];
        REQUIRE(kv_pages_init(&p, 5, 7, &arena, &err));
        for (uint32_t k = 0; k < 3; k++)
            REQUIRE(kv_pages_take(&p, &pages[k]));
        kv_pages_publish(&p, pages[0], (KvPlace){KV_NO_PAGE, salt}, tokens, KV_PAGE_TOKENS);
        kv_pages_publish(&p, pages[1], (KvPlace){pages[0], salt}, tokens, KV_PAGE_TOKENS);
        CHECK(kv_pages_problem(&p, 3) == NULL);
        if (i == 0) p.pages[pages[2]].n_holders = 0;
        if (i == 1) p.pages[4].n_holders = 1;
        if (i == 2) p.pages[pages[0]].n_holders++;
        if (i == 3) p.pages[pages[1]].n_tokens = 3;
        if (i == 4) p.pages[pages[0]].n_holders = 0;
        if (i == 5) kv_pages_give_back(&p, pages, 3), p.pages[p.used_last].used_before = 4;
        if (i == 6) p.pages[pages[0]].hash = p.pages[pages[0]].n_tokens = 0;
        const char *problem = kv_pages_problem(&p, i == 5 ? 0 : 3);
        CHECK_STR_EQ(expected[i], problem ? problem : "");
    }
}
