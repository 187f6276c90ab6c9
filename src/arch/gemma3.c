// Gemma 3 (Gemma Team 2025), text: norms before and after attention and feed-forward, a norm on each head of
// Q and K, a gate of GELU, scaled embeddings. Of every six layers five see a window only and have a RoPE base
// of their own, which is never scaled. Its GGUF files store norm weights with the 1 that the model adds to
// them, and mostly leave out what all published sizes have in common.
#include "arch/tables.h"

enum { LAYERS_27B = 62 };

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(true, 0, 6),
    // Layers with a window have a base of their own and are never scaled.
    CONFIG_ROW(NULL, CONFIG_F32, rope.base, .fallback = 10000, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_U32, rope.scaling, .fallback = ROPE_SCALING_NONE, .layers = LAYERS_WINDOW),
    CONFIG_ROW(NULL, CONFIG_F32, rope.attn_factor, .fallback = 1, .layers = LAYERS_WINDOW),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_ROW_RMS_EPS,
    CONFIG_U32_VALUE(embed_by_root, 1),
    // query_pre_attn_scalar of the published configurations, which is head_dim in all other sizes.
    CONFIG_F32_VALUE_OF_SIZE(LAYERS_27B, score_dim, 168),
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,         "attn_q_norm.weight",         DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM,         "attn_k_norm.weight",         DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,                   "attn_output.weight",         DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_POST_ATTN_NORM, "post_attention_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_GATED,
    WEIGHT_ROW_NORM(WEIGHT_POST_FFN_NORM,  "post_ffw_norm.weight",       DIM_MODEL),
};
// clang-format on

const Arch arch_gemma3 = {
    .name = "gemma3",
    .description = "Gemma 3, text",
    .verified = "llama.cpp on the 270M file: perplexity 26.0464 against 26.0470",
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_GELU_TANH,
};
