// How stages are spread over a GPU: the blocks, warps and shared memory of a product with one vector, and the
// tiles of a prompt's products.
#include "backend/cuda/lower_internal.h"

// ---- a product with one vector ----

// Stages that follow each other take turns in having most of a multiprocessor's shared memory, and the rest
// of it, so that a block of each fits and two of the one that has most never do. (Where both have half, two
// blocks of a stage take the place of two that ended there, and each stage runs on half of the
// multiprocessors: 12 to 15% of a step on an H100.) The shares are in the stages' rows.
// Warps: where all of a block's weights fit its ring, many shorten what is left to do when the input comes;
// more than a stream needs only keep other blocks away (registers). Beside attention there should be room for
// the stage before and the one after it: 16 warps for those cost 3 to 6%. Down makes the most activations.
enum {
    BLOCK_SHARED_RESERVED = 1024, // the system's, of each block
    RING_SPARE = 1536,            // barriers, sums, what a stage adds
    RING_BYTES_MAX = 96 << 10,    // 64 KB cost 3% on the layers of a 1B model, more does not fit twice
    X_BLOCK_BYTES = 72,           // activations.cuh: 32 values in two bytes each, their scale and sum
    UNITS_PER_WARP_MAX = 32,
    PREFILL_SHARED_SPARE = 8 << 10, // what a product of prefill takes beside its ring, at most
};

// What blocks of a stage may have of a multiprocessor's shared memory; `min` is what they take at least.
static uint32_t shared_budget(const LowerTarget *t, bool most, uint32_t *min) {
    *min = 0;
    if (t->sm < 90) return t->shared_bytes_block;
    uint32_t larger = t->shared_bytes_multiprocessor / 2; // twice, with what is reserved, is too much
    uint32_t smaller = t->shared_bytes_multiprocessor - larger - 2 * BLOCK_SHARED_RESERVED;
    if (larger > t->shared_bytes_block) return t->shared_bytes_block;
    *min = most ? larger : smaller / 2;
    return most ? larger : smaller;
}

uint64_t activation_bytes(uint64_t n_cols, const Weight *const *weights, uint32_t n_weights) {
    bool has_floats = false, has_integers = false;
    for (uint32_t i = 0; i < n_weights; i++) {
        if (FORMAT_IS_FLOAT((int)weights[i]->dtype)) has_floats = true;
        else has_integers = true;
    }
    return (has_integers ? n_cols / BLOCK_WEIGHTS * X_BLOCK_BYTES : 0) + (has_floats ? n_cols * 4ull : 0);
}

// A warp's ring holds at least two pieces, each a tile of every row of a unit.
static uint64_t pieces_bytes(uint32_t n_cols, uint32_t unit_rows, const Weight *const *weights,
                             uint32_t n_weights) {
    uint32_t blocks = (uint32_t)min_u64(n_cols / BLOCK_WEIGHTS, TILE_BLOCKS);
    uint64_t tile_bytes = 0;
    for (uint32_t i = 0; i < n_weights; i++)
        tile_bytes = max_u64(tile_bytes, layout_tile_bytes((int)weights[i]->dtype, blocks));
    return 2 * unit_rows * tile_bytes + 16;
}

// Two blocks of consecutive stages share a multiprocessor where the second may begin before the first has
// ended (sm_90); but a row that needs more than its share has a multiprocessor to itself.
MatvecShape matvec_shape(const LowerTarget *t, const MatvecShare *share, uint32_t n_cols, uint32_t units,
                         uint32_t unit_rows, const Weight *const *weights, uint32_t n_weights) {
    uint64_t row_bytes = 0, pieces = pieces_bytes(n_cols, unit_rows, weights, n_weights);
    for (uint32_t i = 0; i < n_weights; i++)
        row_bytes = max_u64(row_bytes, layout_row_bytes((int)weights[i]->dtype, n_cols));
    uint64_t taken = activation_bytes(n_cols, weights, n_weights) + RING_SPARE;
    MatvecShape shape = {.blocks = t->multiprocessors};
    uint64_t budget = shared_budget(t, share->most, &shape.shared_bytes_min);
    if (taken + align_up(pieces, 1024) > budget) {
        budget = t->shared_bytes_block;
        shape.shared_bytes_min = 0;
    }
    shape.ring_bytes = (uint32_t)min_u64(budget > taken ? budget - taken : 0, RING_BYTES_MAX) / 1024 * 1024;
    bool streams = (uint64_t)units * unit_rows * row_bytes > (uint64_t)shape.ring_bytes * shape.blocks;
    shape.warps = streams ? share->warps_streaming : share->warps_resident;
    while (shape.warps > 1 && shape.ring_bytes / shape.warps < pieces)
        shape.warps /= 2;
    uint32_t units_max = shape.warps * UNITS_PER_WARP_MAX;
    shape.blocks *= (uint32_t)max_u64(div_up(units, (uint64_t)shape.blocks * units_max), 1);
    return shape;
}

bool matvec_fits(const LowerTarget *t, const Weight *w, uint32_t unit_rows) {
    uint32_t n_cols = (uint32_t)w->n_cols;
    uint64_t pieces = align_up(pieces_bytes(n_cols, unit_rows, &w, 1), 1024);
    return activation_bytes(n_cols, &w, 1) + RING_SPARE + pieces <= t->shared_bytes_block;
}

void define_matvec(StrBuf *b, const MatvecShape *shape) {
    define(b, "BLOCKS", shape->blocks);
    define(b, "WARPS", shape->warps);
    define(b, "RING_BYTES", shape->ring_bytes);
    define(b, "SHARED_BYTES_MIN", shape->shared_bytes_min);
}

// ---- a prompt's products ----

// The tile of a product that a block of prefill computes: 16 rows of weights a warp, tile_tokens tokens.
typedef struct {
    uint32_t tile_tokens;
    uint32_t warps;
    uint32_t ring_bytes;
    uint32_t blocks_per_multiprocessor;
} PrefillShape;

// Tiles for wgmma, the best first where there are enough of them (measured: kernels_src/README.md), and the
// one for all older GPUs.
static const PrefillShape prefill_tiles[] = {
    {256, 8, 192 << 10, 1}, {128, 8, 192 << 10, 1}, {64, 4, 64 << 10, 2}};
static const PrefillShape prefill_tile_before_sm_90 = {64, 4, 48 << 10, 1};

// The largest tile that fits and leaves at most 3 of 10 multiprocessors without work at 512 rows, else the
// smallest. `units` are runs of 16 rows of the stage's weights.
static PrefillShape prefill_shape(const LowerTarget *t, uint32_t units) {
    if (t->sm < 90) return prefill_tile_before_sm_90;
    const PrefillShape *tile = prefill_tiles, *last = &prefill_tiles[COUNT_OF(prefill_tiles) - 1];
    for (; tile < last; tile++) {
        uint64_t blocks = div_up(units, tile->warps) * div_up(512, tile->tile_tokens);
        bool fits = tile->ring_bytes + PREFILL_SHARED_SPARE <= t->shared_bytes_block;
        if (fits && 10 * blocks >= 7ull * t->multiprocessors) break;
    }
    return *tile;
}

void define_matmul(StrBuf *b, const Lowering *l, uint32_t units) {
    PrefillShape shape = prefill_shape(l->target, units);
    define(b, "MAX_ROWS", l->max_rows);
    define(b, "TILE_TOKENS", shape.tile_tokens);
    define(b, "WARPS", shape.warps);
    define(b, "RING_BYTES", shape.ring_bytes);
    define(b, "BLOCKS_PER_SM", shape.blocks_per_multiprocessor);
}
