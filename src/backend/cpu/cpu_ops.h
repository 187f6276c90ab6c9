// The operations of arch/op.def on the CPU. Each works on all rows of a step; matrices are row-major, one row
// a token.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/matmul.h"
#include "os/pool.h"

// Where the rows of a step belong.
typedef struct {
    int32_t token;
    uint32_t position;
    uint32_t sequence; // index into the step's sequences
} RowPlace;

// The caches of keys and values, float32 (of Q8 what a code and its scale stand for). A page has a place for
// each of several caches (plan/kv_layout.h): keys [KV_PAGE_TOKENS][n_heads][key_dim], then, where they are
// not a part of keys, values [KV_PAGE_TOKENS][n_heads][value_dim].
typedef struct {
    float *data;
    uint32_t n_pages;
    uint64_t page_floats;
    uint64_t place_floats;
    const Cache *caches;
} KvCache;

typedef enum { KV_KEYS, KV_VALUES } KvPart;

static inline float *kv_cache_row(const KvCache *kv, const StepSequence *q, uint32_t cache, KvPart part,
                                  uint32_t position) {
    const Cache *c = &kv->caches[cache];
    uint64_t key_width = (uint64_t)c->n_heads * c->key_dim, value_width = (uint64_t)c->n_heads * c->value_dim;
    uint64_t page = q->pages[(uint64_t)c->list * q->list_pages + position / KV_PAGE_TOKENS];
    float *place = kv->data + page * kv->page_floats + c->place * kv->place_floats;
    uint64_t row = position % KV_PAGE_TOKENS;
    if (c->is_latent) part = KV_KEYS;
    return part == KV_KEYS ? place + row * key_width : place + KV_PAGE_TOKENS * key_width + row * value_width;
}

// What slots keep besides pages, float32: two states a slot, one as a step finds it and one as it leaves
// it. So a step that is run once more computes the same. A state has all caches that are no matter of
// pages, one after the other.
typedef struct {
    float *data; // [slots][2][slot_values]
    uint64_t slot_values;
    const uint64_t *first; // [caches] where each begins in a state
    uint8_t *current;      // [slots] which of the two the next step finds
    float *checkpoints;    // [n_checkpoints][slot_values]
} CpuStates;

typedef enum { STATE_BEFORE, STATE_AFTER } StateSide;

static inline float *state_at(const CpuStates *states, uint32_t slot, uint32_t cache, StateSide side) {
    uint64_t at = 2 * (uint64_t)slot + (states->current[slot] ^ side);
    return states->data + at * states->slot_values + states->first[cache];
}

// What an operation may touch: the step, and memory that is made at load.
typedef struct {
    Pool *pool;
    uint32_t n_rows;
    const RowPlace *rows; // [n_rows]
    const Step *step;
    float *act[ACT_COUNT]; // [n_rows][width]: as wide as the operation that wrote it says
    KvCache kv;
    CpuStates states;
    uint32_t first_rows[JOBS_MAX]; // by sequence
    float *scores;                 // [threads][scores_stride], one query's attention weights
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

// What a head's key (or value) of n values is after it was kept as Q8: its scale is the largest magnitude /
// 127, rounded to f16; a code is value * (1 / scale), rounded to the nearest integer (ties to even), at most
// 127 either way; code * scale is what every reader finds. A NaN or an infinity makes the scale one.
void cpu_round_to_q8(const float *in, float *out, uint32_t n);
