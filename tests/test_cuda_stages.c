// The rows of the stages: that each is complete and belongs to the others, and that the notes for people have
// them.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/lower.h"
#include "base/embed.h"
#include "os/os.h"

#include <stdio.h>
#include <string.h>

static bool has_file(const StageType *type, const char *name) {
    bool found = false;
    for (const char *const *f = type->files; *f; f++)
        found |= strcmp(*f, name) == 0;
    return found;
}

// The text of a file of kernels_src/; NULL where there is none.
static const char *text_of(const char *name) {
    for (size_t i = 0; i < embedded_file_count; i++) {
        if (strcmp(embedded_files[i].name, name) == 0) return (const char *)embedded_files[i].data;
    }
    return NULL;
}

// The files of a program are there, and the last one has its kernel.
static void check_files(const StageType *type) {
    static const char *const first[] = {"prelude.cuh", "layout.h", "args.h"};
    const char *last = NULL;
    for (uint32_t i = 0; type->files[i]; i++) {
        if (i < COUNT_OF(first)) CHECK_STR_EQ(first[i], type->files[i]);
        last = text_of(type->files[i]);
        if (!last) FAIL("%s is not there", type->files[i]);
    }
    char kernel[96];
    snprintf(kernel, sizeof kernel, " %s(", type->kernel);
    if (!last || !strstr(last, kernel)) FAIL("no kernel %s", type->kernel);
    CHECK(type->files[STAGE_FILES_MAX] == NULL);
    CHECK(has_file(type, "matvec.cuh") == (type->matvec.warps_streaming > 0));
    CHECK(!type->has_flops || type->rows == ROWS_OF_PROMPTS);
}

static void check_decode_row(const StageType *type) {
    CHECK(type->link && type->check && !type->is_needed);
    CHECK((type->patterns[0].n_ops == 0) == stage_draws(type));
    for (uint32_t i = 0; i < STAGE_PATTERNS_MAX; i++) {
        CHECK(type->patterns[i].n_ops <= STAGE_OPS_MAX);
        for (uint32_t k = type->patterns[i].n_ops; k < STAGE_OPS_MAX; k++) // no more than it counts
            CHECK(type->patterns[i].ops[k].kind == 0 && type->patterns[i].ops[k].out == 0);
    }
    // What all rows go through has a counterpart for prompts.
    CHECK((type->prompt[0].type != NULL) == (type->rows == ROWS_ALL));
    for (uint32_t i = 0; i < STAGE_PARTS_MAX && type->prompt[i].type; i++) {
        CHECK_INT_EQ(ROWS_OF_PROMPTS, type->prompt[i].type->rows);
        CHECK(type->prompt[i].of < type->patterns[0].n_ops);
    }
    CHECK(type->matvec.warps_streaming == 0 ||
          (type->matvec.warps_resident > 0 && type->matvec.unit_rows_least > 0));
}

static bool is_part_of_any(const StageType *type) {
    bool found = false;
    for (uint32_t i = 0; stage_type_at(i); i++) {
        for (uint32_t k = 0; k < STAGE_PARTS_MAX; k++)
            found |= stage_type_at(i)->prompt[k].type == type;
    }
    return found;
}

static void check_prompt_row(const StageType *type) {
    CHECK(type->is_needed && !type->link && !type->check);
    CHECK_INT_EQ(0, type->patterns[0].n_ops);
    CHECK(!type->prompt[0].type && type->matvec.warps_streaming == 0);
    CHECK(is_part_of_any(type));
}

TEST(cuda_stages_have_complete_rows) {
    for (uint32_t i = 0; stage_type_at(i); i++) {
        const StageType *type = stage_type_at(i);
        REQUIRE(type->kernel && type->name);
        TEST_CASE_LABEL("%s (%s)", type->kernel, type->name);
        CHECK(type->cost > 0 && type->define && type->bind && type->results);
        check_files(type);
        if (type->rows == ROWS_OF_PROMPTS) check_prompt_row(type);
        else check_decode_row(type);
        for (uint32_t k = 0; k < i; k++)
            CHECK(strcmp(type->kernel, stage_type_at(k)->kernel) != 0 ||
                  strcmp(type->name, stage_type_at(k)->name) != 0);
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

static StageDefines seen[STAGE_TYPES_COUNT];

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

static void note_stage(const Lowered *l, const Stage *s) {
    uint32_t row = 0;
    while (stage_type_at(row) != s->type)
        row++;
    seen[row].n_programs++;
    for (const char *at = l->programs[s->program].defines.ptr; (at = strstr(at, "#define ")) != NULL;) {
        at += strlen("#define ");
        note_define(&seen[row], (Str){at, strcspn(at, " \n")});
    }
}

static void note_model(Str file) {
    static const uint32_t generations[] = {75, 90};
    for (size_t i = 0; i < COUNT_OF(generations); i++) {
        Arena arena = os_arena(256 << 20);
        GgufPart part = {(const uint8_t *)file.ptr, file.len, "tiny"};
        const GgufFile *gguf;
        Plan *plan;
        Placement placement;
        Lowered l;
        Error err = {0};
        LowerTarget target = lower_target_of_sm(generations[i]);
        REQUIRE(gguf_parse(&part, 1, &arena, &gguf, &err) && plan_build(gguf, &arena, &plan, &err));
        REQUIRE(placement_make(plan, PLACED_IN_ROWS, &arena, &placement, &err));
        REQUIRE(lower_plan(plan, &placement, &target, 512, &arena, &l, &err));
        for (uint32_t k = 0; k < l.n_stages; k++)
            note_stage(&l, &l.stages[k]);
        for (uint32_t k = 0; k < l.n_prefill_stages; k++)
            note_stage(&l, &l.prefill_stages[k]);
    }
}

// "A block a…": the grid as the kernel's StageInfo has it.
static Str grid_of(const StageType *type) {
    char info[96];
    uint32_t last = 0;
    while (type->files[last + 1])
        last++;
    snprintf(info, sizeof info, "%s_info = {", type->kernel);
    const char *at = strstr(text_of(type->files[last]), info), *end = NULL;
    at = at ? strstr(at + strlen(info), "{") : NULL;
    end = at ? strchr(at, '}') : NULL;
    REQUIRE(end != NULL);
    return (Str){at + 1, (size_t)(end - at - 1)};
}

static void write_row(StrBuf *b, uint32_t row) {
    const StageType *type = stage_type_at(row);
    const StageDefines *d = &seen[row];
    TEST_CASE_LABEL("%s", type->kernel);
    CHECK(d->n_programs > 0);
    strbuf_printf(b, "| `%s` %s | `", type->kernel, type->name);
    for (uint32_t i = 3; type->files[i]; i++) {
        const char *name = type->files[i];
        strbuf_printf(b, "%s%.*s", i > 3 ? " " : "", (int)(strlen(name) - strlen(".cuh")), name);
    }
    strbuf_printf(b, "` | `");
    for (int optional = 0; optional < 2; optional++) {
        for (uint32_t i = 0; i < d->n_defines; i++) {
            if ((d->defines[i].count < d->n_programs) != (optional != 0)) continue;
            strbuf_printf(b, optional ? " [%s]" : i ? " %s" : "%s", d->defines[i].name);
        }
    }
    strbuf_printf(b, "` | `%.*s` |\n", STR_ARG(grid_of(type)));
}

// The table is made of the rows. Where it differs, build/stages.md is what it should be.
TEST(cuda_stages_are_in_the_readme) {
    static const ArchShape large = {"llama-3.1-8b", "mistral", 1,    4096,       32,         8,         128,
                                    14336,          128256,    4096, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K};
    static char table[TABLE_BYTES], readme[4 * TABLE_BYTES];
    for (uint32_t i = 0; arch_model_at(i); i++)
        note_model(arch_model_build(arch_model_at(i)));
    note_model(arch_shape_build(&large));
    StrBuf b = strbuf_from_memory(table, sizeof table);
    strbuf_printf(&b, "| stage | files after `prelude layout args` | defines, [of some] | grid |\n"
                      "| --- | --- | --- | --- |\n");
    for (uint32_t i = 0; stage_type_at(i); i++)
        write_row(&b, i);
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
