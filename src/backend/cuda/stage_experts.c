// The products of a mixture of experts: gate and up of those that the router chose, their down and its
// weighted sum. A prompt's rows have them in slots, in the order of their experts (stage_route.c).
#include "backend/cuda/lower_internal.h"

enum {
    EXPERTS_USED_MAX = 16,
    DOWN_RING_LEAST = 12 << 10,
    DOWN_ROWS = 2,        // side by side share what they are multiplied with; 1 cost 4 to 12% of the stage
    EXPERTS_PIECES = 2,   // of a warp's ring, so that 12 warps have whole rows: 6% of gate and up
    SLOT_UNIT = 8,        // an expert's slots begin at multiples of it (prefill_group.cuh)
    SLOTS_MULTIPLE = 256, // of every tile
};

// ---- what they take ----

static bool link_experts_glu(const Lowering *l, Stage *s, const Stage *before, const Stage *after,
                             Error *err) {
    (void)l, (void)after;
    s->router = before;
    return (before && before->type == &stage_route) ||
           error_set(err, ERR_UNSUPPORTED, "layer %u has no router before its experts", s->layer);
}

static bool link_experts_down(const Lowering *l, Stage *s, const Stage *before, const Stage *after,
                              Error *err) {
    (void)l, (void)after;
    if (!before || before->type != &stage_experts_glu) return lower_refuse_stage(err, s);
    s->router = before->router;
    return true;
}

// How many experts a row uses.
static uint32_t n_used(const Stage *s) {
    return s->router->ops[ROUTE_ROUTE]->n_used;
}

static bool check_experts_glu(const Lowering *l, const Stage *s, Error *err) {
    const Weight *gate = s->ops[EXPERTS_GATE]->weight, *up = s->ops[EXPERTS_UP]->weight;
    (void)l;
    if (n_used(s) > EXPERTS_USED_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "%u experts a token cannot be run on the GPU: at most %d",
                         n_used(s), EXPERTS_USED_MAX);
    }
    return gate->dtype == up->dtype ||
           error_set(err, ERR_UNSUPPORTED,
                     "tensor \"%.*s\" cannot be run on the GPU yet: gate has another format",
                     STR_ARG(up->name));
}

// The activations that a block holds, and two pieces of weights a warp.
static bool check_experts_down(const Lowering *l, const Stage *s, Error *err) {
    const Weight *down = s->ops[EXPERTS_DOWN]->weight;
    uint64_t held = activation_bytes(n_used(s) * down->n_cols, &down, 1);
    if (held + DOWN_RING_LEAST <= l->target->shared_bytes_block) return true;
    return error_set(err, ERR_UNSUPPORTED,
                     "%u experts of %llu values a token need more shared memory than this GPU has: %u bytes",
                     n_used(s), (unsigned long long)down->n_cols, l->target->shared_bytes_block);
}

// ---- the slots of a prompt's rows ----

// The tile of the experts' products: for wgmma one of 128 slots, about what an expert has of a few hundred
// rows; the usual one of older GPUs.
typedef struct {
    uint32_t tile_tokens, warps, ring_bytes;
} ExpertTileShape;

static ExpertTileShape tile_shape(const LowerTarget *t) {
    return t->sm >= 90 ? (ExpertTileShape){128, 8, 192 << 10} : (ExpertTileShape){64, 4, 48 << 10};
}

uint32_t experts_tile_tokens(const LowerTarget *t) {
    return tile_shape(t).tile_tokens;
}

LowerExperts experts_sizes(const LowerTarget *t, const Stage *router, uint32_t max_rows) {
    uint32_t n_experts = router->ops[ROUTE_MATMUL]->out_width, used = router->ops[ROUTE_ROUTE]->n_used;
    uint32_t tile = tile_shape(t).tile_tokens, choices = max_rows * used;
    // A tile reads past the slots of its expert, and the last one past all.
    uint64_t slots = (uint64_t)choices + (SLOT_UNIT - 1) * n_experts + tile;
    uint64_t tiles = choices / tile + n_experts; // each expert's last one may be almost empty
    return (LowerExperts){(uint32_t)align_up(slots, SLOTS_MULTIPLE),
                          (uint32_t)min_u64(tiles, (uint64_t)n_experts * div_up(max_rows, tile))};
}

static void define_slots(StrBuf *b, const Lowering *l, const Stage *s) {
    LowerExperts sizes = experts_sizes(l->target, s->router, l->max_rows);
    ExpertTileShape shape = tile_shape(l->target);
    define(b, "EXPERT_TILES", sizes.tiles);
    define(b, "MAX_ROWS", sizes.slots);
    define(b, "TILE_TOKENS", shape.tile_tokens);
    define(b, "WARPS", shape.warps);
    define(b, "RING_BYTES", shape.ring_bytes);
}

// ---- gate and up ----

// What decoding and prefill have in common.
static void define_gate_up(StrBuf *b, const Stage *s) {
    const Op *gate = s->ops[EXPERTS_GATE], *up = s->ops[EXPERTS_UP];
    define_experts(b, s->router);
    define(b, "D_MODEL", gate->weight->n_cols);
    define(b, "D_FF", gate->weight->n_rows);
    define_activation(b, s->ops[EXPERTS_GLU]->fn);
    define_format(b, "FORMAT_0", gate->weight);
    if (gate->bias || up->bias) define(b, "HAS_BIAS", 1);
}

static void define_experts_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w = s->ops[EXPERTS_GATE]->weight;
    MatvecShape shape = matvec_shape(l->target, &s->type->matvec, (uint32_t)w->n_cols,
                                     n_used(s) * (uint32_t)w->n_rows, 2, &w, 1);
    define(b, "STAGE_EXPERTS_GLU", 1);
    define(b, "PIECES", EXPERTS_PIECES);
    define_gate_up(b, s);
    define_float(b, "NORM_EPS", s->router->ops[ROUTE_NORM]->norm.eps);
    define_matvec(b, &shape);
}

static void bind_experts_glu(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    const Op *gate = s->ops[EXPERTS_GATE], *up = s->ops[EXPERTS_UP];
    (void)row;
    out->experts_glu = (ExpertsGluArgs){.x = b->x,
                                        .norm = weight_of(b, s->router->ops[ROUTE_NORM]),
                                        .logits = b->route,
                                        .weight = {weight_of(b, gate), weight_of(b, up)},
                                        .bias = {bias_of(b, gate), bias_of(b, up)},
                                        .out = b->f};
}

// clang-format off
const StageType stage_experts_glu = {
    .kernel = "decode_experts_glu",
    .name = "experts' gate up",
    .files = {FILES_MATVEC, "decode_norm.cuh", "expert_choice.cuh", "activate.cuh", "decode_experts_glu.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = {
        {3, false, {
            [EXPERTS_GATE] = {OP_EXPERT_MATMUL, ACT_EG, {ACT_H, ACT_R}},
            [EXPERTS_UP]   = {OP_EXPERT_MATMUL, ACT_EU, {ACT_H, ACT_R}},
            [EXPERTS_GLU]  = {OP_GLU,           ACT_EF, {ACT_EG, ACT_EU}}}}},
    .prompt = {{&stage_prefill_experts_glu, EXPERTS_GATE, false}},
    .matvec = {true, 16, 12, 2},
    .link = link_experts_glu,
    .check = check_experts_glu,
    .define = define_experts_glu,
    .bind = bind_experts_glu,
    .results = stage_shows_none,
};
// clang-format on

static void define_prefill_experts_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_EXPERTS_GLU", 1);
    define_gate_up(b, s);
    define_slots(b, l, s);
}

static void bind_prefill_experts_glu(const Stage *s, const StageBuffers *b, const StageRow *row,
                                     StageArgs *out) {
    const Op *gate = s->ops[EXPERTS_GATE], *up = s->ops[EXPERTS_UP];
    (void)row;
    out->prefill_experts_glu = (PrefillExpertsGluArgs){.tiles = b->tiles,
                                                       .in = b->slots_h,
                                                       .weight = {weight_of(b, gate), weight_of(b, up)},
                                                       .bias = {bias_of(b, gate), bias_of(b, up)},
                                                       .out = b->slots_f};
}

const StageType stage_prefill_experts_glu = {
    .kernel = "prefill_experts_glu",
    .name = "experts' gate up",
    .files = {FILES_MATMUL, "activate.cuh", "prefill_glu_units.cuh", "prefill_experts.cuh",
              "prefill_experts_glu.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_experts_glu,
    .bind = bind_prefill_experts_glu,
    .results = stage_shows_none,
};

// ---- down ----

static void define_experts_down(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w = s->ops[EXPERTS_DOWN]->weight;
    MatvecShape shape = matvec_shape(l->target, &s->type->matvec, n_used(s) * (uint32_t)w->n_cols,
                                     (uint32_t)div_up(w->n_rows, DOWN_ROWS), DOWN_ROWS, &w, 1);
    define(b, "STAGE_EXPERTS_DOWN", 1);
    define_experts(b, s->router);
    define(b, "D_MODEL", w->n_rows);
    define(b, "D_FF", w->n_cols);
    define_format(b, "FORMAT_0", w);
    define(b, "ROWS", DOWN_ROWS);
    define(b, "PIECES", EXPERTS_PIECES);
    define_matvec(b, &shape);
}

static void bind_experts_down(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->experts_down = (ExpertsDownArgs){.logits = b->route,
                                          .in = b->f,
                                          .weight = weight_of(b, s->ops[EXPERTS_DOWN]),
                                          .bias = bias_of(b, s->ops[EXPERTS_DOWN]),
                                          .x = b->x};
}

static uint32_t experts_down_results(const Stage *s, const StageBuffers *b,
                                     StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[EXPERTS_ADD], RESULT_ROWS, b->x, s->ops[EXPERTS_ADD]->out_width, 1};
    return 1;
}

// clang-format off
const StageType stage_experts_down = {
    .kernel = "decode_experts_down",
    .name = "experts' down",
    .files = {FILES_MATVEC, "expert_choice.cuh", "decode_experts_down.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = {
        {3, false, {
            [EXPERTS_DOWN] = {OP_EXPERT_MATMUL, ACT_EO, {ACT_EF, ACT_R}},
            [EXPERTS_SUM]  = {OP_EXPERT_SUM,    ACT_T,  {ACT_EO, ACT_R}},
            [EXPERTS_ADD]  = {OP_ADD,           ACT_X,  {ACT_X, ACT_T}}}}},
    .prompt = {
        {&stage_prefill_experts_down, EXPERTS_DOWN, true},
        {&stage_prefill_experts_sum, EXPERTS_SUM, false}},
    .matvec = {false, 16, 12, DOWN_ROWS},
    .link = link_experts_down,
    .check = check_experts_down,
    .define = define_experts_down,
    .bind = bind_experts_down,
    .results = experts_down_results,
};
// clang-format on

static void define_prefill_experts_down(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w = s->ops[EXPERTS_DOWN]->weight;
    define(b, "STAGE_PREFILL_EXPERTS_DOWN", 1);
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define_format(b, "FORMAT_0", w);
    define_slots(b, l, s);
}

static void bind_prefill_experts_down(const Stage *s, const StageBuffers *b, const StageRow *row,
                                      StageArgs *out) {
    (void)row;
    out->prefill_experts_down = (PrefillExpertsDownArgs){.tiles = b->tiles,
                                                         .in = b->slots_f,
                                                         .weight = weight_of(b, s->ops[EXPERTS_DOWN]),
                                                         .bias = bias_of(b, s->ops[EXPERTS_DOWN]),
                                                         .out = b->slots_out};
}

const StageType stage_prefill_experts_down = {
    .kernel = "prefill_experts_down",
    .name = "experts' down",
    .files = {FILES_MATMUL, "prefill_experts.cuh", "prefill_experts_down.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_experts_down,
    .bind = bind_prefill_experts_down,
    .results = stage_shows_none,
};

static void define_prefill_experts_sum(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_EXPERTS_SUM", 1);
    define(b, "D_MODEL", s->ops[EXPERTS_SUM]->out_width);
    define(b, "N_USED", n_used(s));
    define(b, "MAX_ROWS", l->max_rows);
}

static void bind_prefill_experts_sum(const Stage *s, const StageBuffers *b, const StageRow *row,
                                     StageArgs *out) {
    (void)s, (void)row;
    out->prefill_experts_sum = (PrefillExpertsSumArgs){
        .span = b->span, .choice = b->rows_choice, .slot = b->rows_slot, .in = b->slots_out, .x = b->rows_x};
}

static uint32_t prefill_experts_sum_results(const Stage *s, const StageBuffers *b,
                                            StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[EXPERTS_ADD], RESULT_ROWS, b->rows_x, s->ops[EXPERTS_ADD]->out_width, 1};
    return 1;
}

const StageType stage_prefill_experts_sum = {
    .kernel = "prefill_experts_sum",
    .name = "sum of experts",
    .files = {FILES_COMMON, "prefill_experts_sum.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_experts_sum,
    .bind = bind_prefill_experts_sum,
    .results = prefill_experts_sum_results,
};
