// Texts that are set aside and go on later, on the CPU reference: the same text, to the token.
#include "arch_models.h"
#include "engine/engine.h"
#include "os/os.h"
#include "runner.h"

enum { SLOTS = 2, PROMPT = 21, OUTPUT = 24, CONTEXT_PAGES = 4 };

typedef struct {
    Arena arena;
    Backend *backend;
    Engine *engine;
} Worker;

static Worker open_worker(const char *name) {
    Worker w = {.arena = os_arena(64 << 20)};
    const ArchModel *m = arch_model_named(name);
    REQUIRE(m != NULL);
    Str bytes = arch_model_build(m);
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = name};
    BackendOptions options = {.n_slots = SLOTS,
                              .max_rows = 16,
                              .kv_tokens_max = SLOTS * CONTEXT_PAGES * KV_PAGE_TOKENS,
                              .n_threads = 1};
    const GgufFile *file;
    Plan *plan;
    Error err = {0};
    bool ok = gguf_parse(&part, 1, &w.arena, &file, &err) && plan_build(file, &w.arena, &plan, &err) &&
              cpu_backend_open(&options, &w.arena, &w.backend, &err) &&
              w.backend->load(w.backend, plan, NULL, NULL, &err) &&
              engine_create(w.backend, plan, SLOTS, &w.arena, &w.engine, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    return w;
}

static uint32_t admit(Worker *w, const EngineRequest *request) {
    uint32_t slot;
    Error err = {0};
    bool ok = engine_admit(w->engine, request, &slot, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    return slot;
}

// Steps until `slot` has drawn n tokens more; they go to out.
static void draw(Worker *w, uint32_t slot, uint32_t n, int32_t *out) {
    for (uint32_t got = 0; got < n;) {
        EngineOutput outputs[SLOTS];
        uint32_t n_outputs;
        Error err;
        REQUIRE(engine_step(w->engine, outputs, &n_outputs, &err) && n_outputs > 0);
        for (uint32_t i = 0; i < n_outputs; i++) {
            CHECK(!outputs[i].failure);
            for (uint32_t t = 0; outputs[i].slot == slot && t < outputs[i].n_tokens; t++)
                out[got++] = outputs[i].tokens[t];
        }
    }
}

TEST(engine_continues_texts_that_were_set_aside) {
    static const SamplerParams params[] = {
        {.top_p = 1, .repetition_penalty = 1},
        {.top_p = 1, .repetition_penalty = 1.5f},
        {.temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1.3f, .top_k = 40, .seed = 5},
        {.temperature = 0.8f,
         .top_p = 1,
         .repetition_penalty = 1,
         .presence_penalty = 0.5f,
         .frequency_penalty = 1.5f,
         .seed = 9},
    };
    static const char *const models[] = {"llama", "gpt_oss", "gemma3"};
    static const uint32_t cuts[][2] = {{1, 2}, {11, 12}, {5, 23}}; // 11: the history fills whole pages
    int32_t tokens[ARCH_MODEL_TOKENS], whole[OUTPUT], cut[OUTPUT], *kept;
    arch_model_tokens(tokens);
    for (size_t run = 0; run < COUNT_OF(models) * COUNT_OF(params); run++) {
        Worker w = open_worker(models[run / COUNT_OF(params)]);
        REQUIRE((kept = arena_new(&w.arena, int32_t, engine_context_length(w.engine))) != NULL);
        EngineRequest request = {.tokens = tokens,
                                 .n_prompt = PROMPT,
                                 .max_tokens = OUTPUT,
                                 .sampler = params[run % COUNT_OF(params)]};
        EngineRequest other = {
            .tokens = tokens + 3, .n_prompt = 7, .max_tokens = 40, .sampler = SAMPLER_GREEDY};
        uint32_t slot = admit(&w, &request);
        draw(&w, slot, OUTPUT, whole);
        engine_release(w.engine, slot);
        for (size_t i = 0; i < COUNT_OF(cuts); i++) {
            uint32_t a = cuts[i][0], b = cuts[i][1];
            TEST_CASE_LABEL("%s, parameters %zu, set aside after %u and %u", models[run / COUNT_OF(params)],
                            run % COUNT_OF(params), a, b);
            memset(cut, 0, sizeof cut);
            EngineRequest rest;
            slot = admit(&w, &request);
            draw(&w, slot, a, cut);
            engine_set_aside(w.engine, slot, kept, &rest);
            CHECK_INT_EQ(0, kv_pages_used(engine_pages(w.engine)));
            CHECK_INT_EQ(a, rest.n_drawn);
            CHECK_INT_EQ(slot, admit(&w, &other)); // has its slot and its pages now
            slot = admit(&w, &rest);
            draw(&w, slot, b - a, cut + a);
            engine_set_aside(w.engine, slot, kept, &rest);
            slot = admit(&w, &rest);
            draw(&w, slot, OUTPUT - b, cut + b);
            CHECK_BYTES_EQ(whole, sizeof whole, cut, sizeof cut);
            engine_release(w.engine, slot);
            engine_release(w.engine, 0);
            CHECK_INT_EQ(0, kv_pages_used(engine_pages(w.engine)));
        }
        w.backend->close(w.backend);
    }
}
