// A product of each head with a matrix of its own, for attention with a compressed cache:
//
//     Y[row][head] = W[head] X[row][head]    W [PRODUCT_ROWS][PRODUCT_COLS] in tiles (layout.h), X f16, Y f32
//
// Operation: HEAD_MATMUL. The heads' matrices are small and all rows want all of them, so a block takes a
// head and HEAD_TOKENS rows, whose inputs it has in shared memory; its warps take bands of 16 weight rows in
// turn, and read their tiles once. Where these are few blocks, HEAD_PARTS share the bands (with one row of 16
// heads a warp had eight in turn: 9 us). Few rows: a warp's bands go through shared memory, the first one
// before the stage's wait, each other one while the one before it is multiplied; many: from global memory.
// Order of sums: the steps of 16 columns that the tiles give, in ascending order, those with even numbers and
// those with odd ones each in a float32 accumulator that begins with 0 (each step waits for the one before);
// then their sum, times the weight row's factor. So a row's bits depend on nothing but the row.
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
    HELD_TOKENS =
        MAX_ROWS == 1 ? 1 : HEAD_TOKENS,          // one row is all of mma's eight columns; nobody reads seven
    INPUT_STRIDE = HEAD_HALVES * 128 + 8,         // halves from row to row: no bank conflicts
    INPUT_BYTES = HELD_TOKENS * INPUT_STRIDE * 2, // a multiple of 16
    HEAD_RUNS = CEIL_DIV(MAX_ROWS, HEAD_TOKENS) * N_HEADS, // of rows, of all heads
    HEAD_PARTS = MIN(CEIL_DIV(HEAD_BANDS, HEAD_WARPS), MAX(HEAD_BLOCKS_WANTED / HEAD_RUNS, 1u)),
    HEAD_BLOCKS = MIN(HEAD_RUNS * HEAD_PARTS, 16u * 1024),

    BAND_STEP = HEAD_PARTS * HEAD_WARPS, // from a warp's band to its next one
    BAND_BYTES = HEAD_TILES * layout_tile_bytes16(FORMAT_0),
    BAND_SLOTS = HEAD_BANDS > BAND_STEP ? 2 : 1, // of a warp
    SLOTS_BYTES = HEAD_WARPS * BAND_SLOTS * BAND_BYTES,
    HAS_SLOTS = MAX_ROWS <= 8 && SLOTS_BYTES <= 48 * 1024,
    HEAD_SHARED_BYTES = INPUT_BYTES + (HAS_SLOTS ? SLOTS_BYTES : 0),
};
static_assert(PRODUCT_COLS <= 2048, "one segment");
static_assert(!HAS_SLOTS || HEAD_RUNS * HEAD_PARTS <= HEAD_BLOCKS, "a block has one task");
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

DEVICE const u8 *head_matrix(const u8 *weight, u32 head) {
    return weight + head * layout_matrix_bytes(FORMAT_0, PRODUCT_ROWS, PRODUCT_COLS);
}
DEVICE const u8 *head_tile(const u8 *matrix, u32 band, u32 k) {
    return matrix + layout_band_tile_at(FORMAT_0, PRODUCT_COLS, band, k);
}
// The warp's turn-th band in shared memory.
DEVICE u8 *band_slot(u8 *shared, u32 turn) {
    return shared + INPUT_BYTES + (warp_index() * BAND_SLOTS + turn % BAND_SLOTS) * BAND_BYTES;
}
DEVICE void fetch_band(const u8 *matrix, u32 band, u8 *slot) {
    enum : u32 { TILE = layout_tile_bytes16(FORMAT_0) };
    for (u32 k = 0; k < HEAD_TILES; k++) {
        const u8 *tile = head_tile(matrix, band, k);
        for (u32 at = lane_index() * 16; at < TILE; at += WARP * 16) {
            copy_async_16(slot + k * TILE + at, tile + at);
        }
    }
}

// Of the lane's weight rows g and g + 8 of a band.
struct BandFactors {
    float of[2];
};
DEVICE BandFactors band_factors(const u8 *matrix, u32 band) {
    u32 row = band * BAND_ROWS + lane_index() / 4;
    const float *f = (const float *)(matrix + layout_factor_at(FORMAT_0, PRODUCT_ROWS, PRODUCT_COLS, row));
    return {{f[0], f[8]}};
}

// Before the wait: the warp's first band of weights to its slot, or to the L2, of the block's first task.
// Returns the band's factors, where it has a slot.
DEVICE BandFactors head_prepare(const u8 *weight, u32 n_rows, u8 *shared) {
    BandFactors factors = {};
    if (block_index() >= head_task_count(n_rows)) return factors;
    HeadTask t = head_task(block_index(), n_rows);
    if (first_band(t) >= HEAD_BANDS) return factors;
    const u8 *matrix = head_matrix(weight, t.head);
    if (HAS_SLOTS) {
        fetch_band(matrix, first_band(t), band_slot(shared, 0));
        copy_async_commit();
        return band_factors(matrix, first_band(t));
    }
    for (u32 k = 0; k < HEAD_TILES; k++) {
        const u8 *tile = head_tile(matrix, first_band(t), k);
        for (u32 at = lane_index() * 128; at < layout_tile_bytes16(FORMAT_0); at += WARP * 128) {
            prefetch_l2(tile + at);
        }
    }
    return factors;
}

// Where the columns col and col + 1 of the task's row `token` are in shared memory; col is even.
DEVICE u32 *head_input(u8 *shared, u32 token, u32 col) {
    return (u32 *)((f16 *)shared + token * INPUT_STRIDE + col / 128 * 128 + col / 4 % 8 * 16 +
                   col / 2 % 2 * 8 + col / 32 % 4 * 2);
}
// Fills the inputs with pair(token, col), of rows and columns that there are; zeros elsewhere. All threads
// call it, and meet afterwards. Several loads of a thread are on their way at once.
template <class Pair> DEVICE void load_head_inputs(u8 *shared, u32 n, Pair pair) {
    enum : u32 {
        PAIRS = HEAD_HALVES * 64,
        ALL = HELD_TOKENS * PAIRS,
        AT_ONCE = MIN(CEIL_DIV((u32)ALL, (u32)HEAD_THREADS), 8u),
    };
    for (u32 first = thread_index(); first < ALL; first += AT_ONCE * HEAD_THREADS) {
        u32 v[AT_ONCE];
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
            u32 at = first + i * HEAD_THREADS, token = at / PAIRS, col = at % PAIRS * 2;
            v[i] = at < ALL && token < n && col < PRODUCT_COLS ? pair(token, col) : 0;
        }
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
            u32 at = first + i * HEAD_THREADS;
            if (at < ALL) *head_input(shared, at / PAIRS, at % PAIRS * 2) = v[i];
        }
    }
}

// Adds half h of a tile to the sums of all groups of rows: even steps, and odd ones.
DEVICE void add_tile_half(const Tile<FORMAT_0> &tile, u32 h, const f16 *x, float sum[2][TOKEN_GROUPS][4]) {
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
        u32 a[2][4];
        tile.pair(h, j, a);
#pragma unroll
        for (u32 step = 0; step < 2; step++) {
#pragma unroll
            for (u32 t = 0; t < TOKEN_GROUPS; t++) {
                u32 token = HELD_TOKENS == 1 ? 0 : t * 8 + lane_index() / 4;
                const f16 *from = x + token * INPUT_STRIDE + (2 * j + step) * 16 + lane_index() % 4 * 2;
                u32 b[2] = {*(const u32 *)from, *(const u32 *)(from + 8)};
                mma_f16(sum[step][t], a[step], b);
            }
        }
    }
}

// Calls finish(token, row, value) for every row of the task and every row of the head's weights. ahead: what
// head_prepare returned.
template <class Finish>
DEVICE void head_product(const u8 *weight, const HeadTask &task, u8 *shared, const BandFactors &ahead,
                         Finish finish) {
    const u8 *matrix = head_matrix(weight, task.head);
    u32 turn = 0;
    for (u32 band = first_band(task); band < HEAD_BANDS; band += BAND_STEP, turn++) {
        const u8 *slot = band_slot(shared, turn);
        BandFactors factors = ahead;
        if (!HAS_SLOTS || turn > 0) factors = band_factors(matrix, band);
        if (HAS_SLOTS) {
            if (BAND_SLOTS > 1 && band + BAND_STEP < HEAD_BANDS)
                fetch_band(matrix, band + BAND_STEP, band_slot(shared, turn + 1));
            copy_async_commit();
            copy_async_wait<1>();
            warp_sync();
        }
        float sum[2][TOKEN_GROUPS][4] = {};
#pragma unroll 1
        for (u32 k = 0; k < HEAD_TILES; k++) {
            const u8 *p = HAS_SLOTS ? slot + k * layout_tile_bytes16(FORMAT_0) : head_tile(matrix, band, k);
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
        if (BAND_SLOTS > 1) warp_sync(); // the slot has been read
        u32 row = band * BAND_ROWS + lane_index() / 4;
#pragma unroll
        for (u32 i = 0; i < TOKEN_GROUPS * 4; i++) {
            u32 token = i / 4 * 8 + lane_index() % 4 * 2 + i % 2, up = i % 4 / 2;
            float v = sum[0][i / 4][i % 4] + sum[1][i / 4][i % 4];
            if (token < task.n && row + up * 8 < PRODUCT_ROWS)
                finish(token, row + up * 8, v * factors.of[up]);
        }
    }
}
