// How the products of 1 and up to 8 rows are spread over a GPU: the defines of kernels_src/product_few.cuh.
//
// Measured on an H200: a multiprocessor's stream is as fast as the memory with two slots of about 32 KB on
// their way and a third that is read; 14 to 16 warps multiply as fast as they come; one pass over all bands
// of a block is better than several. All multiprocessors have a block where there are units enough: one
// without is given two of the next stage's, which take twice as long (down of 8B: 13.4 us instead of 9.7).
// Stages that follow each other take turns in having most of a multiprocessor's shared memory, so that a
// block of each fits; large ones of one row do not (is_alone). Of 8 long rows the activations take so much
// that a stage has the multiprocessor to itself (gate and up of 8B: 18.1 us; in half of it 25.1), or, where
// not even so they fit, blocks share the columns.
#include "backend/cuda/lower_internal.h"

enum {
    SEGMENTS_MAX = 8,
    FEW_WARPS_MAX = 16,
    FEW_SLOT_BYTES = 37 << 10,   // 16 warps of Q4_K; more is too coarse a stream
    FEW_FLIGHT_BYTES = 72 << 10, // on their way, at most
    FEW_RING_BYTES_MAX = 100 << 10,
    FEW_HEAD_RING_BYTES_MAX = 104 << 10,  // three slots of Q8_0 (GPT-OSS-20B: 930 tokens/s → 934)
    FEW_SPARE_BYTES = 2048,               // barriers, and what alignment takes
    BLOCK_SHARED_RESERVED = 1024,         // the system's, of each block
    FEW_ROW_BYTES_MAX = 100 << 10,        // activations of one block
    FEW_SHARED_ROW_BYTES_MAX = 120 << 10, // of a block of a cluster
    FEW_CODEBOOKS_BYTES_MAX = 32 << 10,   // 16 copies of IQ2_XXS and IQ3_S: two turns of the banks
    FEW_ALONE_BYTES = 32 << 10,           // of weights, a multiprocessor's: about what it reads in a us
};

typedef struct {
    uint32_t blocks, k_blocks; // k_blocks of them share their units
    uint32_t warps, k_ways;
    uint32_t flight; // slots
    uint32_t ring_bytes, shared_bytes_min, blocks_per_sm;
    uint32_t segments; // of a row
    uint32_t copies;   // of codebooks
    uint32_t
        own_pieces; // bytes of a step of a block's bands, each as its format has it; 0: as the largest has it
    bool cluster;
} FewShape;

// What follows from the product's size alone (product.cuh).
typedef struct {
    uint32_t segments, segment_chunks; // a chunk: 256 columns
    uint32_t step_bytes; // of a band: a chunk where a format has tiles of 256 columns, else half of it
    uint32_t weight_step_bytes[4]; // of each weight's bands; step_bytes is the most
    uint32_t chunk_steps;
} FewColumns;

static FewColumns few_columns(const ProductSize *p) {
    uint32_t chunks = (uint32_t)div_up(p->n_cols, 256), cols = 0;
    FewColumns c = {.segment_chunks = (uint32_t)div_up(chunks, SEGMENTS_MAX)};
    c.segments = (uint32_t)div_up(chunks, c.segment_chunks);
    for (uint32_t i = 0; i < p->n_weights; i++)
        cols = (uint32_t)max_u64(cols, layout_tile_cols((int)p->weights[i]->dtype));
    for (uint32_t i = 0; i < p->n_weights; i++) {
        int format = (int)p->weights[i]->dtype;
        uint32_t bytes = layout_tile_bytes16(format) * (cols / layout_tile_cols(format));
        c.weight_step_bytes[i] = bytes;
        c.step_bytes = (uint32_t)max_u64(c.step_bytes, bytes);
    }
    c.chunk_steps = 256 / cols;
    return c;
}

// ---- matrices side by side whose bands differ in bytes (OWN_PIECES) ----
//
// As the largest format has it, a slot of Qwen3.5-9B's inputs of a state (768 bands of Q4_K, 4 of Q8_0) had
// room for 6 warps' pieces instead of 12, and half of that was empty: 13.3 us for 28.9 MB on an H200.

// The first unit that has at least so many bytes of a step before it, and how many it has.
typedef struct {
    uint32_t unit;
    uint64_t before;
} UnitAt;
static UnitAt unit_at(const ProductSize *p, const FewColumns *c, uint64_t bytes) {
    UnitAt u = {0};
    for (uint32_t i = 0; i < p->n_weights; i++) {
        uint64_t each = c->weight_step_bytes[i], left = bytes > u.before ? bytes - u.before : 0;
        uint64_t n = min_u64(div_up(left, each), div_up(p->weights[i]->n_rows, 16));
        u.unit += (uint32_t)n, u.before += n * each;
    }
    return u;
}

// The most bytes of a step that a block has where blocks' shares of bytes are even; 0: they are not to be,
// since formats are alike or a block would have more units than where shares of units are.
static uint32_t own_pieces(const ProductSize *p, const FewColumns *c, uint64_t blocks, uint64_t units) {
    bool differ = false;
    for (uint32_t i = 0; i < p->n_weights; i++)
        differ |= c->weight_step_bytes[i] != c->step_bytes;
    if (!differ || p->unit_bands > 1) return 0;
    uint64_t all = unit_at(p, c, UINT32_MAX).before, most = 0;
    UnitAt first = {0};
    for (uint64_t g = 1; g <= blocks; g++) {
        UnitAt end = unit_at(p, c, all * g / blocks);
        if (end.unit - first.unit > units) return 0;
        most = max_u64(most, end.before - first.before);
        first = end;
    }
    return (uint32_t)most;
}

// Every block takes the norm of one row; with 8 that takes 5 us longer than a stage that does nothing else
// (8B on an H200).
static bool takes_norm(const ProductSize *p, uint32_t max_rows) {
    return p->has_norm && max_rows == 1;
}

// What a block may have of a multiprocessor's shared memory, and asks for at least.
typedef struct {
    uint64_t most, least;
    uint32_t blocks_per_sm;
    bool alone; // beside no other product's block (is_alone)
} FewShare;

// A large output of one row, with blocks for (nearly) all multiprocessors. The GPU evens out how many blocks
// its multiprocessors have, of any stage: an output's go in pairs to multiprocessors that attention (or
// states) left free, and 35 of 132 have two, while as many with one of attention's have none. Pairs end
// late, and gate and up find no room there. So no two such blocks fit, and none beside another product's: the
// next one's weights are asked for when a multiprocessor is done, and do not delay those of the others.
// (Tokens/s of one row on an H200: 8B 642.6 -> 664.5, Qwen3.5-27B 195.4 -> 200.5, GPT-OSS-20B
// 975.3 -> 993.1, GLM-4.7-Flash 628.0 -> 656.2. With a norm behind, Gemma 4 26B-A4B: 700.7 -> 696.1.)
static bool is_alone(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    if (max_rows != 1 || !p->adds || p->units * 33ull < t->multiprocessors * 32ull) return false;
    FewColumns c = few_columns(p);
    uint64_t steps = (uint64_t)c.segments * c.segment_chunks * c.chunk_steps;
    return p->units * steps * c.step_bytes / t->multiprocessors >= FEW_ALONE_BYTES;
}

// Queries keys values, gate and up, and the head have most of it, the others have the rest: one of each fits,
// two of the first kind never do. (Two blocks of a stage on one multiprocessor end twice as late as the
// others. With some of gate and up there a step of 0.5B took 411 us, not 374; with some of the head and of
// q k v one of 1B took 429 us, not 396.)
static bool has_most(const ProductSize *p) {
    return p->has_norm || p->is_head;
}

static FewShare few_share(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    uint64_t larger = t->shared_bytes_multiprocessor / 2;
    if (t->sm < 90 || larger > t->shared_bytes_block) return (FewShare){t->shared_bytes_block, 0, 1, false};
    uint64_t smaller = t->shared_bytes_multiprocessor - larger - 2 * BLOCK_SHARED_RESERVED;
    bool alone = is_alone(t, p, max_rows);
    if (has_most(p) || alone) return (FewShare){larger, larger, 2, alone};
    return (FewShare){smaller, smaller / 2, 2, false};
}

// Shared memory beside the ring: activations, sums, those of segments and of a norm.
static uint64_t few_beside(const ProductSize *p, const FewColumns *c, const FewShape *s, uint32_t max_rows,
                           uint64_t passes) {
    uint64_t cols = div_up(c->segments, s->k_blocks) * c->segment_chunks * 256;
    uint64_t sums = (passes > 1 ? 2 : 1) * (s->warps / s->k_ways) * max_rows * 20ull * 4;
    uint64_t parts = s->k_ways * s->k_blocks > 1 ? sums * div_up(c->segments, s->k_blocks) : 0;
    uint64_t norm = takes_norm(p, max_rows) ? (cols / 256 + 1) * 8 : 0;
    uint64_t head = p->is_head ? (s->warps + 1ull) * max_rows * 16 : 0;
    return cols * 2 * max_rows + sums + parts + norm + head + product_codebook_bytes(p) * s->copies +
           FEW_SPARE_BYTES;
}

// `side` units side by side and k ways: false where that does not fit.
static bool few_fit(const LowerTarget *t, const ProductSize *p, const FewColumns *c, const FewShare *share,
                    uint32_t max_rows, uint64_t units, uint64_t side, uint32_t k, uint64_t slots_min,
                    FewShape *s) {
    uint64_t passes = div_up(units, side);
    s->k_ways = k;
    s->warps = (uint32_t)div_up(units, passes) * p->unit_bands * k;
    if (s->warps > FEW_WARPS_MAX && k > 1) return false;
    if (s->own_pieces > 0 && passes > 1) return false;
    uint64_t beside = few_beside(p, c, s, max_rows, passes);
    uint64_t slot = s->own_pieces > 0 ? (uint64_t)k * s->own_pieces : (uint64_t)s->warps * c->step_bytes;
    if (beside >= share->most) return false;
    uint64_t steps = passes * div_up(c->segments, k * s->k_blocks) * c->segment_chunks * c->chunk_steps;
    uint64_t ring = p->is_head ? FEW_HEAD_RING_BYTES_MAX : FEW_RING_BYTES_MAX;
    uint64_t slots = min_u64(min_u64(share->most - beside, ring) / slot, steps);
    bool is_resident = slots == steps;
    if (!is_resident && (slots < slots_min || (slot > FEW_SLOT_BYTES && s->warps > p->unit_bands)))
        return false;
    s->ring_bytes = (uint32_t)(slots * slot);
    s->flight = (uint32_t)max_u64(2, min_u64(FEW_FLIGHT_BYTES / slot, slots - (is_resident ? 0 : 1)));
    s->cluster = s->k_blocks > 1 && passes == 1;
    // Small stages overlap with more than one that follows. (q k v of 0.5B with all of its share: a step of
    // 371 us, not 364.)
    if (is_resident && !has_most(p) && !share->alone) s->shared_bytes_min = 0;
    if (is_resident && has_most(p) && s->blocks < t->multiprocessors) s->shared_bytes_min /= 2;
    return true;
}

// The fewest passes, then the most warps, of these the fewest ways, and pieces of their own only where they
// give more warps.
static bool few_try(const LowerTarget *t, const ProductSize *p, const FewShare *share, uint32_t max_rows,
                    uint32_t k_blocks, uint32_t copies, FewShape *s) {
    FewColumns c = few_columns(p);
    // Larger clusters find room on 120 of 132 multiprocessors: one more would wait for a second turn.
    uint64_t multiprocessors =
        k_blocks > 2 && t->sm >= 90 ? t->multiprocessors * 10ull / 11 : t->multiprocessors;
    uint64_t groups = min_u64(max_u64(multiprocessors / k_blocks, 1), p->units);
    uint64_t units = div_up(p->units, groups); // of a group, at most
    uint64_t side_max = min_u64(units, max_u64(FEW_WARPS_MAX / p->unit_bands, 1));
    uint32_t own = k_blocks == 1 ? own_pieces(p, &c, groups, units) : 0;
    for (uint64_t side = side_max; side > 0; side--) {
        for (uint64_t slots_min = 3; slots_min >= 2; slots_min--) {
            FewShape best = {0};
            for (uint32_t k = 1; k * k_blocks <= c.segments; k++) {
                FewShape with = {.blocks = (uint32_t)groups * k_blocks,
                                 .k_blocks = k_blocks,
                                 .shared_bytes_min = (uint32_t)share->least,
                                 .blocks_per_sm = share->blocks_per_sm,
                                 .segments = c.segments,
                                 .copies = copies};
                if (k > 1 && div_up(c.segments, k * k_blocks) == div_up(c.segments, (k - 1) * k_blocks))
                    continue;
                FewShape with_own = with;
                with_own.own_pieces = own;
                bool fits = few_fit(t, p, &c, share, max_rows, units, side, k, slots_min, &with);
                if (fits && with.warps > best.warps) best = with;
                fits = own > 0 && few_fit(t, p, &c, share, max_rows, units, side, k, slots_min, &with_own);
                if (fits && with_own.warps > best.warps) best = with_own;
            }
            *s = best;
            if (best.warps > 0) return true;
        }
    }
    return false;
}

// Activations of the usual few columns fit beside another stage's block; else the block has the
// multiprocessor to itself; else a group of blocks shares them.
static FewShape few_shape_of(const LowerTarget *t, const ProductSize *p, uint32_t max_rows, uint32_t copies) {
    FewShare share = few_share(t, p, max_rows), all = {t->shared_bytes_block, 0, 1, false};
    uint64_t x_bytes = align_up(p->n_cols, 256) * 2 * max_rows;
    FewShape s = {0};
    bool beside = x_bytes <= share.most / 3, alone = x_bytes <= FEW_ROW_BYTES_MAX || takes_norm(p, max_rows);
    if (beside && few_try(t, p, &share, max_rows, 1, copies, &s)) return s;
    if (alone && few_try(t, p, &all, max_rows, 1, copies, &s)) return s;
    for (uint32_t k = 2; !takes_norm(p, max_rows) && k <= few_columns(p).segments; k *= 2) {
        if (x_bytes / k <= FEW_SHARED_ROW_BYTES_MAX && few_try(t, p, &all, max_rows, k, copies, &s) &&
            s.cluster)
            return s;
    }
    for (uint32_t k = 1; k == 1 || (!takes_norm(p, max_rows) && k <= few_columns(p).segments); k *= 2) {
        if (few_try(t, p, &all, max_rows, k, copies, &s)) return s;
    }
    return s;
}

// As many copies of codebooks as leave the stage its warps and its ring, but for slots beyond the third.
static FewShape few_shape(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    FewShape one = few_shape_of(t, p, max_rows, 1);
    uint64_t ring = min_u64(one.ring_bytes, 3ull * one.warps * few_columns(p).step_bytes);
    uint32_t copies = codebook_copies(t, product_codebook_bytes(p), FEW_CODEBOOKS_BYTES_MAX);
    for (; copies > 1; copies /= 2) {
        FewShape s = few_shape_of(t, p, max_rows, copies);
        if (s.warps == one.warps && s.blocks == one.blocks && s.ring_bytes >= ring) return s;
    }
    return one;
}

bool product_fits_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    return few_shape(t, p, max_rows).warps > 0;
}

void product_define_few(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    FewShape s = few_shape(t, p, max_rows);
    define(b, "BLOCKS", s.blocks);
    define(b, "WARPS", s.warps);
    define(b, "K_WAYS", s.k_ways);
    define(b, "FLIGHT", s.flight);
    define(b, "RING_BYTES", s.ring_bytes);
    define(b, "SHARED_BYTES_MIN", s.shared_bytes_min);
    define(b, "BLOCKS_PER_SM", s.blocks_per_sm);
    if (s.own_pieces > 0) define(b, "OWN_PIECES", s.own_pieces);
    if (s.copies > 1) define(b, "CODEBOOK_COPIES", s.copies);
    if (s.k_blocks > 1) define(b, "K_BLOCKS", s.k_blocks);
    if (s.cluster) define(b, "CLUSTERS", 1);
}

uint32_t product_blocks_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    return few_shape(t, p, max_rows).blocks;
}

uint64_t product_partial_bytes_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    FewShape s = few_shape(t, p, max_rows);
    return s.k_blocks > 1 ? (uint64_t)p->units * p->unit_bands * s.segments * max_rows * 16 * 4 : 0;
}

uint32_t product_meetings_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows) {
    return few_shape(t, p, max_rows).k_blocks > 1 ? p->units : 0;
}
