// LFM2 (Liquid AI 2025): most layers have a gated short convolution in place of attention, whose state are
// the last rows of its input. Layers with attention have norms on the heads of queries and keys.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_HEADS_SAY_MIXER, CONFIG_TAPS_ROW("%s.shortconv.l_cache"),
    CONFIG_ROWS_ROPE,        CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_LFM2_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_HEAD_NORMS_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_SHORTCONV,
    WEIGHT_ROWS_GATED,
};
// clang-format on

static const LayerKind kinds[] = {
    {LAYERS_STATE, OP_RUN(arch_shortconv_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_ALL, OP_RUN(arch_attention_ops), OP_RUN(arch_gated_ops)},
};

const Arch arch_lfm2 = {
    .name = "lfm2",
    .description = "LFM2, with short convolutions",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
