// The CUDA backend against the CPU reference, on a GPU: each stage by itself, whole models' logits, and that
// the same request gives the same bits. Skipped where there is no GPU.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/memory.h"
#include "base/hash.h"
#include "batch_checks.h"
#include "gguf_builder.h"
#include "model_checks.h"
#include "model_stages.h"
#include "os/os.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENS_MAX = 1024, SLOTS = 3 };

// What a stage by itself may be off by.
static const double STAGE_ERROR_MAX = 0.01;

static void require_ok(bool ok, const Error *err) {
    if (!ok) FAIL("%s", err->message);
    REQUIRE(ok);
}

static ModelPair *open_tiny(const TinyModel *model) {
    BackendOptions options = model_gpu_options(SLOTS, model->context);
    return model_pair_open(tiny_model_build(model), &options);
}

static void random_tokens(uint64_t seed, uint32_t n_vocab, int32_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = (int32_t)(rng_philox(seed, i).word[0] % n_vocab);
}

// ---- stages ----

static void compare_stages(const TinyModel *model, uint32_t n_tokens) {
    ModelPair *p = open_tiny(model);
    int32_t tokens[TOKENS_MAX];
    random_tokens(model->seed, model->vocab, tokens, n_tokens);
    model_stages_compare(p, tokens, n_tokens / 2, n_tokens, STAGE_ERROR_MAX);
    model_pair_close(p);
}

TEST_SLOW(cuda_gpu_stages_agree_for_every_format, 300) {
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        TEST_CASE_LABEL("%s", dtype_info(d)->name);
        printf("%s\n", dtype_info(d)->name);
        TinyModel model = tiny_model_llama();
        model.architecture = d % 2 ? "qwen2" : "llama";
        model.dtype = model.embd_dtype = d;
        model.tied = d % 3 == 0;
        model.seed = 100 + d;
        compare_stages(&model, 80);
    }
}

TEST_SLOW(cuda_gpu_stages_agree_for_mixed_formats, 300) {
    for (Dtype d = 0; d < DTYPE_COUNT; d += 5) { // which formats are beside each other
        TEST_CASE_LABEL("from %s", dtype_info(d)->name);
        TinyModel model = tiny_model_mixed();
        model.dtype = d;
        compare_stages(&model, 40);
    }
}

TEST_SLOW(cuda_gpu_stages_agree_at_odd_shapes, 300) {
    const struct {
        const char *name, *architecture;
        uint32_t embedding, heads, kv_heads, ff, vocab, n_tokens;
        Dtype dtype, embd_dtype;
    } rows[] = {
        {"seven heads of one key head", "qwen2", 448, 7, 1, 1216, 1031, 60, DTYPE_Q5_0, DTYPE_Q8_0},
        {"nine heads of three", "llama", 576, 9, 3, 1536, 997, 60, DTYPE_Q4_1, DTYPE_Q8_0},
        {"heads of 128", "llama", 512, 4, 2, 1024, 1024, 30, DTYPE_Q4_0, DTYPE_F16},
        {"heads of 96", "llama", 768, 8, 8, 2048, 1024, 30, DTYPE_Q4_K, DTYPE_Q6_K},
        {"a wide layer", "llama", 2048, 32, 4, 5632, 3001, 20, DTYPE_Q4_K, DTYPE_Q6_K},
        {"a tail of one block", "qwen2", 1056, 33, 3, 2080, 1200, 20, DTYPE_Q5_1, DTYPE_Q4_0},
        {"one token", "llama", 256, 8, 2, 512, 1000, 1, DTYPE_Q5_K, DTYPE_Q6_K},
        {"rows of GPT-OSS", "llama", 2880, 45, 5, 2880, 1000, 20, DTYPE_MXFP4, DTYPE_IQ4_NL},
        {"many splits", "llama", 256, 8, 2, 512, 1000, 700, DTYPE_Q4_K, DTYPE_Q6_K},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        printf("%s\n", rows[i].name);
        TinyModel model = tiny_model_llama();
        model.architecture = rows[i].architecture;
        model.embedding = rows[i].embedding;
        model.heads = rows[i].heads;
        model.kv_heads = rows[i].kv_heads;
        model.ff = rows[i].ff;
        model.vocab = rows[i].vocab;
        model.dtype = rows[i].dtype;
        model.embd_dtype = rows[i].embd_dtype;
        model.layers = rows[i].n_tokens > 100 ? 1 : 2;
        compare_stages(&model, rows[i].n_tokens);
    }
}

// ---- whole models ----

TEST_SLOW(cuda_gpu_logits_agree_on_a_tiny_model, 120) {
    TinyModel model = tiny_model_llama();
    model.layers = 6;
    ModelPair *p = open_tiny(&model);
    int32_t tokens[600];
    random_tokens(3, model.vocab, tokens, COUNT_OF(tokens));
    // Noise as weights and as text: many tokens are nearly as good as the best.
    CHECK(model_check_logits(p, &SAMPLER_GREEDY, tokens, 300, COUNT_OF(tokens), 0.03) > 0.9);
    model_pair_close(p);
}

// Real text has one best token as a rule, so it must be the same one.
// A cache of 8 bits: a key that is rounded to another code than the reference's is a step of its scale off.
TEST_SLOW(cuda_gpu_q8_agrees_on_a_tiny_model, 120) {
    enum { PROMPT = 300, END = 320 };
    TinyModel model = tiny_model_llama();
    BackendOptions options = model_gpu_options(SLOTS, model.context);
    ModelPair *p = model_pair_open_with(tiny_model_build(&model), KV_TYPE_Q8, &options);
    int32_t tokens[TOKENS_MAX];
    random_tokens(model.seed, model.vocab, tokens, END);
    model_stages_compare(p, tokens, PROMPT, END, 0.02);
    model_check_chunks(p, tokens, PROMPT, &(uint32_t){77}, 1);
    batch_check_drawn_as_prompt(p, &(SamplerParams){.temperature = 1, .top_p = 1, .repetition_penalty = 1},
                                tokens, PROMPT, END);
    model_pair_close(p);
}

TEST_SLOW(cuda_gpu_logits_agree_on_smollm2, 300) {
    BackendOptions options = model_gpu_options(SLOTS, TOKENS_MAX);
    Arena arena = os_arena((size_t)8 << 30);
    const GgufFile *file;
    Error err = {0};
    require_ok(gguf_open(test_model_path(), &arena, &file, &err), &err);
    ModelPair *p = model_pair_open_file(file, arena, &options);
    int32_t tokens[601] = {504}; // what the reference goes on to say after a token: text, if not a good one
    SamplerParams params = {.temperature = 0.8f, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 5};
    model_generate(p, p->cpu, 2, &params, tokens, 1, 600, &(uint32_t){1}, 1, NULL);
    CHECK(model_check_logits(p, &SAMPLER_GREEDY, tokens, 600, 600, 0.03) >= 0.98);
    model_pair_close(p);
}

// ---- the same bits ----

TEST_SLOW(cuda_gpu_repeats_itself_to_the_bit, 120) {
    static const uint32_t chunks[] = {1, 7, 64, 100};
    TinyModel model = tiny_model_llama();
    model.layers = 4;
    ModelPair *p = open_tiny(&model);
    int32_t prompt[130];
    random_tokens(9, model.vocab, prompt, COUNT_OF(prompt));
    SamplerParams params = {.top_p = 1, .repetition_penalty = 1.2f};
    model_check_chunks(p, prompt, COUNT_OF(prompt), chunks, COUNT_OF(chunks));
    model_check_repeats(p, &params, prompt, COUNT_OF(prompt), COUNT_OF(prompt) + 48, 100);
    model_check_side_by_side(p, &SAMPLER_GREEDY, prompt, 30, 78);
    model_pair_close(p);
}

// Wide enough for products in tiles of 64, 128 and 256 tokens, and a prompt across their borders.
TEST_SLOW(cuda_gpu_cuts_of_a_prompt_are_the_same_to_the_bit, 120) {
    static const uint32_t chunks[] = {64, 100, 512, 255, 257, 699};
    TinyModel model = tiny_model_llama();
    model.embedding = 2048, model.heads = 32, model.kv_heads = 8, model.ff = 16384;
    ModelPair *p = open_tiny(&model);
    int32_t prompt[700];
    random_tokens(10, model.vocab, prompt, COUNT_OF(prompt));
    model_check_chunks(p, prompt, COUNT_OF(prompt), chunks, COUNT_OF(chunks));
    model_pair_close(p);
}

// ---- sampling ----

// The token drawn on the device is the one that the reference draws from the device's own logits.
TEST_SLOW(cuda_gpu_draws_as_the_reference, 120) {
    static const SamplerParams rows[] = {
        {.top_p = 1, .repetition_penalty = 1},
        {.top_p = 1, .repetition_penalty = 1.5f},
        {.top_p = 1, .repetition_penalty = 0.5f},
        {.temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 1},
        {.temperature = 1.2f, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 2},
        {.temperature = 1,
         .top_p = 0.95f,
         .min_p = 0.02f,
         .repetition_penalty = 1,
         .top_k = 40,
         .seed = UINT64_MAX},
        {.top_p = 1, .repetition_penalty = 1.2f, .presence_penalty = 0.5f, .frequency_penalty = 0.7f},
        {.temperature = 0.7f,
         .top_p = 0.95f,
         .repetition_penalty = 1,
         .frequency_penalty = -0.3f,
         .seed = 6,
         .n_logit_bias = 3,
         .logit_bias = {{3, 2}, {17, -100}, {40, 2.5f}}},
    };
    TinyModel model = tiny_model_llama();
    ModelPair *p = open_tiny(&model);
    uint32_t n_vocab = model.vocab;
    float *logits = arena_new(&p->arena, float, n_vocab);
    SamplerHistory history = {arena_new(&p->arena, uint32_t, token_set_words(n_vocab)),
                              arena_new(&p->arena, uint16_t, n_vocab)};
    void *scratch = arena_alloc(&p->arena, 1, sampler_scratch_bytes(n_vocab), 64);
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        int32_t token = 17;
        sampler_history_begin(history, n_vocab, &token, 1, 0);
        model_begin(p->gpu, 0, &rows[row], &token, 1);
        for (uint32_t i = 0; i < 60; i++) {
            TEST_CASE_LABEL("row %zu, step %u", row, i);
            StepResult r = model_run(p, p->gpu, 0, i == 0 ? &token : NULL, i, 1, true, 1);
            memcpy(logits, r.logits, n_vocab * sizeof *logits);
            Arena a = arena_from_memory(scratch, sampler_scratch_bytes(n_vocab));
            int32_t expected = sampler_draw(&rows[row], logits, n_vocab, history, i, a);
            CHECK_INT_EQ(expected, r.runs[0].tokens[0]);
            sampler_history_add(history, r.runs[0].tokens[0]);
        }
    }
    model_pair_close(p);
}

// ---- what is refused ----

TEST(cuda_gpu_refuses_what_does_not_fit) {
    TinyModel model = tiny_model_llama();
    Str bytes = tiny_model_build(&model);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, "tiny"};
    const GgufFile *file;
    Plan *plan;
    Backend *b;
    Arena arena = os_arena((size_t)1 << 30);
    Error err = {0};
    require_ok(gguf_parse(&part, 1, &arena, &file, &err) && plan_build(file, &arena, &plan, &err), &err);

    BackendOptions options = model_gpu_options(SLOTS, model.context);
    options.gpu_device = 1000;
    CHECK(!cuda_backend_open(&options, &arena, &b, &err));
    CHECK_INT_EQ(ERR_USAGE, err.code);

    options.gpu_device = 0;
    options.kv_bytes = 1ull << 50;
    options.kv_texts = 1ull << 20;
    options.kv_text_tokens = 1ull << 25;
    require_ok(cuda_backend_open(&options, &arena, &b, &err), &err);
    CHECK(!b->load(b, plan, NULL, NULL, &err));
    CHECK_INT_EQ(ERR_INSUFFICIENT_VRAM, err.code);
    CHECK(strstr(err.message, "test.gguf") && strstr(err.message, b->info.device_name));
    b->close(b);
}

// Others that use the GPU at the time make one round's figure useless, but not that of every round.
TEST_SLOW(cuda_gpu_gives_its_memory_back, 120) {
    enum { ROUNDS = 12 };
    TinyModel model = tiny_model_llama();
    model_gpu_options(SLOTS, model.context); // there is a GPU
    Cuda cuda;
    Error err = {0};
    require_ok(cuda_open(&cuda, &err), &err);
    uint64_t free_before = 0, free_after = 0; // both with a model loaded
    for (uint32_t i = 0; i < ROUNDS && (i < 3 || free_after < free_before); i++) {
        ModelPair *p = open_tiny(&model);
        CHECK(p->gpu->info.vram_bytes_used > 0);
        require_ok(cuda_backend_check_residency(p->gpu, &err), &err);
        require_ok(device_memory_free_bytes(&cuda, &free_after, &err), &err);
        if (i == 1) free_before = free_after; // the first time, the driver keeps something for itself
        model_pair_close(p);
    }
    CHECK(free_before > 0 && free_after >= free_before); // the driver may give back more of its own
    cuda_close(&cuda);
}

#else

TEST(cuda_gpu) {
    SKIP("this build has no CUDA");
}

#endif
