// The engine over a scripted backend: pages, slots, chunks, pipelining.
#include "engine/engine.h"
#include "os/os.h"
#include "runner.h"

enum { SLOTS = 3, PAGES = 40, CONTEXT = 256, CHUNK = 32, VOCAB = 1000 };

// Checks each step as a real backend would rely on it, and draws token = 100 * slot + the number of the draw.
typedef struct {
    Backend api;
    uint32_t done[SLOTS]; // rows that each slot has in its cache
    uint32_t drawn[SLOTS];
    uint32_t page_owner[PAGES]; // slot + 1 while a sequence of it was last to write
    StepResult queue[4];
    uint32_t n_queued;
    uint32_t deepest;
    StepSequence open; // the part of a chunk that was computed last; n_parts 0 where none is to follow
    uint32_t most_parts;
    int32_t poison; // this draw of slot 0 is TOKEN_INVALID; -1 for none
} Script;

static bool script_begin(Backend *b, uint32_t slot, const SamplerParams *params, const int32_t *prompt,
                         uint32_t n_prompt, Error *err) {
    (void)params, (void)prompt, (void)n_prompt, (void)err;
    Script *s = (Script *)b;
    s->done[slot] = s->drawn[slot] = 0;
    if (slot == s->open.slot) s->open.n_parts = 0;
    return true;
}

// Parts come in order, and no other prompt's rows between them.
static void check_part(Script *s, const StepSequence *q) {
    s->most_parts = (uint32_t)max_u64(s->most_parts, q->n_parts);
    if (s->open.n_parts) {
        CHECK_INT_EQ(s->open.slot, q->slot);
        CHECK_INT_EQ(s->open.part + 1, q->part);
        CHECK_INT_EQ(s->open.n_parts, q->n_parts);
        CHECK(q->n_tokens == s->open.n_tokens && q->tokens == s->open.tokens);
    } else {
        CHECK_INT_EQ(0, q->part);
    }
    s->open = step_is_whole(q) ? (StepSequence){0} : *q;
}

static bool script_step(Backend *b, const Step *step, Error *err) {
    (void)err;
    Script *s = (Script *)b;
    StepResult *r = &s->queue[s->n_queued++];
    *r = (StepResult){0};
    s->deepest = (uint32_t)max_u64(s->deepest, s->n_queued);
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        CHECK_INT_EQ(s->done[q->slot], q->position);
        CHECK(q->n_tokens >= 1 && q->n_tokens <= CHUNK);
        CHECK(q->tokens || q->n_tokens == 1);
        if (q->tokens) check_part(s, q);
        if (!step_is_whole(q)) {
            CHECK(!q->sample);
            continue;
        }
        s->done[q->slot] += q->n_tokens;
        for (uint32_t p = 0; p < div_up(s->done[q->slot], KV_PAGE_TOKENS); p++)
            CHECK(q->pages[p] < PAGES);
        int32_t token = (int32_t)(100 * q->slot + s->drawn[q->slot]);
        if (q->slot == 0 && (int32_t)s->drawn[0] == s->poison) token = TOKEN_INVALID;
        if (q->sample) r->tokens[r->n_tokens++] = token;
        s->drawn[q->slot] += q->sample;
    }
    return true;
}

static bool script_read(Backend *b, StepResult *out, Error *err) {
    (void)err;
    Script *s = (Script *)b;
    *out = s->queue[0];
    memmove(s->queue, s->queue + 1, --s->n_queued * sizeof s->queue[0]);
    return true;
}

static Engine *make_engine(Script *script, uint32_t depth, uint32_t parts) {
    static Plan plan;
    Arena arena = os_arena(1 << 20);
    Error err;
    Engine *e;
    plan.config = (ModelConfig){.n_vocab = VOCAB, .n_context = CONTEXT};
    *script = (Script){.api = {.begin = script_begin,
                               .step = script_step,
                               .read = script_read,
                               .info = {.n_kv_pages = PAGES,
                                        .max_rows = CHUNK,
                                        .chunk_parts = parts,
                                        .pipeline_depth = depth}},
                       .poison = -1};
    REQUIRE(engine_create(&script->api, &plan, SLOTS, &arena, &e, &err));
    return e;
}

static const int32_t prompt[CONTEXT] = {1, 2, 3};

static uint32_t admit(Engine *e, uint32_t n_tokens, uint32_t max_tokens) {
    Error err = {0};
    uint32_t slot = UINT32_MAX;
    EngineRequest r = {
        .tokens = prompt, .n_tokens = n_tokens, .max_tokens = max_tokens, .sampler = SAMPLER_GREEDY};
    CHECK(engine_admit(e, &r, &slot, &err));
    CHECK_STR_EQ("", err.message);
    return slot;
}

TEST(engine_runs_requests_to_their_end) {
    for (uint32_t run = 0; run < 6; run++) {
        uint32_t depth = 1 + run % 2, parts = run / 2 * 5; // 0, 5, 10
        TEST_CASE_LABEL("depth %u, %u parts", depth, parts);
        Script script;
        Engine *e = make_engine(&script, depth, parts);
        uint32_t got[SLOTS] = {0}, wanted[SLOTS] = {7, 1, 20};
        uint32_t prompts[SLOTS] = {CHUNK * 2 + 5, 1, CHUNK};
        for (uint32_t i = 0; i < SLOTS; i++)
            CHECK_INT_EQ(i, admit(e, prompts[i], wanted[i]));
        for (;;) {
            EngineOutput out[SLOTS];
            uint32_t n, failed;
            Error err;
            REQUIRE(engine_step(e, out, &n, &failed, &err));
            if (n == 0) break;
            for (uint32_t i = 0; i < n; i++) {
                if (out[i].token < 0) continue;
                CHECK_INT_EQ(100 * out[i].slot + got[out[i].slot], out[i].token);
                got[out[i].slot]++;
                CHECK(out[i].last == (got[out[i].slot] == wanted[out[i].slot]));
                CHECK_INT_EQ(prompts[out[i].slot], out[i].n_prompt_done);
            }
        }
        CHECK_INT_EQ(max_u64(parts, 1), script.most_parts);
        for (uint32_t i = 0; i < SLOTS; i++)
            CHECK_INT_EQ(wanted[i], got[i]);
        CHECK_INT_EQ(depth, script.deepest);
        CHECK_INT_EQ(SLOTS, engine_active(e));
        for (uint32_t i = 0; i < SLOTS; i++)
            engine_release(e, i);
        CHECK_INT_EQ(0, engine_active(e));
        CHECK_INT_EQ(0, engine_pages_used(e));
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
         {.tokens = prompt, .n_tokens = 200, .max_tokens = 57},
         ERR_INVALID_REQUEST,
         "200 prompt tokens and 57 to generate exceed the context length of 256"},
        {"outside the vocabulary",
         {.tokens = outside, .n_tokens = 2, .max_tokens = 1},
         ERR_INVALID_REQUEST,
         "prompt token 1 is 1000; the vocabulary has 1000"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        CHECK(!engine_admit(e, &rows[i].request, &slot, &err));
        CHECK_INT_EQ(rows[i].code, err.code);
        CHECK_STR_EQ(rows[i].message, err.message);
    }
    // 16 pages a full context: two fit into 40 pages, a third does not, and a small one still does.
    EngineRequest full = {.tokens = prompt, .n_tokens = 200, .max_tokens = 56, .sampler = SAMPLER_GREEDY};
    admit(e, 200, 56);
    admit(e, 200, 56);
    CHECK(!engine_admit(e, &full, &slot, &err));
    CHECK_INT_EQ(ERR_VRAM_OOM, err.code);
    CHECK_INT_EQ(2, admit(e, 100, 28));
    CHECK(!engine_admit(e, &full, &slot, &err));
    CHECK_INT_EQ(ERR_BUSY, err.code);
    engine_release(e, 1);
    CHECK_INT_EQ(1, admit(e, 200, 56));
}

// A slot is given to another sequence while a step of the first is still in flight: its token must not leak.
TEST(engine_drops_what_comes_for_released_slots) {
    Script script;
    Engine *e = make_engine(&script, 2, 0);
    EngineOutput out[SLOTS];
    uint32_t n, failed;
    Error err;
    uint32_t slot = admit(e, 4, 50);
    REQUIRE(engine_step(e, out, &n, &failed, &err)); // a step more is in flight now
    CHECK_INT_EQ(1, n);
    engine_release(e, slot);
    CHECK_INT_EQ(slot, admit(e, 9, 3));
    uint32_t tokens = 0;
    for (uint32_t calls = 0; calls < 10; calls++) {
        REQUIRE(engine_step(e, out, &n, &failed, &err));
        for (uint32_t i = 0; i < n; i++) {
            if (out[i].token >= 0) CHECK_INT_EQ(tokens++, out[i].token);
            CHECK_INT_EQ(9, out[i].n_prompt_done);
        }
    }
    CHECK_INT_EQ(3, tokens);
}

// A sequence that ends in the middle of a chunk leaves its other parts undone; the next one begins its own.
TEST(engine_ends_chunks_between_their_parts) {
    for (uint32_t depth = 1; depth <= 2; depth++) {
        TEST_CASE_LABEL("depth %u", depth);
        Script script;
        Engine *e = make_engine(&script, depth, 8);
        EngineOutput out[SLOTS];
        uint32_t n, failed, tokens = 0;
        Error err;
        uint32_t slot = admit(e, CHUNK, 5);
        REQUIRE(engine_step(e, out, &n, &failed, &err));
        CHECK(n == 1 && out[0].token == -1 && out[0].n_prompt_done == 0);
        CHECK(script.open.n_parts == 8 && script.open.part == depth - 1);
        engine_release(e, slot);
        CHECK_INT_EQ(slot, admit(e, 9, 3));
        for (uint32_t calls = 0; calls < 20; calls++) {
            REQUIRE(engine_step(e, out, &n, &failed, &err));
            for (uint32_t i = 0; i < n; i++)
                tokens += out[i].token >= 0;
        }
        CHECK_INT_EQ(3, tokens);
        CHECK_INT_EQ(9 + 2, script.done[slot]);
    }
}

TEST(engine_names_the_sequence_whose_logits_fail) {
    Script script;
    Engine *e = make_engine(&script, 1, 0);
    script.poison = 2;
    EngineOutput out[SLOTS];
    uint32_t n, failed = 0, good = 0;
    Error err;
    admit(e, 4, 10);
    admit(e, 4, 10);
    bool ok = true;
    while (ok) {
        ok = engine_step(e, out, &n, &failed, &err);
        good += n;
    }
    CHECK_INT_EQ(0, failed);
    CHECK_INT_EQ(ERR_INTERNAL, err.code);
    engine_release(e, failed);
    do {
        REQUIRE(engine_step(e, out, &n, &failed, &err));
        good += n;
    } while (n);
    CHECK_INT_EQ(12, good); // two of the first, all ten of the second
}
