// Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): Llama's blocks with Q, K and V in one tensor and gate and up
// in another, gate first. RoPE turns halves, of each head's first values only in some sizes; models for long
// contexts have factors for its frequencies ("long" ones where the context exceeds the original one). The
// window, where the file has one, is on every layer.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_ROPE,   CONFIG_ROWS_WINDOW(false, 0, 0),
    CONFIG_ROWS_OF_WINDOW,   CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS_SHORT, "rope_factors_short.weight"),
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS_LONG,  "rope_factors_long.weight"),
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight",   DIM_MODEL),
    WEIGHT_ROW_FUSED(WEIGHT_Q,        "attn_qkv.weight",    DIM_Q,     DIM_MODEL, DIM_QKV, DIM_ONE),
    WEIGHT_ROW_FUSED(WEIGHT_K,        "attn_qkv.weight",    DIM_K,     DIM_MODEL, DIM_QKV, DIM_Q),
    WEIGHT_ROW_FUSED(WEIGHT_V,        "attn_qkv.weight",    DIM_V,     DIM_MODEL, DIM_QKV, DIM_QK),
    WEIGHT_ROW(WEIGHT_O,              "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,  "ffn_norm.weight",    DIM_MODEL),
    WEIGHT_ROW_FUSED(WEIGHT_GATE,     "ffn_up.weight",      DIM_FF,    DIM_MODEL, DIM_FF2, DIM_ONE),
    WEIGHT_ROW_FUSED(WEIGHT_UP,       "ffn_up.weight",      DIM_FF,    DIM_MODEL, DIM_FF2, DIM_FF),
    WEIGHT_ROW(WEIGHT_DOWN,           "ffn_down.weight",    DIM_MODEL, DIM_FF),
};
// clang-format on

const Arch arch_phi3 = {
    .name = "phi3",
    .description = "Phi-3, Phi-3.5, Phi-4",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
