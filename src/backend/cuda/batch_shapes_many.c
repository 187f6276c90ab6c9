// How products of more than 8 rows are spread over a GPU (kernels_src/product_many.cuh).
#include "backend/cuda/lower_internal.h"

enum {
    BAND_SUM_BYTES = 16 * 4, // of a row of the batch
    FINISH_ROWS = 16,        // PRODUCT_FINISH_ROWS
    TILE_ROWS_MAX = 128,
    WARPS_MAX = 16,
    WARPS_OF_LARGE_TILE = 8, // of 128 rows: two registers for each sum
    BEST_BYTES = 16,         // head.cuh: of a row, for each warp, and its penalty
    SHARED_SPARE = 3 << 10,  // barriers, and what aligns the rings
};

typedef struct {
    uint32_t tile_rows, warps, ways_block, ways_cluster;
    uint32_t passes, blocks, ring_bytes;
} ManyShape;

static bool has_wgmma(const LowerTarget *t) {
    return t->sm == 90;
}

// Bytes of 256 columns of a band, the most that a weight of the product has.
static uint32_t chunk_bytes(const ProductSize *p) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        int format = (int)p->weights[i]->dtype;
        bytes = (uint32_t)max_u64(bytes, layout_tile_bytes16(format) * 256 / layout_tile_cols(format));
    }
    return bytes;
}

// What a block takes beside its rings, and what two slots of both rings take.
static uint64_t beside_rings(const ProductSize *p, const ManyShape *s, uint32_t max_rows) {
    uint32_t bands = s->warps / s->ways_block, ways = s->ways_block * s->ways_cluster;
    uint32_t finishers = ways > 1 ? s->warps : bands / p->unit_bands;
    uint64_t sums = finishers * FINISH_ROWS * (p->unit_bands * 16ull + 4) * 4;
    uint64_t segments = div_up(product_segments(p->n_cols), ways) * s->ways_block;
    uint64_t parts = ways > 1 ? segments * bands * s->tile_rows * BAND_SUM_BYTES : 0;
    uint64_t best = p->is_head ? (s->warps + 1ull) * max_rows * BEST_BYTES : 0;
    return sums + parts + best + SHARED_SPARE;
}
static uint64_t least_rings(const ProductSize *p, const ManyShape *s) {
    return 2ull * s->warps * chunk_bytes(p) + 2ull * s->ways_block * s->tile_rows * 256;
}

static bool shape_fits(const LowerTarget *t, const ProductSize *p, ManyShape *s, uint32_t max_rows) {
    uint64_t taken = beside_rings(p, s, max_rows);
    s->ring_bytes = (uint32_t)(t->shared_bytes_block > taken ? t->shared_bytes_block - taken : 0);
    return s->ring_bytes >= least_rings(p, s);
}

// Warps for so many bands side by side: whole groups of four with wgmma, two for units of two bands.
static uint32_t warps_for(const LowerTarget *t, const ProductSize *p, uint64_t bands, uint32_t most) {
    uint32_t step = p->unit_bands * (has_wgmma(t) ? 4 : 1);
    return (uint32_t)min_u64(align_up(bands, step), most / step * step);
}

// Bands enough for all multiprocessors: each has some of them, in passes of about the same length. With
// several tiles of rows there are passes enough.
static ManyShape spread_bands(const LowerTarget *t, const ProductSize *p, uint32_t tile_rows,
                              uint32_t max_rows) {
    uint32_t most = tile_rows == TILE_ROWS_MAX || !has_wgmma(t) ? WARPS_OF_LARGE_TILE : WARPS_MAX;
    uint64_t bands = (uint64_t)p->units * p->unit_bands;
    ManyShape s = {.tile_rows = tile_rows, .ways_block = 1, .ways_cluster = 1, .passes = 1};
    s.warps = warps_for(t, p, bands, most);
    if (max_rows == tile_rows) {
        uint64_t each = div_up(bands, t->multiprocessors), turns = div_up(each, most);
        s.warps = warps_for(t, p, div_up(each, turns), most);
        s.passes = (uint32_t)(turns * min_u64(t->multiprocessors, p->units));
    }
    return s;
}

// Clusters of so many blocks that run at once: of four, on 10 of 11 multiprocessors (measured: 120 of 132).
static uint64_t clusters_at_once(const LowerTarget *t, uint32_t blocks) {
    return blocks <= 2 ? t->multiprocessors / blocks : t->multiprocessors * 10ull / 11 / blocks;
}

// Fewer: as many blocks of a cluster share a band's columns as leave all clusters room at once (a second turn
// doubles the time: attention output of 8B 13.5 us instead of 8.5). False: none is better.
static bool split_columns(const LowerTarget *t, const ProductSize *p, uint32_t tile_rows, uint32_t max_rows,
                          ManyShape *s) {
    static const struct { uint32_t blocks, bands; } ways[] = {{4, 4}, {2, 4}, {2, 8}};
    uint32_t segments = product_segments(p->n_cols);
    uint64_t bands = (uint64_t)p->units * p->unit_bands;
    ManyShape shape = {.tile_rows = tile_rows, .ways_block = 1, .ways_cluster = 1}, found = {0};
    for (size_t i = 0; has_wgmma(t) && i < COUNT_OF(ways) && found.warps == 0; i++) {
        uint64_t most = clusters_at_once(t, ways[i].blocks), passes = div_up(bands, ways[i].bands);
        shape.ways_cluster = ways[i].blocks;
        shape.warps = ways[i].bands;
        shape.passes = (uint32_t)(ways[i].bands == 4 ? passes : most);
        bool can =
            ways[i].blocks <= segments && passes <= most && p->unit_bands == 1 && max_rows == tile_rows;
        if (can && shape_fits(t, p, &shape, max_rows)) found = shape;
    }
    if (!has_wgmma(t)) {
        shape.warps = warps_for(t, p, div_up(bands, t->multiprocessors), WARPS_OF_LARGE_TILE);
        shape.passes = (uint32_t)min_u64(t->multiprocessors, p->units);
        found = shape;
    }
    while (found.warps > 0 && found.warps * 2 <= WARPS_OF_LARGE_TILE &&
           found.ways_block * found.ways_cluster * 2 <= segments) {
        shape = found;
        shape.ways_block *= 2;
        shape.warps *= 2;
        if (!shape_fits(t, p, &shape, max_rows)) break;
        found = shape;
    }
    *s = found;
    return found.warps > 0;
}

static ManyShape many_shape(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    uint64_t bands = (uint64_t)p->units * p->unit_bands;
    uint32_t tile_rows = (uint32_t)min_u64(max_rows, TILE_ROWS_MAX);
    // Whatever has enough rows has enough tiles of them. A head's best logits are one a block.
    bool splits = max_rows <= TILE_ROWS_MAX && !p->is_head && bands < 8ull * t->multiprocessors;
    ManyShape s;
    if (!splits || !split_columns(t, p, tile_rows, max_rows, &s)) s = spread_bands(t, p, tile_rows, max_rows);
    while (!shape_fits(t, p, &s, max_rows)) {
        uint32_t step = p->unit_bands * (has_wgmma(t) ? 4 : 1);
        if (s.ways_block > 1) s.ways_block /= 2, s.warps /= 2;
        else if (s.tile_rows > 64) s.tile_rows = 64;
        else if (s.warps > step) s.warps -= step;
        else if (s.tile_rows > 16) s.tile_rows /= 2;
        else
            break; // the kernel's rings are larger than they may be then, and it is refused when it is loaded
    }
    s.ring_bytes = (uint32_t)max_u64(s.ring_bytes, least_rings(p, &s));
    uint64_t passes = max_u64(s.passes, div_up(bands, s.warps / s.ways_block));
    uint64_t turns = passes * (max_rows / s.tile_rows);
    s.blocks = (uint32_t)min_u64(t->multiprocessors, turns);
    return s;
}

void product_define_many(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    ManyShape s = many_shape(t, p, max_rows);
    define(b, "TILE_ROWS", s.tile_rows);
    define(b, "WARPS", s.warps);
    define(b, "K_WAYS_BLOCK", s.ways_block);
    define(b, "K_WAYS_CLUSTER", s.ways_cluster);
    define(b, "PASSES", s.passes);
    define(b, "BLOCKS", s.blocks);
    define(b, "RING_BYTES", s.ring_bytes);
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
