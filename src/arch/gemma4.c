// Gemma 4 (Google DeepMind 2026), text: Gemma 3 with, in layers without a window, wider heads, a base and
// factors of frequencies of their own (only the first quarter of the pairs turns), and values that may be the
// keys before their norm; norms without weights on values; a factor on each layer's output. The last layers
// may read the keys and values of the last layer of their kind that has its own. The small models have an
// embedding for each layer, which a gate lets into the residual stream; one has experts beside the dense
// feed-forward.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_U32_ROW("%s.attention.key_length", rope_full_dims, false, 0),
    CONFIG_ROW("%s.rope.dimension_count", CONFIG_U32, rope_full_dims, .or_keep = true),
    CONFIG_ROWS_WINDOW(true, 0, 6),
    CONFIG_U32_ROW("%s.attention.shared_kv_layers", n_shared_kv, false, 0),
    CONFIG_U32_ROW("%s.embedding_length_per_layer_input", d_per_layer, false, 0),
    // Layers with a window have a base of their own and are never scaled.
    CONFIG_ROW(NULL, CONFIG_F32, rope.base, .fallback = 10000, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_U32, rope.scaling, .fallback = ROPE_SCALING_NONE, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_F32, rope.attn_factor, .fallback = 1, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_U32, rope.is_plain, .fallback = 1, .layers = LAYERS_WINDOW),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_ROW_RMS_EPS,
    CONFIG_F32_ROW("%s.final_logit_softcapping", logit_cap, false, 0),
    CONFIG_U32_VALUE(embed_by_root, 1),
    CONFIG_F32_VALUE(score_scale, 1),
    CONFIG_U32_ROW("%s.expert_count", n_experts, false, 0),
    CONFIG_U32_ROW("%s.expert_used_count", n_experts_used, false, 0),
    CONFIG_LAYERS_ROW("%s.expert_feed_forward_length", d_ff_expert, false),
    CONFIG_U32_VALUE(route_by_root, 1),
};

// clang-format off
#define WEIGHT_NORM_OF(rule, weight, tensor, width) \
    { .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true, .layers = rule }
#define WEIGHT_EMBEDDED(weight, tensor, n_rows, n_cols) \
    { .id = weight, .name = tensor, .rows = n_rows, .cols = n_cols, .layers = LAYERS_EMBEDDED }
#define WEIGHT_EMBEDDED_NORM(weight, tensor, width) \
    { .id = weight, .name = tensor, .rows = DIM_ONE, .cols = width, .is_float = true, .layers = LAYERS_EMBEDDED }

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    {.id = WEIGHT_ROPE_FACTORS, .name = "rope_freqs.weight", .rows = DIM_ONE, .cols = DIM_ROPE_FULL_HALF,
     .is_float = true},
    WEIGHT_EMBEDDED(WEIGHT_PER_LAYER_EMBED,     "per_layer_token_embd.weight", DIM_VOCAB,      DIM_PER_LAYERS),
    WEIGHT_EMBEDDED(WEIGHT_PER_LAYER_IN,        "per_layer_model_proj.weight", DIM_PER_LAYERS, DIM_MODEL),
    WEIGHT_EMBEDDED_NORM(WEIGHT_PER_LAYER_NORM, "per_layer_proj_norm.weight",  DIM_PER_LAYER),

    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM,      "attn_norm.weight",           DIM_MODEL),
    WEIGHT_ROW(WEIGHT_Q,                   "attn_q.weight",              DIM_Q,     DIM_MODEL),
    WEIGHT_OF_LAYERS(LAYERS_OWN_KV, WEIGHT_K, "attn_k.weight",           DIM_K,     DIM_MODEL, DIM_ONE),
    {.id = WEIGHT_V, .name = "blk.%u.attn_v.weight", .rows = DIM_V, .cols = DIM_MODEL, .layers = LAYERS_OWN_KV,
     .or_else = WEIGHT_K},
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,         "attn_q_norm.weight",         DIM_HEAD),
    WEIGHT_NORM_OF(LAYERS_OWN_KV, WEIGHT_K_NORM, "attn_k_norm.weight",   DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),

    WEIGHT_ROWS_GATED,
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),

    WEIGHT_NORM_OF(LAYERS_EXPERTS, WEIGHT_POST_DENSE_NORM,  "post_ffw_norm_1.weight", DIM_MODEL),
    WEIGHT_NORM_OF(LAYERS_EXPERTS, WEIGHT_EXPERT_NORM,      "pre_ffw_norm_2.weight",  DIM_MODEL),
    WEIGHT_NORM_OF(LAYERS_EXPERTS, WEIGHT_POST_EXPERT_NORM, "post_ffw_norm_2.weight", DIM_MODEL),
    WEIGHT_NORM_OF(LAYERS_EXPERTS, WEIGHT_ROUTER_NORM,      "ffn_gate_inp.scale",     DIM_MODEL),
    WEIGHT_OF_LAYERS(LAYERS_EXPERTS, WEIGHT_ROUTER, "ffn_gate_inp.weight", DIM_EXPERTS, DIM_MODEL, DIM_ONE),
    {.id = WEIGHT_EXPERT_SCALE, .name = "blk.%u.ffn_down_exps.scale", .rows = DIM_ONE, .cols = DIM_EXPERTS,
     .is_float = true, .optional = true, .layers = LAYERS_EXPERTS},
    // Gate and up of an expert, one behind the other or in tensors of their own.
    {.id = WEIGHT_EXPERT_GATE, .name = "blk.%u.ffn_gate_up_exps.weight", .rows = DIM_EXPERT_FF, .cols = DIM_MODEL,
     .matrices = DIM_EXPERTS, .fused = DIM_EXPERT_FF2, .optional = true, .layers = LAYERS_EXPERTS},
    {.id = WEIGHT_EXPERT_UP, .name = "blk.%u.ffn_gate_up_exps.weight", .rows = DIM_EXPERT_FF, .cols = DIM_MODEL,
     .matrices = DIM_EXPERTS, .fused = DIM_EXPERT_FF2, .fused_from = DIM_EXPERT_FF, .optional = true,
     .layers = LAYERS_EXPERTS},
    {.id = WEIGHT_EXPERT_GATE, .name = "blk.%u.ffn_gate_exps.weight", .rows = DIM_EXPERT_FF, .cols = DIM_MODEL,
     .matrices = DIM_EXPERTS, .or_else = WEIGHT_EXPERT_GATE, .layers = LAYERS_EXPERTS},
    {.id = WEIGHT_EXPERT_UP, .name = "blk.%u.ffn_up_exps.weight", .rows = DIM_EXPERT_FF, .cols = DIM_MODEL,
     .matrices = DIM_EXPERTS, .or_else = WEIGHT_EXPERT_UP, .layers = LAYERS_EXPERTS},
    WEIGHT_OF_LAYERS(LAYERS_EXPERTS, WEIGHT_EXPERT_DOWN, "ffn_down_exps.weight", DIM_MODEL, DIM_EXPERT_FF,
                     DIM_EXPERTS),

    WEIGHT_EMBEDDED(WEIGHT_PER_LAYER_GATE,           "blk.%u.inp_gate.weight",  DIM_PER_LAYER, DIM_MODEL),
    WEIGHT_EMBEDDED(WEIGHT_PER_LAYER_OUT,            "blk.%u.proj.weight",      DIM_MODEL,     DIM_PER_LAYER),
    WEIGHT_EMBEDDED_NORM(WEIGHT_POST_PER_LAYER_NORM, "blk.%u.post_norm.weight", DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_LAYER_SCALE, "layer_output_scale.weight", DIM_ONE, true),
};

static const OpRow first_ops[] = {
    {OP_EMBED,     .out = ACT_X,  .weight = WEIGHT_EMBED},
    {OP_EMBED,     .out = ACT_PE, .weight = WEIGHT_PER_LAYER_EMBED, .root = DIM_PER_LAYER},
    {OP_COPY,      .out = ACT_H,  .in = {ACT_X},          .needs = WEIGHT_PER_LAYER_IN},
    {OP_MATMUL,    .out = ACT_PL, .in = {ACT_H},          .weight = WEIGHT_PER_LAYER_IN},
    {OP_RMS_NORM,  .out = ACT_PL, .in = {ACT_PL},         .weight = WEIGHT_PER_LAYER_NORM, .eps_by = DIM_MODEL},
    {OP_ADD,       .out = ACT_PL, .in = {ACT_PL, ACT_PE}, .needs = WEIGHT_PER_LAYER_IN},
    {OP_SCALE,     .out = ACT_PL, .in = {ACT_PL},         .needs = WEIGHT_PER_LAYER_IN, .weight_optional = true,
                                                          .scale = 0.70710678f}, // 1 / sqrt(2)
};

static const OpRow attention_ops[] = {
    {OP_RMS_NORM,  .out = ACT_H,  .in = {ACT_X},          .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_Q,  .in = {ACT_H},          .weight = WEIGHT_Q},
    {OP_MATMUL,    .out = ACT_K,  .in = {ACT_H},          .weight = WEIGHT_K},
    {OP_MATMUL,    .out = ACT_V,  .in = {ACT_H},          .weight = WEIGHT_V},
    {OP_RMS_NORM,  .out = ACT_Q,  .in = {ACT_Q},          .weight = WEIGHT_Q_NORM},
    {OP_RMS_NORM,  .out = ACT_K,  .in = {ACT_K},          .weight = WEIGHT_K_NORM},
    {OP_RMS_NORM,  .out = ACT_V,  .in = {ACT_V},          .weight_optional = true, .needs = WEIGHT_V,
                                                          .group = DIM_VALUE_HEAD},
    {OP_ROPE,      .out = ACT_Q,  .in = {ACT_Q}},
    {OP_ROPE,      .out = ACT_K,  .in = {ACT_K},          .needs = WEIGHT_K},
    {OP_KV_WRITE,  .out = ACT_NONE, .in = {ACT_K, ACT_V}, .needs = WEIGHT_K},
    {OP_ATTENTION, .out = ACT_A,  .in = {ACT_Q},          .weight_optional = true},
    {OP_MATMUL,    .out = ACT_T,  .in = {ACT_A},          .weight = WEIGHT_O},
    {OP_RMS_NORM,  .out = ACT_T,  .in = {ACT_T},          .weight = WEIGHT_POST_ATTN_NORM},
    {OP_ADD,       .out = ACT_X,  .in = {ACT_X, ACT_T}},
};

static const OpRow feed_forward_ops[] = {
    {OP_RMS_NORM,      .out = ACT_RH, .in = {ACT_X},         .weight = WEIGHT_ROUTER_NORM},
    {OP_MATMUL,        .out = ACT_L,  .in = {ACT_RH},        .weight = WEIGHT_ROUTER},
    {OP_ROUTE,         .out = ACT_R,  .in = {ACT_L},         .weight_optional = true, .bias = WEIGHT_EXPERT_SCALE,
                                                             .needs = WEIGHT_ROUTER},
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_EXPERT_NORM},
    {OP_EXPERT_MATMUL, .out = ACT_EG, .in = {ACT_H, ACT_R},  .weight = WEIGHT_EXPERT_GATE},
    {OP_EXPERT_MATMUL, .out = ACT_EU, .in = {ACT_H, ACT_R},  .weight = WEIGHT_EXPERT_UP},
    {OP_GLU,           .out = ACT_EF, .in = {ACT_EG, ACT_EU}, .needs = WEIGHT_ROUTER},
    {OP_EXPERT_MATMUL, .out = ACT_EO, .in = {ACT_EF, ACT_R}, .weight = WEIGHT_EXPERT_DOWN},
    {OP_EXPERT_SUM,    .out = ACT_M,  .in = {ACT_EO, ACT_R}, .needs = WEIGHT_ROUTER},
    {OP_RMS_NORM,      .out = ACT_M,  .in = {ACT_M},         .weight = WEIGHT_POST_EXPERT_NORM},
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,        .out = ACT_G,  .in = {ACT_H},         .weight = WEIGHT_GATE},
    {OP_MATMUL,        .out = ACT_U,  .in = {ACT_H},         .weight = WEIGHT_UP},
    {OP_GLU,           .out = ACT_F,  .in = {ACT_G, ACT_U}},
    {OP_MATMUL,        .out = ACT_T,  .in = {ACT_F},         .weight = WEIGHT_DOWN},
    {OP_RMS_NORM,      .out = ACT_T,  .in = {ACT_T},         .weight = WEIGHT_POST_DENSE_NORM},
    {OP_ADD,           .out = ACT_T,  .in = {ACT_T, ACT_M},  .needs = WEIGHT_ROUTER},
    {OP_RMS_NORM,      .out = ACT_T,  .in = {ACT_T},         .weight = WEIGHT_POST_FFN_NORM},
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}},
    // The layer's own embedding.
    {OP_COPY,          .out = ACT_H,  .in = {ACT_X},         .needs = WEIGHT_PER_LAYER_GATE},
    {OP_MATMUL,        .out = ACT_PG, .in = {ACT_H},         .weight = WEIGHT_PER_LAYER_GATE},
    {OP_SLICE,         .out = ACT_PS, .in = {ACT_PL},        .needs = WEIGHT_PER_LAYER_GATE},
    {OP_GLU,           .out = ACT_PG, .in = {ACT_PG, ACT_PS}, .needs = WEIGHT_PER_LAYER_GATE},
    {OP_MATMUL,        .out = ACT_T,  .in = {ACT_PG},        .weight = WEIGHT_PER_LAYER_OUT},
    {OP_RMS_NORM,      .out = ACT_T,  .in = {ACT_T},         .weight = WEIGHT_POST_PER_LAYER_NORM},
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T},  .needs = WEIGHT_PER_LAYER_OUT},
    {OP_SCALE,         .out = ACT_X,  .in = {ACT_X},         .weight = WEIGHT_LAYER_SCALE},
};

static const LayerKind kinds[] = {{LAYERS_ALL, OP_RUN(attention_ops), OP_RUN(feed_forward_ops)}};
// clang-format on

const Arch arch_gemma4 = {
    .name = "gemma4",
    .description = "Gemma 4 E2B, E4B, 26B-A4B, 31B, text",
    ARCH_TABLES,
    .first = OP_RUN(first_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_norm_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
