// The body of products of 1 or up to 8 rows (product.cuh): mma.sync with the weights as its 16 rows.
//
// Grid: BLOCKS blocks, at most one a multiprocessor beside one of another stage. K_BLOCKS of them are a group
// that shares units; a group has the units [UNITS g / GROUPS, UNITS (g + 1) / GROUPS) and works on them in
// passes of at most PASS_UNITS. In a pass a warp has one band and one of WAYS runs of whole segments: K_WAYS
// in its block. Segments' sums are kept apart and added in their order, so that no result depends on any of
// these numbers.
//
// Weights go through a ring in shared memory. A slot has the next STEP_COLS columns of each warp's band: on
// sm_90 one bulk copy for bands that are neighbours (four bands of Q4_K: 9,216 bytes). A warp gives its part
// of a slot back when it has read it, before it multiplies (GPT-OSS-20B, one row: 955 tokens/s → 979).
// FETCHERS warps of their own fetch, each a part of a slot's copies: at most FLIGHT slots are on their way,
// which is what a multiprocessor's share of the memory needs; more only delays what other stages read. Where
// all of a block's weights fit its ring (RESIDENT), they are all on their way before stage_wait, and the
// first are operands (READY). Before sm_90 each warp copies for itself.
//
// OWN_PIECES: bands of formats that differ in bytes (Qwen3.5: 768 bands of Q4_K and 4 of Q8_0). Each band's
// piece of a slot is as large as its format has it, not as the largest has it; groups have as even shares of
// bytes as whole units allow, not of units; and a way's bands have at most OWN_PIECES bytes of a step.
// The stage's bands then also have bytes_before(unit) and unit_at(bytes), the first unit that has so many
// bytes before it.
//
// Units may be known at run time alone (UNITS_AT_RUN_TIME: bands.units(), at most UNITS), and have inputs of
// their own: unit u multiplies the activations number u / INPUT_UNITS at `in`, buffers one after the other.
// PAIRS: two blocks are a cluster that has a run of neighbouring units, and the same ones of all inputs; the
// first block has the first half of the inputs. Of an odd number, both have units of the one in the middle.
//
// EARLY_UNITS: the last so many of the units are known before the others (a shared expert's, while a token's
// experts are still being chosen). Groups share them by themselves, so that each has as many of the others,
// too, and product_early asks for their weights before stage_wait.
//
// Activations: all that the block's segments need, in shared memory. NORM_INPUT: the norm of x, which every
// block takes (rows.cuh: to the bits of norm_rows.cuh). One row alone is the first of mma's eight columns;
// the other seven are whatever there is, since nobody reads their sums. POST_INPUT (one row): x is first
// x_out = x + norm(post), times *post_scale with POST_SCALE, to the bits of post_norm.cuh: each block makes
// it for itself, and the first one stores it for the stages that follow. POST_BESIDE: as NORM_BESIDE there,
// so x_out = x + norm(norm(post) + norm(beside)).
//
// Defines, besides product.cuh's: MAX_ROWS (1 or 8), BLOCKS, WARPS (that multiply), RING_BYTES; K_WAYS (1),
// K_BLOCKS (1), CLUSTERS (on sm_90 the K_BLOCKS are a cluster), FLIGHT (2), FETCHERS (1), SHARED_BYTES_MIN
// (0), BLOCKS_PER_SM (2); OWN_PIECES; UNITS_AT_RUN_TIME, INPUT_UNITS (UNITS), PAIRS; EARLY_UNITS; NORM_INPUT
// with NORM_EPS, LAYER_NORM; POST_INPUT with POST_EPS, POST_SCALE, POST_BESIDE.
#if !defined(BLOCKS) || !defined(WARPS) || !defined(RING_BYTES)
#error "BLOCKS, WARPS, RING_BYTES"
#endif
#if MAX_ROWS != 1 && MAX_ROWS != 8
#error "MAX_ROWS is 1 or 8"
#endif
#ifndef K_WAYS
#define K_WAYS 1
#endif
#ifndef K_BLOCKS
#define K_BLOCKS 1
#endif
#ifndef FLIGHT
#define FLIGHT 2
#endif
#ifndef BLOCKS_PER_SM
#define BLOCKS_PER_SM 2
#endif
#ifndef INPUT_UNITS
#define INPUT_UNITS UNITS
#endif
#ifndef FETCHERS
#define FETCHERS 1
#endif
#ifndef KEPT_BYTES
#define KEPT_BYTES 0u
#endif
#define HAS_BULK (SM_ARCH >= 90)
#if SM_ARCH >= 90 && defined(CLUSTERS)
#define HAS_CLUSTER 1
#else
#define HAS_CLUSTER 0
#endif
#ifdef PAIRS
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif
#ifdef EARLY_UNITS
#define HAS_EARLY 1
#else
#define HAS_EARLY 0
#define EARLY_UNITS 0u
#endif
#define PRODUCT_FEW

enum : u32 {
    PASS_BANDS = WARPS / K_WAYS,
    PASS_UNITS = PASS_BANDS / UNIT_BANDS,
    GROUPS = BLOCKS / K_BLOCKS,
    N_INPUTS = CEIL_DIV(UNITS, INPUT_UNITS),
    BLOCK_INPUTS = CEIL_DIV(N_INPUTS, 2u),                         // of a pair's block, at most
    PAIR_UNITS = CEIL_DIV((u32)INPUT_UNITS, MAX(BLOCKS / 2u, 1u)), // of an input, at most
    GROUP_UNITS = HAS_PAIRS
                      ? N_INPUTS / 2 * PAIR_UNITS + N_INPUTS % 2 * CEIL_DIV(PAIR_UNITS, 2u)
                      : CEIL_DIV(UNITS - EARLY_UNITS, GROUPS) + CEIL_DIV(EARLY_UNITS, GROUPS), // at most
    PASSES = CEIL_DIV(GROUP_UNITS, PASS_UNITS),
    WAYS = K_WAYS * K_BLOCKS,
    SPLIT = WAYS > 1,                  // a band's segments are in several warps
    ALONE = UNIT_BANDS == 1 && !SPLIT, // a warp has all of a unit
// A unit's rows are finished by so many of its ways' warps, each some of them.
#ifdef UNITS_AT_RUN_TIME
    FINISHERS = 1,
#else
    FINISHERS = MAX_ROWS == 1 || K_BLOCKS > 1 || K_WAYS == 1 ? 1
                : K_WAYS < 4                                 ? 2
                                                             : 4,
#endif
    FINISH_ROWS = MAX_ROWS / FINISHERS, // of a warp
    // A group's blocks are a cluster and read each other's sums in shared memory; else they have them in
    // `partial`, and the last one adds them up (3 us later, on an H200).
    CLUSTER = HAS_CLUSTER ? K_BLOCKS : 1, // its blocks; 1: none
};
static_assert(PASS_UNITS >= 1 && WARPS == PASS_UNITS * UNIT_BANDS * K_WAYS && WARPS + FETCHERS <= 32,
              "WARPS is K_WAYS * UNIT_BANDS * units side by side, and others fetch");
static_assert(CLUSTER == 1 || (PASSES == 1 && K_BLOCKS <= 8),
              "a cluster's blocks have one pass: they would wait for the warp that fetches");
static_assert(!HAS_PAIRS || (SM_ARCH >= 90 && BLOCKS % 2 == 0 && K_BLOCKS == 1 && PASSES == 1),
              "a pair is a cluster, and has all of its units at once");
#ifdef OWN_PIECES
static_assert(UNIT_BANDS == 1 && K_BLOCKS == 1 && PASSES == 1 && !HAS_PAIRS && !HAS_EARLY,
              "a slot has one pass's bands");
#endif
static_assert(!HAS_EARLY || (!HAS_PAIRS && CLUSTER == 1),
              "a group's early units are no neighbours of its others");
static_assert(BLOCKS % K_BLOCKS == 0 && (u32)WAYS <= (u32)SEGMENTS, "whole groups of blocks, whole segments");

// ---- columns ----

DEVICE constexpr bool is_wide(int format) {
    return layout_tile_cols(format) == 256;
}
enum : u32 {
    STEP_HALVES = is_wide(FORMAT_0) || is_wide(FORMAT_1) || is_wide(FORMAT_2) ? 2 : 1,
    SEGMENT_STEPS = SEGMENT_HALVES / STEP_HALVES,
    COL_STEPS = CEIL_DIV(COL_HALVES, STEP_HALVES),
};
// A way's segments and steps: [first, end).
DEVICE constexpr u32 way_segment(u32 way) {
    return SEGMENTS * way / WAYS;
}
DEVICE constexpr u32 way_step(u32 way) {
    return MIN(way_segment(way) * SEGMENT_STEPS, (u32)COL_STEPS);
}
// The most steps that one of n_ways ways side by side has.
DEVICE constexpr u32 most_steps(u32 n_ways) {
    u32 most = 0;
    for (u32 w = 0; w < WAYS; w += n_ways) {
        most = MAX(most, way_step(w + n_ways) - way_step(w));
    }
    return most;
}
DEVICE constexpr u32 fewest_steps() {
    u32 fewest = COL_STEPS;
    for (u32 w = 0; w < WAYS; w++) {
        fewest = MIN(fewest, way_step(w + 1) - way_step(w));
    }
    return fewest;
}

// ---- shared memory ----

#ifdef NORM_INPUT
typedef RowNorms<N_COLS, MAX_ROWS, WARPS, 32> InputNorms; // more values a lane leave the products' registers
#endif
DEVICE constexpr u32 step_bytes(int format) { // of a band
    return layout_tile_bytes16(format) * (STEP_HALVES * HALF_COLS / layout_tile_cols(format));
}
enum : u32 {
    STEPS = most_steps(1),         // of a pass
    STEPS_OF_ALL = fewest_steps(), // in which every way has columns
    PIECE_BYTES = MAX(step_bytes(FORMAT_0), MAX(step_bytes(FORMAT_1), step_bytes(FORMAT_2))),
// Tiles of bands that are neighbours in memory are neighbours in a slot, too.
#ifdef OWN_PIECES
    COPIES_MERGE = true,
    SLOT_BYTES = K_WAYS * OWN_PIECES,
#else
    COPIES_MERGE = step_bytes(FORMAT_0) == PIECE_BYTES && step_bytes(FORMAT_1) == PIECE_BYTES &&
                   step_bytes(FORMAT_2) == PIECE_BYTES && layout_tile_bytes16(FORMAT_0) == PIECE_BYTES &&
                   layout_tile_bytes16(FORMAT_1) == PIECE_BYTES &&
                   layout_tile_bytes16(FORMAT_2) == PIECE_BYTES,
    SLOT_BYTES = WARPS * PIECE_BYTES,
#endif
    STEPS_TOGETHER = PASSES * STEPS, // of a block
    SLOTS = MIN((u32)RING_BYTES / SLOT_BYTES, (u32)STEPS_TOGETHER),
    RESIDENT = SLOTS == STEPS_TOGETHER,
    N_FETCHERS = MIN(FETCHERS, WARPS),
    FETCH_WARPS = HAS_BULK && !RESIDENT ? N_FETCHERS : 0,
    FETCHER = FETCH_WARPS > 0 ? WARPS : WARPS - N_FETCHERS, // the first warp that does it, with HAS_BULK
    EARLY_STEPS = MIN((u32)SLOTS, (u32)STEPS),              // of early units, asked for before the others'
// All of a warp's weights are there before stage_wait, and so many halves have been taken apart: 32 registers
// each; more, or for more warps, keep other stages' blocks away. (0.5B, one row: a step of 480 us → 411; with
// one half 378, not 370.) Experts' gate and up ask for their weights when they know the experts, so they ask
// for their input meanwhile, and do not wait for the weights first.
#if defined(UNITS_AT_RUN_TIME) || defined(STAGE_EXPERTS_GLU)
    READY = 0,
#else
    READY = HAS_BULK && RESIDENT && PASSES == 1 && WARPS <= 12 && SEGMENT_STEPS <= 4,
#endif
    READY_HALVES = MIN(WARPS <= 8 ? 2u : 1u, STEPS *STEP_HALVES), // no more than the ring has

    SHEET_BYTES = MAX_ROWS * 128, // 64 places
    X_BYTES = most_steps(K_WAYS) * STEP_HALVES * 2 * SHEET_BYTES,
    IN_BYTES = COL_HALVES * 2 * SHEET_BYTES, // of a buffer of activations
    // Inputs of a block, at most.
    INPUTS = (u32)INPUT_UNITS >= (u32)UNITS ? 1
             : HAS_PAIRS                    ? (u32)BLOCK_INPUTS
                                            : CEIL_DIV(GROUP_UNITS - 1, (u32)INPUT_UNITS) + 1,
    // Few bytes are there sooner by each thread's own copies than by a bulk copy.
    INPUT_BULK = HAS_BULK && INPUTS * X_BYTES > 4 * 16 * WARPS *WARP,
    BUFFERS = PASSES > 1 && !ALONE ? 2 : 1, // of sums: one is made while the other is finished
    UNIT_SUMS = MAX_ROWS * SUM_STRIDE,      // floats
    PART_STRIDE = BAND_ROWS + 4,
    // Segments of a block; their sums, in floats.
    PART_SEGMENTS = CEIL_DIV(SEGMENTS, (u32)K_BLOCKS),
    BAND_PARTS = SPLIT && (CLUSTER == K_BLOCKS) ? PART_SEGMENTS * MAX_ROWS * PART_STRIDE : 0,

    X_AT = ROUND_UP(SLOTS * SLOT_BYTES, 128),
    SUMS_UNITS = CEIL_DIV(PASS_UNITS, CLUSTER),                // that a block finishes
    SUMS_AT = X_AT + INPUTS * X_BYTES,                         // [BUFFERS][SUMS_UNITS][UNIT_SUMS]
    PARTS_AT = SUMS_AT + BUFFERS * SUMS_UNITS * UNIT_SUMS * 4, // [BUFFERS][PASS_BANDS][BAND_PARTS]
    NORM_AT = PARTS_AT + BUFFERS * PASS_BANDS * BAND_PARTS * 4,
#ifdef NORM_INPUT
    NORM_SUMS = InputNorms::SHARED_FLOATS, // floats
#ifdef POST_BESIDE
    NORM_BYTES = (NORM_SUMS + 2 * InputNorms::PIECES) * 4,
#else
    NORM_BYTES = NORM_SUMS * 4,
#endif
#else
    NORM_BYTES = 0,
#endif
    BARRIERS_AT = ROUND_UP(NORM_AT + NORM_BYTES, 8),
    // full [SLOTS], empty [SLOTS], input [INPUTS][SEGMENTS], passes
    N_BARRIERS = HAS_BULK ? 2 * SLOTS + INPUTS * SEGMENTS + 1 : 0,
    PRODUCT_SHARED_BYTES = ROUND_UP(BARRIERS_AT + N_BARRIERS * 8, 16),
};
static_assert(SLOTS >= 2 || RESIDENT, "RING_BYTES holds at least two steps of WARPS bands");
#ifdef NORM_INPUT
static_assert(K_BLOCKS == 1 && INPUTS == 1, "a block that takes a norm has all columns of one input");
#endif
#define PRODUCT_THREADS ((WARPS + FETCH_WARPS) * 32)
#define PRODUCT_GRID BLOCKS
#if HAS_CLUSTER
#define PRODUCT_KERNEL KERNEL_OF_CLUSTERS(PRODUCT_THREADS, BLOCKS_PER_SM, K_BLOCKS)
#elif HAS_PAIRS
#define PRODUCT_KERNEL KERNEL_OF_CLUSTERS(PRODUCT_THREADS, BLOCKS_PER_SM, 2)
#else
#define PRODUCT_KERNEL KERNEL(PRODUCT_THREADS, BLOCKS_PER_SM)
#endif
#define PRODUCT_INFO(shared_bytes) \
    { PRODUCT_THREADS, {PRODUCT_GRID, 1}, SHARED_BYTES(shared_bytes), HAS_CLUSTER *K_BLOCKS + HAS_PAIRS * 2 }
#define PRODUCT_WARPS WARPS

// ---- who does what ----

DEVICE BlockUnits block_units(u32 block, u32 n_units) {
#if HAS_PAIRS
    return units_of_pair(block, BLOCKS / 2, CEIL_DIV(n_units, (u32)INPUT_UNITS), INPUT_UNITS);
#else
    BlockUnits u = units_of_group(block / K_BLOCKS, GROUPS, n_units, EARLY_UNITS);
    u.passes = PASSES == 1 ? 1u : CEIL_DIV(u.n, (u32)PASS_UNITS);
    u.part = block % K_BLOCKS;
    return u;
#endif
}
#ifdef OWN_PIECES
// The first unit of a block.
template <class Bands> DEVICE constexpr u32 block_first_unit(u32 block, const Bands &bands) {
    return bands.unit_at((u32)((u64)bands.bytes_before(UNITS) * block / GROUPS));
}
template <class Bands> DEVICE BlockUnits block_units_of_bytes(u32 block, const Bands &bands) {
    u32 first = block_first_unit(block, bands), n = block_first_unit(block + 1, bands) - first;
    return {first, n, 1, 0, n, 0, 0};
}
#endif
// The unit number `place` of the block's.
DEVICE u32 block_unit(const BlockUnits &u, u32 place) {
    if (HAS_EARLY && place >= u.run) return u.early + place - u.run;
    if (!HAS_PAIRS || u.run == 0) return u.first + place;
    place += u.skip;
    return u.first + place / u.run * INPUT_UNITS + place % u.run;
}
DEVICE u32 pass_first_place(const BlockUnits &u, u32 pass) {
    return PASSES == 1 ? pass * u.n : u.n * pass / u.passes;
}

// What warp `warp` has in a pass: band `b` of unit first + unit, and a way. Bands that are neighbours in
// memory are those of neighbouring warps.
struct WarpBand {
    u32 unit;  // of the matrix
    u32 place; // the unit's in the pass
    u32 b, way;
    bool any;
};
DEVICE WarpBand warp_band(const BlockUnits &u, u32 pass, u32 warp) {
    u32 first = pass_first_place(u, pass), n = pass_first_place(u, pass + 1) - first;
    u32 band = warp % PASS_BANDS, way = warp / PASS_BANDS;
    WarpBand w;
    w.b = UNIT_BANDS == 1 ? 0 : band / MAX(n, 1u);
    w.place = UNIT_BANDS == 1 ? band : band % MAX(n, 1u);
    w.unit = block_unit(u, first + w.place);
    w.way = u.part * K_WAYS + way;
    w.any = band < n * UNIT_BANDS && way < K_WAYS;
    return w;
}

// Where a slot has the band's piece, which is warp `warp`'s.
template <class Bands>
DEVICE u32 piece_at(const BlockUnits &u, const Bands &bands, const WarpBand &w, u32 warp) {
#ifdef OWN_PIECES
    (void)warp;
    return w.way % K_WAYS * OWN_PIECES + bands.bytes_before(w.unit) - bands.bytes_before(u.first);
#else
    (void)u, (void)bands, (void)w;
    return warp * PIECE_BYTES;
#endif
}

// Where a warp is in its sequence of slots.
struct RingPlace {
    u32 slot, parity;
};
DEVICE void ring_advance(RingPlace *r) {
    if (RESIDENT) {
        r->slot++;
    } else if (++r->slot == SLOTS) {
        r->slot = 0;
        r->parity ^= 1;
    }
}

#if HAS_BULK
struct Barriers {
    BulkBarrier *full, *empty, *input, *passes;
};
DEVICE Barriers product_barriers(u8 *shared) {
    BulkBarrier *b = (BulkBarrier *)(shared + BARRIERS_AT);
    return {b, b + SLOTS, b + 2 * SLOTS, b + 2 * SLOTS + INPUTS * SEGMENTS};
}
#endif

// All but the warp that fetches alone.
DEVICE bool product_multiplies() {
    return FETCH_WARPS == 0 || warp_index() < WARPS;
}

#if HAS_BULK
// A lane's part of a pass's copies.
struct LaneCopy {
    const u8 *from; // of the first step
    u32 bytes;      // of a step; of the first of a run of neighbours: the run's; 0: another lane's, or none
    u32 tile;       // bytes of a tile where a step has two, which lie apart; else 0
    u32 steps, stride;
    u32 at;  // of a slot
    u32 all; // bytes of all lanes
};
#endif

struct Product {
    BlockUnits units;
    RingPlace place;
#if HAS_BULK
    LaneCopy first; // of the warps that fetch
    LaneCopy early; // likewise, of early units, which `first` does not have
#endif
#ifdef NORM_INPUT
    InputNorms norm;
    u32 row; // of one row's head: of x
#endif
#ifdef POST_INPUT
    PostNorm<InputNorms> post;
#endif
#if !HAS_BULK
    u32 fetched; // steps
#endif
    // Of the first pass, known before the input is there.
    WarpBand band;
    UnitFactors factors;
#if HAS_CLUSTER
    float4 cluster_factors[UNIT_BANDS];
#endif
    HalfOperands ready[READY_HALVES]; // READY: the first ones of the warp
};

// In a cluster the blocks finish the group's units in turn: the one that this warp finishes.
DEVICE u32 cluster_place(const BlockUnits &u) {
    return u.part + warp_index() * K_BLOCKS;
}

// Whether this warp finishes rows of its band's unit. (With K_BLOCKS > 1 and no cluster another block's may.)
DEVICE bool band_finishes(const WarpBand &w) {
    return w.any && w.b == 0 && w.way % K_WAYS < FINISHERS;
}

// The first one of its rows.
DEVICE u32 finish_row(const WarpBand &w) {
    return FINISHERS == 1 ? 0 : w.way * FINISH_ROWS;
}

// The unit of which this warp finishes rows in the first pass; UINT32_MAX for none.
DEVICE u32 product_first_unit(const Product &p) {
    if (!product_multiplies()) return ~0u;
    if (CLUSTER > 1) return cluster_place(p.units) < p.units.n ? p.units.first + cluster_place(p.units) : ~0u;
    return band_finishes(p.band) ? p.band.unit : ~0u;
}

// The first row of it that this warp finishes.
DEVICE u32 product_first_row(const Product &p) {
    return CLUSTER > 1 ? 0 : finish_row(p.band);
}

// ---- fetching ----

#if HAS_BULK

// Whether a lane's piece (any: it has one) is as large as that of the lane before it and lies behind it.
DEVICE bool joins_lane_before(const LaneCopy &c, bool any) {
    bool is_whole = any && c.tile == 0; // a step of one tile
    u32 bytes_before = shuffle_up(is_whole ? c.bytes : 0u, 1);
    u64 from_before = shuffle_up((u64)c.from, 1);
    return is_whole && lane_index() % PASS_BANDS != 0 && bytes_before == c.bytes &&
           from_before + bytes_before == (u64)c.from;
}

// early: of the units that are early, or of the others.
template <class Bands>
DEVICE LaneCopy lane_copy(const BlockUnits &u, const Bands &bands, u32 pass, bool early = false) {
    u32 lane = lane_index();
    WarpBand w = warp_band(u, pass, lane);
    if (HAS_EARLY) w.any = w.any && early == (w.unit >= UNITS - EARLY_UNITS);
    LaneCopy c = {0, 0, 0, 0, 0, 0, 0};
    if (w.any) {
        c.at = piece_at(u, bands, w, lane);
        const u8 *tiles = bands.tiles(w.unit, w.b);
        with_band_format(bands.format(w.unit, w.b), [&](auto f) {
            constexpr u32 tile = layout_tile_bytes16(decltype(f)::format),
                          bytes = step_bytes(decltype(f)::format);
            c.stride = 4 * bytes;
            c.from = tiles + (u64)way_step(w.way) * c.stride;
            c.bytes = bytes;
            c.tile = bytes == tile ? 0 : tile;
            c.steps = way_step(w.way + 1) - way_step(w.way);
        });
    }
    if (COPIES_MERGE) {
        bool joins = joins_lane_before(c, w.any);
        u32 follow = ballot_lanes(joins);
        follow = lane == 31 ? 0 : follow >> (lane + 1);
        u32 run = 1; // lanes that go with this one
        while (follow & 1) {
            run++;
            follow >>= 1;
        }
        c.bytes = joins ? 0 : run * c.bytes;
    }
    u32 before = count_ones(ballot_lanes(c.bytes > 0) & ((1u << lane) - 1));
    if (before % N_FETCHERS != warp_index() - FETCHER) c.bytes = 0;
    c.all = sum_of_lanes(c.bytes);
    return c;
}

// What a lane copies in a step: the last step of the columns may have one tile instead of two.
DEVICE u32 copy_bytes(const LaneCopy &c, u32 way, u32 step) {
    if (step >= c.steps) return 0;
    bool half = STEP_HALVES == 2 && COL_HALVES % 2 && c.tile > 0 && way_step(way) + step == COL_STEPS - 1;
    return half ? c.tile : c.bytes;
}

// keep: it stays in the L2 as long as anything else.
DEVICE void copy_weights(void *to, const u8 *from, u32 bytes, bool keep, BulkBarrier *full) {
    if (keep) bulk_copy(to, from, bytes, full);
    else bulk_copy_once(to, from, bytes, full);
}

DEVICE void copy_step(const LaneCopy &c, u32 bytes, u32 step, u8 *slot, bool keep, BulkBarrier *full) {
    if (bytes == 0) return;
    const u8 *from = c.from + (u64)step * c.stride;
    u8 *to = slot + c.at;
    if (STEP_HALVES == 2 && c.tile > 0) {
        for (u32 at = 0; at < bytes; at += c.tile) {
            copy_weights(to + at, from + 4 * at, c.tile, keep, full);
        }
    } else {
        copy_weights(to, from, bytes, keep, full);
    }
}

// A step of a pass into its slot: the lanes' part of it, and how many bytes come.
DEVICE void fetch_step(u8 *shared, const BlockUnits &u, const LaneCopy &c, u32 pass, u32 step, u32 slot) {
    BulkBarrier *full = product_barriers(shared).full + slot;
    u32 way = u.part * K_WAYS + MIN(lane_index() / PASS_BANDS, K_WAYS - 1u);
    u32 bytes = copy_bytes(c, way, step);
    u32 all = step + 1 < STEPS_OF_ALL ? c.all : sum_of_lanes(bytes);
    if (lane_index() == 0) bulk_barrier_expect(full, all);
    warp_sync();
    bool keep = pass * STEPS + step - SLOTS < KEPT_BYTES / SLOT_BYTES;
    copy_step(c, bytes, step, shared + slot * SLOT_BYTES, keep, full);
}

// One of the warps that fetch: its part of what the block reads of its weights, slot after slot. `c`: of the
// first pass.
template <class Bands>
DEVICE void product_fetch(u8 *shared, const BlockUnits &u, const Bands &bands, LaneCopy c, LaneCopy early) {
    Barriers b = product_barriers(shared);
    RingPlace place = {0, 1}; // a slot that was never filled counts as empty
    u32 number = 0, waited_slot = 0, waited_parity = 0;
#pragma unroll 1
    for (u32 pass = 0; pass < u.passes; pass++) {
        if (pass > 0) c = lane_copy(u, bands, pass);
        if (HAS_EARLY && pass > 0) early = lane_copy(u, bands, pass, true);
#pragma unroll 1
        for (u32 step = 0; step < STEPS; step++) {
            if (!RESIDENT) {
                bulk_barrier_wait(b.empty + place.slot, place.parity);
                if (FLIGHT < SLOTS && number++ >= FLIGHT) { // else no more than SLOTS are on their way
                    bulk_barrier_wait(b.full + waited_slot, waited_parity);
                    if (++waited_slot == SLOTS) waited_slot = 0, waited_parity ^= 1;
                }
            }
            fetch_step(shared, u, c, pass, step, place.slot);
            if (HAS_EARLY && (pass > 0 || step >= EARLY_STEPS))
                fetch_step(shared, u, early, pass, step, place.slot);
            ring_advance(&place);
        }
    }
}
#else
// This warp's own piece of a step; the steps of all passes are counted on.
template <class Bands>
DEVICE void product_fetch_step(u8 *shared, const BlockUnits &u, const Bands &bands, u32 n) {
    u32 pass = n / STEPS, step = n % STEPS, warp = warp_index();
    if (pass < u.passes) {
        WarpBand w = warp_band(u, pass, warp);
        u32 at = way_step(w.way) + step;
        if (w.any && at < way_step(w.way + 1)) {
            const u8 *tiles = bands.tiles(w.unit, w.b);
            u32 piece = piece_at(u, bands, w, warp);
            with_band_format(bands.format(w.unit, w.b), [&](auto f) {
                constexpr u32 tile = layout_tile_bytes16(decltype(f)::format);
                constexpr u32 n_tiles = step_bytes(decltype(f)::format) / tile;
                u8 *to = shared + n % SLOTS * SLOT_BYTES + piece;
                for (u32 k = 0; k < n_tiles; k++) {
                    if (n_tiles == 2 && at * 2 + k >= COL_HALVES) break;
                    const u8 *from = tiles + (u64)(at * n_tiles + k) * 4 * tile;
                    for (u32 i = lane_index() * 16; i < tile; i += WARP * 16) {
                        copy_async_16(to + k * tile + i, from + i);
                    }
                }
            });
        }
    }
    copy_async_commit(); // also an empty group: the wait counts them
}
#endif

// ---- the input ----

// Of a small stage the products wait for each other, so that an operand is loaded during the one before; of
// others a warp's wait is another's turn.
enum : u32 { OPERANDS = READY ? 2 : 1 };

// A lane's address in the activations: for ldmatrix, lane i gives row i % 8 of matrix i / 8. Of one row,
// lanes 4 g + c load the same 16 bytes for all g. With codebooks, where turns of the banks count, lanes
// 0 … 3 load all that is needed (with ldmatrix 16 turns for 64 weights a lane, not 4), into registers that
// the others keep, and so not before the product that reads them; without codebooks no load waits for one
// (0.7% of a step of 1B and of GPT-OSS-20B).
struct LaneInput {
#if MAX_ROWS == 1
    const u8 *at;
#else
    const u8 *at[2]; // of even and of odd pairs of steps
#endif
    u32 operand[OPERANDS][4]; // load_input's, in turn: of one row, most lanes keep them
};
DEVICE LaneInput lane_input(const u8 *shared) {
    u32 lane = lane_index();
#if MAX_ROWS == 1
    return {shared + X_AT + lane % 4 * 16, {}};
#else
    u32 row = lane % 8, unit = (lane / 8) ^ row;
    return {{shared + X_AT + row * 128 + unit * 16, shared + X_AT + row * 128 + (unit ^ 4) * 16}, {}};
#endif
}
// The operand of steps 2 j and 2 j + 1 of a half.
DEVICE const u32 *load_input(LaneInput *x, u32 half, u32 j) {
#if MAX_ROWS == 1
    const u8 *at = x->at + half * 2 * SHEET_BYTES + j * 64;
    u32 *operand = x->operand[j % OPERANDS];
    if (CODEBOOKS_BYTES > 0) {
        load_column(operand, at);
    } else {
        uint4 v = *(const uint4 *)at;
        operand[0] = v.x, operand[1] = v.y, operand[2] = v.z, operand[3] = v.w;
    }
#else
    load_matrix_4(x->operand[j % OPERANDS], x->at[j % 2] + (half * 2 + j / 2) * SHEET_BYTES);
#endif
    return x->operand[j % OPERANDS];
}

// Which of the block's inputs a unit has.
DEVICE u32 input_of(const BlockUnits &u, u32 unit) {
    return INPUTS == 1 ? 0 : unit / INPUT_UNITS - u.first / INPUT_UNITS;
}
DEVICE LaneInput at_input(LaneInput x, u32 input) {
#if MAX_ROWS == 1
    x.at += input * X_BYTES;
#else
    x.at[0] += input * X_BYTES;
    x.at[1] += input * X_BYTES;
#endif
    return x;
}

// The warps that multiply meet.
DEVICE void product_meet(u8 *, Product *) {
#if HAS_BULK
    group_sync(1, WARPS * WARP);
#else
    block_sync();
#endif
}

#ifdef NORM_INPUT
// Only the warps that multiply.
DEVICE void product_norm(const ProductArgs &a, u32 block, u8 *shared, u32 n_rows, Product *p) {
    auto meet = [&] { product_meet(shared, p); };
    f16 *out = (f16 *)(shared + X_AT);
    float *sums = (float *)(shared + NORM_AT);
#ifdef STAGE_HEAD
    auto row = [&](u32 i) {
        return a.x + (u64)(MAX_ROWS == 1 ? p->row : load_shared_data(a.logits_rows + i)) * N_COLS;
    };
#elif defined(POST_INPUT)
    NormPiece held[InputNorms::TURNS];
    p->post.run(a, block == 0, sums + InputNorms::SUMS, meet, held);
    NormHeldRow row = {held};
#else
    const float *row = a.x;
#endif
    (void)block;
    p->norm.run(row, n_rows, out, 0, sums, warp_index(), meet);
    meet();
}
#else
// The block's columns of its activations, each segment for itself.
DEVICE void product_load(const ProductArgs &a, u8 *shared, const Product &p) {
    u32 first = way_segment(p.units.part * K_WAYS), end = way_segment((p.units.part + 1) * K_WAYS);
    u32 from = segment_first_half(first) * 2 * SHEET_BYTES;
    u32 inputs = p.units.n > 0 ? input_of(p.units, block_unit(p.units, p.units.n - 1)) + 1 : 0;
    bool differ = (u32)INPUT_UNITS < (u32)UNITS; // also where a block has one unit, and so one input
    const u8 *in = (const u8 *)a.in + (differ ? (u64)(p.units.first / INPUT_UNITS) * IN_BYTES : 0);
#if HAS_BULK
    if (INPUT_BULK) {
        if (warp_index() > 0) return;
        u32 s = first + lane_index();
#pragma unroll 1
        for (u32 i = 0; i < inputs && s < end; i++) {
            BulkBarrier *input = product_barriers(shared).input + i * SEGMENTS + s;
            u32 at = segment_first_half(s) * 2 * SHEET_BYTES, to = segment_end_half(s) * 2 * SHEET_BYTES;
            bulk_barrier_expect(input, to - at);
            bulk_copy(shared + X_AT + i * X_BYTES + at - from, in + i * IN_BYTES + at, to - at, input);
        }
        warp_sync();
        return;
    }
#endif
    u32 bytes = segment_end_half(end - 1) * 2 * SHEET_BYTES - from;
#pragma unroll 1
    for (u32 k = 0; k < inputs; k++) {
#pragma unroll 4
        for (u32 i = 0; i < CEIL_DIV(X_BYTES, WARPS * WARP * 16); i++) {
            u32 at = (i * WARPS * WARP + thread_index()) * 16;
            if (at < bytes) copy_async_16(shared + X_AT + k * X_BYTES + at, in + k * IN_BYTES + from + at);
        }
    }
    copy_async_commit();
    copy_async_wait<0>();
    product_meet(shared, nullptr);
}
#endif

// ---- multiplying ----

// Adds the products of one tile, but of its first `from` halves: columns from half `half` on of the block's
// activations. Calls loaded() when the lane has read the tile.
template <int format, class Loaded>
DEVICE void multiply_tile(const u8 *tile, LaneInput *x, u32 half, u32 n_halves, u32 from, float sum[4],
                          const Loaded &loaded) {
    constexpr u32 halves = layout_tile_cols(format) / HALF_COLS;
    Tile<format> t;
    t.scales(tile);
#pragma unroll
    for (u32 h = 0; h < halves; h++) {
        if (h < from) continue;
        if (COL_HALVES % 2 && h >= n_halves) break;
        t.half(tile, h);
        if (h + 1 == halves || (COL_HALVES % 2 && h + 1 >= n_halves)) loaded();
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            u32 w[2][4];
            t.pair(h, j, w);
            const u32 *b = load_input(x, half + h, j);
            mma_f16(sum, w[0], b);
            mma_f16(sum, w[1], b + 2);
        }
    }
}

// A step of a band, but its first `from` halves; `step` counts from the columns' start, `half` from the
// block's activations'. Calls loaded() when the lane has read the piece.
template <int format, class Loaded>
DEVICE void multiply_step(const u8 *piece, LaneInput *x, u32 step, u32 half, u32 from, float sum[4],
                          const Loaded &loaded) {
    constexpr u32 tile = layout_tile_bytes16(format), halves = layout_tile_cols(format) / HALF_COLS;
    constexpr u32 n_tiles = step_bytes(format) / tile;
    u32 n_halves = COL_HALVES % 2 ? COL_HALVES - step * STEP_HALVES : STEP_HALVES;
#pragma unroll
    for (u32 k = 0; k < n_tiles; k++) {
        if (from >= (k + 1) * halves) continue;
        if (k > 0 && COL_HALVES % 2 && k >= n_halves) break;
        bool last = k + 1 == n_tiles || (COL_HALVES % 2 && k + 1 >= n_halves);
        multiply_tile<format>(piece + k * tile, x, half + k, n_halves, from - MIN(from, k * halves), sum,
                              [&] {
                                  if (last) loaded();
                              });
    }
}

// What a warp needs to multiply and to hand over.
struct Worker {
    u8 *shared;
    LaneInput x;
    u32 first_half; // of the block's activations
    float *partial; // K_BLOCKS > 1
};

DEVICE void slot_wait(const Worker &w, const RingPlace &place) {
#if HAS_BULK
    bulk_barrier_wait(product_barriers(w.shared).full + place.slot, place.parity);
#else
    (void)w, (void)place;
    copy_async_wait<SLOTS - 1>();
    warp_sync();
#endif
}
template <class Bands> DEVICE void slot_done(const Worker &w, const Bands &bands, Product *p) {
    if (!RESIDENT || !HAS_BULK) warp_sync(); // every lane has read the slot
#if HAS_BULK
    (void)bands;
    if (!RESIDENT && lane_index() == 0) bulk_barrier_arrive(product_barriers(w.shared).empty + p->place.slot);
#else
    product_fetch_step(w.shared, p->units, bands, p->fetched++);
#endif
    ring_advance(&p->place);
}

// The warp's columns of its band. SPLIT: each segment's sums go to its place in `parts`; else the total
// stays with the lanes.
struct BandSums {
    float *parts; // of segment first_part
    u32 first_part, part_stride, segment_floats;
    float sum[4], total[4];

    DEVICE void end_segment(u32 s, bool first) {
        if (SPLIT) store_sums(sum, parts + (s - first_part) * segment_floats, part_stride);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            total[i] = first ? sum[i] : total[i] + sum[i];
            sum[i] = 0;
        }
    }
};

DEVICE void input_wait(const Worker &w, u32 input, u32 segment) {
#if HAS_BULK && !defined(NORM_INPUT)
    if (INPUT_BULK) bulk_barrier_wait(product_barriers(w.shared).input + input * SEGMENTS + segment, 0);
#endif
    (void)w, (void)input, (void)segment;
}

// READY: a segment whose first `n_ready` halves have been taken apart.
template <int format>
DEVICE void multiply_ready_segment(const Worker &w, LaneInput *x, const Product &p, u32 way, u32 piece_at,
                                   u32 s, u32 n_ready, float sum[4]) {
    u32 first = s * SEGMENT_STEPS, half = first * STEP_HALVES - w.first_half;
    const u8 *piece = w.shared + (first - way_step(way)) * SLOT_BYTES + piece_at;
#pragma unroll
    for (u32 i = 0; i < n_ready; i++) {
        if (COL_HALVES % 2 && i > 0 && segment_first_half(s) + i >= COL_HALVES) break;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const u32 *b = load_input(x, half + i, j);
            mma_f16(sum, p.ready[i].of[j][0], b);
            mma_f16(sum, p.ready[i].of[j][1], b + 2);
        }
    }
#pragma unroll
    for (u32 i = 0; i < SEGMENT_STEPS; i++) {
        if (COL_STEPS % SEGMENT_STEPS && first + i >= COL_STEPS) break;
        if (n_ready >= (i + 1) * STEP_HALVES) continue;
        multiply_step<format>(piece + i * SLOT_BYTES, x, first + i, half + i * STEP_HALVES,
                              n_ready - MIN(n_ready, i * STEP_HALVES), sum, [] {});
    }
}

template <int format>
DEVICE void multiply_ready(const Worker &w, const WarpBand &band, u32 piece_at, const Product &p,
                           BandSums *sums) {
    u32 first = way_segment(band.way), end = way_segment(band.way + 1), input = input_of(p.units, band.unit);
    LaneInput x = at_input(w.x, input);
    input_wait(w, input, first);
    multiply_ready_segment<format>(w, &x, p, band.way, piece_at, first, READY_HALVES, sums->sum);
    sums->end_segment(first, true);
#pragma unroll 1
    for (u32 s = first + 1; s < end && (u32)WAYS < (u32)SEGMENTS; s++) {
        input_wait(w, input, s);
        multiply_ready_segment<format>(w, &x, p, band.way, piece_at, s, 0, sums->sum);
        sums->end_segment(s, false);
    }
}

template <int format, class Bands>
DEVICE void multiply_band(const Worker &w, const Bands &bands, const WarpBand &band, Product *p,
                          BandSums *sums) {
    u32 at = piece_at(p->units, bands, band, warp_index());
    if (READY) {
        multiply_ready<format>(w, band, at, *p, sums);
        return;
    }
    u32 first = way_segment(band.way), end = way_segment(band.way + 1);
    u32 input = input_of(p->units, band.unit);
    LaneInput x = at_input(w.x, input);
#pragma unroll 1
    for (u32 s = first; s < end; s++) {
        input_wait(w, input, s);
        u32 last = MIN((s + 1) * SEGMENT_STEPS, (u32)COL_STEPS);
#pragma unroll 1
        for (u32 step = s * SEGMENT_STEPS; step < last; step++) {
            slot_wait(w, p->place);
            const u8 *piece = w.shared + p->place.slot * SLOT_BYTES + at;
            multiply_step<format>(piece, &x, step, step * STEP_HALVES - w.first_half, 0, sums->sum,
                                  [&] { slot_done(w, bands, p); });
        }
        sums->end_segment(s, s == first);
    }
}

// ---- before the input ----

template <class Bands> DEVICE UnitFactors unit_factors(const WarpBand &w, const Bands &bands) {
    UnitFactors f = {{1, 1}};
    if (!w.any) return f;
    if (SPLIT) {
#pragma unroll
        for (u32 b = 0; b < UNIT_BANDS; b++) {
            f.of[b] = bands.factors(w.unit, b)[lane_index() % BAND_ROWS];
        }
    } else {
        f.of[0] = bands.factors(w.unit, w.b)[lane_index() / 4];
        f.of[1] = bands.factors(w.unit, w.b)[lane_index() / 4 + 8];
    }
    return f;
}

#if HAS_CLUSTER
// Four weight rows a lane, of the unit that this warp finishes.
template <class Bands>
DEVICE void cluster_factors(const BlockUnits &u, const Bands &bands, float4 factors[UNIT_BANDS]) {
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        factors[b] = {1, 1, 1, 1};
        if (cluster_place(u) < u.n)
            factors[b] = ((const float4 *)bands.factors(u.first + cluster_place(u), b))[lane_index() % 4];
    }
}
#endif

// What a warp knows of its first pass, and does for it, before the input is there: a load from memory takes
// as long as a small product.
template <class Bands> DEVICE void product_begin(u8 *shared, const Bands &bands, Product *p) {
    p->band.any = false;
    if (p->units.passes == 0) return;
    p->band = warp_band(p->units, 0, warp_index());
#if HAS_CLUSTER
    cluster_factors(p->units, bands, p->cluster_factors);
#else
    p->factors = unit_factors(p->band, bands);
#endif
#if HAS_BULK
    if (!READY) return;
    for (u32 i = 0; i < SLOTS; i++) {
        bulk_barrier_wait(product_barriers(shared).full + i, 0);
    }
    if (!p->band.any) return;
    u32 at = piece_at(p->units, bands, p->band, warp_index());
    with_band_format(bands.format(p->band.unit, p->band.b), [&](auto f) {
        constexpr int format = decltype(f)::format;
        constexpr u32 halves = layout_tile_cols(format) / HALF_COLS;
#pragma unroll
        for (u32 i = 0; i < READY_HALVES; i++) {
            const u8 *tile = shared + i / STEP_HALVES * SLOT_BYTES + at +
                             i % STEP_HALVES / halves * layout_tile_bytes16(format);
            Tile<format> t;
            t.scales(tile);
            t.half(tile, i % halves);
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                t.pair(i % halves, j, p->ready[i].of[j]);
            }
        }
    });
#else
    (void)shared;
#endif
}

// What needs neither weights nor input. The block meets before product_start.
DEVICE void product_open(u8 *shared) {
    (void)shared;
#ifdef NORM_INPUT
    // Places past the last column are multiplied with zeros, and must be numbers.
    u32 *last = (u32 *)(shared + X_AT + (COL_HALVES - 1) * 2 * SHEET_BYTES);
    for (u32 i = thread_index(); N_COLS % HALF_COLS > 0 && i < 2 * SHEET_BYTES / 4; i += PRODUCT_THREADS) {
        last[i] = 0;
    }
#endif
#if HAS_BULK
    if (thread_index() > 0) return;
    Barriers b = product_barriers(shared);
    for (u32 i = 0; i < SLOTS; i++) {
        bulk_barrier_init(b.full + i, N_FETCHERS * (1 + HAS_EARLY)); // each for early units, too
        bulk_barrier_init(b.empty + i, WARPS);
    }
    for (u32 i = 0; i < INPUTS * SEGMENTS; i++) {
        bulk_barrier_init(b.input + i, 1);
    }
    bulk_barrier_init(b.passes, WARPS);
    bulk_barrier_init_fence();
#endif
}

// What is asked for first.
template <class Bands> DEVICE void product_plan(u32 block, const Bands &bands, Product *p) {
#ifdef UNITS_AT_RUN_TIME
    p->units = block_units(block, bands.units());
#elif defined(OWN_PIECES)
    p->units = block_units_of_bytes(block, bands);
#else
    p->units = block_units(block, UNITS);
#endif
    p->place = {0, 0};
#if HAS_BULK
    if (warp_index() >= FETCHER) p->first = lane_copy(p->units, bands, 0);
    if (HAS_EARLY && warp_index() >= FETCHER) p->early = lane_copy(p->units, bands, 0, true);
#else
    (void)bands;
#endif
}

#if HAS_EARLY
// The weights of early units on their way: behind product_plan and a meeting of the block, before
// product_start.
DEVICE void product_early(u8 *shared, const Product &p) {
#if HAS_BULK
    if (warp_index() < FETCHER || p.units.passes == 0) return;
    for (u32 step = 0; step < EARLY_STEPS; step++) {
        fetch_step(shared, p.units, p.early, 0, step, step);
    }
#else
    (void)shared, (void)p; // a warp has one unit in a slot
#endif
}
#endif

// The block's weights on their way.
template <class Bands> DEVICE void product_ask(u8 *shared, const Bands &bands, Product *p) {
#if HAS_BULK
    // Warps that only fetch have nothing else to do, and wait for no earlier stage.
    if (warp_index() >= FETCHER) product_fetch(shared, p->units, bands, p->first, p->early);
#else
    for (p->fetched = 0; p->fetched < SLOTS; p->fetched++) {
        product_fetch_step(shared, p->units, bands, p->fetched);
    }
#endif
}
// That, and what comes of it, where the codebooks are there.
template <class Bands> DEVICE void product_start(u8 *shared, const Bands &bands, Product *p) {
    product_ask(shared, bands, p);
    if (product_multiplies()) product_begin(shared, bands, p);
}

template <class Bands>
DEVICE void product_prepare(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p) {
    product_open(shared);
#ifdef NORM_INPUT
    if (product_multiplies()) p->norm.prepare(a.norm, a.norm_bias, warp_index());
#ifdef POST_INPUT
    if (product_multiplies()) p->post.prepare(a);
#endif
#ifdef STAGE_HEAD
    p->row = load_shared_data(a.logits_rows);
#endif
#else
    (void)a;
#endif
    block_sync();
    product_plan(block, bands, p);
    product_ask(shared, bands, p);
    if (!product_multiplies()) return;
    if (CODEBOOKS_BYTES > 0) {
        load_codebooks(WARPS * WARP);
        product_meet(shared, p);
    }
    product_begin(shared, bands, p);
}

// ---- finishing ----

// Adds up the segments of the unit's bands, of rows first … n_rows - 1 but at most FINISH_ROWS: parts
// [UNIT_BANDS][SEGMENTS][MAX_ROWS][stride].
template <class Load>
DEVICE void add_segments(const UnitFactors &f, u32 first, u32 n_rows, u32 band_floats, u32 stride,
                         float *sums, const Load &load) {
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
#pragma unroll
        for (u32 i = 0; i < CEIL_DIV(FINISH_ROWS, 2); i++) {
            u32 row = first + i * 2 + lane_index() / BAND_ROWS, r = lane_index() % BAND_ROWS;
            if (row >= n_rows) continue;
            u32 at = b * band_floats + row * stride + r;
            float total = load(at);
#pragma unroll
            for (u32 s = 1; s < SEGMENTS; s++) {
                total += load(at + s * MAX_ROWS * stride);
            }
            sums[row * SUM_STRIDE + b * BAND_ROWS + r] = total * f.of[b];
        }
    }
}

// Waits until all warps of the block have done pass `pass`.
DEVICE void pass_wait(const Worker &w, u32 pass) {
#if HAS_BULK
    bulk_barrier_wait(product_barriers(w.shared).passes, pass % 2);
#else
    (void)w, (void)pass;
#endif
}
DEVICE void pass_done(const Worker &w) {
#if HAS_BULK
    warp_sync();
    if (lane_index() == 0) bulk_barrier_arrive(product_barriers(w.shared).passes);
#else
    (void)w;
    block_sync();
#endif
}

#if HAS_CLUSTER
// Which block of a cluster has a segment.
DEVICE constexpr u32 block_of_segment(u32 s) {
    u32 part = 0;
    while (way_segment((part + 1) * K_WAYS) <= s) {
        part++;
    }
    return part;
}

// Four weight rows of a row of the batch a lane: their segments' sums, out of the cluster's blocks.
DEVICE float4 cluster_total(u8 *shared, u32 band, u32 row, u32 r) {
    float4 total = {0, 0, 0, 0};
#pragma unroll
    for (u32 s = 0; s < SEGMENTS; s++) {
        u32 owner = block_of_segment(s), own = s - way_segment(owner * K_WAYS);
        u32 at = band * BAND_PARTS + (own * MAX_ROWS + row) * PART_STRIDE + r;
        float4 v = cluster_load(cluster_address(shared + PARTS_AT + at * 4, owner));
        if (s == 0) total = v;
        else total = {total.x + v.x, total.y + v.y, total.z + v.z, total.w + v.w};
    }
    return total;
}

// When all blocks of the cluster have their sums.
template <class Finish>
DEVICE void cluster_finish(const Worker &w, const Product &p, u32 n_rows, const Finish &finish) {
    u32 place = cluster_place(p.units), row = lane_index() / 4, r = lane_index() % 4 * 4;
    cluster_sync();
    if (place < p.units.n) {
        float *sums = (float *)(w.shared + SUMS_AT) + place / K_BLOCKS * UNIT_SUMS;
#pragma unroll
        for (u32 b = 0; b < UNIT_BANDS; b++) {
            if (row >= n_rows) break;
            float4 v = cluster_total(w.shared, place * UNIT_BANDS + b, row, r), f = p.cluster_factors[b];
            float *out = sums + row * SUM_STRIDE + b * BAND_ROWS + r;
            out[0] = v.x * f.x, out[1] = v.y * f.y, out[2] = v.z * f.z, out[3] = v.w * f.w;
        }
        warp_sync();
        finish(p.units.first + place, 0, n_rows, sums);
    }
    cluster_sync(); // nobody reads this block's sums any more
}
#endif

// One pass: the warp's band, then, by one warp of each unit, what the stage does with it.
template <class Bands, class Finish>
DEVICE void product_pass(const ProductArgs &a, const Worker &w, const Bands &bands, Product *p, u32 pass,
                         u32 n_rows, const Finish &finish) {
    bool known = PASSES == 1 || pass == 0;
    WarpBand band = known ? p->band : warp_band(p->units, pass, warp_index());
    UnitFactors factors = CLUSTER > 1 || known ? p->factors : unit_factors(band, bands);
    u32 buffer = BUFFERS == 1 ? 0 : pass % 2;
    float *sums = (float *)(w.shared + SUMS_AT) + (buffer * PASS_UNITS + band.place) * UNIT_SUMS;
    float *parts = (float *)(w.shared + PARTS_AT) + buffer * PASS_BANDS * BAND_PARTS;
    u32 band_floats = PART_SEGMENTS * MAX_ROWS * PART_STRIDE, stride = PART_STRIDE;
    u32 first_part = CLUSTER > 1 ? way_segment(p->units.part * K_WAYS) : 0;
    parts += (band.place * UNIT_BANDS) * band_floats;
    if (K_BLOCKS != CLUSTER) {
        stride = BAND_ROWS;
        band_floats = SEGMENTS * MAX_ROWS * BAND_ROWS;
        parts = w.partial + (u64)band.unit * UNIT_BANDS * band_floats;
    }

    // A buffer is free when all warps are a pass further than the one that used it.
    if (SPLIT && pass > 1) pass_wait(w, pass - 1);
    BandSums of_band = {parts + band.b * band_floats, first_part, stride, MAX_ROWS * stride, {}, {}};
    float *total = of_band.total;
    u32 done = 0;
    if (band.any) {
        with_band_format(bands.format(band.unit, band.b),
                         [&](auto f) { multiply_band<decltype(f)::format>(w, bands, band, p, &of_band); });
        done = way_step(band.way + 1) - way_step(band.way);
    }
    for (; done < STEPS && (!RESIDENT || PASSES > 1); done++) { // the others' columns
        if (!RESIDENT) slot_wait(w, p->place);
        slot_done(w, bands, p);
    }
#if HAS_CLUSTER
    cluster_finish(w, *p, n_rows, finish);
    return;
#endif
    if (!SPLIT) {
        total[0] *= factors.of[0], total[1] *= factors.of[0];
        total[2] *= factors.of[1], total[3] *= factors.of[1];
        if (!ALONE && pass > 1) pass_wait(w, pass - 1);
        if (band.any) store_sums(total, sums + band.b * BAND_ROWS, SUM_STRIDE);
    }
    // A warp may be one pass ahead of another, not two: the barrier counts the arrivals of one. (Later passes
    // have waited for their buffer.)
    if (!ALONE && PASSES > 1 && pass == 1) pass_wait(w, 0);
    if (ALONE) warp_sync();
    else pass_done(w);
    bool finishes = band_finishes(band);
    if (!ALONE && finishes) pass_wait(w, pass);
    if (finishes && K_BLOCKS > 1) finishes = is_last_warp(a.meetings + band.unit, K_BLOCKS);
    u32 first = finish_row(band), end = MIN(first + FINISH_ROWS, n_rows);
    if (finishes && first < end) {
        if (K_BLOCKS > 1) {
            add_segments(factors, first, end, band_floats, stride, sums,
                         [&](u32 at) { return load_shared_data(parts + at); });
        } else if (SPLIT) {
            add_segments(factors, first, end, band_floats, stride, sums, [&](u32 at) { return parts[at]; });
        }
        if (SPLIT) warp_sync();
        finish(band.unit, first, end - first, sums + first * SUM_STRIDE);
        if (ALONE) warp_sync(); // the sums have been read
    }
#if !HAS_BULK
    if (!ALONE) block_sync();
#endif
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                        const Finish &finish) {
    if (!product_multiplies()) return;
    (void)block;
    u32 n_rows = MIN(batch_rows(a), (u32)MAX_ROWS);
    Worker w = {shared, lane_input(shared), way_step(p->units.part * K_WAYS) * STEP_HALVES, a.partial};
#ifdef NORM_INPUT
    product_norm(a, block, shared, n_rows, p);
#else
    product_load(a, shared, *p);
#endif
    // A constant where it can be: NVRTC 12.4 does not end otherwise (sm_75, 640 columns in three ways).
    u32 n_passes = PASSES == 1 ? 1u : p->units.passes;
#pragma unroll 1
    for (u32 pass = 0; pass < n_passes; pass++) {
        product_pass(a, w, bands, p, pass, n_rows, finish);
    }
}
