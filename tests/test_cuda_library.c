// Products by a library (--products cublas): which they are, what they come to, and what is given up. On the
// GPU (cuda_gpu_library_, in a build with cuBLAS) that library is an oracle of our own products.
#include "runner.h"

#include "cli/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(WORKER_ORCD_CUBLAS) // nob.c defines it for who asks
#error "WORKER_ORCD_CUBLAS"
#endif

#if !WORKER_ORCD_CUBLAS
#if WORKER_ORCD_CUDA
// What this build leaves out is compiled, at least: linking the library takes minutes.
TEST_SLOW(cuda_library_compiles_where_it_is_left_out, 120) {
    const char *root = test_root_path(".");
    const char *compiler = getenv("CC") && getenv("CC")[0] ? getenv("CC") : "cc";
    char command[4096], line[1024] = "";
    snprintf(command, sizeof command, "'%s/build.sh' toolkit", root);
    FILE *pipe = popen(command, "r"); // "CUDA 12.4 of build/cuda/toolkit"
    REQUIRE(pipe && fgets(line, sizeof line, pipe) && pclose(pipe) == 0);
    line[strcspn(line, "\n")] = 0;
    const char *folder = strstr(line, " of ");
    REQUIRE(folder != NULL);
    snprintf(command, sizeof command, "cd '%s' && test -e '%s/include/cublasLt.h'", root, folder + 4);
    if (system(command) != 0) SKIP("%s has no cublasLt.h", folder + 4);
    snprintf(command, sizeof command,
             "cd '%s' && %s -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wconversion -Wshadow -Wundef -Werror -Isrc "
             "-isystem '%s/include' -fsyntax-only src/backend/cuda/cublas.c",
             root, compiler, folder + 4);
    CHECK_INT_EQ(0, system(command));
}
#endif

TEST(cuda_library_is_refused_where_it_is_not_in_the_build) {
    static const struct {
        uint32_t device;
        const char *message;
    } rows[] = {
        {DEVICE_CUDA, "--products cublas: this build has no cuBLAS in it; ./build.sh --cublas makes one that "
                      "has, build/cublas/worker-orcd"},
        {DEVICE_CPU, "--products cublas is for --device cuda"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Options o = {.command = CMD_RUN,
                     .model = "no-such-file.gguf",
                     .device = rows[i].device,
                     .products = PRODUCTS_CUBLAS};
        Model model = {0};
        Error err = {0};
        CHECK(!model_open(&o, &model, &err));
        CHECK_INT_EQ(ERR_USAGE, err.code);
        CHECK_STR_EQ(rows[i].message, err.message);
    }
}
#endif

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/batch_lower.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/library_products.h"
#include "emulated_gpu.h"
#include "fake_library.h"
#include "gguf_builder.h"
#include "model_checks.h"
#include "model_stages.h"
#include "os/os.h"
#include "program_checks.h"

// ---- which products ----

static uint32_t count_given(const BatchClass *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_stages; i++) {
        if (c->stages[i].is_given) CHECK(i < c->n_layers_stages && c->stages[i].type->reads);
        n += c->stages[i].is_given;
    }
    return n;
}

static bool has_file(const JitProgram *p, const char *name) {
    bool has = false;
    for (uint32_t i = 0; p->files[i]; i++)
        has = has || strcmp(p->files[i], name) == 0;
    return has;
}

static Plan *plan_of(const TinyModel *model, Arena *arena) {
    Str file = tiny_model_build(model);
    GgufPart part = {(const uint8_t *)file.ptr, file.len, "tiny"};
    const GgufFile *gguf;
    Plan *plan;
    Error err = {0};
    REQUIRE(gguf_parse(&part, 1, arena, &gguf, &err) && plan_build(gguf, arena, &plan, &err));
    return plan;
}

static BatchLowered lower(const Plan *plan, const LowerTarget *target, uint32_t n_slots, uint32_t max_rows,
                          bool has_library, Arena *arena) {
    Placement *placement = arena_new(arena, Placement, 1);
    BatchLowered l;
    Error err = {0};
    BatchLowerOptions options = {.n_slots = n_slots, .max_rows = max_rows, .has_library = has_library};
    REQUIRE(placement && placement_make(plan, arena, placement, &err) &&
            batch_lower_with(plan, placement, target, &options, arena, &l, &err));
    return l;
}

// Those of the class that any number of prompts' rows go through, and no others: four a layer.
TEST(cuda_library_multiplies_prompts_alone) {
    enum { SLOTS = 64, ROWS = 500 };
    TinyModel model = tiny_model_llama();
    Arena arena = os_arena(512 << 20);
    Plan *plan = plan_of(&model, &arena);
    LowerTarget target = lower_target_of_sm(90);
    BatchLowered l = lower(plan, &target, SLOTS, ROWS, true, &arena);
    for (uint32_t i = 0; i < l.n_classes; i++) {
        const BatchClass *c = &l.classes[i];
        bool holds_any = c->size.body == BODY_PROMPT && c->size.max_rows == 512;
        TEST_CASE_LABEL("class of %u rows", c->size.max_rows);
        CHECK_INT_EQ(holds_any ? 4 * plan->n_layers : 0, count_given(c));
        for (uint32_t k = 0; k < c->n_stages; k++) {
            const JitProgram *p = &l.programs[c->stages[k].program];
            CHECK(has_file(p, "product_given.cuh") == c->stages[k].is_given);
        }
    }
    CHECK_INT_EQ(model.ff, l.given_in);
    CHECK_INT_EQ(2 * model.ff, l.given_cols);
    l = lower(plan, &target, SLOTS, ROWS, false, &arena);
    for (uint32_t i = 0; i < l.n_classes; i++)
        CHECK_INT_EQ(0, count_given(&l.classes[i]));
}

// The kernels around a library's products: a format of each kind (with a min, with a codebook, with scales of
// scales, plain) and each generation of GPUs; the bodies that finish, which ask for none, for one.
TEST(cuda_library_makes_programs) {
    static const struct {
        uint32_t sm;
        Dtype format;
    } rows[] = {{75, DTYPE_Q4_K}, {80, DTYPE_IQ3_S}, {90, DTYPE_Q6_K}, {90, DTYPE_BF16}};
    enum { MAX_ROWS = 2048 };
    TinyModel model = tiny_model_llama();
    Arena arena = os_arena(512 << 20);
    Plan *plan = plan_of(&model, &arena);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        LowerTarget target = lower_target_of_sm(rows[i].sm);
        JitProgram programs[LIBRARY_PROGRAMS_MAX + 16];
        BatchLowered l = lower(plan, &target, 1, MAX_ROWS, true, &arena);
        uint32_t n = 2;
        Error err = {0};
        TEST_CASE_LABEL("sm %u, %s", rows[i].sm, dtype_info(rows[i].format)->name);
        REQUIRE(library_programs(&target, MAX_ROWS, &rows[i].format, 1, &arena, programs, &err));
        for (uint32_t k = 0; k < l.n_first_programs && i == 0; k++) {
            if (has_file(&l.programs[k], "product_given.cuh")) programs[n++] = l.programs[k];
        }
        CHECK_INT_EQ(i == 0 ? 2 + 4 : 2, n);
        programs_check(programs, n, rows[i].sm, &arena);
    }
}

// ---- what they come to ----

// Another backend of the pair's model, which multiplies itself.
static Backend *open_own(ModelPair *p, BackendOptions options) {
    Backend *own;
    Error err = {0};
    options.products = NULL;
    if (!cuda_backend_open(&options, &p->arena, &own, &err) || !own->load(own, p->plan, NULL, NULL, &err))
        FAIL("%s", err.message);
    return own;
}

static void check_info(const BackendInfo *own, const BackendInfo *library) {
    CHECK_STR_EQ("own", backend_products(own));
    CHECK(!own->bits_vary && library->bits_vary);
    CHECK_INT_EQ(0, library->n_checkpoints);
}

// All stages of a prompt, each on what our own stages left before it: a product by the library is ours but
// for the order of its sums and the rounding of what is f16 behind it.
static void compare_prompt(Str file, const BackendOptions *options, uint32_t n_tokens, double error_max) {
    int32_t tokens[1024];
    REQUIRE(n_tokens <= COUNT_OF(tokens));
    ModelPair *p = model_pair_open(file, options);
    Backend *own = open_own(p, *options);
    for (uint32_t i = 0; i < n_tokens; i++)
        tokens[i] = (int32_t)(rng_philox(11, i).word[0] % p->plan->n_vocab);
    check_info(&own->info, &p->gpu->info);
    model_stages_compare_prompts(p, own, tokens, n_tokens, error_max);
    own->close(own);
    model_pair_close(p);
}

// Rows that decode go through the prompts' class here, too.
static bool compile_prompts(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    bool draws = strcmp(program->name, "head") == 0 || strncmp(program->name, "draw_", 5) == 0;
    if (strstr(program->defines.ptr, "#define MAX_ROWS 1\n") && !draws)
        return error_set(err, ERR_INTERNAL, "%s is refused", program->name);
    return emulated_gpu_compiler.compile(program, sm, image, err);
}

TEST_SLOW(emulated_library_multiplies_prompts, 300) {
    enum { PROMPT = 37 };
    static const JitCompiler compiler = {compile_prompts};
    if (test_is_sanitized()) SKIP("only run without sanitizers, whose side other models go through");
    emulated_gpu_load(90, 2);
    Str file = arch_model_build(arch_model_named("llama"));
    BackendOptions options = {.n_slots = 1,
                              .max_rows = ARCH_MODEL_PROMPT,
                              .kv_texts = 1,
                              .kv_text_tokens = 4 * ARCH_MODEL_TOKENS,
                              .n_threads = 1,
                              .jit_cache = "",
                              .model_path = "llama",
                              .jit_compiler = &compiler,
                              .products = &fake_library};
    compare_prompt(file, &options, PROMPT, 1e-3);
    CHECK_INT_EQ(PROMPT, fake_library_rows_most);
    ModelPair *p = model_pair_open(file, &options);
    int32_t tokens[ARCH_MODEL_TOKENS];
    arch_model_tokens(tokens);
    CHECK_STR_EQ("plain loops 1.2.3", p->gpu->info.products);
    model_check_logits(p, &SAMPLER_GREEDY, tokens, PROMPT, PROMPT + 3, 0.03);
    CHECK_INT_EQ(1, fake_library_rows_least);
    model_pair_close(p);
}

#if WORKER_ORCD_CUBLAS

// A stage's relative error against the library's, all rows together. Sums of both are f32 of the same f16
// factors, in another order: about 1e-6. What is rounded to f16 behind them may fall to the other side: 5e-4
// of a value, seldom.
static const double LIBRARY_ERROR_MAX = 1e-3;

// For a prompt that no shorter class takes.
static BackendOptions library_options(uint32_t context, uint32_t n_tokens) {
    BackendOptions options = model_gpu_options(1, context);
    options.max_rows = n_tokens;
    options.products = options.jit_compiler ? &fake_library : product_library; // emulated, or on a GPU
    return options;
}

static void compare_with_library(const TinyModel *model, uint32_t n_tokens) {
    BackendOptions options = library_options(model->context, n_tokens);
    compare_prompt(tiny_model_build(model), &options, n_tokens, LIBRARY_ERROR_MAX);
}

TEST_SLOW(cuda_gpu_library_agrees_for_every_format, 300) {
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        TEST_CASE_LABEL("%s", dtype_info(d)->name);
        printf("%s\n", dtype_info(d)->name);
        TinyModel model = tiny_model_llama();
        model.architecture = d % 2 ? "qwen2" : "llama";
        model.dtype = d;
        model.seed = 500 + d;
        compare_with_library(&model, 200);
    }
}

TEST_SLOW(cuda_gpu_library_agrees_at_odd_shapes, 300) {
    static const struct {
        const char *name, *architecture;
        uint32_t embedding, heads, kv_heads, ff, n_tokens;
        Dtype dtype;
    } rows[] = {
        {"a wide layer", "llama", 2048, 32, 4, 5632, 700, DTYPE_Q4_K},
        {"a wider one", "llama", 4096, 32, 8, 14336, 512, DTYPE_Q4_K},
        {"a tail of one block", "qwen2", 1056, 33, 3, 2080, 129, DTYPE_Q5_1},
        {"seven heads of one key head", "qwen2", 448, 7, 1, 1216, 33, DTYPE_Q5_0},
        {"one token", "llama", 256, 8, 2, 512, 1, DTYPE_Q6_K},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        printf("%s\n", rows[i].name);
        TinyModel model = tiny_model_llama();
        model.architecture = rows[i].architecture;
        model.embedding = rows[i].embedding;
        model.heads = rows[i].heads;
        model.kv_heads = rows[i].kv_heads;
        model.ff = rows[i].ff;
        model.dtype = rows[i].dtype;
        model.embd_dtype = DTYPE_Q8_0; // whose blocks fit all rows
        model.layers = 1;
        compare_with_library(&model, rows[i].n_tokens);
    }
}

// Biases, no gate, norms of outputs, factors on what is added, experts, inputs of states.
TEST_SLOW(cuda_gpu_library_agrees_for_models, 300) {
    static const char *const names[] = {"gpt2", "gemma2", "phi3", "granite", "gpt_oss", "qwen35", "lfm2"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        TEST_CASE_LABEL("%s", names[i]);
        printf("%s\n", names[i]);
        const ArchModel *m = arch_model_named(names[i]);
        REQUIRE(m != NULL);
        BackendOptions options = library_options(ARCH_MODEL_TOKENS, ARCH_MODEL_PROMPT);
        compare_prompt(arch_model_build(m), &options, ARCH_MODEL_PROMPT, LIBRARY_ERROR_MAX);
    }
}

#endif
#endif
