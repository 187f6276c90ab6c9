// What the tables of tiny models (arch_models.h) are written with.
#pragma once

#include "arch/tables.h"
#include "arch_models.h"

typedef enum { KEY_NONE, KEY_U32, KEY_F32, KEY_BOOL, KEY_STR, KEY_U32S, KEY_BOOLS, KEY_F32S } KeyType;

enum { LAYERS_LISTED_MAX = 6 };

typedef struct {
    const char *suffix; // behind "ARCHITECTURE."
    KeyType type;
    double number;
    const char *text;
    const uint32_t *numbers; // one a layer
    const float *floats;     // likewise
} KeyRow;

enum { KEYS_MAX = 24 };

// clang-format off
#define KEY_U32(suffix, value) \
    { suffix, KEY_U32, value, NULL, NULL, NULL }
#define KEY_F32(suffix, value) \
    { suffix, KEY_F32, value, NULL, NULL, NULL }
#define KEY_BOOL(suffix, value) \
    { suffix, KEY_BOOL, value, NULL, NULL, NULL }
#define KEY_STR(suffix, value) \
    { suffix, KEY_STR, 0, value, NULL, NULL }
#define KEY_U32S(suffix, values) \
    { suffix, KEY_U32S, 0, NULL, values, NULL }
#define KEY_BOOLS(suffix, values) \
    { suffix, KEY_BOOLS, 0, NULL, values, NULL }
#define KEY_F32S(suffix, values) \
    { suffix, KEY_F32S, 0, NULL, NULL, values }
// clang-format on

// What a tensor is filled with: blocks of a format, or float32 values.
typedef enum {
    FILL_MATRIX,  // blocks of the model's format
    FILL_EXPERTS, // blocks of its experts' format
    FILL_SMALL,   // near N(0, 0.02): routers, positions
    FILL_NORM,    // near 1
    FILL_GAIN,    // near 4
    FILL_SLIGHT,  // near N(0, 0.1)
    FILL_BIAS,    // near N(0, 0.4)
    FILL_SINK,    // near N(0, 1)
    FILL_WIDE,    // near N(0, 5): beyond where GPT-OSS clamps
    FILL_LLAMA3,  // factors of frequencies as Llama 3.1 has them
    FILL_FACTOR,  // 1 to 2
    FILL_FACTOR4, // 4 to 5
    FILL_DECAY,   // near N(-0.6, 0.1)
    FILL_LITTLE,  // near 0.35: norms of queries and keys whose scores have no scale
    FILL_ONE,     // 1
    FILL_FACTOR2, // 2
    FILL_QUARTER, // 1 for the first quarter of frequencies, 1e30 behind it: as Gemma 4 has them
} Fill;

typedef enum {
    ONE,
    MODEL,
    HEAD,
    HEADS,
    Q,
    KV,
    V,
    A,
    QKV,
    FF,
    FF2,
    DENSE,
    SHARED,
    EXPERT_FF,
    BESIDE_FF2,
    PER_LAYER,
    PER_LAYERS,
    ROPE_FULL_HALF,
    EXPERTS,
    VOCAB,
    CONTEXT,
    ROPE_HALF,
    Q2,
    TAPS,
    CONV,
    INNER,
    INNER3,
    SSM_IN,
    STATE_HEADS,
    STATE_HEAD,
    STATE_HEADS2,
    STATE_GROUPS,
    STATE_GROUP,
    Q_RANK,
    KV_RANK,
    ENTRY,
    MLA_KVS,
    UNTURNED,
    MLA_Q,
    MLA_V,
    MLA_A,
    EXPERT_FF2,
    QKVZ,
    LATENT,
    STREAMS,
    STREAMS_2,
    MORE,
    LAUREL
} Size;

typedef struct {
    const char *name; // "%u" stands for the layer
    Fill fill;
    Size cols, rows, matrices;
} TensorRow;

// The numbers of layers with a state.
typedef struct {
    uint32_t taps, inner, heads, groups, dim;
} StateSizes;

struct ArchModel {
    const char *name;
    const char *architecture;
    uint32_t layers, heads, kv_heads, head_dim, ff, experts;
    Dtype dtype;
    KeyRow keys[KEYS_MAX];
    const TensorRow *tensors;
    uint32_t n_tensors;
    const TensorRow *more; // beside them
    uint32_t n_more;
    Dtype mix[4]; // matrices take turns with these formats, where there are any
    uint32_t n_mix;
    const ArchShape *shape; // NULL for tiny ones
    // Where layers differ: one a layer, in place of `heads`, `kv_heads`, `ff` and `head_dim`.
    const uint32_t *layer_heads, *layer_kv_heads, *layer_ff, *layer_head_dim;
    uint32_t value_dim;    // 0: head_dim
    uint32_t dense_layers; // those before the layers of experts
    uint32_t period;       // N: only layers N - 1, 2 N - 1, … have experts; 0: all but those
    uint32_t dense_ff;     // of layers without experts
    uint32_t shared_ff;    // of the experts that all rows use
    uint32_t latent;       // values that experts work on, where these are fewer than the model's
    uint32_t expert_ff;    // of experts beside a dense feed-forward
    uint32_t per_layer;    // values of each layer's embedding
    uint32_t streams;      // copies of the residual stream
    uint32_t rope_full;    // values that layers without a window turn
    const Arch *tables;    // NULL: those of its architecture
    // Where layers differ in what mixes their rows: a letter a layer, A for attention, S for a state, F for a
    // feed-forward alone, and the tensors of those of each letter in this order.
    const char *mixers;
    const TensorRow *of_mixer[3];
    uint32_t n_of_mixer[3];
    StateSizes state;
    MlaSizes mla;
    uint32_t n_tokens; // of the text that the vectors are of; 0: ARCH_MODEL_TOKENS
};

enum { D_MODEL = 64, CONTEXT_LENGTH = 128, CONTEXT_LENGTH_LONG = 512, CONTEXT_LENGTH_MAX = 2048 };

#define TENSORS(rows) .tensors = rows, .n_tensors = COUNT_OF(rows)
#define MORE(rows) .more = rows, .n_more = COUNT_OF(rows)

#define SIZES(n_layers, n_heads, n_kv_heads, values, n_ff, n_experts)                             \
    .layers = n_layers, .heads = n_heads, .kv_heads = n_kv_heads, .head_dim = values, .ff = n_ff, \
    .experts = n_experts
#define EPS_RMS KEY_F32("attention.layer_norm_rms_epsilon", 1e-5)

extern const ArchModel arch_odd_gemma4, arch_odd_mla, arch_alike_qwen2moe;

// The models of arch_family_models.c; NULL past the end.
const ArchModel *arch_family_model_at(uint32_t index);
