// Attention of a token over the cache, in splits of its positions; of a prompt's rows, in tiles of them.
#include "backend/cuda/lower_internal.h"

enum {
    ATTENTION_DIM_MAX = 256, // of a head
    ATTENTION_WARPS = 8,     // with splits of at least 8 pages; 4 and 4 cost 15% of attention and its output
    SPLITS_MAX = 32,
    SPLITS_LEAST = 4,
};

uint32_t attention_splits_max(const LowerTarget *t, const Op *attention) {
    uint64_t splits = max_u64(t->multiprocessors / attention->attention.n_kv_heads, SPLITS_LEAST);
    return (uint32_t)min_u64(splits, SPLITS_MAX);
}

void define_heads(StrBuf *b, const Op *attention) {
    define(b, "N_HEADS", attention->attention.n_heads);
    define(b, "HEAD_DIM", attention->attention.key_dim);
}

void define_splits(StrBuf *b, const Stage *attention) {
    define(b, "SPLITS_MAX", attention->splits_max);
    define(b, "SPLIT_PAGES_MIN", LOWER_SPLIT_PAGES_MIN);
    define(b, "WINDOW", attention->ops[ATTENTION_ATTENTION]->attention.window);
}

void define_cap(StrBuf *b, float cap) {
    if (cap > 0) define_float(b, "SOFT_CAP", cap);
}

static bool link_attention(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)before, (void)after, (void)err;
    s->splits_max = attention_splits_max(l->target, s->ops[ATTENTION_ATTENTION]);
    return true;
}

static bool check_attention(const Lowering *l, const Stage *s, Error *err) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    uint32_t key_dim = op->attention.key_dim, value_dim = op->attention.value_dim;
    (void)l;
    if (key_dim % 16 || key_dim > ATTENTION_DIM_MAX) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "heads of %u values cannot be run on the GPU yet: a multiple of 16 up to %d is needed", key_dim,
            ATTENTION_DIM_MAX);
    }
    return key_dim == value_dim ||
           error_set(err, ERR_UNSUPPORTED,
                     "heads with keys of %u and values of %u values cannot be run on the GPU yet", key_dim,
                     value_dim);
}

// What a block of attention keeps in shared memory a warp and head is a result, the largest score, a sum.
static uint32_t attention_warps(const LowerTarget *t, const Op *op) {
    uint64_t heads = align_up(op->attention.n_heads / op->attention.n_kv_heads, 8), warps = ATTENTION_WARPS;
    uint64_t head_bytes = (op->attention.key_dim + 6) * sizeof(float);
    while (warps > 1 && warps * heads * head_bytes > t->shared_bytes_block)
        warps /= 2;
    return (uint32_t)warps;
}

static void define_attention(StrBuf *b, const Lowering *l, const Stage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    define(b, "STAGE_ATTENTION", 1);
    define_heads(b, op);
    define(b, "N_KV_HEADS", op->attention.n_kv_heads);
    define(b, "WARPS", attention_warps(l->target, op));
    define_splits(b, s);
    define_cap(b, op->attention.cap);
}

static void bind_attention(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)row;
    out->attention = (AttentionArgs){
        .row = b->row, .q = b->q, .kv = cache_of(b, s), .part = b->part, .part_weight = b->part_weight};
}

static uint32_t attention_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    out[0] = (StageResult){op, RESULT_SPLITS, b->part, op->out_width, 1};
    return 1;
}

const StageType stage_attention = {
    .kernel = "decode_attention",
    .name = "attention",
    .files = {FILES_COMMON, "formats.cuh", "attention_splits.cuh", "soft_cap.cuh", "kv_cache.cuh",
              "decode_attention.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ALL,
    .patterns = {{1, false, {[ATTENTION_ATTENTION] = {OP_ATTENTION, ACT_A, {ACT_Q}}}}},
    .prompt = {{&stage_prefill_attention, ATTENTION_ATTENTION, false}},
    .link = link_attention,
    .check = check_attention,
    .define = define_attention,
    .bind = bind_attention,
    .results = attention_results,
};

// ---- prompts ----

static void define_prefill_attention(StrBuf *b, const Lowering *l, const Stage *s) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    define(b, "MAX_ROWS", l->max_rows);
    define(b, "STAGE_PREFILL_ATTENTION", 1);
    if (op->weight) define(b, "HAS_SINKS", 1);
    define_heads(b, op);
    define(b, "N_KV_HEADS", op->attention.n_kv_heads);
    define(b, "WINDOW", op->attention.window);
    define_cap(b, op->attention.cap);
}

static void bind_prefill_attention(const Stage *s, const StageBuffers *b, const StageRow *row,
                                   StageArgs *out) {
    (void)row;
    out->prefill_attention = (PrefillAttentionArgs){.span = b->span,
                                                    .q = b->rows_q,
                                                    .kv = cache_of(b, s),
                                                    .sinks = weight_of(b, s->ops[ATTENTION_ATTENTION]),
                                                    .out = b->rows_a};
}

static uint32_t prefill_attention_results(const Stage *s, const StageBuffers *b,
                                          StageResult out[STAGE_RESULTS_MAX]) {
    const Op *op = s->ops[ATTENTION_ATTENTION];
    out[0] = (StageResult){op, RESULT_ACTIVATIONS, b->rows_a, op->out_width, 1};
    return 1;
}

const StageType stage_prefill_attention = {
    .kernel = "prefill_attention",
    .name = "attention",
    .files = {FILES_COMMON, "formats.cuh", "prefill_tiles.cuh", "soft_cap.cuh", "kv_cache.cuh",
              "prefill_attention.cuh"},
    .cost = 85,
    .rows = ROWS_OF_PROMPTS,
    .has_flops = true,
    .is_needed = stage_always,
    .define = define_prefill_attention,
    .bind = bind_prefill_attention,
    .results = prefill_attention_results,
};
