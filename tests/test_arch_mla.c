// Models with a compressed cache: what is wrong with their files, and what their cache takes.
#include "arch_model_rows.h"
#include "backend/backend.h"
#include "os/os.h"
#include "plan/plan.h"
#include "runner.h"

#include <stdio.h>

enum { TOKENS = 24, PAGES = (TOKENS + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS };

static bool plan_of(Str file, Arena *arena, Plan **plan, Error *err) {
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "test.gguf"};
    const GgufFile *parsed;
    return gguf_parse(&part, 1, arena, &parsed, err) && plan_build(parsed, arena, plan, err);
}

TEST(mla_errors_name_the_key_and_the_place) {
    static const struct {
        const char *model, *suffix;
        double value;
        const char *message;
    } rows[] = {
        {"deepseek2-lite", "attention.kv_lora_rank", ARCH_KEY_ABSENT, "\"deepseek2.attention.kv_lora_rank\""},
        {"deepseek2-lite", "attention.kv_lora_rank", 0,
         "deepseek2.attention.kv_lora_rank is 0; expected 1 to 992"},
        {"deepseek2-lite", "attention.kv_lora_rank", 1000,
         "deepseek2.attention.kv_lora_rank is 1000; expected 1 to 992"},
        {"deepseek2-lite", "attention.key_length", ARCH_KEY_ABSENT,
         "deepseek2.attention.key_length (not in the file) is 16 and value_length 128; expected"},
        {"deepseek2-lite", "attention.kv_lora_rank", 96,
         "deepseek2.attention.key_length is 160 and value_length 128; expected kv_lora_rank 96 with and "
         "without rope.dimension_count 32"},
        {"deepseek2-lite", "attention.key_length", 144, "expected kv_lora_rank 128 with and without"},
        {"deepseek2-lite", "attention.value_length", 144, "expected kv_lora_rank 128 with and without"},
        {"deepseek2-lite", "attention.head_count_kv", 4,
         "deepseek2.attention.head_count_kv is 4; expected 1 to 1"},
        {"deepseek2-lite", "rope.dimension_count", ARCH_KEY_ABSENT, "\"deepseek2.rope.dimension_count\""},
        {"deepseek2-lite", "rope.dimension_count", 64, "without rope.dimension_count 64"},
        {"deepseek2-lite", "rope.dimension_count", 0, "deepseek2.rope.dimension_count is 0; expected 1 to"},
        {"deepseek2-lite", "attention.key_length_mla", ARCH_KEY_ABSENT,
         "deepseek2.attention.key_length_mla (not in the file) is 0; expected 33 to 1024"},
        {"deepseek2-lite", "attention.key_length_mla", 32,
         "deepseek2.attention.key_length_mla is 32; expected 33 to 1024"},
        {"deepseek2-lite", "attention.key_length_mla", 64,
         "\"blk.0.attn_q.weight\": expected shape [256, 64], found [384, 64]"},
        {"deepseek2-lite", "attention.value_length_mla", 48,
         "\"blk.0.attn_v_b.weight\": expected shape [4, 48, 128], found [4, 32, 128]"},
        {"deepseek2-lite", "attention.q_lora_rank", 32, "tensor \"blk.0.attn_q_a.weight\" is missing"},
        {"deepseek2-lite", "rope.scaling.yarn_log_multiplier", -0.5,
         "deepseek2.rope.scaling.yarn_log_multiplier is -0.5; expected 0 or more"},
        {"deepseek2-older", "attention.value_length", 48,
         "\"blk.0.attn_kv_b.weight\": expected shape [448, 128], found [384, 128]"},
        {"deepseek2-older", "attention.key_length_mla", 96,
         "deepseek2.attention.value_length_mla (not in the file) is 0; expected 1 to 1024"},
        {"deepseek2-v3", "attention.q_lora_rank", ARCH_KEY_ABSENT,
         "tensor \"blk.0.attn_q.weight\" is missing"},
        {"deepseek2-v3", "attention.q_lora_rank", 64,
         "\"blk.0.attn_q_a.weight\": expected shape [64, 64], found [256, 64]"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %s = %g", rows[i].model, rows[i].suffix, rows[i].value);
        Arena arena = os_arena(1 << 23);
        Str file = arch_model_build_with(arch_model_named(rows[i].model), rows[i].suffix, rows[i].value);
        Plan *plan;
        Error err = {0};
        CHECK(!plan_of(file, &arena, &plan, &err));
        if (!strstr(err.message, rows[i].message)) CHECK_STR_EQ(rows[i].message, err.message);
    }
}

// A token takes the latent vector and the turned values of each layer, once.
TEST(mla_cache_holds_the_latent_vector_once) {
    enum { RANK = 128, TURNED = 32 };
    for (uint32_t i = 0; arch_mla_model_at(i); i++) {
        Arena arena = os_arena(1 << 23);
        Plan *plan;
        Error err = {0};
        REQUIRE(plan_of(arch_model_build(arch_mla_model_at(i)), &arena, &plan, &err));
        CHECK_INT_EQ(plan->n_layers * (RANK + TURNED) * 2, plan->kv_bytes_per_token);
        CHECK_INT_EQ(plan->n_layers, plan->n_caches);
        CHECK_INT_EQ(KV_PAGE_TOKENS * (RANK + TURNED) * 2, plan->caches[0].page_bytes);
        CHECK(plan->caches[0].is_latent && plan->caches[0].n_heads == 1);
    }
}

TEST(mla_caches_stay_f16) {
    Arena arena = os_arena(1 << 23);
    Str bytes = arch_model_build(arch_mla_model_at(0));
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "tiny.gguf"};
    const GgufFile *file;
    Plan *plan;
    Error err = {0};
    REQUIRE(gguf_parse(&part, 1, &arena, &file, &err));
    CHECK(!plan_build_with(file, &(PlanOptions){.kv_type = KV_TYPE_Q8}, &arena, &plan, &err));
    CHECK_STR_EQ("tiny.gguf: a cache of type q8 is not supported for deepseek2, whose cache is compressed "
                 "already: f16 is "
                 "needed",
                 err.message);
}

static bool run_some_tokens(Plan *plan, Arena *arena, Error *err) {
    uint32_t pages[PAGES];
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    for (uint32_t i = 0; i < PAGES; i++)
        pages[i] = i;
    BackendOptions options = {.n_slots = 1,
                              .max_rows = TOKENS,
                              .kv_texts = 1,
                              .kv_text_tokens = PAGES * KV_PAGE_TOKENS,
                              .n_threads = 1};
    StepSequence text = {
        .n_rows = TOKENS, .tokens = tokens, .pages = pages, .list_pages = PAGES, .n_logits = 1};
    StepResult result;
    Backend *b;
    if (!cpu_backend_open(&options, arena, &b, err)) return false;
    bool ok = b->load(b, plan, NULL, NULL, err) &&
              b->step(b, &(Step){.sequences = &text, .n_sequences = 1}, err) && b->read(b, &result, err);
    b->close(b);
    return ok;
}

// Files whose numbers are anything are refused, or make a plan whose step touches nothing but its own memory.
TEST(mla_files_of_any_numbers) {
    static const double others[] = {0, 1, 2, 16, 24, 32, 48, 128, 144, 4294967295.0};
    uint32_t n_run = 0, n_refused = 0;
    for (uint32_t i = 0; i < 2; i++) {
        const ArchModel *m = arch_model_named(i == 0 ? "deepseek2-lite" : "deepseek2-v3");
        for (size_t k = 0; k < KEYS_MAX && m->keys[k].type; k++) {
            if (m->keys[k].type != KEY_U32) continue;
            for (size_t v = 0; v < COUNT_OF(others); v++) {
                TEST_CASE_LABEL("%s, %s = %.0f", m->name, m->keys[k].suffix, others[v]);
                Arena arena = os_arena(64 << 20);
                Plan *plan;
                Error err = {0};
                bool ok =
                    plan_of(arch_model_build_with(m, m->keys[k].suffix, others[v]), &arena, &plan, &err);
                if (ok) CHECK(run_some_tokens(plan, &arena, &err));
                n_run += ok, n_refused += !ok;
            }
        }
    }
    CHECK(n_run > 10 && n_refused > 100);
    printf("%u ran, %u were refused\n", n_run, n_refused);
}
