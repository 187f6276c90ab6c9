// Hunyuan A13B (Tencent 2025): Hunyuan's attention, with norms on heads behind RoPE, the softmax over the
// chosen experts, and a shared one. Files have a RoPE base that the scaling for long contexts is part of.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_OF_CHOSEN, 1),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    // Tencent's model code multiplies intermediate_size, which llama.cpp's conversion writes, by
    // num_shared_expert; transformers and llama.cpp's loader do not.
    CONFIG_U32_VALUE(shared_width, SHARED_WIDTH_UNCLEAR),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_TURNED_Q_NORM, "attn_q_norm.weight", DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_TURNED_K_NORM, "attn_k_norm.weight", DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROWS_SHARED,
};
// clang-format on

const Arch arch_hunyuan_moe = {
    .name = "hunyuan-moe",
    .description = "Hunyuan A13B",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
