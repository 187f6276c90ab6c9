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
    THREADS_MAX = 2560, // of the blocks that run at once
    TOGETHER_MAX = 16,  // blocks that run at once
    GROUPS_MAX = 16,    // group_sync
    WARP_LANES = 32,
    // Not a power of two: the tops of stacks would be in the same few lines of the caches.
    STACK_BYTES = 256 * 1024 + 17 * 64,
    COPIES_MAX = 2 * 64, // of a thread under way
    BULK_MAX = 4096,     // of a block
};

// ---- switching between stacks ----

#if defined(__x86_64__)
// swapcontext asks the system to keep the signal mask: 20 times the cost of the rest.
struct SwitchPoint {
    void *stack;
};
extern "C" void emulator_switch(void **save, void *load);
asm(".text\n"
    ".local emulator_switch\n"
    ".type emulator_switch, @function\n"
    "emulator_switch:\n"
    "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp, (%rdi)\n"
    "mov %rsi, %rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
    "ret\n"
    ".size emulator_switch, . - emulator_switch\n");

static void switch_between(SwitchPoint *from, const SwitchPoint *to) {
    emulator_switch(&from->stack, to->stack);
}
// The first switch to it calls `start`, which does not return.
static void switch_prepare(SwitchPoint *p, uint8_t *stack, size_t size, void (*start)(void)) {
    void **top = (void **)(stack + size);
    *--top = nullptr; // start's return address: the stack is aligned as after a call
    *--top = (void *)start;
    p->stack = top - 6; // of six registers, whatever they hold
}
#else
struct SwitchPoint {
    ucontext_t context;
};
static void switch_between(SwitchPoint *from, const SwitchPoint *to) {
    swapcontext(&from->context, &to->context);
}
static void switch_prepare(SwitchPoint *p, uint8_t *stack, size_t size, void (*start)(void)) {
    getcontext(&p->context);
    p->context.uc_stack.ss_sp = stack;
    p->context.uc_stack.ss_size = size;
    p->context.uc_link = nullptr;
    makecontext(&p->context, start, 0);
}
#endif

struct Copy {
    void *to;
    const void *from;
    unsigned bytes;
};

struct Fiber {
    EmulatedThread thread;
    unsigned index;  // among all fibers: a warp's are 32 in a row
    unsigned member; // of the blocks that run at once, the thread's
    SwitchPoint context;
    bool finished;
    uint64_t cluster_arrivals;
    uint64_t gathers; // collectives of the warp that this lane took part in
    const char *waits_for;
    bool (*until)(const Fiber *, uint64_t); // what it waits for holds
    uint64_t until_value;
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
    // Of emulated_mma: the collective (counted from 1) whose operands as numbers these are; 0: none.
    uint64_t converted[2];
    float rows[2][16][16], cols[2][8][16];
};

struct BulkCopy {
    Copy copy;
    uint64_t *barrier;
};

static struct {
    Fiber fibers[THREADS_MAX];
    Warp warps[THREADS_MAX / WARP_LANES];
    SwitchPoint scheduler;
    const void *scheduler_stack;
    size_t scheduler_stack_size;
    uint8_t *stacks;
    Fiber *running;
    EmulatedKernel *kernel;
    const void *args;
    unsigned n_threads;             // of a block
    unsigned n_fibers;              // of all blocks that run at once
    unsigned arrived[TOGETHER_MAX]; // at each block's barrier
    uint64_t barriers_done[TOGETHER_MAX];
    unsigned group_arrived[TOGETHER_MAX][GROUPS_MAX]; // group_sync
    uint64_t groups_done[TOGETHER_MAX][GROUPS_MAX];
    uint8_t *shared[TOGETHER_MAX];
    uint64_t events; // grows whenever some thread gets further
    BulkCopy bulk[BULK_MAX];
    unsigned n_bulk;
} block;

[[noreturn]] static void broken(const char *what) {
    const Fiber *f = block.running;
    fprintf(stderr, "emulator: block %u, thread %u: %s\n", f ? f->thread.block_x : 0,
            f ? f->thread.thread : 0, what);
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
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, block.scheduler_stack,
                                   block.scheduler_stack_size);
    switch_between(&f->context, &block.scheduler);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

static void enter(Fiber *f) {
    void *fake = nullptr;
    (void)fake;
    block.running = f;
    __sanitizer_start_switch_fiber(&fake, block.stacks + (size_t)f->index * STACK_BYTES, STACK_BYTES);
    switch_between(&block.scheduler, &f->context);
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
    if (!done(f, value)) {
        f->waits_for = what;
        f->until = done;
        f->until_value = value;
        leave(f, false);
        f->waits_for = nullptr;
    }
    block.events++;
}

// ---- meeting ----

void emulated_block_sync(void) {
    unsigned member = block.running->member;
    uint64_t mine = block.barriers_done[member];
    block.events++;
    if (++block.arrived[member] == block.n_threads) {
        block.arrived[member] = 0;
        block.barriers_done[member]++;
        return;
    }
    wait_until(
        "block_sync", [](const Fiber *f, uint64_t at) { return block.barriers_done[f->member] > at; }, mine);
}

void emulated_group_sync(unsigned group, unsigned threads) {
    if (group == 0 || group >= GROUPS_MAX) broken("group_sync: no such group");
    unsigned member = block.running->member;
    uint64_t mine = block.groups_done[member][group];
    block.events++;
    if (++block.group_arrived[member][group] == threads) {
        block.group_arrived[member][group] = 0;
        block.groups_done[member][group]++;
        return;
    }
    wait_until(
        "group_sync",
        [](const Fiber *f, uint64_t at) {
            return block.groups_done[f->member][at % GROUPS_MAX] > at / GROUPS_MAX;
        },
        mine * GROUPS_MAX + group);
}

void emulated_cluster_arrive(void) {
    block.running->cluster_arrivals++;
    block.events++;
}

void emulated_cluster_wait(void) {
    wait_until(
        "cluster_wait",
        [](const Fiber *, uint64_t mine) {
            for (unsigned i = 0; i < block.n_fibers; i++) {
                if (!block.fibers[i].finished && block.fibers[i].cluster_arrivals < mine) return false;
            }
            return true;
        },
        block.running->cluster_arrivals);
}

uint8_t *emulated_cluster_shared(unsigned rank) {
    if (rank * block.n_threads >= block.n_fibers) broken("no such block in the cluster");
    bool runs = false;
    for (unsigned i = 0; i < block.n_threads; i++) {
        runs = runs || !block.fibers[rank * block.n_threads + i].finished;
    }
    if (!runs) broken("reaches into the shared memory of a block that has ended");
    return block.shared[rank];
}

const uint8_t *emulated_warp_gather(const char *name, const void *mine, unsigned size) {
    Fiber *f = block.running;
    Warp *w = &block.warps[f->index / WARP_LANES];
    uint64_t number = f->gathers++;
    unsigned half = (unsigned)(number % 2);
    if (w->arrived[half] == 0) w->name[half] = name;
    else if (w->name[half] != name && strcmp(w->name[half], name) != 0)
        broken("lanes of a warp are at different collectives");
    if (size > EMULATED_LANE_BYTES) broken("gather is too large");
    memcpy(w->lanes[half] + f->thread.thread % WARP_LANES * EMULATED_LANE_BYTES, mine, size);
    block.events++;
    if (++w->arrived[half] == WARP_LANES) {
        w->arrived[half] = 0;
        w->done++;
    } else {
        wait_until(
            name,
            [](const Fiber *fiber, uint64_t n) { return block.warps[fiber->index / WARP_LANES].done > n; },
            number);
    }
    return w->lanes[half];
}

// ---- matrices held by a warp ----

// Arithmetic on the emulator's own arrays, which takes most of the time: the sanitizers have nothing to find
// in it.
#define PLAIN __attribute__((no_sanitize("address", "undefined")))

// Without a branch, so that the compiler makes several at once: of infinities and NaNs the exponent is put right
// afterwards.
PLAIN static inline float number(uint32_t half) {
    uint32_t sign = (half & 0x8000u) << 16;
    int32_t rest = (int32_t)(half & 0x7FFFu) << 13;
    float f = __builtin_bit_cast(float, rest) * 0x1p112f; // the other exponent's bias: exact
    int32_t bits = __builtin_bit_cast(int32_t, f) | (0x7F800000 & -(int32_t)(rest >= 31 << 23));
    return __builtin_bit_cast(float, sign | (uint32_t)bits);
}

PLAIN float emulated_f16_to_f32(uint16_t half) {
    return number(half);
}

// d[0], d[1] of the first row and d[2], d[3] of the second. Four sums at once take half the time of one after
// the other.
PLAIN static inline void add_products(float d[4], const float *row0, const float *row1, const float *col0,
                                      const float *col1) {
    double sum[4] = {d[0], d[1], d[2], d[3]};
    for (unsigned k = 0; k < 16; k++) {
        sum[0] += (double)row0[k] * (double)col0[k];
        sum[1] += (double)row0[k] * (double)col1[k];
        sum[2] += (double)row1[k] * (double)col0[k];
        sum[3] += (double)row1[k] * (double)col1[k];
    }
    for (unsigned i = 0; i < 4; i++) {
        d[i] = (float)sum[i];
    }
}

struct MmaLane {
    uint32_t a[4], b[2];
};

// Groups of four lanes hold rows (columns of b), a lane two neighbours of 16 bits in a register.
PLAIN static void convert(const uint8_t *lanes, float rows[16][16], float cols[8][16]) {
    for (unsigned lane = 0; lane < WARP_LANES; lane++) {
        const MmaLane *l = (const MmaLane *)(lanes + lane * EMULATED_LANE_BYTES);
        unsigned row = lane / 4, at = lane % 4 * 2;
        for (unsigned i = 0; i < 4; i++) {
            float *out = &rows[row + i % 2 * 8][at + i / 2 * 8];
            out[0] = number(l->a[i] & 0xFFFF);
            out[1] = number(l->a[i] >> 16);
        }
        for (unsigned i = 0; i < 2; i++) {
            float *out = &cols[row][at + i * 8];
            out[0] = number(l->b[i] & 0xFFFF);
            out[1] = number(l->b[i] >> 16);
        }
    }
}

void emulated_mma(const char *name, float d[4], const uint32_t a[4], const uint32_t b[2]) {
    MmaLane mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const Fiber *f = block.running;
    Warp *w = &block.warps[f->index / WARP_LANES];
    const uint8_t *lanes = emulated_warp_gather(name, &mine, sizeof mine);
    uint64_t number = f->gathers;
    unsigned half = (unsigned)((number - 1) % 2), lane = f->thread.thread % WARP_LANES;
    if (w->converted[half] != number) convert(lanes, w->rows[half], w->cols[half]);
    w->converted[half] = number;
    unsigned row = lane / 4, col = lane % 4 * 2;
    add_products(d, w->rows[half][row], w->rows[half][row + 8], w->cols[half][col], w->cols[half][col + 1]);
}

PLAIN static void convert_rows(const uint8_t *lanes, unsigned lane, float rows[2][16]) {
    for (unsigned k = 0; k < 8; k += 2) {
        const MmaLane *l = (const MmaLane *)(lanes + (lane / 4 * 4 + k / 2) * EMULATED_LANE_BYTES);
        for (unsigned i = 0; i < 4; i++) {
            float *out = &rows[i % 2][k + i / 2 * 8];
            out[0] = number(l->a[i] & 0xFFFF);
            out[1] = number(l->a[i] >> 16);
        }
    }
}

void emulated_mma_rows(const char *name, const uint32_t a[4], float rows[2][16]) {
    MmaLane mine = {{a[0], a[1], a[2], a[3]}, {0, 0}};
    const uint8_t *lanes = emulated_warp_gather(name, &mine, sizeof mine);
    convert_rows(lanes, block.running->thread.thread % WARP_LANES, rows);
}

PLAIN void emulated_mma_sums(float d[4], const float rows[2][16], const uint16_t cols[2][16]) {
    float numbers[2][16];
    for (unsigned k = 0; k < 16; k++) {
        numbers[0][k] = number(cols[0][k]);
        numbers[1][k] = number(cols[1][k]);
    }
    add_products(d, rows[0], rows[1], numbers[0], numbers[1]);
}

// ---- copies ----

// A copy may arrive at any time from its start to its wait. Here what was in its place is gone at the start
// (NaNs), and what it brings comes in the wait.
static void start_copy(void *to, const void *from, unsigned bytes) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16 || bytes % 16 || bytes == 0)
        broken("copy is not aligned to 16 bytes");
    memset(to, 0xFF, bytes);
}

void emulated_copy_async(void *shared, const void *global, unsigned bytes) {
    Fiber *f = block.running;
    start_copy(shared, global, bytes);
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
    start_copy(shared, global, bytes);
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

void emulated_cluster_store(void *to, const void *value, unsigned bytes, uint64_t *barrier) {
    BulkState *s = bulk_state(barrier);
    if ((uintptr_t)to % bytes) broken("store is not aligned");
    memcpy(to, value, bytes);
    s->bytes -= (int32_t)bytes;
    bulk_settle(s);
}

// Parity p is waited for while the phase under way has that parity.
void emulated_bulk_wait(uint64_t *barrier, unsigned parity) {
    wait_until(
        "bulk_barrier_wait",
        [](const Fiber *, uint64_t at) {
            uint64_t *b = (uint64_t *)(uintptr_t)(at & ~(uint64_t)1);
            if (bulk_state(b)->phase == (at & 1)) bulk_deliver(b);
            return bulk_state(b)->phase != (at & 1);
        },
        (uint64_t)(uintptr_t)barrier | parity);
}

// ---- launching ----

static void run_fibers(bool reversed) {
    for (unsigned left = block.n_fibers; left > 0;) {
        uint64_t before = block.events;
        left = 0;
        for (unsigned i = 0; i < block.n_fibers; i++) {
            Fiber *f = &block.fibers[reversed ? block.n_fibers - 1 - i : i];
            if (f->finished) continue;
            if (!f->waits_for || f->until(f, f->until_value)) enter(f);
            left += !f->finished;
        }
        if (left > 0 && block.events == before) {
            for (unsigned i = 0; i < block.n_fibers; i++) {
                const Fiber *f = &block.fibers[i];
                if (f->finished && i % WARP_LANES) continue;
                fprintf(stderr, "emulator: thread %u %s %s\n", i, f->finished ? "has ended" : "waits at",
                        f->finished ? "" : f->waits_for);
            }
            broken("deadlock: some threads of the block wait for others that will not come");
        }
    }
}

static void make_fiber(unsigned index, unsigned member, EmulatedThread thread) {
    Fiber *f = &block.fibers[index];
    f->thread = thread;
    f->index = index;
    f->member = member;
    f->finished = false;
    f->waits_for = nullptr;
    f->gathers = f->cluster_arrivals = 0;
    f->n_copies = f->n_groups = f->open_copies = 0;
    uint8_t *stack = block.stacks + (size_t)index * STACK_BYTES;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(stack, STACK_BYTES); // the last fiber on it left without returning
#endif
    switch_prepare(&f->context, stack, STACK_BYTES, fiber_main);
}

static uint8_t *make_shared(unsigned size) {
    uint8_t *shared = (uint8_t *)aligned_alloc(1024, (size + 1024u) & ~1023u);
    memset(shared, 0xFF, size); // NaNs
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(shared + size, ((size + 1024u) & ~1023u) - size);
#endif
    return shared;
}

static void free_shared(uint8_t *shared, unsigned size) {
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(shared, (size + 1024u) & ~1023u);
#endif
    (void)size;
    free(shared);
}

// Blocks first … first + together - 1 of the grid.
static void run_blocks(unsigned first, unsigned together, unsigned grid_x, unsigned grid_y,
                       unsigned shared_bytes) {
    block.n_fibers = together * block.n_threads;
    for (unsigned w = 0; w < block.n_fibers / WARP_LANES; w++) {
        Warp *warp = &block.warps[w];
        warp->arrived[0] = warp->arrived[1] = 0;
        warp->converted[0] = warp->converted[1] = warp->done = 0;
    }
    memset(block.group_arrived, 0, sizeof block.group_arrived);
    block.n_bulk = 0;
    for (unsigned m = 0; m < together; m++) {
        unsigned b = first + m;
        block.shared[m] = make_shared(shared_bytes);
        block.arrived[m] = 0;
        for (unsigned t = 0; t < block.n_threads; t++) {
            make_fiber(m * block.n_threads + t, m,
                       {t, b % grid_x, b / grid_x, grid_x, grid_y, block.shared[m], m, together});
        }
    }
    run_fibers(first / together % 2);
    if (block.n_bulk > 0) broken("a block ended with bulk copies that nobody waited for");
    for (unsigned m = 0; m < together; m++) {
        free_shared(block.shared[m], shared_bytes);
    }
}

static void launch(EmulatedKernel *kernel, const void *args, unsigned threads) {
    if (threads == 0 || threads % WARP_LANES) broken("threads of a block");
    if (!block.stacks) {
        block.stacks = (uint8_t *)mmap(nullptr, (size_t)THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (block.stacks == MAP_FAILED) broken("no memory for stacks");
    }
    block.kernel = kernel;
    block.args = args;
    block.n_threads = threads;
}

void emulator_launch(EmulatedKernel *kernel, const void *args, unsigned grid_x, unsigned grid_y,
                     unsigned threads, unsigned shared_bytes) {
    launch(kernel, args, threads);
    if (threads > THREADS_MAX) broken("threads of a block");
    for (unsigned b = 0; b < grid_x * grid_y; b++) {
        run_blocks(b, 1, grid_x, grid_y, shared_bytes);
    }
}

void emulator_launch_clusters(EmulatedKernel *kernel, const void *args, unsigned grid, unsigned cluster,
                              unsigned threads, unsigned shared_bytes) {
    launch(kernel, args, threads);
    if (cluster > 8 || cluster * threads > THREADS_MAX || grid % cluster) broken("clusters");
    for (unsigned b = 0; b < grid; b += cluster) {
        run_blocks(b, cluster, grid, 1, shared_bytes);
    }
}
