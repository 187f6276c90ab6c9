// Whole models through the stages of batches without a GPU (emulated_gpu.h), against the CPU reference and,
// bit by bit, against themselves: rows alone, together, and as a prompt's.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/cuda_backend.h"
#include "batch_checks.h"
#include "crowd_checks.h"
#include "emulated_gpu.h"
#include "model_checks.h"
#include "model_stages.h"
#include "os/os.h"

#include <stdio.h>
#include <string.h>

enum { SM = 90, MULTIPROCESSORS = 2, PROMPT = 40, DRAWN = 4, FAR = 2060 }; // FAR: see batch_check_far

static const double ERROR_MAX = 3e-2, STAGE_ERROR_MAX = 5e-3;

static const SamplerParams sampled = {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 1};

// Ways to draw that rows have beside each other.
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

static ModelPair *open_file(Str file, const char *name, uint32_t context, uint32_t n_slots,
                            uint32_t multiprocessors, const JitCompiler *compiler,
                            void (*warns)(void *context, const char *message)) {
    emulated_gpu_load(SM, multiprocessors);
    BackendOptions options = {.n_slots = n_slots,
                              .max_rows = ARCH_MODEL_PROMPT,
                              .kv_texts = n_slots,
                              .kv_text_tokens = max_u64(context, ARCH_MODEL_TOKENS),
                              .n_threads = 1,
                              .jit_cache = "",
                              .model_path = name,
                              .jit_compiler = compiler,
                              .warn = warns};
    ModelPair *p = model_pair_open(file, &options);
    cuda_backend_wait_for_classes(p->gpu);
    return p;
}

static ModelPair *open_with(const char *name, uint32_t context, uint32_t n_slots, uint32_t multiprocessors,
                            const JitCompiler *compiler, void (*warns)(void *context, const char *message)) {
    const ArchModel *m = arch_model_named(name);
    Str file = context ? arch_model_build_long(m, context) : arch_model_build(m);
    return open_file(file, name, context, n_slots, multiprocessors, compiler, warns);
}

static ModelPair *open_batches(const char *name, uint32_t n_slots, uint32_t multiprocessors) {
    return open_with(name, 0, n_slots, multiprocessors, &emulated_gpu_compiler, warn);
}

// Fewer rows together than a class has are three in one model; what they change is the same in all.
static void check_pair(ModelPair *p, bool with_fewer) {
    static const uint32_t together[] = {1, 3, 8, 10};
    uint32_t n_slots = p->n_slots;
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    for (size_t i = 0; i < COUNT_OF(together) && together[i] <= n_slots; i++) {
        uint32_t n = together[i];
        if (n == 3 && !with_fewer) continue;
        if (test_is_sanitized() && n < 10) continue; // the host's side is the same
        model_stages_compare_rows(p, tokens, PROMPT, PROMPT + n, n, STAGE_ERROR_MAX);
        if (n > 1) batch_check_together(p, ways, COUNT_OF(ways), tokens, PROMPT, DRAWN, n);
    }
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + DRAWN, ERROR_MAX);
    model_check_chunks(p, tokens, PROMPT, &(uint32_t){23}, 1);
    model_check_chunks(p, tokens, 4, &(uint32_t){1}, 1); // one by one
    batch_check_drawn_as_prompt(p, &sampled, tokens, PROMPT, PROMPT + DRAWN);
    batch_check_mixed(p, ways, COUNT_OF(ways), tokens, PROMPT, DRAWN, n_slots);
    if (p->context > FAR) batch_check_far(p, &sampled, tokens, FAR, DRAWN);
}

static void check_and_close(ModelPair *p, bool with_fewer) {
    check_pair(p, with_fewer);
    model_pair_close(p);
}

static void check_model(const char *name, uint32_t n_slots) {
    check_and_close(open_batches(name, n_slots, MULTIPROCESSORS), false);
}

// The others run in test_cuda_gpu_batches.c, with EMULATED_GPU=1 here, too.
TEST_SLOW(emulated_batches_llama, 900) {
    // Of a context with room for rows that do not ride with a prompt's, on a GPU that divides its stretches.
    check_and_close(open_with("llama", FAR + 32, 10, 2 * MULTIPROCESSORS, &emulated_gpu_compiler, warn),
                    true);
}

// Heads of 512: a long text, whose few rows' stretches are divided over their keys where it is alone.
TEST_SLOW(emulated_batches_far_of_wide_heads, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side others go through");
    ModelPair *p = open_with("odd_gemma4", FAR + 32, 3, 4 * MULTIPROCESSORS, &emulated_gpu_small_tiles, NULL);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    batch_check_far(p, &sampled, tokens, FAR, 2);
    model_pair_close(p);
}

// Draws with masks that come while the layers run; and the engine, which makes them of grammars (under
// sanitizers in engine_crowds_).
TEST_SLOW(emulated_batches_with_masks, 900) {
    static const uint32_t together[] = {1, 3, 9};
    static const CrowdConfig crowd = {.seed = 1, .crowd = 3, .n_pages = 9, .max_rows = 17, .n_texts = 1};
    ModelPair *p = open_with("llama", FAR + 32, 10, MULTIPROCESSORS, &emulated_gpu_compiler, warn);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    for (size_t i = 0; i < COUNT_OF(together); i++)
        batch_check_masked(p, ways, COUNT_OF(ways), tokens, 19, DRAWN, together[i]);
    if (test_is_sanitized()) {
        model_pair_close(p);
        return;
    }
    CrowdConfig config = crowd;
    config.tokenizer = crowd_tokenizer(&p->arena, p->plan->n_vocab);
    CrowdReport r = crowd_run(p->gpu, p->plan, p->arena, &config);
    CHECK_INT_EQ(0, r.differ);
    CHECK(r.companions > 0);
    printf("%u steps, %u companions, %u set aside\n", r.steps, r.companions, r.set_aside);
    model_pair_close(p);
}

TEST_SLOW(emulated_batches_gemma3, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side another goes through");
    check_model("gemma3", 8);
}

TEST_SLOW(emulated_batches_gpt2, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side another goes through");
    check_model("gpt2", 8);
}

static bool compile_but_one(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    if (strcmp(program->name, "attention") == 0) return error_set(err, ERR_INTERNAL, "refused");
    return emulated_gpu_compiler.compile(program, sm, image, err);
}

// Before the first class of rows is there, they go through the stages of prompts: to the bits of a
// prompt's rows, and drawn as the CPU reference draws.
TEST_SLOW(emulated_batches_without_classes, 900) {
    static const JitCompiler compiler = {compile_but_one};
    ModelPair *p = open_with("llama", 0, 3, MULTIPROCESSORS, &compiler, NULL);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_check_logits(p, &sampled, tokens, PROMPT, PROMPT + DRAWN, ERROR_MAX);
    batch_check_drawn_as_prompt(p, &sampled, tokens, PROMPT, PROMPT + DRAWN);
    batch_check_together(p, ways, COUNT_OF(ways), tokens, PROMPT, DRAWN, 3);
    model_pair_close(p);
}

// The token's row of the embedding is no number any more.
static void spoil_embedding(Str file, uint32_t token) {
    Arena arena = os_arena(16 << 20);
    GgufPart part = {(const uint8_t *)file.ptr, file.len, "spoiled"};
    const GgufFile *gguf;
    Error err = {0};
    REQUIRE(gguf_parse(&part, 1, &arena, &gguf, &err));
    const GgufTensor *t = gguf_find_tensor(gguf, STR("token_embd.weight"));
    size_t row = t->size_bytes / t->dims[1], at = t->file_offset + token * row;
    REQUIRE(gguf_find_tensor(gguf, STR("output.weight")));
    memset((char *)file.ptr + at, 0xFF, row);
}

static StepSequence part_of(const ModelPair *p, uint32_t slot, uint32_t position, const uint32_t *mask) {
    return (StepSequence){.slot = slot,
                          .mode = STEP_DECODE,
                          .position = position,
                          .n_rows = 1,
                          .pages = p->pages[slot],
                          .list_pages = p->list_pages,
                          .n_draws = 1,
                          .mask = mask};
}

// Where a row went wrong is found while the next step waits for its masks, which costs that one its logits:
// they are computed again. Slot 1 may draw one token alone, whose embedding is spoiled; slot 0, whose logits
// the search would write over, draws as it does alone.
TEST_SLOW(emulated_batches_explain_while_draws_wait, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side another goes through");
    enum { SPOILED = 60 };
    static const uint32_t mask[2] = {0, 1u << (SPOILED - 32)}, *const masks[2] = {NULL, mask};
    Str file = arch_model_build(arch_model_named("gpt_oss"));
    spoil_embedding(file, SPOILED);
    // As many slots as emulated_batches_gpt_oss has: the same programs.
    ModelPair *p =
        open_file(file, "gpt_oss", ARCH_MODEL_TOKENS, 10, MULTIPROCESSORS, &emulated_gpu_compiler, warn);
    int32_t tokens[PROMPT + 4];
    StepResult r;
    Error err = {0};
    for (uint32_t i = 0; i < PROMPT; i++)
        tokens[i] = (int32_t)(i * 7 % SPOILED);
    model_generate(p, p->gpu, 0, &SAMPLER_GREEDY, tokens, PROMPT, PROMPT + 2, &(uint32_t){PROMPT}, 1, NULL);
    for (uint32_t s = 0; s < 2; s++) {
        SequenceStart start = {
            .params = SAMPLER_GREEDY, .tokens = tokens, .n_prompt = PROMPT, .masked = s == 1};
        StepSequence q = part_of(p, s, 0, masks[s]);
        q.mode = STEP_PROMPT, q.n_rows = PROMPT, q.tokens = tokens;
        CHECK(p->gpu->begin(p->gpu, s, &start, &err) &&
              p->gpu->step(p->gpu, &(Step){.sequences = &q, .n_sequences = 1}, &err) &&
              p->gpu->read(p->gpu, &r, &err));
        CHECK_INT_EQ(s == 1 ? SPOILED : tokens[PROMPT], r.runs[0].tokens[0]);
    }
    StepSequence first[2] = {part_of(p, 0, PROMPT, NULL), part_of(p, 1, PROMPT, mask)},
                 second[2] = {part_of(p, 0, PROMPT + 1, NULL), part_of(p, 1, PROMPT + 1, NULL)};
    CHECK(p->gpu->step(p->gpu, &(Step){.sequences = first, .n_sequences = 2}, &err));
    CHECK(
        p->gpu->step(p->gpu, &(Step){.sequences = second, .n_sequences = 2, .masks_come_later = true}, &err));
    CHECK(p->gpu->read(p->gpu, &r, &err));
    CHECK_INT_EQ(TOKEN_INVALID, r.runs[1].tokens[0]);
    CHECK(r.runs[1].first_invalid && strstr(r.runs[1].first_invalid, "EMBED"));
    CHECK_INT_EQ(tokens[PROMPT + 1], r.runs[0].tokens[0]);
    CHECK(p->gpu->draw(p->gpu, masks, &err) && p->gpu->read(p->gpu, &r, &err));
    CHECK_INT_EQ(tokens[PROMPT + 2], r.runs[0].tokens[0]);
    model_pair_close(p);
}

// A mixture of experts, with sinks and biases.
TEST_SLOW(emulated_batches_gpt_oss, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side another goes through");
    check_model("gpt_oss", 10);
}

// Jobs alone and in a crowd, through the engine; texts leave their windows behind. Other models:
// test_cuda_gpu_crowds.c.
TEST_SLOW(emulated_crowd_gemma3, 600) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side another goes through");
    static const CrowdConfig crowd = {.seed = 1, .crowd = 3, .n_pages = 9, .max_rows = 17, .n_texts = 1};
    ModelPair *p = open_batches("gemma3", 8, MULTIPROCESSORS);
    CrowdReport r = crowd_run(p->gpu, p->plan, p->arena, &crowd);
    CHECK_INT_EQ(0, r.differ);
    CHECK(r.cached > 0 && r.companions > 0);
    model_pair_close(p);
}

// As many multiprocessors as a large GPU has: most blocks of so small a model have one unit of work, or none.
// (Large tiles of prompts are not what is compared.)
TEST_SLOW(emulated_batches_on_many_multiprocessors, 900) {
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side another goes through");
    ModelPair *p = open_with("gpt_oss", 0, 8, 132, &emulated_gpu_small_tiles, NULL);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    model_stages_compare_rows(p, tokens, PROMPT, PROMPT + 1, 1, STAGE_ERROR_MAX);
    model_stages_compare_rows(p, tokens, PROMPT, PROMPT + 8, 8, STAGE_ERROR_MAX);
    model_pair_close(p);
}

#else

TEST(emulated_batches) {
    SKIP("this build has no CUDA");
}

#endif
