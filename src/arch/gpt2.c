// GPT-2 (Radford et al. 2019): layer norms and biases everywhere, learned positions instead of RoPE, Q, K and
// V in one tensor, and a feed-forward without a gate.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROW_LN_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    {.id = WEIGHT_POSITION, .name = "position_embd.weight", .rows = DIM_CONTEXT, .cols = DIM_MODEL,
     .is_float = true},
    WEIGHT_ROWS_LAYER_NORMS,
    WEIGHT_ROWS_QKV_FUSED,
    WEIGHT_ROWS_QKV_BIAS_FUSED,
    WEIGHT_ROW(WEIGHT_O,           "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS, "attn_output.bias",   DIM_MODEL, false),
    WEIGHT_ROWS_UNGATED_BIASED,
};

static const OpRow embed_ops[] = {
    {OP_EMBED,        .out = ACT_X, .weight = WEIGHT_EMBED},
    {OP_ADD_POSITION, .out = ACT_X, .in = {ACT_X}, .weight = WEIGHT_POSITION},
};
// clang-format on

const Arch arch_gpt2 = {
    .name = "gpt2",
    .description = "GPT-2",
    ARCH_TABLES,
    .first = OP_RUN(embed_ops),
    .kinds = (const LayerKind[]){{LAYERS_ALL, OP_RUN(arch_ln_attention_ops), OP_RUN(arch_ln_ungated_ops)}},
    .n_kinds = 1,
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_NONE,
    .activation = FN_GELU_TANH,
};
