// Models whose layers keep a state, through the engine on the CPU reference: where checkpoints are left, what
// goes on from them, and that it draws the same as without.
#include "arch_models.h"
#include "engine/engine_internal.h"
#include "engine_invariants.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

enum { SLOTS = 4, CONTEXT = 512, LONG_CONTEXT = 1200, MARK = 3 };

typedef struct {
    Plan *plan;
    Backend *backend;
    Engine *engine;
    uint32_t marks[(ARCH_MODEL_VOCAB + 31) / 32];
} Model;

// `checkpoints`: places; 0: as many as the backend sees fit. max_rows: of a step.
static void open_model_with(const char *name, uint32_t checkpoints, uint32_t context, uint32_t max_rows,
                            Model *m) {
    Arena arena = os_arena(64 << 20);
    Str file = arch_model_build_long(arch_model_named(name), context);
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = name};
    BackendOptions options = {
        .n_slots = SLOTS, .max_rows = max_rows, .kv_texts = SLOTS, .kv_text_tokens = context, .n_threads = 1};
    const GgufFile *parsed;
    Error err = {0};
    *m = (Model){0};
    bool ok = gguf_parse(&part, 1, &arena, &parsed, &err) && plan_build(parsed, &arena, &m->plan, &err) &&
              cpu_backend_open(&options, &arena, &m->backend, &err) &&
              m->backend->load(m->backend, m->plan, NULL, NULL, &err);
    if (ok && checkpoints) m->backend->info.n_checkpoints = checkpoints;
    ok = ok && engine_create(m->backend, m->plan, SLOTS, &arena, &m->engine, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    token_set_add(m->marks, MARK);
    m->engine->marks = m->marks;
}

static void open_model(const char *name, uint32_t checkpoints, Model *m) {
    open_model_with(name, checkpoints, CONTEXT, 128, m);
}

typedef struct {
    int32_t tokens[LONG_CONTEXT];
    uint32_t n;
} Text;

// Any tokens but the mark.
static void add_tokens(Text *t, uint64_t seed, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        int32_t token = (int32_t)(rng_philox(seed, i).word[0] % ARCH_MODEL_VOCAB);
        t->tokens[t->n++] = token == MARK ? MARK + 1 : token;
    }
}

static uint32_t admit(Model *m, const Text *t, uint32_t n_drawn, float temperature) {
    EngineRequest r = {
        .tokens = t->tokens, .n_prompt = t->n, .max_tokens = n_drawn, .sampler = SAMPLER_GREEDY};
    r.sampler.temperature = temperature;
    r.sampler.seed = 11;
    uint32_t slot;
    Error err = {0};
    REQUIRE(engine_admit(m->engine, &r, &slot, &err));
    return slot;
}

// What came of a text.
typedef struct {
    uint32_t n_cached;
    CacheMiss miss;
    int32_t drawn[64];
    uint32_t n_drawn;
} Answer;

// Runs all that are admitted to their end. answers: [SLOTS], by slot. Returns the rows that were computed.
static uint32_t run(Model *m, Answer *answers) {
    EngineOutput outputs[JOBS_MAX];
    uint32_t n_outputs, rows = 0;
    Error err = {0};
    memset(answers, 0, SLOTS * sizeof *answers);
    while (engine_active(m->engine)) {
        REQUIRE(engine_step(m->engine, outputs, &n_outputs, &err));
        rows += engine_rows_read(m->engine);
        for (uint32_t i = 0; i < n_outputs; i++) {
            const EngineOutput *o = &outputs[i];
            Answer *a = &answers[o->slot];
            a->n_cached = o->n_cached;
            a->miss = o->cache_miss;
            for (uint32_t k = 0; k < o->n_tokens; k++)
                a->drawn[a->n_drawn++] = o->tokens[k];
            if (o->last) engine_release(m->engine, o->slot);
        }
        const char *problem = engine_problem(m->engine);
        if (problem) FAIL("%s", problem);
    }
    return rows;
}

static Answer answer(Model *m, const Text *t, uint32_t n_drawn, float temperature, uint32_t *rows) {
    Answer answers[SLOTS];
    uint32_t slot = admit(m, t, n_drawn, temperature);
    *rows = run(m, answers);
    return answers[slot];
}

// Each turn goes on from the end of the one before, but for less than a page, and draws what it draws with an
// empty cache.
TEST(engine_states_chat_computes_what_is_new) {
    static const char *const names[] = {"lfm2", "qwen35", "nemotron-h-moe", "granite-hybrid"};
    static const float temperatures[] = {0, 0.8f};
    for (uint32_t i = 0; i < COUNT_OF(names) * COUNT_OF(temperatures); i++) {
        Model m;
        float temperature = temperatures[i % 2];
        Text chat = {0};
        uint32_t before = 0, rows, rows_alone;
        open_model(names[i / 2], 0, &m);
        for (uint32_t turn = 0; turn < 4; turn++) {
            TEST_CASE_LABEL("%s at %g, turn %u", names[i / 2], (double)temperature, turn);
            add_tokens(&chat, turn, 37);
            Answer a = answer(&m, &chat, 30, temperature, &rows);
            CHECK_INT_EQ(before / KV_PAGE_TOKENS * KV_PAGE_TOKENS, a.n_cached);
            CHECK_INT_EQ(chat.n - a.n_cached + 29, rows); // the last token drawn is not computed
            CHECK_INT_EQ(CACHE_MISS_NEW, a.miss);
            engine_drop_cache(m.engine);
            CHECK_INT_EQ(0, m.engine->pages.checkpoints.n_places - m.engine->pages.checkpoints.n_free);
            Answer alone = answer(&m, &chat, 30, temperature, &rows_alone);
            CHECK_INT_EQ(0, alone.n_cached);
            CHECK_INT_EQ(chat.n + 29, rows_alone);
            CHECK_BYTES_EQ(alone.drawn, sizeof alone.drawn, a.drawn, sizeof a.drawn);
            for (uint32_t k = 0; k < a.n_drawn; k++)
                chat.tokens[chat.n++] = a.drawn[k];
            before = chat.n - 1;
        }
        m.backend->close(m.backend);
    }
}

// A message that many texts begin with, and the prompt as it was.
TEST(engine_states_go_on_from_messages) {
    Model m;
    Text a = {0}, b = {0};
    uint32_t rows;
    open_model("qwen35", 0, &m);
    add_tokens(&a, 1, 100); // the system's message
    a.tokens[a.n++] = MARK;
    b = a;
    add_tokens(&a, 2, 90);
    add_tokens(&b, 3, 70);
    CHECK_INT_EQ(0, answer(&m, &a, 1, 0, &rows).n_cached);
    CHECK_INT_EQ(96, answer(&m, &b, 1, 0, &rows).n_cached);
    CHECK_INT_EQ(b.n - 96, rows);
    Answer again = answer(&m, &a, 1, 0, &rows);
    CHECK_INT_EQ(a.n / KV_PAGE_TOKENS * KV_PAGE_TOKENS, again.n_cached);
    CHECK_INT_EQ(CACHE_MISS_NONE, again.miss);
    // It parts from both where nobody left a checkpoint: 80 tokens are in the cache, and no state there.
    Text c = {.n = 80};
    memcpy(c.tokens, a.tokens, c.n * sizeof *c.tokens);
    add_tokens(&c, 4, 20);
    Answer apart = answer(&m, &c, 1, 0, &rows);
    CHECK_INT_EQ(0, apart.n_cached);
    CHECK_INT_EQ(CACHE_MISS_STATE, apart.miss);
    m.backend->close(m.backend);
}

// Texts that come together compute what they begin with once: the first one leaves a checkpoint there.
TEST(engine_states_crowds_share_a_beginning) {
    Model m;
    Text texts[SLOTS] = {0};
    Answer answers[SLOTS], alone;
    uint32_t slots[SLOTS], rows, all = 0;
    open_model("lfm2", 0, &m);
    for (uint32_t i = 0; i < SLOTS; i++) {
        add_tokens(&texts[i], 1, 203);
        add_tokens(&texts[i], 10 + i, 20);
        slots[i] = admit(&m, &texts[i], 5, 0.8f);
        all += texts[i].n + 4;
    }
    rows = run(&m, answers);
    CHECK_INT_EQ(all - (SLOTS - 1) * 192, rows);
    for (uint32_t i = 0; i < SLOTS; i++) {
        Answer a = answers[slots[i]];
        CHECK_INT_EQ(i ? 192 : 0, a.n_cached);
        engine_drop_cache(m.engine);
        alone = answer(&m, &texts[i], 5, 0.8f, &rows);
        CHECK_BYTES_EQ(alone.drawn, sizeof alone.drawn, a.drawn, sizeof a.drawn);
    }
    m.backend->close(m.backend);
}

static uint64_t any_ns(void) {
    return 0;
}

// The tokens that t begins with, then others.
static Text branch_of(const Text *t, uint32_t n) {
    Text branch = {.n = n};
    memcpy(branch.tokens, t->tokens, n * sizeof *t->tokens);
    add_tokens(&branch, n, 20);
    return branch;
}

// A long prompt is one step, whatever it leaves on the way. Other texts go on from there as if alone.
TEST(engine_states_a_prompt_is_one_step) {
    static const char *const names[] = {"qwen35", "lfm2"};
    // Near the first two borders of messages and the last two, at 1,024, and before the last token.
    static const uint32_t borders[] = {100, 200, 300, 400, 500}, kept[] = {96, 192, 400, 496, 1024, 1136};
    for (uint32_t i = 0; i < COUNT_OF(names); i++) {
        Model m;
        Text t = {0};
        Answer alone[COUNT_OF(kept)];
        EngineOutput outputs[JOBS_MAX];
        uint32_t rows, n_outputs, n_steps = 0;
        Error err = {0};
        open_model_with(names[i], 16, LONG_CONTEXT, LONG_CONTEXT, &m);
        engine_set_clock(m.engine, any_ns);
        add_tokens(&t, 1, 1150);
        for (uint32_t k = 0; k < COUNT_OF(borders); k++)
            t.tokens[borders[k]] = MARK;
        for (uint32_t k = 0; k < COUNT_OF(kept); k++) {
            Text branch = branch_of(&t, kept[k]);
            alone[k] = answer(&m, &branch, 4, 0.8f, &rows);
            engine_drop_cache(m.engine);
        }
        admit(&m, &t, 1, 0);
        rows = 0;
        for (; engine_active(m.engine); n_steps++) {
            REQUIRE(engine_step(m.engine, outputs, &n_outputs, &err));
            rows += engine_rows_read(m.engine);
            if (n_outputs && outputs[0].last) engine_release(m.engine, outputs[0].slot);
        }
        CHECK_INT_EQ(1, n_steps);
        CHECK_INT_EQ(t.n, rows);
        CHECK_INT_EQ(COUNT_OF(kept),
                     m.engine->pages.checkpoints.n_places - m.engine->pages.checkpoints.n_free);
        for (uint32_t k = 0; k < COUNT_OF(kept); k++) {
            TEST_CASE_LABEL("%s at %u", names[i], kept[k]);
            Text branch = branch_of(&t, kept[k]);
            Answer a = answer(&m, &branch, 4, 0.8f, &rows);
            CHECK_INT_EQ(kept[k], a.n_cached);
            CHECK_BYTES_EQ(alone[k].drawn, sizeof alone[k].drawn, a.drawn, sizeof a.drawn);
        }
        m.backend->close(m.backend);
    }
}

// With few places those that a text went on from go first, then those used longest ago.
TEST(engine_states_few_checkpoints) {
    static const uint32_t wanted[] = {0, 96, 96, 0, 96};
    static const uint64_t texts[] = {1, 1, 1, 2, 1};
    Model m;
    uint32_t rows;
    open_model("lfm2", 4, &m);
    for (uint32_t i = 0; i < COUNT_OF(texts); i++) {
        TEST_CASE_LABEL("text %u", i);
        Text t = {0};
        add_tokens(&t, texts[i], 100);
        CHECK_INT_EQ(wanted[i], answer(&m, &t, 60, 0, &rows).n_cached);
        CHECK(m.engine->pages.checkpoints.n_free <= 1);
    }
    CHECK(m.engine->pages.checkpoints.n_evicted > 5);
    // Four others, and it is gone.
    for (uint64_t i = 10; i < 14; i++) {
        Text other = {0};
        add_tokens(&other, i, 100);
        CHECK_INT_EQ(0, answer(&m, &other, 1, 0, &rows).n_cached);
    }
    Text t = {0};
    add_tokens(&t, 1, 100);
    Answer last = answer(&m, &t, 1, 0, &rows);
    CHECK_INT_EQ(0, last.n_cached);
    CHECK_INT_EQ(CACHE_MISS_STATE, last.miss);
    m.backend->close(m.backend);
}

// A backend without checkpoints: no pages are shared, as nothing could go on from them.
TEST(engine_states_without_checkpoints) {
    Model m;
    Text t = {0};
    uint32_t rows;
    open_model("lfm2", 0, &m);
    m.engine->shares_pages = false;
    m.engine->pages.checkpoints.n_places = 0;
    add_tokens(&t, 1, 100);
    for (uint32_t i = 0; i < 2; i++)
        CHECK_INT_EQ(0, answer(&m, &t, 20, 0, &rows).n_cached);
    CHECK_INT_EQ(0, m.engine->pages.n_cached);
    m.backend->close(m.backend);
}
