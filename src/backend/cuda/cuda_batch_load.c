// Batches: what lies where in the GPU's memory, kernels and graphs.
#include "backend/cuda/cuda_batch.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_batch_table.h"
#include "backend/cuda/library_products.h"
#include "os/os.h"

static_assert(sizeof(Batch) == 32 && sizeof(BatchRow) == 24 && sizeof(RowStretch) == 32 &&
                  sizeof(RowRun) == 8,
              "as the kernels have them");
static_assert(JOBS_MAX + CHECKPOINTS_MAX <= UINT16_MAX, "BatchRow.keep names them all");

// ---- lowering ----

// Of a class whose products are a library's.
static bool make_given(CudaBackend *b, uint32_t class_index) {
    const BatchClass *c = &b->batches->lowered.classes[class_index];
    CudaClass *class = &b->batches->classes[class_index];
    bool any = false;
    for (uint32_t i = 0; i < c->n_stages; i++)
        any = any || c->stages[i].is_given;
    if (!any) return true;
    class->given = arena_new(b->arena, GivenProduct, c->n_stages);
    for (uint32_t i = 0; class->given && i < c->n_stages; i++)
        class->given[i] = (GivenProduct){.b = b, .stage = &c->stages[i], .buffers = &class->buffers};
    return class->given != NULL;
}

bool cuda_batch_lower(CudaBackend *b, const LowerTarget *target, Error *err) {
    CudaBatches *t = arena_new(b->arena, CudaBatches, 1);
    if (!t) return error_set(err, ERR_NO_MEMORY, "the CUDA backend does not fit its memory");
    BatchLowerOptions options = {.n_slots = b->options.n_slots,
                                 .max_rows = b->options.max_rows,
                                 .has_library = b->options.products != NULL};
    bool ok = placement_make(b->plan, b->arena, &b->placement, err) &&
              batch_lower_with(b->plan, &b->placement, target, &options, b->arena, &t->lowered, err);
    if (!ok) return false;
    uint32_t n_stages = 0;
    for (uint32_t i = 0; i < t->lowered.n_classes; i++)
        n_stages = (uint32_t)max_u64(n_stages, t->lowered.classes[i].n_stages);
    t->kernels = arena_new(b->arena, Kernel, t->lowered.n_programs);
    t->graph_args = arena_new(b->arena, StageArgs, n_stages);
    t->graph_launches = arena_new(b->arena, Launch, n_stages);
    t->graph_stages = arena_new(b->arena, const BatchStage *, n_stages);
    t->n_classes_tried = t->lowered.n_first_classes;
    t->n_loaded = t->lowered.n_first_programs;
    t->prompts = BATCH_CLASS_PROMPT;
    b->batches = t;
    ok = t->kernels && t->graph_args && t->graph_launches && t->graph_stages;
    for (uint32_t i = 0; ok && i < t->lowered.n_classes; i++)
        ok = make_given(b, i);
    return ok || error_set(err, ERR_NO_MEMORY, "the lists of kernels do not fit their memory");
}

// At the lowest priority; what the machine does besides keeps half of its processors all the same.
static uint32_t later_threads(void) {
    return (uint32_t)max_u64(min_u64(os_cpu_count() / 2, 8), 1);
}

bool cuda_batch_start_later(CudaBackend *b, Error *err) {
    CudaBatches *t = b->batches;
    const BatchLowered *l = &t->lowered;
    JitOptions options = {.sm = b->device.sm,
                          .cache = b->options.jit_cache,
                          .compiler = b->options.jit_compiler,
                          .threads = later_threads(),
                          .in_background = true};
    uint32_t n = l->n_programs - l->n_first_programs;
    return n == 0 || jit_start(&options, l->programs + l->n_first_programs, n, b->arena, &t->later, err);
}

// ---- memory ----

// A table for prompts, and one for each group of rows that decode; then the numbers of rows whose logits are
// wanted, each group or row with how many there are.
uint64_t cuda_batch_step_bytes(const CudaBackend *b) {
    const BackendOptions *o = &b->options;
    const BatchLowered *l = &b->batches->lowered;
    uint64_t prompts_bytes = batch_table_bytes(&l->classes[BATCH_CLASS_PROMPT], o->max_rows) + 2 * 16;
    uint64_t group_bytes = sizeof(Batch) + 5 * 16 + sizeof(BatchRow), n_groups = o->n_slots;
    uint64_t tables_bytes = (o->n_slots / BATCH_FEW_ROWS_MAX + 1ull) * l->rows_max *
                            (sizeof(uint32_t) + (l->conv_cols ? sizeof(RowRun) : 0));
    return prompts_bytes + n_groups * group_bytes + tables_bytes +
           2 * (o->n_slots + (uint64_t)o->max_rows) * sizeof(uint32_t);
}

// Values a row of what operations write to an activation, at most; 0 where none does.
static uint64_t widest(const Plan *plan, Act act) {
    uint64_t width = 0;
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        if (plan->ops[i].out == act) width = max_u64(width, plan->ops[i].out_width);
    }
    return width;
}

static bool has_latents(const Plan *plan) {
    bool has = false;
    for (uint32_t i = 0; i < plan->n_caches && !has; i++)
        has = plan->caches[i].is_latent;
    return has;
}

static CUdeviceptr take_activations(DeviceLayout *l, uint64_t rows, uint64_t cols) {
    return device_layout_take(l, rows * align_up(cols, ACTIVATION_COLS) * sizeof(uint16_t));
}

// What classes share, since they do not run at once.
static void lay_out_shared(CudaBackend *b, DeviceLayout *l, BatchBuffers *s) {
    const BatchLowered *lowered = &b->batches->lowered;
    uint64_t rows = lowered->rows_max, n_vocab = b->plan->n_vocab;
    s->slots = device_layout_take(l, b->options.n_slots * sizeof(SlotState));
    s->partial = device_layout_take(l, lowered->partial_bytes);
    s->meetings = device_layout_take(l, lowered->n_meetings * sizeof(uint32_t));
    s->logits = device_layout_take(l, rows * n_vocab * sizeof(float));
    s->best = device_layout_take(l, rows * lowered->head_blocks_max * sizeof(HeadBest));
    s->adjusted = device_layout_take(l, rows * n_vocab * sizeof(float));
    s->adjusted_best = device_layout_take(l, rows * lowered->head_blocks_max * sizeof(HeadBest));
    s->scratch = device_layout_take(l, rows * sizeof(DrawScratch));
    library_lay_out(b, l, s);
}

// Activations are laid out by the number of the class's rows, and the columns past the last one stay zero, so
// classes cannot share them.
static void lay_out_activations(CudaBackend *b, DeviceLayout *l, const BatchClass *c, BatchBuffers *s) {
    uint64_t rows = c->size.max_rows;
    s->h = take_activations(l, rows, b->plan->d_model);
    uint64_t heads = max_u64(widest(b->plan, ACT_Q), widest(b->plan, ACT_AB));
    s->a = take_activations(l, rows, max_u64(heads, widest(b->plan, ACT_QA)));
    s->f = take_activations(l, rows, max_u64(widest(b->plan, ACT_F), widest(b->plan, ACT_PG)));
    s->y = take_activations(l, rows, b->batches->lowered.state_cols);
    uint64_t latent = max_u64(widest(b->plan, ACT_EI), widest(b->plan, ACT_LR));
    if (latent > 0) s->latent = take_activations(l, rows, latent);
}

// A class's own.
static void lay_out_class(CudaBackend *b, DeviceLayout *l, const BatchClass *c, BatchBuffers *s) {
    const Plan *plan = b->plan;
    const BatchLowered *lowered = &b->batches->lowered;
    uint64_t rows = c->size.max_rows, q_values = widest(plan, ACT_Q);
    CUdeviceptr table = device_layout_take(l, batch_table_bytes(c, c->size.max_rows));
    s->max_rows = c->size.max_rows;
    s->batch = table;
    s->logits_rows = table + sizeof(Batch);
    for (uint32_t i = 0; i < STRETCH_CUTS; i++)
        s->stretches[i] = table + batch_stretches_at(c, i);
    s->runs = table + batch_runs_at(c);
    s->rows = table + batch_rows_at(c);
    lay_out_activations(b, l, c, s);
    s->x = s->x_other = device_layout_take(l, rows * plan->d_model * sizeof(float));
    if (lowered->has_post_norm && c->size.body == BODY_ONE)
        s->x_other = device_layout_take(l, plan->d_model * sizeof(float));
    s->xs = device_layout_take(l, rows * widest(plan, ACT_XS) * sizeof(float));
    s->xp = device_layout_take(l, rows * widest(plan, ACT_XP) * sizeof(float));
    for (uint64_t i = 0; i < widest(plan, ACT_XR) / plan->d_model; i++)
        s->rest[i] = take_activations(l, rows, plan->d_model);
    // Triples of stretches lie in the same place as products, or, where gates are among these, as `mixed`.
    uint64_t triples = 0;
    for (uint32_t i = 0; i < lowered->n_cuts; i++)
        triples = max_u64(triples, c->max_places[i] * lowered->cuts[i].floats);
    uint64_t raw = rows * lowered->raw_cols, mixed = rows * lowered->conv_cols;
    // Of a compressed cache: all of its products, then what attention gives.
    uint64_t latents = widest(plan, ACT_QB) + widest(plan, ACT_QA) + widest(plan, ACT_K);
    if (has_latents(plan)) raw = rows * max_u64(latents, widest(plan, ACT_A));
    s->raw = device_layout_take(l, max_u64(raw, lowered->has_gates ? 0 : triples) * sizeof(float));
    s->mixed = device_layout_take(l, max_u64(mixed, lowered->has_gates ? triples : 0) * sizeof(float));
    s->factors = device_layout_take(l, rows * lowered->state_heads * 4 * sizeof(float));
    if (c->size.body == BODY_PROMPT || has_latents(plan))
        s->q = device_layout_take(l, rows * q_values * sizeof(uint16_t));
    s->layer_inputs = device_layout_take(l, rows * widest(plan, ACT_PL) * sizeof(float));
    if (lowered->has_post_norm) s->t = device_layout_take(l, rows * plan->d_model * sizeof(float));
    s->m = device_layout_take(l, rows * lowered->sum_cols * sizeof(float));
    for (uint32_t i = 0; i < b->placement.n_ropes; i++)
        s->rope[i] = device_layout_take(l, rows * b->placement.ropes[i]->dims * sizeof(float));
}

static void lay_out_experts(DeviceLayout *l, const BatchClass *c, BatchBuffers *s) {
    const BatchExperts *e = &c->experts;
    uint64_t rows = c->size.max_rows, choices = rows * e->n_used;
    if (e->n_experts == 0) return;
    s->route = device_layout_take(l, rows * e->n_experts * sizeof(float));
    s->share = device_layout_take(l, rows * sizeof(float));
    s->slots_f = device_layout_take(l, e->between * sizeof(uint16_t));
    s->slots_out = device_layout_take(l, e->outputs * sizeof(float));
    s->slots_h = s->latent ? s->latent : s->h;
    if (c->size.body & BODY_FEW) {
        s->arrivals = device_layout_take(l, e->n_arrivals * sizeof(uint32_t));
        return;
    }
    s->choice = device_layout_take(l, choices * sizeof(ExpertRowChoice));
    s->slot = device_layout_take(l, choices * sizeof(uint32_t));
    s->tiles = device_layout_take(l, e->n_tiles * sizeof(ExpertTile));
    s->n_tiles = device_layout_take(l, sizeof(uint32_t));
    s->slots_h = device_layout_take(l, e->inputs * sizeof(uint16_t));
    s->weights_h = device_layout_take(l, e->n_weighed * sizeof(float));
}

void cuda_batch_lay_out(CudaBackend *b, DeviceLayout *l) {
    CudaBatches *t = b->batches;
    BatchBuffers shared = {.placement = &b->placement,
                           .weights = b->weights,
                           .kv = b->kv,
                           .kv_place_bytes = b->kv_place_bytes,
                           .caches = b->plan->caches,
                           .pages_max = b->pages_max,
                           .states = b->states,
                           .slot_floats = b->slot_floats};
    lay_out_shared(b, l, &shared);
    for (uint32_t i = 0; i < t->lowered.n_classes; i++) {
        const BatchClass *c = &t->lowered.classes[i];
        t->classes[i].buffers = shared;
        if (i != BATCH_CLASS_PROMPT && c->size.body == BODY_PROMPT) {
            t->classes[i].buffers = t->classes[BATCH_CLASS_PROMPT].buffers;
            if (c->size.max_rows == t->lowered.classes[BATCH_CLASS_PROMPT].size.max_rows) continue;
            lay_out_activations(b, l, c, &t->classes[i].buffers);
        } else {
            lay_out_class(b, l, c, &t->classes[i].buffers);
        }
        lay_out_experts(l, c, &t->classes[i].buffers);
    }
    const BatchBuffers *prompts = &t->classes[BATCH_CLASS_PROMPT].buffers;
    for (uint32_t i = 0; i < t->lowered.n_classes; i++) {
        BatchBuffers *behind = &t->classes[i].behind_prompts;
        *behind = t->classes[i].buffers;
        behind->batch = prompts->batch;
        behind->logits_rows = prompts->logits_rows;
        behind->rows = prompts->rows;
        behind->x = behind->x_other = prompts->x;
    }
}

// ---- kernels and graphs ----

static bool load_kernel(CudaBackend *b, uint32_t program, const JitImage *image, CUstream stream,
                        Error *err) {
    CudaBatches *t = b->batches;
    const char *name = t->lowered.programs[program].name;
    return kernel_load(&b->cuda, &b->device, name, image, stream, &t->kernels[program], err);
}

static bool make_graph(CudaBackend *b, uint32_t class_index, BatchSpread spread, uint32_t tail, Error *err) {
    CudaBatches *t = b->batches;
    uint32_t n =
        cuda_batch_launches(b, class_index, spread, tail, t->graph_args, t->graph_launches, t->graph_stages);
    CUgraphExec *graph = &t->classes[class_index].graphs[spread][tail];
    return graph_make(&b->cuda, t->graph_launches, n, b->overlap, b->stream, graph, err);
}

// Where attention of the longest window has both ways, that.
static const BatchStage *find_two_ways(const CudaBatches *t, const BatchClass *c) {
    const BatchStage *found = NULL;
    uint32_t longest = 0;
    for (uint32_t i = 0; i < c->n_stages; i++) {
        const BatchStage *s = &c->stages[i];
        if (!t->kernels[s->program].info.blocks_alone) continue;
        uint32_t window = s->attention->attention.window ? s->attention->attention.window : UINT32_MAX;
        if (window > longest) found = s, longest = window;
    }
    return found;
}

static bool folds_groups(const BatchClass *c) {
    bool found = false;
    for (uint32_t i = 0; i < c->n_stages; i++)
        found = found || c->stages[i].type->folds_groups;
    return found;
}

// A class has graphs of the tails from the first on, so many.
static uint32_t first_tail_of(const BatchClass *c) {
    return c->size.body == BODY_PROMPT ? TAIL_COUNT : 0;
}
static uint32_t n_tails_of(const BatchClass *c) {
    return c->size.body == BODY_PROMPT ? 1 : TAIL_COUNT;
}
static uint32_t n_graphs_of(const CudaBatches *t, uint32_t class_index) {
    if (t->classes[class_index].given) return 0;
    const BatchClass *c = &t->lowered.classes[class_index];
    bool divides = t->classes[class_index].folds_groups;
    for (uint32_t i = 0; c->size.body == BODY_PROMPT && i < t->lowered.n_cuts; i++)
        divides |= t->lowered.cuts[i].at_once > 0;
    return (t->classes[class_index].two_ways ? SPREAD_COUNT
            : divides                        ? SPREAD_DIVIDED + 1
                                             : 1) *
           n_tails_of(c);
}

// One of them, in their order; the class's kernels are there.
static bool make_graph_number(CudaBackend *b, uint32_t class_index, uint32_t number, Error *err) {
    CudaBatches *t = b->batches;
    const BatchClass *c = &t->lowered.classes[class_index];
    CudaClass *class = &t->classes[class_index];
    if (number == 0) class->folds_groups = folds_groups(c);
    if (number == 0 && !class->folds_groups) class->two_ways = find_two_ways(t, c);
    uint32_t n = n_tails_of(c);
    return make_graph(b, class_index, (BatchSpread)(number / n), first_tail_of(c) + number % n, err);
}

bool cuda_batch_load_first(CudaBackend *b, Jit *jit, uint32_t first, Error *err) {
    CudaBatches *t = b->batches;
    for (uint32_t i = 0; i < t->lowered.n_first_programs; i++) {
        JitImage image;
        if (!jit_wait(jit, first + i, &image, err) || !load_kernel(b, i, &image, b->stream, err))
            return false;
    }
    for (uint32_t i = 0; i < t->lowered.n_first_classes; i++) {
        for (uint32_t number = 0; number < n_graphs_of(t, i); number++)
            if (!make_graph_number(b, i, number, err)) return false;
        t->classes[i].is_ready = true;
    }
    return true;
}

// The class under way is there, or will not be.
static void end_class(CudaBatches *t, bool is_ready) {
    const BatchClass *c = &t->lowered.classes[t->n_classes_tried];
    t->classes[t->n_classes_tried].is_ready = is_ready;
    bool holds_any = c->size.max_rows == t->lowered.classes[BATCH_CLASS_PROMPT].size.max_rows;
    if (is_ready && c->size.body == BODY_PROMPT && holds_any) t->prompts = t->n_classes_tried;
    t->n_loaded = c->first_program + c->n_programs;
    t->n_graphs = 0;
    if (++t->n_classes_tried < t->lowered.n_classes) return;
    jit_end(t->later);
    t->later = NULL;
}

// Whether kernels of the class under way are still to be loaded.
static bool lacks_kernels(const CudaBatches *t) {
    const BatchClass *c = &t->lowered.classes[t->n_classes_tried];
    return t->n_loaded < c->first_program + c->n_programs;
}

// The next of them, when it has been compiled.
static bool wait_for_program(const CudaBatches *t, JitImage *image, Error *err) {
    return jit_wait(t->later, t->n_loaded - t->lowered.n_first_programs, image, err);
}

// Whether load_more would have to wait for the compiler.
static bool waits_for_program(const CudaBatches *t) {
    return lacks_kernels(t) && !jit_is_done(t->later, t->n_loaded - t->lowered.n_first_programs);
}

// One of its kernels, or one of its graphs.
static bool load_more(CudaBackend *b, Error *err) {
    CudaBatches *t = b->batches;
    JitImage image;
    if (!lacks_kernels(t)) return make_graph_number(b, t->n_classes_tried, t->n_graphs++, err);
    return wait_for_program(t, &image, err) && load_kernel(b, t->n_loaded++, &image, b->copy_stream, err);
}

void cuda_batch_look_for_more(CudaBackend *b) {
    CudaBatches *t = b->batches;
    Error err = {0};
    if (!t->later || waits_for_program(t)) return;
    if (!load_more(b, &err)) {
        if (b->options.warn) b->options.warn(b->options.warn_context, err.message);
        end_class(t, false);
    } else if (!lacks_kernels(t) && t->n_graphs == n_graphs_of(t, t->n_classes_tried)) {
        end_class(t, true);
    }
}

void cuda_batch_loaded(CudaBackend *b) {
    CudaBatches *t = b->batches;
    if (!t->later) return;
    jit_go(t->later);
    // What was in the cache is there at once. Larger classes are loaded between steps all the same.
    while (t->later && t->lowered.classes[t->n_classes_tried].size.body != BODY_MANY && !waits_for_program(t))
        cuda_batch_look_for_more(b);
}

void cuda_batch_wait_for_class(CudaBackend *b, uint32_t class_index) {
    CudaBatches *t = b->batches;
    while (t->later && t->n_classes_tried <= class_index) {
        JitImage image;
        Error ignored; // which the look finds again
        if (lacks_kernels(t)) (void)!wait_for_program(t, &image, &ignored);
        cuda_batch_look_for_more(b);
    }
}

void cuda_backend_wait_for_classes(Backend *backend) {
    CudaBackend *b = cuda_self(backend);
    if (b->batches) cuda_batch_wait_for_class(b, BATCH_CLASSES_MAX);
}

void cuda_batch_unload(CudaBackend *b) {
    CudaBatches *t = b->batches;
    library_unload(b);
    for (uint32_t i = 0; i < BATCH_CLASSES_MAX; i++) {
        for (uint32_t k = 0; k < SPREAD_COUNT * (TAIL_COUNT + 1); k++) {
            CUgraphExec graph = t->classes[i].graphs[k / (TAIL_COUNT + 1)][k % (TAIL_COUNT + 1)];
            if (graph) b->cuda.graph_exec_destroy(graph);
        }
    }
    for (uint32_t i = 0; i < t->lowered.n_programs; i++)
        kernel_unload(&b->cuda, &t->kernels[i]);
}
