// Seed-OSS (ByteDance 2025): Llama's blocks with biases on Q, K and V, and RoPE that turns halves. The norm
// before the feed-forward has the name of one after attention.
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
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROW(WEIGHT_GATE,          "ffn_gate.weight",            DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_UP,            "ffn_up.weight",              DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN,          "ffn_down.weight",            DIM_MODEL, DIM_FF),
};
// clang-format on

const Arch arch_seed_oss = {
    .name = "seed_oss",
    .description = "Seed-OSS",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
