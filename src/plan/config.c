#include "plan/config.h"

#include "base/limits.h"
#include "base/strbuf.h"

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

static bool config_read_row(const GgufFile *file, const Arch *arch, const ConfigRow *row, ModelConfig *c,
                            Error *err) {
    Key key;
    Str name = key_format(&key, row->key, arch);
    void *field = (uint8_t *)c + row->offset;
    if (row->type == CONFIG_U32) {
        uint32_t value = (uint32_t)row->fallback;
        bool ok =
            row->required ? gguf_get_u32(file, name, &value, err) : gguf_opt_u32(file, name, &value, err);
        memcpy(field, &value, sizeof value);
        return ok;
    }
    float value = (float)row->fallback;
    bool ok = row->required ? gguf_get_f32(file, name, &value, err) : gguf_opt_f32(file, name, &value, err);
    memcpy(field, &value, sizeof value);
    return ok;
}

static bool config_read_rope_scaling(const GgufFile *file, const Arch *arch, ModelConfig *c, Error *err) {
    Key key;
    Str name = key_format(&key, "%s.rope.scaling.type", arch), type = STR("none");
    if (!gguf_opt_str(file, name, &type, err)) return false;
    static const char *const names[] = {
        [ROPE_SCALING_NONE] = "none", [ROPE_SCALING_LINEAR] = "linear", [ROPE_SCALING_YARN] = "yarn"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (!str_eq(type, str_from_c(names[i]))) continue;
        c->rope_scaling = (RopeScaling)i;
        return true;
    }
    error_set(err, ERR_UNSUPPORTED,
              "%s: RoPE scaling \"%.*s\" is not supported; supported: none, linear, yarn", name.ptr,
              STR_ARG(type));
    return false;
}

// Values that files leave out because they follow from others.
static void config_complete(ModelConfig *c) {
    if (c->n_kv_heads == 0) c->n_kv_heads = c->n_heads;
    if (c->head_dim == 0 && c->n_heads) c->head_dim = c->d_model / c->n_heads;
    if (c->rope_dims == 0) c->rope_dims = c->head_dim;
    if (c->rope_original_context == 0) c->rope_original_context = c->n_context;
    if (c->embed_scale == 0) c->embed_scale = 1;
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
    bool scaled = c->rope_scaling != ROPE_SCALING_NONE;
    if (!(c->rope_base > 0) || (scaled && !(c->rope_factor > 0))) {
        return error_set(err, ERR_BAD_FILE,
                         "%s.rope: freq_base is %g and scaling.factor %g; expected more than 0", arch->name,
                         (double)c->rope_base, (double)c->rope_factor);
    }
    return true;
}

// Mixtures of experts carry the plain architecture's name, so the count has to be looked at.
static bool config_refuse_experts(const GgufFile *file, const Arch *arch, Error *err) {
    Key key;
    uint32_t n_experts = 0;
    if (!gguf_opt_u32(file, key_format(&key, "%s.expert_count", arch), &n_experts, err)) return false;
    if (n_experts == 0) return true;
    return error_set(err, ERR_UNSUPPORTED,
                     "%s: %u experts; mixtures of experts of this architecture are not supported", key.text,
                     n_experts);
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

bool config_read(const GgufFile *file, const Arch *arch, ModelConfig *out, Error *err) {
    *out = (ModelConfig){0};
    for (uint32_t i = 0; i < arch->n_config; i++) {
        if (!config_read_row(file, arch, &arch->config[i], out, err)) return false;
    }
    if (!config_refuse_experts(file, arch, err)) return false;
    if (!config_read_rope_scaling(file, arch, out, err)) return false;
    if (!config_read_vocab(file, out, err)) return false;
    config_complete(out);
    return config_check(arch, out, err);
}
