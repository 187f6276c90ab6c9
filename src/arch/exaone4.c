// EXAONE 4 (LG AI Research 2025): no norms before attention and feed-forward, but one behind each, and a
// norm on each head of Q and K. Where layers have windows (32B: three of four), those without one have no
// rotary embedding.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(false, 0, 4),
    CONFIG_ROW(NULL, CONFIG_U32, no_rope, .fallback = 1, .layers = LAYERS_FULL_BESIDE),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),
    WEIGHT_ROW(WEIGHT_Q,                   "attn_q.weight",              DIM_Q,     DIM_MODEL),
    WEIGHT_ROW(WEIGHT_K,                   "attn_k.weight",              DIM_K,     DIM_MODEL),
    WEIGHT_ROW(WEIGHT_V,                   "attn_v.weight",              DIM_V,     DIM_MODEL),
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,         "attn_q_norm.weight",         DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM,         "attn_k_norm.weight",         DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROW(WEIGHT_GATE,                "ffn_gate.weight",            DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_UP,                  "ffn_up.weight",              DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN,                "ffn_down.weight",            DIM_MODEL, DIM_FF),
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),
};
// clang-format on

const Arch arch_exaone4 = {
    .name = "exaone4",
    .description = "EXAONE 4",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .last = OP_RUN(arch_norm_head_ops),
    .kinds = (const LayerKind[]){{LAYERS_ALL, OP_RUN(arch_bare_attention_ops), OP_RUN(arch_bare_gated_ops)}},
    .n_kinds = 1,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
