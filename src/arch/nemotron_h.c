// Nemotron-H (NVIDIA 2025): each layer is one block, Mamba-2, attention without positions, or a
// feed-forward of a squared ReLU. The numbers of KV heads and the lengths of the feed-forward say which.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_HEADS_SAY_MIXER,
    CONFIG_U32_VALUE(single_blocks, 1),
    CONFIG_ROWS_SSM,
    CONFIG_ROWS_ROPE,                    // files have such keys…
    CONFIG_U32_VALUE(rope_finetuned, 0), // …and no layer turns anything
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_MAMBA,
    WEIGHT_ROW_OF(LAYERS_NO_MIXER, WEIGHT_UP, "ffn_up.weight", DIM_FF, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_NO_MIXER, WEIGHT_DOWN, "ffn_down.weight", DIM_MODEL, DIM_FF),
};

static const OpRow feed_forward_ops[] = {
    {OP_RMS_NORM,   .out = ACT_H, .in = {ACT_X}, .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,     .out = ACT_U, .in = {ACT_H}, .weight = WEIGHT_UP},
    {OP_ACTIVATION, .out = ACT_F, .in = {ACT_U}},
    {OP_MATMUL,     .out = ACT_T, .in = {ACT_F}, .weight = WEIGHT_DOWN},
    {OP_ADD,        .out = ACT_X, .in = {ACT_X, ACT_T}},
};
// clang-format on

static const LayerKind kinds[] = {
    {LAYERS_STATE, .attention = OP_RUN(arch_mamba_ops)},
    {LAYERS_ATTENTION, .attention = OP_RUN(arch_attention_ops)},
    {LAYERS_ALL, .feed_forward = OP_RUN(feed_forward_ops)},
};

const Arch arch_nemotron_h = {
    .name = "nemotron_h",
    .description = "Nemotron-H: Mamba-2, attention and feed-forwards",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_RELU_SQUARED,
};
