// Whole models through the CUDA backend without a GPU (emulated_gpu.h), against the CPU reference at every
// position: a case for each model of arch_models.c.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cpu/cpu_backend.h"
#include "emulated_gpu.h"
#include "model_pair.h"
#include "model_stages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SM = 90, MULTIPROCESSORS = 2, STAGE_ROWS = 8 };

// The product's promise; rounding makes about 2e-3.
static const double ERROR_MAX = 3e-2;
// Of one stage by itself.
static const double STAGE_ERROR_MAX = 5e-3;

static const SamplerParams sampled = {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 1};

// Router logits differ by about 3e-4 from the reference's.
static const float ROUTER_MARGIN = 1e-3f;

typedef struct {
    int32_t tokens[ARCH_MODEL_TOKENS + 1];
    float logits[ARCH_MODEL_TOKENS][ARCH_MODEL_VOCAB];
} Output;

static ModelPair *open_emulated(const char *name) {
    const ArchModel *m = arch_model_named(name);
    REQUIRE(m != NULL);
    emulated_gpu_load(SM, MULTIPROCESSORS);
    BackendOptions options = {.n_slots = 2,
                              .max_rows = ARCH_MODEL_PROMPT,
                              .kv_tokens_max = 4 * ARCH_MODEL_TOKENS,
                              .n_threads = 1,
                              .jit_cache = "",
                              .model_path = name,
                              .jit_compiler = &emulated_gpu_compiler};
    return model_pair_open(arch_model_build(m), &options);
}

static Output generate(ModelPair *p, uint32_t slot, uint32_t n, const uint32_t *chunks, uint32_t n_chunks) {
    Output out;
    arch_model_tokens(out.tokens);
    model_generate(p, p->gpu, slot, &sampled, out.tokens, ARCH_MODEL_PROMPT, n, chunks, n_chunks,
                   out.logits[0]);
    return out;
}

// By how much the reference's routers prefer, at each position, what they choose to what they do not: where
// two logits are closer than rounding moves them, either expert is right, and logits may differ.
typedef struct {
    const Plan *plan;
    uint32_t first; // row of the step under way
    float margin[ARCH_MODEL_TOKENS];
} Routers;

static int compare_falling(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void watch_routers(void *context, uint32_t op, const float *values, uint32_t n_rows, uint32_t width) {
    Routers *r = context;
    uint32_t used = r->plan->config.n_experts_used;
    if (r->plan->ops[op].out != ACT_L) return;
    for (uint32_t row = 0; row < n_rows; row++) {
        float sorted[64], *margin = &r->margin[r->first + row];
        REQUIRE(width <= COUNT_OF(sorted));
        memcpy(sorted, values + (uint64_t)row * width, width * sizeof *sorted);
        qsort(sorted, width, sizeof *sorted, compare_falling);
        *margin = fminf(*margin, sorted[used - 1] - sorted[used]);
    }
}

static void check_logits(ModelPair *p, const Output *actual) {
    static float expected[ARCH_MODEL_TOKENS][ARCH_MODEL_VOCAB];
    static Routers routers;
    double worst[2] = {0}; // of the prompt's rows, and of those that were drawn
    uint32_t n_ties = 0;
    routers.plan = p->plan;
    for (uint32_t t = 0; t < ARCH_MODEL_TOKENS; t++)
        routers.margin[t] = INFINITY;
    cpu_backend_observe(p->cpu, watch_routers, &routers);
    model_begin(p->cpu, 0, &sampled, actual->tokens, ARCH_MODEL_PROMPT);
    for (uint32_t t = 0, rows; t < ARCH_MODEL_TOKENS; t += rows) {
        rows = ARCH_MODEL_TOKENS - ARCH_MODEL_PROMPT;
        routers.first = t;
        StepResult r = model_run(p, p->cpu, 0, actual->tokens + t, t, rows, false, rows);
        memcpy(expected[t], r.logits, rows * sizeof expected[t]);
    }
    cpu_backend_observe(p->cpu, NULL, NULL);
    for (uint32_t t = 0; t < ARCH_MODEL_TOKENS; t++) {
        if (routers.margin[t] < ROUTER_MARGIN && ++n_ties) continue;
        double e = model_relative_error(expected[t], actual->logits[t], ARCH_MODEL_VOCAB);
        if (!(e < ERROR_MAX)) FAIL("position %u: relative error of the logits %g", t, e);
        double *w = &worst[t >= ARCH_MODEL_PROMPT];
        *w = fmax(*w, e);
    }
    CHECK(worst[0] > 0 && worst[1] > 0); // it is not the reference
    CHECK(n_ties <= ARCH_MODEL_TOKENS / 16);
    printf("largest relative error of the logits: %.2g in the prompt, %.2g in decoding\n", worst[0],
           worst[1]);
}

static void check_model(const char *name) {
    static const uint32_t one[] = {ARCH_MODEL_PROMPT}, some[] = {23, 1, 1, 22, 1, ARCH_MODEL_PROMPT};
    ModelPair *p = open_emulated(name);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_PROMPT + STAGE_ROWS, STAGE_ERROR_MAX);
    Output whole = generate(p, 0, ARCH_MODEL_TOKENS, one, COUNT_OF(one));
    check_logits(p, &whole);
    Output cut = generate(p, 1, ARCH_MODEL_PROMPT + 1, some, COUNT_OF(some));
    enum { SAME = ARCH_MODEL_PROMPT + 1 };
    CHECK_BYTES_EQ(whole.logits, SAME * sizeof whole.logits[0], cut.logits, SAME * sizeof cut.logits[0]);
    CHECK_BYTES_EQ(whole.tokens, SAME * sizeof whole.tokens[0], cut.tokens, SAME * sizeof cut.tokens[0]);
    model_pair_close(p);
}

// Of arch_models.c, with '_' for '-'.
// clang-format off
#define MODELS(ROW) \
    ROW(llama) ROW(llama_linear) ROW(llama_yarn) ROW(mistral) ROW(mixtral) ROW(qwen2) ROW(qwen3) ROW(qwen3moe) \
    ROW(phi3) ROW(phi3_long) ROW(phi3_short) ROW(gemma3) ROW(gemma3_linear) ROW(gpt_oss) ROW(gpt2)
// clang-format on

#define MODEL_CASE(name)                    \
    TEST_SLOW(emulated_model_##name, 600) { \
        check_model(#name);                 \
    }
MODELS(MODEL_CASE)

TEST(emulated_models_are_all) {
#define MODEL_NAME(name) #name,
    static const char *const names[] = {MODELS(MODEL_NAME)};
    for (uint32_t i = 0; arch_model_at(i); i++) {
        bool found = false;
        for (size_t k = 0; k < COUNT_OF(names); k++)
            found |= arch_model_named(names[k]) == arch_model_at(i);
        if (!found) FAIL("%s is not run", arch_model_name(arch_model_at(i)));
        CHECK(found);
    }
}

#else

TEST(emulated_models) {
    SKIP("this build has no CUDA");
}

#endif
