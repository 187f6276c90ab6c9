// Rows that architectures with recurrent layers share, to be named in their tables.
#pragma once

#include "arch/tables.h"

// Sizes of a layer with heads that keep states: a delta net, Mamba-2.
#define CONFIG_ROWS_SSM                                                                               \
    CONFIG_TAPS_ROW("%s.ssm.conv_kernel"), CONFIG_U32_ROW("%s.ssm.inner_size", state_inner, true, 0), \
        CONFIG_U32_ROW("%s.ssm.time_step_rank", state_heads, true, 0),                                \
        CONFIG_U32_ROW("%s.ssm.group_count", state_groups, true, 0),                                  \
        CONFIG_U32_ROW("%s.ssm.state_size", state_dim, true, 0)

// All of every N layers but the last have a state, or those that an array names.
#define CONFIG_ROWS_INTERVAL                                                       \
    CONFIG_ROW("%s.full_attention_interval", CONFIG_MIXERS, mixer, .fallback = 4), \
        CONFIG_ROW("%s.attention.recurrent_layers", CONFIG_MIXERS, mixer, .or_keep = true)

// Sections of a rotary embedding take a position each; those of a text's token are one.
// clang-format off
#define CONFIG_ROWS_ROPE_SECTIONS                                         \
    {.key = "%s.rope.dimension_sections", .type = CONFIG_UNREAD},         \
    {.key = "%s.rope.mrope_section",      .type = CONFIG_UNREAD},         \
    {.key = "%s.rope.mrope_interleaved",  .type = CONFIG_UNREAD}
// clang-format on

// Whether heads of values that share a key are n_key_heads apart, where the file says it.
#define CONFIG_ROW_TILED(is_tiled) \
    CONFIG_ROW("%s.ssm.v_head_reordered", CONFIG_BOOL, state_tiled, .fallback = is_tiled)

// Qwen's mixtures with a shared expert: the chosen experts' shares sum to 1.
#define CONFIG_ROWS_QWEN_EXPERTS                              \
    CONFIG_ROWS_EXPERTS, CONFIG_ROWS_ROUTE(SCORES_OF_ALL, 1), \
        CONFIG_ROW("%s.norm_top_k_prob", CONFIG_BOOL, route.normed, .or_keep = true)

// Layers without heads of keys and values have a state. (Behind CONFIG_ROWS_TRANSFORMER.)
#define CONFIG_ROWS_HEADS_SAY_MIXER \
    CONFIG_LAYERS_ROW("%s.attention.head_count_kv", n_kv_heads, true), CONFIG_U32_VALUE(heads_say_mixer, 1)

// A matrix, a vector and a small matrix of floats of the layers that a rule is about.
// clang-format off
#define WEIGHT_ROW_OF(rule, weight, tensor, n_rows, n_cols) \
    { .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .layers = rule }
#define WEIGHT_FLOATS_OF(rule, weight, tensor, n_rows, n_cols)                                \
    {                                                                                         \
        .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .is_float = true, \
        .layers = rule                                                                        \
    }
#define WEIGHT_FLOATS_OR_NONE(rule, weight, tensor, n_rows, n_cols)                           \
    {                                                                                         \
        .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .is_float = true, \
        .layers = rule, .optional = true                                                      \
    }
// The rows from `from` on of a tensor of `all` rows; the first `together` of every `apart` of them.
#define WEIGHT_FUSED_OF(rule, weight, tensor, n_rows, n_cols, all, from)                      \
    {                                                                                         \
        .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .layers = rule, \
        .fused = all, .fused_from = from                                                      \
    }
#define WEIGHT_STRIPS_OF(rule, weight, tensor, n_rows, n_cols, all, from, together, apart)    \
    {                                                                                         \
        .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .layers = rule, \
        .fused = all, .fused_from = from, .strip = together, .strip_step = apart              \
    }

// Attention of layers that have it: three products, and norms on the heads of queries and keys.
#define WEIGHT_ROWS_ATTENTION_OF(rule)                                             \
    WEIGHT_ROW_OF(rule, WEIGHT_Q, "attn_q.weight", DIM_Q, DIM_MODEL),              \
    WEIGHT_ROW_OF(rule, WEIGHT_K, "attn_k.weight", DIM_K, DIM_MODEL),              \
    WEIGHT_ROW_OF(rule, WEIGHT_V, "attn_v.weight", DIM_V, DIM_MODEL),              \
    WEIGHT_ROW_OF(rule, WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A)
#define WEIGHT_ROWS_HEAD_NORMS_OF(rule)                                            \
    WEIGHT_FLOATS_OF(rule, WEIGHT_Q_NORM, "attn_q_norm.weight", DIM_ONE, DIM_HEAD), \
    WEIGHT_FLOATS_OF(rule, WEIGHT_K_NORM, "attn_k_norm.weight", DIM_ONE, DIM_HEAD)

// Qwen's attention with a gate: queries and gates of the heads take turns in one tensor.
#define WEIGHT_ROWS_GATED_ATTENTION                                                                   \
    WEIGHT_STRIPS_OF(LAYERS_ATTENTION, WEIGHT_Q, "attn_q.weight", DIM_Q, DIM_MODEL,                   \
                     DIM_Q2, DIM_ONE, DIM_HEAD, DIM_HEAD2),                                           \
    WEIGHT_STRIPS_OF(LAYERS_ATTENTION, WEIGHT_Q_GATE, "attn_q.weight", DIM_Q, DIM_MODEL,              \
                     DIM_Q2, DIM_HEAD, DIM_HEAD, DIM_HEAD2),                                          \
    WEIGHT_ROW_OF(LAYERS_ATTENTION, WEIGHT_K, "attn_k.weight", DIM_K, DIM_MODEL),                     \
    WEIGHT_ROW_OF(LAYERS_ATTENTION, WEIGHT_V, "attn_v.weight", DIM_V, DIM_MODEL),                     \
    WEIGHT_ROW_OF(LAYERS_ATTENTION, WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),                \
    WEIGHT_ROWS_HEAD_NORMS_OF(LAYERS_ATTENTION)

// Qwen's delta net: queries, keys and values, and the gate; and all but these, beta and dt.
#define WEIGHT_ROWS_DELTA_IN                                                                          \
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_IN, "attn_qkv.weight", DIM_CONV, DIM_MODEL),             \
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_GATE, "attn_gate.weight", DIM_INNER, DIM_MODEL)
#define WEIGHT_ROWS_DELTA                                                                             \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_CONV, "ssm_conv1d.weight", DIM_CONV, DIM_TAPS),             \
    WEIGHT_FLOATS_OR_NONE(LAYERS_STATE, WEIGHT_STATE_DT_BIAS, "ssm_dt", DIM_ONE, DIM_STATE_HEADS),    \
    {.id = WEIGHT_STATE_DT_BIAS, .name = "blk.%u.ssm_dt.bias", .rows = DIM_ONE, .cols = DIM_STATE_HEADS, \
     .is_float = true, .layers = LAYERS_STATE, .or_else = WEIGHT_STATE_DT_BIAS},                      \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_STATE_DECAY, "ssm_a", DIM_ONE, DIM_STATE_HEADS),            \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_STATE_NORM, "ssm_norm.weight", DIM_ONE, DIM_STATE_HEAD),    \
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_OUT, "ssm_out.weight", DIM_MODEL, DIM_INNER)

// Mamba-2: one tensor has the rows of the gate, of what is convolved, and of dt.
#define WEIGHT_ROWS_MAMBA                                                                             \
    WEIGHT_FUSED_OF(LAYERS_STATE, WEIGHT_STATE_GATE, "ssm_in.weight", DIM_INNER, DIM_MODEL,           \
                    DIM_SSM_IN, DIM_ONE),                                                             \
    WEIGHT_FUSED_OF(LAYERS_STATE, WEIGHT_STATE_IN, "ssm_in.weight", DIM_CONV, DIM_MODEL,              \
                    DIM_SSM_IN, DIM_INNER),                                                           \
    WEIGHT_FUSED_OF(LAYERS_STATE, WEIGHT_STATE_DT, "ssm_in.weight", DIM_STATE_HEADS, DIM_MODEL,       \
                    DIM_SSM_IN, DIM_INNER_CONV),                                                      \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_CONV, "ssm_conv1d.weight", DIM_CONV, DIM_TAPS),             \
    WEIGHT_FLOATS_OR_NONE(LAYERS_STATE, WEIGHT_CONV_BIAS, "ssm_conv1d.bias", DIM_ONE, DIM_CONV),      \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_STATE_DT_BIAS, "ssm_dt.bias", DIM_ONE, DIM_STATE_HEADS),    \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_STATE_DECAY, "ssm_a", DIM_STATE_HEADS, DIM_ONE),            \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_STATE_SKIP, "ssm_d", DIM_STATE_HEADS, DIM_ONE),             \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_STATE_NORM, "ssm_norm.weight", DIM_STATE_GROUPS, DIM_STATE_GROUP), \
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_OUT, "ssm_out.weight", DIM_MODEL, DIM_INNER)

// LFM2's last norm has the name of one on embeddings in most files.
#define WEIGHT_ROWS_LFM2_ENDS                                                                          \
    {.id = WEIGHT_EMBED, .name = "token_embd.weight", .rows = DIM_VOCAB, .cols = DIM_MODEL},           \
    {.id = WEIGHT_OUTPUT_NORM, .name = "output_norm.weight", .rows = DIM_ONE, .cols = DIM_MODEL,       \
     .is_float = true, .optional = true},                                                              \
    {.id = WEIGHT_OUTPUT_NORM, .name = "token_embd_norm.weight", .rows = DIM_ONE, .cols = DIM_MODEL,   \
     .is_float = true, .or_else = WEIGHT_OUTPUT_NORM},                                                 \
    {.id = WEIGHT_HEAD, .name = "output.weight", .rows = DIM_VOCAB, .cols = DIM_MODEL, .optional = true, \
     .or_else = WEIGHT_EMBED}

// LFM2's short convolution: b, c and x in one tensor; x times b is convolved, and the result is times c.
#define WEIGHT_ROWS_SHORTCONV                                                                         \
    WEIGHT_FUSED_OF(LAYERS_STATE, WEIGHT_STATE_BETA, "shortconv.in_proj.weight", DIM_INNER, DIM_MODEL, \
                    DIM_INNER3, DIM_ONE),                                                             \
    WEIGHT_FUSED_OF(LAYERS_STATE, WEIGHT_STATE_GATE, "shortconv.in_proj.weight", DIM_INNER, DIM_MODEL, \
                    DIM_INNER3, DIM_INNER),                                                           \
    WEIGHT_FUSED_OF(LAYERS_STATE, WEIGHT_STATE_IN, "shortconv.in_proj.weight", DIM_INNER, DIM_MODEL,  \
                    DIM_INNER3, DIM_INNER2),                                                          \
    WEIGHT_FLOATS_OF(LAYERS_STATE, WEIGHT_CONV, "shortconv.conv.weight", DIM_CONV, DIM_TAPS),         \
    WEIGHT_ROW_OF(LAYERS_STATE, WEIGHT_STATE_OUT, "shortconv.out_proj.weight", DIM_MODEL, DIM_INNER)
// clang-format on

// A mixture whose experts are Qwen's, with one that all rows use and that has a share of its own.
// clang-format off
#define WEIGHT_ROWS_QWEN_EXPERTS                                                   \
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "post_attention_norm.weight", DIM_MODEL),     \
    WEIGHT_ROWS_LEADING,                                                           \
    WEIGHT_ROWS_ROUTED,                                                            \
    WEIGHT_ROWS_SHARED,                                                            \
    WEIGHT_FLOATS_OF(LAYERS_SHARED, WEIGHT_SHARE, "ffn_gate_inp_shexp.weight", DIM_ONE, DIM_MODEL)

// Layers with a state or attention, each with a dense feed-forward, with experts, or with experts of which
// all rows use some.
#define LAYER_KINDS_OF_EXPERTS(state_ops, attention_ops)                                        \
    {LAYERS_STATE_LEADING, OP_RUN(state_ops),     OP_RUN(arch_gated_ops)},                      \
    {LAYERS_STATE_SHARED,  OP_RUN(state_ops),     OP_RUN(arch_shared_expert_ops)},              \
    {LAYERS_STATE,         OP_RUN(state_ops),     OP_RUN(arch_expert_ops)},                     \
    {LAYERS_LEADING,       OP_RUN(attention_ops), OP_RUN(arch_gated_ops)},                      \
    {LAYERS_SHARED,        OP_RUN(attention_ops), OP_RUN(arch_shared_expert_ops)},              \
    {LAYERS_ALL,           OP_RUN(attention_ops), OP_RUN(arch_expert_ops)}
// clang-format on

// Operations (arch/state_blocks.c): attention whose output is gated; a gated delta net, Mamba-2 and a short
// convolution, each with the norm before it.
extern const OpRow arch_gated_attention_ops[14];
extern const OpRow arch_delta_ops[11];
extern const OpRow arch_mamba_ops[10];
extern const OpRow arch_shortconv_ops[9];
