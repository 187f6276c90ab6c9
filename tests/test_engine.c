// The engine over a scripted backend: pages, slots, chunks, pipelining.
#include "engine/engine.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

enum { SLOTS = 3, PAGES = 40, CONTEXT = 256, CHUNK = 32, VOCAB = 1000 };

// Checks each step as a real backend would rely on it, and draws token = 100 * slot + the number of the draw.
typedef struct {
    Backend api;
    uint32_t done[SLOTS]; // rows that each slot has in its cache
    uint32_t drawn[SLOTS];
    StepResult queue[4];
    uint32_t n_queued;
    uint32_t deepest;
    StepSequence open; // the slice of a chunk that was computed last; n_slices 0 where none is to follow
    uint32_t most_slices;
    uint32_t prompt_rows;
    int32_t poison[SLOTS]; // this draw is TOKEN_INVALID; -1 for none
} Script;

static bool script_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err) {
    (void)err;
    Script *s = (Script *)b;
    s->done[slot] = 0;
    s->drawn[slot] = start->n_drawn;
    if (slot == s->open.slot) s->open.n_slices = 0;
    return true;
}

// Slices come in order, and no other prompt's rows between them.
static void check_slice(Script *s, const StepSequence *q) {
    s->most_slices = (uint32_t)max_u64(s->most_slices, q->n_slices);
    if (s->open.n_slices) {
        CHECK_INT_EQ(s->open.slot, q->slot);
        CHECK_INT_EQ(s->open.slice + 1, q->slice);
        CHECK_INT_EQ(s->open.n_slices, q->n_slices);
        CHECK(q->n_rows == s->open.n_rows && q->tokens == s->open.tokens);
    } else {
        CHECK_INT_EQ(0, q->slice);
    }
    s->open = step_is_last_slice(q) ? (StepSequence){0} : *q;
}

static void script_draw(Script *s, const StepSequence *q, StepRun *run) {
    static const char *const names[SLOTS] = {"layer 0, ADD", NULL, "layer 2, GLU"};
    *run = (StepRun){.slot = q->slot};
    for (uint32_t i = 0; i < q->n_draws; i++) {
        int32_t n = (int32_t)s->drawn[q->slot]++;
        bool bad = n == s->poison[q->slot];
        if (bad) run->first_invalid = names[q->slot];
        run->tokens[run->n_tokens++] = bad ? TOKEN_INVALID : 100 * (int32_t)q->slot + n;
    }
}

static bool script_step(Backend *b, const Step *step, Error *err) {
    Script *s = (Script *)b;
    StepResult *r = &s->queue[s->n_queued++];
    *r = (StepResult){0};
    s->deepest = (uint32_t)max_u64(s->deepest, s->n_queued);
    if (!step_check(step, &b->info, err)) return false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        // Positions that are left out were in the cache.
        CHECK(q->mode == STEP_DECODE ? q->position == s->done[q->slot] : q->position >= s->done[q->slot]);
        CHECK(q->n_rows >= 1 && q->n_rows <= CHUNK);
        if (q->mode == STEP_PROMPT) check_slice(s, q);
        if (q->mode == STEP_PROMPT && step_is_last_slice(q)) s->prompt_rows += q->n_rows;
        if (!step_is_last_slice(q)) continue;
        s->done[q->slot] = q->position + q->n_rows;
        for (uint32_t p = 0; p < div_up(s->done[q->slot], KV_PAGE_TOKENS); p++)
            CHECK(q->pages[p] < PAGES);
        if (q->n_draws) script_draw(s, q, &r->runs[r->n_runs++]);
    }
    return true;
}

static bool script_copy_page(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)b, (void)err;
    CHECK(from < PAGES && to < PAGES && from != to);
    return true;
}

static bool script_read(Backend *b, StepResult *out, Error *err) {
    (void)err;
    Script *s = (Script *)b;
    *out = s->queue[0];
    memmove(s->queue, s->queue + 1, --s->n_queued * sizeof s->queue[0]);
    return true;
}

static Engine *make_engine_with(Script *script, uint32_t depth, uint32_t slices, uint32_t max_rows,
                                bool bits_vary) {
    static Plan plan;
    Arena arena = os_arena(1 << 20);
    Error err;
    Engine *e;
    plan.n_vocab = VOCAB;
    plan.n_context = CONTEXT;
    plan.kv = (KvLayout){.n_places = 1, .n_lists = 1, .n_full = 1};
    *script = (Script){.api = {.begin = script_begin,
                               .copy_page = script_copy_page,
                               .step = script_step,
                               .read = script_read,
                               .info = {.kind = "scripted",
                                        .n_kv_pages = PAGES,
                                        .max_rows = max_rows,
                                        .bits_vary = bits_vary,
                                        .chunk_slices = slices,
                                        .pipeline_depth = depth}},
                       .poison = {-1, -1, -1}};
    REQUIRE(engine_create(&script->api, &plan, SLOTS, &arena, &e, &err));
    return e;
}

static Engine *make_engine_of(Script *script, uint32_t depth, uint32_t slices, uint32_t max_rows) {
    return make_engine_with(script, depth, slices, max_rows, false);
}

static Engine *make_engine(Script *script, uint32_t depth, uint32_t slices) {
    return make_engine_of(script, depth, slices, CHUNK);
}

static const int32_t prompt[CONTEXT] = {1, 2, 3};

static uint32_t admit(Engine *e, uint32_t n_tokens, uint32_t max_tokens) {
    Error err = {0};
    uint32_t slot = UINT32_MAX;
    EngineRequest r = {
        .tokens = prompt, .n_prompt = n_tokens, .max_tokens = max_tokens, .sampler = SAMPLER_GREEDY};
    CHECK(engine_admit(e, &r, &slot, &err));
    CHECK_STR_EQ("", err.message);
    return slot;
}

TEST(engine_runs_requests_to_their_end) {
    for (uint32_t run = 0; run < 6; run++) {
        uint32_t depth = 1 + run % 2, slices = run / 2 * 5; // 0, 5, 10
        TEST_CASE_LABEL("depth %u, %u slices", depth, slices);
        Script script;
        Engine *e = make_engine(&script, depth, slices);
        uint32_t got[SLOTS] = {0}, wanted[SLOTS] = {7, 1, 20};
        uint32_t prompts[SLOTS] = {CHUNK * 2 + 5, 1, CHUNK};
        for (uint32_t i = 0; i < SLOTS; i++)
            CHECK_INT_EQ(i, admit(e, prompts[i], wanted[i]));
        for (;;) {
            EngineOutput out[SLOTS];
            uint32_t n;
            Error err;
            REQUIRE(engine_step(e, out, &n, &err));
            if (n == 0) break;
            for (uint32_t i = 0; i < n; i++) {
                if (out[i].n_tokens == 0) continue;
                CHECK_INT_EQ(1, out[i].n_tokens);
                CHECK_INT_EQ(100 * out[i].slot + got[out[i].slot], out[i].tokens[0]);
                got[out[i].slot]++;
                CHECK(out[i].last == (got[out[i].slot] == wanted[out[i].slot]));
                CHECK_INT_EQ(prompts[out[i].slot], out[i].n_prompt_done);
            }
        }
        CHECK_INT_EQ(max_u64(slices, 1), script.most_slices);
        for (uint32_t i = 0; i < SLOTS; i++)
            CHECK_INT_EQ(wanted[i], got[i]);
        CHECK_INT_EQ(depth, script.deepest);
        CHECK_INT_EQ(SLOTS, engine_active(e));
        for (uint32_t i = 0; i < SLOTS; i++)
            engine_release(e, i);
        CHECK_INT_EQ(0, engine_active(e));
        CHECK_INT_EQ(0, kv_pages_used(engine_pages(e)));
    }
}

TEST(engine_refuses_what_does_not_fit) {
    Script script;
    Engine *e = make_engine(&script, 1, 0);
    Error err = {0};
    uint32_t slot;
    static const int32_t outside[] = {5, VOCAB};
    const struct {
        const char *name;
        EngineRequest request;
        ErrCode code;
        const char *message;
    } rows[] = {
        {"no prompt",
         {.tokens = prompt, .max_tokens = 1},
         ERR_INVALID_REQUEST,
         "a request needs at least one prompt token and one token to draw"},
        {"too long",
         {.tokens = prompt, .n_prompt = 200, .max_tokens = 57},
         ERR_INVALID_REQUEST,
         "200 prompt tokens and 57 to generate exceed the context length of 256"},
        {"outside the vocabulary",
         {.tokens = outside, .n_prompt = 2, .max_tokens = 1},
         ERR_INVALID_REQUEST,
         "prompt token 1 is 1000; the vocabulary has 1000"},
        {"a penalty out of range",
         {.tokens = prompt, .n_prompt = 2, .max_tokens = 1, .sampler = {.presence_penalty = 3}},
         ERR_INVALID_REQUEST,
         "presence_penalty is 3 and frequency_penalty 0; both must be between -2 and 2"},
        {"nothing to draw",
         {.tokens = prompt, .n_prompt = 2},
         ERR_INVALID_REQUEST,
         "a request needs at least one prompt token and one token to draw"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        CHECK(!engine_admit(e, &rows[i].request, &slot, &err));
        CHECK_INT_EQ(rows[i].code, err.code);
        CHECK_STR_EQ(rows[i].message, err.message);
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        CHECK_INT_EQ(i, admit(e, 200, 56)); // more than fit together
    EngineRequest one_more = {.tokens = prompt, .n_prompt = 1, .max_tokens = 1, .sampler = SAMPLER_GREEDY};
    CHECK(!engine_admit(e, &one_more, &slot, &err));
    CHECK_INT_EQ(ERR_BUSY, err.code);
    engine_release(e, 1);
    CHECK_INT_EQ(1, admit(e, 200, 56));
}

// Only what would not fit the cache alone is refused for it.
TEST(engine_refuses_what_the_cache_cannot_hold) {
    Script script = {0};
    Plan plan = {.n_vocab = VOCAB, .n_context = CONTEXT, .kv = {.n_places = 1, .n_lists = 1, .n_full = 1}};
    Arena arena = os_arena(1 << 20);
    Engine *e;
    Error err = {0};
    uint32_t slot;
    script.api.begin = script_begin;
    script.api.info = (BackendInfo){.n_kv_pages = 10, .max_rows = CHUNK, .pipeline_depth = 1};
    REQUIRE(engine_create(&script.api, &plan, SLOTS, &arena, &e, &err));
    EngineRequest request = {.tokens = prompt, .n_prompt = 100, .max_tokens = 61, .sampler = SAMPLER_GREEDY};
    CHECK(!engine_admit(e, &request, &slot, &err));
    CHECK_INT_EQ(ERR_VRAM_OOM, err.code);
    CHECK_STR_EQ("100 prompt tokens and 61 to generate exceed the KV cache of 160 tokens", err.message);
    request.max_tokens = 60;
    CHECK(engine_admit(e, &request, &slot, &err));
    CHECK(engine_admit(e, &request, &slot, &err));
}

// More sequences than a step has rows take turns: none gets far ahead of another.
TEST(engine_decodes_more_sequences_than_rows) {
    for (uint32_t run = 0; run < 4; run++) {
        Script script;
        uint32_t max_rows = 1 + run / 2, got[SLOTS] = {0}, total = 0;
        Engine *e = make_engine_of(&script, 1 + run % 2, 0, max_rows);
        TEST_CASE_LABEL("depth %u, %u rows", 1 + run % 2, max_rows);
        for (uint32_t i = 0; i < SLOTS; i++)
            admit(e, 1, 20);
        for (uint32_t calls = 0; calls < 200 && total < SLOTS * 20; calls++) {
            EngineOutput out[SLOTS];
            uint32_t n, least = UINT32_MAX, most = 0;
            Error err;
            REQUIRE(engine_step(e, out, &n, &err));
            for (uint32_t i = 0; i < n; i++)
                got[out[i].slot] += out[i].n_tokens, total += out[i].n_tokens;
            for (uint32_t i = 0; i < SLOTS; i++)
                least = (uint32_t)min_u64(least, got[i]), most = (uint32_t)max_u64(most, got[i]);
            CHECK(most - least <= 3); // the prompts begin one after the other
        }
        CHECK_INT_EQ(SLOTS * 20, total);
    }
}

// Draws all that is left; returns the largest n_cached of what came.
static uint32_t run_to_end(Engine *e) {
    EngineOutput out[SLOTS];
    uint32_t n = 1, n_cached = 0;
    Error err;
    while (n) {
        REQUIRE(engine_step(e, out, &n, &err));
        for (uint32_t i = 0; i < n; i++)
            n_cached = (uint32_t)max_u64(n_cached, out[i].n_cached);
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        engine_release(e, i);
    return n_cached;
}

// Several answers to one prompt compute it once; the others compute its last token, for their first draw.
TEST(engine_computes_a_prompt_once) {
    static const uint32_t lengths[] = {2, 10, 16, 17, 100};
    for (size_t i = 0; i < COUNT_OF(lengths) * 2; i++) {
        uint32_t n = lengths[i / 2];
        TEST_CASE_LABEL("%u tokens, depth %zu", n, 1 + i % 2);
        Script script;
        Engine *e = make_engine(&script, 1 + i % 2, 0);
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            admit(e, n, 5);
        CHECK_INT_EQ(n - 1, run_to_end(e));
        CHECK_INT_EQ(n + SLOTS - 1, script.prompt_rows);
    }
}

// Where a row's values depend on the rows beside it, no text goes on from another's pages: neither beside it
// nor behind it.
TEST(engine_shares_no_pages_where_bits_vary) {
    enum { TOKENS = 100 };
    Script script;
    Engine *e = make_engine_with(&script, 2, 0, CHUNK, true);
    for (uint32_t round = 1; round <= 2; round++) {
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            admit(e, TOKENS, 5);
        CHECK_INT_EQ(0, run_to_end(e));
        CHECK_INT_EQ(round * SLOTS * TOKENS, script.prompt_rows);
    }
    CHECK_INT_EQ(0, engine_pages(e)->n_cached);
}

// A conversation goes on from its last answer, with the same salt alone.
TEST(engine_goes_on_from_answers) {
    enum { ASKED = 20, ANSWERED = 35, MORE = 7 };
    int32_t text[ASKED + ANSWERED + MORE] = {1, 2, 3};
    for (uint32_t depth = 1; depth <= 2; depth++) {
        TEST_CASE_LABEL("depth %u", depth);
        Script script;
        Engine *e = make_engine(&script, depth, 0);
        uint32_t slot;
        Error err;
        for (uint32_t i = 0; i < ANSWERED; i++)
            text[ASKED + i] = (int32_t)i; // as slot 0 draws
        EngineRequest r = {
            .tokens = text, .n_prompt = ASKED, .max_tokens = ANSWERED, .sampler = SAMPLER_GREEDY};
        REQUIRE(engine_admit(e, &r, &slot, &err));
        CHECK_INT_EQ(0, run_to_end(e));
        r.n_prompt = COUNT_OF(text);
        r.max_tokens = 1;
        REQUIRE(engine_admit(e, &r, &slot, &err));
        CHECK_INT_EQ(ASKED + ANSWERED - 1, run_to_end(e)); // the last token drawn was not fed
        r.cache_salt[0] = 1;
        REQUIRE(engine_admit(e, &r, &slot, &err));
        CHECK_INT_EQ(0, run_to_end(e));
    }
}

// A slot is given to another sequence while a step of the first is still in flight: its token must not leak.
TEST(engine_drops_what_comes_for_released_slots) {
    Script script;
    Engine *e = make_engine(&script, 2, 0);
    EngineOutput out[SLOTS];
    uint32_t n;
    Error err;
    uint32_t slot = admit(e, 4, 50);
    REQUIRE(engine_step(e, out, &n, &err)); // a step more is in flight now
    CHECK_INT_EQ(1, n);
    engine_release(e, slot);
    CHECK_INT_EQ(slot, admit(e, 9, 3));
    uint32_t tokens = 0;
    for (uint32_t calls = 0; calls < 10; calls++) {
        REQUIRE(engine_step(e, out, &n, &err));
        for (uint32_t i = 0; i < n; i++) {
            if (out[i].n_tokens) CHECK_INT_EQ(tokens++, out[i].tokens[0]);
            CHECK_INT_EQ(9, out[i].n_prompt_done);
        }
    }
    CHECK_INT_EQ(3, tokens);
}

// A sequence that ends in the middle of a chunk leaves its other slices undone; the next one begins its own.
TEST(engine_ends_chunks_between_their_slices) {
    for (uint32_t depth = 1; depth <= 2; depth++) {
        TEST_CASE_LABEL("depth %u", depth);
        Script script;
        Engine *e = make_engine(&script, depth, 8);
        EngineOutput out[SLOTS];
        uint32_t n, tokens = 0;
        Error err;
        uint32_t slot = admit(e, CHUNK, 5);
        REQUIRE(engine_step(e, out, &n, &err));
        CHECK(n == 1 && out[0].n_tokens == 0 && out[0].n_prompt_done == 0);
        CHECK(script.open.n_slices == 8 && script.open.slice == depth - 1);
        engine_release(e, slot);
        CHECK_INT_EQ(slot, admit(e, 9, 3));
        for (uint32_t calls = 0; calls < 20; calls++) {
            REQUIRE(engine_step(e, out, &n, &err));
            for (uint32_t i = 0; i < n; i++)
                tokens += out[i].n_tokens;
        }
        CHECK_INT_EQ(3, tokens);
        CHECK_INT_EQ(9 + 2, script.done[slot]);
    }
}

// Runs until nothing is left to do; `good` counts the tokens of each slot, `failures` what it was told.
static void run_to_failure(Engine *e, uint32_t good[SLOTS], char failures[SLOTS][ERROR_MESSAGE_BYTES]) {
    EngineOutput out[SLOTS];
    uint32_t n;
    Error err;
    for (uint32_t calls = 0; calls < 100; calls++) {
        REQUIRE(engine_step(e, out, &n, &err));
        for (uint32_t i = 0; i < n; i++) {
            uint32_t slot = out[i].slot;
            good[slot] += out[i].n_tokens;
            CHECK(!failures[slot][0]); // a sequence that failed brings nothing more
            if (!out[i].failure) continue;
            CHECK_INT_EQ(ERR_INTERNAL, out[i].failure->code);
            CHECK(!out[i].last);
            snprintf(failures[slot], sizeof failures[slot], "%s", out[i].failure->message);
        }
    }
    CHECK_INT_EQ(0, n);
}

// Each sequence whose logits are not numbers ends by itself, several in one step too; the others go on.
TEST(engine_ends_each_sequence_whose_logits_fail) {
    static const struct {
        const char *name;
        uint32_t depth;
        int32_t poison[SLOTS];
        uint32_t good[SLOTS];
    } rows[] = {
        {"one", 1, {2, -1, -1}, {2, 10, 10}},
        {"one, steps ahead", 2, {2, -1, -1}, {2, 10, 10}},
        {"the first draw", 1, {-1, 0, -1}, {10, 0, 10}},
        {"two in one step", 1, {3, -1, 3}, {3, 10, 3}},
        {"two in one step, steps ahead", 2, {3, -1, 3}, {3, 10, 3}},
        {"all in one step", 2, {5, 5, 5}, {5, 5, 5}},
        {"one after the other", 2, {1, 2, 3}, {1, 2, 3}},
    };
    static const char *const places[SLOTS] = {"; the first such values: layer 0, ADD", "",
                                              "; the first such values: layer 2, GLU"};
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        TEST_CASE_LABEL("%s", rows[row].name);
        Script script;
        Engine *e = make_engine(&script, rows[row].depth, 0);
        memcpy(script.poison, rows[row].poison, sizeof script.poison);
        uint32_t good[SLOTS] = {0};
        char failures[SLOTS][ERROR_MESSAGE_BYTES] = {{0}}, expected[160];
        for (uint32_t i = 0; i < SLOTS; i++)
            admit(e, 4, 10);
        run_to_failure(e, good, failures);
        for (uint32_t i = 0; i < SLOTS; i++) {
            CHECK_INT_EQ(rows[row].good[i], good[i]);
            snprintf(expected, sizeof expected,
                     "the model computed logits that are not numbers (token %d of the output%s)",
                     rows[row].poison[i], places[i]);
            CHECK_STR_EQ(rows[row].poison[i] < 0 ? "" : expected, failures[i]);
            engine_release(e, i);
        }
        CHECK_INT_EQ(0, kv_pages_used(engine_pages(e)));
        CHECK_INT_EQ(0, admit(e, 4, 10)); // the slot's next sequence is well
    }
}
