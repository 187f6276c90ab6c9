// See emulator.h.
#include "emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)0)
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)0)
#endif

enum {
    THREADS_MAX = 1024,
    WARP_LANES = 32,
    STACK_BYTES = 256 * 1024,
    COPIES_MAX = 64, // of a thread under way
    BULK_MAX = 4096, // of a block
};

struct Copy {
    void *to;
    const void *from;
    unsigned bytes;
};

struct Fiber {
    EmulatedThread thread;
    ucontext_t context;
    bool finished;
    uint64_t gathers; // collectives of the warp that this lane took part in
    const char *waits_for;
    Copy copies[COPIES_MAX];
    unsigned n_copies, n_groups;
    unsigned group_copies[COPIES_MAX]; // copies in each committed group
    unsigned open_copies;              // not committed yet
};

struct Warp {
    uint8_t lanes[2][WARP_LANES * EMULATED_LANE_BYTES];
    unsigned arrived[2];
    const char *name[2];
    uint64_t done; // collectives that all lanes have arrived at
};

struct BulkCopy {
    Copy copy;
    uint64_t *barrier;
};

static struct {
    Fiber fibers[THREADS_MAX];
    Warp warps[THREADS_MAX / WARP_LANES];
    ucontext_t scheduler;
    const void *scheduler_stack;
    size_t scheduler_stack_size;
    uint8_t *stacks;
    Fiber *running;
    EmulatedKernel *kernel;
    const void *args;
    unsigned n_threads;
    unsigned arrived; // at the block's barrier
    uint64_t barriers_done;
    uint64_t events; // grows whenever some thread gets further
    BulkCopy bulk[BULK_MAX];
    unsigned n_bulk;
} block;

[[noreturn]] static void broken(const char *what) {
    const Fiber *f = block.running;
    fprintf(stderr, "emulator: block %u, thread %u: %s\n", f ? f->thread.block_x : 0, f ? f->thread.thread : 0, what);
    fflush(stderr);
    abort();
}

const EmulatedThread *emulated_thread(void) {
    return &block.running->thread;
}

void emulated_check(bool holds, const char *message) {
    if (!holds) broken(message);
}

// ---- fibers ----

static void leave(Fiber *f, bool for_good) {
    void *fake = nullptr;
    (void)for_good;
    (void)fake;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, block.scheduler_stack, block.scheduler_stack_size);
    swapcontext(&f->context, &block.scheduler);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

static void enter(Fiber *f) {
    void *fake = nullptr;
    (void)fake;
    block.running = f;
    __sanitizer_start_switch_fiber(&fake, block.stacks + (size_t)f->thread.thread * STACK_BYTES, STACK_BYTES);
    swapcontext(&block.scheduler, &f->context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
    block.running = nullptr;
}

static void fiber_main(void) {
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_size);
    Fiber *f = block.running;
    block.kernel(block.args);
    if (f->n_copies > 0 || f->open_copies > 0) broken("ends with copies that it did not wait for");
    f->finished = true;
    block.events++;
    leave(f, true);
}

static void wait_until(const char *what, bool (*done)(const Fiber *, uint64_t), uint64_t value) {
    Fiber *f = block.running;
    f->waits_for = what;
    while (!done(f, value)) {
        leave(f, false);
    }
    f->waits_for = nullptr;
    block.events++;
}

// ---- meeting ----

void emulated_block_sync(void) {
    uint64_t mine = block.barriers_done;
    block.events++;
    if (++block.arrived == block.n_threads) {
        block.arrived = 0;
        block.barriers_done++;
        return;
    }
    wait_until("block_sync", [](const Fiber *, uint64_t at) { return block.barriers_done > at; }, mine);
}

const uint8_t *emulated_warp_gather(const char *name, const void *mine, unsigned size) {
    Fiber *f = block.running;
    Warp *w = &block.warps[f->thread.thread / WARP_LANES];
    uint64_t number = f->gathers++;
    unsigned half = (unsigned)(number % 2);
    if (w->arrived[half] == 0) w->name[half] = name;
    else if (strcmp(w->name[half], name) != 0) broken("lanes of a warp are at different collectives");
    if (size > EMULATED_LANE_BYTES) broken("gather is too large");
    memcpy(w->lanes[half] + f->thread.thread % WARP_LANES * EMULATED_LANE_BYTES, mine, size);
    block.events++;
    if (++w->arrived[half] == WARP_LANES) {
        w->arrived[half] = 0;
        w->done++;
    } else {
        wait_until(name, [](const Fiber *fiber, uint64_t n) {
            return block.warps[fiber->thread.thread / WARP_LANES].done > n;
        }, number);
    }
    return w->lanes[half];
}

// ---- copies ----

static void check_copy(const void *to, const void *from, unsigned bytes) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16 || bytes % 16 || bytes == 0) broken("copy is not aligned to 16 bytes");
}

void emulated_copy_async(void *shared, const void *global, unsigned bytes) {
    Fiber *f = block.running;
    check_copy(shared, global, bytes);
    if (f->n_copies + f->open_copies == COPIES_MAX) broken("too many copies under way: enlarge COPIES_MAX");
    f->copies[f->n_copies + f->open_copies++] = {shared, global, bytes};
}

void emulated_copy_async_commit(void) {
    Fiber *f = block.running;
    if (f->n_groups == COPIES_MAX) broken("too many groups of copies");
    f->group_copies[f->n_groups++] = f->open_copies;
    f->n_copies += f->open_copies;
    f->open_copies = 0;
}

void emulated_copy_async_wait(unsigned pending) {
    Fiber *f = block.running;
    while (f->n_groups > pending) {
        unsigned n = f->group_copies[0];
        for (unsigned i = 0; i < n; i++) {
            memcpy(f->copies[i].to, f->copies[i].from, f->copies[i].bytes);
        }
        unsigned left = f->n_copies + f->open_copies - n;
        memmove(f->copies, f->copies + n, left * sizeof f->copies[0]);
        memmove(f->group_copies, f->group_copies + 1, --f->n_groups * sizeof f->group_copies[0]);
        f->n_copies -= n;
    }
}

// A barrier's eight bytes.
struct BulkState {
    int32_t bytes; // still to come in this phase
    uint8_t arrivals, pending, phase, made;
};
static_assert(sizeof(BulkState) == sizeof(uint64_t), "fits the mbarrier");

static BulkState *bulk_state(uint64_t *barrier) {
    BulkState *s = (BulkState *)barrier;
    if ((uintptr_t)barrier % 8 || s->made != 0xB7) broken("barrier was not initialised");
    return s;
}

static void bulk_settle(BulkState *s) {
    if (s->pending > 0 || s->bytes != 0) return;
    s->phase ^= 1;
    s->pending = s->arrivals;
    block.events++;
}

void emulated_bulk_init(uint64_t *barrier, unsigned arrivals) {
    *(BulkState *)barrier = {0, (uint8_t)arrivals, (uint8_t)arrivals, 0, 0xB7};
}

void emulated_bulk_expect(uint64_t *barrier, unsigned bytes) {
    BulkState *s = bulk_state(barrier);
    if (s->pending == 0) broken("more arrivals than the barrier counts");
    s->bytes += (int32_t)bytes;
    s->pending--;
    bulk_settle(s);
}

void emulated_bulk_copy(void *shared, const void *global, unsigned bytes, uint64_t *barrier) {
    check_copy(shared, global, bytes);
    if (block.n_bulk == BULK_MAX) broken("too many bulk copies under way: enlarge BULK_MAX");
    block.bulk[block.n_bulk++] = {{shared, global, bytes}, barrier};
}

// The barrier's copies that were set off so far.
static void bulk_deliver(uint64_t *barrier) {
    BulkState *s = bulk_state(barrier);
    unsigned kept = 0;
    for (unsigned i = 0; i < block.n_bulk; i++) {
        BulkCopy c = block.bulk[i];
        if (c.barrier == barrier) {
            memcpy(c.copy.to, c.copy.from, c.copy.bytes);
            s->bytes -= (int32_t)c.copy.bytes;
        } else {
            block.bulk[kept++] = c;
        }
    }
    block.n_bulk = kept;
    bulk_settle(s);
}

// Parity p is waited for while the phase under way has that parity.
void emulated_bulk_wait(uint64_t *barrier, unsigned parity) {
    wait_until("bulk_barrier_wait", [](const Fiber *, uint64_t at) {
        uint64_t *b = (uint64_t *)(uintptr_t)(at & ~(uint64_t)1);
        if (bulk_state(b)->phase == (at & 1)) bulk_deliver(b);
        return bulk_state(b)->phase != (at & 1);
    }, (uint64_t)(uintptr_t)barrier | parity);
}

// ---- launching ----

static void run_block(bool reversed) {
    for (unsigned left = block.n_threads; left > 0;) {
        uint64_t before = block.events;
        left = 0;
        for (unsigned i = 0; i < block.n_threads; i++) {
            Fiber *f = &block.fibers[reversed ? block.n_threads - 1 - i : i];
            if (f->finished) continue;
            enter(f);
            left += !f->finished;
        }
        if (left > 0 && block.events == before) {
            for (unsigned i = 0; i < block.n_threads; i++) {
                const Fiber *f = &block.fibers[i];
                if (f->finished && i % WARP_LANES) continue;
                fprintf(stderr, "emulator: thread %u %s %s\n", i, f->finished ? "has ended" : "waits at",
                        f->finished ? "" : f->waits_for);
            }
            broken("deadlock: some threads of the block wait for others that will not come");
        }
    }
}

static void make_fiber(EmulatedThread thread) {
    Fiber *f = &block.fibers[thread.thread];
    f->thread = thread;
    f->finished = false;
    f->gathers = 0;
    f->n_copies = f->n_groups = f->open_copies = 0;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = block.stacks + (size_t)thread.thread * STACK_BYTES;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
}

void emulator_launch(EmulatedKernel *kernel, const void *args, unsigned grid_x, unsigned grid_y, unsigned threads,
                     unsigned shared_bytes) {
    if (threads == 0 || threads > THREADS_MAX || threads % WARP_LANES) broken("threads of a block");
    if (!block.stacks) {
        block.stacks = (uint8_t *)mmap(nullptr, (size_t)THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (block.stacks == MAP_FAILED) broken("no memory for stacks");
    }
    for (unsigned b = 0; b < grid_x * grid_y; b++) {
        uint8_t *shared = (uint8_t *)aligned_alloc(1024, (shared_bytes + 1024u) & ~1023u);
        memset(shared, 0xFF, shared_bytes); // NaNs
#if defined(__SANITIZE_ADDRESS__)
        ASAN_POISON_MEMORY_REGION(shared + shared_bytes, ((shared_bytes + 1024u) & ~1023u) - shared_bytes);
#endif
        block.kernel = kernel;
        block.args = args;
        block.n_threads = threads;
        block.arrived = 0;
        block.n_bulk = 0;
        memset(block.warps, 0, sizeof block.warps);
        for (unsigned t = 0; t < threads; t++) {
            make_fiber({t, b % grid_x, b / grid_x, grid_x, grid_y, shared});
        }
        run_block(b % 2);
        if (block.n_bulk > 0) broken("a block ended with bulk copies that nobody waited for");
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(shared, (shared_bytes + 1024u) & ~1023u);
#endif
        free(shared);
    }
}
