// Tiny models whose layers keep a state: values and keys of a state are of other widths than those of
// attention's heads.
#include "arch_model_rows.h"

// clang-format off
static const TensorRow lfm2[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"token_embd_norm.weight",          FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};

static const TensorRow lfm2_attention[] = {
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.attn_q_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
};

static const TensorRow lfm2_state[] = {
    {"blk.%u.shortconv.in_proj.weight", FILL_MATRIX,  MODEL, INNER3, ONE},
    {"blk.%u.shortconv.conv.weight",    FILL_BIAS,    TAPS, INNER, ONE},
    {"blk.%u.shortconv.out_proj.weight", FILL_MATRIX, INNER, MODEL, ONE},
};

static const TensorRow gated_delta[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_GAIN,  MODEL, ONE, ONE},
};

static const TensorRow gated_delta_attention[] = {
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q2, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.attn_q_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},
};

static const TensorRow qwen35_state[] = {
    {"blk.%u.ssm_beta.weight",          FILL_MATRIX,  MODEL, STATE_HEADS, ONE},
    {"blk.%u.ssm_alpha.weight",         FILL_MATRIX,  MODEL, STATE_HEADS, ONE},
    {"blk.%u.attn_qkv.weight",          FILL_MATRIX,  MODEL, CONV, ONE},
    {"blk.%u.attn_gate.weight",         FILL_MATRIX,  MODEL, INNER, ONE},
    {"blk.%u.ssm_conv1d.weight",        FILL_BIAS,    TAPS, CONV, ONE},
    {"blk.%u.ssm_dt.bias",              FILL_BIAS,    STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_a",                    FILL_DECAY,   STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_norm.weight",          FILL_NORM,    STATE_HEAD, ONE, ONE},
    {"blk.%u.ssm_out.weight",           FILL_MATRIX,  INNER, MODEL, ONE},
};

static const TensorRow gated[] = {
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};

// Experts, one of which all rows use; gates and ups of the chosen ones apart or in one tensor.
#define ROUTED                                                             \
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE}, \
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS}
#define APART                                                              \
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS},  \
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS}
#define SHARED_BY_ALL                                                      \
    {"blk.%u.ffn_gate_shexp.weight",    FILL_MATRIX,  MODEL, SHARED, ONE},  \
    {"blk.%u.ffn_up_shexp.weight",      FILL_MATRIX,  MODEL, SHARED, ONE},  \
    {"blk.%u.ffn_down_shexp.weight",    FILL_MATRIX,  SHARED, MODEL, ONE}
#define SHARE \
    {"blk.%u.ffn_gate_inp_shexp.weight", FILL_SMALL,  MODEL, ONE, ONE}
// Tensors of a block that guesses ahead, as far as they tell whether it is left out.
#define GUESSING_AHEAD                                                     \
    {"blk.4.attn_norm.weight",          FILL_NORM,    MODEL, ONE, ONE},     \
    {"blk.4.nextn.eh_proj.weight",      FILL_MATRIX,  MODEL, FF2, ONE},     \
    {"blk.4.nextn.enorm.weight",        FILL_NORM,    MODEL, ONE, ONE}

static const TensorRow qwen35_experts[] = {
    ROUTED, SHARED_BY_ALL, SHARE, GUESSING_AHEAD,
    {"blk.%u.ffn_gate_up_exps.weight",  FILL_EXPERTS, MODEL, EXPERT_FF2, EXPERTS},
};

static const TensorRow qwen3next_experts[] = {ROUTED, APART, SHARED_BY_ALL, SHARE};

static const TensorRow qwen3next_state[] = {
    {"blk.%u.ssm_ba.weight",            FILL_MATRIX,  MODEL, STATE_HEADS2, ONE},
    {"blk.%u.attn_qkv.weight",          FILL_MATRIX,  MODEL, CONV, ONE},
    {"blk.%u.attn_gate.weight",         FILL_MATRIX,  MODEL, INNER, ONE},
    {"blk.%u.ssm_conv1d.weight",        FILL_BIAS,    TAPS, CONV, ONE},
    {"blk.%u.ssm_dt",                   FILL_BIAS,    STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_a",                    FILL_DECAY,   STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_norm.weight",          FILL_NORM,    STATE_HEAD, ONE, ONE},
    {"blk.%u.ssm_out.weight",           FILL_MATRIX,  INNER, MODEL, ONE},
};

// As older files have it.
static const TensorRow qwen3next_fused_state[] = {
    {"blk.%u.ssm_ba.weight",            FILL_MATRIX,  MODEL, STATE_HEADS2, ONE},
    {"blk.%u.ssm_in.weight",            FILL_MATRIX,  MODEL, QKVZ, ONE},
    {"blk.%u.ssm_conv1d.weight",        FILL_BIAS,    TAPS, CONV, ONE},
    {"blk.%u.ssm_dt.bias",              FILL_BIAS,    STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_a",                    FILL_DECAY,   STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_norm.weight",          FILL_NORM,    STATE_HEAD, ONE, ONE},
    {"blk.%u.ssm_out.weight",           FILL_MATRIX,  INNER, MODEL, ONE},
};

static const TensorRow lfm2moe[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"token_embd_norm.weight",          FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, DENSE, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, DENSE, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  DENSE, MODEL, ONE},
    ROUTED, APART,
    {"blk.%u.exp_probs_b.bias",         FILL_BIAS,    EXPERTS, ONE, ONE},
};

static const TensorRow granite_experts[] = {
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    ROUTED, APART, SHARED_BY_ALL,
};

static const TensorRow nemotron_experts[] = {
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE},
    {"blk.%u.exp_probs_b.bias",         FILL_BIAS,    EXPERTS, ONE, ONE},
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS},
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS},
    {"blk.%u.ffn_up_shexp.weight",      FILL_MATRIX,  MODEL, SHARED, ONE},
    {"blk.%u.ffn_down_shexp.weight",    FILL_MATRIX,  SHARED, MODEL, ONE},
};

static const TensorRow nemotron_latent_experts[] = {
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE},
    {"blk.%u.exp_probs_b.bias",         FILL_BIAS,    EXPERTS, ONE, ONE},
    {"blk.%u.ffn_latent_down.weight",   FILL_MATRIX,  MODEL, LATENT, ONE},
    {"blk.%u.ffn_latent_up.weight",     FILL_MATRIX,  LATENT, MODEL, ONE},
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, LATENT, FF, EXPERTS},
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, LATENT, EXPERTS},
    {"blk.%u.ffn_up_shexp.weight",      FILL_MATRIX,  MODEL, SHARED, ONE},
    {"blk.%u.ffn_down_shexp.weight",    FILL_MATRIX,  SHARED, MODEL, ONE},
};

static const TensorRow granite[] = {
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};

static const TensorRow mamba[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
};

static const TensorRow mamba_attention[] = {
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
};

static const TensorRow mamba_state[] = {
    {"blk.%u.ssm_in.weight",            FILL_MATRIX,  MODEL, SSM_IN, ONE},
    {"blk.%u.ssm_conv1d.weight",        FILL_BIAS,    TAPS, CONV, ONE},
    {"blk.%u.ssm_conv1d.bias",          FILL_BIAS,    CONV, ONE, ONE},
    {"blk.%u.ssm_dt.bias",              FILL_BIAS,    STATE_HEADS, ONE, ONE},
    {"blk.%u.ssm_a",                    FILL_DECAY,   ONE, STATE_HEADS, ONE},
    {"blk.%u.ssm_d",                    FILL_NORM,    ONE, STATE_HEADS, ONE},
    {"blk.%u.ssm_norm.weight",          FILL_NORM,    STATE_GROUP, STATE_GROUPS, ONE},
    {"blk.%u.ssm_out.weight",           FILL_MATRIX,  INNER, MODEL, ONE},
};

static const TensorRow squared_relu[] = {
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};
// clang-format on

#define OF_ATTENTION(rows) .of_mixer[0] = rows, .n_of_mixer[0] = COUNT_OF(rows)
#define OF_STATE(rows) .of_mixer[1] = rows, .n_of_mixer[1] = COUNT_OF(rows)
#define ALONE(rows) .of_mixer[2] = rows, .n_of_mixer[2] = COUNT_OF(rows)
#define STATE(n_taps, n_inner, n_heads, n_groups, values) \
    .state = {.taps = n_taps, .inner = n_inner, .heads = n_heads, .groups = n_groups, .dim = values}
#define KEYS_SSM(n_taps, n_inner, n_heads, n_groups, values)                          \
    KEY_U32("ssm.conv_kernel", n_taps), KEY_U32("ssm.inner_size", n_inner),           \
        KEY_U32("ssm.time_step_rank", n_heads), KEY_U32("ssm.group_count", n_groups), \
        KEY_U32("ssm.state_size", values)

static const uint32_t third_has_heads[] = {0, 0, 2, 0}, nemotron_kv_heads[] = {0, 0, 2, 0, 0},
                      nemotron_ff[] = {0, 96, 0, 0, 96}, nemotron_expert_ff[] = {0, 32, 0, 0, 32};

#define KEYS_EXPERTS(n, n_used, n_ff)                                 \
    KEY_U32("expert_count", n), KEY_U32("expert_used_count", n_used), \
        KEY_U32("expert_feed_forward_length", n_ff)
#define KEYS_NEMOTRON_EXPERTS(n, n_used)                                                               \
    KEYS_EXPERTS(n, n_used, 32), KEY_U32("expert_shared_count", 1),                                    \
        KEY_U32("expert_shared_feed_forward_length", 64), KEY_BOOL("expert_weights_norm", 1),          \
        KEY_F32("expert_weights_scale", 2.5), KEY_U32("attention.key_length", 32),                     \
        KEY_U32("attention.value_length", 32), KEY_U32S("attention.head_count_kv", nemotron_kv_heads), \
        KEY_U32S("feed_forward_length", nemotron_expert_ff), KEYS_SSM(4, 96, 4, 2, 16)

// clang-format off
static const ArchModel state_models[] = {
    {"lfm2", "lfm2", SIZES(4, 4, 2, 16, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(lfm2), .mixers = "SSAS",
     OF_ATTENTION(lfm2_attention), OF_STATE(lfm2_state), STATE(3, D_MODEL, 0, 0, 0),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32S("attention.head_count_kv", third_has_heads),
              KEY_U32("shortconv.l_cache", 3)}},
    // Heads of values that share keys; a quarter of attention's heads is turned.
    {"qwen35", "qwen35", SIZES(4, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(gated_delta), MORE(gated),
     .mixers = "SSAS", OF_ATTENTION(gated_delta_attention), OF_STATE(qwen35_state), STATE(4, 96, 4, 2, 16),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e7), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("rope.dimension_count", 8),
              KEY_U32("full_attention_interval", 3), KEYS_SSM(4, 96, 4, 2, 16)}},
    {"nemotron-h", "nemotron_h", SIZES(5, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(mamba), .mixers = "SFASF",
     OF_ATTENTION(mamba_attention), OF_STATE(mamba_state), ALONE(squared_relu), STATE(4, 96, 4, 2, 16),
     .keys = {EPS_RMS, KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 32),
              KEY_U32S("attention.head_count_kv", nemotron_kv_heads), KEY_U32S("feed_forward_length", nemotron_ff),
              KEYS_SSM(4, 96, 4, 2, 16)}},
    // One group of heads; no positions.
    {"granite-hybrid", "granitehybrid", SIZES(4, 4, 2, 16, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(mamba), MORE(granite),
     .mixers = "SSAS", OF_ATTENTION(mamba_attention), OF_STATE(mamba_state), STATE(4, 128, 4, 1, 16),
     .keys = {EPS_RMS, KEY_U32S("attention.head_count_kv", third_has_heads), KEYS_SSM(4, 128, 4, 1, 16),
              KEY_BOOL("rope.scaling.finetuned", 0), KEY_F32("embedding_scale", 12), KEY_F32("residual_scale", 0.22),
              KEY_F32("logit_scale", 8), KEY_F32("attention.scale", 0.0625),
              KEY_U32("expert_shared_feed_forward_length", 96)}},
    // Gates and ups in one tensor, and a block that guesses ahead.
    {"qwen35moe", "qwen35moe", SIZES(4, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(gated_delta), MORE(qwen35_experts),
     .shared_ff = 64, .mixers = "SSAS", OF_ATTENTION(gated_delta_attention), OF_STATE(qwen35_state),
     STATE(4, 96, 4, 2, 16),
     .keys = {EPS_RMS, KEY_U32("block_count", 5), KEY_U32("nextn_predict_layers", 1), KEY_F32("rope.freq_base", 1e7),
              KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 32),
              KEY_U32("rope.dimension_count", 8), KEY_U32("full_attention_interval", 3), KEYS_SSM(4, 96, 4, 2, 16),
              KEYS_EXPERTS(8, 3, 32), KEY_U32("expert_shared_feed_forward_length", 64)}},
    {"qwen3next", "qwen3next", SIZES(4, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(gated_delta),
     MORE(qwen3next_experts), .shared_ff = 64, .mixers = "SSAS", OF_ATTENTION(gated_delta_attention),
     OF_STATE(qwen3next_state), STATE(4, 96, 4, 2, 16),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e7), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("rope.dimension_count", 8),
              KEY_U32("full_attention_interval", 3), KEYS_SSM(4, 96, 4, 2, 16), KEYS_EXPERTS(8, 3, 32),
              KEY_U32("expert_shared_feed_forward_length", 64)}},
    {"qwen3next-fused", "qwen3next", SIZES(4, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(gated_delta),
     MORE(qwen3next_experts), .shared_ff = 64, .mixers = "SSAS", OF_ATTENTION(gated_delta_attention),
     OF_STATE(qwen3next_fused_state), STATE(4, 96, 4, 2, 16),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e7), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("rope.dimension_count", 8),
              KEY_U32("full_attention_interval", 3), KEYS_SSM(4, 96, 4, 2, 16), KEYS_EXPERTS(8, 3, 32),
              KEY_U32("expert_shared_feed_forward_length", 64)}},
    {"lfm2moe", "lfm2moe", SIZES(4, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(lfm2moe), .dense_layers = 1,
     .dense_ff = 96, .mixers = "SSAS", OF_ATTENTION(lfm2_attention), OF_STATE(lfm2_state), STATE(3, D_MODEL, 0, 0, 0),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32S("attention.head_count_kv", third_has_heads),
              KEY_U32("shortconv.l_cache", 3), KEY_U32("feed_forward_length", 96), KEYS_EXPERTS(8, 3, 32),
              KEY_U32("leading_dense_block_count", 1), KEY_U32("expert_gating_func", 2)}},
    {"nemotron-h-moe", "nemotron_h_moe", SIZES(5, 4, 2, 32, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(mamba),
     .shared_ff = 64, .mixers = "SFASF", OF_ATTENTION(mamba_attention), OF_STATE(mamba_state), ALONE(nemotron_experts),
     STATE(4, 96, 4, 2, 16), .keys = {EPS_RMS, KEYS_NEMOTRON_EXPERTS(8, 3), KEY_U32("expert_group_count", 1)}},
    // Many experts, which work on half of the values; two groups of them, of which a row uses one.
    {"nemotron-h-latent", "nemotron_h_moe", SIZES(5, 4, 2, 32, 32, 40), .dtype = DTYPE_Q8_0, TENSORS(mamba),
     .shared_ff = 64, .latent = 32, .mixers = "SFASF", OF_ATTENTION(mamba_attention), OF_STATE(mamba_state),
     ALONE(nemotron_latent_experts), STATE(4, 96, 4, 2, 16),
     .keys = {EPS_RMS, KEYS_NEMOTRON_EXPERTS(40, 18), KEY_U32("moe_latent_size", 32), KEY_U32("expert_group_count", 2),
              KEY_U32("expert_group_used_count", 1)}},
    {"granite-hybrid-moe", "granitehybrid", SIZES(4, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(mamba),
     MORE(granite_experts), .shared_ff = 64, .mixers = "SSAS", OF_ATTENTION(mamba_attention), OF_STATE(mamba_state),
     STATE(4, 128, 4, 1, 16),
     .keys = {EPS_RMS, KEY_U32S("attention.head_count_kv", third_has_heads), KEYS_SSM(4, 128, 4, 1, 16),
              KEY_BOOL("rope.scaling.finetuned", 0), KEY_F32("embedding_scale", 12), KEY_F32("residual_scale", 0.22),
              KEY_F32("logit_scale", 8), KEY_F32("attention.scale", 0.0625), KEY_U32("expert_count", 8),
              KEY_U32("expert_used_count", 3), KEY_U32("expert_shared_feed_forward_length", 64)}},
};
// clang-format on

const ArchModel *arch_state_model_at(uint32_t index) {
    return index < COUNT_OF(state_models) ? &state_models[index] : NULL;
}
