// Granite's mixtures of experts (IBM 2024): Granite's attention and multipliers, the softmax over the chosen
// experts, and in some models a shared expert. Files have the rows of Q and K in the order of Llama's.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_OF_CHOSEN, 1),
    CONFIG_ROWS_MULTIPLIERS(false),
    CONFIG_F32_ROW("%s.attention.scale", score_scale, false, 0),
    CONFIG_ROW("%s.rope.scaling.finetuned", CONFIG_BOOL, rope_finetuned, .fallback = 1),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROWS_SHARED,
};
// clang-format on

const Arch arch_granitemoe = {
    .name = "granitemoe",
    .description = "Granite mixtures of experts",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
