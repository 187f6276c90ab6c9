// The operations of arch/op.def on the CPU. Each works on all rows of a step; matrices are row-major, one row
// a token.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/pool.h"

// Where the rows of a step belong.
typedef struct {
    int32_t token;
    uint32_t position;
    uint32_t sequence; // index into the step's sequences
} RowPlace;

// The cache of all layers: page p, layer l, keys (0) or values (1): [KV_PAGE_TOKENS][kv_dim] float32.
typedef struct {
    float *data;
    uint32_t n_pages;
    uint32_t n_layers;
    uint32_t kv_dim;
    uint32_t head_dim;
} KvCache;

static inline float *kv_cache_row(const KvCache *kv, const uint32_t *pages, uint32_t layer, uint32_t which,
                                  uint32_t position) {
    uint64_t page = pages[position / KV_PAGE_TOKENS];
    uint64_t block = (page * kv->n_layers + layer) * 2 + which;
    return kv->data + (block * KV_PAGE_TOKENS + position % KV_PAGE_TOKENS) * kv->kv_dim;
}

// What an operation may touch: the step, and memory that is made at load.
typedef struct {
    Pool *pool;
    uint32_t n_rows;
    const RowPlace *rows; // [n_rows]
    const Step *step;
    float *act[ACT_COUNT];     // [max_rows][act_width]
    const uint32_t *act_width; // [ACT_COUNT]
    KvCache kv;
    float *scores; // [threads][scores_stride], one query's attention weights
    uint64_t scores_stride;
    float *scratch; // [threads][scratch_stride], for matmul_run
    uint64_t scratch_stride;
    MatmulRow *expert_rows; // [max_rows], the rows that chose an expert
    uint32_t n_wanted;      // rows whose logits are wanted
    const uint32_t *wanted; // [n_wanted] row indices, ascending
    float *head_in;         // [max_rows][d_model] those rows, gathered
    float *logits;          // [n_wanted][n_vocab]
} CpuStep;

// An operation with its small weights (norms, biases) as float32.
typedef struct {
    const Op *op;
    const float *weight_f32; // NULL for matrices
    const float *bias_f32;   // NULL for none
} CpuOp;

void cpu_op_run(const CpuOp *op, CpuStep *s);
