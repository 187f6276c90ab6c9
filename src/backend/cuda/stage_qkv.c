// Norm, queries, keys and values, rotary embedding, write to the cache; the embedding before the first of
// them. Where the heads have norms of their own, the projections are left raw and HEADS does the rest.
#include "backend/cuda/lower_internal.h"

#include <math.h>

// ---- what decoding and prompts have in common ----

static const Rope *rope_of(const Op *op) {
    return op ? op->rope.rope : NULL;
}

static bool check_ropes(const Rope *q, const Rope *k, Error *err) {
    return q == k ||
           error_set(err, ERR_UNSUPPORTED,
                     "queries and keys with different rotary embeddings cannot be run on the GPU yet");
}

static bool no_attention(const Stage *s, Error *err) {
    return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                     s->layer);
}

static void define_embed(StrBuf *b, const Stage *s) {
    define_format(b, "EMBED_FORMAT", s->ops[QKV_EMBED]->weight);
    define_float(b, "EMBED_SCALE", s->ops[QKV_EMBED]->embed.scale);
    if (s->ops[QKV_POSITION]) define(b, "LEARNED_POSITIONS", 1);
}

static void define_all_heads(StrBuf *b, const Stage *s) {
    const Op *attention = s->attention->ops[ATTENTION_ATTENTION];
    define_heads(b, attention);
    define(b, "N_KV_HEADS", attention->attention.n_kv_heads);
}

// What is done with queries and keys on their way to attention.
static void define_turns(StrBuf *b, const Stage *s, const Rope *rope) {
    const Op *attention = s->attention->ops[ATTENTION_ATTENTION];
    define(b, "ROPE_DIMS", rope ? rope->dims : 0);
    define(b, "ROPE_HALVES", rope && rope->pairs == ROPE_HALVES);
    define_float(b, "ROPE_SCALE", rope ? rope->scale : 1);
    define_float(b, "SCORE_SCALE", s->is_raw ? 1 : attention->attention.scale);
}

static void define_projections(StrBuf *b, const Stage *s) {
    define(b, "D_MODEL", s->ops[QKV_Q]->weight->n_cols);
    define_all_heads(b, s);
    define_turns(b, s, rope_of(s->ops[QKV_ROPE_Q]));
    if (s->is_raw) define(b, "RAW", 1);
    define_format(b, "FORMAT_0", s->ops[QKV_Q]->weight);
    define_format(b, "FORMAT_1", s->ops[QKV_K]->weight);
    define_format(b, "FORMAT_2", s->ops[QKV_V]->weight);
}

static uint32_t projected_rows(const Stage *s) {
    return s->ops[QKV_Q]->out_width + s->ops[QKV_K]->out_width + s->ops[QKV_V]->out_width;
}

static CUdeviceptr frequencies_of(const StageBuffers *b, const Rope *rope) {
    return rope ? b->weights + placement_rope_offset(b->placement, rope) : 0;
}

// The rope table of prefill_rope.
static CUdeviceptr rope_table_of(const StageBuffers *b, const Rope *rope) {
    uint32_t i = 0;
    while (rope && b->placement->ropes[i] != rope)
        i++;
    return rope ? b->rows_rope[i] : 0;
}

// Queries in `q`, keys and values in the cache: of the operations that wrote them last.
static uint32_t show_projections(const Stage *s, const StageBuffers *b, CUdeviceptr q, const Op *const ops[3],
                                 StageResult out[STAGE_RESULTS_MAX]) {
    const Op *attention = s->attention->ops[ATTENTION_ATTENTION];
    float factor = attention->attention.scale * (float)M_LOG2E; // that the kernels put into queries
    out[0] = (StageResult){ops[0], RESULT_QUERIES, q, ops[0]->out_width, factor};
    out[1] = (StageResult){ops[1], RESULT_KEYS, cache_of(b, s), ops[1]->out_width, 1};
    out[2] = (StageResult){ops[2], RESULT_VALUES, cache_of(b, s), ops[2]->out_width, 1};
    return 3;
}

// ---- QKV ----

static bool link_qkv(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    const Stage *end = l->stages + l->n_stages;
    (void)before;
    if (s->is_raw && (!after || after->type != &stage_heads))
        return lower_refuse_stage(err, after ? after : s);
    s->attention = s->is_raw ? after + 1 : after;
    return (s->attention && s->attention < end && s->attention->type == &stage_attention) ||
           no_attention(s, err);
}

static bool check_qkv(const Lowering *l, const Stage *s, Error *err) {
    const Rope *q = rope_of(s->ops[QKV_ROPE_Q]);
    (void)l;
    if (!check_ropes(q, rope_of(s->ops[QKV_ROPE_K]), err)) return false;
    if (!q || q->dims % 4 == 0) return true;
    return error_set(err, ERR_UNSUPPORTED,
                     "rotary embeddings of %u values cannot be run on the GPU yet: a multiple of 4 is needed",
                     q->dims);
}

static void define_qkv(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w[3] = {s->ops[QKV_Q]->weight, s->ops[QKV_K]->weight, s->ops[QKV_V]->weight};
    MatvecShape shape =
        matvec_shape(l->target, &s->type->matvec, (uint32_t)w[0]->n_cols, projected_rows(s) / 2, 2, w, 3);
    define(b, "STAGE_QKV", 1);
    define_projections(b, s);
    define_norm(b, s->ops[QKV_NORM]);
    if (s->ops[QKV_EMBED]) {
        define(b, "FIRST", 1);
        define_embed(b, s);
    }
    define_matvec(b, &shape);
}

static void bind_qkv(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    QkvArgs a = {.row = b->row,
                 .x = b->x,
                 .embed = weight_of(b, s->ops[QKV_EMBED]),
                 .learned = weight_of(b, s->ops[QKV_POSITION]),
                 .norm = weight_of(b, s->ops[QKV_NORM]),
                 .norm_bias = bias_of(b, s->ops[QKV_NORM]),
                 .inv_freq = frequencies_of(b, rope_of(s->ops[QKV_ROPE_Q])),
                 .q = b->q,
                 .kv = cache_of(b, s),
                 .raw = b->raw};
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = weight_of(b, s->ops[QKV_Q + i]);
        a.bias[i] = bias_of(b, s->ops[QKV_Q + i]);
    }
    out->qkv = a;
}

// Of a token and of a prompt's rows. What is left raw is seen after HEADS.
static uint32_t show_qkv(const Stage *s, const StageBuffers *b, CUdeviceptr q,
                         StageResult out[STAGE_RESULTS_MAX]) {
    const Op *const ops[3] = {s->ops[QKV_ROPE_Q] ? s->ops[QKV_ROPE_Q] : s->ops[QKV_Q],
                              s->ops[QKV_ROPE_K] ? s->ops[QKV_ROPE_K] : s->ops[QKV_K], s->ops[QKV_V]};
    return s->is_raw ? 0 : show_projections(s, b, q, ops, out);
}

static uint32_t qkv_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    return show_qkv(s, b, b->q, out);
}

// clang-format off
#define QKV_PRODUCTS                                                               \
    [QKV_EMBED]    = {OP_EMBED,        ACT_X, {0},     .optional = true},          \
    [QKV_POSITION] = {OP_ADD_POSITION, ACT_X, {ACT_X}, .optional = true},          \
    [QKV_NORM]     = {OP_RMS_NORM,     ACT_H, {ACT_X}, .is_norm = true},           \
    [QKV_Q]        = {OP_MATMUL,       ACT_Q, {ACT_H}},                            \
    [QKV_K]        = {OP_MATMUL,       ACT_K, {ACT_H}},                            \
    [QKV_V]        = {OP_MATMUL,       ACT_V, {ACT_H}}

const StageType stage_qkv = {
    .kernel = "decode_qkv",
    .name = "norm, q k v, rope",
    .files = {FILES_MATVEC, "decode_norm.cuh", "kv_cache.cuh", "decode_qkv.cuh"},
    .cost = 54,
    .rows = ROWS_ALL,
    .patterns = {
        {9, false, {
            QKV_PRODUCTS,
            [QKV_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}, .optional = true},
            [QKV_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}, .optional = true},
            [QKV_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}}}},
        {6, true, {
            QKV_PRODUCTS}}},
    .prompt = {
        {&stage_prefill_embed, QKV_EMBED, false},
        {&stage_prefill_rope, QKV_ROPE_Q, true},
        {&stage_prefill_norm, QKV_NORM, true},
        {&stage_prefill_qkv, QKV_Q, false}},
    .matvec = {true, 8, 8, 2},
    .link = link_qkv,
    .check = check_qkv,
    .define = define_qkv,
    .bind = bind_qkv,
    .results = qkv_results,
};
// clang-format on

// ---- prompts: the embedding, the rope table, QKV ----

static void define_prefill_embed(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "MAX_ROWS", l->max_rows);
    define(b, "STAGE_PREFILL_EMBED", 1);
    define(b, "D_MODEL", s->ops[QKV_EMBED]->out_width);
    define_embed(b, s);
}

static void bind_prefill_embed(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_embed = (PrefillEmbedArgs){.span = b->span,
                                            .embed = weight_of(b, s->ops[QKV_EMBED]),
                                            .learned = weight_of(b, s->ops[QKV_POSITION]),
                                            .x = b->rows_x};
}

static uint32_t prefill_embed_results(const Stage *s, const StageBuffers *b,
                                      StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[QKV_POSITION] ? s->ops[QKV_POSITION] : s->ops[QKV_EMBED];
    out[0] = (StageResult){op, RESULT_ROWS, b->rows_x, op->out_width, 1};
    return 1;
}

const StageType stage_prefill_embed = {
    .kernel = "prefill_embed",
    .name = "embedding",
    .files = {FILES_COMMON, "formats.cuh", "prefill_embed.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_embed,
    .bind = bind_prefill_embed,
    .results = prefill_embed_results,
};

// A table serves all layers with the same rotary embedding.
static bool rope_is_needed(const Lowering *l, const Stage *s) {
    for (uint32_t i = 0; i < l->n_prefill_stages; i++) {
        const Stage *earlier = &l->prefill_stages[i];
        if (earlier->type == s->type && rope_of(earlier->ops[0]) == rope_of(s->ops[0])) return false;
    }
    return true;
}

static void define_prefill_rope(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "MAX_ROWS", l->max_rows);
    define(b, "STAGE_PREFILL_ROPE", 1);
    define(b, "ROPE_DIMS", rope_of(s->ops[0])->dims);
    define_float(b, "ROPE_SCALE", rope_of(s->ops[0])->scale);
}

static void bind_prefill_rope(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    const Rope *rope = rope_of(s->ops[0]);
    (void)row;
    out->prefill_rope = (PrefillRopeArgs){
        .span = b->span, .inv_freq = frequencies_of(b, rope), .rope = rope_table_of(b, rope)};
}

const StageType stage_prefill_rope = {
    .kernel = "prefill_rope",
    .name = "rope table",
    .files = {FILES_COMMON, "prefill_rope.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = rope_is_needed,
    .define = define_prefill_rope,
    .bind = bind_prefill_rope,
    .results = stage_shows_none,
};

static void define_prefill_qkv(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_QKV", 1);
    define_projections(b, s);
    define_matmul(b, l, projected_rows(s) / 16);
}

static void bind_prefill_qkv(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    PrefillQkvArgs a = {.span = b->span,
                        .in = b->rows_h,
                        .rope = rope_table_of(b, rope_of(s->ops[QKV_ROPE_Q])),
                        .q = b->rows_q,
                        .kv = cache_of(b, s),
                        .raw = b->rows_raw};
    (void)row;
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = weight_of(b, s->ops[QKV_Q + i]);
        a.bias[i] = bias_of(b, s->ops[QKV_Q + i]);
    }
    out->prefill_qkv = a;
}

static uint32_t prefill_qkv_results(const Stage *s, const StageBuffers *b,
                                    StageResult out[STAGE_RESULTS_MAX]) {
    return show_qkv(s, b, b->rows_q, out);
}

const StageType stage_prefill_qkv = {
    .kernel = "prefill_qkv",
    .name = "q k v, rope",
    .files = {FILES_MATMUL, "kv_cache.cuh", "prefill_qkv.cuh"},
    .cost = 78,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_qkv,
    .bind = bind_prefill_qkv,
    .results = prefill_qkv_results,
};

// ---- HEADS: norms, turns and writes what QKV left raw ----

static bool link_heads(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)l;
    if (!before || before->type != &stage_qkv || !before->is_raw) return lower_refuse_stage(err, s);
    s->products = before;
    s->attention = after;
    return (after && after->type == &stage_attention) || no_attention(s, err);
}

static bool check_heads(const Lowering *l, const Stage *s, Error *err) {
    const Op *q = s->ops[HEADS_NORM_Q], *k = s->ops[HEADS_NORM_K];
    (void)l;
    if (!check_ropes(rope_of(s->ops[HEADS_ROPE_Q]), rope_of(s->ops[HEADS_ROPE_K]), err)) return false;
    if (q->norm.group != s->attention->ops[ATTENTION_ATTENTION]->attention.key_dim)
        return lower_refuse_weight(err, q->weight, "the norm is of another number of values");
    return q->norm.eps == k->norm.eps ||
           lower_refuse_weight(err, k->weight, "queries and keys have different norms");
}

static void define_heads_stage(StrBuf *b, const Lowering *l, const Stage *s) {
    (void)l;
    define(b, "STAGE_HEADS", 1);
    define_all_heads(b, s);
    define_turns(b, s, rope_of(s->ops[HEADS_ROPE_Q]));
    define_norm(b, s->ops[HEADS_NORM_Q]);
}

static void bind_heads(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->heads = (HeadsArgs){.row = b->row,
                             .raw = b->raw,
                             .norm = {weight_of(b, s->ops[HEADS_NORM_Q]), weight_of(b, s->ops[HEADS_NORM_K])},
                             .inv_freq = frequencies_of(b, rope_of(s->ops[HEADS_ROPE_Q])),
                             .q = b->q,
                             .kv = cache_of(b, s)};
}

// Of a token and of a prompt's rows.
static uint32_t show_heads(const Stage *s, const StageBuffers *b, CUdeviceptr q,
                           StageResult out[STAGE_RESULTS_MAX]) {
    const Op *const ops[3] = {s->ops[HEADS_ROPE_Q], s->ops[HEADS_ROPE_K], s->products->ops[QKV_V]};
    return show_projections(s, b, q, ops, out);
}

static uint32_t heads_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    return show_heads(s, b, b->q, out);
}

// clang-format off
const StageType stage_heads = {
    .kernel = "decode_heads",
    .name = "norm of heads, rope",
    .files = {FILES_COMMON, "kv_cache.cuh", "heads.cuh", "decode_heads.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = {
        {5, false, {
            [HEADS_NORM_Q]   = {OP_RMS_NORM, ACT_Q,    {ACT_Q}},
            [HEADS_NORM_K]   = {OP_RMS_NORM, ACT_K,    {ACT_K}},
            [HEADS_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}},
            [HEADS_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}},
            [HEADS_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}}}}},
    .prompt = {
        {&stage_prefill_rope, HEADS_ROPE_Q, true},
        {&stage_prefill_heads, HEADS_NORM_Q, false}},
    .link = link_heads,
    .check = check_heads,
    .define = define_heads_stage,
    .bind = bind_heads,
    .results = heads_results,
};
// clang-format on

static void define_prefill_heads(StrBuf *b, const Lowering *l, const Stage *s) {
    define_heads_stage(b, l, s);
    define(b, "MAX_ROWS", l->max_rows);
}

static void bind_prefill_heads(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_heads =
        (PrefillHeadsArgs){.span = b->span,
                           .raw = b->rows_raw,
                           .norm = {weight_of(b, s->ops[HEADS_NORM_Q]), weight_of(b, s->ops[HEADS_NORM_K])},
                           .rope = rope_table_of(b, rope_of(s->ops[HEADS_ROPE_Q])),
                           .q = b->rows_q,
                           .kv = cache_of(b, s)};
}

static uint32_t prefill_heads_results(const Stage *s, const StageBuffers *b,
                                      StageResult out[STAGE_RESULTS_MAX]) {
    return show_heads(s, b, b->rows_q, out);
}

const StageType stage_prefill_heads = {
    .kernel = "prefill_heads",
    .name = "norm of heads, rope",
    .files = {FILES_COMMON, "kv_cache.cuh", "heads.cuh", "prefill_heads.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_heads,
    .bind = bind_prefill_heads,
    .results = prefill_heads_results,
};
