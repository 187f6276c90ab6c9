#include "backend/cuda/batch_lower_internal.h"

// ---- matching: runs of operations become blocks ----

static const uint8_t n_inputs[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = n_in,
#include "arch/op.def"
#undef OP
};

static bool op_matches(const Op *op, const StageOp *p) {
    bool will_do = p->is_norm && (op->kind == OP_LAYER_NORM || op->kind == OP_COPY);
    bool ok = (op->kind == p->kind || will_do) && op->out == p->out;
    for (uint32_t i = 0; ok && i < n_inputs[op->kind]; i++)
        ok = op->in[i] == p->in[i];
    return ok;
}

// Fits one pattern to the operations from `first` on. Returns how many it takes when all of it fits, else 0;
// *reached is the first operation that does not fit (set when 0 is returned).
static uint32_t match(const Plan *plan, uint32_t first, const BatchBlock *block, const StagePattern *pattern,
                      BatchStage *out, uint32_t *reached) {
    uint32_t at = first;
    *out = (BatchStage){.block = block, .first_op = first, .is_raw = pattern->is_raw};
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

static bool match_any(const Plan *plan, uint32_t first, BatchStage *out, Error *err) {
    uint32_t furthest = first;
    for (uint32_t i = 0; batch_block_at(i); i++) {
        const BatchBlock *block = batch_block_at(i);
        for (uint32_t k = 0; k < STAGE_PATTERNS_MAX && block->patterns[k].n_ops; k++) {
            uint32_t reached = first;
            if (match(plan, first, block, &block->patterns[k], out, &reached)) return true;
            furthest = (uint32_t)max_u64(furthest, reached);
        }
    }
    if (furthest >= plan->n_ops) return error_set(err, ERR_UNSUPPORTED, "the plan ends within a stage");
    const Op *op = &plan->ops[furthest];
    return error_set(err, ERR_UNSUPPORTED,
                     "operation %u of the plan (%s, layer %u) cannot be run on the GPU yet", furthest,
                     plan_op_name(op->kind), op->layer);
}

static bool match_all(BatchLowering *l, Error *err) {
    for (uint32_t at = 0; at < l->plan->n_ops;) {
        BatchStage *s = &l->blocks[l->n_blocks++];
        if (!match_any(l->plan, at, s, err)) return false;
        at += s->n_ops;
    }
    return (l->n_blocks && l->blocks[l->n_blocks - 1].block->is_head) ||
           error_set(err, ERR_UNSUPPORTED, "the plan does not end with a head");
}

static bool link_all(const BatchLowering *l, Error *err) {
    bool ok = true;
    for (uint32_t i = 0; ok && i < l->n_blocks; i++) {
        BatchStage *s = &l->blocks[i];
        ok = s->block->link(s, i ? s - 1 : NULL, i + 1 < l->n_blocks ? s + 1 : NULL, err);
    }
    return ok;
}

// ---- what the kernels take ----

bool batch_refuse(Error *err, const BatchStage *s) {
    return error_set(err, ERR_UNSUPPORTED, "operation %u of the plan (layer %u) cannot be run on the GPU yet",
                     s->first_op, s->layer);
}

static bool check_op(const Op *op, Error *err) {
    bool is_matrix = op->kind == OP_MATMUL || op->kind == OP_HEAD || op->kind == OP_EMBED ||
                     op->kind == OP_EXPERT_MATMUL || op->kind == OP_HEAD_MATMUL;
    if (is_matrix && !placement_reads_floats(op) && op->weight->n_cols % BLOCK_WEIGHTS)
        return lower_refuse_weight(err, op->weight, "rows are no multiple of 32");
    bool is_norm = op->kind == OP_RMS_NORM || op->kind == OP_LAYER_NORM;
    if (is_norm && !op->weight) return true; // of values: its block checks it
    return !is_norm || op->norm.group == op->weight->n_cols ||
           lower_refuse_weight(err, op->weight, "the norm is of another number of values");
}

static bool check_all(const BatchLowering *l, Error *err) {
    for (uint32_t i = 0; i < l->n_blocks; i++) {
        const BatchStage *s = &l->blocks[i];
        for (uint32_t k = 0; k < STAGE_OPS_MAX; k++) {
            if (s->ops[k] && !check_op(s->ops[k], err)) return false;
        }
        if (!s->block->check(l, s, err)) return false;
    }
    return true;
}

// ---- members for rows that have nothing to say there ----

bool batch_links_none(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)s, (void)before, (void)after, (void)err;
    return true;
}

bool batch_takes_all(const BatchLowering *l, const BatchStage *s, Error *err) {
    (void)l, (void)s, (void)err;
    return true;
}

uint32_t batch_shows_none(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    (void)s, (void)b, (void)out;
    return 0;
}

// ---- programs ----

enum { PROGRAMS_MAX = 2 * JIT_PROGRAMS_MAX };

// The program of a stage: one that is there already, where the kernel and all defines are the same.
static bool find_program(BatchLowering *l, BatchStage *s, Error *err) {
    const BatchType *type = s->type;
    Arena before = *l->arena;
    StrBuf b = strbuf_begin_in_arena(l->arena);
    if (!type->defines_rows) define(&b, "MAX_ROWS", l->size.max_rows);
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
    if (l->n_programs == PROGRAMS_MAX || l->n_programs - l->first_program == JIT_PROGRAMS_MAX / 4) {
        return error_set(err, ERR_UNSUPPORTED, "the model needs more than %d different kernels",
                         JIT_PROGRAMS_MAX / 4);
    }
    l->program_types[l->n_programs] = type;
    l->programs[l->n_programs++] = (JitProgram){.name = type->kernel,
                                                .files = s->is_given ? type->given_files : type->files,
                                                .defines = defines,
                                                .cost = s->is_given ? COST_USUAL : type->cost};
    return true;
}

// ---- the stages of a class ----

static uint64_t weight_bytes_of(const BatchLowering *l, const BatchStage *s) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = batch_op_read(s, i);
        if (op && (op->kind == OP_MATMUL || op->kind == OP_HEAD || op->kind == OP_HEAD_MATMUL))
            bytes += placement_bytes(l->placement, op->weight);
        if (op && op->kind == OP_EXPERT_MATMUL)
            bytes += placement_bytes(l->placement, op->weight) / op->weight->n_matrices * op->n_used;
    }
    return bytes;
}

static uint32_t less_but_0(uint32_t x, uint32_t y) {
    return x && y ? (uint32_t)min_u64(x, y) : x + y;
}

// The way in which rows are cut for a stage: that of stages which want as many rows, or a new one. (Where
// there are too many, the last is of the fewest rows that one wants.)
static uint32_t find_cut(BatchLowered *out, StretchCut wanted) {
    uint32_t i = 0;
    while (i < out->n_cuts && out->cuts[i].rows != wanted.rows)
        i++;
    if (i == out->n_cuts && i < STRETCH_CUTS) out->cuts[out->n_cuts++] = wanted;
    i = (uint32_t)min_u64(i, STRETCH_CUTS - 1);
    StretchCut *cut = &out->cuts[i];
    cut->rows = (uint32_t)min_u64(cut->rows, wanted.rows);
    cut->half_rows = less_but_0(cut->half_rows, wanted.half_rows);
    cut->at_once = (uint32_t)min_u64(cut->at_once, wanted.at_once);
    cut->floats = max_u64(cut->floats, wanted.floats);
    return i;
}

static bool add_stage(BatchLowering *l, BatchStage s, Error *err) {
    if (s.type->is_needed && !s.type->is_needed(l, &s)) return true;
    // Shorter prompts' classes multiply themselves: to take all weights apart first costs more than that.
    bool holds_any = l->size.body == BODY_PROMPT && l->size.max_rows == l->out->classes[0].size.max_rows;
    s.x_is_other = l->x_is_other;
    s.is_given = l->is_given = l->has_library && holds_any && s.type->given_files[0];
    if (s.type->stretches) s.cut = find_cut(l->out, s.type->stretches(l, &s));
    l->stages[l->n_stages] = s;
    return find_program(l, &l->stages[l->n_stages++], err);
}

// Whether the norm of an output is made by the block behind it, which is in the layers, too: prompts' rows go
// through the head of one row.
static bool is_left_to_next(const BatchLowering *l, const BatchStage *block) {
    bool is_post_norm = block->block == &batch_block_post_norm && !block->ops[POST_NORM_LAUREL];
    return l->size.body == BODY_ONE && is_post_norm && batch_takes_post_norm(block + 1, block);
}

// What a block becomes.
static bool add_block(BatchLowering *l, const BatchStage *block, Error *err) {
    if (is_left_to_next(l, block)) {
        l->post = block;
        return true;
    }
    if (block->joins_experts && l->size.body == BODY_ONE) return true;
    const BatchStage *post = l->post;
    if (post) l->post = NULL, l->x_is_other = !l->x_is_other;
    const BatchPart *parts = block->block->parts;
    for (const BatchPart *part = parts; part < parts + BATCH_PARTS_MAX && part->type; part++) {
        const Op *op = block->ops[part->of];
        if (!op || !(part->bodies & l->size.body)) continue;
        BatchStage of = *block;
        of.type = part->type;
        of.post = post;
        for (uint32_t i = STAGE_OPS_OWN_MAX; i < STAGE_OPS_MAX && l->size.body != BODY_ONE; i++)
            of.ops[i] = NULL;
        if (part->alone) {
            of.first_op = (uint32_t)(op - l->plan->ops);
            of.n_ops = 1;
            for (uint32_t i = 0; i < STAGE_OPS_MAX; i++)
                of.ops[i] = i == 0 ? op : NULL;
        }
        uint32_t turns = part->type->turns ? part->type->turns(&of) : 1;
        of.weight_bytes = weight_bytes_of(l, &of) / turns;
        for (of.turn = 0; of.turn < turns; of.turn++) {
            if (!add_stage(l, of, err)) return false;
        }
        post = NULL; // the first stage makes it
    }
    return true;
}

static const BatchType *const draws[] = {&batch_adjust, &batch_greedy, &batch_rank, &batch_sample,
                                         &batch_logprobs};

static bool add_draws(BatchLowering *l, Error *err) {
    const Op *head = &l->plan->ops[l->plan->n_ops - 1];
    bool ok = true;
    for (size_t i = 0; ok && i < COUNT_OF(draws); i++)
        ok = add_stage(l, (BatchStage){.type = draws[i], .head = head}, err);
    return ok;
}

static const BatchSize class_one = {1, BODY_ONE, false};

static bool no_memory(Error *err) {
    return error_set(err, ERR_NO_MEMORY, "the stages do not fit their memory");
}

static bool add_class(BatchLowering *l, BatchSize size, Error *err) {
    BatchClass *c = &l->out->classes[l->out->n_classes++];
    uint64_t room = (uint64_t)l->n_blocks * (BATCH_PARTS_MAX + STREAMS_MAX) + COUNT_OF(draws);
    l->size = size;
    l->stages = arena_new(l->arena, BatchStage, room);
    l->n_stages = 0;
    l->x_is_other = false;
    l->first_program = l->n_programs;
    if (!l->stages) return no_memory(err);
    *c = (BatchClass){
        .size = size, .stages = l->stages, .first_program = l->first_program, .max_logits = size.max_rows};
    for (uint32_t i = 0; i + 1 < l->n_blocks; i++) { // the last one is the head
        if (!add_block(l, &l->blocks[i], err)) return false;
    }
    c->n_layers_stages = l->n_stages;
    if (size.body == BODY_PROMPT) l->size = class_one;
    bool has_head = size.body != BODY_PROMPT || size.is_small;
    if (has_head && (!add_block(l, &l->blocks[l->n_blocks - 1], err) || !add_draws(l, err))) return false;
    c->n_stages = l->n_stages;
    c->n_programs = l->n_programs - l->first_program;
    return true;
}

// Of short prompts' stretches: a place each group of the longest text.
static uint32_t divided_places(const BatchLowering *l, const StretchCut *cut) {
    uint64_t most = DIVIDED_BYTES_MAX / (max_u64(cut->floats, 1) * sizeof(float));
    uint64_t n = div_up(BATCH_SHORT_ROWS, cut->rows) * div_up(l->plan->n_context, ATTENTION_GROUP_KEYS);
    return cut->at_once ? (uint32_t)min_u64(n, most) : 0;
}

// How many stretches a step of prompts has at most, and places of their triples.
static void size_stretches(const BatchLowering *l, uint32_t n_slots, BatchClass *prompts) {
    for (uint32_t i = 0; i < l->out->n_cuts; i++) {
        const StretchCut *cut = &l->out->cuts[i];
        uint64_t rows = prompts->size.max_rows, few = min_u64(cut->half_rows, rows);
        uint64_t halves = few ? div_up(few, cut->rows / 2) : 0;
        uint32_t whole = (uint32_t)max_u64(div_up(rows, cut->rows), halves) + n_slots;
        prompts->max_places[i] = whole + divided_places(l, cut);
        prompts->max_stretches[i] = whole + STRETCH_PARTS * cut->at_once;
    }
}

static bool add_classes(BatchLowering *l, uint32_t n_slots, uint32_t max_rows, Error *err) {
    uint32_t prompt_rows = (uint32_t)align_up(max_rows, BATCH_SHORT_ROWS);
    BatchLowered *out = l->out;
    if (!add_class(l, (BatchSize){prompt_rows, BODY_PROMPT, true}, err)) return false;
    out->n_first_classes = out->n_classes;
    out->n_first_programs = l->n_programs;
    if (!add_class(l, class_one, err)) return false;
    out->rows_max = n_slots > 1 ? BATCH_FEW_ROWS_MAX : 1;
    if (n_slots > 1 && !add_class(l, (BatchSize){BATCH_FEW_ROWS_MAX, BODY_EIGHT, false}, err)) return false;
    if (!add_class(l, (BatchSize){prompt_rows, BODY_PROMPT, false}, err)) return false;
    if (out->classes[out->n_classes - 1].n_programs == 0) out->n_classes--; // it has nothing of its own
    // One job alone has nothing beside its prompts, which are seldom so short.
    uint32_t shortest = n_slots > 1 ? BATCH_SHORTEST_ROWS : BATCH_SHORT_ROWS;
    for (uint32_t rows = BATCH_SHORT_ROWS; rows >= shortest; rows /= 2) {
        if (prompt_rows > rows && !add_class(l, (BatchSize){rows, BODY_PROMPT, false}, err)) return false;
    }
    while (out->rows_max < n_slots && out->rows_max < BATCH_ROWS_MAX) {
        out->rows_max *= 2;
        if (!add_class(l, (BatchSize){out->rows_max, BODY_MANY, false}, err)) return false;
    }
    BatchClass *prompts = &out->classes[BATCH_CLASS_PROMPT];
    prompts->max_logits = out->rows_max;
    size_stretches(l, n_slots, prompts);
    for (uint32_t i = 0; out->conv_cols && i < out->n_classes; i++) {
        BatchClass *c = &out->classes[i];
        c->max_runs = c->size.body == BODY_PROMPT ? n_slots : c->size.max_rows;
    }
    return true;
}

bool batch_lower(const Plan *plan, const Placement *placement, const LowerTarget *target, uint32_t n_slots,
                 uint32_t max_rows, Arena *arena, BatchLowered *out, Error *err) {
    BatchLowerOptions options = {.n_slots = n_slots, .max_rows = max_rows};
    return batch_lower_with(plan, placement, target, &options, arena, out, err);
}

bool batch_lower_with(const Plan *plan, const Placement *placement, const LowerTarget *target,
                      const BatchLowerOptions *options, Arena *arena, BatchLowered *out, Error *err) {
    *out = (BatchLowered){0};
    if (!lower_check_layers(plan, err)) return false;
    BatchLowering l = {.plan = plan,
                       .placement = placement,
                       .target = target,
                       .arena = arena,
                       .has_library = options->has_library,
                       .blocks = arena_new(arena, BatchStage, plan->n_ops),
                       .programs = arena_new(arena, JitProgram, PROGRAMS_MAX),
                       .program_types = arena_new(arena, const BatchType *, PROGRAMS_MAX),
                       .out = out};
    if (!l.blocks || !l.programs || !l.program_types) return no_memory(err);
    if (!match_all(&l, err) || !link_all(&l, err) || !check_all(&l, err)) return false;
    for (uint32_t i = 0; i < l.n_blocks; i++)
        out->has_post_norm |= l.blocks[i].block == &batch_block_post_norm;
    if (!add_classes(&l, options->n_slots, options->max_rows, err)) return false;
    out->programs = l.programs;
    out->n_programs = l.n_programs;
    return true;
}

void batch_lower_cut(BatchLowered *lowered, uint32_t n_slots) {
    while (lowered->classes[lowered->n_classes - 1].size.body == BODY_MANY &&
           lowered->rows_max / 2 >= n_slots) {
        lowered->n_programs = lowered->classes[--lowered->n_classes].first_program;
        lowered->rows_max /= 2;
    }
}

bool batch_repack_program(Dtype dtype, Arena *arena, JitProgram *out, Error *err) {
    static const char *const files[] = {FILES_COMMON, "file_entries.cuh", "tile_repack.cuh", NULL};
    StrBuf b = strbuf_begin_in_arena(arena);
    strbuf_printf(&b, "#define FORMAT FORMAT_%s\n", dtype_info(dtype)->name);
    bool truncated = b.truncated;
    *out = (JitProgram){.name = "tile_repack_kernel",
                        .files = files,
                        .defines = strbuf_end_in_arena(&b, arena),
                        .cost = UINT32_MAX}; // the upload waits for it
    return !truncated || error_set(err, ERR_NO_MEMORY, "the kernels' defines do not fit their memory");
}
