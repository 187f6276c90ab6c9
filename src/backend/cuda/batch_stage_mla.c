// Stages of attention with a compressed cache: its products, what becomes of queries and keys, attention, and
// each head's output. They are the same for all classes but for the products' bodies.
#include "backend/cuda/batch_lower_internal.h"

#include <math.h>

enum { MLA_NORM, MLA_QA, MLA_QA_NORM, MLA_QB, MLA_K };
enum { MLA_TURNS_NORM, MLA_TURNS_ROPE_Q, MLA_TURNS_ROPE_K, MLA_TURNS_QUERIES, MLA_TURNS_WRITE };
enum { MLA_ATTENTION_ATTENTION, MLA_ATTENTION_VALUES };

// ---- products: queries, by way of a low rank or not, then the latent vector and the turned values ----

// The products of attention's input: queries or those of a low rank, and the key.
static BatchMatrices inputs_of(const BatchStage *s) {
    BatchMatrices m = {0};
    batch_matrices_add(&m, s->ops[MLA_QA], 1);
    batch_matrices_add(&m, s->ops[MLA_K], 1);
    return m;
}
static BatchMatrices queries_of(const BatchStage *s) {
    BatchMatrices m = {0};
    batch_matrices_add(&m, s->ops[MLA_QB], 1);
    return m;
}

// Where the key is in a row of these products, and values of a row: multiples of 32, as all widths here are.
static uint32_t key_at(const BatchStage *s) {
    return (s->low_rank ? s->low_rank : s->queries)->out_width;
}
static uint32_t input_cols_of(const BatchStage *s) {
    return key_at(s) + s->attention->attention.key_dim;
}
// Of a row with the queries: where there is no low rank, the same one.
static uint32_t query_cols_of(const BatchStage *s) {
    return s->low_rank ? s->queries->out_width : input_cols_of(s);
}
// What the products of attention's input leave: where there is a low rank, behind all rows' queries.
static CUdeviceptr raw_inputs_of(const BatchBuffers *b, const BatchStage *s) {
    return b->raw + (s->low_rank ? (uint64_t)b->max_rows * query_cols_of(s) * sizeof(float) : 0);
}
static CUdeviceptr raw_keys_of(const BatchBuffers *b, const BatchStage *s) {
    return raw_inputs_of(b, s) + key_at(s) * sizeof(float);
}

static bool link_mla_products(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)before;
    if (!after || after->block != &batch_block_mla_turns) return batch_refuse(err, s);
    s->attention = after[1].ops[MLA_ATTENTION_ATTENTION]; // which the block of turns makes sure of
    s->low_rank = s->ops[MLA_QB] ? s->ops[MLA_QA] : NULL;
    s->queries = s->ops[s->low_rank ? MLA_QB : MLA_QA];
    return true;
}

// The queries of a low rank, and then what attention gives, lie in one buffer: columns past the last one
// must be zeros for both.
static bool check_mla_products(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *low = s->low_rank;
    BatchMatrices m = inputs_of(s);
    (void)l;
    if (!batch_check_matrices(&m, err)) return false;
    uint64_t out = s->attention[1].out_width; // of the operation behind it
    return !low || (low->out_width % ACTIVATION_COLS == 0 && out % ACTIVATION_COLS == 0) ||
           lower_refuse_weight(err, low->weight, "a rank that is no multiple of 128");
}

static void define_normed_matrices(StrBuf *b, const BatchLowering *l, const BatchStage *s, const Op *norm,
                                   const BatchMatrices *m) {
    BatchStage of = {.block = s->block, .ops = {norm, m->of[0], m->of[1]}}; // what their sizes are of
    batch_define_matrices(b, l, &of, m, norm);
}

static void define_mla_inputs(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    BatchMatrices m = inputs_of(s);
    define_normed_matrices(b, l, s, s->ops[MLA_NORM], &m);
}

static void bind_mla_inputs(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    BatchMatrices m = inputs_of(s);
    batch_bind_matrices(s, b, &m, s->ops[MLA_NORM], out);
    out->product.out = raw_inputs_of(b, s);
}

static uint32_t mla_inputs_results(const BatchStage *s, const BatchBuffers *b,
                                   StageResult out[STAGE_RESULTS_MAX]) {
    const Op *first = s->ops[MLA_QA], *key = s->ops[MLA_K];
    uint32_t cols = input_cols_of(s);
    out[0] = (StageResult){first, RESULT_ROWS, raw_inputs_of(b, s), first->out_width, 1, cols};
    out[1] = (StageResult){key, RESULT_ROWS, raw_keys_of(b, s), key->out_width, 1, cols};
    return 2;
}

const BatchType batch_mla_inputs = {
    .kernel = "qkv",
    .name = "compressed q k",
    .files = {FILES_FEW, "qkv.cuh"},
    .cost = 50,
    .reads = 1 << MLA_QA | 1 << MLA_K,
    .define = define_mla_inputs,
    .bind = bind_mla_inputs,
    .results = mla_inputs_results,
};

const BatchType batch_mla_inputs_many = {
    .kernel = "qkv",
    .name = "compressed q k of many",
    .files = {FILES_MANY, "qkv.cuh"},
    .cost = 70,
    .reads = 1 << MLA_QA | 1 << MLA_K,
    .define = define_mla_inputs,
    .bind = bind_mla_inputs,
    .results = mla_inputs_results,
};

static void define_mla_product(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    BatchMatrices m = queries_of(s);
    define_normed_matrices(b, l, s, s->ops[MLA_QA_NORM], &m);
}

static void bind_mla_product(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    BatchMatrices m = queries_of(s);
    batch_bind_matrices(s, b, &m, s->ops[MLA_QA_NORM], out);
    out->product.x = raw_inputs_of(b, s); // of one row
    out->product.in = b->a;
}

static uint32_t mla_product_results(const BatchStage *s, const BatchBuffers *b,
                                    StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[MLA_QB];
    out[0] = (StageResult){op, RESULT_ROWS, b->raw, op->out_width, 1, query_cols_of(s)};
    return 1;
}

const BatchType batch_mla_product = {
    .kernel = "qkv",
    .name = "queries of a low rank",
    .files = {FILES_FEW, "qkv.cuh"},
    .cost = 50,
    .reads = 1 << MLA_QB,
    .define = define_mla_product,
    .bind = bind_mla_product,
    .results = mla_product_results,
};

const BatchType batch_mla_product_many = {
    .kernel = "qkv",
    .name = "queries of a low rank, of many",
    .files = {FILES_MANY, "qkv.cuh"},
    .cost = 70,
    .reads = 1 << MLA_QB,
    .define = define_mla_product,
    .bind = bind_mla_product,
    .results = mla_product_results,
};

static void define_mla_norm(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_NORM_ROWS", 1);
    define(b, "D_MODEL", s->ops[0]->out_width);
    define(b, "X_COLS", input_cols_of(s));
    define_norm(b, s->ops[0]);
}

static void bind_mla_norm(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->norm = (NormArgs){
        .batch = b->batch, .x = raw_inputs_of(b, s), .norm = batch_weight_of(b, s->ops[0]), .out = b->a};
}

static uint32_t mla_norm_results(const BatchStage *s, const BatchBuffers *b,
                                 StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[0], RESULT_ACTIVATIONS, b->a, s->ops[0]->out_width, 1, 0};
    return 1;
}

const BatchType batch_mla_norm = {
    .kernel = "norm_rows",
    .name = "norm of compressed q",
    .files = {FILES_ROWS, "norm_rows.cuh"},
    .cost = COST_USUAL,
    .define = define_mla_norm,
    .bind = bind_mla_norm,
    .results = mla_norm_results,
};

// clang-format off
const BatchBlock batch_block_mla_products = {
    .patterns = {
        {5, false, {
            [MLA_NORM]    = {OP_RMS_NORM, ACT_H,  {ACT_X}},
            [MLA_QA]      = {OP_MATMUL,   ACT_QA, {ACT_H}},
            [MLA_QA_NORM] = {OP_RMS_NORM, ACT_QA, {ACT_QA}},
            [MLA_QB]      = {OP_MATMUL,   ACT_QB, {ACT_QA}},
            [MLA_K]       = {OP_MATMUL,   ACT_K,  {ACT_H}}}},
        {5, false, {
            [MLA_NORM]    = {OP_RMS_NORM, ACT_H,  {ACT_X}},
            [MLA_QA]      = {OP_MATMUL,   ACT_QB, {ACT_H}},
            [MLA_QA_NORM] = {OP_COUNT, .optional = true}, // never
            [MLA_QB]      = {OP_COUNT, .optional = true},
            [MLA_K]       = {OP_MATMUL,   ACT_K,  {ACT_H}}}}},
    .parts = {
        {&batch_norm, MLA_NORM, BODY_NORMED, true},
        {&batch_mla_inputs, MLA_K, BODY_FEW, false},
        {&batch_mla_inputs_many, MLA_K, BODY_TOGETHER, false},
        {&batch_mla_norm, MLA_QA_NORM, BODY_NORMED, true},
        {&batch_mla_product, MLA_QB, BODY_FEW, false},
        {&batch_mla_product_many, MLA_QB, BODY_TOGETHER, false}},
    .link = link_mla_products,
    .check = check_mla_products,
};
// clang-format on

// ---- what becomes of queries and keys ----

static bool link_mla_turns(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    if (!before || before->block != &batch_block_mla_products) return batch_refuse(err, s);
    if (!after || after->block != &batch_block_mla_attention) return batch_refuse(err, s);
    s->attention = after->ops[MLA_ATTENTION_ATTENTION];
    s->low_rank = before->low_rank;
    s->queries = before->queries;
    return true;
}

static bool check_head_weight(const Weight *w, Error *err) {
    if (FORMAT_HAS_CODEBOOK((int)w->dtype))
        return lower_refuse_weight(err, w, "heads' own matrices in formats with codebooks");
    return w->n_cols <= 2048 || lower_refuse_weight(err, w, "rows are longer than 2,048");
}

static bool check_mla_turns(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *rope = s->ops[MLA_TURNS_ROPE_Q];
    (void)l;
    return (rope->rope.rope == s->ops[MLA_TURNS_ROPE_K]->rope.rope &&
            rope->rope.rope->pairs == ROPE_INTERLEAVED &&
            check_head_weight(s->ops[MLA_TURNS_QUERIES]->weight, err)) ||
           batch_refuse(err, s);
}

static uint32_t turned_of(const BatchStage *s) {
    return s->ops[MLA_TURNS_ROPE_K]->rope.rope->dims;
}

// The table of the layer's rotary embedding.
static CUdeviceptr table_of(const BatchBuffers *b, const BatchStage *s) {
    uint32_t i = 0;
    while (b->placement->ropes[i] != s->ops[MLA_TURNS_ROPE_K]->rope.rope)
        i++;
    return b->rope[i];
}

// Of a HEAD_MATMUL.
static void define_head_product(StrBuf *b, const Op *op) {
    define(b, "N_HEADS", op->weight->n_matrices);
    define(b, "PRODUCT_ROWS", op->weight->n_rows);
    define(b, "PRODUCT_COLS", op->weight->n_cols);
    define_format(b, "FORMAT_0", op->weight);
}

static void define_mla_queries(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define_head_product(b, s->ops[MLA_TURNS_QUERIES]);
    define(b, "KV_RANK", s->attention->attention.value_dim);
    define(b, "UNTURNED", s->ops[MLA_TURNS_QUERIES]->weight->n_cols);
    define(b, "TURNED", turned_of(s));
    define(b, "QUERY_COLS", query_cols_of(s));
    define(b, "KEY_COLS", input_cols_of(s));
    define_float(b, "SCORE_SCALE", s->attention->attention.scale);
    define_norm(b, s->ops[MLA_TURNS_NORM]);
}

static void bind_mla_queries(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->mla_queries = (MlaQueriesArgs){.batch = b->batch,
                                        .rows = b->rows,
                                        .raw = b->raw,
                                        .raw_keys = raw_keys_of(b, s),
                                        .norm = batch_weight_of(b, s->ops[MLA_TURNS_NORM]),
                                        .rope = table_of(b, s),
                                        .weight = batch_weight_of(b, s->ops[MLA_TURNS_QUERIES]),
                                        .out = b->q,
                                        .kv = batch_cache_of(b, s),
                                        .list_at = batch_list_of(b, s)};
}

static uint32_t mla_queries_results(const BatchStage *s, const BatchBuffers *b,
                                    StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[MLA_TURNS_QUERIES];
    float factor = s->attention->attention.scale * (float)M_LOG2E; // that the kernel puts into queries
    const Op *key = s->ops[MLA_TURNS_ROPE_K];
    out[0] = (StageResult){key, RESULT_KEYS, batch_cache_of(b, s), key->out_width, 1, 0};
    out[1] = (StageResult){op, RESULT_QUERIES, b->q, op->out_width, factor, 0};
    return 2;
}

#define FILES_HEAD_PRODUCT FILES_ROWS, FILES_TILES, "head_product.cuh"

const BatchType batch_mla_queries = {
    .kernel = "mla_queries",
    .name = "queries for compressed keys, cache",
    .files = {FILES_HEAD_PRODUCT, "turned.cuh", "mla_keys.cuh", "mla_queries.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << MLA_TURNS_QUERIES,
    .define = define_mla_queries,
    .bind = bind_mla_queries,
    .results = mla_queries_results,
};

// clang-format off
const BatchBlock batch_block_mla_turns = {
    .patterns = {
        {5, false, {
            [MLA_TURNS_NORM]    = {OP_RMS_NORM,    ACT_K,    {ACT_K}},
            [MLA_TURNS_ROPE_Q]  = {OP_ROPE,        ACT_QB,   {ACT_QB}},
            [MLA_TURNS_ROPE_K]  = {OP_ROPE,        ACT_K,    {ACT_K}},
            [MLA_TURNS_QUERIES] = {OP_HEAD_MATMUL, ACT_Q,    {ACT_QB}},
            [MLA_TURNS_WRITE]   = {OP_KV_WRITE,    ACT_NONE, {ACT_K, ACT_K}}}}},
    .parts = {
        {&batch_mla_queries, MLA_TURNS_QUERIES, BODY_ANY, false}},
    .link = link_mla_turns,
    .check = check_mla_turns,
};
// clang-format on

// ---- attention, and the heads' output ----

static bool link_mla_attention(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)after;
    if (!before || before->block != &batch_block_mla_turns) return batch_refuse(err, s);
    s->attention = s->ops[MLA_ATTENTION_ATTENTION];
    return true;
}

// Shared memory of mla_attention.cuh with a tile of pages: 16 or 32 queries, the tile, weights and largest
// scores.
static uint64_t mla_attention_bytes(uint32_t key_dim, uint32_t queries) {
    uint64_t page = 16ull * key_dim * sizeof(uint16_t), set = 4 * (32 * 16 + 16 * sizeof(float));
    return queries / 16 * (page + set) + 4 * (page + 8);
}

// Queries that share the keys that a block reads: of many rows that decode all heads of a row, if they are no
// more than 32, where the GPU has room; of a prompt 32. Of few rows 16: two blocks with half of the products
// are sooner than one with all.
static uint32_t mla_queries_of(const BatchLowering *l, const Op *op) {
    bool few = l->size.body & BODY_FEW;
    bool many = l->size.body == BODY_PROMPT || (!few && op->attention.n_heads > 16);
    return many && mla_attention_bytes(op->attention.key_dim, 32) <= l->target->shared_bytes_block ? 32 : 16;
}

static bool check_mla_attention(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *op = s->attention;
    uint32_t key_dim = op->attention.key_dim, rank = op->attention.value_dim;
    bool plain = !op->weight && op->attention.cap == 0 && op->attention.window == 0 &&
                 op->attention.temperature_scale == 0;
    if (!plain || !l->plan->caches[op->attention.cache].is_latent) return batch_refuse(err, s);
    if (rank % 128 || key_dim % 32) {
        return error_set(err, ERR_UNSUPPORTED,
                         "a compressed cache of %u and %u values cannot be run on the GPU yet: multiples of "
                         "128 and 32 are needed",
                         rank, key_dim - rank);
    }
    if (mla_attention_bytes(key_dim, 16) > l->target->shared_bytes_block) {
        return error_set(err, ERR_UNSUPPORTED,
                         "attention with a compressed cache of %u values needs %llu bytes of shared memory; "
                         "this GPU has %u",
                         key_dim, (unsigned long long)mla_attention_bytes(key_dim, 16),
                         l->target->shared_bytes_block);
    }
    return check_head_weight(s->ops[MLA_ATTENTION_VALUES]->weight, err);
}

// A block a multiprocessor, which has nearly all of its shared memory.
static void define_mla_heads(StrBuf *b, const BatchLowering *l, const Op *op, uint32_t queries) {
    define_heads(b, op);
    define(b, "N_KV_HEADS", 1);
    define(b, "WINDOW", 0);
    define(b, "KV_RANK", op->attention.value_dim);
    define(b, "MLA_QUERIES", queries);
    define(b, "MLA_BLOCKS", l->target->multiprocessors);
}

static void define_mla_attention(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[MLA_ATTENTION_ATTENTION];
    uint32_t groups = (uint32_t)div_up(l->plan->n_context, ATTENTION_GROUP_KEYS);
    define_mla_heads(b, l, op, mla_queries_of(l, op));
    define(b, "GROUPS_MAX", groups);
    uint64_t floats =
        layout_mla_partial_floats(op->attention.n_heads, op->attention.value_dim, mla_queries_of(l, op),
                                  l->size.max_rows, l->target->multiprocessors, groups);
    batch_need(l, floats * sizeof(float), 0);
}

// Whether prompts' attention is mla_attention_wgmma.cuh's, whose rings of entries have room for two tiles of
// 64. Its queries a task, and rows a stretch of each block of a cluster: with a multiple of 4 heads, a
// multiple of these.
enum { MLA_WGMMA_QUERIES = 40, MLA_WGMMA_STRETCH_ROWS = 10 };

static bool mla_by_wgmma(const BatchLowering *l, const Op *op) {
    uint32_t key_dim = op->attention.key_dim;
    uint64_t entry = key_dim * sizeof(uint16_t), weights = 2ull * MLA_WGMMA_QUERIES * 64 * sizeof(uint16_t);
    return lower_has_wgmma(l->target) && key_dim % 64 == 0 &&
           (MLA_WGMMA_QUERIES + 2 * 64) * entry + weights + 4096 <= l->target->shared_bytes_block;
}
// Blocks of a cluster.
static uint32_t mla_wgmma_cluster(const BatchLowering *l) {
    return l->target->multiprocessors % 2 ? 1 : 2;
}
static bool uses_mla_wgmma(const BatchLowering *l, const BatchStage *s) {
    return mla_by_wgmma(l, s->attention);
}
static bool uses_mla_mma(const BatchLowering *l, const BatchStage *s) {
    return !uses_mla_wgmma(l, s);
}

enum { MLA_STRETCH_ROWS = 8 }; // with 4 heads or more, a multiple of 32 queries

static StretchCut mla_stretches(const BatchLowering *l, const BatchStage *s) {
    bool by_wgmma = mla_by_wgmma(l, s->attention);
    return (StretchCut){.rows = by_wgmma ? MLA_WGMMA_STRETCH_ROWS * mla_wgmma_cluster(l) : MLA_STRETCH_ROWS};
}

static void define_mla_tasks(StrBuf *b, const BatchLowering *l, const BatchStage *s, uint32_t queries,
                             uint32_t stretch_rows) {
    const Op *op = s->ops[MLA_ATTENTION_ATTENTION];
    define_mla_heads(b, l, op, queries);
    define(b, "MLA_STRETCHES", stretch_rows);
    uint64_t floats = layout_mla_total_floats(op->attention.value_dim, queries, l->target->multiprocessors);
    batch_need(l, floats * sizeof(float), 0);
}
static void define_mla_stretches(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define_mla_tasks(b, l, s, mla_queries_of(l, s->ops[MLA_ATTENTION_ATTENTION]), MLA_STRETCH_ROWS);
}
static void define_mla_stretches_wgmma(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    uint32_t cluster = mla_wgmma_cluster(l);
    define_mla_tasks(b, l, s, MLA_WGMMA_QUERIES, MLA_WGMMA_STRETCH_ROWS * cluster);
    define(b, "MLA_CLUSTER", cluster);
}

static void bind_mla_attention(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->mla_attention = (MlaAttentionArgs){.batch = b->batch,
                                            .rows = b->rows,
                                            .stretches = b->stretches[s->cut],
                                            .cut = s->cut,
                                            .q = b->q,
                                            .kv = batch_cache_of(b, s),
                                            .out = b->raw,
                                            .partial = b->partial,
                                            .list_at = batch_list_of(b, s)};
}

static uint32_t mla_attention_results(const BatchStage *s, const BatchBuffers *b,
                                      StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->attention;
    out[0] = (StageResult){op, RESULT_QUERIES, b->raw, op->out_width, 1, 0};
    return 1;
}

#define FILES_MLA FILES_COMMON, "kv_cache.cuh", "rows.cuh", "soft_cap.cuh", "attend.cuh"

const BatchType batch_mla_attention = {
    .kernel = "mla_attention",
    .name = "attention over a compressed cache",
    .files = {FILES_MLA, "mla_list.cuh", "mla_tasks.cuh", "mla_attention.cuh"},
    .cost = 60,
    .reads = 1 << MLA_ATTENTION_ATTENTION,
    .define = define_mla_attention,
    .bind = bind_mla_attention,
    .results = batch_shows_none,
};

const BatchType batch_mla_fold = {
    .kernel = "mla_fold",
    .name = "what blocks have of it, put together",
    .files = {FILES_MLA, "mla_list.cuh", "mla_triples.cuh", "mla_fold.cuh"},
    .cost = COST_USUAL,
    .folds_groups = true,
    .define = define_mla_attention,
    .bind = bind_mla_attention,
    .results = mla_attention_results,
};

const BatchType batch_mla_fold_many = {
    .kernel = "mla_fold",
    .name = "what blocks have of it, put together, of many",
    .files = {FILES_MLA, "mla_list.cuh", "mla_triples.cuh", "mla_fold.cuh"},
    .cost = COST_USUAL,
    .define = define_mla_attention,
    .bind = bind_mla_attention,
    .results = mla_attention_results,
};

const BatchType batch_mla_stretches = {
    .kernel = "mla_attention",
    .name = "attention of prompts over a compressed cache",
    .files = {FILES_MLA, "mla_tasks.cuh", "mla_attention.cuh"},
    .cost = 60,
    .reads = 1 << MLA_ATTENTION_ATTENTION,
    .is_needed = uses_mla_mma,
    .stretches = mla_stretches,
    .define = define_mla_stretches,
    .bind = bind_mla_attention,
    .results = mla_attention_results,
};

const BatchType batch_mla_stretches_wgmma = {
    .kernel = "mla_attention",
    .name = "attention of prompts over a compressed cache, four warps a product",
    .files = {FILES_MLA, "mla_tasks.cuh", "ring.cuh", "attend_columns.cuh", "mla_attention_wgmma.cuh"},
    .cost = 100,
    .reads = 1 << MLA_ATTENTION_ATTENTION,
    .stretches = mla_stretches,
    .is_needed = uses_mla_wgmma,
    .define = define_mla_stretches_wgmma,
    .bind = bind_mla_attention,
    .results = mla_attention_results,
};

static void define_mla_values(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[MLA_ATTENTION_VALUES];
    if (l->size.body & BODY_FEW) {
        define(b, "FOLDS", 1);
        define_mla_attention(b, l, s);
        define(b, "PRODUCT_ROWS", op->weight->n_rows);
        define(b, "PRODUCT_COLS", op->weight->n_cols);
        define_format(b, "FORMAT_0", op->weight);
    } else {
        define_head_product(b, op);
    }
}

static void bind_mla_values(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->mla_values = (MlaValuesArgs){.batch = b->batch,
                                      .rows = b->rows,
                                      .latent = b->raw,
                                      .partial = b->partial,
                                      .weight = batch_weight_of(b, s->ops[MLA_ATTENTION_VALUES]),
                                      .out = b->a};
}

static uint32_t mla_values_results(const BatchStage *s, const BatchBuffers *b,
                                   StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[MLA_ATTENTION_VALUES];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->a, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_mla_values = {
    .kernel = "mla_values",
    .name = "heads' output of latent vectors",
    .files = {FILES_MLA, "mla_list.cuh", "mla_triples.cuh", FILES_TILES, "head_product.cuh",
              "mla_values.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << MLA_ATTENTION_VALUES,
    .define = define_mla_values,
    .bind = bind_mla_values,
    .results = mla_values_results,
};

const BatchType batch_mla_values_many = {
    .kernel = "mla_values",
    .name = "heads' output of latent vectors, of many",
    .files = {FILES_HEAD_PRODUCT, "mla_values.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << MLA_ATTENTION_VALUES,
    .define = define_mla_values,
    .bind = bind_mla_values,
    .results = mla_values_results,
};

// clang-format off
const BatchBlock batch_block_mla_attention = {
    .patterns = {
        {2, false, {
            [MLA_ATTENTION_ATTENTION] = {OP_ATTENTION,   ACT_A,  {ACT_Q}},
            [MLA_ATTENTION_VALUES]    = {OP_HEAD_MATMUL, ACT_AB, {ACT_A}}}}},
    .parts = {
        {&batch_mla_attention, MLA_ATTENTION_ATTENTION, BODY_FEW | BODY_MANY, false},
        {&batch_mla_fold, MLA_ATTENTION_ATTENTION, BODY_FEW, false},
        {&batch_mla_fold_many, MLA_ATTENTION_ATTENTION, BODY_MANY, false},
        {&batch_mla_stretches, MLA_ATTENTION_ATTENTION, BODY_PROMPT, false},
        {&batch_mla_stretches_wgmma, MLA_ATTENTION_ATTENTION, BODY_PROMPT, false},
        {&batch_mla_values, MLA_ATTENTION_VALUES, BODY_FEW, false},
        {&batch_mla_values_many, MLA_ATTENTION_VALUES, BODY_TOGETHER, false}},
    .link = link_mla_attention,
    .check = check_mla_attention,
};
// clang-format on
