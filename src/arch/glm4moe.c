// GLM-4.5, 4.6 and 4.7 (Zhipu AI 2025): leading dense layers, then experts chosen by a sigmoid with a bias,
// and a shared expert; biases on Q, K and V, in the larger models norms on heads, and RoPE over halves of
// half of each head. The norm before the feed-forward has the name of one after attention.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_EXPERTS, CONFIG_ROWS_ROUTE(SCORES_SIGMOID, 1),
    CONFIG_ROWS_ROPE,        CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROW_BIAS(WEIGHT_Q_NORM, "attn_q_norm.weight", DIM_HEAD, true),
    WEIGHT_ROW_BIAS(WEIGHT_K_NORM, "attn_k_norm.weight", DIM_HEAD, true),
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROW_ROUTE_BIAS,
    WEIGHT_ROWS_SHARED,
};
// clang-format on

const Arch arch_glm4moe = {
    .name = "glm4moe",
    .description = "GLM-4.5 to 4.7",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
