// The CPU reference's threads: every item once, sleep instead of spinning, and no waiting for threads that do
// not get a processor.
#include "os/pool.h"
#include "runner.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { POOL_BYTES = 1 << 20, ITEMS = 1000 };

static Pool *make_pool(uint32_t n_threads) {
    Arena arena = os_arena(POOL_BYTES);
    Pool *pool;
    Error err;
    REQUIRE(pool_create(n_threads, "pool", &arena, &pool, &err));
    CHECK_INT_EQ(n_threads, pool_thread_count(pool));
    return pool;
}

static int own_thread(void) {
    return (int)syscall(SYS_gettid);
}

// The state of a thread of this process: 'R' runs or wants to, 'S' sleeps.
static char thread_state(int thread) {
    char path[64], text[256] = {0};
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    const char *name_end = size ? strrchr(text, ')') : NULL;
    return name_end ? name_end[2] : 0;
}

static bool comes_to_sleep(int thread) {
    for (int waited_ms = 0; waited_ms < 60000; waited_ms++) {
        if (thread_state(thread) == 'S') return true;
        os_sleep_ms(1);
    }
    return false;
}

static void count_items(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    _Atomic uint32_t *counts = context;
    (void)thread;
    for (uint32_t i = from; i < to; i++)
        atomic_fetch_add(&counts[i], 1);
}

TEST(pool_does_each_item_once) {
    static const struct {
        uint32_t n_threads, n_items, grain, n_ranges;
    } rows[] = {{1, 10, 3, 10},   {2, 1, 1, 10},      {2, 2, 1, 20000}, {2, ITEMS, 7, 2000},
                {3, 0, 1, 10},    {5, ITEMS, 1, 300}, {8, 17, 16, 500}, {8, ITEMS, ITEMS - 1, 500},
                {4, ITEMS, 1, 50}};
    static _Atomic uint32_t counts[ITEMS];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%u threads, %u items, %u a piece", rows[i].n_threads, rows[i].n_items,
                        rows[i].grain);
        Pool *pool = make_pool(rows[i].n_threads);
        for (uint32_t k = 0; k < ITEMS; k++)
            atomic_store(&counts[k], 0);
        for (uint32_t k = 0; k < rows[i].n_ranges; k++)
            pool_run(pool, count_items, counts, rows[i].n_items, rows[i].grain);
        uint32_t n_wrong = 0;
        for (uint32_t k = 0; k < ITEMS; k++)
            n_wrong += atomic_load(&counts[k]) != (k < rows[i].n_items ? rows[i].n_ranges : 0);
        CHECK_INT_EQ(0, n_wrong);
        pool_destroy(pool);
    }
}

typedef struct {
    int caller;
    _Atomic int helper;
    _Atomic bool caller_slept;
} Sleepers;

// The helper's piece is not done before the caller sleeps.
static void wait_for_sleep(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    Sleepers *s = context;
    (void)from, (void)to;
    if (thread == 0) {
        for (int i = 0; !atomic_load(&s->helper) && i < 60000; i++)
            os_sleep_ms(1); // the other piece is the helper's
        return;
    }
    atomic_store(&s->helper, own_thread());
    os_sleep_ms(20); // the caller's piece ends, too
    atomic_store(&s->caller_slept, comes_to_sleep(s->caller));
}

// Whoever waits sleeps: the caller for a helper's piece, a helper for the next range.
TEST_SLOW(pool_sleeps_while_it_waits, 150) {
    Pool *pool = make_pool(2);
    Sleepers s = {.caller = own_thread()};
    pool_run(pool, wait_for_sleep, &s, 2, 1);
    CHECK(atomic_load(&s.caller_slept));
    CHECK(atomic_load(&s.helper) != 0 && comes_to_sleep(atomic_load(&s.helper)));
    pool_destroy(pool);
}

typedef struct {
    uint32_t n_items;
    _Atomic uint32_t n_by_helper;
    bool whole; // one call had all items
} Slowness;

static void slow_with_help(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    Slowness *s = context;
    if (thread > 0) atomic_fetch_add(&s->n_by_helper, 1);
    os_sleep_ms(thread > 0 ? 100 : 1);
    if (from == 0 && to == s->n_items) s->whole = true;
}

// Helpers that hold the caller up are done without, and asked again later.
TEST_SLOW(pool_does_without_helpers_that_are_in_the_way, 150) {
    Pool *pool = make_pool(2);
    Slowness s = {.n_items = 16};
    uint64_t end_ns = os_monotonic_ns() + 60 * 1000000000ull;
    while (!(s.whole && atomic_load(&s.n_by_helper) > 0) && os_monotonic_ns() < end_ns)
        pool_run(pool, slow_with_help, &s, s.n_items, 1);
    CHECK(s.whole && atomic_load(&s.n_by_helper) > 0);
    uint32_t before = atomic_load(&s.n_by_helper);
    while (atomic_load(&s.n_by_helper) == before && os_monotonic_ns() < end_ns)
        pool_run(pool, slow_with_help, &s, s.n_items, 1);
    CHECK(atomic_load(&s.n_by_helper) > before);
    pool_destroy(pool);
}
