// Lowering to stages of batches, for its own files: what the rows of the stages (batch_stage_*.c) are written
// with.
#pragma once

#include "backend/cuda/batch_lower.h"
#include "backend/cuda/expert_shapes.h"
#include "backend/cuda/lower_internal.h"

struct BatchLowering {
    const Plan *plan;
    const Placement *placement;
    const LowerTarget *target;
    Arena *arena;
    BatchStage *blocks;
    uint32_t n_blocks;
    BatchSize size;     // of the class under way
    bool has_library;   // that multiplies prompts' rows
    bool is_given;      // of the stage under way
    BatchStage *stages; // its stages so far
    uint32_t n_stages;
    const BatchStage *post; // the POST_NORM that the next block makes by itself, or NULL
    bool x_is_other;        // behind the stages so far
    JitProgram *programs;
    const BatchType **program_types;
    uint32_t n_programs;
    uint32_t first_program; // of the class
    BatchLowered *out;
};

// ---- rows: files of programs ----

#define FILES_ROWS FILES_COMMON, "rows.cuh"
#define FILES_PRODUCT_FEW "product_few.cuh", "product_few_fetch.cuh", "product_few_run.cuh"
#define FILES_PRODUCT_MANY "product_many.cuh", "product_many_wgmma.cuh", "product_many_mma.cuh"
#define FILES_FEW FILES_COMMON, "rows.cuh", FILES_TILES, "product.cuh", FILES_PRODUCT_FEW
#define FILES_MANY FILES_COMMON, "rows.cuh", FILES_TILES, "product.cuh", FILES_PRODUCT_MANY
#define FILES_GIVEN FILES_COMMON, "rows.cuh", FILES_TILES, "product.cuh", "product_given.cuh"

// ERR_UNSUPPORTED: the block's first operation cannot be run.
bool batch_refuse(Error *err, const BatchStage *s);

bool batch_links_none(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err);
bool batch_takes_all(const BatchLowering *l, const BatchStage *s, Error *err);
uint32_t batch_shows_none(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]);

static const float GLU_DIVIDED_BY = 16; // GLU_DIVISOR of the kernels

// ---- products ----

// Room in the buffers where blocks of a stage meet.
static inline void batch_need(const BatchLowering *l, uint64_t partial_bytes, uint32_t n_meetings) {
    BatchLowered *out = l->out;
    out->partial_bytes = max_u64(out->partial_bytes, partial_bytes);
    out->n_meetings = (uint32_t)max_u64(out->n_meetings, n_meetings);
}

// The size of a stage's product.
ProductSize batch_product_size(const BatchStage *s);
// Its body's defines for the class, and what it needs of the buffers noted in l->out.
void batch_define_product(StrBuf *b, const BatchLowering *l, const ProductSize *size);
// output.cuh: which matrix it multiplies by.
void batch_define_output(StrBuf *b, const Weight *w);
// All of one that leaves the product by the stage's first operation as it is.
void batch_define_raw_output(StrBuf *b, const BatchLowering *l, const BatchStage *s);
// Of a head, for the class under way: how many best logits there are a row.
uint32_t batch_head_blocks(const BatchLowering *l, const Op *head);

// NORM_EPS, NORM_NONE, COPY_DIVIDED, D_MODEL: rows of so many values as a product's input, divided, since
// they may be beyond what f16 holds.
static inline void batch_define_copy(StrBuf *b, uint64_t n_cols) {
    define(b, "D_MODEL", n_cols);
    define_float(b, "NORM_EPS", 0);
    define(b, "NORM_NONE", 1);
    define(b, "COPY_DIVIDED", 1);
}

// NORM_INPUT, NORM_EPS, LAYER_NORM: where few rows go through a product, it takes their norm by itself.
// POST_…: and that of the output before, which the residual stream does not have yet.
void batch_define_norm_input(StrBuf *b, const BatchLowering *l, const BatchStage *s, const Op *norm);

// POST_INPUT, POST_EPS, POST_SCALE, POST_BESIDE alone; `post` is the POST_NORM.
void batch_define_post_input(StrBuf *b, const BatchStage *post);

// Whether the block can make the norm of the output before it, `post`, by itself: in one row's class its
// first stage begins with a norm of the residual stream.
bool batch_takes_post_norm(const BatchStage *s, const BatchStage *post);

// Of a block of experts and its neighbours: whether the stages of one row compute the gate and up of a shared
// expert, too, and (then) its down. They do where it differs from the others in the number of its rows alone,
// for down not even in that.
bool batch_shared_glu_joins(const BatchStage *experts);
bool batch_shared_down_joins(const BatchStage *experts);

// What all products are given; `norm` NULL: the input is `in`.
ProductArgs batch_product_args(const BatchStage *s, const BatchBuffers *b, const Op *norm, CUdeviceptr in);

// Products of one input (kernels_src/qkv.cuh), in the order in which they are multiplied, and where a row of
// `raw` has each.
typedef struct {
    const Op *of[4];
    uint32_t at[4];
    uint32_t n, cols;
    uint32_t same_format; // of four: this one has the format of the one before it
} BatchMatrices;

// Puts them one after the other, each at a multiple of `multiple` values.
void batch_matrices_add(BatchMatrices *m, const Op *op, uint32_t multiple);
bool batch_check_matrices(const BatchMatrices *m, Error *err);
// The stage's defines; notes how wide a row is.
void batch_define_matrices(StrBuf *b, const BatchLowering *l, const BatchStage *s, const BatchMatrices *m,
                           const Op *norm);
void batch_bind_matrices(const BatchStage *s, const BatchBuffers *b, const BatchMatrices *m, const Op *norm,
                         StageArgs *out);

// ---- arguments ----

static inline CUdeviceptr batch_address_of(const BatchBuffers *b, const Weight *w) {
    return w ? b->weights + placement_offset(b->placement, w) : 0;
}

// Of an operation that the stage may do without: 0.
static inline CUdeviceptr batch_weight_of(const BatchBuffers *b, const Op *op) {
    return op ? batch_address_of(b, op->weight) : 0;
}

static inline CUdeviceptr batch_bias_of(const BatchBuffers *b, const Op *op) {
    return op ? batch_address_of(b, op->bias) : 0;
}

// What a layer with a state keeps, of slot 0.
static inline CUdeviceptr batch_state_of(const BatchBuffers *b, uint32_t cache) {
    return b->states + cache_slot_at(b->caches, cache) * sizeof(float);
}

// The layer's keys and values: their place in each page.
static inline CUdeviceptr batch_cache_of(const BatchBuffers *b, const BatchStage *s) {
    return b->kv + b->caches[s->attention->attention.cache].place * b->kv_place_bytes;
}

// Where the list of their pages begins in a slot's row of the page table.
static inline uint32_t batch_list_of(const BatchBuffers *b, const BatchStage *s) {
    return b->caches[s->attention->attention.cache].list * b->pages_max;
}
