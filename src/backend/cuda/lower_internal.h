// Lowering, for its own files: the state of it, and what the rows of the stages (stage_*.c) are written with.
#pragma once

#include "../kernels_src/layout.h"
#include "backend/cuda/lower.h"
#include "base/strbuf.h"

struct Lowering {
    const Plan *plan;
    const Placement *placement;
    const LowerTarget *target;
    Arena *arena;
    Stage *stages;
    uint32_t n_stages;
    Stage *prefill_stages;
    uint32_t n_prefill_stages;
    uint32_t max_rows; // of a prefill step
    JitProgram *programs;
    uint32_t n_programs;
    const StageType *program_types[JIT_PROGRAMS_MAX];
};

// ---- rows: files and costs of programs ----

#define FILES_COMMON "prelude.cuh", "layout.h", "args.h"
#define FILES_MATVEC \
    FILES_COMMON, "formats.cuh", "stage_shapes.cuh", "format_runs.cuh", "activations.cuh", "matvec.cuh"
#define FILES_MATMUL                                                                            \
    FILES_COMMON, "formats.cuh", "prefill_tiles.cuh", "format_runs.cuh", "prefill_weights.cuh", \
        "prefill_matmul.cuh"

// How long a program takes to compile, in hundredths of a second beside 15 others on an H100's host. Those
// that take longest say it themselves; the rest takes 10 to 50.
enum { COST_USUAL = 30 };

// ---- rows: members for stages that have nothing to say there ----

bool stage_links_none(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err);
bool stage_takes_all(const Lowering *l, const Stage *s, Error *err);
bool stage_always(const Lowering *l, const Stage *s);
uint32_t stage_shows_none(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]);

// ---- checks ----

// ERR_UNSUPPORTED: "tensor … cannot be run on the GPU yet: WHY".
bool lower_refuse_weight(Error *err, const Weight *w, const char *why);
// ERR_UNSUPPORTED: the stage's first operation cannot be run.
bool lower_refuse_stage(Error *err, const Stage *s);

// ---- defines ----

static inline void define(StrBuf *b, const char *name, uint64_t value) {
    strbuf_printf(b, "#define %s %llu\n", name, (unsigned long long)value);
}

static inline void define_float(StrBuf *b, const char *name, float value) {
    strbuf_printf(b, "#define %s %af\n", name, (double)value); // hexadecimal: exact
}

static inline void define_format(StrBuf *b, const char *name, const Weight *w) {
    strbuf_printf(b, "#define %s FORMAT_%s\n", name, dtype_info(w->dtype)->name);
}

// NORM_EPS, LAYER_NORM.
void define_norm(StrBuf *b, const Op *norm);
// N_HEADS and HEAD_DIM of an OP_ATTENTION.
void define_heads(StrBuf *b, const Op *attention);
// SPLITS_MAX, SPLIT_PAGES_MIN and WINDOW of a STAGE_ATTENTION.
void define_splits(StrBuf *b, const Stage *attention);
// SOFT_CAP of scores or of logits, where there is one.
void define_cap(StrBuf *b, float cap);
void define_activation(StrBuf *b, ActFn fn);
// N_EXPERTS and N_USED of a STAGE_ROUTE.
void define_experts(StrBuf *b, const Stage *router);

// ---- shapes: how a stage is spread over a GPU (lower_shapes.c) ----

// How the rows of a stage's matrices are spread over the GPU and through shared memory.
typedef struct {
    uint32_t blocks;
    uint32_t warps;
    uint32_t ring_bytes;
    uint32_t shared_bytes_min; // of a block, whatever it uses
} MatvecShape;

// Of a product with one vector of n_cols: `units` units of unit_rows rows of the weights.
MatvecShape matvec_shape(const LowerTarget *t, const MatvecShare *share, uint32_t n_cols, uint32_t units,
                         uint32_t unit_rows, const Weight *const *weights, uint32_t n_weights);
// BLOCKS, WARPS, RING_BYTES and SHARED_BYTES_MIN.
void define_matvec(StrBuf *b, const MatvecShape *shape);
// Whether a block has room for a vector of the weight's columns and a warp for unit_rows of its rows.
bool matvec_fits(const LowerTarget *t, const Weight *w, uint32_t unit_rows);
// What a block keeps of a vector that these weights multiply (activations.cuh): integers, floats, or both.
uint64_t activation_bytes(uint64_t n_cols, const Weight *const *weights, uint32_t n_weights);
// MAX_ROWS, TILE_TOKENS, WARPS, RING_BYTES and BLOCKS_PER_SM of a prompt's product: `units` are runs of 16
// rows of the stage's weights.
void define_matmul(StrBuf *b, const Lowering *l, uint32_t units);

// Blocks of a STAGE_HEAD (stage_head.c).
uint32_t head_blocks(const LowerTarget *t, const Stage *head);
// How many slots and tiles the rows of a prompt's step have behind a STAGE_ROUTE, and the tokens of a tile
// (stage_experts.c).
LowerExperts experts_sizes(const LowerTarget *t, const Stage *router, uint32_t max_rows);
uint32_t experts_tile_tokens(const LowerTarget *t);
// The largest number of splits of an OP_ATTENTION (stage_attention.c).
uint32_t attention_splits_max(const LowerTarget *t, const Op *attention);

// ---- shapes of batches' products (batch_shapes_few.c, batch_shapes_many.c) ----

// The size of a stage's product (kernels_src/product.cuh).
typedef struct {
    uint32_t n_cols;
    uint32_t units, unit_bands;
    const Weight *weights[3];
    uint32_t n_weights;
    bool is_head;
    bool has_norm; // the norm of its input comes before it; it takes that of one row by itself
} ProductSize;

// Segments of a row (product.cuh).
static inline uint32_t product_segments(uint32_t n_cols) {
    uint64_t chunks = div_up(n_cols, 256);
    return (uint32_t)div_up(chunks, div_up(chunks, 8));
}
// Whether the body of few rows can have it: the activations of a long row may not fit a block, where it takes
// its norm by itself.
bool product_fits_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
// The body's defines for batches of max_rows rows.
void product_define_few(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
void product_define_many(StrBuf *b, const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
// Blocks that each leave a best logit of a row.
uint32_t product_blocks_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint32_t product_blocks_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
// What blocks that share a band's columns need to give each other: bytes, and counters.
uint64_t product_partial_bytes_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint64_t product_partial_bytes_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint32_t product_meetings_few(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);
uint32_t product_meetings_many(const LowerTarget *t, const ProductSize *p, uint32_t max_rows);

// ---- arguments ----

static inline CUdeviceptr address_of(const StageBuffers *b, const Weight *w) {
    return w ? b->weights + placement_offset(b->placement, w) : 0;
}

// Of an operation that the stage may do without: 0.
static inline CUdeviceptr weight_of(const StageBuffers *b, const Op *op) {
    return op ? address_of(b, op->weight) : 0;
}

static inline CUdeviceptr bias_of(const StageBuffers *b, const Op *op) {
    return op ? address_of(b, op->bias) : 0;
}

// The layer's keys and values.
static inline CUdeviceptr cache_of(const StageBuffers *b, const Stage *s) {
    return b->kv + s->layer * b->kv_layer_bytes;
}
