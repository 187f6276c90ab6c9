// GPT-2 (Radford et al. 2019): layer norms and biases everywhere, learned positions instead of RoPE, Q, K and
// V in one tensor, and a feed-forward without a gate.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_F32_ROW("%s.attention.layer_norm_epsilon", norm_eps, true, 0),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_VECTOR(WEIGHT_OUTPUT_NORM_BIAS, "output_norm.bias", DIM_MODEL),
    {.id = WEIGHT_POSITION, .name = "position_embd.weight", .rows = DIM_CONTEXT, .cols = DIM_MODEL,
     .is_float = true},
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM,      "attn_norm.weight",   DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_ATTN_NORM_BIAS, "attn_norm.bias",     DIM_MODEL, false),
    WEIGHT_ROW_FUSED(WEIGHT_Q,             "attn_qkv.weight",    DIM_Q,     DIM_MODEL, DIM_QKV, DIM_ONE),
    WEIGHT_ROW_FUSED(WEIGHT_K,             "attn_qkv.weight",    DIM_K,     DIM_MODEL, DIM_QKV, DIM_Q),
    WEIGHT_ROW_FUSED(WEIGHT_V,             "attn_qkv.weight",    DIM_V,     DIM_MODEL, DIM_QKV, DIM_QK),
    WEIGHT_ROW_BIAS_FUSED(WEIGHT_Q_BIAS,   "attn_qkv.bias",      DIM_Q,     DIM_QKV,   DIM_ONE),
    WEIGHT_ROW_BIAS_FUSED(WEIGHT_K_BIAS,   "attn_qkv.bias",      DIM_K,     DIM_QKV,   DIM_Q),
    WEIGHT_ROW_BIAS_FUSED(WEIGHT_V_BIAS,   "attn_qkv.bias",      DIM_V,     DIM_QKV,   DIM_QK),
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS,         "attn_output.bias",   DIM_MODEL, false),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,       "ffn_norm.weight",    DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_FFN_NORM_BIAS,  "ffn_norm.bias",      DIM_MODEL, false),
    WEIGHT_ROW(WEIGHT_UP,                  "ffn_up.weight",      DIM_FF,    DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_UP_BIAS,        "ffn_up.bias",        DIM_FF,    false),
    WEIGHT_ROW(WEIGHT_DOWN,                "ffn_down.weight",    DIM_MODEL, DIM_FF),
    WEIGHT_ROW_BIAS(WEIGHT_DOWN_BIAS,      "ffn_down.bias",      DIM_MODEL, false),
};

static const OpRow embed_ops[] = {
    {OP_EMBED,        .out = ACT_X, .weight = WEIGHT_EMBED},
    {OP_ADD_POSITION, .out = ACT_X, .in = {ACT_X}, .weight = WEIGHT_POSITION},
};

static const OpRow attention_ops[] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_ATTN_NORM,
                                                           .bias = WEIGHT_ATTN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_Q,    .in = {ACT_H},        .weight = WEIGHT_Q, .bias = WEIGHT_Q_BIAS},
    {OP_MATMUL,     .out = ACT_K,    .in = {ACT_H},        .weight = WEIGHT_K, .bias = WEIGHT_K_BIAS},
    {OP_MATMUL,     .out = ACT_V,    .in = {ACT_H},        .weight = WEIGHT_V, .bias = WEIGHT_V_BIAS},
    {OP_KV_WRITE,   .out = ACT_NONE, .in = {ACT_K, ACT_V}},
    {OP_ATTENTION,  .out = ACT_A,    .in = {ACT_Q}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_A},        .weight = WEIGHT_O, .bias = WEIGHT_O_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

static const OpRow feed_forward_ops[] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM,
                                                           .bias = WEIGHT_FFN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP, .bias = WEIGHT_UP_BIAS},
    {OP_ACTIVATION, .out = ACT_F,    .in = {ACT_U}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN, .bias = WEIGHT_DOWN_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

static const OpRow head_ops[] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_OUTPUT_NORM,
                                                           .bias = WEIGHT_OUTPUT_NORM_BIAS},
    {OP_HEAD,       .out = ACT_NONE, .in = {ACT_H},        .weight = WEIGHT_HEAD},
};
// clang-format on

const Arch arch_gpt2 = {
    .name = "gpt2",
    .description = "GPT-2",
    ARCH_TABLES,
    .first = OP_RUN(embed_ops),
    .kinds = (const LayerKind[]){{LAYERS_ALL, OP_RUN(attention_ops), OP_RUN(feed_forward_ops)}},
    .n_kinds = 1,
    .last = OP_RUN(head_ops),
    .rope_pairs = ROPE_NONE,
    .activation = FN_GELU_TANH,
};
