// OLMoE (Muennighoff et al. 2024): a mixture of experts whose weights are the softmax over all of them, as
// they are, and norms of queries and of keys over all heads.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_EXPERTS, CONFIG_ROWS_ROUTE(SCORES_OF_ALL, 0),
    CONFIG_ROWS_ROPE,        CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM, "attn_q_norm.weight", DIM_Q),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM, "attn_k_norm.weight", DIM_K),
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
};
// clang-format on

const Arch arch_olmoe = {
    .name = "olmoe",
    .description = "OLMoE",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
