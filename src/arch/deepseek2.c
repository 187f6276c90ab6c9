// DeepSeek-V2 and V3 (DeepSeek-AI 2024), and models built like them, GLM-4.7-Flash among others: attention
// with a compressed cache ("MLA"), leading dense layers, then experts, of which some are shared.
//
// A token's latent vector, normed, and a turned part beside it are all that the cache keeps. Each head's keys
// and values are products of the latent vector. They are never made: the products move to the queries and to
// what attention gives (DeepSeek-AI 2024, section 2.1.2), so that all heads share one key, whose start is
// the value.
#include "arch/tables.h"

// Published files of GLM-4.7-Flash do not all say how experts are scored; it is the only model of 47 layers.
enum { GLM_4_7_FLASH_LAYERS = 47 };

// clang-format off
static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_EXPERTS, CONFIG_ROWS_ROUTE(SCORES_OF_ALL, 0), CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
    CONFIG_ROW("%s.expert_gating_func", CONFIG_U32, route.scores, .fallback = SCORES_SIGMOID,
               .only_n_layers = GLM_4_7_FLASH_LAYERS),
    CONFIG_U32_VALUE(is_mla, 1),
    CONFIG_U32_ROW("%s.rope.dimension_count", rope.dims, true, 0),
    CONFIG_U32_ROW("%s.attention.kv_lora_rank", kv_rank, true, 0),
    CONFIG_U32_ROW("%s.attention.q_lora_rank", q_rank, false, 0),
    CONFIG_U32_ROW("%s.attention.key_length_mla", mla_key_dim, false, 0),
    CONFIG_U32_ROW("%s.attention.value_length_mla", mla_value_dim, false, 0),
    CONFIG_F32_ROW("%s.rope.scaling.yarn_log_multiplier", rope.yarn_score_growth, false, 0),
};

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_OF_LAYERS(LAYERS_NO_Q_RANK, WEIGHT_Q, "attn_q.weight",   DIM_MLA_Q,  DIM_MODEL,  DIM_ONE),
    WEIGHT_OF_LAYERS(LAYERS_Q_RANK, WEIGHT_Q_A,  "attn_q_a.weight", DIM_Q_RANK, DIM_MODEL,  DIM_ONE),
    WEIGHT_OF_LAYERS(LAYERS_Q_RANK, WEIGHT_Q_B,  "attn_q_b.weight", DIM_MLA_Q,  DIM_Q_RANK, DIM_ONE),
    { .id = WEIGHT_Q_A_NORM, .name = "blk.%u.attn_q_a_norm.weight", .rows = DIM_ONE, .cols = DIM_Q_RANK,
      .is_float = true, .layers = LAYERS_Q_RANK },
    WEIGHT_ROW(WEIGHT_KV_A, "attn_kv_a_mqa.weight", DIM_K, DIM_MODEL),
    WEIGHT_ROW_NORM(WEIGHT_KV_A_NORM, "attn_kv_a_norm.weight", DIM_KV_RANK),
    // Older files have each head's rows of keys and those of its values one behind the other.
    { .id = WEIGHT_K_B, .name = "blk.%u.attn_kv_b.weight", .rows = DIM_UNTURNED, .cols = DIM_KV_RANK,
      .matrices = DIM_HEADS, .fused = DIM_MLA_KVS, .strip = DIM_UNTURNED, .strip_step = DIM_MLA_KV,
      .is_turned = true, .optional = true },
    { .id = WEIGHT_V_B, .name = "blk.%u.attn_kv_b.weight", .rows = DIM_MLA_V, .cols = DIM_KV_RANK,
      .matrices = DIM_HEADS, .fused = DIM_MLA_KVS, .fused_from = DIM_UNTURNED, .strip = DIM_MLA_V,
      .strip_step = DIM_MLA_KV, .optional = true },
    { .id = WEIGHT_K_B, .name = "blk.%u.attn_k_b.weight", .rows = DIM_KV_RANK, .cols = DIM_UNTURNED,
      .matrices = DIM_HEADS, .or_else = WEIGHT_K_B },
    { .id = WEIGHT_V_B, .name = "blk.%u.attn_v_b.weight", .rows = DIM_MLA_V, .cols = DIM_KV_RANK,
      .matrices = DIM_HEADS, .or_else = WEIGHT_V_B },
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_MLA_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROW_ROUTE_BIAS,
    WEIGHT_ROWS_SHARED,
};

static const OpRow attention[] = {
    {OP_RMS_NORM,    .out = ACT_H,    .in = {ACT_X},        .weight = WEIGHT_ATTN_NORM},
    {OP_MATMUL,      .out = ACT_QA,   .in = {ACT_H},        .weight = WEIGHT_Q_A},
    {OP_RMS_NORM,    .out = ACT_QA,   .in = {ACT_QA},       .weight = WEIGHT_Q_A_NORM},
    {OP_MATMUL,      .out = ACT_QB,   .in = {ACT_QA},       .weight = WEIGHT_Q_B},
    {OP_MATMUL,      .out = ACT_QB,   .in = {ACT_H},        .weight = WEIGHT_Q},
    {OP_MATMUL,      .out = ACT_K,    .in = {ACT_H},        .weight = WEIGHT_KV_A},
    {OP_RMS_NORM,    .out = ACT_K,    .in = {ACT_K},        .weight = WEIGHT_KV_A_NORM},
    {OP_ROPE,        .out = ACT_QB,   .in = {ACT_QB}},
    {OP_ROPE,        .out = ACT_K,    .in = {ACT_K}},
    {OP_HEAD_MATMUL, .out = ACT_Q,    .in = {ACT_QB},       .weight = WEIGHT_K_B},
    {OP_KV_WRITE,    .out = ACT_NONE, .in = {ACT_K, ACT_K}},
    {OP_ATTENTION,   .out = ACT_A,    .in = {ACT_Q}},
    {OP_HEAD_MATMUL, .out = ACT_AB,   .in = {ACT_A},        .weight = WEIGHT_V_B},
    {OP_MATMUL,      .out = ACT_T,    .in = {ACT_AB},       .weight = WEIGHT_O},
    {OP_ADD,         .out = ACT_X,    .in = {ACT_X, ACT_T}},
};

static const LayerKind kinds[] = {
    {LAYERS_LEADING, OP_RUN(attention), OP_RUN(arch_gated_ops)},
    {LAYERS_SHARED,  OP_RUN(attention), OP_RUN(arch_shared_expert_ops)},
    {LAYERS_ALL,     OP_RUN(attention), OP_RUN(arch_expert_ops)},
};
// clang-format on

const Arch arch_deepseek2 = {
    .name = "deepseek2",
    .description = "DeepSeek-V2, V2-Lite, V3 and R1, GLM-4.7-Flash, Kimi K2",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
