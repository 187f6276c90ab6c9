// Stages of batches behind the layers: the head, for the rows whose logits are wanted, and what draws a token
// from them.
#include "backend/cuda/batch_lower_internal.h"

// ---- HEAD ----

// Of its weights in the L2 from one step to the next, which other weights pass through. (0.5B, one row: a
// step of 333 µs → 328.)
enum { HEAD_KEPT_BYTES = 36 << 20 };

static ProductSize head_size(const Op *head) {
    const BatchStage s = {.block = &batch_block_head, .ops = {[HEAD_HEAD] = head}};
    return batch_product_size(&s);
}

uint32_t batch_head_blocks(const BatchLowering *l, const Op *head) {
    ProductSize size = head_size(head);
    uint32_t blocks = l->size.body & BODY_FEW ? product_blocks_few(l->target, &size, l->size.max_rows)
                                              : product_blocks_many(l->target, &size, l->size.max_rows);
    l->out->head_blocks_max = (uint32_t)max_u64(l->out->head_blocks_max, blocks);
    return blocks;
}

static void define_head(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *head = s->ops[HEAD_HEAD];
    ProductSize size = head_size(head);
    define(b, "STAGE_HEAD", 1);
    define(b, "D_MODEL", head->weight->n_cols);
    define(b, "N_VOCAB", head->weight->n_rows);
    define_format(b, "FORMAT_0", head->weight);
    if (head->head.scale != 1) define_float(b, "LOGIT_SCALE", head->head.scale);
    define_cap(b, head->head.cap);
    batch_define_norm_input(b, l, s, s->ops[HEAD_NORM]);
    batch_define_product(b, l, &size);
    if (l->size.body & BODY_FEW) define(b, "KEPT_BYTES", HEAD_KEPT_BYTES / batch_head_blocks(l, head));
}

static void bind_head(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->product = batch_product_args(s, b, s->ops[HEAD_NORM], b->h);
    out->product.weight[0] = batch_weight_of(b, s->ops[HEAD_HEAD]);
    out->product.bias[0] = batch_bias_of(b, s->ops[HEAD_HEAD]);
    out->product.out = b->logits;
    out->product.best = b->best;
}

static uint32_t head_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[HEAD_HEAD], RESULT_ROWS, b->logits, s->ops[HEAD_HEAD]->out_width, 1, 0};
    return 1;
}

const BatchType batch_head = {
    .kernel = "head",
    .name = "head",
    .files = {FILES_FEW, "logits.cuh", "soft_cap.cuh", "head.cuh"},
    .cost = 60,
    .reads = READS_ALL,
    .define = define_head,
    .bind = bind_head,
    .results = head_results,
};

const BatchType batch_head_many = {
    .kernel = "head",
    .name = "head of many",
    .files = {FILES_MANY, "logits.cuh", "soft_cap.cuh", "head.cuh"},
    .cost = 70,
    .reads = READS_ALL,
    .define = define_head,
    .bind = bind_head,
    .results = head_results,
};

// clang-format off
// A prompt's rows go through the head of the smallest class.
const BatchBlock batch_block_head = {
    .patterns = {
        {2, false, {
            [HEAD_NORM] = {OP_RMS_NORM, ACT_H,    {ACT_X}, .is_norm = true},
            [HEAD_HEAD] = {OP_HEAD,     ACT_NONE, {ACT_H}}}}},
    .parts = {
        {&batch_norm_of_logits, HEAD_NORM, BODY_EIGHT | BODY_MANY, true},
        {&batch_head, HEAD_HEAD, BODY_FEW, false},
        {&batch_head_many, HEAD_HEAD, BODY_MANY, false}},
    .is_head = true,
    .link = batch_links_none,
    .check = batch_takes_all,
};
// clang-format on

// ---- ADJUST, GREEDY, RANK, SAMPLE, LOGPROBS ----

enum {
    DRAW_LOGITS_WANTED = 4096, // a block at least: with 1,024 each, one row took a fifth longer
    DRAW_BLOCKS_LEAST = 4,     // of a row
};
static_assert((int)SAMPLE_BIAS_MAX == (int)LOGIT_BIAS_MAX, "as the sampler has");
static_assert((int)SAMPLE_LOGPROBS_MAX == (int)LOGPROBS_MAX, "as the sampler has");

// What all have.
static void define_draw(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define(b, "N_VOCAB", s->head->weight->n_rows);
    define(b, "HEAD_BLOCKS", batch_head_blocks(l, s->head));
}

// Blocks a row, so that the rows' together are about two a multiprocessor.
static uint64_t row_blocks(const BatchLowering *l, const BatchStage *s) {
    uint64_t wanted = 2ull * l->target->multiprocessors / l->size.max_rows;
    uint64_t most = max_u64(div_up(s->head->weight->n_rows, DRAW_LOGITS_WANTED), DRAW_BLOCKS_LEAST);
    return max_u64(min_u64(wanted, most), DRAW_BLOCKS_LEAST);
}

static void define_adjust(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define_draw(b, l, s);
    define(b, "ADJUST_BLOCKS", row_blocks(l, s));
}

static void define_sample(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define_draw(b, l, s);
    define(b, "DRAW_BLOCKS", row_blocks(l, s));
}

static void define_logprobs(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    define_draw(b, l, s);
    define(b, "LOGPROBS_BLOCKS", row_blocks(l, s));
}

static void bind_draw(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    (void)s;
    out->draw = (DrawArgs){.batch = b->batch,
                           .rows = b->rows,
                           .slots = b->slots,
                           .logits_rows = b->logits_rows,
                           .logits = b->logits,
                           .best = b->best,
                           .adjusted = b->adjusted,
                           .adjusted_best = b->adjusted_best,
                           .scratch = b->scratch};
}

const BatchType batch_adjust = {
    .kernel = "draw_adjust",
    .name = "mask, bias, penalties",
    .files = {FILES_COMMON, "logits.cuh", "draws.cuh", "draw_adjust.cuh"},
    .cost = COST_USUAL,
    .needed_for = NEED_ADJUSTED,
    .define = define_adjust,
    .bind = bind_draw,
    .results = batch_shows_none,
};

const BatchType batch_greedy = {
    .kernel = "draw_greedy",
    .name = "greedy",
    .files = {FILES_COMMON, "logits.cuh", "draws.cuh", "draw_greedy.cuh"},
    .cost = COST_USUAL,
    .needed_for = NEED_GREEDY,
    .define = define_draw,
    .bind = bind_draw,
    .results = batch_shows_none, // a token is seen by the caller
};

const BatchType batch_rank = {
    .kernel = "draw_rank",
    .name = "ranks for sampling",
    .files = {FILES_COMMON, "logits.cuh", "draws.cuh", "draw_rank.cuh"},
    .cost = COST_USUAL,
    .needed_for = NEED_SAMPLED,
    .define = define_sample,
    .bind = bind_draw,
    .results = batch_shows_none,
};

const BatchType batch_sample = {
    .kernel = "draw_sample",
    .name = "sampling",
    .files = {FILES_COMMON, "logits.cuh", "draws.cuh", "draw_sample.cuh"},
    .cost = 89,
    .needed_for = NEED_SAMPLED,
    .define = define_sample,
    .bind = bind_draw,
    .results = batch_shows_none,
};

const BatchType batch_logprobs = {
    .kernel = "draw_logprobs",
    .name = "log-probabilities",
    .files = {FILES_COMMON, "logits.cuh", "draws.cuh", "draw_logprobs.cuh"},
    .cost = COST_USUAL,
    .needed_for = NEED_LOGPROBS,
    .define = define_logprobs,
    .bind = bind_draw,
    .results = batch_shows_none,
};
