// Qwen3 (Yang et al. 2025): Llama's blocks with a norm on each head of Q and K before RoPE, which turns
// halves, and heads whose size the file gives.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,    "attn_q_norm.weight", DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM,    "attn_k_norm.weight", DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,              "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_qwen3 = {
    .name = "qwen3",
    .description = "Qwen3",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
