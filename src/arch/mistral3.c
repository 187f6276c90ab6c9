// Ministral 3 and Mistral Small (Mistral AI 2025): Llama's blocks, YaRN whose factor on attention is taken
// back (`yarn_log_multiplier`; 1 in all published ones), and scores that grow with the position, a step for
// each original context. Files have the rows of Q and K in the order of Llama's. The vision model is a file
// of its own.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_F32_ROW("%s.rope.scaling.yarn_log_multiplier", rope.yarn_log_multiplier, false, 1),
    CONFIG_ROWS_TEMPERATURE,
    CONFIG_ROWS_WINDOW(false, 0, 0),
    CONFIG_ROW_RMS_EPS,
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

const Arch arch_mistral3 = {
    .name = "mistral3",
    .description = "Ministral 3, Mistral Small",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
