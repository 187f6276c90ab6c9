// Jobs of every architecture alone and in a crowd, on the GPU: the same bits (crowd_checks.h). Skipped where
// there is no GPU; with EMULATED_GPU=1 in the environment they run on the emulated one, shorter.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_model_names.h"
#include "arch_models.h"
#include "backend/cuda/cuda_backend.h"
#include "crowd_checks.h"
#include "model_pair.h"
#include "os/os.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOTS = 64, CONTEXT = 128, MAX_ROWS = 128 };

static_assert((int)CROWD_CONTEXT <= (int)CONTEXT, "the texts fit");

static void check_crowds(const char *name, KvType type, const CrowdConfig *crowds, uint32_t n_crowds,
                         uint32_t n_slots) {
    BackendOptions options = model_gpu_options(n_slots, CONTEXT);
    options.max_rows = MAX_ROWS;
    ModelPair *p = model_pair_open_with(arch_model_build(arch_model_named(name)), type, &options);
    for (uint32_t i = 0; i < n_crowds; i++) {
        TEST_CASE_LABEL("%s, a crowd of %u", name, crowds[i].crowd);
        // The first ones run while classes of more rows are being compiled.
        if (i + 1 == n_crowds) cuda_backend_wait_for_classes(p->gpu);
        CrowdReport r = crowd_run(p->gpu, p->plan, p->arena, &crowds[i]);
        CHECK_INT_EQ(0, r.differ);
        CHECK(r.cached > 0 && r.companions > 0);
        printf("%s, %u: %u steps, %u companions, %u tokens cached, %u set aside\n", name, crowds[i].crowd,
               r.steps, r.companions, r.cached, r.set_aside);
    }
    model_pair_close(p);
}

static void check_typed(const char *name, KvType type) {
    static const CrowdConfig crowds[] = {
        {.seed = 3, .crowd = 16, .n_pages = 30, .max_rows = 20, .n_texts = 4},
        {.seed = 4, .crowd = 2, .n_pages = 7, .max_rows = 3, .n_texts = 4},
        {.seed = 1, .crowd = 7, .n_pages = 14, .max_rows = 17, .n_texts = 4},
        {.seed = 5, .crowd = 7, .n_pages = 60, .max_rows = 64, .n_texts = 4},
        {.seed = 2, .crowd = 64, .n_pages = 100, .max_rows = 128, .n_texts = 4},
        {.seed = 6, .crowd = 64, .n_pages = 150, .max_rows = 128, .n_texts = 4},
    };
    static const CrowdConfig emulated = {.seed = 1, .crowd = 3, .n_pages = 9, .max_rows = 17, .n_texts = 1};
    if (getenv("EMULATED_GPU")) check_crowds(name, type, &emulated, 1, 8);
    else check_crowds(name, type, crowds, COUNT_OF(crowds), SLOTS);
}

static void check_model(const char *name) {
    check_typed(name, KV_TYPE_F16);
}

TEST_SLOW(cuda_gpu_q8_crowds, 900) {
    static const char *const names[] = {"llama", "gemma3", "gpt_oss", "gemma4_e4b"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        check_typed(names[i], KV_TYPE_Q8);
}

// Every other text is held to a grammar.
TEST_SLOW(cuda_gpu_masked_crowds, 900) {
    static const CrowdConfig crowds[] = {
        {.seed = 3, .crowd = 16, .n_pages = 30, .max_rows = 20, .n_texts = 4},
        {.seed = 6, .crowd = 64, .n_pages = 150, .max_rows = 128, .n_texts = 4},
    };
    if (getenv("EMULATED_GPU")) SKIP("emulated_batches_with_masks runs it there, shorter");
    Arena arena = os_arena(64 << 20);
    const Tokenizer *tokenizer = crowd_tokenizer(&arena, ARCH_MODEL_VOCAB);
    for (uint32_t i = 0; i < COUNT_OF(crowds); i++) {
        CrowdConfig config = crowds[i];
        config.tokenizer = tokenizer;
        check_crowds("llama", KV_TYPE_F16, &config, 1, SLOTS);
    }
}

#define MODEL_CASE(name)                          \
    TEST_SLOW(cuda_gpu_crowd_model_##name, 900) { \
        check_model(#name);                       \
    }
ARCH_MODEL_NAMES(MODEL_CASE)
ARCH_GEMMA_MODEL_NAMES(MODEL_CASE)
ARCH_META_MODEL_NAMES(MODEL_CASE)
ARCH_FAMILY_MODEL_NAMES(MODEL_CASE)
ARCH_ODD_MODEL_NAMES(MODEL_CASE)
ARCH_STATE_MODEL_NAMES(MODEL_CASE)
ARCH_MLA_MODEL_NAMES(MODEL_CASE)

#else

TEST(cuda_gpu_crowds) {
    SKIP("this build has no CUDA");
}

#endif
