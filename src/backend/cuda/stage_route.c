// The router of a mixture of experts; of a prompt's rows, also which slot of which expert's run each row
// gets, and their norms in that order.
#include "backend/cuda/lower_internal.h"

enum {
    ROUTE_ROWS_MAX = 8,       // of a block of prefill_route
    ROUTE_SHARED_SPARE = 256, // beside rows and logits
    GROUP_EXPERTS_MANY = 64,  // whose counts a block of eight warps cannot hold everywhere
};

static uint32_t n_experts(const Stage *router) {
    return router->ops[ROUTE_MATMUL]->out_width;
}

static uint32_t d_model(const Stage *router) {
    return router->ops[ROUTE_NORM]->out_width;
}

void define_experts(StrBuf *b, const Stage *router) {
    define(b, "N_EXPERTS", n_experts(router));
    define(b, "N_USED", router->ops[ROUTE_ROUTE]->n_used);
}

// What decoding and prefill have in common.
static void define_router(StrBuf *b, const Stage *s) {
    define_experts(b, s);
    define(b, "D_MODEL", d_model(s));
    define_float(b, "NORM_EPS", s->ops[ROUTE_NORM]->norm.eps);
    define_format(b, "FORMAT_0", s->ops[ROUTE_MATMUL]->weight);
}

// ---- decoding ----

static void define_route(StrBuf *b, const Lowering *l, const Stage *s) {
    (void)l;
    define(b, "STAGE_ROUTE", 1);
    define_router(b, s);
}

static void bind_route(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->route = (RouteArgs){.x = b->x,
                             .norm = weight_of(b, s->ops[ROUTE_NORM]),
                             .weight = weight_of(b, s->ops[ROUTE_MATMUL]),
                             .bias = bias_of(b, s->ops[ROUTE_MATMUL]),
                             .logits = b->route};
}

// clang-format off
const StageType stage_route = {
    .kernel = "decode_route",
    .name = "norm, router",
    .files = {FILES_COMMON, "formats.cuh", "decode_route.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = {
        {3, false, {
            [ROUTE_NORM]   = {OP_RMS_NORM, ACT_H, {ACT_X}},
            [ROUTE_MATMUL] = {OP_MATMUL,   ACT_L, {ACT_H}},
            [ROUTE_ROUTE]  = {OP_ROUTE,    ACT_R, {ACT_L}}}}},
    .prompt = {
        {&stage_prefill_route, ROUTE_NORM, false},
        {&stage_prefill_group, ROUTE_ROUTE, false},
        {&stage_prefill_gather, ROUTE_NORM, false}},
    .link = stage_links_none,
    .check = stage_takes_all,
    .define = define_route,
    .bind = bind_route,
    .results = stage_shows_none,
};
// clang-format on

// ---- prompts ----

// As many rows as a block's shared memory has room for.
static uint32_t route_rows(const LowerTarget *t, const Stage *s) {
    uint32_t rows = ROUTE_ROWS_MAX;
    while (rows > 1 &&
           rows * (d_model(s) + n_experts(s)) * sizeof(float) + ROUTE_SHARED_SPARE > t->shared_bytes_block)
        rows /= 2;
    return rows;
}

static void define_prefill_route(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_ROUTE", 1);
    define_router(b, s);
    define(b, "ROUTE_ROWS", route_rows(l->target, s));
    define(b, "MAX_ROWS", l->max_rows);
}

static void bind_prefill_route(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_route = (PrefillRouteArgs){.span = b->span,
                                            .x = b->rows_x,
                                            .norm = weight_of(b, s->ops[ROUTE_NORM]),
                                            .weight = weight_of(b, s->ops[ROUTE_MATMUL]),
                                            .bias = bias_of(b, s->ops[ROUTE_MATMUL]),
                                            .choice = b->rows_choice,
                                            .factor = b->rows_factor};
}

const StageType stage_prefill_route = {
    .kernel = "prefill_route",
    .name = "router",
    .files = {FILES_COMMON, "formats.cuh", "expert_choice.cuh", "prefill_route.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_route,
    .bind = bind_prefill_route,
    .results = stage_shows_none,
};

static void define_prefill_group(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_GROUP", 1);
    define_experts(b, s);
    define(b, "GROUP_WARPS", n_experts(s) > GROUP_EXPERTS_MANY ? 4 : 8);
    define(b, "TILE_TOKENS", experts_tile_tokens(l->target));
    define(b, "EXPERT_TILES", experts_sizes(l->target, s, l->max_rows).tiles);
}

static void bind_prefill_group(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)s, (void)row;
    out->prefill_group = (PrefillGroupArgs){
        .span = b->span, .choice = b->rows_choice, .slot = b->rows_slot, .tiles = b->tiles};
}

const StageType stage_prefill_group = {
    .kernel = "prefill_group",
    .name = "rows by expert",
    .files = {FILES_COMMON, "prefill_group.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_group,
    .bind = bind_prefill_group,
    .results = stage_shows_none,
};

static void define_prefill_gather(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_PREFILL_GATHER", 1);
    define(b, "D_MODEL", d_model(s));
    define(b, "N_USED", s->ops[ROUTE_ROUTE]->n_used);
    define(b, "CHUNK_ROWS", l->max_rows);
    define(b, "MAX_ROWS", experts_sizes(l->target, s, l->max_rows).slots);
}

static void bind_prefill_gather(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->prefill_gather = (PrefillGatherArgs){.span = b->span,
                                              .x = b->rows_x,
                                              .norm = weight_of(b, s->ops[ROUTE_NORM]),
                                              .factor = b->rows_factor,
                                              .slot = b->rows_slot,
                                              .out = b->slots_h};
}

const StageType stage_prefill_gather = {
    .kernel = "prefill_gather",
    .name = "experts' rows",
    .files = {FILES_COMMON, "prefill_gather.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_OF_PROMPTS,
    .is_needed = stage_always,
    .define = define_prefill_gather,
    .bind = bind_prefill_gather,
    .results = stage_shows_none,
};
