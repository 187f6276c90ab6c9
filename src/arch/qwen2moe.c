// Qwen1.5-MoE and Qwen2's mixtures of experts (Yang et al. 2024): Qwen2's attention, experts whose weights
// are the softmax over all of them, as they are, and a shared expert whose output is multiplied by a sigmoid
// of its input.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_OF_ALL, 0),
    CONFIG_LAYERS_ROW("%s.expert_shared_feed_forward_length", d_ff_shared, true),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROWS_SHARED,
    WEIGHT_ROW_NORM(WEIGHT_SHARE, "ffn_gate_inp_shexp.weight", DIM_MODEL),
};
// clang-format on

const Arch arch_qwen2moe = {
    .name = "qwen2moe",
    .description = "Qwen2 mixtures of experts",
    ARCH_TABLES,
    ARCH_EXPERT_OPS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
