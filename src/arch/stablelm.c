// StableLM 3B and StableLM 2 1.6B (Bellagente et al. 2024): Llama's blocks with layer norms, and RoPE over
// halves of a part of each head; biases on Q, K and V in StableLM 2. (The key `use_parallel_residual` of
// older files says nothing: the 12B model, which is of that kind, has no norm before its feed-forward, and
// is refused for that.)
#include "arch/tables.h"

static const ConfigRow config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW("%s.use_parallel_residual", CONFIG_BOOL, parallel),
    CONFIG_ROW_LN_EPS,
};

// clang-format off
static const WeightRow weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_LAYER_NORMS,
    WEIGHT_ROW(WEIGHT_Q,           "attn_q.weight",      DIM_Q,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_Q_BIAS, "attn_q.bias",        DIM_Q,     true),
    WEIGHT_ROW(WEIGHT_K,           "attn_k.weight",      DIM_K,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_K_BIAS, "attn_k.bias",        DIM_K,     true),
    WEIGHT_ROW(WEIGHT_V,           "attn_v.weight",      DIM_V,     DIM_MODEL),
    WEIGHT_ROW_BIAS(WEIGHT_V_BIAS, "attn_v.bias",        DIM_V,     true),
    WEIGHT_ROW(WEIGHT_O,           "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW(WEIGHT_GATE,        "ffn_gate.weight",    DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_UP,          "ffn_up.weight",      DIM_FF,    DIM_MODEL),
    WEIGHT_ROW(WEIGHT_DOWN,        "ffn_down.weight",    DIM_MODEL, DIM_FF),
};

static const LayerKind kinds[] = {
    {LAYERS_ALL, OP_RUN(arch_ln_attention_ops), OP_RUN(arch_ln_gated_ops)},
};
// clang-format on

const Arch arch_stablelm = {
    .name = "stablelm",
    .description = "StableLM 3B, StableLM 2 1.6B",
    ARCH_TABLES,
    .first = OP_RUN(arch_embed_ops),
    .kinds = kinds,
    .n_kinds = COUNT_OF(kinds),
    .last = OP_RUN(arch_ln_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};
