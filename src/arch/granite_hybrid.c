// Granite 4 with recurrent layers (IBM 2025): Mamba-2 in most layers in place of attention, which has no
// positions in the published sizes (`rope.scaling.finetuned`); feed-forwards, multipliers and the order of
// rows of Q and K are Granite's. The larger sizes have experts, one of which all rows use.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_HEADS_SAY_MIXER,
    CONFIG_ROWS_SSM,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW("%s.rope.scaling.finetuned", CONFIG_BOOL, rope_finetuned, .fallback = 1),
    CONFIG_ROWS_MULTIPLIERS(false),
    CONFIG_F32_ROW("%s.attention.scale", score_scale, false, 0),
    // The same as feed_forward_length in files without experts.
    {.key = "%s.expert_shared_feed_forward_length", .type = CONFIG_UNREAD},
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_MAMBA,
    WEIGHT_ROWS_GATED,
};
// clang-format on

static const ConfigRow config_of_experts[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_HEADS_SAY_MIXER,
    CONFIG_ROWS_SSM,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_OF_CHOSEN, 1),
    CONFIG_ROWS_ROPE,
    CONFIG_ROW("%s.rope.scaling.finetuned", CONFIG_BOOL, rope_finetuned, .fallback = 1),
    CONFIG_ROWS_MULTIPLIERS(false),
    CONFIG_F32_ROW("%s.attention.scale", score_scale, false, 0),
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights_of_experts[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_MAMBA,
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROWS_SHARED,
};
// clang-format on

static const LayerKind kinds_of_experts[] = {LAYER_KINDS_OF_EXPERTS(arch_mamba_ops, arch_attention_ops)};

static const Arch granite_hybrid_of_experts = {
    .name = "granitehybrid",
    .description = "Granite with Mamba-2 and experts",
    .config = config_of_experts,
    .n_config = COUNT_OF(config_of_experts),
    .weights = weights_of_experts,
    .n_weights = COUNT_OF(weights_of_experts),
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds_of_experts,
    .n_kinds = COUNT_OF(kinds_of_experts),
    .last = OP_RUN(arch_norm_head_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};

static const LayerKind kinds[] = {
    {LAYERS_STATE, OP_RUN(arch_mamba_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_ALL, OP_RUN(arch_attention_ops), OP_RUN(arch_gated_ops)},
};

const Arch arch_granite_hybrid = {
    .name = "granitehybrid",
    .description = "Granite with Mamba-2, also with experts",
    .of_experts = &granite_hybrid_of_experts,
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
