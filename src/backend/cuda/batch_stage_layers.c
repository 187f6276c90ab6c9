// Stages of batches for embeddings that each layer has of its own: what layers are given of a row's token,
// and the gate that lets it into the residual stream.
#include "backend/cuda/batch_lower_internal.h"

// ---- the residual stream as a product's input ----

static void define_copy(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_NORM_ROWS", 1);
    batch_define_copy(b, s->ops[0]->out_width);
}

static void bind_copy(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->norm = (NormArgs){.batch = b->batch, .logits_rows = b->logits_rows, .x = b->x, .out = b->h};
}

static uint32_t copy_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[0], RESULT_ACTIVATIONS, b->h, s->ops[0]->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

// Divided, since the residual stream may be beyond what f16 holds.
const BatchType batch_copy = {
    .kernel = "norm_rows",
    .name = "the residual stream as input",
    .files = {FILES_ROWS, "norm_rows.cuh"},
    .cost = COST_USUAL,
    .define = define_copy,
    .bind = bind_copy,
    .results = copy_results,
};

// A product whose input is not normalised by itself.
static ProductSize size_of(const BatchStage *s) {
    ProductSize size = batch_product_size(s);
    size.has_norm = false;
    return size;
}

// ---- LAYER_INPUTS ----

static void define_product(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Weight *w = s->ops[LAYER_INPUTS_MATMUL]->weight;
    ProductSize size = size_of(s);
    batch_define_output(b, w);
    define(b, "RAW", 1);
    define(b, "FROM_GLU", 1);
    batch_define_product(b, l, &size);
}

static void bind_product(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, NULL, b->h);
    out->product.weight[0] = batch_weight_of(b, s->ops[LAYER_INPUTS_MATMUL]);
    out->product.out = b->layer_inputs;
}

const BatchType batch_layer_product = {
    .kernel = "output",
    .name = "layers' inputs",
    .files = {FILES_FEW, "output.cuh"},
    .cost = 50,
    .reads = READS_ALL,
    .define = define_product,
    .bind = bind_product,
    .results = batch_shows_none,
};

const BatchType batch_layer_product_many = {
    .kernel = "output",
    .name = "layers' inputs of many",
    .files = {FILES_MANY, "output.cuh"},
    .cost = 79,
    .reads = READS_ALL,
    .define = define_product,
    .bind = bind_product,
    .results = batch_shows_none,
};

static void define_inputs(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *embed = s->ops[LAYER_INPUTS_EMBED], *norm = s->ops[LAYER_INPUTS_NORM];
    (void)l;
    define(b, "STAGE_LAYER_INPUTS", 1);
    define(b, "D_LAYER", norm->norm.group);
    define(b, "N_LAYERS", norm->out_width / norm->norm.group);
    define(b, "N_VOCAB", embed->weight->n_rows);
    define_format(b, "EMBED_FORMAT", embed->weight);
    define_float(b, "EMBED_SCALE", embed->embed.scale);
    define_norm(b, norm);
    define_float(b, "SCALE", s->ops[LAYER_INPUTS_SCALE]->scale);
}

static void bind_inputs(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->layer_inputs = (LayerInputsArgs){.batch = b->batch,
                                          .rows = b->rows,
                                          .slots = b->slots,
                                          .embed = batch_weight_of(b, s->ops[LAYER_INPUTS_EMBED]),
                                          .norm = batch_weight_of(b, s->ops[LAYER_INPUTS_NORM]),
                                          .inputs = b->layer_inputs};
}

static uint32_t inputs_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[LAYER_INPUTS_SCALE];
    out[0] = (StageResult){op, RESULT_ROWS, b->layer_inputs, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_layer_inputs = {
    .kernel = "layer_inputs",
    .name = "norm, embeddings of layers",
    .files = {FILES_COMMON, FILES_TILES, "layer_inputs.cuh"},
    .cost = COST_USUAL,
    .define = define_inputs,
    .bind = bind_inputs,
    .results = inputs_results,
};

static bool check_inputs(const BatchLowering *l, const BatchStage *s, Error *err) {
    (void)l;
    bool fits = s->ops[LAYER_INPUTS_NORM]->norm.group % 32 == 0 && !s->ops[LAYER_INPUTS_SCALE]->weight &&
                s->ops[LAYER_INPUTS_ADD]->add.scale == 1;
    return fits || batch_refuse(err, s);
}

// clang-format off
const BatchBlock batch_block_layer_inputs = {
    .patterns = {
        {6, false, {
            [LAYER_INPUTS_EMBED]  = {OP_EMBED,    ACT_PE, {0}},
            [LAYER_INPUTS_COPY]   = {OP_COPY,     ACT_H,  {ACT_X}},
            [LAYER_INPUTS_MATMUL] = {OP_MATMUL,   ACT_PL, {ACT_H}},
            [LAYER_INPUTS_NORM]   = {OP_RMS_NORM, ACT_PL, {ACT_PL}},
            [LAYER_INPUTS_ADD]    = {OP_ADD,      ACT_PL, {ACT_PL, ACT_PE}},
            [LAYER_INPUTS_SCALE]  = {OP_SCALE,    ACT_PL, {ACT_PL}}}}},
    .parts = {
        {&batch_copy, LAYER_INPUTS_COPY, BODY_ANY, true},
        {&batch_layer_product, LAYER_INPUTS_MATMUL, BODY_FEW, false},
        {&batch_layer_product_many, LAYER_INPUTS_MATMUL, BODY_TOGETHER, false},
        {&batch_layer_inputs, LAYER_INPUTS_NORM, BODY_ANY, false}},
    .link = batch_links_none,
    .check = check_inputs,
};
// clang-format on

// ---- LAYER_GATE, LAYER_OUT ----

static void define_gate(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Weight *w = s->ops[GATE_MATMUL]->weight;
    bool takes_copy = l->size.body == BODY_ONE && s->ops[GATE_COPY];
    ProductSize size = takes_copy ? batch_product_size(s) : size_of(s);
    define(b, "STAGE_GLU", 1);
    define(b, "D_MODEL", w->n_cols);
    define(b, "D_FF", w->n_rows);
    define_activation(b, s->ops[GATE_GLU]->fn);
    define(b, "UNGATED", 1);
    define(b, "TIMES_STRIDE", s->ops[GATE_SLICE]->in_width[0]);
    define_format(b, "FORMAT_0", w);
    if (takes_copy) {
        batch_define_norm_input(b, l, s, s->ops[GATE_COPY]);
        define(b, "COPY_DIVIDED", 1);
    }
    batch_define_product(b, l, &size);
}

static void bind_gate(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, s->ops[GATE_COPY], b->h);
    out->product.weight[0] = batch_weight_of(b, s->ops[GATE_MATMUL]);
    out->product.times = b->layer_inputs + (uint64_t)s->layer * s->ops[GATE_SLICE]->out_width * sizeof(float);
    out->product.out_activations = b->f;
}

static uint32_t gate_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[GATE_GLU];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->f, op->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

const BatchType batch_layer_gate = {
    .kernel = "glu",
    .name = "gate of a layer's embedding",
    .files = {FILES_FEW, "activate.cuh", "glu.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_gate,
    .bind = bind_gate,
    .results = gate_results,
};

const BatchType batch_layer_gate_many = {
    .kernel = "glu",
    .name = "gate of a layer's embedding, of many",
    .files = {FILES_MANY, "activate.cuh", "glu.cuh"},
    .cost = 93,
    .reads = READS_ALL,
    .define = define_gate,
    .bind = bind_gate,
    .results = gate_results,
};

// Its input is the residual stream, or what the news of streams have left for it.
static bool link_gate(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)after;
    return s->ops[GATE_COPY] || (before && before->block == &batch_block_news) || batch_refuse(err, s);
}

// clang-format off
const BatchBlock batch_block_layer_gate = {
    .patterns = {
        {4, false, {
            [GATE_COPY]   = {OP_COUNT, .optional = true}, // never
            [GATE_MATMUL] = {OP_MATMUL, ACT_PG, {ACT_H}},
            [GATE_SLICE]  = {OP_SLICE,  ACT_PS, {ACT_PL}},
            [GATE_GLU]    = {OP_GLU,    ACT_PG, {ACT_PG, ACT_PS}}}},
        {4, false, {
            [GATE_COPY]   = {OP_COPY,   ACT_H,  {ACT_X}},
            [GATE_MATMUL] = {OP_MATMUL, ACT_PG, {ACT_H}},
            [GATE_SLICE]  = {OP_SLICE,  ACT_PS, {ACT_PL}},
            [GATE_GLU]    = {OP_GLU,    ACT_PG, {ACT_PG, ACT_PS}}}}},
    .parts = {
        {&batch_copy, GATE_COPY, BODY_NORMED, true},
        {&batch_layer_gate, GATE_MATMUL, BODY_FEW, false},
        {&batch_layer_gate_many, GATE_MATMUL, BODY_TOGETHER, false}},
    .link = link_gate,
    .check = batch_takes_all,
};
// clang-format on
