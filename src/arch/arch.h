// An architecture is four const tables: which metadata keys fill the configuration, which tensors of the file
// are its weights, which kinds of layers there are, and which operations each kind makes. Nothing here
// computes; plan/ turns the tables and a file into a Plan.
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

enum { OP_INPUTS_MAX = 3 };

// Pairs (2i, 2i+1), or (i, i + dims/2); or no rotary embedding at all.
typedef enum { ROPE_INTERLEAVED, ROPE_HALVES, ROPE_NONE } RopePairs;

// LONGROPE: the file has factors for a short and a long context (Ding et al. 2024).
typedef enum { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN, ROPE_SCALING_LONGROPE } RopeScaling;

// OF_ARCH, of rows of tables only: the architecture's `activation`. SWIGLU_CLAMPED, of a GLU only, is
// GPT-OSS's: with g = min(in0, 7) and u = in1 within -7 … 7, out = g / (1 + exp(-1.702 g)) * (u + 1).
// RELU_SQUARED: max(x, 0)^2 (So et al. 2021). IDENTITY: x.
typedef enum {
    FN_OF_ARCH,
    FN_SILU,
    FN_GELU_TANH,
    FN_GELU_ERF,
    FN_SWIGLU_CLAMPED,
    FN_SIGMOID,
    FN_RELU_SQUARED,
    FN_IDENTITY,
    FN_TANH
} ActFn;

// What mixes a layer's rows with those before them.
//   ATTENTION  keys and values of all of them, or of a window
//   STATE      a state that each row changes
//   LINEAR     nothing: a matrix is in attention's place
//   NONE       nothing: the layer is a feed-forward alone
typedef enum { MIXER_ATTENTION, MIXER_STATE, MIXER_LINEAR, MIXER_NONE } Mixer;

// What a router's logits become: the softmax over the chosen ones (Shazeer 2017), over all, or each its
// sigmoid (DeepSeek-AI 2024).
typedef enum { SCORES_OF_ALL = 1, SCORES_SIGMOID, SCORES_OF_CHOSEN } RouteScores;

// How a row's experts are chosen and weighted. Each expert has a score. The largest are chosen, of the
// scores with the bias that a weight of the operation says; with groups, among the experts of those groups
// alone whose two largest scores add up to most, or whose largest score is largest. The weights are the
// chosen ones' scores, without the bias.
typedef struct {
    RouteScores scores;
    uint32_t normed;   // 1: the weights are divided by their sum
    float scale;       // on the weights
    uint32_t n_groups; // of as many neighbouring experts each; 0 or 1: none
    uint32_t n_groups_used;
    uint32_t by_largest; // 1: groups are chosen by their largest score alone
    float logit_scale;   // on the logits, first of all
} RouteConfig;

// What a file means by expert_shared_feed_forward_length where it has several shared experts. They are one
// feed-forward whose width is the sum of theirs.
//   OF_ALL   that sum, which is so many times the width of the experts that are chosen
//   OF_ONE   the width of each
//   UNCLEAR  programs that run the model disagree
typedef enum { SHARED_WIDTH_OF_ALL, SHARED_WIDTH_OF_ONE, SHARED_WIDTH_UNCLEAR } SharedWidth;

// A rotary embedding's numbers.
typedef struct {
    uint32_t dims; // of each head, from its start; of attention with a compressed cache, at its end
    float base;
    RopeScaling scaling;
    float factor; // of LINEAR and YARN
    uint32_t original_context;
    float attn_factor; // on cos and sin, beside YaRN's own
    float yarn_beta_fast;
    float yarn_beta_slow;
    uint32_t yarn_exact_bounds; // 1: YaRN's ramp begins and ends between pairs; 0: at whole ones
    uint32_t is_plain;          // 1: the file's factors of frequencies are not for this layer
    float yarn_log_multiplier;  // YaRN's own factor is divided by 0.1 * this * ln(factor) + 1
    float yarn_score_growth;    // not 0: scores times (1 + this * ln(factor))^2 in place of YaRN's own factor
} RopeConfig;

// The numbers of a model and of one of its layers, from the metadata. It is filled once a layer, since layers
// may differ, and ends in plan/: operations have their own dimensions.
typedef struct {
    // Of the model.
    uint32_t n_blocks; // layers in the file, with those that only guess tokens ahead
    uint32_t n_ahead;  // of them, at the end: no part of a forward pass
    uint32_t n_layers; // the others
    uint32_t n_vocab;  // rows of the embedding
    uint32_t n_context;
    uint32_t d_model;
    uint32_t n_leading;     // layers before LAYERS_AFTER_LEADING
    uint32_t expert_period; // N: but for layers N - 1, 2 N - 1, … all are as those are; 0: none
    uint32_t n_shared_kv;   // layers at the end that read the keys and values of an earlier one of their kind
    uint32_t d_per_layer;   // values of an embedding that each layer has of its own; 0: none
    uint32_t rope_full_dims; // that layers without a window turn
    uint32_t n_streams;      // copies of the residual stream (AltUp); 0: it is one
    uint32_t active_stream;  // that layers work on
    uint32_t laurel_rank;    // of the products beside attention; 0: there are none
    uint32_t route_by_root;  // 1: the router's logits are divided by the root of d_model
    uint32_t embed_by_root;  // 1: the embedding is multiplied by the root of d_model
    float embed_scale;
    float logit_scale;    // on the logits
    float logit_divisor;  // logits are divided by this
    float logit_cap;      // logits become cap * tanh(logit / cap); 0: they do not
    float residual_scale; // on what a block adds to the residual stream
    float norm_eps;
    // Of the layer.
    uint32_t d_ff; // where there are shared experts: theirs
    uint32_t n_heads;
    uint32_t n_kv_heads;
    uint32_t head_dim;  // of queries and keys
    uint32_t value_dim; // of values and of a head's output
    // Of attention with a compressed cache (DeepSeek-AI 2024, "MLA"). What the cache has of a position is one
    // key for all heads: kv_rank values, which are the value, too, and rope.dims that are turned. head_dim,
    // value_dim and n_kv_heads are those of the cache; these are what a head has before and behind attention.
    uint32_t is_mla; // 1: it is this attention
    uint32_t kv_rank;
    uint32_t q_rank; // values between the two products of queries; 0: there is one product
    uint32_t mla_key_dim;
    uint32_t mla_value_dim;
    uint32_t n_experts;      // 0: a plain feed-forward
    uint32_t n_experts_used; // by each token
    uint32_t d_ff_expert;
    uint32_t d_latent;     // the experts' inputs and outputs; 0: as wide as the residual stream
    uint32_t d_ff_shared;  // of the experts that all rows use; 0: none
    uint32_t n_shared;     // where the file does not say that: how many of d_ff_expert
    uint32_t shared_width; // SharedWidth: what the file says there
    RouteConfig route;
    uint32_t window;     // a row sees this many positions, itself included; 0: all
    uint32_t has_window; // 0: this layer sees all positions, whatever `window` is
    // 1: texts are cut into chunks of `window` positions, and a row sees those of its chunk up to its own.
    uint32_t is_chunked;
    float score_dim;   // scores are divided by the root of this; 0: of head_dim
    float score_scale; // in place of that division; 0: none
    float score_cap;   // scores become cap * tanh(score / cap); 0: they do not
    // Scores of a row at position p are multiplied by 1 + scale * ln(1 + floor((p + offset) / length)).
    float temperature_scale; // 0: they are not
    uint32_t temperature_length;
    uint32_t temperature_offset;
    uint32_t no_rope_period; // N: layers N - 1, 2 N - 1, … have no rotary embedding; 0: all have it
    uint32_t no_rope;        // 1: this layer has none
    uint32_t rope_finetuned; // 0: no layer has it
    uint32_t norm_turned;    // 1: heads of queries and keys are normed behind the turn, where there is one
    // Gates of a feed-forward are lowered by their mean and so many standard deviations, and those below 0
    // become 0; minus infinity: they are not.
    float sparsity;
    uint32_t parallel; // 1: attention and feed-forward have the same input
    uint32_t slopes;   // 1: scores have a slope with the distance, which is refused
    uint32_t mixer;    // Mixer
    // Of the model: how its layers are told apart.
    uint32_t heads_say_mixer; // 1: layers without KV heads have a state
    // 1: layers without KV heads have a matrix in attention's place, those without heads nothing, and those
    // whose feed-forward has no length none.
    uint32_t spare_blocks;
    uint32_t single_blocks; // 1: and where they have a feed-forward, that alone; no layer has two blocks
    // Of layers with a state.
    uint32_t conv_taps;    // rows that a short convolution sees, the row at hand included
    uint32_t state_inner;  // values of a row's output
    uint32_t state_heads;  // that these are of
    uint32_t state_groups; // heads of queries and keys (Mamba: of c and b); divides state_heads
    uint32_t state_dim;    // values of one of those
    // 1: head h of values is of head h % state_groups of keys; 0: of h / (state_heads / state_groups).
    uint32_t state_tiled;
    RopeConfig rope;
} ModelConfig;

// Some of a model's layers.
typedef enum {
    LAYERS_ALL,
    LAYERS_WINDOW,      // those with a window
    LAYERS_FULL,        // the others
    LAYERS_FULL_BESIDE, // the others, of a model that has windows
    LAYERS_PARALLEL,    // all, where attention and feed-forward have the same input
    // The first n_leading, since mixtures of experts mostly begin with dense layers, and those that
    // expert_period says.
    LAYERS_LEADING,
    LAYERS_AFTER_LEADING, // the others
    LAYERS_SHARED,        // of them those with experts that all rows use
    LAYERS_LATENT,        // those whose experts work on fewer values
    LAYERS_EXPERTS,       // all, where there are experts
    LAYERS_EMBEDDED,      // all, where each has an embedding of its own
    LAYERS_OWN_KV,        // those before the last n_shared_kv
    LAYERS_ATTENTION,     // by their mixer
    LAYERS_STATE,
    LAYERS_STATE_LEADING, // those of two rules
    LAYERS_STATE_SHARED,
    LAYERS_NO_MIXER,
    LAYERS_LINEAR,
    LAYERS_FF, // that have a feed-forward
    LAYERS_ATTENTION_ALONE,
    LAYERS_LINEAR_ALONE,
    LAYERS_Q_RANK, // whose queries have a low rank
    LAYERS_NO_Q_RANK,
    LAYERS_NORM_TURNED, // whose heads are normed behind the turn
    LAYERS_NORM_TURNED_LEADING
} LayerRule;

//   U32, F32       a number
//   WHOLE          a number without a fraction, which some files have as a float
//   BOOL           a bool
//   U32_LAYERS     a number, or an array with one for each layer
//   F32_LAYERS     an array with a number for each layer
//   WINDOWS        a number N: all of every N layers but the last have a window (0: all have); or an array of
//                  bools
//   MIXERS         the same of layers with a state, of N from 1 on
//   ROPE_SCALING   a name
//   UNREAD         whatever it is, it changes nothing of a text
typedef enum {
    CONFIG_U32,
    CONFIG_F32,
    CONFIG_BOOL,
    CONFIG_WHOLE,
    CONFIG_U32_LAYERS,
    CONFIG_F32_LAYERS,
    CONFIG_WINDOWS,
    CONFIG_MIXERS,
    CONFIG_ROPE_SCALING,
    CONFIG_UNREAD
} ConfigType;

// One metadata key. "%s" in the key stands for the architecture's name. A row without a key is a number that
// the architecture fixes; it may hold for one size of the model only. Rows are read in order, a later one may
// replace what an earlier one has read.
typedef struct {
    const char *key; // NULL: the fallback is the value
    ConfigType type;
    uint16_t offset; // in ModelConfig
    bool required;
    double fallback;         // where it is not required and absent
    uint32_t least, most;    // of a CONFIG_U32 that the file says; most 0: any
    bool or_keep;            // where it is absent: what earlier rows have read stays
    uint32_t only_n_layers;  // the row counts where the model has so many layers; 0: always
    uint32_t only_n_experts; // likewise
    LayerRule layers;        // and for these layers, as far as earlier rows tell which those are
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
    // DIM_ONE: the tensor is this weight alone; else the rows (a vector's values) of it all…
    Dim fused;
    Dim fused_from;   // …in which this weight begins here (DIM_ONE: at 0)
    LayerRule layers; // that have it, of names with "%u"
    // Not DIM_ONE: of `fused` rows, this weight is the first `strip` of every `strip_step`, from fused_from
    // on. With `matrices`, each strip is one of them.
    Dim strip, strip_step;
    // Its rows come behind those that rows before it have bound to the weight, if any have.
    bool behind;
    bool is_turned; // with `matrices`, each of which is a strip then: the strip's columns are its rows
} WeightRow;

// One operation. Where its weight is absent it is left out, unless it can do without, and so it is where the
// weight that it `needs` is absent: one of the operations beside it. A bias may always be absent.
typedef struct {
    OpKind kind;
    Act out;
    Act in[OP_INPUTS_MAX];
    WeightId weight;
    WeightId bias;
    bool weight_optional;
    ActFn fn; // of GLU, ACTIVATION and CONV
    WeightId needs;
    Dim root;    // of EMBED: times the root of this size; DIM_ONE: times the configuration's scale
    Dim group;   // of norms without a weight: values that share a mean
    Dim eps_by;  // of norms: the epsilon is multiplied by this size: the input would be divided by its root
    float eps;   // of norms: in place of the configuration's; 0: that
    float scale; // of SCALE; 0: 1
    Dim over;    // of SCALE: divided by this size
} OpRow;

// A run of operations.
typedef struct {
    const OpRow *rows;
    uint32_t count;
} OpRun;

// A kind of layer: which layers are of it, and what they compute. Their numbers are told apart by the rules
// of configuration rows.
typedef struct {
    LayerRule layers;
    OpRun attention;
    OpRun feed_forward;
} LayerKind;

typedef struct Arch Arch;
struct Arch {
    const char *name;        // general.architecture
    const char *description; // for --list-architectures: which models
    const char *verified;    // with what else than transformers on a tiny model; NULL: nothing
    const Arch *of_experts;  // for files of that name that have experts; NULL: this one, or none
    const ConfigRow *config;
    uint32_t n_config;
    const WeightRow *weights; // names with "%u" are bound once a layer
    uint32_t n_weights;
    OpRun first;            // before the layers
    const LayerKind *kinds; // a layer is of the first kind whose rule holds
    uint32_t n_kinds;
    OpRun last; // after the layers
    RopePairs rope_pairs;
    ActFn activation; // what GLU and ACTIVATION apply
};

// NULL when there is none of that name.
const Arch *arch_find(Str name);
// The index-th architecture, NULL past the end.
const Arch *arch_at(uint32_t index);

// `c` is the layer's configuration.
uint64_t arch_dim(const ModelConfig *c, Dim dim);
bool arch_rule_holds(LayerRule rule, const ModelConfig *c, uint32_t layer);
