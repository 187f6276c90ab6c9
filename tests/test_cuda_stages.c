// The rows of the stages: that each is complete and belongs to the others, and that the notes for people have
// them.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/batch_lower.h"
#include "base/embed.h"
#include "os/os.h"

#include <stdio.h>
#include <string.h>

// The text of a file of kernels_src/; NULL where there is none.
static const char *text_of(const char *name) {
    for (size_t i = 0; i < embedded_file_count; i++) {
        if (strcmp(embedded_files[i].name, name) == 0) return (const char *)embedded_files[i].data;
    }
    return NULL;
}

// Each stage is a part of a block, or draws.
static bool is_part_of_block(const BatchType *type) {
    bool found = batch_draws(type);
    for (uint32_t i = 0; batch_block_at(i); i++) {
        for (uint32_t k = 0; k < BATCH_PARTS_MAX; k++)
            found |= batch_block_at(i)->parts[k].type == type;
    }
    return found;
}

// The files of a program are there, and the last one has its kernel.
static void check_files(const BatchType *type) {
    static const char *const first[] = {"prelude.cuh", "layout.h", "args.h"};
    const char *last = NULL;
    char kernel[96];
    for (uint32_t i = 0; type->files[i]; i++) {
        if (i < COUNT_OF(first)) CHECK_STR_EQ(first[i], type->files[i]);
        last = text_of(type->files[i]);
        if (!last) FAIL("%s is not there", type->files[i]);
    }
    snprintf(kernel, sizeof kernel, " %s(", type->kernel);
    if (!last || !strstr(last, kernel)) FAIL("no kernel %s", type->kernel);
    CHECK(type->files[STAGE_FILES_MAX] == NULL);
}

TEST(cuda_stages_have_complete_rows) {
    for (uint32_t i = 0; batch_type_at(i); i++) {
        const BatchType *type = batch_type_at(i);
        REQUIRE(type->kernel && type->name);
        TEST_CASE_LABEL("%s (%s)", type->kernel, type->name);
        CHECK(type->cost > 0 && type->define && type->bind && type->results);
        CHECK(is_part_of_block(type));
        check_files(type);
        for (uint32_t k = 0; k < i; k++)
            CHECK(strcmp(type->kernel, batch_type_at(k)->kernel) != 0 ||
                  strcmp(type->name, batch_type_at(k)->name) != 0);
    }
    for (uint32_t i = 0; batch_block_at(i); i++) {
        const BatchBlock *block = batch_block_at(i);
        TEST_CASE_LABEL("block %u", i);
        CHECK(block->link && block->check && block->patterns[0].n_ops > 0);
        if (block == &batch_block_share) continue; // its neighbours do it
        uint32_t bodies = 0;
        for (uint32_t k = 0; k < BATCH_PARTS_MAX; k++)
            bodies |= block->parts[k].bodies;
        uint32_t expected = block->is_head ? BODY_FEW | BODY_MANY : BODY_ANY;
        CHECK_INT_EQ(expected, bodies);
    }
}

// ---- the table in kernels_src/README.md ----

enum { DEFINES_MAX = 48, TABLE_BYTES = 64 << 10 };

// What programs of a stage define: how many do, of how many there were.
typedef struct {
    struct {
        char name[40];
        uint32_t count;
    } defines[DEFINES_MAX];
    uint32_t n_defines, n_programs;
} StageDefines;

static StageDefines seen[BATCH_TYPES_COUNT];

static void note_define(StageDefines *d, Str name) {
    uint32_t i = 0;
    while (i < d->n_defines && !str_eq(str_from_c(d->defines[i].name), name))
        i++;
    REQUIRE(i < DEFINES_MAX && name.len < sizeof d->defines[i].name);
    if (i == d->n_defines) {
        memcpy(d->defines[i].name, name.ptr, name.len);
        d->n_defines++;
    }
    d->defines[i].count++;
}

static void note_program(StageDefines *d, const JitProgram *p) {
    d->n_programs++;
    for (const char *at = p->defines.ptr; (at = strstr(at, "#define ")) != NULL;) {
        at += strlen("#define ");
        note_define(d, (Str){at, strcspn(at, " \n")});
    }
}

static void note_class(const BatchLowered *l, const BatchClass *c) {
    for (uint32_t i = 0; i < c->n_stages; i++) {
        uint32_t row = 0;
        while (batch_type_at(row) != c->stages[i].type)
            row++;
        note_program(&seen[row], &l->programs[c->stages[i].program]);
    }
}

static void note_lowered(Str file, KvType type, uint32_t sm) {
    Arena arena = os_arena(256 << 20);
    GgufPart part = {(const uint8_t *)file.ptr, file.len, "tiny"};
    const GgufFile *gguf;
    Plan *plan;
    Placement placement;
    BatchLowered l;
    Error err = {0};
    LowerTarget target = lower_target_of_sm(sm);
    PlanOptions options = {.kv_type = type};
    REQUIRE(gguf_parse(&part, 1, &arena, &gguf, &err) &&
            plan_build_with(gguf, &options, &arena, &plan, &err));
    REQUIRE(placement_make(plan, &arena, &placement, &err));
    if (!batch_lower(plan, &placement, &target, 64, 512, &arena, &l, &err)) FAIL("%s", err.message);
    REQUIRE(err.code == ERR_NONE);
    for (uint32_t c = 0; c < l.n_classes; c++)
        note_class(&l, &l.classes[c]);
}
static void note_model(Str file, KvType type) {
    note_lowered(file, type, 75);
    note_lowered(file, type, 90);
}

// "A block a…": the grid as the kernel's StageInfo has it.
static Str grid_of(const char *kernel, const char *const *files) {
    char info[96];
    uint32_t last = 0;
    while (files[last + 1])
        last++;
    snprintf(info, sizeof info, "%s_info = PRODUCT_INFO(", kernel);
    if (strstr(text_of(files[last]), info)) return STR("PRODUCT_GRID");
    snprintf(info, sizeof info, "%s_info = {", kernel);
    const char *at = strstr(text_of(files[last]), info), *end = NULL;
    at = at ? strstr(at + strlen(info), "{") : NULL;
    end = at ? strchr(at, '}') : NULL;
    REQUIRE(end != NULL);
    return (Str){at + 1, (size_t)(end - at - 1)};
}

static void write_row(StrBuf *b, const char *kernel, const char *stage, const char *const *files,
                      const StageDefines *d) {
    TEST_CASE_LABEL("%s", kernel);
    CHECK(d->n_programs > 0);
    strbuf_printf(b, "| `%s` %s | `", kernel, stage);
    for (uint32_t i = 3; files[i]; i++) {
        const char *name = files[i];
        strbuf_printf(b, "%s%.*s", i > 3 ? " " : "", (int)strcspn(name, "."), name);
    }
    strbuf_printf(b, "` | `");
    for (int optional = 0; optional < 2; optional++) {
        for (uint32_t i = 0; i < d->n_defines; i++) {
            if ((d->defines[i].count < d->n_programs) != (optional != 0)) continue;
            strbuf_printf(b, optional ? " [%s]" : i ? " %s" : "%s", d->defines[i].name);
        }
    }
    strbuf_printf(b, "` | `%.*s` |\n", STR_ARG(grid_of(kernel, files)));
}

static void write_head(StrBuf *b) {
    strbuf_printf(b, "| stage | files after `prelude layout args` | defines, [of some] | grid |\n"
                     "| --- | --- | --- | --- |\n");
}

// The table is made of the rows. Where it differs, build/stages.md is what it should be.
TEST(cuda_stages_are_in_the_readme) {
    static const ArchShape large = {"llama-3.1-8b", "mistral", 1,    4096,       32,         8,         128,
                                    14336,          128256,    4096, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K};
    static char table[TABLE_BYTES], readme[4 * TABLE_BYTES];
    for (uint32_t i = 0; arch_model_at(i); i++)
        note_model(arch_model_build(arch_model_at(i)), KV_TYPE_F16);
    for (uint32_t i = 0; arch_mla_model_at(i); i++)
        note_model(arch_model_build(arch_mla_model_at(i)), KV_TYPE_F16);
    note_model(arch_model_build(arch_model_named("odd_deepseek2")), KV_TYPE_F16);
    static const char *const states[] = {
        "lfm2", "qwen35",       "nemotron_h",   "granite_hybrid", "nemotron_h_moe", "nemotron_h_latent",
        "deci", "llama4_scout", "muse_glimmer", "alike_qwen2moe"};
    for (size_t i = 0; i < COUNT_OF(states); i++)
        note_model(arch_model_build(arch_model_named(states[i])), KV_TYPE_F16);
    note_model(arch_model_build(arch_model_named("gemma4-e4b")), KV_TYPE_F16);
    note_model(arch_model_build(arch_model_named("gemma4-e4b")), KV_TYPE_Q8);
    note_model(arch_model_build(arch_model_named("gemma4-26b")), KV_TYPE_F16);
    note_lowered(arch_model_build(arch_model_named("odd_gemma4")), KV_TYPE_F16, 90); // too wide for sm_75
    note_model(arch_model_build(arch_model_named("gemma3n")), KV_TYPE_F16);
    note_model(arch_shape_build(&large), KV_TYPE_F16);
    StrBuf b = strbuf_from_memory(table, sizeof table);
    write_head(&b);
    for (uint32_t i = 0; batch_type_at(i); i++)
        write_row(&b, batch_type_at(i)->kernel, batch_type_at(i)->name, batch_type_at(i)->files, &seen[i]);
    REQUIRE(!b.truncated);
    FILE *f = fopen(test_root_path("kernels_src/README.md"), "rb");
    REQUIRE(f != NULL);
    size_t n = fread(readme, 1, sizeof readme - 1, f);
    fclose(f);
    readme[n] = 0;
    if (strstr(readme, table)) return;
    f = fopen(test_root_path("build/stages.md"), "wb");
    if (f) fputs(table, f), fclose(f);
    FAIL("kernels_src/README.md does not have the table of build/stages.md");
}

#else

TEST(cuda_stages) {
    SKIP("this build has no CUDA");
}

#endif
