// What every kernel program begins with: types, the machine's instructions as functions, and nothing else.
//
// A program is this file, layout.h and the stage's files one after the other, with the stage's #defines in
// front; no header is included. tests/emulator/prelude.h has the same functions as plain C++, so a kernel
// that uses only what is declared here also runs on a CPU. Instructions are those of the PTX ISA, named in
// each comment.
//
// Sums and products. Kernels are compiled without contraction (--fmad=false): a * b + c is rounded twice.
// fma_f32(a, b, c), which is rounded once, is written where it is meant. So the source alone says how a sum
// is rounded, whatever else the compiler sees. The emulator is compiled the same way.
//
// SM_ARCH: 75 … 90, the oldest GPU the code is for (the compiler's __CUDA_ARCH__ / 10).
#ifndef __CUDA_ARCH__
#define SM_ARCH 90 // nvcc's host pass: nothing of it is run
#else
#define SM_ARCH (__CUDA_ARCH__ / 10)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef u16 f16;  // IEEE binary16, as bits
typedef u16 bf16; // bfloat16, as bits

#define DEVICE __device__ __forceinline__
// A function that is compiled once and called, where a copy in each place would take long to compile. (It
// sees no more of its arguments' memory than that they are addresses.)
#define DEVICE_CALLED __device__ __noinline__
#define KERNEL(threads, blocks_per_sm) extern "C" __global__ void __launch_bounds__(threads, blocks_per_sm)
// Whose blocks are in clusters of `cluster` neighbours (sm_90): the grid is a multiple of it.
#define KERNEL_OF_CLUSTERS(threads, blocks_per_sm, cluster) \
    extern "C" __global__ void __cluster_dims__(cluster, 1, 1) __launch_bounds__(threads, blocks_per_sm)
// A table that the host reads out of the compiled module by its name.
#define EXPORTED extern "C" __device__ const

enum : u32 { WARP = 32, ALL_LANES = 0xFFFFFFFFu };

// ---- where am I ----

DEVICE u32 thread_index() {
    return threadIdx.x;
}
DEVICE u32 lane_index() {
    return threadIdx.x % WARP;
}
DEVICE u32 warp_index() {
    return threadIdx.x / WARP;
}
DEVICE u32 block_index() {
    return blockIdx.x;
}
DEVICE u32 block_index_y() {
    return blockIdx.y;
}
DEVICE u32 block_count() {
    return gridDim.x;
}

// The block's dynamic shared memory, aligned to 1,024 bytes.
extern __shared__ __align__(1024) u8 shared_bytes[];
DEVICE u8 *shared_memory() {
    return shared_bytes;
}
// Shared-memory address of a pointer into it, as the instructions below want it.
DEVICE u32 shared_address(const void *p) {
    return (u32)__cvta_generic_to_shared(p);
}

// ---- meeting other threads ----

DEVICE void block_sync() {
    __syncthreads();
}
DEVICE void warp_sync() {
    __syncwarp();
}
DEVICE float shuffle_xor(float v, u32 mask) {
    return __shfl_xor_sync(ALL_LANES, v, mask);
}
DEVICE i32 shuffle_xor(i32 v, u32 mask) {
    return __shfl_xor_sync(ALL_LANES, v, mask);
}
DEVICE u32 shuffle_xor(u32 v, u32 mask) {
    return __shfl_xor_sync(ALL_LANES, v, mask);
}
DEVICE u64 shuffle_xor(u64 v, u32 mask) {
    return __shfl_xor_sync(ALL_LANES, v, mask);
}
DEVICE float shuffle(float v, u32 lane) {
    return __shfl_sync(ALL_LANES, v, lane);
}
DEVICE u32 shuffle(u32 v, u32 lane) {
    return __shfl_sync(ALL_LANES, v, lane);
}
DEVICE i32 shuffle(i32 v, u32 lane) {
    return __shfl_sync(ALL_LANES, v, lane);
}
// The warp's number, which the compiler sees to be the same in all lanes: then slots and addresses of a loop
// are the warp's, too, and not the lanes'. (This, and two pairs at once, in product_many.cuh: gate and up of
// 8B 21.6 us instead of 24.8 with 16 rows, its head 164 instead of 208 with 64.)
DEVICE u32 uniform_warp() {
    return shuffle(thread_index() / WARP, 0u);
}
DEVICE u64 shuffle(u64 v, u32 lane) {
    return __shfl_sync(ALL_LANES, v, lane);
}
// The value `delta` lanes below; the first `delta` lanes get their own.
DEVICE u64 shuffle_up(u64 v, u32 delta) {
    return __shfl_up_sync(ALL_LANES, v, delta);
}
DEVICE u32 shuffle_up(u32 v, u32 delta) {
    return __shfl_up_sync(ALL_LANES, v, delta);
}
DEVICE u32 ballot_lanes(bool predicate) {
    return __ballot_sync(ALL_LANES, predicate);
}

#if SM_ARCH >= 90
// True in one lane of the warp (elect). The compiler knows of this branch that it has one lane: bulk copies,
// whose addresses are the warp's, need no loop over lanes there.
DEVICE bool is_elected() {
    u32 elected;
    asm volatile("{\n\t.reg .pred p;\n\telect.sync _|p, 0xFFFFFFFF;\n\tselp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(elected));
    return elected != 0;
}
#endif

// The largest of the warp's (redux, sm_80).
DEVICE u32 warp_max(u32 v) {
#if SM_ARCH >= 80
    return __reduce_max_sync(ALL_LANES, v);
#else
    for (u32 m = 16; m > 0; m /= 2) {
        u32 other = shuffle_xor(v, m);
        v = other > v ? other : v;
    }
    return v;
#endif
}

// `threads` threads of the block meet, those that name the same `group` (1 … 15): whole warps.
DEVICE void group_sync(u32 group, u32 threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(group), "r"(threads) : "memory");
}

// ---- the multiprocessor that the block runs on, its clock, and the GPU's time ----

DEVICE u32 multiprocessor_index() {
    u32 m;
    asm("mov.u32 %0, %%smid;" : "=r"(m));
    return m;
}
DEVICE u64 clock_cycles() {
    u64 cycles;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(cycles));
    return cycles;
}
DEVICE u64 global_time_ns() {
    u64 ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

#if SM_ARCH >= 90
// ---- clusters: neighbouring blocks that run at the same time and reach each other's shared memory ----

DEVICE u32 cluster_rank() {
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
// Blocks of this one's cluster; 1 where it was launched without.
DEVICE u32 cluster_blocks() {
    u32 n;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(n));
    return n;
}
// All threads of the cluster's blocks that have not ended meet, and see what the others wrote before, also in
// each other's shared memory. No block may end while another one may still reach into its shared memory.
DEVICE void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
DEVICE void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
DEVICE void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
// The same before they end: nothing that was written is for the others.
DEVICE void cluster_end() {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    cluster_wait();
}
// Where a place of this block's shared memory is in that of block `rank` of the cluster (shared::cluster).
typedef u32 ClusterAddress;
DEVICE ClusterAddress cluster_address(const void *shared, u32 rank) {
    u32 a;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(a) : "r"(shared_address(shared)), "r"(rank));
    return a;
}
DEVICE float4 cluster_load(ClusterAddress a) {
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(a)
                 : "memory");
    return v;
}
#endif

// True in all threads of the block that comes here last, which sees what the other blocks wrote before.
// *counter is 0 before and after; *is_last is in shared memory.
DEVICE bool is_last_block(u32 *counter, u32 *is_last) {
    block_sync();
    if (threadIdx.x == 0) {
        __threadfence();
        *is_last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
        __threadfence();
    }
    block_sync();
    return *is_last != 0;
}

// The same of blocks that come n at a time, until `total` is reached; by one atomic that releases and
// acquires.
DEVICE bool is_last_arrival(u32 *counter, u32 n, u32 total, u32 *is_last) {
    block_sync();
    if (threadIdx.x == 0) {
        u32 before;
        asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                     : "=r"(before)
                     : "l"(counter), "r"(n)
                     : "memory");
        *is_last = before + n == total;
        if (*is_last) *counter = 0;
    }
    block_sync();
    return *is_last != 0;
}

// The same of warps, each for itself.
DEVICE bool is_last_warp_arrival(u32 *counter, u32 n, u32 total) {
    u32 is_last = 0;
    __syncwarp();
    if (threadIdx.x % WARP == 0) {
        u32 before;
        asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
                     : "=r"(before)
                     : "l"(counter), "r"(n)
                     : "memory");
        is_last = before + n == total;
        if (is_last) *counter = 0;
    }
    return __shfl_sync(ALL_LANES, is_last, 0) != 0;
}

// True in all lanes of the last of `n` warps that come here, each in a block of its own; it sees what the
// others' blocks wrote before (what other warps of those wrote: if they had met). *counter is 0 before and
// after.
DEVICE bool is_last_warp(u32 *counter, u32 n) {
    u32 last = 0;
    __syncwarp();
    if (threadIdx.x % WARP == 0) {
        __threadfence();
        last = atomicInc(counter, n - 1) == n - 1;
        __threadfence();
    }
    return __shfl_sync(ALL_LANES, last, 0) != 0;
}

// True in the last of `n` threads that come here; it sees what the others' blocks wrote before, if their
// blocks had met. *counter is 0 before and after.
DEVICE bool is_last_thread(u32 *counter, u32 n) {
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(counter), "r"(n - 1)
                 : "memory");
    return before == n - 1;
}

// ---- programmatic dependent launch (sm_90) ----

// Blocks until the stages that this one depends on are complete and their writes visible. Nothing that an
// earlier stage of the same step writes may be read before it.
DEVICE void stage_wait() {
#if SM_ARCH >= 90
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the next stage's blocks start (up to their own stage_wait).
DEVICE void stage_launch_next() {
#if SM_ARCH >= 90
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- bits ----

DEVICE u32 bits_of(float v) {
    return __float_as_uint(v);
}
DEVICE float float_of(u32 bits) {
    return __uint_as_float(bits);
}
DEVICE u32 count_ones(u32 v) {
    return (u32)__popc((i32)v);
}
DEVICE u32 multiply_high(u32 a, u32 b) {
    return __umulhi(a, b);
}
DEVICE u64 multiply_high(u64 a, u64 b) {
    return __umul64hi(a, b);
}

// ---- numbers ----

DEVICE float f16_to_f32(f16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
// Round to nearest even.
DEVICE f16 f32_to_f16(float f) {
    f16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
DEVICE float bf16_to_f32(bf16 h) {
    return float_of((u32)h << 16);
}
// Two halves in one register, `low` in the low bits.
DEVICE u32 pack_f16(float low, float high) {
    return (u32)f32_to_f16(low) | (u32)f32_to_f16(high) << 16;
}
// c + the sum of four products of bytes: signed with signed, and unsigned with signed.
DEVICE i32 dp4a(u32 a, u32 b, i32 c) {
    i32 d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
DEVICE float fma_f32(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}
DEVICE float max_f32(float a, float b) {
    return fmaxf(a, b);
}
#define INFINITY_F32 float_of(0x7F800000u)
DEVICE bool is_number(float v) { // neither infinite nor NaN
    return (bits_of(v) & 0x7F800000u) != 0x7F800000u;
}
DEVICE float exp2_fast(float x) { // ex2.approx: 2 units in the last place; 0 for -infinity
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float exp_f32(float x) {
    return expf(x);
}
DEVICE float log_f32(float x) {
    return logf(x);
}
DEVICE float tanh_f32(float x) {
    return tanhf(x);
}
DEVICE float erf_f32(float x) {
    return erff(x);
}
// Rounded as IEEE 754 says; about 10 instructions and a slow path each.
DEVICE float divide_f32(float a, float b) {
    return __fdiv_rn(a, b);
}
// One instruction each, within 2 units in the last place (rcp.approx, rsqrt.approx): the same bits on every
// run, which is what matters where a scale is only multiplied with.
DEVICE float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float reciprocal_sqrt_fast(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE void sin_cos_f32(float x, float *s, float *c) {
    sincosf(x, s, c);
}

// ---- memory ----

// Loads that come from the L2: for what an earlier stage of the same step wrote (the L1 is not coherent).
DEVICE float load_shared_data(const float *p) {
    return __ldcg(p);
}
DEVICE float2 load_shared_data(const float2 *p) {
    return __ldcg(p);
}
DEVICE float4 load_shared_data(const float4 *p) {
    return __ldcg(p);
}
DEVICE u32 load_shared_data(const u32 *p) {
    return __ldcg(p);
}
DEVICE u64 load_shared_data(const u64 *p) {
    return __ldcg(p);
}
DEVICE i32 load_shared_data(const i32 *p) {
    return __ldcg(p);
}
DEVICE uint2 load_shared_data(const uint2 *p) {
    return __ldcg(p);
}
DEVICE uint4 load_shared_data(const uint4 *p) {
    return __ldcg(p);
}
// Asks for the 128 bytes around p to be brought into the L2.
DEVICE void prefetch_l2(const void *p) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
// Integer atomics alone: their result does not depend on the order.
DEVICE void atomic_add(u32 *p, u32 v) {
    atomicAdd(p, v);
}
DEVICE void atomic_add(u64 *p, u64 v) {
    atomicAdd(p, v);
}
// Returns what was there before: places of a list, say, in no order.
DEVICE u32 atomic_take(u32 *p, u32 v) {
    return atomicAdd(p, v);
}

// ---- asynchronous copies into shared memory ----

// 16 bytes (cp.async.cg, sm_80); on sm_75 an ordinary copy.
DEVICE void copy_async_16(void *shared, const void *global) {
#if SM_ARCH >= 80
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global)
                 : "memory");
#else
    *(uint4 *)shared = *(const uint4 *)global;
#endif
}
// Ends a group of this thread's copies.
DEVICE void copy_async_commit() {
#if SM_ARCH >= 80
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `pending` of this thread's groups are still under way.
template <int pending> DEVICE void copy_async_wait() {
#if SM_ARCH >= 80
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

#if SM_ARCH >= 90
// A barrier in shared memory that counts arrivals and bytes (mbarrier, sm_90).
typedef u64 BulkBarrier;

DEVICE void bulk_barrier_init(BulkBarrier *b, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals)
                 : "memory");
}
// After the inits, before the first copy of the same thread.
DEVICE void bulk_barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// One arrival, and `bytes` more to come in this phase.
DEVICE void bulk_barrier_expect(BulkBarrier *b, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
                 : "memory");
}
// One arrival.
DEVICE void bulk_barrier_arrive(BulkBarrier *b) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
// Waits for the end of the phase of that parity (the first phase has parity 0).
DEVICE void bulk_barrier_wait(BulkBarrier *b, u32 parity) {
    asm volatile("{\n\t.reg .pred done;\n\t"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
                 "@!done bra again;\n\t}" ::"r"(shared_address(b)),
                 "r"(parity)
                 : "memory");
}
// The same for what other blocks of the cluster store (cluster_store).
DEVICE void bulk_barrier_wait_cluster(BulkBarrier *b, u32 parity) {
    asm volatile("{\n\t.reg .pred done;\n\t"
                 "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n\t"
                 "@!done bra again;\n\t}" ::"r"(shared_address(b)),
                 "r"(parity)
                 : "memory");
}
// Stores to shared memory of a block of the cluster, and counts the 16 bytes at a barrier of the same block
// (st.async).
DEVICE void cluster_store(ClusterAddress to, float4 v, ClusterAddress barrier) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1,%2,%3,%4}, [%5];" ::"r"(
            to),
        "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier)
        : "memory");
}
// The same of 4 bytes.
DEVICE void cluster_store(ClusterAddress to, float v, ClusterAddress barrier) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(to),
                 "f"(v), "r"(barrier)
                 : "memory");
}
// After a thread's own stores to shared memory, before a bulk copy that will take their place.
DEVICE void bulk_copy_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// `bytes` (a multiple of 16, both addresses aligned to 16) to shared memory by the copy engine
// (cp.async.bulk).
DEVICE void bulk_copy(void *shared, const void *global, u32 bytes, BulkBarrier *b) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(b))
        : "memory");
}
// The same for what is read once in a step: the L2 gives it up before anything else.
DEVICE void bulk_copy_once(void *shared, const void *global, u32 bytes, BulkBarrier *b) {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
        "[%3], %4;" ::"r"(shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(b)), "l"(policy)
        : "memory");
}
// bulk_copy to the same place of the cluster's first `blocks` blocks; the barrier in the place of `b` counts
// it in each.
DEVICE void bulk_copy_to_all(void *shared, const void *global, u32 bytes, BulkBarrier *b, u32 blocks) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
                 "[%1], %2, [%3], %4;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(b)), "h"((u16)((1u << blocks) - 1))
                 : "memory");
}
// One arrival at the barrier in the same place of block `rank` of the cluster, by which that block is told
// that something has been read, not that something was written: it orders what this block's threads see
// alone (.release.cta, the default; .relaxed.cluster is the same instruction, from PTX ISA 8.6 on). With
// .release.cluster it is behind a MEMBAR.ALL.GPU, which waits for all that the warp has under way.
DEVICE void bulk_barrier_arrive_at(BulkBarrier *b, u32 rank) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(cluster_address(b, rank)) : "memory");
}
#endif

// ---- matrices held by a warp (fragment layouts: PTX ISA, "Matrix Fragments for mma") ----

// d[16][8] += a[16][16] b[16][8], f16 inputs, f32 sums. a: 4 registers, b: 2, d: 4.
DEVICE void mma_f16(float d[4], const u32 a[4], const u32 b[2]) {
#if SM_ARCH >= 80
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}
#if SM_ARCH >= 80
#endif
// Four 8x8 matrices of 16-bit elements from shared memory; lane i gives the address of row i % 8 of matrix i
// / 8.
DEVICE void load_matrix_4(u32 d[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The first column alone of two operands b of mma_f16: 16 bytes of shared memory for each of the lanes 0 … 3.
// The other lanes keep what they have.
DEVICE void load_column(u32 b[4], const void *shared) {
    asm volatile("{\n\t.reg .pred has;\n\tsetp.lt.u32 has, %5, 4;\n\t"
                 "@has ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];\n\t}"
                 : "+r"(b[0]), "+r"(b[1]), "+r"(b[2]), "+r"(b[3])
                 : "r"(shared_address(shared)), "r"(threadIdx.x % WARP)
                 : "memory");
}
DEVICE void load_matrix_4_transposed(u32 d[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}
#if SM_ARCH >= 90
// Two such matrices to shared memory, each column as a row there: lanes 0 … 15 give their addresses. (Of d of
// a product: 8 rows and 8 columns of it, rounded to f16.)
DEVICE void store_matrix_2_transposed(void *row, u32 a, u32 b) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(shared_address(row)),
                 "r"(a), "r"(b)
                 : "memory");
}
#endif

// ---- two f16 in a register ----

// Two halves in each register.
DEVICE u32 add_f16x2(u32 a, u32 b) {
    u32 d;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
DEVICE u32 multiply_f16x2(u32 a, u32 b) {
    u32 d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) {
    u32 d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
// {low of v, low of v} and {high of v, high of v}. As an operand of the three above they cost nothing.
DEVICE u32 low_f16x2(u32 v) {
    u32 d;
    asm("{\n\t.reg .f16 low, high;\n\tmov.b32 {low, high}, %1;\n\tmov.b32 %0, {low, low};\n\t}"
        : "=r"(d)
        : "r"(v));
    return d;
}
DEVICE u32 high_f16x2(u32 v) {
    u32 d;
    asm("{\n\t.reg .f16 low, high;\n\tmov.b32 {low, high}, %1;\n\tmov.b32 %0, {high, high};\n\t}"
        : "=r"(d)
        : "r"(v));
    return d;
}
// Bytes of (b:a): nibble i of `selector` names the one that becomes byte i (prmt).
DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
    return __byte_perm(a, b, selector);
}
// A constant that stays in a register of each thread. The compiler keeps constants in one of the warp, from
// where table lookups move them each time: 16 of 92 instructions a block of MXFP4. It cannot know that two
// masks of lanes have no lane in common.
DEVICE u32 in_register(u32 constant) {
    u32 own, below;
    asm("mov.u32 %0, %%lanemask_eq;" : "=r"(own));
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    return constant | (own & below);
}
// Four bytes out of a table of eight (b:a): nibble k of `codes` selects byte k of the result by its low three
// bits. Where its highest bit is set, the byte is the selected one's highest bit eight times (prmt).
DEVICE u32 look_up_bytes(u32 a, u32 b, u32 codes) {
    u32 d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(codes));
    return d;
}

// v. Nothing of it is worked out before this, so not ahead of the branch that this is in.
DEVICE u32 not_before(u32 v) {
    asm volatile("" : "+r"(v));
    return v;
}
DEVICE float not_before(float v) {
    asm volatile("" : "+f"(v));
    return v;
}

// A place in shared memory, in a register: of a pointer the compiler makes it again, of its parts, each time.
typedef u32 SharedPlace;
DEVICE SharedPlace shared_place(const void *p) {
    return in_register(shared_address(p));
}
// What lies so many bytes behind it; of what no thread changes any more.
DEVICE u32 load_shared_16(SharedPlace p, u32 bytes) {
    u16 v;
    asm("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(p + bytes));
    return v;
}
DEVICE u32 load_shared_32(SharedPlace p, u32 bytes) {
    u32 v;
    asm("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(p + bytes));
    return v;
}
DEVICE uint2 load_shared_64(SharedPlace p, u32 bytes) {
    uint2 v;
    asm("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(p + bytes));
    return v;
}

// HAS_WGMMA: products of four warps with an operand in shared memory. Not every GPU from sm_90 on has them:
// sm_90a.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define HAS_WGMMA 1
#else
#define HAS_WGMMA 0
#endif

#if HAS_WGMMA
// Leaves this warp n registers a lane of those that the launch gave it, or waits for n that others left
// (setmaxnreg); all four warps of a warpgroup.
template <u32 n> DEVICE void registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
template <u32 n> DEVICE void registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}

// Rows of 64 halves in shared memory, swizzled in units of 16 bytes (layout.h), the first one aligned to
// 1,024 bytes.
struct MatrixRows {
    u64 descriptor; // PTX ISA, "Matrix descriptor": address, 1,024 bytes from 8 rows to the next 8, 128-byte
                    // swizzle
};
DEVICE MatrixRows matrix_rows(const void *shared) {
    return {(u64)(shared_address(shared) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62};
}
// Before the first product after registers of d or a were written.
DEVICE void warpgroup_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Ends a group of this warpgroup's products.
DEVICE void warpgroup_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `pending` groups are under way: until then their registers must not be touched.
template <int pending> DEVICE void warpgroup_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Keeps the compiler from moving uses of d past this point.
template <u32 n> DEVICE void warpgroup_keep(float d[n]) {
#pragma unroll
    for (u32 i = 0; i < n; i++) {
        asm volatile("" : "+f"(d[i])::"memory");
    }
}

// d[64][n] += a[64][64] b[64][n], f16 inputs, f32 sums (wgmma): warp w of the four has the rows 16 w … of a
// and d, each in the fragments of mma_f16: a in four steps of 16 columns, d n / 8 of them side by side; b's
// columns are rows in shared memory. (All four steps in one statement: with one each, this compiled for a
// third longer.)
template <u32 n> DEVICE void warpgroup_multiply(float *d, const u32 a[4][4], MatrixRows b);

// Half of it: d[64][n] = or += a[64][32] b[32][n] with columns 32 * half … of the sheet. begin: d is
// overwritten, as if it had been 0. (For rows of weights that are taken apart while others are multiplied: 16
// registers for the operand in two turns, not 32.)
template <u32 n>
DEVICE void warpgroup_multiply_half(float *d, const u32 a[2][4], MatrixRows b, u32 half, bool begin);

// Of the instructions: registers %0 … of d as text and as operands; a's follow them, then the descriptor.
#define WGMMA_SUMS_16 "{%0,%1,%2,%3,%4,%5,%6,%7}"
#define WGMMA_SUMS_32 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define WGMMA_SUMS_40 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19}"
#define WGMMA_SUMS_64                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26," \
    "%27,%28,%29,%30,%31}"
#define WGMMA_SUMS_96                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26," \
    "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47}"
#define WGMMA_SUMS_128                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"  \
    "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51," \
    "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define WGMMA_SUMS_256                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"  \
    "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51," \
    "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76," \
    "%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,"    \
    "%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120," \
    "%121,%122,%123,%124,%125,%126,%127}"
#define WGMMA_D8(d, i)                                                                          \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define WGMMA_D4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_D32(d, i) WGMMA_D8(d, i), WGMMA_D8(d, i + 8), WGMMA_D8(d, i + 16), WGMMA_D8(d, i + 24)
#define WGMMA_D_16(d) WGMMA_D8(d, 0)
#define WGMMA_D_32(d) WGMMA_D8(d, 0), WGMMA_D8(d, 8)
#define WGMMA_D_40(d) WGMMA_D8(d, 0), WGMMA_D8(d, 8), WGMMA_D4(d, 16)
#define WGMMA_D_64(d) WGMMA_D32(d, 0)
#define WGMMA_D_96(d) WGMMA_D32(d, 0), WGMMA_D8(d, 32), WGMMA_D8(d, 40)
#define WGMMA_D_128(d) WGMMA_D32(d, 0), WGMMA_D32(d, 32)
#define WGMMA_D_256(d) WGMMA_D_128(d), WGMMA_D32(d, 64), WGMMA_D32(d, 96)
#define WGMMA_A(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
// A step: registers of a, and the descriptor (16 columns are 32 bytes, counted in units of 16).
#define WGMMA_STEP(n, a0, a1, a2, a3, b)                                     \
    "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 " WGMMA_SUMS_##n \
        ", {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, " b ", p, 1, 1, 0;\n\t"
#define WARPGROUP_MULTIPLY(n, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, b)     \
    template <> DEVICE void warpgroup_multiply<n>(float *d, const u32 a[4][4], MatrixRows m) {             \
        asm volatile("{\n\t.reg .pred p;\n\t.reg .b64 b1, b2, b3;\n\tsetp.ne.b32 p, 1, 0;\n\t"             \
                     "add.s64 b1, %" #b ", 2;\n\tadd.s64 b2, %" #b ", 4;\n\tadd.s64 b3, %" #b              \
                     ", 6;\n\t" WGMMA_STEP(n, a0, a1, a2, a3, "%" #b) WGMMA_STEP(n, a4, a5, a6, a7, "b1")  \
                         WGMMA_STEP(n, a8, a9, a10, a11, "b2") WGMMA_STEP(n, a12, a13, a14, a15, "b3") "}" \
                     : WGMMA_D_##n(d)                                                                      \
                     : WGMMA_A(a[0]), WGMMA_A(a[1]), WGMMA_A(a[2]), WGMMA_A(a[3]), "l"(m.descriptor)       \
                     : "memory");                                                                          \
    }
WARPGROUP_MULTIPLY(64, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48)
WARPGROUP_MULTIPLY(128, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80)
WARPGROUP_MULTIPLY(256, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144)

// (The descriptor's upper half is a constant: of the lower one 32-bit sums are enough.)
#define WARPGROUP_MULTIPLY_HALF(n, a0, a1, a2, a3, a4, a5, a6, a7, b, add)                                  \
    template <>                                                                                             \
    DEVICE void warpgroup_multiply_half<n>(float *d, const u32 a[2][4], MatrixRows m, u32 half,             \
                                           bool begin) {                                                    \
        asm volatile(                                                                                       \
            "{\n\t.reg .pred p;\n\t.reg .b32 low;\n\t.reg .b64 b0, b1;\n\tsetp.ne.b32 p, %" #add            \
            ", 0;\n\tmov.b64 b0, {%" #b ", 0x40000040};\n\tadd.u32 low, %" #b                               \
            ", 2;\n\tmov.b64 b1, {low, 0x40000040};\n\t" WGMMA_STEP(                                        \
                n, a0, a1, a2, a3, "b0") "setp.ne.b32 p, 1, 0;\n\t" WGMMA_STEP(n, a4, a5, a6, a7, "b1") "}" \
            : WGMMA_D_##n(d)                                                                                \
            : WGMMA_A(a[0]), WGMMA_A(a[1]), "r"((u32)m.descriptor + half * 4), "r"(begin ? 0u : 1u)         \
            : "memory");                                                                                    \
    }
WARPGROUP_MULTIPLY_HALF(16, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
WARPGROUP_MULTIPLY_HALF(32, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25)
WARPGROUP_MULTIPLY_HALF(64, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41)
WARPGROUP_MULTIPLY_HALF(128, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73)

// Rows of dims as the cache has them (layout_kv_at): eights of rows, `eight_bytes` from one to the next, in
// sheets of 64, 32 or 16 dims, those of an eight one after the other. (LBO: from sheet to sheet, where rows
// are what is summed over; SBO: from eight to eight. Swizzles of 128, 64, 32 bytes are 1, 2, 3.)
DEVICE MatrixRows matrix_eights(const void *shared, u32 sheet_dims, u32 eight_bytes) {
    u64 swizzle = sheet_dims == 64 ? 1 : sheet_dims == 32 ? 2 : 3;
    return {(u64)(shared_address(shared) >> 4) | (u64)sheet_dims << 16 | (u64)(eight_bytes >> 4) << 32 |
            swizzle << 62};
}
// `bytes` on, in whole sheets of an eight or in whole steps of 16 dims of a sheet.
DEVICE MatrixRows matrix_on(MatrixRows m, u32 bytes) {
    return {m.descriptor + (bytes >> 4)};
}

// d[64][n] = or += a[64][16] b[n][16]^T: 16 dims of rows in shared memory, both (matrix_eights). begin: d is
// overwritten. a_columns: a is 16 rows of 64 dims, which are d's rows (a sheet of 64; SBO: from eight to
// eight).
template <u32 n, bool begin, bool a_columns> struct MultiplyShared;
#define WARPGROUP_MULTIPLY_SHARED(n, a, b, add, columns)                                          \
    template <bool begin, bool a_columns> struct MultiplyShared<n, begin, a_columns> {            \
        static DEVICE void run(float *d, MatrixRows m, MatrixRows other) {                        \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 " WGMMA_SUMS_##n \
                         ", %" #a ", %" #b ", %" #add ", 1, 1, %" #columns ", 0;"                 \
                         : WGMMA_D_##n(d)                                                         \
                         : "l"(m.descriptor), "l"(other.descriptor), "n"(begin ? 0 : 1),          \
                           "n"(a_columns ? 1 : 0)                                                 \
                         : "memory");                                                             \
        }                                                                                         \
    };
WARPGROUP_MULTIPLY_SHARED(32, 16, 17, 18, 19)
WARPGROUP_MULTIPLY_SHARED(40, 20, 21, 22, 23)
WARPGROUP_MULTIPLY_SHARED(128, 64, 65, 66, 67)
template <u32 n, bool begin> DEVICE void warpgroup_multiply_rows(float *d, MatrixRows a, MatrixRows b) {
    MultiplyShared<n, begin, false>::run(d, a, b);
}
template <u32 n, bool begin> DEVICE void warpgroup_multiply_columns(float *d, MatrixRows a, MatrixRows b) {
    MultiplyShared<n, begin, true>::run(d, a, b);
}

// d[64][n] = or += a[64][16] b[16][n]: 16 rows of n dims in shared memory (matrix_eights); a: as mma_f16.
template <u32 n, bool begin> struct MultiplyByRows;
#define WARPGROUP_MULTIPLY_BY_ROWS(n, a0, a1, a2, a3, b, add)                                     \
    template <bool begin> struct MultiplyByRows<n, begin> {                                       \
        static DEVICE void run(float *d, const u32 a[4], MatrixRows m) {                          \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 " WGMMA_SUMS_##n \
                         ", {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #b ", %" #add ", 1, 1, 1;"  \
                         : WGMMA_D_##n(d)                                                         \
                         : WGMMA_A(a), "l"(m.descriptor), "n"(begin ? 0 : 1)                      \
                         : "memory");                                                             \
        }                                                                                         \
    };
WARPGROUP_MULTIPLY_BY_ROWS(64, 32, 33, 34, 35, 36, 37)
WARPGROUP_MULTIPLY_BY_ROWS(96, 48, 49, 50, 51, 52, 53)
WARPGROUP_MULTIPLY_BY_ROWS(128, 64, 65, 66, 67, 68, 69)
template <u32 n, bool begin> DEVICE void warpgroup_multiply_by_rows(float *d, const u32 a[4], MatrixRows b) {
    MultiplyByRows<n, begin>::run(d, a, b);
}
#endif
