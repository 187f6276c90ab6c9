// Whole models through the CUDA backend without a GPU (emulated_gpu.h), against the CPU reference: a case for
// each model of arch_models.c.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_model_names.h"
#include "arch_models.h"
#include "batch_checks.h"
#include "emulated_gpu.h"
#include "model_checks.h"
#include "model_stages.h"

#include <string.h>

enum { SM = 90, MULTIPROCESSORS = 2, STAGE_ROWS = 8 };

// The product's promise for logits (rounding makes about 2e-3), and what a stage by itself may be off by.
static const double ERROR_MAX = 3e-2, STAGE_ERROR_MAX = 5e-3, Q8_STAGE_ERROR_MAX = 2e-2;

static const SamplerParams sampled = {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 1};

static ModelPair *open_typed(const char *name, Str file, uint32_t n_slots, KvType type,
                             const JitCompiler *compiler) {
    emulated_gpu_load(SM, MULTIPROCESSORS);
    BackendOptions options = {.n_slots = n_slots,
                              .max_rows = ARCH_MODEL_PROMPT,
                              .kv_texts = n_slots,
                              .kv_text_tokens = 4 * ARCH_MODEL_TOKENS / n_slots,
                              .n_threads = 1,
                              .jit_cache = "",
                              .model_path = name,
                              .jit_compiler = compiler};
    return model_pair_open_with(file, type, &options);
}

static ModelPair *open_with(const char *name, Str file, uint32_t n_slots, const JitCompiler *compiler) {
    return open_typed(name, file, n_slots, KV_TYPE_F16, compiler);
}

static ModelPair *open_emulated(const char *name, Str file, uint32_t n_slots) {
    return open_with(name, file, n_slots, &emulated_gpu_compiler);
}

// The models that go through all of the backend: the sanitizers, which see the host's side alone (kernels are
// compiled without them), have only these, and prompts of others do without large tiles, whose kernels these
// have, too.
static bool is_complete(const char *name) {
    static const char *const names[] = {"llama", "gpt_oss", "gemma3", "gpt2"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return false;
}

static void check_model(const char *name) {
    static const uint32_t chunks[] = {23};
    const ArchModel *m = arch_model_named(name);
    REQUIRE(m != NULL);
    if (test_is_sanitized() && !is_complete(name))
        SKIP("only run without sanitizers, whose side others go through");
    ModelPair *p = open_with(name, arch_model_build(m), 1,
                             is_complete(name) ? &emulated_gpu_compiler : &emulated_gpu_small_tiles);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_PROMPT + STAGE_ROWS, STAGE_ERROR_MAX);
    model_check_logits(p, &sampled, tokens, ARCH_MODEL_PROMPT, ARCH_MODEL_TOKENS, ERROR_MAX);
    model_check_chunks(p, tokens, ARCH_MODEL_PROMPT, chunks, COUNT_OF(chunks));
    model_check_chunks(p, tokens, 4, &(uint32_t){1}, 1);
    model_pair_close(p);
}

// Layers of one row, too, so that rows that decode go through the prompts' stages.
static bool compile_prompts(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    bool draws = strcmp(program->name, "head") == 0 || strncmp(program->name, "draw_", 5) == 0;
    if (strstr(program->defines.ptr, "#define MAX_ROWS 1\n") && !draws)
        return error_set(err, ERR_INTERNAL, "%s is refused", program->name);
    return emulated_gpu_small_tiles.compile(program, sm, image, err);
}

// Of models that differ from others in a few stages: what every stage leaves of a prompt's rows and of one
// row, and the logits.
static void check_family_model(const char *name) {
    enum { PROMPT = 37 };
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    ModelPair *p = open_with(name, arch_model_build(arch_model_named(name)), 1, &emulated_gpu_small_tiles);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, PROMPT, PROMPT + 1, STAGE_ERROR_MAX);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + 1, ERROR_MAX);
    if (p->gpu->info.n_checkpoints) model_check_checkpoints(p, tokens, PROMPT);
    model_pair_close(p);
}

// Of models whose stages of one row are another's in all but sizes.
static void check_prompts_of_model(const char *name) {
    enum { PROMPT = 37 };
    static const JitCompiler compiler = {compile_prompts};
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    ModelPair *p = open_with(name, arch_model_build(arch_model_named(name)), 1, &compiler);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + 3, ERROR_MAX);
    model_check_chunks(p, tokens, PROMPT, &(uint32_t){17}, 1);
    if (p->gpu->info.n_checkpoints) model_check_checkpoints(p, tokens, PROMPT);
    model_pair_close(p);
}

TEST_SLOW(emulated_model_qwen35, 600) {
    check_family_model("qwen35");
}

// Chunks, norms without weights, experts whose inputs are weighted.
TEST_SLOW(emulated_model_llama4_scout, 600) {
    check_family_model("llama4_scout");
}

// A shared expert that one row's stages of experts take along: to the bits of prompts' rows, whose stages do
// not.
TEST_SLOW(emulated_model_alike_qwen2moe, 600) {
    enum { PROMPT = 37 };
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    ModelPair *p = open_with("alike-qwen2moe", arch_model_build(arch_model_named("alike_qwen2moe")), 2,
                             &emulated_gpu_small_tiles);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, PROMPT, PROMPT + 1, STAGE_ERROR_MAX);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + 1, ERROR_MAX);
    batch_check_drawn_as_prompt(p, &sampled, tokens, PROMPT, PROMPT + 6);
    model_pair_close(p);
}

// Normed embeddings; a matrix in attention's place.
TEST_SLOW(emulated_model_muse_glimmer, 600) {
    check_prompts_of_model("muse_glimmer");
}

TEST_SLOW(emulated_model_deci, 600) {
    check_prompts_of_model("deci");
}

TEST_SLOW(emulated_model_lfm2, 600) {
    check_prompts_of_model("lfm2");
}

// Experts without a gate, which are narrower, and more than 16 of them a row. (nemotron_h_moe has nothing
// that neither this one nor others have.)
TEST_SLOW(emulated_model_nemotron_h_latent, 600) {
    check_family_model("nemotron_h_latent");
}

TEST_SLOW(emulated_model_nemotron_h, 600) {
    check_prompts_of_model("nemotron_h");
}

#define FAMILY_CASE(name)                   \
    TEST_SLOW(emulated_model_##name, 600) { \
        check_family_model(#name);          \
    }
ARCH_FAMILY_EMULATED_NAMES(FAMILY_CASE)
ARCH_GEMMA_EMULATED_NAMES(FAMILY_CASE)

#define MODEL_CASE(name)                    \
    TEST_SLOW(emulated_model_##name, 600) { \
        check_model(#name);                 \
    }
ARCH_MODEL_NAMES(MODEL_CASE)

// A cache of 8 bits: stages and logits, and the same bits where the prompt is cut and where a part of it is
// drawn. (A key that is rounded to another code than the reference's is a step of its scale off.)
TEST_SLOW(emulated_q8_gpt_oss, 600) {
    enum { PROMPT = 37 };
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    const ArchModel *m = arch_model_named("gpt_oss");
    ModelPair *p = open_typed("gpt_oss", arch_model_build(m), 2, KV_TYPE_Q8, &emulated_gpu_compiler);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, PROMPT, PROMPT + 1, Q8_STAGE_ERROR_MAX);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + 3, ERROR_MAX);
    model_check_chunks(p, tokens, PROMPT, &(uint32_t){17}, 1);
    batch_check_drawn_as_prompt(p, &sampled, tokens, PROMPT, PROMPT + 6);
    model_pair_close(p);
}

// Heads of 512: stages and logits, and the same bits where the prompt is cut and where a part of it is drawn.
TEST_SLOW(emulated_model_odd_gemma4, 600) {
    enum { PROMPT = 37 };
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    Str file = arch_model_build(arch_model_named("odd_gemma4"));
    ModelPair *p = open_with("odd_gemma4", file, 2, &emulated_gpu_small_tiles);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, PROMPT, PROMPT + 1, STAGE_ERROR_MAX);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + 3, ERROR_MAX);
    model_check_chunks(p, tokens, PROMPT, &(uint32_t){17}, 1);
    batch_check_drawn_as_prompt(p, &sampled, tokens, PROMPT, PROMPT + 6);
    model_pair_close(p);
}

// A compressed cache, and queries of a low rank: stages and logits, and the same bits where the prompt is
// cut.
TEST_SLOW(emulated_model_deepseek2_dense, 600) {
    enum { PROMPT = ARCH_MODEL_PROMPT };
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    Str file = arch_model_build(arch_model_named("deepseek2_dense"));
    ModelPair *p = open_with("deepseek2", file, 1, &emulated_gpu_small_tiles);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, PROMPT, PROMPT + 1, STAGE_ERROR_MAX);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + 1, ERROR_MAX);
    model_check_chunks(p, tokens, PROMPT, &(uint32_t){23}, 1);
    model_check_chunks(p, tokens, 4, &(uint32_t){1}, 1);
    model_pair_close(p);
}

// Queries of one product, which lie beside the key.
TEST_SLOW(emulated_model_deepseek2_older, 600) {
    check_family_model("deepseek2_older");
}

// Odd sizes: all of two, the stages of the others (all of them on a GPU).
MODEL_CASE(odd_llama)
MODEL_CASE(odd_gemma3)
FAMILY_CASE(odd_qwen2)
FAMILY_CASE(odd_qwen3)
FAMILY_CASE(odd_phi3)

TEST_SLOW(emulated_formats_beside_each_other, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    TinyModel model = tiny_model_mixed();
    ModelPair *p = open_with("mixed", tiny_model_build(&model), 1, &emulated_gpu_small_tiles);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare(p, tokens, 20, 20 + STAGE_ROWS, STAGE_ERROR_MAX);
    model_pair_close(p);
}

// The sampler of a text that was set aside goes on exactly. So do its tokens.
TEST_SLOW(emulated_texts_go_on, 600) {
    static const SamplerParams params[] = {
        {.top_p = 1, .repetition_penalty = 1.5f},
        {.temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1.3f, .top_k = 40, .seed = 5},
        {.top_p = 1, .repetition_penalty = 1, .logprobs = true, .n_logprobs = 5},
        {.top_p = 1, .repetition_penalty = 1.2f, .presence_penalty = 0.5f, .frequency_penalty = 0.7f},
        {.temperature = 0.7f,
         .top_p = 1,
         .repetition_penalty = 1,
         .frequency_penalty = -0.3f,
         .seed = 6,
         .n_logit_bias = 3,
         .logit_bias = {{3, 2}, {17, -100}, {40, 2.5f}},
         .logprobs = true},
        {.temperature = 0.9f,
         .top_p = 0.9f,
         .repetition_penalty = 1.1f,
         .presence_penalty = -0.4f,
         .frequency_penalty = 0.2f,
         .seed = 7,
         .logprobs = true,
         .n_logprobs = LOGPROBS_MAX},
    };
    enum { PROMPT = 21, END = 48 };
    static const uint32_t cuts[] = {21, 32, 45};
    ModelPair *p = open_emulated("llama", arch_model_build(arch_model_named("llama")), 2);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    for (size_t i = 0; i < COUNT_OF(params); i++) {
        uint32_t cut = cuts[i % COUNT_OF(cuts)];
        Backend *backends[] = {p->cpu, p->gpu};
        for (size_t k = 0; k < COUNT_OF(backends); k++)
            CHECK_INT_EQ(END - cut + 1,
                         model_check_resume(p, backends[k], &params[i], tokens, PROMPT, END, &cut, 1));
    }
    model_pair_close(p);
}

TEST(emulated_models_are_all) {
#define MODEL_NAME(name) #name,
    static const char *const names[] = {ARCH_MODEL_NAMES(MODEL_NAME) ARCH_FAMILY_MODEL_NAMES(MODEL_NAME)
                                            ARCH_ODD_MODEL_NAMES(MODEL_NAME)};
    for (uint32_t i = 0, odd = 0; arch_odd_model_at(odd); arch_model_at(i) ? i++ : odd++) {
        const ArchModel *m = arch_model_at(i) ? arch_model_at(i) : arch_odd_model_at(odd);
        bool found = false;
        for (size_t k = 0; k < COUNT_OF(names); k++)
            found |= arch_model_named(names[k]) == m;
        if (!found) FAIL("%s is in no list of names", arch_model_name(m));
        CHECK(found);
    }
}

#else

TEST(emulated_models) {
    SKIP("this build has no CUDA");
}

#endif
