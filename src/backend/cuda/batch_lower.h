// Lowering to stages of batches: a plan's operations become blocks, the blocks become the stages of each
// class of batches, and these their programs.
//
// Needs no GPU, only its figures, as lower.h.
#pragma once

#include "backend/cuda/batch_stages.h"
#include "backend/cuda/lower.h"

// What a mixture of experts has beside a class's other buffers: values, of the layer that has most.
typedef struct {
    uint32_t n_experts, n_used;        // 0: there is none
    uint64_t inputs, between, outputs; // halves, halves, floats
    uint32_t n_weighed;                // slots, where the experts' inputs are weighted
    uint32_t n_tiles, n_arrivals;
} BatchExperts;

// A class: batches of up to max_rows rows go through these stages.
typedef struct {
    BatchSize size;
    const BatchStage *stages; // layers; then the head and the ways to draw a token (of prompts: of one row)
    uint32_t n_stages;
    uint32_t n_layers_stages; // of the layers
    uint32_t max_logits;      // rows whose logits can be wanted at once
    // Of prompts, of each of BatchLowered.cuts: RowStretch; places of their triples (span_parts.cuh).
    uint32_t max_stretches[STRETCH_CUTS], max_places[STRETCH_CUTS];
    uint32_t max_runs;      // where layers keep a state: RowRun
    uint32_t first_program; // in BatchLowered.programs: those that no class before it has
    uint32_t n_programs;
    BatchExperts experts;
} BatchClass;

typedef struct {
    // Prompts, which rows that decode can go through, too; 1 row, and where there are several slots 8;
    // prompts' layers again, with products that are faster, and for fewer rows, falling; then more, rising.
    BatchClass classes[BATCH_CLASSES_MAX];
    uint32_t n_classes;
    uint32_t n_first_classes;   // those that are there when load returns: prompts
    const JitProgram *programs; // class by class
    uint32_t n_programs;
    uint32_t n_first_programs; // of those classes
    StretchCut cuts[STRETCH_CUTS];
    uint32_t n_cuts;
    // Sizes that the buffers depend on.
    uint32_t rows_max; // of the largest class that draws
    uint32_t head_blocks_max;
    uint64_t partial_bytes;
    uint32_t n_meetings;
    // Where a library multiplies prompts' rows, at most: columns of its input, of a row of its products, and
    // bytes of a matrix as f16 (whole quads of rows).
    uint32_t given_in, given_cols;
    uint64_t given_bytes;
    bool has_post_norm;
    uint32_t sum_cols;                           // of what is not added to the residual stream at once
    uint32_t raw_cols;                           // of a row of products of one input, at most
    bool has_gates;                              // attention's heads do
    uint32_t conv_cols, state_heads, state_cols; // of layers with a state, at most; 0: there are none
} BatchLowered;

enum { BATCH_CLASS_PROMPT, BATCH_CLASS_ONE, BATCH_CLASS_EIGHT }; // 8: with several slots

// What classes are for.
typedef struct {
    uint32_t n_slots;  // rows that decode, at most
    uint32_t max_rows; // of chunks of prompts together
    bool has_library;  // products of the class of any number of prompts' rows are a library's, where they can
} BatchLowerOptions;

// `placement` has its matrices in tiles. Errors: ERR_UNSUPPORTED, naming the operation that no stage takes.
MUST_CHECK bool batch_lower_with(const Plan *plan, const Placement *placement, const LowerTarget *target,
                                 const BatchLowerOptions *options, Arena *arena, BatchLowered *out,
                                 Error *err);
// Without a library.
MUST_CHECK bool batch_lower(const Plan *plan, const Placement *placement, const LowerTarget *target,
                            uint32_t n_slots, uint32_t max_rows, Arena *arena, BatchLowered *out, Error *err);

// Leaves out the classes that fewer slots do without, and their programs; those of up to 8 rows stay.
void batch_lower_cut(BatchLowered *lowered, uint32_t n_slots);

// The program that moves a format's blocks into tiles.
MUST_CHECK bool batch_repack_program(Dtype dtype, Arena *arena, JitProgram *out, Error *err);
