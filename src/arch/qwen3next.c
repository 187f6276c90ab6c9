// Qwen3-Next (Qwen Team 2025): Qwen3.5's layers with a mixture of experts in each. Beta and dt of the heads
// that share a key lie side by side in one tensor, and so do these heads.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_SIZES(false), CONFIG_ROWS_INTERVAL, CONFIG_ROWS_SSM,           CONFIG_ROW_TILED(0),
    CONFIG_ROWS_QWEN_EXPERTS, CONFIG_ROWS_ROPE,     CONFIG_ROWS_ROPE_SECTIONS, CONFIG_ROW_RMS_EPS,
};

// clang-format off
// Older files have queries, keys, values and gates of the heads that share a key side by side in one tensor.
#define OLDER(weight, n_rows, from, together, ...)                                                        \
    {.id = weight, .name = "blk.%u.ssm_in.weight", .rows = n_rows, .cols = DIM_MODEL, .layers = LAYERS_STATE, \
     .fused = DIM_QKVZ, .fused_from = from, .strip = together, .strip_step = DIM_STATE_QKVZ, __VA_ARGS__}

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_GATED_ATTENTION,
    OLDER(WEIGHT_STATE_IN, DIM_STATE_KEYS, DIM_ONE, DIM_STATE_KEY, .optional = true),
    OLDER(WEIGHT_STATE_IN, DIM_STATE_KEYS, DIM_STATE_KEY, DIM_STATE_KEY, .behind = true),
    OLDER(WEIGHT_STATE_IN, DIM_INNER, DIM_STATE_KEY2, DIM_STATE_GROUP, .behind = true),
    OLDER(WEIGHT_STATE_GATE, DIM_INNER, DIM_STATE_QKV, DIM_STATE_GROUP, .optional = true),
    {.id = WEIGHT_STATE_IN, .name = "blk.%u.attn_qkv.weight", .rows = DIM_CONV, .cols = DIM_MODEL,
     .layers = LAYERS_STATE, .or_else = WEIGHT_STATE_IN},
    {.id = WEIGHT_STATE_GATE, .name = "blk.%u.attn_gate.weight", .rows = DIM_INNER, .cols = DIM_MODEL,
     .layers = LAYERS_STATE, .or_else = WEIGHT_STATE_GATE},
    WEIGHT_ROWS_DELTA,
    WEIGHT_STRIPS_OF(LAYERS_STATE, WEIGHT_STATE_BETA, "ssm_ba.weight", DIM_STATE_HEADS, DIM_MODEL,
                     DIM_STATE_HEADS2, DIM_ONE, DIM_STATE_SHARE, DIM_STATE_SHARE2),
    WEIGHT_STRIPS_OF(LAYERS_STATE, WEIGHT_STATE_DT, "ssm_ba.weight", DIM_STATE_HEADS, DIM_MODEL,
                     DIM_STATE_HEADS2, DIM_STATE_SHARE, DIM_STATE_SHARE, DIM_STATE_SHARE2),
    WEIGHT_ROWS_QWEN_EXPERTS,
};
// clang-format on

static const LayerKind kinds[] = {LAYER_KINDS_OF_EXPERTS(arch_delta_ops, arch_gated_attention_ops)};

const Arch arch_qwen3next = {
    .name = "qwen3next",
    .description = "Qwen3-Next: gated delta nets, experts",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
