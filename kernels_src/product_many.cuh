// The body of products of more than 8 rows (product.cuh): batches of up to 128, and prompts in tiles of
// TILE_ROWS rows.
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

#if HAS_WGMMA
// ---- sm_90a: fetching ----

struct Ring {
    u8 *weights, *rows;
    BulkBarrier *weights_full, *weights_read, *rows_full, *rows_read;
};
DEVICE Ring product_ring(u8 *shared) {
    BulkBarrier *b = (BulkBarrier *)(shared + BARRIERS_AT);
    return {shared,           shared + ROWS_AT,     b,
            b + WEIGHT_SLOTS, b + 2 * WEIGHT_SLOTS, b + 2 * WEIGHT_SLOTS + ROWS_SLOTS};
}

// Whether a way has 128 columns `half` of its own in step `step` (of 256 columns).
DEVICE bool way_has(u32 way, u32 step, u32 half) {
    u32 chunk = way_chunk(way) + step;
    return chunk < way_chunk(way + 1) && (COL_HALVES % 2 == 0 || chunk * 2 + half < COL_HALVES);
}

// A lane's part of a pass's copies: a run of bands that are neighbours in memory.
struct LaneCopy {
    const u8 *from; // of the way's first chunk
    u32 to;         // in the slot
    u32 bytes;      // of a tile of each; 0: none
    u32 tile;       // bytes of one tile
    u32 n_tiles;    // of a chunk
    u32 way;
};
template <class Bands> DEVICE LaneCopy lane_copy(const Pass &pass, u32 rank, const Bands &bands) {
    u32 lane = lane_index(), b = lane % PASS_BANDS / PASS_UNITS, place = lane % PASS_UNITS;
    bool any = lane < WARPS && place < pass.n_units;
    LaneCopy c = {0, 0, 0, 0, 1, rank * K_WAYS_BLOCK + MIN(lane / PASS_BANDS, K_WAYS_BLOCK - 1u)};
    if (any) {
        u32 unit = pass.unit + place;
        c.from = bands.tiles(unit, b);
        with_band_format(bands.format(unit, b), [&](auto f) {
            c.tile = layout_tile_bytes16(decltype(f)::format);
            c.n_tiles = tiles_of_chunk(decltype(f)::format);
        });
        c.from += (u64)(way_chunk(c.way) * c.n_tiles) * 4 * c.tile;
        c.to = lane / PASS_UNITS * CHUNK_PLANE + place * c.tile;
    }
    u64 before = shuffle_up((u64)c.from, 1);
    bool joins = any && place > 0 && before + c.tile == (u64)c.from;
    u32 follow = ballot_lanes(joins);
    if (any && !joins) {
        u32 run = 1; // bands that go with this one
        while (lane + run < WARP && (follow >> (lane + run) & 1)) {
            run++;
        }
        c.bytes = run * c.tile;
    }
    return c;
}

// Bytes of a step's weights, of all the pass's bands.
template <class Bands> DEVICE u32 step_bytes(const Pass &pass, u32 rank, u32 step, const Bands &bands) {
    u32 bytes = 0;
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        with_band_format(bands.format(pass.unit, b), [&](auto f) {
            constexpr int format = decltype(f)::format;
            for (u32 k = 0; k < K_WAYS_BLOCK; k++) {
                u32 way = rank * K_WAYS_BLOCK + k, n = way_has(way, step, 0);
                if (tiles_of_chunk(format) == 2 && way_has(way, step, 1)) n = 2;
                bytes += pass.n_units * n * layout_tile_bytes16(format);
            }
        });
    }
    return bytes;
}

// A step's weights into the next slot; one warp.
DEVICE void fetch_weights(const Ring &ring, RingPlace<WEIGHT_SLOTS> *place, const LaneCopy &c, u32 bytes,
                          u32 step) {
    BulkBarrier *full = ring.weights_full + place->slot;
    bulk_barrier_wait(ring.weights_read + place->slot, place->parity ^ 1);
    if (lane_index() == 0) bulk_barrier_expect(full, bytes);
    warp_sync();
    for (u32 t = 0; t < c.n_tiles && c.bytes > 0; t++) {
        if (!way_has(c.way, step, t)) break;
        const u8 *from = c.from + (u64)(step * c.n_tiles + t) * 4 * c.tile;
        u8 *to = ring.weights + place->slot * WEIGHT_SLOT + c.to + t * PASS_UNITS * c.tile;
        if (WEIGHTS_ONCE) bulk_copy_once(to, from, c.bytes, full);
        else bulk_copy(to, from, c.bytes, full);
    }
    place->advance();
}

// 128 columns of a pass's rows for each way; a lane a way.
DEVICE void fetch_rows(const Ring &ring, RingPlace<ROWS_SLOTS> *place, const Pass &pass, u32 rank,
                       u32 tile_rows, const f16 *in, u32 step, u32 half) {
    u32 way = rank * K_WAYS_BLOCK + lane_index();
    bool any = lane_index() < K_WAYS_BLOCK && way_has(way, step, half);
    u32 n = count_ones(ballot_lanes(any));
    BulkBarrier *full = ring.rows_full + place->slot;
    bulk_barrier_wait(ring.rows_read + place->slot, place->parity ^ 1);
    u32 bytes = NARROWS ? tile_rows * 128 : (u32)SHEET_BYTES; // of 64 columns
    if (lane_index() == 0) bulk_barrier_expect(full, n * 2 * bytes);
    warp_sync();
    if (any) {
        u8 *to = ring.rows + place->slot * ROWS_SLOT + lane_index() * 2 * SHEET_BYTES;
        u32 sheet = ((way_chunk(way) + step) * 2 + half) * 2;
        const f16 *from = in + ((u64)sheet * MAX_ROWS + pass.row) * 64;
        if (ROW_TILES_MAX == 1) {
            bulk_copy(to, from, 2 * SHEET_BYTES, full);
        } else {
            bulk_copy(to, from, bytes, full);
            bulk_copy(to + SHEET_BYTES, from + (u64)MAX_ROWS * 64, bytes, full);
        }
    }
    place->advance();
}

// ---- sm_90a: multiplying ----

struct ReadPlace {
    RingPlace<WEIGHT_SLOTS> weights;
    RingPlace<ROWS_SLOTS> rows;
};

// What a warp that has nothing to multiply does with steps: the others wait for its arrivals.
DEVICE void skip_half(const Ring &ring, ReadPlace *at) {
    bulk_barrier_wait(ring.rows_full + at->rows.slot, at->rows.parity);
    if (lane_index() == 0) bulk_barrier_arrive(ring.rows_read + at->rows.slot);
    at->rows.advance();
}
DEVICE void skip_steps(const Ring &ring, ReadPlace *at, u32 first, u32 end) {
#pragma unroll 1
    for (u32 step = first; step < end; step++) {
        bulk_barrier_wait(ring.weights_full + at->weights.slot, at->weights.parity);
        if (lane_index() == 0) bulk_barrier_arrive(ring.weights_read + at->weights.slot);
        at->weights.advance();
        skip_half(ring, at);
        skip_half(ring, at);
    }
}

DEVICE u32 slot_before(u32 slot) {
    return (slot > 0 ? slot : (u32)ROWS_SLOTS) - 1;
}

// A pass, in a tile of n_rows rows, of a warp whose weights have this format, with the three others of its
// group. While PAIRS pairs of steps are multiplied, the next are taken apart. `total` and the ends of
// segments: end_segment.
template <int format, u32 n_rows>
DEVICE void multiply_pass(const Ring &ring, ReadPlace *at, const WarpBand &w, u32 band, u32 rank, u8 *shared,
                          float *total) {
    constexpr u32 tile_bytes = layout_tile_bytes16(format), n_tiles = tiles_of_chunk(format);
    float sum[n_rows / 2] = {}; // (products begin with 0: this leaves its registers to others between passes)
    u32 a[2 * PAIRS][2][4], way = rank * K_WAYS_BLOCK + w.way, first = way_chunk(way),
                            end = way_chunk(way + 1);
#pragma unroll 1
    for (u32 chunk = first; chunk < end; chunk++) {
        const u8 *tiles = ring.weights + at->weights.slot * WEIGHT_SLOT +
                          (w.way * UNIT_BANDS + w.b) * CHUNK_PLANE + w.place * tile_bytes;
        bool begins = chunk % SEGMENT_CHUNKS == 0; // a segment
        Tile<format> t;
        bulk_barrier_wait(ring.weights_full + at->weights.slot, at->weights.parity);
#pragma unroll
        for (u32 h = 0; h < 2; h++) {
            if (COL_HALVES % 2 && h == 1 && chunk * 2 + h >= COL_HALVES) break;
            const u8 *tile = n_tiles == 2 ? tiles + h * PASS_UNITS * tile_bytes : tiles;
            if (n_tiles == 2 || h == 0) t.scales(tile);
            t.half(tile, n_tiles == 2 ? 0 : h);
            const u8 *rows = ring.rows + at->rows.slot * ROWS_SLOT + w.way * 2 * SHEET_BYTES;
#pragma unroll
            for (u32 j = 0; j < 4; j += PAIRS) {
                u32(*pairs)[2][4] = a + j % (2 * PAIRS);
#pragma unroll
                for (u32 i = 0; i < PAIRS; i++) {
                    t.pair(n_tiles == 2 ? 0 : h, j + i, pairs[i]);
                }
                if (h == 0 && j == 0 && begins && chunk > first) {
                    warpgroup_wait<0>();
                    warpgroup_keep<n_rows / 2>(sum);
                    end_segment<n_rows>(shared, chunk / SEGMENT_CHUNKS - 1, band, sum, total);
                }
                if (j == 0) bulk_barrier_wait(ring.rows_full + at->rows.slot, at->rows.parity);
                warpgroup_fence();
#pragma unroll
                for (u32 i = 0; i < PAIRS; i++) {
                    MatrixRows sheet = matrix_rows(rows + (j + i) / 2 * SHEET_BYTES);
                    warpgroup_multiply_half<n_rows>(sum, pairs[i], sheet, (j + i) % 2,
                                                    h == 0 && j + i == 0 && begins);
                }
                warpgroup_commit();
                warpgroup_wait<1>();
                // The slot before this one has been multiplied.
                if (j == 0 && (h > 0 || chunk > first) && lane_index() == 0)
                    bulk_barrier_arrive(ring.rows_read + slot_before(at->rows.slot));
            }
            at->rows.advance();
        }
        if (lane_index() == 0) bulk_barrier_arrive(ring.weights_read + at->weights.slot);
        at->weights.advance();
    }
    warpgroup_wait<0>();
    warpgroup_keep<n_rows / 2>(sum);
    if (lane_index() == 0) bulk_barrier_arrive(ring.rows_read + slot_before(at->rows.slot));
    end_segment<n_rows>(shared, CEIL_DIV(end, SEGMENT_CHUNKS) - 1, band, sum, total);
    if (COL_HALVES % 2 && end == COL_CHUNKS) skip_half(ring, at);
    if (K_WAYS_BLOCK > 1) skip_steps(ring, at, end - first, block_steps(rank));
}

// ---- sm_90a: a block ----

template <class Bands>
DEVICE void product_prepare(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p) {
    Ring ring = product_ring(shared);
    if (thread_index() == 0) {
        for (u32 i = 0; i < WEIGHT_SLOTS; i++) {
            bulk_barrier_init(ring.weights_full + i, 1);
            bulk_barrier_init(ring.weights_read + i, WARPS);
        }
        for (u32 i = 0; i < ROWS_SLOTS; i++) {
            bulk_barrier_init(ring.rows_full + i, 1);
            bulk_barrier_init(ring.rows_read + i, WARPS);
        }
        bulk_barrier_init_fence();
    }
    p->passes = all_passes(a, bands);
    p->weights = {0, 0};
    p->fetched = 0;
    block_sync();
    u32 rank = block % K_WAYS_CLUSTER, number = block / K_WAYS_CLUSTER;
    if (uniform_warp() == WARPS && number < p->passes.n) {
        Pass pass = pass_at(p->passes, bands, number);
        LaneCopy c = lane_copy(pass, rank, bands);
        p->fetched = MIN(block_steps(rank), (u32)WEIGHT_SLOTS);
#pragma unroll 1
        for (u32 step = 0; step < p->fetched; step++) {
            if (step >= FLIGHT_SLOTS) bulk_barrier_wait(ring.weights_full + step - FLIGHT_SLOTS, 0);
            fetch_weights(ring, &p->weights, c, step_bytes(pass, rank, step, bands), step);
        }
    }
    if (CODEBOOKS_BYTES > 0 && product_multiplies()) {
        load_codebooks(WARPS * WARP);
        product_meet(shared, p);
    }
}

// A step's part of a pass.
template <class Finish> DEVICE void foresee(const Finish &finish, const Pass &pass, u32 step, u32 n_steps) {
    u32 first = pass.n_rows * step / n_steps, end = pass.n_rows * (step + 1) / n_steps;
    finish.foresee(pass.unit, pass.n_units, pass.row + first, end - first);
}

template <class Bands, class Finish>
DEVICE void product_fetch(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                          const Finish &finish) {
    Ring ring = product_ring(shared);
    u32 rank = block % K_WAYS_CLUSTER, steps = block_steps(rank);
    u32 warp = uniform_warp();
    bool weights = warp == WARPS, rows = warp == WARPS + 1;
    RingPlace<ROWS_SLOTS> rows_place = {0, 0};
    if (!weights && !rows) return;
#pragma unroll 1
    for (u32 n = block / K_WAYS_CLUSTER; n < p->passes.n; n += CLUSTERS) {
        Pass pass = pass_at(p->passes, bands, n);
        LaneCopy c = {};
        if (weights) c = lane_copy(pass, rank, bands);
#pragma unroll 1
        for (u32 step = 0; step < steps; step++) {
            if (weights && step >= p->fetched)
                fetch_weights(ring, &p->weights, c, step_bytes(pass, rank, step, bands), step);
            for (u32 half = 0; rows && half < 2; half++) {
                fetch_rows(ring, &rows_place, pass, rank, p->passes.tile_rows, a.in, step, half);
            }
            if (rows && p->passes.n > CLUSTERS) foresee(finish, pass, step, steps); // of several turns
        }
        p->fetched = 0;
        if (ONE_TURN) break;
    }
}

// Those that share columns: the block's warps, or all threads of a cluster, which has one pass alone.
DEVICE void parts_meet(u8 *shared, Product *p) {
#if K_WAYS_CLUSTER > 1
    (void)shared, (void)p;
    cluster_sync();
#else
    product_meet(shared, p);
#endif
}
DEVICE void parts_end(u8 *shared, Product *p) {
#if K_WAYS_CLUSTER > 1
    (void)shared, (void)p;
    cluster_end();
#else
    if (!ONE_TURN) product_meet(shared, p);
#endif
}

// All passes of a block, in tiles of tile_rows rows.
template <u32 tile_rows, class Bands, class Finish>
DEVICE void product_multiply(u32 block, u8 *shared, const Bands &bands, Product *p, const Finish &finish) {
    Ring ring = product_ring(shared);
    u32 rank = block % K_WAYS_CLUSTER, warp = uniform_warp();
    ReadPlace at = {{0, 0}, {0, 0}};
    if (SKEWED && warp >= 4 && block / K_WAYS_CLUSTER < p->passes.n)
        bulk_barrier_wait(ring.rows_full + MIN((u32)ROWS_SLOTS, 4u) - 1, 0);
#pragma unroll 1
    for (u32 n = block / K_WAYS_CLUSTER; n < p->passes.n; n += CLUSTERS) {
        Pass pass = pass_at(p->passes, bands, n);
        WarpBand w = warp_band(warp, pass.n_units);
        BandFactors factors = {};
        PartTask<Finish> task = {};
        if constexpr (SPLIT) task = part_task(pass, first_task(rank), bands, finish);
        else factors = band_factors_of(bands, pass.unit + w.place, w.b);
        float total[tile_rows / 2];
#pragma unroll
        for (u32 i = 0; i < tile_rows / 2; i++) {
            total[i] = 0;
        }
        if (warp % PASS_BANDS / GROUP_BANDS * (GROUP_BANDS / UNIT_BANDS) < pass.n_units) {
            with_band_format(bands.format(pass.unit + w.place, w.b), [&](auto f) {
                multiply_pass<decltype(f)::format, tile_rows>(ring, &at, w, warp % PASS_BANDS, rank, shared,
                                                              total);
            });
        } else {
            skip_steps(ring, &at, 0, block_steps(rank));
        }
        if constexpr (SPLIT) {
            parts_meet(shared, p); // all parts are there
            finish_parts(pass, rank, task, shared, bands, finish);
            parts_end(shared, p); // nobody reads them any more
        } else {
            finish_totals<tile_rows>(pass, w, total, factors, shared, finish);
        }
        if (ONE_TURN) break;
    }
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                        const Finish &finish) {

    if (product_multiplies()) {
        if (GIVES_REGISTERS) registers_take<TAKEN_REGISTERS>();
        constexpr u32 narrow = NARROWS ? (u32)NARROW_ROWS : (u32)TILE_ROWS;
        if (NARROWS && p->passes.tile_rows == narrow)
            product_multiply<narrow>(block, shared, bands, p, finish);
        else product_multiply<TILE_ROWS>(block, shared, bands, p, finish);
    } else {
        if (GIVES_REGISTERS) registers_give<KEPT_REGISTERS>();
        product_fetch(a, block, shared, bands, p, finish);
#if K_WAYS_CLUSTER > 1
        warp_sync();
        if (block / K_WAYS_CLUSTER < p->passes.n) {
            cluster_sync(); // as in product_multiply
            cluster_end();
        }
#endif
    }
}
#endif

#if !HAS_WGMMA
// ---- before sm_90a ----

// What is copied in a step of 128 columns: every way's rows, and with every second step its bands' next 256
// columns.
template <class Bands>
DEVICE void fetch_step(const ProductArgs &a, u8 *shared, const Pass &pass, const WarpBand &w,
                       const Bands &bands, u32 step) {
    u32 half = way_chunk(w.way) * 2 + step, chunk = half / 2;
    if (half < MIN(way_chunk(w.way + 1) * 2, (u32)COL_HALVES)) {
        u8 *to = shared + ROWS_AT + step % ROWS_SLOTS * ROWS_SLOT + w.way * 2 * SHEET_BYTES;
        for (u32 i = thread_index() % (PASS_BANDS * WARP) * 16; i < 2 * SHEET_BYTES;
             i += PASS_BANDS * WARP * 16) {
            u64 sheet = (u64)half * 2 + i / SHEET_BYTES;
            const u8 *from = (const u8 *)(a.in + (sheet * MAX_ROWS + pass.row) * 64);
            copy_async_16(to + i, from + i % SHEET_BYTES);
        }
        if (step % 2 == 0 && w.any) {
            to = shared + step / 2 % WEIGHT_SLOTS * WEIGHT_SLOT + (w.way * UNIT_BANDS + w.b) * CHUNK_PLANE +
                 w.place * CHUNK_BYTES_MAX;
            const u8 *from = bands.tiles(pass.unit + w.place, w.b);
            with_band_format(bands.format(pass.unit + w.place, w.b), [&](auto f) {
                constexpr int format = decltype(f)::format;
                constexpr u32 bytes = layout_tile_bytes16(format);
                for (u32 t = 0; t < tiles_there(format, chunk); t++) {
                    const u8 *tile = from + (u64)(chunk * tiles_of_chunk(format) + t) * 4 * bytes;
                    for (u32 i = lane_index() * 16; i < bytes; i += WARP * 16) {
                        copy_async_16(to + t * bytes + i, tile + i);
                    }
                }
            });
        }
    }
    copy_async_commit(); // also an empty group: the wait counts them
}

// Two steps of 16 columns: a warp's weights with all rows.
DEVICE void multiply_pair(const u8 *rows, u32 j, const u32 a[2][4], float sum[SUMS]) {
    u32 lane = lane_index();
#pragma unroll
    for (u32 i = 0; i < TILE_ROWS / 8; i++) {
        u32 b[4];
        load_matrix_4(b, rows + j / 2 * SHEET_BYTES + (i * 8 + lane % 8) * 128 +
                             ((j % 2 * 4 + lane / 8) ^ (lane % 8)) * 16);
        mma_f16(sum + i * 4, a[0], b);
        mma_f16(sum + i * 4, a[1], b + 2);
    }
}

// A chunk's 128 columns h.
template <int format>
DEVICE void multiply_half_chunk(Tile<format> *t, const u8 *weights, const u8 *rows, u32 h, float sum[SUMS]) {
    constexpr bool two = tiles_of_chunk(format) == 2;
    const u8 *tile = two ? weights + h * layout_tile_bytes16(format) : weights;
    t->scales(tile);
    t->half(tile, two ? 0 : h);
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        u32 a[2][4];
        t->pair(two ? 0 : h, j, a);
        multiply_pair(rows, j, a, sum);
    }
}

template <class Bands>
DEVICE void multiply_pass(const ProductArgs &a, u8 *shared, const Pass &pass, const WarpBand &w, u32 band,
                          const Bands &bands, float total[SUMS]) {
    float sum[SUMS];
    u32 first = way_chunk(w.way), end = way_chunk(w.way + 1);
    for (u32 i = 0; i < AHEAD; i++) {
        fetch_step(a, shared, pass, w, bands, i);
    }
#pragma unroll 1
    for (u32 step = 0; step < CHUNKS * 2; step++) {
        copy_async_wait<AHEAD - 1>();
        block_sync(); // this step is here, and the one whose place is filled next has been read
        fetch_step(a, shared, pass, w, bands, step + AHEAD);
        u32 chunk = first + step / 2;
        if (chunk >= end || chunk * 2 + step % 2 >= COL_HALVES) continue;
        if (step % 2 == 0 && chunk % SEGMENT_CHUNKS == 0) {
#pragma unroll
            for (u32 i = 0; i < SUMS; i++) {
                sum[i] = 0;
            }
        }
        const u8 *rows = shared + ROWS_AT + step % ROWS_SLOTS * ROWS_SLOT + w.way * 2 * SHEET_BYTES,
                 *weights = shared + step / 2 % WEIGHT_SLOTS * WEIGHT_SLOT +
                            (w.way * UNIT_BANDS + w.b) * CHUNK_PLANE + w.place * CHUNK_BYTES_MAX;
        with_band_format(bands.format(pass.unit + w.place, w.b), [&](auto f) {
            Tile<decltype(f)::format> t;
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                if (step % 2 == h) multiply_half_chunk<decltype(f)::format>(&t, weights, rows, h, sum);
            }
        });
        bool last_half = step % 2 == 1 || chunk * 2 + 1 >= COL_HALVES;
        if (last_half && ((chunk + 1) % SEGMENT_CHUNKS == 0 || chunk + 1 == end))
            end_segment<TILE_ROWS>(shared, chunk / SEGMENT_CHUNKS, band, sum, total);
    }
    copy_async_wait<0>();
    block_sync();
}

template <class Bands>
DEVICE void product_prepare(const ProductArgs &a, u32, u8 *, const Bands &bands, Product *p) {
    load_codebooks(PRODUCT_THREADS); // before the block_sync of the first step
    p->passes = all_passes(a, bands);
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *shared, const Bands &bands, Product *p,
                        const Finish &finish) {
#pragma unroll 1
    for (u32 n = block; n < p->passes.n; n += BLOCKS) {
        Pass pass = pass_at(p->passes, bands, n);
        WarpBand w = warp_band(warp_index(), pass.n_units);
        BandFactors factors = {};
        PartTask<Finish> task = {};
        if constexpr (SPLIT) task = part_task(pass, first_task(0), bands, finish);
        else factors = band_factors_of(bands, pass.unit + w.place, w.b);
        float total[SUMS];
#pragma unroll
        for (u32 i = 0; i < SUMS; i++) {
            total[i] = 0;
        }
        multiply_pass(a, shared, pass, w, warp_index() % PASS_BANDS, bands, total);
        if constexpr (SPLIT) {
            finish_parts(pass, 0, task, shared, bands, finish); // parts came before the last block_sync
            block_sync();
        } else {
            finish_totals<TILE_ROWS>(pass, w, total, factors, shared, finish);
        }
    }
}
#endif
