// The kernel variants that run on the emulator, for the tests in C: a file each in variants/ (variant.h).
#pragma once

#include "emulator/emulator.h"
#include "../kernels_src/args.h"
#include "../kernels_src/layout.h"

// A variant's numbers; 0 for those that its stage does not have.
typedef struct EmulatedStage {
    const struct EmulatedStage *next;
    const char *name;
    unsigned sm_arch;
    EmulatedKernel *kernel; // takes the stage's arguments
    // Tiles variants.
    EmulatedKernel *values;    // tile_value of every element, takes ValuesArgs
    EmulatedKernel *fragments; // Tile<FORMAT> of every tile, takes FragmentsArgs; grid [bands][tiles]
    StageInfo info;
    // span_attention: span_fold with the same defines.
    EmulatedKernel *fold;
    StageInfo fold_info;
    unsigned d_model, n_heads, n_kv_heads, head_dim, rope_dims, d_ff, n_vocab, n_rows, n_cols;
    unsigned window, blocks, max_rows;
    unsigned teams;   // of a block
    unsigned queries; // of a block of span_attention
    unsigned n_experts, n_used, expert_tiles, tile_tokens;
    int rope_halves, activation, embed_format, has_sinks;
    unsigned groups_max;
    int layer_norm, learned, ungated, has_bias;
    unsigned kv_q8; // a cache of 8 bits
    unsigned value_parts, shared_kv;
    int format[3];
    float rope_scale, norm_eps, score_scale, embed_scale, soft_cap;
} EmulatedStage;

#ifdef __cplusplus
extern "C" {
#endif
// Called once a variant, before main begins; `stage` stays.
void emulated_stage_register(EmulatedStage *stage);
// The first of them; the others follow by `next`, in no order.
const EmulatedStage *emulated_stages(void);

typedef struct {
    const unsigned char *weight;
    float *out; // [n_rows][n_cols]
    unsigned n_rows, n_cols;
} ValuesArgs;

typedef struct {
    const unsigned char *matrix;
    unsigned short *out; // f16 [rows, up to 16][columns, up to whole tiles]
    unsigned n_rows, n_cols;
} FragmentsArgs;

// Pairs of f16 a, b, c, and of a * b + c, a * b, a + c.
typedef struct {
    const unsigned (*in)[3];
    unsigned (*out)[3];
} F16x2Args;

#ifdef __cplusplus
}
#endif
