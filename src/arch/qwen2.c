// Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's blocks with biases on Q, K and V, and RoPE that turns halves.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight",   DIM_MODEL),
    WEIGHT_ROW(WEIGHT_Q,              "attn_q.weight",      DIM_Q,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_Q_BIAS,    "attn_q.bias",        DIM_Q,     false),
    WEIGHT_ROW(WEIGHT_K,              "attn_k.weight",      DIM_K,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_K_BIAS,    "attn_k.bias",        DIM_K,     false),
    WEIGHT_ROW(WEIGHT_V,              "attn_v.weight",      DIM_V,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_V_BIAS,    "attn_v.bias",        DIM_V,     false),
    WEIGHT_ROW(WEIGHT_O,              "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROWS_GATED,
};
// clang-format on

const Arch arch_qwen2 = {
    .name = "qwen2",
    .description = "Qwen2 and Qwen2.5",
    .verified = "llama.cpp on a 0.5B file: greedy text of 4 prompts, perplexity 37.4297 against "
                "37.4297; on a 1.5B file: 19.2351 against 19.2558",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
