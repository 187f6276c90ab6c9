// Phi-1, Phi-1.5 and Phi-2 (Li et al. 2023): layer norms and biases everywhere, one norm for attention and
// feed-forward, which have the same input; RoPE over halves of a part of each head, and no gate. Files have
// Q, K and V apart or, older ones, in one tensor.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_LN_EPS,
};

// clang-format off
// Q, K and V where they are one tensor, and where they are not: the second row leaves what the first has found.
#define FUSED(weight, tensor, n_rows, from) \
    {.id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = DIM_MODEL, .fused = DIM_QKV, \
     .fused_from = from, .optional = true}
#define FUSED_BIAS(weight, tensor, width, from) \
    {.id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .fused = DIM_QKV, \
     .fused_from = from, .optional = true, .is_float = true}
#define APART(weight, tensor, n_rows) \
    {.id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = DIM_MODEL, .or_else = weight}
#define APART_BIAS(weight, tensor, width) \
    {.id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .or_else = weight, .is_float = true}

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_VECTOR(WEIGHT_OUTPUT_NORM_BIAS, "output_norm.bias", DIM_MODEL),
    WEIGHT_VECTOR(WEIGHT_HEAD_BIAS, "output.bias", DIM_VOCAB),
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_ATTN_NORM_BIAS, "attn_norm.bias", DIM_MODEL, false),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_FFN_NORM_BIAS, "attn_norm.bias", DIM_MODEL, false),
    FUSED(WEIGHT_Q, "attn_qkv.weight", DIM_Q, DIM_ONE),
    FUSED(WEIGHT_K, "attn_qkv.weight", DIM_K, DIM_Q),
    FUSED(WEIGHT_V, "attn_qkv.weight", DIM_V, DIM_QK),
    FUSED_BIAS(WEIGHT_Q_BIAS, "attn_qkv.bias", DIM_Q, DIM_ONE),
    FUSED_BIAS(WEIGHT_K_BIAS, "attn_qkv.bias", DIM_K, DIM_Q),
    FUSED_BIAS(WEIGHT_V_BIAS, "attn_qkv.bias", DIM_V, DIM_QK),
    APART(WEIGHT_Q, "attn_q.weight", DIM_Q),
    APART(WEIGHT_K, "attn_k.weight", DIM_K),
    APART(WEIGHT_V, "attn_v.weight", DIM_V),
    APART_BIAS(WEIGHT_Q_BIAS, "attn_q.bias", DIM_Q),
    APART_BIAS(WEIGHT_K_BIAS, "attn_k.bias", DIM_K),
    APART_BIAS(WEIGHT_V_BIAS, "attn_v.bias", DIM_V),
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS, "attn_output.bias", DIM_MODEL, false),
    WEIGHT_ROWS_UNGATED_BIASED,
};

static const LayerKind kinds[] = {
    {LAYERS_ALL, {arch_ln_attention_ops, ARCH_LN_HEADS_OPS}, OP_RUN(arch_parallel_ungated_ops)},
};
// clang-format on

const Arch arch_phi2 = {
    .name = "phi2",
    .description = "Phi-1, Phi-2",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
