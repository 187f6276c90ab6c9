#include "backend/cpu/pool.h"

typedef struct {
    Pool *pool;
    uint32_t index;
    OsThread thread;
} PoolHelper;

struct Pool {
    uint32_t n_threads;
    PoolHelper helpers[CPU_THREADS_MAX];
    // The range at hand; written by the caller before `generation` goes up.
    PoolFn *fn; // NULL: end
    void *context;
    uint32_t n_items;
    uint32_t grain;
    _Alignas(64) _Atomic uint32_t next;
    _Alignas(64) _Atomic uint32_t generation;
    _Alignas(64) _Atomic uint32_t helpers_busy;
    _Atomic uint32_t helpers_asleep;
};

enum { POOL_SPINS = 4000, POOL_SPINS_BETWEEN_YIELDS = 200 }; // about 50 µs, 3 µs

// One turn of a waiting loop. Now and then it lets go of the processor: what is waited for may need it, where
// other programs compete (two threads on two busy processors: 7 tokens/s without, 13 with).
static void spin(int turn) {
    if (turn % POOL_SPINS_BETWEEN_YIELDS == POOL_SPINS_BETWEEN_YIELDS - 1) os_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void pool_work(Pool *pool, uint32_t thread) {
    for (;;) {
        uint32_t from = atomic_fetch_add(&pool->next, pool->grain);
        if (from >= pool->n_items) return;
        pool->fn(pool->context, thread, from, (uint32_t)min_u64((uint64_t)from + pool->grain, pool->n_items));
    }
}

// Returns the generation that follows `seen`.
static uint32_t pool_await(Pool *pool, uint32_t seen) {
    for (int turn = 0; turn < POOL_SPINS; turn++) {
        uint32_t now = atomic_load(&pool->generation);
        if (now != seen) return now;
        spin(turn);
    }
    atomic_fetch_add(&pool->helpers_asleep, 1);
    while (atomic_load(&pool->generation) == seen)
        os_wait_word(&pool->generation, seen, UINT32_MAX);
    atomic_fetch_sub(&pool->helpers_asleep, 1);
    return atomic_load(&pool->generation);
}

static void *pool_helper(void *argument) {
    PoolHelper *helper = argument;
    Pool *pool = helper->pool;
    uint32_t generation = 0;
    for (;;) {
        generation = pool_await(pool, generation);
        if (!pool->fn) return NULL;
        pool_work(pool, helper->index);
        atomic_fetch_sub(&pool->helpers_busy, 1);
    }
}

static void pool_publish(Pool *pool) {
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->helpers_asleep)) os_wake_word(&pool->generation);
}

bool pool_create(uint32_t n_threads, Arena *arena, Pool **out, Error *err) {
    Pool *pool = arena_new(arena, Pool, 1);
    if (!pool) return error_set(err, ERR_NO_MEMORY, "the thread pool does not fit its memory");
    pool->n_threads = 1;
    while (pool->n_threads < min_u64(n_threads, CPU_THREADS_MAX)) {
        PoolHelper *helper = &pool->helpers[pool->n_threads];
        *helper = (PoolHelper){.pool = pool, .index = pool->n_threads};
        if (!os_thread_start(&helper->thread, "cpu-pool", pool_helper, helper, err)) {
            pool_destroy(pool);
            return false;
        }
        pool->n_threads++;
    }
    *out = pool;
    return true;
}

void pool_destroy(Pool *pool) {
    pool->fn = NULL;
    pool_publish(pool);
    for (uint32_t i = 1; i < pool->n_threads; i++)
        os_thread_join(&pool->helpers[i].thread);
    pool->n_threads = 1;
}

uint32_t pool_thread_count(const Pool *pool) {
    return pool->n_threads;
}

void pool_run(Pool *pool, PoolFn *fn, void *context, uint32_t n_items, uint32_t grain) {
    if (n_items <= grain || pool->n_threads == 1) {
        if (n_items) fn(context, 0, 0, n_items);
        return;
    }
    pool->fn = fn;
    pool->context = context;
    pool->n_items = n_items;
    pool->grain = grain;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->helpers_busy, pool->n_threads - 1);
    pool_publish(pool);
    pool_work(pool, 0);
    for (int turn = 0; atomic_load(&pool->helpers_busy); turn = (turn + 1) % POOL_SPINS)
        spin(turn);
}
