// GPT-OSS as Ollama's first files have it: gpt_oss.c's model under other names, and a factor of RoPE that is
// YaRN's without saying so.
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROPE,
    CONFIG_U32_VALUE(rope.scaling, ROPE_SCALING_YARN),
    CONFIG_U32_VALUE(rope.yarn_exact_bounds, 1),
    CONFIG_ROWS_WINDOW(true, 0, 2),
    CONFIG_ROWS_OF_WINDOW,
    CONFIG_ROW_RMS_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROW_NORM(WEIGHT_ATTN_NORM,         "attn_norm.weight",           DIM_MODEL),
    WEIGHT_ROW(WEIGHT_Q,                      "attn_q.weight",              DIM_Q,         DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_Q_BIAS,            "attn_q.bias",                DIM_Q,         false),
    WEIGHT_ROW(WEIGHT_K,                      "attn_k.weight",              DIM_K,         DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_K_BIAS,            "attn_k.bias",                DIM_K,         false),
    WEIGHT_ROW(WEIGHT_V,                      "attn_v.weight",              DIM_V,         DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_V_BIAS,            "attn_v.bias",                DIM_V,         false),
    WEIGHT_ROW_BIAS(WEIGHT_SINKS,             "attn_sinks",                 DIM_HEADS,     false),
    WEIGHT_ROW(WEIGHT_O,                      "attn_out.weight",            DIM_MODEL,     DIM_A),
    WEIGHT_ROW_BIAS(WEIGHT_O_BIAS,            "attn_out.bias",              DIM_MODEL,     false),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM,          "ffn_norm.weight",            DIM_MODEL),
    WEIGHT_ROW(WEIGHT_ROUTER,                 "ffn_gate_inp.weight",        DIM_EXPERTS,   DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_ROUTER_BIAS,       "ffn_gate_inp.bias",          DIM_EXPERTS,   false),
    WEIGHT_ROW_EXPERTS(WEIGHT_GATE,           "ffn_gate_exps.weight",       DIM_EXPERT_FF, DIM_MODEL),
    WEIGHT_ROW_EXPERTS_BIAS(WEIGHT_GATE_BIAS, "ffn_gate_exps.bias",         DIM_EXPERT_FF),
    WEIGHT_ROW_EXPERTS(WEIGHT_UP,             "ffn_up_exps.weight",         DIM_EXPERT_FF, DIM_MODEL),
    WEIGHT_ROW_EXPERTS_BIAS(WEIGHT_UP_BIAS,   "ffn_up_exps.bias",           DIM_EXPERT_FF),
    WEIGHT_ROW_EXPERTS(WEIGHT_DOWN,           "ffn_down_exps.weight",       DIM_MODEL,     DIM_EXPERT_FF),
    WEIGHT_ROW_EXPERTS_BIAS(WEIGHT_DOWN_BIAS, "ffn_down_exps.bias",         DIM_MODEL),
};
// clang-format on

const Arch arch_gptoss = {
    .name = "gptoss",
    .description = "GPT-OSS, Ollama's first files",
    ARCH_TABLES,
    ARCH_OPS(arch_expert_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SWIGLU_CLAMPED,
};
