// Rows that many architectures share, to be named in their tables.
#pragma once

#include "arch/arch.h"

// clang-format off
#define CONFIG_ROW(name, kind, field, ...) \
    {.key = name, .type = kind, .offset = offsetof(ModelConfig, field), __VA_ARGS__}
#define CONFIG_U32_ROW(key, field, is_required, value) \
    CONFIG_ROW(key, CONFIG_U32, field, .required = is_required, .fallback = value)
#define CONFIG_F32_ROW(key, field, is_required, value) \
    CONFIG_ROW(key, CONFIG_F32, field, .required = is_required, .fallback = value)
// A number for all layers, or one for each.
#define CONFIG_LAYERS_ROW(key, field, is_required) \
    CONFIG_ROW(key, CONFIG_U32_LAYERS, field, .required = is_required)
// Numbers that the architecture fixes.
#define CONFIG_U32_VALUE(field, value) CONFIG_U32_ROW(NULL, field, false, value)
#define CONFIG_F32_VALUE(field, value) CONFIG_F32_ROW(NULL, field, false, value)
#define CONFIG_U32_VALUE_OF_SIZE(n, field, value) \
    CONFIG_ROW(NULL, CONFIG_U32, field, .fallback = value, .only_n_layers = n)
#define CONFIG_F32_VALUE_OF_SIZE(n, field, value) \
    CONFIG_ROW(NULL, CONFIG_F32, field, .fallback = value, .only_n_layers = n)

// Rows that a short convolution sees.
#define CONFIG_TAPS_ROW(key) \
    CONFIG_ROW(key, CONFIG_U32, conv_taps, .required = true, .least = 2, .most = CONV_TAPS_MAX)

// Sizes of a decoder-only transformer. What has no fallback here is derived in plan/config.c when it is
// absent (0).
#define CONFIG_ROWS_TRANSFORMER CONFIG_ROWS_SIZES(true)
// Where all layers have experts, some files do not say how long another feed-forward would be.
#define CONFIG_ROWS_SIZES(says_feed_forward)                               \
    CONFIG_ROW("%s.block_count", CONFIG_U32, n_blocks, .required = true, .least = 1, .most = LAYERS_MAX), \
    CONFIG_U32_ROW("%s.nextn_predict_layers", n_ahead, false, 0),          \
    CONFIG_U32_ROW("%s.context_length", n_context, true, 0),               \
    CONFIG_U32_ROW("%s.embedding_length", d_model, true, 0),               \
    CONFIG_LAYERS_ROW("%s.feed_forward_length", d_ff, says_feed_forward),  \
    CONFIG_LAYERS_ROW("%s.attention.head_count", n_heads, true),           \
    CONFIG_LAYERS_ROW("%s.attention.head_count_kv", n_kv_heads, false),    \
    CONFIG_LAYERS_ROW("%s.attention.key_length", head_dim, false),         \
    CONFIG_LAYERS_ROW("%s.attention.value_length", value_dim, false)

// Rotary position embedding with the scalings that files ask for.
#define CONFIG_ROWS_ROPE                                                                        \
    CONFIG_U32_ROW("%s.rope.dimension_count", rope.dims, false, 0),                             \
    CONFIG_F32_ROW("%s.rope.freq_base", rope.base, false, 10000),                               \
    CONFIG_F32_ROW("%s.rope.scaling.factor", rope.factor, false, 1),                            \
    CONFIG_ROW("%s.rope.scaling.type", CONFIG_ROPE_SCALING, rope.scaling),                      \
    CONFIG_U32_ROW("%s.rope.scaling.original_context_length", rope.original_context, false, 0), \
    CONFIG_F32_ROW("%s.rope.scaling.attn_factor", rope.attn_factor, false, 1),                  \
    CONFIG_F32_ROW("%s.rope.scaling.yarn_beta_fast", rope.yarn_beta_fast, false, 32),           \
    CONFIG_F32_ROW("%s.rope.scaling.yarn_beta_slow", rope.yarn_beta_slow, false, 1)

// Multipliers of Granite and MiniCPM, whose files say what logits are divided by.
#define CONFIG_ROWS_MULTIPLIERS(is_required)                                   \
    CONFIG_F32_ROW("%s.embedding_scale", embed_scale, is_required, 1),         \
    CONFIG_F32_ROW("%s.residual_scale", residual_scale, is_required, 1),       \
    CONFIG_F32_ROW("%s.logit_scale", logit_divisor, is_required, 1)

// Scores that grow with the position; without a length, by the original context.
#define CONFIG_ROWS_TEMPERATURE                                                               \
    CONFIG_F32_ROW("%s.attention.temperature_scale", temperature_scale, false, 0),            \
    CONFIG_U32_ROW("%s.attention.temperature_length", temperature_length, false, 0)

// A window of so many positions (where it is required, not none), and the layers that have it where the file does not say it: all of every `period` but
// the last; 0: all.
#define CONFIG_ROWS_WINDOW(is_required, size, period)                                                 \
    CONFIG_ROW("%s.attention.sliding_window", CONFIG_U32, window, .required = is_required, .fallback = size, .least = is_required), \
    CONFIG_ROW("%s.attention.sliding_window_pattern", CONFIG_WINDOWS, has_window, .fallback = period)

// Numbers that layers with a window may have of their own. They come after the rows of the others.
#define CONFIG_ROWS_OF_WINDOW                                                                           \
    CONFIG_ROW("%s.attention.key_length_swa", CONFIG_U32, head_dim, .or_keep = true,                    \
               .layers = LAYERS_WINDOW),                                                                \
    CONFIG_ROW("%s.attention.value_length_swa", CONFIG_U32, value_dim, .or_keep = true,                 \
               .layers = LAYERS_WINDOW),                                                                \
    CONFIG_ROW("%s.rope.dimension_count_swa", CONFIG_U32, rope.dims, .or_keep = true,                   \
               .layers = LAYERS_WINDOW),                                                                \
    CONFIG_ROW("%s.rope.freq_base_swa", CONFIG_F32, rope.base, .or_keep = true, .layers = LAYERS_WINDOW)

// A mixture of experts.
#define CONFIG_ROWS_EXPERTS                                          \
    CONFIG_U32_ROW("%s.expert_count", n_experts, true, 0),           \
    CONFIG_U32_ROW("%s.expert_used_count", n_experts_used, true, 0), \
    CONFIG_LAYERS_ROW("%s.expert_feed_forward_length", d_ff_expert, false)

// How experts are chosen, and the experts that all rows use. `scores` and `is_normed` where the file does
// not say it.
#define CONFIG_ROWS_ROUTE(scores_value, is_normed)                                              \
    CONFIG_U32_ROW("%s.expert_gating_func", route.scores, false, scores_value),                 \
    CONFIG_ROW("%s.expert_weights_norm", CONFIG_BOOL, route.normed, .fallback = is_normed),     \
    CONFIG_F32_ROW("%s.expert_weights_scale", route.scale, false, 1),                           \
    CONFIG_U32_ROW("%s.expert_group_count", route.n_groups, false, 0),                          \
    CONFIG_U32_ROW("%s.expert_group_used_count", route.n_groups_used, false, 0),                \
    CONFIG_U32_ROW("%s.leading_dense_block_count", n_leading, false, 0),                        \
    CONFIG_U32_ROW("%s.expert_shared_count", n_shared, false, 0),                               \
    CONFIG_LAYERS_ROW("%s.expert_shared_feed_forward_length", d_ff_shared, false)
// clang-format on

#define CONFIG_ROW_LN_EPS CONFIG_F32_ROW("%s.attention.layer_norm_epsilon", norm_eps, true, 0)
#define CONFIG_ROW_RMS_EPS CONFIG_F32_ROW("%s.attention.layer_norm_rms_epsilon", norm_eps, true, 0)

// The embedding, the last norm, and a head that is the embedding where the file has none of its own.
#define WEIGHT_ROWS_ENDS                                                                                    \
    {.id = WEIGHT_EMBED, .name = "token_embd.weight", .rows = DIM_VOCAB, .cols = DIM_MODEL},                \
        WEIGHT_VECTOR(WEIGHT_OUTPUT_NORM, "output_norm.weight", DIM_MODEL), {                               \
        .id = WEIGHT_HEAD, .name = "output.weight", .rows = DIM_VOCAB, .cols = DIM_MODEL, .optional = true, \
        .or_else = WEIGHT_EMBED                                                                             \
    }

// A vector outside the layers.
// clang-format off
#define WEIGHT_VECTOR(weight, tensor, width) \
    { .id = weight, .name = tensor, .rows = DIM_ONE, .cols = width, .is_float = true }
// clang-format on

// Factors of RoPE's frequencies, one a pair.
// clang-format off
#define WEIGHT_ROPE_VECTOR(weight, tensor)                                                      \
    {                                                                                           \
        .id = weight, .name = tensor, .rows = DIM_ONE, .cols = DIM_ROPE_HALF, .is_float = true, \
        .optional = true                                                                        \
    }
// clang-format on

// A weight matrix, a norm's scale, and a bias of one layer.
// clang-format off
#define WEIGHT_ROW(weight, tensor, n_rows, n_cols) \
    { .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols }
#define WEIGHT_ROW_NORM(weight, tensor, width) \
    { .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true }
#define WEIGHT_ROW_BIAS(weight, tensor, width, is_optional)                                       \
    {                                                                                             \
        .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true, \
        .optional = is_optional                                                                   \
    }
// clang-format on

// Products of attention whose biases depend on the model, and its output.
#define WEIGHT_ROWS_QKV_BIASED                                                   \
    WEIGHT_ROWS_QKV, WEIGHT_ROW_BIAS(WEIGHT_Q_BIAS, "attn_q.bias", DIM_Q, true), \
        WEIGHT_ROW_BIAS(WEIGHT_K_BIAS, "attn_k.bias", DIM_K, true),              \
        WEIGHT_ROW_BIAS(WEIGHT_V_BIAS, "attn_v.bias", DIM_V, true)
#define WEIGHT_ROWS_OUTPUT_BIASED                                 \
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A), \
        WEIGHT_ROW_BIAS(WEIGHT_O_BIAS, "attn_output.bias", DIM_MODEL, true)

// The norm before attention and its three products, where none has a bias; the norm before a gated
// feed-forward and its three.
// clang-format off
#define WEIGHT_ROWS_QKV                                               \
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL), \
    WEIGHT_ROW(WEIGHT_Q, "attn_q.weight", DIM_Q,  DIM_MODEL),         \
    WEIGHT_ROW(WEIGHT_K, "attn_k.weight", DIM_K,  DIM_MODEL),         \
    WEIGHT_ROW(WEIGHT_V, "attn_v.weight", DIM_V,  DIM_MODEL)
#define WEIGHT_ROWS_GATED                                           \
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL), \
    WEIGHT_ROW(WEIGHT_GATE, "ffn_gate.weight", DIM_FF, DIM_MODEL),  \
    WEIGHT_ROW(WEIGHT_UP,   "ffn_up.weight",   DIM_FF, DIM_MODEL),  \
    WEIGHT_ROW(WEIGHT_DOWN, "ffn_down.weight", DIM_MODEL, DIM_FF)
// clang-format on

// A matrix that is the rows from `from` on of a tensor of `all` rows, and a bias that is a part of one.
// clang-format off
#define WEIGHT_ROW_FUSED(weight, tensor, n_rows, n_cols, all, from)                           \
    {                                                                                         \
        .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .fused = all, \
        .fused_from = from                                                                    \
    }
#define WEIGHT_ROW_BIAS_FUSED(weight, tensor, width, all, from)                                   \
    {                                                                                             \
        .id = weight, .name = "blk.%u." tensor, .rows = DIM_ONE, .cols = width, .is_float = true, \
        .fused = all, .fused_from = from                                                          \
    }
// clang-format on

// Q, K and V in one tensor, in this order.
// clang-format off
#define WEIGHT_ROWS_QKV_FUSED                                                               \
    WEIGHT_ROW_FUSED(WEIGHT_Q, "attn_qkv.weight", DIM_Q, DIM_MODEL, DIM_QKV, DIM_ONE),      \
    WEIGHT_ROW_FUSED(WEIGHT_K, "attn_qkv.weight", DIM_K, DIM_MODEL, DIM_QKV, DIM_Q),        \
    WEIGHT_ROW_FUSED(WEIGHT_V, "attn_qkv.weight", DIM_V, DIM_MODEL, DIM_QKV, DIM_QK)
#define WEIGHT_ROWS_QKV_BIAS_FUSED                                                          \
    WEIGHT_ROW_BIAS_FUSED(WEIGHT_Q_BIAS, "attn_qkv.bias", DIM_Q, DIM_QKV, DIM_ONE),         \
    WEIGHT_ROW_BIAS_FUSED(WEIGHT_K_BIAS, "attn_qkv.bias", DIM_K, DIM_QKV, DIM_Q),           \
    WEIGHT_ROW_BIAS_FUSED(WEIGHT_V_BIAS, "attn_qkv.bias", DIM_V, DIM_QKV, DIM_QK)
// clang-format on

// A layer norm before attention and before the feed-forward, and the last one, each with a bias.
// clang-format off
#define WEIGHT_ROWS_LAYER_NORMS                                                       \
    WEIGHT_VECTOR(WEIGHT_OUTPUT_NORM_BIAS, "output_norm.bias", DIM_MODEL),            \
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM,      "attn_norm.weight", DIM_MODEL),            \
    WEIGHT_ROW_BIAS(WEIGHT_ATTN_NORM_BIAS, "attn_norm.bias",   DIM_MODEL, false),     \
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,       "ffn_norm.weight",  DIM_MODEL),            \
    WEIGHT_ROW_BIAS(WEIGHT_FFN_NORM_BIAS,  "ffn_norm.bias",    DIM_MODEL, false)
// A feed-forward without a gate, with biases.
#define WEIGHT_ROWS_UNGATED_BIASED                                       \
    WEIGHT_ROW(WEIGHT_UP,             "ffn_up.weight",   DIM_FF,    DIM_MODEL), \
    WEIGHT_ROW_BIAS(WEIGHT_UP_BIAS,   "ffn_up.bias",     DIM_FF,    false),     \
    WEIGHT_ROW(WEIGHT_DOWN,           "ffn_down.weight", DIM_MODEL, DIM_FF),    \
    WEIGHT_ROW_BIAS(WEIGHT_DOWN_BIAS, "ffn_down.bias",   DIM_MODEL, false)
// clang-format on

// A matrix for each expert, and a bias for each.
// clang-format off
#define WEIGHT_ROW_EXPERTS(weight, tensor, n_rows, n_cols) \
    { .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .matrices = DIM_EXPERTS }
#define WEIGHT_ROW_EXPERTS_BIAS(weight, tensor, width) \
    { .id = weight, .name = "blk.%u." tensor, .rows = DIM_EXPERTS, .cols = width, .is_float = true }
// clang-format on

// The experts' three matrices; the router has rows of its own.
// clang-format off
#define WEIGHT_ROWS_EXPERTS                                                                   \
    WEIGHT_ROW_EXPERTS(WEIGHT_GATE, "ffn_gate_exps.weight", DIM_EXPERT_FF, DIM_MODEL),        \
    WEIGHT_ROW_EXPERTS(WEIGHT_UP,   "ffn_up_exps.weight",   DIM_EXPERT_FF, DIM_MODEL),        \
    WEIGHT_ROW_EXPERTS(WEIGHT_DOWN, "ffn_down_exps.weight", DIM_MODEL,     DIM_EXPERT_FF)
// clang-format on

// Of layers behind the leading dense ones: the router, the experts (gates and ups in one tensor in some
// files), and those that all rows use; of the leading ones (LAYERS_LEADING) a gated feed-forward.
// clang-format off
#define WEIGHT_OF_LAYERS(rule, weight, tensor, n_rows, n_cols, n_matrices)                         \
    { .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .matrices = n_matrices, .layers = rule }
#define WEIGHT_HALF_OF_EXPERTS(weight, from)                                                                          \
    { .id = weight, .name = "blk.%u.ffn_gate_up_exps.weight", .rows = DIM_EXPERT_FF, .cols = DIM_MODEL,                \
      .matrices = DIM_EXPERTS, .optional = true, .layers = LAYERS_AFTER_LEADING, .fused = DIM_EXPERT_FF2,              \
      .fused_from = from }
#define WEIGHT_EXPERTS_OR_ELSE(weight, tensor)                                                                        \
    { .id = weight, .name = "blk.%u." tensor, .rows = DIM_EXPERT_FF, .cols = DIM_MODEL, .matrices = DIM_EXPERTS,       \
      .layers = LAYERS_AFTER_LEADING, .or_else = weight }
#define WEIGHT_ROWS_ROUTED                                                                                            \
    WEIGHT_OF_LAYERS(LAYERS_AFTER_LEADING, WEIGHT_ROUTER, "ffn_gate_inp.weight",  DIM_EXPERTS, DIM_MODEL, DIM_ONE),    \
    WEIGHT_HALF_OF_EXPERTS(WEIGHT_GATE, DIM_ONE),                                                                     \
    WEIGHT_HALF_OF_EXPERTS(WEIGHT_UP, DIM_EXPERT_FF),                                                                 \
    WEIGHT_EXPERTS_OR_ELSE(WEIGHT_GATE, "ffn_gate_exps.weight"),                                                      \
    WEIGHT_EXPERTS_OR_ELSE(WEIGHT_UP,   "ffn_up_exps.weight"),                                                        \
    WEIGHT_OF_LAYERS(LAYERS_AFTER_LEADING, WEIGHT_DOWN, "ffn_down_exps.weight", DIM_MODEL, DIM_EXPERT_FF, DIM_EXPERTS)
#define WEIGHT_ROWS_SHARED                                                                                   \
    WEIGHT_OF_LAYERS(LAYERS_SHARED, WEIGHT_SHARED_GATE, "ffn_gate_shexp.weight", DIM_FF, DIM_MODEL, DIM_ONE), \
    WEIGHT_OF_LAYERS(LAYERS_SHARED, WEIGHT_SHARED_UP,   "ffn_up_shexp.weight",   DIM_FF, DIM_MODEL, DIM_ONE), \
    WEIGHT_OF_LAYERS(LAYERS_SHARED, WEIGHT_SHARED_DOWN, "ffn_down_shexp.weight", DIM_MODEL, DIM_FF, DIM_ONE)
#define WEIGHT_ROWS_LEADING                                                                          \
    WEIGHT_OF_LAYERS(LAYERS_LEADING, WEIGHT_GATE, "ffn_gate.weight", DIM_FF, DIM_MODEL, DIM_ONE),     \
    WEIGHT_OF_LAYERS(LAYERS_LEADING, WEIGHT_UP,   "ffn_up.weight",   DIM_FF, DIM_MODEL, DIM_ONE),     \
    WEIGHT_OF_LAYERS(LAYERS_LEADING, WEIGHT_DOWN, "ffn_down.weight", DIM_MODEL, DIM_FF, DIM_ONE)
// What experts are chosen by beside their scores.
#define WEIGHT_ROW_ROUTE_BIAS                                                                             \
    { .id = WEIGHT_ROUTE_BIAS, .name = "blk.%u.exp_probs_b.bias", .rows = DIM_ONE, .cols = DIM_EXPERTS,    \
      .is_float = true, .optional = true, .layers = LAYERS_AFTER_LEADING }
// clang-format on

// Leading dense layers, layers with shared experts, and layers without.
extern const LayerKind arch_expert_kinds[3];

// Operations (arch/blocks.c): the token's embedding; attention with the norms before and after it; a gated
// feed-forward; one without a gate; one of experts; the last norm and the head.
extern const OpRow arch_embed_ops[1];
extern const OpRow arch_attention_ops[15];
extern const OpRow arch_bare_attention_ops[15]; // without a norm before it
extern const OpRow arch_gated_ops[7];
extern const OpRow arch_bare_gated_ops[7]; // without a norm before it
extern const OpRow arch_ungated_ops[5];
extern const OpRow arch_expert_ops[9];
extern const OpRow arch_shared_expert_ops[16]; // LAYERS_SHARED
extern const OpRow arch_norm_head_ops[2];

// Of models with layer norms: the same, and feed-forwards that have attention's input (LAYERS_PARALLEL).
extern const OpRow arch_ln_attention_ops[10];
// The rows of arch_ln_attention_ops before the output, which parallel feed-forwards have.
enum { ARCH_LN_HEADS_OPS = 8 };
extern const OpRow arch_ln_gated_ops[6];
extern const OpRow arch_ln_ungated_ops[5];
extern const OpRow arch_parallel_gated_ops[8];
extern const OpRow arch_parallel_ungated_ops[7];
extern const OpRow arch_ln_head_ops[2];

// The members of an Arch that name the file's own tables, and those that name the shared operations.
#define ARCH_TABLES \
    .config = config, .n_config = COUNT_OF(config), .weights = weights, .n_weights = COUNT_OF(weights)
// clang-format off
#define OP_RUN(rows) \
    { rows, COUNT_OF(rows) }
// clang-format on
#define ARCH_EXPERT_OPS                                                                              \
    .first = OP_RUN(arch_embed_ops), .last = OP_RUN(arch_norm_head_ops), .kinds = arch_expert_kinds, \
    .n_kinds = COUNT_OF(arch_expert_kinds)
#define ARCH_OPS(feed_forward_ops)                                                                    \
    .first = OP_RUN(arch_embed_ops), .last = OP_RUN(arch_norm_head_ops),                              \
    .kinds = (const LayerKind[]){{LAYERS_ALL, OP_RUN(arch_attention_ops), OP_RUN(feed_forward_ops)}}, \
    .n_kinds = 1
// The same for a file with a table of kinds of its own.
#define ARCH_KINDS                                                               \
    .first = OP_RUN(arch_embed_ops), .kinds = kinds, .n_kinds = COUNT_OF(kinds), \
    .last = OP_RUN(arch_norm_head_ops)
