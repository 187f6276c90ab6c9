#include "model_pair.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_driver.h"
#include "emulated_gpu.h"
#include "fake_driver.h"
#include "os/os.h"
#include "runner.h"

#include <math.h>
#include <stdlib.h>

static void require_ok(bool ok, const Error *err) {
    if (!ok) FAIL("%s", err->message);
    REQUIRE(ok);
}

BackendOptions model_gpu_options(uint32_t n_slots, uint32_t context) {
    BackendOptions options = {.n_slots = n_slots,
                              .max_rows = context,
                              .kv_texts = n_slots,
                              .kv_text_tokens = context,
                              .jit_cache = test_root_path("build/jit-cache"),
                              .model_path = "test.gguf"};
    if (getenv("EMULATED_GPU")) {
        emulated_gpu_load(90, 2);
        options.jit_compiler = &emulated_gpu_compiler;
        return options;
    }
    if (getenv("COMPILE_ONLY")) (void)fake_driver_load();
    Cuda cuda;
    Error err = {0};
    if (!cuda_open(&cuda, &err)) SKIP("%s", err.message);
    cuda_close(&cuda);
    return options;
}

static ModelPair *open_file(const GgufFile *file, Arena arena, KvType type, const BackendOptions *options) {
    ModelPair *p = arena_new(&arena, ModelPair, 1); // the backends keep a pointer to its arena
    REQUIRE(p != NULL);
    p->arena = arena;
    Error err = {0};
    PlanOptions plan = {.kv_type = type};
    require_ok(plan_build_with(file, &plan, &p->arena, &p->plan, &err), &err);
    require_ok(cuda_backend_open(options, &p->arena, &p->gpu, &err), &err);
    require_ok(p->gpu->load(p->gpu, p->plan, NULL, NULL, &err), &err);
    CHECK_STR_EQ("", p->gpu->info.warning);
    if (getenv("COMPILE_ONLY")) {
        cuda_backend_wait_for_classes(p->gpu);
        p->gpu->close(p->gpu);
        SKIP("its kernels are in build/jit-cache now");
    }
    require_ok(cpu_backend_open(options, &p->arena, &p->cpu, &err), &err);
    require_ok(p->cpu->load(p->cpu, p->plan, NULL, NULL, &err), &err);
    p->n_slots = options->n_slots;
    p->context = (uint32_t)align_up(options->kv_text_tokens, KV_PAGE_TOKENS);
    p->list_pages = p->context / KV_PAGE_TOKENS;
    uint32_t n = p->plan->kv.n_lists * p->list_pages;
    REQUIRE(p->n_slots <= PAIR_SLOTS_MAX && n <= PAIR_PAGES_MAX);
    for (uint32_t slot = 0; slot < p->n_slots; slot++) {
        uint32_t *pages = p->pages[slot];
        uint64_t own = kv_layout_spread(&p->plan->kv, p->context, options->max_rows, 0, pages);
        for (uint32_t i = 0; i < n; i++)
            pages[i] = ((uint32_t)own - 1 - pages[i]) * p->n_slots + slot;
    }
    return p;
}

ModelPair *model_pair_open(Str file, const BackendOptions *options) {
    return model_pair_open_with(file, KV_TYPE_F16, options);
}

ModelPair *model_pair_open_with(Str file, KvType type, const BackendOptions *options) {
    Arena arena = os_arena((size_t)8 << 30);
    GgufPart part = {(const uint8_t *)file.ptr, file.len, options->model_path};
    const GgufFile *gguf;
    Error err = {0};
    require_ok(gguf_parse(&part, 1, &arena, &gguf, &err), &err);
    return open_file(gguf, arena, type, options);
}

ModelPair *model_pair_open_file(const GgufFile *file, Arena arena, const BackendOptions *options) {
    return open_file(file, arena, KV_TYPE_F16, options);
}

void model_pair_close(ModelPair *p) {
    p->gpu->close(p->gpu);
    p->cpu->close(p->cpu);
}

void model_begin(Backend *b, uint32_t slot, const SamplerParams *params, const int32_t *prompt, uint32_t n) {
    Error err = {0};
    SequenceStart start = {.params = *params, .tokens = prompt, .n_prompt = n};
    require_ok(b->begin(b, slot, &start, &err), &err);
}

StepResult model_run(const ModelPair *p, Backend *b, uint32_t slot, const int32_t *tokens, uint32_t position,
                     uint32_t n, bool sample, uint32_t n_logits) {
    StepSequence q = {.slot = slot,
                      .mode = tokens ? STEP_PROMPT : STEP_DECODE,
                      .position = position,
                      .n_rows = n,
                      .tokens = tokens,
                      .pages = p->pages[slot],
                      .list_pages = p->list_pages,
                      .n_slices = tokens ? (uint32_t)min_u64(p->prompt_slices, b->info.chunk_slices) : 0};
    StepResult result;
    Error err = {0};
    REQUIRE(position + n <= p->context);
    do {
        if (step_is_last_slice(&q)) q.n_draws = sample, q.n_logits = n_logits;
        require_ok(b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, &err), &err);
        require_ok(b->read(b, &result, &err), &err);
    } while (++q.slice < q.n_slices);
    REQUIRE(result.n_logits == n_logits && result.n_runs == sample);
    return result;
}

void model_generate(const ModelPair *p, Backend *b, uint32_t slot, const SamplerParams *params,
                    int32_t *tokens, uint32_t n_prompt, uint32_t n, const uint32_t *chunks, uint32_t n_chunks,
                    float *logits) {
    uint64_t n_vocab = p->plan->n_vocab;
    uint32_t under_way = 0, depth = logits ? 1 : b->info.pipeline_depth;
    model_begin(b, slot, params, tokens, n_prompt);
    for (uint32_t at = 0, rows, i = 0; at < n_prompt; at += rows, i += i + 1 < n_chunks) {
        rows = (uint32_t)min_u64(chunks[i], n_prompt - at);
        bool last = at + rows == n_prompt;
        StepResult r = model_run(p, b, slot, tokens + at, at, rows, last, logits ? rows : 0);
        if (logits) memcpy(logits + at * n_vocab, r.logits, rows * n_vocab * sizeof *logits);
        if (last) tokens[n_prompt] = r.runs[0].tokens[0];
    }
    for (uint32_t at = n_prompt, read = n_prompt; read < n;) {
        Error err = {0};
        StepSequence q = {.slot = slot,
                          .mode = STEP_DECODE,
                          .position = at,
                          .n_rows = 1,
                          .pages = p->pages[slot],
                          .list_pages = p->list_pages,
                          .n_draws = 1,
                          .n_logits = logits != NULL};
        if (at < n && under_way < depth) {
            require_ok(b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, &err), &err);
            under_way++, at++;
            continue;
        }
        StepResult r;
        require_ok(b->read(b, &r, &err), &err);
        if (logits) memcpy(logits + read * n_vocab, r.logits, n_vocab * sizeof *logits);
        tokens[++read] = r.runs[0].tokens[0];
        under_way--;
    }
}

double model_relative_error(const float *expected, const float *actual, uint64_t n) {
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)actual[i] - (double)expected[i];
        error += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    return sqrt(error / norm);
}

#endif
