// From plans to kernels: which stages there are, that what cannot be lowered is named, and that every program
// compiles for every architecture. Needs the compiler in the program, but no GPU.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/lower.h"
#include "gguf_builder.h"
#include "os/os.h"

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

static bool lower(Made *m, uint32_t sm, Lowered *out, Error *err) {
    LowerTarget target = lower_target_of_sm(sm);
    return placement_make(m->plan, &m->arena, &m->placement, err) &&
           lower_plan(m->plan, &m->placement, &target, 512, &m->arena, out, err);
}

TEST(cuda_lower_finds_the_stages_of_a_layer) {
    static const char *const archs[] = {"llama", "qwen2"};
    static const StageKind layer[] = {STAGE_QKV, STAGE_ATTENTION, STAGE_OUTPUT, STAGE_GLU, STAGE_DOWN};
    for (size_t a = 0; a < COUNT_OF(archs); a++) {
        TEST_CASE_LABEL("%s", archs[a]);
        TinyModel model = tiny_model_llama();
        model.architecture = archs[a];
        model.layers = 4;
        Made m = make_plan(&model);
        Lowered l;
        Error err = {0};
        REQUIRE(lower(&m, 90, &l, &err));
        CHECK_INT_EQ(4 * COUNT_OF(layer), l.n_layers_stages);
        uint32_t op = 0;
        for (uint32_t i = 0; i < l.n_stages; i++) {
            const Stage *s = &l.stages[i];
            if (i < l.n_layers_stages) {
                CHECK_INT_EQ(layer[i % COUNT_OF(layer)], s->kind);
                CHECK_INT_EQ(i / COUNT_OF(layer), s->layer);
            }
            CHECK_INT_EQ(s->n_ops ? op : 0, s->first_op); // every operation in one stage, in order
            op += s->n_ops;
        }
        CHECK_INT_EQ(m.plan->n_ops, op);
        // Embedding and turns once; then norm, q k v, attention, output, norm, gate up, down.
        CHECK_INT_EQ(2 + 4 * 7, l.n_prefill_stages);
        CHECK_INT_EQ(STAGE_PREFILL_EMBED, l.prefill_stages[0].kind);
        CHECK_INT_EQ(STAGE_PREFILL_ROPE, l.prefill_stages[1].kind);
        for (uint32_t i = 2; i + 7 < l.n_prefill_stages; i++)
            CHECK_INT_EQ(l.prefill_stages[i].program, l.prefill_stages[i + 7].program);
        CHECK((l.stages[0].ops[QKV_EMBED] != NULL) && !l.stages[5].ops[QKV_EMBED]);
        // Layers share their programs; the first one's first stage also reads the embedding.
        CHECK(l.stages[0].program != l.stages[5].program);
        for (uint32_t i = 1; i < l.n_layers_stages - 5; i++)
            CHECK_INT_EQ(l.stages[i].program, l.stages[i + 5].program);
    }
}

// The stages of a layer of each dense architecture, with their prefill stages behind the norms.
TEST(cuda_lower_takes_every_dense_architecture) {
    static const StageKind usual[] = {STAGE_QKV, STAGE_ATTENTION, STAGE_OUTPUT, STAGE_GLU, STAGE_DOWN};
    static const StageKind qk_norms[] = {STAGE_QKV,    STAGE_HEADS, STAGE_ATTENTION,
                                         STAGE_OUTPUT, STAGE_GLU,   STAGE_DOWN};
    static const StageKind all_norms[] = {STAGE_QKV,       STAGE_HEADS, STAGE_ATTENTION, STAGE_OUTPUT,
                                          STAGE_POST_NORM, STAGE_GLU,   STAGE_DOWN,      STAGE_POST_NORM};
    static const struct {
        const char *architecture;
        const StageKind *stages;
        uint32_t n_stages, n_prefill;
    } rows[] = {
        {"llama", usual, COUNT_OF(usual), 7},       {"qwen2", usual, COUNT_OF(usual), 7},
        {"phi3", usual, COUNT_OF(usual), 7},        {"gpt2", usual, COUNT_OF(usual), 7},
        {"qwen3", qk_norms, COUNT_OF(qk_norms), 8}, {"gemma3", all_norms, COUNT_OF(all_norms), 10},
    };
    uint32_t seen = 0;
    for (uint32_t i = 0; arch_model_at(i); i++) {
        const ArchModel *model = arch_model_at(i);
        for (size_t r = 0; r < COUNT_OF(rows); r++) {
            if (strcmp(rows[r].architecture, arch_model_architecture(model)) != 0) continue;
            TEST_CASE_LABEL("%s", arch_model_name(model));
            Made m = plan_of(arch_model_build(model));
            if (m.plan->config.n_experts) continue;
            Lowered l;
            Error err = {0};
            REQUIRE(lower(&m, 90, &l, &err));
            REQUIRE(l.n_layers_stages == m.plan->config.n_layers * rows[r].n_stages);
            for (uint32_t s = 0; s < l.n_layers_stages; s++)
                CHECK_INT_EQ(rows[r].stages[s % rows[r].n_stages], l.stages[s].kind);
            // Embedding, and turns: none of learned positions, two where layers with a window have their own.
            uint32_t ropes = m.placement.n_ropes;
            CHECK_INT_EQ(1 + ropes + m.plan->config.n_layers * rows[r].n_prefill, l.n_prefill_stages);
            seen |= 1u << r;
        }
    }
    CHECK_INT_EQ((1 << COUNT_OF(rows)) - 1, seen);
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
        Lowered l;
        Error err = {0};
        CHECK(!lower(&m, 90, &l, &err));
        CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
        CHECK(str_starts_with(str_from_c(err.message), str_from_c(rows[i].expected)));
    }
}

// ---- every program for every architecture ----

// The value that a program exports under a name: the symbol's bytes in the cubin, which is an ELF file.
static bool read_exported(const JitImage *image, const char *name, void *out, size_t size) {
    const uint8_t *elf = image->data;
    uint64_t sections_at;
    uint16_t n_sections;
    memcpy(&sections_at, elf + 0x28, 8);
    memcpy(&n_sections, elf + 0x3C, 2);
    typedef struct {
        uint32_t name, type;
        uint64_t flags, address, offset, size;
        uint32_t link, info;
        uint64_t alignment, entry_size;
    } Section;
    typedef struct {
        uint32_t name;
        uint8_t info, other;
        uint16_t section;
        uint64_t value, size;
    } Symbol;
    Section table, names, home;
    for (uint32_t i = 0; i < n_sections; i++) {
        memcpy(&table, elf + sections_at + i * sizeof table, sizeof table);
        if (table.type != 2) continue; // SHT_SYMTAB
        memcpy(&names, elf + sections_at + table.link * sizeof names, sizeof names);
        for (uint64_t at = 0; at < table.size; at += sizeof(Symbol)) {
            Symbol symbol;
            memcpy(&symbol, elf + table.offset + at, sizeof symbol);
            if (strcmp((const char *)elf + names.offset + symbol.name, name) != 0 || symbol.size != size)
                continue;
            memcpy(&home, elf + sections_at + symbol.section * sizeof home, sizeof home);
            memcpy(out, elf + home.offset + symbol.value, size);
            return true;
        }
    }
    return false;
}

// Compiles the programs, and checks that each can be launched.
static void check_programs(const JitProgram *programs, uint32_t n, uint32_t sm, Arena *arena) {
    LowerTarget target = lower_target_of_sm(sm);
    JitOptions options = {.sm = sm,
                          .cache = test_root_path("build/jit-cache")}; // so that a second run takes no time
    Error err = {0};
    Jit *jit;
    REQUIRE(jit_start(&options, programs, n, arena, &jit, &err));
    for (uint32_t i = 0; i < n; i++) {
        JitImage image;
        if (!jit_wait(jit, i, &image, &err)) {
            FAIL("%s", err.message);
            continue;
        }
        if (strcmp(programs[i].name, "repack_kernel") == 0) continue;
        char name[64];
        StageInfo info;
        snprintf(name, sizeof name, "%s_info", programs[i].name);
        REQUIRE(read_exported(&image, name, &info, sizeof info));
        CHECK(info.threads >= 32 && info.threads <= 1024 && info.threads % 32 == 0);
        CHECK(info.grid[0] >= 1 && info.grid[1] >= 1);
        CHECK(info.shared_bytes <= target.shared_bytes_block);
    }
    jit_end(jit);
}

static const uint32_t architectures[] = {75, 80, 86, 89, 90};

TEST_SLOW(cuda_lower_makes_programs_for_every_architecture, 600) {
    for (size_t a = 0; a < COUNT_OF(architectures); a++) {
        TEST_CASE_LABEL("sm %u", architectures[a]);
        TinyModel model = tiny_model_llama();
        Made m = make_plan(&model);
        Lowered l;
        Error err = {0};
        REQUIRE(lower(&m, architectures[a], &l, &err));
        check_programs(l.programs, l.n_programs, architectures[a], &m.arena);
    }
}

// Each format, in the stages of matrices and as what is uploaded.
TEST_SLOW(cuda_lower_makes_programs_for_every_format, 900) {
    for (Dtype f = 0; f < DTYPE_COUNT; f++) {
        TinyModel model = tiny_model_llama();
        model.architecture = f % 2 ? "qwen2" : "llama";
        model.dtype = model.embd_dtype = f;
        Made m = make_plan(&model);
        for (size_t a = 0; a < COUNT_OF(architectures); a++) {
            if (a % 4 != 0 && f % 4 != 0)
                continue; // all formats for the oldest and the newest, some for those between
            TEST_CASE_LABEL("%s, sm %u", dtype_info(f)->name, architectures[a]);
            Lowered l;
            Error err = {0};
            REQUIRE(lower(&m, architectures[a], &l, &err));
            JitProgram programs[JIT_PROGRAMS_MAX];
            uint32_t n = 0;
            REQUIRE(lower_repack_program(f, &m.arena, &programs[n++], &err));
            for (uint32_t i = 0; i < l.n_stages && l.stages[i].layer == 0; i++) {
                StageKind kind = l.stages[i].kind;
                if (kind != STAGE_ATTENTION && kind != STAGE_DOWN)
                    programs[n++] = l.programs[l.stages[i].program];
            }
            for (uint32_t i = 0; i < l.n_prefill_stages && l.prefill_stages[i].layer == 0; i++) {
                StageKind kind = l.prefill_stages[i].kind;
                if (kind == STAGE_PREFILL_EMBED || kind == STAGE_PREFILL_OUTPUT)
                    programs[n++] = l.programs[l.prefill_stages[i].program];
            }
            check_programs(programs, n, architectures[a], &m.arena);
        }
    }
}

#else

TEST(cuda_lower) {
    SKIP("this build has no CUDA");
}

#endif
