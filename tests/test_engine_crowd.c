// Jobs of every architecture alone and in a crowd, on the CPU reference: the same bits (crowd_checks.h).
#include "arch_models.h"
#include "crowd_checks.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

enum { SLOTS = 64, MAX_ROWS = 128, PAGES = SLOTS * CROWD_CONTEXT / KV_PAGE_TOKENS };

typedef struct {
    Arena arena;
    const GgufFile *file;
    Backend *backend;
    Plan *plan;
} Model;

static Model open_bytes(Str bytes, const char *name) {
    Model out = {.arena = os_arena(256 << 20)};
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = name};
    BackendOptions options = {.n_slots = SLOTS,
                              .max_rows = MAX_ROWS,
                              .kv_texts = SLOTS,
                              .kv_text_tokens = CROWD_CONTEXT,
                              .n_threads = 1};
    Error err = {0};
    bool ok = gguf_parse(&part, 1, &out.arena, &out.file, &err) &&
              plan_build(out.file, &out.arena, &out.plan, &err) &&
              cpu_backend_open(&options, &out.arena, &out.backend, &err) &&
              out.backend->load(out.backend, out.plan, NULL, NULL, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    return out;
}

static Model open_model(const ArchModel *m) {
    return open_bytes(arch_model_build(m), arch_model_name(m));
}

static void check_crowds(const ArchModel *m, uint32_t n_crowds) {
    // All sizes; pages for a third of the crowd, or hardly more than for one text.
    static const CrowdConfig crowds[] = {
        {.seed = 1, .crowd = 7, .n_pages = 14, .max_rows = 17, .n_texts = 4},
        {.seed = 2, .crowd = 64, .n_pages = 100, .max_rows = 128, .n_texts = 4},
        {.seed = 3, .crowd = 16, .n_pages = 30, .max_rows = 20, .n_texts = 4},
        {.seed = 4, .crowd = 2, .n_pages = 7, .max_rows = 3, .n_texts = 4},
        {.seed = 5, .crowd = 7, .n_pages = PAGES, .max_rows = 64, .n_texts = 4},
    };
    Model model = open_model(m);
    for (uint32_t i = 0; i < n_crowds && i < COUNT_OF(crowds); i++) {
        TEST_CASE_LABEL("%s, a crowd of %u", arch_model_name(m), crowds[i].crowd);
        CrowdReport r = crowd_run(model.backend, model.plan, model.arena, &crowds[i]);
        CHECK_INT_EQ(0, r.differ);
        CHECK(r.cached > 20 && r.set_aside > 0 && r.companions > 5);
        printf("%s, %u: %u steps, %u companions, %u tokens cached, %u set aside\n", arch_model_name(m),
               crowds[i].crowd, r.steps, r.companions, r.cached, r.set_aside);
    }
    model.backend->close(model.backend);
}

// Under a sanitizer one of 64 is enough, that of the first model: what crowds make differs in the engine, and
// rows by the dozen each architecture has in arch_logits_.
TEST_SLOW(engine_crowds_of_every_architecture, 120) {
    const ArchModel *m;
    uint32_t n_crowds = test_is_sanitized() ? 1 : 2;
    for (uint32_t i = 0; (m = arch_model_at(i)); i++)
        check_crowds(m, i == 0 ? 5 : n_crowds);
    for (uint32_t i = 0; (m = arch_layered_model_at(i)); i++) {
        if (!arch_model_tables(m)) check_crowds(m, 1);
    }
    for (uint32_t i = 0; (m = arch_state_model_at(i)); i++)
        check_crowds(m, n_crowds);
    for (uint32_t i = 0; (m = arch_mla_model_at(i)); i++)
        check_crowds(m, 1);
}

TEST(engine_crowds_with_grammars) {
    static const struct {
        uint32_t crowd, n_pages, max_rows;
    } rows[] = {{7, 12, 17}, {16, 23, 20}, {2, 8, 3}};
    TinyModel tiny = tiny_model_llama(); // which has a vocabulary
    Model model = open_bytes(tiny_model_build(&tiny), "tiny.gguf");
    Tokenizer *tokenizer;
    Error err = {0};
    REQUIRE(tokenizer_from_gguf(model.file, &model.arena, os_arena(64 << 20), &tokenizer, &err));
    uint32_t set_aside = 0;
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("a crowd of %u", rows[i].crowd);
        CrowdConfig config = {.seed = i + 1,
                              .crowd = rows[i].crowd,
                              .n_pages = rows[i].n_pages,
                              .max_rows = rows[i].max_rows,
                              .n_texts = 4,
                              .tokenizer = tokenizer};
        CrowdReport r = crowd_run(model.backend, model.plan, model.arena, &config);
        CHECK_INT_EQ(0, r.differ);
        set_aside += r.set_aside;
    }
    CHECK(set_aside > 0); // how many, and of which crowd, depends on how long steps took
    model.backend->close(model.backend);
}

// What must be noticed is.
TEST(engine_crowds_see_faults) {
    static const struct {
        const char *model;
        CrowdFault fault;
    } rows[] = {
        {"llama", CROWD_FAULT_NONE},         {"llama", CROWD_FAULT_LOST_COPIES},
        {"llama", CROWD_FAULT_WRITTEN_OVER}, {"qwen35", CROWD_FAULT_NONE},
        {"qwen35", CROWD_FAULT_LOST_STATES},
    };
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, fault %d", rows[i].model, (int)rows[i].fault);
        Model model = open_model(arch_model_named(rows[i].model));
        CrowdConfig config = {
            .seed = 5, .crowd = 7, .n_pages = 60, .max_rows = 64, .n_texts = 4, .fault = rows[i].fault};
        CrowdReport r = crowd_run(model.backend, model.plan, model.arena, &config);
        CHECK((r.differ > 0) == (rows[i].fault != CROWD_FAULT_NONE));
        model.backend->close(model.backend);
    }
}
