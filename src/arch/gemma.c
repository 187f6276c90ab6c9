// Gemma (Gemma Team 2024): Llama with scaled embeddings, a gate of GELU, a tied head, and heads that need not
// be d_model / heads wide. Its GGUF files store norm weights with the 1 that the model adds to them.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    CONFIG_U32_VALUE(embed_by_root, 1),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW(WEIGHT_O,              "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_gemma = {
    .name = "gemma",
    .description = "Gemma 1",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
