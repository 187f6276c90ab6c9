#include "plan/keys.h"

#include <math.h>

Str arch_key(ArchKey *key, const char *pattern, const Arch *arch) {
    StrBuf b = STRBUF(key->text);
    const char *rest = strstr(pattern, "%s");
    strbuf_put(&b, (Str){pattern, (size_t)(rest - pattern)});
    strbuf_printf(&b, "%s%s", arch->name, rest + 2);
    return strbuf_str(&b);
}

// A key that changes what a model computes, unless it has one of two values (which may be the same).
typedef struct {
    const char *suffix; // behind "ARCH."
    double neutral, or_neutral;
    const char *what; // for the message
} KeyVariant;

// clang-format off
static const KeyVariant variants[] = {
    {"altup.correct_scale",             1, 1, "streams whose news are not scaled"},
    {"activation_sparsity_scale",       0, 0, "sparse activations"},
    {"attention.causal",                1, 1, "attention to later positions"},
    {"attention.clamp_kqv",             0, 0, "clamped queries"},
    {"attention.max_alibi_bias",        0, 0, "position biases"},
    {"attention.scale",                 0, 0, "scales of attention"},
    {"attention.shared_kv_layers",      0, 0, "shared keys and values"},
    {"attention.sliding_window",        0, 0, "attention windows"},
    {"attention.temperature_length",    0, 0, "temperatures of attention"},
    {"attention.temperature_scale",     0, 0, "temperatures of attention"},
    {"attn_logit_softcapping",          0, 0, "capped scores"},
    {"embedding_length_per_layer_input", 0, 0, "embeddings of layers"},
    {"embedding_scale",                 1, 1, "scaled embeddings"},
    {"expert_count",                    0, 0, "mixtures of experts"},
    // Softmax over all experts, or over the chosen ones: the same where the chosen shares are scaled to sum to 1.
    {"expert_gating_func",              1, 3, "other ways to choose experts than softmax"},
    {"expert_feed_forward_length",      0, 0, "mixtures of experts"},
    {"expert_group_count",              0, 1, "experts in groups"},
    {"expert_group_used_count",         0, 1, "experts in groups"},
    {"expert_shared_count",             0, 0, "shared experts"},
    {"expert_shared_feed_forward_length", 0, 0, "shared experts"},
    {"expert_used_count",               0, 0, "mixtures of experts"},
    {"expert_weights_norm",             1, 1, "experts whose shares do not sum to 1"},
    {"expert_weights_scale",            1, 0, "scaled experts"},
    {"experts_per_group",               0, 0, "experts in groups"},
    {"final_logit_softcapping",         0, 0, "capped logits"},
    {"full_attention_interval",         0, 1, "layers without attention"},
    {"hidden_activation",               NAN, NAN, "activations by name"}, // a text: the tables say which
    {"interleave_moe_layer_step",       0, 1, "layers without experts"},
    {"leading_dense_block_count",       0, 0, "layers without experts"},
    {"logit_scale",                     1, 1, "scaled logits"},
    {"moe_every_n_layers",              0, 1, "layers without experts"},
    {"residual_scale",                  1, 1, "scaled residuals"},
    {"rope.scale_linear",               1, 1, "old keys of RoPE's scaling"},
    {"rope.scaling.yarn_log_multiplier", 0, 0, "multipliers of YaRN's factor on attention"},
    {"router_logit_softcapping",        0, 0, "capped router logits"},
    {"swiglu_clamp_exp",                0, 0, "clamped activations"},
    {"swiglu_clamp_shexp",              0, 0, "clamped activations"},
    {"use_parallel_residual",           0, 0, "parallel blocks"},
};

// Keys below the strict prefixes that change nothing in the models that the tables describe.
static const char *const harmless[] = {
    "attention.group_norm_epsilon",     // of norms that no table has
    "attention.group_norm_groups",
    "attention.layer_norm_epsilon",     // of the other kind of norm: some converters write both
    "attention.layer_norm_rms_epsilon",
    "rope.scaling.finetuned",           // how the weights came to be
};

static const char *const strict_prefixes[] = {"attention.", "rope.", "expert_", "ssm.", "shortconv."};
// clang-format on

static bool is_one_of(Str suffix, const char *const *list, size_t count) {
    bool found = false;
    for (size_t i = 0; i < count && !found; i++)
        found = str_eq(str_from_c(list[i]), suffix);
    return found;
}

// Keys in the tables are "%s." and the suffix.
static bool arch_reads(const Arch *arch, Str suffix) {
    bool found = false;
    for (uint32_t i = 0; i < arch->n_config && !found; i++)
        found = arch->config[i].key && str_eq(str_from_c(arch->config[i].key + 3), suffix);
    return found;
}

static const KeyVariant *find_variant(Str suffix) {
    for (size_t i = 0; i < COUNT_OF(variants); i++) {
        if (str_eq(str_from_c(variants[i].suffix), suffix)) return &variants[i];
    }
    return NULL;
}

static bool is_strict(Str suffix) {
    bool found = false;
    for (size_t i = 0; i < COUNT_OF(strict_prefixes) && !found; i++)
        found = str_starts_with(suffix, str_from_c(strict_prefixes[i]));
    return found;
}

// NAN for what is not a number.
static double value_number(const GgufValue *v) {
    switch (v->type) {
    case GGUF_F32:
    case GGUF_F64: return v->f64;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: return (double)v->i64;
    case GGUF_STRING:
    case GGUF_ARRAY:
    case GGUF_TYPE_COUNT: return NAN;
    default: return (double)v->u64;
    }
}

// YaRN's own two numbers, where files say them. `yarn_attn_factor` replaces YaRN's factor on attention for
// some programs, multiplies it for others and does nothing for the rest; only a value that means the same for
// all is taken.
static bool yarn_key_is_neutral(const Arch *arch, const ModelConfig *c, Str suffix, double number) {
    bool is_yarn = c->rope.scaling == ROPE_SCALING_YARN && arch->rope_pairs != ROPE_NONE;
    if (str_eq(suffix, STR("rope.scaling.yarn_ext_factor"))) return number == is_yarn;
    if (!str_eq(suffix, STR("rope.scaling.yarn_attn_factor"))) return false;
    double own = is_yarn ? 0.1 * log((double)c->rope.factor) + 1 : 1;
    return fabs(number - own) < 1e-4;
}

// What the value would mean, "" where that is not known; NULL where the key changes nothing or is read by a
// row.
static const char *what_is_refused(const Arch *arch, const ModelConfig *c, const GgufValue *v) {
    Str name = str_from_c(arch->name);
    if (!str_starts_with(v->key, name) || v->key.len <= name.len || v->key.ptr[name.len] != '.') return NULL;
    Str suffix = str_slice(v->key, name.len + 1, v->key.len);
    if (arch_reads(arch, suffix)) return NULL;
    double number = value_number(v);
    const KeyVariant *variant = find_variant(suffix);
    if (variant) return number == variant->neutral || number == variant->or_neutral ? NULL : variant->what;
    bool is_known = !is_strict(suffix) || is_one_of(suffix, harmless, COUNT_OF(harmless)) ||
                    yarn_key_is_neutral(arch, c, suffix, number);
    return is_known ? NULL : "";
}

bool keys_check(const GgufFile *file, const Arch *arch, const ModelConfig *c, StrBuf *ignored, Error *err) {
    for (uint32_t i = 0; i < file->n_values; i++) {
        const GgufValue *v = &file->values[i];
        const char *what = what_is_refused(arch, c, v);
        if (!what) continue;
        char text[64];
        StrBuf value = STRBUF(text);
        gguf_put_value(v, &value);
        if (ignored) {
            strbuf_printf(ignored, "%s%.*s = %s", ignored->len ? ", " : "", STR_ARG(v->key), text);
            continue;
        }
        if (arch->of_experts && strcmp(what, "mixtures of experts") == 0) {
            gguf_value_error(file, v, err, "its value is %s, but %s.expert_count is 0 or missing", text,
                             arch->name);
        } else if (*what) {
            gguf_value_error(file, v, err, "%s of architecture %s are not supported (its value is %s)", what,
                             arch->name, text);
        } else {
            gguf_value_error(file, v, err,
                             "its value %s may change what the model computes, and is not supported; "
                             "--ignore-unknown-keys runs the model without it",
                             text);
        }
        err->code = ERR_UNSUPPORTED;
        return false;
    }
    return true;
}
