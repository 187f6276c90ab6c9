// Stages of batches for models with several copies of the residual stream (Gemma 3n): how they are made,
// mixed and put together, products of a low rank beside attention, and sparse activations.
#include "backend/cuda/batch_lower_internal.h"

static_assert((int)ARGS_STREAMS_MAX == (int)STREAMS_MAX, "as plans have");

// ---- what stages of streams have in common ----

static void define_streams(StrBuf *b, const char *kind, const Op *streams, uint32_t d_model) {
    define(b, "STAGE_STREAMS", 1);
    define(b, kind, 1);
    define(b, "D_MODEL", d_model);
    define(b, "N_STREAMS", streams->streams.n);
}

// Each product's rows; they lie one after the other in `raw`.
static CUdeviceptr products_of(const BatchBuffers *b, uint32_t turn, uint32_t d_model) {
    return b->raw + (uint64_t)turn * b->max_rows * d_model * sizeof(float);
}

static StreamsArgs streams_args(const BatchBuffers *b) {
    return (StreamsArgs){.batch = b->batch, .x = b->x, .xs = b->xs, .xp = b->xp};
}

static void bind_products(StreamsArgs *a, const BatchBuffers *b, const Op *matmul) {
    for (uint32_t i = 0; i < matmul->weight->n_matrices; i++)
        a->products[i] = products_of(b, i, (uint32_t)matmul->weight->n_rows);
}

// ---- SPREAD, MEAN: products that streams begin with and end in ----

// Where the block's operations are.
enum { SPREAD_REST, SPREAD_MATMUL, SPREAD_STREAMS };

static bool is_spread(const BatchStage *s) {
    return s->block == &batch_block_spread;
}

static uint32_t turns_of(const BatchStage *s) {
    return (uint32_t)s->ops[SPREAD_MATMUL]->weight->n_matrices;
}

static void define_spread_copy(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_NORM_ROWS", 1);
    batch_define_copy(b, s->ops[SPREAD_MATMUL]->weight->n_cols);
}

static void bind_spread_copy(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->norm = (NormArgs){.batch = b->batch, .logits_rows = b->logits_rows, .x = b->x, .out = b->h};
}

const BatchType batch_spread_copy = {
    .kernel = "norm_rows",
    .name = "the residual stream as streams' input",
    .files = {FILES_ROWS, "norm_rows.cuh"},
    .cost = COST_USUAL,
    .define = define_spread_copy,
    .bind = bind_spread_copy,
    .results = batch_shows_none,
};

static void define_rest(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define_streams(b, "STREAMS_REST", s->ops[SPREAD_STREAMS],
                   (uint32_t)s->ops[SPREAD_MATMUL]->weight->n_cols);
}

static void bind_rest(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->streams = streams_args(b);
    for (uint32_t i = 0; i < turns_of(s); i++)
        out->streams.rest[i] = b->rest[i];
}

const BatchType batch_streams_rest = {
    .kernel = "streams",
    .name = "streams as inputs",
    .files = {FILES_ROWS, "streams.cuh"},
    .cost = COST_USUAL,
    .define = define_rest,
    .bind = bind_rest,
    .results = batch_shows_none,
};

static void define_product(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Weight *w = s->ops[SPREAD_MATMUL]->weight;
    uint32_t bands = (uint32_t)div_up(w->n_rows, 16);
    ProductSize size = {
        .n_cols = (uint32_t)w->n_cols, .units = bands, .unit_bands = 1, .weights = {w}, .n_weights = 1};
    l->out->raw_cols = (uint32_t)max_u64(l->out->raw_cols, w->n_rows * w->n_matrices);
    batch_define_output(b, w);
    define(b, "RAW", 1);
    define(b, "FROM_GLU", 1);
    batch_define_product(b, l, &size);
}

static void bind_product(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    const Weight *w = s->ops[SPREAD_MATMUL]->weight;
    uint64_t matrix = placement_bytes(b->placement, w) / w->n_matrices;
    out->product = batch_product_args(s, b, NULL, is_spread(s) ? b->h : b->rest[s->turn]);
    out->product.weight[0] = batch_address_of(b, w) + s->turn * matrix;
    out->product.out = products_of(b, s->turn, (uint32_t)w->n_rows);
}

const BatchType batch_streams_product = {
    .kernel = "output",
    .name = "a stream's product",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .turns = turns_of,
    .define = define_product,
    .bind = bind_product,
    .results = batch_shows_none,
};

const BatchType batch_streams_product_many = {
    .kernel = "output",
    .name = "a stream's product of many",
    .files = {FILES_MANY, "output.cuh"},
    .cost = 79,
    .reads = READS_ALL,
    .turns = turns_of,
    .define = define_product,
    .bind = bind_product,
    .results = batch_shows_none,
};

static void define_spread(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define_streams(b, is_spread(s) ? "STREAMS_SPREAD" : "STREAMS_MEAN", s->ops[SPREAD_STREAMS],
                   (uint32_t)s->ops[SPREAD_MATMUL]->weight->n_rows);
}

static void bind_spread(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->streams = streams_args(b);
    bind_products(&out->streams, b, s->ops[SPREAD_MATMUL]);
}

static uint32_t spread_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[SPREAD_STREAMS];
    out[0] = (StageResult){op, RESULT_ROWS, is_spread(s) ? b->xs : b->x, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_spread = {
    .kernel = "streams",
    .name = "streams",
    .files = {FILES_ROWS, "streams.cuh"},
    .cost = COST_USUAL,
    .define = define_spread,
    .bind = bind_spread,
    .results = spread_results,
};

const BatchType batch_mean = {
    .kernel = "streams",
    .name = "mean of streams",
    .files = {FILES_ROWS, "streams.cuh"},
    .cost = COST_USUAL,
    .define = define_spread,
    .bind = bind_spread,
    .results = spread_results,
};

// clang-format off
const BatchBlock batch_block_spread = {
    .patterns = {
        {3, false, {
            [SPREAD_REST]    = {OP_COUNT, .optional = true}, // never
            [SPREAD_MATMUL]  = {OP_HEAD_MATMUL, ACT_XN, {ACT_X}},
            [SPREAD_STREAMS] = {OP_STREAMS,     ACT_XS, {ACT_X, ACT_XN}}}}},
    .parts = {
        {&batch_spread_copy, SPREAD_MATMUL, BODY_ANY, false},
        {&batch_streams_product, SPREAD_MATMUL, BODY_FEW, false},
        {&batch_streams_product_many, SPREAD_MATMUL, BODY_TOGETHER, false},
        {&batch_spread, SPREAD_STREAMS, BODY_ANY, false}},
    .link = batch_links_none,
    .check = batch_takes_all,
};

const BatchBlock batch_block_mean = {
    .patterns = {
        {3, false, {
            [SPREAD_REST]    = {OP_STREAMS_REST, ACT_XR, {ACT_XS}},
            [SPREAD_MATMUL]  = {OP_HEAD_MATMUL,  ACT_XN, {ACT_XR}},
            [SPREAD_STREAMS] = {OP_STREAMS_MEAN, ACT_X,  {ACT_XS, ACT_XN}}}}},
    .parts = {
        {&batch_streams_rest, SPREAD_REST, BODY_ANY, false},
        {&batch_streams_product, SPREAD_MATMUL, BODY_FEW, false},
        {&batch_streams_product_many, SPREAD_MATMUL, BODY_TOGETHER, false},
        {&batch_mean, SPREAD_STREAMS, BODY_ANY, false}},
    .link = batch_links_none,
    .check = batch_takes_all,
};
// clang-format on

// ---- MIX, NEWS: what a layer expects of the streams, and what it makes of them ----

enum {
    MIX_FIRST, // the stream that the router is asked about
    MIX_NORM,
    MIX_ROUTER,
    MIX_SCALE,
    MIX_TANH,
    MIX_COEFS,
    MIX_STREAMS,
    MIX_ACTIVE,
    MIX_INPUT, // of the layer's embedding
};

static bool check_mix(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *input = s->ops[MIX_INPUT];
    bool fits = s->ops[MIX_TANH]->fn == FN_TANH && !s->ops[MIX_SCALE]->weight && !s->ops[MIX_ROUTER]->bias &&
                !s->ops[MIX_COEFS]->bias &&
                (!input || (input->weight && input->scale == 1 && input->weight->n_cols == input->out_width));
    (void)l;
    return fits || batch_refuse(err, s);
}

static void define_mix(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *norm = s->ops[MIX_NORM];
    (void)l;
    define_streams(b, s->ops[MIX_INPUT] ? "STREAMS_NEWS" : "STREAMS_MIX", s->ops[MIX_STREAMS],
                   norm->out_width);
    define(b, "ACTIVE", s->ops[MIX_STREAMS]->streams.active);
    define_norm(b, norm);
    define_float(b, "ROUTER_SCALE", s->ops[MIX_SCALE]->scale);
}

static void bind_mix(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->streams = streams_args(b);
    out->streams.norm = batch_weight_of(b, s->ops[MIX_NORM]);
    out->streams.router = batch_weight_of(b, s->ops[MIX_ROUTER]);
    out->streams.mix = batch_weight_of(b, s->ops[MIX_COEFS]);
    out->streams.scale = batch_weight_of(b, s->ops[MIX_INPUT]);
    out->streams.h = b->h;
}

static uint32_t mix_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *mix = s->ops[MIX_STREAMS], *active = s->ops[MIX_ACTIVE];
    out[0] = (StageResult){mix, RESULT_ROWS, b->xp, mix->out_width, 1, 0};
    out[1] = (StageResult){active, RESULT_ROWS, b->x, active->out_width, 1, 0};
    return 2;
}

static uint32_t news_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *news = s->ops[MIX_STREAMS], *input = s->ops[MIX_INPUT];
    out[0] = (StageResult){news, RESULT_ROWS, b->xs, news->out_width, 1, 0};
    out[1] = (StageResult){input, RESULT_ACTIVATIONS, b->h, input->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 2;
}

const BatchType batch_mix = {
    .kernel = "streams",
    .name = "what a layer expects of streams",
    .files = {FILES_ROWS, "streams.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << MIX_ROUTER | 1 << MIX_COEFS,
    .define = define_mix,
    .bind = bind_mix,
    .results = mix_results,
};

const BatchType batch_news = {
    .kernel = "streams",
    .name = "streams with a layer's news",
    .files = {FILES_ROWS, "streams.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << MIX_ROUTER | 1 << MIX_COEFS,
    .define = define_mix,
    .bind = bind_mix,
    .results = news_results,
};

// clang-format off
#define MIX_ROUTE \
            [MIX_NORM]    = {OP_RMS_NORM,     ACT_H,  {ACT_X}}, \
            [MIX_ROUTER]  = {OP_MATMUL,       ACT_SM, {ACT_H}}, \
            [MIX_SCALE]   = {OP_SCALE,        ACT_SM, {ACT_SM}}, \
            [MIX_TANH]    = {OP_ACTIVATION,   ACT_SM, {ACT_SM}}
const BatchBlock batch_block_mix = {
    .patterns = {
        {8, false, {
            [MIX_FIRST]   = {OP_STREAM,       ACT_X,  {ACT_XS}},
            MIX_ROUTE,
            [MIX_COEFS]   = {OP_MATMUL,       ACT_SP, {ACT_SM}},
            [MIX_STREAMS] = {OP_STREAMS_MIX,  ACT_XP, {ACT_XS, ACT_SP}},
            [MIX_ACTIVE]  = {OP_STREAM,       ACT_X,  {ACT_XP}}}}},
    .parts = {{&batch_mix, MIX_STREAMS, BODY_ANY, false}},
    .link = batch_links_none,
    .check = check_mix,
};

const BatchBlock batch_block_news = {
    .patterns = {
        {9, false, {
            [MIX_FIRST]   = {OP_COUNT, .optional = true}, // never
            MIX_ROUTE,
            [MIX_COEFS]   = {OP_MATMUL,       ACT_SC, {ACT_SM}},
            [MIX_STREAMS] = {OP_STREAMS_NEWS, ACT_XS, {ACT_XP, ACT_X, ACT_SC}},
            [MIX_ACTIVE]  = {OP_STREAM,       ACT_X,  {ACT_XS}},
            [MIX_INPUT]   = {OP_SCALE,        ACT_H,  {ACT_X}}}}},
    .parts = {{&batch_news, MIX_STREAMS, BODY_ANY, false}},
    .link = batch_links_none,
    .check = check_mix,
};
// clang-format on

// ---- STREAMS_ADD: a layer's embedding into all streams but the first ----

enum { JOIN_NORM, JOIN_ADD };

static bool link_join(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)after;
    return (before && before->block == &batch_block_layer_out && before->is_raw) || batch_refuse(err, s);
}

static void define_join(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_BATCH_POST_NORM", 1);
    define(b, "D_MODEL", s->ops[JOIN_NORM]->out_width);
    define(b, "N_STREAMS", s->ops[JOIN_ADD]->streams.n);
    define_norm(b, s->ops[JOIN_NORM]);
}

static void bind_join(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->batch_post_norm = (BatchPostNormArgs){
        .batch = b->batch, .t = b->t, .norm = batch_weight_of(b, s->ops[JOIN_NORM]), .x = b->xs};
}

static uint32_t join_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[JOIN_ADD];
    out[0] = (StageResult){op, RESULT_ROWS, b->xs, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_streams_join = {
    .kernel = "post_norm",
    .name = "norm of output into streams",
    .files = {FILES_ROWS, "post_norm.cuh"},
    .cost = COST_USUAL,
    .define = define_join,
    .bind = bind_join,
    .results = join_results,
};

// clang-format off
const BatchBlock batch_block_streams_join = {
    .patterns = {
        {2, false, {
            [JOIN_NORM] = {OP_RMS_NORM,    ACT_T,  {ACT_T}},
            [JOIN_ADD]  = {OP_STREAMS_ADD, ACT_XS, {ACT_XS, ACT_T}}}}},
    .parts = {{&batch_streams_join, JOIN_ADD, BODY_ANY, false}},
    .link = link_join,
    .check = batch_takes_all,
};
// clang-format on

// ---- LAUREL: products of a low rank beside attention ----

enum { LAUREL_INPUT, LAUREL_LEFT, LAUREL_RIGHT, LAUREL_NORM, LAUREL_ADD };

static bool check_laurel(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *input = s->ops[LAUREL_INPUT];
    l->out->sum_cols = (uint32_t)max_u64(l->out->sum_cols, input->out_width);
    return s->ops[LAUREL_ADD]->add.scale == 1 || batch_refuse(err, s);
}

static void bind_laurel_out(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, NULL, b->latent);
    out->product.weight[0] = batch_weight_of(b, s->ops[0]);
    out->product.out = b->t;
}

static uint32_t laurel_out_results(const BatchStage *s, const BatchBuffers *b,
                                   StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[0], RESULT_ROWS, b->t, s->ops[0]->out_width, 1, 0};
    return 1;
}

const BatchType batch_laurel_out = {
    .kernel = "output",
    .name = "low rank's output",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = batch_define_raw_output,
    .bind = bind_laurel_out,
    .results = laurel_out_results,
};

const BatchType batch_laurel_out_many = {
    .kernel = "output",
    .name = "low rank's output, of many",
    .files = {FILES_MANY, "output.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = batch_define_raw_output,
    .bind = bind_laurel_out,
    .results = laurel_out_results,
};

static void define_laurel(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_BATCH_POST_NORM", 1);
    define(b, "FROM_INPUT", 1);
    define(b, "D_MODEL", s->ops[LAUREL_NORM]->out_width);
    define_norm(b, s->ops[LAUREL_NORM]);
}

static void bind_laurel(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->batch_post_norm = (BatchPostNormArgs){
        .batch = b->batch, .t = b->t, .norm = batch_weight_of(b, s->ops[LAUREL_NORM]), .x = b->m, .in = b->h};
}

static uint32_t laurel_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[LAUREL_ADD];
    out[0] = (StageResult){op, RESULT_ROWS, b->m, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_laurel = {
    .kernel = "post_norm",
    .name = "low rank beside attention",
    .files = {FILES_ROWS, "post_norm.cuh"},
    .cost = COST_USUAL,
    .define = define_laurel,
    .bind = bind_laurel,
    .results = laurel_results,
};

// clang-format off
const BatchBlock batch_block_laurel = {
    .patterns = {
        {5, false, {
            [LAUREL_INPUT] = {OP_RMS_NORM, ACT_H,  {ACT_X}},
            [LAUREL_LEFT]  = {OP_MATMUL,   ACT_LR, {ACT_H}},
            [LAUREL_RIGHT] = {OP_MATMUL,   ACT_LA, {ACT_LR}},
            [LAUREL_NORM]  = {OP_RMS_NORM, ACT_LA, {ACT_LA}},
            [LAUREL_ADD]   = {OP_ADD,      ACT_LA, {ACT_LA, ACT_H}}}}},
    .parts = {
        {&batch_norm, LAUREL_INPUT, BODY_ANY, true},
        {&batch_latent_in, LAUREL_LEFT, BODY_FEW, true},
        {&batch_latent_in_many, LAUREL_LEFT, BODY_TOGETHER, true},
        {&batch_laurel_out, LAUREL_RIGHT, BODY_FEW, true},
        {&batch_laurel_out_many, LAUREL_RIGHT, BODY_TOGETHER, true},
        {&batch_laurel, LAUREL_ADD, BODY_ANY, false}},
    .link = batch_links_none,
    .check = check_laurel,
};
// clang-format on

// ---- SPARSE: gate and up whose gates mostly become 0 ----

enum { SPARSE_NORM, SPARSE_GATE, SPARSE_UP, SPARSE_SPARSIFY, SPARSE_GLU };

static BatchMatrices matrices_of(const BatchStage *s) {
    BatchMatrices m = {.n = 0};
    batch_matrices_add(&m, s->ops[SPARSE_GATE], 1);
    batch_matrices_add(&m, s->ops[SPARSE_UP], 1);
    return m;
}

static bool check_sparse(const BatchLowering *l, const BatchStage *s, Error *err) {
    BatchMatrices m = matrices_of(s);
    (void)l;
    if (s->ops[SPARSE_GLU]->out_width % 4 || s->ops[SPARSE_GATE]->bias || s->ops[SPARSE_UP]->bias)
        return batch_refuse(err, s);
    return batch_check_matrices(&m, err);
}

static void define_sparse_products(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    BatchMatrices m = matrices_of(s);
    batch_define_matrices(b, l, s, &m, s->ops[SPARSE_NORM]);
}

static void bind_sparse_products(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    BatchMatrices m = matrices_of(s);
    batch_bind_matrices(s, b, &m, s->ops[SPARSE_NORM], out);
}

const BatchType batch_sparse_products = {
    .kernel = "qkv",
    .name = "sparse gate, up",
    .files = {FILES_FEW, "qkv.cuh"},
    .cost = 60,
    .reads = READS_ALL,
    .define = define_sparse_products,
    .bind = bind_sparse_products,
    .results = batch_shows_none,
};

const BatchType batch_sparse_products_many = {
    .kernel = "qkv",
    .name = "sparse gate, up of many",
    .files = {FILES_MANY, "qkv.cuh"},
    .cost = 80,
    .reads = READS_ALL,
    .define = define_sparse_products,
    .bind = bind_sparse_products,
    .results = batch_shows_none,
};

static void define_sparse_glu(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_SPARSE_GLU", 1);
    define(b, "D_FF", s->ops[SPARSE_GLU]->out_width);
    define_float(b, "SPARSITY", s->ops[SPARSE_SPARSIFY]->sparsity);
    define_activation(b, s->ops[SPARSE_GLU]->fn);
}

static void bind_sparse_glu(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->sparse_glu = (SparseGluArgs){.batch = b->batch, .raw = b->raw, .out = b->f};
}

static uint32_t sparse_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[SPARSE_GLU];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->f, op->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

const BatchType batch_sparse_glu = {
    .kernel = "sparse_glu",
    .name = "sparse activation",
    .files = {FILES_ROWS, "activate.cuh", "sparse_glu.cuh"},
    .cost = COST_USUAL,
    .define = define_sparse_glu,
    .bind = bind_sparse_glu,
    .results = sparse_results,
};

// clang-format off
const BatchBlock batch_block_sparse = {
    .patterns = {
        {5, false, {
            [SPARSE_NORM]     = {OP_RMS_NORM, ACT_H, {ACT_X}},
            [SPARSE_GATE]     = {OP_MATMUL,   ACT_G, {ACT_H}},
            [SPARSE_UP]       = {OP_MATMUL,   ACT_U, {ACT_H}},
            [SPARSE_SPARSIFY] = {OP_SPARSIFY, ACT_G, {ACT_G}},
            [SPARSE_GLU]      = {OP_GLU,      ACT_F, {ACT_G, ACT_U}}}}},
    .parts = {
        {&batch_norm, SPARSE_NORM, BODY_NORMED, true},
        {&batch_sparse_products, SPARSE_GATE, BODY_FEW, false},
        {&batch_sparse_products_many, SPARSE_GATE, BODY_TOGETHER, false},
        {&batch_sparse_glu, SPARSE_GLU, BODY_ANY, false}},
    .link = batch_links_none,
    .check = check_sparse,
};
// clang-format on
