// Lowering, for its own files: the state of it, and the text that a stage's program is specialised by.
#pragma once

#include "../kernels_src/layout.h"
#include "backend/cuda/lower.h"
#include "base/strbuf.h"

typedef struct {
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
    StageKind program_kinds[JIT_PROGRAMS_MAX];
    uint32_t head_blocks;
    uint32_t splits_max;
} Lowering;

static inline void define(StrBuf *b, const char *name, uint64_t value) {
    strbuf_printf(b, "#define %s %llu\n", name, (unsigned long long)value);
}

static inline void define_float(StrBuf *b, const char *name, float value) {
    strbuf_printf(b, "#define %s %af\n", name, (double)value); // hexadecimal: exact
}

static inline void define_format(StrBuf *b, const char *name, const Weight *w) {
    strbuf_printf(b, "#define %s FORMAT_%s\n", name, dtype_info(w->dtype)->name);
}

// BLOCKS, WARPS, RING_BYTES and SHARED_BYTES_MIN of a product with one vector of n_cols: units of unit_rows
// rows of the weight.
void lower_define_matvec(StrBuf *b, const Lowering *l, StageKind kind, uint32_t n_cols, uint32_t units,
                         uint32_t unit_rows, const Weight *weight);

// Writes the stage's #defines. Sets l->head_blocks when it comes to the head.
MUST_CHECK bool lower_define(StrBuf *b, Lowering *l, const Stage *s, Error *err);

// What a block keeps of a vector that these weights multiply (activations.cuh): integers, floats, or both.
uint64_t lower_activation_bytes(uint64_t n_cols, const Weight *const *weights, uint32_t n_weights);

// Whether a block of this GPU has room for a vector of the weight's columns and for the rows that a warp
// needs at once.
bool lower_matvec_fits(const LowerTarget *t, StageKind kind, const Weight *w);

// What the kernels call an activation; NULL for those that they do not have.
const char *lower_activation_name(ActFn fn);

// ---- mixtures of experts (lower_experts.c) ----

// Errors: ERR_UNSUPPORTED. `s` is a stage of decoding.
MUST_CHECK bool lower_check_experts(const Lowering *l, const Stage *s, Error *err);
// Of any of their stages.
void lower_define_experts(StrBuf *b, const Lowering *l, const Stage *s);
void stage_bind_experts(const Stage *s, const StageBuffers *b, StageArgs *out);
