// Stages of batches up to attention: the embedding and the rope tables, the products q k v, what is done with
// heads, and attention.
#include "backend/cuda/batch_lower_internal.h"

#include <math.h>

// ---- EMBED: the embedding, and the tables of all rotary embeddings ----

static_assert((int)ROPE_TABLES_MAX == (int)PLACED_ROPES_MAX, "a table each");

static void define_embed(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *embed = s->ops[EMBED_EMBED];
    uint32_t rope_values = 0;
    for (uint32_t i = 0; i < l->placement->n_ropes; i++)
        rope_values += l->placement->ropes[i]->dims / 2;
    define(b, "STAGE_EMBED", 1);
    define(b, "D_MODEL", embed->out_width);
    define(b, "N_VOCAB", embed->weight->n_rows);
    define_format(b, "EMBED_FORMAT", embed->weight);
    define_float(b, "EMBED_SCALE", embed->embed.scale);
    define(b, "ROPE_VALUES", rope_values);
    if (s->ops[EMBED_POSITION]) define(b, "LEARNED_POSITIONS", 1);
}

static void bind_embed(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->embed = (EmbedArgs){.batch = b->batch,
                             .rows = b->rows,
                             .slots = b->slots,
                             .embed = batch_weight_of(b, s->ops[EMBED_EMBED]),
                             .learned = batch_weight_of(b, s->ops[EMBED_POSITION]),
                             .x = b->x};
    for (uint32_t i = 0; i < b->placement->n_ropes; i++) {
        const Rope *rope = b->placement->ropes[i];
        out->embed.tables[i] = (RopeTable){.inv_freq = b->weights + placement_rope_offset(b->placement, rope),
                                           .rope = b->rope[i],
                                           .n_values = rope->dims / 2,
                                           .scale = rope->scale};
    }
}

static uint32_t embed_results(const BatchStage *s, const BatchBuffers *b,
                              StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[EMBED_POSITION] ? s->ops[EMBED_POSITION] : s->ops[EMBED_EMBED];
    out[0] = (StageResult){op, RESULT_ROWS, b->x, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_embed = {
    .kernel = "embed",
    .name = "embedding, rope tables",
    .files = {FILES_COMMON, FILES_TILES, "rope.cuh", "embed.cuh"},
    .cost = COST_USUAL,
    .define = define_embed,
    .bind = bind_embed,
    .results = embed_results,
};

static void define_embed_norm(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *norm = s->ops[EMBED_NORM];
    (void)l;
    define(b, "STAGE_EMBED_NORM", 1);
    define(b, "D_MODEL", norm->out_width);
    define_norm(b, norm);
    define(b, "NORM_PLAIN", 1);
}

static void bind_embed_norm(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->embed_norm = (EmbedNormArgs){.batch = b->batch, .x = b->x};
}

static uint32_t embed_norm_results(const BatchStage *s, const BatchBuffers *b,
                                   StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[EMBED_NORM];
    out[0] = (StageResult){op, RESULT_ROWS, b->x, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_embed_norm = {
    .kernel = "embed_norm",
    .name = "norm of embeddings",
    .files = {FILES_ROWS, "embed_norm.cuh"},
    .cost = COST_USUAL,
    .define = define_embed_norm,
    .bind = bind_embed_norm,
    .results = embed_norm_results,
};

// Norms of embeddings that have weights could be a part of them.
static bool check_embed(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *norm = s->ops[EMBED_NORM];
    (void)l;
    return !norm || (!norm->weight && norm->norm.group == norm->out_width) || batch_refuse(err, s);
}

// clang-format off
const BatchBlock batch_block_embed = {
    .patterns = {
        {3, false, {
            [EMBED_EMBED]    = {OP_EMBED,        ACT_X, {0}},
            [EMBED_POSITION] = {OP_ADD_POSITION, ACT_X, {ACT_X}, .optional = true},
            [EMBED_NORM]     = {OP_RMS_NORM,     ACT_X, {ACT_X}, .optional = true}}}},
    .parts = {
        {&batch_embed, EMBED_EMBED, BODY_ANY, false},
        {&batch_embed_norm, EMBED_NORM, BODY_ANY, false}},
    .link = batch_links_none,
    .check = check_embed,
};
// clang-format on

// ---- PRODUCTS: q k v, as the matrices give them ----

static bool link_products(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)before;
    if (!after || after->block != &batch_block_turns || !s->ops[PRODUCTS_K] != !s->ops[PRODUCTS_V])
        return batch_refuse(err, s);
    s->attention = after[1].ops[ATTENTION_ATTENTION]; // which TURNS makes sure of
    s->has_gates = s->ops[PRODUCTS_GATE] != NULL;
    return true;
}

// Gates are multiplied behind the queries, whose format they have, and lie behind the values.
static BatchMatrices matrices_of(const BatchStage *s) {
    BatchMatrices m = {.n = 0}, gated;
    for (uint32_t i = PRODUCTS_Q; i <= PRODUCTS_V; i++)
        if (i != PRODUCTS_GATE && s->ops[i]) batch_matrices_add(&m, s->ops[i], 1);
    if (!s->has_gates) return m;
    batch_matrices_add(&m, s->ops[PRODUCTS_GATE], 1);
    gated = m;
    for (uint32_t i = 1; i < m.n; i++) {
        uint32_t from = i == 1 ? m.n - 1 : i - 1;
        gated.of[i] = m.of[from], gated.at[i] = m.at[from];
    }
    gated.same_format = 1;
    return gated;
}

static bool check_products(const BatchLowering *l, const BatchStage *s, Error *err) {
    BatchMatrices m = matrices_of(s);
    (void)l;
    return batch_check_matrices(&m, err);
}

static void define_qkv(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    BatchMatrices m = matrices_of(s);
    l->out->has_gates |= s->has_gates;
    batch_define_matrices(b, l, s, &m, s->ops[PRODUCTS_NORM]);
}

static void bind_qkv(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    BatchMatrices m = matrices_of(s);
    batch_bind_matrices(s, b, &m, s->ops[PRODUCTS_NORM], out);
}

const BatchType batch_qkv = {
    .kernel = "qkv",
    .name = "q k v",
    .files = {FILES_FEW, "qkv.cuh"},
    .cost = 60,
    .reads = READS_ALL,
    .define = define_qkv,
    .bind = bind_qkv,
    .results = batch_shows_none, // keys and values are seen in the cache
};

const BatchType batch_qkv_many = {
    .kernel = "qkv",
    .name = "q k v of many",
    .files = {FILES_MANY, "qkv.cuh"},
    .given_files = {FILES_GIVEN, "qkv.cuh"},
    .cost = 80,
    .reads = READS_ALL,
    .define = define_qkv,
    .bind = bind_qkv,
    .results = batch_shows_none,
};

// clang-format off
const BatchBlock batch_block_products = {
    .patterns = {
        {5, false, {
            [PRODUCTS_NORM] = {OP_RMS_NORM, ACT_H,  {ACT_X}, .is_norm = true},
            [PRODUCTS_Q]    = {OP_MATMUL,   ACT_Q,  {ACT_H}},
            [PRODUCTS_GATE] = {OP_MATMUL,   ACT_QG, {ACT_H}, .optional = true},
            [PRODUCTS_K]    = {OP_MATMUL,   ACT_K,  {ACT_H}, .optional = true},
            [PRODUCTS_V]    = {OP_MATMUL,   ACT_V,  {ACT_H}, .optional = true}}}},
    .parts = {
        {&batch_norm, PRODUCTS_NORM, BODY_NORMED, true},
        {&batch_qkv, PRODUCTS_Q, BODY_FEW, false},
        {&batch_qkv_many, PRODUCTS_Q, BODY_TOGETHER, false}},
    .link = link_products,
    .check = check_products,
};
// clang-format on

// ---- TURNS: norms of heads, rotary embedding, the cache's new entries ----

static const Rope *rope_of(const Op *op) {
    return op ? op->rope.rope : NULL;
}

// The table of a rotary embedding; 0 where there is none.
static CUdeviceptr table_of(const BatchBuffers *b, const Rope *rope) {
    uint32_t i = 0;
    while (rope && b->placement->ropes[i] != rope)
        i++;
    return rope ? b->rope[i] : 0;
}

static bool link_turns(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    if (!before || before->block != &batch_block_products) return batch_refuse(err, s);
    if (!after || after->block != &batch_block_attention)
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                         s->layer);
    s->values = s->ops[TURNS_NORM_V] ? s->ops[TURNS_NORM_V] : before->ops[PRODUCTS_V];
    s->attention = after->ops[ATTENTION_ATTENTION];
    s->has_gates = before->has_gates;
    return !s->values == !s->ops[TURNS_KV_WRITE] || batch_refuse(err, s);
}

// The norms of heads, before the turn or behind it.
typedef struct {
    const Op *q, *k;
    bool turned;
} HeadNorms;

// Whether the norms of queries and keys are over all heads, which qk_norm takes.
static bool norms_are_wide(const BatchStage *turns) {
    const Op *q = turns->ops[TURNS_NORM_Q];
    return q && q->norm.group != turns->attention->attention.key_dim;
}

static HeadNorms norms_of(const BatchStage *turns) {
    if (norms_are_wide(turns)) return (HeadNorms){0};
    bool turned = turns->ops[TURNS_TURNED_Q] || turns->ops[TURNS_TURNED_K];
    return (HeadNorms){turns->ops[turned ? TURNS_TURNED_Q : TURNS_NORM_Q],
                       turns->ops[turned ? TURNS_TURNED_K : TURNS_NORM_K], turned};
}

static bool check_wide_norms(const BatchStage *s, Error *err) {
    const Op *q = s->ops[TURNS_NORM_Q], *k = s->ops[TURNS_NORM_K];
    if (!k || s->ops[TURNS_NORM_V] || s->ops[TURNS_TURNED_Q] || s->ops[TURNS_TURNED_K])
        return batch_refuse(err, s);
    bool fits = q->norm.group == q->out_width && k->norm.group == k->out_width &&
                q->norm.eps == k->norm.eps && !s->has_gates;
    return fits || lower_refuse_weight(err, q->weight, "the norm is of another number of values");
}

static bool check_turns(const BatchLowering *l, const BatchStage *s, Error *err) {
    if (norms_are_wide(s) && !check_wide_norms(s, err)) return false;
    HeadNorms norms = norms_of(s);
    const Op *q = norms.q, *k = norms.k, *v = s->ops[TURNS_NORM_V];
    const Rope *rope = rope_of(s->ops[TURNS_ROPE_Q]);
    bool has_own = s->ops[TURNS_KV_WRITE] != NULL;
    (void)l;
    if (has_own && rope != rope_of(s->ops[TURNS_ROPE_K])) {
        return error_set(err, ERR_UNSUPPORTED,
                         "queries and keys with different rotary embeddings cannot be run on the GPU yet");
    }
    if (rope && rope->dims % 4) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "rotary embeddings of %u values cannot be run on the GPU yet: a multiple of 4 is needed",
            rope->dims);
    }
    bool both = norms.turned && (s->ops[TURNS_NORM_Q] || s->ops[TURNS_NORM_K]);
    if ((has_own && !q != !k) || both) return batch_refuse(err, s);
    if (v && (!q || v->weight || v->norm.group != q->norm.group || v->norm.eps != q->norm.eps))
        return batch_refuse(err, s);
    if (q && q->norm.group != s->attention->attention.key_dim)
        return q->weight ? lower_refuse_weight(err, q->weight, "the norm is of another number of values")
                         : batch_refuse(err, s);
    return !q || !k || (q->norm.eps == k->norm.eps && !q->weight == !k->weight) || batch_refuse(err, s);
}

static void define_temperature(StrBuf *b, const Op *attention) {
    if (attention->attention.temperature_scale == 0) return;
    define_float(b, "TEMPERATURE_SCALE", attention->attention.temperature_scale);
    define(b, "TEMPERATURE_LENGTH", attention->attention.temperature_length);
    define(b, "TEMPERATURE_OFFSET", attention->attention.temperature_offset);
}

// Of a TURNS block: what turn_heads.cuh is specialised by, beside the numbers of heads.
static void define_turns(StrBuf *b, const BatchStage *turns) {
    const Rope *rope = rope_of(turns->ops[TURNS_ROPE_Q]);
    define(b, "ROPE_DIMS", rope ? rope->dims : 0);
    define(b, "ROPE_HALVES", rope && rope->pairs == ROPE_HALVES);
    define_float(b, "SCORE_SCALE", turns->attention->attention.scale);
    define_temperature(b, turns->attention);
    if (turns->has_gates) define(b, "HEAD_GATES", 1);
    if (!turns->ops[TURNS_KV_WRITE]) define(b, "SHARED_KV", 1);
    HeadNorms norms = norms_of(turns);
    if (!norms.q) return;
    define(b, "HEAD_NORMS", 1);
    if (turns->ops[TURNS_NORM_V]) define(b, "VALUE_NORMS", 1);
    define_norm(b, norms.q);
    if (norms.turned) define(b, "NORM_TURNED", 1);
    if (!norms.q->weight) define(b, "NORM_PLAIN", 1);
}

static void define_cache(StrBuf *b, const BatchLowering *l) {
    const KvLayout *kv = &l->plan->kv;
    if (l->plan->kv_type == KV_TYPE_Q8) define(b, "KV_Q8", 1);
    if (kv->is_mixed) define(b, "KV_PAGE_STEP", cuda_page_step(kv) / sizeof(uint16_t));
}

static void define_rope_heads(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define_cache(b, l);
    define(b, "STAGE_ROPE_HEADS", 1);
    define_heads(b, s->attention);
    define(b, "N_KV_HEADS", s->attention->attention.n_kv_heads);
    define_turns(b, s);
}

static void bind_rope_heads(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    HeadNorms norms = norms_of(s);
    out->rope_heads = (RopeHeadsArgs){.batch = b->batch,
                                      .rows = b->rows,
                                      .raw = b->raw,
                                      .norm = {batch_weight_of(b, norms.q), batch_weight_of(b, norms.k)},
                                      .rope = table_of(b, rope_of(s->ops[TURNS_ROPE_Q])),
                                      .q = b->q,
                                      .kv = batch_cache_of(b, s),
                                      .list_at = batch_list_of(b, s)};
}

// The operation that left what goes on: the first of these that is there, or NULL.
static const Op *last_of(const BatchStage *turns, uint32_t a, uint32_t b, uint32_t c) {
    return turns->ops[a] ? turns->ops[a] : turns->ops[b] ? turns->ops[b] : turns->ops[c];
}

static bool needs_qk_norm(const BatchLowering *l, const BatchStage *s) {
    (void)l;
    return norms_are_wide(s);
}

static void define_qk_norm(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_QK_NORM", 1);
    define_heads(b, s->attention);
    define(b, "N_KV_HEADS", s->attention->attention.n_kv_heads);
    define_norm(b, s->ops[TURNS_NORM_Q]);
}

static void bind_qk_norm(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->qk_norm = (QkNormArgs){
        .batch = b->batch,
        .raw = b->raw,
        .norm = {batch_weight_of(b, s->ops[TURNS_NORM_Q]), batch_weight_of(b, s->ops[TURNS_NORM_K])}};
}

const BatchType batch_qk_norm = {
    .kernel = "qk_norm",
    .name = "norm of all heads",
    .files = {FILES_ROWS, "qk_norm.cuh"},
    .cost = COST_USUAL,
    .is_needed = needs_qk_norm,
    .define = define_qk_norm,
    .bind = bind_qk_norm,
    .results = batch_shows_none, // keys are seen in the cache
};

// Keys and values in the cache: of the operations of a TURNS block that wrote them last.
static uint32_t entries_results(const BatchStage *turns, const BatchBuffers *b, StageResult *out) {
    const Op *key = last_of(turns, TURNS_TURNED_K, TURNS_ROPE_K, TURNS_NORM_K);
    CUdeviceptr cache = batch_cache_of(b, turns);
    uint32_t n = 0;
    if (!turns->values) return 0;
    if (key) out[n++] = (StageResult){key, RESULT_KEYS, cache, key->out_width, 1, 0};
    out[n++] = (StageResult){turns->values, RESULT_VALUES, cache, turns->values->out_width, 1, 0};
    return n;
}

// And queries in `q`, where no factor depends on the position.
static uint32_t rope_heads_results(const BatchStage *s, const BatchBuffers *b,
                                   StageResult out[STAGE_RESULTS_MAX]) {
    const Op *last = last_of(s, TURNS_TURNED_Q, TURNS_ROPE_Q, TURNS_NORM_Q);
    if (s->attention->attention.temperature_scale != 0) last = NULL;
    float factor = s->attention->attention.scale * (float)M_LOG2E; // that the kernels put into queries
    uint32_t n = 0;
    if (last) out[n++] = (StageResult){last, RESULT_QUERIES, b->q, last->out_width, factor, 0};
    return n + entries_results(s, b, out + n);
}

const BatchType batch_rope_heads = {
    .kernel = "rope_heads",
    .name = "norm of heads, rope, cache",
    .files = {FILES_COMMON, "kv_cache.cuh", "turned.cuh", "turn_heads.cuh", "rope_heads.cuh"},
    .cost = COST_USUAL,
    .define = define_rope_heads,
    .bind = bind_rope_heads,
    .results = rope_heads_results,
};

// Of a layer that reads the keys and values of another.
static bool has_queries_alone(const BatchLowering *l, const BatchStage *s) {
    (void)l;
    return !s->ops[TURNS_KV_WRITE];
}

const BatchType batch_turn_queries = {
    .kernel = "rope_heads",
    .name = "norm of queries, rope",
    .files = {FILES_COMMON, "kv_cache.cuh", "turned.cuh", "turn_heads.cuh", "rope_heads.cuh"},
    .cost = COST_USUAL,
    .is_needed = has_queries_alone,
    .define = define_rope_heads,
    .bind = bind_rope_heads,
    .results = rope_heads_results,
};

// clang-format off
const BatchBlock batch_block_turns = {
    .patterns = {
        {8, false, {
            [TURNS_NORM_Q]   = {OP_RMS_NORM, ACT_Q,    {ACT_Q}, .optional = true},
            [TURNS_NORM_K]   = {OP_RMS_NORM, ACT_K,    {ACT_K}, .optional = true},
            [TURNS_NORM_V]   = {OP_RMS_NORM, ACT_V,    {ACT_V}, .optional = true},
            [TURNS_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}, .optional = true},
            [TURNS_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}, .optional = true},
            [TURNS_TURNED_Q] = {OP_RMS_NORM, ACT_Q,    {ACT_Q}, .optional = true},
            [TURNS_TURNED_K] = {OP_RMS_NORM, ACT_K,    {ACT_K}, .optional = true},
            [TURNS_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}, .optional = true}}}},
    .parts = {
        {&batch_turn_queries, TURNS_ROPE_Q, BODY_PROMPT, false},
        {&batch_qk_norm, TURNS_NORM_Q, BODY_ANY, false},
        {&batch_rope_heads, TURNS_KV_WRITE, BODY_PROMPT, false}}, // batches of rows: attention does it
    .link = link_turns,
    .check = check_turns,
};
// clang-format on

// ---- ATTENTION ----

enum {
    ATTENTION_DIM_MAX = 512, // of a head
    ATTENTION_FEW_RING = 96 << 10,
    ATTENTION_TEAMS_MOST = 4,  // of a warp each, in a block: each lane has 255 registers
    ATTENTION_RESERVED = 1024, // the system's shared memory, of each block
    // Lists of a row that leave clusters room up to 8,192 keys. (A launch that says whether there are
    // clusters takes longer than a kernel that does: 0.5B, a step of 327 µs → 330.)
    ATTENTION_FEW_LISTS = 2,
    ATTENTION_PARTS_MAX = 4, // of values
};

static bool link_attention(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)after;
    bool has_gates = s->ops[ATTENTION_GATE] != NULL;
    if (!before || before->block != &batch_block_turns || before->has_gates != has_gates)
        return batch_refuse(err, s);
    s->turns = before;
    s->attention = s->ops[ATTENTION_ATTENTION];
    s->has_gates = has_gates;
    return true;
}

// Of rows of any sequences, and of prompts'.
static void define_attend(StrBuf *b, const BatchLowering *l, const Op *op) {
    define_cache(b, l);
    define_heads(b, op);
    define(b, "N_KV_HEADS", op->attention.n_kv_heads);
    define(b, "WINDOW", op->attention.window);
    if (op->attention.is_chunked) define(b, "CHUNKED", 1);
    if (op->weight) define(b, "HAS_SINKS", 1);
    define_cap(b, op->attention.cap);
}

// Bytes of 64 keys and values of a head.
static uint64_t tile_bytes(const BatchLowering *l, const Op *op) {
    bool is_q8 = l->plan->kv_type == KV_TYPE_Q8;
    return 64 / KV_PAGE * 2ull * layout_kv_piece_bytes(is_q8, op->attention.key_dim);
}

// How attention is spread over a GPU (attention.cuh).
typedef struct {
    uint32_t blocks, blocks_per_sm, teams, team_warps;
    uint32_t ring_bytes; // of a team
    uint32_t cluster;    // blocks; 0: none
    uint32_t parts;      // of a list's values
} AttentionShape;

// Shared memory of a team beside its ring: weights of two tiles, largest scores, queries, and what is folded:
// two accumulators, or what the blocks of a cluster send each other.
static uint64_t attention_beside(const Op *op, uint32_t team_warps, uint32_t cluster, uint32_t parts) {
    uint64_t key_dim = op->attention.key_dim, dim = key_dim / parts;
    uint64_t heads = layout_attention_heads(op->attention.n_heads, op->attention.n_kv_heads);
    uint64_t halves = heads > 8 ? 2 : 1,
             weights = team_warps > 1 ? 2 * (halves * 8 * 64 * 2 + 4 * 16 * 4) : 0;
    uint64_t folded = 2 * heads * (dim * 4 + team_warps * 8ull), sent = 0;
    if (cluster) sent = ATTENTION_GROUP_SPLITS * (div_up(dim / 16, cluster) * halves * 512 + 128) + 32;
    return weights + 16 * key_dim * 2 + max_u64(folded, sent) + 256;
}

// Blocks of a cluster of few rows: as many as leave each list a cluster of its own; 0 where no two blocks
// would fit a multiprocessor, as then the next stage's would not fit either.
static uint32_t attention_cluster(const LowerTarget *t, const Op *op, uint64_t lists, uint64_t ring,
                                  uint32_t parts) {
    uint64_t half = t->shared_bytes_multiprocessor / 2 - ATTENTION_RESERVED;
    for (uint32_t cluster = 8; t->sm >= 90 && cluster >= 2; cluster /= 2) {
        // Larger clusters find room on 120 of 132 multiprocessors.
        uint64_t most = t->multiprocessors * (parts > 1 && cluster > 2 ? 10ull : 11ull) / 11;
        if (lists * cluster <= most && div_up(op->attention.key_dim / parts / 16, cluster) <= 4 &&
            ring + attention_beside(op, 4, cluster, parts) <= half)
            return cluster;
    }
    return 0;
}

// Few rows of wide heads, or of many that share keys: with the fewest parts of the values with which there
// are clusters, of two tiles or else of one. (Their blocks fetch and rehearse beside the stage before, where
// one of whole tiles would find no room.) cluster 0: none.
static AttentionShape attention_in_parts(const BatchLowering *l, const Op *op, uint64_t lists) {
    uint64_t keys = tile_bytes(l, op) / 2;
    AttentionShape s = {l->target->multiprocessors, 1, 1, 4, 0, 0, 1};
    for (uint32_t tiles = 2; tiles > 0 && l->plan->kv_type != KV_TYPE_Q8; tiles--) {
        for (uint32_t parts = 2; parts <= ATTENTION_PARTS_MAX && !s.cluster; parts *= 2) {
            if (op->attention.key_dim % (64 * parts)) break;
            uint64_t ring = tiles * (keys + keys / parts);
            s.ring_bytes = (uint32_t)ring, s.parts = parts;
            s.cluster = attention_cluster(l->target, op, lists * parts, ring, parts);
        }
        if (s.cluster) return s;
    }
    return s;
}

// Where all lists find a multiprocessor, its four warps share each tile, in one block, so that the next
// stage's block fits beside it: three tiles, or four small ones. Of a cache of 8 bits with bulk copies
// (sm_90) six, where two blocks of that fit: while one step of two tiles is used, the next one has come and
// the one behind it is on its way, and a page's keys and values are one copy (attention.cuh, WHOLE_PAGES).
// Else five. Where not even one fits, its keys and its values take turns. Many rows have two blocks.
// Where heads do not share keys, a warp has a tile and lists of its own (64 rows of 128 keys, Phi-3: 29
// µs, with four warps a tile 48; 8B, which shares: 18.5 and 13.4).
static AttentionShape attention_shape(const BatchLowering *l, const Op *op) {
    const LowerTarget *t = l->target;
    uint64_t tile = tile_bytes(l, op);
    uint64_t lists =
        (uint64_t)l->size.max_rows * layout_attention_lists(op->attention.n_heads, op->attention.n_kv_heads);
    uint64_t half = t->shared_bytes_multiprocessor / 2 - ATTENTION_RESERVED;
    uint64_t teams = half / (tile + attention_beside(op, 1, 0, 1));
    bool few = lists <= t->multiprocessors, share = op->attention.n_heads > op->attention.n_kv_heads;
    if (!few && !share && teams >= ATTENTION_TEAMS_MOST)
        return (AttentionShape){t->multiprocessors * 2, 2, ATTENTION_TEAMS_MOST, 1, (uint32_t)tile, 0, 1};
    uint64_t beside = attention_beside(op, 4, 0, 1),
             left = t->shared_bytes_block - min_u64(beside, t->shared_bytes_block);
    bool is_q8 = l->plan->kv_type == KV_TYPE_Q8; // f16 was not measured
    uint64_t whole = 64ull / KV_PAGE * layout_kv_page_room(is_q8, op->attention.key_dim);
    bool has_six = t->sm >= 90 && is_q8 && 6 * whole + beside + ATTENTION_RESERVED <= half,
         has_five = t->sm >= 90 && is_q8 && 5 * tile + beside <= half;
    if (has_six) tile = whole;
    uint64_t most = has_six ? 6 : min_u64(ATTENTION_FEW_RING / tile, has_five ? 5 : 4);
    uint64_t tiles = min_u64(left / tile, max_u64(most, 3));
    uint32_t per_sm = l->size.max_rows <= BATCH_FEW_ROWS_MAX ? 1 : 2, ring = (uint32_t)(tiles * tile);
    if (tiles == 0) ring = (uint32_t)(tile / 2);
    uint32_t blocks = t->multiprocessors * per_sm;
    uint32_t cluster = few && per_sm == 1 && tiles > 1 ? attention_cluster(t, op, lists, ring, 1) : 0;
    AttentionShape in_parts = {0};
    if (few && per_sm == 1 && !cluster) in_parts = attention_in_parts(l, op, lists);
    return in_parts.cluster ? in_parts : (AttentionShape){blocks, 1, 1, 4, ring, cluster, 1};
}

static void define_attention(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    AttentionShape shape = attention_shape(l, op);
    uint32_t n_heads = op->attention.n_heads, n_kv_heads = op->attention.n_kv_heads;
    uint32_t groups = (uint32_t)div_up(l->plan->n_context, ATTENTION_GROUP_KEYS);
    uint32_t lists = layout_attention_lists(n_heads, n_kv_heads) * shape.parts;
    bool two_ways = shape.cluster && lists > ATTENTION_FEW_LISTS;
    uint32_t teams = shape.blocks * shape.teams * (two_ways ? 2 : 1); // at most
    define_attend(b, l, op);
    define_turns(b, s->turns);
    define(b, "BLOCKS", shape.blocks);
    define(b, "BLOCKS_PER_SM", shape.blocks_per_sm);
    if (shape.cluster) define(b, "CLUSTERS", shape.cluster);
    if (two_ways) define(b, "TWO_WAYS", 1);
    if (shape.parts > 1) define(b, "VALUE_PARTS", shape.parts);
    define(b, "TEAMS", shape.teams);
    define(b, "TEAM_WARPS", shape.team_warps);
    define(b, "RING_BYTES", shape.ring_bytes);
    define(b, "GROUPS_MAX", groups);
    const Op *gate = s->ops[ATTENTION_GATE]; // activate.cuh wants a function in any case
    define_activation(b, gate ? gate->fn : FN_IDENTITY);
    uint64_t floats =
        layout_attention_partial_floats(n_heads * shape.parts, n_kv_heads * shape.parts,
                                        op->attention.key_dim / shape.parts, l->size.max_rows, teams, groups);
    batch_need(l, floats * sizeof(float), layout_attention_meetings(teams));
}

// Shared memory that a block of span_attention needs: its groups' triples, of half the dims of the widest
// heads, and a tile, or half of one (bulk copies bring whole ones).
static uint64_t span_bytes(const BatchLowering *l, const Op *op, uint32_t warps) {
    uint64_t dim = op->attention.key_dim, tile = tile_bytes(l, op);
    uint64_t group = dim > 128 ? 16 * warps * (dim > 256 ? dim / 2 : dim) * sizeof(float) : 0;
    return group + (l->target->sm >= 90 ? tile + 64 : tile / 2);
}

// Warps of a block: four where that fits; two of the widest heads, whose queries then fit beside it.
static uint32_t span_warps(const BatchLowering *l, const Op *op) {
    bool fits = op->attention.key_dim <= 256 && span_bytes(l, op, 4) <= l->target->shared_bytes_block;
    return op->attention.key_dim <= 128 || fits ? 4 : 2;
}

// Which kernel prompts' attention is: span_attention_wgmma.cuh of usual heads on sm_90a;
// span_attention_wide.cuh of heads of 512 there, by clusters of two blocks, where rows see all keys before
// them, without sinks, in a cache of f16; else span_attention.cuh.
typedef enum { SPAN_MMA, SPAN_WGMMA, SPAN_WIDE } SpanBody;

static SpanBody span_body(const BatchLowering *l, const Op *op) {
    uint32_t dim = op->attention.key_dim;
    if (!lower_has_wgmma(l->target)) return SPAN_MMA;
    if (dim == 64 || dim == 96 || dim == 128 || dim == 256) return SPAN_WGMMA;
    bool sees_all = !op->attention.window && !op->attention.is_chunked && !op->weight,
         is_even = l->target->multiprocessors % 2 == 0;
    return dim == 512 && sees_all && is_even && l->plan->kv_type == KV_TYPE_F16 ? SPAN_WIDE : SPAN_MMA;
}

// Whether attention's blocks fit the GPU's shared memory: a wide head's tile may not.
static bool attention_fits(const BatchLowering *l, const Op *op) {
    const LowerTarget *t = l->target;
    uint64_t least = tile_bytes(l, op) / (t->sm >= 90 ? 1 : 2) + attention_beside(op, 4, 0, 1);
    return least <= t->shared_bytes_block && span_bytes(l, op, span_warps(l, op)) <= t->shared_bytes_block;
}

static bool check_attention(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    uint32_t key_dim = op->attention.key_dim;
    if (key_dim % 16 || key_dim > ATTENTION_DIM_MAX || (key_dim > 256 && key_dim % 64)) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "heads of %u values cannot be run on the GPU yet: a multiple of 16 up to 256, or of 64 up "
            "to %d, is needed",
            key_dim, ATTENTION_DIM_MAX);
    }
    return attention_fits(l, op) ||
           error_set(
               err, ERR_UNSUPPORTED,
               "layer %u: heads of %u values need more shared memory than a block of this GPU has: %u bytes",
               s->layer, key_dim, l->target->shared_bytes_block);
}

// Queries of a block of prompts' attention, or of a cluster.
static uint32_t span_queries(const BatchLowering *l, const Op *op) {
    switch (span_body(l, op)) {
    case SPAN_MMA: return span_warps(l, op) * 16;
    case SPAN_WGMMA: return op->attention.key_dim > 128 ? 64 : 128;
    case SPAN_WIDE: return 80;
    }
    return 0;
}
// Blocks, or clusters.
static uint32_t span_blocks_at_once(const BatchLowering *l, const Op *op) {
    uint32_t n = l->target->multiprocessors;
    switch (span_body(l, op)) {
    case SPAN_MMA: return op->attention.key_dim > 256 ? n : 2 * n; // a multiprocessor has one, or two
    case SPAN_WGMMA: return n;
    case SPAN_WIDE: return n / 2;
    }
    return 0;
}

static StretchCut span_stretches(const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    uint32_t n_heads = op->attention.n_heads, n_kv_heads = op->attention.n_kv_heads;
    uint32_t queries = span_queries(l, op);
    StretchCut cut = {.rows = layout_stretch_rows(n_heads, n_kv_heads, queries),
                      .at_once = span_blocks_at_once(l, op) / layout_attention_lists(n_heads, n_kv_heads),
                      .floats = layout_stretch_floats(n_heads, n_kv_heads, op->attention.key_dim, queries)};
    // A block of wgmma has two teams of 64 queries; where there are multiprocessors for all of these, one
    // has none.
    bool two_teams = span_body(l, op) == SPAN_WGMMA && queries > 64;
    if (two_teams) cut.half_rows = cut.rows / 2 * cut.at_once;
    return cut;
}

static void define_span_attention(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    define_attend(b, l, op);
    define(b, "SPAN_WARPS", span_warps(l, op));
    define(b, "SPAN_BLOCKS_LEAST", 2 * l->target->multiprocessors); // that run at once
}

static void define_span_wgmma(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define_attend(b, l, s->ops[ATTENTION_ATTENTION]);
    define(b, "SPAN_BLOCKS", l->target->multiprocessors);
}

static bool uses_span_mma(const BatchLowering *l, const BatchStage *s) {
    return span_body(l, s->ops[ATTENTION_ATTENTION]) == SPAN_MMA;
}
static bool uses_span_wgmma(const BatchLowering *l, const BatchStage *s) {
    return span_body(l, s->ops[ATTENTION_ATTENTION]) == SPAN_WGMMA;
}
static bool uses_span_wide(const BatchLowering *l, const BatchStage *s) {
    return span_body(l, s->ops[ATTENTION_ATTENTION]) == SPAN_WIDE;
}

static void bind_attention(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    HeadNorms norms = norms_of(s->turns);
    out->batch_attention =
        (BatchAttentionArgs){.batch = b->batch,
                             .rows = b->rows,
                             .raw = b->raw,
                             .norm = {batch_weight_of(b, norms.q), batch_weight_of(b, norms.k)},
                             .rope = table_of(b, rope_of(s->turns->ops[TURNS_ROPE_Q])),
                             .kv = batch_cache_of(b, s),
                             .list_at = batch_list_of(b, s),
                             .sinks = batch_weight_of(b, s->ops[ATTENTION_ATTENTION]),
                             .out = b->a,
                             .partial = b->partial,
                             .meetings = b->meetings};
}

// The triples of stretches lie where their rows' raw products were, or, where gates are among these, what
// layers with a state have there.
static void bind_span_attention(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    bind_attention(s, b, out);
    out->batch_attention.stretches = b->stretches[s->cut];
    out->batch_attention.cut = s->cut;
    out->batch_attention.q = b->q;
    out->batch_attention.partial = s->has_gates ? b->mixed : b->raw;
}

static uint32_t span_attention_results(const BatchStage *s, const BatchBuffers *b,
                                       StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->a, op->out_width, 1, 0};
    return 1;
}

// Queries are nowhere in memory, nor are values that the gates have not multiplied.
static uint32_t attention_results(const BatchStage *s, const BatchBuffers *b,
                                  StageResult out[STAGE_RESULTS_MAX]) {
    uint32_t n = entries_results(s->turns, b, out);
    const Op *gate = s->ops[ATTENTION_GATE];
    if (!gate) return n + span_attention_results(s, b, out + n);
    out[n] = (StageResult){gate, RESULT_ACTIVATIONS, b->a, gate->out_width, 1, 0};
    return n + 1;
}

const BatchType batch_attention = {
    .kernel = "attention",
    .name = "norm of heads, rope, cache, attention",
    .files = {FILES_COMMON, "kv_cache.cuh", "rows.cuh", "activate.cuh", "turned.cuh", "turn_heads.cuh",
              "soft_cap.cuh", "attend.cuh", "attention_list.cuh", "attention.cuh", "attention_tiles.cuh",
              "attention_triples.cuh", "attention_run.cuh", "attention_clusters.cuh"},
    .cost = 90,
    .reads = READS_ALL,
    .define = define_attention,
    .bind = bind_attention,
    .results = attention_results,
};

#define FILES_SPANS FILES_COMMON, "kv_cache.cuh", "rows.cuh", "soft_cap.cuh", "attend.cuh", "span_parts.cuh"

const BatchType batch_span_attention = {
    .kernel = "span_attention",
    .name = "attention of prompts",
    .files = {FILES_SPANS, "span_attention.cuh"},
    .cost = 85,
    .reads = READS_ALL,
    .stretches = span_stretches,
    .is_needed = uses_span_mma,
    .define = define_span_attention,
    .bind = bind_span_attention,
    .results = batch_shows_none, // it is seen behind the fold
};

const BatchType batch_span_wgmma = {
    .kernel = "span_attention",
    .name = "attention of prompts, four warps a product",
    .files = {FILES_SPANS, "ring.cuh", "span_codes.cuh", "span_attention_wgmma.cuh"},
    .cost = 140,
    .reads = READS_ALL,
    .stretches = span_stretches,
    .is_needed = uses_span_wgmma,
    .define = define_span_wgmma,
    .bind = bind_span_attention,
    .results = batch_shows_none, // it is seen behind the fold
};

const BatchType batch_span_wide = {
    .kernel = "span_attention",
    .name = "attention of prompts, wide heads, four warps a product",
    .files = {FILES_SPANS, "ring.cuh", "attend_columns.cuh", "span_attention_wide.cuh"},
    .cost = 110,
    .reads = READS_ALL,
    .stretches = span_stretches,
    .is_needed = uses_span_wide,
    .define = define_span_wgmma,
    .bind = bind_span_attention,
    .results = batch_shows_none, // it is seen behind the fold
};

static void define_span_fold(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    define_attend(b, l, op);
    define(b, "SPAN_QUERIES", span_queries(l, op));
}

const BatchType batch_span_fold = {
    .kernel = "span_fold",
    .name = "attention of prompts, fold of parts",
    .files = {FILES_SPANS, "span_fold.cuh"},
    .cost = COST_USUAL,
    .folds_parts = true,
    .stretches = span_stretches,
    .define = define_span_fold,
    .bind = bind_span_attention,
    .results = span_attention_results,
};

// Values of a row of what the gates are behind.
static uint32_t turned_values(const Op *attention) {
    return (attention->attention.n_heads + 2 * attention->attention.n_kv_heads) *
           attention->attention.key_dim;
}

static void define_attention_gate(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_ATTENTION_GATE", 1);
    define(b, "N_COLS", s->attention->out_width);
    define(b, "RAW_COLS", turned_values(s->attention) + s->attention->out_width);
    define(b, "GATE_AT", turned_values(s->attention));
    define_activation(b, s->ops[ATTENTION_GATE]->fn);
}

static void bind_attention_gate(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->attention_gate = (AttentionGateArgs){.batch = b->batch, .raw = b->raw, .a = b->a};
}

static uint32_t attention_gate_results(const BatchStage *s, const BatchBuffers *b,
                                       StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[ATTENTION_GATE];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->a, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_attention_gate = {
    .kernel = "attention_gate",
    .name = "gates of heads",
    .files = {FILES_ROWS, "activate.cuh", "attention_gate.cuh"},
    .cost = COST_USUAL,
    .define = define_attention_gate,
    .bind = bind_attention_gate,
    .results = attention_gate_results,
};

// clang-format off
const BatchBlock batch_block_attention = {
    .patterns = {
        {2, false, {
            [ATTENTION_ATTENTION] = {OP_ATTENTION, ACT_A, {ACT_Q}},
            [ATTENTION_GATE]      = {OP_GLU,       ACT_A, {ACT_QG, ACT_A}, .optional = true}}}},
    .parts = {
        {&batch_attention, ATTENTION_ATTENTION, BODY_FEW | BODY_MANY, false},
        {&batch_span_attention, ATTENTION_ATTENTION, BODY_PROMPT, false},
        {&batch_span_wgmma, ATTENTION_ATTENTION, BODY_PROMPT, false},
        {&batch_span_wide, ATTENTION_ATTENTION, BODY_PROMPT, false},
        {&batch_span_fold, ATTENTION_ATTENTION, BODY_PROMPT, false},
        {&batch_attention_gate, ATTENTION_GATE, BODY_PROMPT, false}}, // of rows that decode attention does it
    .link = link_attention,
    .check = check_attention,
};
// clang-format on
