// Numbers of files at the ends of their ranges: refused with their key, or of a model that computes numbers.
#include "arch_model_rows.h"
#include "backend/backend.h"
#include "os/os.h"
#include "plan/plan.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 3, MEMORY_BYTES = 32 << 20 };

// The model with the number under the key, whether or not it has one. False where there is no room for a key.
static bool build_with(const ArchModel *model, const char *suffix, double value, Str *out) {
    ArchModel m = *model;
    for (size_t i = 0; i < KEYS_MAX; i++) {
        if (m.keys[i].type && strcmp(m.keys[i].suffix, suffix) != 0) continue;
        m.keys[i] = (KeyRow)KEY_F32(suffix, value);
        *out = arch_model_build(&m);
        return true;
    }
    return false;
}

static bool is_finite(const Plan *plan, Arena *arena) {
    BackendOptions options = {
        .n_slots = 1, .max_rows = TOKENS, .kv_texts = 1, .kv_text_tokens = KV_PAGE_TOKENS, .n_threads = 1};
    uint32_t pages[KV_LISTS_MAX] = {0};
    int32_t tokens[ARCH_MODEL_TOKENS];
    Backend *b;
    Error err = {0};
    StepResult result;
    arch_model_tokens(tokens);
    kv_layout_spread(&plan->kv, TOKENS, TOKENS, 0, pages);
    REQUIRE(cpu_backend_open(&options, arena, &b, &err) && b->load(b, plan, NULL, NULL, &err));
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = tokens, .n_prompt = TOKENS};
    StepSequence rows = {
        .n_rows = TOKENS, .tokens = tokens, .pages = pages, .list_pages = 1, .n_draws = 1, .n_logits = 1};
    REQUIRE(b->begin(b, 0, &start, &err));
    REQUIRE(b->step(b, &(Step){.sequences = &rows, .n_sequences = 1}, &err) && b->read(b, &result, &err));
    bool ok = result.runs[0].tokens[0] != TOKEN_INVALID;
    if (!ok && result.runs[0].first_invalid) printf("%s\n", result.runs[0].first_invalid);
    b->close(b);
    return ok;
}

TEST_SLOW(arch_numbers_are_refused_or_harmless, 120) {
    static const double values[] = {1e-45, 2e-6, 0, -0.5, 9e5, 1e30, -3e38};
    static const ArchModel *(*const lists[])(uint32_t) = {arch_model_at,       arch_layered_model_at,
                                                          arch_state_model_at, arch_mla_model_at,
                                                          arch_meta_model_at,  arch_gemma_model_at};
    uint32_t n_run = 0, n_refused = 0;
    for (uint32_t list = 0, i = 0; list < COUNT_OF(lists);) {
        const ArchModel *model = lists[list](i++);
        if (!model) {
            list++, i = 0;
            continue;
        }
        const Arch *arch = arch_find(str_from_c(arch_model_architecture(model)));
        if (!arch || arch_model_tables(model)) continue; // a test's own tables
        for (uint32_t row = 0; row < arch->n_config * COUNT_OF(values); row++) {
            const ConfigRow *config = &arch->config[row / COUNT_OF(values)];
            double value = values[row % COUNT_OF(values)];
            Str file;
            if (config->type != CONFIG_F32 || !config->key) continue;
            const char *suffix = config->key + 3; // behind "%s."
            TEST_CASE_LABEL("%s, %s = %g", arch_model_name(model), suffix, value);
            if (!build_with(model, suffix, value, &file)) continue;
            void *memory = os_reserve(MEMORY_BYTES);
            Arena arena = arena_from_memory(memory, MEMORY_BYTES);
            GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "test.gguf"};
            const GgufFile *parsed;
            Plan *plan;
            Error err = {0};
            REQUIRE(gguf_parse(&part, 1, &arena, &parsed, &err));
            if (plan_build(parsed, &arena, &plan, &err)) {
                n_run++;
                CHECK(is_finite(plan, &arena));
            } else {
                n_refused++;
                if (!strstr(err.message, suffix)) CHECK_STR_EQ(suffix, err.message);
            }
            os_release(memory, MEMORY_BYTES);
        }
    }
    printf("%u run, %u refused\n", n_run, n_refused);
}
