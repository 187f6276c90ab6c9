// Hunyuan, dense (Tencent 2025): Llama's blocks with a norm on each head of Q and K behind RoPE, which turns
// halves. Files have a RoPE base that the scaling for long contexts is part of.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROW_NORM(WEIGHT_TURNED_Q_NORM, "attn_q_norm.weight", DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_TURNED_K_NORM, "attn_k_norm.weight", DIM_HEAD),
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_hunyuan_dense = {
    .name = "hunyuan-dense",
    .description = "Hunyuan, dense",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
