// The body of products that a library has computed (--products cublas): what is left is to multiply by the
// rows' factors and to finish, as product_many.cuh does it. Its stages' finish is that body's.
//
//     given[row][16 (UNITS b + unit) + r] = sum of weight row r of the unit's band b with row `row`
//
// Grid: warps take 16 rows of a unit in turn. Defines, besides product.cuh's: GIVEN_BLOCKS.
#if !defined(GIVEN_BLOCKS)
#error "GIVEN_BLOCKS"
#endif
#define PRODUCT_MANY
#define PRODUCT_GRID GIVEN_BLOCKS
#define PRODUCT_WARPS 8
#define PRODUCT_THREADS (PRODUCT_WARPS * 32)
#define PRODUCT_SHARED_BYTES 0
#define PRODUCT_KERNEL KERNEL(PRODUCT_THREADS, 1)
#define PRODUCT_INFO(shared_bytes) \
    { PRODUCT_THREADS, {PRODUCT_GRID, 1}, shared_bytes }

enum : u32 {
    GIVEN_COLS = UNITS * UNIT_BANDS * BAND_ROWS,
    FINISH_ROWS = 16, // that are finished at once
};

struct Product {};

template <class Bands> DEVICE void product_prepare(const ProductArgs &, u32, u8 *, const Bands &, Product *) {
}

// Of band b: `given` is the first of the n_rows rows.
template <class Bands>
DEVICE void given_band(const float *given, const Bands &bands, u32 unit, u32 b, u32 n_rows,
                       LaneSums<2> *sums) {
    u32 g = lane_index() / 4, c = lane_index() % 4, col = (b * UNITS + unit) * BAND_ROWS + g;
    const float *factors = bands.factors(unit, b) + g;
#pragma unroll
    for (u32 i = 0; i < 8; i++) { // i % 4: row, and weight row g or g + 8
        u32 row = i / 4 * 8 + c * 2 + i % 2, at = i % 4 / 2 * 8;
        float v = row < n_rows ? load_shared_data(given + (u64)row * GIVEN_COLS + col + at) : 0.0f;
        sums->of[b][i / 4][i % 4] = v * factors[at];
    }
}

template <class Bands, class Finish>
DEVICE void product_run(const ProductArgs &a, u32 block, u8 *, const Bands &bands, Product *,
                        const Finish &finish) {
    u32 all_rows = MIN(batch_rows(a), (u32)MAX_ROWS), n = UNITS * CEIL_DIV(all_rows, (u32)FINISH_ROWS);
    for (u32 i = block * PRODUCT_WARPS + warp_index(); i < n; i += GIVEN_BLOCKS * PRODUCT_WARPS) {
        u32 unit = i % UNITS, first = i / UNITS * FINISH_ROWS,
            n_rows = MIN(all_rows - first, (u32)FINISH_ROWS);
        typename Finish::Ahead ahead = finish.ahead(unit, first, n_rows);
        LaneSums<2> sums;
#pragma unroll
        for (u32 b = 0; b < UNIT_BANDS; b++) {
            given_band(a.partial + (u64)first * GIVEN_COLS, bands, unit, b, n_rows, &sums);
        }
        finish.lanes(unit, first, n_rows, sums, ahead);
    }
}
