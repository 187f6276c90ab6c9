// The head, and what draws a token from its logits. A prompt's rows go through them one by one.
#include "backend/cuda/lower_internal.h"

// ---- HEAD ----

enum { HEAD_ROWS = 4 }; // of a unit

static MatvecShape head_shape(const LowerTarget *t, const Stage *head) {
    const Weight *w = head->ops[HEAD_HEAD]->weight;
    return matvec_shape(t, &head->type->matvec, (uint32_t)w->n_cols, 0, HEAD_ROWS, &w, 1);
}

uint32_t head_blocks(const LowerTarget *t, const Stage *head) {
    return head_shape(t, head).blocks;
}

static void define_head(StrBuf *b, const Lowering *l, const Stage *s) {
    const Weight *w = s->ops[HEAD_HEAD]->weight;
    MatvecShape shape = head_shape(l->target, s);
    define(b, "STAGE_HEAD", 1);
    define(b, "D_MODEL", w->n_cols);
    define(b, "N_VOCAB", w->n_rows);
    define_norm(b, s->ops[HEAD_NORM]);
    define_cap(b, s->ops[HEAD_HEAD]->head.cap);
    define_format(b, "FORMAT_0", w);
    define_matvec(b, &shape);
}

static void bind_head(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    out->head = (HeadArgs){.row = b->row,
                           .x = row->x,
                           .norm = weight_of(b, s->ops[HEAD_NORM]),
                           .norm_bias = bias_of(b, s->ops[HEAD_NORM]),
                           .weight = weight_of(b, s->ops[HEAD_HEAD]),
                           .bias = bias_of(b, s->ops[HEAD_HEAD]),
                           .logits = b->logits,
                           .best = b->best};
}

static uint32_t head_results(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    out[0] = (StageResult){s->ops[HEAD_HEAD], RESULT_ROWS, b->logits, s->ops[HEAD_HEAD]->out_width, 1};
    return 1;
}

// clang-format off
const StageType stage_head = {
    .kernel = "decode_head",
    .name = "norm, head",
    .files = {FILES_MATVEC, "decode_norm.cuh", "logits.cuh", "soft_cap.cuh", "decode_head.cuh"},
    .cost = 60,
    .rows = ROWS_WITH_LOGITS,
    .patterns = {
        {2, false, {
            [HEAD_NORM] = {OP_RMS_NORM, ACT_H,    {ACT_X}, .is_norm = true},
            [HEAD_HEAD] = {OP_HEAD,     ACT_NONE, {ACT_H}}}}},
    .matvec = {true, 8, 8, HEAD_ROWS},
    .link = stage_links_none,
    .check = stage_takes_all,
    .define = define_head,
    .bind = bind_head,
    .results = head_results,
};
// clang-format on

// ---- ADJUST, GREEDY, SAMPLE, LOGPROBS ----

enum {
    SAMPLE_BLOCKS_WANTED = 64,
    SAMPLE_LOGITS_WANTED = 4000, // a block, where there are enough multiprocessors
    SAMPLE_LOGIT_BYTES = 12,     // of a logit's key and weight: sample_full.cuh
    SAMPLE_SHARED_TAKEN = 12 * SAMPLE_BINS + 1024,
    LOGPROBS_LOGITS_WANTED = 4096, // a block: 32 KB of shared memory (sample_logprobs.cuh)
};
static_assert((int)SAMPLE_BIAS_MAX == (int)LOGIT_BIAS_MAX, "as the sampler has");
static_assert((int)SAMPLE_LOGPROBS_MAX == (int)LOGPROBS_MAX, "as the sampler has");
static_assert(VOCAB_MAX / LOGPROBS_LOGITS_WANTED <= SAMPLE_BLOCKS_MAX, "each block has its place");

// The blocks that draw a token wait for each other, so they must be on the GPU at once: one a multiprocessor
// at most, which any has room for.
static_assert(SAMPLE_SHARED_TAKEN <= 48 << 10, "the least that a block of any GPU may have");

static bool link_draw(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)l, (void)after, (void)err;
    s->head = before->type == &stage_head ? before : before->head; // which lower.c has made sure of
    return true;
}

static uint64_t sample_blocks(const LowerTarget *t, uint64_t n_vocab) {
    uint64_t wanted = max_u64(SAMPLE_BLOCKS_WANTED, div_up(n_vocab, SAMPLE_LOGITS_WANTED));
    return min_u64(min_u64(wanted, t->multiprocessors), SAMPLE_BLOCKS_MAX);
}

static void define_greedy(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "HEAD_BLOCKS", head_blocks(l->target, s->head));
}

static void define_sample(StrBuf *b, const Lowering *l, const Stage *s) {
    const LowerTarget *t = l->target;
    uint64_t n_vocab = s->head->ops[HEAD_HEAD]->weight->n_rows;
    uint64_t blocks = sample_blocks(t, n_vocab), part = div_up(n_vocab, blocks);
    define(b, "N_VOCAB", n_vocab);
    define(b, "HEAD_BLOCKS", head_blocks(t, s->head));
    define(b, "SAMPLE_BLOCKS", blocks);
    // 40 multiprocessors of 64 KB hold 133,000 logits; those of larger vocabularies are read in each round.
    define(b, "LOGITS_HELD", part * SAMPLE_LOGIT_BYTES + SAMPLE_SHARED_TAKEN <= t->shared_bytes_block);
}

static void bind_draw(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)s;
    out->sample = (SampleArgs){.row = b->row,
                               .logits = row->adjusted ? b->adjusted : b->logits,
                               .best = row->adjusted ? b->adjusted_best : b->best,
                               .scratch = b->sample_scratch};
}

static void define_adjust(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "N_VOCAB", s->head->ops[HEAD_HEAD]->weight->n_rows);
    define(b, "HEAD_BLOCKS", head_blocks(l->target, s->head));
}

static void define_logprobs(StrBuf *b, const Lowering *l, const Stage *s) {
    (void)l;
    uint64_t n_vocab = s->head->ops[HEAD_HEAD]->weight->n_rows;
    define(b, "N_VOCAB", n_vocab);
    // Blocks do not wait for each other, so there may be more of them than multiprocessors.
    uint64_t wanted = max_u64(SAMPLE_BLOCKS_WANTED, div_up(n_vocab, LOGPROBS_LOGITS_WANTED));
    define(b, "LOGPROBS_BLOCKS", min_u64(wanted, SAMPLE_BLOCKS_MAX));
}

static void bind_adjust(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)s;
    out->sample_adjust = (SampleAdjustArgs){.row = b->row,
                                            .rules = row->rules,
                                            .logits = b->logits,
                                            .out = b->adjusted,
                                            .best = b->adjusted_best};
}

static void bind_logprobs(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    (void)s;
    out->sample_logprobs = (SampleLogprobsArgs){.row = b->row,
                                                .rules = row->rules,
                                                .logits = b->logits,
                                                .scratch = b->logprobs_scratch,
                                                .out = row->logprobs};
}

const StageType stage_adjust = {
    .kernel = "sample_adjust",
    .name = "bias, penalties",
    .files = {FILES_COMMON, "logits.cuh", "sample_adjust.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_ADJUSTED,
    .link = link_draw,
    .check = stage_takes_all,
    .define = define_adjust,
    .bind = bind_adjust,
    .results = stage_shows_none,
};

const StageType stage_logprobs = {
    .kernel = "sample_logprobs",
    .name = "log-probabilities",
    .files = {FILES_COMMON, "logits.cuh", "sample_logprobs.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_LOGPROBS,
    .link = link_draw,
    .check = stage_takes_all,
    .define = define_logprobs,
    .bind = bind_logprobs,
    .results = stage_shows_none,
};

const StageType stage_greedy = {
    .kernel = "sample_greedy",
    .name = "greedy",
    .files = {FILES_COMMON, "logits.cuh", "sample_greedy.cuh"},
    .cost = COST_USUAL,
    .rows = ROWS_GREEDY,
    .link = link_draw,
    .check = stage_takes_all,
    .define = define_greedy,
    .bind = bind_draw,
    .results = stage_shows_none, // a token is seen by the caller
};

const StageType stage_sample = {
    .kernel = "sample_full",
    .name = "sampling",
    .files = {FILES_COMMON, "logits.cuh", "sample_full.cuh"},
    .cost = 89,
    .rows = ROWS_SAMPLED,
    .link = link_draw,
    .check = stage_takes_all,
    .define = define_sample,
    .bind = bind_draw,
    .results = stage_shows_none,
};
