// How the experts' stages of batches (kernels_src/route.cuh, group_experts.cuh, experts_*.cuh) are spread
// over a GPU, and how large their buffers are. A class is a batch's capacity of rows: 1, 8, or from 16 on.
#pragma once

#include "backend/cuda/lower.h"
#include "base/strbuf.h"

// A layer's experts.
typedef struct {
    uint32_t d_model, d_ff, n_experts, n_used;
    Dtype gate, up, down;
    RouteConfig route;
    bool has_select; // a bias on what experts are chosen by
    bool has_scales; // a factor of each expert on its weight
    bool has_share;  // the router has one row more (route.cuh)
    bool sum_alone;  // down and sum do not add to the residual stream
    // Of one row: rows of a shared expert's gate and up that gate and up of the others compute, too (0:
    // none); and whether their down computes its down, which is then of d_ff columns.
    uint32_t shared_ff;
    bool shared_down;
    bool ungated;      // no gate: `up` is the format of what is multiplied first
    bool weighed;      // the experts' inputs are weighted, not their outputs alone
    uint32_t d_router; // the width of the router's input; 0: d_model
} ExpertsSize;

// What the stages of a class share.
typedef struct {
    uint32_t inputs;        // rows of `normed` that gate and up multiply: slots for many rows, else max_rows
    uint32_t buffers;       // of activations of d_ff columns that gate and up leave, one after the other
    uint32_t buffer_rows;   // of each
    uint32_t slots;         // rows of down's `out`
    uint32_t tiles;         // of group_experts' table; 0 for few rows
    uint32_t arrivals;      // counters of down; 0 for many rows
    uint32_t meetings;      // counters of the router; 0 for few rows
    uint32_t meetings_k;    // counters of gate and up, and of down, where blocks share columns; else 0
    uint64_t partial_bytes; // likewise
} ExpertsBuffers;

ExpertsBuffers experts_buffers(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);

// Whether gate and up, and down, are multiplied by product_few.cuh, else product_many.cuh: which files they
// have.
bool experts_use_few(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);

// Whether the stages of a class fit this GPU's shared memory: few rows may not.
bool experts_fit(const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);

// Everything that route.cuh is specialised by but NORM_EPS: D_MODEL N_EXPERTS N_USED MAX_ROWS ROUTE_….
void experts_define_route(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);
// Everything of group_experts.cuh: many rows alone.
void experts_define_group(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);
// Everything of experts_glu.cuh but ACTIVATION and HAS_BIAS.
void experts_define_glu(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);
// Everything of experts_down.cuh.
void experts_define_down(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);
// Everything of experts_sum.cuh: many rows alone.
void experts_define_sum(StrBuf *b, const LowerTarget *t, const ExpertsSize *e, uint32_t max_rows);
