// Stages of batches behind attention: its output, the feed-forward, and the norms that have a stage of their
// own.
#include "backend/cuda/batch_lower_internal.h"

// ---- what products have in common ----

void batch_define_post_input(StrBuf *b, const BatchStage *post) {
    define(b, "POST_INPUT", 1);
    define_float(b, "POST_EPS", post->ops[POST_NORM_NORM]->norm.eps);
    if (post->ops[POST_NORM_SCALE]) define(b, "POST_SCALE", 1);
    if (post->beside) define(b, "POST_BESIDE", 1);
}

void batch_define_norm_input(StrBuf *b, const BatchLowering *l, const BatchStage *s, const Op *norm) {
    if (l->size.body != BODY_ONE) return;
    define(b, "NORM_INPUT", 1);
    define_norm(b, norm);
    if (s->post) batch_define_post_input(b, s->post);
}

bool batch_takes_post_norm(const BatchStage *s, const BatchStage *post) {
    if (s->block == &batch_block_experts || s->joins_experts) return !post->beside;
    const Op *norm = s->block == &batch_block_products     ? s->ops[PRODUCTS_NORM]
                     : s->block == &batch_block_glu        ? s->ops[GLU_NORM]
                     : s->block == &batch_block_layer_gate ? s->ops[GATE_COPY]
                                                           : NULL;
    return norm && (norm->kind == OP_RMS_NORM || norm->kind == OP_COPY);
}

ProductSize batch_product_size(const BatchStage *s) {
    ProductSize size = {.unit_bands = 1};
    bool is_glu = s->block == &batch_block_glu;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        if (!op || (op->kind != OP_MATMUL && op->kind != OP_HEAD)) continue;
        uint32_t bands = (uint32_t)div_up(op->weight->n_rows, 16);
        size.n_cols = (uint32_t)op->weight->n_cols;
        size.units = is_glu ? bands : size.units + bands;
        size.weights[size.n_weights++] = op->weight;
    }
    if (is_glu) size.unit_bands = size.n_weights;
    size.is_head = s->block->is_head;
    size.has_norm = s->ops[0] && (s->ops[0]->kind == OP_RMS_NORM || s->ops[0]->kind == OP_LAYER_NORM ||
                                  s->ops[0]->kind == OP_COPY);
    return size;
}

ProductArgs batch_product_args(const BatchStage *s, const BatchBuffers *b, const Op *norm, CUdeviceptr in) {
    ProductArgs a = {.batch = b->batch,
                     .rows = b->rows,
                     .slots = b->slots,
                     .logits_rows = b->logits_rows,
                     .x = norm ? b->x : 0,
                     .norm = batch_weight_of(b, norm),
                     .norm_bias = batch_bias_of(b, norm),
                     .in = in,
                     .partial = s->is_given ? b->given : b->partial,
                     .meetings = b->meetings};
    if (!norm || !s->post) return a;
    a.x = b->x_other;
    a.post = b->t;
    a.post_norm = batch_weight_of(b, s->post->ops[POST_NORM_NORM]);
    a.post_scale = batch_weight_of(b, s->post->ops[POST_NORM_SCALE]);
    a.x_out = b->x;
    a.beside = b->m;
    a.beside_norm = batch_weight_of(b, s->post->beside);
    a.joined_norm = batch_weight_of(b, s->post->ops[POST_NORM_JOINED]);
    return a;
}

// Of one that a library has multiplied.
static void define_given(StrBuf *b, const BatchLowering *l, const ProductSize *size) {
    BatchLowered *out = l->out;
    uint32_t given_cols = size->units * size->unit_bands * BAND_ROWS;
    define(b, "GIVEN_BLOCKS", 8ull * l->target->multiprocessors);
    out->given_in = (uint32_t)max_u64(out->given_in, size->n_cols);
    out->given_cols = (uint32_t)max_u64(out->given_cols, given_cols);
    for (uint32_t i = 0; i < size->n_weights; i++) {
        uint64_t rows = align_up(size->weights[i]->n_rows, QUAD_ROWS);
        out->given_bytes = max_u64(out->given_bytes, rows * size->n_cols * sizeof(uint16_t));
    }
}

void batch_define_product(StrBuf *b, const BatchLowering *l, const ProductSize *size) {
    const LowerTarget *t = l->target;
    uint32_t max_rows = l->size.max_rows;
    if (l->is_given) return define_given(b, l, size);
    if (l->size.body & BODY_FEW) {
        product_define_few(b, t, size, max_rows);
        batch_need(l, product_partial_bytes_few(t, size, max_rows), product_meetings_few(t, size, max_rows));
    } else {
        product_define_many(b, t, size, max_rows, l->size.is_small);
        batch_need(l, product_partial_bytes_many(t, size, max_rows),
                   product_meetings_many(t, size, max_rows));
    }
}

// ---- several products of one input ----

void batch_matrices_add(BatchMatrices *m, const Op *op, uint32_t multiple) {
    m->of[m->n] = op;
    m->at[m->n++] = m->cols;
    m->cols += (uint32_t)align_up(op->out_width, multiple);
    m->same_format = m->n - 1;
}

bool batch_check_matrices(const BatchMatrices *m, Error *err) {
    for (uint32_t i = 1; i < m->n; i++) {
        if (m->of[i]->weight->n_cols != m->of[0]->weight->n_cols)
            return lower_refuse_weight(err, m->of[i]->weight, "its rows are of another length");
    }
    const Weight *same = m->of[m->same_format]->weight;
    return m->n < 4 || same->dtype == m->of[m->same_format - 1]->weight->dtype ||
           lower_refuse_weight(err, same, "it has a format of its own");
}

void batch_define_matrices(StrBuf *b, const BatchLowering *l, const BatchStage *s, const BatchMatrices *m,
                           const Op *norm) {
    ProductSize size = batch_product_size(s);
    for (uint32_t i = 0; i < m->n; i++)
        size.weights[i] = m->of[i]->weight; // in the kernel's order
    uint32_t n_formats = m->n < 4 ? m->n : 3, packed = 0;
    l->out->raw_cols = (uint32_t)max_u64(l->out->raw_cols, m->cols);
    define(b, "STAGE_QKV", 1);
    define(b, "D_MODEL", m->of[0]->weight->n_cols);
    for (uint32_t i = 0; i < m->n; i++) {
        strbuf_printf(b, "#define ROWS_%u %u\n", i, m->of[i]->out_width);
        if (m->at[i] != packed) packed = UINT32_MAX;
        else packed += m->of[i]->out_width;
    }
    if (packed != m->cols) {
        define(b, "RAW_COLS", m->cols);
        for (uint32_t i = 1; i < m->n; i++)
            strbuf_printf(b, "#define AT_%u %u\n", i, m->at[i]);
    }
    if (m->n == 4) define(b, "SAME_FORMAT", m->same_format);
    for (uint32_t i = 0, k = 0; k < n_formats; i++) {
        if (m->n == 4 && i == m->same_format) continue;
        strbuf_printf(b, "#define FORMAT_%u FORMAT_%s\n", k++, dtype_info(m->of[i]->weight->dtype)->name);
    }
    for (uint32_t i = m->n; i < 3; i++) { // of a layer that has queries alone
        strbuf_printf(b, "#define ROWS_%u 0\n", i);
        strbuf_printf(b, "#define FORMAT_%u FORMAT_%s\n", i, dtype_info(m->of[0]->weight->dtype)->name);
    }
    batch_define_norm_input(b, l, s, norm);
    batch_define_product(b, l, &size);
}

void batch_bind_matrices(const BatchStage *s, const BatchBuffers *b, const BatchMatrices *m, const Op *norm,
                         StageArgs *out) {
    out->product = batch_product_args(s, b, norm, b->h);
    for (uint32_t i = 0; i < m->n; i++) {
        out->product.weight[i] = batch_weight_of(b, m->of[i]);
        out->product.bias[i] = batch_bias_of(b, m->of[i]);
    }
    out->product.out = b->raw;
}

// ---- OUTPUT of attention and of states, DOWN of the feed-forward ----

static bool link_output(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    const BatchStage *experts = before;
    if (before && before->block == &batch_block_share) s->share = before->ops[SHARE_SHARE], experts--;
    if (experts && experts->block == &batch_block_experts && s->block == &batch_block_down)
        s->joins_experts = batch_shared_down_joins(experts);
    // Between attention and its output there may be gate and up, where both have the same input.
    if (before && before->block == &batch_block_glu && s->block == &batch_block_output) before--;
    bool attends =
        before && (before->block == &batch_block_attention || before->block == &batch_block_mla_attention);
    if (s->block == &batch_block_output && !attends) {
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                         s->layer);
    }
    if (s->block == &batch_block_state_output && (!before || before->block != &batch_block_state))
        return batch_refuse(err, s);
    bool joins =
        after && (after->block == &batch_block_post_norm || after->block == &batch_block_streams_join);
    return !s->is_raw || joins || batch_refuse(err, s);
}

static void define_add_scale(StrBuf *b, const Op *add) {
    if (add->add.scale != 1) define_float(b, "ADD_SCALE", add->add.scale);
}

// Whether the product's input is what GLU has left.
static bool reads_glu(const BatchStage *s) {
    return s->block == &batch_block_down || s->block == &batch_block_layer_out;
}

void batch_define_output(StrBuf *b, const Weight *w) {
    define(b, "STAGE_OUTPUT", 1);
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define_format(b, "FORMAT_0", w);
}

void batch_define_raw_output(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    ProductSize size = batch_product_size(s);
    batch_define_output(b, s->ops[0]->weight);
    define(b, "RAW", 1);
    batch_define_product(b, l, &size);
}

static void define_output(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[OUTPUT_MATMUL];
    ProductSize size = batch_product_size(s);
    size.adds = !s->is_raw;
    batch_define_output(b, op->weight);
    if (s->is_raw) define(b, "RAW", 1);
    else define_add_scale(b, s->ops[OUTPUT_ADD]);
    if (s->block != &batch_block_output) define(b, "FROM_GLU", 1);
    if (s->share) define(b, "HAS_SHARE", 1);
    batch_define_product(b, l, &size);
}

static void bind_output(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    CUdeviceptr in = reads_glu(s)                          ? b->f
                     : s->block == &batch_block_output     ? b->a
                     : s->block == &batch_block_latent_out ? b->latent
                                                           : b->y;
    out->product = batch_product_args(s, b, NULL, in);
    out->product.weight[0] = batch_weight_of(b, s->ops[OUTPUT_MATMUL]);
    out->product.bias[0] = batch_bias_of(b, s->ops[OUTPUT_MATMUL]);
    out->product.share = s->share ? b->share : 0;
    out->product.out = s->is_raw ? b->t : b->x;
}

static uint32_t output_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->is_raw ? s->ops[OUTPUT_MATMUL] : s->ops[OUTPUT_ADD];
    out[0] = (StageResult){op, RESULT_ROWS, s->is_raw ? b->t : b->x, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_output = {
    .kernel = "output",
    .name = "attention output",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_output_many = {
    .kernel = "output",
    .name = "attention output of many",
    .files = {FILES_MANY, "output.cuh"},
    .given_files = {FILES_GIVEN, "output.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_down = {
    .kernel = "output",
    .name = "down",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_down_many = {
    .kernel = "output",
    .name = "down of many",
    .files = {FILES_MANY, "output.cuh"},
    .given_files = {FILES_GIVEN, "output.cuh"},
    .cost = 79,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_state_output = {
    .kernel = "output",
    .name = "state's output",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_layer_out = {
    .kernel = "output",
    .name = "layer's embedding",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_latent_out = {
    .kernel = "output",
    .name = "narrower experts' output",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_latent_out_many = {
    .kernel = "output",
    .name = "narrower experts' output, of many",
    .files = {FILES_MANY, "output.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_state_output_many = {
    .kernel = "output",
    .name = "state's output of many",
    .files = {FILES_MANY, "output.cuh"},
    .given_files = {FILES_GIVEN, "output.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const BatchType batch_layer_out_many = {
    .kernel = "output",
    .name = "layer's embedding of many",
    .files = {FILES_MANY, "output.cuh"},
    .given_files = {FILES_GIVEN, "output.cuh"},
    .cost = 79,
    .reads = READS_ALL,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

// clang-format off
#define OUTPUT_PATTERN(in)                                                      \
        {2, false, {                                                            \
            [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {in}},                         \
            [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}}}}
#define RAW_OUTPUT_PATTERN(in)                                                  \
        {1, true, {                                                             \
            [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {in}}}}

const BatchBlock batch_block_output = {
    .patterns = {OUTPUT_PATTERN(ACT_A), RAW_OUTPUT_PATTERN(ACT_A), OUTPUT_PATTERN(ACT_AB)},
    .parts = {
        {&batch_output, OUTPUT_MATMUL, BODY_FEW, false},
        {&batch_output_many, OUTPUT_MATMUL, BODY_TOGETHER, false}},
    .link = link_output,
    .check = batch_takes_all,
};

const BatchBlock batch_block_state_output = {
    .patterns = {OUTPUT_PATTERN(ACT_Y), RAW_OUTPUT_PATTERN(ACT_Y)},
    .parts = {
        {&batch_state_output, OUTPUT_MATMUL, BODY_FEW, false},
        {&batch_state_output_many, OUTPUT_MATMUL, BODY_TOGETHER, false}},
    .link = link_output,
    .check = batch_takes_all,
};

const BatchBlock batch_block_down = {
    .patterns = {OUTPUT_PATTERN(ACT_F), RAW_OUTPUT_PATTERN(ACT_F)},
    .parts = {
        {&batch_down, OUTPUT_MATMUL, BODY_FEW, false},
        {&batch_down_many, OUTPUT_MATMUL, BODY_TOGETHER, false}},
    .link = link_output,
    .check = batch_takes_all,
};

const BatchBlock batch_block_layer_out = {
    .patterns = {OUTPUT_PATTERN(ACT_PG), RAW_OUTPUT_PATTERN(ACT_PG)},
    .parts = {
        {&batch_layer_out, OUTPUT_MATMUL, BODY_FEW, false},
        {&batch_layer_out_many, OUTPUT_MATMUL, BODY_TOGETHER, false}},
    .link = link_output,
    .check = batch_takes_all,
};
// clang-format on

// ---- LINEAR: a matrix in attention's place ----

static void define_linear(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *op = s->ops[LINEAR_MATMUL];
    ProductSize size = batch_product_size(s);
    size.has_norm = false;
    batch_define_output(b, op->weight);
    define_add_scale(b, s->ops[LINEAR_ADD]);
    batch_define_product(b, l, &size);
}

static void bind_linear(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, NULL, b->h);
    out->product.weight[0] = batch_weight_of(b, s->ops[LINEAR_MATMUL]);
    out->product.bias[0] = batch_bias_of(b, s->ops[LINEAR_MATMUL]);
    out->product.out = b->x;
}

static uint32_t linear_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[LINEAR_ADD];
    out[0] = (StageResult){op, RESULT_ROWS, b->x, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_linear = {
    .kernel = "output",
    .name = "matrix in attention's place",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_linear,
    .bind = bind_linear,
    .results = linear_results,
};

const BatchType batch_linear_many = {
    .kernel = "output",
    .name = "matrix in attention's place, of many",
    .files = {FILES_MANY, "output.cuh"},
    .given_files = {FILES_GIVEN, "output.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_linear,
    .bind = bind_linear,
    .results = linear_results,
};

// clang-format off
const BatchBlock batch_block_linear = {
    .patterns = {
        {3, false, {
            [LINEAR_NORM]   = {OP_RMS_NORM, ACT_H, {ACT_X}, .is_norm = true},
            [LINEAR_MATMUL] = {OP_MATMUL,   ACT_T, {ACT_H}},
            [LINEAR_ADD]    = {OP_ADD,      ACT_X, {ACT_X, ACT_T}}}}},
    .parts = {
        {&batch_norm, LINEAR_NORM, BODY_ANY, true},
        {&batch_linear, LINEAR_MATMUL, BODY_FEW, false},
        {&batch_linear_many, LINEAR_MATMUL, BODY_TOGETHER, false}},
    .link = batch_links_none,
    .check = batch_takes_all,
};
// clang-format on

// ---- GLU: gate and up, activation; where there is no gate, up and activation ----

static bool link_glu(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)before, (void)err;
    if (after && after->block == &batch_block_experts) s->joins_experts = batch_shared_glu_joins(after);
    return true;
}

static bool check_glu(const BatchLowering *l, const BatchStage *s, Error *err) {
    (void)l;
    return s->ops[GLU_GATE] || s->ops[GLU_GLU]->fn != FN_SWIGLU_CLAMPED ||
           lower_refuse_weight(err, s->ops[GLU_UP]->weight, "its activation needs a gate");
}

// The gate, or up where there is none.
static const Op *first_of(const BatchStage *s) {
    return s->ops[GLU_GATE] ? s->ops[GLU_GATE] : s->ops[GLU_UP];
}

static void define_glu(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *first = first_of(s), *up = s->ops[GLU_UP];
    ProductSize size = batch_product_size(s);
    define(b, "STAGE_GLU", 1);
    define(b, "D_MODEL", up->weight->n_cols);
    define(b, "D_FF", up->weight->n_rows);
    define_activation(b, s->ops[GLU_GLU]->fn);
    if (first == up) define(b, "UNGATED", 1);
    if (first->bias || up->bias) define(b, "HAS_BIAS", 1);
    define_format(b, "FORMAT_0", first->weight);
    if (first != up) define_format(b, "FORMAT_1", up->weight);
    batch_define_norm_input(b, l, s, s->ops[GLU_NORM]);
    batch_define_product(b, l, &size);
}

static void bind_glu(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    const Op *first = first_of(s), *up = s->ops[GLU_UP];
    out->product = batch_product_args(s, b, s->ops[GLU_NORM], b->h);
    out->product.weight[0] = batch_weight_of(b, first);
    out->product.bias[0] = batch_bias_of(b, first);
    if (first != up) {
        out->product.weight[1] = batch_weight_of(b, up);
        out->product.bias[1] = batch_bias_of(b, up);
    }
    out->product.out_activations = b->f;
}

static uint32_t glu_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[GLU_GLU];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->f, op->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

const BatchType batch_glu = {
    .kernel = "glu",
    .name = "gate up",
    .files = {FILES_FEW, "activate.cuh", "glu.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_glu,
    .bind = bind_glu,
    .results = glu_results,
};

const BatchType batch_glu_many = {
    .kernel = "glu",
    .name = "gate up of many",
    .files = {FILES_MANY, "activate.cuh", "glu.cuh"},
    .given_files = {FILES_GIVEN, "activate.cuh", "glu.cuh"},
    .cost = 93,
    .reads = READS_ALL,
    .define = define_glu,
    .bind = bind_glu,
    .results = glu_results,
};

// clang-format off
const BatchBlock batch_block_glu = {
    .patterns = {
        {4, false, {
            [GLU_NORM] = {OP_RMS_NORM, ACT_H, {ACT_X}, .is_norm = true},
            [GLU_GATE] = {OP_MATMUL,   ACT_G, {ACT_H}},
            [GLU_UP]   = {OP_MATMUL,   ACT_U, {ACT_H}},
            [GLU_GLU]  = {OP_GLU,      ACT_F, {ACT_G, ACT_U}}}},
        {4, false, {
            [GLU_NORM] = {OP_RMS_NORM,   ACT_H, {ACT_X}, .is_norm = true},
            [GLU_GATE] = {OP_COUNT, .optional = true}, // never
            [GLU_UP]   = {OP_MATMUL,     ACT_U, {ACT_H}},
            [GLU_GLU]  = {OP_ACTIVATION, ACT_F, {ACT_U}}}}},
    .parts = {
        {&batch_norm, GLU_NORM, BODY_NORMED, true},
        {&batch_glu, GLU_UP, BODY_FEW, false},
        {&batch_glu_many, GLU_UP, BODY_TOGETHER, false}},
    .link = link_glu,
    .check = check_glu,
};
// clang-format on

// ---- norms: before a product of many rows, and of a block's output ----

static void define_norm_stage(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_NORM_ROWS", 1);
    define(b, "D_MODEL", s->ops[0]->out_width);
    define_norm(b, s->ops[0]);
}

static void bind_norm(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->norm = (NormArgs){.batch = b->batch,
                           .logits_rows = b->logits_rows,
                           .x = b->x,
                           .norm = batch_weight_of(b, s->ops[0]),
                           .bias = batch_bias_of(b, s->ops[0]),
                           .out = b->h};
}

static uint32_t norm_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[0], RESULT_ACTIVATIONS, b->h, s->ops[0]->out_width, 1, 0};
    return 1;
}

const BatchType batch_norm = {
    .kernel = "norm_rows",
    .name = "norm",
    .files = {FILES_ROWS, "norm_rows.cuh"},
    .cost = COST_USUAL,
    .define = define_norm_stage,
    .bind = bind_norm,
    .results = norm_results,
};

static void define_norm_of_logits(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define(b, "OF_LOGITS", 1);
    define_norm_stage(b, l, s);
}

const BatchType batch_norm_of_logits = {
    .kernel = "norm_rows",
    .name = "norm before the head",
    .files = {FILES_ROWS, "norm_rows.cuh"},
    .cost = COST_USUAL,
    .define = define_norm_of_logits,
    .bind = bind_norm,
    .results = batch_shows_none, // its rows are those whose logits are wanted
};

static bool link_post_norm(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)after;
    bool fits = before && before->is_raw && (before->block == &batch_block_output || reads_glu(before));
    if (!fits) return batch_refuse(err, s);
    if (!s->ops[POST_NORM_JOIN]) return true;
    // Before the feed-forward, which begins with its gate, come the experts that are beside it.
    bool beside = before->block == &batch_block_down && before[-1].block == &batch_block_glu &&
                  before[-2].block == &batch_block_experts && before[-2].is_raw;
    if (beside) s->beside = before[-2].ops[MIXTURE_ADD];
    return beside || batch_refuse(err, s);
}

static bool check_post_norm(const BatchLowering *l, const BatchStage *s, Error *err) {
    (void)l;
    const Op *scale = s->ops[POST_NORM_SCALE], *laurel = s->ops[POST_NORM_LAUREL];
    bool scales = !scale || (laurel ? !scale->weight : scale->weight && scale->scale == 1);
    if (!scales || (laurel && laurel->add.scale != 1)) return batch_refuse(err, s);
    float eps = s->ops[POST_NORM_NORM]->norm.eps;
    if (s->beside && (s->ops[POST_NORM_JOIN]->add.scale != 1 || s->beside->norm.eps != eps ||
                      s->ops[POST_NORM_JOINED]->norm.eps != eps))
        return batch_refuse(err, s);
    return s->ops[POST_NORM_ADD]->add.scale == 1 ||
           lower_refuse_weight(err, s->ops[POST_NORM_NORM]->weight, "what it gives is scaled");
}

static void define_post_norm(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_BATCH_POST_NORM", 1);
    if (s->ops[POST_NORM_LAUREL]) define_float(b, "ADD_BESIDE", s->ops[POST_NORM_SCALE]->scale);
    else if (s->ops[POST_NORM_SCALE]) define(b, "LAYER_SCALE", 1);
    if (s->beside) define(b, "NORM_BESIDE", 1);
    define(b, "D_MODEL", s->ops[POST_NORM_NORM]->out_width);
    define_norm(b, s->ops[POST_NORM_NORM]);
}

static void bind_post_norm(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->batch_post_norm = (BatchPostNormArgs){.batch = b->batch,
                                               .t = b->t,
                                               .norm = batch_weight_of(b, s->ops[POST_NORM_NORM]),
                                               .x = b->x,
                                               .scale = batch_weight_of(b, s->ops[POST_NORM_SCALE]),
                                               .beside = b->m,
                                               .beside_norm = batch_weight_of(b, s->beside),
                                               .joined_norm = batch_weight_of(b, s->ops[POST_NORM_JOINED])};
}

static uint32_t post_norm_results(const BatchStage *s, const BatchBuffers *b,
                                  StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[POST_NORM_SCALE] ? s->ops[POST_NORM_SCALE] : s->ops[POST_NORM_ADD];
    out[0] = (StageResult){op, RESULT_ROWS, b->x, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_post_norm = {
    .kernel = "post_norm",
    .name = "norm of output",
    .files = {FILES_ROWS, "post_norm.cuh"},
    .cost = COST_USUAL,
    .define = define_post_norm,
    .bind = bind_post_norm,
    .results = post_norm_results,
};

// clang-format off
const BatchBlock batch_block_post_norm = {
    .patterns = {
        {6, false, {
            [POST_NORM_NORM]   = {OP_RMS_NORM, ACT_T, {ACT_T}},
            [POST_NORM_JOIN]   = {OP_COUNT, .optional = true}, // never
            [POST_NORM_JOINED] = {OP_COUNT, .optional = true},
            [POST_NORM_ADD]    = {OP_ADD,      ACT_X, {ACT_X, ACT_T}},
            [POST_NORM_LAUREL] = {OP_ADD,      ACT_X, {ACT_X, ACT_LA}},
            [POST_NORM_SCALE]  = {OP_SCALE,    ACT_X, {ACT_X}}}},
        {6, false, {
            [POST_NORM_NORM]   = {OP_RMS_NORM, ACT_T, {ACT_T}},
            [POST_NORM_JOIN]   = {OP_COUNT, .optional = true}, // never
            [POST_NORM_JOINED] = {OP_COUNT, .optional = true},
            [POST_NORM_ADD]    = {OP_ADD,      ACT_X, {ACT_X, ACT_T}},
            [POST_NORM_LAUREL] = {OP_COUNT, .optional = true}, // never
            [POST_NORM_SCALE]  = {OP_SCALE,    ACT_X, {ACT_X}, .optional = true}}},
        {6, false, {
            [POST_NORM_NORM]   = {OP_RMS_NORM, ACT_T, {ACT_T}},
            [POST_NORM_JOIN]   = {OP_ADD,      ACT_T, {ACT_T, ACT_M}},
            [POST_NORM_JOINED] = {OP_RMS_NORM, ACT_T, {ACT_T}},
            [POST_NORM_ADD]    = {OP_ADD,      ACT_X, {ACT_X, ACT_T}},
            [POST_NORM_LAUREL] = {OP_COUNT, .optional = true}, // never
            [POST_NORM_SCALE]  = {OP_SCALE,    ACT_X, {ACT_X}, .optional = true}}}},
    .parts = {{&batch_post_norm, POST_NORM_NORM, BODY_ANY, false}},
    .link = link_post_norm,
    .check = check_post_norm,
};
// clang-format on
