// Tiny models of Llama 4 and Muse Glimmer: layers with and without a window (or chunks) take turns.
#include "arch_model_rows.h"

// clang-format off
#define LLAMA4                                                              \
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},   \
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},     \
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},   \
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},     \
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},       \
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},      \
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},      \
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},       \
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},     \
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE}, \
    {"blk.%u.ffn_gate_exps.weight",     FILL_EXPERTS, MODEL, FF, EXPERTS},  \
    {"blk.%u.ffn_up_exps.weight",       FILL_EXPERTS, MODEL, FF, EXPERTS},  \
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, FF, MODEL, EXPERTS},  \
    {"blk.%u.ffn_gate_shexp.weight",    FILL_MATRIX,  MODEL, SHARED, ONE},  \
    {"blk.%u.ffn_up_shexp.weight",      FILL_MATRIX,  MODEL, SHARED, ONE},  \
    {"blk.%u.ffn_down_shexp.weight",    FILL_MATRIX,  SHARED, MODEL, ONE}
static const TensorRow scout[] = {
    LLAMA4,
    {"rope_freqs.weight",               FILL_LLAMA3,  ROPE_HALF, ONE, ONE},
};
static const TensorRow maverick[] = {
    LLAMA4,
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, DENSE, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, DENSE, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  DENSE, MODEL, ONE},
};

static const TensorRow muse_glimmer[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_gate.weight",         FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_q_norm.weight",       FILL_FACTOR2, HEAD, ONE, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_ONE,     HEAD, ONE, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_NORM,  MODEL, ONE, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
    {"blk.%u.post_ffw_norm.weight",     FILL_NORM,    MODEL, ONE, ONE},
};

static const uint32_t windows[] = {1, 0, 1, 1, 0};

// Chunks are no multiple of a page, and a row at the end of one is among those that the vectors have; more
// than one expert a token, which no published model has, shows whose weight is whose.
#define LLAMA4_KEYS(n_experts, used, n_ff, n_period)                                                   \
    EPS_RMS, KEY_F32("rope.freq_base", 500000), KEY_U32("attention.key_length", 32),                   \
    KEY_U32("attention.value_length", 32), KEY_U32("attention.sliding_window", 23),                    \
    KEY_U32("attention.temperature_length", 16), KEY_U32("expert_count", n_experts),                   \
    KEY_U32("expert_used_count", used), KEY_U32("expert_feed_forward_length", n_ff),                   \
    KEY_U32("interleave_moe_layer_step", n_period)

static const ArchModel meta_models[] = {
    {"llama4-scout", "llama4", SIZES(5, 4, 2, 32, 64, 8), .dtype = DTYPE_Q8_0, TENSORS(scout), .shared_ff = 64,
     .keys = {LLAMA4_KEYS(8, 2, 64, 1), KEY_U32("feed_forward_length", 96)}},
    // So many experts tell that no heads are normed; every other layer is dense.
    {"llama4-maverick", "llama4", SIZES(4, 4, 1, 32, 128, 128), .dtype = DTYPE_Q8_0, TENSORS(maverick), .shared_ff = 128,
     .dense_ff = 384, .period = 2, .keys = {LLAMA4_KEYS(128, 1, 128, 2), KEY_U32("feed_forward_length", 384)}},
    {"muse-glimmer", "muse-glimmer", SIZES(5, 4, 2, 32, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(muse_glimmer),
     .keys = {EPS_RMS, KEY_F32("rope.freq_base", 500000), KEY_U32("attention.key_length", 32),
              KEY_U32("attention.value_length", 32), KEY_U32("attention.sliding_window", 20),
              KEY_BOOLS("attention.sliding_window_pattern", windows), KEY_F32("logit_scale", 0.25),
              KEY_F32("final_logit_softcapping", 0.5)}},
};
// clang-format on

const ArchModel *arch_meta_model_at(uint32_t index) {
    return index < COUNT_OF(meta_models) ? &meta_models[index] : NULL;
}
