// Falcon (Almazrouei et al. 2023): attention and feed-forward have the same input, each with a layer norm of
// its own (40B, 180B) or both with one (7B); Q, K and V in one tensor, which files have in this order; RoPE
// over halves; no gate, and no biases but those of the norms. The 1B models have scores that fall with the
// distance: they are not converted.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_LN_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_VECTOR(WEIGHT_OUTPUT_NORM_BIAS, "output_norm.bias", DIM_MODEL),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,       "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_FFN_NORM_BIAS,  "attn_norm.bias",   DIM_MODEL, false),
    {.id = WEIGHT_ATTN_NORM,      .name = "blk.%u.attn_norm_2.weight", .rows = DIM_ONE, .cols = DIM_MODEL,
     .is_float = true, .or_else = WEIGHT_FFN_NORM},
    {.id = WEIGHT_ATTN_NORM_BIAS, .name = "blk.%u.attn_norm_2.bias",   .rows = DIM_ONE, .cols = DIM_MODEL,
     .is_float = true, .or_else = WEIGHT_FFN_NORM_BIAS},
    WEIGHT_ROWS_QKV_FUSED,
    WEIGHT_ROW(WEIGHT_O,    "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW(WEIGHT_UP,   "ffn_up.weight",      DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN, "ffn_down.weight",    DIM_MODEL, DIM_FF),
};

static const LayerKind kinds[] = {
    {LAYERS_ALL, {arch_ln_attention_ops, ARCH_LN_HEADS_OPS}, OP_RUN(arch_parallel_ungated_ops)},
};
// clang-format on

const Arch arch_falcon = {
    .name = "falcon",
    .description = "Falcon",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_ERF,
};
