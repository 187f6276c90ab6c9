// StarCoder2 (Lozhkov et al. 2024): layer norms and biases everywhere, grouped heads, RoPE over halves, no
// gate. The window of the published configurations is in no file.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(false, 0, 0),
    CONFIG_ROW_LN_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_LAYER_NORMS,
    WEIGHT_ROW(WEIGHT_Q,           "attn_q.weight",      DIM_Q,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_Q_BIAS, "attn_q.bias",        DIM_Q,     true),
    WEIGHT_ROW(WEIGHT_K,           "attn_k.weight",      DIM_K,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_K_BIAS, "attn_k.bias",        DIM_K,     true),
    WEIGHT_ROW(WEIGHT_V,           "attn_v.weight",      DIM_V,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_V_BIAS, "attn_v.bias",        DIM_V,     true),
    WEIGHT_ROW(WEIGHT_O,           "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS, "attn_output.bias",   DIM_MODEL, true),
    WEIGHT_ROWS_UNGATED_BIASED,
};

static const LayerKind kinds[] = {
    {LAYERS_ALL, OP_RUN(arch_ln_attention_ops), OP_RUN(arch_ln_ungated_ops)},
};
// clang-format on

const Arch arch_starcoder2 = {
    .name = "starcoder2",
    .description = "StarCoder2",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
