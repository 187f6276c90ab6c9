#include "backend/cuda/lower_internal.h"

// ---- matching: runs of operations become stages ----

static const uint8_t n_inputs[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = n_in,
#include "arch/op.def"
#undef OP
};

static bool op_matches(const Op *op, const StageOp *p) {
    bool ok = (op->kind == p->kind || (p->is_norm && op->kind == OP_LAYER_NORM)) && op->out == p->out;
    for (uint32_t i = 0; ok && i < n_inputs[op->kind]; i++)
        ok = op->in[i] == p->in[i];
    return ok;
}

// Fits one pattern to the operations from `first` on. Returns how many it takes when all of it fits, else 0;
// *reached is the first operation that does not fit (set when 0 is returned).
static uint32_t match(const Plan *plan, uint32_t first, const StageType *type, const StagePattern *pattern,
                      Stage *out, uint32_t *reached) {
    uint32_t at = first;
    *out = (Stage){.type = type, .first_op = first, .is_raw = pattern->is_raw};
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
    for (uint32_t i = 0; stage_type_at(i); i++) {
        const StageType *type = stage_type_at(i);
        for (uint32_t k = 0; k < STAGE_PATTERNS_MAX && type->patterns[k].n_ops; k++) {
            uint32_t reached = first;
            if (match(plan, first, type, &type->patterns[k], out, &reached)) return true;
            furthest = (uint32_t)max_u64(furthest, reached);
        }
    }
    if (furthest >= plan->n_ops) return error_set(err, ERR_UNSUPPORTED, "the plan ends within a stage");
    const Op *op = &plan->ops[furthest];
    return error_set(err, ERR_UNSUPPORTED,
                     "operation %u of the plan (%s, layer %u) cannot be run on the GPU yet", furthest,
                     plan_op_name(op->kind), op->layer);
}

static void count_weight_bytes(const Lowering *l, Stage *s) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        if (!op) continue;
        uint64_t bytes = op->weight ? placement_bytes(l->placement, op->weight) : 0;
        if (op->kind == OP_MATMUL || op->kind == OP_HEAD) s->weight_bytes += bytes;
        if (op->kind == OP_EXPERT_MATMUL) s->weight_bytes += bytes / op->weight->n_matrices * op->n_used;
    }
}

static const StageType *const draws[] = {&stage_adjust, &stage_greedy, &stage_sample, &stage_logprobs};
enum { DRAWS_COUNT = COUNT_OF(draws) };

// The stages of the plan, and those behind its head.
static bool match_all(Lowering *l, Error *err) {
    bool has_head = false;
    for (uint32_t at = 0; at < l->plan->n_ops;) {
        Stage *s = &l->stages[l->n_stages++];
        if (!match_any(l->plan, at, s, err)) return false;
        count_weight_bytes(l, s);
        has_head = s->type == &stage_head;
        at += s->n_ops;
    }
    if (!has_head) return error_set(err, ERR_UNSUPPORTED, "the plan does not end with a head");
    for (size_t i = 0; i < DRAWS_COUNT; i++)
        l->stages[l->n_stages++] = (Stage){.type = draws[i]};
    return true;
}

static bool link_all(const Lowering *l, Error *err) {
    bool ok = true;
    for (uint32_t i = 0; ok && i < l->n_stages; i++) {
        Stage *s = &l->stages[i];
        ok = s->type->link(l, s, i ? s - 1 : NULL, i + 1 < l->n_stages ? s + 1 : NULL, err);
    }
    return ok;
}

// ---- what the kernels take ----

bool lower_refuse_weight(Error *err, const Weight *w, const char *why) {
    return error_set(err, ERR_UNSUPPORTED, "tensor \"%.*s\" [%llu, %llu] %s cannot be run on the GPU yet: %s",
                     STR_ARG(w->name), (unsigned long long)w->n_rows, (unsigned long long)w->n_cols,
                     dtype_info(w->dtype)->name, why);
}

bool lower_refuse_stage(Error *err, const Stage *s) {
    return error_set(err, ERR_UNSUPPORTED, "operation %u of the plan (layer %u) cannot be run on the GPU yet",
                     s->first_op, s->layer);
}

static bool check_op(const Lowering *l, const Stage *s, const Op *op, Error *err) {
    bool is_matrix =
        op->kind == OP_MATMUL || op->kind == OP_HEAD || op->kind == OP_EMBED || op->kind == OP_EXPERT_MATMUL;
    if (is_matrix && op->weight->n_cols % BLOCK_WEIGHTS)
        return lower_refuse_weight(err, op->weight, "rows are no multiple of 32");
    bool is_norm = op->kind == OP_RMS_NORM || op->kind == OP_LAYER_NORM;
    if (is_norm && op->norm.group != op->weight->n_cols)
        return lower_refuse_weight(err, op->weight, "the norm is of another number of values");
    uint32_t rows = s->type->matvec.unit_rows_least;
    bool is_product = rows && (op->kind == OP_MATMUL || op->kind == OP_HEAD);
    return !is_product || matvec_fits(l->target, op->weight, rows) ||
           lower_refuse_weight(err, op->weight, "its rows are too long for this GPU's shared memory");
}

static bool check_stage(const Lowering *l, const Stage *s, Error *err) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        if (s->ops[i] && !check_op(l, s, s->ops[i], err)) return false;
    }
    return s->type->check(l, s, err);
}

// ---- members for stages that have nothing to say there ----

bool stage_links_none(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err) {
    (void)l, (void)s, (void)before, (void)after, (void)err;
    return true;
}

bool stage_takes_all(const Lowering *l, const Stage *s, Error *err) {
    (void)l, (void)s, (void)err;
    return true;
}

bool stage_always(const Lowering *l, const Stage *s) {
    (void)l, (void)s;
    return true;
}

uint32_t stage_shows_none(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    (void)s, (void)b, (void)out;
    return 0;
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

// The program of a stage: one that is there already, where the kernel and all defines are the same.
static bool find_program(Lowering *l, Stage *s, Error *err) {
    const StageType *type = s->type;
    Arena before = *l->arena;
    StrBuf b = strbuf_begin_in_arena(l->arena);
    type->define(&b, l, s);
    bool truncated = b.truncated;
    Str defines = strbuf_end_in_arena(&b, l->arena);
    if (truncated) return error_set(err, ERR_NO_MEMORY, "the kernels' defines do not fit their memory");
    for (s->program = 0; s->program < l->n_programs; s->program++) {
        const JitProgram *p = &l->programs[s->program];
        if (l->program_types[s->program] == type && str_eq(p->defines, defines)) {
            *l->arena = before;
            return true;
        }
    }
    if (l->n_programs == JIT_PROGRAMS_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "the model needs more than %d different kernels",
                         JIT_PROGRAMS_MAX);
    }
    l->program_types[l->n_programs] = type;
    l->programs[l->n_programs++] =
        (JitProgram){.name = type->kernel, .files = type->files, .defines = defines, .cost = type->cost};
    return true;
}

// ---- prompts ----

// What a prompt's rows go through where a token goes through `s`.
static bool add_prefill(Lowering *l, const Stage *s, Error *err) {
    for (const StagePart *part = s->type->prompt; part < s->type->prompt + STAGE_PARTS_MAX && part->type;
         part++) {
        const Op *op = s->ops[part->of];
        if (!op) continue;
        Stage of = *s;
        if (part->alone) {
            of.first_op = (uint32_t)(op - l->plan->ops);
            of.n_ops = 1;
            of.weight_bytes = 0;
            for (uint32_t i = 0; i < STAGE_OPS_MAX; i++)
                of.ops[i] = i == 0 ? op : NULL;
        }
        of.type = part->type;
        if (!of.type->is_needed(l, &of)) continue;
        Stage *added = &l->prefill_stages[l->n_prefill_stages++];
        *added = of;
        if (!find_program(l, added, err)) return false;
    }
    return true;
}

// ---- all of it ----

static bool no_memory(Error *err) {
    return error_set(err, ERR_NO_MEMORY, "the stages do not fit their memory");
}

// The stages of a token, which have at least one operation each but for those that draw, and then room for
// those of a prompt's rows.
static bool find_stages(Lowering *l, Error *err) {
    l->stages = arena_new(l->arena, Stage, l->plan->n_ops + DRAWS_COUNT);
    l->programs = arena_new(l->arena, JitProgram, JIT_PROGRAMS_MAX);
    if (!l->stages || !l->programs) return no_memory(err);
    if (!match_all(l, err) || !link_all(l, err)) return false;
    l->prefill_stages = arena_new(l->arena, Stage, (uint64_t)l->n_stages * STAGE_PARTS_MAX);
    return l->prefill_stages || no_memory(err);
}

// What the buffers depend on.
static void measure(const Lowering *l, Lowered *out) {
    for (uint32_t i = 0; i < l->n_stages; i++) {
        const Stage *s = &l->stages[i];
        out->has_heads |= s->type == &stage_heads;
        out->has_post_norm |= s->type == &stage_post_norm;
        out->splits_max = (uint32_t)max_u64(out->splits_max, s->splits_max);
        if (s->type == &stage_head) {
            out->n_layers_stages = i;
            out->head_blocks = head_blocks(l->target, s);
        }
        if (s->type != &stage_route) continue;
        LowerExperts sizes = experts_sizes(l->target, s, l->max_rows);
        out->experts.slots = (uint32_t)max_u64(out->experts.slots, sizes.slots);
        out->experts.tiles = (uint32_t)max_u64(out->experts.tiles, sizes.tiles);
    }
}

bool lower_plan(const Plan *plan, const Placement *placement, const LowerTarget *target, uint32_t max_rows,
                Arena *arena, Lowered *out, Error *err) {
    if (!lower_check_layers(plan, err)) return false;
    Lowering l = {.plan = plan, .placement = placement, .target = target, .arena = arena};
    l.max_rows = (uint32_t)align_up(max_rows, LOWER_ROWS_MULTIPLE);
    if (!find_stages(&l, err)) return false;
    for (uint32_t i = 0; i < l.n_stages; i++) {
        Stage *s = &l.stages[i];
        if (!check_stage(&l, s, err) || !find_program(&l, s, err) || !add_prefill(&l, s, err)) return false;
    }
    *out = (Lowered){.stages = l.stages,
                     .n_stages = l.n_stages,
                     .prefill_stages = l.prefill_stages,
                     .n_prefill_stages = l.n_prefill_stages,
                     .max_rows = l.max_rows,
                     .programs = l.programs,
                     .n_programs = l.n_programs};
    measure(&l, out);
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
