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
                      nemotron_ff[] = {0, 96, 0, 0, 96};

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
};
// clang-format on

const ArchModel *arch_state_model_at(uint32_t index) {
    return index < COUNT_OF(state_models) ? &state_models[index] : NULL;
}
