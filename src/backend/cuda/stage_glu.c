// Norm, gate and up, activation; where there is no gate, up and activation.
#include "backend/cuda/lower_internal.h"

// What the kernels divide the outputs of a prompt's rows by (prefill_tiles.cuh).
static const float PREFILL_DIVISOR = 16;

void define_activation(StrBuf *b, ActFn fn) {
    static const char *const names[] = {[FN_SILU] = "SILU",
                                        [FN_GELU_TANH] = "GELU_TANH",
                                        [FN_GELU_ERF] = "GELU_ERF",
                                        [FN_SWIGLU_CLAMPED] = "SWIGLU_CLAMPED"};
    strbuf_printf(b, "#define ACTIVATION ACTIVATION_%s\n", names[fn]);
}

static bool check_glu(const Lowering *l, const Stage *s, Error *err) {
    (void)l;
    return s->ops[GLU_GATE] || s->ops[GLU_GLU]->fn != FN_SWIGLU_CLAMPED ||
           lower_refuse_weight(err, s->ops[GLU_UP]->weight, "its activation needs a gate");
}

// The gate, or up where there is none.
static const Op *first_of(const Stage *s) {
    return s->ops[GLU_GATE] ? s->ops[GLU_GATE] : s->ops[GLU_UP];
}

// What decoding and prefill have in common.
static void define_feed_forward(StrBuf *b, const Stage *s) {
    const Op *first = first_of(s), *up = s->ops[GLU_UP];
    define(b, "D_MODEL", up->weight->n_cols);
    define(b, "D_FF", up->weight->n_rows);
    if (first == up) define(b, "UNGATED", 1);
    if (first->bias || up->bias) define(b, "HAS_BIAS", 1);
    define_activation(b, s->ops[GLU_GLU]->fn);
    define_format(b, "FORMAT_0", first->weight);
    if (first->weight->dtype == up->weight->dtype) return;
    define(b, "ROW_FORMATS", 1);
    define_format(b, "FORMAT_1", up->weight);
}

static void define_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w[2] = {s->ops[GLU_UP]->weight, first_of(s)->weight};
    MatvecShape shape = matvec_shape(l->target, &s->type->matvec, (uint32_t)w[0]->n_cols,
                                     (uint32_t)w[0]->n_rows, s->ops[GLU_GATE] ? 2 : 1, w, 2);
    define(b, "STAGE_GLU", 1);
    define_feed_forward(b, s);
    define_norm(b, s->ops[GLU_NORM]);
    define_matvec(b, &shape);
}

static void bind_glu(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->glu = (GluArgs){.x = b->x,
                         .norm = weight_of(b, s->ops[GLU_NORM]),
                         .norm_bias = bias_of(b, s->ops[GLU_NORM]),
                         .weight = {weight_of(b, first_of(s)), weight_of(b, s->ops[GLU_UP])},
                         .bias = {bias_of(b, first_of(s)), bias_of(b, s->ops[GLU_UP])},
                         .out = b->f};
}

static uint32_t glu_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[GLU_GLU], RESULT_ROWS, b->f, s->ops[GLU_GLU]->out_width, 1};
    return 1;
}

// clang-format off
const StageType stage_glu = {
    .kernel = "decode_glu",
    .name = "norm, gate up",
    .files = {FILES_MATVEC, "decode_norm.cuh", "activate.cuh", "decode_glu.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
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
    .prompt = {
        {&stage_prefill_norm, GLU_NORM, true},
        {&stage_prefill_glu, GLU_UP, false}},
    .matvec = {true, 16, 8, 2},
    .link = stage_links_none,
    .check = check_glu,
    .define = define_glu,
    .bind = bind_glu,
    .results = glu_results,
};
// clang-format on

// ---- prompts ----

static void define_prefill_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_GLU", 1);
    define_feed_forward(b, s);
    define_matmul(b, l, (uint32_t)div_up(s->ops[GLU_UP]->weight->n_rows, s->ops[GLU_GATE] ? 8 : 16));
}

static void bind_prefill_glu(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_glu = (PrefillGluArgs){.span = b->span,
                                        .in = b->rows_h,
                                        .weight = {weight_of(b, first_of(s)), weight_of(b, s->ops[GLU_UP])},
                                        .bias = {bias_of(b, first_of(s)), bias_of(b, s->ops[GLU_UP])},
                                        .out = b->rows_f};
}

static uint32_t prefill_glu_results(const Stage *s, const StageBuffers *b,
                                    StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[GLU_GLU];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->rows_f, op->out_width, 1 / PREFILL_DIVISOR};
    return 1;
}

const StageType stage_prefill_glu = {
    .kernel = "prefill_glu",
    .name = "gate up",
    .files = {FILES_MATMUL, "activate.cuh", "prefill_glu_units.cuh", "prefill_glu.cuh"},
    .cost = 93,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_glu,
    .bind = bind_prefill_glu,
    .results = prefill_glu_results,
};
