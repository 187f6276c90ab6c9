// What the products of batches share, whoever multiplies (product_few.cuh, product_many.cuh):
//
//     Y = W X    for the rows of a batch; W in tiles (layout.h), X f16 activations (rows.cuh), Y f32
//
// Words: a band is 16 rows of a weight matrix; a unit is UNIT_BANDS bands that are finished together; a
// segment is the columns that one accumulator sums.
//
// Order of the sums, fixed by N_COLS alone: in a segment the steps of 16 columns that the tiles give, in
// ascending order, each added to a float32 accumulator by the tensor core; the accumulator begins with 0.
// Then total = s0, total = total + s1, … in float32. Then total * factor of the weight row, which is exact.
// So a row's bits depend neither on the other rows nor on blocks, warps and rings.
//
// A stage is one of STAGE_QKV, STAGE_OUTPUT, STAGE_GLU, STAGE_HEAD, whose units are below; any other defines
// N_COLS, UNIT_BANDS and UNITS itself. It gives the body
//     struct Bands {
//         u32 format(u32 unit, u32 b) const;              which of FORMAT_0 … FORMAT_2 the band's tiles have
//         const u8 *tiles(u32 unit, u32 b) const;         its first tile; tile k is 4 k tiles further
//         const float *factors(u32 unit, u32 b) const; }  of the band's 16 rows
//     finish(u32 unit, u32 first_row, u32 n_rows, const float *sums)
//         called by one warp: sums[(row - first_row) * SUM_STRIDE + 16 * b + r] is the product, factor
//         included, of weight row r of the unit's band b with row `row` of the batch
// and the body gives the stage
//     struct Product
//     product_prepare(a, block, shared, bands, &p)   before stage_wait: everything that needs only weights
//                                (product_few.cuh: load_codebooks(PRODUCT_THREADS), product_open(shared),
//                                block_sync, product_plan(block, bands, &p), product_start(shared, bands,
//                                &p), for a stage that knows late)
//     product_run(a, block, shared, bands, &p, finish)   after it
//     product_meet(shared, &p)   a barrier of the warps that multiply (and finish): they alone call it,
//                                between product_prepare and product_run or after product_run
//     product_multiplies()       whether this warp is one of them: those with warp_index() < PRODUCT_WARPS
//     PRODUCT_GRID, PRODUCT_THREADS, PRODUCT_WARPS, PRODUCT_SHARED_BYTES
//
// Defines: MAX_ROWS, FORMAT_0; FORMAT_1 and FORMAT_2 where the bands differ; the stage's.
#if defined(STAGE_QKV) // bands of the first matrix, then of the second…
#ifndef ROWS_3
#define ROWS_3 0
#define SAME_FORMAT 4
#endif
#define N_COLS D_MODEL
#define UNIT_BANDS 1
#define UNITS (CEIL_DIV(ROWS_0, 16) + CEIL_DIV(ROWS_1, 16) + CEIL_DIV(ROWS_2, 16) + CEIL_DIV(ROWS_3, 16))
#elif defined(STAGE_OUTPUT) // N_COLS is given
#define UNIT_BANDS 1
#define UNITS CEIL_DIV(N_ROWS, 16)
#elif defined(STAGE_GLU) // a band of W_gate and the same one of W_up
#define N_COLS D_MODEL
#ifdef UNGATED
#define UNIT_BANDS 1
#else
#define UNIT_BANDS 2
#endif
#define UNITS CEIL_DIV(D_FF, 16)
#elif defined(STAGE_HEAD)
#define N_COLS D_MODEL
#define UNIT_BANDS 1
#define UNITS CEIL_DIV(N_VOCAB, 16)
#endif
#if !defined(N_COLS) || !defined(UNIT_BANDS) || !defined(UNITS) || !defined(FORMAT_0) || !defined(MAX_ROWS)
#error "N_COLS, UNIT_BANDS, UNITS, FORMAT_0, MAX_ROWS"
#endif
#ifndef SHARED_BYTES_MIN
#define SHARED_BYTES_MIN 0
#endif
// What a block that uses `bytes` of shared memory, from product_memory() on, asks for in its StageInfo.
#define SHARED_BYTES(bytes) MAX((u32)(bytes) + CODEBOOKS_BYTES, (u32)SHARED_BYTES_MIN)
#ifndef FORMAT_1
#define FORMAT_1 FORMAT_0
#endif
#ifndef FORMAT_2
#define FORMAT_2 FORMAT_0
#endif

enum : u32 {
    HALF_COLS = 128,                    // half a tile of 256 columns, a whole one of 128
    COL_HALVES = CEIL_DIV(N_COLS, 128), // those past them are zeros, and are not multiplied
    COL_CHUNKS = CEIL_DIV(N_COLS, 256),
    SEGMENT_CHUNKS = CEIL_DIV(COL_CHUNKS, 8), // of 256 columns
    SEGMENT_COLS = SEGMENT_CHUNKS * 256,
    SEGMENT_HALVES = SEGMENT_CHUNKS * 2,
    SEGMENTS = CEIL_DIV(COL_CHUNKS, SEGMENT_CHUNKS), // at most 8; the last one may be shorter
    SUM_STRIDE = UNIT_BANDS * BAND_ROWS + 4, // no bank conflicts when lane 4 g + c writes row g of column 2 c
};

// ---- formats of bands ----

// A format as a type: bodies are compiled once for each different one.
template <int band_format> struct BandFormat { static constexpr int format = band_format; };

// Calls each(BandFormat) with FORMAT_0 … FORMAT_2, whichever `which` says; equal ones share their code.
template <class Each> DEVICE void with_band_format(u32 which, const Each &each) {
    constexpr bool second = FORMAT_1 != FORMAT_0;
    constexpr bool third = FORMAT_2 != FORMAT_0 && FORMAT_2 != FORMAT_1;
    if constexpr (!second && !third) {
        each(BandFormat<FORMAT_0>());
    } else {
        // The third matrix may have the first's format or the second's.
        u32 code = which == 2 && !third    ? (FORMAT_2 == FORMAT_0 ? 0u : 1u)
                   : which == 1 && !second ? 0u
                                           : which;
        if (code == 0) each(BandFormat<FORMAT_0>());
        else if (second && (!third || code == 1)) each(BandFormat<FORMAT_1>());
        else if (third) each(BandFormat<FORMAT_2>());
    }
}

// ---- codebooks ----

// Of the stage's formats: shared memory begins with them.
enum : u32 {
    CODEBOOKS_BYTES = layout_codebooks_bytes(FORMAT_0, FORMAT_1, FORMAT_2) * CODEBOOK_COPIES,
    CODEBOOK_1_AT = layout_codebook_bytes(FORMAT_0) * CODEBOOK_COPIES,
    CODEBOOK_2_AT = layout_codebooks_bytes(FORMAT_0, FORMAT_1, FORMAT_1) * CODEBOOK_COPIES,
};
static_assert(CODEBOOKS_BYTES % 1024 == 0, "what follows is as aligned as shared memory");
template <int format> LAYOUT_FN u32 codebook_at() {
    return format == FORMAT_0 ? 0 : format == FORMAT_1 ? (u32)CODEBOOK_1_AT : (u32)CODEBOOK_2_AT;
}
DEVICE u8 *product_memory() {
    return shared_memory() + CODEBOOKS_BYTES;
}
// By so many threads of the block, which meet afterwards.
DEVICE void load_codebooks(u32 n_threads) {
    u8 *out = shared_memory();
    if constexpr (FORMAT_HAS_CODEBOOK(FORMAT_0)) load_codebook<FORMAT_0>(out, n_threads);
    if constexpr (FORMAT_1 != FORMAT_0 && FORMAT_HAS_CODEBOOK(FORMAT_1))
        load_codebook<FORMAT_1>(out + CODEBOOK_1_AT, n_threads);
    if constexpr (FORMAT_2 != FORMAT_0 && FORMAT_2 != FORMAT_1 && FORMAT_HAS_CODEBOOK(FORMAT_2))
        load_codebook<FORMAT_2>(out + CODEBOOK_2_AT, n_threads);
    (void)out, (void)n_threads;
}

// The largest of the stage's formats: bytes of 256 columns of a band.
DEVICE constexpr u32 chunk_bytes(int format) {
    return layout_tile_bytes16(format) * (256 / layout_tile_cols(format));
}
enum : u32 {
    CHUNK_BYTES_MAX = MAX(chunk_bytes(FORMAT_0), MAX(chunk_bytes(FORMAT_1), chunk_bytes(FORMAT_2))),
};

// A band of a matrix [n_rows][N_COLS] at `matrix`: its first tile, and the factors of its rows.
template <int format> DEVICE const u8 *band_tiles(const u8 *matrix, u32 band) {
    return matrix + layout_band_tile_at(format, N_COLS, band, 0);
}
template <int format> DEVICE const float *band_factors(const u8 *matrix, u32 n_rows, u32 band) {
    return (const float *)(matrix + layout_factor_at(format, n_rows, N_COLS, band * BAND_ROWS));
}

// Rows of the batch that the stage works on.
DEVICE u32 batch_rows(const ProductArgs &a) {
#if MAX_ROWS == 1 && !defined(STAGE_HEAD)
    (void)a;
    return 1;
#elif defined(STAGE_HEAD)
    return load_shared_data(&a.batch->n_logits);
#else
    return load_shared_data(&a.batch->n_rows);
#endif
}

// ---- segments ----

// Halves [first, end) of a segment that exist.
DEVICE u32 segment_first_half(u32 segment) {
    return segment * SEGMENT_HALVES;
}
DEVICE u32 segment_end_half(u32 segment) {
    return MIN((segment + 1) * SEGMENT_HALVES, (u32)COL_HALVES);
}

// ---- what blocks, warps and lanes have: product_few.cuh ----

// The units of a block's group, and its passes over them, as even as they can be.
struct BlockUnits {
    u32 first, n, passes;
    u32 part;  // of the group: which of its blocks this is
    u32 run;   // of a pair: of each input; else how many are not early
    u32 skip;  // of a pair: of the first input's run, which the other block has
    u32 early; // the first early one
};

// Block `block` of pairs that have runs of neighbouring units, the same ones of all inputs.
DEVICE BlockUnits units_of_pair(u32 block, u32 n_pairs, u32 n_inputs, u32 input_units) {
    u32 pair = block / 2, first = input_units * pair / n_pairs,
        run = input_units * (pair + 1) / n_pairs - first;
    u32 whole = n_inputs / 2 * run, middle = n_inputs % 2 * run;
    u32 of_middle = CEIL_DIV(middle, 2u); // the first block's
    if (block % 2 == 0) return {first, whole + of_middle, 1, 0, run, 0, 0};
    return {n_inputs / 2 * input_units + first, whole + middle - of_middle, 1, 0, run, of_middle, 0};
}

// Group `group` of n_groups, of n units whose last n_early are early.
DEVICE BlockUnits units_of_group(u32 group, u32 n_groups, u32 n, u32 n_early) {
    auto first_of = [&](u32 units, u32 g) { return (u32)((u64)units * g / n_groups); };
    u32 others = n - n_early, first = first_of(others, group), run = first_of(others, group + 1) - first;
    u32 early = first_of(n_early, group), run_early = first_of(n_early, group + 1) - early;
    return {first, run + run_early, 1, 0, run, 0, others + early};
}

// The weights of a half as operands: steps 2 j and 2 j + 1 of 16 columns.
struct HalfOperands {
    u32 of[4][2][4];
};

// Of bands that a warp finishes: the factors of weight rows lane / 4, + 8, or (where a band's segments are in
// several warps) lane % 16.
struct UnitFactors {
    float of[2];
};

// One lane's sums of a segment or of all: rows g and g + 8 of the weights, rows 2 c and 2 c + 1 of the batch.
DEVICE void store_sums(const float sum[4], float *out, u32 stride) {
    u32 g = lane_index() / 4, c = lane_index() % 4;
#if MAX_ROWS == 1
    (void)stride;
    if (c > 0) return;
    out[g] = sum[0];
    out[g + 8] = sum[2];
#else
    float *at = out + 2 * c * stride + g;
    at[0] = sum[0];
    at[stride] = sum[1];
    at[8] = sum[2];
    at[stride + 8] = sum[3];
#endif
}

DEVICE u32 sum_of_lanes(u32 v) {
    for (u32 m = 16; m > 0; m /= 2) {
        v += shuffle_xor(v, m);
    }
    return v;
}

// ---- sums as lanes have them: product_many.cuh and product_given.cuh ----

// Sums of 8 * groups rows of a unit, factor included: of[b][i] has, as mma_f16, weight rows g and g + 8 of
// band b and the rows 8 i + 2 c and 8 i + 2 c + 1 (lane 4 g + c).
template <u32 groups> struct LaneSums { float of[UNIT_BANDS][groups][4]; };

// A lane's four sums of 8 rows for those of one weight row: of rows 4 (c / 2) + r of the 8, weight row
// g + 8 (c % 2). So a warp's loads and stores are of 64 bytes of a row instead of 32.
DEVICE u32 lane_weight_row() {
    return lane_index() / 4 + lane_index() % 2 * 8;
}
DEVICE u32 lane_first_row() {
    return lane_index() % 4 / 2 * 4;
}
DEVICE void sums_of_weight_row(const float v[4], float out[4]) {
    bool odd = lane_index() % 2;
    float other[2] = {shuffle_xor(odd ? v[0] : v[2], 1), shuffle_xor(odd ? v[1] : v[3], 1)};
    out[0] = odd ? other[0] : v[0], out[1] = odd ? other[1] : v[1];
    out[2] = odd ? v[2] : other[0], out[3] = odd ? v[3] : other[1];
}

// Activations of 8 * groups rows of a band, into rows first_row … (a multiple of 8) of `out`, of n_cols
// columns: value(up, i, k) is of weight row g + 8 up and row 8 i + 2 c + k. The lanes of g and g + 1 exchange
// a value, so that each has two neighbours of a row and stores 4 bytes. Rows past the last one are computed,
// too: without branches, a lane's activations do not wait for each other's functions.
template <u32 groups, u32 n_cols, class Value>
DEVICE void store_lane_activations(f16 *out, u32 band, u64 first_row, u32 n_rows, const Value &value) {
    u32 g = lane_index() / 4, row = lane_index() % 4 * 2 + g % 2;
#pragma unroll
    for (u32 up = 0; up < 2; up++) {
        u32 col = band * BAND_ROWS + up * 8 + g;
        // The swizzle is that of the lane's row among 8.
        f16 *at = out + activation_at(row, col - g % 2) + first_row * 64;
#pragma unroll
        for (u32 i = 0; i < groups; i++) {
            u32 own = pack_f16(value(up, i, 0), value(up, i, 1)), other = shuffle_xor(own, 4);
            u32 both = permute_bytes(own, other, g % 2 ? 0x3276 : 0x5410);
            bool is_there = i * 8 + row < n_rows && (n_cols % BAND_ROWS == 0 || col < n_cols);
            if (is_there) *(u32 *)(at + i * 8 * 64) = both;
        }
    }
}
