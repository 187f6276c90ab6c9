#include "batch_checks.h"

#if WORKER_ORCD_CUDA

#include "base/rng.h"
#include "runner.h"

#include <stdio.h>

enum { DRAWN_MAX = 64 };

// What a sequence drew: tokens, and of each the log-probabilities of the best.
typedef struct {
    int32_t tokens[DRAWN_MAX];
    TokenLogprobs logprobs[DRAWN_MAX];
} Drawn;

static void keep(const StepRun *run, Drawn *out, uint32_t i) {
    REQUIRE(run->n_tokens == 1 && run->logprobs != NULL);
    out->tokens[i] = run->tokens[0];
    out->logprobs[i] = (TokenLogprobs){0};
    out->logprobs[i].token = run->logprobs->token;
    out->logprobs[i].logprob = run->logprobs->logprob;
    out->logprobs[i].n_best = run->logprobs->n_best;
    for (uint32_t k = 0; k < run->logprobs->n_best; k++)
        out->logprobs[i].best[k] = run->logprobs->best[k];
}

// Draws a token for each of some slots in every step, n_drawn in all, behind prompts that are there.
static void draw(const ModelPair *p, const uint32_t *slots, const uint32_t *lengths, uint32_t n_slots,
                 uint32_t n_drawn, Drawn *const *out) {
    for (uint32_t i = 1; i < n_drawn; i++) {
        StepSequence q[PAIR_SLOTS_MAX];
        StepResult r;
        Error err = {0};
        for (uint32_t s = 0; s < n_slots; s++) {
            q[s] = (StepSequence){.slot = slots[s],
                                  .mode = STEP_DECODE,
                                  .position = lengths[s] + i - 1,
                                  .n_rows = 1,
                                  .pages = p->pages[slots[s]],
                                  .list_pages = p->list_pages,
                                  .n_draws = 1};
        }
        bool ok = p->gpu->step(p->gpu, &(Step){.sequences = q, .n_sequences = n_slots}, &err) &&
                  p->gpu->read(p->gpu, &r, &err);
        if (!ok) FAIL("%s", err.message);
        REQUIRE(ok && r.n_runs == n_slots);
        for (uint32_t s = 0; s < n_slots; s++)
            keep(&r.runs[s], out[s], i);
    }
}

static void run_prompt(const ModelPair *p, uint32_t slot, const SamplerParams *params, const int32_t *prompt,
                       uint32_t length, Drawn *out) {
    model_begin(p->gpu, slot, params, prompt, length);
    StepResult r = model_run(p, p->gpu, slot, prompt, 0, length, true, 0);
    keep(&r.runs[0], out, 0);
}

// Texts that begin with parts of one prompt, each in a slot, and what each draws alone and together.
typedef struct {
    uint32_t n, n_drawn;
    const int32_t *prompt;
    uint32_t slots[PAIR_SLOTS_MAX], lengths[PAIR_SLOTS_MAX]; // of the prompts
    SamplerParams params[PAIR_SLOTS_MAX];
    Drawn *alone[PAIR_SLOTS_MAX], *together[PAIR_SLOTS_MAX];
} Texts;

// Draws each of them alone.
static Texts *texts_begin(ModelPair *p, Arena *scratch, const SamplerParams *params, uint32_t n_params,
                          const int32_t *prompt, uint32_t n_prompt, uint32_t n_drawn, uint32_t n) {
    Texts *t = arena_new(scratch, Texts, 1);
    REQUIRE(t && n <= p->n_slots && n_drawn <= DRAWN_MAX && n_prompt > 2 * n);
    t->n = n;
    t->n_drawn = n_drawn;
    t->prompt = prompt;
    for (uint32_t s = 0; s < n; s++) {
        t->slots[s] = s;
        t->lengths[s] = n_prompt - 2 * s;
        t->alone[s] = arena_new(scratch, Drawn, 1);
        t->together[s] = arena_new(scratch, Drawn, 1);
        REQUIRE(t->alone[s] && t->together[s]);
        t->params[s] = params[s % n_params];
        t->params[s].seed += s;
        t->params[s].logprobs = true;
        t->params[s].n_logprobs = LOGPROBS_MAX;
        run_prompt(p, s, &t->params[s], prompt, t->lengths[s], t->alone[s]);
        draw(p, &t->slots[s], &t->lengths[s], 1, n_drawn, &t->alone[s]);
    }
    return t;
}

static void texts_compare(const Texts *t, const char *how) {
    for (uint32_t s = 0; s < t->n; s++) {
        TEST_CASE_LABEL("%u %s, that of slot %u, temperature %g", t->n, how, s,
                        (double)t->params[s].temperature);
        CHECK_BYTES_EQ(t->alone[s], sizeof *t->alone[s], t->together[s], sizeof *t->together[s]);
    }
    TEST_CASE_LABEL("%s", "");
}

void batch_check_together(ModelPair *p, const SamplerParams *params, uint32_t n_params, const int32_t *prompt,
                          uint32_t n_prompt, uint32_t n_drawn, uint32_t n_together) {
    Arena scratch = p->arena;
    Texts *t = texts_begin(p, &scratch, params, n_params, prompt, n_prompt, n_drawn, n_together);
    for (uint32_t s = 0; s < n_together; s++)
        run_prompt(p, s, &t->params[s], prompt, t->lengths[s], t->together[s]);
    draw(p, t->slots, t->lengths, n_together, n_drawn, t->together);
    texts_compare(t, "rows together");
}

// The next part of a text: some of its prompt, or a draw. False: it has drawn all. at: rows that it has sent.
static bool next_part(const ModelPair *p, const Texts *t, uint32_t s, uint32_t at, uint32_t chunk,
                      StepSequence *out) {
    bool draws = at >= t->lengths[s];
    uint32_t left = draws ? 1 : t->lengths[s] - at, n = (uint32_t)min_u64(chunk, left);
    *out = (StepSequence){.slot = s,
                          .mode = draws ? STEP_DECODE : STEP_PROMPT,
                          .position = at,
                          .n_rows = draws ? 1 : n,
                          .tokens = draws ? NULL : t->prompt + at,
                          .pages = p->pages[s],
                          .list_pages = p->list_pages,
                          .n_draws = draws || n == left};
    return at + 1 < t->lengths[s] + t->n_drawn;
}

// Reads a step; n_drawn: tokens that each text has drawn.
static void read_mixed(const ModelPair *p, const Texts *t, uint32_t *n_drawn) {
    StepResult r;
    Error err = {0};
    bool ok = p->gpu->read(p->gpu, &r, &err);
    if (!ok) FAIL("%s", err.message);
    for (uint32_t i = 0; ok && i < r.n_runs; i++) {
        uint32_t s = r.runs[i].slot;
        REQUIRE(n_drawn[s] < t->n_drawn);
        keep(&r.runs[i], t->together[s], n_drawn[s]++);
    }
}

void batch_check_mixed(ModelPair *p, const SamplerParams *params, uint32_t n_params, const int32_t *prompt,
                       uint32_t n_prompt, uint32_t n_drawn, uint32_t n_texts) {
    static const uint32_t chunks[] = {17, 1, 3, 70, 8, 33, 2};
    Arena scratch = p->arena;
    Texts *t = texts_begin(p, &scratch, params, n_params, prompt, n_prompt, n_drawn, n_texts);
    uint32_t at[PAIR_SLOTS_MAX] = {0}, drawn[PAIR_SLOTS_MAX] = {0}, n_under_way = 0;
    bool mixed = false, several = false;
    for (uint32_t s = 0; s < n_texts; s++)
        model_begin(p->gpu, s, &t->params[s], prompt, t->lengths[s]);
    for (uint32_t i = 0, n = 1; n > 0 || i < n_texts; i++) {
        StepSequence q[PAIR_SLOTS_MAX];
        uint32_t room = p->gpu->info.max_rows - n_texts, n_prompts = 0;
        n = 0;
        for (uint32_t s = 0; s < n_texts && s <= 2 * i; s++) { // two more in each step
            uint32_t chunk = (uint32_t)min_u64(chunks[(i + s) % COUNT_OF(chunks)], room);
            if (!next_part(p, t, s, at[s], chunk, &q[n]) || q[n].n_rows == 0) continue;
            at[s] += q[n].n_rows;
            if (q[n].mode == STEP_PROMPT) room -= q[n].n_rows;
            n_prompts += q[n++].mode == STEP_PROMPT;
        }
        mixed |= n_prompts > 0 && n_prompts < n;
        several |= n_prompts > 1;
        Error err = {0};
        if (n > 0 && !p->gpu->step(p->gpu, &(Step){.sequences = q, .n_sequences = n}, &err))
            FAIL("%s", err.message);
        n_under_way += n > 0;
        while (n_under_way > (n > 0)) { // so that rows go on with tokens that were not read
            read_mixed(p, t, drawn);
            n_under_way--;
        }
    }
    CHECK(mixed && several);
    texts_compare(t, "texts in mixed steps");
}

// ---- masks ----

static bool has_masks(uint32_t slot) {
    return slot % 3 != 2;
}

// What the slot's i-th draw behind `last` may be: one in three tokens, one in thirty, or one.
static void fill_mask(uint32_t slot, uint32_t i, int32_t last, uint32_t n_vocab, uint32_t *mask) {
    static const uint32_t one_in[] = {3, 30, UINT32_MAX};
    uint64_t seed = slot * 1000ull + (uint32_t)last;
    memset(mask, 0, token_set_words(n_vocab) * sizeof *mask);
    for (uint32_t t = 0; t < n_vocab; t++) {
        if (rng_philox(seed, i * (uint64_t)n_vocab + t).word[0] % one_in[(slot + i) % 3] == 0)
            token_set_add(mask, (int32_t)t);
    }
    token_set_add(mask, (int32_t)(rng_philox(seed, i).word[1] % n_vocab));
}

typedef struct {
    ModelPair *p;
    const SamplerParams *params; // [n]
    const int32_t *prompt;
    uint32_t n_vocab, n_drawn, n;
    const uint32_t *lengths;                      // [n]
    uint32_t *masks[PAIR_SLOTS_MAX];              // NULL: none
    const uint32_t *mask_of_part[PAIR_SLOTS_MAX]; // Backend.draw's
    Drawn *alone[PAIR_SLOTS_MAX], *together[PAIR_SLOTS_MAX];
    SamplerHistory history;
    float *logits;
    uint8_t *scratch; // sampler_scratch_bytes
} Masked;

static void begin_masked(const Masked *m, uint32_t slot) {
    SequenceStart start = {.params = m->params[slot],
                           .tokens = m->prompt,
                           .n_prompt = m->lengths[slot],
                           .masked = m->masks[slot] != NULL};
    Error err = {0};
    if (!CHECK(m->p->gpu->begin(m->p->gpu, slot, &start, &err))) printf("%s\n", err.message);
}

// The part of the slot's text that brings its i-th draw.
static StepSequence masked_part(const Masked *m, uint32_t slot, uint32_t i) {
    StepSequence q = {.slot = slot,
                      .mode = i ? STEP_DECODE : STEP_PROMPT,
                      .position = i ? m->lengths[slot] + i - 1 : 0,
                      .n_rows = i ? 1 : m->lengths[slot],
                      .tokens = i ? NULL : m->prompt,
                      .pages = m->p->pages[slot],
                      .list_pages = m->p->list_pages,
                      .n_draws = 1};
    return q;
}

// Makes the mask of the slot's i-th draw, behind what it drew before.
static const uint32_t *next_mask(const Masked *m, uint32_t slot, uint32_t i, const Drawn *drawn) {
    if (m->masks[slot]) fill_mask(slot, i, i ? drawn->tokens[i - 1] : 0, m->n_vocab, m->masks[slot]);
    return m->masks[slot];
}

static void step_masked(const Masked *m, const StepSequence *q, uint32_t n, bool later) {
    Step step = {.sequences = q, .n_sequences = n, .masks_come_later = later};
    Error err = {0};
    bool ok = m->p->gpu->step(m->p->gpu, &step, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
}

static void read_masked(const Masked *m, uint32_t n_runs, StepResult *r) {
    Error err = {0};
    bool ok = m->p->gpu->read(m->p->gpu, r, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok && r->n_runs == n_runs);
}

// One draw after the other, each as the reference draws it.
static void draw_masked_alone(const Masked *m, uint32_t slot) {
    begin_masked(m, slot);
    sampler_history_begin(m->history, m->n_vocab, m->prompt, m->lengths[slot], 0);
    for (uint32_t i = 0; i < m->n_drawn; i++) {
        TEST_CASE_LABEL("draw %u of slot %u, temperature %g", i, slot, (double)m->params[slot].temperature);
        StepSequence q = masked_part(m, slot, i);
        StepResult r;
        q.n_logits = 1;
        q.mask = next_mask(m, slot, i, m->alone[slot]);
        step_masked(m, &q, 1, false);
        read_masked(m, 1, &r);
        REQUIRE(r.logits != NULL);
        memcpy(m->logits, r.logits, m->n_vocab * sizeof *m->logits);
        if (q.mask) sampler_mask(m->logits, m->n_vocab, q.mask);
        int32_t expected = sampler_draw(&m->params[slot], m->logits, m->n_vocab, m->history, i,
                                        arena_from_memory(m->scratch, sampler_scratch_bytes(m->n_vocab)));
        CHECK_INT_EQ(expected, r.runs[0].tokens[0]);
        sampler_history_add(m->history, r.runs[0].tokens[0]);
        keep(&r.runs[0], m->alone[slot], i);
    }
}

// The first draw of each, as many prompts in a step as fit.
static void draw_first_masked(const Masked *m) {
    for (uint32_t s = 0, n, rows = 0; s < m->n; s += n, rows = 0) {
        StepSequence q[PAIR_SLOTS_MAX];
        StepResult r;
        for (n = 0; s + n < m->n; n++) {
            rows += m->lengths[s + n];
            if (n > 0 && rows > m->p->gpu->info.max_rows) break;
            begin_masked(m, s + n);
            q[n] = masked_part(m, s + n, 0);
            q[n].mask = next_mask(m, s + n, 0, m->together[s + n]);
        }
        step_masked(m, q, n, false);
        read_masked(m, n, &r);
        for (uint32_t i = 0; i < n; i++)
            keep(&r.runs[i], m->together[s + i], 0);
    }
}

// All of them, each step sent before the one in front of it is read. Every other one has a part of another
// text's prompt.
static void draw_masked_together(Masked *m) {
    uint32_t guest = m->n, n_guest = 0;
    StepResult r;
    Error err = {0};
    bool has_guest = guest < m->p->n_slots;
    if (has_guest) begin_masked(m, guest);
    draw_first_masked(m);
    for (uint32_t i = 1; i <= m->n_drawn; i++) {
        StepSequence q[PAIR_SLOTS_MAX + 1];
        uint32_t n = 0;
        bool later = i > 1;
        if (i < m->n_drawn && has_guest && i % 2 && n_guest + 5 <= m->lengths[guest]) {
            q[n] = masked_part(m, guest, 0);
            q[n].position = n_guest, q[n].n_rows = 5, q[n].tokens += n_guest, q[n++].n_draws = 0;
            n_guest += 5;
        }
        uint32_t first = n;
        for (uint32_t s = 0; i < m->n_drawn && s < m->n; s++, n++) {
            q[n] = masked_part(m, s, i);
            if (!later) q[n].mask = next_mask(m, s, i, m->together[s]);
        }
        if (n > 0) step_masked(m, q, n, later);
        if (!later) continue;
        read_masked(m, m->n, &r);
        for (uint32_t s = 0; s < m->n; s++)
            keep(&r.runs[s], m->together[s], i - 1);
        if (n == 0) continue;
        m->mask_of_part[0] = NULL;
        for (uint32_t s = 0; s < m->n; s++)
            m->mask_of_part[first + s] = next_mask(m, s, i, m->together[s]);
        bool ok = m->p->gpu->draw(m->p->gpu, m->mask_of_part, &err);
        if (!ok) FAIL("%s", err.message);
        REQUIRE(ok);
    }
}

void batch_check_masked(ModelPair *p, const SamplerParams *params, uint32_t n_params, const int32_t *prompt,
                        uint32_t n_prompt, uint32_t n_drawn, uint32_t n_together) {
    Arena scratch = p->arena;
    SamplerParams own[PAIR_SLOTS_MAX];
    uint32_t lengths[PAIR_SLOTS_MAX], n_vocab = p->plan->n_vocab, words = token_set_words(n_vocab);
    Masked m = {.p = p,
                .params = own,
                .prompt = prompt,
                .n_vocab = n_vocab,
                .n_drawn = n_drawn,
                .n = n_together,
                .lengths = lengths};
    m.history =
        (SamplerHistory){arena_new(&scratch, uint32_t, words), arena_new(&scratch, uint16_t, n_vocab)};
    m.logits = arena_new(&scratch, float, n_vocab);
    m.scratch = arena_alloc(&scratch, 1, sampler_scratch_bytes(n_vocab), 64);
    REQUIRE(m.history.seen && m.history.counts && m.logits && m.scratch);
    REQUIRE(n_together <= p->n_slots && n_drawn <= DRAWN_MAX);
    for (uint32_t s = 0; s < p->n_slots; s++) {
        own[s] = params[s % n_params];
        own[s].seed += s;
        own[s].logprobs = true;
        own[s].n_logprobs = LOGPROBS_MAX;
        lengths[s] = s < n_together ? (uint32_t)max_u64(n_prompt / (s + 1), 1) : n_prompt;
        m.alone[s] = arena_new(&scratch, Drawn, 1);
        m.together[s] = arena_new(&scratch, Drawn, 1);
        if (s < n_together && has_masks(s)) m.masks[s] = arena_new(&scratch, uint32_t, words);
        REQUIRE(m.alone[s] && m.together[s] && (m.masks[s] || s >= n_together || !has_masks(s)));
    }
    for (uint32_t s = 0; s < n_together; s++)
        draw_masked_alone(&m, s);
    draw_masked_together(&m);
    for (uint32_t s = 0; s < n_together; s++) {
        TEST_CASE_LABEL("masked, %u together, that of slot %u, temperature %g", n_together, s,
                        (double)own[s].temperature);
        CHECK_BYTES_EQ(m.alone[s], sizeof *m.alone[s], m.together[s], sizeof *m.together[s]);
    }
    TEST_CASE_LABEL("%s", "");
}

// ---- a prompt's rows beside a text that is far on ----

// The slot's pages before `position` hold its first page's keys and values.
static void fill_pages(const ModelPair *p, uint32_t slot, const int32_t *prompt, uint32_t position) {
    Error err;
    model_run(p, p->gpu, slot, prompt, 0, KV_PAGE_TOKENS, false, 0);
    for (uint32_t list = 0; list < p->plan->kv.n_lists; list++) {
        const uint32_t *pages = p->pages[slot] + list * p->list_pages;
        for (uint32_t i = 1; i <= position / KV_PAGE_TOKENS; i++) {
            if (pages[i] != pages[0]) REQUIRE(p->gpu->copy_page(p->gpu, pages[0], pages[i], &err));
        }
    }
}

// Slot 1's n rows from a position on, of which the last one draws, and slot 0's, which it has had before. (Of
// so long texts in one step none is divided, where one alone is on a GPU of four multiprocessors.)
static StepResult run_beside_same(const ModelPair *p, const int32_t *prompt, uint32_t position, uint32_t n) {
    StepSequence q[2];
    StepResult r;
    Error err = {0};
    for (uint32_t slot = 0; slot < 2; slot++)
        q[slot] = (StepSequence){.slot = slot,
                                 .position = position,
                                 .n_rows = n,
                                 .tokens = prompt,
                                 .pages = p->pages[slot],
                                 .list_pages = p->list_pages,
                                 .n_draws = slot};
    bool ok = p->gpu->step(p->gpu, &(Step){.sequences = q, .n_sequences = 2}, &err) &&
              p->gpu->read(p->gpu, &r, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok && r.n_runs == 1);
    return r;
}

// Slot 1 beside slot 2's prompt, a page of it in each step.
static void draw_beside_prompt(const ModelPair *p, const int32_t *prompt, uint32_t length, uint32_t n_drawn,
                               Drawn *out) {
    model_begin(p->gpu, 2, &SAMPLER_GREEDY, prompt, n_drawn * KV_PAGE_TOKENS);
    for (uint32_t i = 1; i < n_drawn; i++) {
        uint32_t at = (i - 1) * KV_PAGE_TOKENS;
        StepSequence q[2] = {{.slot = 2,
                              .position = at,
                              .n_rows = KV_PAGE_TOKENS,
                              .tokens = prompt + at,
                              .pages = p->pages[2],
                              .list_pages = p->list_pages},
                             {.slot = 1,
                              .mode = STEP_DECODE,
                              .position = length + i - 1,
                              .n_rows = 1,
                              .pages = p->pages[1],
                              .list_pages = p->list_pages,
                              .n_draws = 1}};
        StepResult r;
        Error err = {0};
        bool ok = p->gpu->step(p->gpu, &(Step){.sequences = q, .n_sequences = 2}, &err) &&
                  p->gpu->read(p->gpu, &r, &err);
        if (!ok) FAIL("%s", err.message);
        REQUIRE(ok && r.n_runs == 1);
        keep(&r.runs[0], out, i);
    }
}

void batch_check_far(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t position,
                     uint32_t n_drawn) {
    Arena scratch = p->arena;
    SamplerParams wants = *params;
    Drawn *drawn[2] = {arena_new(&scratch, Drawn, 1), arena_new(&scratch, Drawn, 1)};
    REQUIRE(drawn[0] && drawn[1] && p->n_slots > 2 && n_drawn <= DRAWN_MAX);
    wants.logprobs = true;
    wants.n_logprobs = LOGPROBS_MAX;
    for (uint32_t slot = 0; slot < 2; slot++) {
        model_begin(p->gpu, slot, &wants, prompt, KV_PAGE_TOKENS);
        fill_pages(p, slot, prompt, position);
        StepResult r = slot == 0 ? model_run(p, p->gpu, 0, prompt, position, 3, true, 0)
                                 : run_beside_same(p, prompt, position, 3);
        keep(&r.runs[0], drawn[slot], 0);
    }
    draw(p, &(uint32_t){0}, &(uint32_t){position + 3}, 1, n_drawn, &drawn[0]);
    draw_beside_prompt(p, prompt, position + 3, n_drawn, drawn[1]);
    CHECK_BYTES_EQ(drawn[0], sizeof *drawn[0], drawn[1], sizeof *drawn[1]);
}

void batch_check_drawn_as_prompt(ModelPair *p, const SamplerParams *params, const int32_t *prompt,
                                 uint32_t n_prompt, uint32_t n) {
    Arena scratch = p->arena;
    uint64_t n_vocab = p->plan->n_vocab, n_values = n * n_vocab;
    float *drawn = arena_new(&scratch, float, n_values), *whole = arena_new(&scratch, float, n_values);
    int32_t *tokens = arena_new(&scratch, int32_t, n + 1);
    REQUIRE(drawn && whole && tokens);
    memcpy(tokens, prompt, n_prompt * sizeof *tokens);
    model_generate(p, p->gpu, 0, params, tokens, n_prompt, n, &n_prompt, 1, drawn);
    model_generate(p, p->gpu, 1, &SAMPLER_GREEDY, tokens, n, n, &n, 1, whole);
    for (uint32_t t = 0; t < n; t++) {
        TEST_CASE_LABEL("position %u", t);
        CHECK_BYTES_EQ(drawn + t * n_vocab, n_vocab * sizeof *drawn, whole + t * n_vocab,
                       n_vocab * sizeof *whole);
    }
    TEST_CASE_LABEL("%s", "");
}

#endif
