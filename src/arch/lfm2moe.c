// LFM2's mixtures of experts (Liquid AI 2025): the layers of lfm2.c, of which the first have a dense
// feed-forward, the others experts chosen by a sigmoid with a bias.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_HEADS_SAY_MIXER,          CONFIG_TAPS_ROW("%s.shortconv.l_cache"),
    CONFIG_ROWS_EXPERTS,     CONFIG_ROWS_ROUTE(SCORES_SIGMOID, 1), CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_LFM2_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_HEAD_NORMS_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_SHORTCONV,
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROW_ROUTE_BIAS,
};
// clang-format on

static const LayerKind kinds[] = {LAYER_KINDS_OF_EXPERTS(arch_shortconv_ops, arch_attention_ops)};

const Arch arch_lfm2moe = {
    .name = "lfm2moe",
    .description = "LFM2 mixtures of experts",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
