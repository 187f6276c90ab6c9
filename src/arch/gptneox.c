// GPT-NeoX, Pythia (Black et al. 2022) and models of their kind: layer norms and biases everywhere, RoPE
// over halves of a part of each head, and no gate. Attention and feed-forward have the same input where the
// file says so. Files have Q, K and V in one tensor, in this order.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW("%s.use_parallel_residual", CONFIG_BOOL, parallel, .fallback = 1),
    CONFIG_ROW_LN_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_LAYER_NORMS,
    WEIGHT_ROWS_QKV_FUSED,
    WEIGHT_ROWS_QKV_BIAS_FUSED,
    WEIGHT_ROW(WEIGHT_O,           "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS, "attn_output.bias",   DIM_MODEL, false),
    WEIGHT_ROWS_UNGATED_BIASED,
};

static const LayerKind kinds[] = {
    {LAYERS_PARALLEL, {arch_ln_attention_ops, ARCH_LN_HEADS_OPS}, OP_RUN(arch_parallel_ungated_ops)},
    {LAYERS_ALL,      OP_RUN(arch_ln_attention_ops),              OP_RUN(arch_ln_ungated_ops)},
};
// clang-format on

const Arch arch_gptneox = {
    .name = "gptneox",
    .description = "GPT-NeoX, Pythia",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_ERF,
};
