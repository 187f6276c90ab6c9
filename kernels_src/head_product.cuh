// A product of each head with a matrix of its own, for attention with a compressed cache:
//
//     Y[row][head] = W[head] X[row][head]    W [PRODUCT_ROWS][PRODUCT_COLS] in tiles (layout.h), X f16, Y f32
//
// Operation: HEAD_MATMUL. The heads' matrices are small and all rows want all of them, so a block takes a
// head and HEAD_TOKENS rows, whose inputs it has in shared memory; its warps take bands of 16 weight rows in
// turn, and read their tiles from global memory once. Where these are few blocks, HEAD_PARTS share the bands
// (with one row of 16 heads a warp had eight in turn: 9 us). Order of sums: as product.cuh's, in one segment:
// the steps of 16 columns that the tiles give, in ascending order, each added to a float32 accumulator that
// begins with 0; then times the weight row's factor. So a row's bits depend on nothing but the row.
//
// Needs rows.cuh, tiles.cuh. Defines: N_HEADS, PRODUCT_ROWS, PRODUCT_COLS (at most 2,048), FORMAT_0 (none
// with a codebook), MAX_ROWS.
#if !defined(N_HEADS) || !defined(PRODUCT_ROWS) || !defined(PRODUCT_COLS) || !defined(FORMAT_0) || \
    !defined(MAX_ROWS)
#error "N_HEADS, PRODUCT_ROWS, PRODUCT_COLS, FORMAT_0, MAX_ROWS"
#endif

enum : u32 {
    HEAD_WARPS = 4,
    HEAD_THREADS = HEAD_WARPS * WARP,
    HEAD_BANDS = CEIL_DIV(PRODUCT_ROWS, BAND_ROWS),
    HEAD_BLOCKS_WANTED = 264,                  // two a multiprocessor of the largest GPUs
    HEAD_HALVES = CEIL_DIV(PRODUCT_COLS, 128), // of columns; those past the last one are zeros
    HEAD_TILE_HALVES = layout_tile_cols(FORMAT_0) / 128,
    HEAD_TILES = CEIL_DIV(HEAD_HALVES, HEAD_TILE_HALVES),
    TOKEN_GROUPS = MAX_ROWS <= 8    ? 1
                   : MAX_ROWS <= 16 ? 2
                                    : 4, // of 8 rows
    HEAD_TOKENS = TOKEN_GROUPS * 8,
    INPUT_STRIDE = HEAD_HALVES * 128 + 8, // halves from row to row: no bank conflicts
    INPUT_BYTES = HEAD_TOKENS * INPUT_STRIDE * 2,
    HEAD_RUNS = CEIL_DIV(MAX_ROWS, HEAD_TOKENS) * N_HEADS, // of rows, of all heads
    HEAD_PARTS = MIN(CEIL_DIV(HEAD_BANDS, HEAD_WARPS), MAX(HEAD_BLOCKS_WANTED / HEAD_RUNS, 1u)),
    HEAD_BLOCKS = MIN(HEAD_RUNS * HEAD_PARTS, 16u * 1024),
};
static_assert(PRODUCT_COLS <= 2048, "one segment");
static_assert(!FORMAT_HAS_CODEBOOK(FORMAT_0), "no room for a codebook");

// What a block does at a time: a head of the rows first … first + n - 1, and of its bands each HEAD_PARTS-th
// run of HEAD_WARPS.
struct HeadTask {
    u32 head, first, n, part;
};
DEVICE HeadTask head_task(u32 task, u32 n_rows) {
    u32 run = task / HEAD_PARTS, first = run / N_HEADS * HEAD_TOKENS;
    return {run % N_HEADS, first, MIN(n_rows - first, (u32)HEAD_TOKENS), task % HEAD_PARTS};
}
DEVICE u32 head_task_count(u32 n_rows) {
    return CEIL_DIV(n_rows, (u32)HEAD_TOKENS) * N_HEADS * HEAD_PARTS;
}
DEVICE u32 first_band(const HeadTask &t) {
    return t.part * HEAD_WARPS + warp_index();
}

// Before the wait: the warp's first band of weights to the L2, of the block's first task.
DEVICE void prefetch_head(const u8 *weight, u32 n_rows) {
    if (block_index() >= head_task_count(n_rows)) return;
    HeadTask t = head_task(block_index(), n_rows);
    if (first_band(t) >= HEAD_BANDS) return;
    const u8 *matrix = weight + t.head * layout_matrix_bytes(FORMAT_0, PRODUCT_ROWS, PRODUCT_COLS);
    for (u32 k = 0; k < HEAD_TILES; k++) {
        const u8 *tile = matrix + layout_band_tile_at(FORMAT_0, PRODUCT_COLS, first_band(t), k);
        for (u32 at = lane_index() * 128; at < layout_tile_bytes16(FORMAT_0); at += WARP * 128) {
            prefetch_l2(tile + at);
        }
    }
}

// Where the columns col and col + 1 of the task's row `token` are in shared memory; col is even.
DEVICE u32 *head_input(u8 *shared, u32 token, u32 col) {
    return (u32 *)((f16 *)shared + token * INPUT_STRIDE + col / 128 * 128 + col / 4 % 8 * 16 +
                   col / 2 % 2 * 8 + col / 32 % 4 * 2);
}
// Fills the inputs with pair(token, col), of rows and columns that there are; zeros elsewhere. All threads
// call it, and meet afterwards.
template <class Pair> DEVICE void load_head_inputs(u8 *shared, u32 n, Pair pair) {
    enum : u32 { PAIRS = HEAD_HALVES * 64 };
    for (u32 i = thread_index(); i < HEAD_TOKENS * PAIRS; i += HEAD_THREADS) {
        u32 token = i / PAIRS, col = i % PAIRS * 2;
        *head_input(shared, token, col) = token < n && col < PRODUCT_COLS ? pair(token, col) : 0;
    }
}

// Adds half h of a tile to the sums of all groups of rows.
DEVICE void add_tile_half(const Tile<FORMAT_0> &tile, u32 h, const f16 *x, float sum[TOKEN_GROUPS][4]) {
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        u32 a[2][4];
        tile.pair(h, j, a);
#pragma unroll
        for (u32 step = 0; step < 2; step++) {
#pragma unroll
            for (u32 t = 0; t < TOKEN_GROUPS; t++) {
                const f16 *from = x + (t * 8 + lane_index() / 4) * INPUT_STRIDE + (2 * j + step) * 16 +
                                  lane_index() % 4 * 2;
                u32 b[2] = {*(const u32 *)from, *(const u32 *)(from + 8)};
                mma_f16(sum[t], a[step], b);
            }
        }
    }
}

// Calls finish(token, row, value) for every row of the task and every row of the head's weights.
template <class Finish>
DEVICE void head_product(const u8 *weight, const HeadTask &task, const u8 *shared, Finish finish) {
    const u8 *matrix = weight + task.head * layout_matrix_bytes(FORMAT_0, PRODUCT_ROWS, PRODUCT_COLS);
    for (u32 band = first_band(task); band < HEAD_BANDS; band += HEAD_PARTS * HEAD_WARPS) {
        float sum[TOKEN_GROUPS][4] = {};
#pragma unroll 1
        for (u32 k = 0; k < HEAD_TILES; k++) {
            const u8 *p = matrix + layout_band_tile_at(FORMAT_0, PRODUCT_COLS, band, k);
            Tile<FORMAT_0> tile;
            tile.scales(p);
#pragma unroll
            for (u32 h = 0; h < HEAD_TILE_HALVES; h++) {
                u32 half = k * HEAD_TILE_HALVES + h;
                if (half >= HEAD_HALVES) break;
                tile.half(p, h);
                add_tile_half(tile, h, (const f16 *)shared + half * 128, sum);
            }
        }
        u32 row = band * BAND_ROWS + lane_index() / 4;
        const float *factors =
            (const float *)(matrix + layout_factor_at(FORMAT_0, PRODUCT_ROWS, PRODUCT_COLS, row));
#pragma unroll
        for (u32 i = 0; i < TOKEN_GROUPS * 4; i++) {
            u32 token = i / 4 * 8 + lane_index() % 4 * 2 + i % 2, up = i % 4 / 2 * 8;
            if (token < task.n && row + up < PRODUCT_ROWS)
                finish(token, row + up, sum[i / 4][i % 4] * factors[up]);
        }
    }
}
