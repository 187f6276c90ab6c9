// Runs of operations that many architectures share. A row whose weight an architecture does not name is left
// out, and a bias it does not name is absent, so that one run serves models with and without them.
#include "arch/tables.h"

// clang-format off
const OpRow arch_embed_ops[1] = {
    {OP_EMBED, .out = ACT_X, .weight = WEIGHT_EMBED},
};

// Attention behind its input, whatever that is.
#define ATTENTION_ROWS \
    {OP_MATMUL,    .out = ACT_Q,    .in = {ACT_H},        .weight = WEIGHT_Q, .bias = WEIGHT_Q_BIAS}, \
    {OP_MATMUL,    .out = ACT_K,    .in = {ACT_H},        .weight = WEIGHT_K, .bias = WEIGHT_K_BIAS}, \
    {OP_MATMUL,    .out = ACT_V,    .in = {ACT_H},        .weight = WEIGHT_V, .bias = WEIGHT_V_BIAS}, \
    {OP_RMS_NORM,  .out = ACT_Q,    .in = {ACT_Q},        .weight = WEIGHT_Q_NORM}, \
    {OP_RMS_NORM,  .out = ACT_K,    .in = {ACT_K},        .weight = WEIGHT_K_NORM}, \
    {OP_ROPE,      .out = ACT_Q,    .in = {ACT_Q}}, \
    {OP_ROPE,      .out = ACT_K,    .in = {ACT_K}}, \
    {OP_RMS_NORM,  .out = ACT_Q,    .in = {ACT_Q},        .weight = WEIGHT_TURNED_Q_NORM}, \
    {OP_RMS_NORM,  .out = ACT_K,    .in = {ACT_K},        .weight = WEIGHT_TURNED_K_NORM}, \
    {OP_KV_WRITE,  .out = ACT_NONE, .in = {ACT_K, ACT_V}}, \
    {OP_ATTENTION, .out = ACT_A,    .in = {ACT_Q},        .weight = WEIGHT_SINKS, .weight_optional = true}, \
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_A},        .weight = WEIGHT_O, .bias = WEIGHT_O_BIAS}, \
    {OP_RMS_NORM,  .out = ACT_T,    .in = {ACT_T},        .weight = WEIGHT_POST_ATTN_NORM}, \
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}}

const OpRow arch_attention_ops[15] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_ATTN_NORM},
    ATTENTION_ROWS,
};

const OpRow arch_bare_attention_ops[15] = {
    {OP_COPY,      .out = ACT_H,    .in = {ACT_X}},
    ATTENTION_ROWS,
};

// A gated feed-forward behind its input.
#define GATED_ROWS \
    {OP_MATMUL,    .out = ACT_G,    .in = {ACT_H},        .weight = WEIGHT_GATE, .bias = WEIGHT_GATE_BIAS}, \
    {OP_MATMUL,    .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP, .bias = WEIGHT_UP_BIAS}, \
    {OP_GLU,       .out = ACT_F,    .in = {ACT_G, ACT_U}}, \
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN, .bias = WEIGHT_DOWN_BIAS}, \
    {OP_RMS_NORM,  .out = ACT_T,    .in = {ACT_T},        .weight = WEIGHT_POST_FFN_NORM}, \
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}}

const OpRow arch_gated_ops[7] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM},
    GATED_ROWS,
};

const OpRow arch_bare_gated_ops[7] = {
    {OP_COPY,      .out = ACT_H,    .in = {ACT_X}},
    GATED_ROWS,
};

const OpRow arch_ungated_ops[5] = {
    {OP_RMS_NORM,   .out = ACT_H,   .in = {ACT_X},        .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,     .out = ACT_U,   .in = {ACT_H},        .weight = WEIGHT_UP},
    {OP_ACTIVATION, .out = ACT_F,   .in = {ACT_U}},
    {OP_MATMUL,     .out = ACT_T,   .in = {ACT_F},        .weight = WEIGHT_DOWN},
    {OP_ADD,        .out = ACT_X,   .in = {ACT_X, ACT_T}},
};

#define EXPERT_ROWS \
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_FFN_NORM}, \
    {OP_MATMUL,        .out = ACT_L,  .in = {ACT_H},         .weight = WEIGHT_ROUTER, \
                                                             .bias = WEIGHT_ROUTER_BIAS}, \
    {OP_ROUTE,         .out = ACT_R,  .in = {ACT_L},         .weight = WEIGHT_ROUTE_BIAS, \
                                                             .weight_optional = true}, \
    {OP_EXPERT_MATMUL, .out = ACT_EG, .in = {ACT_H, ACT_R},  .weight = WEIGHT_GATE, .bias = WEIGHT_GATE_BIAS}, \
    {OP_EXPERT_MATMUL, .out = ACT_EU, .in = {ACT_H, ACT_R},  .weight = WEIGHT_UP, .bias = WEIGHT_UP_BIAS}, \
    {OP_GLU,           .out = ACT_EF, .in = {ACT_EG, ACT_EU}}, \
    {OP_EXPERT_MATMUL, .out = ACT_EO, .in = {ACT_EF, ACT_R}, .weight = WEIGHT_DOWN, .bias = WEIGHT_DOWN_BIAS}, \
    {OP_EXPERT_SUM,    .out = ACT_T,  .in = {ACT_EO, ACT_R}}, \
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}}

const OpRow arch_expert_ops[9] = {
    EXPERT_ROWS,
};

// Experts that all rows use beside them: computed before the others add to the residual stream, added behind
// them.
const OpRow arch_shared_expert_ops[16] = {
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,        .out = ACT_G,  .in = {ACT_H},         .weight = WEIGHT_SHARED_GATE},
    {OP_MATMUL,        .out = ACT_U,  .in = {ACT_H},         .weight = WEIGHT_SHARED_UP},
    {OP_GLU,           .out = ACT_F,  .in = {ACT_G, ACT_U}},
    EXPERT_ROWS,
    {OP_SHARE,         .out = ACT_F,  .in = {ACT_F, ACT_H},  .weight = WEIGHT_SHARE},
    {OP_MATMUL,        .out = ACT_T,  .in = {ACT_F},         .weight = WEIGHT_SHARED_DOWN},
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}},
};

const OpRow arch_ln_attention_ops[10] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_ATTN_NORM,
                                                           .bias = WEIGHT_ATTN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_Q,    .in = {ACT_H},        .weight = WEIGHT_Q, .bias = WEIGHT_Q_BIAS},
    {OP_MATMUL,     .out = ACT_K,    .in = {ACT_H},        .weight = WEIGHT_K, .bias = WEIGHT_K_BIAS},
    {OP_MATMUL,     .out = ACT_V,    .in = {ACT_H},        .weight = WEIGHT_V, .bias = WEIGHT_V_BIAS},
    {OP_ROPE,       .out = ACT_Q,    .in = {ACT_Q}},
    {OP_ROPE,       .out = ACT_K,    .in = {ACT_K}},
    {OP_KV_WRITE,   .out = ACT_NONE, .in = {ACT_K, ACT_V}},
    {OP_ATTENTION,  .out = ACT_A,    .in = {ACT_Q}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_A},        .weight = WEIGHT_O, .bias = WEIGHT_O_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_ln_gated_ops[6] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM,
                                                           .bias = WEIGHT_FFN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_G,    .in = {ACT_H},        .weight = WEIGHT_GATE},
    {OP_MATMUL,     .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP},
    {OP_GLU,        .out = ACT_F,    .in = {ACT_G, ACT_U}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_ln_ungated_ops[5] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM,
                                                           .bias = WEIGHT_FFN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP, .bias = WEIGHT_UP_BIAS},
    {OP_ACTIVATION, .out = ACT_F,    .in = {ACT_U}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN, .bias = WEIGHT_DOWN_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

// Attention and feed-forward with the same input: what goes into the residual stream goes there behind both.
const OpRow arch_parallel_gated_ops[8] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM,
                                                           .bias = WEIGHT_FFN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_G,    .in = {ACT_H},        .weight = WEIGHT_GATE},
    {OP_MATMUL,     .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP},
    {OP_GLU,        .out = ACT_F,    .in = {ACT_G, ACT_U}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_A},        .weight = WEIGHT_O, .bias = WEIGHT_O_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_parallel_ungated_ops[7] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM,
                                                           .bias = WEIGHT_FFN_NORM_BIAS},
    {OP_MATMUL,     .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP, .bias = WEIGHT_UP_BIAS},
    {OP_ACTIVATION, .out = ACT_F,    .in = {ACT_U}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_A},        .weight = WEIGHT_O, .bias = WEIGHT_O_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
    {OP_MATMUL,     .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN, .bias = WEIGHT_DOWN_BIAS},
    {OP_ADD,        .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_ln_head_ops[2] = {
    {OP_LAYER_NORM, .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_OUTPUT_NORM,
                                                           .bias = WEIGHT_OUTPUT_NORM_BIAS},
    {OP_HEAD,       .out = ACT_NONE, .in = {ACT_H},        .weight = WEIGHT_HEAD, .bias = WEIGHT_HEAD_BIAS},
};

const OpRow arch_norm_head_ops[2] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_OUTPUT_NORM},
    {OP_HEAD,      .out = ACT_NONE, .in = {ACT_H},        .weight = WEIGHT_HEAD},
};

const LayerKind arch_expert_kinds[3] = {
    {LAYERS_LEADING, OP_RUN(arch_attention_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_SHARED,  OP_RUN(arch_attention_ops), OP_RUN(arch_shared_expert_ops)},
    {LAYERS_ALL,     OP_RUN(arch_attention_ops), OP_RUN(arch_expert_ops)},
};
// clang-format on
