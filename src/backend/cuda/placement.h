// Where each weight of a plan goes in device memory.
//
// A matrix keeps its quantised bits, moved into the layout that the kernels read (kernels_src/layout.h).
// A matrix for each expert: one after the other. Vectors (norms, biases) and the frequencies of rotary
// embeddings become float32: they are read element by element and weigh nothing. So do routers, and what
// streams are mixed by.
#pragma once

#include "backend/cuda/memory.h"
#include "plan/plan.h"

typedef enum { PLACED_NOT, PLACED_MATRIX, PLACED_VECTOR } PlacedAs; // not: no operation uses it

// Rotary embeddings that differ: of layers with a window, and of those without.
enum { PLACED_ROPES_MAX = 4 };

typedef struct {
    PlacedAs as;
    uint64_t offset; // in the weights' region
    uint64_t size;
} PlacedWeight;

typedef struct {
    const Plan *plan;
    PlacedWeight *weights;   // [plan->n_weights]
    uint64_t vectors_offset; // all vectors, side by side, then the frequencies
    uint64_t vectors_size;
    const Rope *ropes[PLACED_ROPES_MAX];
    uint64_t rope_offsets[PLACED_ROPES_MAX];
    uint32_t n_ropes;
    uint64_t size; // of all
} Placement;

// Of a router, or what streams are mixed by: the weight is read as floats, element by element.
static inline bool placement_reads_floats(const Op *op) {
    bool is_small = op->out == ACT_L || op->out == ACT_SM || op->out == ACT_SP || op->out == ACT_SC;
    return op->kind == OP_MATMUL && is_small;
}

// Errors: ERR_UNSUPPORTED for more than PLACED_ROPES_MAX rotary embeddings; ERR_NO_MEMORY.
MUST_CHECK bool placement_make(const Plan *plan, Arena *arena, Placement *out, Error *err);

// `weight` is one of the plan's that an operation uses.
static inline uint64_t placement_offset(const Placement *p, const Weight *weight) {
    return p->weights[weight - p->plan->weights].offset;
}

// Bytes that a decode step reads of it.
static inline uint64_t placement_bytes(const Placement *p, const Weight *weight) {
    return p->weights[weight - p->plan->weights].size;
}

// `rope` is one that the plan's operations use.
static inline uint64_t placement_rope_offset(const Placement *p, const Rope *rope) {
    uint32_t i = 0;
    while (p->ropes[i] != rope)
        i++;
    return p->rope_offsets[i];
}
