// Gemma 3n (Google DeepMind 2025), text: the residual stream is several streams, of which layers work on one;
// what a layer leaves is mixed into all (AltUp, Baykal et al. 2023). Products of a low rank beside attention
// (LAuReL, Menghani et al. 2024), sparse activations in the first layers, an embedding for each layer, which
// a gate lets into all streams but the first; norms without weights on values. The last layers read the keys
// and values of the last layer of their kind that has its own.
#include "arch/tables.h"

// clang-format off
static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(true, 0, 5),
    CONFIG_ROW("%s.attention.shared_kv_layers", CONFIG_WHOLE, n_shared_kv, .required = true),
    CONFIG_U32_ROW("%s.embedding_length_per_layer_input", d_per_layer, true, 0),
    CONFIG_U32_ROW("%s.altup.num_inputs", n_streams, true, 0),
    CONFIG_U32_ROW("%s.altup.active_idx", active_stream, true, 0),
    CONFIG_ROW("%s.activation_sparsity_scale", CONFIG_F32_LAYERS, sparsity, .required = true),
    // Layers with a window have a base of their own and are never scaled.
    CONFIG_ROW(NULL, CONFIG_F32, rope.base, .fallback = 10000, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_U32, rope.scaling, .fallback = ROPE_SCALING_NONE, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_F32, rope.attn_factor, .fallback = 1, .layers = LAYERS_WINDOW),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_ROW_RMS_EPS,
    CONFIG_F32_ROW("%s.final_logit_softcapping", logit_cap, false, 30),
    CONFIG_U32_VALUE(embed_by_root, 1),
    CONFIG_F32_VALUE(score_scale, 1),
    CONFIG_U32_VALUE(laurel_rank, 64), // of all published models; no key says it
};

#define WEIGHT_KV_NORM(weight, tensor, width) \
    { .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true, \
      .layers = LAYERS_OWN_KV }
#define WEIGHT_WHOLE(weight, tensor, n_rows, n_cols) { .id = weight, .name = tensor, .rows = n_rows, .cols = n_cols }
#define WEIGHT_OF_STREAMS(weight, tensor) \
    { .id = weight, .name = tensor, .rows = DIM_MODEL, .cols = DIM_MODEL, .matrices = DIM_MORE }

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_OF_STREAMS(WEIGHT_STREAMS,      "altup_proj.weight"),
    WEIGHT_OF_STREAMS(WEIGHT_STREAMS_BACK, "altup_unembd_proj.weight"),
    WEIGHT_WHOLE(WEIGHT_PER_LAYER_EMBED,   "per_layer_token_embd.weight", DIM_VOCAB,      DIM_PER_LAYERS),
    WEIGHT_WHOLE(WEIGHT_PER_LAYER_IN,      "per_layer_model_proj.weight", DIM_PER_LAYERS, DIM_MODEL),
    WEIGHT_VECTOR(WEIGHT_PER_LAYER_NORM,   "per_layer_proj_norm.weight",  DIM_PER_LAYER),

    WEIGHT_ROW_NORM(WEIGHT_STREAM_NORM,    "altup_router_norm.weight",    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_STREAM_ROUTER,       "altup_router.weight",         DIM_N_STREAMS,   DIM_MODEL),
    WEIGHT_ROW(WEIGHT_STREAM_MIX,          "altup_predict_coef.weight",   DIM_MIX_STREAMS, DIM_N_STREAMS),
    WEIGHT_ROW(WEIGHT_STREAM_NEWS,         "altup_correct_coef.weight",   DIM_N_STREAMS,   DIM_N_STREAMS),
    WEIGHT_ROW_NORM(WEIGHT_STREAM_SCALE,   "altup_correct_scale.weight",  DIM_MODEL),

    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM,      "attn_norm.weight",           DIM_MODEL),
    WEIGHT_ROW(WEIGHT_LAUREL_LEFT,         "laurel_l.weight",            DIM_LAUREL, DIM_MODEL),
    WEIGHT_ROW(WEIGHT_LAUREL_RIGHT,        "laurel_r.weight",            DIM_MODEL,  DIM_LAUREL),
    WEIGHT_ROW_NORM(WEIGHT_LAUREL_NORM,    "laurel_post_norm.weight",    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_Q,                   "attn_q.weight",              DIM_Q,     DIM_MODEL),
    WEIGHT_OF_LAYERS(LAYERS_OWN_KV, WEIGHT_K, "attn_k.weight",           DIM_K,     DIM_MODEL, DIM_ONE),
    WEIGHT_OF_LAYERS(LAYERS_OWN_KV, WEIGHT_V, "attn_v.weight",           DIM_V,     DIM_MODEL, DIM_ONE),
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,         "attn_q_norm.weight",         DIM_HEAD),
    WEIGHT_KV_NORM(WEIGHT_K_NORM,          "attn_k_norm.weight",         DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),

    WEIGHT_ROWS_GATED,
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),

    WEIGHT_ROW(WEIGHT_PER_LAYER_GATE,           "inp_gate.weight",       DIM_PER_LAYER, DIM_MODEL),
    WEIGHT_ROW(WEIGHT_PER_LAYER_OUT,            "proj.weight",           DIM_MODEL,     DIM_PER_LAYER),
    WEIGHT_ROW_NORM(WEIGHT_POST_PER_LAYER_NORM, "post_norm.weight",      DIM_MODEL),
};

#define HALF_ROOT 0.70710678f // 1 / sqrt(2)

static const OpRow first_ops[] = {
    {OP_EMBED,       .out = ACT_X,  .weight = WEIGHT_EMBED},
    {OP_EMBED,       .out = ACT_PE, .weight = WEIGHT_PER_LAYER_EMBED, .root = DIM_PER_LAYER},
    {OP_COPY,        .out = ACT_H,  .in = {ACT_X}},
    {OP_MATMUL,      .out = ACT_PL, .in = {ACT_H},          .weight = WEIGHT_PER_LAYER_IN},
    {OP_RMS_NORM,    .out = ACT_PL, .in = {ACT_PL},         .weight = WEIGHT_PER_LAYER_NORM, .eps_by = DIM_MODEL},
    {OP_ADD,         .out = ACT_PL, .in = {ACT_PL, ACT_PE}},
    {OP_SCALE,       .out = ACT_PL, .in = {ACT_PL},         .scale = HALF_ROOT},
    {OP_HEAD_MATMUL, .out = ACT_XN, .in = {ACT_X},          .weight = WEIGHT_STREAMS},
    {OP_STREAMS,     .out = ACT_XS, .in = {ACT_X, ACT_XN}},
};

// What the router says of ACT_X.
#define ASK_ROUTER \
    {OP_RMS_NORM,     .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_STREAM_NORM}, \
    {OP_MATMUL,       .out = ACT_SM, .in = {ACT_H},         .weight = WEIGHT_STREAM_ROUTER}, \
    {OP_SCALE,        .out = ACT_SM, .in = {ACT_SM},        .over = DIM_MODEL}, \
    {OP_ACTIVATION,   .out = ACT_SM, .in = {ACT_SM},        .fn = FN_TANH}

static const OpRow attention_ops[] = {
    {OP_STREAM,       .out = ACT_X,  .in = {ACT_XS}},
    ASK_ROUTER,
    {OP_MATMUL,       .out = ACT_SP, .in = {ACT_SM},        .weight = WEIGHT_STREAM_MIX},
    {OP_STREAMS_MIX,  .out = ACT_XP, .in = {ACT_XS, ACT_SP}},
    {OP_STREAM,       .out = ACT_X,  .in = {ACT_XP}},
    // Beside attention; what it gives is added behind it.
    {OP_RMS_NORM,     .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,       .out = ACT_LR, .in = {ACT_H},         .weight = WEIGHT_LAUREL_LEFT},
    {OP_MATMUL,       .out = ACT_LA, .in = {ACT_LR},        .weight = WEIGHT_LAUREL_RIGHT},
    {OP_RMS_NORM,     .out = ACT_LA, .in = {ACT_LA},        .weight = WEIGHT_LAUREL_NORM},
    {OP_ADD,          .out = ACT_LA, .in = {ACT_LA, ACT_H}},

    {OP_RMS_NORM,     .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,       .out = ACT_Q,  .in = {ACT_H},         .weight = WEIGHT_Q},
    {OP_MATMUL,       .out = ACT_K,  .in = {ACT_H},         .weight = WEIGHT_K},
    {OP_MATMUL,       .out = ACT_V,  .in = {ACT_H},         .weight = WEIGHT_V},
    {OP_RMS_NORM,     .out = ACT_Q,  .in = {ACT_Q},         .weight = WEIGHT_Q_NORM},
    {OP_RMS_NORM,     .out = ACT_K,  .in = {ACT_K},         .weight = WEIGHT_K_NORM},
    {OP_RMS_NORM,     .out = ACT_V,  .in = {ACT_V},         .needs = WEIGHT_V, .group = DIM_VALUE_HEAD},
    {OP_ROPE,         .out = ACT_Q,  .in = {ACT_Q}},
    {OP_ROPE,         .out = ACT_K,  .in = {ACT_K},         .needs = WEIGHT_K},
    {OP_KV_WRITE,     .out = ACT_NONE, .in = {ACT_K, ACT_V}, .needs = WEIGHT_K},
    {OP_ATTENTION,    .out = ACT_A,  .in = {ACT_Q}},
    {OP_MATMUL,       .out = ACT_T,  .in = {ACT_A},         .weight = WEIGHT_O},
    {OP_RMS_NORM,     .out = ACT_T,  .in = {ACT_T},         .weight = WEIGHT_POST_ATTN_NORM},
    {OP_ADD,          .out = ACT_X,  .in = {ACT_X, ACT_T}},
    {OP_ADD,          .out = ACT_X,  .in = {ACT_X, ACT_LA}},
    {OP_SCALE,        .out = ACT_X,  .in = {ACT_X},         .scale = HALF_ROOT},
};

static const OpRow feed_forward_ops[] = {
    {OP_RMS_NORM,     .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,       .out = ACT_G,  .in = {ACT_H},         .weight = WEIGHT_GATE},
    {OP_MATMUL,       .out = ACT_U,  .in = {ACT_H},         .weight = WEIGHT_UP},
    {OP_SPARSIFY,     .out = ACT_G,  .in = {ACT_G}},
    {OP_GLU,          .out = ACT_F,  .in = {ACT_G, ACT_U}},
    {OP_MATMUL,       .out = ACT_T,  .in = {ACT_F},         .weight = WEIGHT_DOWN},
    {OP_RMS_NORM,     .out = ACT_T,  .in = {ACT_T},         .weight = WEIGHT_POST_FFN_NORM},
    {OP_ADD,          .out = ACT_X,  .in = {ACT_X, ACT_T}},

    ASK_ROUTER,
    {OP_MATMUL,       .out = ACT_SC, .in = {ACT_SM},        .weight = WEIGHT_STREAM_NEWS},
    {OP_STREAMS_NEWS, .out = ACT_XS, .in = {ACT_XP, ACT_X, ACT_SC}},
    // The layer's own embedding.
    {OP_STREAM,       .out = ACT_X,  .in = {ACT_XS}},
    {OP_SCALE,        .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_STREAM_SCALE},
    {OP_MATMUL,       .out = ACT_PG, .in = {ACT_H},         .weight = WEIGHT_PER_LAYER_GATE},
    {OP_SLICE,        .out = ACT_PS, .in = {ACT_PL}},
    {OP_GLU,          .out = ACT_PG, .in = {ACT_PG, ACT_PS}},
    {OP_MATMUL,       .out = ACT_T,  .in = {ACT_PG},        .weight = WEIGHT_PER_LAYER_OUT},
    {OP_RMS_NORM,     .out = ACT_T,  .in = {ACT_T},         .weight = WEIGHT_POST_PER_LAYER_NORM},
    {OP_STREAMS_ADD,  .out = ACT_XS, .in = {ACT_XS, ACT_T}},
};

static const OpRow last_ops[] = {
    {OP_STREAMS_REST, .out = ACT_XR, .in = {ACT_XS}},
    {OP_HEAD_MATMUL,  .out = ACT_XN, .in = {ACT_XR},        .weight = WEIGHT_STREAMS_BACK},
    {OP_STREAMS_MEAN, .out = ACT_X,  .in = {ACT_XS, ACT_XN}},
    {OP_RMS_NORM,     .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_OUTPUT_NORM},
    {OP_HEAD,         .out = ACT_NONE, .in = {ACT_H},       .weight = WEIGHT_HEAD},
};

static const LayerKind kinds[] = {{LAYERS_ALL, OP_RUN(attention_ops), OP_RUN(feed_forward_ops)}};
// clang-format on

const Arch arch_gemma3n = {
    .name = "gemma3n",
    .description = "Gemma 3n E2B, E4B, text",
    ARCH_TABLES,
    .first = OP_RUN(first_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(last_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
