// How products of few rows are spread over a GPU (kernels_src/product.cuh, product_few.cuh).
#include "backend/cuda/lower_internal.h"

enum {
    SEGMENTS_MAX = 8,
    FEW_WARPS_MAX = 16,
    FEW_RING_BYTES_MAX = 96 << 10,
    FEW_SHARED_SPARE = 24 << 10, // activations, sums and barriers beside the ring, but for long rows
};

// ---- few rows ----

typedef struct {
    uint32_t blocks, warps, k_ways, ring_bytes;
} FewShape;

uint32_t product_segments(uint32_t n_cols) {
    uint64_t chunks = div_up(n_cols, 256);
    return (uint32_t)div_up(chunks, div_up(chunks, SEGMENTS_MAX));
}

// Bytes of a band's step: 256 columns where a format has tiles of so many, else 128.
static uint32_t step_bytes(const ProductSize *p) {
    uint32_t bytes = 0, cols = 0;
    for (uint32_t i = 0; i < p->n_weights; i++)
        cols = (uint32_t)max_u64(cols, layout_tile_cols((int)p->weights[i]->dtype));
    for (uint32_t i = 0; i < p->n_weights; i++) {
        int format = (int)p->weights[i]->dtype;
        bytes = (uint32_t)max_u64(bytes, layout_tile_bytes16(format) * cols / layout_tile_cols(format));
    }
    return bytes;
}

// A block has a run of units; its warps are as many of their bands side by side as there are, and then
// segments of these.
static FewShape few_shape(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    FewShape s = {.blocks = (uint32_t)min_u64(t->multiprocessors, p->units), .k_ways = 1};
    uint32_t units = (uint32_t)div_up(p->units, s.blocks), bands = p->unit_bands;
    uint32_t beside = (uint32_t)max_u64(min_u64(units, FEW_WARPS_MAX / bands), 1);
    while (s.k_ways * 2 <= product_segments(p->n_cols) && beside * bands * s.k_ways * 2 <= FEW_WARPS_MAX)
        s.k_ways *= 2;
    s.warps = beside * bands * s.k_ways;
    uint64_t x_bytes = align_up(p->n_cols, 256) * 2 * max_rows, step = step_bytes(p);
    uint64_t taken = x_bytes + FEW_SHARED_SPARE;
    uint64_t budget = t->shared_bytes_block > taken ? t->shared_bytes_block - taken : 0;
    budget = min_u64(budget, FEW_RING_BYTES_MAX);
    while (s.warps > bands && budget < 2 * step * s.warps) {
        if (s.k_ways > 1) s.k_ways /= 2, s.warps /= 2;
        else s.warps -= bands;
    }
    s.ring_bytes = (uint32_t)max_u64(budget, 2 * step * s.warps);
    return s;
}

void product_define_few(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    FewShape s = few_shape(t, p, max_rows);
    define(b, "BLOCKS", s.blocks);
    define(b, "WARPS", s.warps);
    define(b, "K_WAYS", s.k_ways);
    define(b, "RING_BYTES", s.ring_bytes);
}

uint32_t product_blocks_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    return few_shape(t, p, max_rows).blocks;
}

uint64_t product_partial_bytes_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    (void)t, (void)p, (void)max_rows;
    return 0;
}

uint32_t product_meetings_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    (void)t, (void)p, (void)max_rows;
    return 0;
}
