#include "backend/cuda/lower_internal.h"

#include "../kernels_src/layout.h"
#include "base/strbuf.h"

// ---- patterns ----

typedef struct {
    OpKind kind;
    Act out;
    Act in[2];
    bool optional;
    bool is_norm; // LAYER_NORM will do, too
} PatternOp;

typedef struct {
    StageKind kind;
    uint32_t n_ops;
    PatternOp ops[STAGE_OPS_MAX];
} Pattern;

// clang-format off
#define QKV_PRODUCTS                                                                              \
        [QKV_EMBED]    = {OP_EMBED,        ACT_X, {0},     .optional = true},                     \
        [QKV_POSITION] = {OP_ADD_POSITION, ACT_X, {ACT_X}, .optional = true},                     \
        [QKV_NORM]     = {OP_RMS_NORM,     ACT_H, {ACT_X}, .is_norm = true},                      \
        [QKV_Q]        = {OP_MATMUL,       ACT_Q, {ACT_H}},                                       \
        [QKV_K]        = {OP_MATMUL,       ACT_K, {ACT_H}},                                       \
        [QKV_V]        = {OP_MATMUL,       ACT_V, {ACT_H}}

// The first that fits is taken.
static const Pattern patterns[] = {
    {STAGE_QKV, 9, {
        QKV_PRODUCTS,
        [QKV_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}, .optional = true},
        [QKV_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}, .optional = true},
        [QKV_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}}}},
    {STAGE_QKV, 6, {
        QKV_PRODUCTS}},
    {STAGE_HEADS, 5, {
        [HEADS_NORM_Q]   = {OP_RMS_NORM, ACT_Q,    {ACT_Q}},
        [HEADS_NORM_K]   = {OP_RMS_NORM, ACT_K,    {ACT_K}},
        [HEADS_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}},
        [HEADS_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}},
        [HEADS_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}}}},
    {STAGE_ATTENTION, 1, {
        [ATTENTION_ATTENTION] = {OP_ATTENTION, ACT_A, {ACT_Q}}}},
    {STAGE_OUTPUT, 2, {
        [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {ACT_A}},
        [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}, .optional = true}}},
    {STAGE_POST_NORM, 2, {
        [POST_NORM_NORM] = {OP_RMS_NORM, ACT_T, {ACT_T}},
        [POST_NORM_ADD]  = {OP_ADD,      ACT_X, {ACT_X, ACT_T}}}},
    {STAGE_GLU, 4, {
        [GLU_NORM] = {OP_RMS_NORM, ACT_H, {ACT_X}, .is_norm = true},
        [GLU_GATE] = {OP_MATMUL,   ACT_G, {ACT_H}},
        [GLU_UP]   = {OP_MATMUL,   ACT_U, {ACT_H}},
        [GLU_GLU]  = {OP_GLU,      ACT_F, {ACT_G, ACT_U}}}},
    {STAGE_GLU, 4, {
        [GLU_NORM] = {OP_RMS_NORM,   ACT_H, {ACT_X}, .is_norm = true},
        [GLU_GATE] = {OP_COUNT, .optional = true}, // never
        [GLU_UP]   = {OP_MATMUL,     ACT_U, {ACT_H}},
        [GLU_GLU]  = {OP_ACTIVATION, ACT_F, {ACT_U}}}},
    {STAGE_DOWN, 2, {
        [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {ACT_F}},
        [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}, .optional = true}}},
    {STAGE_ROUTE, 3, {
        [ROUTE_NORM]   = {OP_RMS_NORM, ACT_H, {ACT_X}},
        [ROUTE_MATMUL] = {OP_MATMUL,   ACT_L, {ACT_H}},
        [ROUTE_ROUTE]  = {OP_ROUTE,    ACT_R, {ACT_L}}}},
    {STAGE_EXPERTS_GLU, 3, {
        [EXPERTS_GATE] = {OP_EXPERT_MATMUL, ACT_EG, {ACT_H, ACT_R}},
        [EXPERTS_UP]   = {OP_EXPERT_MATMUL, ACT_EU, {ACT_H, ACT_R}},
        [EXPERTS_GLU]  = {OP_GLU,           ACT_EF, {ACT_EG, ACT_EU}}}},
    {STAGE_EXPERTS_DOWN, 3, {
        [EXPERTS_DOWN] = {OP_EXPERT_MATMUL, ACT_EO, {ACT_EF, ACT_R}},
        [EXPERTS_SUM]  = {OP_EXPERT_SUM,    ACT_T,  {ACT_EO, ACT_R}},
        [EXPERTS_ADD]  = {OP_ADD,           ACT_X,  {ACT_X, ACT_T}}}},
    {STAGE_HEAD, 2, {
        [HEAD_NORM] = {OP_RMS_NORM, ACT_H,    {ACT_X}, .is_norm = true},
        [HEAD_HEAD] = {OP_HEAD,     ACT_NONE, {ACT_H}}}},
};
// clang-format on

static const uint8_t n_inputs[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = n_in,
#include "arch/op.def"
#undef OP
};

static bool op_matches(const Op *op, const PatternOp *p) {
    bool ok = (op->kind == p->kind || (p->is_norm && op->kind == OP_LAYER_NORM)) && op->out == p->out;
    for (uint32_t i = 0; ok && i < n_inputs[op->kind]; i++)
        ok = op->in[i] == p->in[i];
    return ok;
}

// Fits one pattern to the operations from `first` on. Returns how many it takes when all of it fits, else 0;
// *reached is the first operation that does not fit (set when 0 is returned).
static uint32_t match(const Plan *plan, uint32_t first, const Pattern *pattern, Stage *out,
                      uint32_t *reached) {
    uint32_t at = first;
    *out = (Stage){.kind = pattern->kind, .first_op = first};
    for (uint32_t i = 0; i < pattern->n_ops; i++) {
        const Op *op = at < plan->n_ops ? &plan->ops[at] : NULL;
        if (op && op_matches(op, &pattern->ops[i])) {
            out->ops[i] = op;
            out->layer = op->layer;
            at++;
        } else if (!pattern->ops[i].optional) {
            *reached = at;
            return 0;
        }
    }
    out->n_ops = at - first;
    return out->n_ops;
}

static bool match_any(const Plan *plan, uint32_t first, Stage *out, Error *err) {
    uint32_t furthest = first;
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        uint32_t reached = first;
        if (match(plan, first, &patterns[i], out, &reached)) return true;
        furthest = (uint32_t)max_u64(furthest, reached);
    }
    if (furthest >= plan->n_ops) return error_set(err, ERR_UNSUPPORTED, "the plan ends within a stage");
    const Op *op = &plan->ops[furthest];
    return error_set(err, ERR_UNSUPPORTED,
                     "operation %u of the plan (%s, layer %u) cannot be run on the GPU yet", furthest,
                     plan_op_name(op->kind), op->layer);
}

// What leaves values for a stage of its own must be followed by that one.
static bool check_order(const Stage *before, const Stage *s, Error *err) {
    if (!before || (stage_is_raw(before) == (s->kind == STAGE_HEADS || s->kind == STAGE_POST_NORM)))
        return true;
    return error_set(err, ERR_UNSUPPORTED, "operation %u of the plan (layer %u) cannot be run on the GPU yet",
                     s->first_op, s->layer);
}

// ---- what the kernels take ----

enum { ATTENTION_DIM_MAX = 256 }; // of a head

static bool refuse(Error *err, const Weight *w, const char *why) {
    return error_set(err, ERR_UNSUPPORTED, "tensor \"%.*s\" [%llu, %llu] %s cannot be run on the GPU yet: %s",
                     STR_ARG(w->name), (unsigned long long)w->n_rows, (unsigned long long)w->n_cols,
                     dtype_info(w->dtype)->name, why);
}

static bool check_op(const Op *op, uint32_t norm_group, Error *err) {
    if (!op) return true;
    bool is_matrix =
        op->kind == OP_MATMUL || op->kind == OP_HEAD || op->kind == OP_EMBED || op->kind == OP_EXPERT_MATMUL;
    if (is_matrix && op->weight->n_cols % BLOCK_WEIGHTS)
        return refuse(err, op->weight, "rows are no multiple of 32");
    bool is_norm = op->kind == OP_RMS_NORM || op->kind == OP_LAYER_NORM;
    if (is_norm && op->norm.group != norm_group)
        return refuse(err, op->weight, "the norm is of another number of values");
    return true;
}

static bool check_heads(const Stage *s, const ModelConfig *c, Error *err) {
    const Rope *q = stage_rope(s, false), *k = stage_rope(s, true);
    if (q != k) {
        return error_set(err, ERR_UNSUPPORTED,
                         "queries and keys with different rotary embeddings cannot be run on the GPU yet");
    }
    if (s->kind == STAGE_QKV && q && q->dims % 4) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "rotary embeddings of %u values cannot be run on the GPU yet: a multiple of 4 is needed",
            q->dims);
    }
    if (s->kind == STAGE_HEADS && s->ops[HEADS_NORM_Q]->norm.eps != s->ops[HEADS_NORM_K]->norm.eps)
        return refuse(err, s->ops[HEADS_NORM_K]->weight, "queries and keys have different norms");
    if (s->kind == STAGE_ATTENTION && (c->head_dim % 16 || c->head_dim > ATTENTION_DIM_MAX)) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "heads of %u values cannot be run on the GPU yet: a multiple of 16 up to %d is needed",
            c->head_dim, ATTENTION_DIM_MAX);
    }
    return true;
}

// What this GPU's blocks have room for.
static bool check_memory(const Lowering *l, const Stage *s, Error *err) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        bool is_matrix = op && (op->kind == OP_MATMUL || op->kind == OP_HEAD);
        if (is_matrix && !lower_matvec_fits(l->target, s->kind, op->weight))
            return refuse(err, op->weight, "its rows are too long for this GPU's shared memory");
    }
    return true;
}

static bool check_stage(const Lowering *l, const Stage *s, Error *err) {
    const ModelConfig *c = &l->plan->config;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        if (!check_op(s->ops[i], s->kind == STAGE_HEADS ? c->head_dim : c->d_model, err)) return false;
    }
    if (!check_heads(s, c, err)) return false;
    bool of_experts = s->kind == STAGE_ROUTE || s->kind == STAGE_EXPERTS_GLU || s->kind == STAGE_EXPERTS_DOWN;
    if (of_experts) return lower_check_experts(l, s, err);
    if (!check_memory(l, s, err)) return false;
    if (s->kind != STAGE_GLU) return true;
    const Op *gate = s->ops[GLU_GATE], *up = s->ops[GLU_UP];
    if (!gate && s->ops[GLU_GLU]->fn == FN_SWIGLU_CLAMPED)
        return refuse(err, up->weight, "its activation needs a gate");
    return true;
}

// ---- targets ----

LowerTarget lower_target_of_device(const CudaDevice *d) {
    return (LowerTarget){.sm = d->sm,
                         .multiprocessors = d->multiprocessors,
                         .shared_bytes_block = d->shared_bytes_block,
                         .shared_bytes_multiprocessor = d->shared_bytes_multiprocessor};
}

LowerTarget lower_target_of_sm(uint32_t sm) {
    static const LowerTarget usual[] = {
        {75, 40, 64 << 10, 64 << 10},    // T4
        {80, 108, 163 << 10, 164 << 10}, // A100
        {86, 84, 99 << 10, 100 << 10},   // A40
        {89, 142, 99 << 10, 100 << 10},  // L40
        {90, 132, 227 << 10, 228 << 10}, // H100
    };
    for (size_t i = 1; i < COUNT_OF(usual); i++) {
        if (usual[i].sm > sm) return usual[i - 1];
    }
    return usual[COUNT_OF(usual) - 1];
}

// ---- programs ----

enum { SPLITS_MAX = 32 };

// The program of a stage: one that is there already, where the kernel and all defines are the same.
static bool find_program(Lowering *l, Stage *s, Error *err) {
    Arena before = *l->arena;
    StrBuf b = strbuf_begin_in_arena(l->arena);
    if (!lower_define(&b, l, s, err)) return false;
    bool truncated = b.truncated;
    Str defines = strbuf_end_in_arena(&b, l->arena);
    if (truncated) return error_set(err, ERR_NO_MEMORY, "the kernels' defines do not fit their memory");
    for (s->program = 0; s->program < l->n_programs; s->program++) {
        const JitProgram *p = &l->programs[s->program];
        if (l->program_kinds[s->program] == s->kind && str_eq(p->defines, defines)) {
            *l->arena = before;
            return true;
        }
    }
    if (l->n_programs == JIT_PROGRAMS_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "the model needs more than %d different kernels",
                         JIT_PROGRAMS_MAX);
    }
    l->program_kinds[l->n_programs] = s->kind;
    l->programs[l->n_programs++] = (JitProgram){.name = stage_kernel(s->kind),
                                                .files = stage_files(s->kind),
                                                .defines = defines,
                                                .cost = stage_cost(s->kind)};
    return true;
}

// ---- all of it ----

static void count_weight_bytes(const Lowering *l, Stage *s) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        if (!op) continue;
        uint64_t bytes = op->weight ? placement_bytes(l->placement, op->weight) : 0;
        if (op->kind == OP_MATMUL || op->kind == OP_HEAD) s->weight_bytes += bytes;
        if (op->kind == OP_EXPERT_MATMUL) s->weight_bytes += bytes / op->weight->n_matrices * op->n_used;
    }
}

static bool add_stage(Lowering *l, const Stage *stage, Error *err) {
    Stage *s = &l->stages[l->n_stages++];
    *s = *stage;
    count_weight_bytes(l, s);
    return check_stage(l, s, err) && find_program(l, s, err);
}

static bool add_prefill_stage(Lowering *l, StageKind kind, const Stage *of, Error *err) {
    Stage *s = &l->prefill_stages[l->n_prefill_stages++];
    *s = *of;
    s->kind = kind;
    return find_program(l, s, err);
}

// One with one operation of its own.
static bool add_prefill_op(Lowering *l, StageKind kind, const Stage *of, const Op *op, Error *err) {
    Stage s = {.layer = of->layer, .first_op = (uint32_t)(op - l->plan->ops), .n_ops = 1, .ops = {op}};
    return add_prefill_stage(l, kind, &s, err);
}

// The turns of a rotary embedding, where there is one whose turns are not computed yet.
static bool add_prefill_rope(Lowering *l, const Stage *of, const Op *rope, Error *err) {
    for (uint32_t i = 0; rope && i < l->n_prefill_stages; i++) {
        const Stage *s = &l->prefill_stages[i];
        if (s->kind == STAGE_PREFILL_ROPE && s->ops[0]->rope.rope == rope->rope.rope) return true;
    }
    return !rope || add_prefill_op(l, STAGE_PREFILL_ROPE, of, rope, err);
}

// What a prompt's rows go through where a token goes through `s`.
static bool add_prefill(Lowering *l, const Stage *s, Error *err) {
    switch (s->kind) {
    case STAGE_QKV:
        return (!s->ops[QKV_EMBED] || add_prefill_stage(l, STAGE_PREFILL_EMBED, s, err)) &&
               add_prefill_rope(l, s, s->ops[QKV_ROPE_Q], err) &&
               add_prefill_op(l, STAGE_PREFILL_NORM, s, s->ops[QKV_NORM], err) &&
               add_prefill_stage(l, STAGE_PREFILL_QKV, s, err);
    case STAGE_HEADS:
        return add_prefill_rope(l, s, s->ops[HEADS_ROPE_Q], err) &&
               add_prefill_stage(l, STAGE_PREFILL_HEADS, s, err);
    case STAGE_ATTENTION: return add_prefill_stage(l, STAGE_PREFILL_ATTENTION, s, err);
    case STAGE_OUTPUT: return add_prefill_stage(l, STAGE_PREFILL_OUTPUT, s, err);
    case STAGE_GLU:
        return add_prefill_op(l, STAGE_PREFILL_NORM, s, s->ops[GLU_NORM], err) &&
               add_prefill_stage(l, STAGE_PREFILL_GLU, s, err);
    case STAGE_DOWN: return add_prefill_stage(l, STAGE_PREFILL_DOWN, s, err);
    case STAGE_POST_NORM: return add_prefill_stage(l, STAGE_PREFILL_POST_NORM, s, err);
    case STAGE_ROUTE:
        return add_prefill_stage(l, STAGE_PREFILL_ROUTE, s, err) &&
               add_prefill_stage(l, STAGE_PREFILL_GROUP, s, err) &&
               add_prefill_stage(l, STAGE_PREFILL_GATHER, s, err);
    case STAGE_EXPERTS_GLU: return add_prefill_stage(l, STAGE_PREFILL_EXPERTS_GLU, s, err);
    case STAGE_EXPERTS_DOWN:
        return add_prefill_op(l, STAGE_PREFILL_EXPERTS_DOWN, s, s->ops[EXPERTS_DOWN], err) &&
               add_prefill_stage(l, STAGE_PREFILL_EXPERTS_SUM, s, err);
    default: return true; // the head takes its rows one by one
    }
}

bool lower_plan(const Plan *plan, const Placement *placement, const LowerTarget *target, uint32_t max_rows,
                Arena *arena, Lowered *out, Error *err) {
    static const StageKind draws[] = {STAGE_GREEDY, STAGE_SAMPLE};
    Lowering l = {.plan = plan, .placement = placement, .target = target, .arena = arena};
    l.max_rows = (uint32_t)align_up(max_rows, LOWER_ROWS_MULTIPLE);
    l.stages = arena_new(arena, Stage, plan->n_ops + COUNT_OF(draws));
    l.prefill_stages = arena_new(arena, Stage, plan->n_ops);
    l.programs = arena_new(arena, JitProgram, JIT_PROGRAMS_MAX);
    if (!l.stages || !l.prefill_stages || !l.programs)
        return error_set(err, ERR_NO_MEMORY, "the stages do not fit their memory");
    l.splits_max =
        (uint32_t)min_u64(max_u64(target->multiprocessors / plan->config.n_kv_heads, 4), SPLITS_MAX);
    *out = (Lowered){.stages = l.stages, .prefill_stages = l.prefill_stages, .programs = l.programs};
    for (uint32_t at = 0; at < plan->n_ops;) {
        Stage stage;
        const Stage *before = l.n_stages ? &l.stages[l.n_stages - 1] : NULL;
        if (!match_any(plan, at, &stage, err) || !check_order(before, &stage, err)) return false;
        out->has_heads |= stage.kind == STAGE_HEADS;
        out->has_post_norm |= stage.kind == STAGE_POST_NORM;
        if (stage.kind == STAGE_HEAD) out->n_layers_stages = l.n_stages;
        if (!add_stage(&l, &stage, err) || !add_prefill(&l, &l.stages[l.n_stages - 1], err)) return false;
        at += stage.n_ops;
    }
    if (l.head_blocks == 0) return error_set(err, ERR_UNSUPPORTED, "the plan has no head");
    for (size_t i = 0; i < COUNT_OF(draws); i++) {
        if (!add_stage(&l, &(Stage){.kind = draws[i]}, err)) return false;
    }
    out->n_stages = l.n_stages;
    out->n_prefill_stages = l.n_prefill_stages;
    out->max_rows = l.max_rows;
    out->n_programs = l.n_programs;
    out->head_blocks = l.head_blocks;
    out->splits_max = l.splits_max;
    out->experts = lower_experts_sizes(&plan->config, target, l.max_rows);
    return true;
}

bool lower_repack_program(Dtype dtype, Arena *arena, JitProgram *out, Error *err) {
    static const char *const files[] = {"prelude.cuh", "layout.h", "args.h", "repack.cuh", NULL};
    StrBuf b = strbuf_begin_in_arena(arena);
    strbuf_printf(&b, "#define STAGE_REPACK 1\n#define FORMAT FORMAT_%s\n", dtype_info(dtype)->name);
    bool truncated = b.truncated;
    *out = (JitProgram){.name = "repack_kernel",
                        .files = files,
                        .defines = strbuf_end_in_arena(&b, arena),
                        .cost = UINT32_MAX}; // the upload waits for it
    return !truncated || error_set(err, ERR_NO_MEMORY, "the kernels' defines do not fit their memory");
}
