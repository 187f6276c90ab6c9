// How products of more than 8 rows are spread over a GPU (kernels_src/product_many.cuh).
#include "backend/cuda/lower_internal.h"

enum {
    BAND_SUM_BYTES = 16 * 4, // of a row of the batch
    EXCHANGED_ROWS = 32,     // EXCHANGED of product_many.cuh
    TILE_ROWS_MAX = 128,
    TILE_ROWS_SMALL = 64,
    WARPS_MAX = 16,
    WARPS_OF_LARGE_TILE = 8, // of 128 rows: two registers for each sum
    // Of 64 rows with segments of one chunk: with 16, the sums are spilled at each segment's end (head of 1B
    // 95 us instead of 110).
    WARPS_OF_SHORT_SEGMENTS = 12,
    CLUSTER_MAX = 8,
    BLOCK_RESERVED = 1 << 10, // of a multiprocessor's shared memory
    BEST_BYTES = 16,          // head.cuh: of a row, for each warp, and its penalty
    SHARED_SPARE = 3 << 10,   // barriers, and what aligns the rings
    MANY_CODEBOOKS_BYTES_MAX = 16 << 10,
};

typedef struct {
    uint32_t tile_rows, warps, ways_block, ways_cluster;
    uint32_t passes, blocks, ring_bytes;
    uint32_t blocks_per_sm;
} ManyShape;

// Bytes of 256 columns of a band, the most that a weight of the product has.
static uint32_t chunk_bytes(const ProductSize *p) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        int format = (int)p->weights[i]->dtype;
        bytes = (uint32_t)max_u64(bytes, layout_tile_bytes16(format) * 256 / layout_tile_cols(format));
    }
    return bytes;
}

static uint32_t copies_of(const LowerTarget *t, const ProductSize *p) {
    return codebook_copies(t, product_codebook_bytes(p), MANY_CODEBOOKS_BYTES_MAX);
}

// What a block takes beside its rings, and what two slots of both rings take.
static uint64_t beside_rings(const LowerTarget *t, const ProductSize *p, const ManyShape *s,
                             uint32_t max_rows) {
    uint32_t bands = s->warps / s->ways_block, ways = s->ways_block * s->ways_cluster;
    uint64_t exchanged = min_u64(s->tile_rows, EXCHANGED_ROWS) * BAND_SUM_BYTES * bands / 2;
    uint64_t segments = div_up(product_segments(p->n_cols), ways) * s->ways_block;
    uint64_t sums = ways > 1             ? segments * bands * s->tile_rows * BAND_SUM_BYTES
                    : p->unit_bands == 2 ? exchanged
                                         : 0;
    uint64_t best = p->is_head ? (s->warps + 1ull) * max_rows * BEST_BYTES : 0;
    return sums + best + copies_of(t, p) * product_codebook_bytes(p) + SHARED_SPARE;
}
static uint64_t least_rings(const ProductSize *p, const ManyShape *s) {
    return 2ull * s->warps * chunk_bytes(p) + 2ull * s->ways_block * s->tile_rows * 256;
}

static bool shape_fits(const LowerTarget *t, const ProductSize *p, ManyShape *s, uint32_t max_rows) {
    uint64_t taken = beside_rings(t, p, s, max_rows), all = t->shared_bytes_block;
    if (s->blocks_per_sm == 2) all = min_u64(all, t->shared_bytes_multiprocessor / 2 - BLOCK_RESERVED);
    s->ring_bytes = (uint32_t)(all > taken ? all - taken : 0);
    return s->ring_bytes >= least_rings(p, s);
}

// Warps for so many bands side by side: whole groups of four with wgmma, two for units of two bands.
static uint32_t warps_for(const LowerTarget *t, const ProductSize *p, uint64_t bands, uint32_t most) {
    uint32_t step = p->unit_bands * (lower_has_wgmma(t) ? 4 : 1);
    return (uint32_t)min_u64(align_up(bands, step), most / step * step);
}

// Bands enough for all multiprocessors: each has some of them, in passes of about the same length. With
// several tiles of rows there are passes enough.
static ManyShape spread_bands(const LowerTarget *t, const ProductSize *p, uint32_t tile_rows,
                              uint32_t max_rows) {
    bool short_segments = p->n_cols <= 8 * 256;
    bool many_tiles = max_rows > tile_rows;
    uint32_t most = tile_rows == TILE_ROWS_MAX || many_tiles || !lower_has_wgmma(t) ? WARPS_OF_LARGE_TILE
                    : tile_rows > 32 && short_segments                              ? WARPS_OF_SHORT_SEGMENTS
                                                                                    : WARPS_MAX;
    uint64_t bands = (uint64_t)p->units * p->unit_bands;
    ManyShape s = {.tile_rows = tile_rows, .ways_block = 1, .ways_cluster = 1, .passes = 1};
    s.blocks_per_sm = 1;
    s.warps = warps_for(t, p, bands, most);
    if (max_rows == tile_rows) {
        uint64_t each = div_up(bands, t->multiprocessors), turns = div_up(each, most);
        s.warps = warps_for(t, p, div_up(each, turns), most);
        // One turn: no more blocks than have work for all of their warps.
        s.passes =
            (uint32_t)(turns == 1 ? div_up(bands, s.warps) : turns * min_u64(t->multiprocessors, p->units));
    }
    return s;
}

// Clusters of so many blocks that run at once, where multiprocessors have room for one block: all blocks of a
// cluster are in one group of 14 to 18 multiprocessors (measured: clusters of four take 120 of 132).
static uint64_t clusters_at_once(const LowerTarget *t, uint32_t blocks) {
    uint64_t usable = t->multiprocessors;
    if (blocks > 2) usable = usable * 10 / 11;
    if (blocks > 4) usable = usable * 10 / 11;
    return usable / blocks;
}

// A cluster of so many blocks shares a band's columns. False: there is not room for all at once.
static bool try_clusters(const LowerTarget *t, const ProductSize *p, const ManyShape *wanted,
                         uint32_t max_rows, ManyShape *found) {
    ManyShape shape = *wanted;
    uint64_t bands = (uint64_t)p->units * p->unit_bands, side = shape.warps;
    uint64_t most = clusters_at_once(t, shape.ways_cluster) * shape.blocks_per_sm;
    shape.passes = (uint32_t)div_up(bands, side);
    if (shape.ways_cluster > product_segments(p->n_cols) || shape.passes > most) return false;
    if (!shape_fits(t, p, &shape, max_rows)) return false;
    if (side == 8) shape.passes = (uint32_t)most;
    *found = shape;
    return true;
}

// Fewer: as many blocks of a cluster share a band's columns as leave all clusters room at once (a second turn
// doubles the time: attention output of 8B 13.5 us instead of 8.5). False: none is better.
static bool split_columns(const LowerTarget *t, const ProductSize *p, uint32_t tile_rows, uint32_t max_rows,
                          ManyShape *s) {
    uint32_t segments = product_segments(p->n_cols);
    uint64_t bands = (uint64_t)p->units * p->unit_bands;
    ManyShape shape = {.tile_rows = tile_rows, .ways_block = 1, .warps = 4}, found = {0};
    bool can = lower_has_wgmma(t) && p->unit_bands == 1 && max_rows == tile_rows;
    for (uint32_t blocks = CLUSTER_MAX; can && blocks >= 2 && found.warps == 0; blocks--) {
        shape.ways_cluster = blocks, shape.blocks_per_sm = 1;
        (void)try_clusters(t, p, &shape, max_rows, &found);
    }
    // Two small blocks a multiprocessor, else large ones (q k v of 8B 7.6 us instead of 10.1).
    shape.blocks_per_sm = 2;
    if (can && found.warps == 0) (void)try_clusters(t, p, &shape, max_rows, &found);
    shape.warps = 8, shape.blocks_per_sm = 1;
    if (can && found.warps == 0) (void)try_clusters(t, p, &shape, max_rows, &found);
    shape.ways_cluster = 1;
    if (!lower_has_wgmma(t)) {
        shape.warps = warps_for(t, p, div_up(bands, t->multiprocessors), WARPS_OF_LARGE_TILE);
        shape.passes = (uint32_t)min_u64(t->multiprocessors, p->units);
        found = shape;
    }
    while (found.warps > 0 && found.blocks_per_sm == 1 && found.warps * 2 <= WARPS_OF_LARGE_TILE &&
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

static ManyShape many_shape(const LowerTarget *t, const ProductSize *p, uint32_t max_rows, bool small) {
    uint64_t bands = (uint64_t)p->units * p->unit_bands;
    uint32_t tile_rows = (uint32_t)min_u64(max_rows, small ? TILE_ROWS_SMALL : TILE_ROWS_MAX);
    // Whatever has enough rows has enough tiles of them. A head's best logits are one a block.
    bool splits = max_rows <= TILE_ROWS_MAX && !p->is_head && bands < 8ull * t->multiprocessors;
    ManyShape s;
    if (!splits || !split_columns(t, p, tile_rows, max_rows, &s)) s = spread_bands(t, p, tile_rows, max_rows);
    while (!shape_fits(t, p, &s, max_rows)) {
        uint32_t step = p->unit_bands * (lower_has_wgmma(t) ? 4 : 1);
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

// Whether tiles of a prompt may be narrow ones. (Units of several formats would make four copies of the
// loop.)
static bool can_narrow(const LowerTarget *t, const ProductSize *p, const ManyShape *s, uint32_t max_rows) {
    bool one_format = true;
    for (uint32_t i = 1; i < p->n_weights; i++)
        one_format &= p->weights[i]->dtype == p->weights[0]->dtype;
    return lower_has_wgmma(t) && p->unit_bands == 1 && one_format && s->tile_rows == TILE_ROWS_MAX &&
           max_rows > s->tile_rows;
}

void product_define_many(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows,
                         bool small) {
    ManyShape s = many_shape(t, p, max_rows, small);
    define(b, "TILE_ROWS", s.tile_rows);
    define(b, "WARPS", s.warps);
    define(b, "K_WAYS_BLOCK", s.ways_block);
    define(b, "K_WAYS_CLUSTER", s.ways_cluster);
    define(b, "PASSES", s.passes);
    define(b, "BLOCKS", s.blocks);
    define(b, "RING_BYTES", s.ring_bytes);
    if (copies_of(t, p) > 1) define(b, "CODEBOOK_COPIES", copies_of(t, p));
    if (s.blocks_per_sm > 1) define(b, "BLOCKS_PER_SM", s.blocks_per_sm);
    if (can_narrow(t, p, &s, max_rows)) define(b, "NARROW_TILES", 1);
}

uint32_t product_blocks_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    return many_shape(t, p, max_rows, false).blocks;
}

uint64_t product_partial_bytes_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    (void)t, (void)p, (void)max_rows;
    return 0;
}

uint32_t product_meetings_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    (void)t, (void)p, (void)max_rows;
    return 0;
}
