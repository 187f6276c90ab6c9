// Tiny models of the architectures that are near Llama's: each has what sets it apart, and little else.
#include "arch_model_rows.h"

// Rows that many have.
// clang-format off
#define ENDS                                                              \
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE}, \
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE}
#define OWN_HEAD                                                          \
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE}
#define ATTENTION                                                         \
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},     \
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},    \
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},    \
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE}
#define QKV_BIASES                                                        \
    {"blk.%u.attn_q.bias",              FILL_BIAS,    Q, ONE, ONE},       \
    {"blk.%u.attn_k.bias",              FILL_BIAS,    KV, ONE, ONE},      \
    {"blk.%u.attn_v.bias",              FILL_BIAS,    KV, ONE, ONE}
#define HEAD_NORMS                                                        \
    {"blk.%u.attn_q_norm.weight",       FILL_NORM,    HEAD, ONE, ONE},    \
    {"blk.%u.attn_k_norm.weight",       FILL_NORM,    HEAD, ONE, ONE}
#define NORMS_BEFORE                                                      \
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE}
#define NORMS_AFTER                                                       \
    {"blk.%u.post_attention_norm.weight", FILL_NORM,  MODEL, ONE, ONE},   \
    {"blk.%u.post_ffw_norm.weight",     FILL_NORM,    MODEL, ONE, ONE}
#define UNGATED                                                           \
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},    \
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE}
#define GATED                                                             \
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},    \
    UNGATED

static const TensorRow plain[] = {ENDS, NORMS_BEFORE, ATTENTION, GATED};
static const TensorRow plain_biased[] = {ENDS, NORMS_BEFORE, ATTENTION, QKV_BIASES, GATED};
static const TensorRow seed_oss[] = {
    ENDS, OWN_HEAD, ATTENTION, QKV_BIASES, GATED,
    {"blk.%u.attn_norm.weight",           FILL_GAIN,  MODEL, ONE, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_GAIN,  MODEL, ONE, ONE},
};
static const TensorRow glm4[] = {
    ENDS, OWN_HEAD, NORMS_BEFORE, ATTENTION, QKV_BIASES, NORMS_AFTER,
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF2, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
};
static const TensorRow arcee[] = {ENDS, OWN_HEAD, NORMS_BEFORE, ATTENTION, UNGATED};
static const TensorRow hunyuan_dense[] = {ENDS, NORMS_BEFORE, ATTENTION, HEAD_NORMS, GATED};

static const ArchModel family_models[] = {
    // The fourth of five layers has no rotary embedding.
    {"smollm3", "smollm3", SIZES(5, 4, 1, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 5e6)}},
    {"seed_oss", "seed_oss", SIZES(2, 4, 2, 32, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(seed_oss),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e7), KEY_U32("attention.key_length", 32)}},
    {"granite", "granite", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain),
     .keys = {EPS_RMS, KEY_F32("embedding_scale", 12), KEY_F32("residual_scale", 0.22), KEY_F32("logit_scale", 8),
              KEY_F32("attention.scale", 0.0625)}},
    {"minicpm", "minicpm", SIZES(2, 4, 4, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain),
     .keys = {EPS_RMS, KEY_F32("embedding_scale", 12), KEY_F32("residual_scale", 0.31), KEY_F32("logit_scale", 2)}},
    // A temperature's step every 20 tokens.
    {"mistral3", "mistral3", SIZES(2, 4, 2, 32, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.key_length", 32),
              KEY_STR("rope.scaling.type", "yarn"), KEY_F32("rope.scaling.factor", 16),
              KEY_U32("rope.scaling.original_context_length", 20),
              KEY_F32("rope.scaling.yarn_log_multiplier", 1), KEY_F32("attention.temperature_scale", 0.5)}},
    // Half of each head turns.
    {"glm4", "glm4", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(glm4),
     .keys = {EPS_RMS, KEY_U32("rope.dimension_count", 8)}},
    {"arcee", "arcee", SIZES(2, 4, 2, 16, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(arcee),
     .keys = {EPS_RMS}},
    {"ernie4_5", "ernie4_5", SIZES(2, 4, 2, 32, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 5e5), KEY_U32("attention.key_length", 32)}},
    {"internlm2", "internlm2", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain_biased),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6)}},
    {"baichuan", "baichuan", SIZES(2, 4, 4, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(plain), .keys = {EPS_RMS}},
    {"hunyuan-dense", "hunyuan-dense", SIZES(2, 4, 2, 32, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(hunyuan_dense),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 11158840), KEY_U32("attention.key_length", 32)}},
};
// clang-format on

const ArchModel *arch_family_model_at(uint32_t index) {
    return index < COUNT_OF(family_models) ? &family_models[index] : NULL;
}
