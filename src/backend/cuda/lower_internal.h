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

// Writes the stage's #defines. Sets l->head_blocks when it comes to the head.
MUST_CHECK bool lower_define(StrBuf *b, Lowering *l, const Stage *s, Error *err);

// What the kernels call an activation; NULL for those that they do not have.
const char *lower_activation_name(ActFn fn);
