#include "plan/plan.h"

#include "base/limits.h"
#include "base/strbuf.h"
#include "plan/config.h"
#include "plan/keys.h"
#include "plan/plan_tensors.h"
#include "plan/rope.h"

#include <math.h>

// A rotary embedding and the numbers that it was made of.
typedef struct {
    RopeConfig config;
    Rope rope;
} RopeMade;

// Of a row of weights that layers need not have: in how many of a kind it could be, and is.
typedef struct {
    uint32_t n_layers, n_found;
    uint32_t missing; // the last layer without it
} RowCount;

typedef struct {
    const GgufFile *file;
    const PlanOptions *options;
    Arena *arena;
    Plan *plan;
    ModelConfig c;   // of the layer at hand; of layer 0 outside the layers
    Weight *weights; // grows with plan->n_weights; room for all rows of all layers
    RopeMade *ropes; // room for one a layer
    uint32_t n_ropes;
    const Rope *rope;          // of the layer at hand; NULL for none
    const Cache *shared;       // that the layer at hand reads and an earlier one fills; NULL: it has its own
    const float *rope_factors; // [n_rope_factors]; NULL for none
    uint64_t n_rope_factors;
    Op *ops;       // grows with plan->n_ops
    Cache *caches; // grows with plan->n_caches
    // Weights of the layer at hand and of the whole model, by id; NULL for those that are absent.
    const Weight *bound[WEIGHT_COUNT];
    RowCount *counts; // [2 * the architecture's rows]: of layers without a window, and with one
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

// More rows of a weight that is bound.
static bool builder_append(Builder *b, WeightId id, const WeightSpec *spec, Error *err) {
    bool found;
    if (!b->bound[id]) return true;
    Weight *rest = arena_new(b->arena, Weight, 1);
    if (!rest) return no_memory(err);
    return weight_bind(b->file, spec, rest, &found, err) &&
           weight_append(b->file, (Weight *)b->bound[id], rest, err);
}

static void builder_count_row(Builder *b, const WeightRow *row, uint32_t layer, bool found) {
    uint64_t number = (uint64_t)(row - b->plan->arch->weights);
    RowCount *n = &b->counts[2 * number + arch_rule_holds(LAYERS_WINDOW, &b->c, layer)];
    n->n_layers++;
    if (found) n->n_found++;
    else n->missing = layer;
}

// What one layer of a kind has, all have: else a file has lost it, and would compute something else.
static bool builder_check_counts(const Builder *b, Error *err) {
    char name[GGUF_TENSOR_NAME_BYTES_MAX];
    for (uint32_t i = 0; i < 2 * b->plan->arch->n_weights; i++) {
        const RowCount *n = &b->counts[i];
        if (n->n_found == 0 || n->n_found == n->n_layers) continue;
        row_tensor_name(&b->plan->arch->weights[i / 2], n->missing, name, sizeof name);
        return error_set(err, ERR_BAD_FILE, "tensor \"%s\" is missing; %u other layers have theirs", name,
                         n->n_found);
    }
    return true;
}

static bool builder_bind_row(Builder *b, const WeightRow *row, uint32_t layer, Error *err) {
    const ModelConfig *c = &b->c;
    char name[GGUF_TENSOR_NAME_BYTES_MAX];
    bool is_fused = row->fused != DIM_ONE, is_vector = row->rows == DIM_ONE;
    uint64_t rows = arch_dim(c, row->rows), cols = arch_dim(c, row->cols);
    uint64_t all = is_fused ? arch_dim(c, row->fused) : is_vector ? cols : rows;
    uint64_t from = row->fused_from != DIM_ONE ? arch_dim(c, row->fused_from) : 0;
    WeightSpec spec = {
        .name = row_tensor_name(row, layer, name, sizeof name).ptr,
        .n_matrices = row->strip != DIM_ONE ? 1 : arch_dim(c, row->matrices),
        .n_rows = is_vector ? 1 : all,
        .n_cols = is_vector ? all : cols,
        .row_from = is_vector ? 0 : from,
        .row_count = rows,
        .col_from = is_vector ? from : 0,
        .col_count = cols,
        .is_float = row->is_float,
        .strip_rows = row->strip != DIM_ONE ? arch_dim(c, row->strip) : 0,
        .strip_step = row->strip != DIM_ONE ? arch_dim(c, row->strip_step) : 0,
        .strips = row->strip != DIM_ONE && row->matrices != DIM_ONE ? arch_dim(c, row->matrices) : 0,
    };
    Weight *weight = &b->weights[b->plan->n_weights];
    bool found;
    if (row->behind) return builder_append(b, row->id, &spec, err);
    if (!weight_bind(b->file, &spec, weight, &found, err)) return false;
    if (row_is_per_layer(row) && (row->optional || row->or_else)) builder_count_row(b, row, layer, found);
    if (found && row->is_turned && !weight_turn(weight, b->arena)) return no_memory(err);
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
        if (row_is_per_layer(row) != per_layer) continue;
        if (per_layer) b->bound[row->id] = NULL;
    }
    for (uint32_t i = 0; i < arch->n_weights; i++) {
        const WeightRow *row = &arch->weights[i];
        bool wanted = row_is_per_layer(row) == per_layer && arch_rule_holds(row->layers, &b->c, layer);
        if (wanted && !builder_bind_row(b, row, layer, err)) return false;
    }
    return true;
}

static const Dim act_dims[ACT_COUNT] = {
#define ACT(name, width, meaning) [ACT_##name] = width,
#include "arch/act.def"
#undef ACT
};

// Buffers have room for the widest rows of any layer.
static uint32_t builder_width_of(Builder *b, Act act) {
    uint32_t width = (uint32_t)arch_dim(&b->c, act_dims[act]), *most = &b->plan->act_width[act];
    *most = (uint32_t)max_u64(*most, width);
    return width;
}

static void builder_resolve_widths(Builder *b, Op *op) {
    if (op->out != ACT_NONE) op->out_width = builder_width_of(b, op->out);
    if (op->kind == OP_HEAD) op->out_width = (uint32_t)op->weight->n_rows;
    for (uint32_t i = 0; i < plan_op_inputs(op->kind); i++)
        op->in_width[i] = builder_width_of(b, op->in[i]);
}

// A cache that is no matter of pages.
static uint32_t builder_add_state(Builder *b, const Cache *cache, uint32_t value_bytes) {
    Cache *out = &b->caches[b->plan->n_caches];
    *out = *cache;
    out->slot_bytes = (uint64_t)out->n_heads * out->key_dim * out->value_dim * value_bytes;
    b->plan->slot_bytes += out->slot_bytes;
    return b->plan->n_caches++;
}

static void builder_resolve_conv(Builder *b, const OpRow *row, Op *op) {
    Cache rows = {.kind = CACHE_LAST_ROWS,
                  .layer = op->layer,
                  .n_heads = b->c.conv_taps - 1,
                  .key_dim = op->in_width[0],
                  .value_dim = 1};
    op->conv.cache = builder_add_state(b, &rows, sizeof(uint16_t));
    op->conv.taps = b->c.conv_taps;
    op->conv.fn = row->fn;
}

static void builder_resolve_state(Builder *b, Op *op) {
    const ModelConfig *c = &b->c;
    Cache state = {.kind = CACHE_STATE,
                   .layer = op->layer,
                   .n_heads = c->state_heads,
                   .key_dim = c->state_dim,
                   .value_dim = c->state_inner / c->state_heads};
    op->state.cache = builder_add_state(b, &state, sizeof(float));
    op->state.n_heads = c->state_heads;
    op->state.n_key_heads = c->state_groups;
    op->state.key_dim = state.key_dim;
    op->state.value_dim = state.value_dim;
    op->state.tiled = c->state_tiled;
}

// The layer's cache of keys and values, which the operations that follow name by its index.
static uint32_t builder_add_cache(Builder *b, uint32_t layer) {
    const ModelConfig *c = &b->c;
    KvType type = b->plan->kv_type;
    uint64_t head = kv_head_bytes(type, c->head_dim) + (c->is_mla ? 0 : kv_head_bytes(type, c->value_dim));
    uint64_t page_bytes = c->n_kv_heads * head;
    b->caches[b->plan->n_caches] = (Cache){.kind = CACHE_KEYS_VALUES,
                                           .type = type,
                                           .layer = layer,
                                           .n_heads = c->n_kv_heads,
                                           .key_dim = c->head_dim,
                                           .value_dim = c->value_dim,
                                           .window = c->has_window ? c->window : 0,
                                           .is_latent = c->is_mla,
                                           .page_bytes = page_bytes};
    b->plan->kv_bytes_per_token += page_bytes / KV_PAGE_TOKENS;
    return b->plan->n_caches++;
}

static void builder_resolve_attention(const Builder *b, Op *op) {
    const ModelConfig *c = &b->c;
    const Cache *cache = b->shared ? b->shared : &b->caches[b->plan->n_caches - 1];
    op->attention.cache = (uint32_t)(cache - b->caches);
    op->attention.n_heads = c->n_heads;
    op->attention.n_kv_heads = cache->n_heads;
    op->attention.key_dim = cache->key_dim;
    op->attention.value_dim = cache->value_dim;
    op->attention.window = cache->window;
    op->attention.is_chunked = cache->window && c->is_chunked;
    op->attention.scale = 1 / sqrtf(c->score_dim > 0 ? c->score_dim : (float)c->head_dim);
    if (c->score_scale > 0) op->attention.scale = c->score_scale;
    if (c->rope.scaling == ROPE_SCALING_YARN) {
        float growth = 1 + c->rope.yarn_score_growth * logf(c->rope.factor);
        op->attention.scale *= growth * growth;
    }
    op->attention.cap = c->score_cap;
    op->attention.temperature_scale = c->temperature_scale;
    op->attention.temperature_length = c->temperature_length;
    op->attention.temperature_offset = c->temperature_offset;
}

static void builder_resolve_norm(const Builder *b, const OpRow *row, Op *op) {
    op->norm.eps = row->eps > 0 ? row->eps : b->c.norm_eps * (float)arch_dim(&b->c, row->eps_by);
    op->norm.group = (uint32_t)(op->weight ? op->weight->n_cols : arch_dim(&b->c, row->group));
}

static float builder_embed_scale(const Builder *b, const OpRow *row) {
    return row->root == DIM_ONE ? b->c.embed_scale : sqrtf((float)arch_dim(&b->c, row->root));
}

static Op builder_resolve(Builder *b, const OpRow *row, uint32_t layer) {
    const ModelConfig *c = &b->c;
    Op op = {.kind = row->kind,
             .layer = layer,
             .out = row->out,
             .in = {row->in[0], row->in[1], row->in[2]},
             .weight = b->bound[row->weight],
             .bias = b->bound[row->bias]};
    builder_resolve_widths(b, &op);
    switch (row->kind) {
    case OP_EMBED: op.embed.scale = builder_embed_scale(b, row); break;
    case OP_RMS_NORM:
    case OP_LAYER_NORM: builder_resolve_norm(b, row, &op); break;
    case OP_SCALE: op.scale = (row->scale == 0 ? 1 : row->scale) / (float)arch_dim(c, row->over); break;
    case OP_SPARSIFY: op.sparsity = c->sparsity; break;
    case OP_STREAM:
    case OP_STREAMS:
    case OP_STREAMS_MIX:
    case OP_STREAMS_NEWS:
    case OP_STREAMS_ADD:
    case OP_STREAMS_REST:
    case OP_STREAMS_MEAN:
        op.streams.n = c->n_streams;
        op.streams.active = c->active_stream;
        break;
    case OP_ROPE:
        op.rope.rope = b->rope;
        op.rope.head_dim = row->out == ACT_QB ? c->mla_key_dim : c->head_dim;
        op.rope.n_heads = op.out_width / op.rope.head_dim;
        op.rope.first = c->is_mla ? op.rope.head_dim - c->rope.dims : 0;
        break;
    case OP_KV_WRITE:
        op.kv_write.cache = builder_add_cache(b, layer);
        op.kv_write.n_kv_heads = c->n_kv_heads;
        op.kv_write.key_dim = c->head_dim;
        op.kv_write.value_dim = c->value_dim;
        break;
    case OP_ATTENTION: builder_resolve_attention(b, &op); break;
    case OP_HEAD:
        op.head.scale = c->logit_scale;
        op.head.cap = c->logit_cap;
        break;
    case OP_ADD: op.add.scale = c->residual_scale; break;
    case OP_GLU:
    case OP_ACTIVATION: op.fn = row->fn ? row->fn : b->plan->arch->activation; break;
    case OP_CONV: builder_resolve_conv(b, row, &op); break;
    case OP_DELTA:
    case OP_SSM: builder_resolve_state(b, &op); break;
    case OP_ROUTE:
        op.route = c->route;
        op.n_used = c->n_experts_used;
        break;
    case OP_EXPERT_MATMUL:
    case OP_EXPERT_WEIGH:
    case OP_EXPERT_SUM: op.n_used = c->n_experts_used; break;
    default: break;
    }
    return op;
}

// What a file's numbers could put side by side in another width.
static bool check_widths(const Plan *plan, Error *err) {
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        if (op->kind != OP_GLU || (op->in_width[0] == op->out_width && op->in_width[1] == op->out_width))
            continue;
        return error_set(err, ERR_BAD_FILE, "layer %u: a gate of %u values beside %u; expected as many",
                         op->layer, op->in_width[0], op->in_width[1]);
    }
    return true;
}

static void builder_emit(Builder *b, OpRun run, uint32_t layer) {
    for (uint32_t i = 0; i < run.count; i++) {
        const OpRow *row = &run.rows[i];
        bool absent = row->weight != WEIGHT_NONE && !b->bound[row->weight] && !row->weight_optional;
        absent |= row->needs != WEIGHT_NONE && !b->bound[row->needs];
        absent |= row->kind == OP_ROPE && !b->rope;
        absent |= row->kind == OP_SPARSIFY && b->c.sparsity == -INFINITY;
        if (!absent) b->ops[b->plan->n_ops++] = builder_resolve(b, row, layer);
    }
}

// The tensor that divides the frequencies, if the file has one for the model's context.
static bool builder_pick_rope_factors(const Builder *b, const Weight **out, Error *err) {
    const ModelConfig *c = &b->c;
    bool is_long = c->n_context > c->rope.original_context;
    const Weight *either = b->bound[is_long ? WEIGHT_ROPE_FACTORS_LONG : WEIGHT_ROPE_FACTORS_SHORT];
    *out = b->bound[WEIGHT_ROPE_FACTORS] ? b->bound[WEIGHT_ROPE_FACTORS] : either;
    if (*out || c->rope.scaling != ROPE_SCALING_LONGROPE) return true;
    return error_set(err, ERR_BAD_FILE,
                     "tensor \"rope_factors_%s.weight\" is missing; its RoPE scaling needs it",
                     is_long ? "long" : "short");
}

static bool builder_read_rope_factors(Builder *b, Error *err) {
    const Weight *w;
    if (!builder_pick_rope_factors(b, &w, err)) return false;
    if (!w) return true;
    float *factors = arena_new(b->arena, float, w->n_cols);
    if (!factors) return no_memory(err);
    const DtypeInfo *info = dtype_info(w->dtype);
    info->dequantize(w->data, factors, w->n_cols / info->block_elements);
    for (uint64_t i = 0; i < w->n_cols; i++) {
        if (factors[i] >= 1e-6f) continue;
        return error_set(err, ERR_BAD_FILE, "tensor \"%.*s\": factor %llu is %g; expected 1e-6 or more",
                         STR_ARG(w->name), (unsigned long long)i, (double)factors[i]);
    }
    b->rope_factors = factors;
    b->n_rope_factors = w->n_cols;
    return true;
}

static bool rope_config_equals(const RopeConfig *a, const RopeConfig *b) {
    return a->dims == b->dims && a->base == b->base && a->scaling == b->scaling && a->factor == b->factor &&
           a->original_context == b->original_context && a->attn_factor == b->attn_factor &&
           a->yarn_beta_fast == b->yarn_beta_fast && a->yarn_beta_slow == b->yarn_beta_slow &&
           a->yarn_exact_bounds == b->yarn_exact_bounds && a->yarn_log_multiplier == b->yarn_log_multiplier &&
           a->yarn_score_growth == b->yarn_score_growth && a->is_plain == b->is_plain;
}

// The embedding of the layer at hand: one that an earlier layer has, too, or a new one.
static bool builder_pick_rope(Builder *b, Error *err) {
    RopePairs pairs = b->plan->arch->rope_pairs;
    b->rope = NULL;
    if (pairs == ROPE_NONE || b->c.no_rope) return true;
    for (uint32_t i = 0; i < b->n_ropes && !b->rope; i++)
        if (rope_config_equals(&b->ropes[i].config, &b->c.rope)) b->rope = &b->ropes[i].rope;
    if (b->rope) return true;
    const float *factors = b->c.rope.is_plain ? NULL : b->rope_factors;
    if (factors && b->n_rope_factors != b->c.rope.dims / 2) {
        return error_set(err, ERR_UNSUPPORTED,
                         "%llu factors of RoPE's frequencies, but a layer turns %u pairs",
                         (unsigned long long)b->n_rope_factors, b->c.rope.dims / 2);
    }
    RopeMade *made = &b->ropes[b->n_ropes++];
    made->config = b->c.rope;
    if (!rope_init(&b->c.rope, pairs, factors, b->arena, &made->rope)) return no_memory(err);
    b->rope = &made->rope;
    return true;
}

static bool builder_allocate(Builder *b, Error *err) {
    const Arch *arch = b->plan->arch;
    uint64_t layers = b->c.n_layers, layer_ops = 0;
    for (uint32_t i = 0; i < arch->n_kinds; i++)
        layer_ops = max_u64(layer_ops, arch->kinds[i].attention.count + arch->kinds[i].feed_forward.count);
    b->weights = arena_new(b->arena, Weight, arch->n_weights * layers + 1);
    b->ops = arena_new(b->arena, Op, arch->first.count + layer_ops * layers + arch->last.count);
    b->caches = arena_new(b->arena, Cache, 2 * layers); // a layer with a state has two
    b->ropes = arena_new(b->arena, RopeMade, layers);
    b->counts = arena_new(b->arena, RowCount, 2 * arch->n_weights);
    b->plan->weights = b->weights;
    b->plan->ops = b->ops;
    b->plan->caches = b->caches;
    return (b->weights && b->ops && b->caches && b->ropes && b->counts) || no_memory(err);
}

// Where the layer reads the keys and values of another: the last one of its kind, with or without a window,
// that has its own.
static bool builder_pick_shared(Builder *b, uint32_t layer, Error *err) {
    const ModelConfig *c = &b->c;
    b->shared = NULL;
    if (arch_rule_holds(LAYERS_OWN_KV, c, layer)) return true;
    uint32_t window = c->has_window ? c->window : 0;
    for (uint32_t i = 0; i < b->plan->n_caches; i++) {
        if (b->caches[i].kind == CACHE_KEYS_VALUES && b->caches[i].window == window)
            b->shared = &b->caches[i];
    }
    const Cache *from = b->shared;
    if (!from) {
        return error_set(
            err, ERR_BAD_FILE,
            "%s.attention.shared_kv_layers is %u: layer %u shares keys and values, but no layer %s a "
            "window has its own",
            b->plan->arch->name, c->n_shared_kv, layer, window ? "with" : "without");
    }
    if (from->n_heads == c->n_kv_heads && from->key_dim == c->head_dim && from->value_dim == c->value_dim)
        return true;
    return error_set(
        err, ERR_BAD_FILE,
        "layer %u has %u heads of keys of %u and values of %u, but shares those of layer %u, which has "
        "%u of %u and %u",
        layer, c->n_kv_heads, c->head_dim, c->value_dim, from->layer, from->n_heads, from->key_dim,
        from->value_dim);
}

static bool builder_add_layer(Builder *b, uint32_t layer, Error *err) {
    const Arch *arch = b->plan->arch;
    if (!config_read(b->file, arch, layer, &b->c, err)) return false;
    if (!builder_bind_rows(b, true, layer, err) || !builder_pick_rope(b, err)) return false;
    if (!builder_pick_shared(b, layer, err)) return false;
    for (uint32_t i = 0; i < arch->n_kinds; i++) {
        if (!arch_rule_holds(arch->kinds[i].layers, &b->c, layer)) continue;
        builder_emit(b, arch->kinds[i].attention, layer);
        builder_emit(b, arch->kinds[i].feed_forward, layer);
        break;
    }
    return true;
}

static bool builder_run(Builder *b, Error *err) {
    const Arch *arch = b->plan->arch;
    if (!builder_allocate(b, err)) return false;
    if (!builder_bind_rows(b, false, 0, err)) return false;
    if (arch->rope_pairs != ROPE_NONE && !builder_read_rope_factors(b, err)) return false;
    builder_emit(b, arch->first, 0);
    for (uint32_t layer = 0; layer < b->plan->n_layers; layer++) {
        if (!builder_add_layer(b, layer, err)) return false;
    }
    builder_emit(b, arch->last, 0);
    if (!builder_check_counts(b, err)) return false;
    b->plan->kv = kv_layout_make(b->caches, b->plan->n_caches, b->plan->n_context);
    if (!check_widths(b->plan, err)) return false;
    if (b->plan->kv_bytes_per_token == 0)
        return error_set(err, ERR_UNSUPPORTED, "no layer has attention; at least one is needed");
    return plan_sort_tensors(b->file, b->plan, b->c.n_blocks, b->arena, err);
}

static const Arch *plan_find_arch(const GgufFile *file, Error *err) {
    Str name;
    if (!gguf_get_str(file, STR("general.architecture"), &name, err)) return NULL;
    const Arch *arch = arch_find(name);
    if (arch) return config_pick_arch(file, &arch, err) ? arch : NULL;
    char shown[64];
    StrBuf value = STRBUF(shown);
    gguf_put_value(gguf_find_value(file, STR("general.architecture")), &value);
    error_set(err, ERR_UNSUPPORTED,
              "general.architecture: %s is not supported; --list-architectures names those that are", shown);
    return NULL;
}

// Tokens that a model has and must not draw, as those that stand for pictures.
static bool builder_read_suppressed(Builder *b, Error *err) {
    const GgufValue *value = gguf_find_value(b->file, STR("tokenizer.ggml.suppress_tokens"));
    if (!value) return true;
    if (value->type != GGUF_ARRAY || (value->array.type != GGUF_I32 && value->array.type != GGUF_U32))
        return gguf_value_error(b->file, value, err, "expected an array of i32 or u32");
    if (value->array.count > SUPPRESSED_MAX) {
        return gguf_value_error(b->file, value, err, "%llu tokens; at most %d are supported",
                                (unsigned long long)value->array.count, SUPPRESSED_MAX);
    }
    uint32_t n = (uint32_t)value->array.count;
    int32_t *tokens = arena_new(b->arena, int32_t, n);
    if (!tokens && n) return no_memory(err);
    for (uint32_t i = 0; i < n; i++) {
        int64_t token = gguf_array_i64(&value->array, i);
        if (token < 0 || token >= b->c.n_vocab) {
            return gguf_value_error(b->file, value, err, "token %lld; the vocabulary has %u",
                                    (long long)token, b->c.n_vocab);
        }
        tokens[i] = (int32_t)token;
    }
    b->plan->suppressed = tokens;
    b->plan->n_suppressed = n;
    return true;
}

static bool check_keys(Builder *b, Error *err) {
    if (!b->options->ignore_unknown_keys) return keys_check(b->file, b->plan->arch, &b->c, NULL, err);
    StrBuf ignored = strbuf_begin_in_arena(b->arena);
    bool ok = keys_check(b->file, b->plan->arch, &b->c, &ignored, err);
    bool truncated = ignored.truncated;
    b->plan->ignored_keys = strbuf_end_in_arena(&ignored, b->arena);
    return ok && (!truncated || no_memory(err));
}

bool plan_build_as(const GgufFile *file, const Arch *arch, const PlanOptions *options, Arena *arena,
                   Plan **out, Error *err) {
    Plan *plan = arena_new(arena, Plan, 1);
    if (!plan) return no_memory(err);
    plan->arch = arch;
    Builder b = {.file = file, .options = options, .arena = arena, .plan = plan};
    if (!config_read(file, arch, 0, &b.c, err) || !check_keys(&b, err) || !builder_read_suppressed(&b, err))
        return false;
    plan->n_layers = b.c.n_layers;
    plan->n_own_kv = b.c.n_layers - b.c.n_shared_kv;
    plan->n_vocab = b.c.n_vocab;
    plan->n_context = b.c.n_context;
    plan->d_model = b.c.d_model;
    plan->kv_type = options->kv_type;
    if (b.c.is_mla && plan->kv_type != KV_TYPE_F16) {
        return error_set(err, ERR_UNSUPPORTED,
                         "a cache of type %s is not supported for %s, whose cache is compressed already: f16 "
                         "is needed",
                         kv_type_name(plan->kv_type), arch->name);
    }
    if (!builder_run(&b, err)) return false;
    *out = plan;
    return true;
}

bool plan_build_with(const GgufFile *file, const PlanOptions *options, Arena *arena, Plan **out, Error *err) {
    const Arch *arch = plan_find_arch(file, err);
    if (arch && plan_build_as(file, arch, options, arena, out, err)) return true;
    const char *path = file->parts[0].name; // what is said of one key or tensor has it already
    return strncmp(err->message, path, strlen(path)) == 0 ? false : error_prefix(err, "%s", path);
}

bool plan_build(const GgufFile *file, Arena *arena, Plan **out, Error *err) {
    return plan_build_with(file, &(PlanOptions){0}, arena, out, err);
}
