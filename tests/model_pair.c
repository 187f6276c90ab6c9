#include "model_pair.h"

#include "os/os.h"
#include "runner.h"

#include <math.h>

static void require_ok(bool ok, const Error *err) {
    if (!ok) FAIL("%s", err->message);
    REQUIRE(ok);
}

ModelPair *model_pair_open(Str file, const BackendOptions *options) {
    Arena arena = os_arena((size_t)8 << 30);
    ModelPair *p = arena_new(&arena, ModelPair, 1); // the backends keep a pointer to its arena
    REQUIRE(p != NULL);
    p->arena = arena;
    GgufPart part = {(const uint8_t *)file.ptr, file.len, options->model_path};
    const GgufFile *gguf;
    Error err = {0};
    require_ok(gguf_parse(&part, 1, &p->arena, &gguf, &err), &err);
    require_ok(plan_build(gguf, &p->arena, &p->plan, &err), &err);
    require_ok(cuda_backend_open(options, &p->arena, &p->gpu, &err), &err);
    bool loaded = p->gpu->load(p->gpu, p->plan, NULL, NULL, &err);
    if (!loaded && err.code == ERR_UNSUPPORTED) SKIP("%s", err.message);
    require_ok(loaded, &err);
    CHECK_STR_EQ("", p->gpu->info.warning);
    require_ok(cpu_backend_open(options, &p->arena, &p->cpu, &err), &err);
    require_ok(p->cpu->load(p->cpu, p->plan, NULL, NULL, &err), &err);
    uint64_t n_pages = options->kv_tokens_max / KV_PAGE_TOKENS / options->n_slots;
    REQUIRE(options->n_slots <= PAIR_SLOTS_MAX && n_pages <= PAIR_PAGES_MAX);
    p->context = (uint32_t)n_pages * KV_PAGE_TOKENS;
    for (uint32_t slot = 0; slot < options->n_slots; slot++) {
        for (uint32_t i = 0; i < n_pages; i++)
            p->pages[slot][i] = ((uint32_t)n_pages - 1 - i) * options->n_slots + slot;
    }
    return p;
}

void model_pair_close(ModelPair *p) {
    p->gpu->close(p->gpu);
    p->cpu->close(p->cpu);
}

void model_begin(Backend *b, uint32_t slot, const SamplerParams *params, const int32_t *prompt, uint32_t n) {
    Error err = {0};
    require_ok(b->begin(b, slot, params, prompt, n, &err), &err);
}

StepResult model_run(const ModelPair *p, Backend *b, uint32_t slot, const int32_t *tokens, uint32_t position,
                     uint32_t n, bool sample, uint32_t n_logits) {
    StepSequence q = {.slot = slot,
                      .position = position,
                      .n_tokens = n,
                      .tokens = tokens,
                      .pages = p->pages[slot],
                      .sample = sample,
                      .n_logits = n_logits};
    StepResult result;
    Error err = {0};
    REQUIRE(position + n <= p->context);
    require_ok(b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, &err), &err);
    require_ok(b->read(b, &result, &err), &err);
    REQUIRE(result.n_logits == n_logits && result.n_tokens == sample);
    return result;
}

void model_generate(const ModelPair *p, Backend *b, uint32_t slot, const SamplerParams *params,
                    int32_t *tokens, uint32_t n_prompt, uint32_t n, const uint32_t *chunks, uint32_t n_chunks,
                    float *logits) {
    uint64_t n_vocab = p->plan->config.n_vocab;
    model_begin(b, slot, params, tokens, n_prompt);
    for (uint32_t at = 0, rows, i = 0; at < n; at += rows, i += i + 1 < n_chunks) {
        bool drawn = at >= n_prompt;
        rows = drawn ? 1 : (uint32_t)min_u64(chunks[i], n_prompt - at);
        bool sample = at + rows >= n_prompt;
        StepResult r = model_run(p, b, slot, drawn ? NULL : tokens + at, at, rows, sample, logits ? rows : 0);
        if (logits) memcpy(logits + at * n_vocab, r.logits, rows * n_vocab * sizeof *logits);
        if (sample) tokens[at + rows] = r.tokens[0];
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
