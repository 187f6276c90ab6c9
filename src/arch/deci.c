// Llamas of which a search has taken blocks away (NVIDIA 2024, 2025: Llama-Nemotron Super and Ultra;
// DeciLM): each layer has its own number of KV heads and length of the feed-forward; some have a matrix in
// attention's place, or nothing, and some no feed-forward.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_LAYERS_ROW("%s.attention.head_count_kv", n_kv_heads, true),
    CONFIG_U32_VALUE(spare_blocks, 1),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),
    WEIGHT_FLOATS_OF(LAYERS_ATTENTION, WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_ONE, DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_FLOATS_OF(LAYERS_LINEAR, WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_ONE, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_LINEAR, WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_MODEL),
    WEIGHT_FLOATS_OF(LAYERS_FF, WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_ONE, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_FF, WEIGHT_GATE, "ffn_gate.weight", DIM_FF, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_FF, WEIGHT_UP, "ffn_up.weight", DIM_FF, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_FF, WEIGHT_DOWN, "ffn_down.weight", DIM_MODEL, DIM_FF),
};

static const OpRow linear_ops[] = {
    {OP_RMS_NORM, .out = ACT_H, .in = {ACT_X}, .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,   .out = ACT_T, .in = {ACT_H}, .weight = WEIGHT_O},
    {OP_ADD,      .out = ACT_X, .in = {ACT_X, ACT_T}},
};
// clang-format on

static const LayerKind kinds[] = {
    {LAYERS_ATTENTION_ALONE, .attention = OP_RUN(arch_attention_ops)},
    {LAYERS_ATTENTION, OP_RUN(arch_attention_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_LINEAR_ALONE, .attention = OP_RUN(linear_ops)},
    {LAYERS_LINEAR, OP_RUN(linear_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_FF, .feed_forward = OP_RUN(arch_gated_ops)},
};

const Arch arch_deci = {
    .name = "deci",
    .description = "Llama-Nemotron Super and Ultra, DeciLM",
    .verified = "the tiny model was run as transformers' Llama with such layers",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
