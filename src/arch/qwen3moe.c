// Qwen3's mixtures of experts (Yang et al. 2025): Qwen3's attention, and a feed-forward of experts. The
// router's softmax is over all experts and its chosen shares are scaled to sum to 1, which is the softmax
// over the chosen ones alone.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,    "attn_q_norm.weight",   DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM,    "attn_k_norm.weight",   DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,              "attn_output.weight",   DIM_MODEL,     DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,  "ffn_norm.weight",      DIM_MODEL),
    WEIGHT_ROW(WEIGHT_ROUTER,         "ffn_gate_inp.weight",  DIM_EXPERTS,   DIM_MODEL),
    WEIGHT_ROW_EXPERTS(WEIGHT_GATE,   "ffn_gate_exps.weight", DIM_EXPERT_FF, DIM_MODEL),
    WEIGHT_ROW_EXPERTS(WEIGHT_UP,     "ffn_up_exps.weight",   DIM_EXPERT_FF, DIM_MODEL),
    WEIGHT_ROW_EXPERTS(WEIGHT_DOWN,   "ffn_down_exps.weight", DIM_MODEL,     DIM_EXPERT_FF),
};
// clang-format on

const Arch arch_qwen3moe = {
    .name = "qwen3moe",
    .description = "Qwen3 mixtures of experts",
    ARCH_TABLES,
    ARCH_OPS(arch_expert_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
