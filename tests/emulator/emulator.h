// Runs a kernel's blocks on the CPU, one block after another: the threads of a block are fibers of one
// thread, which switch where a kernel's threads would meet (barriers, shuffles and other collectives of a
// warp, waits for copies).
//
// What it finds, besides wrong results: reads and writes outside shared memory and arguments (under ASan),
// reads of shared memory that nothing wrote (it starts as NaN), collectives that not all lanes of a warp
// reach, barriers that not all threads reach, reads of where an asynchronous copy goes between its start
// (which fills the place with NaN) and its wait (in which it happens), copies that are never waited for or
// are not aligned. Every second block runs its threads in reverse order.
//
// Not found: races between threads that run in an order which happens to work, and (but for blocks launched
// together) what only several blocks at once do. One launch at a time, from one thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void EmulatedKernel(const void *args);

// Calls kernel(args) as every thread of the grid. Ends the process with a message where the kernel breaks a
// rule.
void emulator_launch(EmulatedKernel *kernel, const void *args, unsigned grid_x, unsigned grid_y,
                     unsigned threads, unsigned shared_bytes);

// The same with `cluster` neighbouring blocks at once (KERNEL_OF_CLUSTERS), one cluster after another.
void emulator_launch_clusters(EmulatedKernel *kernel, const void *args, unsigned grid, unsigned cluster,
                              unsigned threads, unsigned shared_bytes);

// ---- what tests/emulator/prelude.h is made of ----

typedef struct {
    unsigned thread, block_x, block_y, grid_x, grid_y;
    uint8_t *shared;
    unsigned cluster_rank, cluster_blocks;
} EmulatedThread;

const EmulatedThread *emulated_thread(void);

void emulated_block_sync(void);
// `threads` threads of the block that name the same group (1 … 15).
void emulated_group_sync(unsigned group, unsigned threads);
// All threads of the cluster that have not ended.
void emulated_cluster_arrive(void);
void emulated_cluster_wait(void);
// The shared memory of block `rank` of the cluster, which must not have ended.
uint8_t *emulated_cluster_shared(unsigned rank);

enum { EMULATED_LANE_BYTES = 32 };
// Every lane of the warp gives `size` bytes and gets a pointer to all 32 lanes' (EMULATED_LANE_BYTES apart),
// valid until its next collective. `name` must be the same in all lanes.
const uint8_t *emulated_warp_gather(const char *name, const void *mine, unsigned size);

float emulated_f16_to_f32(uint16_t half);
// d [16][8] += a [16][16] * b [16][8], f16 with sums in double, spread over a warp's lanes as the PTX ISA
// puts them (mma.m16n8k16): registers of this lane. A collective of the warp.
void emulated_mma(const char *name, float d[4], const uint32_t a[4], const uint32_t b[2]);
// Its two halves, for products whose b is in memory: this lane's rows of a (lane / 4 and lane / 4 + 8; the
// collective), and the sums of them with two columns. The same bits as emulated_mma.
void emulated_mma_rows(const char *name, const uint32_t a[4], float rows[2][16]);
void emulated_mma_sums(float d[4], const float rows[2][16], const uint16_t cols[2][16]);

// cp.async: copies of this thread in groups, done in the wait.
void emulated_copy_async(void *shared, const void *global, unsigned bytes);
void emulated_copy_async_commit(void);
void emulated_copy_async_wait(unsigned pending);

// mbarrier and cp.async.bulk: the copies of a barrier are done when it is first waited for.
void emulated_bulk_init(uint64_t *barrier, unsigned arrivals);
void emulated_bulk_expect(uint64_t *barrier, unsigned bytes);
void emulated_bulk_copy(void *shared, const void *global, unsigned bytes, uint64_t *barrier);
void emulated_bulk_wait(uint64_t *barrier, unsigned parity);
// st.async: `bytes` of a value to another block of the cluster, counted at that block's barrier.
void emulated_cluster_store(void *to, const void *value, unsigned bytes, uint64_t *barrier);

// Ends the process with the message unless `holds`.
void emulated_check(bool holds, const char *message);

#ifdef __cplusplus
}
#endif
