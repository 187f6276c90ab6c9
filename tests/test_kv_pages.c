// The table of cache pages under chance: sequences that take, share and give back.
#include "base/rng.h"
#include "engine/kv_pages.h"
#include "kv_checks.h"
#include "os/os.h"
#include "runner.h"

enum { PAGES = 37, HOLDERS = 9, ROUNDS = 20000 };

typedef struct {
    uint32_t pages[PAGES];
    uint32_t n;
} Holder;

static KvPages make_pages(uint32_t n) {
    Arena arena = os_arena(1 << 16);
    KvPages p;
    Error err;
    REQUIRE(kv_pages_init(&p, n, &arena, &err));
    return p;
}

TEST(kv_pages_are_conserved) {
    KvPages p = make_pages(PAGES);
    Holder holders[HOLDERS] = {0};
    uint64_t n_held = 0, draws = 0, refused = 0, shared = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        TEST_CASE_LABEL("round %u", round);
        RngBlock chance = rng_philox(11, draws++);
        Holder *h = &holders[chance.word[0] % HOLDERS], *other = &holders[chance.word[1] % HOLDERS];
        if (h->n) {
            kv_pages_give_back(&p, h->pages, h->n);
            n_held -= h->n;
            h->n = 0;
        } else if (other->n && chance.word[2] % 3 == 0) { // the beginning of another's, and pages of its own
            uint32_t n = 1 + chance.word[3] % other->n;
            kv_pages_share(&p, other->pages, n);
            memcpy(h->pages, other->pages, n * sizeof *h->pages);
            h->n = n;
            if (n < PAGES && kv_pages_take(&p, 1, h->pages + n)) h->n++;
            n_held += h->n;
            shared++;
        } else {
            uint32_t n = 1 + chance.word[2] % 12, n_free = p.n_free;
            bool taken = kv_pages_take(&p, n, h->pages);
            CHECK(taken == (n <= n_free));
            h->n = taken ? n : 0;
            n_held += h->n;
            refused += !taken;
            for (uint32_t i = 0; i < h->n; i++) {
                CHECK_INT_EQ(1, p.pages[h->pages[i]].n_holders); // nobody else's
                CHECK_INT_EQ(0, p.pages[h->pages[i]].hash);
                p.pages[h->pages[i]].hash = 1 + round;
            }
        }
        const char *problem = kv_pages_problem(&p, n_held);
        if (problem) FAIL("%s", problem);
        REQUIRE(!problem);
    }
    CHECK(refused > 100 && shared > 100);
    for (uint32_t i = 0; i < HOLDERS; i++)
        kv_pages_give_back(&p, holders[i].pages, holders[i].n);
    CHECK_INT_EQ(0, kv_pages_used(&p));
    CHECK(kv_pages_problem(&p, 0) == NULL);
}

// A page that two hold stays until both have given it back, with its hash.
TEST(kv_pages_stay_while_somebody_holds_them) {
    KvPages p = make_pages(4);
    uint32_t pages[4], next;
    REQUIRE(kv_pages_take(&p, 3, pages));
    CHECK(pages[0] == 0 && pages[1] == 1 && pages[2] == 2);
    p.pages[pages[0]].hash = 77;
    kv_pages_share(&p, pages, 2);
    kv_pages_give_back(&p, pages, 3);
    CHECK_INT_EQ(2, kv_pages_used(&p));
    CHECK_INT_EQ(77, p.pages[pages[0]].hash);
    REQUIRE(kv_pages_take(&p, 1, &next) && next == 2);
    CHECK(!kv_pages_take(&p, 2, pages + 2)); // one is left, and stays so
    CHECK_INT_EQ(1, p.n_free);
    kv_pages_give_back(&p, pages, 2);
    REQUIRE(kv_pages_take(&p, 1, &next) && next == 0); // given back last
    CHECK_INT_EQ(0, p.pages[next].hash);
}

// The check itself sees what it should.
TEST(kv_pages_problems_are_seen) {
    static const char *const expected[] = {
        "a page is neither held nor free", "a held page is in the list of free ones",
        "pages have more or fewer holders than hold them", "a free page has a hash"};
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        KvPages p = make_pages(4);
        uint32_t pages[2];
        REQUIRE(kv_pages_take(&p, 2, pages));
        if (i == 0) p.pages[pages[1]].n_holders = 0;
        if (i == 1) p.pages[3].n_holders = 1;
        if (i == 2) p.pages[pages[0]].n_holders++;
        if (i == 3) p.pages[2].hash = 5;
        const char *problem = kv_pages_problem(&p, 2);
        CHECK_STR_EQ(expected[i], problem ? problem : "");
    }
}
