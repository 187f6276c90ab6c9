// dots.llm1 (rednote 2025): Qwen3's attention; a leading dense layer, then experts chosen by a sigmoid with
// a bias, and shared experts.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_EXPERTS, CONFIG_ROWS_ROUTE(SCORES_SIGMOID, 1),
    CONFIG_ROWS_ROPE,        CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM, "attn_q_norm.weight", DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM, "attn_k_norm.weight", DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROW_ROUTE_BIAS,
    WEIGHT_ROWS_SHARED,
};
// clang-format on

const Arch arch_dots1 = {
    .name = "dots1",
    .description = "dots.llm1",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
