// Stages of batches up to attention: the embedding, the rope table, the products q k v, what is done with
// heads, and attention.
#include "backend/cuda/batch_lower_internal.h"

#include <math.h>

// ---- EMBED ----

static void define_embed(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *embed = s->ops[EMBED_EMBED];
    (void)l;
    define(b, "STAGE_EMBED", 1);
    define(b, "D_MODEL", embed->out_width);
    define(b, "N_VOCAB", embed->weight->n_rows);
    define_format(b, "EMBED_FORMAT", embed->weight);
    define_float(b, "EMBED_SCALE", embed->embed.scale);
    if (s->ops[EMBED_POSITION]) define(b, "LEARNED_POSITIONS", 1);
}

static void bind_embed(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->embed = (EmbedArgs){.batch = b->batch,
                             .rows = b->rows,
                             .slots = b->slots,
                             .embed = batch_weight_of(b, s->ops[EMBED_EMBED]),
                             .learned = batch_weight_of(b, s->ops[EMBED_POSITION]),
                             .x = b->x};
}

static uint32_t embed_results(const BatchStage *s, const BatchBuffers *b,
                              StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[EMBED_POSITION] ? s->ops[EMBED_POSITION] : s->ops[EMBED_EMBED];
    out[0] = (StageResult){op, RESULT_ROWS, b->x, op->out_width, 1};
    return 1;
}

const BatchType batch_embed = {
    .kernel = "embed",
    .name = "embedding",
    .files = {FILES_COMMON, "tiles.cuh", "embed.cuh"},
    .cost = COST_USUAL,
    .define = define_embed,
    .bind = bind_embed,
    .results = embed_results,
};

// clang-format off
const BatchBlock batch_block_embed = {
    .patterns = {
        {2, false, {
            [EMBED_EMBED]    = {OP_EMBED,        ACT_X, {0}},
            [EMBED_POSITION] = {OP_ADD_POSITION, ACT_X, {ACT_X}, .optional = true}}}},
    .parts = {{&batch_embed, EMBED_EMBED, BODY_ANY, false}},
    .link = batch_links_none,
    .check = batch_takes_all,
};
// clang-format on

// ---- PRODUCTS: q k v, as the matrices give them ----

static bool link_products(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)before;
    if (!after || after->block != &batch_block_turns) return batch_refuse(err, s);
    s->attention = after[1].ops[ATTENTION_ATTENTION]; // which TURNS makes sure of
    return true;
}

static void define_qkv(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *const *p = &s->ops[PRODUCTS_Q];
    ProductSize size = batch_product_size(s);
    define(b, "STAGE_QKV", 1);
    define(b, "D_MODEL", p[0]->weight->n_cols);
    define_heads(b, s->attention);
    define(b, "N_KV_HEADS", s->attention->attention.n_kv_heads);
    define_format(b, "FORMAT_0", p[0]->weight);
    define_format(b, "FORMAT_1", p[1]->weight);
    define_format(b, "FORMAT_2", p[2]->weight);
    batch_define_norm_input(b, l, s->ops[PRODUCTS_NORM]);
    batch_define_product(b, l, &size);
}

static void bind_qkv(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, s->ops[PRODUCTS_NORM], b->h);
    for (uint32_t i = 0; i < 3; i++) {
        out->product.weight[i] = batch_weight_of(b, s->ops[PRODUCTS_Q + i]);
        out->product.bias[i] = batch_bias_of(b, s->ops[PRODUCTS_Q + i]);
    }
    out->product.out = b->raw;
}

const BatchType batch_qkv = {
    .kernel = "qkv",
    .name = "q k v",
    .files = {FILES_FEW, "qkv.cuh"},
    .cost = 60,
    .has_flops = true,
    .define = define_qkv,
    .bind = bind_qkv,
    .results = batch_shows_none, // seen after ROPE_HEADS
};

const BatchType batch_qkv_many = {
    .kernel = "qkv",
    .name = "q k v of many",
    .files = {FILES_MANY, "qkv.cuh"},
    .cost = 80,
    .has_flops = true,
    .define = define_qkv,
    .bind = bind_qkv,
    .results = batch_shows_none,
};

// clang-format off
const BatchBlock batch_block_products = {
    .patterns = {
        {4, false, {
            [PRODUCTS_NORM] = {OP_RMS_NORM, ACT_H, {ACT_X}, .is_norm = true},
            [PRODUCTS_Q]    = {OP_MATMUL,   ACT_Q, {ACT_H}},
            [PRODUCTS_K]    = {OP_MATMUL,   ACT_K, {ACT_H}},
            [PRODUCTS_V]    = {OP_MATMUL,   ACT_V, {ACT_H}}}}},
    .parts = {
        {&batch_norm, PRODUCTS_NORM, BODY_NORMED, true},
        {&batch_qkv, PRODUCTS_Q, BODY_FEW, false},
        {&batch_qkv_many, PRODUCTS_Q, BODY_TOGETHER, false}},
    .link = link_products,
    .check = batch_takes_all,
};
// clang-format on

// ---- TURNS: norms of heads, rotary embedding, the cache's new entries ----

static const Rope *rope_of(const Op *op) {
    return op ? op->rope.rope : NULL;
}

// The table of a rotary embedding (rope.cuh); 0 where there is none.
static CUdeviceptr table_of(const BatchBuffers *b, const Rope *rope) {
    uint32_t i = 0;
    while (rope && b->placement->ropes[i] != rope)
        i++;
    return rope ? b->rope[i] : 0;
}

// A table serves all layers with the same rotary embedding.
static bool rope_is_needed(const BatchLowering *l, const BatchStage *s) {
    for (uint32_t i = 0; i < l->n_stages; i++) {
        const BatchStage *earlier = &l->stages[i];
        if (earlier->type == s->type && rope_of(earlier->ops[0]) == rope_of(s->ops[0])) return false;
    }
    return true;
}

static void define_rope(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Rope *rope = rope_of(s->ops[0]);
    (void)l;
    define(b, "STAGE_ROPE", 1);
    define(b, "ROPE_DIMS", rope->dims);
    define_float(b, "ROPE_SCALE", rope->scale);
}

static void bind_rope(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    const Rope *rope = rope_of(s->ops[0]);
    out->rope = (RopeArgs){.batch = b->batch,
                           .rows = b->rows,
                           .inv_freq = b->weights + placement_rope_offset(b->placement, rope),
                           .rope = table_of(b, rope)};
}

const BatchType batch_rope = {
    .kernel = "rope",
    .name = "rope table",
    .files = {FILES_COMMON, "rope.cuh"},
    .cost = COST_USUAL,
    .is_needed = rope_is_needed,
    .define = define_rope,
    .bind = bind_rope,
    .results = batch_shows_none,
};

static bool link_turns(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    if (!before || before->block != &batch_block_products) return batch_refuse(err, s);
    if (!after || after->block != &batch_block_attention)
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                         s->layer);
    s->values = before->ops[PRODUCTS_V];
    s->attention = after->ops[ATTENTION_ATTENTION];
    return true;
}

static bool check_turns(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *q = s->ops[TURNS_NORM_Q], *k = s->ops[TURNS_NORM_K];
    const Rope *rope = rope_of(s->ops[TURNS_ROPE_Q]);
    (void)l;
    if (rope != rope_of(s->ops[TURNS_ROPE_K])) {
        return error_set(err, ERR_UNSUPPORTED,
                         "queries and keys with different rotary embeddings cannot be run on the GPU yet");
    }
    if (rope && rope->dims % 4) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "rotary embeddings of %u values cannot be run on the GPU yet: a multiple of 4 is needed",
            rope->dims);
    }
    if (!q != !k) return batch_refuse(err, s);
    if (q && q->norm.group != s->attention->attention.key_dim)
        return lower_refuse_weight(err, q->weight, "the norm is of another number of values");
    return !q || q->norm.eps == k->norm.eps ||
           lower_refuse_weight(err, k->weight, "queries and keys have different norms");
}

static void define_rope_heads(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Rope *rope = rope_of(s->ops[TURNS_ROPE_Q]);
    (void)l;
    define(b, "STAGE_ROPE_HEADS", 1);
    define_heads(b, s->attention);
    define(b, "N_KV_HEADS", s->attention->attention.n_kv_heads);
    define(b, "ROPE_DIMS", rope ? rope->dims : 0);
    define(b, "ROPE_HALVES", rope && rope->pairs == ROPE_HALVES);
    define_float(b, "SCORE_SCALE", s->attention->attention.scale);
    if (!s->ops[TURNS_NORM_Q]) return;
    define(b, "HEAD_NORMS", 1);
    define_norm(b, s->ops[TURNS_NORM_Q]);
}

static void bind_rope_heads(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->rope_heads = (RopeHeadsArgs){
        .batch = b->batch,
        .rows = b->rows,
        .raw = b->raw,
        .norm = {batch_weight_of(b, s->ops[TURNS_NORM_Q]), batch_weight_of(b, s->ops[TURNS_NORM_K])},
        .rope = table_of(b, rope_of(s->ops[TURNS_ROPE_Q])),
        .q = b->q,
        .kv = batch_cache_of(b, s)};
}

// Queries in `q`, keys and values in the cache: of the operations that wrote them last.
static uint32_t rope_heads_results(const BatchStage *s, const BatchBuffers *b,
                                   StageResult out[STAGE_RESULTS_MAX]) {
    const Op *const *last = &s->ops[s->ops[TURNS_ROPE_Q] ? TURNS_ROPE_Q : TURNS_NORM_Q];
    float factor = s->attention->attention.scale * (float)M_LOG2E; // that the kernels put into queries
    uint32_t n = 0;
    if (last[0]) {
        out[n++] = (StageResult){last[0], RESULT_QUERIES, b->q, last[0]->out_width, factor};
        out[n++] = (StageResult){last[1], RESULT_KEYS, batch_cache_of(b, s), last[1]->out_width, 1};
    }
    out[n++] = (StageResult){s->values, RESULT_VALUES, batch_cache_of(b, s), s->values->out_width, 1};
    return n;
}

const BatchType batch_rope_heads = {
    .kernel = "rope_heads",
    .name = "norm of heads, rope, cache",
    .files = {FILES_COMMON, "kv_cache.cuh", "rope_heads.cuh"},
    .cost = COST_USUAL,
    .define = define_rope_heads,
    .bind = bind_rope_heads,
    .results = rope_heads_results,
};

// clang-format off
const BatchBlock batch_block_turns = {
    .patterns = {
        {5, false, {
            [TURNS_NORM_Q]   = {OP_RMS_NORM, ACT_Q,    {ACT_Q}, .optional = true},
            [TURNS_NORM_K]   = {OP_RMS_NORM, ACT_K,    {ACT_K}, .optional = true},
            [TURNS_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}, .optional = true},
            [TURNS_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}, .optional = true},
            [TURNS_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}}}}},
    .parts = {
        {&batch_rope, TURNS_ROPE_Q, BODY_ANY, true},
        {&batch_rope_heads, TURNS_KV_WRITE, BODY_ANY, false}},
    .link = link_turns,
    .check = check_turns,
};
// clang-format on

// ---- ATTENTION ----

enum {
    ATTENTION_DIM_MAX = 256,    // of a head
    ATTENTION_SPARE = 11 << 10, // bytes that attention.cuh takes beside its ring, at most
};

static bool check_attention(const BatchLowering *l, const BatchStage *s, Error *err) {
    uint32_t key_dim = s->ops[ATTENTION_ATTENTION]->attention.key_dim;
    (void)l;
    return (key_dim % 16 == 0 && key_dim <= ATTENTION_DIM_MAX) ||
           error_set(err, ERR_UNSUPPORTED,
                     "heads of %u values cannot be run on the GPU yet: a multiple of 16 up to %d is needed",
                     key_dim, ATTENTION_DIM_MAX);
}

// Of rows of any sequences, and of a prompt's.
static void define_attend(StrBuf *b, const Op *op) {
    define_heads(b, op);
    define(b, "N_KV_HEADS", op->attention.n_kv_heads);
    define(b, "WINDOW", op->attention.window);
    if (op->weight) define(b, "HAS_SINKS", 1);
    define_cap(b, op->attention.cap);
}

// A ring of up to three tiles of 64 keys; where not even one fits, its keys and its values take turns.
static uint32_t attention_ring(const LowerTarget *t, uint32_t head_dim) {
    uint64_t tile = 64ull * 2 * head_dim * sizeof(uint16_t), left = t->shared_bytes_block - ATTENTION_SPARE;
    uint64_t tiles = min_u64(left / tile, 3);
    return (uint32_t)(tiles ? tiles * tile : tile / 2);
}

// A few rows leave the next stage's blocks room beside theirs; many are waited for (64 rows of 128 keys, 8B's
// heads: 23 µs with one block a multiprocessor, 11.5 with two).
static uint32_t attention_blocks(const BatchLowering *l) {
    return l->target->multiprocessors * (l->size.max_rows < 16 ? 1 : 2);
}

static void define_attention(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    uint32_t blocks = attention_blocks(l), n_heads = op->attention.n_heads;
    uint32_t n_kv_heads = op->attention.n_kv_heads, head_dim = op->attention.key_dim;
    uint32_t groups = (uint32_t)div_up(l->plan->n_context, ATTENTION_GROUP_KEYS);
    define_attend(b, op);
    define(b, "BLOCKS", blocks);
    define(b, "RING_BYTES", attention_ring(l->target, head_dim));
    define(b, "GROUPS_MAX", groups);
    uint64_t floats =
        layout_attention_partial_floats(n_heads, n_kv_heads, head_dim, l->size.max_rows, blocks, groups);
    batch_need(l, floats * sizeof(float), layout_attention_meetings(blocks));
}

static void define_span_attention(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define_attend(b, s->ops[ATTENTION_ATTENTION]);
}

static void bind_attention(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->batch_attention = (BatchAttentionArgs){.batch = b->batch,
                                                .rows = b->rows,
                                                .q = b->q,
                                                .kv = batch_cache_of(b, s),
                                                .sinks = batch_weight_of(b, s->ops[ATTENTION_ATTENTION]),
                                                .out = b->a,
                                                .partial = b->partial,
                                                .meetings = b->meetings};
}

// The totals of a prompt's rows lie where its raw products were.
static void bind_span_attention(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    bind_attention(s, b, out);
    out->batch_attention.partial = b->raw;
}

static uint32_t attention_results(const BatchStage *s, const BatchBuffers *b,
                                  StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->a, op->out_width, 1};
    return 1;
}

const BatchType batch_attention = {
    .kernel = "attention",
    .name = "attention",
    .files = {FILES_COMMON, "kv_cache.cuh", "rows.cuh", "soft_cap.cuh", "attend.cuh", "attention.cuh"},
    .cost = 60,
    .define = define_attention,
    .bind = bind_attention,
    .results = attention_results,
};

const BatchType batch_span_attention = {
    .kernel = "span_attention",
    .name = "attention of a prompt",
    .files = {FILES_COMMON, "kv_cache.cuh", "rows.cuh", "soft_cap.cuh", "attend.cuh", "span_attention.cuh"},
    .cost = 85,
    .has_flops = true,
    .define = define_span_attention,
    .bind = bind_span_attention,
    .results = attention_results,
};

const BatchBlock batch_block_attention = {
    .patterns = {{1, false, {[ATTENTION_ATTENTION] = {OP_ATTENTION, ACT_A, {ACT_Q}}}}},
    .parts = {{&batch_attention, ATTENTION_ATTENTION, BODY_FEW | BODY_MANY, false},
              {&batch_span_attention, ATTENTION_ATTENTION, BODY_PROMPT, false}},
    .link = batch_links_none,
    .check = check_attention,
};
