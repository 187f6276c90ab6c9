#include "arch_model_rows.h"
#include "os/os.h"

#include <math.h>
#include <stdio.h>

// ---- tensors ----

// clang-format off
static const TensorRow rope_freqs[] = {
    {"rope_freqs.weight",               FILL_LLAMA3,  ROPE_HALF, ONE, ONE},
};

static const TensorRow own_head[] = {
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
};

static const TensorRow llama[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};

static const TensorRow qkv_biases[] = {
    {"blk.%u.attn_q.bias",              FILL_BIAS,    Q, ONE, ONE},
    {"blk.%u.attn_k.bias",              FILL_BIAS,    KV, ONE, ONE},
    {"blk.%u.attn_v.bias",              FILL_BIAS,    KV, ONE, ONE},
};

static const TensorRow qk_norms[] = {
    {"blk.%u.attn_q_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
};

static const TensorRow post_norms[] = {
    {"blk.%u.post_attention_norm.weight", FILL_NORM,  MODEL, ONE, ONE},
    {"blk.%u.post_ffw_norm.weight",     FILL_NORM,    MODEL, ONE, ONE},
};

static const TensorRow gemma3_norms[] = {
    {"blk.%u.attn_q_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_NORM,  MODEL, ONE, ONE},
    {"blk.%u.post_ffw_norm.weight",     FILL_NORM,    MODEL, ONE, ONE},
};

static const TensorRow experts[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE},
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS},
};

static const TensorRow gpt_oss[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_q.bias",              FILL_BIAS,    Q, ONE, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_k.bias",              FILL_BIAS,    KV, ONE, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.bias",              FILL_BIAS,    KV, ONE, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.attn_output.bias",         FILL_BIAS,    MODEL, ONE, ONE},
    {"blk.%u.attn_sinks.weight",        FILL_SINK,    HEADS, ONE, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_GAIN,  MODEL, ONE, ONE},
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE},
    {"blk.%u.ffn_gate_inp.bias",        FILL_BIAS,    EXPERTS, ONE, ONE},
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_gate_exps.bias",       FILL_WIDE,    FF, EXPERTS, ONE},
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_up_exps.bias",         FILL_WIDE,    FF, EXPERTS, ONE},
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS},
    {"blk.%u.ffn_down_exps.bias",       FILL_BIAS,    MODEL, EXPERTS, ONE},
};

static const TensorRow gptoss[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_q.bias",              FILL_BIAS,    Q, ONE, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_k.bias",              FILL_BIAS,    KV, ONE, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.bias",              FILL_BIAS,    KV, ONE, ONE},
    {"blk.%u.attn_out.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.attn_out.bias",         FILL_BIAS,    MODEL, ONE, ONE},
    {"blk.%u.attn_sinks",        FILL_SINK,    HEADS, ONE, ONE},
    {"blk.%u.ffn_norm.weight", FILL_GAIN,  MODEL, ONE, ONE},
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE},
    {"blk.%u.ffn_gate_inp.bias",        FILL_BIAS,    EXPERTS, ONE, ONE},
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_gate_exps.bias",       FILL_WIDE,    FF, EXPERTS, ONE},
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_up_exps.bias",         FILL_WIDE,    FF, EXPERTS, ONE},
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS},
    {"blk.%u.ffn_down_exps.bias",       FILL_BIAS,    MODEL, EXPERTS, ONE},
};

static const TensorRow phi3[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_qkv.weight",          FILL_MATRIX,  MODEL, QKV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF2, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};

static const TensorRow rope_factors[] = {
    {"rope_factors_long.weight",        FILL_FACTOR4, ROPE_HALF, ONE, ONE},
    {"rope_factors_short.weight",       FILL_FACTOR,  ROPE_HALF, ONE, ONE},
};

static const TensorRow gpt2[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"position_embd.weight",            FILL_SMALL,   MODEL, CONTEXT, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output_norm.bias",                FILL_BIAS,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.bias",           FILL_BIAS,    MODEL, ONE, ONE},
    {"blk.%u.attn_qkv.weight",          FILL_MATRIX,  MODEL, QKV, ONE},
    {"blk.%u.attn_qkv.bias",            FILL_BIAS,    QKV, ONE, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.attn_output.bias",         FILL_BIAS,    MODEL, ONE, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_norm.bias",            FILL_BIAS,    MODEL, ONE, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.bias",              FILL_BIAS,    FF, ONE, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
    {"blk.%u.ffn_down.bias",            FILL_BIAS,    MODEL, ONE, ONE},
};
// clang-format on

// ---- models ----

// clang-format off
static const ArchModel models[] = {
    // Grouped heads, a tied head, and the published factors' kind of tensor.
    {"llama", "llama", SIZES(2, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama), MORE(rope_freqs),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 5e5), KEY_U32("attention.key_length", 32)}},
    {"llama-linear", "llama", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q5_1, TENSORS(llama), MORE(own_head),
     .keys = {EPS_RMS, KEY_STR("rope.scaling.type", "linear"), KEY_F32("rope.scaling.factor", 4)}},
    {"llama-yarn", "llama", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q4_1, TENSORS(llama), MORE(own_head),
     .keys = {EPS_RMS, KEY_STR("rope.scaling.type", "yarn"), KEY_F32("rope.scaling.factor", 4),
              KEY_U32("rope.scaling.original_context_length", 32),
              KEY_F32("rope.scaling.yarn_beta_fast", 8)}},
    {"mistral", "llama", SIZES(2, 2, 1, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama), MORE(own_head),
     .keys = {EPS_RMS, KEY_U32("attention.sliding_window", 20)}},
    {"mixtral", "llama", SIZES(2, 2, 1, 32, 64, 4), .dtype = DTYPE_Q8_0, TENSORS(experts),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("expert_count", 4),
              KEY_U32("expert_used_count", 2)}},
    {"qwen2", "qwen2", SIZES(2, 2, 1, 32, 96, 0), .dtype = DTYPE_Q5_0, TENSORS(llama), MORE(qkv_biases),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6)}},
    // Four heads that are wider than d_model / heads.
    {"qwen3", "qwen3", SIZES(2, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama), MORE(qk_norms),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32)}},
    {"qwen3moe", "qwen3moe", SIZES(2, 4, 2, 32, 32, 8), .dtype = DTYPE_Q4_0, TENSORS(experts), MORE(qk_norms),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 32),
              KEY_U32("expert_count", 8), KEY_U32("expert_used_count", 3),
              KEY_U32("expert_feed_forward_length", 32)}},
    {"phi3", "phi3", SIZES(2, 2, 1, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(phi3),
     .keys = {EPS_RMS, KEY_U32("attention.sliding_window", 24)}},
    // A context longer than the original one: long factors, and an attention factor; half of each head turns.
    {"phi3-long", "phi3", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q5_1, TENSORS(phi3), MORE(rope_factors),
     .keys = {EPS_RMS, KEY_U32("rope.scaling.original_context_length", 32),
              KEY_U32("rope.dimension_count", 16), KEY_F32("rope.scaling.attn_factor", 1.1832159566199232)}},
    {"phi3-short", "phi3", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_F16, TENSORS(phi3), MORE(rope_factors),
     .keys = {EPS_RMS, KEY_U32("rope.scaling.original_context_length", 128),
              KEY_STR("rope.scaling.type", "longrope")}},
    {"gemma", "gemma", SIZES(2, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama),
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 32)}},
    // Caps that scores and logits reach; a window on the first and the last layer.
    {"gemma2", "gemma2", SIZES(3, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama), MORE(post_norms),
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 32),
              KEY_U32("attention.sliding_window", 16), KEY_F32("attn_logit_softcapping", 0.5),
              KEY_F32("final_logit_softcapping", 0.25)}},
    // Five layers with a window, one without, and one more; no keys for what all published sizes share.
    {"gemma3", "gemma3", SIZES(7, 4, 1, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama), MORE(gemma3_norms),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("attention.sliding_window", 16)}},
    // The larger sizes: scaled positions where there is no window. And every key that files may have.
    {"gemma3-linear", "gemma3", SIZES(3, 2, 1, 32, 96, 0), .dtype = DTYPE_BF16, TENSORS(llama),
     MORE(gemma3_norms),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_F32("rope.freq_base_swa", 500),
              KEY_STR("rope.scaling.type", "linear"), KEY_F32("rope.scaling.factor", 8),
              KEY_U32("attention.sliding_window", 16), KEY_U32("attention.sliding_window_pattern", 3)}},
    {"gpt-oss", "gpt-oss", SIZES(3, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(gpt_oss),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 150000), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("attention.sliding_window", 16),
              KEY_U32("expert_count", 8), KEY_U32("expert_used_count", 4),
              KEY_U32("expert_feed_forward_length", 32), KEY_STR("rope.scaling.type", "yarn"),
              KEY_F32("rope.scaling.factor", 32), KEY_U32("rope.scaling.original_context_length", 64)}},
    // The same model under other names.
    {"gptoss", "gptoss", SIZES(3, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(gptoss),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 150000), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("attention.sliding_window", 16),
              KEY_U32("expert_count", 8), KEY_U32("expert_used_count", 4),
              KEY_U32("expert_feed_forward_length", 32), KEY_F32("rope.scaling.factor", 32), KEY_U32("rope.scaling.original_context_length", 64)}},
    {"gpt2", "gpt2", SIZES(2, 2, 2, 32, 128, 0), .dtype = DTYPE_Q8_0, TENSORS(gpt2),
     .keys = {KEY_F32("attention.layer_norm_epsilon", 1e-5)}},
};
// clang-format on

// ---- models whose layers differ ----

// clang-format off
static const TensorRow values_of_their_own[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, V, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  A, MODEL, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};

static const TensorRow dense_then_experts[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, DENSE, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, DENSE, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  DENSE, MODEL, ONE},
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE},
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS},
};

// What no architecture says yet: leading dense layers before those of experts.
static const ConfigRow leading_config[] = {
    CONFIG_ROWS_TRANSFORMER,
    CONFIG_U32_ROW("%s.leading_dense_block_count", n_leading, true, 0),
    CONFIG_ROWS_EXPERTS,
    CONFIG_ROWS_ROPE,
    CONFIG_ROW_RMS_EPS,
};

#define LEADING(row) {WEIGHT_ROW_FIELDS row, .layers = LAYERS_LEADING}
#define WEIGHT_ROW_FIELDS(weight, tensor, n_rows, n_cols, n_matrices) \
    .id = weight, .name = "blk.%u." tensor, .rows = n_rows, .cols = n_cols, .matrices = n_matrices
#define AFTER(row) {WEIGHT_ROW_FIELDS row, .layers = LAYERS_AFTER_LEADING}

static const WeightRow leading_weights[] = {
    WEIGHT_ROWS_ENDS,
    WEIGHT_ROWS_QKV,
    WEIGHT_ROW_NORM(WEIGHT_Q_NORM,   "attn_q_norm.weight", DIM_HEAD),
    WEIGHT_ROW_NORM(WEIGHT_K_NORM,   "attn_k_norm.weight", DIM_HEAD),
    WEIGHT_ROW(WEIGHT_O,             "attn_output.weight", DIM_MODEL, DIM_A),
    WEIGHT_ROW_NORM(WEIGHT_FFN_NORM, "ffn_norm.weight",    DIM_MODEL),
    LEADING((WEIGHT_GATE, "ffn_gate.weight",      DIM_FF,        DIM_MODEL,     DIM_ONE)),
    LEADING((WEIGHT_UP,   "ffn_up.weight",        DIM_FF,        DIM_MODEL,     DIM_ONE)),
    LEADING((WEIGHT_DOWN, "ffn_down.weight",      DIM_MODEL,     DIM_FF,        DIM_ONE)),
    AFTER((WEIGHT_ROUTER, "ffn_gate_inp.weight",  DIM_EXPERTS,   DIM_MODEL,     DIM_ONE)),
    AFTER((WEIGHT_GATE,   "ffn_gate_exps.weight", DIM_EXPERT_FF, DIM_MODEL,     DIM_EXPERTS)),
    AFTER((WEIGHT_UP,     "ffn_up_exps.weight",   DIM_EXPERT_FF, DIM_MODEL,     DIM_EXPERTS)),
    AFTER((WEIGHT_DOWN,   "ffn_down_exps.weight", DIM_MODEL,     DIM_EXPERT_FF, DIM_EXPERTS)),
};

static const LayerKind leading_kinds[] = {
    {LAYERS_LEADING, OP_RUN(arch_attention_ops), OP_RUN(arch_gated_ops)},
    {LAYERS_ALL,     OP_RUN(arch_attention_ops), OP_RUN(arch_expert_ops)},
};

static const Arch leading_tables = {
    .name = "qwen3moe",
    .config = leading_config,
    .n_config = COUNT_OF(leading_config),
    .weights = leading_weights,
    .n_weights = COUNT_OF(leading_weights),
    .first = OP_RUN(arch_embed_ops),
    .kinds = leading_kinds,
    .n_kinds = COUNT_OF(leading_kinds),
    .last = OP_RUN(arch_norm_head_ops),
    .rope_pairs = ROPE_HALVES,
    .activation = FN_SILU,
};

static const TensorRow deci[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};
static const TensorRow deci_attention[] = {
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
};
static const TensorRow deci_linear[] = {
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  MODEL, MODEL, ONE},
};
// Of layers with a feed-forward.
static const TensorRow deci_norms[] = {
    {"blk.0.ffn_norm.weight",           FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.1.ffn_norm.weight",           FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.2.ffn_norm.weight",           FILL_GAIN,    MODEL, ONE, ONE},
};
static const uint32_t deci_heads[] = {4, 4, 0, 4, 0, 4}, deci_kv_heads[] = {2, 0, 0, 1, 0, 0},
                      deci_ff[] = {256, 128, 384, 0, 0, 0};

static const uint32_t heads_3[] = {4, 2, 8}, kv_heads_3[] = {2, 1, 2}, ff_3[] = {96, 64, 160};
static const uint32_t equal_4[] = {4, 4}, equal_2[] = {2, 2}, equal_96[] = {96, 96};
static const uint32_t windows_4[] = {0, 1, 1, 0}, head_dims_4[] = {32, 16, 16, 32};

static const ArchModel layered_models[] = {
    // Attention, a matrix in its place, or nothing; with a feed-forward and without.
    {"deci", "deci", SIZES(6, 4, 2, 16, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(deci), MORE(deci_norms),
     .layer_heads = deci_heads, .layer_kv_heads = deci_kv_heads, .layer_ff = deci_ff, .mixers = "ASFAFS",
     .of_mixer = {deci_attention, deci_linear}, .n_of_mixer = {COUNT_OF(deci_attention), COUNT_OF(deci_linear)},
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 5e5), KEY_U32("attention.key_length", 16),
              KEY_U32("attention.value_length", 16), KEY_U32S("attention.head_count", deci_heads),
              KEY_U32S("attention.head_count_kv", deci_kv_heads), KEY_U32S("feed_forward_length", deci_ff)}},
    // Arrays of equal numbers: the same as the numbers.
    {"llama-equal", "llama", SIZES(2, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama),
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 32), KEY_U32S("attention.head_count", equal_4),
              KEY_U32S("attention.head_count_kv", equal_2), KEY_U32S("feed_forward_length", equal_96)}},
    // Other heads and another feed-forward in each layer.
    {"llama-layers", "llama", SIZES(3, 8, 2, 32, 160, 0), .dtype = DTYPE_Q8_0, TENSORS(llama),
     .layer_heads = heads_3, .layer_kv_heads = kv_heads_3, .layer_ff = ff_3,
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 32), KEY_U32S("attention.head_count", heads_3),
              KEY_U32S("attention.head_count_kv", kv_heads_3), KEY_U32S("feed_forward_length", ff_3)}},
    // Values that are narrower than keys.
    {"llama-values", "llama", SIZES(2, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(values_of_their_own),
     .value_dim = 16,
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 16)}},
    // Windows in no period, whose layers have narrower heads and a RoPE base of their own.
    {"gemma3-layers", "gemma3", SIZES(4, 4, 1, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(llama), MORE(gemma3_norms),
     .layer_head_dim = head_dims_4,
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_F32("rope.freq_base_swa", 500),
              KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 32),
              KEY_U32("attention.key_length_swa", 16), KEY_U32("attention.value_length_swa", 16),
              KEY_U32("attention.sliding_window", 16), KEY_BOOLS("attention.sliding_window_pattern", windows_4)}},
    {"qwen3moe-leading", "qwen3moe", SIZES(4, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(dense_then_experts),
     MORE(qk_norms), .dense_layers = 2, .dense_ff = 96, .tables = &leading_tables,
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 32),
              KEY_U32("leading_dense_block_count", 2), KEY_U32("feed_forward_length", 96),
              KEY_U32("expert_count", 8), KEY_U32("expert_used_count", 3),
              KEY_U32("expert_feed_forward_length", 32)}},
};
// clang-format on

#define MIX(...) .mix = {__VA_ARGS__}, .n_mix = sizeof((Dtype[]){__VA_ARGS__}) / sizeof(Dtype)

// clang-format off
static const ArchModel odd_models[] = {
    // Five heads of 80 on each of two, neighbouring pairs of a part of each; each matrix in another format.
    {"odd-llama", "llama", SIZES(2, 10, 2, 80, 160, 0), TENSORS(llama), MORE(own_head),
     MIX(DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_F16),
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 80), KEY_U32("attention.value_length", 80),
              KEY_U32("rope.dimension_count", 48)}},
    // Three heads on three; heads of 48, of 128, of 256.
    {"odd-qwen2", "qwen2", SIZES(2, 6, 3, 48, 96, 0), TENSORS(llama), MORE(qkv_biases),
     MIX(DTYPE_Q5_0, DTYPE_Q8_0),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 48),
              KEY_U32("attention.value_length", 48)}},
    {"odd-qwen3", "qwen3", SIZES(2, 9, 1, 128, 96, 0), TENSORS(llama), MORE(qk_norms),
     MIX(DTYPE_Q4_1, DTYPE_Q8_0, DTYPE_Q5_1),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 128),
              KEY_U32("attention.value_length", 128)}},
    {"odd-gemma3", "gemma3", SIZES(2, 3, 1, 256, 224, 0), TENSORS(llama), MORE(gemma3_norms),
     MIX(DTYPE_Q8_0, DTYPE_Q4_0),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 256),
              KEY_U32("attention.value_length", 256), KEY_U32("attention.sliding_window", 16),
              KEY_U32("attention.sliding_window_pattern", 2)}},
    // Phi-3-mini's heads.
    {"odd-phi3", "phi3", SIZES(2, 3, 3, 96, 160, 0), .dtype = DTYPE_Q8_0, TENSORS(phi3),
     .keys = {EPS_RMS, KEY_U32("attention.sliding_window", 24), KEY_U32("attention.key_length", 96),
              KEY_U32("attention.value_length", 96)}},
};
// clang-format on

const ArchModel *arch_odd_model_at(uint32_t index) {
    return index < COUNT_OF(odd_models) ? &odd_models[index] : NULL;
}

const ArchModel *arch_model_at(uint32_t index) {
    return index < COUNT_OF(models) ? &models[index]
                                    : arch_family_model_at(index - (uint32_t)COUNT_OF(models));
}

const ArchModel *arch_layered_model_at(uint32_t index) {
    return index < COUNT_OF(layered_models) ? &layered_models[index] : NULL;
}

const Arch *arch_model_tables(const ArchModel *m) {
    return m->tables;
}

static bool is_named(const ArchModel *m, const char *name) {
    const char *a = m->name;
    while (*a && (*a == *name || (*a == '-' && *name == '_')))
        a++, name++;
    return !*a && !*name;
}

const ArchModel *arch_model_named(const char *name) {
    for (uint32_t i = 0; arch_model_at(i); i++) {
        if (is_named(arch_model_at(i), name)) return arch_model_at(i);
    }
    for (size_t i = 0; i < COUNT_OF(odd_models); i++) {
        if (is_named(&odd_models[i], name)) return &odd_models[i];
    }
    for (size_t i = 0; i < COUNT_OF(layered_models); i++) {
        if (is_named(&layered_models[i], name)) return &layered_models[i];
    }
    for (uint32_t i = 0; arch_state_model_at(i); i++) {
        if (is_named(arch_state_model_at(i), name)) return arch_state_model_at(i);
    }
    for (uint32_t i = 0; arch_mla_model_at(i); i++) {
        if (is_named(arch_mla_model_at(i), name)) return arch_mla_model_at(i);
    }
    if (is_named(&arch_odd_gemma4, name)) return &arch_odd_gemma4;
    if (is_named(&arch_alike_qwen2moe, name)) return &arch_alike_qwen2moe;
    if (is_named(&arch_odd_mla, name)) return &arch_odd_mla;
    for (uint32_t i = 0; arch_meta_model_at(i); i++) {
        if (is_named(arch_meta_model_at(i), name)) return arch_meta_model_at(i);
    }
    for (uint32_t i = 0; arch_gemma_model_at(i); i++) {
        if (is_named(arch_gemma_model_at(i), name)) return arch_gemma_model_at(i);
    }
    return NULL;
}

const char *arch_model_name(const ArchModel *m) {
    return m->name;
}

const char *arch_model_architecture(const ArchModel *m) {
    return m->architecture;
}

static void make_tokens(int32_t *out, uint32_t count) {
    for (uint64_t i = 0; i < count; i++)
        out[i] = (int32_t)(rng_philox(2024, i).word[0] % ARCH_MODEL_VOCAB);
}

void arch_model_tokens(int32_t *out) {
    make_tokens(out, ARCH_MODEL_TOKENS);
}

uint32_t arch_model_text(const ArchModel *m, int32_t *out) {
    uint32_t count = m->n_tokens ? m->n_tokens : ARCH_MODEL_TOKENS;
    make_tokens(out, count);
    return count;
}

// ---- files ----

static uint64_t size_of(const ArchModel *m, uint32_t context_length, uint32_t layer, Size size) {
    const uint32_t heads = m->layer_heads ? m->layer_heads[layer] : m->heads,
                   kv_heads = m->layer_kv_heads ? m->layer_kv_heads[layer] : m->kv_heads,
                   head_dim = m->layer_head_dim ? m->layer_head_dim[layer] : m->head_dim,
                   value_dim = m->value_dim ? m->value_dim : head_dim,
                   ff = m->layer_ff ? m->layer_ff[layer] : m->ff;
    const StateSizes *state = &m->state;
    const uint64_t conv = state->inner + 2 * state->groups * state->dim;
    const uint64_t sizes[] = {
        [ONE] = 1,
        [MODEL] = m->shape ? m->shape->d_model : D_MODEL,
        [HEAD] = head_dim,
        [HEADS] = heads,
        [Q] = heads * head_dim,
        [KV] = kv_heads * head_dim,
        [V] = kv_heads * value_dim,
        [A] = heads * value_dim,
        [QKV] = (heads + 2 * kv_heads) * head_dim,
        [FF] = ff,
        [DENSE] = m->dense_ff,
        [SHARED] = m->shared_ff,
        [EXPERT_FF] = m->expert_ff,
        [BESIDE_FF2] = 2 * m->expert_ff,
        [PER_LAYER] = m->per_layer,
        [PER_LAYERS] = m->per_layer * m->layers,
        [ROPE_FULL_HALF] = m->rope_full / 2,
        [FF2] = 2 * ff,
        [EXPERTS] = m->experts,
        [VOCAB] = m->shape ? m->shape->vocab : ARCH_MODEL_VOCAB,
        [CONTEXT] = context_length,
        [ROPE_HALF] = m->head_dim / 2,
        [Q2] = 2 * heads * head_dim,
        [TAPS] = state->taps,
        [CONV] = conv,
        [INNER] = state->inner,
        [INNER3] = 3 * state->inner,
        [SSM_IN] = state->inner + conv + state->heads,
        [STATE_HEADS] = state->heads,
        [STATE_HEAD] = state->heads ? state->inner / state->heads : 0,
        [STATE_HEADS2] = 2 * state->heads,
        [STATE_GROUPS] = state->groups,
        [STATE_GROUP] = state->groups ? state->inner / state->groups : 0,
        [Q_RANK] = m->mla.q_rank,
        [KV_RANK] = m->mla.kv_rank,
        [ENTRY] = m->mla.kv_rank + m->mla.turned,
        [MLA_KVS] = heads * (m->mla.key_dim - m->mla.turned + m->mla.value_dim),
        [UNTURNED] = m->mla.key_dim - m->mla.turned,
        [MLA_Q] = heads * m->mla.key_dim,
        [MLA_V] = m->mla.value_dim,
        [MLA_A] = heads * m->mla.value_dim,
        [EXPERT_FF2] = 2 * ff,
        [QKVZ] = conv + state->inner,
        [LATENT] = m->latent,
        [STREAMS] = m->streams,
        [STREAMS_2] = m->streams * m->streams,
        [MORE] = m->streams ? m->streams - 1 : 0,
        [LAUREL] = 64,
    };
    for (uint32_t i = 0; size == ROPE_HALF && i < KEYS_MAX; i++) {
        const KeyRow *key = &m->keys[i];
        if (key->type && strcmp(key->suffix, "rope.dimension_count") == 0) return (uint64_t)key->number / 2;
    }
    return sizes[size];
}

// Values near N(0, 0.02), times `scale`, about `center`.
static void add_floats(GgufBuilder *b, const char *name, uint32_t n_dims, const uint64_t *dims, uint64_t seed,
                       float center, float scale) {
    uint64_t count = 1;
    for (uint32_t i = 0; i < n_dims; i++)
        count *= dims[i];
    static float values[D_MODEL * CONTEXT_LENGTH_MAX];
    if (count > COUNT_OF(values)) count = 0; // the builder then reads zeros; no model here is so large
    gguf_fill_random_blocks(DTYPE_F32, seed, (uint8_t *)values, count * sizeof *values);
    for (uint64_t i = 0; i < count; i++)
        values[i] = center + scale * values[i];
    gguf_builder_add_tensor(b, name, DTYPE_F32, n_dims, dims, values);
}

// Llama 3.1's scaling for a context of 64 made 8 times as long: waves that fit into it 4 times are kept,
// those that do not fit once are divided by 8, and between it goes linearly with how often they fit.
static void add_llama3_factors(GgufBuilder *b, const char *name, uint64_t half) {
    enum { ORIGINAL = 64, FACTOR = 8, LOW = 1, HIGH = 4, BASE = 500000 };
    float factors[64];
    for (uint64_t i = 0; i < half; i++) {
        double fits = ORIGINAL * pow(BASE, -(double)i / (double)half) / (2 * M_PI);
        double kept = fmin(fmax((fits - LOW) / (HIGH - LOW), 0), 1);
        factors[i] = (float)(1 / (kept + (1 - kept) / FACTOR));
    }
    gguf_builder_add_tensor(b, name, DTYPE_F32, 1, &half, factors);
}

// Proportional RoPE: the first quarter of the frequencies; the rest does not turn.
static void add_quarter_factors(GgufBuilder *b, const char *name, uint64_t half) {
    float factors[256];
    for (uint64_t i = 0; i < half; i++)
        factors[i] = i < half / 4 ? 1 : 1e30f;
    gguf_builder_add_tensor(b, name, DTYPE_F32, 1, &half, factors);
}

static Dtype matrix_dtype(const GgufBuilder *b, const ArchModel *m) {
    return m->n_mix ? m->mix[b->n_tensors % m->n_mix] : m->dtype;
}

// A tensor without data. What all of them take is counted where the builder has their number of random ones.
static void add_empty(GgufBuilder *b, const ArchShape *s, const TensorRow *row, const char *name,
                      uint32_t n_dims, const uint64_t *dims) {
    Dtype dtype = row->fill != FILL_MATRIX                                           ? DTYPE_F32
                  : strstr(name, "token_embd") || strcmp(name, "output.weight") == 0 ? s->embd_dtype
                  : strstr(name, "attn_v.") || strstr(name, "ffn_down.")             ? s->down_dtype
                                                                                     : s->dtype;
    gguf_builder_add_row(b, str_from_c(name), n_dims, dims, dtype_info(dtype)->ggml_id, b->n_random);
    b->n_random += align_up(dtype_row_bytes(dtype, dims[0]) * dims[1] * dims[2], b->alignment);
}

static void add_tensor(GgufBuilder *b, const ArchModel *m, uint32_t context_length, const TensorRow *row,
                       uint32_t layer) {
    static const struct {
        float center, scale;
    } fills[] = {
        [FILL_SMALL] = {0, 1},      [FILL_NORM] = {1, 10},       [FILL_GAIN] = {4, 20},
        [FILL_BIAS] = {0, 20},      [FILL_SINK] = {0, 50},       [FILL_WIDE] = {0, 250},
        [FILL_FACTOR] = {1.5f, 10}, [FILL_FACTOR4] = {4.5f, 10}, [FILL_DECAY] = {-0.6f, 5},
        [FILL_LITTLE] = {0.35f, 4}, [FILL_ONE] = {1, 0},         [FILL_FACTOR2] = {2, 0},
        [FILL_SLIGHT] = {0, 5},
    };
    uint64_t dims[] = {size_of(m, context_length, layer, row->cols),
                       size_of(m, context_length, layer, row->rows),
                       size_of(m, context_length, layer, row->matrices)};
    uint32_t n_dims = dims[2] > 1 ? 3 : dims[1] > 1 ? 2 : 1;
    char name[96];
    if (dims[0] * dims[1] == 0) return; // a layer without it
    const char *mark = strstr(row->name, "%u");
    if (mark) snprintf(name, sizeof name, "%.*s%u%s", (int)(mark - row->name), row->name, layer, mark + 2);
    else snprintf(name, sizeof name, "%s", row->name);
    if (m->shape) add_empty(b, m->shape, row, name, n_dims, dims);
    else if (row->fill == FILL_MATRIX)
        gguf_builder_add_tensor(b, name, matrix_dtype(b, m), n_dims, dims, NULL);
    else if (row->fill == FILL_QUARTER) add_quarter_factors(b, name, dims[0]);
    else if (row->fill == FILL_LLAMA3) add_llama3_factors(b, name, dims[0]);
    else if (row->fill == FILL_EXPERTS) gguf_builder_add_tensor(b, name, DTYPE_MXFP4, n_dims, dims, NULL);
    else add_floats(b, name, n_dims, dims, b->n_tensors, fills[row->fill].center, fills[row->fill].scale);
}

// Of all layers, or of those whose mixer has a letter.
static void add_tensors(GgufBuilder *b, const ArchModel *m, uint32_t context_length, const TensorRow *rows,
                        uint32_t n_rows, char mixer) {
    for (uint32_t i = 0; i < n_rows; i++) {
        bool per_layer = strstr(rows[i].name, "%u") != NULL;
        bool dense = rows[i].cols == DENSE || rows[i].rows == DENSE;
        bool routed = rows[i].rows == EXPERTS || rows[i].matrices == EXPERTS || rows[i].cols == EXPERTS ||
                      rows[i].rows == SHARED || rows[i].cols == SHARED;
        uint32_t period = m->period ? m->period : 1;
        for (uint32_t layer = 0; layer < (per_layer ? m->layers : 1); layer++) {
            bool is_dense = layer < m->dense_layers || (layer + 1) % period != 0;
            if (per_layer && ((dense && !is_dense) || (routed && is_dense))) continue;
            if (!mixer || m->mixers[layer] == mixer) add_tensor(b, m, context_length, &rows[i], layer);
        }
    }
}

static void put_numbers(GgufBuilder *b, const char *key, GgufType type, const uint32_t *numbers,
                        uint32_t count) {
    gguf_builder_put_key(b, str_from_c(key), GGUF_ARRAY);
    gguf_bytes_put_u32(&b->keys, type);
    gguf_bytes_put_u64(&b->keys, count);
    for (uint32_t i = 0; i < count; i++) {
        if (type == GGUF_BOOL) gguf_bytes_put_u8(&b->keys, (uint8_t)numbers[i]);
        else gguf_bytes_put_u32(&b->keys, numbers[i]);
    }
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void put_key(GgufBuilder *b, const ArchModel *m, const KeyRow *row) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", m->architecture, row->suffix);
    switch (row->type) {
    case KEY_U32: gguf_builder_put_u32(b, key, (uint32_t)row->number); break;
    case KEY_BOOL: gguf_builder_put_bool(b, key, row->number != 0); break;
    case KEY_F32: gguf_builder_put_f32(b, key, (float)row->number); break;
    case KEY_STR: gguf_builder_put_str(b, key, row->text); break;
    case KEY_U32S: put_numbers(b, key, GGUF_U32, row->numbers, m->layers); break;
    case KEY_BOOLS: put_numbers(b, key, GGUF_BOOL, row->numbers, m->layers); break;
    case KEY_F32S:
        gguf_builder_put_key(b, str_from_c(key), GGUF_ARRAY);
        gguf_bytes_put_u32(&b->keys, GGUF_F32);
        gguf_bytes_put_u64(&b->keys, m->layers);
        for (uint32_t i = 0; i < m->layers; i++)
            gguf_bytes_put_u32(&b->keys, float_bits(row->floats[i]));
        break;
    case KEY_NONE: break;
    }
}

static bool has_key(const ArchModel *m, const char *suffix) {
    bool found = false;
    for (size_t i = 0; i < KEYS_MAX; i++)
        found |= m->keys[i].type && strcmp(m->keys[i].suffix, suffix) == 0;
    return found;
}

static GgufBuilder build(const ArchModel *m, uint32_t context_length) {
    GgufBuilder b = gguf_builder_begin();
    const KeyRow sizes[] = {
        KEY_U32("context_length", context_length),
        KEY_U32("block_count", m->layers),
        KEY_U32("embedding_length", m->shape ? m->shape->d_model : D_MODEL),
        KEY_U32("feed_forward_length", m->ff),
        KEY_U32("attention.head_count", m->heads),
        KEY_U32("attention.head_count_kv", m->kv_heads),
    };
    int32_t tokens[ARCH_MODEL_TOKENS_MAX];
    gguf_builder_put_str(&b, "general.architecture", m->architecture);
    gguf_builder_put_str(&b, "general.name", m->name);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        if (!has_key(m, sizes[i].suffix)) put_key(&b, m, &sizes[i]);
    for (size_t i = 0; i < KEYS_MAX; i++)
        put_key(&b, m, &m->keys[i]);
    gguf_builder_put_i32s(&b, "test.tokens", tokens, arch_model_text(m, tokens));
    b.seed = 1;
    add_tensors(&b, m, context_length, m->tensors, m->n_tensors, 0);
    add_tensors(&b, m, context_length, m->more, m->n_more, 0);
    for (uint32_t i = 0; i < COUNT_OF(m->of_mixer); i++)
        add_tensors(&b, m, context_length, m->of_mixer[i], m->n_of_mixer[i], "ASF"[i]);
    return b;
}

Str arch_model_build(const ArchModel *m) {
    return arch_model_build_long(m, m->n_tokens > CONTEXT_LENGTH ? CONTEXT_LENGTH_LONG : CONTEXT_LENGTH);
}

Str arch_model_build_long(const ArchModel *m, uint32_t context_length) {
    GgufBuilder b = build(m, context_length);
    return gguf_builder_end(&b);
}

Str arch_model_build_with(const ArchModel *m, const char *suffix, double value) {
    ArchModel changed = *m;
    KeyRow *row = NULL;
    KeyRow one_more = KEY_U32(suffix, value);
    for (size_t i = 0; i < KEYS_MAX; i++) {
        bool is_it = changed.keys[i].type && strcmp(changed.keys[i].suffix, suffix) == 0;
        if (!row && (is_it || !changed.keys[i].type)) row = &changed.keys[i];
    }
    if (!row) return (Str){0};
    if (value == ARCH_KEY_ABSENT) row->type = KEY_NONE;
    else if (!row->type) *row = one_more;
    else row->number = value;
    return arch_model_build(&changed);
}

static void set_key(ArchModel *m, const char *suffix, uint32_t number) {
    for (size_t i = 0; i < KEYS_MAX; i++)
        if (m->keys[i].type && strcmp(m->keys[i].suffix, suffix) == 0) m->keys[i].number = number;
}

static Str build_shape(const ArchShape *s, ArchModel m) {
    m.name = s->name;
    m.shape = s;
    m.layers = s->layers, m.ff = s->ff;
    m.heads = s->heads, m.kv_heads = s->kv_heads, m.head_dim = s->head_dim;
    set_key(&m, "attention.key_length", s->head_dim);
    set_key(&m, "attention.value_length", m.mla.kv_rank ? m.mla.kv_rank : s->head_dim);
    GgufBuilder b = build(&m, s->context);
    Str head = gguf_builder_end(&b);
    char *file = os_reserve(head.len + b.n_random);
    if (file) memcpy(file, head.ptr, head.len);
    return (Str){file, file ? head.len + b.n_random : 0};
}

Str arch_shape_build(const ArchShape *s) {
    return build_shape(s, *arch_model_named(s->like));
}

Str arch_shape_build_mla(const ArchShape *s, const MlaSizes *mla) {
    ArchModel m = *arch_model_named(s->like);
    m.mla = *mla;
    set_key(&m, "attention.q_lora_rank", mla->q_rank);
    set_key(&m, "attention.kv_lora_rank", mla->kv_rank);
    set_key(&m, "attention.key_length_mla", mla->key_dim);
    set_key(&m, "attention.value_length_mla", mla->value_dim);
    set_key(&m, "rope.dimension_count", mla->turned);
    return build_shape(s, m);
}
