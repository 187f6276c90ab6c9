// Runs of operations that many architectures share. A row whose weight an architecture does not name is left
// out, and a bias it does not name is absent, so that one run serves models with and without them.
#include "arch/tables.h"

// clang-format off
const OpRow arch_embed_ops[1] = {
    {OP_EMBED, .out = ACT_X, .weight = WEIGHT_EMBED},
};

const OpRow arch_gated_block_ops[16] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,    .out = ACT_Q,    .in = {ACT_H},        .weight = WEIGHT_Q, .bias = WEIGHT_Q_BIAS},
    {OP_MATMUL,    .out = ACT_K,    .in = {ACT_H},        .weight = WEIGHT_K, .bias = WEIGHT_K_BIAS},
    {OP_MATMUL,    .out = ACT_V,    .in = {ACT_H},        .weight = WEIGHT_V, .bias = WEIGHT_V_BIAS},
    {OP_ROPE,      .out = ACT_Q,    .in = {ACT_Q}},
    {OP_ROPE,      .out = ACT_K,    .in = {ACT_K}},
    {OP_KV_WRITE,  .out = ACT_NONE, .in = {ACT_K, ACT_V}},
    {OP_ATTENTION, .out = ACT_A,    .in = {ACT_Q}},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_A},        .weight = WEIGHT_O, .bias = WEIGHT_O_BIAS},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,    .out = ACT_G,    .in = {ACT_H},        .weight = WEIGHT_GATE},
    {OP_MATMUL,    .out = ACT_U,    .in = {ACT_H},        .weight = WEIGHT_UP},
    {OP_GLU,       .out = ACT_F,    .in = {ACT_G, ACT_U}, .fn = FN_SILU},
    {OP_MATMUL,    .out = ACT_T,    .in = {ACT_F},        .weight = WEIGHT_DOWN},
    {OP_ADD,       .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

const OpRow arch_norm_head_ops[2] = {
    {OP_RMS_NORM,  .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_OUTPUT_NORM},
    {OP_HEAD,      .out = ACT_NONE, .in = {ACT_H},        .weight = WEIGHT_HEAD},
};
// clang-format on
