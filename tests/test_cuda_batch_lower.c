// From plans to the stages of batches: which there are in each class, what is refused, and that every program
// compiles. Needs the compiler in the program, but no GPU.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_model_names.h"
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
    Made m = {.arena = os_arena(512 << 20)};
    GgufPart part = {(const uint8_t *)file.ptr, file.len, "tiny"};
    const GgufFile *gguf;
    Error err = {0};
    REQUIRE(gguf_parse(&part, 1, &m.arena, &gguf, &err));
    REQUIRE(plan_build(gguf, &m.arena, &m.plan, &err));
    return m;
}

static bool lower_for(Made *m, LowerTarget target, uint32_t n_slots, BatchLowered *out, Error *err) {
    return placement_make(m->plan, &m->arena, &m->placement, err) &&
           batch_lower(m->plan, &m->placement, &target, n_slots, 500, &m->arena, out, err);
}
static bool lower(Made *m, uint32_t sm, uint32_t n_slots, BatchLowered *out, Error *err) {
    return lower_for(m, lower_target_of_sm(sm), n_slots, out, err);
}

// As many classes as the slots need, and prompts' twice more, and for fewer rows; prompts' rows are whole
// tiles.
TEST(cuda_batch_lower_makes_classes) {
    static const struct {
        uint32_t n_slots, n_classes, rows_max;
    } rows[] = {{1, 4, 1}, {2, 7, 8}, {8, 7, 8}, {9, 8, 16}, {16, 8, 16}, {17, 9, 32}, {64, 10, 64}};
    TinyModel model = tiny_model_llama();
    Made m = plan_of(tiny_model_build(&model));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        BatchLowered l;
        Error err = {0};
        TEST_CASE_LABEL("%u slots", rows[i].n_slots);
        REQUIRE(lower(&m, 90, rows[i].n_slots, &l, &err));
        CHECK_INT_EQ(rows[i].n_classes, l.n_classes);
        CHECK_INT_EQ(rows[i].rows_max, l.rows_max);
        CHECK_INT_EQ(512, l.classes[BATCH_CLASS_PROMPT].size.max_rows);
        uint32_t at = 0;
        for (uint32_t c = 0; c < l.n_classes; c++) {
            CHECK_INT_EQ(at, l.classes[c].first_program);
            at += l.classes[c].n_programs;
            if (c + 1 == l.n_first_classes) CHECK_INT_EQ(at, l.n_first_programs);
        }
        CHECK_INT_EQ(at, l.n_programs);
        for (size_t fewer = 0; fewer < i; fewer++) { // as if there had been fewer; class 8 stays
            BatchLowered cut = l, made;
            REQUIRE(lower(&m, 90, fewer ? rows[fewer].n_slots : 2, &made, &err));
            batch_lower_cut(&cut, rows[fewer].n_slots);
            CHECK_INT_EQ(made.n_classes, cut.n_classes);
            CHECK_INT_EQ(made.n_programs, cut.n_programs);
            CHECK_INT_EQ(made.rows_max, cut.rows_max);
        }
    }
}

// Attention of prompts has stretches of as many rows as its blocks take, whatever other layers' heads are: 64
// queries of heads of 256 dims, 80 of 512, which a cluster of two blocks has.
TEST(cuda_batch_lower_cuts_rows_for_each_kind_of_heads) {
    Made m = plan_of(arch_model_build(arch_model_named("odd-gemma4")));
    BatchLowered l;
    Error err = {0};
    REQUIRE(lower(&m, 90, 4, &l, &err));
    const BatchClass *c = &l.classes[BATCH_CLASS_PROMPT];
    uint32_t n_seen = 0;
    for (uint32_t i = 0; i < c->n_layers_stages; i++) {
        const BatchStage *s = &c->stages[i];
        if (!s->type->stretches || s->type->folds_parts) continue;
        bool is_wide = s->attention->attention.key_dim == 512;
        uint32_t rows = is_wide ? 80 / 4 : 64 / 2,
                 most = 512 / rows + 4; // a stretch for each slot's last rows
        TEST_CASE_LABEL("layer %u", s->layer);
        CHECK_INT_EQ(rows, l.cuts[s->cut].rows);
        CHECK(c->max_stretches[s->cut] >= most);
        n_seen++;
    }
    CHECK_INT_EQ(2, l.n_cuts);
    CHECK_INT_EQ(4, n_seen);
}

// Prompts' attention of a layer of a lowered model.
static const BatchType *spans_of(const BatchLowered *l, uint32_t layer) {
    const BatchClass *c = &l->classes[BATCH_CLASS_PROMPT];
    for (uint32_t i = 0; i < c->n_layers_stages; i++) {
        const BatchStage *s = &c->stages[i];
        if (s->layer == layer && s->type->stretches && !s->type->folds_parts) return s->type;
    }
    return NULL;
}

// Heads of 512 in layers without a window have wgmma with queries as columns: on sm_90 with an even number of
// multiprocessors, and a cache of f16. (Layer 0 has a window, and heads of 256.)
TEST(cuda_batch_lower_chooses_prompts_attention_of_wide_heads) {
    static const struct {
        const char *name;
        uint32_t sm, multiprocessors;
        KvType kv;
        int32_t window; // of layer 1; -1: sinks
        const BatchType *expected;
    } rows[] = {
        {"as published", 90, 132, KV_TYPE_F16, 0, &batch_span_wide},
        {"an odd number of multiprocessors", 90, 113, KV_TYPE_F16, 0, &batch_span_attention},
        {"a cache of 8 bits", 90, 132, KV_TYPE_Q8, 0, &batch_span_attention},
        {"a window", 90, 132, KV_TYPE_F16, 64, &batch_span_attention},
        {"sinks", 90, 132, KV_TYPE_F16, -1, &batch_span_attention},
        {"sm_80", 80, 132, KV_TYPE_F16, 0, &batch_span_attention},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Made m = plan_of(arch_model_build(arch_model_named("odd-gemma4")));
        Plan *plan = (Plan *)(uintptr_t)m.plan;
        LowerTarget target = lower_target_of_sm(rows[i].sm);
        target.multiprocessors = rows[i].multiprocessors;
        plan->kv_type = rows[i].kv;
        for (uint32_t k = 0; k < plan->n_ops; k++) {
            Op *op = (Op *)(uintptr_t)&plan->ops[k];
            if (op->kind != OP_ATTENTION || op->layer != 1) continue;
            op->attention.window = rows[i].window > 0 ? (uint32_t)rows[i].window : 0;
            if (rows[i].window < 0) op->weight = plan->ops[1].weight;
        }
        BatchLowered l;
        Error err = {0};
        REQUIRE(lower_for(&m, target, 4, &l, &err));
        CHECK(spans_of(&l, 1) == rows[i].expected);
        CHECK(spans_of(&l, 0) == (rows[i].sm < 90 ? &batch_span_attention : &batch_span_wgmma));
    }
}

// The second class of prompts has products of its own, and else the programs of the first.
TEST(cuda_batch_lower_makes_large_tiles_apart) {
    TinyModel model = tiny_model_llama();
    Made m = plan_of(tiny_model_build(&model));
    BatchLowered l;
    Error err = {0};
    REQUIRE(lower(&m, 90, 1, &l, &err));
    REQUIRE(l.n_classes == 4 && l.n_first_classes == 1);
    const BatchClass *prompt = &l.classes[BATCH_CLASS_PROMPT], *large = &l.classes[2];
    CHECK(large->size.body == BODY_PROMPT && large->size.max_rows == prompt->size.max_rows);
    REQUIRE(large->n_stages == prompt->n_layers_stages && large->n_programs > 0);
    for (uint32_t i = 0; i < large->n_stages; i++) {
        uint32_t program = large->stages[i].program;
        const BatchType *type = large->stages[i].type;
        bool is_product = type == &batch_qkv_many || type == &batch_output_many || type == &batch_glu_many ||
                          type == &batch_down_many;
        bool is_large = strstr(l.programs[program].defines.ptr, "#define TILE_ROWS 128\n") != NULL;
        CHECK(type == prompt->stages[i].type && is_large == is_product);
        CHECK(is_product ? program >= large->first_program : program == prompt->stages[i].program);
    }
}

// The stages of a layer, in few rows and in many.
TEST(cuda_batch_lower_finds_the_stages_of_a_layer) {
    static const BatchType *const one[] = {&batch_qkv, &batch_attention, &batch_output, &batch_glu,
                                           &batch_down};
    static const BatchType *const eight[] = {&batch_norm, &batch_qkv, &batch_attention, &batch_output,
                                             &batch_norm, &batch_glu, &batch_down};
    static const BatchType *const many[] = {&batch_norm,        &batch_qkv_many, &batch_attention,
                                            &batch_output_many, &batch_norm,     &batch_glu_many,
                                            &batch_down_many};
    static const BatchType *const prompt[] = {&batch_norm,           &batch_qkv_many,  &batch_rope_heads,
                                              &batch_span_attention, &batch_span_fold, &batch_output_many,
                                              &batch_norm,           &batch_glu_many,  &batch_down_many};
    TinyModel model = tiny_model_llama();
    model.layers = 3;
    Made m = plan_of(tiny_model_build(&model));
    BatchLowered l;
    Error err = {0};
    REQUIRE(lower(&m, 90, 16, &l, &err));
    for (uint32_t c = 0; c < l.n_classes; c++) {
        const BatchClass *class = &l.classes[c];
        bool is_one = class->size.body == BODY_ONE, is_eight = class->size.body == BODY_EIGHT,
             is_prompt = class->size.body == BODY_PROMPT;
        const BatchType *const *layer = is_one ? one : is_eight ? eight : is_prompt ? prompt : many;
        uint32_t n = is_one ? COUNT_OF(one) : is_prompt ? COUNT_OF(prompt) : COUNT_OF(many);
        uint32_t n_embeddings = 0, at = 0;
        TEST_CASE_LABEL("class of %u", class->size.max_rows);
        for (uint32_t i = 0; i < class->n_layers_stages; i++) {
            const BatchStage *s = &class->stages[i];
            if (s->type == &batch_embed) {
                n_embeddings++;
                continue;
            }
            CHECK(s->type == layer[at++ % n]);
        }
        CHECK_INT_EQ(1, n_embeddings); // with the rope tables
        CHECK_INT_EQ(3 * n, at);
        // Behind the layers: norm and head, five that draw; of prompts for one row, and once.
        uint32_t behind = class->n_stages - class->n_layers_stages;
        CHECK_INT_EQ(is_prompt && !class->size.is_small ? 0 : is_one || is_prompt ? 6 : 7, behind);
    }
}

static bool reads_something(const Op *op) {
    return op->kind == OP_MATMUL || op->kind == OP_EXPERT_MATMUL || op->kind == OP_HEAD_MATMUL ||
           op->kind == OP_HEAD || op->kind == OP_ATTENTION || op->kind == OP_DELTA || op->kind == OP_SSM;
}

// What `bench --stages` says of bytes and operations: of each matrix, cache and state there is one stage that
// reads it.
static void check_reads(const Made *m, const BatchClass *class) {
    for (uint32_t i = 0; i < m->plan->n_ops; i++) {
        const Op *op = &m->plan->ops[i];
        uint32_t n = 0;
        bool is_there =
            reads_something(op) && (op->kind != OP_HEAD || class->n_layers_stages < class->n_stages);
        for (uint32_t k = 0; is_there && k < class->n_stages * STAGE_OPS_MAX; k++)
            n += batch_op_read(&class->stages[k / STAGE_OPS_MAX], k % STAGE_OPS_MAX) == op &&
                 class->stages[k / STAGE_OPS_MAX].turn == 0;
        if (n != is_there)
            FAIL("class of %u rows: %u stages read what operation %u (%s) computes with",
                 class->size.max_rows, n, i, plan_op_name(op->kind));
    }
}

TEST(cuda_batch_lower_takes_every_dense_architecture) {
    static const char *const names[] = {
#define MODEL_NAME(name) #name,
        ARCH_DENSE_MODEL_NAMES(MODEL_NAME) ARCH_FAMILY_MODEL_NAMES(MODEL_NAME)
            ARCH_MLA_MODEL_NAMES(MODEL_NAME) ARCH_GEMMA_EMULATED_NAMES(MODEL_NAME)
                ARCH_STATE_MODEL_NAMES(MODEL_NAME) ARCH_META_MODEL_NAMES(MODEL_NAME)
#undef MODEL_NAME
    };
    static const uint32_t generations[] = {75, 80, 86, 89, 90};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Made m = plan_of(arch_model_build(arch_model_named(names[i])));
        for (size_t a = 0; a < COUNT_OF(generations); a++) {
            BatchLowered l;
            Error err = {0};
            TEST_CASE_LABEL("%s, sm %u", names[i], generations[a]);
            if (!lower(&m, generations[a], 64, &l, &err)) FAIL("%s", err.message);
            for (uint32_t c = 0; c < l.n_classes; c++)
                check_reads(&m, &l.classes[c]);
        }
    }
}

// What has no stage is named, so that the other stages can take the model.
TEST(cuda_batch_lower_names_what_it_cannot_do) {
    static const struct {
        const char *model, *expected;
    } rows[] = {{"llama_layers", "layers of different sizes cannot be run on the GPU yet: layer 1"},
                {"llama_values", "layer 0: values of 16"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Made m = plan_of(arch_model_build(arch_model_named(rows[i].model)));
        BatchLowered l;
        Error err = {0};
        TEST_CASE_LABEL("%s", rows[i].model);
        CHECK(!lower(&m, 90, 8, &l, &err));
        CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
        if (!strstr(err.message, rows[i].expected)) CHECK_STR_EQ(rows[i].expected, err.message);
    }
}

// Products of many rows differ in their stage and in the rows of a tile, and what one of them changes is the
// same for all of the other: each stage is compiled for whole prompts, and one of them, another each, for the
// other sizes of tiles (what is shaped for each pair is held to the kernels' rules in test_cuda_shapes.c).
static bool has_twins(const JitProgram *p, uint32_t class) {
    static const char *const stages[] = {"qkv", "output", "glu"};
    bool is_many = strstr(p->defines.ptr, "#define TILE_ROWS ") != NULL;
    for (size_t i = 0; is_many && i < COUNT_OF(stages); i++) {
        if (strcmp(p->name, stages[i]) == 0) return i != class % COUNT_OF(stages);
    }
    return false;
}

// From those of the first class on: what is before it is compiled by another case, and so may draws be. Of
// these, in which the number of rows is a bound and no more, those of the largest class.
static void check_programs(Str file, uint32_t sm, uint32_t first_class, bool with_draws) {
    Made m = plan_of(file);
    BatchLowered l;
    Error err = {0};
    REQUIRE(lower(&m, sm, 16, &l, &err));
    JitProgram programs[JIT_PROGRAMS_MAX];
    uint32_t n = 0;
    for (uint32_t i = l.classes[first_class].first_program, class = first_class; i < l.n_programs; i++) {
        while (class + 1 < l.n_classes && i >= l.classes[class + 1].first_program)
            class ++;
        bool is_whole = l.classes[class].size.body == BODY_PROMPT && !l.classes[class].size.is_small;
        if (!is_whole && has_twins(&l.programs[i], class)) continue;
        bool is_draw = strncmp(l.programs[i].name, "draw_", 5) == 0;
        if (!is_draw || (with_draws && strstr(l.programs[i].defines.ptr, "#define MAX_ROWS 16\n")))
            programs[n++] = l.programs[i];
    }
    programs_check(programs, n, sm, &m.arena);
}

// A published size for the newest GPU; for the oldest, which cuda_lower_ has single rows, prompts and draws
// of, the classes between.
TEST_SLOW(cuda_batch_lower_makes_programs, 900) {
    static const ArchShape llama = {"llama-3.1-8b", "mistral", 1,    4096,       32,         8,         128,
                                    14336,          128256,    4096, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K};
    TinyModel model = tiny_model_llama();
    TEST_CASE_LABEL("tiny, sm 75");
    check_programs(tiny_model_build(&model), 75, BATCH_CLASS_EIGHT, false);
    TEST_CASE_LABEL("llama-3.1-8b, sm 90");
    check_programs(arch_shape_build(&llama), 90, 0, true);
}

#else

TEST(cuda_batch_lower) {
    SKIP("this build has no CUDA");
}

#endif
