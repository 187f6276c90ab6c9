// How the products of many rows are spread over a GPU: the defines of kernels_src/product_many.cuh.
#include "backend/cuda/lower_internal.h"

typedef struct {
    uint32_t tile_rows, warps, ring_bytes, blocks;
} ManyShape;

enum { MANY_SHARED_SPARE = 48 << 10 }; // sums and barriers beside the rings

// Bytes of 256 columns of a band, the most that a weight of the product has.
static uint32_t chunk_bytes(const ProductSize *p) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        int format = (int)p->weights[i]->dtype;
        bytes = (uint32_t)max_u64(bytes, layout_tile_bytes16(format) * 256 / layout_tile_cols(format));
    }
    return bytes;
}

static ManyShape many_shape(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    ManyShape s = {.tile_rows = (uint32_t)min_u64(max_rows, 128),
                   .warps = 4 * p->unit_bands,
                   .blocks = t->multiprocessors};
    uint64_t budget =
        t->shared_bytes_block > MANY_SHARED_SPARE ? t->shared_bytes_block - MANY_SHARED_SPARE : 0;
    for (;; s.tile_rows /= 2) {
        uint64_t slots = 2ull * (s.warps * chunk_bytes(p) + s.tile_rows * 256);
        s.ring_bytes = (uint32_t)max_u64(budget, slots);
        if (slots <= budget || s.tile_rows == 16) return s;
    }
}

void product_define_many(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    ManyShape s = many_shape(t, p, max_rows);
    define(b, "TILE_ROWS", s.tile_rows);
    define(b, "WARPS", s.warps);
    define(b, "RING_BYTES", s.ring_bytes);
    define(b, "BLOCKS", s.blocks);
}

uint32_t product_blocks_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    return many_shape(t, p, max_rows).blocks;
}

uint64_t product_partial_bytes_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    (void)t, (void)p, (void)max_rows;
    return 0;
}

uint32_t product_meetings_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    (void)t, (void)p, (void)max_rows;
    return 0;
}
