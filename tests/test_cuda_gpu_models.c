// Every architecture on the GPU: a case for each model of arch_models.c, against the CPU reference and
// against itself. Skipped where there is no GPU; with EMULATED_GPU=1 in the environment they run on the
// emulated one, shorter.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_model_names.h"
#include "arch_models.h"
#include "model_checks.h"
#include "model_stages.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOTS = 3, CONTEXT = 1024, LONG_PROMPT = 600 };

// The product's promise for logits, and what a stage by itself may be off by.
static const double ERROR_MAX = 3e-2, STAGE_ERROR_MAX = 5e-3;

static const SamplerParams sampled = {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 1};

typedef struct {
    ModelPair *pair;
    int32_t tokens[LONG_PROMPT];
    uint32_t n_long; // tokens of the long prompt
    uint32_t runs;   // of what is repeated
} Case;

static Case open_model(const char *name) {
    const ArchModel *m = arch_model_named(name);
    REQUIRE(m != NULL);
    bool emulated = getenv("EMULATED_GPU") != NULL;
    Case c = {.n_long = emulated ? 150 : LONG_PROMPT, .runs = emulated ? 4 : 100};
    BackendOptions options = model_gpu_options(SLOTS, emulated ? 256 : CONTEXT);
    c.pair = model_pair_open(arch_model_build_long(m, CONTEXT), &options);
    for (uint32_t i = 0; i < COUNT_OF(c.tokens); i++)
        c.tokens[i] = (int32_t)(rng_philox(600, i).word[0] % ARCH_MODEL_VOCAB);
    return c;
}

// Relative error of the logits below 3e-2 at every position, of each stage by itself below 5e-3. M0-W-1822:
// those of MXFP4 (the models with experts) below 1%.
static void check_numerics(const char *name) {
    Case c = open_model(name);
    model_stages_compare(c.pair, c.tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_PROMPT + 16, STAGE_ERROR_MAX);
    model_check_logits(c.pair, &sampled, c.tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_TOKENS, ERROR_MAX);
    model_check_logits(c.pair, &SAMPLER_GREEDY, c.tokens, c.n_long, c.n_long, ERROR_MAX);
    model_pair_close(c.pair);
}

// M0-W-1826: the same request gives the same tokens, however its prompt is cut and whatever runs beside it.
static void check_sameness(const char *name) {
    static const uint32_t chunks[] = {64, 100, 512};
    Case c = open_model(name);
    model_check_chunks(c.pair, c.tokens, c.n_long, chunks, COUNT_OF(chunks));
    if (c.pair->gpu->info.n_checkpoints) model_check_checkpoints(c.pair, c.tokens, 61);
    model_check_repeats(c.pair, &SAMPLER_GREEDY, c.tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_TOKENS, c.runs);
    model_check_repeats(c.pair, &sampled, c.tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_TOKENS, c.runs);
    model_check_side_by_side(c.pair, &sampled, c.tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_TOKENS);
    model_pair_close(c.pair);
}

#define MODEL_CASES(name)                                           \
    TEST_SLOW(cuda_gpu_model_##name, 600) {                         \
        check_numerics(#name);                                      \
    }                                                               \
    TEST_SLOW(cuda_gpu_m0_w_1826_model_##name##_is_the_same, 600) { \
        check_sameness(#name);                                      \
    }
ARCH_MODEL_NAMES(MODEL_CASES)
ARCH_GEMMA_MODEL_NAMES(MODEL_CASES)
ARCH_META_MODEL_NAMES(MODEL_CASES)
ARCH_FAMILY_MODEL_NAMES(MODEL_CASES)
ARCH_ODD_MODEL_NAMES(MODEL_CASES)
ARCH_STATE_MODEL_NAMES(MODEL_CASES)
ARCH_MLA_MODEL_NAMES(MODEL_CASES)

// M0-W-1825: a job whose cache does not fit fails, and the next one works.
TEST_SLOW(cuda_gpu_m0_w_1825_a_cache_that_does_not_suffice_is_one_jobs_error, 120) {
    const ArchModel *m = arch_model_named("llama");
    BackendOptions options = model_gpu_options(1, 256);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    ModelPair *p = model_pair_open(arch_model_build_long(m, 512), &options); // half a context
    model_check_cache_runs_out(p, tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_TOKENS);
    model_pair_close(p);
}

#else

TEST(cuda_gpu_models) {
    SKIP("this build has no CUDA");
}

#endif
