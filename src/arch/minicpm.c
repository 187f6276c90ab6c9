// MiniCPM 1 to 4 (Hu et al. 2024): Llama's blocks with Granite's multipliers, which all its files since 2024
// say: the embedding's, the residual stream's (depth's share of the root of the number of layers), and what
// logits are divided by. Files have the rows of Q and K in the order of Llama's.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_MULTIPLIERS(true),
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS_SHORT, "rope_factors_short.weight"),
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS_LONG,  "rope_factors_long.weight"),
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_minicpm = {
    .name = "minicpm",
    .description = "MiniCPM",
    .verified = "the tiny model was run as transformers' Granite",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
