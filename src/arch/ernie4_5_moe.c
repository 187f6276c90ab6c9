// ERNIE 4.5's mixtures of experts (Baidu 2025): ERNIE 4.5's attention; leading dense layers, then experts
// chosen by the softmax over all of them with a bias, and shared ones.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_OF_ALL, 1),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    // transformers has one feed-forward of moe_num_shared_experts times moe_intermediate_size. llama.cpp's
    // conversion writes intermediate_size / num_key_value_heads, which its loader takes as the width of all.
    CONFIG_U32_VALUE(shared_width, SHARED_WIDTH_OF_ALL),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROW_ROUTE_BIAS,
    WEIGHT_ROWS_SHARED,
};
// clang-format on

const Arch arch_ernie4_5_moe = {
    .name = "ernie4_5-moe",
    .description = "ERNIE 4.5 mixtures of experts",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
