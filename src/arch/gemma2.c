// Gemma 2 (Gemma Team 2024): Gemma with norms after attention and feed-forward, too, a window on every other
// layer from the first on, and capped scores and logits. Its first GGUF files lack the keys of the caps and
// the window, which all published sizes have in common.
#include "arch/tables.h"

enum { LAYERS_27B = 46 };

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(false, 4096, 2),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_F32_ROW("%s.attn_logit_softcapping", score_cap, false, 50),
    CONFIG_F32_ROW("%s.final_logit_softcapping", logit_cap, false, 30),
    CONFIG_ROW_RMS_EPS,
    CONFIG_U32_VALUE(embed_by_root, 1),
    // query_pre_attn_scalar of the published configurations, which is head_dim in the other sizes: 4608 / 32.
    CONFIG_F32_VALUE_OF_SIZE(LAYERS_27B, score_dim, 144),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_GATED,
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),
};
// clang-format on

const Arch arch_gemma2 = {
    .name = "gemma2",
    .description = "Gemma 2",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
