#include "backend/cuda/expert_shapes.h"

#include "../kernels_src/layout.h"
#include "base/base.h"

// Measured on an H200 with the layers of GPT-OSS-20B (MXFP4) and Qwen3-30B-A3B (Q4_K, Q6_K).
enum {
    FEW_ROWS = 8,
    TILE_FEW = 8,                // slots of a tile that product_few.cuh multiplies
    BLOCK_RESERVED = 1024,       // the system's share of a block's shared memory
    SLOT_UNIT = 8,               // an expert's slots begin at multiples of it (group_experts.cuh)
    ROUTE_ROWS_MAX = 8,          // of a block
    ROUTE_COLS = 512,            // of a warp (route.cuh)
    ROUTE_SLOTS_MAX = 4,         // of its ring
    ROUTE_BLOCKS = 2,            // a multiprocessor, with a ring
    SUM_TURN = 4,                // blocks of experts_sum that a multiprocessor runs at once
    ONE_BANDS_MAX = 16,          // one row: bands side by side
    ONE_SLOT_BYTES = 12 << 10,   // less in a slot of the ring, and segments go side by side, too
    ROWS_BANDS = 20,             // several rows: 14 are as good, 8 take 20 to 30% longer
    ROWS_BANDS_NARROW = 24,      // of formats with tiles of 128 columns, in tiles of slots
    FEW_RING_MAX = 96 << 10,     // of two blocks a multiprocessor
    FEW_FLIGHT_BYTES = 80 << 10, // on their way to a multiprocessor
    FEW_TURNS_MAX = 8,           // blocks of a multiprocessor, one after the other
    PAIRS_EVEN = 8,              // blocks of pairs may have an eighth more than others
    FEW_FETCHERS = 3, // of a slot's up to 6 copies (GPT-OSS-20B, 1 row: 930 tokens/s; with one 912)
    ONE_CODEBOOKS_BYTES_MAX = 32 << 10, // one row
    FEW_SPARE = 6 << 10,                // barriers, the choice, what a stage adds: at least
    FEW_BARRIERS = 2 << 10,             // of it, what does not depend on the experts
    ONE_CHOICE_BYTES = 512,             // one row: the choice, and what is aligned
    MANY_SPARE = 24 << 10,              // sums that are finished, barriers
};

static void define(StrBuf *b, const char *name, uint64_t value) {
    strbuf_printf(b, "#define %s %llu\n", name, (unsigned long long)value);
}
static void define_format(StrBuf *b, const char *name, Dtype dtype) {
    strbuf_printf(b, "#define %s FORMAT_%s\n", name, dtype_info(dtype)->name);
}

static void define_experts(StrBuf *b, const ExpertsSize *e, uint32_t d_model) {
    define(b, "D_MODEL", d_model);
    define(b, "N_EXPERTS", e->n_experts);
    define(b, "N_USED", e->n_used);
}

// Of expert_choice.cuh.
static void define_choice(StrBuf *b, const ExpertsSize *e) {
    const RouteConfig *r = &e->route;
    if (r->scale != 0 && r->scale != 1)
        strbuf_printf(b, "#define ROUTE_SCALE %af\n", (double)r->scale); // hexadecimal: exact
    if (r->logit_scale != 0 && r->logit_scale != 1)
        strbuf_printf(b, "#define ROUTE_LOGIT_SCALE %af\n", (double)r->logit_scale);
    if (e->has_scales) define(b, "ROUTE_EXPERT_SCALES", 1);
    if (r->scores != SCORES_OF_ALL && r->scores != SCORES_SIGMOID) return;
    define(b, "ROUTE_SCORES", r->scores);
    if (r->normed) define(b, "ROUTE_NORMED", 1);
    if (e->has_select) define(b, "ROUTE_SELECTS", 1);
    if (r->n_groups <= 1) return;
    define(b, "ROUTE_GROUPS", r->n_groups);
    define(b, "ROUTE_GROUPS_USED", r->n_groups_used);
    if (r->by_largest) define(b, "ROUTE_BY_LARGEST", 1);
}

// ---- few rows: product_few.cuh ----

// One of the two products, of a class.
typedef struct {
    uint32_t n_cols, n_rows, unit_bands;
    Dtype dtypes[2];
    uint32_t rows;          // of a buffer of activations
    uint32_t units;         // at most
    uint32_t early_units;   // of them: known before the others, and shared between blocks by themselves
    uint32_t bands;         // side by side, of several rows
    uint32_t touched_bytes; // of several rows: what a block knows of their choices (chosen_experts.cuh)
    uint64_t down_bytes;    // gate and up of one row, with a shared expert: what a block of down takes
    bool has_shared;        // a shared expert goes along
    bool has_inputs;        // each touched expert (tile) its own
    bool is_first;          // gate and up, before down
} Product;

// `tiles`: of slots; 0 for few rows.
static Product product_of(const ExpertsSize *e, uint32_t max_rows, uint32_t tiles, bool down) {
    Product p = {.n_cols = down ? e->d_ff : e->d_model,
                 .n_rows = down ? e->d_model : e->d_ff,
                 .unit_bands = down || e->ungated ? 1 : 2,
                 .dtypes = {down         ? e->down
                            : e->ungated ? e->up
                                         : e->gate,
                            down ? e->down : e->up},
                 .rows = tiles > 0 ? TILE_FEW : max_rows,
                 .has_inputs = down || tiles > 0,
                 .is_first = !down};
    bool narrow = layout_tile_cols((int)p.dtypes[0]) < 256 && layout_tile_cols((int)p.dtypes[1]) < 256;
    uint32_t inputs = tiles > 0 ? tiles : MIN(max_rows * e->n_used, e->n_experts);
    p.has_shared = max_rows == 1 && (down ? e->shared_down : e->shared_ff > 0);
    if (p.has_shared && down) inputs++;
    if (p.has_shared && !down) p.early_units = (uint32_t)div_up(e->shared_ff, 16);
    p.units = inputs * (uint32_t)div_up(p.n_rows, 16) + p.early_units;
    p.bands = tiles > 0 && narrow ? ROWS_BANDS_NARROW : ROWS_BANDS;
    if (tiles == 0 && max_rows > 1)
        p.touched_bytes =
            8 * e->n_experts + 4 * (max_rows * e->n_used + MIN(max_rows * e->n_used, e->n_experts));
    return p;
}

static uint32_t segments_of(uint32_t n_cols) {
    uint32_t chunks = (uint32_t)div_up(n_cols, 256);
    return (uint32_t)div_up(chunks, div_up(chunks, 8));
}

// Bytes of 256 columns of a band, the most that a format has.
static uint32_t chunk_bytes(const Product *p) {
    uint32_t most = 0;
    for (int i = 0; i < 2; i++) {
        int format = (int)p->dtypes[i];
        most = MAX(most, layout_tile_bytes16(format) * (256 / layout_tile_cols(format)));
    }
    return most;
}

// Columns of a step: 256 where one of the formats has such tiles, else 128.
static uint32_t step_cols(const Product *p) {
    return MAX(layout_tile_cols((int)p->dtypes[0]), layout_tile_cols((int)p->dtypes[1]));
}

// Bytes of a step of one band.
static uint32_t step_bytes(const Product *p) {
    uint32_t cols = step_cols(p), most = 0;
    for (int i = 0; i < 2; i++) {
        int format = (int)p->dtypes[i];
        most = MAX(most, layout_tile_bytes16(format) * (cols / layout_tile_cols(format)));
    }
    return most;
}

// Of shared memory that a copy of the codebooks takes (product.cuh).
static uint32_t codebook_bytes(const Product *p) {
    int second = (int)p->dtypes[1];
    return layout_codebooks_bytes((int)p->dtypes[0], second, second);
}

typedef struct {
    uint32_t blocks, pass_units, k_ways, k_blocks, ring_bytes, flight, blocks_per_multiprocessor;
    uint32_t shared_bytes_min;
    uint32_t copies; // of codebooks
    bool pairs;      // of blocks that have the same bands of several inputs
} FewShape;

static uint32_t inputs_of(const Product *p) {
    return p->units / (uint32_t)div_up(p->n_rows, 16);
}

// Of a group of blocks that shares its columns, or of a block of a pair, at most.
static uint32_t group_units(const Product *p, const FewShape *s) {
    uint32_t groups = s->blocks / s->k_blocks;
    if (!s->pairs)
        return (uint32_t)(div_up(p->units - p->early_units, groups) + div_up(p->early_units, groups));
    uint32_t run = (uint32_t)div_up(div_up(p->n_rows, 16), s->blocks / 2), inputs = inputs_of(p);
    return inputs / 2 * run + inputs % 2 * (uint32_t)div_up(run, 2);
}

// Of them those that are not early: what a block waits for.
static uint32_t late_units(const Product *p, const FewShape *s) {
    return group_units(p, s) - (uint32_t)div_up(p->early_units, s->blocks / s->k_blocks);
}

static uint32_t copies_of(const LowerTarget *t, const Product *p) {
    return p->rows == 1 ? codebook_copies(t, codebook_bytes(p), ONE_CODEBOOKS_BYTES_MAX) : 1;
}

// What blocks of a pair send each other.
static uint64_t sent_bytes(const Product *p, const FewShape *s) {
    uint64_t bands = s->pairs ? div_up(div_up(div_up(p->n_rows, 16), s->blocks / 2), 2) : 0;
    return bands * inputs_of(p) * 16 * sizeof(float);
}

// What a stage adds to a block's shared memory, at most: barriers, the choice, and what is sent.
static uint64_t few_spare(const Product *p, const FewShape *s) {
    return max_u64(FEW_SPARE, FEW_BARRIERS + p->touched_bytes + sent_bytes(p, s));
}

// What a block takes beside its ring, with so many buffers of sums, and what a stage adds.
static uint64_t few_beside(const Product *p, const FewShape *s, uint32_t buffers, uint64_t spare) {
    uint32_t expert_units = (uint32_t)div_up(p->n_rows, 16), segments = segments_of(p->n_cols);
    bool several = p->has_inputs && p->units > expert_units;
    uint64_t inputs = !several   ? 1
                      : s->pairs ? div_up(inputs_of(p), 2)
                                 : div_up(group_units(p, s) - 1, expert_units) + 1;
    uint64_t cols = align_up(p->n_cols, 256);
    if (s->k_blocks > 1) // whole segments
        cols = div_up(segments, s->k_blocks) * align_up(div_up(p->n_cols, segments), 256);
    uint64_t sums = (uint64_t)s->pass_units * p->rows * (16 * p->unit_bands + 4) * sizeof(float), parts = 0;
    if (s->k_ways > 1 && s->k_blocks == 1)
        parts = (uint64_t)s->pass_units * p->unit_bands * segments * p->rows * 20 * sizeof(float);
    return inputs * cols * 2 * p->rows + buffers * (sums + parts) + s->copies * codebook_bytes(p) + spare;
}

static uint64_t slot_bytes(const Product *p, const FewShape *s) {
    return (uint64_t)s->pass_units * p->unit_bands * s->k_ways * step_bytes(p);
}

// Slots of all that a block reads, where it has one pass.
static uint64_t all_slots(const Product *p, const FewShape *s) {
    uint32_t segments = segments_of(p->n_cols), cols = step_cols(p);
    uint64_t segment_cols = align_up(div_up(p->n_cols, segments), 256);
    uint64_t of_way = div_up(segments, s->k_ways * s->k_blocks) * segment_cols / cols;
    return min_u64(of_way, div_up(p->n_cols, cols));
}

// One row with a shared expert: where a block's weights are hardly more than the ring has, the ring has all,
// so that nothing waits for a slot to be read (GLM-4.7-Flash: 100 KB of down in Q6_K; Qwen3.5-35B-A3B: 111 of
// gate and up). room: for all of the block. Of others it was tried once: Qwen3-30B-A3B, a step of 1,484 us →
// 1,500.
static void hold_all(const Product *p, FewShape *s, uint64_t room) {
    uint64_t slots = all_slots(p, s), all = slots * slot_bytes(p, s);
    uint64_t barriers = sizeof(uint64_t) * (2 * slots + inputs_of(p) * segments_of(p->n_cols) + 1);
    uint64_t spare = ONE_CHOICE_BYTES + barriers + sent_bytes(p, s);
    bool one_pass = s->pass_units >= group_units(p, s);
    if (!p->has_shared || !one_pass || s->ring_bytes >= all) return;
    if (all + few_beside(p, s, 1, spare) <= room) s->ring_bytes = (uint32_t)all;
}

// The ring in what is left of `shared` bytes, `most` at most; false where two steps do not fit.
static bool fit_ring(const Product *p, FewShape *s, uint64_t shared, uint64_t most) {
    uint64_t slot = slot_bytes(p, s), beside = few_beside(p, s, 2, few_spare(p, s));
    if (beside + 2 * slot > shared) return false;
    s->ring_bytes = (uint32_t)(min_u64(shared - beside, max_u64(most, 2 * slot)) / 1024 * 1024);
    if (s->ring_bytes < 2 * slot) return false;
    uint64_t late = slot * late_units(p, s) / group_units(p, s);
    s->flight = (uint32_t)min_u64(max_u64(2, FEW_FLIGHT_BYTES / late), s->ring_bytes / slot);
    return true;
}

// One row: the block's units side by side, and segments where that makes small slots; two blocks a
// multiprocessor, so that down's weights are on their way while gate and up still work. Gate and up ask for
// so much that two of their blocks never share one: with less, a few multiprocessors were given two, and
// then two of down (a layer of GPT-OSS-20B: 54 us instead of 46).
static bool one_row_shape(const LowerTarget *t, const Product *p, FewShape *s) {
    bool shares = t->sm >= 90, is_larger = p->is_first;
    uint64_t larger = t->shared_bytes_multiprocessor / 2, smaller = larger - 2 * BLOCK_RESERVED,
             most = shares ? (is_larger ? larger : smaller) : t->shared_bytes_block;
    s->shared_bytes_min = shares && is_larger ? (uint32_t)larger : 0;
    uint32_t units = group_units(p, s), passes = (uint32_t)div_up(units * p->unit_bands, ONE_BANDS_MAX);
    for (s->pass_units = (uint32_t)div_up(units, passes); s->pass_units > 0; s->pass_units--) {
        uint32_t bands = s->pass_units * p->unit_bands,
                 ways = (uint32_t)div_up(ONE_SLOT_BYTES * units,
                                         (uint64_t)bands * step_bytes(p) * late_units(p, s));
        ways = MIN(MIN(ways, segments_of(p->n_cols) / s->k_blocks), MAX(ONE_BANDS_MAX / bands, 1u));
        s->k_ways = MAX(ways, 1u);
        s->blocks_per_multiprocessor = 2;
        if (!fit_ring(p, s, min_u64(most, t->shared_bytes_block), FEW_RING_MAX)) continue;
        if (shares)
            hold_all(p, s,
                     is_larger ? t->shared_bytes_multiprocessor - 2 * BLOCK_RESERVED - p->down_bytes : most);
        return true;
    }
    return false;
}

// One row's down: pairs, where a block has hardly more to do than where all share the units evenly (Nemotron
// 3 Nano 9 and 8 units, Gemma 4 26B-A4B 12 and 11): sums that meet in memory take longer than that.
static bool pairs_shape(const LowerTarget *t, const Product *p, FewShape *s) {
    FewShape even = {.blocks = t->multiprocessors / 2 * 2, .k_blocks = 1, .copies = copies_of(t, p)},
             pairs = even;
    pairs.pairs = true;
    uint32_t units = group_units(p, &pairs);
    bool is_even = PAIRS_EVEN * units <= (PAIRS_EVEN + 1) * group_units(p, &even);
    if (p->rows > 1 || !p->has_inputs || t->sm < 90 || !is_even) return false;
    if (!one_row_shape(t, p, &pairs) || pairs.pass_units < units) return false;
    return *s = pairs, true;
}

static bool few_shape(const LowerTarget *t, const Product *p, FewShape *out);

// Of a class of few rows.
static Product few_product(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows, bool down) {
    Product p = product_of(e, max_rows, 0, down), next = product_of(e, max_rows, 0, true);
    FewShape s;
    if (down || !p.has_shared || !few_shape(t, &next, &s)) return p;
    uint64_t ring = min_u64(s.ring_bytes, all_slots(&next, &s) * slot_bytes(&next, &s));
    p.down_bytes = ring + few_beside(&next, &s, 1, few_spare(&next, &s));
    return p;
}

// Several rows: many bands, so that a multiprocessor has enough to do while each waits; a block has it alone.
static bool rows_shape(const LowerTarget *t, const Product *p, FewShape *s) {
    s->k_ways = s->blocks_per_multiprocessor = 1;
    for (s->pass_units = p->bands / p->unit_bands; s->pass_units > 0; s->pass_units--) {
        if (fit_ring(p, s, t->shared_bytes_block, t->shared_bytes_block)) return true;
    }
    return false;
}

// Blocks share a band's columns where the activations of all are too many. Where that is not enough (8 rows
// on sm_75), there are more blocks than multiprocessors: each has fewer experts, and their activations.
static bool few_shape(const LowerTarget *t, const Product *p, FewShape *out) {
    if (pairs_shape(t, p, out)) return true;
    for (uint32_t turns = 1; turns <= FEW_TURNS_MAX; turns *= 2) {
        for (uint32_t k = 1; k <= MIN(segments_of(p->n_cols), t->multiprocessors); k *= 2) {
            FewShape s = {
                .blocks = turns * t->multiprocessors / k * k, .k_blocks = k, .copies = copies_of(t, p)};
            if (p->rows == 1 ? one_row_shape(t, p, &s) : rows_shape(t, p, &s)) return *out = s, true;
        }
    }
    return false;
}

static void define_few(StrBuf *b, const FewShape *s, const Product *p) {
    define(b, "BLOCKS", s->blocks);
    define(b, "WARPS", s->pass_units * p->unit_bands * s->k_ways);
    define(b, "K_WAYS", s->k_ways);
    define(b, "K_BLOCKS", s->k_blocks);
    define(b, "RING_BYTES", s->ring_bytes);
    define(b, "FLIGHT", s->flight);
    define(b, "FETCHERS", FEW_FETCHERS);
    if (s->copies > 1) define(b, "CODEBOOK_COPIES", s->copies);
    define(b, "BLOCKS_PER_SM", s->blocks_per_multiprocessor);
    if (s->shared_bytes_min > 0) define(b, "SHARED_BYTES_MIN", s->shared_bytes_min);
    if (s->pairs) define(b, "PAIRS", 1);
}

// ---- many rows ----

static uint32_t tiles_of(const ExpertsSize *e, uint32_t max_rows, uint32_t tile) {
    return (uint32_t)min_u64((uint64_t)max_rows * e->n_used / tile + e->n_experts,
                             e->n_experts * div_up(max_rows, tile));
}

static bool eights_fit(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    for (int down = 0; down < 2; down++) {
        Product p = product_of(e, max_rows, tiles_of(e, max_rows, TILE_FEW), down);
        FewShape s;
        if (!few_shape(t, &p, &s) || s.k_blocks > 1) return false;
    }
    return true;
}

// Rows of a tile: about as many as an expert has, and a quarter more. Tiles of 8 (product_few.cuh) take 0.8
// of the time of 16 (product_many.cuh) where experts have 4 rows, and 1.05 where they have 8.
static uint32_t tile_rows(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    uint32_t rows = TILE_FEW, most = t->sm >= 90 ? 128 : 64;
    while (rows < most && 4ull * rows * e->n_experts < 5ull * max_rows * e->n_used)
        rows *= 2;
    return rows == TILE_FEW && !eights_fit(t, e, max_rows) ? 2 * TILE_FEW : rows;
}

static uint32_t slots_of(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    uint32_t tile = tile_rows(t, e, max_rows);
    // A tile reads past the slots of its expert, and the last one past all.
    uint64_t slots = (uint64_t)max_rows * e->n_used + (uint64_t)(SLOT_UNIT - 1) * e->n_experts + tile;
    return (uint32_t)align_up(slots, tile);
}

// Of product_many.cuh on older GPUs: what a block takes with such a ring.
static uint64_t older_bytes(const Product *p, uint32_t warps, uint32_t tile, uint64_t ring) {
    uint64_t weights = (uint64_t)warps * chunk_bytes(p), rows = 2ull * tile * 128;
    uint64_t n = max_u64(ring / (weights / 2 + rows), 2) / 2 + 1, taken = n * weights;
    uint64_t row_slots = max_u64(ring > taken ? ring - taken : 0, 2 * rows) / rows;
    uint64_t exchanged = p->unit_bands == 2 ? warps / 2 * MIN(tile, 32u) * 16ull * sizeof(float) : 0;
    return align_up(taken, 1024) + row_slots * rows + exchanged + codebook_bytes(p) + 16;
}

static void define_older(StrBuf *b, const LowerTarget *t, const Product *p, uint32_t tile) {
    uint32_t warps = 8;
    uint64_t ring = min_u64(t->shared_bytes_block, FEW_RING_MAX);
    while (older_bytes(p, warps, tile, ring) > t->shared_bytes_block) {
        if (ring > (16 << 10)) ring -= 4 << 10;
        else if (warps > p->unit_bands) warps /= 2, ring = min_u64(t->shared_bytes_block, FEW_RING_MAX);
        else break; // the kernel's static_assert says so
    }
    define(b, "WARPS", warps);
    define(b, "RING_BYTES", ring);
}

static void define_many(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows, bool down) {
    uint32_t tile = tile_rows(t, e, max_rows), tiles = tiles_of(e, max_rows, tile);
    define(b, "EXPERTS_MANY", 1);
    define(b, "TILE_ROWS", tile);
    if (tile == TILE_FEW) {
        Product p = product_of(e, max_rows, tiles, down);
        FewShape shape;
        define(b, "MAX_ROWS", TILE_FEW);
        define(b, "EXPERT_TILES", tiles);
        if (few_shape(t, &p, &shape)) define_few(b, &shape, &p); // tile_rows has said so
        return;
    }
    define(b, "MAX_ROWS", slots_of(t, e, max_rows));
    define(b, "WEIGHTS_ONCE", tile < 128);
    define(b, "BLOCKS", t->multiprocessors);
    Product p = product_of(e, max_rows, tiles, down);
    if (t->sm < 90) {
        define_older(b, t, &p, tile);
        return;
    }
    define(b, "WARPS", tile <= 32 ? 16 : 8);
    define(b, "RING_BYTES", (t->shared_bytes_block - MANY_SPARE - codebook_bytes(&p)) / 1024 * 1024);
}

bool experts_use_few(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    return max_rows <= FEW_ROWS || tile_rows(t, e, max_rows) == TILE_FEW;
}

// ---- both ----

static void define_product(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows,
                           bool down) {
    Product p = few_product(t, e, max_rows, down);
    FewShape shape;
    define(b, down ? "STAGE_EXPERTS_DOWN" : "STAGE_EXPERTS_GLU", 1);
    define_experts(b, e, e->d_model);
    define(b, "D_FF", e->d_ff);
    define_format(b, "FORMAT_0", p.dtypes[0]);
    if (!down && e->ungated) define(b, "UNGATED", 1);
    else if (!down) define_format(b, "FORMAT_1", p.dtypes[1]);
    if (!down && e->weighed) define(b, "EXPERTS_WEIGHED", 1);
    if (max_rows > FEW_ROWS) {
        define_many(b, t, e, max_rows, down);
        return;
    }
    define(b, "MAX_ROWS", max_rows);
    if (max_rows == 1 && !down && e->shared_ff > 0) define(b, "SHARED_ROWS", e->shared_ff);
    if (max_rows == 1 && down && e->shared_down) define(b, "SHARED_ROWS", e->d_model);
    define_choice(b, e);
    if (few_shape(t, &p, &shape)) define_few(b, &shape, &p); // experts_fit has said so
}

void experts_define_glu(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    define_product(b, t, e, max_rows, false);
}

void experts_define_down(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    define_product(b, t, e, max_rows, true);
    if (e->sum_alone && max_rows <= FEW_ROWS) define(b, "SUM_ALONE", 1);
}

bool experts_fit(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    Product glu = few_product(t, e, max_rows, false), down = few_product(t, e, max_rows, true);
    FewShape shape;
    return max_rows > FEW_ROWS || (few_shape(t, &glu, &shape) && few_shape(t, &down, &shape));
}

// ---- router, slots, sum ----

// Slots of the ring through which the experts' weights come. 0: there is none, which is as good where a block
// is of few warps (two fit a multiprocessor in any case; a prompt of GLM-4.7-Flash 67 us a layer, with a ring
// 74), and where it is of so many that only one fits.
static uint32_t route_slots(const LowerTarget *t, uint32_t warps, uint32_t rows, uint32_t group,
                            uint32_t outputs) {
    uint32_t slot = group * warps * ROUTE_COLS * sizeof(float);
    uint64_t room = t->shared_bytes_multiprocessor / ROUTE_BLOCKS - BLOCK_RESERVED;
    uint64_t used = (warps * align_up(outputs, group) * rows + rows * (2 * warps + 1) + 8) * sizeof(float);
    uint64_t slots = room > used ? (room - used) / slot : 0;
    return t->sm >= 80 && (warps == 5 || warps == 6) && slots >= 2 ? (uint32_t)min_u64(slots, ROUTE_SLOTS_MAX)
                                                                   : 0;
}

// A block has few rows of a batch, and as many experts as make a block a multiprocessor (with 8 rows of
// Qwen3-30B-A3B 2 rows and 4 experts take 2.5 us, 8 and 1 4.7); of a prompt many, so that the experts are
// read less often. A block of a long row has many warps, and so few registers for each.
void experts_define_route(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    uint32_t d_model = e->d_router > 0 ? e->d_router : e->d_model,
             warps = (uint32_t)div_up(d_model, ROUTE_COLS),
             rows = max_rows > 128  ? ROUTE_ROWS_MAX
                    : max_rows > 16 ? 4
                    : max_rows > 1  ? 2
                                    : 1,
             spread = t->multiprocessors + t->multiprocessors / 4, outputs = e->n_experts + e->has_share;
    if (warps > 8) rows = MIN(rows, warps <= 12 ? 4u : 2u);
    uint32_t runs = (uint32_t)div_up(max_rows, rows), group = rows == ROUTE_ROWS_MAX ? 2 : 4;
    while (group > 1 && outputs * runs <= spread * (group / 2))
        group /= 2;
    define_experts(b, e, d_model);
    define(b, "MAX_ROWS", max_rows);
    define(b, "ROUTE_ROWS", rows);
    define(b, "ROUTE_GROUP", group);
    define(b, "ROUTE_SPREAD", MIN(spread, outputs * runs));
    // Blocks of prompts go through many groups of experts.
    uint32_t slots = max_rows > 128 && outputs > group ? route_slots(t, warps, rows, group, outputs) : 0;
    if (slots) define(b, "ROUTE_SLOTS", slots);
    if (e->has_share) define(b, "ROUTE_SHARE", 1);
    if (max_rows > FEW_ROWS) define(b, "ROUTE_CHOOSES", 1);
    define_choice(b, e);
}

void experts_define_group(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    define_experts(b, e, e->d_model);
    define(b, "MAX_ROWS", max_rows);
    define(b, "GROUP_BLOCKS", MIN(max_rows, t->multiprocessors));
    define(b, "EXPERT_SLOTS", slots_of(t, e, max_rows));
    define(b, "TILE_ROWS", tile_rows(t, e, max_rows));
    define(b, "EXPERT_TILES", tiles_of(e, max_rows, tile_rows(t, e, max_rows)));
    if (e->weighed) define(b, "EXPERTS_WEIGHED", 1);
}

void experts_define_sum(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    define(b, "D_MODEL", e->d_model);
    define(b, "N_USED", e->n_used);
    define(b, "SUM_BLOCKS", MIN(max_rows, SUM_TURN * t->multiprocessors));
    if (e->sum_alone) define(b, "SUM_ALONE", 1);
}

ExpertsBuffers experts_buffers(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows) {
    if (max_rows > FEW_ROWS) {
        uint32_t slots = slots_of(t, e, max_rows);
        return (ExpertsBuffers){.inputs = slots, // tiles of 8 have buffers of 8 rows: as much together
                                .buffers = 1,
                                .buffer_rows = slots,
                                .slots = slots,
                                .tiles = tiles_of(e, max_rows, tile_rows(t, e, max_rows)),
                                .meetings = max_rows};
    }
    uint32_t has_shared = max_rows == 1 && e->shared_down;
    ExpertsBuffers sizes = {.inputs = max_rows,
                            .buffers = MIN(max_rows * e->n_used, e->n_experts) + has_shared,
                            .buffer_rows = max_rows,
                            .slots = max_rows * e->n_used + has_shared,
                            .arrivals = (uint32_t)div_up(e->d_model, 16)};
    for (int down = 0; down < 2; down++) {
        Product p = few_product(t, e, max_rows, down);
        FewShape s;
        if (!few_shape(t, &p, &s) || s.k_blocks == 1) continue;
        uint64_t floats = (uint64_t)p.units * p.unit_bands * segments_of(p.n_cols) * max_rows * 16;
        sizes.meetings_k = MAX(sizes.meetings_k, p.units);
        sizes.partial_bytes = max_u64(sizes.partial_bytes, floats * sizeof(float));
    }
    return sizes;
}
