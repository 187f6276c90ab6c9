// Plans for people.
#include "plan/plan.h"

const char *plan_op_name(OpKind kind) {
    static const char *const names[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = #name,
#include "arch/op.def"
#undef OP
    };
    return names[kind];
}

uint32_t plan_op_inputs(OpKind kind) {
    static const uint8_t n_inputs[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = n_in,
#include "arch/op.def"
#undef OP
    };
    return n_inputs[kind];
}

void plan_name_op(const Op *op, StrBuf *out) {
    strbuf_printf(out, "layer %u, %s", op->layer, plan_op_name(op->kind));
    if (op->weight) strbuf_printf(out, " with %.*s", STR_ARG(op->weight->name));
}

const char *plan_act_name(Act act) {
    static const char *const names[ACT_COUNT + 1] = {
#define ACT(name, width, meaning) [ACT_##name] = #name,
#include "arch/act.def"
#undef ACT
        [ACT_NONE] = "-"};
    return names[act];
}

static const char *const activation_names[] = {
    [FN_SILU] = "SiLU",           [FN_GELU_TANH] = "GELU (tanh)",
    [FN_GELU_ERF] = "GELU (erf)", [FN_SWIGLU_CLAMPED] = "clamped SwiGLU",
    [FN_SIGMOID] = "sigmoid",     [FN_RELU_SQUARED] = "squared ReLU",
    [FN_IDENTITY] = "product",    [FN_TANH] = "tanh"};

static void describe_route(const Op *op, StrBuf *b) {
    strbuf_printf(b, "  %u used", op->n_used);
    if (op->route.scores != SCORES_OF_CHOSEN)
        strbuf_printf(b, ", %s%s", op->route.scores == SCORES_SIGMOID ? "sigmoids" : "softmax of all",
                      op->route.normed ? ", to sum to 1" : "");
    if (op->route.logit_scale != 1) strbuf_printf(b, ", logits times %g", (double)op->route.logit_scale);
    if (op->route.scale != 1) strbuf_printf(b, ", times %g", (double)op->route.scale);
    if (op->route.n_groups > 1)
        strbuf_printf(b, ", of %u of %u groups%s", op->route.n_groups_used, op->route.n_groups,
                      op->route.by_largest ? " by the largest" : "");
}

static void describe_attention(const Op *op, StrBuf *b) {
    strbuf_printf(b, "  cache %u, %u heads on %u, keys of %u, values of %u", op->attention.cache,
                  op->attention.n_heads, op->attention.n_kv_heads, op->attention.key_dim,
                  op->attention.value_dim);
    if (op->attention.window)
        strbuf_printf(b, ", %s %u", op->attention.is_chunked ? "chunks of" : "window", op->attention.window);
    if (op->attention.cap > 0) strbuf_printf(b, ", capped at %g", (double)op->attention.cap);
    if (op->attention.temperature_scale != 0)
        strbuf_printf(b, ", temperature %g a %u tokens", (double)op->attention.temperature_scale,
                      op->attention.temperature_length);
}

// The numbers of an operation that its weights do not say.
static void describe_numbers(const Op *op, StrBuf *b) {
    switch (op->kind) {
    case OP_EMBED:
        if (op->embed.scale != 1) strbuf_printf(b, ", times %g", (double)op->embed.scale);
        break;
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
        if (op->norm.group != op->out_width) strbuf_printf(b, ", groups of %u", op->norm.group);
        break;
    case OP_ROPE:
        strbuf_printf(b, "  %u heads of %u, %u turned", op->rope.n_heads, op->rope.head_dim,
                      op->rope.rope->dims);
        if (op->rope.first) strbuf_printf(b, " from %u on", op->rope.first);
        break;
    case OP_HEAD_MATMUL:
        strbuf_printf(b, "  heads of %llu to %llu",
                      op->in_width[0] / (unsigned long long)op->weight->n_matrices,
                      op->out_width / (unsigned long long)op->weight->n_matrices);
        break;
    case OP_KV_WRITE: strbuf_printf(b, "  cache %u", op->kv_write.cache); break;
    case OP_ATTENTION: describe_attention(op, b); break;
    case OP_GLU:
    case OP_ACTIVATION: strbuf_printf(b, "  %s of %u", activation_names[op->fn], op->out_width); break;
    case OP_ADD:
        if (op->add.scale != 1) strbuf_printf(b, ", times %g", (double)op->add.scale);
        break;
    case OP_SCALE:
        if (op->scale != 1) strbuf_printf(b, ", times %g", (double)op->scale);
        break;
    case OP_SPARSIFY: strbuf_printf(b, "  %g deviations", (double)op->sparsity); break;
    case OP_STREAM:
    case OP_STREAMS_NEWS:
        strbuf_printf(b, "  %u streams, %u active", op->streams.n, op->streams.active);
        break;
    case OP_STREAMS:
    case OP_STREAMS_MIX:
    case OP_STREAMS_ADD:
    case OP_STREAMS_REST:
    case OP_STREAMS_MEAN: strbuf_printf(b, "  %u streams", op->streams.n); break;
    case OP_CONV:
        strbuf_printf(b, "  cache %u, %u taps, %s", op->conv.cache, op->conv.taps,
                      activation_names[op->conv.fn]);
        break;
    case OP_DELTA:
    case OP_SSM:
        strbuf_printf(b, "  cache %u, %u heads on %u%s, keys of %u, values of %u", op->state.cache,
                      op->state.n_heads, op->state.n_key_heads, op->state.tiled ? " in turns" : "",
                      op->state.key_dim, op->state.value_dim);
        break;
    case OP_HEAD:
        if (op->head.scale != 1) strbuf_printf(b, ", times %g", (double)op->head.scale);
        if (op->head.cap > 0) strbuf_printf(b, ", capped at %g", (double)op->head.cap);
        break;
    case OP_ROUTE: describe_route(op, b); break;
    case OP_EXPERT_MATMUL:
    case OP_EXPERT_WEIGH:
    case OP_EXPERT_SUM: strbuf_printf(b, "  %u used", op->n_used); break;
    case OP_ADD_POSITION:
    case OP_MATMUL:
    case OP_COPY:
    case OP_SLICE:
    case OP_SHARE:
    case OP_COUNT: break;
    }
}

static void describe_op(const Op *op, StrBuf *b) {
    strbuf_printf(b, "%3u  %-9s  %s =", op->layer, plan_op_name(op->kind), plan_act_name(op->out));
    for (uint32_t i = 0; i < plan_op_inputs(op->kind); i++)
        strbuf_printf(b, " %s", plan_act_name(op->in[i]));
    const Weight *w = op->weight;
    if (w) {
        strbuf_printf(b, "  %.*s [", STR_ARG(w->name));
        if (w->n_matrices > 1) strbuf_printf(b, "%llu, ", (unsigned long long)w->n_matrices);
        strbuf_printf(b, "%llu, %llu] %s", (unsigned long long)w->n_rows, (unsigned long long)w->n_cols,
                      dtype_info(w->dtype)->name);
    }
    if (op->bias) strbuf_printf(b, " + %.*s", STR_ARG(op->bias->name));
    describe_numbers(op, b);
    strbuf_put_char(b, '\n');
}

Str plan_describe(const Plan *plan, Arena *arena) {
    StrBuf b = strbuf_begin_in_arena(arena);
    for (uint32_t i = 0; i < plan->n_ops; i++)
        describe_op(&plan->ops[i], &b);
    return strbuf_end_in_arena(&b, arena);
}
