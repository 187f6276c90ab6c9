// Tiny models with a compressed cache: latent vectors, turned values, and a head's keys and values before and
// behind attention are all of other widths. Their texts are long, so that pages, splits of keys and YaRN's
// factors all show.
#include "arch_model_rows.h"

// clang-format off
#define LATENT_ROWS                                                       \
    {"token_embd.weight",               FILL_MATRIX,  MODEL, VOCAB, ONE}, \
    {"output_norm.weight",              FILL_NORM,    MODEL, ONE, ONE},   \
    {"output.weight",                   FILL_MATRIX,  MODEL, VOCAB, ONE}, \
    {"blk.%u.attn_norm.weight",         FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.ffn_norm.weight",          FILL_GAIN,    MODEL, ONE, ONE},   \
    {"blk.%u.attn_kv_a_mqa.weight",     FILL_MATRIX,  MODEL, ENTRY, ONE},    \
    {"blk.%u.attn_kv_a_norm.weight",    FILL_NORM,    KV_RANK, ONE, ONE}, \
    {"blk.%u.attn_output.weight",       FILL_MATRIX,  MLA_A, MODEL, ONE}, \
    {"blk.%u.ffn_gate.weight",          FILL_MATRIX,  MODEL, DENSE, ONE}, \
    {"blk.%u.ffn_up.weight",            FILL_MATRIX,  MODEL, DENSE, ONE}, \
    {"blk.%u.ffn_down.weight",          FILL_MATRIX,  DENSE, MODEL, ONE}, \
    {"blk.%u.ffn_gate_inp.weight",      FILL_SMALL,   MODEL, EXPERTS, ONE}, \
    {"blk.%u.ffn_gate_exps.weight",     FILL_MATRIX,  MODEL, FF, EXPERTS}, \
    {"blk.%u.ffn_up_exps.weight",       FILL_MATRIX,  MODEL, FF, EXPERTS}, \
    {"blk.%u.ffn_down_exps.weight",     FILL_MATRIX,  FF, MODEL, EXPERTS}, \
    {"blk.%u.ffn_gate_shexp.weight",    FILL_MATRIX,  MODEL, SHARED, ONE}, \
    {"blk.%u.ffn_up_shexp.weight",      FILL_MATRIX,  MODEL, SHARED, ONE}, \
    {"blk.%u.ffn_down_shexp.weight",    FILL_MATRIX,  SHARED, MODEL, ONE}
#define TWO_MATRICES                                                      \
    {"blk.%u.attn_k_b.weight",          FILL_MATRIX,  UNTURNED, KV_RANK, HEADS}, \
    {"blk.%u.attn_v_b.weight",          FILL_MATRIX,  KV_RANK, MLA_V, HEADS}
#define OF_Q                                                              \
    {"blk.%u.attn_q.weight",            FILL_MATRIX,  MODEL, MLA_Q, ONE}
#define OF_Q_RANK                                                         \
    {"blk.%u.attn_q_a.weight",          FILL_MATRIX,  MODEL, Q_RANK, ONE}, \
    {"blk.%u.attn_q_a_norm.weight",     FILL_NORM,    Q_RANK, ONE, ONE},  \
    {"blk.%u.attn_q_b.weight",          FILL_MATRIX,  Q_RANK, MLA_Q, ONE}
#define ROUTE_BIAS                                                        \
    {"blk.%u.exp_probs_b.bias",         FILL_BIAS,    EXPERTS, ONE, ONE}

static const TensorRow lite[] = {LATENT_ROWS, TWO_MATRICES, OF_Q};
static const TensorRow with_q_rank[] = {LATENT_ROWS, TWO_MATRICES, OF_Q_RANK};
static const TensorRow older[] = {
    LATENT_ROWS, OF_Q,
    {"blk.%u.attn_kv_b.weight",         FILL_MATRIX,  KV_RANK, MLA_KVS, ONE},
};
static const TensorRow with_bias[] = {LATENT_ROWS, TWO_MATRICES, OF_Q_RANK, ROUTE_BIAS};

enum { PROMPT = 400, TOKENS = PROMPT + 32, RANK = 128, TURNED = 32, KEY = 96, VALUE = 32, Q_LOW = 256 };

// Four heads on one; the first layers are dense.
#define COMPRESSED(n_layers, dense, experts)                                                            \
    SIZES(n_layers, 4, 1, RANK + TURNED, 64, experts), .dtype = DTYPE_Q8_0, .dense_layers = dense,  \
    .dense_ff = 160, .shared_ff = 128, .n_tokens = TOKENS,                                           \
    .mla = {.q_rank = Q_LOW, .kv_rank = RANK, .key_dim = KEY, .value_dim = VALUE, .turned = TURNED}
#define EPS_1E6 KEY_F32("attention.layer_norm_rms_epsilon", 1e-6)
#define KEYS_EXPERTS(dense, experts, used)                                                                 \
    KEY_U32("feed_forward_length", 160), KEY_U32("leading_dense_block_count", dense),                   \
    KEY_U32("expert_count", experts), KEY_U32("expert_used_count", used),                           \
    KEY_U32("expert_feed_forward_length", 64), KEY_U32("expert_shared_count", 2)
#define KEYS_LATENT                                                                                 \
    KEY_U32("attention.kv_lora_rank", RANK), KEY_U32("attention.key_length", RANK + TURNED),        \
    KEY_U32("attention.value_length", RANK), KEY_U32("attention.key_length_mla", KEY),              \
    KEY_U32("attention.value_length_mla", VALUE), KEY_U32("rope.dimension_count", TURNED)
#define KEY_Q_RANK KEY_U32("attention.q_lora_rank", Q_LOW)
#define KEYS_YARN(multiplier)                                                                       \
    KEY_STR("rope.scaling.type", "yarn"), KEY_F32("rope.scaling.factor", 40),                       \
    KEY_U32("rope.scaling.original_context_length", 64),                                            \
    KEY_F32("rope.scaling.yarn_log_multiplier", multiplier)

static const ArchModel mla_models[] = {
    // DeepSeek-V2-Lite: queries of one product, softmax over all experts.
    {"deepseek2-lite", "deepseek2", COMPRESSED(3, 1, 8), TENSORS(lite),
     .keys = {EPS_1E6, KEYS_EXPERTS(1, 8, 3), KEYS_LATENT, KEYS_YARN(0.0707)}},
    // DeepSeek-V2: two of four groups, by the largest score of each.
    {"deepseek2-groups", "deepseek2", COMPRESSED(3, 1, 16), TENSORS(with_q_rank),
     .keys = {EPS_1E6, KEYS_EXPERTS(1, 16, 4), KEYS_LATENT, KEY_Q_RANK, KEYS_YARN(0.0707),
              KEY_F32("expert_weights_scale", 16), KEY_U32("expert_group_count", 4),
              KEY_U32("expert_group_used_count", 2)}},
    // DeepSeek-V3: sigmoids with a bias, two of four groups by the two largest scores of each.
    {"deepseek2-v3", "deepseek2", COMPRESSED(3, 1, 16), TENSORS(with_bias),
     .keys = {EPS_1E6, KEYS_EXPERTS(1, 16, 4), KEYS_LATENT, KEY_Q_RANK, KEYS_YARN(0.1),
              KEY_U32("expert_gating_func", 2), KEY_BOOL("expert_weights_norm", 1),
              KEY_F32("expert_weights_scale", 2.5), KEY_U32("expert_group_count", 4),
              KEY_U32("expert_group_used_count", 2)}},
    // GLM-4.7-Flash: no scaling of the rotary embedding.
    {"deepseek2-glm", "deepseek2", COMPRESSED(3, 1, 8), TENSORS(with_bias),
     .keys = {EPS_1E6, KEYS_EXPERTS(1, 8, 3), KEYS_LATENT, KEY_Q_RANK, KEY_F32("rope.freq_base", 1e6),
              KEY_U32("expert_gating_func", 2), KEY_BOOL("expert_weights_norm", 1),
              KEY_F32("expert_weights_scale", 1.8)}},
    // Dense layers alone: attention without the rest.
    {"deepseek2-dense", "deepseek2", COMPRESSED(2, 2, 8), TENSORS(with_q_rank),
     .keys = {EPS_1E6, KEYS_EXPERTS(2, 8, 3), KEYS_LATENT, KEY_Q_RANK, KEYS_YARN(0.1),
              KEY_U32("expert_gating_func", 2)}},
    // As files were before caches were compressed.
    {"deepseek2-older", "deepseek2", COMPRESSED(2, 2, 8), TENSORS(older),
     .keys = {EPS_1E6, KEYS_EXPERTS(2, 8, 3), KEY_U32("attention.kv_lora_rank", RANK),
              KEY_U32("attention.key_length", KEY), KEY_U32("attention.value_length", VALUE),
              KEY_U32("attention.head_count_kv", 4), KEY_U32("rope.dimension_count", TURNED), KEYS_YARN(0.0707)}},
};

// Entries of five sheets of 64 dims, so that prompts go by wgmma; heads that do not fill its columns evenly.
const ArchModel arch_odd_mla =
    {"odd-deepseek2", "deepseek2", SIZES(2, 5, 1, 320, 64, 8), .dtype = DTYPE_Q8_0, .dense_layers = 2,
     .dense_ff = 160, .shared_ff = 128, .n_tokens = TOKENS, TENSORS(lite),
     .mla = {.q_rank = Q_LOW, .kv_rank = 256, .key_dim = 128, .value_dim = 64, .turned = 64},
     .keys = {EPS_1E6, KEYS_EXPERTS(2, 8, 3), KEY_U32("attention.kv_lora_rank", 256),
              KEY_U32("attention.key_length", 320), KEY_U32("attention.value_length", 256),
              KEY_U32("attention.key_length_mla", 128), KEY_U32("attention.value_length_mla", 64),
              KEY_U32("rope.dimension_count", 64), KEYS_YARN(0.0707)}};
// clang-format on

const ArchModel *arch_mla_model_at(uint32_t index) {
    return index < COUNT_OF(mla_models) ? &mla_models[index] : NULL;
}
