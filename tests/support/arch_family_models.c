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
#define LAST_NORM_BIAS                                                    \
    {"output_norm.bias",                FILL_BIAS,    MODEL, ONE, ONE}
#define ATTN_LAYER_NORM                                                   \
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.attn_norm.bias",           FILL_BIAS,    MODEL, ONE, ONE}
#define FFN_LAYER_NORM                                                    \
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.ffn_norm.bias",            FILL_BIAS,    MODEL, ONE, ONE}
#define FUSED                                                             \
    {"blk.%u.attn_qkv.weight",          FILL_MATRIX,  MODEL, QKV, ONE},   \
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE}
#define OUTPUT_BIAS                                                       \
    {"blk.%u.attn_output.bias",         FILL_BIAS,    MODEL, ONE, ONE}
#define UNGATED_BIASES                                                    \
    {"blk.%u.ffn_up.bias",              FILL_BIAS,    FF, ONE, ONE},      \
    {"blk.%u.ffn_down.bias",            FILL_BIAS,    MODEL, ONE, ONE}
#define EPS KEY_F32("attention.layer_norm_epsilon", 1e-5)
static const TensorRow cohere[] = {ENDS, {"blk.%u.attn_norm.weight", FILL_GAIN, MODEL, ONE, ONE}, ATTENTION, GATED};
static const TensorRow phi2[] = {
    ENDS, OWN_HEAD, LAST_NORM_BIAS, ATTN_LAYER_NORM, ATTENTION, QKV_BIASES, OUTPUT_BIAS, UNGATED, UNGATED_BIASES,
    {"output.bias",                     FILL_BIAS,    VOCAB, ONE, ONE},
};
static const TensorRow phi2_fused[] = {
    ENDS, OWN_HEAD, LAST_NORM_BIAS, ATTN_LAYER_NORM, FUSED, OUTPUT_BIAS, UNGATED, UNGATED_BIASES,
    {"output.bias",                     FILL_BIAS,    VOCAB, ONE, ONE},
    {"blk.%u.attn_qkv.bias",            FILL_BIAS,    QKV, ONE, ONE},
};
static const TensorRow falcon_7b[] = {ENDS, OWN_HEAD, LAST_NORM_BIAS, ATTN_LAYER_NORM, FUSED, UNGATED};
static const TensorRow falcon[] = {
    ENDS, LAST_NORM_BIAS, ATTN_LAYER_NORM, FUSED, UNGATED,
    {"blk.%u.attn_norm_2.weight",       FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm_2.bias",         FILL_BIAS,    MODEL, ONE, ONE},
};
static const TensorRow gptneox[] = {
    ENDS, OWN_HEAD, LAST_NORM_BIAS, ATTN_LAYER_NORM, FFN_LAYER_NORM, FUSED, OUTPUT_BIAS, UNGATED, UNGATED_BIASES,
    {"blk.%u.attn_qkv.bias",            FILL_BIAS,    QKV, ONE, ONE},
};
static const TensorRow stablelm[] = {
    ENDS, OWN_HEAD, LAST_NORM_BIAS, ATTN_LAYER_NORM, FFN_LAYER_NORM, ATTENTION, QKV_BIASES, GATED,
};
static const TensorRow starcoder2[] = {
    ENDS, LAST_NORM_BIAS, ATTN_LAYER_NORM, FFN_LAYER_NORM, ATTENTION, QKV_BIASES, OUTPUT_BIAS, UNGATED, UNGATED_BIASES,
};
#define GAINS_AFTER                                                       \
    {"blk.%u.post_attention_norm.weight", FILL_GAIN,  MODEL, ONE, ONE},   \
    {"blk.%u.post_ffw_norm.weight",     FILL_GAIN,    MODEL, ONE, ONE}
#define WIDE_NORMS                                                        \
    {"blk.%u.attn_q_norm.weight",       FILL_NORM,    Q, ONE, ONE},       \
    {"blk.%u.attn_k_norm.weight",       FILL_NORM,    KV, ONE, ONE}
#define EXPERTS_ROWS                                                      \
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE}, \
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS}, \
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS}, \
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS}
#define SHARED_ROWS                                                       \
    {"blk.%u.ffn_gate_shexp.weight",    FILL_MATRIX,  MODEL, SHARED, ONE}, \
    {"blk.%u.ffn_up_shexp.weight",      FILL_MATRIX,  MODEL, SHARED, ONE}, \
    {"blk.%u.ffn_down_shexp.weight",    FILL_MATRIX,  SHARED, MODEL, ONE}
#define LEADING_ROWS                                                      \
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, DENSE, ONE}, \
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, DENSE, ONE}, \
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  DENSE, MODEL, ONE}
#define ROUTE_BIAS                                                        \
    {"blk.%u.exp_probs_b.bias",         FILL_BIAS,    EXPERTS, ONE, ONE}
static const TensorRow olmo2[] = {ENDS, OWN_HEAD, ATTENTION, WIDE_NORMS, GAINS_AFTER, GATED};
static const TensorRow exaone4[] = {ENDS, ATTENTION, HEAD_NORMS, GAINS_AFTER, GATED};
static const TensorRow olmoe[] = {ENDS, OWN_HEAD, NORMS_BEFORE, ATTENTION, WIDE_NORMS, EXPERTS_ROWS};
static const TensorRow qwen2moe[] = {
    ENDS, OWN_HEAD, NORMS_BEFORE, ATTENTION, QKV_BIASES, EXPERTS_ROWS, SHARED_ROWS,
    {"blk.%u.ffn_gate_inp_shexp.weight", FILL_SMALL,  MODEL, ONE, ONE},
};
static const TensorRow granitemoe[] = {ENDS, NORMS_BEFORE, ATTENTION, EXPERTS_ROWS};
static const TensorRow granitemoe_shared[] = {ENDS, NORMS_BEFORE, ATTENTION, EXPERTS_ROWS, SHARED_ROWS};
static const TensorRow glm4moe[] = {
    ENDS, OWN_HEAD, ATTENTION, QKV_BIASES, HEAD_NORMS, LEADING_ROWS, EXPERTS_ROWS, SHARED_ROWS, ROUTE_BIAS,
    {"blk.%u.attn_norm.weight",           FILL_GAIN,  MODEL, ONE, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_GAIN,  MODEL, ONE, ONE},
};
static const TensorRow dots1[] = {
    ENDS, OWN_HEAD, NORMS_BEFORE, ATTENTION, HEAD_NORMS, LEADING_ROWS, EXPERTS_ROWS, SHARED_ROWS, ROUTE_BIAS,
};
static const TensorRow bailingmoe2[] = {
    ENDS, OWN_HEAD, NORMS_BEFORE, FUSED, HEAD_NORMS, LEADING_ROWS, EXPERTS_ROWS, SHARED_ROWS, ROUTE_BIAS,
};
static const TensorRow ernie4_5_moe[] = {
    ENDS, NORMS_BEFORE, ATTENTION, LEADING_ROWS, EXPERTS_ROWS, SHARED_ROWS, ROUTE_BIAS,
};
static const TensorRow hunyuan_moe[] = {ENDS, NORMS_BEFORE, ATTENTION, HEAD_NORMS, EXPERTS_ROWS, SHARED_ROWS};
#define OF_EXPERTS(n, used) KEY_U32("expert_count", n), KEY_U32("expert_used_count", used), \
    KEY_U32("expert_feed_forward_length", 32)

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
    {"command-r", "command-r", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(cohere),
     .keys = {EPS, KEY_F32("rope.freq_base", 8e6), KEY_F32("logit_scale", 0.0625),
              KEY_STR("rope.scaling.type", "none")}},
    // The fourth of five layers sees all positions, and has no rotary embedding.
    {"cohere2", "cohere2", SIZES(5, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(cohere),
     .keys = {EPS, KEY_F32("rope.freq_base", 5e4), KEY_F32("logit_scale", 0.25), KEY_U32("rope.dimension_count", 16),
              KEY_U32("attention.sliding_window", 20), KEY_STR("rope.scaling.type", "none")}},
    {"phi2", "phi2", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(phi2),
     .keys = {EPS, KEY_U32("rope.dimension_count", 12)}},
    {"phi2-fused", "phi2", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(phi2_fused),
     .keys = {EPS, KEY_U32("rope.dimension_count", 12)}},
    {"falcon", "falcon", SIZES(2, 4, 2, 16, 256, 0), .dtype = DTYPE_Q8_0, TENSORS(falcon), .keys = {EPS}},
    {"falcon-7b", "falcon", SIZES(2, 4, 1, 16, 256, 0), .dtype = DTYPE_Q8_0, TENSORS(falcon_7b), .keys = {EPS}},
    {"gptneox", "gptneox", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(gptneox),
     .keys = {EPS, KEY_U32("rope.dimension_count", 8), KEY_BOOL("use_parallel_residual", 1)}},
    {"gptneox-sequential", "gptneox", SIZES(2, 2, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(gptneox),
     .keys = {EPS, KEY_U32("rope.dimension_count", 8), KEY_BOOL("use_parallel_residual", 0)}},
    {"stablelm", "stablelm", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(stablelm),
     .keys = {EPS, KEY_U32("rope.dimension_count", 4), KEY_BOOL("use_parallel_residual", 1)}},
    {"starcoder2", "starcoder2", SIZES(2, 4, 2, 16, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(starcoder2),
     .keys = {EPS, KEY_F32("rope.freq_base", 1e5)}},
    {"olmo2", "olmo2", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(olmo2),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 5e5)}},
    // OLMo 3: the fourth of five layers sees all positions, and only its are scaled.
    {"olmo3", "olmo2", SIZES(5, 4, 4, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(olmo2),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 5e5), KEY_U32("attention.sliding_window", 20),
              KEY_STR("rope.scaling.type", "yarn"), KEY_F32("rope.scaling.factor", 8),
              KEY_U32("rope.scaling.original_context_length", 32)}},
    // The fourth of five layers sees all positions, and has no rotary embedding.
    {"exaone4", "exaone4", SIZES(5, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(exaone4),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_U32("attention.sliding_window", 20)}},
    {"exaone4-full", "exaone4", SIZES(2, 4, 2, 16, 64, 0), .dtype = DTYPE_Q8_0, TENSORS(exaone4),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6)}},
    {"olmoe", "olmoe", SIZES(2, 4, 4, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(olmoe),
     .keys = {EPS_RMS, OF_EXPERTS(8, 4)}},
    {"qwen2moe", "qwen2moe", SIZES(2, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(qwen2moe), .shared_ff = 96,
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), OF_EXPERTS(8, 3),
              KEY_U32("expert_shared_feed_forward_length", 96)}},
    {"granitemoe", "granitemoe", SIZES(2, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(granitemoe),
     .keys = {EPS_RMS, KEY_U32("expert_count", 8), KEY_U32("expert_used_count", 3), KEY_F32("embedding_scale", 12),
              KEY_F32("residual_scale", 0.22), KEY_F32("logit_scale", 8), KEY_F32("attention.scale", 0.0625)}},
    {"granitemoe-shared", "granitemoe", SIZES(2, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(granitemoe_shared),
     .shared_ff = 64,
     .keys = {EPS_RMS, KEY_U32("expert_count", 8), KEY_U32("expert_used_count", 3), KEY_F32("embedding_scale", 12),
              KEY_F32("residual_scale", 0.22), KEY_F32("logit_scale", 8), KEY_F32("attention.scale", 0.0625),
              KEY_U32("expert_shared_feed_forward_length", 64)}},
    {"glm4moe", "glm4moe", SIZES(3, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(glm4moe), .dense_layers = 1,
     .dense_ff = 160, .shared_ff = 128,
     .keys = {EPS_RMS, KEY_U32("rope.dimension_count", 8), OF_EXPERTS(8, 3), KEY_U32("feed_forward_length", 160),
              KEY_U32("leading_dense_block_count", 1), KEY_U32("expert_shared_count", 4),
              KEY_U32("expert_gating_func", 2), KEY_BOOL("expert_weights_norm", 1),
              KEY_F32("expert_weights_scale", 2.5), KEY_U32("expert_group_count", 1),
              KEY_U32("expert_group_used_count", 1)}},
    {"dots1", "dots1", SIZES(3, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(dots1), .dense_layers = 1,
     .dense_ff = 160, .shared_ff = 128,
     .keys = {EPS_RMS, OF_EXPERTS(8, 3), KEY_U32("feed_forward_length", 160),
              KEY_U32("leading_dense_block_count", 1), KEY_U32("expert_shared_count", 4),
              KEY_U32("expert_gating_func", 2), KEY_BOOL("expert_weights_norm", 0),
              KEY_F32("expert_weights_scale", 2.5)}},
    // Two of four groups of eight.
    {"bailingmoe2", "bailingmoe2", SIZES(3, 4, 2, 16, 32, 32), .dtype = DTYPE_Q8_0, TENSORS(bailingmoe2),
     .dense_layers = 1, .dense_ff = 160, .shared_ff = 128,
     .keys = {EPS_RMS, KEY_U32("rope.dimension_count", 8), OF_EXPERTS(32, 4), KEY_U32("feed_forward_length", 160),
              KEY_U32("leading_dense_block_count", 1), KEY_U32("expert_shared_count", 1),
              KEY_U32("expert_shared_feed_forward_length", 128), KEY_U32("expert_gating_func", 2),
              KEY_BOOL("expert_weights_norm", 1), KEY_F32("expert_weights_scale", 2.5),
              KEY_U32("expert_group_count", 4), KEY_U32("expert_group_used_count", 2)}},
    {"ernie4_5-moe", "ernie4_5-moe", SIZES(3, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(ernie4_5_moe),
     .dense_layers = 1, .dense_ff = 160, .shared_ff = 128,
     .keys = {EPS_RMS, OF_EXPERTS(8, 3), KEY_U32("feed_forward_length", 160),
              KEY_U32("leading_dense_block_count", 1), KEY_U32("interleave_moe_layer_step", 1),
              KEY_U32("expert_shared_count", 4), KEY_U32("expert_shared_feed_forward_length", 128)}},
    {"hunyuan-moe", "hunyuan-moe", SIZES(2, 4, 2, 16, 32, 8), .dtype = DTYPE_Q8_0, TENSORS(hunyuan_moe),
     .shared_ff = 32,
     .keys = {EPS_RMS, OF_EXPERTS(8, 3), KEY_U32("expert_shared_count", 1),
              KEY_U32("expert_shared_feed_forward_length", 32)}},
};
// clang-format on

// A shared expert of the others' size and format, which one row's stages of experts take along.
const ArchModel arch_alike_qwen2moe = {"alike-qwen2moe",
                                       "qwen2moe",
                                       SIZES(2, 4, 2, 16, 32, 8),
                                       .dtype = DTYPE_MXFP4,
                                       TENSORS(qwen2moe),
                                       .shared_ff = 32,
                                       .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), OF_EXPERTS(8, 3),
                                                KEY_U32("expert_shared_feed_forward_length", 32)}};

const ArchModel *arch_family_model_at(uint32_t index) {
    return index < COUNT_OF(family_models) ? &family_models[index] : NULL;
}
