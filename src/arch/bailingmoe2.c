// Ling 2 and Ring 2 (inclusionAI 2025): Qwen3's attention with Q, K and V in one tensor and RoPE over a part
// of each head; a leading dense layer, then experts in groups, chosen by a sigmoid with a bias, and a shared
// expert.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_SIGMOID, 1),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    // llama.cpp's conversion writes moe_shared_expert_intermediate_size, and its loader of this architecture
    // multiplies that by the count.
    CONFIG_U32_VALUE(shared_width, SHARED_WIDTH_OF_ONE),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_QKV_FUSED,
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

const Arch arch_bailingmoe2 = {
    .name = "bailingmoe2",
    .description = "Ling 2, Ring 2",
    .verified = "the tiny model was run as transformers' GLM-4.5",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
