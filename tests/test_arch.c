// Every architecture on the CPU reference, against Hugging Face transformers on the same weights
// (vectors/make_arch.py).
#include "arch_models.h"
#include "backend/backend.h"
#include "backend/cpu/cpu_ops.h"
#include "os/os.h"
#include "plan/plan.h"
#include "runner.h"

#include <math.h>
#include <stdio.h>

enum {
    PROMPT_MAX = ARCH_MODEL_TOKENS_MAX - ARCH_MODEL_DRAWN,
    PAGES = (ARCH_MODEL_TOKENS_MAX + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS
};

typedef struct {
    Arena arena;
    Plan *plan;
    Backend *backend;
    uint32_t pages[KV_LISTS_MAX * PAGES];
} Model;

// Rounding makes up to 4e-6; the promise is 1e-3, but a wrong constant in an activation makes only 4e-5.
static const double ERROR_MAX = 2e-5;

// All that vectors/ has logits of.
static const ArchModel *model_at(uint32_t index) {
    static const ArchModel *(*const lists[])(uint32_t) = {arch_model_at,       arch_layered_model_at,
                                                          arch_state_model_at, arch_mla_model_at,
                                                          arch_gemma_model_at, arch_meta_model_at};
    const ArchModel *m = NULL;
    for (size_t list = 0; !m && list < COUNT_OF(lists); list++) {
        uint32_t n = 0;
        m = lists[list](index);
        while (!m && lists[list](n))
            n++;
        index -= n;
    }
    return m;
}

static bool build_plan(const ArchModel *m, const GgufFile *file, KvType type, Model *out, Error *err) {
    const Arch *tables = arch_model_tables(m);
    PlanOptions options = {.kv_type = type};
    return tables ? plan_build_as(file, tables, &options, &out->arena, &out->plan, err)
                  : plan_build_with(file, &options, &out->arena, &out->plan, err);
}

static Model open_model(const ArchModel *m, KvType type) {
    Model model = {.arena = os_arena(64 << 20)};
    Str bytes = arch_model_build(m);
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = arch_model_name(m)};
    BackendOptions options = {.n_slots = 1,
                              .max_rows = PROMPT_MAX,
                              .kv_texts = 1,
                              .kv_text_tokens = PAGES * KV_PAGE_TOKENS,
                              .n_threads = 2};
    const GgufFile *file;
    Error err = {0};
    bool ok = gguf_parse(&part, 1, &model.arena, &file, &err) && build_plan(m, file, type, &model, &err) &&
              cpu_backend_open(&options, &model.arena, &model.backend, &err) &&
              model.backend->load(model.backend, model.plan, NULL, NULL, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    uint64_t n = kv_layout_spread(&model.plan->kv, PAGES * KV_PAGE_TOKENS, PROMPT_MAX, 0, model.pages);
    for (uint32_t i = 0; i < PAGES * model.plan->kv.n_lists; i++) // in another order
        model.pages[i] = (uint32_t)n - 1 - model.pages[i];
    return model;
}

// The logits of tokens [from, from + count) go to `out`.
static void run(Model *m, const int32_t *tokens, uint32_t from, uint32_t count, float *out) {
    StepSequence sequence = {.position = from,
                             .tokens = tokens + from,
                             .n_rows = count,
                             .pages = m->pages,
                             .list_pages = PAGES,
                             .n_logits = count};
    StepResult result;
    Error err = {0};
    REQUIRE(m->backend->step(m->backend, &(Step){.sequences = &sequence, .n_sequences = 1}, &err));
    REQUIRE(m->backend->read(m->backend, &result, &err));
    REQUIRE(result.n_logits == count);
    memcpy(out, result.logits, count * ARCH_MODEL_VOCAB * sizeof *out);
}

static double relative_error(const float *expected, const float *actual) {
    double difference = 0, length = 0;
    for (uint32_t i = 0; i < ARCH_MODEL_VOCAB; i++) {
        double d = (double)actual[i] - (double)expected[i];
        difference += d * d;
        length += (double)expected[i] * (double)expected[i];
    }
    return sqrt(difference / length);
}

TEST(arch_logits_are_those_of_transformers) {
    enum { VALUES = ARCH_MODEL_TOKENS_MAX * ARCH_MODEL_VOCAB };
    static float actual[ARCH_MODEL_TOKENS_MAX][ARCH_MODEL_VOCAB];
    int32_t tokens[ARCH_MODEL_TOKENS_MAX];
    for (uint32_t i = 0; model_at(i); i++) {
        const ArchModel *m = model_at(i);
        TEST_CASE_LABEL("%s", arch_model_name(m));
        uint32_t n_tokens = arch_model_text(m, tokens), n_prompt = n_tokens - ARCH_MODEL_DRAWN;
        char name[96];
        snprintf(name, sizeof name, "vectors/arch/%s.bin", arch_model_name(m));
        Arena arena = os_arena(1 << 20);
        Str bytes;
        Error err = {0};
        REQUIRE(os_file_read(test_data_path(name), VALUES * sizeof(float), &arena, &bytes, &err));
        uint32_t n_rows = (uint32_t)(bytes.len / sizeof(float) / ARCH_MODEL_VOCAB), every = n_tokens / n_rows;
        REQUIRE(every * n_rows == n_tokens && (every == 1 || every == 8 || every == 16));
        float *expected = arena_new(&arena, float, VALUES);
        memcpy(expected, bytes.ptr, bytes.len);
        Model model = open_model(m, KV_TYPE_F16);
        run(&model, tokens, 0, n_prompt, actual[0]);
        for (uint32_t t = n_prompt; t < n_tokens; t++)
            run(&model, tokens, t, 1, actual[t]);
        double worst = 0;
        for (uint32_t r = 0; r < n_rows; r++) {
            uint32_t t = (r + 1) * every - 1;
            double e = relative_error(expected + r * ARCH_MODEL_VOCAB, actual[t]);
            if (!(e < ERROR_MAX)) FAIL("position %u: relative error %g", t, e);
            worst = fmax(worst, e);
        }
        CHECK(worst < ERROR_MAX);
        printf("%-16s largest relative error %.2g\n", arch_model_name(m), worst);
        model.backend->close(model.backend);
    }
}

// What a row computes does not depend on how its prompt was cut, to the bit: windows, experts and all.
TEST(arch_chunks_give_the_same_bits) {
    static float whole[PROMPT_MAX][ARCH_MODEL_VOCAB], cut[PROMPT_MAX][ARCH_MODEL_VOCAB];
    static const uint32_t cuts[] = {33, 1, 7};
    // Of a sanitizer's business the cases beside this one have the others, steps of one row and chunks of 7.
    size_t n_cuts = test_is_sanitized() ? 1 : COUNT_OF(cuts);
    int32_t tokens[ARCH_MODEL_TOKENS_MAX];
    for (uint32_t i = 0; model_at(i); i++) {
        Model model = open_model(model_at(i), KV_TYPE_F16);
        uint32_t n_prompt = arch_model_text(model_at(i), tokens) - ARCH_MODEL_DRAWN;
        uint64_t bytes = n_prompt * sizeof whole[0];
        run(&model, tokens, 0, n_prompt, whole[0]);
        for (size_t c = 0; c < n_cuts; c++) {
            TEST_CASE_LABEL("%s in chunks of %u", arch_model_name(model_at(i)), cuts[c]);
            for (uint32_t at = 0; at < n_prompt; at += cuts[c])
                run(&model, tokens, at, (uint32_t)min_u64(cuts[c], n_prompt - at), cut[at]);
            CHECK_BYTES_EQ(whole, bytes, cut, bytes);
        }
        model.backend->close(model.backend);
    }
}

static bool is_compressed(const ArchModel *m) {
    for (uint32_t i = 0; arch_mla_model_at(i); i++)
        if (arch_mla_model_at(i) == m) return true;
    return false;
}

// A cache of Q8 changes logits, and by little. (These models' scores are far apart, so the little is more
// than in published ones.) A text in chunks has the bits of the whole.
TEST(arch_logits_with_a_cache_of_8_bits) {
    enum { TOKENS = 64, CHUNK = 7 };
    static float exact[TOKENS][ARCH_MODEL_VOCAB], found[TOKENS][ARCH_MODEL_VOCAB],
        cut[TOKENS][ARCH_MODEL_VOCAB];
    int32_t tokens[ARCH_MODEL_TOKENS_MAX];
    for (uint32_t i = 0; model_at(i); i++) {
        const ArchModel *m = model_at(i);
        if (is_compressed(m)) continue;
        TEST_CASE_LABEL("%s", arch_model_name(m));
        arch_model_text(m, tokens);
        Model f16 = open_model(m, KV_TYPE_F16), q8 = open_model(m, KV_TYPE_Q8);
        run(&f16, tokens, 0, TOKENS, exact[0]);
        run(&q8, tokens, 0, TOKENS, found[0]);
        for (uint32_t at = 0; at < TOKENS; at += CHUNK)
            run(&q8, tokens, at, (uint32_t)min_u64(CHUNK, TOKENS - at), cut[at]);
        CHECK_BYTES_EQ(found, sizeof found, cut, sizeof cut);
        double sum = 0;
        for (uint32_t t = 0; t < TOKENS; t++)
            sum += relative_error(exact[t], found[t]) / TOKENS;
        printf("%-16s mean relative error %.2g\n", arch_model_name(m), sum);
        CHECK(sum > 0 && sum < 0.05);
        CHECK(q8.plan->kv_bytes_per_token * 16 <= f16.plan->kv_bytes_per_token * 9);
        f16.backend->close(f16.backend);
        q8.backend->close(q8.backend);
    }
}

TEST(arch_codes_of_8_bits) {
    static const struct {
        float in[4], out[4];
    } rows[] = {
        {{127, -127, 0, 64}, {127, -127, 0, 64}},
        {{63.5f, 0.75f, 1.25f, -0.75f}, {63.5f, 1, 1, -1}}, // ties to even codes: 1.5 → 2, 2.5 → 2
        {{0, 0, -0.0f, 0}, {0, 0, 0, 0}},
        {{254, 253, -1, 1.5f}, {254, 252, 0, 2}}, // 126.5 → 126, -0.5 → 0
        {{1e-7f, 0, 0, 0}, {0, 0, 0, 0}},         // the scale is below f16's smallest
        {{INFINITY, 1, 0, -1}, {INFINITY, NAN, NAN, NAN}},
        {{1, NAN, 0, -1}, {NAN, NAN, NAN, NAN}},
    };
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%g, %g, %g, %g", (double)rows[i].in[0], (double)rows[i].in[1], (double)rows[i].in[2],
                        (double)rows[i].in[3]);
        float out[4];
        cpu_round_to_q8(rows[i].in, out, 4);
        for (uint32_t k = 0; k < 4; k++) {
            float expected = rows[i].out[k];
            CHECK(isnan(expected) ? isnan(out[k]) : out[k] == expected);
        }
    }
}

static void write_table(StrBuf *b) {
    strbuf_printf(
        b, "| architecture | models | verified beyond transformers on a tiny model |\n| --- | --- | --- |\n");
    for (uint32_t a = 0; arch_at(a); a++) {
        const Arch *arch = arch_at(a);
        strbuf_printf(b, "| `%s` | %s | %s |\n", arch->name, arch->description,
                      arch->verified ? arch->verified : "");
    }
}

// The table is made of the architectures. Where it differs, build/architectures.md is what it should be.
TEST(arch_table_is_in_the_readme) {
    static char table[16 << 10], readme[256 << 10];
    StrBuf b = STRBUF(table);
    write_table(&b);
    REQUIRE(!b.truncated);
    FILE *f = fopen(test_root_path("README.md"), "rb");
    REQUIRE(f != NULL);
    size_t n = fread(readme, 1, sizeof readme - 1, f);
    fclose(f);
    readme[n] = 0;
    if (strstr(readme, table)) return;
    f = fopen(test_root_path("build/architectures.md"), "wb");
    if (f) fputs(table, f), fclose(f);
    FAIL("README.md does not have the table of build/architectures.md");
}

// Every architecture has a model here.
TEST(arch_every_architecture_has_a_model) {
    for (uint32_t a = 0; arch_at(a); a++) {
        TEST_CASE_LABEL("%s", arch_at(a)->name);
        uint32_t n_models = 0;
        for (uint32_t i = 0; model_at(i); i++)
            n_models += strcmp(arch_model_architecture(model_at(i)), arch_at(a)->name) == 0;
        CHECK(n_models > 0);
        CHECK(arch_find(str_from_c(arch_at(a)->name)) == arch_at(a));
        CHECK(arch_at(a)->description[0] != '\0');
    }
}
