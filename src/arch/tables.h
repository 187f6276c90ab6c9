// Rows that many architectures share, to be named in their tables.
#pragma once

#include "arch/arch.h"

#define CONFIG_U32_ROW(key, field, required, fallback) \
    { key, CONFIG_U32, offsetof(ModelConfig, field), required, fallback }
#define CONFIG_F32_ROW(key, field, required, fallback) \
    { key, CONFIG_F32, offsetof(ModelConfig, field), required, fallback }

// Sizes of a decoder-only transformer. What has no fallback here is derived in plan/config.c when it is
// absent (0).
#define CONFIG_ROWS_TRANSFORMER                                             \
    CONFIG_U32_ROW("%s.block_count", n_layers, true, 0),                    \
        CONFIG_U32_ROW("%s.context_length", n_context, true, 0),            \
        CONFIG_U32_ROW("%s.embedding_length", d_model, true, 0),            \
        CONFIG_U32_ROW("%s.feed_forward_length", d_ff, true, 0),            \
        CONFIG_U32_ROW("%s.attention.head_count", n_heads, true, 0),        \
        CONFIG_U32_ROW("%s.attention.head_count_kv", n_kv_heads, false, 0), \
        CONFIG_U32_ROW("%s.attention.key_length", head_dim, false, 0)

// Rotary position embedding with the scalings that files ask for.
#define CONFIG_ROWS_ROPE                                                                            \
    CONFIG_U32_ROW("%s.rope.dimension_count", rope_dims, false, 0),                                 \
        CONFIG_F32_ROW("%s.rope.freq_base", rope_base, false, 10000),                               \
        CONFIG_F32_ROW("%s.rope.scaling.factor", rope_factor, false, 1),                            \
        CONFIG_U32_ROW("%s.rope.scaling.original_context_length", rope_original_context, false, 0), \
        CONFIG_F32_ROW("%s.rope.scaling.attn_factor", yarn_attn_factor, false, 0),                  \
        CONFIG_F32_ROW("%s.rope.scaling.yarn_beta_fast", yarn_beta_fast, false, 32),                \
        CONFIG_F32_ROW("%s.rope.scaling.yarn_beta_slow", yarn_beta_slow, false, 1)

#define CONFIG_ROW_RMS_EPS CONFIG_F32_ROW("%s.attention.layer_norm_rms_epsilon", norm_eps, true, 0)

// The embedding, the last norm, and a head that is the embedding where the file has none of its own.
#define WEIGHT_ROWS_ENDS                                                                                    \
    {.id = WEIGHT_EMBED, .name = "token_embd.weight", .rows = DIM_VOCAB, .cols = DIM_MODEL},                \
        {.id = WEIGHT_OUTPUT_NORM,                                                                          \
         .name = "output_norm.weight",                                                                      \
         .rows = DIM_ONE,                                                                                   \
         .cols = DIM_MODEL,                                                                                 \
         .is_float = true},                                                                                 \
    {                                                                                                       \
        .id = WEIGHT_HEAD, .name = "output.weight", .rows = DIM_VOCAB, .cols = DIM_MODEL, .optional = true, \
        .or_else = WEIGHT_EMBED                                                                             \
    }

// A weight matrix, a norm's scale, and a bias of one layer.
#define WEIGHT_ROW(weight, tensor, n_rows, n_cols) \
    { .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols }
#define WEIGHT_ROW_NORM(weight, tensor, width) \
    { .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true }
#define WEIGHT_ROW_BIAS(weight, tensor, width, is_optional)                                       \
    {                                                                                             \
        .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true, \
        .optional = is_optional                                                                   \
    }

// Operations (arch/blocks.c): the token's embedding; a pre-norm block of attention and a gated feed-forward;
// the last norm and the head.
extern const OpRow arch_embed_ops[1];
extern const OpRow arch_gated_block_ops[16];
extern const OpRow arch_norm_head_ops[2];

// The members of an Arch that name the file's own tables, and those that name the shared operations.
#define ARCH_TABLES \
    .config = config, .n_config = COUNT_OF(config), .weights = weights, .n_weights = COUNT_OF(weights)
#define ARCH_OPS_GATED                                                                           \
    .first = arch_embed_ops, .n_first = COUNT_OF(arch_embed_ops), .layer = arch_gated_block_ops, \
    .n_layer = COUNT_OF(arch_gated_block_ops), .last = arch_norm_head_ops,                       \
    .n_last = COUNT_OF(arch_norm_head_ops)
