// The stages of mixtures of experts: what they take, their #defines, and their arguments.
#include "backend/cuda/lower_internal.h"

enum {
    EXPERTS_USED_MAX = 16,
    DOWN_RING_LEAST = 12 << 10,
    DOWN_ROWS = 2,        // side by side share what they are multiplied with; 1 cost 4 to 12% of the stage
    EXPERTS_PIECES = 2,   // of a warp's ring, so that 12 warps have whole rows: 6% of gate and up
    SLOT_UNIT = 8,        // an expert's slots begin at multiples of it (prefill_group.cuh)
    SLOTS_MULTIPLE = 256, // of every tile
    ROUTE_ROWS_MAX = 8,   // of a block of prefill_route
    ROUTE_SHARED_SPARE = 256, // beside rows and logits
    GROUP_EXPERTS_MANY = 64,  // whose counts a block of eight warps cannot hold everywhere
};

// ---- what they take ----

// A stage's operation so many before its first one.
static const Op *op_before(const Lowering *l, const Stage *s, uint32_t n) {
    return s->first_op >= n ? &l->plan->ops[s->first_op - n] : NULL;
}

// The norm of what the experts of a STAGE_EXPERTS_GLU are given: the router's.
static const Op *norm_of_experts(const Op *gate) {
    return gate - (ROUTE_ROUTE - ROUTE_NORM + 1);
}

// The activations that a block holds, and two pieces of weights a warp.
static bool check_down(const Lowering *l, const Stage *s, Error *err) {
    const ModelConfig *c = &l->plan->config;
    const Weight *down = s->ops[EXPERTS_DOWN]->weight;
    uint64_t held = lower_activation_bytes((uint64_t)c->n_experts_used * c->d_ff_expert, &down, 1);
    if (held + DOWN_RING_LEAST <= l->target->shared_bytes_block) return true;
    return error_set(err, ERR_UNSUPPORTED,
                     "%u experts of %u values a token need more shared memory than this GPU has: %u bytes",
                     c->n_experts_used, c->d_ff_expert, l->target->shared_bytes_block);
}

bool lower_check_experts(const Lowering *l, const Stage *s, Error *err) {
    const ModelConfig *c = &l->plan->config;
    if (c->n_experts_used > EXPERTS_USED_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "%u experts a token cannot be run on the GPU: at most %d",
                         c->n_experts_used, EXPERTS_USED_MAX);
    }
    if (s->kind == STAGE_EXPERTS_DOWN) return check_down(l, s, err);
    if (s->kind != STAGE_EXPERTS_GLU) return true;
    const Op *route = op_before(l, s, 1), *gate = s->ops[EXPERTS_GATE], *up = s->ops[EXPERTS_UP];
    if (!route || route->kind != OP_ROUTE)
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no router before its experts", s->layer);
    if (gate->weight->dtype == up->weight->dtype) return true;
    return error_set(err, ERR_UNSUPPORTED,
                     "tensor \"%.*s\" cannot be run on the GPU yet: gate has another format",
                     STR_ARG(up->weight->name));
}

// ---- shapes ----

// The tile of the experts' products: for wgmma one of 128 slots, about what an expert has of a few hundred
// rows; the usual one of older GPUs.
typedef struct {
    uint32_t tile_tokens, warps, ring_bytes;
} ExpertShape;

static ExpertShape expert_shape(const LowerTarget *t) {
    return t->sm >= 90 ? (ExpertShape){128, 8, 192 << 10} : (ExpertShape){64, 4, 48 << 10};
}

LowerExperts lower_experts_sizes(const ModelConfig *c, const LowerTarget *target, uint32_t max_rows) {
    if (c->n_experts == 0) return (LowerExperts){0};
    uint32_t tile = expert_shape(target).tile_tokens, choices = max_rows * c->n_experts_used;
    // A tile reads past the slots of its expert, and the last one past all.
    uint64_t slots = (uint64_t)choices + (SLOT_UNIT - 1) * c->n_experts + tile;
    uint64_t tiles = choices / tile + c->n_experts; // each expert's last one may be almost empty
    return (LowerExperts){(uint32_t)align_up(slots, SLOTS_MULTIPLE),
                          (uint32_t)min_u64(tiles, (uint64_t)c->n_experts * div_up(max_rows, tile))};
}

// As many rows as a block's shared memory has room for.
static uint32_t route_rows(const Lowering *l) {
    const ModelConfig *c = &l->plan->config;
    uint32_t rows = ROUTE_ROWS_MAX;
    while (rows > 1 && rows * (c->d_model + c->n_experts) * sizeof(float) + ROUTE_SHARED_SPARE >
                           l->target->shared_bytes_block)
        rows /= 2;
    return rows;
}

// ---- defines ----

static void define_choice(StrBuf *b, const Lowering *l) {
    define(b, "N_EXPERTS", l->plan->config.n_experts);
    define(b, "N_USED", l->plan->config.n_experts_used);
}

static void define_route(StrBuf *b, const Lowering *l, const Stage *s) {
    define_choice(b, l);
    define(b, "D_MODEL", l->plan->config.d_model);
    define_float(b, "NORM_EPS", s->ops[ROUTE_NORM]->norm.eps);
    define_format(b, "FORMAT_0", s->ops[ROUTE_MATMUL]->weight);
}

static void define_experts_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    define_choice(b, l);
    define(b, "D_MODEL", c->d_model);
    define(b, "D_FF", c->d_ff_expert);
    strbuf_printf(b, "#define ACTIVATION ACTIVATION_%s\n", lower_activation_name(s->ops[EXPERTS_GLU]->fn));
    define_format(b, "FORMAT_0", s->ops[EXPERTS_GATE]->weight);
    if (s->ops[EXPERTS_GATE]->bias || s->ops[EXPERTS_UP]->bias) define(b, "HAS_BIAS", 1);
}

// Of the products with slots.
static void define_slots(StrBuf *b, const Lowering *l) {
    LowerExperts sizes = lower_experts_sizes(&l->plan->config, l->target, l->max_rows);
    ExpertShape shape = expert_shape(l->target);
    define(b, "EXPERT_TILES", sizes.tiles);
    define(b, "MAX_ROWS", sizes.slots);
    define(b, "TILE_TOKENS", shape.tile_tokens);
    define(b, "WARPS", shape.warps);
    define(b, "RING_BYTES", shape.ring_bytes);
}

static void define_decode(StrBuf *b, const Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    switch (s->kind) {
    case STAGE_ROUTE:
        define(b, "STAGE_ROUTE", 1);
        define_route(b, l, s);
        break;
    case STAGE_EXPERTS_GLU:
        define(b, "STAGE_EXPERTS_GLU", 1);
        define(b, "PIECES", EXPERTS_PIECES);
        define_experts_glu(b, l, s);
        define_float(b, "NORM_EPS", norm_of_experts(s->ops[EXPERTS_GATE])->norm.eps);
        lower_define_matvec(b, l, s->kind, c->d_model, c->n_experts_used * c->d_ff_expert, 2,
                            s->ops[EXPERTS_GATE]->weight);
        break;
    default:
        define(b, "STAGE_EXPERTS_DOWN", 1);
        define_choice(b, l);
        define(b, "D_MODEL", c->d_model);
        define(b, "D_FF", c->d_ff_expert);
        define_format(b, "FORMAT_0", s->ops[EXPERTS_DOWN]->weight);
        define(b, "ROWS", DOWN_ROWS);
        define(b, "PIECES", EXPERTS_PIECES);
        lower_define_matvec(b, l, s->kind, c->n_experts_used * c->d_ff_expert,
                            (uint32_t)div_up(c->d_model, DOWN_ROWS), DOWN_ROWS, s->ops[EXPERTS_DOWN]->weight);
    }
}

static void define_group(StrBuf *b, const Lowering *l) {
    define(b, "STAGE_PREFILL_GROUP", 1);
    define_choice(b, l);
    define(b, "GROUP_WARPS", l->plan->config.n_experts > GROUP_EXPERTS_MANY ? 4 : 8);
    define(b, "TILE_TOKENS", expert_shape(l->target).tile_tokens);
    define(b, "EXPERT_TILES", lower_experts_sizes(&l->plan->config, l->target, l->max_rows).tiles);
}

void lower_define_experts(StrBuf *b, const Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    switch (s->kind) {
    case STAGE_PREFILL_ROUTE:
        define(b, "STAGE_PREFILL_ROUTE", 1);
        define_route(b, l, s);
        define(b, "ROUTE_ROWS", route_rows(l));
        define(b, "MAX_ROWS", l->max_rows);
        break;
    case STAGE_PREFILL_GROUP: define_group(b, l); break;
    case STAGE_PREFILL_GATHER:
        define(b, "STAGE_PREFILL_GATHER", 1);
        define(b, "D_MODEL", c->d_model);
        define(b, "N_USED", c->n_experts_used);
        define(b, "CHUNK_ROWS", l->max_rows);
        define(b, "MAX_ROWS", lower_experts_sizes(c, l->target, l->max_rows).slots);
        break;
    case STAGE_PREFILL_EXPERTS_GLU:
        define(b, "STAGE_PREFILL_EXPERTS_GLU", 1);
        define_experts_glu(b, l, s);
        define_slots(b, l);
        break;
    case STAGE_PREFILL_EXPERTS_DOWN:
        define(b, "STAGE_PREFILL_EXPERTS_DOWN", 1);
        define(b, "N_ROWS", c->d_model);
        define(b, "N_COLS", c->d_ff_expert);
        define_format(b, "FORMAT_0", s->ops[EXPERTS_DOWN]->weight);
        define_slots(b, l);
        break;
    case STAGE_PREFILL_EXPERTS_SUM:
        define(b, "STAGE_PREFILL_EXPERTS_SUM", 1);
        define(b, "D_MODEL", c->d_model);
        define(b, "N_USED", c->n_experts_used);
        define(b, "MAX_ROWS", l->max_rows);
        break;
    default: define_decode(b, l, s);
    }
}

// ---- arguments ----

static CUdeviceptr address_of(const StageBuffers *b, const Weight *w) {
    return w ? b->weights + placement_offset(b->placement, w) : 0;
}

static void bind_decode(const Stage *s, const StageBuffers *b, StageArgs *out) {
    const Op *const *ops = s->ops;
    switch (s->kind) {
    case STAGE_ROUTE:
        out->route = (RouteArgs){.x = b->x,
                                 .norm = address_of(b, ops[ROUTE_NORM]->weight),
                                 .weight = address_of(b, ops[ROUTE_MATMUL]->weight),
                                 .bias = address_of(b, ops[ROUTE_MATMUL]->bias),
                                 .logits = b->route};
        break;
    case STAGE_EXPERTS_GLU:
        out->experts_glu = (ExpertsGluArgs){
            .x = b->x,
            .norm = address_of(b, norm_of_experts(ops[EXPERTS_GATE])->weight),
            .logits = b->route,
            .weight = {address_of(b, ops[EXPERTS_GATE]->weight), address_of(b, ops[EXPERTS_UP]->weight)},
            .bias = {address_of(b, ops[EXPERTS_GATE]->bias), address_of(b, ops[EXPERTS_UP]->bias)},
            .out = b->f};
        break;
    default:
        out->experts_down = (ExpertsDownArgs){.logits = b->route,
                                              .in = b->f,
                                              .weight = address_of(b, ops[EXPERTS_DOWN]->weight),
                                              .bias = address_of(b, ops[EXPERTS_DOWN]->bias),
                                              .x = b->x};
    }
}

void stage_bind_experts(const Stage *s, const StageBuffers *b, StageArgs *out) {
    const Op *const *ops = s->ops;
    switch (s->kind) {
    case STAGE_PREFILL_ROUTE:
        out->prefill_route = (PrefillRouteArgs){.chunk = b->chunk,
                                                .x = b->rows_x,
                                                .norm = address_of(b, ops[ROUTE_NORM]->weight),
                                                .weight = address_of(b, ops[ROUTE_MATMUL]->weight),
                                                .bias = address_of(b, ops[ROUTE_MATMUL]->bias),
                                                .choice = b->rows_choice,
                                                .factor = b->rows_factor};
        break;
    case STAGE_PREFILL_GROUP:
        out->prefill_group = (PrefillGroupArgs){
            .chunk = b->chunk, .choice = b->rows_choice, .slot = b->rows_slot, .tiles = b->tiles};
        break;
    case STAGE_PREFILL_GATHER:
        out->prefill_gather = (PrefillGatherArgs){.chunk = b->chunk,
                                                  .x = b->rows_x,
                                                  .norm = address_of(b, ops[ROUTE_NORM]->weight),
                                                  .factor = b->rows_factor,
                                                  .slot = b->rows_slot,
                                                  .out = b->slots_h};
        break;
    case STAGE_PREFILL_EXPERTS_GLU:
        out->prefill_experts_glu = (PrefillExpertsGluArgs){
            .tiles = b->tiles,
            .in = b->slots_h,
            .weight = {address_of(b, ops[EXPERTS_GATE]->weight), address_of(b, ops[EXPERTS_UP]->weight)},
            .bias = {address_of(b, ops[EXPERTS_GATE]->bias), address_of(b, ops[EXPERTS_UP]->bias)},
            .out = b->slots_f};
        break;
    case STAGE_PREFILL_EXPERTS_DOWN:
        out->prefill_experts_down =
            (PrefillExpertsDownArgs){.tiles = b->tiles,
                                     .in = b->slots_f,
                                     .weight = address_of(b, ops[EXPERTS_DOWN]->weight),
                                     .bias = address_of(b, ops[EXPERTS_DOWN]->bias),
                                     .out = b->slots_out};
        break;
    case STAGE_PREFILL_EXPERTS_SUM:
        out->prefill_experts_sum = (PrefillExpertsSumArgs){.chunk = b->chunk,
                                                           .choice = b->rows_choice,
                                                           .slot = b->rows_slot,
                                                           .in = b->slots_out,
                                                           .x = b->rows_x};
        break;
    default: bind_decode(s, b, out);
    }
}
