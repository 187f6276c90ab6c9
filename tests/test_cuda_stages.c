// The rows of the stages: that each is complete and belongs to the others.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/stages.h"
#include "base/embed.h"

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

#else

TEST(cuda_stages) {
    SKIP("this build has no CUDA");
}

#endif
