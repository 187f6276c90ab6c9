// Tiny models of Gemma 4 and Gemma 3n, whose last layers read the keys and values of earlier ones; layers of
// Gemma 4 with and without a window have heads of their own. A letter a layer in `mixers`: A has keys and
// values, S keys that are its values, too, F neither.
#include "arch_model_rows.h"

#include <math.h>

// clang-format off
#define GEMMA4                                                            \
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE}, \
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},   \
    {"rope_freqs.weight",               FILL_QUARTER, ROPE_FULL_HALF, ONE, ONE}, \
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},     \
    {"blk.%u.attn_q_norm.weight",       FILL_LITTLE,    HEAD, ONE, ONE},    \
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},     \
    {"blk.%u.post_attention_norm.weight", FILL_NORM,  MODEL, ONE, ONE},   \
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},    \
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},    \
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},    \
    {"blk.%u.post_ffw_norm.weight",     FILL_NORM,    MODEL, ONE, ONE},   \
    {"blk.%u.layer_output_scale.weight", FILL_NORM,   ONE, ONE, ONE}

static const TensorRow keys_alone[] = {
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_LITTLE,    HEAD, ONE, ONE},
};
static const TensorRow keys_values[] = {
    {"blk.%u.attn_k.weight",            FILL_MATRIX,  MODEL, KV, ONE},
    {"blk.%u.attn_k_norm.weight",       FILL_LITTLE,    HEAD, ONE, ONE},
    {"blk.%u.attn_v.weight",            FILL_MATRIX,  MODEL, KV, ONE},
};
static const TensorRow dense[] = {GEMMA4};
static const TensorRow per_layer[] = {
    GEMMA4,
    {"per_layer_token_embd.weight",     FILL_MATRIX,  PER_LAYERS, VOCAB, ONE},
    {"per_layer_model_proj.weight",     FILL_MATRIX,  MODEL, PER_LAYERS, ONE},
    {"per_layer_proj_norm.weight",      FILL_NORM,    PER_LAYER, ONE, ONE},
    {"blk.%u.inp_gate.weight",          FILL_MATRIX,  MODEL, PER_LAYER, ONE},
    {"blk.%u.proj.weight",              FILL_MATRIX,  PER_LAYER, MODEL, ONE},
    {"blk.%u.post_norm.weight",         FILL_NORM,    MODEL, ONE, ONE},
};
#define EXPERTS_BESIDE                                                    \
    {"blk.%u.post_ffw_norm_1.weight",   FILL_NORM,    MODEL, ONE, ONE},   \
    {"blk.%u.pre_ffw_norm_2.weight",    FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.post_ffw_norm_2.weight",   FILL_NORM,    MODEL, ONE, ONE},   \
    {"blk.%u.ffn_gate_inp.scale",       FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.ffn_gate_inp.weight",      FILL_BIAS,    MODEL, EXPERTS, ONE}, \
    {"blk.%u.ffn_down_exps.weight",     FILL_EXPERTS, EXPERT_FF, MODEL, EXPERTS}, \
    {"blk.%u.ffn_down_exps.scale",      FILL_NORM,    EXPERTS, ONE, ONE}
static const TensorRow mixture[] = {
    GEMMA4, EXPERTS_BESIDE,
    {"blk.%u.ffn_gate_up_exps.weight",  FILL_EXPERTS, MODEL, BESIDE_FF2, EXPERTS},
};

static const TensorRow streams[] = {
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE},
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},
    {"per_layer_token_embd.weight",     FILL_MATRIX,  PER_LAYERS, VOCAB, ONE},
    {"per_layer_model_proj.weight",     FILL_MATRIX,  MODEL, PER_LAYERS, ONE},
    {"per_layer_proj_norm.weight",      FILL_NORM,    PER_LAYER, ONE, ONE},
    {"altup_proj.weight",               FILL_MATRIX,  MODEL, MODEL, MORE},
    {"altup_unembd_proj.weight",        FILL_MATRIX,  MODEL, MODEL, MORE},
    {"blk.%u.altup_router_norm.weight", FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.altup_router.weight",      FILL_WIDE,    MODEL, STREAMS, ONE},
    {"blk.%u.altup_predict_coef.weight", FILL_SLIGHT, STREAMS, STREAMS_2, ONE}, // more: streams cancel, rounding grows
    {"blk.%u.altup_correct_coef.weight", FILL_BIAS,   STREAMS, STREAMS, ONE},
    {"blk.%u.altup_correct_scale.weight", FILL_NORM,  MODEL, ONE, ONE},
    {"blk.%u.laurel_l.weight",          FILL_MATRIX,  MODEL, LAUREL, ONE},
    {"blk.%u.laurel_r.weight",          FILL_MATRIX,  LAUREL, MODEL, ONE},
    {"blk.%u.laurel_post_norm.weight",  FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, Q, ONE},
    {"blk.%u.attn_q_norm.weight",       FILL_LITTLE,  HEAD, ONE, ONE},
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  Q, MODEL, ONE},
    {"blk.%u.post_attention_norm.weight", FILL_NORM,  MODEL, ONE, ONE},
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, FF, ONE},
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  FF, MODEL, ONE},
    {"blk.%u.post_ffw_norm.weight",     FILL_NORM,    MODEL, ONE, ONE},
    {"blk.%u.inp_gate.weight",          FILL_MATRIX,  MODEL, PER_LAYER, ONE},
    {"blk.%u.proj.weight",              FILL_MATRIX,  PER_LAYER, MODEL, ONE},
    {"blk.%u.post_norm.weight",         FILL_NORM,    MODEL, ONE, ONE},
};

static const uint32_t windows[] = {1, 1, 0, 1, 1, 0}, head_dims[] = {32, 32, 64, 32, 32, 64};
static const uint32_t kv_heads[] = {2, 2, 1, 2, 2, 1}, wider[] = {128, 128, 128, 256, 256, 256};

#define GEMMA4_KEYS                                                             \
    EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_F32("rope.freq_base_swa", 1e4), \
    KEY_U32("rope.dimension_count", 64), KEY_U32("rope.dimension_count_swa", 32), \
    KEY_U32("attention.key_length", 64), KEY_U32("attention.value_length", 64),  \
    KEY_U32("attention.key_length_swa", 32), KEY_U32("attention.value_length_swa", 32), \
    KEY_U32("attention.sliding_window", 20), KEY_BOOLS("attention.sliding_window_pattern", windows), \
    KEY_F32("final_logit_softcapping", 0.3)
#define KINDS(letters) .layer_head_dim = head_dims, .rope_full = 64, .mixers = letters, \
    .of_mixer = {keys_values, keys_alone}, .n_of_mixer = {COUNT_OF(keys_values), COUNT_OF(keys_alone)}

// Two layers with sparse activations, as the published 95% and about half of them; the others without.
static const float sparsities[] = {1.6448536f, 0.1f, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
#define GEMMA3N_KEYS(n_streams, active)                                                              \
    EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_F32("rope.freq_base_swa", 1e4),                     \
    KEY_U32("attention.key_length", 32), KEY_U32("attention.value_length", 32),                      \
    KEY_U32("attention.sliding_window", 20), KEY_BOOLS("attention.sliding_window_pattern", windows), \
    KEY_F32("final_logit_softcapping", 0.3), KEY_U32("embedding_length_per_layer_input", 128),        \
    KEY_U32("altup.num_inputs", n_streams), KEY_U32("altup.active_idx", active),                     \
    KEY_F32S("activation_sparsity_scale", sparsities)
#define KINDS_3N .mixers = "AAAAFF", .of_mixer = {keys_values}, .n_of_mixer = {COUNT_OF(keys_values)}, .per_layer = 128

static const ArchModel gemma_models[] = {
    {"gemma3n", "gemma3n", SIZES(6, 4, 2, 32, 128, 0), .dtype = DTYPE_Q8_0, TENSORS(streams), KINDS_3N, .streams = 4,
     .keys = {GEMMA3N_KEYS(4, 0), KEY_F32("attention.shared_kv_layers", 2)}},
    // Another stream that layers work on.
    {"gemma3n-second", "gemma3n", SIZES(6, 4, 1, 32, 128, 0), .dtype = DTYPE_Q8_0, TENSORS(streams), KINDS_3N,
     .streams = 3, .keys = {GEMMA3N_KEYS(3, 1), KEY_U32("attention.shared_kv_layers", 2)}},
    {"gemma4-e4b", "gemma4", SIZES(6, 4, 2, 64, 128, 0), .dtype = DTYPE_Q8_0, TENSORS(per_layer), KINDS("AAAAFF"),
     .per_layer = 128,
     .keys = {GEMMA4_KEYS, KEY_U32("attention.shared_kv_layers", 2),
              KEY_U32("embedding_length_per_layer_input", 128)}},
    // The layers that share keys and values have a wider feed-forward.
    {"gemma4-e2b", "gemma4", SIZES(6, 4, 1, 64, 256, 0), .dtype = DTYPE_Q4_0, TENSORS(per_layer), KINDS("AAAFFF"),
     .per_layer = 128, .layer_ff = wider,
     .keys = {GEMMA4_KEYS, KEY_U32("attention.shared_kv_layers", 3),
              KEY_U32("embedding_length_per_layer_input", 128), KEY_U32S("feed_forward_length", wider)}},
    // Keys are values where there is no window.
    {"gemma4-31b", "gemma4", SIZES(6, 4, 2, 64, 96, 0), .dtype = DTYPE_Q8_0, TENSORS(dense), KINDS("AASAAS"),
     .layer_kv_heads = kv_heads,
     .keys = {GEMMA4_KEYS, KEY_U32("attention.shared_kv_layers", 0), KEY_U32("embedding_length_per_layer_input", 0),
              KEY_U32S("attention.head_count_kv", kv_heads)}},
    {"gemma4-26b", "gemma4", SIZES(6, 4, 2, 64, 96, 8), .dtype = DTYPE_Q8_0, TENSORS(mixture), KINDS("AASAAS"),
     .layer_kv_heads = kv_heads, .expert_ff = 32,
     .keys = {GEMMA4_KEYS, KEY_U32S("attention.head_count_kv", kv_heads), KEY_U32("expert_count", 8),
              KEY_U32("expert_used_count", 3), KEY_U32("expert_feed_forward_length", 32)}},
};

// Heads as wide as the published ones.
static const uint32_t two_windows[] = {1, 0, 1, 0}, wide_dims[] = {256, 512, 256, 512}, one_kv_head[] = {2, 1, 2, 1};
const ArchModel arch_odd_gemma4 = {
    "odd-gemma4", "gemma4", SIZES(4, 4, 2, 512, 128, 0), .dtype = DTYPE_Q8_0, TENSORS(dense),
    .layer_kv_heads = one_kv_head, .layer_head_dim = wide_dims, .rope_full = 512, .mixers = "ASFF",
    .of_mixer = {keys_values, keys_alone}, .n_of_mixer = {COUNT_OF(keys_values), COUNT_OF(keys_alone)},
    .keys = {EPS_RMS, KEY_F32("rope.freq_base", 1e6), KEY_F32("rope.freq_base_swa", 1e4),
             KEY_U32("rope.dimension_count", 512), KEY_U32("rope.dimension_count_swa", 256),
             KEY_U32("attention.key_length", 512), KEY_U32("attention.value_length", 512),
             KEY_U32("attention.key_length_swa", 256), KEY_U32("attention.value_length_swa", 256),
             KEY_U32("attention.sliding_window", 20), KEY_BOOLS("attention.sliding_window_pattern", two_windows),
             KEY_U32("attention.shared_kv_layers", 2), KEY_U32S("attention.head_count_kv", one_kv_head)},
};
// clang-format on

const ArchModel *arch_gemma_model_at(uint32_t index) {
    return index < COUNT_OF(gemma_models) ? &gemma_models[index] : NULL;
}
