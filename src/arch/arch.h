// An architecture is three const tables: which metadata keys fill the configuration, which tensors of the
// file are its weights, and which operations make a forward pass. Nothing here computes; plan/ turns the
// tables and a file into a Plan.
//
// To add one: write a file like arch/qwen3.c and name it in arch/arch.c; README.md walks through one.
#pragma once

#include "model/gguf.h"

typedef enum {
#define DIM(name, value) DIM_##name,
#include "arch/dim.def"
#undef DIM
    DIM_COUNT
} Dim;

typedef enum {
#define ACT(name, width, meaning) ACT_##name,
#include "arch/act.def"
#undef ACT
    ACT_COUNT,
    ACT_NONE = ACT_COUNT
} Act;

typedef enum {
#define WEIGHT(name) WEIGHT_##name,
#include "arch/weight.def"
#undef WEIGHT
    WEIGHT_COUNT
} WeightId;

// What each operation computes is in op.def.
typedef enum {
#define OP(name, n_in, meaning) OP_##name,
#include "arch/op.def"
#undef OP
    OP_COUNT
} OpKind;

// Pairs (2i, 2i+1), or (i, i + dims/2); or no rotary embedding at all.
typedef enum { ROPE_INTERLEAVED, ROPE_HALVES, ROPE_NONE } RopePairs;

// LONGROPE: the file has factors for a short and a long context (Ding et al. 2024).
typedef enum { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN, ROPE_SCALING_LONGROPE } RopeScaling;

// SWIGLU_CLAMPED, of a GLU only, is GPT-OSS's: with g = min(in0, 7) and u = in1 within -7 … 7,
// out = g / (1 + exp(-1.702 g)) * (u + 1).
typedef enum { FN_SILU, FN_GELU_TANH, FN_GELU_ERF, FN_SWIGLU_CLAMPED } ActFn;

// A model's numbers, from its metadata.
typedef struct {
    uint32_t n_layers;
    uint32_t n_vocab; // rows of the embedding
    uint32_t n_context;
    uint32_t d_model;
    uint32_t d_ff;
    uint32_t n_heads;
    uint32_t n_kv_heads;
    uint32_t head_dim;
    uint32_t value_dim;      // of a head; files may say it, and it must be head_dim
    uint32_t n_experts;      // 0: a plain feed-forward
    uint32_t n_experts_used; // by each token
    uint32_t d_ff_expert;
    uint32_t rope_dims;     // of each head, from its start
    uint32_t window;        // a row sees this many positions, itself included; 0: all
    uint32_t window_period; // of so many layers in a row the last sees all positions; 0: none does
    float norm_eps;
    uint32_t embed_by_root; // 1: the embedding is multiplied by the root of d_model
    float embed_scale;
    float score_dim; // scores are divided by the root of this; 0: of head_dim
    float score_cap; // scores become cap * tanh(score / cap); 0: they do not
    float logit_cap; // logits likewise
    float rope_base;
    float rope_base_window; // of layers with a window, which are not scaled then; 0: as the others
    RopeScaling rope_scaling;
    float rope_factor;
    uint32_t rope_original_context;
    float yarn_beta_fast;
    float yarn_beta_slow;
    uint32_t yarn_exact_bounds; // 1: YaRN's ramp begins and ends between pairs; 0: at whole ones
    float rope_attn_factor;     // on cos and sin, beside YaRN's own
} ModelConfig;

// PERIOD: a u32, or an array of bools, one a layer, that says the same.
typedef enum { CONFIG_U32, CONFIG_F32, CONFIG_PERIOD } ConfigType;

// One metadata key. "%s" in the key stands for the architecture's name. A row without a key is a number that
// the architecture fixes; it may hold for one size of the model only.
typedef struct {
    const char *key; // NULL: the fallback is the value
    ConfigType type;
    uint16_t offset; // in ModelConfig
    bool required;
    double fallback;        // where it is not required and absent
    uint32_t only_n_layers; // the row counts where the model has so many layers; 0: always
} ConfigRow;

// One tensor (or a part of one). "%u" in the name stands for the layer. A vector has one row.
typedef struct {
    WeightId id;
    const char *name;
    Dim rows;
    Dim cols;
    Dim matrices; // DIM_ONE, or how many such matrices the tensor holds: experts
    bool optional;
    bool is_float;    // norms and biases
    WeightId or_else; // where it is absent: tied embeddings
    Dim fused; // DIM_ONE: the tensor is this weight alone; else the rows (a vector's values) of it all…
    Dim fused_from; // …in which this weight begins here (DIM_ONE: at 0)
} WeightRow;

// One operation. Where its weight is absent it is left out, unless it can do without; a bias may always be
// absent.
typedef struct {
    OpKind kind;
    Act out;
    Act in[2];
    WeightId weight;
    WeightId bias;
    bool weight_optional;
} OpRow;

// A run of operations.
typedef struct {
    const OpRow *rows;
    uint32_t count;
} OpRun;

typedef struct Arch Arch;
struct Arch {
    const char *name;        // general.architecture
    const char *description; // for --list-architectures
    const Arch *of_experts;  // for files of that name that have experts; NULL: this one, or none
    const ConfigRow *config;
    uint32_t n_config;
    const WeightRow *weights; // names with "%u" are bound once a layer
    uint32_t n_weights;
    OpRun first;     // before the layers
    OpRun attention; // of each layer
    OpRun feed_forward;
    OpRun last; // after the layers
    RopePairs rope_pairs;
    ActFn activation; // what GLU and ACTIVATION apply
};

// NULL when there is none of that name.
const Arch *arch_find(Str name);
// The index-th architecture, NULL past the end.
const Arch *arch_at(uint32_t index);

uint64_t arch_dim(const ModelConfig *c, Dim dim);
