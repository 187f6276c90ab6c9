// Arcee AFM (Arcee AI 2025): Llama's blocks with a feed-forward without a gate, whose activation is a
// squared ReLU. Files have the rows of Q and K in the order of Llama's.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW(WEIGHT_O,             "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight",    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_UP,            "ffn_up.weight",      DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN,          "ffn_down.weight",    DIM_MODEL, DIM_FF),
};
// clang-format on

const Arch arch_arcee = {
    .name = "arcee",
    .description = "Arcee AFM",
    ARCH_TABLES,
    ARCH_OPS(arch_ungated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_RELU_SQUARED,
};
