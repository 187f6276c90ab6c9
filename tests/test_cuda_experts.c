// The experts' stages of batches as they are shaped for GPUs: every program compiles (its asserts hold), and
// the buffers hold what it is defined by.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "../kernels_src/args.h"
#include "../kernels_src/layout.h"
#include "backend/cuda/expert_shapes.h"
#include "backend/cuda/jit.h"
#include "backend/cuda/stages.h"
#include "os/os.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

// clang-format off
#define SIZE(model, ff, experts, used, of_gate, of_up, of_down)                                                      \
    .d_model = model, .d_ff = ff, .n_experts = experts, .n_used = used, .gate = DTYPE_##of_gate, .up = DTYPE_##of_up, \
    .down = DTYPE_##of_down
static const ExpertsSize gpt_oss_20b = {SIZE(2880, 2880, 32, 4, MXFP4, MXFP4, MXFP4)};
static const ExpertsSize qwen3_30b = {SIZE(2048, 768, 128, 8, Q4_K, Q4_K, Q6_K)};
static const ExpertsSize mixtral_8x7b = {SIZE(4096, 14336, 8, 2, Q4_K, Q5_0, Q6_K)};
static const ExpertsSize tiny = {SIZE(64, 32, 4, 2, F16, Q8_0, Q8_0)};
static const ExpertsSize nemotron_super = {SIZE(1024, 2688, 512, 22, Q4_K, Q4_K, Q5_0), .d_router = 4096, .ungated = true,
                                           .route = {.scores = SCORES_SIGMOID, .normed = true, .scale = 5},
                                           .has_select = true, .sum_alone = true};
static const ExpertsSize qwen35_35b = {SIZE(2048, 512, 256, 8, Q4_K, Q4_K, Q6_K), .has_share = true,
                                       .shared_ff = 512, .shared_down = true};
static const ExpertsSize glm_flash = {SIZE(2048, 1536, 64, 4, Q4_K, Q4_K, Q6_K),
                                      .route = {.scores = SCORES_SIGMOID, .normed = true, .scale = 1.8f},
                                      .has_select = true, .shared_ff = 1536, .shared_down = true};
// clang-format on

#define COMMON "prelude.cuh", "layout.h", "args.h"
#define TILES "tiles.cuh", "codebooks.h", "tiles_codebooks.cuh"
#define PRODUCT COMMON, TILES, "rows.cuh", "experts_units.cuh", "product.cuh"
#define FEW                                                                                          \
    PRODUCT, "product_few.cuh", "product_few_fetch.cuh", "product_few_run.cuh", "expert_choice.cuh", \
        "chosen_experts.cuh"
#define MANY \
    PRODUCT, "product_many.cuh", "product_many_wgmma.cuh", "product_many_mma.cuh", "chosen_experts.cuh"

static const struct {
    const char *kernel;
    void (*define)(StrBuf *, const LowerTarget *, const ExpertsSize *, uint32_t);
    const char *files[2][STAGE_FILES_MAX + 1]; // with few, with many rows
} stages[] = {
    {"route",
     experts_define_route,
     {{COMMON, "rows.cuh", "expert_choice.cuh", "route.cuh"},
      {COMMON, "rows.cuh", "expert_choice.cuh", "route.cuh"}}},
    {"group_experts", experts_define_group, {{NULL}, {COMMON, "rows.cuh", "group_experts.cuh"}}},
    {"experts_glu",
     experts_define_glu,
     {{FEW, "activate.cuh", "experts_glu.cuh"}, {MANY, "activate.cuh", "experts_glu.cuh"}}},
    {"experts_down", experts_define_down, {{FEW, "experts_down.cuh"}, {MANY, "experts_down.cuh"}}},
    {"experts_sum", experts_define_sum, {{NULL}, {COMMON, "experts_sum.cuh"}}},
};

// NAME_info of a compiled program (ELF).
static StageInfo stage_info(const JitImage *image, const char *kernel) {
    char name[48];
    snprintf(name, sizeof name, "%s_info", kernel);
    const uint8_t *p = image->data;
    const Elf64_Ehdr *elf = image->data;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(p + elf->e_shoff);
    StageInfo info = {0};
    for (unsigned i = 0; i < elf->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB) continue;
        const Elf64_Sym *symbols = (const Elf64_Sym *)(const void *)(p + sections[i].sh_offset);
        const char *names = (const char *)p + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++) {
            if (strcmp(names + symbols[k].st_name, name) != 0) continue;
            memcpy(&info, p + sections[symbols[k].st_shndx].sh_offset + symbols[k].st_value,
                   MIN(sizeof info, symbols[k].st_size));
        }
    }
    CHECK(info.threads > 0);
    return info;
}

// All stages of a class, for one GPU.
static void check_stages(uint32_t sm, const char *name, const ExpertsSize *e, uint32_t max_rows) {
    LowerTarget t = lower_target_of_sm(sm);
    Arena arena = os_arena(64 << 20);
    JitProgram programs[COUNT_OF(stages)];
    uint32_t n = 0;
    bool many = max_rows > 8;
    TEST_CASE_LABEL("%s, sm_%u, %u rows", name, sm, max_rows);
    REQUIRE(experts_fit(&t, e, max_rows));
    for (size_t i = 0; i < COUNT_OF(stages); i++) {
        // Experts of many rows, but few each, have the body of few rows.
        bool is_product = stages[i].define == experts_define_glu || stages[i].define == experts_define_down;
        bool list = is_product ? !experts_use_few(&t, e, max_rows) : many;
        if (!stages[i].files[list][0]) continue;
        StrBuf b = strbuf_begin_in_arena(&arena);
        strbuf_printf(&b, "#define NORM_EPS 1e-5f\n#define ACTIVATION ACTIVATION_SILU\n");
        stages[i].define(&b, &t, e, max_rows);
        programs[n++] = (JitProgram){.name = stages[i].kernel,
                                     .files = stages[i].files[list],
                                     .defines = strbuf_end_in_arena(&b, &arena)};
    }
    Jit *jit;
    Error err = {0};
    REQUIRE(jit_start(&(JitOptions){.sm = sm, .cache = test_root_path("build/jit-cache")}, programs, n,
                      &arena, &jit, &err));
    for (uint32_t i = 0; i < n; i++) {
        JitImage image;
        TEST_CASE_LABEL("%s, sm_%u, %u rows: %s", name, sm, max_rows, programs[i].name);
        if (!jit_wait(jit, i, &image, &err)) {
            FAIL("%s", err.message);
            break;
        }
        StageInfo info = stage_info(&image, programs[i].name);
        CHECK(info.shared_bytes <= t.shared_bytes_block);
        CHECK(info.threads <= 1024);
    }
    jit_end(jit);
}

// Single rows and prompts of published sizes are those of cuda_lower_makes_programs_for_experts.
TEST_SLOW(cuda_experts_fit_every_gpu, 300) {
    check_stages(90, "GPT-OSS-20B", &gpt_oss_20b, 8);
    check_stages(90, "Qwen3-30B-A3B", &qwen3_30b, 64);
    check_stages(90, "Mixtral-8x7B", &mixtral_8x7b, 8);
    check_stages(75, "GPT-OSS-20B", &gpt_oss_20b, 8);
    check_stages(80, "Qwen3-30B-A3B", &qwen3_30b, 8);
    check_stages(90, "tiny", &tiny, 1);
    check_stages(90, "Mixtral-8x7B", &mixtral_8x7b, 16);
    check_stages(75, "tiny", &tiny, 16);
    check_stages(90, "Nemotron-3-Super", &nemotron_super, 8);
    check_stages(90, "Qwen3.5-35B-A3B", &qwen35_35b, 1);
    check_stages(75, "GLM-4.7-Flash", &glm_flash, 1);
}
#endif
