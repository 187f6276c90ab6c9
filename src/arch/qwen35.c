// Qwen3.5 (Qwen Team 2026), text: three of every four layers are gated delta nets (Yang et al. 2024), the
// others have attention whose output is gated and a rotary embedding on a part of each head. Files store
// norm weights with the 1 that the model adds to them, and the heads of a delta net's values so that those
// that share a key are n_key_heads apart.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_INTERVAL,      CONFIG_ROWS_SSM,    CONFIG_ROW_TILED(1),
    CONFIG_ROWS_ROPE,        CONFIG_ROWS_ROPE_SECTIONS, CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight",           DIM_MODEL),
    WEIGHT_ROWS_GATED_ATTENTION,
    WEIGHT_ROWS_DELTA_IN,
    WEIGHT_ROWS_DELTA,
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_BETA, "ssm_beta.weight", DIM_STATE_HEADS, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_DT, "ssm_alpha.weight", DIM_STATE_HEADS, DIM_MODEL),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,  "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROW(WEIGHT_GATE,           "ffn_gate.weight",            DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_UP,             "ffn_up.weight",              DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN,           "ffn_down.weight",            DIM_MODEL, DIM_FF),
};
// clang-format on

static const LayerKind kinds[] = {
    {LAYERS_STATE, OP_RUN(arch_delta_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_ALL, OP_RUN(arch_gated_attention_ops), OP_RUN(arch_gated_ops)},
};

const Arch arch_qwen35 = {
    .name = "qwen35",
    .description = "Qwen3.5, text: gated delta nets",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
