// Lowering: the plan's flat operations become stages, each one kernel of a decode step, and the stages'
// programs.
//
// Needs no GPU, only its figures, so that every program can be compiled and looked at on any machine.
#pragma once

#include "backend/cuda/devices.h"
#include "backend/cuda/jit.h"
#include "backend/cuda/placement.h"
#include "backend/cuda/stages.h"

// Attention's splits of the positions have at least this many pages (attention_splits.cuh).
enum { LOWER_SPLIT_PAGES_MIN = 8 };
// Prefill's buffers have a multiple of this many rows: the largest tile's.
enum { LOWER_ROWS_MULTIPLE = 256 };

// What a program is shaped by.
typedef struct {
    uint32_t sm;
    uint32_t multiprocessors;
    uint32_t shared_bytes_block;          // of one block, at most
    uint32_t shared_bytes_multiprocessor; // of all its blocks
} LowerTarget;

LowerTarget lower_target_of_device(const CudaDevice *device);
// A usual GPU of an architecture, for compiling without one: 75, 80, 86, 89 or 90.
LowerTarget lower_target_of_sm(uint32_t sm);

// How many rows, once for each expert that they choose, and how many tiles of them a prompt's step has at
// most.
typedef struct {
    uint32_t slots; // 0 for a model without experts
    uint32_t tiles;
} LowerExperts;

typedef struct {
    const Stage *stages; // one decode step: layers, head; then the ways to draw a token
    uint32_t n_stages;
    uint32_t n_layers_stages;    // stages before the head
    const Stage *prefill_stages; // of a prompt's rows; the head follows a row at a time
    uint32_t n_prefill_stages;
    uint32_t max_rows;          // of prefill's buffers
    const JitProgram *programs; // the stages', each once
    uint32_t n_programs;
    // Sizes that the buffers depend on.
    uint32_t head_blocks;
    uint32_t splits_max;
    bool has_heads;     // there is something in `raw`
    bool has_post_norm; // there is something in `t`
    LowerExperts experts;
} Lowered;

// Errors: ERR_UNSUPPORTED, naming the operation that no stage can be made of, or the tensor that none takes.
MUST_CHECK bool lower_plan(const Plan *plan, const Placement *placement, const LowerTarget *target,
                           uint32_t max_rows, Arena *arena, Lowered *out, Error *err);

// Refuses (ERR_UNSUPPORTED) plans whose layers differ in what is laid out once for all of them: heads, the
// cache, the width of the feed-forward.
MUST_CHECK bool lower_check_layers(const Plan *plan, Error *err);

// The program that moves a format's blocks into the layout of the kernels.
MUST_CHECK bool lower_repack_program(Dtype dtype, Arena *arena, JitProgram *out, Error *err);
