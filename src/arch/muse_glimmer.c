// Muse Glimmer (Meta 2026), text: embeddings are normed; heads of queries and keys are normed, too, and gates
// of what attention gives are made of its input. Three of four layers have a window and a rotary embedding,
// each fourth has neither. Norms behind attention and the feed-forward have an epsilon of their own, which
// files do not say. Files have the rows of Q and K in the order of Llama's, and norms of queries that hold
// the published factor on scores. The vision model is a file of its own.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(true, 0, 4),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_ROW(NULL, CONFIG_U32, no_rope, .fallback = 1, .layers = LAYERS_FULL),
    CONFIG_F32_ROW("%s.logit_scale", logit_scale, true, 0),
    CONFIG_F32_ROW("%s.final_logit_softcapping", logit_cap, true, 0),
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW(WEIGHT_Q_GATE,              "attn_gate.weight",           DIM_A,     DIM_MODEL),
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,         "attn_q_norm.weight",         DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM,         "attn_k_norm.weight",         DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_GATED,
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),
};

static const OpRow first_ops[] = {
    {OP_EMBED,     .out = ACT_X,    .weight = WEIGHT_EMBED},
    {OP_RMS_NORM,  .out = ACT_X,    .in = {ACT_X},         .group = DIM_MODEL},
};

#define POST_NORM_EPS 1e-8f

static const OpRow attention_ops[] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},         .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_Q,    .in = {ACT_H},         .weight = WEIGHT_Q},
    {OP_MATMUL,    .out = ACT_QG,   .in = {ACT_H},         .weight = WEIGHT_Q_GATE},
    {OP_MATMUL,    .out = ACT_K,    .in = {ACT_H},         .weight = WEIGHT_K},
    {OP_MATMUL,    .out = ACT_V,    .in = {ACT_H},         .weight = WEIGHT_V},
    {OP_RMS_NORM,  .out = ACT_Q,    .in = {ACT_Q},         .weight = WEIGHT_Q_NORM},
    {OP_RMS_NORM,  .out = ACT_K,    .in = {ACT_K},         .weight = WEIGHT_K_NORM},
    {OP_ROPE,      .out = ACT_Q,    .in = {ACT_Q}},
    {OP_ROPE,      .out = ACT_K,    .in = {ACT_K}},
    {OP_KV_WRITE,  .out = ACT_NONE, .in = {ACT_K, ACT_V}},
    {OP_ATTENTION, .out = ACT_A,    .in = {ACT_Q}},
    {OP_GLU,       .out = ACT_A,    .in = {ACT_QG, ACT_A}, .fn = FN_SIGMOID},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_A},         .weight = WEIGHT_O},
    {OP_RMS_NORM,  .out = ACT_T,    .in = {ACT_T},         .weight = WEIGHT_POST_ATTN_NORM, .eps = POST_NORM_EPS},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

static const OpRow feed_forward_ops[] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},         .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,    .out = ACT_G,    .in = {ACT_H},         .weight = WEIGHT_GATE},
    {OP_MATMUL,    .out = ACT_U,    .in = {ACT_H},         .weight = WEIGHT_UP},
    {OP_GLU,       .out = ACT_F,    .in = {ACT_G, ACT_U}},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_F},         .weight = WEIGHT_DOWN},
    {OP_RMS_NORM,  .out = ACT_T,    .in = {ACT_T},         .weight = WEIGHT_POST_FFN_NORM, .eps = POST_NORM_EPS},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

static const LayerKind kinds[] = {{LAYERS_ALL, OP_RUN(attention_ops), OP_RUN(feed_forward_ops)}};
// clang-format on

const Arch arch_muse_glimmer = {
    .name = "muse-glimmer",
    .description = "Muse Glimmer 30B, text",
    ARCH_TABLES,
    .first = OP_RUN(first_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_norm_head_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
