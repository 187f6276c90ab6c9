// An architecture is three const tables: which metadata keys fill the configuration, which tensors of the
// file are its weights, and which operations make a forward pass. Nothing here computes; plan/ turns the
// tables and a file into a Plan.
//
// To add one: write a file like arch/llama.c and name it in arch/arch.c.
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

// What each operation computes is in plan/op.def.
typedef enum {
#define OP(name, n_in, meaning) OP_##name,
#include "arch/op.def"
#undef OP
    OP_COUNT
} OpKind;

typedef enum { ROPE_INTERLEAVED, ROPE_HALVES } RopePairs; // pairs (2i, 2i+1), or (i, i + dims/2)
typedef enum { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN } RopeScaling;
typedef enum { FN_SILU, FN_GELU_TANH, FN_GELU_ERF } ActFn;

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
    uint32_t rope_dims; // of each head, from its start
    uint32_t window;    // a row sees this many positions, itself included; 0: all
    float norm_eps;
    float embed_scale;
    float rope_base;
    RopeScaling rope_scaling;
    float rope_factor;
    uint32_t rope_original_context;
    float yarn_beta_fast;
    float yarn_beta_slow;
    float yarn_attn_factor; // on cos and sin; 0: by the formula
} ModelConfig;

typedef enum { CONFIG_U32, CONFIG_F32 } ConfigType;

// One metadata key. "%s" in the key stands for the architecture's name.
typedef struct {
    const char *key;
    ConfigType type;
    uint16_t offset; // in ModelConfig
    bool required;
    double fallback; // where it is not required and absent
} ConfigRow;

// One tensor (or run of rows of one). "%u" in the name stands for the layer.
typedef struct {
    WeightId id;
    const char *name;
    Dim rows;
    Dim cols;
    bool optional;
    bool is_float;    // norms and biases
    WeightId or_else; // where it is absent: tied embeddings
    Dim fused_rows;   // DIM_ONE: the tensor is this weight alone; else the rows of the whole tensor…
    Dim fused_from;   // …in which this weight begins at this row (DIM_ONE: 0)
} WeightRow;

// One operation. An operation whose weight is optional and absent is left out, except that a bias may be
// absent.
typedef struct {
    OpKind kind;
    Act out;
    Act in[2];
    WeightId weight;
    WeightId bias;
    ActFn fn; // GLU, ACTIVATION
} OpRow;

typedef struct {
    const char *name;        // general.architecture
    const char *description; // for --list-architectures
    const ConfigRow *config;
    uint32_t n_config;
    const WeightRow *weights; // names with "%u" are bound once a layer
    uint32_t n_weights;
    const OpRow *first; // before the layers
    uint32_t n_first;
    const OpRow *layer;
    uint32_t n_layer;
    const OpRow *last;
    uint32_t n_last;
    RopePairs rope_pairs;
} Arch;

// NULL when there is none of that name.
const Arch *arch_find(Str name);
// The index-th architecture, NULL past the end.
const Arch *arch_at(uint32_t index);

uint64_t arch_dim(const ModelConfig *c, Dim dim);
