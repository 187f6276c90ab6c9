// The functions of kernels_src/prelude.cuh as plain C++ on the emulator: the same names, types and results.
//
// Differences that tests must allow for: exp2_fast and the fast reciprocals are exact here, and sums of mma
// are made in another order. SM_ARCH may be set before this file is included, to run the code paths of older
// GPUs.
#pragma once

#include "emulator.h"

#include <stddef.h>
#include <string.h>

#ifndef SM_ARCH
#define SM_ARCH 90
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef long long i64;
typedef u16 f16;
typedef u16 bf16;

struct alignas(8) uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

#define DEVICE inline __attribute__((unused))
#define DEVICE_CALLED inline __attribute__((unused))
#define KERNEL(threads, blocks_per_sm) inline __attribute__((unused)) void
#define KERNEL_OF_CLUSTERS(threads, blocks_per_sm, cluster) inline __attribute__((unused)) void
#define EXPORTED __attribute__((unused)) const

// Everything is this file's own: another file may have the same functions for another SM_ARCH.
extern "C" uint16_t f16_from_f32(float value); // src/base/f16.c
// Of <math.h>, which is 17,000 lines in C++ and takes longer to read than all of a kernel.
extern "C" {
float fmaf(float a, float b, float c);
float fmaxf(float a, float b);
float exp2f(float x);
float expf(float x);
float logf(float x);
float tanhf(float x);
float erff(float x);
float sqrtf(float x);
float sinf(float x);
float cosf(float x);
}
namespace {

enum : u32 { WARP = 32, ALL_LANES = 0xFFFFFFFFu };

// ---- where am I ----

DEVICE u32 thread_index() {
    return emulated_thread()->thread;
}
DEVICE u32 lane_index() {
    return emulated_thread()->thread % WARP;
}
DEVICE u32 warp_index() {
    return emulated_thread()->thread / WARP;
}
DEVICE u32 block_index() {
    return emulated_thread()->block_x;
}
DEVICE u32 block_index_y() {
    return emulated_thread()->block_y;
}
DEVICE u32 block_count() {
    return emulated_thread()->grid_x;
}
DEVICE u8 *shared_memory() {
    return emulated_thread()->shared;
}

// ---- meeting other threads ----

DEVICE void block_sync() {
    emulated_block_sync();
}
DEVICE void warp_sync() {
    emulated_warp_gather("warp_sync", "", 1);
}
template <class T> DEVICE T shuffle_from(const char *name, T v, u32 lane) {
    T out;
    memcpy(&out, emulated_warp_gather(name, &v, sizeof v) + lane % WARP * EMULATED_LANE_BYTES, sizeof out);
    return out;
}
template <class T> DEVICE T shuffle_xor(T v, u32 mask) {
    return shuffle_from("shuffle_xor", v, lane_index() ^ mask);
}
template <class T> DEVICE T shuffle(T v, u32 lane) {
    return shuffle_from("shuffle", v, lane);
}
DEVICE u32 uniform_warp() {
    return shuffle(thread_index() / WARP, 0u);
}
template <class T> DEVICE T shuffle_up(T v, u32 delta) {
    u32 lane = lane_index();
    return shuffle_from("shuffle_up", v, lane < delta ? lane : lane - delta);
}
DEVICE u32 warp_max(u32 v) {
    const u8 *all = emulated_warp_gather("warp_max", &v, sizeof v);
    for (u32 i = 0; i < WARP; i++) {
        u32 other;
        memcpy(&other, all + i * EMULATED_LANE_BYTES, sizeof other);
        v = other > v ? other : v;
    }
    return v;
}
DEVICE bool is_elected() {
    warp_sync();
    return lane_index() == 0;
}
DEVICE u32 ballot_lanes(bool predicate) {
    u8 mine = predicate;
    const u8 *all = emulated_warp_gather("ballot", &mine, 1);
    u32 out = 0;
    for (u32 i = 0; i < WARP; i++) {
        out |= (u32)all[i * EMULATED_LANE_BYTES] << i;
    }
    return out;
}

DEVICE void group_sync(u32 group, u32 threads) {
    emulated_group_sync(group, threads);
}

// Two blocks have a multiprocessor of 1,500 MHz, and between two readings a millisecond passes.
DEVICE u32 multiprocessor_index() {
    return block_index() / 2;
}
DEVICE u64 clock_cycles() {
    static u64 cycles;
    return cycles += 1500000;
}
DEVICE u64 global_time_ns() {
    static u64 ns;
    return ns += 1000000;
}

#if SM_ARCH >= 90
DEVICE u32 cluster_rank() {
    return emulated_thread()->cluster_rank;
}
DEVICE u32 cluster_blocks() {
    return emulated_thread()->cluster_blocks;
}
DEVICE void cluster_arrive() {
    emulated_cluster_arrive();
}
DEVICE void cluster_wait() {
    emulated_cluster_wait();
}
DEVICE void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
DEVICE void cluster_end() {
    cluster_sync();
}
typedef const u8 *ClusterAddress;
DEVICE ClusterAddress cluster_address(const void *shared, u32 rank) {
    return emulated_cluster_shared(rank) + ((const u8 *)shared - shared_memory());
}
DEVICE float4 cluster_load(ClusterAddress a) {
    return *(const float4 *)a;
}
#endif

DEVICE bool is_last_block(u32 *counter, u32 *is_last) {
    block_sync();
    if (thread_index() == 0) {
        *is_last = ++*counter == emulated_thread()->grid_x;
        if (*is_last) *counter = 0;
    }
    block_sync();
    return *is_last != 0;
}

DEVICE bool is_last_arrival(u32 *counter, u32 n, u32 total, u32 *is_last) {
    block_sync();
    if (thread_index() == 0) {
        *counter += n;
        emulated_check(*counter <= total, "is_last_arrival: more than the total");
        *is_last = *counter == total;
        if (*is_last) *counter = 0;
    }
    block_sync();
    return *is_last != 0;
}

DEVICE bool is_last_warp_arrival(u32 *counter, u32 n, u32 total) {
    u32 last = 0;
    if (lane_index() == 0) {
        *counter += n;
        emulated_check(*counter <= total, "is_last_warp_arrival: more than the total");
        last = *counter == total;
        if (last) *counter = 0;
    }
    return shuffle(last, 0) != 0;
}

DEVICE bool is_last_warp(u32 *counter, u32 n) {
    u32 last = 0;
    if (lane_index() == 0) {
        last = ++*counter == n;
        if (last) *counter = 0;
    }
    return shuffle(last, 0) != 0;
}

DEVICE bool is_last_thread(u32 *counter, u32 n) {
    bool last = ++*counter == n;
    if (last) *counter = 0;
    return last;
}

DEVICE void stage_wait() {
}
DEVICE void stage_launch_next() {
}

// ---- bits ----

DEVICE u32 bits_of(float v) {
    return __builtin_bit_cast(u32, v);
}
DEVICE float float_of(u32 bits) {
    return __builtin_bit_cast(float, bits);
}
DEVICE u32 count_ones(u32 v) {
    return (u32)__builtin_popcount(v);
}
DEVICE u32 multiply_high(u32 a, u32 b) {
    return (u32)((u64)a * b >> 32);
}
DEVICE u64 multiply_high(u64 a, u64 b) {
    return (u64)((unsigned __int128)a * b >> 64);
}

// ---- numbers ----

DEVICE float f16_to_f32(f16 h) {
    return emulated_f16_to_f32(h);
}
DEVICE f16 f32_to_f16(float f) {
    return f16_from_f32(f);
}
DEVICE float bf16_to_f32(bf16 h) {
    return float_of((u32)h << 16);
}
DEVICE u32 pack_f16(float low, float high) {
    return (u32)f32_to_f16(low) | (u32)f32_to_f16(high) << 16;
}
DEVICE u32 saturated_byte(i32 v) {
    return (u32)(v < -128 ? -128 : v > 127 ? 127 : v) & 0xFFu;
}
DEVICE i32 dp4a(u32 a, u32 b, i32 c) {
    for (u32 i = 0; i < 32; i += 8) {
        c += (i8)(a >> i) * (i8)(b >> i);
    }
    return c;
}
DEVICE float fma_f32(float a, float b, float c) {
    return fmaf(a, b, c);
}
DEVICE float max_f32(float a, float b) {
    return fmaxf(a, b);
}
#define INFINITY_F32 float_of(0x7F800000u)
DEVICE bool is_number(float v) {
    return (bits_of(v) & 0x7F800000u) != 0x7F800000u;
}
DEVICE float exp2_fast(float x) {
    return exp2f(x);
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
DEVICE float divide_f32(float a, float b) {
    return a / b;
}
DEVICE float reciprocal_fast(float x) {
    return 1.0f / x;
}
DEVICE float reciprocal_sqrt_fast(float x) {
    return 1.0f / sqrtf(x);
}
DEVICE void sin_cos_f32(float x, float *s, float *c) {
    *s = sinf(x);
    *c = cosf(x);
}

// ---- memory ----

template <class T> DEVICE T load_shared_data(const T *p) {
    return *p;
}
DEVICE void prefetch_l2(const void *) {
}
template <class T> DEVICE void atomic_add(T *p, T v) {
    *p += v;
}
DEVICE u32 atomic_take(u32 *p, u32 v) {
    return (*p += v) - v;
}

DEVICE void copy_async_16(void *shared, const void *global) {
#if SM_ARCH >= 80
    emulated_copy_async(shared, global, 16);
#else
    memcpy(shared, global, 16);
#endif
}
DEVICE void copy_async_commit() {
#if SM_ARCH >= 80
    emulated_copy_async_commit();
#endif
}
template <int pending> DEVICE void copy_async_wait() {
#if SM_ARCH >= 80
    emulated_copy_async_wait(pending);
#endif
}

#if SM_ARCH >= 90
typedef uint64_t BulkBarrier;

DEVICE void bulk_barrier_init(BulkBarrier *b, u32 arrivals) {
    emulated_bulk_init(b, arrivals);
}
DEVICE void bulk_barrier_init_fence() {
}
DEVICE void bulk_barrier_expect(BulkBarrier *b, u32 bytes) {
    emulated_bulk_expect(b, bytes);
}
DEVICE void bulk_barrier_arrive(BulkBarrier *b) {
    emulated_bulk_expect(b, 0);
}
DEVICE void bulk_barrier_wait(BulkBarrier *b, u32 parity) {
    emulated_bulk_wait(b, parity);
}
DEVICE void bulk_barrier_wait_cluster(BulkBarrier *b, u32 parity) {
    emulated_bulk_wait(b, parity);
}
DEVICE void cluster_store(ClusterAddress to, float4 v, ClusterAddress barrier) {
    emulated_cluster_store((void *)to, &v, sizeof v, (BulkBarrier *)barrier);
}
DEVICE void cluster_store(ClusterAddress to, float v, ClusterAddress barrier) {
    emulated_cluster_store((void *)to, &v, sizeof v, (BulkBarrier *)barrier);
}
DEVICE void bulk_copy_fence() {
}
DEVICE void bulk_copy(void *shared, const void *global, u32 bytes, BulkBarrier *b) {
    emulated_bulk_copy(shared, global, bytes, b);
}
DEVICE void bulk_copy_to_all(void *shared, const void *global, u32 bytes, BulkBarrier *b, u32 blocks) {
    for (u32 rank = 0; rank < blocks; rank++) {
        emulated_bulk_copy((void *)cluster_address(shared, rank), global, bytes,
                           (BulkBarrier *)cluster_address(b, rank));
    }
}
DEVICE void bulk_barrier_arrive_at(BulkBarrier *b, u32 rank) {
    emulated_bulk_expect((BulkBarrier *)cluster_address(b, rank), 0);
}
DEVICE void bulk_copy_once(void *shared, const void *global, u32 bytes, BulkBarrier *b) {
    emulated_bulk_copy(shared, global, bytes, b);
}
#endif

// ---- matrices held by a warp ----

DEVICE void mma_f16(float d[4], const u32 a[4], const u32 b[2]) {
    emulated_mma("mma_f16", d, a, b);
}
DEVICE void load_matrix_4_as(const char *name, u32 d[4], const void *row, bool transposed) {
    const u8 *lanes = emulated_warp_gather(name, &row, sizeof row);
    u32 lane = lane_index();
    for (u32 m = 0; m < 4; m++) {
        u16 v[2];
        for (u32 i = 0; i < 2; i++) {
            u32 r = transposed ? lane % 4 * 2 + i : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + i;
            const u16 *from;
            memcpy(&from, lanes + (m * 8 + r) * EMULATED_LANE_BYTES, sizeof from);
            v[i] = from[c];
        }
        d[m] = (u32)v[0] | (u32)v[1] << 16;
    }
}
DEVICE void load_matrix_4(u32 d[4], const void *row) {
    load_matrix_4_as("load_matrix_4", d, row, false);
}
DEVICE void load_column(u32 b[4], const void *shared) {
    for (u32 i = 0; i < 4 && lane_index() < 4; i++)
        b[i] = ((const u32 *)shared)[i];
}
DEVICE void load_matrix_4_transposed(u32 d[4], const void *row) {
    load_matrix_4_as("load_matrix_4_transposed", d, row, true);
}
#if SM_ARCH >= 90
DEVICE void store_matrix_2_transposed(void *row, u32 a, u32 b) {
    struct {
        void *row;
        u32 of[2];
    } mine = {row, {a, b}};
    const u8 *lanes = emulated_warp_gather("store_matrix_2_transposed", &mine, sizeof mine);
    if (lane_index() >= 16) return;
    for (u32 r = 0; r < 8; r++) { // of the matrix that lies in registers
        memcpy(&mine, lanes + (r * 4 + lane_index() % 8 / 2) * EMULATED_LANE_BYTES, sizeof mine);
        ((u16 *)row)[r] = (u16)(mine.of[lane_index() / 8] >> lane_index() % 2 * 16);
    }
}
#endif

// ---- two f16 in a register ----

DEVICE u32 add_f16x2(u32 a, u32 b) {
    return pack_f16(f16_to_f32((f16)a) + f16_to_f32((f16)b),
                    f16_to_f32((f16)(a >> 16)) + f16_to_f32((f16)(b >> 16)));
}
DEVICE u32 multiply_f16x2(u32 a, u32 b) {
    return pack_f16(f16_to_f32((f16)a) * f16_to_f32((f16)b),
                    f16_to_f32((f16)(a >> 16)) * f16_to_f32((f16)(b >> 16)));
}
// Sums and products of two f16 are rounded right by way of f32, which has more than twice the bits. a * b +
// c is not: it is cut off to a f32 whose last bit says whether anything was (rounding to odd), and then
// rounded.
DEVICE f16 fma_f16(f16 a, f16 b, f16 c) {
    double product = (double)f16_to_f32(a) * (double)f16_to_f32(b), addend = (double)f16_to_f32(c);
    double sum = product + addend, part = sum - product;
    double lost = (product - (sum - part)) + (addend - part); // of the double sum, exactly
    float f = (float)sum;
    if (!is_number(f)) return f32_to_f16(f);
    double rest = sum - (double)f;
    if (rest == 0) rest = lost;
    if (rest == 0) return f32_to_f16(f);
    u32 bits = bits_of(f);
    return f32_to_f16(float_of((bits - ((rest > 0) != (f > 0))) | 1u));
}
DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) {
    return (u32)fma_f16((f16)a, (f16)b, (f16)c) | (u32)fma_f16((f16)(a >> 16), (f16)(b >> 16), (f16)(c >> 16))
                                                      << 16;
}
DEVICE u32 low_f16x2(u32 v) {
    return (v & 0xFFFFu) | v << 16;
}
DEVICE u32 high_f16x2(u32 v) {
    return v >> 16 | (v & 0xFFFF0000u);
}
DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
    u64 bytes = (u64)b << 32 | a;
    u32 out = 0;
    for (u32 i = 0; i < 4; i++) {
        out |= (u32)(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    }
    return out;
}
DEVICE u32 in_register(u32 constant) {
    return constant;
}
DEVICE u32 not_before(u32 v) {
    return v;
}
DEVICE float not_before(float v) {
    return v;
}
typedef const u8 *SharedPlace;
DEVICE SharedPlace shared_place(const void *p) {
    return (const u8 *)p;
}
DEVICE u32 load_shared_16(SharedPlace p, u32 bytes) {
    return *(const u16 *)(p + bytes);
}
DEVICE u32 load_shared_32(SharedPlace p, u32 bytes) {
    return *(const u32 *)(p + bytes);
}
DEVICE uint2 load_shared_64(SharedPlace p, u32 bytes) {
    return *(const uint2 *)(p + bytes);
}
DEVICE u32 look_up_bytes(u32 a, u32 b, u32 codes) {
    u32 out = permute_bytes(a, b, codes);
    for (u32 i = 0; i < 4; i++) {
        u32 sign = out >> (8 * i + 7) & 1;
        if (codes >> (4 * i + 3) & 1) out = (out & ~(0xFFu << 8 * i)) | (sign ? 0xFFu << 8 * i : 0);
    }
    return out;
}

#define HAS_WGMMA (SM_ARCH >= 90)
#if HAS_WGMMA
template <u32 n> DEVICE void registers_give() {
}
template <u32 n> DEVICE void registers_take() {
}
struct MatrixRows {
    const u8 *rows; // dims of them, in sheets
    u32 sheet_dims, eight_bytes;
};
// Where unit `unit` of 8 dims of a row is: sheets of an eight follow each other.
DEVICE const f16 *matrix_unit(const MatrixRows &m, u32 row, u32 unit) {
    u32 units = m.sheet_dims / 8, swizzle = row % 8 * units / 8;
    u64 in_sheet = (u64)(m.rows - shared_memory()) % (m.sheet_dims * 2) / 16; // of steps on
    unit += (u32)in_sheet;
    const u8 *sheet = m.rows - in_sheet * 16 + row / 8 * m.eight_bytes + unit / units * m.sheet_dims * 16;
    return (const f16 *)(sheet + row % 8 * m.sheet_dims * 2 + ((unit % units) ^ swizzle) * 16);
}
DEVICE MatrixRows matrix_eights(const void *shared, u32 sheet_dims, u32 eight_bytes) {
    emulated_check(((const u8 *)shared - shared_memory()) % (sheet_dims * 16) == 0,
                   "matrix_eights: a sheet of eight rows is not aligned to its size");
    return {(const u8 *)shared, sheet_dims, eight_bytes};
}
DEVICE MatrixRows matrix_on(MatrixRows m, u32 bytes) {
    return {m.rows + bytes, m.sheet_dims, m.eight_bytes};
}
DEVICE MatrixRows matrix_rows(const void *shared) {
    emulated_check(((const u8 *)shared - shared_memory()) % 1024 == 0,
                   "matrix_rows: not aligned to 1,024 bytes");
    return {(const u8 *)shared, 64, 1024};
}
DEVICE void warpgroup_fence() {
}
DEVICE void warpgroup_commit() {
}
template <int pending> DEVICE void warpgroup_wait() {
    warp_sync(); // products are made at once; what is emulated of the wait is that all lanes are there
}
template <u32 n> DEVICE void warpgroup_keep(float *) {
}
// Columns 16 * step … of b's rows.
DEVICE void warpgroup_multiply_step(u32 n, float *d, const u32 a[4], MatrixRows b, u32 step) {
    float rows[2][16];
    u16 cols[2][16];
    emulated_mma_rows("warpgroup_multiply", a, rows);
    for (u32 at = lane_index() % 4 * 2; at < n; at += 8) { // its two columns of each eight
        for (u32 i = 0; i < 2; i++) {
            u32 col = at + i;
            for (u32 k = 0; k < 16; k += 8) {
                u32 unit = (step * 2 + k / 8) ^ col % 8;
                memcpy(&cols[i][k], (const uint4 *)(b.rows + col * 128 + unit * 16), 16);
            }
        }
        emulated_mma_sums(d + at / 8 * 4, rows, cols);
    }
}
template <u32 n> DEVICE void warpgroup_multiply(float *d, const u32 a[4][4], MatrixRows b) {
    for (u32 step = 0; step < 4; step++) {
        warpgroup_multiply_step(n, d, a[step], b, step);
    }
}
template <u32 n>
DEVICE void warpgroup_multiply_half(float *d, const u32 a[2][4], MatrixRows b, u32 half, bool begin) {
    for (u32 i = 0; begin && i < n / 2; i++) {
        d[i] = 0;
    }
    for (u32 step = 0; step < 2; step++) {
        warpgroup_multiply_step(n, d, a[step], b, half * 2 + step);
    }
}
// The warpgroup's first warp has the first 16 rows of a. value(row, k): of it.
template <u32 n, bool begin, class Value>
DEVICE void warpgroup_multiply_shared(const char *name, float *d, Value value, MatrixRows b) {
    u32 mine[4], lane = lane_index(), first = warp_index() % 4 * 16 + lane / 4;
    float rows[2][16];
    u16 cols[2][16];
    for (u32 i = 0; i < 4; i++) {
        u32 row = first + i % 2 * 8, k = i / 2 * 8 + lane % 4 * 2;
        mine[i] = (u32)value(row, k) | (u32)value(row, k + 1) << 16;
    }
    emulated_mma_rows(name, mine, rows);
    for (u32 j = 0; j < n / 8; j++) {
        for (u32 i = 0; i < 2; i++) {
            if (begin) d[j * 4 + i] = d[j * 4 + 2 + i] = 0;
            for (u32 k = 0; k < 16; k += 8) {
                memcpy(&cols[i][k], matrix_unit(b, j * 8 + lane % 4 * 2 + i, k / 8), 16);
            }
        }
        emulated_mma_sums(d + j * 4, rows, cols);
    }
}
template <u32 n, bool begin> DEVICE void warpgroup_multiply_rows(float *d, MatrixRows a, MatrixRows b) {
    auto value = [&](u32 row, u32 k) { return matrix_unit(a, row, k / 8)[k % 8]; };
    warpgroup_multiply_shared<n, begin>("warpgroup_multiply_rows", d, value, b);
}
template <u32 n, bool begin> DEVICE void warpgroup_multiply_columns(float *d, MatrixRows a, MatrixRows b) {
    auto value = [&](u32 row, u32 k) { return matrix_unit(a, k, row / 8)[row % 8]; };
    warpgroup_multiply_shared<n, begin>("warpgroup_multiply_columns", d, value, b);
}
template <u32 n, bool begin> DEVICE void warpgroup_multiply_by_rows(float *d, const u32 a[4], MatrixRows b) {
    u32 lane = lane_index();
    float rows[2][16];
    u16 cols[2][16];
    emulated_mma_rows("warpgroup_multiply_by_rows", a, rows);
    for (u32 j = 0; j < n / 8; j++) {
        for (u32 i = 0; i < 2; i++) {
            if (begin) d[j * 4 + i] = d[j * 4 + 2 + i] = 0;
        }
        for (u32 k = 0; k < 16; k++) {
            const f16 *unit = matrix_unit(b, k, j) + lane % 4 * 2;
            cols[0][k] = unit[0];
            cols[1][k] = unit[1];
        }
        emulated_mma_sums(d + j * 4, rows, cols);
    }
}
#endif

} // namespace
