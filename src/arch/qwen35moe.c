// Qwen3.5's mixtures of experts (Qwen Team 2026), text: the layers of qwen35.c, with experts of which all
// rows use one, whose output is multiplied by a sigmoid of its input.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_SIZES(false), CONFIG_ROWS_INTERVAL, CONFIG_ROWS_SSM,           CONFIG_ROW_TILED(1),
    CONFIG_ROWS_QWEN_EXPERTS, CONFIG_ROWS_ROPE,     CONFIG_ROWS_ROPE_SECTIONS, CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_GATED_ATTENTION,
    WEIGHT_ROWS_DELTA_IN,
    WEIGHT_ROWS_DELTA,
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_BETA, "ssm_beta.weight", DIM_STATE_HEADS, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_DT, "ssm_alpha.weight", DIM_STATE_HEADS, DIM_MODEL),
    WEIGHT_ROWS_QWEN_EXPERTS,
};
// clang-format on

static const LayerKind kinds[] = {LAYER_KINDS_OF_EXPERTS(arch_delta_ops, arch_gated_attention_ops)};

const Arch arch_qwen35moe = {
    .name = "qwen35moe",
    .description = "Qwen3.5 mixtures of experts, text",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
