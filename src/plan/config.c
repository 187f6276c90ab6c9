#include "plan/config.h"

#include "base/limits.h"
#include "base/strbuf.h"

#include <math.h>

// A key with the architecture's name put in.
typedef struct {
    char text[128];
} Key;

static Str key_format(Key *key, const char *pattern, const Arch *arch) {
    StrBuf b = STRBUF(key->text);
    const char *rest = strstr(pattern, "%s");
    strbuf_put(&b, (Str){pattern, (size_t)(rest - pattern)});
    strbuf_printf(&b, "%s%s", arch->name, rest + 2);
    return strbuf_str(&b);
}

// The shortest period of which every layer but the last has a window; 0 where there is none.
static uint32_t window_period_of(const GgufArray *has_window) {
    for (uint32_t period = 1; period <= min_u64(has_window->count, LAYERS_MAX) + 1; period++) {
        bool fits = true;
        for (uint64_t i = 0; fits && i < has_window->count; i++)
            fits = (gguf_array_i64(has_window, i) != 0) == (i % period != period - 1);
        if (fits) return period;
    }
    return 0;
}

static bool config_read_period(const GgufFile *file, Str name, uint32_t *out, Error *err) {
    const GgufValue *value = gguf_find_value(file, name);
    if (!value || value->type != GGUF_ARRAY) return gguf_opt_u32(file, name, out, err);
    GgufArray has_window;
    if (!gguf_get_array(file, name, GGUF_BOOL, &has_window, err)) return false;
    *out = window_period_of(&has_window);
    if (*out) return true;
    gguf_value_error(file, value, err, "layers with a window in this order are not supported");
    err->code = ERR_UNSUPPORTED;
    return false;
}

static bool config_read_row(const GgufFile *file, const Arch *arch, const ConfigRow *row, ModelConfig *c,
                            Error *err) {
    Key key;
    void *field = (uint8_t *)c + row->offset;
    uint32_t u32 = (uint32_t)row->fallback;
    float f32 = (float)row->fallback;
    bool ok = true;
    if (row->only_n_layers && row->only_n_layers != c->n_layers) return true;
    if (row->key) {
        Str name = key_format(&key, row->key, arch);
        switch (row->type) {
        case CONFIG_U32: ok = (row->required ? gguf_get_u32 : gguf_opt_u32)(file, name, &u32, err); break;
        case CONFIG_F32: ok = (row->required ? gguf_get_f32 : gguf_opt_f32)(file, name, &f32, err); break;
        case CONFIG_PERIOD: ok = config_read_period(file, name, &u32, err); break;
        }
    }
    if (row->type == CONFIG_F32) memcpy(field, &f32, sizeof f32);
    else memcpy(field, &u32, sizeof u32);
    return ok;
}

static bool config_read_rope_scaling(const GgufFile *file, const Arch *arch, ModelConfig *c, Error *err) {
    // A factor without a type is the old way to say "linear".
    Str type = c->rope_factor == 1 || c->rope_factor == 0 ? STR("none") : STR("linear");
    Key key;
    Str name = key_format(&key, "%s.rope.scaling.type", arch);
    if (!gguf_opt_str(file, name, &type, err)) return false;
    static const char *const names[] = {[ROPE_SCALING_NONE] = "none",
                                        [ROPE_SCALING_LINEAR] = "linear",
                                        [ROPE_SCALING_YARN] = "yarn",
                                        [ROPE_SCALING_LONGROPE] = "longrope"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (!str_eq(type, str_from_c(names[i]))) continue;
        c->rope_scaling = (RopeScaling)i;
        return true;
    }
    error_set(err, ERR_UNSUPPORTED,
              "%s: RoPE scaling \"%.*s\" is not supported; supported: none, linear, yarn, longrope", name.ptr,
              STR_ARG(type));
    return false;
}

// Values that files leave out because they follow from others.
static void config_complete(ModelConfig *c) {
    if (c->n_kv_heads == 0) c->n_kv_heads = c->n_heads;
    if (c->head_dim == 0 && c->n_heads) c->head_dim = c->d_model / c->n_heads;
    if (c->rope_dims == 0) c->rope_dims = c->head_dim;
    if (c->rope_original_context == 0) c->rope_original_context = c->n_context;
    if (c->value_dim == 0) c->value_dim = c->head_dim;
    if (c->d_ff_expert == 0) c->d_ff_expert = c->d_ff;
    c->embed_scale = c->embed_by_root ? sqrtf((float)c->d_model) : 1;
}

typedef struct {
    const char *name; // the key's part after the architecture
    uint32_t value;
    uint32_t least;
    uint32_t most;
} ConfigRange;

static bool config_check_ranges(const Arch *arch, const ModelConfig *c, Error *err) {
    const ConfigRange ranges[] = {
        {"block_count", c->n_layers, 1, LAYERS_MAX},
        {"context_length", c->n_context, 1, 1 << 24},
        {"embedding_length", c->d_model, 1, 1 << 17},
        {"feed_forward_length", c->d_ff, 1, 1 << 20},
        {"attention.head_count", c->n_heads, 1, 1 << 12},
        {"attention.head_count_kv", c->n_kv_heads, 1, c->n_heads},
        {"attention.key_length", c->head_dim, 1, HEAD_DIM_MAX},
        {"attention.value_length", c->value_dim, c->head_dim, c->head_dim},
        {"expert_count", c->n_experts, 0, EXPERTS_MAX},
        {"expert_used_count", c->n_experts_used, c->n_experts > 0, c->n_experts},
        {"expert_feed_forward_length", c->d_ff_expert, 1, 1 << 20},
        {"rope.dimension_count", c->rope_dims, 0, c->head_dim},
        {"rope.scaling.original_context_length", c->rope_original_context, 1, 1 << 24},
    };
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        const ConfigRange *r = &ranges[i];
        if (r->value >= r->least && r->value <= r->most) continue;
        return error_set(err, ERR_BAD_FILE, "%s.%s is %u; expected %u to %u", arch->name, r->name, r->value,
                         r->least, r->most);
    }
    return true;
}

// Far from where a cap or its inverse is no number any more.
static bool cap_is_usable(float cap) {
    return cap == 0 || (cap >= 0.01f && cap <= 1e6f);
}

static bool config_check(const Arch *arch, const ModelConfig *c, Error *err) {
    if (!config_check_ranges(arch, c, err)) return false;
    if (c->n_heads % c->n_kv_heads) {
        return error_set(err, ERR_BAD_FILE,
                         "%s.attention.head_count is %u, not a multiple of head_count_kv %u", arch->name,
                         c->n_heads, c->n_kv_heads);
    }
    if (c->rope_dims % 2) {
        return error_set(err, ERR_BAD_FILE, "%s.rope.dimension_count is %u, not even", arch->name,
                         c->rope_dims);
    }
    if (!(c->norm_eps >= 0 && c->norm_eps < 1)) {
        return error_set(err, ERR_BAD_FILE, "%s: the norm's epsilon is %g; expected 0 to 1", arch->name,
                         (double)c->norm_eps);
    }
    if (!cap_is_usable(c->score_cap) || !cap_is_usable(c->logit_cap)) {
        return error_set(err, ERR_BAD_FILE,
                         "%s: attn_logit_softcapping is %g and final_logit_softcapping %g; expected 0.01 to"
                         " 1e6, or 0 for none",
                         arch->name, (double)c->score_cap, (double)c->logit_cap);
    }
    bool scaled = c->rope_scaling == ROPE_SCALING_LINEAR || c->rope_scaling == ROPE_SCALING_YARN;
    if (arch->rope_pairs == ROPE_NONE) return true;
    if (!(c->rope_base > 0) || (scaled && !(c->rope_factor > 0))) {
        return error_set(err, ERR_BAD_FILE,
                         "%s.rope: freq_base is %g and scaling.factor %g; expected more than 0", arch->name,
                         (double)c->rope_base, (double)c->rope_factor);
    }
    return true;
}

// Keys that change what a model computes, where the architecture's rows do not name them.
typedef struct {
    const char *key;
    double neutral; // the value that changes nothing
    const char *what;
} ConfigVariant;

static const ConfigVariant variants[] = {
    {"%s.expert_count", 0, "mixtures of experts"},
    {"%s.expert_shared_count", 0, "shared experts"},
    {"%s.expert_weights_scale", 1, "scaled experts"},
    {"%s.leading_dense_block_count", 0, "layers without experts"},
    {"%s.attention.sliding_window", 0, "attention windows"},
    {"%s.attn_logit_softcapping", 0, "capped scores"},
    {"%s.final_logit_softcapping", 0, "capped logits"},
    {"%s.attention.scale", 0, "scales of attention"},
    {"%s.attention.clamp_kqv", 0, "clamped queries"},
    {"%s.attention.max_alibi_bias", 0, "position biases"},
    {"%s.rope.scale_linear", 1, "old keys of RoPE's scaling"},
    {"%s.logit_scale", 1, "scaled logits"},
    {"%s.embedding_scale", 1, "scaled embeddings"},
    {"%s.residual_scale", 1, "scaled residuals"},
};

static bool arch_names_key(const Arch *arch, const char *key) {
    for (uint32_t i = 0; i < arch->n_config; i++) {
        if (arch->config[i].key && strcmp(arch->config[i].key, key) == 0) return true;
    }
    return false;
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

static bool config_refuse_variants(const GgufFile *file, const Arch *arch, Error *err) {
    for (size_t i = 0; i < COUNT_OF(variants); i++) {
        const ConfigVariant *variant = &variants[i];
        Key key;
        const GgufValue *value = gguf_find_value(file, key_format(&key, variant->key, arch));
        if (!value || value_number(value) == variant->neutral || arch_names_key(arch, variant->key)) continue;
        gguf_value_error(file, value, err, "%s of architecture %s are not supported", variant->what,
                         arch->name);
        err->code = ERR_UNSUPPORTED;
        return false;
    }
    return true;
}

static bool config_read_vocab(const GgufFile *file, ModelConfig *c, Error *err) {
    const GgufTensor *embedding = gguf_find_tensor(file, STR("token_embd.weight"));
    if (!embedding) return error_set(err, ERR_BAD_FILE, "tensor \"token_embd.weight\" is missing");
    if (embedding->dims[1] > VOCAB_MAX) {
        return gguf_tensor_error(file, embedding, err, "%llu rows; a vocabulary has at most %d",
                                 (unsigned long long)embedding->dims[1], VOCAB_MAX);
    }
    c->n_vocab = (uint32_t)embedding->dims[1];
    return true;
}

bool config_pick_arch(const GgufFile *file, const Arch **arch, Error *err) {
    Key key;
    uint32_t n_experts = 0;
    if (!(*arch)->of_experts) return true;
    if (!gguf_opt_u32(file, key_format(&key, "%s.expert_count", *arch), &n_experts, err)) return false;
    if (n_experts) *arch = (*arch)->of_experts;
    return true;
}

bool config_read(const GgufFile *file, const Arch *arch, ModelConfig *out, Error *err) {
    *out = (ModelConfig){0};
    for (uint32_t i = 0; i < arch->n_config; i++) {
        if (!config_read_row(file, arch, &arch->config[i], out, err)) return false;
    }
    if (!config_refuse_variants(file, arch, err)) return false;
    if (arch->rope_pairs != ROPE_NONE && !config_read_rope_scaling(file, arch, out, err)) return false;
    if (!config_read_vocab(file, out, err)) return false;
    config_complete(out);
    return config_check(arch, out, err);
}
