// The body of products of 1 or up to 8 rows (product.cuh): mma.sync with the weights as its 16 rows. This
// file has who does what, and where; product_few_fetch.cuh and product_few_run.cuh come behind it.
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
