// The CUDA backend against the CPU reference, on a GPU: each stage by itself, whole models' logits, and that
// the same request gives the same bits. Skipped where there is no GPU.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/memory.h"
#include "base/hash.h"
#include "gguf_builder.h"
#include "os/os.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENS_MAX = 1024, SLOTS = 3 };

static void need_gpu(void) {
    Cuda cuda;
    Error err = {0};
    if (!cuda_open(&cuda, &err)) SKIP("%s", err.message);
    cuda_close(&cuda);
}

typedef struct {
    Arena arena;
    Plan *plan;
    Backend *cpu, *gpu;
} Pair;

static BackendOptions options_of(uint32_t context) {
    return (BackendOptions){.n_slots = SLOTS,
                            .max_rows = TOKENS_MAX,
                            .kv_tokens_max = SLOTS * (uint64_t)context,
                            .jit_cache = test_root_path("build/jit-cache"),
                            .model_path = "test.gguf"};
}

static void require_ok(bool ok, const Error *err) {
    if (!ok) FAIL("%s", err->message);
    REQUIRE(ok);
}

// The backends keep a pointer to the arena, so the pair stays where it is.
static Pair *open_pair(const GgufFile *file, Arena arena, uint32_t context) {
    Pair *p = arena_new(&arena, Pair, 1);
    REQUIRE(p != NULL);
    p->arena = arena;
    Error err = {0};
    BackendOptions options = options_of(context);
    require_ok(plan_build(file, &p->arena, &p->plan, &err), &err);
    require_ok(cuda_backend_open(&options, &p->arena, &p->gpu, &err), &err);
    require_ok(p->gpu->load(p->gpu, p->plan, NULL, NULL, &err), &err);
    CHECK_STR_EQ("", p->gpu->info.warning);
    require_ok(cpu_backend_open(&options, &p->arena, &p->cpu, &err), &err);
    require_ok(p->cpu->load(p->cpu, p->plan, NULL, NULL, &err), &err);
    return p;
}

static Pair *open_tiny(const TinyModel *model) {
    Arena arena = os_arena((size_t)8 << 30);
    Str bytes = tiny_model_build(model);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, "tiny"};
    const GgufFile *file;
    Error err = {0};
    require_ok(gguf_parse(&part, 1, &arena, &file, &err), &err);
    return open_pair(file, arena, model->context);
}

static void close_pair(Pair *p) {
    p->gpu->close(p->gpu);
    p->cpu->close(p->cpu);
}

static void random_tokens(uint64_t seed, uint32_t n_vocab, int32_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = (int32_t)(rng_philox(seed, i).word[0] % n_vocab);
}

static const uint32_t *pages_of(uint32_t slot) {
    static uint32_t pages[SLOTS][TOKENS_MAX / KV_PAGE_TOKENS];
    for (uint32_t i = 0; i < COUNT_OF(pages[0]); i++)
        pages[slot][i] = i * SLOTS + slot; // interleaved with the others'
    return pages[slot];
}

// Tokens of one sequence from `position` on; the logits of the last n_logits of them.
static StepResult run_step(Backend *b, uint32_t slot, const int32_t *tokens, uint32_t position, uint32_t n,
                           bool sample, uint32_t n_logits) {
    StepSequence q = {.slot = slot,
                      .position = position,
                      .n_tokens = n,
                      .tokens = tokens,
                      .pages = pages_of(slot),
                      .sample = sample,
                      .n_logits = n_logits};
    StepResult result;
    Error err = {0};
    require_ok(b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, &err), &err);
    require_ok(b->read(b, &result, &err), &err);
    return result;
}

static void begin(Backend *b, uint32_t slot, const SamplerParams *params, const int32_t *prompt, uint32_t n) {
    Error err = {0};
    require_ok(b->begin(b, slot, params, prompt, n, &err), &err);
}

static double relative_error(const float *expected, const float *actual, uint64_t n) {
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)actual[i] - (double)expected[i];
        error += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    return sqrt(error / norm); // not a number where one of them is not
}

// ---- stages ----

typedef struct {
    double error, norm; // sums of squares over all rows
    double worst;       // of one row
} StageError;

typedef struct {
    const Plan *plan;
    Arena *arena;
    float **values; // [n_ops] the reference's, [n_rows][width]
    StageError errors[OP_COUNT];
    float *scratch;
} Comparison;

static void remember(void *context, uint32_t op_index, const float *values, uint32_t n_rows, uint32_t width) {
    Comparison *c = context;
    c->values[op_index] = arena_new(c->arena, float, (uint64_t)n_rows *width);
    REQUIRE(c->values[op_index] != NULL);
    memcpy(c->values[op_index], values, (uint64_t)n_rows * width * sizeof(float));
}

// The residual stream before an operation, in the reference.
static const float *stream_before(const Comparison *c, uint32_t op_index, uint32_t row, uint32_t width) {
    while (op_index-- > 0) {
        if (c->plan->ops[op_index].out == ACT_X) return c->values[op_index] + (uint64_t)row * width;
    }
    return NULL;
}

// Compares a stage's values with the reference's, and gives the next stage the reference's, so that errors do
// not add up. Of the residual stream only what the stage added counts.
static bool compare(void *context, uint32_t op_index, uint32_t position, float *values, uint32_t width) {
    Comparison *c = context;
    const Op *op = &c->plan->ops[op_index];
    const float *expected = c->values[op_index] + (uint64_t)position * width;
    const float *before = op->kind == OP_ADD ? stream_before(c, op_index, position, width) : NULL;
    StageError *e = &c->errors[op->kind];
    double error = 0, norm = 0;
    for (uint32_t i = 0; i < width; i++) {
        double d = (double)values[i] - (double)expected[i];
        double v = (double)expected[i] - (before ? (double)before[i] : 0);
        error += d * d;
        norm += v * v;
    }
    double relative = sqrt(error / norm);
    if (!(relative < 0.02))
        FAIL("operation %u (%s), position %u: relative error %g", op_index, plan_op_name(op->kind), position,
             relative);
    e->error += error;
    e->norm += norm;
    e->worst = fmax(e->worst, relative);
    memcpy(values, expected, width * sizeof *values);
    return op->kind == OP_ADD || op->kind == OP_GLU;
}

static void compare_stages(const TinyModel *model, uint32_t n_tokens) {
    Pair *p = open_tiny(model);
    int32_t tokens[TOKENS_MAX];
    random_tokens(model->seed, model->vocab, tokens, n_tokens);
    Comparison c = {
        .plan = p->plan, .arena = &p->arena, .values = arena_new(&p->arena, float *, p->plan->n_ops)};
    cpu_backend_observe(p->cpu, remember, &c);
    cuda_backend_observe(p->gpu, compare, &c);
    begin(p->cpu, 1, &SAMPLER_GREEDY, tokens, n_tokens);
    begin(p->gpu, 1, &SAMPLER_GREEDY, tokens, n_tokens);
    run_step(p->cpu, 1, tokens, 0, n_tokens, false, n_tokens);
    run_step(p->gpu, 1, tokens, 0, n_tokens, false, n_tokens);
    for (uint32_t kind = 0; kind < OP_COUNT; kind++) {
        const StageError *e = &c.errors[kind];
        if (e->norm == 0) continue;
        double relative = sqrt(e->error / e->norm);
        printf("%-10s %.2e, worst row %.2e\n", plan_op_name(kind), relative, e->worst);
        CHECK(relative < 0.01);
    }
    CHECK(c.errors[OP_ADD].norm > 0 && c.errors[OP_GLU].norm > 0 && c.errors[OP_HEAD].norm > 0);
    CHECK(c.errors[OP_ROPE].norm > 0 && c.errors[OP_ATTENTION].norm > 0 && c.errors[OP_MATMUL].norm > 0);
    close_pair(p);
}

TEST_SLOW(cuda_gpu_stages_agree_for_every_format, 300) {
    need_gpu();
    static const Dtype formats[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0,
                                    DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        TEST_CASE_LABEL("%s", dtype_info(formats[i])->name);
        printf("%s\n", dtype_info(formats[i])->name);
        TinyModel model = tiny_model_llama();
        model.architecture = i % 2 ? "qwen2" : "llama";
        model.dtype = model.embd_dtype = formats[i];
        model.tied = i % 3 == 0;
        model.seed = 100 + i;
        compare_stages(&model, 40);
    }
}

TEST_SLOW(cuda_gpu_stages_agree_at_odd_shapes, 300) {
    need_gpu();
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

static uint32_t best_of(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

// Logits at every position of a text in chunks; returns the share of positions with the same best token.
static double compare_logits(const Pair *p, const int32_t *tokens, uint32_t n_tokens, double tolerance) {
    uint32_t n_vocab = p->plan->config.n_vocab, n_same = 0;
    double worst = 0;
    begin(p->cpu, 0, &SAMPLER_GREEDY, tokens, n_tokens);
    begin(p->gpu, 0, &SAMPLER_GREEDY, tokens, n_tokens);
    for (uint32_t at = 0; at < n_tokens; at += 100) {
        uint32_t n = (uint32_t)min_u64(100, n_tokens - at);
        const float *expected = run_step(p->cpu, 0, tokens + at, at, n, false, n).logits;
        const float *actual = run_step(p->gpu, 0, tokens + at, at, n, false, n).logits;
        for (uint32_t i = 0; i < n; i++, expected += n_vocab, actual += n_vocab) {
            double error = relative_error(expected, actual, n_vocab);
            if (!(error < tolerance)) FAIL("position %u: relative error of the logits %g", at + i, error);
            worst = fmax(worst, error);
            n_same += best_of(expected, n_vocab) == best_of(actual, n_vocab);
        }
    }
    printf("%u positions: worst relative error %.2e, same best token at %u\n", n_tokens, worst, n_same);
    return (double)n_same / n_tokens;
}

// Tokens fed back on the device one by one, against the reference's rows.
TEST_SLOW(cuda_gpu_decoding_agrees_on_a_tiny_model, 120) {
    need_gpu();
    TinyModel model = tiny_model_llama();
    model.layers = 4;
    Pair *p = open_tiny(&model);
    int32_t tokens[300];
    random_tokens(4, model.vocab, tokens, 10);
    begin(p->cpu, 0, &SAMPLER_GREEDY, tokens, 10);
    begin(p->gpu, 0, &SAMPLER_GREEDY, tokens, 10);
    run_step(p->cpu, 0, tokens, 0, 10, false, 0);
    tokens[10] = run_step(p->gpu, 0, tokens, 0, 10, true, 0).tokens[0];
    for (uint32_t i = 10; i + 1 < COUNT_OF(tokens); i++) {
        const float *expected = run_step(p->cpu, 0, &tokens[i], i, 1, false, 1).logits;
        StepResult actual = run_step(p->gpu, 0, NULL, i, 1, true, 1);
        double error = relative_error(expected, actual.logits, model.vocab);
        if (!(error < 0.05)) FAIL("position %u: relative error of the logits %g", i, error);
        CHECK_INT_EQ(best_of(actual.logits, model.vocab), actual.tokens[0]);
        tokens[i + 1] = actual.tokens[0];
    }
    close_pair(p);
}

TEST_SLOW(cuda_gpu_logits_agree_on_a_tiny_model, 120) {
    need_gpu();
    TinyModel model = tiny_model_llama();
    model.layers = 6;
    Pair *p = open_tiny(&model);
    int32_t tokens[600];
    random_tokens(3, model.vocab, tokens, COUNT_OF(tokens));
    // Noise as weights and as text: more of 8-bit activations' rounding shows than in a real model, and many
    // tokens are nearly as good as the best.
    CHECK(compare_logits(p, tokens, COUNT_OF(tokens), 0.05) > 0.9);
    close_pair(p);
}

// Real text has one best token as a rule, so it must be the same one.
TEST_SLOW(cuda_gpu_logits_agree_on_smollm2, 300) {
    need_gpu();
    Arena arena = os_arena((size_t)8 << 30);
    const GgufFile *file;
    Error err = {0};
    require_ok(gguf_open(test_model_path(), &arena, &file, &err), &err);
    Pair *p = open_pair(file, arena, TOKENS_MAX);
    int32_t tokens[600]; // what the reference goes on to say after a few tokens: text, if not a good one
    tokens[0] = 504;
    begin(p->cpu, 2,
          &(SamplerParams){.temperature = 0.8f, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 5}, tokens,
          1);
    for (uint32_t i = 0; i + 1 < COUNT_OF(tokens); i++) {
        tokens[i + 1] = run_step(p->cpu, 2, &tokens[i], i, 1, true, 0).tokens[0];
    }
    CHECK(compare_logits(p, tokens, COUNT_OF(tokens), 0.03) >= 0.98);
    close_pair(p);
}

// ---- the same bits ----

typedef struct {
    int32_t tokens[48];
    uint64_t logits_hash;
} Output;

// A prompt in chunks, then generated tokens; two steps are under way at a time, as the engine has it.
static Output generate(Backend *b, const Plan *plan, uint32_t slot, const SamplerParams *params,
                       const int32_t *prompt, uint32_t n_prompt, uint32_t chunk) {
    Output out = {0};
    begin(b, slot, params, prompt, n_prompt);
    uint32_t at = 0;
    for (; at + chunk < n_prompt; at += chunk)
        run_step(b, slot, prompt + at, at, chunk, false, 0);
    StepResult r = run_step(b, slot, prompt + at, at, n_prompt - at, true, 1);
    out.logits_hash = hash_bytes(r.logits, plan->config.n_vocab * sizeof(float));
    out.tokens[0] = r.tokens[0];
    Error err = {0};
    StepSequence q = {.slot = slot, .n_tokens = 1, .pages = pages_of(slot), .sample = true};
    for (uint32_t i = 1, n_read = 1; n_read < COUNT_OF(out.tokens); i++) {
        q.position = n_prompt + i - 1;
        if (i < COUNT_OF(out.tokens)) require_ok(b->step(b, &(Step){&q, 1}, &err), &err);
        if (i < 2) continue;
        require_ok(b->read(b, &r, &err), &err);
        out.tokens[n_read++] = r.tokens[0];
    }
    return out;
}

TEST_SLOW(cuda_gpu_repeats_itself_to_the_bit, 120) {
    need_gpu();
    TinyModel model = tiny_model_llama();
    model.layers = 4;
    Pair *p = open_tiny(&model);
    int32_t prompt[130];
    random_tokens(9, model.vocab, prompt, COUNT_OF(prompt));
    SamplerParams params = {.top_p = 1, .repetition_penalty = 1.2f};
    Output first = generate(p->gpu, p->plan, 0, &params, prompt, COUNT_OF(prompt), 64);
    static const uint32_t chunks[] = {1, 7, 64, 100, 130};
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t slot = i % SLOTS, chunk = chunks[i % COUNT_OF(chunks)];
        TEST_CASE_LABEL("run %u, slot %u, chunks of %u", i, slot, chunk);
        Output again = generate(p->gpu, p->plan, slot, &params, prompt, COUNT_OF(prompt), chunk);
        CHECK_U64_EQ(first.logits_hash, again.logits_hash);
        CHECK_BYTES_EQ(first.tokens, sizeof first.tokens, again.tokens, sizeof again.tokens);
    }
    close_pair(p);
}

// Wide enough for products in tiles of 64, 128 and 256 tokens, and a prompt across their borders.
TEST_SLOW(cuda_gpu_cuts_of_a_prompt_are_the_same_to_the_bit, 120) {
    need_gpu();
    TinyModel model = tiny_model_llama();
    model.embedding = 2048, model.heads = 32, model.kv_heads = 8, model.ff = 16384;
    Pair *p = open_tiny(&model);
    int32_t prompt[700];
    random_tokens(10, model.vocab, prompt, COUNT_OF(prompt));
    Output first = generate(p->gpu, p->plan, 0, &SAMPLER_GREEDY, prompt, COUNT_OF(prompt), 700);
    static const uint32_t chunks[] = {64, 100, 512, 255, 257, 699};
    for (uint32_t i = 0; i < COUNT_OF(chunks); i++) {
        TEST_CASE_LABEL("chunks of %u", chunks[i]);
        Output again = generate(p->gpu, p->plan, 1, &SAMPLER_GREEDY, prompt, COUNT_OF(prompt), chunks[i]);
        CHECK_U64_EQ(first.logits_hash, again.logits_hash);
        CHECK_BYTES_EQ(first.tokens, sizeof first.tokens, again.tokens, sizeof again.tokens);
    }
    close_pair(p);
}

// Several sequences in one step, each from its own position: as if alone.
TEST(cuda_gpu_runs_sequences_side_by_side) {
    need_gpu();
    TinyModel model = tiny_model_llama();
    Pair *p = open_tiny(&model);
    int32_t prompts[SLOTS][30];
    Output alone[SLOTS];
    uint32_t lengths[SLOTS] = {30, 17, 5};
    for (uint32_t s = 0; s < SLOTS; s++) {
        random_tokens(20 + s, model.vocab, prompts[s], 30);
        alone[s] = generate(p->gpu, p->plan, s, &SAMPLER_GREEDY, prompts[s], lengths[s], 30);
    }
    for (uint32_t s = 0; s < SLOTS; s++) {
        begin(p->gpu, s, &SAMPLER_GREEDY, prompts[s], lengths[s]);
        CHECK_INT_EQ(alone[s].tokens[0], run_step(p->gpu, s, prompts[s], 0, lengths[s], true, 0).tokens[0]);
    }
    for (uint32_t i = 1; i < COUNT_OF(alone[0].tokens); i++) {
        StepSequence q[SLOTS];
        for (uint32_t s = 0; s < SLOTS; s++) {
            q[s] = (StepSequence){.slot = s,
                                  .position = lengths[s] + i - 1,
                                  .n_tokens = 1,
                                  .pages = pages_of(s),
                                  .sample = true};
        }
        StepResult r;
        Error err = {0};
        require_ok(p->gpu->step(p->gpu, &(Step){q, SLOTS}, &err), &err);
        require_ok(p->gpu->read(p->gpu, &r, &err), &err);
        for (uint32_t s = 0; s < SLOTS; s++)
            CHECK_INT_EQ(alone[s].tokens[i], r.tokens[s]);
    }
    close_pair(p);
}

// ---- sampling ----

// The token drawn on the device is the one that the reference draws from the device's own logits.
TEST_SLOW(cuda_gpu_draws_as_the_reference, 120) {
    need_gpu();
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
    };
    TinyModel model = tiny_model_llama();
    Pair *p = open_tiny(&model);
    uint32_t n_vocab = model.vocab;
    float *logits = arena_new(&p->arena, float, n_vocab);
    uint32_t *seen = arena_new(&p->arena, uint32_t, n_vocab / 32 + 1);
    void *scratch = arena_alloc(&p->arena, 1, sampler_scratch_bytes(n_vocab), 64);
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        int32_t token = 17;
        memset(seen, 0, (n_vocab / 32 + 1) * sizeof *seen);
        token_set_add(seen, token);
        begin(p->gpu, 0, &rows[row], &token, 1);
        for (uint32_t i = 0; i < 60; i++) {
            TEST_CASE_LABEL("row %zu, step %u", row, i);
            StepResult r = run_step(p->gpu, 0, i == 0 ? &token : NULL, i, 1, true, 1);
            memcpy(logits, r.logits, n_vocab * sizeof *logits);
            Arena a = arena_from_memory(scratch, sampler_scratch_bytes(n_vocab));
            int32_t expected = sampler_draw(&rows[row], logits, n_vocab, seen, i, a);
            CHECK_INT_EQ(expected, r.tokens[0]);
            token_set_add(seen, r.tokens[0]);
        }
    }
    close_pair(p);
}

// ---- what is refused ----

TEST(cuda_gpu_refuses_what_does_not_fit) {
    need_gpu();
    TinyModel model = tiny_model_llama();
    Str bytes = tiny_model_build(&model);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, "tiny"};
    const GgufFile *file;
    Plan *plan;
    Backend *b;
    Arena arena = os_arena((size_t)1 << 30);
    Error err = {0};
    require_ok(gguf_parse(&part, 1, &arena, &file, &err) && plan_build(file, &arena, &plan, &err), &err);

    BackendOptions options = options_of(model.context);
    options.gpu_device = 1000;
    CHECK(!cuda_backend_open(&options, &arena, &b, &err));
    CHECK_INT_EQ(ERR_NO_DEVICE, err.code);

    options.gpu_device = 0;
    options.kv_bytes = 1ull << 50;
    options.kv_tokens_max = 1ull << 45;
    require_ok(cuda_backend_open(&options, &arena, &b, &err), &err);
    CHECK(!b->load(b, plan, NULL, NULL, &err));
    CHECK_INT_EQ(ERR_INSUFFICIENT_VRAM, err.code);
    CHECK(strstr(err.message, "test.gguf") && strstr(err.message, b->info.device_name));
    b->close(b);
}

TEST(cuda_gpu_gives_its_memory_back) {
    need_gpu();
    Cuda cuda;
    Error err = {0};
    require_ok(cuda_open(&cuda, &err), &err);
    uint64_t free_before = 0, free_after = 0;
    TinyModel model = tiny_model_llama();
    for (uint32_t i = 0; i < 3; i++) { // the first time, the driver keeps something for itself
        Pair *p = open_tiny(&model);
        CHECK(p->gpu->info.vram_bytes_used > 0);
        require_ok(cuda_backend_check_residency(p->gpu, &err), &err);
        uint64_t *out = i < 2 ? &free_before : &free_after;
        require_ok(device_memory_free_bytes(&cuda, out, &err), &err);
        close_pair(p);
    }
    CHECK(free_after >= free_before); // the driver may give back more of its own
    cuda_close(&cuda);
}

#else

TEST(cuda_gpu) {
    SKIP("this build has no CUDA");
}

#endif
