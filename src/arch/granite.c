// Granite 3 and 4 without recurrent layers (IBM 2024, 2025): Llama's blocks with four multipliers: on the
// embedding, on scores in place of 1 / sqrt(head_dim), on what a block adds to the residual stream, and one
// that logits are divided by. Files have the rows of Q and K in the order of Llama's;
// `rope.scaling.finetuned` says whether there is a rotary embedding at all.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW("%s.rope.scaling.finetuned", CONFIG_BOOL, rope_finetuned, .fallback = 1),
    CONFIG_ROWS_MULTIPLIERS(false),
    CONFIG_F32_ROW("%s.attention.scale", score_scale, false, 0),
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),
    WEIGHT_ROWS_QKV_BIASED,
    WEIGHT_ROWS_OUTPUT_BIASED,
    WEIGHT_ROWS_GATED,
    WEIGHT_ROW_BIAS(WEIGHT_GATE_BIAS, "ffn_gate.bias", DIM_FF,    true),
    WEIGHT_ROW_BIAS(WEIGHT_UP_BIAS,   "ffn_up.bias",   DIM_FF,    true),
    WEIGHT_ROW_BIAS(WEIGHT_DOWN_BIAS, "ffn_down.bias", DIM_MODEL, true),
};
// clang-format on

const Arch arch_granite = {
    .name = "granite",
    .description = "Granite",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
