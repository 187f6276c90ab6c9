// Norms with a stage of their own: of a prompt's rows before their products, and of a block's output.
#include "backend/cuda/lower_internal.h"

void define_norm(StrBuf *b, const Op *norm) {
    define_float(b, "NORM_EPS", norm->norm.eps);
    if (norm->kind == OP_LAYER_NORM) define(b, "LAYER_NORM", 1);
}

// ---- of a prompt's rows, before a product ----

static void define_prefill_norm(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "MAX_ROWS", l->max_rows);
    define(b, "STAGE_PREFILL_NORM", 1);
    define(b, "D_MODEL", s->ops[0]->out_width);
    define_norm(b, s->ops[0]);
}

static void bind_prefill_norm(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_norm = (PrefillNormArgs){.span = b->span,
                                          .x = b->rows_x,
                                          .norm = weight_of(b, s->ops[0]),
                                          .bias = bias_of(b, s->ops[0]),
                                          .out = b->rows_h};
}

const StageType stage_prefill_norm = {
    .kernel = "prefill_norm",
    .name = "norm",
    .files = {FILES_COMMON, "prefill_tiles.cuh", "prefill_norm.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_norm,
    .bind = bind_prefill_norm,
    .results = stage_shows_none,
};

// ---- POST_NORM: adds the norm of what OUTPUT or DOWN left raw ----

static bool link_post_norm(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)l, (void)after;
    bool fits = before && before->is_raw && (before->type == &stage_output || before->type == &stage_down);
    s->products = before;
    return fits || lower_refuse_stage(err, s);
}

static void define_post_norm(StrBuf *b, const Lowering *l, const Stage *s) {
    (void)l;
    define(b, "STAGE_POST_NORM", 1);
    define(b, "D_MODEL", s->ops[POST_NORM_NORM]->out_width);
    define_norm(b, s->ops[POST_NORM_NORM]);
}

static void bind_post_norm(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->post_norm = (PostNormArgs){.t = b->t, .norm = weight_of(b, s->ops[POST_NORM_NORM]), .x = b->x};
}

static uint32_t post_norm_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[POST_NORM_ADD], RESULT_ROWS, b->x, s->ops[POST_NORM_ADD]->out_width, 1};
    return 1;
}

// clang-format off
const StageType stage_post_norm = {
    .kernel = "decode_post_norm",
    .name = "norm of output",
    .files = {FILES_COMMON, "decode_post_norm.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = {
        {2, false, {
            [POST_NORM_NORM] = {OP_RMS_NORM, ACT_T, {ACT_T}},
            [POST_NORM_ADD]  = {OP_ADD,      ACT_X, {ACT_X, ACT_T}}}}},
    .prompt = {{&stage_prefill_post_norm, POST_NORM_NORM, false}},
    .link = link_post_norm,
    .check = stage_takes_all,
    .define = define_post_norm,
    .bind = bind_post_norm,
    .results = post_norm_results,
};
// clang-format on

static void define_prefill_post_norm(StrBuf *b, const Lowering *l, const Stage *s) {
    define_post_norm(b, l, s);
    define(b, "MAX_ROWS", l->max_rows);
}

static void bind_prefill_post_norm(const Stage *s, const StageBuffers *b, const StageRow *row,
                                   StageArgs *out) {
    (void)row;
    out->prefill_post_norm = (PrefillPostNormArgs){
        .span = b->span, .t = b->rows_t, .norm = weight_of(b, s->ops[POST_NORM_NORM]), .x = b->rows_x};
}

static uint32_t prefill_post_norm_results(const Stage *s, const StageBuffers *b,
                                          StageResult out[STAGE_RESULTS_MAX]) {
    out[0] =
        (StageResult){s->ops[POST_NORM_ADD], RESULT_ROWS, b->rows_x, s->ops[POST_NORM_ADD]->out_width, 1};
    return 1;
}

const StageType stage_prefill_post_norm = {
    .kernel = "prefill_post_norm",
    .name = "norm of output",
    .files = {FILES_COMMON, "prefill_post_norm.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_post_norm,
    .bind = bind_prefill_post_norm,
    .results = prefill_post_norm_results,
};
