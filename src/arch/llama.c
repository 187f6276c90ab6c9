// Llama (Touvron et al. 2023) and the many models that share its shape: Llama 2 and 3, Mistral, SmolLM.
// Pre-norm blocks, grouped-query attention, SwiGLU. Its GGUF files store the rows of Q and K so that RoPE
// turns neighbouring pairs. Mixtral (Jiang et al. 2024) goes by the same name, with experts.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER, CONFIG_ROWS_ROPE,   CONFIG_ROWS_WINDOW(false, 0, 0),
    CONFIG_ROWS_OF_WINDOW,   CONFIG_ROW_RMS_EPS,
};

static const ConfigRow config_of_experts[] = {
    CONFIG_ROWS_TRANSFORMER,         CONFIG_ROWS_EXPERTS,   CONFIG_ROWS_ROPE,
    CONFIG_ROWS_WINDOW(false, 0, 0), CONFIG_ROWS_OF_WINDOW, CONFIG_ROW_RMS_EPS,
};

// clang-format off
#define WEIGHT_ROWS_ATTENTION                                                       \
    WEIGHT_ROWS_ENDS,                                                               \
    WEIGHT_ROPE_VECTOR(WEIGHT_ROPE_FACTORS, "rope_freqs.weight"),                   \
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM, "attn_norm.weight",   DIM_MODEL),             \
    WEIGHT_ROW(WEIGHT_Q,              "attn_q.weight",      DIM_Q,     DIM_MODEL),  \
    WEIGHT_ROW_BIAS(WEIGHT_Q_BIAS,    "attn_q.bias",        DIM_Q,     true),       \
    WEIGHT_ROW(WEIGHT_K,              "attn_k.weight",      DIM_K,     DIM_MODEL),  \
    WEIGHT_ROW_BIAS(WEIGHT_K_BIAS,    "attn_k.bias",        DIM_K,     true),       \
    WEIGHT_ROW(WEIGHT_V,              "attn_v.weight",      DIM_V,     DIM_MODEL),  \
    WEIGHT_ROW_BIAS(WEIGHT_V_BIAS,    "attn_v.bias",        DIM_V,     true),       \
    WEIGHT_ROW(WEIGHT_O,              "attn_output.weight", DIM_MODEL, DIM_A),      \
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS,    "attn_output.bias",   DIM_MODEL, true)

static const WeightRow weights[] = {
    WEIGHT_ROWS_ATTENTION,
    WEIGHT_ROWS_GATED,
};

static const WeightRow weights_of_experts[] = {
    WEIGHT_ROWS_ATTENTION,
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,  "ffn_norm.weight",      DIM_MODEL),
    WEIGHT_ROW(WEIGHT_ROUTER,         "ffn_gate_inp.weight",  DIM_EXPERTS,   DIM_MODEL),
    WEIGHT_ROW_EXPERTS(WEIGHT_GATE,   "ffn_gate_exps.weight", DIM_EXPERT_FF, DIM_MODEL),
    WEIGHT_ROW_EXPERTS(WEIGHT_UP,     "ffn_up_exps.weight",   DIM_EXPERT_FF, DIM_MODEL),
    WEIGHT_ROW_EXPERTS(WEIGHT_DOWN,   "ffn_down_exps.weight", DIM_MODEL,     DIM_EXPERT_FF),
};
// clang-format on

static const Arch llama_of_experts = {
    .name = "llama",
    .description = "Mixtral",
    .config = config_of_experts,
    .n_config = COUNT_OF(config_of_experts),
    .weights = weights_of_experts,
    .n_weights = COUNT_OF(weights_of_experts),
    ARCH_OPS(arch_expert_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};

const Arch arch_llama = {
    .name = "llama",
    .description = "Llama 2 and 3, Mistral, Mixtral, SmolLM",
    .verified = "llama.cpp on SmolLM2-135M: greedy text of 13 prompts, perplexity 31.3377 against "
                "31.3377; CUDA 31.3387",
    .of_experts = &llama_of_experts,
    ARCH_TABLES,
    ARCH_OPS(arch_gated_ops),
    .rope_pairs = ROPE_INTERLEAVED,
    .activation = FN_SILU,
};
