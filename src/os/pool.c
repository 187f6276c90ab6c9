#include "os/pool.h"

typedef struct {
    Pool *pool;
    uint32_t index;
    OsThread thread;
} PoolHelper;

// Whether the helpers are worth waiting for, of the ranges since it was last asked.
typedef struct {
    uint64_t work_ns;        // of the caller, until no piece was left
    uint64_t stall_ns;       // that it then waited for others' pieces
    uint64_t own, others;    // pieces
    uint64_t alone_until_ns; // until then the caller works alone
} Balance;

struct Pool {
    uint32_t n_threads;
    Balance balance; // the caller's
    PoolHelper helpers[CPU_THREADS_MAX];
    // The range at hand. Written before `claims` is; stays as it is while a piece of it is not done, so
    // whoever has taken one may read it.
    PoolFn *fn;
    void *context;
    uint32_t n_items, grain, n_pieces;
    // The number of the range in the high half, and in the low one how many of its pieces nobody has taken
    // yet.
    _Alignas(64) _Atomic uint64_t claims;
    _Alignas(64) _Atomic uint32_t n_done; // pieces of this range
    _Atomic uint32_t caller_asleep;
    // What sleeping helpers wait for: the number of the last range, or ENDED.
    _Alignas(64) _Atomic uint32_t published;
    _Atomic uint32_t helpers_asleep;
};

enum { SPINS = 2000 };                    // about 40 µs
static const uint32_t ENDED = UINT32_MAX; // stands for a range's number

enum { BALANCE_NS = 20 * 1000 * 1000, ALONE_NS = 200 * 1000 * 1000 };

static void spin(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Takes pieces until none is left, and returns how many. A thread that comes late finds none: the next range
// has another number.
static uint32_t pool_work(Pool *pool, uint32_t thread) {
    uint32_t n_taken = 0;
    uint64_t claims = atomic_load(&pool->claims);
    while ((uint32_t)claims > 0) {
        if (!atomic_compare_exchange_weak(&pool->claims, &claims, claims - 1)) continue;
        uint32_t piece = pool->n_pieces - (uint32_t)claims, n_pieces = pool->n_pieces;
        uint64_t from = (uint64_t)piece * pool->grain;
        pool->fn(pool->context, thread, (uint32_t)from, (uint32_t)min_u64(from + pool->grain, pool->n_items));
        // From the last piece on, the range is the caller's to change.
        if (atomic_fetch_add(&pool->n_done, 1) + 1 == n_pieces && atomic_load(&pool->caller_asleep))
            os_wake_word(&pool->n_done);
        claims = atomic_load(&pool->claims);
        n_taken++;
    }
    return n_taken;
}

// Returns the number of a range after `seen`, or ENDED.
static uint32_t await_range(Pool *pool, uint32_t seen) {
    for (int turn = 0; turn < SPINS; turn++) {
        uint32_t now = atomic_load(&pool->published);
        if (now != seen) return now;
        spin();
    }
    atomic_fetch_add(&pool->helpers_asleep, 1);
    while (atomic_load(&pool->published) == seen)
        os_wait_word(&pool->published, seen, UINT32_MAX);
    atomic_fetch_sub(&pool->helpers_asleep, 1);
    return atomic_load(&pool->published);
}

static void await_pieces(Pool *pool, uint32_t n_pieces) {
    uint32_t done;
    for (int turn = 0; turn < SPINS; turn++) {
        if (atomic_load(&pool->n_done) == n_pieces) return;
        spin();
    }
    atomic_store(&pool->caller_asleep, 1);
    while ((done = atomic_load(&pool->n_done)) != n_pieces)
        os_wait_word(&pool->n_done, done, UINT32_MAX);
    atomic_store(&pool->caller_asleep, 0);
}

static void *pool_helper(void *argument) {
    PoolHelper *helper = argument;
    for (uint32_t range = 0; (range = await_range(helper->pool, range)) != ENDED;)
        (void)pool_work(helper->pool, helper->index);
    return NULL;
}

static void publish(Pool *pool, uint32_t range) {
    atomic_store(&pool->published, range);
    if (atomic_load(&pool->helpers_asleep)) os_wake_word(&pool->published);
}

bool pool_create(uint32_t n_threads, const char *name, Arena *arena, Pool **out, Error *err) {
    Pool *pool = arena_new(arena, Pool, 1);
    if (!pool) return error_set(err, ERR_NO_MEMORY, "the thread pool does not fit its memory");
    pool->n_threads = 1;
    while (pool->n_threads < min_u64(n_threads, CPU_THREADS_MAX)) {
        PoolHelper *helper = &pool->helpers[pool->n_threads];
        *helper = (PoolHelper){.pool = pool, .index = pool->n_threads};
        if (!os_thread_start(&helper->thread, name, pool_helper, helper, err)) {
            pool_destroy(pool);
            return false;
        }
        pool->n_threads++;
    }
    *out = pool;
    return true;
}

void pool_destroy(Pool *pool) {
    publish(pool, ENDED);
    for (uint32_t i = 1; i < pool->n_threads; i++)
        os_thread_join(&pool->helpers[i].thread);
    pool->n_threads = 1;
}

uint32_t pool_thread_count(const Pool *pool) {
    return pool->n_threads;
}

// Alone, the caller would have needed work_ns for each `own` pieces, so work_ns * (own + others) / own for
// all. Where waiting made it longer than that, other programs have the processors that the helpers need, and
// the caller does without them for a while. (Two threads on two processors beside eight programs that never
// rest, SmolLM2 135M, tokens a second, medians: 8.3; one thread 5.9; two that spin and wait for each
// other 1.5.)
static void balance(Balance *b, uint64_t now_ns) {
    if (b->work_ns + b->stall_ns < BALANCE_NS) return;
    bool pays = (double)b->stall_ns * (double)b->own <= (double)b->work_ns * (double)b->others;
    *b = (Balance){.alone_until_ns = pays ? 0 : now_ns + ALONE_NS};
}

static void publish_pieces(Pool *pool, PoolFn *fn, void *context, uint32_t n_items, uint32_t grain) {
    uint32_t range = (uint32_t)(atomic_load(&pool->claims) >> 32) + 1;
    if (range == ENDED) range = 1;
    pool->fn = fn;
    pool->context = context;
    pool->n_items = n_items;
    pool->grain = grain;
    pool->n_pieces = (uint32_t)div_up(n_items, grain);
    atomic_store(&pool->n_done, 0);
    atomic_store(&pool->claims, (uint64_t)range << 32 | pool->n_pieces);
    publish(pool, range);
}

void pool_run(Pool *pool, PoolFn *fn, void *context, uint32_t n_items, uint32_t grain) {
    Balance *b = &pool->balance;
    bool alone = n_items <= grain || pool->n_threads == 1;
    uint64_t begin_ns = alone ? 0 : os_monotonic_ns();
    if (alone || begin_ns < b->alone_until_ns) {
        if (n_items) fn(context, 0, 0, n_items);
        return;
    }
    publish_pieces(pool, fn, context, n_items, grain);
    uint32_t own = pool_work(pool, 0);
    uint64_t worked_ns = os_monotonic_ns();
    await_pieces(pool, pool->n_pieces);
    uint64_t end_ns = os_monotonic_ns();
    b->work_ns += worked_ns - begin_ns;
    b->stall_ns += end_ns - worked_ns;
    b->own += own;
    b->others += pool->n_pieces - own;
    balance(b, end_ns);
}
