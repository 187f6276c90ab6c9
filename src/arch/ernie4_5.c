// ERNIE 4.5, dense (Baidu 2025): Llama's blocks; RoPE turns neighbouring pairs in the published weights
// already, which files have as they are.
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

const Arch arch_ernie4_5 = {
    .name = "ernie4_5",
    .description = "ERNIE 4.5",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
