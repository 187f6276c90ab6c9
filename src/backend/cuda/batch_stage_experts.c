// Stages of batches of a mixture of experts: the router, the chosen experts' gate and up, their down and sum.
// Few rows: every stage chooses by itself. Many: the rows are put in the order of their experts.
#include "backend/cuda/batch_lower_internal.h"

enum { EXPERTS_USED_MAX = 32 }; // a row: a lane has one (expert_choice.cuh)

// The softmax over all, divided by the sum of the chosen ones, is the softmax over these. What the sum is
// multiplied by goes into the weights.
static RouteConfig route_of(const BatchStage *s) {
    const Op *op = s->ops[MIXTURE_ROUTE];
    RouteConfig r = op->route;
    if (r.scores == SCORES_OF_ALL && r.normed && r.n_groups <= 1 && !op->weight) r.scores = SCORES_OF_CHOSEN;
    if (!s->is_raw) r.scale *= s->ops[MIXTURE_ADD]->add.scale;
    return r;
}

// The gate, or up where there is none.
static const Op *first_of(const BatchStage *s) {
    return s->ops[MIXTURE_GATE] ? s->ops[MIXTURE_GATE] : s->ops[MIXTURE_UP];
}

static ExpertsSize size_of(const BatchStage *s) {
    const Weight *first = first_of(s)->weight;
    const Op *shared_up = s->ops[MIXTURE_SHARED_UP];
    return (ExpertsSize){.route = route_of(s),
                         .has_select = s->ops[MIXTURE_ROUTE]->weight != NULL,
                         .has_scales = s->ops[MIXTURE_ROUTE]->bias != NULL,
                         .has_share = s->share != NULL,
                         .sum_alone = s->is_raw,
                         .shared_ff = shared_up ? (uint32_t)shared_up->weight->n_rows : 0,
                         .shared_down = s->ops[MIXTURE_SHARED_DOWN] != NULL,
                         .d_router = (uint32_t)s->ops[MIXTURE_ROUTER]->weight->n_cols,
                         .d_model = (uint32_t)first->n_cols,
                         .d_ff = (uint32_t)first->n_rows,
                         .n_experts = (uint32_t)first->n_matrices,
                         .n_used = s->ops[MIXTURE_ROUTE]->n_used,
                         .gate = first->dtype,
                         .up = s->ops[MIXTURE_UP]->weight->dtype,
                         .down = s->ops[MIXTURE_DOWN]->weight->dtype,
                         .ungated = !s->ops[MIXTURE_GATE],
                         .weighed = s->ops[MIXTURE_WEIGH] != NULL};
}

// ---- a shared expert ----

// Of the same format and shape, but perhaps for the number of rows, and without biases.
static bool is_alike(const Op *shared, const Op *op, bool any_rows) {
    if (!shared || !op) return shared == op;
    const Weight *a = shared->weight, *b = op->weight;
    return a->dtype == b->dtype && a->n_cols == b->n_cols && (any_rows || a->n_rows == b->n_rows) &&
           !shared->bias && !op->bias;
}

static const BatchStage *shared_down_of(const BatchStage *experts) {
    const BatchStage *after = experts + 1;
    return after->block == &batch_block_share ? after + 1 : after;
}

bool batch_shared_glu_joins(const BatchStage *experts) {
    const BatchStage *glu = experts - 1, *down = shared_down_of(experts);
    bool around = glu->block == &batch_block_glu && down->block == &batch_block_down;
    if (!around || experts->is_raw) return false;
    const Op *norm = glu->ops[GLU_NORM], *other = experts->ops[MIXTURE_NORM];
    bool same_input =
        norm->kind == OP_RMS_NORM && norm->weight == other->weight && norm->norm.eps == other->norm.eps;
    return same_input && glu->ops[GLU_GLU]->fn == experts->ops[MIXTURE_GLU]->fn &&
           is_alike(glu->ops[GLU_GATE], experts->ops[MIXTURE_GATE], true) &&
           is_alike(glu->ops[GLU_UP], experts->ops[MIXTURE_UP], true);
}

bool batch_shared_down_joins(const BatchStage *experts) {
    const BatchStage *down = shared_down_of(experts);
    return batch_shared_glu_joins(experts) && !down->is_raw && down->ops[OUTPUT_ADD]->add.scale == 1 &&
           is_alike(down->ops[OUTPUT_MATMUL], experts->ops[MIXTURE_DOWN], false);
}

static void link_shared(BatchStage *s) {
    const BatchStage *glu = s - 1, *down = shared_down_of(s);
    if (!batch_shared_glu_joins(s)) return;
    s->ops[MIXTURE_SHARED_GATE] = glu->ops[GLU_GATE];
    s->ops[MIXTURE_SHARED_UP] = glu->ops[GLU_UP];
    s->ops[MIXTURE_SHARED_GLU] = glu->ops[GLU_GLU];
    if (!batch_shared_down_joins(s)) return;
    s->ops[MIXTURE_SHARED_DOWN] = down->ops[OUTPUT_MATMUL];
    s->shared_add = down->ops[OUTPUT_ADD];
}

// ---- the block ----

// Where experts are beside a dense feed-forward, that comes next; where they are narrower than the residual
// stream, the product that makes their sum as wide.
static bool link_experts(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    const BatchBlock *next = s->ops[MIXTURE_LATENT] ? &batch_block_latent_out : &batch_block_glu;
    if (after && after->block == &batch_block_share) s->share = after->ops[SHARE_SHARE];
    if (before && after) link_shared(s);
    return !s->is_raw || (after && after->block == next) || batch_refuse(err, s);
}

static bool check_experts(const BatchLowering *l, const BatchStage *s, Error *err) {
    ExpertsSize e = size_of(s);
    const Op *input = s->ops[MIXTURE_INPUT]; // one norm's factor is for both
    if (input && input->norm.eps != s->ops[MIXTURE_NORM]->norm.eps) return batch_refuse(err, s);
    if (e.n_used > EXPERTS_USED_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "%u experts a token cannot be run on the GPU: at most %d",
                         e.n_used, EXPERTS_USED_MAX);
    }
    bool needs_gate = s->ops[MIXTURE_GLU]->fn == FN_SWIGLU_CLAMPED;
    if ((e.route.scores == SCORES_OF_CHOSEN && (e.has_select || e.route.n_groups > 1)) ||
        (e.ungated && needs_gate))
        return batch_refuse(err, s);
    return (experts_fit(l->target, &e, 1) && experts_fit(l->target, &e, BATCH_FEW_ROWS_MAX)) ||
           error_set(err, ERR_UNSUPPORTED,
                     "%u experts of %u values a token need more shared memory than this GPU has: %u bytes",
                     e.n_used, e.d_ff, l->target->shared_bytes_block);
}

// Whether a product of the class has the body of few rows.
static bool uses_few(const BatchLowering *l, const BatchStage *s) {
    ExpertsSize e = size_of(s);
    return experts_use_few(l->target, &e, l->size.max_rows);
}

static bool uses_many(const BatchLowering *l, const BatchStage *s) {
    return !uses_few(l, s);
}

// Notes what the class's buffers need.
static void need(const BatchLowering *l, const ExpertsSize *e) {
    ExpertsBuffers n = experts_buffers(l->target, e, l->size.max_rows);
    BatchExperts *x = &l->out->classes[l->out->n_classes - 1].experts;
    x->n_experts = (uint32_t)max_u64(x->n_experts, e->n_experts);
    x->n_used = (uint32_t)max_u64(x->n_used, e->n_used);
    x->inputs = max_u64(x->inputs, (uint64_t)n.inputs * align_up(e->d_model, ACTIVATION_COLS));
    x->between =
        max_u64(x->between, (uint64_t)n.buffers * n.buffer_rows * align_up(e->d_ff, ACTIVATION_COLS));
    x->outputs = max_u64(x->outputs, (uint64_t)n.slots * e->d_model);
    if (e->weighed) x->n_weighed = (uint32_t)max_u64(x->n_weighed, n.slots);
    if (e->sum_alone) l->out->sum_cols = (uint32_t)max_u64(l->out->sum_cols, e->d_model);
    x->n_tiles = (uint32_t)max_u64(x->n_tiles, n.tiles);
    x->n_arrivals = (uint32_t)max_u64(x->n_arrivals, n.arrivals);
    batch_need(l, n.partial_bytes, (uint32_t)max_u64(n.meetings, n.meetings_k));
}

// ---- the router ----

static void define_route(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    ExpertsSize e = size_of(s);
    need(l, &e);
    define(b, "STAGE_ROUTE_ROWS", 1);
    experts_define_route(b, l->target, &e, l->size.max_rows);
    if (s->ops[MIXTURE_INPUT]) define(b, "ROUTE_OTHER_NORM", 1);
    define_norm(b, s->ops[MIXTURE_NORM]);
    if (s->post) batch_define_post_input(b, s->post);
}

static void bind_route(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->route_rows = (RouteRowsArgs){.batch = b->batch,
                                      .x = b->x,
                                      .norm = batch_weight_of(b, s->ops[MIXTURE_NORM]),
                                      .other_norm = batch_weight_of(b, s->ops[MIXTURE_INPUT]),
                                      .weight = batch_weight_of(b, s->ops[MIXTURE_ROUTER]),
                                      .bias = batch_bias_of(b, s->ops[MIXTURE_ROUTER]),
                                      .select = batch_weight_of(b, s->ops[MIXTURE_ROUTE]),
                                      .scales = batch_bias_of(b, s->ops[MIXTURE_ROUTE]),
                                      .share_weight = batch_weight_of(b, s->share),
                                      .share = b->share,
                                      .normed = b->h,
                                      .logits = b->route,
                                      .choice = b->choice,
                                      .meetings = b->meetings};
    if (!s->post) return;
    out->route_rows.x = b->x_other;
    out->route_rows.post = b->t;
    out->route_rows.post_norm = batch_weight_of(b, s->post->ops[POST_NORM_NORM]);
    out->route_rows.post_scale = batch_weight_of(b, s->post->ops[POST_NORM_SCALE]);
    out->route_rows.x_out = b->x;
}

static uint32_t route_results(const BatchStage *s, const BatchBuffers *b,
                              StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[MIXTURE_ROUTER];
    out[0] = (StageResult){op, RESULT_ROWS, b->route, op->out_width, 1, 0};
    return 1;
}

const BatchType batch_route = {
    .kernel = "route",
    .name = "norm, router",
    .files = {FILES_COMMON, "rows.cuh", "expert_choice.cuh", "route.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << MIXTURE_ROUTER,
    .defines_rows = true,
    .define = define_route,
    .bind = bind_route,
    .results = route_results,
};

static void define_group(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    ExpertsSize e = size_of(s);
    define(b, "STAGE_GROUP_EXPERTS", 1);
    experts_define_group(b, l->target, &e, l->size.max_rows);
}

static void bind_group(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->group_experts = (GroupExpertsArgs){.batch = b->batch,
                                            .choice = b->choice,
                                            .normed = b->latent ? b->latent : b->h,
                                            .slot = b->slot,
                                            .tiles = b->tiles,
                                            .n_tiles = b->n_tiles,
                                            .out = b->slots_h,
                                            .weight = b->weights_h};
}

const BatchType batch_group = {
    .kernel = "group_experts",
    .name = "rows by expert",
    .files = {FILES_COMMON, "rows.cuh", "group_experts.cuh"},
    .cost = COST_USUAL,
    .defines_rows = true,
    .define = define_group,
    .bind = bind_group,
    .results = batch_shows_none,
};

// ---- the experts' input, where it is narrower; also a product of a low rank ----

static void define_latent_in(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Weight *w = s->ops[0]->weight;
    ProductSize size = batch_product_size(s);
    define(b, "STAGE_GLU", 1);
    define(b, "D_MODEL", w->n_cols);
    define(b, "D_FF", w->n_rows);
    define_activation(b, FN_IDENTITY);
    define(b, "UNGATED", 1);
    define(b, "NOT_DIVIDED", 1);
    define_format(b, "FORMAT_0", w);
    batch_define_product(b, l, &size);
}

static void bind_latent_in(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, NULL, b->h);
    out->product.weight[0] = batch_weight_of(b, s->ops[0]);
    out->product.out_activations = b->latent;
}

static uint32_t latent_in_results(const BatchStage *s, const BatchBuffers *b,
                                  StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[0], RESULT_ACTIVATIONS, b->latent, s->ops[0]->out_width, 1, 0};
    return 1;
}

const BatchType batch_latent_in = {
    .kernel = "glu",
    .name = "narrower values",
    .files = {FILES_FEW, "activate.cuh", "glu.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_latent_in,
    .bind = bind_latent_in,
    .results = latent_in_results,
};

const BatchType batch_latent_in_many = {
    .kernel = "glu",
    .name = "narrower values of many",
    .files = {FILES_MANY, "activate.cuh", "glu.cuh"},
    .cost = 93,
    .reads = READS_ALL,
    .define = define_latent_in,
    .bind = bind_latent_in,
    .results = latent_in_results,
};

// Their sum as the input of the product behind it: divided, since it may be beyond what f16 holds.
static void define_latent_sum(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    (void)l;
    define(b, "STAGE_NORM_ROWS", 1);
    batch_define_copy(b, s->ops[OUTPUT_MATMUL]->weight->n_cols);
}

static void bind_latent_sum(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->norm = (NormArgs){.batch = b->batch, .logits_rows = b->logits_rows, .x = b->m, .out = b->latent};
}

const BatchType batch_latent_sum = {
    .kernel = "norm_rows",
    .name = "narrower experts' sum as input",
    .files = {FILES_ROWS, "norm_rows.cuh"},
    .cost = COST_USUAL,
    .define = define_latent_sum,
    .bind = bind_latent_sum,
    .results = batch_shows_none,
};

// ---- gate and up, down ----

// Where the experts' sum goes.
static CUdeviceptr sum_of(const BatchStage *s, const BatchBuffers *b) {
    return s->is_raw ? b->m : b->x;
}

static ExpertsArgs products_of(const BatchStage *s, const BatchBuffers *b) {
    return (ExpertsArgs){.product = {.batch = b->batch,
                                     .rows = b->rows,
                                     .slots = b->slots,
                                     .logits_rows = b->logits_rows,
                                     .partial = b->partial,
                                     .meetings = b->meetings},
                         .logits = b->route,
                         .select = batch_weight_of(b, s->ops[MIXTURE_ROUTE]),
                         .scales = batch_bias_of(b, s->ops[MIXTURE_ROUTE]),
                         .tiles = b->tiles,
                         .n_tiles = b->n_tiles,
                         .slot_weight = b->weights_h,
                         .x = sum_of(s, b),
                         .arrivals = b->arrivals};
}

// One row: where the shared expert's activation goes: behind the others', or where its own down reads it.
static CUdeviceptr shared_f_of(const BatchStage *s, const BatchBuffers *b) {
    ExpertsSize e = size_of(s);
    uint64_t halves = e.n_used * align_up(e.d_ff, ACTIVATION_COLS);
    return e.shared_down ? b->slots_f + halves * sizeof(uint16_t) : b->f;
}

static void define_gate_up(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    ExpertsSize e = size_of(s);
    experts_define_glu(b, l->target, &e, l->size.max_rows);
    define_activation(b, s->ops[MIXTURE_GLU]->fn);
    if (first_of(s)->bias || s->ops[MIXTURE_UP]->bias) define(b, "HAS_BIAS", 1);
}

static void bind_gate_up(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    ExpertsArgs a = products_of(s, b);
    a.product.in = b->slots_h; // of few rows the inputs themselves
    const Op *matrices[2] = {first_of(s), s->ops[MIXTURE_UP]};
    for (uint32_t i = 0; i < 2; i++) {
        a.product.weight[i] = batch_weight_of(b, matrices[i]);
        a.product.bias[i] = batch_bias_of(b, matrices[i]);
    }
    a.product.out_activations = b->slots_f;
    const Op *up = s->ops[MIXTURE_SHARED_UP], *gate = s->ops[MIXTURE_SHARED_GATE];
    if (up) {
        a.shared[0] = batch_weight_of(b, gate ? gate : up);
        a.shared[1] = batch_weight_of(b, up);
        a.shared_out = shared_f_of(s, b);
    }
    out->experts = a;
}

// Of a shared expert alone: the others are in the order of their choices.
static uint32_t gate_up_results(const BatchStage *s, const BatchBuffers *b,
                                StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[MIXTURE_SHARED_GLU];
    if (!op) return 0;
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, shared_f_of(s, b), op->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

static void define_experts_down(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    ExpertsSize e = size_of(s);
    experts_define_down(b, l->target, &e, l->size.max_rows);
    if (e.shared_down && e.has_share) define(b, "HAS_SHARE", 1);
}

static void bind_experts_down(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    ExpertsArgs a = products_of(s, b);
    a.product.in = b->slots_f;
    a.product.weight[0] = batch_weight_of(b, s->ops[MIXTURE_DOWN]);
    a.product.bias[0] = batch_bias_of(b, s->ops[MIXTURE_DOWN]);
    a.product.out = b->slots_out;
    a.product.share = b->share;
    a.shared[0] = batch_weight_of(b, s->ops[MIXTURE_SHARED_DOWN]);
    out->experts = a;
}

static uint32_t sum_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[s->is_raw ? MIXTURE_SUM : MIXTURE_ADD];
    if (s->ops[MIXTURE_SHARED_DOWN]) op = s->shared_add;
    out[0] = (StageResult){op, RESULT_ROWS, sum_of(s, b), op->out_width, 1, 0};
    return 1;
}

// Down adds the experts up by itself where the class has few rows.
static uint32_t down_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    return b->choice ? 0 : sum_results(s, b, out);
}

#define FILES_EXPERTS FILES_COMMON, FILES_TILES, "rows.cuh", "experts_units.cuh", "product.cuh"
#define FILES_EXPERTS_FEW FILES_EXPERTS, FILES_PRODUCT_FEW, "expert_choice.cuh", "chosen_experts.cuh"
#define FILES_EXPERTS_MANY FILES_EXPERTS, FILES_PRODUCT_MANY, "chosen_experts.cuh"

const BatchType batch_experts_glu = {
    .kernel = "experts_glu",
    .name = "experts' gate up",
    .files = {FILES_EXPERTS_FEW, "activate.cuh", "experts_glu.cuh"},
    .cost = 70,
    .reads = 1 << MIXTURE_GATE | 1 << MIXTURE_UP | 1 << MIXTURE_SHARED_GATE | 1 << MIXTURE_SHARED_UP,
    .defines_rows = true,
    .is_needed = uses_few,
    .define = define_gate_up,
    .bind = bind_gate_up,
    .results = gate_up_results,
};

const BatchType batch_experts_glu_many = {
    .kernel = "experts_glu",
    .name = "experts' gate up of many",
    .files = {FILES_EXPERTS_MANY, "activate.cuh", "experts_glu.cuh"},
    .cost = 90,
    .reads = 1 << MIXTURE_GATE | 1 << MIXTURE_UP,
    .defines_rows = true,
    .is_needed = uses_many,
    .define = define_gate_up,
    .bind = bind_gate_up,
    .results = batch_shows_none,
};

const BatchType batch_experts_down = {
    .kernel = "experts_down",
    .name = "experts' down",
    .files = {FILES_EXPERTS_FEW, "experts_down.cuh"},
    .cost = 60,
    .reads = 1 << MIXTURE_DOWN | 1 << MIXTURE_SHARED_DOWN,
    .defines_rows = true,
    .is_needed = uses_few,
    .define = define_experts_down,
    .bind = bind_experts_down,
    .results = down_results,
};

const BatchType batch_experts_down_many = {
    .kernel = "experts_down",
    .name = "experts' down of many",
    .files = {FILES_EXPERTS_MANY, "experts_down.cuh"},
    .cost = 80,
    .reads = 1 << MIXTURE_DOWN,
    .defines_rows = true,
    .is_needed = uses_many,
    .define = define_experts_down,
    .bind = bind_experts_down,
    .results = down_results,
};

static void define_sum(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    ExpertsSize e = size_of(s);
    define(b, "STAGE_EXPERTS_SUM", 1);
    experts_define_sum(b, l->target, &e, l->size.max_rows);
}

static void bind_sum(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->experts_sum = (ExpertsSumArgs){
        .batch = b->batch, .choice = b->choice, .slot = b->slot, .in = b->slots_out, .x = sum_of(s, b)};
}

const BatchType batch_experts_sum = {
    .kernel = "experts_sum",
    .name = "sum of experts",
    .files = {FILES_COMMON, "experts_sum.cuh"},
    .cost = COST_USUAL,
    .defines_rows = true,
    .define = define_sum,
    .bind = bind_sum,
    .results = sum_results,
};

// clang-format off
#define MIXTURE_BEFORE \
            [MIXTURE_NORM]   = {OP_RMS_NORM,      ACT_H,  {ACT_X}}, \
            [MIXTURE_ROUTER] = {OP_MATMUL,        ACT_L,  {ACT_H}}, \
            [MIXTURE_ROUTE]  = {OP_ROUTE,         ACT_R,  {ACT_L}}, \
            [MIXTURE_INPUT]  = {OP_COUNT, .optional = true} /* never */, \
            [MIXTURE_LATENT] = {OP_COUNT, .optional = true}
#define MIXTURE_BEHIND \
            [MIXTURE_DOWN]   = {OP_EXPERT_MATMUL, ACT_EO, {ACT_EF, ACT_R}}, \
            [MIXTURE_SUM]    = {OP_EXPERT_SUM,    ACT_T,  {ACT_EO, ACT_R}}, \
            [MIXTURE_ADD]    = {OP_ADD,           ACT_X,  {ACT_X, ACT_T}}
const BatchBlock batch_block_experts = {
    .patterns = {
        {12, false, {
            MIXTURE_BEFORE,
            [MIXTURE_GATE]   = {OP_EXPERT_MATMUL, ACT_EG, {ACT_H, ACT_R}},
            [MIXTURE_UP]     = {OP_EXPERT_MATMUL, ACT_EU, {ACT_H, ACT_R}},
            [MIXTURE_WEIGH]  = {OP_EXPERT_WEIGH,  ACT_EG, {ACT_EG, ACT_R}, .optional = true},
            [MIXTURE_GLU]    = {OP_GLU,           ACT_EF, {ACT_EG, ACT_EU}},
            MIXTURE_BEHIND}},
        {12, false, {
            MIXTURE_BEFORE,
            [MIXTURE_GATE]   = {OP_COUNT, .optional = true}, // never
            [MIXTURE_UP]     = {OP_EXPERT_MATMUL, ACT_EU, {ACT_H, ACT_R}},
            [MIXTURE_WEIGH]  = {OP_COUNT, .optional = true},
            [MIXTURE_GLU]    = {OP_ACTIVATION,    ACT_EF, {ACT_EU}},
            MIXTURE_BEHIND}},
        {12, true, {
            [MIXTURE_NORM]   = {OP_RMS_NORM,      ACT_H,  {ACT_X}},
            [MIXTURE_ROUTER] = {OP_MATMUL,        ACT_L,  {ACT_H}},
            [MIXTURE_ROUTE]  = {OP_ROUTE,         ACT_R,  {ACT_L}},
            [MIXTURE_INPUT]  = {OP_COUNT, .optional = true}, // never
            [MIXTURE_LATENT] = {OP_MATMUL,        ACT_EI, {ACT_H}},
            [MIXTURE_GATE]   = {OP_COUNT, .optional = true},
            [MIXTURE_UP]     = {OP_EXPERT_MATMUL, ACT_EU, {ACT_EI, ACT_R}},
            [MIXTURE_WEIGH]  = {OP_COUNT, .optional = true},
            [MIXTURE_GLU]    = {OP_ACTIVATION,    ACT_EF, {ACT_EU}},
            [MIXTURE_DOWN]   = {OP_EXPERT_MATMUL, ACT_EO, {ACT_EF, ACT_R}},
            [MIXTURE_SUM]    = {OP_EXPERT_SUM,    ACT_ES, {ACT_EO, ACT_R}},
            [MIXTURE_ADD]    = {OP_COUNT, .optional = true}}},
        {12, true, {
            [MIXTURE_NORM]   = {OP_RMS_NORM,      ACT_RH, {ACT_X}},
            [MIXTURE_ROUTER] = {OP_MATMUL,        ACT_L,  {ACT_RH}},
            [MIXTURE_ROUTE]  = {OP_ROUTE,         ACT_R,  {ACT_L}},
            [MIXTURE_INPUT]  = {OP_RMS_NORM,      ACT_H,  {ACT_X}},
            [MIXTURE_LATENT] = {OP_COUNT, .optional = true}, // never
            [MIXTURE_GATE]   = {OP_EXPERT_MATMUL, ACT_EG, {ACT_H, ACT_R}},
            [MIXTURE_UP]     = {OP_EXPERT_MATMUL, ACT_EU, {ACT_H, ACT_R}},
            [MIXTURE_WEIGH]  = {OP_COUNT, .optional = true},
            [MIXTURE_GLU]    = {OP_GLU,           ACT_EF, {ACT_EG, ACT_EU}},
            [MIXTURE_DOWN]   = {OP_EXPERT_MATMUL, ACT_EO, {ACT_EF, ACT_R}},
            [MIXTURE_SUM]    = {OP_EXPERT_SUM,    ACT_M,  {ACT_EO, ACT_R}},
            [MIXTURE_ADD]    = {OP_RMS_NORM,      ACT_M,  {ACT_M}}}}},
    .parts = {
        {&batch_route, MIXTURE_ROUTE, BODY_ANY, false},
        {&batch_latent_in, MIXTURE_LATENT, BODY_FEW, true},
        {&batch_latent_in_many, MIXTURE_LATENT, BODY_TOGETHER, true},
        {&batch_group, MIXTURE_ROUTE, BODY_TOGETHER, false},
        {&batch_experts_glu, MIXTURE_GLU, BODY_ANY, false},
        {&batch_experts_glu_many, MIXTURE_GLU, BODY_TOGETHER, false},
        {&batch_experts_down, MIXTURE_DOWN, BODY_ANY, false},
        {&batch_experts_down_many, MIXTURE_DOWN, BODY_TOGETHER, false},
        {&batch_experts_sum, MIXTURE_SUM, BODY_TOGETHER, false}},
    .link = link_experts,
    .check = check_experts,
};

// Experts that are narrower than the residual stream: what makes their sum as wide.
const BatchBlock batch_block_latent_out = {
    .patterns = {
        {2, false, {
            [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {ACT_ES}},
            [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}}}}},
    .parts = {
        {&batch_latent_sum, OUTPUT_MATMUL, BODY_ANY, false},
        {&batch_latent_out, OUTPUT_MATMUL, BODY_FEW, false},
        {&batch_latent_out_many, OUTPUT_MATMUL, BODY_TOGETHER, false}},
    .link = batch_links_none,
    .check = batch_takes_all,
};
// clang-format on

// ---- SHARE: of a shared expert; its neighbours do it ----

static bool link_share(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    bool fits = before && before->block == &batch_block_experts && after && after->block == &batch_block_down;
    return fits || batch_refuse(err, s);
}

// `route` takes the sigmoid of a product, as one row more of the router; `down` multiplies by it.
const BatchBlock batch_block_share = {
    .patterns = {{1, false, {[SHARE_SHARE] = {OP_SHARE, ACT_F, {ACT_F, ACT_H}}}}},
    .link = link_share,
    .check = batch_takes_all,
};
