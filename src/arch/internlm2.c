// InternLM2 and 2.5 (Cai et al. 2024): Llama's blocks. Files have Q, K and V apart, and the rows of Q and K
// in the order of Llama's.
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
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_internlm2 = {
    .name = "internlm2",
    .description = "InternLM2, InternLM2.5",
    .verified = "the tiny model was run as transformers' Llama",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
