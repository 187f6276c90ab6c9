// Llama 4 (Meta 2025), text: Llama with experts that a sigmoid chooses and whose inputs are weighted, beside
// one that all rows use; in the larger model every other layer is dense. Three of four layers see the
// positions of a row's chunk, and norm heads of queries and keys behind the turn; each fourth sees all,
// without a rotary embedding, with scores that grow with the position. Files have the rows of Q and K in the
// order of the published weights, which turn neighbouring pairs.
#include "arch/tables.h"

// The larger model, which norms no heads; files do not say that.
enum { MAVERICK_EXPERTS = 128 };

// clang-format off
static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_SIGMOID, 0),
    CONFIG_U32_VALUE(n_shared, 1),
    CONFIG_U32_ROW("%s.interleave_moe_layer_step", expert_period, true, 0),
    CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(false, 8192, 4), // 0: all layers see all, and all turn
    CONFIG_U32_VALUE(is_chunked, 1),
    CONFIG_ROW(NULL, CONFIG_U32, no_rope, .fallback = 1, .layers = LAYERS_FULL_BESIDE),
    CONFIG_U32_VALUE(norm_turned, 1),
    CONFIG_ROW(NULL, CONFIG_U32, norm_turned, .fallback = 0, .only_n_experts = MAVERICK_EXPERTS),
    CONFIG_ROW("%s.attention.temperature_scale", CONFIG_F32, temperature_scale, .fallback = 0.1,
               .layers = LAYERS_FULL_BESIDE),
    CONFIG_U32_ROW("%s.attention.temperature_length", temperature_length, false, 8192),
    CONFIG_U32_VALUE(temperature_offset, 1),
    CONFIG_ROW_RMS_EPS,
};

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW(WEIGHT_O, "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_LEADING,
    WEIGHT_ROWS_ROUTED,
    WEIGHT_ROWS_SHARED,
};

#define BEFORE_TURN \
    {OP_RMS_NORM,  .out = ACT_H, .in = {ACT_X}, .weight = WEIGHT_ATTN_NORM}, \
    {OP_MATMUL,    .out = ACT_Q, .in = {ACT_H}, .weight = WEIGHT_Q}, \
    {OP_MATMUL,    .out = ACT_K, .in = {ACT_H}, .weight = WEIGHT_K}, \
    {OP_MATMUL,    .out = ACT_V, .in = {ACT_H}, .weight = WEIGHT_V}, \
    {OP_ROPE,      .out = ACT_Q, .in = {ACT_Q}}, \
    {OP_ROPE,      .out = ACT_K, .in = {ACT_K}}
#define BEHIND_TURN \
    {OP_KV_WRITE,  .out = ACT_NONE, .in = {ACT_K, ACT_V}}, \
    {OP_ATTENTION, .out = ACT_A, .in = {ACT_Q}}, \
    {OP_MATMUL,    .out = ACT_T, .in = {ACT_A}, .weight = WEIGHT_O}, \
    {OP_ADD,       .out = ACT_X, .in = {ACT_X, ACT_T}}

static const OpRow attention_ops[] = {BEFORE_TURN, BEHIND_TURN};
static const OpRow normed_attention_ops[] = {
    BEFORE_TURN,
    {OP_RMS_NORM,  .out = ACT_Q, .in = {ACT_Q}, .group = DIM_HEAD},
    {OP_RMS_NORM,  .out = ACT_K, .in = {ACT_K}, .group = DIM_HEAD},
    BEHIND_TURN,
};

// Both matrices of a chosen expert take its weight times the input: the gate is weighed here, and the other
// one where the experts are summed.
static const OpRow expert_ops[] = {
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,        .out = ACT_G,  .in = {ACT_H},         .weight = WEIGHT_SHARED_GATE},
    {OP_MATMUL,        .out = ACT_U,  .in = {ACT_H},         .weight = WEIGHT_SHARED_UP},
    {OP_GLU,           .out = ACT_F,  .in = {ACT_G, ACT_U}},
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_FFN_NORM},
    {OP_MATMUL,        .out = ACT_L,  .in = {ACT_H},         .weight = WEIGHT_ROUTER},
    {OP_ROUTE,         .out = ACT_R,  .in = {ACT_L}},
    {OP_EXPERT_MATMUL, .out = ACT_EG, .in = {ACT_H, ACT_R},  .weight = WEIGHT_GATE},
    {OP_EXPERT_MATMUL, .out = ACT_EU, .in = {ACT_H, ACT_R},  .weight = WEIGHT_UP},
    {OP_EXPERT_WEIGH,  .out = ACT_EG, .in = {ACT_EG, ACT_R}},
    {OP_GLU,           .out = ACT_EF, .in = {ACT_EG, ACT_EU}},
    {OP_EXPERT_MATMUL, .out = ACT_EO, .in = {ACT_EF, ACT_R}, .weight = WEIGHT_DOWN},
    {OP_EXPERT_SUM,    .out = ACT_T,  .in = {ACT_EO, ACT_R}},
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}},
    {OP_MATMUL,        .out = ACT_T,  .in = {ACT_F},         .weight = WEIGHT_SHARED_DOWN},
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}},
};

static const LayerKind kinds[] = {
    {LAYERS_NORM_TURNED_LEADING, OP_RUN(normed_attention_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_NORM_TURNED,         OP_RUN(normed_attention_ops), OP_RUN(expert_ops)},
    {LAYERS_LEADING,             OP_RUN(attention_ops),        OP_RUN(arch_gated_ops)},
    {LAYERS_ALL,                 OP_RUN(attention_ops),        OP_RUN(expert_ops)},
};
// clang-format on

const Arch arch_llama4 = {
    .name = "llama4",
    .description = "Llama 4 Scout, Maverick, text",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
