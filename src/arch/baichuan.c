// Baichuan and Baichuan 2, 7B (Yang et al. 2023): Llama's blocks. Files have Q, K and V apart, and the rows
// of Q and K in the order of Llama's. The 13B models, of 40 layers, have scores that fall with the distance
// instead of RoPE; nothing else in the file says so.
#include "arch/tables.h"

enum { LAYERS_13B = 40 };

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    CONFIG_U32_VALUE_OF_SIZE(LAYERS_13B, slopes, 1),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_baichuan = {
    .name = "baichuan",
    .description = "Baichuan 7B",
    .verified = "the tiny model was run as transformers' Llama",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
