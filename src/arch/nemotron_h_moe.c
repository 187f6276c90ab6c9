// Nemotron-H's mixtures of experts (NVIDIA 2025, Nemotron 3): the layers of nemotron_h.c, whose feed-forwards
// are experts without a gate, chosen by a sigmoid with a bias, beside one that all rows use. In the larger
// models experts work on fewer values (`moe_latent_size`), with a product before them and one behind them.
#include "arch/state_tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_HEADS_SAY_MIXER,
    CONFIG_U32_VALUE(single_blocks, 1),
    CONFIG_ROWS_SSM,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROUTE(SCORES_SIGMOID, 1),
    // vLLM multiplies moe_shared_expert_intermediate_size, which llama.cpp's conversion writes, by
    // n_shared_experts; transformers does not.
    CONFIG_U32_VALUE(shared_width, SHARED_WIDTH_UNCLEAR),
    CONFIG_U32_ROW("%s.moe_latent_size", d_latent, false, 0),
    CONFIG_ROWS_ROPE,                    // files have such keys…
    CONFIG_U32_VALUE(rope_finetuned, 0), // …and no layer turns anything
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
#define EXPERTS_OF(weight, tensor, n_rows, n_cols) \
    WEIGHT_OF_LAYERS(LAYERS_NO_MIXER, weight, tensor, n_rows, n_cols, DIM_EXPERTS)

static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight", DIM_MODEL),
    WEIGHT_ROWS_ATTENTION_OF(LAYERS_ATTENTION),
    WEIGHT_ROWS_MAMBA,
    WEIGHT_ROW_OF(LAYERS_NO_MIXER, WEIGHT_SHARED_UP, "ffn_up_shexp.weight", DIM_FF, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_NO_MIXER, WEIGHT_SHARED_DOWN, "ffn_down_shexp.weight", DIM_MODEL, DIM_FF),
    WEIGHT_ROW_OF(LAYERS_NO_MIXER, WEIGHT_ROUTER, "ffn_gate_inp.weight", DIM_EXPERTS, DIM_MODEL),
    WEIGHT_FLOATS_OR_NONE(LAYERS_NO_MIXER, WEIGHT_ROUTE_BIAS, "exp_probs_b.bias", DIM_ONE, DIM_EXPERTS),
    WEIGHT_ROW_OF(LAYERS_LATENT, WEIGHT_LATENT_IN, "ffn_latent_down.weight", DIM_EXPERT_IN, DIM_MODEL),
    WEIGHT_ROW_OF(LAYERS_LATENT, WEIGHT_LATENT_OUT, "ffn_latent_up.weight", DIM_MODEL, DIM_EXPERT_IN),
    EXPERTS_OF(WEIGHT_UP, "ffn_up_exps.weight", DIM_EXPERT_FF, DIM_EXPERT_IN),
    EXPERTS_OF(WEIGHT_DOWN, "ffn_down_exps.weight", DIM_EXPERT_IN, DIM_EXPERT_FF),
};

#define BEFORE_EXPERTS \
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_ATTN_NORM}, \
    {OP_MATMUL,        .out = ACT_U,  .in = {ACT_H},         .weight = WEIGHT_SHARED_UP}, \
    {OP_ACTIVATION,    .out = ACT_F,  .in = {ACT_U}}, \
    {OP_RMS_NORM,      .out = ACT_H,  .in = {ACT_X},         .weight = WEIGHT_ATTN_NORM}, \
    {OP_MATMUL,        .out = ACT_L,  .in = {ACT_H},         .weight = WEIGHT_ROUTER}, \
    {OP_ROUTE,         .out = ACT_R,  .in = {ACT_L},         .weight = WEIGHT_ROUTE_BIAS, .weight_optional = true}
// From the buffer `from`, and their sum to `to`.
#define EXPERTS(from, to) \
    {OP_EXPERT_MATMUL, .out = ACT_EU, .in = {from, ACT_R},   .weight = WEIGHT_UP}, \
    {OP_ACTIVATION,    .out = ACT_EF, .in = {ACT_EU}}, \
    {OP_EXPERT_MATMUL, .out = ACT_EO, .in = {ACT_EF, ACT_R}, .weight = WEIGHT_DOWN}, \
    {OP_EXPERT_SUM,    .out = to,     .in = {ACT_EO, ACT_R}}
#define BEHIND_EXPERTS \
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}}, \
    {OP_MATMUL,        .out = ACT_T,  .in = {ACT_F},         .weight = WEIGHT_SHARED_DOWN}, \
    {OP_ADD,           .out = ACT_X,  .in = {ACT_X, ACT_T}}

static const OpRow expert_ops[] = {BEFORE_EXPERTS, EXPERTS(ACT_H, ACT_T), BEHIND_EXPERTS};
static const OpRow latent_ops[] = {
    BEFORE_EXPERTS,
    {OP_MATMUL,        .out = ACT_EI, .in = {ACT_H},         .weight = WEIGHT_LATENT_IN},
    EXPERTS(ACT_EI, ACT_ES),
    {OP_MATMUL,        .out = ACT_T,  .in = {ACT_ES},        .weight = WEIGHT_LATENT_OUT},
    BEHIND_EXPERTS,
};
// clang-format on

static const LayerKind kinds[] = {
    {LAYERS_STATE, .attention = OP_RUN(arch_mamba_ops)},
    {LAYERS_ATTENTION, .attention = OP_RUN(arch_attention_ops)},
    {LAYERS_LATENT, .feed_forward = OP_RUN(latent_ops)},
    {LAYERS_ALL, .feed_forward = OP_RUN(expert_ops)},
};

const Arch arch_nemotron_h_moe = {
    .name = "nemotron_h_moe",
    .description = "Nemotron 3: Nemotron-H with experts",
    ARCH_TABLES,
    ARCH_KINDS,
    .rope_pairs = ROPE_HALVES,
    .activation = FN_RELU_SQUARED,
};
