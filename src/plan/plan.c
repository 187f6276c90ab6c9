#include "plan/plan.h"

#include "base/limits.h"
#include "base/strbuf.h"
#include "plan/config.h"
#include "plan/rope.h"

#include <math.h>

typedef struct {
    const GgufFile *file;
    Arena *arena;
    Plan *plan;
    Weight *weights; // grows with plan->n_weights; room for all rows of all layers
    const Rope *rope;
    const Rope *rope_window; // of layers with a window
    Op *ops;                 // grows with plan->n_ops
    Cache *caches;           // grows with plan->n_caches
    // Weights of the layer at hand and of the whole model, by id; NULL for those that are absent.
    const Weight *bound[WEIGHT_COUNT];
} Builder;

static bool no_memory(Error *err) {
    return error_set(err, ERR_NO_MEMORY, "the plan does not fit its memory");
}

static bool row_is_per_layer(const WeightRow *row) {
    return strstr(row->name, "%u") != NULL;
}

static Str row_tensor_name(const WeightRow *row, uint32_t layer, char *text, size_t size) {
    StrBuf b = strbuf_from_memory(text, size);
    const char *mark = strstr(row->name, "%u");
    if (!mark) {
        strbuf_put(&b, str_from_c(row->name));
    } else {
        strbuf_put(&b, (Str){row->name, (size_t)(mark - row->name)});
        strbuf_printf(&b, "%u%s", layer, mark + 2);
    }
    return strbuf_str(&b);
}

static bool builder_bind_row(Builder *b, const WeightRow *row, uint32_t layer, Error *err) {
    const ModelConfig *c = &b->plan->config;
    char name[GGUF_TENSOR_NAME_BYTES_MAX];
    bool is_fused = row->fused != DIM_ONE, is_vector = row->rows == DIM_ONE;
    uint64_t rows = arch_dim(c, row->rows), cols = arch_dim(c, row->cols);
    uint64_t all = is_fused ? arch_dim(c, row->fused) : is_vector ? cols : rows;
    uint64_t from = row->fused_from != DIM_ONE ? arch_dim(c, row->fused_from) : 0;
    WeightSpec spec = {
        .name = row_tensor_name(row, layer, name, sizeof name).ptr,
        .n_matrices = arch_dim(c, row->matrices),
        .n_rows = is_vector ? 1 : all,
        .n_cols = is_vector ? all : cols,
        .row_from = is_vector ? 0 : from,
        .row_count = rows,
        .col_from = is_vector ? from : 0,
        .col_count = cols,
        .is_float = row->is_float,
    };
    Weight *weight = &b->weights[b->plan->n_weights];
    bool found;
    if (!weight_bind(b->file, &spec, weight, &found, err)) return false;
    b->bound[row->id] = found ? weight : row->or_else ? b->bound[row->or_else] : NULL;
    b->plan->n_weights += found;
    if (b->bound[row->id] || row->optional) return true;
    return error_set(err, ERR_BAD_FILE, "tensor \"%s\" is missing; architecture %s needs it", name,
                     b->plan->arch->name);
}

static bool builder_bind_rows(Builder *b, bool per_layer, uint32_t layer, Error *err) {
    const Arch *arch = b->plan->arch;
    for (uint32_t i = 0; i < arch->n_weights; i++) {
        const WeightRow *row = &arch->weights[i];
        if (row_is_per_layer(row) == per_layer && !builder_bind_row(b, row, layer, err)) return false;
    }
    return true;
}

static bool layer_has_window(const ModelConfig *c, uint32_t layer) {
    bool sees_all = c->window_period && layer % c->window_period == c->window_period - 1;
    return c->window && !sees_all;
}

static uint8_t op_n_inputs(OpKind kind) {
    static const uint8_t n_inputs[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = n_in,
#include "arch/op.def"
#undef OP
    };
    return n_inputs[kind];
}

static void builder_resolve_widths(const Builder *b, Op *op) {
    const uint32_t *widths = b->plan->act_width;
    if (op->out != ACT_NONE) op->out_width = widths[op->out];
    if (op->kind == OP_HEAD) op->out_width = (uint32_t)op->weight->n_rows;
    for (uint32_t i = 0; i < op_n_inputs(op->kind); i++)
        op->in_width[i] = widths[op->in[i]];
}

// The layer's cache of keys and values, which the operations that follow name by its index.
static uint32_t builder_add_cache(Builder *b, uint32_t layer) {
    const ModelConfig *c = &b->plan->config;
    uint64_t values = (uint64_t)c->n_kv_heads * ((uint64_t)c->head_dim + c->value_dim);
    b->caches[b->plan->n_caches] = (Cache){.kind = CACHE_KEYS_VALUES,
                                           .layer = layer,
                                           .n_heads = c->n_kv_heads,
                                           .key_dim = c->head_dim,
                                           .value_dim = c->value_dim,
                                           .page_bytes = KV_PAGE_TOKENS * values * sizeof(uint16_t)};
    b->plan->kv_bytes_per_token += values * sizeof(uint16_t);
    return b->plan->n_caches++;
}

static void builder_resolve_attention(const Builder *b, Op *op) {
    const ModelConfig *c = &b->plan->config;
    const Cache *cache = &b->caches[b->plan->n_caches - 1];
    op->attention.cache = b->plan->n_caches - 1;
    op->attention.n_heads = c->n_heads;
    op->attention.n_kv_heads = cache->n_heads;
    op->attention.key_dim = cache->key_dim;
    op->attention.value_dim = cache->value_dim;
    op->attention.window = layer_has_window(c, op->layer) ? c->window : 0;
    op->attention.scale = 1 / sqrtf(c->score_dim > 0 ? c->score_dim : (float)c->head_dim);
    op->attention.cap = c->score_cap;
}

static Op builder_resolve(Builder *b, const OpRow *row, uint32_t layer) {
    const ModelConfig *c = &b->plan->config;
    Op op = {.kind = row->kind,
             .layer = layer,
             .out = row->out,
             .in = {row->in[0], row->in[1]},
             .weight = b->bound[row->weight],
             .bias = b->bound[row->bias]};
    builder_resolve_widths(b, &op);
    switch (row->kind) {
    case OP_EMBED: op.embed.scale = c->embed_scale; break;
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
        op.norm.eps = c->norm_eps;
        op.norm.group = (uint32_t)op.weight->n_cols;
        break;
    case OP_ROPE:
        op.rope.rope = layer_has_window(c, layer) ? b->rope_window : b->rope;
        op.rope.head_dim = c->head_dim;
        op.rope.n_heads = op.out_width / c->head_dim;
        break;
    case OP_KV_WRITE:
        op.kv_write.cache = builder_add_cache(b, layer);
        op.kv_write.n_kv_heads = c->n_kv_heads;
        op.kv_write.key_dim = c->head_dim;
        op.kv_write.value_dim = c->value_dim;
        break;
    case OP_ATTENTION: builder_resolve_attention(b, &op); break;
    case OP_HEAD: op.head.cap = c->logit_cap; break;
    case OP_GLU:
    case OP_ACTIVATION: op.fn = b->plan->arch->activation; break;
    case OP_ROUTE:
    case OP_EXPERT_MATMUL:
    case OP_EXPERT_SUM: op.n_used = c->n_experts_used; break;
    default: break;
    }
    return op;
}

static void builder_emit(Builder *b, OpRun run, uint32_t layer) {
    for (uint32_t i = 0; i < run.count; i++) {
        const OpRow *row = &run.rows[i];
        bool absent = row->weight != WEIGHT_NONE && !b->bound[row->weight] && !row->weight_optional;
        if (!absent) b->ops[b->plan->n_ops++] = builder_resolve(b, row, layer);
    }
}

// The tensor that divides the frequencies, if the file has one for the model's context.
static bool builder_pick_rope_factors(const Builder *b, const Weight **out, Error *err) {
    const ModelConfig *c = &b->plan->config;
    bool is_long = c->n_context > c->rope_original_context;
    const Weight *either = b->bound[is_long ? WEIGHT_ROPE_FACTORS_LONG : WEIGHT_ROPE_FACTORS_SHORT];
    *out = b->bound[WEIGHT_ROPE_FACTORS] ? b->bound[WEIGHT_ROPE_FACTORS] : either;
    if (*out || c->rope_scaling != ROPE_SCALING_LONGROPE) return true;
    return error_set(err, ERR_BAD_FILE,
                     "tensor \"rope_factors_%s.weight\" is missing; its RoPE scaling needs it",
                     is_long ? "long" : "short");
}

static bool builder_read_rope_factors(const Builder *b, const float **out, Error *err) {
    const Weight *w;
    *out = NULL;
    if (!builder_pick_rope_factors(b, &w, err)) return false;
    if (!w) return true;
    float *factors = arena_new(b->arena, float, w->n_cols);
    if (!factors) return no_memory(err);
    const DtypeInfo *info = dtype_info(w->dtype);
    info->dequantize(w->data, factors, w->n_cols / info->block_elements);
    for (uint64_t i = 0; i < w->n_cols; i++) {
        if (factors[i] > 0) continue;
        return error_set(err, ERR_BAD_FILE, "tensor \"%.*s\": factor %llu is %g; expected more than 0",
                         STR_ARG(w->name), (unsigned long long)i, (double)factors[i]);
    }
    *out = factors;
    return true;
}

static bool builder_init_ropes(Builder *b, Error *err) {
    const ModelConfig *c = &b->plan->config;
    RopePairs pairs = b->plan->arch->rope_pairs;
    const float *factors;
    if (pairs == ROPE_NONE) return true;
    if (!builder_read_rope_factors(b, &factors, err)) return false;
    Rope *rope = arena_new(b->arena, Rope, 2);
    if (!rope || !rope_init(c, pairs, factors, b->arena, &rope[0])) return no_memory(err);
    b->rope = b->rope_window = &rope[0];
    if (c->window == 0 || c->rope_base_window <= 0) return true;
    ModelConfig unscaled = *c;
    unscaled.rope_base = c->rope_base_window;
    unscaled.rope_scaling = ROPE_SCALING_NONE;
    unscaled.rope_attn_factor = 1;
    if (!rope_init(&unscaled, pairs, NULL, b->arena, &rope[1])) return no_memory(err);
    b->rope_window = &rope[1];
    return true;
}

// A tensor that no operation uses means that the file holds another model than the tables describe: its
// output would be wrong without a word.
static bool builder_refuse_unused(const Builder *b, Error *err) {
    for (uint32_t i = 0; i < b->file->n_tensors; i++) {
        const GgufTensor *t = &b->file->tensors[i];
        bool used = false;
        for (uint32_t w = 0; w < b->plan->n_weights && !used; w++)
            used = b->weights[w].name.ptr == t->name.ptr;
        if (used) continue;
        gguf_tensor_error(b->file, t, err, "architecture %s has no use for it", b->plan->arch->name);
        err->code = ERR_UNSUPPORTED;
        return false;
    }
    return true;
}

static bool builder_allocate(Builder *b, Error *err) {
    const Arch *arch = b->plan->arch;
    uint64_t layers = b->plan->config.n_layers;
    b->weights = arena_new(b->arena, Weight, arch->n_weights * layers + 1);
    uint64_t layer_ops = arch->attention.count + arch->feed_forward.count;
    b->ops = arena_new(b->arena, Op, arch->first.count + layer_ops * layers + arch->last.count);
    b->caches = arena_new(b->arena, Cache, layers);
    b->plan->weights = b->weights;
    b->plan->ops = b->ops;
    b->plan->caches = b->caches;
    return (b->weights && b->ops && b->caches) || no_memory(err);
}

static bool builder_run(Builder *b, Error *err) {
    const Arch *arch = b->plan->arch;
    if (!builder_allocate(b, err)) return false;
    if (!builder_bind_rows(b, false, 0, err)) return false;
    if (!builder_init_ropes(b, err)) return false;
    builder_emit(b, arch->first, 0);
    for (uint32_t layer = 0; layer < b->plan->config.n_layers; layer++) {
        if (!builder_bind_rows(b, true, layer, err)) return false;
        builder_emit(b, arch->attention, layer);
        builder_emit(b, arch->feed_forward, layer);
    }
    builder_emit(b, arch->last, 0);
    return builder_refuse_unused(b, err);
}

static const Arch *plan_find_arch(const GgufFile *file, Error *err) {
    Str name;
    if (!gguf_get_str(file, STR("general.architecture"), &name, err)) return NULL;
    const Arch *arch = arch_find(name);
    if (arch) return config_pick_arch(file, &arch, err) ? arch : NULL;
    char list[256];
    StrBuf supported = STRBUF(list);
    for (uint32_t i = 0; arch_at(i); i++)
        strbuf_printf(&supported, "%s%s", i ? ", " : "", arch_at(i)->name);
    error_set(err, ERR_UNSUPPORTED, "general.architecture: \"%.*s\" is not supported; supported: %s",
              STR_ARG(name), list);
    return NULL;
}

bool plan_build(const GgufFile *file, Arena *arena, Plan **out, Error *err) {
    const Arch *arch = plan_find_arch(file, err);
    if (!arch) return false;
    Plan *plan = arena_new(arena, Plan, 1);
    if (!plan) return no_memory(err);
    plan->arch = arch;
    ModelConfig *c = &plan->config;
    if (!config_read(file, arch, c, err)) return false;
    static const Dim widths[ACT_COUNT] = {
#define ACT(name, width, meaning) [ACT_##name] = width,
#include "arch/act.def"
#undef ACT
    };
    for (uint32_t i = 0; i < ACT_COUNT; i++)
        plan->act_width[i] = (uint32_t)arch_dim(c, widths[i]);
    plan->n_layers = c->n_layers;
    plan->n_vocab = c->n_vocab;
    plan->n_context = c->n_context;
    plan->d_model = c->d_model;
    Builder builder = {.file = file, .arena = arena, .plan = plan};
    if (!builder_run(&builder, err)) return false;
    for (uint32_t i = 0; i < file->n_tensors; i++)
        plan->weight_bytes += file->tensors[i].size_bytes;
    *out = plan;
    return true;
}

const char *plan_op_name(OpKind kind) {
    static const char *const names[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = #name,
#include "arch/op.def"
#undef OP
    };
    return names[kind];
}

void plan_name_op(const Op *op, StrBuf *out) {
    strbuf_printf(out, "layer %u, %s", op->layer, plan_op_name(op->kind));
    if (op->weight) strbuf_printf(out, " with %.*s", STR_ARG(op->weight->name));
}

static const char *act_name(Act act) {
    static const char *const names[ACT_COUNT + 1] = {
#define ACT(name, width, meaning) [ACT_##name] = #name,
#include "arch/act.def"
#undef ACT
        [ACT_NONE] = "-"};
    return names[act];
}

static void describe_op(const Op *op, StrBuf *b) {
    strbuf_printf(b, "%3u  %-9s  %s =", op->layer, plan_op_name(op->kind), act_name(op->out));
    for (uint32_t i = 0; i < op_n_inputs(op->kind); i++)
        strbuf_printf(b, " %s", act_name(op->in[i]));
    const Weight *w = op->weight;
    if (w) {
        strbuf_printf(b, "  %.*s [%llu, %llu] %s", STR_ARG(w->name), (unsigned long long)w->n_rows,
                      (unsigned long long)w->n_cols, dtype_info(w->dtype)->name);
    }
    if (op->bias) strbuf_printf(b, " + %.*s", STR_ARG(op->bias->name));
    strbuf_put_char(b, '\n');
}

Str plan_describe(const Plan *plan, Arena *arena) {
    StrBuf b = strbuf_begin_in_arena(arena);
    for (uint32_t i = 0; i < plan->n_ops; i++)
        describe_op(&plan->ops[i], &b);
    return strbuf_end_in_arena(&b, arena);
}
