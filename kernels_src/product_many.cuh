// The body of products of more than 8 rows (product.cuh): batches of up to 128, and prompts in tiles of
// TILE_ROWS rows. This file has passes and sums; product_many_wgmma.cuh and product_many_mma.cuh come behind
// it.
//
// A pass is up to PASS_UNITS units that a block multiplies side by side, a band a warp, with TILE_ROWS rows
// of the batch. Weights and rows come through a ring each in shared memory; the weights' slots have 256
// columns of the pass's bands, the rows' slots 128 columns. A lane takes its weights apart in registers and
// multiplies them there, and each segment's sum is added to what its band has so far:
//     sm_90a   four warps multiply together (wgmma), the rows are read from shared memory; two warps of their
//              own fetch, with bulk copies
//     older    each warp multiplies for itself (mma.sync); all warps copy
//
// Where there are too few bands for the GPU, WAYS of them share a band's columns, whole segments each:
//     sm_90a   the K_WAYS_CLUSTER blocks of a cluster, so that each reads a part of the rows alone
//     all      K_WAYS_BLOCK groups of a block's warps
// They leave each segment's sum in shared memory, and each warp adds those of some units in the segments'
// order. So a result depends on none of these numbers.
//
// Sums are finished as lanes have them, without a way through shared memory: finish is
//     struct Ahead                            what it wants of memory
//     Ahead ahead(unit, first_row, n_rows)    loads it, where there is time before the sums
//     lanes<groups>(unit, first_row, n_rows, const LaneSums<groups> &sums, const Ahead &ahead)
//     foresee(unit, n_units, first_row, n_rows)    asks the L2 for a part of what a pass wants; one warp
// for FINISH_ROWS rows at most, 8 a group. TABLE_UNITS: as product.cuh has it.
//
// Formats differ between the stage's matrices: a pass has units of one alone (four warps multiply with the
// same instructions). A unit of two bands may have two: then its bands are in warps four apart, else in warps
// two apart.
//
// Prompts (SKEWED): the second four warps begin when some slots of rows are there, so that four warps
// multiply while the other four finish their sums.
//
// Prompts of few rows (NARROW_TILES): where there are blocks enough, tiles have NARROW_ROWS rows, and then
// passes have half the units (down of 0.5B with 128 to 512 rows 16 us instead of 30). That takes the loop a
// second time, and as long again to compile.
//
// Grid: passes x tiles of rows, tiles side by side, so that blocks which run at once share weights; the
// blocks (clusters) take turns. A cluster that splits columns has one of them alone.
//
// TABLE_UNITS: tiles of rows are in a table that the stage has: bands.row_tiles() of them, each with
// TABLE_UNITS units of its own (bands.row_tile(number): {first unit, row, rows}); MAX_ROWS are the rows of
// the input alone.
//
// Defines, besides product.cuh's: TILE_ROWS (16, 32, 64, 128; MAX_ROWS is a multiple), WARPS (that multiply,
// 4 to 16; units of two bands: 8 or 16 on sm_90a), RING_BYTES (of both rings); K_WAYS_CLUSTER (1),
// K_WAYS_BLOCK (1), BLOCKS (of the grid; more are not started where columns are split), PASSES (1: as few as
// PASS_UNITS allows; about as many passes as these are made, all about as long), BLOCKS_PER_SM (1);
// TABLE_UNITS; NARROW_TILES (sm_90a, units of one band and format, several tiles); WEIGHTS_ONCE (whether
// there is one tile of rows: weights are read once in a step).
#if !defined(TILE_ROWS) || !defined(WARPS) || !defined(RING_BYTES) || !defined(BLOCKS)
#error "TILE_ROWS, WARPS, RING_BYTES, BLOCKS"
#endif
#if MAX_ROWS % TILE_ROWS
#error "MAX_ROWS is a multiple of TILE_ROWS"
#endif
#ifndef K_WAYS_CLUSTER
#define K_WAYS_CLUSTER 1
#endif
#ifndef K_WAYS_BLOCK
#define K_WAYS_BLOCK 1
#endif
#ifndef PASSES
#define PASSES 1
#endif
#ifndef BLOCKS_PER_SM
#define BLOCKS_PER_SM 1
#endif
#ifndef WEIGHTS_ONCE
#define WEIGHTS_ONCE (MAX_ROWS == TILE_ROWS)
#endif
#ifdef TABLE_UNITS
#define PASSES_UNITS TABLE_UNITS // of a tile of rows
#else
#define PASSES_UNITS UNITS
#endif
#define PRODUCT_MANY

enum : u32 {
    WAYS = K_WAYS_CLUSTER * K_WAYS_BLOCK,
    SPLIT = WAYS > 1,
    PASS_BANDS = WARPS / K_WAYS_BLOCK,
    PASS_UNITS = PASS_BANDS / UNIT_BANDS,
    ROW_TILES_MAX = MAX_ROWS / TILE_ROWS,
    // Two warps fetch, one weights and one rows. Where those that multiply need more registers than an even
    // share, they are two of a group of four that gives its own up.
    GIVES_REGISTERS = HAS_WGMMA && (WARPS > 4) && BLOCKS_PER_SM == 1,
    FETCH_WARPS = !HAS_WGMMA        ? 0
                  : GIVES_REGISTERS ? 4
                                    : 2,
    // Of the 168, 128 or 96 registers that a launch gives.
    NEEDS_MANY = TILE_ROWS >= 64,
    KEPT_REGISTERS = WARPS == 8 || !NEEDS_MANY ? 56 : 32,
    TAKEN_REGISTERS = WARPS == 8    ? 224
                      : WARPS == 12 ? (NEEDS_MANY ? 160 : 144)
                                    : (NEEDS_MANY ? 112 : 104),
    // Units of two bands: how many warps apart these are. Of one format, both are in the same four warps,
    // which then end a pass without the others.
    BANDS_APART = !HAS_WGMMA             ? PASS_UNITS
                  : FORMAT_0 == FORMAT_1 ? 2
                                         : 4,
    GROUP_BANDS = UNIT_BANDS == 2 ? 2 * BANDS_APART : 4, // of the warps that have whole units
    SUMS = TILE_ROWS / 2, // of a lane, for its band: [TILE_ROWS / 8][4] as mma_f16 has them
    NARROW_ROWS = 64,
#ifdef NARROW_TILES
    NARROWS = 1,
#else
    NARROWS = 0,
#endif
    // Pairs of steps that are multiplied at once, where registers allow two.
    PAIRS = TILE_ROWS <= 32 || WARPS <= 8 ? 2 : 1,
};
static_assert(PASS_UNITS >= 1 && WARPS == PASS_UNITS * UNIT_BANDS * K_WAYS_BLOCK && WARPS <= 16,
              "WARPS is K_WAYS_BLOCK * UNIT_BANDS * units side by side");
static_assert((u32)WAYS <= (u32)SEGMENTS, "whole segments");
static_assert(!NARROWS || (HAS_WGMMA && ROW_TILES_MAX > 1 && (u32)TILE_ROWS > (u32)NARROW_ROWS &&
                           UNIT_BANDS == 1 && FORMAT_1 == FORMAT_0 && FORMAT_2 == FORMAT_0),
              "NARROW_TILES");
#if HAS_WGMMA
static_assert(PASS_UNITS % 4 == 0, "four warps multiply together");
#else
static_assert(K_WAYS_CLUSTER == 1, "no clusters");
#endif
#define PRODUCT_THREADS ((WARPS + FETCH_WARPS) * 32)
#define PRODUCT_WARPS WARPS
#if K_WAYS_CLUSTER > 1
#define PRODUCT_KERNEL KERNEL_OF_CLUSTERS(PRODUCT_THREADS, BLOCKS_PER_SM, K_WAYS_CLUSTER)
#define PRODUCT_INFO(shared_bytes) \
    { PRODUCT_THREADS, {PRODUCT_GRID, 1}, SHARED_BYTES(shared_bytes), K_WAYS_CLUSTER }
#else
#define PRODUCT_KERNEL KERNEL(PRODUCT_THREADS, BLOCKS_PER_SM)
#define PRODUCT_INFO(shared_bytes) \
    { PRODUCT_THREADS, {PRODUCT_GRID, 1}, SHARED_BYTES(shared_bytes) }
#endif

// ---- passes ----

// Units whose (first) band has one format follow each other: up to three runs, [0, RUN_0), [RUN_0, RUN_1),
// [RUN_1, UNITS). Runs of the same format are joined.
#ifdef STAGE_QKV
#define UNITS_0 (CEIL_DIV(ROWS_0, 16) + (SAME_FORMAT == 1 ? CEIL_DIV(ROWS_1, 16) : 0))
#define UNITS_1 (SAME_FORMAT == 1 ? CEIL_DIV(ROWS_2, 16) : CEIL_DIV(ROWS_1, 16))
#endif
#ifndef UNITS_0 // units of FORMAT_0, of FORMAT_1
#define UNITS_0 UNITS
#define UNITS_1 0
#endif
enum : u32 {
    ONE_RUN = UNIT_BANDS > 1 || (FORMAT_1 == FORMAT_0 && FORMAT_2 == FORMAT_0),
    RUN_0 = ONE_RUN || FORMAT_0 == FORMAT_1 ? 0 : UNITS_0,
    RUN_1 = ONE_RUN || FORMAT_1 == FORMAT_2 ? (u32)RUN_0 : UNITS_0 + UNITS_1,
};
DEVICE constexpr u32 passes_of(u32 n_units) {
    return MAX(CEIL_DIV(n_units * PASSES, (u32)PASSES_UNITS), CEIL_DIV(n_units, (u32)PASS_UNITS));
}
enum : u32 {
    ALL_PASSES = passes_of(RUN_0) + passes_of(RUN_1 - RUN_0) + passes_of(PASSES_UNITS - RUN_1),
    CLUSTERS = K_WAYS_CLUSTER > 1 ? ALL_PASSES *ROW_TILES_MAX : BLOCKS,
    ONE_TURN = CLUSTERS >= ALL_PASSES * ROW_TILES_MAX, // no block has two
};
#define PRODUCT_GRID (CLUSTERS * K_WAYS_CLUSTER)

// What a block does at once: units and rows.
struct Pass {
    u32 unit, n_units;
    u32 row, n_rows; // of the batch; n_rows: those there are
};
struct Passes {
    u32 n_rows, row_tiles, n; // n: passes times row_tiles
    u32 tile_rows, parts;     // parts: 2 where passes have half the units
};
#ifdef TABLE_UNITS
static_assert(ONE_RUN && !SPLIT && ROW_TILES_MAX > 1, "units of one format; blocks take turns");
// A table's tile of rows.
struct RowTile {
    u32 unit, row, n_rows;
};
template <class Bands> DEVICE Passes all_passes(const ProductArgs &, const Bands &bands) {
    return {0, 0, bands.row_tiles() * ALL_PASSES, TILE_ROWS, 1};
}
template <class Bands> DEVICE Pass pass_at(const Passes &, const Bands &bands, u32 number) {
    RowTile tile = bands.row_tile(number / ALL_PASSES);
    u32 pass = number % ALL_PASSES, first = TABLE_UNITS * pass / ALL_PASSES;
    u32 end = TABLE_UNITS * (pass + 1) / ALL_PASSES;
    return {tile.unit + first, end - first, tile.row, MIN(tile.n_rows, (u32)TILE_ROWS)};
}
#else
// Before the input: how many rows there are was known before the step began.
template <class Bands> DEVICE Passes all_passes(const ProductArgs &a, const Bands &) {
    Passes p;
    p.n_rows = MIN(batch_rows(a), (u32)MAX_ROWS);
    p.tile_rows = TILE_ROWS, p.parts = 1;
    u32 narrow_tiles = CEIL_DIV(p.n_rows, (u32)NARROW_ROWS);
    if (NARROWS && (narrow_tiles == 1 || ALL_PASSES * narrow_tiles <= BLOCKS)) p.tile_rows = NARROW_ROWS;
    p.row_tiles = ROW_TILES_MAX == 1 ? 1u : CEIL_DIV(p.n_rows, p.tile_rows);
    if (NARROWS && ALL_PASSES * p.row_tiles * 2 <= BLOCKS) p.parts = 2;
    p.n = ALL_PASSES * p.row_tiles * p.parts;
    return p;
}
// Pass `number` of a run of units, of n.
DEVICE void pass_units(Pass *pass, u32 number, u32 n, u32 begin, u32 end) {
    pass->unit = begin + (end - begin) * number / n;
    pass->n_units = begin + (end - begin) * (number + 1) / n - pass->unit;
}
template <class Bands> DEVICE Pass pass_at(const Passes &p, const Bands &, u32 number) {
    u32 of_units = number / p.row_tiles, parts = NARROWS ? p.parts : 1;
    u32 first = passes_of(RUN_0) * parts, second = passes_of(RUN_1 - RUN_0) * parts;
    u32 tile_rows = NARROWS ? p.tile_rows : (u32)TILE_ROWS;
    Pass pass = {0, 0, number % p.row_tiles * tile_rows, 0};
    pass.n_rows = MIN(p.n_rows - MIN(pass.row, p.n_rows), tile_rows);
    if (RUN_0 > 0 && of_units < first) pass_units(&pass, of_units, first, 0, RUN_0);
    else if (RUN_1 > RUN_0 && of_units - first < second)
        pass_units(&pass, of_units - first, second, RUN_0, RUN_1);
    else pass_units(&pass, of_units - first - second, passes_of(PASSES_UNITS - RUN_1) * parts, RUN_1, UNITS);
    return pass;
}
#endif

// A warp's band in a pass; warps without one take their neighbour's, and drop what comes of it.
struct WarpBand {
    u32 place; // the unit's in the pass
    u32 b, way;
    bool any;
};
DEVICE WarpBand warp_band(u32 warp, u32 n_units) {
    u32 band = warp % PASS_BANDS;
    WarpBand w;
    w.b = UNIT_BANDS == 1 ? 0 : band / BANDS_APART % 2;
    w.place = UNIT_BANDS == 1 ? band : band / (2 * BANDS_APART) * BANDS_APART + band % BANDS_APART;
    w.way = warp / PASS_BANDS;
    w.any = w.place < n_units;
    w.place = MIN(w.place, MAX(n_units, 1u) - 1);
    return w;
}

// Which warp has a band.
DEVICE u32 band_at(u32 place, u32 b) {
    if (UNIT_BANDS == 1) return place;
    return place / BANDS_APART * 2 * BANDS_APART + b * BANDS_APART + place % BANDS_APART;
}

// ---- columns ----

// A way's segments, and its chunks of 256 columns: [first, end).
DEVICE constexpr u32 way_segment(u32 way) {
    return SEGMENTS * way / WAYS;
}
DEVICE constexpr u32 way_chunk(u32 way) {
    return MIN(way_segment(way) * SEGMENT_CHUNKS, (u32)COL_CHUNKS);
}
// The most segments (chunks) of n_ways ways side by side.
DEVICE constexpr u32 most_segments(u32 n_ways) {
    u32 most = 0;
    for (u32 w = 0; w < WAYS; w += n_ways) {
        most = MAX(most, way_segment(w + n_ways) - way_segment(w));
    }
    return most;
}
// The steps of 256 columns of a cluster's block.
DEVICE constexpr u32 block_steps(u32 rank) {
    u32 most = 0;
    for (u32 w = rank * K_WAYS_BLOCK; w < (rank + 1) * K_WAYS_BLOCK; w++) {
        most = MAX(most, way_chunk(w + 1) - way_chunk(w));
    }
    return most;
}
DEVICE constexpr u32 most_chunks() {
    u32 most = 0;
    for (u32 w = 0; w < WAYS; w++) {
        most = MAX(most, way_chunk(w + 1) - way_chunk(w));
    }
    return most;
}
DEVICE constexpr u32 tiles_of_chunk(int format) {
    return 256 / layout_tile_cols(format);
}
// A chunk at the end may have one tile of 128 columns.
DEVICE constexpr u32 tiles_there(int format, u32 chunk) {
    return tiles_of_chunk(format) == 2 && chunk * 2 + 1 >= COL_HALVES ? 1 : tiles_of_chunk(format);
}

// ---- shared memory ----

enum : u32 {
    CHUNKS = most_chunks(),
    CHUNK_PLANE = PASS_UNITS * CHUNK_BYTES_MAX, // the bands b of the pass's units: [tile][unit]
    WEIGHT_SLOT = K_WAYS_BLOCK * UNIT_BANDS * CHUNK_PLANE,
    SHEET_BYTES = TILE_ROWS * 128, // 64 columns
    ROWS_SLOT = K_WAYS_BLOCK * 2 * SHEET_BYTES,
    // No more than a block's passes have: the next stage's blocks begin where there is room.
    KEPT_PASSES = ONE_TURN ? 1 : 4,
    // As many columns of both as there is room for, and two slots at least. On older GPUs a group of copies
    // is a slot of rows and, with every second, one of weights.
    STEPS_FIT = (u32)RING_BYTES / (WEIGHT_SLOT / 2 + ROWS_SLOT),
    WEIGHTS_FIT = MAX((MAX((u32)RING_BYTES, 2 * ROWS_SLOT) - 2 * ROWS_SLOT) / WEIGHT_SLOT, 2u),
    // Prompts: rows come from the L2, and weights from memory, so that these get one more where four are left
    // for rows.
    WEIGHTS_MORE = ROW_TILES_MAX > 1 && (u32)RING_BYTES >= (STEPS_FIT / 2 + 1) * WEIGHT_SLOT + 4 * ROWS_SLOT,
    WEIGHT_SLOTS = HAS_WGMMA ? MAX(MIN(STEPS_FIT / 2 + WEIGHTS_MORE, (u32)CHUNKS *KEPT_PASSES), 2u)
                             : MIN(MAX(STEPS_FIT, 2u) / 2 + 1, WEIGHTS_FIT),
    ROWS_BYTES = MAX((u32)RING_BYTES, WEIGHT_SLOTS *WEIGHT_SLOT + 2 * ROWS_SLOT) - WEIGHT_SLOTS * WEIGHT_SLOT,
    ROWS_SLOTS = MIN(ROWS_BYTES / ROWS_SLOT, (u32)CHUNKS * 2 * (HAS_WGMMA ? KEPT_PASSES : 1)),
    // Of weights, on their way to a block before its input is there. With more, the stage before, which is at
    // work then, waits for its own data (a layer of 8B with 16 rows 59.3 us, not 57.8; of 0.5B 21.3, not
    // 19.7).
    FLIGHT_SLOTS = MAX((64u << 10) / (u32)WEIGHT_SLOT, 1u),
    SKEWED = WARPS == 8 && K_WAYS_BLOCK == 1 && ROW_TILES_MAX > 1 && ROWS_SLOTS <= CHUNKS * 2,
    AHEAD = MAX(MIN(ROWS_SLOTS - 1, (WEIGHT_SLOTS - 1) * 2), 1u), // older GPUs: steps that are on their way

    // Split columns: each segment's sums as the lanes have them, [segment][band][TILE_ROWS / 8][lane] float4.
    PARTS = SPLIT ? most_segments(K_WAYS_BLOCK) * PASS_BANDS * (TILE_ROWS / 8) * WARP : 0,
    FINISH_ROWS = 16, // that are finished at once
    // What the two warps of a unit of two bands give each other, up to EXCHANGED rows at a time:
    // [unit][band][EXCHANGED / 16][lane] float4.
    EXCHANGED = MIN(TILE_ROWS, 32),
    FINISH_BYTES = UNIT_BANDS == 2 && !SPLIT ? PASS_UNITS * EXCHANGED / 8 * WARP * 16 : 0,

    ROWS_AT = ROUND_UP(WEIGHT_SLOTS * WEIGHT_SLOT, 1024),
    PARTS_AT = ROWS_AT + ROWS_SLOTS * ROWS_SLOT,
    SUMS_AT = PARTS_AT + PARTS * 16,
    BARRIERS_AT = ROUND_UP(SUMS_AT + FINISH_BYTES, 16),
    PRODUCT_SHARED_BYTES = BARRIERS_AT + (HAS_WGMMA ? (WEIGHT_SLOTS + ROWS_SLOTS) * 16 : 0),
};

// Where a sequence of slots is.
template <u32 slots> struct RingPlace {
    u32 slot, parity;
    DEVICE void advance() {
        if (++slot == slots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

struct Product {
    Passes passes;
#if HAS_WGMMA
    RingPlace<WEIGHT_SLOTS> weights; // of the next slot to fill or to read
    u32 fetched;                     // of the weights' first pass, before the input
#endif
};

DEVICE bool product_multiplies() {
    return uniform_warp() < WARPS;
}
// All warps that multiply meet.
DEVICE void product_meet(u8 *, Product *) {
    group_sync(15, WARPS * WARP);
}
// A unit whose biases may be known before the input: none.
DEVICE u32 product_first_unit(const Product &) {
    return ~0u;
}

// ---- sums ----

// Factors of the lane's rows of a band. They come from memory: asked for before a pass is multiplied.
struct BandFactors {
    float low, high; // of rows g and g + 8
};
template <class Bands> DEVICE BandFactors band_factors_of(const Bands &bands, u32 unit, u32 b) {
    const float *factors = bands.factors(unit, b) + lane_index() / 4;
    return {factors[0], factors[8]};
}

DEVICE void multiply_by_factors(const float v[4], const BandFactors &f, float out[4]) {
    out[0] = v[0] * f.low, out[1] = v[1] * f.low, out[2] = v[2] * f.high, out[3] = v[3] * f.high;
}

// How many rows there are of `most` from row `first` of the pass on.
DEVICE u32 rows_from(const Pass &pass, u32 first, u32 most) {
    return MIN(pass.n_rows - MIN(first, pass.n_rows), most);
}

// Columns that are not split: a warp has the sums of its band. Units of one band: what all rows want of
// memory is asked for before the first of them is finished, so that its way is waited for once (the registers
// of the last segment's sums are free).
template <u32 tile_rows, class Finish>
DEVICE void finish_bands(const Pass &pass, u32 unit, const float *total, const BandFactors &f,
                         const Finish &finish) {
    constexpr u32 shares = tile_rows / FINISH_ROWS;
    typename Finish::Ahead ahead[shares];
#pragma unroll
    for (u32 i = 0; i < shares; i++) {
        u32 first = i * FINISH_ROWS;
        ahead[i] = finish.ahead(unit, (u64)pass.row + first, rows_from(pass, first, FINISH_ROWS));
    }
#pragma unroll
    for (u32 i = 0; i < shares; i++) {
        u32 first = i * FINISH_ROWS;
        if (first >= pass.n_rows) break;
        LaneSums<2> sums;
        multiply_by_factors(total + first / 2, f, sums.of[0][0]);
        multiply_by_factors(total + first / 2 + 4, f, sums.of[0][1]);
        finish.lanes(unit, (u64)pass.row + first, rows_from(pass, first, FINISH_ROWS), sums, ahead[i]);
    }
}

// Units of two bands: their two warps give each other half of what they have, and finish half of the rows
// each. This is band b's (a constant, so that nothing is chosen for each sum).
template <u32 b, class Finish>
DEVICE void finish_pair(const Pass &pass, u32 place, const float total[SUMS], const BandFactors &f,
                        u8 *shared, const Finish &finish) {
    constexpr u32 half = EXCHANGED / 16, other = UNIT_BANDS - 1 - b; // half: in groups of 8 rows
    float4 *box = (float4 *)(shared + SUMS_AT) + place * 2 * half * WARP + lane_index();
#pragma unroll
    for (u32 round = 0; round < TILE_ROWS / EXCHANGED; round++) {
        if (round * EXCHANGED >= pass.n_rows) break;
        u32 row = (round * 2 + b) * half * 8, n_rows = rows_from(pass, row, half * 8);
        auto ahead = finish.ahead(pass.unit + place, (u64)pass.row + row, n_rows);
        const float *own = total + (round * 2 + b) * half * 4, *sent = total + (round * 2 + other) * half * 4;
#pragma unroll
        for (u32 i = 0; i < half; i++) {
            float v[4];
            multiply_by_factors(sent + i * 4, f, v);
            box[(b * half + i) * WARP] = {v[0], v[1], v[2], v[3]};
        }
        group_sync(1 + place, 2 * WARP);
        LaneSums<half> sums;
#pragma unroll
        for (u32 i = 0; i < half; i++) {
            float4 v = box[(other * half + i) * WARP];
            multiply_by_factors(own + i * 4, f, sums.of[b][i]);
            sums.of[other][i][0] = v.x, sums.of[other][i][1] = v.y;
            sums.of[other][i][2] = v.z, sums.of[other][i][3] = v.w;
        }
        finish.lanes(pass.unit + place, (u64)pass.row + row, n_rows, sums, ahead);
        group_sync(1 + place, 2 * WARP);
    }
}

template <u32 tile_rows, class Finish>
DEVICE void finish_totals(const Pass &pass, const WarpBand &w, const float *total, const BandFactors &f,
                          u8 *shared, const Finish &finish) {
    if (!w.any) return;
    if constexpr (UNIT_BANDS == 1) finish_bands<tile_rows>(pass, pass.unit + w.place, total, f, finish);
    else if (w.b == 0) finish_pair<0>(pass, w.place, total, f, shared, finish);
    else finish_pair<UNIT_BANDS - 1>(pass, w.place, total, f, shared, finish);
}

// Split columns: where a segment's sums of a band are, i-th 8 rows, in the block that has the segment.
DEVICE constexpr u32 segment_rank(u32 segment) {
    return (WAYS * (segment + 1) - 1) / SEGMENTS / K_WAYS_BLOCK;
}
DEVICE float4 *part_at(u8 *shared, u32 segment, u32 band, u32 i) {
    u32 n = segment - way_segment(segment_rank(segment) * K_WAYS_BLOCK);
    return (float4 *)(shared + PARTS_AT) + ((n * PASS_BANDS + band) * (TILE_ROWS / 8) + i) * WARP +
           lane_index();
}
DEVICE void store_part(u8 *shared, u32 segment, u32 band, const float sum[SUMS]) {
#pragma unroll
    for (u32 i = 0; i < TILE_ROWS / 8; i++) {
        *part_at(shared, segment, band, i) = {sum[i * 4], sum[i * 4 + 1], sum[i * 4 + 2], sum[i * 4 + 3]};
    }
}
DEVICE void add_parts(u8 *shared, u32 band, u32 i, float v[4]) {
    float4 part[SEGMENTS];
#pragma unroll
    for (u32 s = 0; s < SEGMENTS; s++) {
#if K_WAYS_CLUSTER > 1
        part[s] = cluster_load(cluster_address(part_at(shared, s, band, i), segment_rank(s)));
#else
        part[s] = *part_at(shared, s, band, i);
#endif
    }
    v[0] = v[1] = v[2] = v[3] = 0;
#pragma unroll
    for (u32 s = 0; s < SEGMENTS; s++) {
        v[0] += part[s].x, v[1] += part[s].y, v[2] += part[s].z, v[3] += part[s].w;
    }
}

// The number of a warp's first task.
DEVICE u32 first_task(u32 rank) {
    return warp_index() % WARPS * K_WAYS_CLUSTER + rank;
}

// Split columns: some rows of a unit, which a warp finishes.
template <class Finish> struct PartTask {
    u32 place, first;
    BandFactors factors[UNIT_BANDS];
    typename Finish::Ahead ahead;
};
DEVICE u32 part_shares(const Pass &pass) {
    return CEIL_DIV(pass.n_rows, (u32)FINISH_ROWS);
}
// Number n of the pass's; past the last one: any.
template <class Bands, class Finish>
DEVICE PartTask<Finish> part_task(const Pass &pass, u32 n, const Bands &bands, const Finish &finish) {
    u32 shares = MAX(part_shares(pass), 1u);
    PartTask<Finish> t;
    t.place = MIN(n / shares, pass.n_units - 1);
    t.first = n % shares * FINISH_ROWS;
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        t.factors[b] = band_factors_of(bands, pass.unit + t.place, b);
    }
    t.ahead = finish.ahead(pass.unit + t.place, pass.row + t.first, rows_from(pass, t.first, FINISH_ROWS));
    return t;
}

// When all parts are there. `task` is the first one, of this warp.
template <class Bands, class Finish>
DEVICE void finish_parts(const Pass &pass, u32 rank, PartTask<Finish> task, u8 *shared, const Bands &bands,
                         const Finish &finish) {
    u32 n_tasks = pass.n_units * part_shares(pass);
#pragma unroll 1
    for (u32 n = first_task(rank); n < n_tasks; n += WARPS * K_WAYS_CLUSTER) {
        PartTask<Finish> next = task;
        if (n + WARPS * K_WAYS_CLUSTER < n_tasks)
            next = part_task(pass, n + WARPS * K_WAYS_CLUSTER, bands, finish);
        LaneSums<2> sums;
#pragma unroll
        for (u32 b = 0; b < UNIT_BANDS; b++) {
#pragma unroll
            for (u32 i = 0; i < 2; i++) {
                float v[4];
                add_parts(shared, band_at(task.place, b), task.first / 8 + i, v);
                multiply_by_factors(v, task.factors[b], sums.of[b][i]);
            }
        }
        finish.lanes(pass.unit + task.place, pass.row + task.first, rows_from(pass, task.first, FINISH_ROWS),
                     sums, task.ahead);
        task = next;
    }
}
// What becomes of a segment's sum of n_rows rows.
template <u32 n_rows>
DEVICE void end_segment(u8 *shared, u32 segment, u32 band, const float *sum, float *total) {
    if (SPLIT) {
        store_part(shared, segment, band, sum);
    } else {
#pragma unroll
        for (u32 i = 0; i < n_rows / 2; i++) {
            total[i] += sum[i];
        }
    }
}
