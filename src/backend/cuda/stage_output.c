// A block's last product and its sum with the residual stream: OUTPUT of attention, DOWN of the feed-forward.
// Where the block's output has a norm, the product is left raw and POST_NORM (stage_norm.c) does the rest.
#include "backend/cuda/lower_internal.h"

static bool link_output(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)l;
    s->attention = before;
    if (!before || before->type != &stage_attention) {
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                         s->layer);
    }
    return !s->is_raw || (after && after->type == &stage_post_norm) ||
           lower_refuse_stage(err, after ? after : s);
}

static bool link_down(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)l, (void)before;
    return !s->is_raw || (after && after->type == &stage_post_norm) ||
           lower_refuse_stage(err, after ? after : s);
}

static MatvecShape output_shape(const LowerTarget *t, const Stage *s, uint32_t rows) {
    const Weight *w = s->ops[OUTPUT_MATMUL]->weight;
    return matvec_shape(t, &s->type->matvec, (uint32_t)w->n_cols, (uint32_t)div_up(w->n_rows, rows), rows, &w,
                        1);
}

// What both have in common, with `rows` rows a unit.
static void define_product(StrBuf *b, const Stage *s, uint32_t rows, const MatvecShape *shape) {
    const Weight *w = s->ops[OUTPUT_MATMUL]->weight;
    if (s->is_raw) define(b, "RAW", 1);
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define(b, "ROWS", rows);
    define_format(b, "FORMAT_0", w);
    define_matvec(b, shape);
}

static void define_output(StrBuf *b, const Lowering *l, const Stage *s) {
    const Op *attention = s->attention->ops[ATTENTION_ATTENTION];
    MatvecShape shape = output_shape(l->target, s, 1);
    uint64_t block_bytes = placement_bytes(l->placement, s->ops[OUTPUT_MATMUL]->weight) / shape.blocks;
    define(b, "STAGE_OUTPUT", 1);
    define(b, "FROM_ATTENTION", 1);
    define_heads(b, attention);
    define_splits(b, s->attention);
    if (attention->weight) define(b, "HAS_SINKS", 1);
    // Gate and up of a large model begin to stream when they are let go, and all that attention and this
    // stage load comes late: 4% of a step of an 8B model. Smaller ones need the time for fetching.
    if (block_bytes > shape.ring_bytes / 2) define(b, "LAUNCH_AFTER_WAIT", 1);
    define_product(b, s, 1, &shape);
}

// Rows of a unit. Two share the activations that a lane has loaded: 2 to 4% of a step, where a block has
// enough rows for its warps.
static uint32_t down_rows(const LowerTarget *t, const Weight *w) {
    return w->n_rows >= 8 * t->multiprocessors && matvec_fits(t, w, 2) ? 2 : 1;
}

static void define_down(StrBuf *b, const Lowering *l, const Stage *s) {
    uint32_t rows = down_rows(l->target, s->ops[OUTPUT_MATMUL]->weight);
    MatvecShape shape = output_shape(l->target, s, rows);
    define(b, "STAGE_OUTPUT", 1);
    define_product(b, s, rows, &shape);
}

static void bind_output(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->output =
        (OutputArgs){.row = b->row,
                     .part = b->part,
                     .part_weight = b->part_weight,
                     .sinks = weight_of(b, s->attention ? s->attention->ops[ATTENTION_ATTENTION] : NULL),
                     .in = b->f,
                     .weight = weight_of(b, s->ops[OUTPUT_MATMUL]),
                     .bias = bias_of(b, s->ops[OUTPUT_MATMUL]),
                     .x = s->is_raw ? b->t : b->x};
}

// Of a token (x, t) and of a prompt's rows.
static uint32_t show_product(const Stage *s, CUdeviceptr x, CUdeviceptr t,
                             StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->is_raw ? s->ops[OUTPUT_MATMUL] : s->ops[OUTPUT_ADD];
    out[0] = (StageResult){op, RESULT_ROWS, s->is_raw ? t : x, op->out_width, 1};
    return 1;
}

static uint32_t output_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    return show_product(s, b->x, b->t, out);
}

// clang-format off
#define OUTPUT_PATTERNS(in)                                                     \
    {                                                                           \
        {2, false, {                                                            \
            [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {in}},                         \
            [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}}}},             \
        {1, true, {                                                             \
            [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {in}}}}}
// clang-format on

const StageType stage_output = {
    .kernel = "decode_output",
    .name = "attention output",
    .files = {FILES_MATVEC, "attention_splits.cuh", "decode_output.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = OUTPUT_PATTERNS(ACT_A),
    .prompt = {{&stage_prefill_output, OUTPUT_MATMUL, false}},
    .matvec = {false, 8, 8, 1},
    .link = link_output,
    .check = stage_takes_all,
    .define = define_output,
    .bind = bind_output,
    .results = output_results,
};

const StageType stage_down = {
    .kernel = "decode_output",
    .name = "down",
    .files = {FILES_MATVEC, "decode_output.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = OUTPUT_PATTERNS(ACT_F),
    .prompt = {{&stage_prefill_down, OUTPUT_MATMUL, false}},
    .matvec = {false, 16, 16, 1},
    .link = link_down,
    .check = stage_takes_all,
    .define = define_down,
    .bind = bind_output,
    .results = output_results,
};

// ---- prompts ----

static void define_prefill_product(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w = s->ops[OUTPUT_MATMUL]->weight;
    if (s->is_raw) define(b, "RAW", 1);
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define_format(b, "FORMAT_0", w);
    define_matmul(b, l, (uint32_t)div_up(w->n_rows, 16));
}

static void define_prefill_output(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_OUTPUT", 1);
    define_prefill_product(b, l, s);
}

static void define_prefill_down(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_OUTPUT", 1);
    define(b, "FROM_GLU", 1);
    define_prefill_product(b, l, s);
}

static PrefillOutputArgs prefill_product_args(const Stage *s, const StageBuffers *b, CUdeviceptr in) {
    return (PrefillOutputArgs){.span = b->span,
                               .in = in,
                               .weight = weight_of(b, s->ops[OUTPUT_MATMUL]),
                               .bias = bias_of(b, s->ops[OUTPUT_MATMUL]),
                               .x = s->is_raw ? b->rows_t : b->rows_x};
}

static void bind_prefill_output(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_output = prefill_product_args(s, b, b->rows_a);
}

static void bind_prefill_down(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_output = prefill_product_args(s, b, b->rows_f);
}

static uint32_t prefill_product_results(const Stage *s, const StageBuffers *b,
                                        StageResult out[STAGE_RESULTS_MAX]) {
    return show_product(s, b->rows_x, b->rows_t, out);
}

const StageType stage_prefill_output = {
    .kernel = "prefill_output",
    .name = "attention output",
    .files = {FILES_MATMUL, "prefill_output.cuh"},
    .cost = 70,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_output,
    .bind = bind_prefill_output,
    .results = prefill_product_results,
};

const StageType stage_prefill_down = {
    .kernel = "prefill_output",
    .name = "down",
    .files = {FILES_MATMUL, "prefill_output.cuh"},
    .cost = 79,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_down,
    .bind = bind_prefill_down,
    .results = prefill_product_results,
};
