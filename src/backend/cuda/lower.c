#include "backend/cuda/lower.h"

#include "../kernels_src/layout.h"
#include "base/strbuf.h"

// ---- patterns ----

typedef struct {
    OpKind kind;
    Act out;
    Act in[2];
    bool optional;
} PatternOp;

typedef struct {
    StageKind kind;
    uint32_t n_ops;
    PatternOp ops[STAGE_OPS_MAX];
} Pattern;

// clang-format off
static const Pattern patterns[] = {
    {STAGE_QKV, 8, {
        [QKV_EMBED]    = {OP_EMBED,    ACT_X,    {0}, .optional = true},
        [QKV_NORM]     = {OP_RMS_NORM, ACT_H,    {ACT_X}},
        [QKV_Q]        = {OP_MATMUL,   ACT_Q,    {ACT_H}},
        [QKV_K]        = {OP_MATMUL,   ACT_K,    {ACT_H}},
        [QKV_V]        = {OP_MATMUL,   ACT_V,    {ACT_H}},
        [QKV_ROPE_Q]   = {OP_ROPE,     ACT_Q,    {ACT_Q}},
        [QKV_ROPE_K]   = {OP_ROPE,     ACT_K,    {ACT_K}},
        [QKV_KV_WRITE] = {OP_KV_WRITE, ACT_NONE, {ACT_K, ACT_V}}}},
    {STAGE_ATTENTION, 1, {
        [ATTENTION_ATTENTION] = {OP_ATTENTION, ACT_A, {ACT_Q}}}},
    {STAGE_OUTPUT, 2, {
        [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {ACT_A}},
        [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}}}},
    {STAGE_GLU, 4, {
        [GLU_NORM] = {OP_RMS_NORM, ACT_H, {ACT_X}},
        [GLU_GATE] = {OP_MATMUL,   ACT_G, {ACT_H}},
        [GLU_UP]   = {OP_MATMUL,   ACT_U, {ACT_H}},
        [GLU_GLU]  = {OP_GLU,      ACT_F, {ACT_G, ACT_U}}}},
    {STAGE_DOWN, 2, {
        [OUTPUT_MATMUL] = {OP_MATMUL, ACT_T, {ACT_F}},
        [OUTPUT_ADD]    = {OP_ADD,    ACT_X, {ACT_X, ACT_T}}}},
    {STAGE_HEAD, 2, {
        [HEAD_NORM] = {OP_RMS_NORM, ACT_H,    {ACT_X}},
        [HEAD_HEAD] = {OP_HEAD,     ACT_NONE, {ACT_H}}}},
};
// clang-format on

static const uint8_t n_inputs[OP_COUNT] = {
#define OP(name, n_in, meaning) [OP_##name] = n_in,
#include "arch/op.def"
#undef OP
};

static bool op_matches(const Op *op, const PatternOp *p) {
    bool ok = op->kind == p->kind && op->out == p->out;
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

// ---- what the kernels take ----

static bool refuse(Error *err, const Weight *w, const char *why) {
    return error_set(err, ERR_UNSUPPORTED, "tensor \"%.*s\" [%llu, %llu] %s cannot be run on the GPU yet: %s",
                     STR_ARG(w->name), (unsigned long long)w->n_rows, (unsigned long long)w->n_cols,
                     dtype_info(w->dtype)->name, why);
}

static bool check_op(const Op *op, const ModelConfig *c, Error *err) {
    if (!op) return true;
    bool is_matrix = op->kind == OP_MATMUL || op->kind == OP_HEAD || op->kind == OP_EMBED;
    if (is_matrix && op->weight->n_cols % BLOCK_WEIGHTS)
        return refuse(err, op->weight, "rows are no multiple of 32");
    if (op->kind == OP_RMS_NORM && op->norm.group != c->d_model)
        return refuse(err, op->weight, "the norm is not of a row");
    if (op->kind == OP_ATTENTION && op->weight) return refuse(err, op->weight, "attention sinks");
    return true;
}

// NULL for those that the kernels do not have.
static const char *activation_name(ActFn fn) {
    return fn == FN_SILU ? "SILU" : fn == FN_GELU_TANH ? "GELU_TANH" : fn == FN_GELU_ERF ? "GELU_ERF" : NULL;
}

static bool check_stage(const Stage *s, const ModelConfig *c, Error *err) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        if (!check_op(s->ops[i], c, err)) return false;
    }
    if (s->kind == STAGE_QKV && s->ops[QKV_ROPE_Q]->rope.rope != s->ops[QKV_ROPE_K]->rope.rope) {
        return error_set(err, ERR_UNSUPPORTED,
                         "queries and keys with different rotary embeddings cannot be run on the GPU yet");
    }
    if (s->kind == STAGE_ATTENTION && c->head_dim % 32) {
        return error_set(err, ERR_UNSUPPORTED,
                         "heads of %u values cannot be run on the GPU yet: a multiple of 32 is needed",
                         c->head_dim);
    }
    if (s->kind != STAGE_GLU) return true;
    const Op *gate = s->ops[GLU_GATE], *up = s->ops[GLU_UP];
    if (gate->weight->dtype != up->weight->dtype) return refuse(err, up->weight, "gate has another format");
    if (gate->bias || up->bias) return refuse(err, up->weight, "a bias");
    if (!activation_name(s->ops[GLU_GLU]->fn)) return refuse(err, up->weight, "its activation");
    return true;
}

// ---- shapes ----

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

// How the rows of a stage's matrices are spread over the GPU and through shared memory.
typedef struct {
    uint32_t blocks;
    uint32_t warps;
    uint32_t ring_bytes;
} MatvecShape;

enum {
    BLOCK_SHARED_RESERVED = 1024, // the system's, of each block
    RING_SPARE = 1536,            // barriers, sums, what a stage adds
    RING_BYTES_MAX = 96 << 10,    // 64 KB cost 3% on the layers of a 1B model, more does not fit twice
    MATVEC_WARPS = 16,            // 8 cost 13% on the layers of a 0.5B model, 4 cost 35%
    UNITS_PER_WARP_MAX = 32,
    ATTENTION_WARPS = 8, // with splits of at least 8 pages; 4 and 4 cost 15% of attention and its output
    SPLITS_MAX = 32,
};

// Two blocks of consecutive stages share a multiprocessor, so each gets half of its shared memory. A warp's
// ring holds at least two pieces, each `unit_rows` tiles of the largest format.
static MatvecShape matvec_shape(const LowerTarget *t, uint32_t n_cols, uint32_t units, uint32_t unit_rows,
                                const Weight *const *weights, uint32_t n_weights) {
    uint32_t tile_bytes = 0;
    bool has_floats = false;
    for (uint32_t i = 0; i < n_weights; i++) {
        uint32_t blocks = (uint32_t)min_u64(n_cols / BLOCK_WEIGHTS, TILE_BLOCKS);
        tile_bytes = (uint32_t)max_u64(tile_bytes, layout_tile_bytes((int)weights[i]->dtype, blocks));
        has_floats |= FORMAT_IS_FLOAT((int)weights[i]->dtype);
    }
    uint32_t budget =
        (uint32_t)min_u64(t->shared_bytes_block, t->shared_bytes_multiprocessor / 2 - BLOCK_SHARED_RESERVED);
    uint32_t x_bytes = n_cols / BLOCK_WEIGHTS * 40 + (has_floats ? n_cols * 4 : 0);
    uint32_t taken = x_bytes + RING_SPARE;
    MatvecShape shape = {.blocks = t->multiprocessors, .warps = MATVEC_WARPS};
    shape.ring_bytes = (uint32_t)min_u64(budget > taken ? budget - taken : 0, RING_BYTES_MAX) / 1024 * 1024;
    while (shape.warps > 1 && shape.ring_bytes / shape.warps < 2 * unit_rows * tile_bytes + 16)
        shape.warps /= 2;
    uint32_t units_max = shape.warps * UNITS_PER_WARP_MAX;
    shape.blocks *= (uint32_t)max_u64(div_up(units, (uint64_t)shape.blocks * units_max), 1);
    return shape;
}

// ---- programs ----

typedef struct {
    const Plan *plan;
    const Placement *placement;
    const LowerTarget *target;
    Arena *arena;
    Stage *stages;
    uint32_t n_stages;
    JitProgram *programs;
    uint32_t n_programs;
    StageKind program_kinds[JIT_PROGRAMS_MAX];
    uint32_t head_blocks;
    uint32_t splits_max;
} Lowering;

static void define(StrBuf *b, const char *name, uint64_t value) {
    strbuf_printf(b, "#define %s %llu\n", name, (unsigned long long)value);
}

static void define_float(StrBuf *b, const char *name, float value) {
    strbuf_printf(b, "#define %s %af\n", name, (double)value); // hexadecimal: exact
}

static void define_format(StrBuf *b, const char *name, const Weight *w) {
    strbuf_printf(b, "#define %s FORMAT_%s\n", name, dtype_info(w->dtype)->name);
}

static void define_shape(StrBuf *b, const MatvecShape *shape) {
    define(b, "BLOCKS", shape->blocks);
    define(b, "WARPS", shape->warps);
    define(b, "RING_BYTES", shape->ring_bytes);
}

static void define_heads(StrBuf *b, const Lowering *l) {
    define(b, "N_HEADS", l->plan->config.n_heads);
    define(b, "HEAD_DIM", l->plan->config.head_dim);
}

static void define_splits(StrBuf *b, const Lowering *l, const Op *attention) {
    define(b, "SPLITS_MAX", l->splits_max);
    define(b, "SPLIT_PAGES_MIN", LOWER_SPLIT_PAGES_MIN);
    define(b, "WINDOW", attention->attention.window);
}

// The attention that a stage prepares or ends.
static const Op *attention_near(const Lowering *l, const Stage *s) {
    uint32_t i = s->kind == STAGE_OUTPUT ? s->first_op - 1 : s->first_op + s->n_ops;
    const Op *op = i < l->plan->n_ops ? &l->plan->ops[i] : NULL;
    return op && op->kind == OP_ATTENTION ? op : NULL;
}

static void define_qkv(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    const ModelConfig *c = &l->plan->config;
    const Rope *rope = s->ops[QKV_ROPE_Q]->rope.rope;
    const Weight *w[3] = {s->ops[QKV_Q]->weight, s->ops[QKV_K]->weight, s->ops[QKV_V]->weight};
    uint32_t units = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim / 2;
    MatvecShape shape = matvec_shape(l->target, c->d_model, units, 2, w, 3);
    define(b, "STAGE_QKV", 1);
    define(b, "D_MODEL", c->d_model);
    define_heads(b, l);
    define(b, "N_KV_HEADS", c->n_kv_heads);
    define(b, "ROPE_DIMS", rope->dims);
    define(b, "ROPE_HALVES", rope->pairs == ROPE_HALVES);
    define_float(b, "ROPE_SCALE", rope->scale);
    define_float(b, "NORM_EPS", s->ops[QKV_NORM]->norm.eps);
    define_float(b, "SCORE_SCALE", attention->attention.scale);
    define_format(b, "FORMAT_0", w[0]);
    define_format(b, "FORMAT_1", w[1]);
    define_format(b, "FORMAT_2", w[2]);
    if (s->ops[QKV_EMBED]) {
        define(b, "FIRST", 1);
        define_format(b, "EMBED_FORMAT", s->ops[QKV_EMBED]->weight);
        define_float(b, "EMBED_SCALE", s->ops[QKV_EMBED]->embed.scale);
    }
    define_shape(b, &shape);
}

static void define_attention(StrBuf *b, const Lowering *l, const Stage *s) {
    define(b, "STAGE_ATTENTION", 1);
    define_heads(b, l);
    define(b, "N_KV_HEADS", l->plan->config.n_kv_heads);
    define(b, "WARPS", ATTENTION_WARPS);
    define_splits(b, l, s->ops[ATTENTION_ATTENTION]);
}

static void define_output(StrBuf *b, const Lowering *l, const Stage *s, const Op *attention) {
    const Weight *w = s->ops[OUTPUT_MATMUL]->weight;
    MatvecShape shape = matvec_shape(l->target, (uint32_t)w->n_cols, (uint32_t)w->n_rows, 1, &w, 1);
    define(b, "STAGE_OUTPUT", 1);
    if (attention) {
        define(b, "FROM_ATTENTION", 1);
        define_heads(b, l);
        define_splits(b, l, attention);
    }
    define(b, "N_ROWS", w->n_rows);
    define(b, "N_COLS", w->n_cols);
    define_format(b, "FORMAT_0", w);
    define_shape(b, &shape);
}

static void define_glu(StrBuf *b, const Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    const Weight *w = s->ops[GLU_GATE]->weight;
    MatvecShape shape = matvec_shape(l->target, c->d_model, c->d_ff, 2, &w, 1);
    define(b, "STAGE_GLU", 1);
    define(b, "D_MODEL", c->d_model);
    define(b, "D_FF", c->d_ff);
    define_float(b, "NORM_EPS", s->ops[GLU_NORM]->norm.eps);
    strbuf_printf(b, "#define ACTIVATION ACTIVATION_%s\n", activation_name(s->ops[GLU_GLU]->fn));
    define_format(b, "FORMAT_0", w);
    define_shape(b, &shape);
}

static void define_head(StrBuf *b, Lowering *l, const Stage *s) {
    const ModelConfig *c = &l->plan->config;
    const Weight *w = s->ops[HEAD_HEAD]->weight;
    MatvecShape shape = matvec_shape(l->target, c->d_model, 0, 4, &w, 1);
    l->head_blocks = shape.blocks;
    define(b, "STAGE_HEAD", 1);
    define(b, "D_MODEL", c->d_model);
    define(b, "N_VOCAB", c->n_vocab);
    define_float(b, "NORM_EPS", s->ops[HEAD_NORM]->norm.eps);
    define_format(b, "FORMAT_0", w);
    define_shape(b, &shape);
}

static bool define_stage(StrBuf *b, Lowering *l, const Stage *s, Error *err) {
    const Op *attention = attention_near(l, s);
    if ((s->kind == STAGE_QKV || s->kind == STAGE_OUTPUT) && !attention) {
        return error_set(err, ERR_UNSUPPORTED, "layer %u has no attention between its keys and its output",
                         s->layer);
    }
    switch (s->kind) {
    case STAGE_QKV: define_qkv(b, l, s, attention); break;
    case STAGE_ATTENTION: define_attention(b, l, s); break;
    case STAGE_OUTPUT: define_output(b, l, s, attention); break;
    case STAGE_GLU: define_glu(b, l, s); break;
    case STAGE_DOWN: define_output(b, l, s, NULL); break;
    case STAGE_HEAD: define_head(b, l, s); break;
    case STAGE_GREEDY:
    case STAGE_SAMPLE:
        define(b, "N_VOCAB", l->plan->config.n_vocab);
        define(b, "HEAD_BLOCKS", l->head_blocks);
        break;
    case STAGE_KIND_COUNT: break;
    }
    return true;
}

// The program of a stage: one that is there already, where the kernel and all defines are the same.
static bool find_program(Lowering *l, Stage *s, Error *err) {
    Arena before = *l->arena;
    StrBuf b = strbuf_begin_in_arena(l->arena);
    if (!define_stage(&b, l, s, err)) return false;
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
    l->programs[l->n_programs++] =
        (JitProgram){.name = stage_kernel(s->kind), .files = stage_files(s->kind), .defines = defines};
    return true;
}

// ---- all of it ----

static void count_weight_bytes(const Lowering *l, Stage *s) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        bool is_matrix = op && (op->kind == OP_MATMUL || op->kind == OP_HEAD);
        if (is_matrix) s->weight_bytes += placement_bytes(l->placement, op->weight);
    }
}

static bool add_stage(Lowering *l, const Stage *stage, Error *err) {
    Stage *s = &l->stages[l->n_stages++];
    *s = *stage;
    count_weight_bytes(l, s);
    return check_stage(s, &l->plan->config, err) && find_program(l, s, err);
}

bool lower_plan(const Plan *plan, const Placement *placement, const LowerTarget *target, Arena *arena,
                Lowered *out, Error *err) {
    static const StageKind draws[] = {STAGE_GREEDY};
    Lowering l = {.plan = plan, .placement = placement, .target = target, .arena = arena};
    l.stages = arena_new(arena, Stage, plan->n_ops + COUNT_OF(draws));
    l.programs = arena_new(arena, JitProgram, JIT_PROGRAMS_MAX);
    if (!l.stages || !l.programs) return error_set(err, ERR_NO_MEMORY, "the stages do not fit their memory");
    l.splits_max =
        (uint32_t)min_u64(max_u64(target->multiprocessors / plan->config.n_kv_heads, 4), SPLITS_MAX);
    *out = (Lowered){.stages = l.stages, .programs = l.programs};
    for (uint32_t at = 0; at < plan->n_ops;) {
        Stage stage;
        if (!match_any(plan, at, &stage, err)) return false;
        if (stage.kind == STAGE_HEAD) out->n_layers_stages = l.n_stages;
        if (!add_stage(&l, &stage, err)) return false;
        at += stage.n_ops;
    }
    if (l.head_blocks == 0) return error_set(err, ERR_UNSUPPORTED, "the plan has no head");
    for (size_t i = 0; i < COUNT_OF(draws); i++) {
        if (!add_stage(&l, &(Stage){.kind = draws[i]}, err)) return false;
        out->can_sample |= draws[i] == STAGE_SAMPLE;
    }
    out->n_stages = l.n_stages;
    out->n_programs = l.n_programs;
    out->head_blocks = l.head_blocks;
    out->splits_max = l.splits_max;
    return true;
}

bool lower_repack_program(Dtype dtype, Arena *arena, JitProgram *out, Error *err) {
    static const char *const files[] = {"prelude.cuh", "layout.h", "args.h", "repack.cuh", NULL};
    StrBuf b = strbuf_begin_in_arena(arena);
    strbuf_printf(&b, "#define STAGE_REPACK 1\n#define FORMAT FORMAT_%s\n", dtype_info(dtype)->name);
    bool truncated = b.truncated;
    *out = (JitProgram){.name = "repack_kernel", .files = files, .defines = strbuf_end_in_arena(&b, arena)};
    return !truncated || error_set(err, ERR_NO_MEMORY, "the kernels' defines do not fit their memory");
}

// ---- arguments ----

static CUdeviceptr address_of(const StageBuffers *b, const Weight *w) {
    return w ? b->weights + placement_offset(b->placement, w) : 0;
}

static QkvArgs bind_qkv(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    QkvArgs a = {.sequence = sequence,
                 .x = b->x,
                 .embed = s->ops[QKV_EMBED] ? address_of(b, s->ops[QKV_EMBED]->weight) : 0,
                 .norm = address_of(b, s->ops[QKV_NORM]->weight),
                 .inv_freq = b->weights + placement_rope_offset(b->placement, s->ops[QKV_ROPE_Q]->rope.rope),
                 .q = b->q,
                 .kv = b->kv + s->layer * b->kv_layer_bytes};
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = address_of(b, s->ops[QKV_Q + i]->weight);
        a.bias[i] = address_of(b, s->ops[QKV_Q + i]->bias);
    }
    return a;
}

static OutputArgs bind_output(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    const Op *matmul = s->ops[OUTPUT_MATMUL];
    return (OutputArgs){.sequence = sequence,
                        .part = b->part,
                        .part_weight = b->part_weight,
                        .in = b->f,
                        .weight = address_of(b, matmul->weight),
                        .bias = address_of(b, matmul->bias),
                        .x = b->x};
}

void stage_bind(const Stage *s, const StageBuffers *b, CUdeviceptr sequence, CUdeviceptr tokens,
                StageArgs *out) {
    *out = (StageArgs){0};
    switch (s->kind) {
    case STAGE_QKV: out->qkv = bind_qkv(s, b, sequence); break;
    case STAGE_ATTENTION:
        out->attention = (AttentionArgs){.sequence = sequence,
                                         .q = b->q,
                                         .kv = b->kv + s->layer * b->kv_layer_bytes,
                                         .part = b->part,
                                         .part_weight = b->part_weight};
        break;
    case STAGE_OUTPUT:
    case STAGE_DOWN: out->output = bind_output(s, b, sequence); break;
    case STAGE_GLU:
        out->glu = (GluArgs){
            .x = b->x,
            .norm = address_of(b, s->ops[GLU_NORM]->weight),
            .weight = {address_of(b, s->ops[GLU_GATE]->weight), address_of(b, s->ops[GLU_UP]->weight)},
            .out = b->f};
        break;
    case STAGE_HEAD:
        out->head = (HeadArgs){.sequence = sequence,
                               .x = b->x,
                               .norm = address_of(b, s->ops[HEAD_NORM]->weight),
                               .weight = address_of(b, s->ops[HEAD_HEAD]->weight),
                               .bias = address_of(b, s->ops[HEAD_HEAD]->bias),
                               .logits = b->logits,
                               .best = b->best};
        break;
    case STAGE_GREEDY:
    case STAGE_SAMPLE:
        out->sample = (SampleArgs){.sequence = sequence,
                                   .logits = b->logits,
                                   .best = b->best,
                                   .scratch = b->sample_scratch,
                                   .out = tokens};
        break;
    case STAGE_KIND_COUNT: break;
    }
}
