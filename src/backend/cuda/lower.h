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
    bool has_heads;     // STAGE_HEADS: there is something in `raw`
    bool has_post_norm; // STAGE_POST_NORM: there is something in `t`
    LowerExperts experts;
} Lowered;

// Errors: ERR_UNSUPPORTED, naming the operation that no stage can be made of, or the tensor that none takes.
MUST_CHECK bool lower_plan(const Plan *plan, const Placement *placement, const LowerTarget *target,
                           uint32_t max_rows, Arena *arena, Lowered *out, Error *err);

// The program that moves a format's blocks into the layout of the kernels.
MUST_CHECK bool lower_repack_program(Dtype dtype, Arena *arena, JitProgram *out, Error *err);

LowerExperts lower_experts_sizes(const ModelConfig *config, const LowerTarget *target, uint32_t max_rows);

// ---- arguments ----

// Device addresses of everything that stages read and write.
typedef struct {
    const Placement *placement;
    CUdeviceptr weights; // the region
    CUdeviceptr kv;      // [layers][pages] of KV_PAGE_HALVES
    uint64_t kv_layer_bytes;
    CUdeviceptr x;           // [d_model]
    CUdeviceptr q;           // [heads][head_dim] f16
    CUdeviceptr raw;         // [heads + 2 kv_heads][head_dim]
    CUdeviceptr t;           // [d_model]
    CUdeviceptr part;        // [splits_max][heads][head_dim] f16
    CUdeviceptr part_weight; // [splits_max][heads][2]
    CUdeviceptr f;           // [d_ff], or [experts used][d_ff of an expert]
    CUdeviceptr route;       // [experts] the router's logits
    CUdeviceptr logits;      // [n_vocab]
    CUdeviceptr best;        // [head_blocks] HeadBest
    CUdeviceptr sample_scratch;
    // Of a prompt's rows, [max_rows] each (kernels_src/args.h).
    CUdeviceptr chunk; // PrefillChunk
    CUdeviceptr rows_x;
    CUdeviceptr rows_h;
    CUdeviceptr rows_q;
    CUdeviceptr rows_raw;
    CUdeviceptr rows_t;
    CUdeviceptr rows_a;
    CUdeviceptr rows_f;
    CUdeviceptr rows_rope[PLACED_ROPES_MAX];
    // Of a mixture of experts: [max_rows], and [slots] of them in the order of their experts.
    CUdeviceptr rows_choice; // [experts used] ExpertRowChoice
    CUdeviceptr rows_slot;   // [experts used]
    CUdeviceptr rows_factor;
    CUdeviceptr tiles; // [tiles] ExpertTile
    CUdeviceptr slots_h;
    CUdeviceptr slots_f;
    CUdeviceptr slots_out;
} StageBuffers;

// The arguments of a stage for one sequence: its DecodeSequence, and where its tokens go [TOKEN_RING].
void stage_bind(const Stage *stage, const StageBuffers *b, CUdeviceptr sequence, CUdeviceptr token,
                StageArgs *out);
