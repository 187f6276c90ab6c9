// SmolLM3 (Hugging Face 2025): Llama's blocks, in which every fourth layer has no rotary embedding. Files
// have the rows of Q and K in the order of Llama's, so that RoPE turns neighbouring pairs; which layers have
// none is not in the file.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    CONFIG_U32_VALUE(no_rope_period, 4),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_smollm3 = {
    .name = "smollm3",
    .description = "SmolLM3",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
