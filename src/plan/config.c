#include "plan/config.h"

#include "base/limits.h"
#include "base/strbuf.h"
#include "plan/keys.h"
#include "plan/rope.h"

#include <math.h>

// What is being read, for all that follows.
typedef struct {
    const GgufFile *file;
    const Arch *arch;
    uint32_t layer;
    ModelConfig *c;
    Error *err;
} ConfigReader;

// An array with one element for each block of the file.
static bool array_fits(const ConfigReader *r, const GgufValue *value) {
    return value->array.count == r->c->n_blocks ||
           gguf_value_error(r->file, value, r->err, "%llu values; expected one for each of %u blocks",
                            (unsigned long long)value->array.count, r->c->n_blocks);
}

static bool is_integer(GgufType type) {
    return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

// A number, or the layer's of an array.
static bool read_u32_of_layer(const ConfigReader *r, Str name, bool required, uint32_t *out) {
    const GgufValue *value = gguf_find_value(r->file, name);
    if (!value || value->type != GGUF_ARRAY)
        return (required ? gguf_get_u32 : gguf_opt_u32)(r->file, name, out, r->err);
    if (!is_integer(value->array.type)) {
        return gguf_value_error(r->file, value, r->err,
                                "expected u32 or an array of them, found an array of %s",
                                gguf_type_name(value->array.type));
    }
    if (!array_fits(r, value)) return false;
    int64_t number = gguf_array_i64(&value->array, r->layer);
    if (number < 0 || number > UINT32_MAX) {
        return gguf_value_error(r->file, value, r->err, "%lld for layer %u; expected 0 to 2^32 - 1",
                                (long long)number, r->layer);
    }
    *out = (uint32_t)number;
    return true;
}

// The layer's of an array.
static bool read_f32_of_layer(const ConfigReader *r, Str name, bool required, float *out) {
    const GgufValue *value = gguf_find_value(r->file, name);
    GgufArray numbers;
    if (!value && !required) return true;
    if (!gguf_get_array(r->file, name, GGUF_F32, &numbers, r->err) || !array_fits(r, value)) return false;
    *out = gguf_array_f32(&numbers, r->layer);
    return true;
}

// A number without a fraction, whatever its type.
static bool read_whole(const ConfigReader *r, Str name, bool required, uint32_t *out) {
    const GgufValue *value = gguf_find_value(r->file, name);
    bool is_float = value && (value->type == GGUF_F32 || value->type == GGUF_F64);
    if (!is_float) return (required ? gguf_get_u32 : gguf_opt_u32)(r->file, name, out, r->err);
    if (!(value->f64 >= 0 && value->f64 <= UINT32_MAX && value->f64 == floor(value->f64))) {
        return gguf_value_error(r->file, value, r->err, "%g; expected a whole number of 0 to 2^32 - 1",
                                value->f64);
    }
    *out = (uint32_t)value->f64;
    return true;
}

// A number N says that all of every N layers but the last have a window; an array of bools says it layer by
// layer.
static bool read_has_window(const ConfigReader *r, Str name, uint32_t *out) {
    const GgufValue *value = gguf_find_value(r->file, name);
    if (value && value->type == GGUF_ARRAY) {
        GgufArray has_window;
        if (!gguf_get_array(r->file, name, GGUF_BOOL, &has_window, r->err) || !array_fits(r, value))
            return false;
        *out = gguf_array_i64(&has_window, r->layer) != 0;
        return true;
    }
    uint32_t period = *out;
    if (!gguf_opt_u32(r->file, name, &period, r->err)) return false;
    *out = period == 0 || r->layer % period != period - 1;
    return true;
}

// A number N says that all of every N layers but the last have a state; an array of bools says it layer by
// layer. *out is the number where the file has none; 0: only an array will do.
static bool read_mixer(const ConfigReader *r, Str name, uint32_t *out) {
    const GgufValue *value = gguf_find_value(r->file, name);
    bool has_state;
    if (*out == 0 || (value && value->type == GGUF_ARRAY)) {
        GgufArray array;
        if (!gguf_get_array(r->file, name, GGUF_BOOL, &array, r->err) || !array_fits(r, value)) return false;
        has_state = gguf_array_i64(&array, r->layer) != 0;
    } else {
        if (!gguf_opt_u32(r->file, name, out, r->err)) return false;
        if (*out == 0 || *out > LAYERS_MAX)
            return gguf_value_error(r->file, value, r->err, "%u; expected 1 to %d", *out, LAYERS_MAX);
        has_state = r->layer % *out != *out - 1;
    }
    *out = has_state ? MIXER_STATE : MIXER_ATTENTION;
    return true;
}

static bool read_rope_scaling(const ConfigReader *r, Str name, uint32_t *out) {
    // A factor without a type is the old way to say "linear".
    float factor = r->c->rope.factor;
    Str type = factor == 1 || factor == 0 ? STR("none") : STR("linear");
    if (!gguf_opt_str(r->file, name, &type, r->err)) return false;
    static const char *const names[] = {[ROPE_SCALING_NONE] = "none",
                                        [ROPE_SCALING_LINEAR] = "linear",
                                        [ROPE_SCALING_YARN] = "yarn",
                                        [ROPE_SCALING_LONGROPE] = "longrope"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        if (!str_eq(type, str_from_c(names[i]))) continue;
        *out = i;
        return true;
    }
    const GgufValue *value = gguf_find_value(r->file, name);
    char text[64];
    StrBuf shown = STRBUF(text);
    gguf_put_value(value, &shown);
    gguf_value_error(r->file, value, r->err,
                     "RoPE scaling %s is not supported; supported: none, linear, yarn, longrope", text);
    r->err->code = ERR_UNSUPPORTED;
    return false;
}

static bool read_bool(const ConfigReader *r, Str name, uint32_t *out) {
    bool value = *out != 0;
    bool ok = gguf_opt_bool(r->file, name, &value, r->err);
    *out = value;
    return ok;
}

static bool read_u32(const ConfigReader *r, Str name, const ConfigRow *row, uint32_t *out) {
    uint32_t most = row->most ? row->most : UINT32_MAX;
    if (!(row->required ? gguf_get_u32 : gguf_opt_u32)(r->file, name, out, r->err)) return false;
    const GgufValue *value = gguf_find_value(r->file, name);
    return !value || (*out >= row->least && *out <= most) ||
           gguf_value_error(r->file, value, r->err, "%u; expected %u to %u", *out, row->least, most);
}

// Whether the row counts for the model, and the layer, as far as it is known.
static bool row_counts(const ConfigReader *r, const ConfigRow *row) {
    const ModelConfig *c = r->c;
    return row->type != CONFIG_UNREAD && (!row->only_n_layers || row->only_n_layers == c->n_layers) &&
           (!row->only_n_experts || row->only_n_experts == c->n_experts) &&
           arch_rule_holds(row->layers, c, r->layer);
}

static bool read_row(const ConfigReader *r, const ConfigRow *row) {
    ArchKey key;
    void *field = (uint8_t *)r->c + row->offset;
    uint32_t u32 = (uint32_t)row->fallback;
    float f32 = (float)row->fallback;
    bool ok = true;
    if (!row_counts(r, row)) return true;
    Str name = row->key ? arch_key(&key, row->key, r->arch) : (Str){0};
    if (row->or_keep && !gguf_find_value(r->file, name)) return true;
    if (row->key) {
        switch (row->type) {
        case CONFIG_U32: ok = read_u32(r, name, row, &u32); break;
        case CONFIG_F32:
            ok = (row->required ? gguf_get_f32 : gguf_opt_f32)(r->file, name, &f32, r->err);
            break;
        case CONFIG_BOOL: ok = read_bool(r, name, &u32); break;
        case CONFIG_WHOLE: ok = read_whole(r, name, row->required, &u32); break;
        case CONFIG_F32_LAYERS: ok = read_f32_of_layer(r, name, row->required, &f32); break;
        case CONFIG_U32_LAYERS: ok = read_u32_of_layer(r, name, row->required, &u32); break;
        case CONFIG_WINDOWS: ok = read_has_window(r, name, &u32); break;
        case CONFIG_MIXERS: ok = read_mixer(r, name, &u32); break;
        case CONFIG_ROPE_SCALING: ok = read_rope_scaling(r, name, &u32); break;
        case CONFIG_UNREAD: break;
        }
    }
    if (row->type == CONFIG_F32 || row->type == CONFIG_F32_LAYERS) memcpy(field, &f32, sizeof f32);
    else memcpy(field, &u32, sizeof u32);
    // What later rows ask for.
    r->c->n_layers = r->c->n_blocks - (uint32_t)min_u64(r->c->n_ahead, r->c->n_blocks);
    return ok;
}

static void complete_route(ModelConfig *c) {
    RouteConfig *r = &c->route;
    if (r->scale == 0) r->scale = 1;
    if (r->n_groups == 0) r->n_groups = 1;
    if (r->n_groups_used == 0) r->n_groups_used = r->n_groups;
    r->logit_scale = c->route_by_root ? 1 / sqrtf((float)c->d_model) : 1;
}

// Files that were made before caches were compressed say how wide a head's keys and values are without that.
static void complete_mla(ModelConfig *c) {
    if (c->mla_key_dim == 0 && c->mla_value_dim == 0) {
        c->mla_key_dim = c->head_dim;
        c->mla_value_dim = c->value_dim;
        c->head_dim = c->kv_rank + c->rope.dims;
        c->value_dim = c->kv_rank;
        c->n_kv_heads = 1;
    }
    c->score_dim = (float)c->mla_key_dim;
    // DeepSeek-V2, whose scores are a softmax, takes groups by their best expert, V3 by their two best.
    c->route.by_largest = c->route.scores == SCORES_OF_ALL;
}

// Cut where check_ranges refuses it anyway.
static uint32_t shared_of_one(const ModelConfig *c) {
    return (uint32_t)min_u64((uint64_t)c->n_shared * c->d_ff_shared, UINT32_MAX);
}

// Values that files leave out because they follow from others.
static void complete(ModelConfig *c, uint32_t layer) {
    if (c->heads_say_mixer && c->n_kv_heads == 0)
        c->mixer = c->single_blocks && c->d_ff ? MIXER_NONE : MIXER_STATE;
    if (c->spare_blocks && c->n_kv_heads == 0) c->mixer = c->n_heads ? MIXER_LINEAR : MIXER_NONE;
    if (c->spare_blocks && c->n_heads == 0) c->n_heads = 1; // of nothing
    if (c->conv_taps && c->state_inner == 0) c->state_inner = c->d_model;
    if (c->n_kv_heads == 0) c->n_kv_heads = c->n_heads;
    if (c->head_dim == 0 && c->n_heads) c->head_dim = c->d_model / c->n_heads;
    if (c->rope.dims == 0 && !c->is_mla) c->rope.dims = c->head_dim;
    if (c->rope.original_context == 0) c->rope.original_context = c->n_context;
    if (c->value_dim == 0) c->value_dim = c->head_dim;
    if (c->d_ff_expert == 0) c->d_ff_expert = c->d_ff;
    if (c->d_ff_shared == 0) c->d_ff_shared = c->n_shared * c->d_ff_expert;
    else if (c->shared_width == SHARED_WIDTH_OF_ONE && c->n_shared) c->d_ff_shared = shared_of_one(c);
    if (arch_rule_holds(LAYERS_LEADING, c, layer)) c->d_ff_shared = 0;
    if (c->single_blocks && c->mixer != MIXER_NONE) c->d_ff_shared = c->d_latent = 0;
    if (c->d_ff_shared) c->d_ff = c->d_ff_shared;
    complete_route(c);
    if (c->is_mla) complete_mla(c);
    if (c->embed_by_root) c->embed_scale = sqrtf((float)c->d_model);
    if (c->embed_scale == 0) c->embed_scale = 1;
    if (c->residual_scale == 0) c->residual_scale = 1;
    if (c->logit_divisor == 0) c->logit_divisor = 1;
    c->logit_scale = (c->logit_scale == 0 ? 1 : c->logit_scale) / c->logit_divisor;
    if (c->temperature_length == 0) c->temperature_length = c->rope.original_context;
    if (!c->rope_finetuned) c->no_rope = 1;
    if (c->no_rope_period) c->no_rope = (layer + 1) % c->no_rope_period == 0;
}

// ---- checks ----
//
// A number is named by its place in ModelConfig, so that what is said of it names the key that it was read
// from.

#define AT(field) offsetof(ModelConfig, field)

static uint32_t u32_at(const ConfigReader *r, size_t field) {
    uint32_t value;
    memcpy(&value, (const uint8_t *)r->c + field, sizeof value);
    return value;
}

static float f32_at(const ConfigReader *r, size_t field) {
    float value;
    memcpy(&value, (const uint8_t *)r->c + field, sizeof value);
    return value;
}

// The last of the rows that fill a number whose key the file has, with what it says. Where it has none, the
// first of them: *value is NULL then.
static const ConfigRow *row_of(const ConfigReader *r, size_t field, const GgufValue **value) {
    const ConfigRow *found = NULL;
    *value = NULL;
    for (uint32_t i = 0; i < r->arch->n_config; i++) {
        const ConfigRow *row = &r->arch->config[i];
        ArchKey key;
        if (row->offset != field || !row->key || !row_counts(r, row)) continue;
        const GgufValue *there = gguf_find_value(r->file, arch_key(&key, row->key, r->arch));
        if (there || !found) found = row;
        if (there) *value = there;
    }
    return found;
}

// Sets "llama.attention.head_count of layer 3 is " with the text behind it; without the layer where the file
// has one number for all. Returns false.
static bool refuse(const ConfigReader *r, size_t field, const char *format, ...) PRINTF_LIKE(3, 4);
static bool refuse(const ConfigReader *r, size_t field, const char *format, ...) {
    char text[ERROR_MESSAGE_BYTES];
    StrBuf b = STRBUF(text);
    ArchKey key;
    const GgufValue *value;
    va_list args;
    const ConfigRow *row = row_of(r, field, &value);
    strbuf_put(&b, row ? arch_key(&key, row->key, r->arch) : STR("a number of the model"));
    if (value && value->type == GGUF_ARRAY) strbuf_printf(&b, " of layer %u", r->layer);
    strbuf_put(&b, value ? STR(" is ") : STR(" (not in the file) is "));
    va_start(args, format);
    strbuf_vprintf(&b, format, args);
    va_end(args);
    return error_set(r->err, ERR_BAD_FILE, "%.*s", STR_ARG(strbuf_str(&b)));
}

typedef struct {
    size_t field; // a u32
    uint32_t least, most;
} ConfigRange;

static bool check_range(const ConfigReader *r, ConfigRange range) {
    uint32_t value = u32_at(r, range.field);
    return (value >= range.least && value <= range.most) ||
           refuse(r, range.field, "%u; expected %u to %u", value, range.least, range.most);
}

static bool check_ranges(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    const ConfigRange ranges[] = {
        {AT(n_ahead), 0, c->n_blocks - 1},
        {AT(n_context), 1, 1 << 24},
        {AT(d_model), 1, 1 << 17},
        {AT(d_ff_shared), 0, 1 << 20},
        {AT(d_ff), !c->single_blocks && !c->spare_blocks, 1 << 20},
        {AT(n_heads), 1, 1 << 12},
        {AT(n_kv_heads), 1, c->n_heads},
        {AT(head_dim), 1, HEAD_DIM_MAX},
        {AT(value_dim), 1, HEAD_DIM_MAX},
        {AT(n_experts), 0, EXPERTS_MAX},
        {AT(n_experts_used), c->n_experts > 0, c->n_experts},
        {AT(d_ff_expert), c->n_experts > 0, 1 << 20},
        {AT(d_latent), 0, 1 << 17},
        {AT(n_leading), 0, c->n_layers},
        {AT(n_shared_kv), 0, c->n_layers - 1},
        {AT(d_per_layer), 0, 1 << 14},
        {AT(expert_period), 0, c->n_layers},
        {AT(n_streams), c->laurel_rank ? 2 : 0, STREAMS_MAX},
        {AT(active_stream), 0, c->n_streams ? c->n_streams - 1 : 0},
        {AT(route.scores), SCORES_OF_ALL, SCORES_OF_CHOSEN},
        {AT(route.n_groups), 1, 32},
        {AT(route.n_groups_used), 1, c->route.n_groups},
        {AT(rope.dims), 0, c->head_dim},
        {AT(rope.original_context), 1, 1 << 24},
        {AT(temperature_length), 1, 1 << 24},
    };
    bool ok = true;
    for (size_t i = 0; i < COUNT_OF(ranges) && ok; i++)
        ok = check_range(r, ranges[i]);
    return ok;
}

static bool is_scale(float scale) {
    return scale > 1e-6f && scale < 1e6f;
}

// Multipliers that a file may have, as complete() leaves them.
static bool check_scales(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    const struct {
        size_t field;
        float value; // what is multiplied by, and follows from the field's
    } scales[] = {{AT(embed_scale), c->embed_scale},
                  {AT(residual_scale), c->residual_scale},
                  {AT(logit_divisor), c->logit_divisor},
                  {AT(logit_scale), c->logit_scale * c->logit_divisor},
                  {AT(score_scale), c->score_scale == 0 ? 1 : c->score_scale},
                  {AT(temperature_scale), 1 + c->temperature_scale},
                  {AT(route.scale), c->route.scale},
                  {AT(rope.attn_factor), r->arch->rope_pairs == ROPE_NONE ? 1 : c->rope.attn_factor},
                  {AT(rope.yarn_log_multiplier), 1 + c->rope.yarn_log_multiplier},
                  {AT(rope.yarn_score_growth), 1 + c->rope.yarn_score_growth}};
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        if (is_scale(scales[i].value)) continue;
        return refuse(r, scales[i].field, "%g; expected a multiplier of 1e-6 to 1e6",
                      (double)f32_at(r, scales[i].field));
    }
    return true;
}

// Far from where a cap or its inverse is infinite.
static bool check_cap(const ConfigReader *r, size_t field) {
    float cap = f32_at(r, field);
    return cap == 0 || (cap >= 0.01f && cap <= 1e6f) ||
           refuse(r, field, "%g; expected 0.01 to 1e6, or 0 for none", (double)cap);
}

static bool check_f32(const ConfigReader *r, size_t field, float least, float most) {
    float value = f32_at(r, field);
    return (value >= least && value <= most) ||
           refuse(r, field, "%g; expected %g to %g", (double)value, (double)least, (double)most);
}

// YaRN's numbers together: its factor on cosines and sines is a quotient.
static bool check_yarn(const ConfigReader *r) {
    const GgufValue *value;
    double scale = rope_scale(&r->c->rope) / (double)r->c->rope.attn_factor;
    size_t multiplier = AT(rope.yarn_log_multiplier);
    if (!check_f32(r, AT(rope.yarn_beta_fast), 1e-6f, 1e6f) ||
        !check_f32(r, AT(rope.yarn_beta_slow), 1e-6f, 1e6f))
        return false;
    if (is_scale((float)scale)) return true;
    (void)row_of(r, multiplier, &value);
    size_t field = value ? multiplier : AT(rope.factor);
    return refuse(r, field,
                  "%g, which multiplies queries and keys by %g; expected a multiplier of 1e-6 to 1e6",
                  (double)f32_at(r, field), scale);
}

// Numbers of which the file may have one for layers with a window and one for the others. A head without a
// rotary embedding is made of pairs, too. Frequencies of these numbers are finite at any position.
static bool check_rope(const ConfigReader *r) {
    const RopeConfig *rope = &r->c->rope;
    bool has_rope = r->arch->rope_pairs != ROPE_NONE;
    bool scaled = rope->scaling == ROPE_SCALING_LINEAR || rope->scaling == ROPE_SCALING_YARN;
    size_t turned = has_rope ? AT(rope.dims) : AT(head_dim);
    if (u32_at(r, turned) % 2) return refuse(r, turned, "%u, not even", u32_at(r, turned));
    if (!has_rope) return true;
    return check_f32(r, AT(rope.base), 1, 1e30f) && (!scaled || check_f32(r, AT(rope.factor), 1e-6f, 1e6f)) &&
           (rope->scaling != ROPE_SCALING_YARN || check_yarn(r));
}

// Groups of experts are as large as each other, of two at least, and have as many together as a row uses.
static bool check_route(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    uint32_t groups = c->route.n_groups, size = c->n_experts / groups;
    return groups == 1 ||
           (size > 1 && c->n_experts % groups == 0 && size * c->route.n_groups_used >= c->n_experts_used) ||
           refuse(r, AT(route.n_groups),
                  "%u and expert_group_used_count %u, which does not fit %u experts of which %u are used",
                  groups, c->route.n_groups_used, c->n_experts, c->n_experts_used);
}

// Of an architecture whose layers have states. A short convolution alone has neither heads nor keys.
static bool check_state(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    const GgufValue *value;
    if (!row_of(r, AT(state_dim), &value)) return true;
    if (!check_range(r, (ConfigRange){AT(state_inner), 1, 1 << 17}) ||
        !check_range(r, (ConfigRange){AT(state_dim), 1, STATE_DIM_MAX}) ||
        !check_range(r, (ConfigRange){AT(state_heads), 1, 1 << 12}) ||
        !check_range(r, (ConfigRange){AT(state_groups), 1, c->state_heads}))
        return false;
    if (c->state_heads % c->state_groups || c->state_inner % c->state_heads) {
        return refuse(r, AT(state_heads),
                      "%u; expected a multiple of group_count %u that divides inner_size %u", c->state_heads,
                      c->state_groups, c->state_inner);
    }
    uint32_t values = c->state_inner / c->state_heads;
    return values <= STATE_DIM_MAX ||
           refuse(r, AT(state_inner), "%u, which is %u for each of time_step_rank %u; expected %u at most",
                  c->state_inner, values, c->state_heads, STATE_DIM_MAX);
}

// What of a compressed cache must agree: its key is the latent vector and the turned values behind it.
static bool check_mla(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    if (!c->is_mla) return true;
    if (!check_range(r, (ConfigRange){AT(rope.dims), 1, HEAD_DIM_MAX - 1}) ||
        !check_range(r, (ConfigRange){AT(kv_rank), 1, HEAD_DIM_MAX - c->rope.dims}) ||
        !check_range(r, (ConfigRange){AT(q_rank), 0, 1 << 17}) ||
        !check_range(r, (ConfigRange){AT(mla_key_dim), c->rope.dims + 1, HEAD_DIM_MAX}) ||
        !check_range(r, (ConfigRange){AT(mla_value_dim), 1, HEAD_DIM_MAX}) ||
        !check_range(r, (ConfigRange){AT(n_kv_heads), 1, 1}))
        return false;
    if (c->head_dim != c->kv_rank + c->rope.dims || c->value_dim != c->kv_rank) {
        return refuse(r, AT(head_dim),
                      "%u and value_length %u; expected kv_lora_rank %u with and without "
                      "rope.dimension_count %u",
                      c->head_dim, c->value_dim, c->kv_rank, c->rope.dims);
    }
    return c->rope.yarn_score_growth >= 0 ||
           refuse(r, AT(rope.yarn_score_growth), "%g; expected 0 or more", (double)c->rope.yarn_score_growth);
}

// Where a file says both how many shared experts there are and how wide, before the numbers are completed.
static bool check_shared(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    const GgufValue *value;
    uint32_t n = c->n_shared, width = c->d_ff_shared;
    (void)row_of(r, AT(n_shared), &value);
    if (!check_range(r, (ConfigRange){AT(n_shared), 0, EXPERTS_MAX})) return false;
    if (!value || width == 0 || n == 1 || arch_rule_holds(LAYERS_LEADING, c, r->layer)) return true;
    if (n == 0)
        return refuse(r, AT(n_shared), "0, but expert_shared_feed_forward_length is %u; expected 1 or more",
                      width);
    if (c->shared_width == SHARED_WIDTH_OF_ONE) return true;
    if (c->shared_width == SHARED_WIDTH_UNCLEAR) {
        (void)refuse(
            r, AT(n_shared),
            "%u; whether expert_shared_feed_forward_length %u is then the width of each or of all is "
            "not settled, so only 1 is supported",
            n, width);
        r->err->code = ERR_UNSUPPORTED;
        return false;
    }
    uint32_t one = c->d_ff_expert ? c->d_ff_expert : c->d_ff;
    return (uint64_t)n * one == width ||
           refuse(r, AT(n_shared),
                  "%u, but expert_shared_feed_forward_length %u is not so many times "
                  "expert_feed_forward_length %u",
                  n, width, one);
}

static bool check(const ConfigReader *r) {
    const ModelConfig *c = r->c;
    const char *arch = r->arch->name;
    if (!check_mla(r) || !check_ranges(r)) return false;
    if (c->n_heads % c->n_kv_heads)
        return refuse(r, AT(n_kv_heads), "%u; expected a divisor of layer %u's head_count %u", c->n_kv_heads,
                      r->layer, c->n_heads);
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return refuse(r, AT(norm_eps), "%g; expected 0 to 1", (double)c->norm_eps);
    if (!check_cap(r, AT(score_cap)) || !check_cap(r, AT(logit_cap))) return false;
    if (c->slopes) {
        return error_set(
            r->err, ERR_UNSUPPORTED,
            "%s of %u layers has position biases instead of a rotary embedding, which are not supported",
            arch, c->n_layers);
    }
    if (!(c->sparsity == -INFINITY || fabsf(c->sparsity) <= 100)) {
        return refuse(r, AT(sparsity),
                      "%g; expected a number of deviations of -100 to 100, or minus infinity for none",
                      (double)c->sparsity);
    }
    if (c->single_blocks && c->mixer == MIXER_ATTENTION && c->d_ff) {
        return error_set(
            r->err, ERR_BAD_FILE,
            "layer %u has both %s.attention.head_count_kv %u and feed_forward_length %u; expected "
            "one of them",
            r->layer, arch, c->n_kv_heads, c->d_ff);
    }
    return check_state(r) && check_scales(r) && check_route(r) && check_rope(r);
}

static bool read_vocab(const ConfigReader *r) {
    const GgufTensor *embedding = gguf_find_tensor(r->file, STR("token_embd.weight"));
    if (!embedding) return error_set(r->err, ERR_BAD_FILE, "tensor \"token_embd.weight\" is missing");
    if (embedding->dims[1] > VOCAB_MAX) {
        return gguf_tensor_error(r->file, embedding, r->err, "%llu rows; a vocabulary has at most %d",
                                 (unsigned long long)embedding->dims[1], VOCAB_MAX);
    }
    r->c->n_vocab = (uint32_t)embedding->dims[1];
    return true;
}

bool config_pick_arch(const GgufFile *file, const Arch **arch, Error *err) {
    ArchKey key;
    uint32_t n_experts = 0;
    if (!(*arch)->of_experts) return true;
    if (!gguf_opt_u32(file, arch_key(&key, "%s.expert_count", *arch), &n_experts, err)) return false;
    if (n_experts) *arch = (*arch)->of_experts;
    return true;
}

bool config_read(const GgufFile *file, const Arch *arch, uint32_t layer, ModelConfig *out, Error *err) {
    *out = (ModelConfig){.rope_finetuned = 1, .route.scores = SCORES_OF_CHOSEN, .sparsity = -INFINITY};
    ConfigReader r = {file, arch, layer, out, err};
    for (uint32_t i = 0; i < arch->n_config; i++) {
        if (!read_row(&r, &arch->config[i])) return false;
    }
    if (!read_vocab(&r)) return false;
    if (out->head_dim == 0 && layer) { // as wide as the first layer's heads
        ModelConfig first;
        if (!config_read(file, arch, 0, &first, err)) return false;
        out->head_dim = first.head_dim;
    }
    if (!check_shared(&r)) return false;
    complete(out, layer);
    return check(&r);
}
