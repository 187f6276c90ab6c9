// Runs of operations of architectures with recurrent layers.
#include "arch/state_tables.h"

// clang-format off
const OpRow arch_gated_attention_ops[14] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},               .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_Q,    .in = {ACT_H},               .weight = WEIGHT_Q},
    {OP_MATMUL,    .out = ACT_QG,   .in = {ACT_H},               .weight = WEIGHT_Q_GATE},
    {OP_MATMUL,    .out = ACT_K,    .in = {ACT_H},               .weight = WEIGHT_K},
    {OP_MATMUL,    .out = ACT_V,    .in = {ACT_H},               .weight = WEIGHT_V},
    {OP_RMS_NORM,  .out = ACT_Q,    .in = {ACT_Q},               .weight = WEIGHT_Q_NORM},
    {OP_RMS_NORM,  .out = ACT_K,    .in = {ACT_K},               .weight = WEIGHT_K_NORM},
    {OP_ROPE,      .out = ACT_Q,    .in = {ACT_Q}},
    {OP_ROPE,      .out = ACT_K,    .in = {ACT_K}},
    {OP_KV_WRITE,  .out = ACT_NONE, .in = {ACT_K, ACT_V}},
    {OP_ATTENTION, .out = ACT_A,    .in = {ACT_Q}},
    {OP_GLU,       .out = ACT_A,    .in = {ACT_QG, ACT_A},       .fn = FN_SIGMOID},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_A},               .weight = WEIGHT_O},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_delta_ops[11] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},               .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_C,    .in = {ACT_H},               .weight = WEIGHT_STATE_IN},
    {OP_MATMUL,    .out = ACT_Z,    .in = {ACT_H},               .weight = WEIGHT_STATE_GATE},
    {OP_MATMUL,    .out = ACT_SD,   .in = {ACT_H},               .weight = WEIGHT_STATE_DT,
                                                                 .bias = WEIGHT_STATE_DT_BIAS},
    {OP_MATMUL,    .out = ACT_SB,   .in = {ACT_H},               .weight = WEIGHT_STATE_BETA},
    {OP_CONV,      .out = ACT_D,    .in = {ACT_C},               .weight = WEIGHT_CONV, .fn = FN_SILU},
    {OP_DELTA,     .out = ACT_Y,    .in = {ACT_D, ACT_SD, ACT_SB}, .weight = WEIGHT_STATE_DECAY},
    {OP_RMS_NORM,  .out = ACT_Y,    .in = {ACT_Y},               .weight = WEIGHT_STATE_NORM},
    {OP_GLU,       .out = ACT_Y,    .in = {ACT_Z, ACT_Y},        .fn = FN_SILU},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_Y},               .weight = WEIGHT_STATE_OUT},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_mamba_ops[10] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},               .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_C,    .in = {ACT_H},               .weight = WEIGHT_STATE_IN},
    {OP_MATMUL,    .out = ACT_Z,    .in = {ACT_H},               .weight = WEIGHT_STATE_GATE},
    {OP_MATMUL,    .out = ACT_SD,   .in = {ACT_H},               .weight = WEIGHT_STATE_DT,
                                                                 .bias = WEIGHT_STATE_DT_BIAS},
    {OP_CONV,      .out = ACT_D,    .in = {ACT_C},               .weight = WEIGHT_CONV,
                                                                 .bias = WEIGHT_CONV_BIAS, .fn = FN_SILU},
    {OP_SSM,       .out = ACT_Y,    .in = {ACT_D, ACT_SD},       .weight = WEIGHT_STATE_DECAY,
                                                                 .bias = WEIGHT_STATE_SKIP},
    {OP_GLU,       .out = ACT_Y,    .in = {ACT_Z, ACT_Y},        .fn = FN_SILU},
    {OP_RMS_NORM,  .out = ACT_Y,    .in = {ACT_Y},               .weight = WEIGHT_STATE_NORM},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_Y},               .weight = WEIGHT_STATE_OUT},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_shortconv_ops[9] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},               .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_C,    .in = {ACT_H},               .weight = WEIGHT_STATE_IN},
    {OP_MATMUL,    .out = ACT_Z,    .in = {ACT_H},               .weight = WEIGHT_STATE_GATE},
    {OP_MATMUL,    .out = ACT_D,    .in = {ACT_H},               .weight = WEIGHT_STATE_BETA},
    {OP_GLU,       .out = ACT_C,    .in = {ACT_D, ACT_C},        .fn = FN_IDENTITY},
    {OP_CONV,      .out = ACT_D,    .in = {ACT_C},               .weight = WEIGHT_CONV, .fn = FN_IDENTITY},
    {OP_GLU,       .out = ACT_Y,    .in = {ACT_Z, ACT_D},        .fn = FN_IDENTITY},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_Y},               .weight = WEIGHT_STATE_OUT},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};
// clang-format on
