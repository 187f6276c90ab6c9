// Command R and Aya (Cohere 2024): layer norms without biases, one of them for attention and feed-forward,
// which have the same input; a gate of SiLU, scaled logits, a tied head. RoPE turns neighbouring pairs in
// the published weights already. Command R+ has norms on heads of its own, which no row names.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_F32_ROW("%s.logit_scale", logit_scale, true, 0),
    CONFIG_ROW_LN_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "attn_norm.weight",   DIM_MODEL),
    WEIGHT_ROW(WEIGHT_O,             "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW(WEIGHT_GATE,          "ffn_gate.weight",    DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_UP,            "ffn_up.weight",      DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN,          "ffn_down.weight",    DIM_MODEL, DIM_FF),
};

static const LayerKind kinds[] = {
    {LAYERS_ALL, {arch_ln_attention_ops, ARCH_LN_HEADS_OPS}, OP_RUN(arch_parallel_gated_ops)},
};
// clang-format on

const Arch arch_command_r = {
    .name = "command-r",
    .description = "Command R, Aya",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
