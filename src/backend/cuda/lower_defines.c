// How each stage is shaped for a GPU, and the #defines that say so to its kernel.
#include "backend/cuda/lower_internal.h"

const char *lower_activation_name(ActFn fn) {
    static const char *const names[] = {[FN_SILU] = "SILU",
                                        [FN_GELU_TANH] = "GELU_TANH",
                                        [FN_GELU_ERF] = "GELU_ERF",
                                        [FN_SWIGLU_CLAMPED] = "SWIGLU_CLAMPED"};
    return names[fn];
}

// ---- shapes ----

// How the rows of a stage's matrices are spread over the GPU and through shared memory.
typedef struct {
    uint32_t blocks;
    uint32_t warps;
    uint32_t ring_bytes;
    uint32_t shared_bytes_min; // of a block, whatever it uses
} MatvecShape;

// Stages that follow each other take turns in having most of a multiprocessor's shared memory, and the rest
// of it, so that a block of each fits and two of the one that has most never do. (Where both have half, two
// blocks of a stage take the place of two that ended there, and each stage runs on half of the
// multiprocessors: 12 to 15% of a step on an H100.)
// Warps: where all of a block's weights fit its ring, many shorten what is left to do when the input comes;
// more than a stream needs only keep other blocks away (registers). Beside attention there should be room for
// the stage before and the one after it: 16 warps for those cost 3 to 6%. Down makes the most activations.
static const struct {
    bool most;
    uint8_t warps_resident;
    uint8_t warps_streaming;
} matvec_stages[STAGE_KIND_COUNT] = {
    // clang-format off
    [STAGE_QKV]          = {true,  8,  8},
    [STAGE_OUTPUT]       = {false, 8,  8},
    [STAGE_GLU]          = {true,  16, 8},
    [STAGE_DOWN]         = {false, 16, 16},
    [STAGE_EXPERTS_GLU]  = {true,  16, 12},
    [STAGE_EXPERTS_DOWN] = {false, 16, 12},
    [STAGE_HEAD]         = {true,  8,  8},
    // clang-format on
};

enum {
    BLOCK_SHARED_RESERVED = 1024, // the system's, of each block
    RING_SPARE = 1536,            // barriers, sums, what a stage adds
    RING_BYTES_MAX = 96 << 10,    // 64 KB cost 3% on the layers of a 1B model, more does not fit twice
    X_BLOCK_BYTES = 72,           // activations.cuh: 32 values in two bytes each, their scale and sum
    UNITS_PER_WARP_MAX = 32,
    ATTENTION_WARPS = 8, // with splits of at least 8 pages; 4 and 4 cost 15% of attention and its output
    SAMPLE_BLOCKS_WANTED = 64,
    SAMPLE_LOGITS_WANTED = 4000, // a block, where there are enough multiprocessors
    SAMPLE_LOGIT_BYTES = 12,     // of a logit's key and weight: sample_full.cuh
    SAMPLE_SHARED_TAKEN = 12 * SAMPLE_BINS + 1024,
    PREFILL_SHARED_SPARE = 8 << 10, // what a product of prefill takes beside its ring, at most
};

// What blocks of a stage may have of a multiprocessor's shared memory; `min` is what they take at least.
static uint32_t shared_budget(const LowerTarget *t, bool most, uint32_t *min) {
    *min = 0;
    if (t->sm < 90) return t->shared_bytes_block;
    uint32_t larger = t->shared_bytes_multiprocessor / 2; // twice, with what is reserved, is too much
    uint32_t smaller = t->shared_bytes_multiprocessor - larger - 2 * BLOCK_SHARED_RESERVED;
    if (larger > t->shared_bytes_block) return t->shared_bytes_block;
    *min = most ? larger : smaller / 2;
    return most ? larger : smaller;
}

uint64_t lower_activation_bytes(uint64_t n_cols, const Weight *const *weights, uint32_t n_weights) {
    bool has_floats = false, has_integers = false;
    for (uint32_t i = 0; i < n_weights; i++) {
        if (FORMAT_IS_FLOAT((int)weights[i]->dtype)) has_floats = true;
        else has_integers = true;
    }
    return (has_integers ? n_cols / BLOCK_WEIGHTS * X_BLOCK_BYTES : 0) + (has_floats ? n_cols * 4ull : 0);
}

// A warp's ring holds at least two pieces, each a tile of every row of a unit.
static uint64_t pieces_bytes(uint32_t n_cols, uint32_t unit_rows, const Weight *const *weights,
                             uint32_t n_weights) {
    uint32_t blocks = (uint32_t)min_u64(n_cols / BLOCK_WEIGHTS, TILE_BLOCKS);
    uint64_t tile_bytes = 0;
    for (uint32_t i = 0; i < n_weights; i++)
        tile_bytes = max_u64(tile_bytes, layout_tile_bytes((int)weights[i]->dtype, blocks));
    return 2 * unit_rows * tile_bytes + 16;
}

// Two blocks of consecutive stages share a multiprocessor where the second may begin before the first has
// ended (sm_90); but a row that needs more than its share has a multiprocessor to itself.
static MatvecShape matvec_shape(const LowerTarget *t, StageKind kind, uint32_t n_cols, uint32_t units,
                                uint32_t unit_rows, const Weight *const *weights, uint32_t n_weights) {
    uint64_t row_bytes = 0, pieces = pieces_bytes(n_cols, unit_rows, weights, n_weights);
    for (uint32_t i = 0; i < n_weights; i++)
        row_bytes = max_u64(row_bytes, layout_row_bytes((int)weights[i]->dtype, n_cols));
    uint64_t taken = lower_activation_bytes(n_cols, weights, n_weights) + RING_SPARE;
    MatvecShape shape = {.blocks = t->multiprocessors};
    uint64_t budget = shared_budget(t, matvec_stages[kind].most, &shape.shared_bytes_min);
    if (taken + align_up(pieces, 1024) > budget) {
        budget = t->shared_bytes_block;
        shape.shared_bytes_min = 0;
    }
    shape.ring_bytes = (uint32_t)min_u64(budget > taken ? budget - taken : 0, RING_BYTES_MAX) / 1024 * 1024;
    bool streams = (uint64_t)units * unit_rows * row_bytes > (uint64_t)shape.ring_bytes * shape.blocks;
    shape.warps = streams ? matvec_stages[kind].warps_streaming : matvec_stages[kind].warps_resident;
    while (shape.warps > 1 && shape.ring_bytes / shape.warps < pieces)
        shape.warps /= 2;
    uint32_t units_max = shape.warps * UNITS_PER_WARP_MAX;
    shape.blocks *= (uint32_t)max_u64(div_up(units, (uint64_t)shape.blocks * units_max), 1);
    return shape;
}

static bool units_fit(const LowerTarget *t, const Weight *w, uint32_t unit_rows) {
    uint32_t n_cols = (uint32_t)w->n_cols;
    uint64_t pieces = align_up(pieces_bytes(n_cols, unit_rows, &w, 1), 1024);
    return lower_activation_bytes(n_cols, &w, 1) + RING_SPARE + pieces <= t->shared_bytes_block;
}

bool lower_matvec_fits(const LowerTarget *t, StageKind kind, const Weight *w) {
    bool is_output = kind == STAGE_OUTPUT || kind == STAGE_DOWN;
    return units_fit(t, w, is_output ? 1 : kind == STAGE_HEAD ? 4 : 2);
}

// The tile of a product that a block of prefill computes: 16 rows of weights a warp, tile_tokens tokens.
typedef struct {
    uint32_t tile_tokens;
    uint32_t warps;
    uint32_t ring_bytes;
    uint32_t blocks_per_multiprocessor;
} PrefillShape;

// Tiles for wgmma, the best first where there are enough of them (measured: kernels_src/README.md), and the
// one for all older GPUs.
static const PrefillShape prefill_tiles[] = {
    {256, 8, 192 << 10, 1}, {128, 8, 192 << 10, 1}, {64, 4, 64 << 10, 2}};
static const PrefillShape prefill_tile_before_sm_90 = {64, 4, 48 << 10, 1};

// The largest tile that fits and leaves at most 3 of 10 multiprocessors without work at 512 rows, else the
// smallest. `units` are runs of 16 rows of the stage's weights.
static PrefillShape prefill_shape(const LowerTarget *t, uint32_t units) {
    if (t->sm < 90) return prefill_tile_before_sm_90;
    const PrefillShape *tile = prefill_tiles, *last = &prefill_tiles[COUNT_OF(prefill_tiles) - 1];
    for (; tile < last; tile++) {
        uint64_t blocks = div_up(units, tile->warps) * div_up(512, tile->tile_tokens);
        bool fits = tile->ring_bytes + PREFILL_SHARED_SPARE <= t->shared_bytes_block;
        if (fits && 10 * blocks >= 7ull * t->multiprocessors) break;
    }
    return *tile;
}

// ---- decoding ----

static void define_shape(StrBuf *b, const MatvecShape *shape) {
    define(b, "BLOCKS", shape->blocks);
    define(b, "WARPS", shape->warps);
    define(b, "RING_BYTES", shape->ring_bytes);
    define(b, "SHARED_BYTES_MIN", shape->shared_bytes_min);
}

void lower_define_matvec(StrBuf *b, const Lowering *l, StageKind kind, uint32_t n_cols, uint32_t units,
                         uint32_t unit_rows, const Weight *weight) {
    MatvecShape shape = matvec_shape(l->target, kind, n_cols, units, unit_rows, &weight, 1);
    define_shape(b, &shape);
}

static void define_heads(StrBuf *b, const Lowering *l) {
    define(b, "N_HEADS", l->plan->config.n_heads);
    define(b, "HEAD_DIM", l->plan->config.head_dim);
}

static void define_norm(StrBuf *b, const Op *norm) {
    define_float(b, "NORM_EPS", norm->norm.eps);
    if (norm->kind == OP_LAYER_NORM) define(b, "LAYER_NORM", 1);
}

static void define_activation(StrBuf *b, const Stage *s) {
    strbuf_printf(b, "#define ACTIVATION ACTIVATION_%s\n", lower_activation_name(s->ops[GLU_GLU]->fn));
}

static void define_embed(StrBuf *b, const Stage *s) {
    define_format(b, "EMBED_FORMAT", s->ops[QKV_EMBED]->weight);
    define_float(b, "EMBED_SCALE", s->ops[QKV_EMBED]->embed.scale);
    if (s->ops[QKV_POSITION]) define(b, "LEARNED_POSITIONS", 1);
}

static void define_splits(StrBuf *b, const Lowering *l, const Op *attention) {
    define(b, "SPLITS_MAX", l->splits_max);
    define(b, "SPLIT_PAGES_MIN", LOWER_SPLIT_PAGES_MIN);
    define(b, "WINDOW", attention->attention.window);
}

// Of scores and of logits.
static void define_cap(StrBuf *b, float cap) {
    if (cap > 0) define_float(b, "SOFT_CAP", cap);
}

// The attention that a stage prepares or ends.
static const Op *attention_near(const Lowering *l, const Stage *s) {
    uint32_t i = s->kind == STAGE_OUTPUT ? s->first_op - 1 : s->first_op + s->n_ops;
    const Op *op = i < l->plan->n_ops ? &l->plan->ops[i] : NULL;
    return op && op->kind == OP_ATTENTION ? op : NULL;
}

// What is done with queries and keys on their way to attention. `attention` is NULL where it is left to a
// stage of its own.
static void define_turns(StrBuf *b, const Stage *s, const Op *attention) {
    const Rope *rope = stage_rope(s, false);
    define(b, "ROPE_DIMS", rope ? rope->dims : 0);
    define(b, "ROPE_HALVES", rope && rope->pairs == ROPE_HALVES);
    define_float(b, "ROPE_SCALE", rope ? rope->scale : 1);
    define_float(b, "SCORE_SCALE", attention ? attention->attention.scale : 1);
}

// What decoding and prefill have in common.
static void define_projections(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    define(b, "D_MODEL", l->plan->config.d_model);
    define_heads(b, l);
    define(b, "N_KV_HEADS", l->plan->config.n_kv_heads);
    define_turns(b, s, attention);
    if (stage_is_raw(s)) define(b, "RAW", 1);
    define_format(b, "FORMAT_0", s->ops[QKV_Q]->weight);
    define_format(b, "FORMAT_1", s->ops[QKV_K]->weight);
    define_format(b, "FORMAT_2", s->ops[QKV_V]->weight);
}

static void define_qkv(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    const ModelConfig *c = &l->plan->config;
    const Weight *w[3] = {s->ops[QKV_Q]->weight, s->ops[QKV_K]->weight, s->ops[QKV_V]->weight};
    uint32_t units = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim / 2;
    MatvecShape shape = matvec_shape(l->target, STAGE_QKV, c->d_model, units, 2, w, 3);
    define(b, "STAGE_QKV", 1);
    define_projections(b, l, s, attention);
    define_norm(b, s->ops[QKV_NORM]);
    if (s->ops[QKV_EMBED]) {
        define(b, "FIRST", 1);
        define_embed(b, s);
    }
    define_shape(b, &shape);
}

// Of decoding and of prefill.
static void define_heads_stage(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    define(b, "STAGE_HEADS", 1);
    define_heads(b, l);
    define(b, "N_KV_HEADS", l->plan->config.n_kv_heads);
    define_turns(b, s, attention);
    define_norm(b, s->ops[HEADS_NORM_Q]);
    if (s->kind == STAGE_PREFILL_HEADS) define(b, "MAX_ROWS", l->max_rows);
}

static void define_post_norm(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_POST_NORM", 1);
    define(b, "D_MODEL", l->plan->config.d_model);
    define_norm(b, s->ops[POST_NORM_NORM]);
    if (s->kind == STAGE_PREFILL_POST_NORM) define(b, "MAX_ROWS", l->max_rows);
}

// What a block of attention keeps in shared memory a warp and head is a result, the largest score, a sum.
static uint32_t attention_warps(const Lowering *l) {
    const ModelConfig *c = &l->plan->config;
    uint64_t heads = align_up(c->n_heads / c->n_kv_heads, 8), warps = ATTENTION_WARPS;
    while (warps > 1 && warps * heads * (c->head_dim + 6) * sizeof(float) > l->target->shared_bytes_block)
        warps /= 2;
    return (uint32_t)warps;
}

static void define_attention(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_ATTENTION", 1);
    define_heads(b, l);
    define(b, "N_KV_HEADS", l->plan->config.n_kv_heads);
    define(b, "WARPS", attention_warps(l));
    define_splits(b, l, s->ops[ATTENTION_ATTENTION]);
    define_cap(b, s->ops[ATTENTION_ATTENTION]->attention.cap);
}

// Rows of a unit. Two of down share the activations that a lane has loaded: 2 to 4% of a step, where a block
// has enough rows for its warps.
static uint32_t output_rows(const LowerTarget *t, StageKind kind, const Weight *w) {
    return kind == STAGE_DOWN && w->n_rows >= 8 * t->multiprocessors && units_fit(t, w, 2) ? 2 : 1;
}

static void define_output(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    const Weight *w = s->ops[OUTPUT_MATMUL]->weight;
    uint32_t rows = output_rows(l->target, s->kind, w);
    uint32_t units = (uint32_t)div_up(w->n_rows, rows);
    MatvecShape shape = matvec_shape(l->target, s->kind, (uint32_t)w->n_cols, units, rows, &w, 1);
    uint64_t block_bytes = placement_bytes(l->placement, w) / shape.blocks;
    define(b, "STAGE_OUTPUT", 1);
    if (attention) {
        define(b, "FROM_ATTENTION", 1);
        define_heads(b, l);
        define_splits(b, l, attention);
        if (attention->weight) define(b, "HAS_SINKS", 1);
        // Gate and up of a large model begin to stream when they are let go, and all that attention and this
        // stage load comes late: 4% of a step of an 8B model. Smaller ones need the time for fetching.
        if (block_bytes > shape.ring_bytes / 2) define(b, "LAUNCH_AFTER_WAIT", 1);
    }
    if (stage_is_raw(s)) define(b, "RAW", 1);
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define(b, "ROWS", rows);
    define_format(b, "FORMAT_0", w);
    define_shape(b, &shape);
}

// What decoding and prefill have in common.
static void define_feed_forward(StrBuf *b, const Lowering *l, const Stage *s) {
    const Op *gate = s->ops[GLU_GATE], *up = s->ops[GLU_UP];
    define(b, "D_MODEL", l->plan->config.d_model);
    define(b, "D_FF", l->plan->config.d_ff);
    if (!gate) define(b, "UNGATED", 1);
    if ((gate && gate->bias) || up->bias) define(b, "HAS_BIAS", 1);
    define_activation(b, s);
    define_format(b, "FORMAT_0", gate ? gate->weight : up->weight);
    if (!gate || gate->weight->dtype == up->weight->dtype) return;
    define(b, "ROW_FORMATS", 1);
    define_format(b, "FORMAT_1", up->weight);
}

static void define_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    const Op *gate = s->ops[GLU_GATE], *up = s->ops[GLU_UP];
    const Weight *w[2] = {up->weight, gate ? gate->weight : up->weight};
    MatvecShape shape = matvec_shape(l->target, STAGE_GLU, c->d_model, c->d_ff, gate ? 2 : 1, w, 2);
    define(b, "STAGE_GLU", 1);
    define_feed_forward(b, l, s);
    define_norm(b, s->ops[GLU_NORM]);
    define_shape(b, &shape);
}

static void define_head(StrBuf *b, Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    const Weight *w = s->ops[HEAD_HEAD]->weight;
    MatvecShape shape = matvec_shape(l->target, STAGE_HEAD, c->d_model, 0, 4, &w, 1);
    l->head_blocks = shape.blocks;
    define(b, "STAGE_HEAD", 1);
    define(b, "D_MODEL", c->d_model);
    define(b, "N_VOCAB", c->n_vocab);
    define_norm(b, s->ops[HEAD_NORM]);
    define_cap(b, s->ops[HEAD_HEAD]->head.cap);
    define_format(b, "FORMAT_0", w);
    define_shape(b, &shape);
}

// ---- prefill ----

static void define_matmul(StrBuf *b, const Lowering *l, uint32_t units) {
    PrefillShape shape = prefill_shape(l->target, units);
    define(b, "MAX_ROWS", l->max_rows);
    define(b, "TILE_TOKENS", shape.tile_tokens);
    define(b, "WARPS", shape.warps);
    define(b, "RING_BYTES", shape.ring_bytes);
    define(b, "BLOCKS_PER_SM", shape.blocks_per_multiprocessor);
}

// Stages that work on rows and have no matrix.
static void define_prefill_rows(StrBuf *b, const Lowering *l, const Stage *s) {
    const Op *op = s->ops[0];
    define(b, "MAX_ROWS", l->max_rows);
    switch (s->kind) {
    case STAGE_PREFILL_EMBED:
        define(b, "STAGE_PREFILL_EMBED", 1);
        define(b, "D_MODEL", l->plan->config.d_model);
        define_embed(b, s);
        break;
    case STAGE_PREFILL_ROPE:
        define(b, "STAGE_PREFILL_ROPE", 1);
        define(b, "ROPE_DIMS", op->rope.rope->dims);
        define_float(b, "ROPE_SCALE", op->rope.rope->scale);
        break;
    case STAGE_PREFILL_NORM:
        define(b, "STAGE_PREFILL_NORM", 1);
        define(b, "D_MODEL", l->plan->config.d_model);
        define_norm(b, op);
        break;
    default:
        define(b, "STAGE_PREFILL_ATTENTION", 1);
        if (op->weight) define(b, "HAS_SINKS", 1);
        define_heads(b, l);
        define(b, "N_KV_HEADS", l->plan->config.n_kv_heads);
        define(b, "WINDOW", op->attention.window);
        define_cap(b, op->attention.cap);
    }
}

static void define_prefill_qkv(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    const ModelConfig *c = &l->plan->config;
    define(b, "STAGE_PREFILL_QKV", 1);
    define_projections(b, l, s, attention);
    define_matmul(b, l, (c->n_heads + 2 * c->n_kv_heads) * c->head_dim / 16);
}

static void define_prefill_output(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w = s->ops[OUTPUT_MATMUL]->weight;
    define(b, "STAGE_PREFILL_OUTPUT", 1);
    if (s->kind == STAGE_PREFILL_DOWN) define(b, "FROM_GLU", 1);
    if (stage_is_raw(s)) define(b, "RAW", 1);
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define_format(b, "FORMAT_0", w);
    define_matmul(b, l, (uint32_t)div_up(w->n_rows, 16));
}

static void define_prefill_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    uint32_t d_ff = l->plan->config.d_ff;
    define(b, "STAGE_PREFILL_GLU", 1);
    define_feed_forward(b, l, s);
    define_matmul(b, l, (uint32_t)div_up(d_ff, s->ops[GLU_GATE] ? 8 : 16));
}

// ---- any stage ----

// The blocks that draw a token wait for each other, so they must be on the GPU at once: one a multiprocessor
// at most, which any has room for.
static_assert(SAMPLE_SHARED_TAKEN <= 48 << 10, "the least that a block of any GPU may have");

static uint64_t sample_blocks(const LowerTarget *t, uint32_t n_vocab) {
    uint64_t wanted = max_u64(SAMPLE_BLOCKS_WANTED, div_up(n_vocab, SAMPLE_LOGITS_WANTED));
    return min_u64(min_u64(wanted, t->multiprocessors), SAMPLE_BLOCKS_MAX);
}

static void define_sample(StrBuf *b, const Lowering *l) {
    const LowerTarget *t = l->target;
    uint32_t n_vocab = l->plan->config.n_vocab;
    uint64_t blocks = sample_blocks(t, n_vocab), part = div_up(n_vocab, blocks);
    define(b, "N_VOCAB", n_vocab);
    define(b, "HEAD_BLOCKS", l->head_blocks);
    define(b, "SAMPLE_BLOCKS", blocks);
    // 40 multiprocessors of 64 KB hold 133,000 logits; those of larger vocabularies are read in each round.
    define(b, "LOGITS_HELD", part * SAMPLE_LOGIT_BYTES + SAMPLE_SHARED_TAKEN <= t->shared_bytes_block);
}

bool lower_define(StrBuf *b, Lowering *l, const Stage *s, Error *err) {
    const Op *attention = attention_near(l, s);
    bool is_qkv = s->kind == STAGE_QKV || s->kind == STAGE_PREFILL_QKV;
    bool is_heads = s->kind == STAGE_HEADS || s->kind == STAGE_PREFILL_HEADS;
    bool needs_attention = (is_qkv && !stage_is_raw(s)) || is_heads || s->kind == STAGE_OUTPUT;
    if (needs_attention && !attention) {
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                         s->layer);
    }
    switch (s->kind) {
    case STAGE_QKV: define_qkv(b, l, s, attention); break;
    case STAGE_HEADS:
    case STAGE_PREFILL_HEADS: define_heads_stage(b, l, s, attention); break;
    case STAGE_ATTENTION: define_attention(b, l, s); break;
    case STAGE_OUTPUT: define_output(b, l, s, attention); break;
    case STAGE_GLU: define_glu(b, l, s); break;
    case STAGE_DOWN: define_output(b, l, s, NULL); break;
    case STAGE_POST_NORM:
    case STAGE_PREFILL_POST_NORM: define_post_norm(b, l, s); break;
    case STAGE_HEAD: define_head(b, l, s); break;
    case STAGE_GREEDY: define(b, "HEAD_BLOCKS", l->head_blocks); break;
    case STAGE_SAMPLE: define_sample(b, l); break;
    case STAGE_PREFILL_EMBED:
    case STAGE_PREFILL_ROPE:
    case STAGE_PREFILL_NORM:
    case STAGE_PREFILL_ATTENTION: define_prefill_rows(b, l, s); break;
    case STAGE_PREFILL_QKV: define_prefill_qkv(b, l, s, attention); break;
    case STAGE_PREFILL_OUTPUT:
    case STAGE_PREFILL_DOWN: define_prefill_output(b, l, s); break;
    case STAGE_PREFILL_GLU: define_prefill_glu(b, l, s); break;
    default: lower_define_experts(b, l, s);
    }
    return true;
}
