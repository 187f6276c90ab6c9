// The stages of batches on the GPU: every architecture and every format against the CPU reference, and
// bit by bit against itself: rows alone, together, and as a prompt's, however it is cut. Skipped where there
// is no GPU; with EMULATED_GPU=1 in the environment the emulated one runs less of it.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_model_names.h"
#include "arch_models.h"
#include "backend/cuda/cuda_backend.h"
#include "base/rng.h"
#include "batch_checks.h"
#include "gguf_builder.h"
#include "model_checks.h"
#include "model_stages.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONTEXT = 256, PROMPT = 150 };

// The product's promise for logits, and what a stage by itself may be off by.
static const double ERROR_MAX = 3e-2, STAGE_ERROR_MAX = 5e-3, FORMAT_ERROR_MAX = 0.01;

// Ways to draw: greedy, sampled, by all rules.
static const SamplerParams ways[] = {{.top_p = 1, .repetition_penalty = 1},
                                     {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 1},
                                     {.temperature = 0.9f,
                                      .top_p = 0.95f,
                                      .min_p = 0.01f,
                                      .repetition_penalty = 1.2f,
                                      .presence_penalty = 0.3f,
                                      .top_k = 40,
                                      .seed = 3}};

static void warn(void *context, const char *message) {
    (void)context;
    FAIL("%s", message);
}

typedef struct {
    ModelPair *pair;
    int32_t tokens[PROMPT + 64];
    uint32_t n_prompt, n_drawn;
    uint32_t together[7], n_together; // rows that are run together
} Case;

static Case open_file(Str file, uint32_t n_vocab) {
    bool emulated = getenv("EMULATED_GPU") != NULL;
    Case c = {.n_prompt = emulated ? 70 : PROMPT,
              .n_drawn = emulated ? 3 : 40,
              .together = {1, 3, 8, 16, 32, 64},
              .n_together = emulated ? 3 : 6};
    BackendOptions options = model_gpu_options(emulated ? 8 : 64, CONTEXT);
    options.warn = warn;
    c.pair = model_pair_open(file, &options);
    REQUIRE(c.pair->gpu->info.rows_together >= c.together[c.n_together - 1]);
    cuda_backend_wait_for_classes(c.pair->gpu);
    for (uint32_t i = 0; i < COUNT_OF(c.tokens); i++)
        c.tokens[i] = (int32_t)(rng_philox(600, i).word[0] % n_vocab);
    return c;
}

static void compare_stages(Case *c, double error_max) {
    for (uint32_t i = 0; i < c->n_together; i++)
        model_stages_compare_rows(c->pair, c->tokens, 64, 64 + c->together[i], c->together[i], error_max);
}

static void check_model(const char *name) {
    static const uint32_t chunks[] = {64, 100, 7, 1};
    Case c = open_file(arch_model_build_long(arch_model_named(name), 1024), ARCH_MODEL_VOCAB);
    compare_stages(&c, STAGE_ERROR_MAX);
    model_check_logits(c.pair, &ways[1], c.tokens, c.n_prompt, c.n_prompt + c.n_drawn, ERROR_MAX);
    model_check_chunks(c.pair, c.tokens, c.n_prompt, chunks, COUNT_OF(chunks));
    batch_check_drawn_as_prompt(c.pair, &ways[1], c.tokens, c.n_prompt, c.n_prompt + c.n_drawn);
    for (uint32_t i = 1; i < c.n_together; i++) {
        batch_check_together(c.pair, &SAMPLER_GREEDY, 1, c.tokens, c.n_prompt, c.n_drawn, c.together[i]);
        batch_check_together(c.pair, &ways[1], 1, c.tokens, c.n_prompt, c.n_drawn, c.together[i]);
        batch_check_together(c.pair, &ways[2], 1, c.tokens, c.n_prompt, c.n_drawn, c.together[i]);
        batch_check_mixed(c.pair, &ways[1], 1, c.tokens, c.n_prompt, c.n_drawn, c.together[i]);
        batch_check_masked(c.pair, ways, COUNT_OF(ways), c.tokens, c.n_prompt, c.n_drawn, c.together[i]);
    }
    model_pair_close(c.pair);
}

#define MODEL_CASE(name)                          \
    TEST_SLOW(cuda_gpu_batch_model_##name, 900) { \
        check_model(#name);                       \
    }
ARCH_MODEL_NAMES(MODEL_CASE)
ARCH_GEMMA_MODEL_NAMES(MODEL_CASE)
ARCH_META_MODEL_NAMES(MODEL_CASE)
ARCH_FAMILY_MODEL_NAMES(MODEL_CASE)
ARCH_ODD_MODEL_NAMES(MODEL_CASE)
ARCH_STATE_MODEL_NAMES(MODEL_CASE)
ARCH_MLA_MODEL_NAMES(MODEL_CASE)

TEST_SLOW(cuda_gpu_batch_stages_agree_for_every_format, 900) {
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        TEST_CASE_LABEL("%s", dtype_info(d)->name);
        printf("%s\n", dtype_info(d)->name);
        TinyModel model = tiny_model_llama();
        model.architecture = d % 2 ? "qwen2" : "llama";
        model.dtype = model.embd_dtype = d;
        model.tied = d % 3 == 0;
        model.seed = 100 + d;
        Case c = open_file(tiny_model_build(&model), model.vocab);
        compare_stages(&c, FORMAT_ERROR_MAX);
        batch_check_drawn_as_prompt(c.pair, &ways[1], c.tokens, c.n_prompt, c.n_prompt + c.n_drawn);
        model_pair_close(c.pair);
    }
}

TEST_SLOW(cuda_gpu_batch_stages_agree_for_mixed_formats, 900) {
    for (Dtype d = 0; d < DTYPE_COUNT; d += 5) { // which formats are beside each other
        TEST_CASE_LABEL("from %s", dtype_info(d)->name);
        TinyModel model = tiny_model_mixed();
        model.dtype = d;
        Case c = open_file(tiny_model_build(&model), model.vocab);
        compare_stages(&c, FORMAT_ERROR_MAX);
        batch_check_drawn_as_prompt(c.pair, &ways[1], c.tokens, c.n_prompt, c.n_prompt + c.n_drawn);
        model_pair_close(c.pair);
    }
}

// Rows of as many logits as large vocabularies have.
TEST_SLOW(cuda_gpu_masked_draws_of_150000_tokens, 900) {
    static const uint32_t together[] = {1, 8, 64};
    TinyModel model = tiny_model_llama();
    model.vocab = getenv("EMULATED_GPU") ? 1024 : 151936;
    Case c = open_file(tiny_model_build(&model), model.vocab);
    for (uint32_t i = 0; i < COUNT_OF(together) && together[i] <= c.pair->n_slots; i++)
        batch_check_masked(c.pair, ways, COUNT_OF(ways), c.tokens, c.n_prompt, 6, together[i]);
    model_pair_close(c.pair);
}

#else

TEST(cuda_gpu_batches) {
    SKIP("this build has no CUDA");
}

#endif
