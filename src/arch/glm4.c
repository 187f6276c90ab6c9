// GLM-4-0414 (Zhipu AI 2025): biases on Q, K and V, RoPE over neighbouring pairs of half of each head, norms
// before and after attention and feed-forward, and gate and up in one tensor, gate first. Files have Q and K
// in the order of the published weights.
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
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,       "ffn_norm.weight",            DIM_MODEL),
    WEIGHT_ROW_FUSED(WEIGHT_GATE,          "ffn_up.weight",              DIM_FF,    DIM_MODEL, DIM_FF2, DIM_ONE),
    WEIGHT_ROW_FUSED(WEIGHT_UP,            "ffn_up.weight",              DIM_FF,    DIM_MODEL, DIM_FF2, DIM_FF),
    WEIGHT_ROW(WEIGHT_DOWN,                "ffn_down.weight",            DIM_MODEL, DIM_FF),
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),
};
// clang-format on

const Arch arch_glm4 = {
    .name = "glm4",
    .description = "GLM-4 (0414)",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
