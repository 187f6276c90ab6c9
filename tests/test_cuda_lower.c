// From plans to kernels: published sizes and formats are taken or refused by name, and every program compiles
// for every architecture. Needs the compiler in the program, but no GPU.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/batch_lower.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "program_checks.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    Arena arena;
    Plan *plan;
    Placement placement;
} Made;

static Made plan_of(Str file) {
    Made m = {.arena = os_arena(256 << 20)};
    GgufPart part = {(const uint8_t *)file.ptr, file.len, "tiny"};
    const GgufFile *gguf;
    Error err = {0};
    REQUIRE(gguf_parse(&part, 1, &m.arena, &gguf, &err));
    REQUIRE(plan_build(gguf, &m.arena, &m.plan, &err));
    return m;
}

static Made make_plan(const TinyModel *model) {
    return plan_of(tiny_model_build(model));
}

static bool lower(Made *m, uint32_t sm, uint32_t n_slots, BatchLowered *out, Error *err) {
    LowerTarget target = lower_target_of_sm(sm);
    return placement_make(m->plan, &m->arena, &m->placement, err) &&
           batch_lower(m->plan, &m->placement, &target, n_slots, 512, &m->arena, out, err);
}

// Of prompts and of one row.
static uint32_t n_programs_of_one(const BatchLowered *l) {
    const BatchClass *one = &l->classes[BATCH_CLASS_ONE];
    return one->first_program + one->n_programs;
}

TEST(cuda_lower_names_what_it_cannot_do) {
    static const struct {
        const char *name;
        OpKind from, to; // the first operation of kind `from` becomes `to`
        const char *expected;
    } rows[] = {
        {"no norm", OP_RMS_NORM, OP_ACTIVATION, "operation 1 of the plan (ACTIVATION, layer 0)"},
        {"no gate", OP_GLU, OP_ACTIVATION, "operation 14 of the plan (ACTIVATION, layer 0)"},
        {"a position", OP_ROPE, OP_ADD_POSITION, "operation 5 of the plan (ADD_POSITION, layer 0)"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        TinyModel model = tiny_model_llama();
        Made m = make_plan(&model);
        Op *ops = arena_new(&m.arena, Op, m.plan->n_ops);
        memcpy(ops, m.plan->ops, m.plan->n_ops * sizeof *ops);
        uint32_t at = 0;
        while (ops[at].kind != rows[i].from)
            at++;
        ops[at].kind = rows[i].to;
        m.plan->ops = ops;
        BatchLowered l;
        Error err = {0};
        CHECK(!lower(&m, 90, 8, &l, &err));
        CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
        CHECK(str_starts_with(str_from_c(err.message), str_from_c(rows[i].expected)));
    }
}

// What is laid out once for all layers must be the same in all of them: refused before any program is made.
TEST(cuda_lower_takes_or_refuses_layers_that_differ) {
    static const struct {
        const char *name, *message; // NULL: lowered
    } rows[] = {
        {"llama-equal", NULL},
        {"llama-layers", "layer 1 has heads of 64 values in all, another layer of 256"},
        {"llama-values", "layer 0: values of 16 beside keys of 32 cannot be run on the GPU yet"},
        {"gemma3-layers", "layer 1 has heads of 64 values in all, another layer of 128"},
        {"gemma4-e4b", NULL},
        {"gemma4-26b", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Made m = plan_of(arch_model_build(arch_model_named(rows[i].name)));
        BatchLowered l;
        Error err = {0};
        CHECK(lower(&m, 90, 8, &l, &err) == !rows[i].message);
        if (!rows[i].message) CHECK_STR_EQ("", err.message);
        else if (!strstr(err.message, rows[i].message)) CHECK_STR_EQ(rows[i].message, err.message);
        if (rows[i].message) CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
    }
}

// ---- every program for every architecture ----

static const uint32_t architectures[] = {75, 80, 86, 89, 90};

static bool is_attention(const JitProgram *p) {
    return strstr(p->name, "attention") != NULL;
}

// What reads and writes keys and values.
static bool is_of_heads(const JitProgram *p) {
    return is_attention(p) || strcmp(p->name, "qkv") == 0 || strcmp(p->name, "rope_heads") == 0;
}

static bool is_no_draw(const JitProgram *p) {
    return strncmp(p->name, "draw_", 5) != 0;
}

static bool has_window(const JitProgram *p) {
    return strstr(p->defines.ptr, "#define WINDOW ") && !strstr(p->defines.ptr, "#define WINDOW 0\n");
}

static bool has_neither_draw_nor_window(const JitProgram *p) {
    return is_no_draw(p) && !has_window(p);
}

// Published sizes, a row for each GPU architecture: what tiny models do not show is whether tiles, rings and
// heads of that size fit. Two layers or as many as it takes to have one without a window; the sizes of
// formats as in Q4_K_M files. Not compiled is what another case has: of 9.0 what heads do not change
// (cuda_batch_lower_); of 8.6 the same, since all but attention has the source of 8.0 (its shared memory,
// which is less, is full in cuda_lower_makes_programs_for_experts); all of 8.9, whose source is 8.6's (that
// the compiler knows it is seen in cuda_lower_makes_programs_for_every_format); windows of the oldest GPU
// (cuda_lower_makes_programs_for_experts) and its draws (cuda_lower_draws_of_every_vocabulary).
TEST_SLOW(cuda_lower_makes_programs_for_published_sizes, 1800) {
    static const struct {
        ArchShape shape;
        uint32_t sm;
        bool (*wants)(const JitProgram *); // NULL: each program
    } rows[] = {
        {{"phi3-mini", "phi3", 1, 3072, 32, 32, 96, 8192, 32064, 4096, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K},
         90,
         is_of_heads},
        {{"gemma3-270m", "gemma3", 6, 640, 4, 1, 256, 2048, 262144, 32768, DTYPE_Q5_0, DTYPE_Q8_0,
          DTYPE_Q8_0},
         75,
         has_neither_draw_nor_window},
        {{"smollm2-135m", "mistral", 1, 576, 9, 3, 64, 1536, 49152, 4096, DTYPE_Q5_0, DTYPE_Q8_0, DTYPE_Q8_0},
         86,
         is_of_heads},
        {{"gpt2", "gpt2", 1, 768, 12, 12, 64, 3072, 50257, 1024, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K},
         80,
         NULL},
    };
    static_assert(COUNT_OF(rows) == COUNT_OF(architectures) - 1, "a row each, but for 8.9");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Made m = plan_of(arch_shape_build(&rows[i].shape));
        TEST_CASE_LABEL("%s, sm %u", rows[i].shape.name, rows[i].sm);
        BatchLowered l;
        Error err = {0};
        REQUIRE(lower(&m, rows[i].sm, 1, &l, &err));
        JitProgram programs[JIT_PROGRAMS_MAX];
        uint32_t n = 0;
        for (uint32_t k = 0; k < n_programs_of_one(&l); k++) {
            if (!rows[i].wants || rows[i].wants(&l.programs[k])) programs[n++] = l.programs[k];
        }
        CHECK(n >= 2); // attention of one row and of prompts
        programs_check(programs, n, rows[i].sm, &m.arena);
    }
}

// Capped scores and logits beside heads of 256, for the newest: a cap is the same code for all, and heads of
// 256 for the oldest are above. The other stages are those of other models.
TEST_SLOW(cuda_lower_makes_programs_with_caps, 600) {
    static const ArchShape shape = {"gemma2-9b", "gemma2", 1,    3584,       16,         8,         256,
                                    14336,       256000,   8192, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K};
    Made m = plan_of(arch_shape_build(&shape));
    BatchLowered l;
    Error err = {0};
    REQUIRE(lower(&m, 90, 1, &l, &err));
    JitProgram programs[JIT_PROGRAMS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < l.n_programs; i++) {
        if (strstr(l.programs[i].defines.ptr, "#define SOFT_CAP ")) programs[n++] = l.programs[i];
    }
    CHECK_INT_EQ(6, n); // attention of a token, of a prompt and of a short one with their folds, the head
    programs_check(programs, n, 90, &m.arena);
}

// Heads of 512, as Gemma 4 has them in layers without a window: those that fit a GPU's shared memory.
TEST_SLOW(cuda_lower_makes_programs_of_the_widest_heads, 600) {
    static const uint32_t generations[] = {90};
    Made m = plan_of(arch_model_build(arch_model_named("odd-gemma4")));
    BatchLowered l;
    Error err = {0};
    for (size_t a = 0; a < COUNT_OF(generations); a++) {
        TEST_CASE_LABEL("sm %u", generations[a]);
        if (!lower(&m, generations[a], 1, &l, &err)) FAIL("%s", err.message);
        REQUIRE(err.code == ERR_NONE);
        JitProgram programs[JIT_PROGRAMS_MAX];
        uint32_t n = 0, n_parts = 0;
        for (uint32_t i = 0; i < l.n_programs; i++) {
            bool is_wide = strstr(l.programs[i].defines.ptr, "#define HEAD_DIM 512") != NULL;
            n_parts += is_wide && strstr(l.programs[i].defines.ptr, "#define VALUE_PARTS 4") &&
                       strstr(l.programs[i].defines.ptr, "#define CLUSTERS ");
            if (is_wide && strstr(l.programs[i].name, "attention")) programs[n++] = l.programs[i];
        }
        CHECK(n >= 3);            // of one row with keys of its own and with shared ones, of prompts
        CHECK_INT_EQ(2, n_parts); // whose blocks find room beside another stage's
        programs_check(programs, n, generations[a], &m.arena);
    }
    CHECK(!lower(&m, 75, 1, &l, &err));
    CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
    CHECK_STR_EQ(
        "layer 1: heads of 512 values need more shared memory than a block of this GPU has: 65536 bytes",
        err.message);
}

// What quantisers take for rows that do not divide into blocks of 256.
static Dtype fitting(Dtype dtype, uint32_t cols) {
    if (cols % dtype_info(dtype)->block_elements == 0) return dtype;
    return dtype == DTYPE_Q4_K ? DTYPE_Q5_0 : DTYPE_Q8_0;
}

// Attention with a compressed cache at published sizes: DeepSeek-V2-Lite's and V3's heads. What else they
// have are stages of other models.
TEST_SLOW(cuda_lower_makes_programs_of_compressed_caches, 600) {
    static const struct {
        ArchShape shape;
        MlaSizes mla;
        uint32_t sm;
    } rows[] = {
        {{"v2-lite", "deepseek2-lite", 1, 2048, 16, 1, 576, 1408, 1024, 4096, DTYPE_Q8_0, DTYPE_Q8_0,
          DTYPE_Q8_0},
         {0, 512, 192, 128, 64},
         90},
        {{"v3", "deepseek2-v3", 1, 7168, 128, 1, 576, 2048, 1024, 4096, DTYPE_Q4_0, DTYPE_Q4_0, DTYPE_Q8_0},
         {1536, 512, 192, 128, 64},
         80},
        {{"a small one", "deepseek2-lite", 1, 256, 4, 1, 160, 256, 1024, 4096, DTYPE_F16, DTYPE_F16,
          DTYPE_F16},
         {0, 128, 96, 32, 32},
         75},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Made m = plan_of(arch_shape_build_mla(&rows[i].shape, &rows[i].mla));
        TEST_CASE_LABEL("%s, sm %u", rows[i].shape.name, rows[i].sm);
        BatchLowered l;
        Error err = {0};
        if (!lower(&m, rows[i].sm, 1, &l, &err)) FAIL("%s", err.message);
        REQUIRE(err.code == ERR_NONE);
        JitProgram programs[JIT_PROGRAMS_MAX];
        uint32_t n = 0;
        for (uint32_t k = 0; k < l.n_first_programs; k++)
            if (strncmp(l.programs[k].name, "mla_", 4) == 0) programs[n++] = l.programs[k];
        CHECK_INT_EQ(3, n);
        const BatchClass *one = &l.classes[BATCH_CLASS_ONE];
        for (uint32_t k = one->first_program; i == 0 && k < one->first_program + one->n_programs; k++)
            if (strncmp(l.programs[k].name, "mla_", 4) == 0) programs[n++] = l.programs[k];
        CHECK_INT_EQ(i == 0 ? 7 : 3, n);
        programs_check(programs, n, rows[i].sm, &m.arena);
    }
    Made m = plan_of(arch_shape_build_mla(&rows[0].shape, &rows[0].mla));
    BatchLowered l;
    Error err = {0};
    CHECK(!lower(&m, 75, 1, &l, &err));
    if (!strstr(err.message,
                "a compressed cache of 576 values needs 94496 bytes of shared memory; this GPU has 65536"))
        CHECK_STR_EQ("", err.message);
}

// What else people have. Two of a family that differ in the number of layers alone are one.
typedef struct {
    const char *name, *like;
    uint32_t layers, d_model, heads, kv_heads, head_dim, ff, vocab;
} PublishedSize;

static const PublishedSize published[] = {
    {"smollm2-135m", "mistral", 1, 576, 9, 3, 64, 1536, 49152},
    {"smollm2-360m", "mistral", 1, 960, 15, 5, 64, 2560, 49152},
    {"smollm2-1.7b", "mistral", 1, 2048, 32, 32, 64, 8192, 49152},
    {"tinyllama-1.1b", "mistral", 1, 2048, 32, 4, 64, 5632, 32000},
    {"llama-3.2-1b", "mistral", 1, 2048, 32, 8, 64, 8192, 128256},
    {"llama-3.2-3b", "mistral", 1, 3072, 24, 8, 128, 8192, 128256},
    {"llama-2-7b", "mistral", 1, 4096, 32, 32, 128, 11008, 32000},
    {"llama-2-13b", "mistral", 1, 5120, 40, 40, 128, 13824, 32000},
    {"llama-3.1-8b", "mistral", 1, 4096, 32, 8, 128, 14336, 128256},
    {"llama-3.1-70b", "mistral", 1, 8192, 64, 8, 128, 28672, 128256},
    {"codellama-34b", "mistral", 1, 8192, 64, 8, 128, 22016, 32016},
    {"yi-34b", "mistral", 1, 7168, 56, 8, 128, 20480, 64000},
    {"mistral-7b", "mistral", 1, 4096, 32, 8, 128, 14336, 32768},
    {"mistral-nemo-12b", "odd-llama", 1, 5120, 32, 8, 128, 14336, 131072},
    {"mistral-small-24b", "odd-llama", 1, 5120, 32, 8, 128, 32768, 131072},
    {"qwen2.5-0.5b", "qwen2", 1, 896, 14, 2, 64, 4864, 151936},
    {"qwen2.5-1.5b", "qwen2", 1, 1536, 12, 2, 128, 8960, 151936},
    {"qwen2.5-3b", "qwen2", 1, 2048, 16, 2, 128, 11008, 151936},
    {"qwen2.5-7b", "qwen2", 1, 3584, 28, 4, 128, 18944, 152064},
    {"qwen2.5-14b", "qwen2", 1, 5120, 40, 8, 128, 13824, 152064},
    {"qwen2.5-32b", "qwen2", 1, 5120, 40, 8, 128, 27648, 152064},
    {"qwen2.5-72b", "qwen2", 1, 8192, 64, 8, 128, 29568, 152064},
    {"qwen3-0.6b", "qwen3", 1, 1024, 16, 8, 128, 3072, 151936},
    {"qwen3-1.7b", "qwen3", 1, 2048, 16, 8, 128, 6144, 151936},
    {"qwen3-4b", "qwen3", 1, 2560, 32, 8, 128, 9728, 151936},
    {"qwen3-8b", "qwen3", 1, 4096, 32, 8, 128, 12288, 151936},
    {"qwen3-14b", "qwen3", 1, 5120, 40, 8, 128, 17408, 151936},
    {"qwen3-32b", "qwen3", 1, 5120, 64, 8, 128, 25600, 151936},
    {"gemma-2b", "gemma", 1, 2048, 8, 1, 256, 16384, 256000},
    {"gemma-7b", "gemma", 1, 3072, 16, 16, 256, 24576, 256000},
    {"gemma2-2b", "gemma2", 2, 2304, 8, 4, 256, 9216, 256000},
    {"gemma2-9b", "gemma2", 2, 3584, 16, 8, 256, 14336, 256000},
    {"gemma2-27b", "gemma2", 2, 4608, 32, 16, 128, 36864, 256000},
    {"gemma3-270m", "gemma3", 6, 640, 4, 1, 256, 2048, 262144},
    {"gemma3-1b", "gemma3", 6, 1152, 4, 1, 256, 6912, 262144},
    {"gemma3-4b", "gemma3", 6, 2560, 8, 4, 256, 10240, 262208},
    {"gemma3-12b", "gemma3", 6, 3840, 16, 8, 256, 15360, 262208},
    {"gemma3-27b", "gemma3", 6, 5376, 32, 16, 128, 21504, 262208},
    {"phi3-mini", "phi3", 1, 3072, 32, 32, 96, 8192, 32064},
    {"phi3-medium", "phi3", 1, 5120, 40, 10, 128, 17920, 32064},
    {"phi4", "phi3", 1, 5120, 40, 10, 128, 17920, 100352},
    {"gpt2", "gpt2", 1, 768, 12, 12, 64, 3072, 50257},
    {"gpt2-medium", "gpt2", 1, 1024, 16, 16, 64, 4096, 50257},
    {"gpt2-large", "gpt2", 1, 1280, 20, 20, 64, 5120, 50257},
    {"gpt2-xl", "gpt2", 1, 1600, 25, 25, 64, 6400, 50257},
};

// These sizes are only lowered here.
TEST(cuda_lower_takes_every_published_size) {
    // Of matrices; of attn_v and ffn_down; of the embedding and the head: Q4_K_M, Q8_0, Q4_0, F16, IQ2_S.
    static const Dtype mixes[][3] = {{DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K},
                                     {DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0},
                                     {DTYPE_Q4_0, DTYPE_Q4_0, DTYPE_Q6_K},
                                     {DTYPE_F16, DTYPE_F16, DTYPE_F16},
                                     {DTYPE_IQ2_S, DTYPE_IQ3_S, DTYPE_IQ3_S}};
    for (size_t i = 0; i < COUNT_OF(published); i++) {
        const PublishedSize *p = &published[i];
        for (size_t k = 0; k < COUNT_OF(mixes); k++) {
            uint32_t d = p->d_model;
            ArchShape shape = {p->name,
                               p->like,
                               p->layers,
                               d,
                               p->heads,
                               p->kv_heads,
                               p->head_dim,
                               p->ff,
                               p->vocab,
                               4096,
                               fitting(mixes[k][0], d),
                               fitting(fitting(mixes[k][1], d), p->ff),
                               fitting(mixes[k][2], d)};
            Made m = plan_of(arch_shape_build(&shape));
            for (size_t a = 0; a < COUNT_OF(architectures); a++) {
                TEST_CASE_LABEL("%s, %s, sm %u", p->name, dtype_info(mixes[k][0])->name, architectures[a]);
                BatchLowered l;
                Error err = {0};
                if (!lower(&m, architectures[a], 64, &l, &err)) FAIL("%s", err.message);
            }
        }
    }
}

// Of the smallest vocabulary and the largest a token can be drawn: of the largest on the oldest GPU, which
// has the least memory for it, of the smallest on the newest. (Those of published sizes are above.)
TEST_SLOW(cuda_lower_draws_of_every_vocabulary, 600) {
    static const struct { uint32_t vocabulary, sm; } rows[] = {{1, 90}, {VOCAB_MAX, 75}};
    TinyModel model = tiny_model_llama();
    Made m = make_plan(&model);
    Weight *head = (Weight *)m.plan->ops[m.plan->n_ops - 1].weight; // plans end with the head
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        JitProgram programs[JIT_PROGRAMS_MAX];
        uint32_t n = 0;
        TEST_CASE_LABEL("%u tokens, sm %u", rows[i].vocabulary, rows[i].sm);
        head->n_rows = rows[i].vocabulary;
        BatchLowered l;
        Error err = {0};
        REQUIRE(lower(&m, rows[i].sm, 1, &l, &err));
        const BatchClass *one = &l.classes[BATCH_CLASS_ONE];
        for (uint32_t k = one->n_layers_stages; k < one->n_stages; k++) {
            if (batch_draws(one->stages[k].type)) programs[n++] = l.programs[one->stages[k].program];
        }
        CHECK_INT_EQ(5, n);
        programs_check(programs, n, rows[i].sm, &m.arena);
    }
}

// What no kernel takes is refused before anything is compiled, by its name.
TEST(cuda_lower_refuses_sizes_without_kernels) {
    static const struct {
        ArchShape shape;
        uint32_t sm;
        const char *expected;
    } rows[] = {
        {{"heads of 72", "qwen3", 1, 1024, 16, 8, 72, 3072, 1024, 4096, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0},
         90,
         "heads of 72 values cannot be run on the GPU yet"},
        {{"heads of 640", "qwen3", 1, 1024, 16, 8, 640, 3072, 1024, 4096, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0},
         90,
         "heads of 640 values cannot be run on the GPU yet"},
        {{"odd rows", "qwen3", 1, 1024, 16, 8, 64, 3080, 1024, 4096, DTYPE_F16, DTYPE_F16, DTYPE_F16},
         90,
         "tensor \"blk.0.ffn_down.weight\" [1024, 3080] F16 cannot be run on the GPU yet"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].shape.name);
        Made m = plan_of(arch_shape_build(&rows[i].shape));
        BatchLowered l;
        Error err = {0};
        CHECK(!lower(&m, rows[i].sm, 8, &l, &err));
        CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
        if (!CHECK(str_starts_with(str_from_c(err.message), str_from_c(rows[i].expected))))
            FAIL("%s", err.message);
    }
}

// Formats whose tiles are another's with other constants.
static bool is_like_another(Dtype f) {
    return f == DTYPE_BF16 || f == DTYPE_Q5_1 || f == DTYPE_Q5_K || f == DTYPE_TQ2_0 || f == DTYPE_Q2_0 ||
           f == DTYPE_IQ1_S || f == DTYPE_IQ2_XXS || f == DTYPE_IQ2_XS || f == DTYPE_IQ3_XXS;
}

// Each kind of format, in stages of few or of many rows, and as what is uploaded and looked up. A format's
// code is the same for all GPUs, and both kinds of stages ask it for the same: a Tile, which the emulator
// compiles for each (kernel_tiles_).
TEST_SLOW(cuda_lower_makes_programs_for_every_format, 900) {
    for (Dtype f = 0; f < DTYPE_COUNT; f++) {
        if (is_like_another(f)) continue;
        TinyModel model = tiny_model_llama();
        model.architecture = f % 2 ? "qwen2" : "llama";
        model.dtype = model.embd_dtype = f;
        Made m = make_plan(&model);
        for (size_t a = COUNT_OF(architectures) - 2; a < COUNT_OF(architectures); a++) {
            bool newest = a + 1 == COUNT_OF(architectures);
            if (!newest && f % 4) continue; // of 8.9 nothing else is compiled: its source is that of 8.6
            TEST_CASE_LABEL("%s, sm %u", dtype_info(f)->name, architectures[a]);
            BatchLowered l;
            Error err = {0};
            REQUIRE(lower(&m, architectures[a], 1, &l, &err));
            JitProgram programs[JIT_PROGRAMS_MAX];
            uint32_t n = 0;
            if (newest) REQUIRE(batch_repack_program(f, &m.arena, &programs[n++], &err));
            for (uint32_t c = 0; c < 2; c++) {
                for (uint32_t k = 0; k < l.classes[c].n_layers_stages; k++) {
                    const BatchStage *stage = &l.classes[c].stages[k];
                    bool is_many = stage->type == &batch_output_many, odd = f % 2;
                    bool reads = ((is_many || stage->type == &batch_output) && is_many == (odd == newest)) ||
                                 (stage->type == &batch_embed && newest && c == 0);
                    if (reads && stage->layer == 0) programs[n++] = l.programs[stage->program];
                }
            }
            CHECK_INT_EQ(newest ? 3 : 1, n);
            programs_check(programs, n, architectures[a], &m.arena);
        }
    }
}

// ---- real shapes ----

// A mixture of experts of a published model's shape: one layer or two, and no data.
typedef struct {
    const char *name, *architecture;
    uint32_t d_model, heads, kv_heads, head_dim, experts, used, ff, vocab, layers;
    Dtype dtype, expert_dtype, down_dtype;
    const char *norm; // before the experts
    bool biases, qk_norms;
} ExpertShape;

static uint64_t add_tensor_row(GgufBuilder *b, const char *name, uint32_t layer, Dtype dtype, uint64_t cols,
                               uint64_t rows, uint64_t matrices, uint64_t at) {
    char full[96];
    uint64_t dims[3] = {cols, rows, matrices};
    if (name[0] == '.') snprintf(full, sizeof full, "blk.%u%s", layer, name);
    else snprintf(full, sizeof full, "%s", name);
    gguf_builder_add_row(b, str_from_c(full),
                         matrices > 1 ? 3
                         : rows > 1   ? 2
                                      : 1,
                         dims, dtype_info(dtype)->ggml_id, at);
    return align_up(at + dtype_row_bytes(dtype, cols) * rows * matrices, 32);
}

static void put_number(GgufBuilder *b, const ExpertShape *s, const char *key, uint32_t value) {
    char full[96];
    snprintf(full, sizeof full, "%s.%s", s->architecture, key);
    gguf_builder_put_u32(b, full, value);
}

static void put_shape(GgufBuilder *b, const ExpertShape *s) {
    char key[96];
    gguf_builder_put_str(b, "general.architecture", s->architecture);
    put_number(b, s, "block_count", s->layers);
    put_number(b, s, "context_length", 4096);
    put_number(b, s, "embedding_length", s->d_model);
    put_number(b, s, "feed_forward_length", s->ff);
    put_number(b, s, "attention.head_count", s->heads);
    put_number(b, s, "attention.head_count_kv", s->kv_heads);
    put_number(b, s, "attention.key_length", s->head_dim);
    put_number(b, s, "attention.value_length", s->head_dim);
    if (s->biases) put_number(b, s, "attention.sliding_window", 128);
    put_number(b, s, "expert_count", s->experts);
    put_number(b, s, "expert_used_count", s->used);
    put_number(b, s, "expert_feed_forward_length", s->ff);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", s->architecture);
    gguf_builder_put_f32(b, key, 1e-5f);
}

static uint64_t add_layer(GgufBuilder *b, const ExpertShape *s, uint32_t i, uint64_t at) {
    uint64_t d = s->d_model, q = (uint64_t)s->heads * s->head_dim, kv = (uint64_t)s->kv_heads * s->head_dim;
    struct {
        const char *name;
        Dtype dtype;
        uint64_t cols, rows, matrices;
        bool is_there;
    } rows[] = {
        {".attn_norm.weight", DTYPE_F32, d, 1, 1, true},
        {".attn_q.weight", s->dtype, d, q, 1, true},
        {".attn_k.weight", s->dtype, d, kv, 1, true},
        {".attn_v.weight", s->dtype, d, kv, 1, true},
        {".attn_q.bias", DTYPE_F32, q, 1, 1, s->biases},
        {".attn_k.bias", DTYPE_F32, kv, 1, 1, s->biases},
        {".attn_v.bias", DTYPE_F32, kv, 1, 1, s->biases},
        {".attn_q_norm.weight", DTYPE_F32, s->head_dim, 1, 1, s->qk_norms},
        {".attn_k_norm.weight", DTYPE_F32, s->head_dim, 1, 1, s->qk_norms},
        {".attn_sinks.weight", DTYPE_F32, s->heads, 1, 1, s->biases},
        {".attn_output.weight", s->dtype, q, d, 1, true},
        {".attn_output.bias", DTYPE_F32, d, 1, 1, s->biases},
        {s->norm, DTYPE_F32, d, 1, 1, true},
        {".ffn_gate_inp.weight", DTYPE_F32, d, s->experts, 1, true},
        {".ffn_gate_inp.bias", DTYPE_F32, s->experts, 1, 1, s->biases},
        {".ffn_gate_exps.weight", s->expert_dtype, d, s->ff, s->experts, true},
        {".ffn_up_exps.weight", s->expert_dtype, d, s->ff, s->experts, true},
        {".ffn_down_exps.weight", s->down_dtype, s->ff, d, s->experts, true},
        {".ffn_gate_exps.bias", DTYPE_F32, s->ff, s->experts, 1, s->biases},
        {".ffn_up_exps.bias", DTYPE_F32, s->ff, s->experts, 1, s->biases},
        {".ffn_down_exps.bias", DTYPE_F32, d, s->experts, 1, s->biases},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        if (rows[r].is_there)
            at = add_tensor_row(b, rows[r].name, i, rows[r].dtype, rows[r].cols, rows[r].rows,
                                rows[r].matrices, at);
    }
    return at;
}

// Its weights are pages that nobody touches.
static Made make_expert_plan(const ExpertShape *s) {
    GgufBuilder b = gguf_builder_begin();
    put_shape(&b, s);
    uint64_t at = add_tensor_row(&b, "token_embd.weight", 0, DTYPE_Q8_0, s->d_model, s->vocab, 1, 0);
    at = add_tensor_row(&b, "output_norm.weight", 0, DTYPE_F32, s->d_model, 1, 1, at);
    at = add_tensor_row(&b, "output.weight", 0, DTYPE_Q8_0, s->d_model, s->vocab, 1, at);
    for (uint32_t i = 0; i < s->layers; i++)
        at = add_layer(&b, s, i, at);
    Str head = gguf_builder_end(&b);
    uint8_t *file = os_reserve(head.len + at);
    REQUIRE(file != NULL);
    memcpy(file, head.ptr, head.len);
    return plan_of((Str){(const char *)file, head.len + at});
}

// clang-format off
static const ExpertShape expert_shapes[] = {
    {"GPT-OSS-20B", "gpt-oss", 2880, 64, 8, 64, 32, 4, 2880, 201088, 2, DTYPE_Q8_0, DTYPE_MXFP4, DTYPE_MXFP4,
     ".post_attention_norm.weight", true, false},
    {"Qwen3-30B-A3B", "qwen3moe", 2048, 32, 4, 128, 128, 8, 768, 151936, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, true},
    {"Mixtral-8x7B", "llama", 4096, 32, 8, 128, 8, 2, 14336, 32000, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, false},
};

// What else people have, as far as its size is another.
static const ExpertShape more_expert_shapes[] = {
    {"GPT-OSS-120B", "gpt-oss", 2880, 64, 8, 64, 128, 4, 2880, 201088, 2, DTYPE_Q8_0, DTYPE_MXFP4, DTYPE_MXFP4,
     ".post_attention_norm.weight", true, false},
    {"Qwen3-30B-A3B F16", "qwen3moe", 2048, 32, 4, 128, 128, 8, 768, 151936, 1, DTYPE_F16, DTYPE_F16, DTYPE_F16,
     ".ffn_norm.weight", false, true},
    {"Qwen3-30B-A3B IQ2_S", "qwen3moe", 2048, 32, 4, 128, 128, 8, 768, 151936, 1, DTYPE_IQ2_S, DTYPE_IQ2_S, DTYPE_IQ3_S,
     ".ffn_norm.weight", false, true},
    {"Qwen3-235B-A22B", "qwen3moe", 4096, 64, 4, 128, 128, 8, 1536, 151936, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, true},
    {"Mixtral-8x7B F16", "llama", 4096, 32, 8, 128, 8, 2, 14336, 32000, 1, DTYPE_F16, DTYPE_F16, DTYPE_F16,
     ".ffn_norm.weight", false, false},
    {"Mixtral-8x22B", "llama", 6144, 48, 8, 128, 8, 2, 16384, 32768, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, false},
    // The experts of models that have other layers beside them.
    {"Qwen3.5-35B-A3B", "qwen3moe", 2048, 16, 2, 128, 256, 8, 512, 248320, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, true},
    {"LFM2-8B-A1B", "qwen3moe", 2048, 32, 8, 64, 32, 4, 1792, 65536, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, true},
    {"Gemma 4 26B-A4B", "qwen3moe", 2816, 16, 8, 256, 128, 8, 704, 262144, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q8_0,
     ".ffn_norm.weight", false, true},
    {"GLM-4.7-Flash", "qwen3moe", 2048, 20, 4, 128, 64, 4, 1536, 154880, 1, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K,
     ".ffn_norm.weight", false, true},
};
// clang-format on

static void lower_experts(const ExpertShape *s, uint32_t sm, uint32_t n_slots, Made *m, BatchLowered *l) {
    TEST_CASE_LABEL("%s, sm %u", s->name, sm);
    *m = make_expert_plan(s);
    Error err = {0};
    if (!lower(m, sm, n_slots, l, &err)) FAIL("%s", err.message);
}

// What a token's chosen experts give has to fit a block's shared memory, which sm_75 has least of.
enum { OLDEST_VALUES_MAX = 20000 };

TEST(cuda_lower_takes_every_published_size_of_experts) {
    for (size_t i = 0; i < COUNT_OF(more_expert_shapes); i++) {
        for (size_t a = 0; a < COUNT_OF(architectures); a++) {
            Made m;
            BatchLowered l;
            const ExpertShape *s = &more_expert_shapes[i];
            if (architectures[a] == 75 && s->used * s->ff > OLDEST_VALUES_MAX) continue; // refused by name
            lower_experts(s, architectures[a], 64, &m, &l);
        }
    }
}

// Only the stages of the experts, the rest has cases of its own; but attention with sinks, too, of the layers
// with a window. Or only the products of those.
static void check_expert_shape(const ExpertShape *s, uint32_t sm, bool only_products) {
    Made m;
    BatchLowered l;
    lower_experts(s, sm, 1, &m, &l);
    JitProgram programs[JIT_PROGRAMS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_programs_of_one(&l); i++) {
        const char *name = l.programs[i].name;
        bool is_product = strcmp(name, "experts_glu") == 0 || strcmp(name, "experts_down") == 0;
        bool is_ours = is_product || (!only_products && (strstr(name, "expert") || strstr(name, "route")));
        bool has_sinks = s->biases && is_attention(&l.programs[i]) && has_window(&l.programs[i]);
        if (is_ours || has_sinks) programs[n++] = l.programs[i];
    }
    CHECK(n >=
          (only_products
               ? 4
               : 8)); // router, gate and up, down of few rows; of prompts these, rows by expert, and the sum
    programs_check(programs, n, sm, &m.arena);
}

TEST_SLOW(cuda_lower_makes_programs_for_experts, 900) {
    for (size_t i = 0; i < COUNT_OF(expert_shapes); i++) {
        check_expert_shape(&expert_shapes[i], 90, i == 2);              // its other stages are the second's
        check_expert_shape(&expert_shapes[i], architectures[i], false); // and an older one each
    }
}

#else

TEST(cuda_lower) {
    SKIP("this build has no CUDA");
}

#endif
