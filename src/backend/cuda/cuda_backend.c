#include "backend/cuda/cuda_internal.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/upload.h"
#include "os/os.h"

#include <stdio.h>

enum {
    RESERVE_BYTES = 256 << 20, // left free for the driver: modules, graphs, the stack of kernels
    KV_PAGES_MIN = 16,
    LAUNCHES_MAX = 8 * LAYERS_MAX,
};

// ---- opening ----

static void cuda_close_backend(Backend *b);
static bool cuda_load(Backend *b, const Plan *plan, BackendProgressFn *progress, void *context, Error *err);
static bool cuda_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err);
static bool cuda_step(Backend *b, const Step *step, Error *err);
static bool cuda_read(Backend *b, StepResult *out, Error *err);

bool cuda_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err) {
    CudaBackend *b = arena_new(arena, CudaBackend, 1);
    if (!b) return error_set(err, ERR_NO_MEMORY, "the CUDA backend does not fit its memory");
    b->options = *options;
    b->arena = arena;
    if (!cuda_open(&b->cuda, err)) return false;
    if (!cuda_device_pick(&b->cuda, options->gpu_device, &b->device, err)) {
        cuda_close(&b->cuda);
        return false;
    }
    b->is_open = true;
    b->overlap = b->device.sm >= 90;
    jit_version(b->runtime_version);
    b->api = (Backend){.load = cuda_load,
                       .begin = cuda_begin,
                       .step = cuda_step,
                       .read = cuda_read,
                       .check_residency = cuda_backend_check_residency,
                       .close = cuda_close_backend,
                       .info = {.kind = "cuda",
                                .device_name = b->device.name,
                                .sm = b->device.sm,
                                .runtime_version = b->runtime_version,
                                .driver_version = b->cuda.driver_text,
                                .vram_bytes_total = b->device.memory_bytes,
                                .max_rows = options->max_rows,
                                .max_draws = 1,
                                .pipeline_depth = PIPELINE_DEPTH}};
    *out = &b->api;
    return true;
}

// ---- loading: what is where ----

static uint64_t kv_page_layer_bytes(const ModelConfig *c) {
    return (uint64_t)KV_PAGE_HALVES(c->n_kv_heads, c->head_dim) * sizeof(uint16_t);
}

// Of all slots' rings.
static uint64_t tokens_bytes(const CudaBackend *b) {
    return (uint64_t)b->options.n_slots * TOKEN_RING * sizeof(int32_t);
}

static uint64_t logprobs_bytes(const CudaBackend *b) {
    return (uint64_t)b->options.n_slots * TOKEN_RING * sizeof(SampleLogprobs);
}

// The buffers of a prompt's rows.
static void lay_out_rows(CudaBackend *b, DeviceLayout *l) {
    const ModelConfig *c = &b->plan->config;
    StageBuffers *s = &b->buffers;
    uint64_t rows = b->lowered.max_rows, q_values = (uint64_t)c->n_heads * c->head_dim;
    s->chunk = device_layout_take(l, sizeof(PrefillChunk));
    b->chunk_tokens = device_layout_take(l, rows * sizeof(int32_t));
    s->rows_x = device_layout_take(l, rows * c->d_model * sizeof(float));
    s->rows_h = device_layout_take(l, PREFILL_HALVES(rows, c->d_model) * sizeof(uint16_t));
    s->rows_q = device_layout_take(l, rows * q_values * sizeof(uint16_t));
    uint64_t raw_values = q_values + 2 * (uint64_t)c->n_kv_heads * c->head_dim;
    if (b->lowered.has_heads) s->rows_raw = device_layout_take(l, rows * raw_values * sizeof(float));
    if (b->lowered.has_post_norm) s->rows_t = device_layout_take(l, rows * c->d_model * sizeof(float));
    s->rows_a = device_layout_take(l, PREFILL_HALVES(rows, q_values) * sizeof(uint16_t));
    s->rows_f = device_layout_take(l, PREFILL_HALVES(rows, c->n_experts ? 0 : c->d_ff) * sizeof(uint16_t));
    for (uint32_t i = 0; i < b->placement.n_ropes; i++) {
        s->rows_rope[i] = device_layout_take(l, rows * b->placement.ropes[i]->dims * sizeof(float));
    }
}

// What a mixture of experts has besides.
static void lay_out_experts(CudaBackend *b, DeviceLayout *l) {
    const ModelConfig *c = &b->plan->config;
    const LowerExperts *e = &b->lowered.experts;
    StageBuffers *s = &b->buffers;
    uint64_t rows = b->lowered.max_rows, choices = rows * c->n_experts_used;
    if (e->slots == 0) return;
    s->route = device_layout_take(l, c->n_experts * sizeof(float));
    s->rows_choice = device_layout_take(l, choices * sizeof(ExpertRowChoice));
    s->rows_slot = device_layout_take(l, choices * sizeof(uint32_t));
    s->rows_factor = device_layout_take(l, rows * sizeof(float));
    s->tiles = device_layout_take(l, e->tiles * sizeof(ExpertTile));
    s->slots_h = device_layout_take(l, PREFILL_HALVES(e->slots, c->d_model) * sizeof(uint16_t));
    s->slots_f = device_layout_take(l, PREFILL_HALVES(e->slots, c->d_ff_expert) * sizeof(uint16_t));
    s->slots_out = device_layout_take(l, (uint64_t)e->slots * c->d_model * sizeof(float));
}

// What the stages behind the head have. A slot's counts are 2 bytes a token of the vocabulary: 0.3 MB for
// 152,000.
static void lay_out_draws(CudaBackend *b, DeviceLayout *l) {
    uint64_t n_vocab = b->plan->config.n_vocab;
    StageBuffers *s = &b->buffers;
    s->logits = device_layout_take(l, n_vocab * sizeof(float));
    s->best = device_layout_take(l, b->lowered.head_blocks * sizeof(HeadBest));
    s->sample_scratch = device_layout_take(l, sizeof(SampleScratch));
    s->adjusted = device_layout_take(l, n_vocab * sizeof(float));
    s->adjusted_best = device_layout_take(l, b->lowered.head_blocks * sizeof(HeadBest));
    s->logprobs_scratch = device_layout_take(l, sizeof(LogprobsScratch));
    CUdeviceptr logprobs = device_layout_take(l, logprobs_bytes(b));
    for (uint32_t i = 0; i < b->options.n_slots; i++) {
        Slot *slot = &b->slots[i];
        slot->logprobs = logprobs + i * TOKEN_RING * sizeof(SampleLogprobs);
        slot->rules = device_layout_take(l, sizeof(SampleRules));
        slot->counts = device_layout_take(l, n_vocab * sizeof(uint16_t));
    }
}

// Lays the working memory out; with base 0 to learn its size. Returns that.
static uint64_t lay_out_work(CudaBackend *b, CUdeviceptr base) {
    const ModelConfig *c = &b->plan->config;
    StageBuffers *s = &b->buffers;
    DeviceLayout l = {.base = base};
    uint64_t q_values = (uint64_t)c->n_heads * c->head_dim;
    s->x = device_layout_take(&l, c->d_model * sizeof(float));
    s->q = device_layout_take(&l, q_values * sizeof(uint16_t));
    s->raw = device_layout_take(&l, (q_values + 2 * (uint64_t)c->n_kv_heads * c->head_dim) * sizeof(float));
    s->t = device_layout_take(&l, c->d_model * sizeof(float));
    s->part = device_layout_take(&l, b->lowered.splits_max * q_values * sizeof(uint16_t));
    s->part_weight = device_layout_take(&l, (uint64_t)b->lowered.splits_max * c->n_heads * 2 * sizeof(float));
    uint64_t expert_values = (uint64_t)c->n_experts_used * c->d_ff_expert;
    s->f = device_layout_take(&l, max_u64(c->d_ff, expert_values) * sizeof(float));
    lay_out_draws(b, &l);
    CUdeviceptr sequences = device_layout_take(&l, b->options.n_slots * sizeof(DecodeSequence));
    CUdeviceptr tokens = device_layout_take(&l, tokens_bytes(b));
    for (uint32_t i = 0; i < b->options.n_slots; i++) {
        Slot *slot = &b->slots[i];
        slot->sequence = sequences + i * sizeof(DecodeSequence);
        slot->tokens = tokens + i * TOKEN_RING * sizeof(int32_t);
        slot->seen = device_layout_take(&l, b->n_seen_words * sizeof(uint32_t));
        slot->pages = device_layout_take(&l, b->pages_max * sizeof(uint32_t));
    }
    lay_out_rows(b, &l);
    lay_out_experts(b, &l);
    return l.used;
}

static bool make_slots(CudaBackend *b, Error *err) {
    const ModelConfig *c = &b->plan->config;
    b->pages_max = (uint32_t)div_up(c->n_context, KV_PAGE_TOKENS);
    b->n_seen_words = (c->n_vocab + 31) / 32;
    b->slots = arena_new(b->arena, Slot, b->options.n_slots);
    b->kernels = arena_new(b->arena, Kernel, b->lowered.n_programs);
    bool ok = b->slots && b->kernels;
    for (uint32_t i = 0; ok && i < b->options.n_slots; i++) {
        ok = (b->slots[i].sent_pages = arena_new(b->arena, uint32_t, b->pages_max)) != NULL;
    }
    return ok || error_set(err, ERR_NO_MEMORY, "the sequences' state does not fit its memory");
}

static uint32_t upload_threads(void) {
    return (uint32_t)min_u64(os_cpu_count(), UPLOAD_THREADS_MAX);
}

// How many pages the cache has: what was asked for, or what is left of the device's memory, and no more than
// are of use.
static bool size_cache(CudaBackend *b, uint64_t others, uint64_t *kv_bytes, Error *err) {
    const ModelConfig *c = &b->plan->config;
    const BackendOptions *o = &b->options;
    uint64_t page_bytes = kv_page_layer_bytes(c) * c->n_layers, available;
    uint64_t pages = div_up(o->kv_tokens_max, KV_PAGE_TOKENS), least = min_u64(pages, KV_PAGES_MIN);
    if (!device_memory_free_bytes(&b->cuda, &available, err)) return false;
    uint64_t taken = others + RESERVE_BYTES, left = available > taken ? available - taken : 0;
    if (o->kv_bytes) pages = min_u64(pages, max_u64(o->kv_bytes / page_bytes, 1));
    else pages = min_u64(pages, max_u64(left / page_bytes, least));
    pages = min_u64(pages, UINT32_MAX);
    b->n_pages = (uint32_t)pages;
    *kv_bytes = pages * page_bytes;
    if (*kv_bytes <= left) return true;
    return device_memory_insufficient(err, taken + *kv_bytes, available, b->device.name, o->model_path);
}

static bool make_memory(CudaBackend *b, Error *err) {
    uint64_t sizes[REGION_COUNT] = {[REGION_WEIGHTS] = b->placement.size,
                                    [REGION_WORK] = lay_out_work(b, 0),
                                    [REGION_STAGING] = upload_staging_bytes(upload_threads())};
    uint64_t others = sizes[REGION_WEIGHTS] + sizes[REGION_WORK] + sizes[REGION_STAGING];
    if (!size_cache(b, others, &sizes[REGION_KV], err)) return false;
    if (!device_memory_allocate(&b->cuda, &b->device, b->options.model_path, sizes, &b->memory, err))
        return false;
    b->buffers.placement = &b->placement;
    b->buffers.weights = b->memory.regions[REGION_WEIGHTS].address;
    b->buffers.kv = b->memory.regions[REGION_KV].address;
    b->buffers.kv_layer_bytes = b->n_pages * kv_page_layer_bytes(&b->plan->config);
    lay_out_work(b, b->memory.regions[REGION_WORK].address);
    CUresult r = b->cuda.fill_bytes(b->memory.regions[REGION_WORK].address, 0, sizes[REGION_WORK], b->stream);
    return cuda_ok(&b->cuda, r, "clearing the working memory", err);
}

// ---- loading: what the host sends from and reads into ----

static bool make_events(CudaBackend *b, Error *err) {
    CUresult r = CUDA_SUCCESS;
    for (uint32_t i = 0; i < CELLS && r == CUDA_SUCCESS; i++) {
        r = b->cuda.event_create(&b->cells[i].sent, CU_EVENT_DISABLE_TIMING);
    }
    for (uint32_t i = 0; i < FLIGHTS && r == CUDA_SUCCESS; i++) {
        r = b->cuda.event_create(&b->flights[i].ran, CU_EVENT_DISABLE_TIMING);
        if (r == CUDA_SUCCESS) r = b->cuda.event_create(&b->flights[i].fetched, CU_EVENT_DISABLE_TIMING);
    }
    return cuda_ok(&b->cuda, r, "making events", err);
}

static bool make_host_memory(CudaBackend *b, Error *err) {
    const BackendOptions *o = &b->options;
    uint64_t a_sequence = sizeof(DecodeSequence) + b->n_seen_words * sizeof(uint32_t) + sizeof(SampleRules) +
                          b->plan->config.n_vocab * sizeof(uint16_t);
    uint64_t a_row = sizeof(int32_t) + sizeof(RowPlace);
    uint64_t a_chunk = sizeof(PrefillChunk) + b->pages_max * sizeof(uint32_t);
    uint64_t a_step = o->max_rows * a_row + o->n_slots * a_chunk;
    b->cell_bytes = align_up(max_u64(a_sequence, a_step), 64);
    uint64_t logprobs_at = align_up(tokens_bytes(b), 64);
    uint64_t ring_bytes = align_up(logprobs_at + logprobs_bytes(b), 64);
    void *pinned = NULL;
    CUresult r = b->cuda.pinned_allocate(&pinned, CELLS * b->cell_bytes + FLIGHTS * ring_bytes, 0);
    if (!cuda_ok(&b->cuda, r, "allocating pinned memory", err)) return false;
    b->pinned = pinned;
    for (uint32_t i = 0; i < CELLS; i++)
        b->cells[i].bytes = b->pinned + i * b->cell_bytes;
    for (uint32_t i = 0; i < FLIGHTS; i++) {
        uint8_t *rings = b->pinned + CELLS * b->cell_bytes + i * ring_bytes;
        b->flights[i].tokens = (int32_t *)(void *)rings;
        b->flights[i].logprobs = (SampleLogprobs *)(void *)(rings + logprobs_at);
    }
    b->logits_bytes = (uint64_t)o->max_rows * b->plan->config.n_vocab * sizeof(float);
    b->logits = os_reserve(b->logits_bytes);
    if (!b->logits)
        return error_set(err, ERR_NO_MEMORY, "%llu bytes for logits cannot be reserved",
                         (unsigned long long)b->logits_bytes);
    return make_events(b, err);
}

// ---- loading: programs ----

// The formats of the matrices, in the order of their programs.
static uint32_t formats_of(const CudaBackend *b, Dtype formats[DTYPE_COUNT]) {
    bool used[DTYPE_COUNT] = {false};
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->plan->n_weights; i++) {
        if (b->placement.weights[i].as == PLACED_MATRIX) used[b->plan->weights[i].dtype] = true;
    }
    for (uint32_t i = 0; i < DTYPE_COUNT; i++) {
        if (used[i]) formats[n++] = i;
    }
    return n;
}

// The repacking kernels, then the stages' programs.
static bool start_jit(CudaBackend *b, Error *err) {
    Dtype formats[DTYPE_COUNT];
    uint32_t n_formats = formats_of(b, formats), n = n_formats + b->lowered.n_programs;
    JitProgram *programs = arena_new(b->arena, JitProgram, n);
    if (!programs) return error_set(err, ERR_NO_MEMORY, "the list of kernels does not fit its memory");
    for (uint32_t i = 0; i < n_formats; i++) {
        if (!lower_repack_program(formats[i], b->arena, &programs[i], err)) return false;
    }
    memcpy(programs + n_formats, b->lowered.programs, b->lowered.n_programs * sizeof *programs);
    JitOptions options = {
        .sm = b->device.sm, .cache = b->options.jit_cache, .compiler = b->options.jit_compiler};
    return jit_start(&options, programs, n, b->arena, &b->jit, err);
}

static bool upload(CudaBackend *b, BackendProgressFn *progress, void *context, Error *err) {
    Dtype formats[DTYPE_COUNT];
    Kernel kernels[DTYPE_COUNT] = {0};
    uint32_t n_formats = formats_of(b, formats);
    Upload u = {.cuda = &b->cuda,
                .context = b->context,
                .placement = &b->placement,
                .weights = b->buffers.weights,
                .staging = b->memory.regions[REGION_STAGING].address,
                .n_threads = upload_threads(),
                .progress = progress,
                .progress_context = context};
    bool ok = true;
    for (uint32_t i = 0; ok && i < n_formats; i++) {
        JitImage image;
        ok = jit_wait(b->jit, i, &image, err) &&
             kernel_load(&b->cuda, &b->device, "repack_kernel", &image, NULL, &kernels[i], err);
        u.repack[formats[i]] = kernels[i].function;
    }
    ok = ok && upload_weights(&u, *b->arena, err);
    for (uint32_t i = 0; i < n_formats; i++)
        kernel_unload(&b->cuda, &kernels[i]);
    return ok;
}

static bool load_kernels(CudaBackend *b, Error *err) {
    Dtype formats[DTYPE_COUNT];
    uint32_t n_formats = formats_of(b, formats);
    for (uint32_t i = 0; i < b->lowered.n_programs; i++) {
        JitImage image;
        const char *name = b->lowered.programs[i].name;
        if (!jit_wait(b->jit, n_formats + i, &image, err)) return false;
        if (!kernel_load(&b->cuda, &b->device, name, &image, b->stream, &b->kernels[i], err)) return false;
    }
    JitReport report = jit_report(b->jit);
    b->api.info.jit_seconds = report.seconds;
    b->api.info.jit_compiled = report.compiled;
    b->api.info.jit_from_cache = report.from_cache;
    b->api.info.jit_slowest = report.slowest ? report.slowest : "";
    b->api.info.jit_slowest_seconds = report.slowest_seconds;
    snprintf(b->api.info.warning, sizeof b->api.info.warning, "%s", report.warning);
    jit_end(b->jit);
    b->jit = NULL;
    return true;
}

// ---- loading: graphs ----

// What the stages of a slot's row are given.
static StageRow stage_row(const CudaBackend *b, const Slot *slot, RowEnd end) {
    return (StageRow){.sequence = slot->sequence,
                      .tokens = slot->tokens,
                      .x = b->buffers.x,
                      .rules = slot->rules,
                      .logprobs = slot->logprobs,
                      .adjusted = end == END_GREEDY_ADJUSTED || end == END_SAMPLE_ADJUSTED};
}

uint32_t cuda_row_launches(CudaBackend *b, uint32_t slot, RowEnd end, StageArgs *args, Launch *launches,
                           const Stage **stages) {
    uint32_t n = 0;
    StageRow row = stage_row(b, &b->slots[slot], end);
    for (uint32_t i = 0; i < b->lowered.n_stages; i++) {
        const Stage *s = &b->lowered.stages[i];
        if (!stage_is_for(s, end)) continue;
        stage_bind(s, &b->buffers, &row, &args[n]);
        launches[n] = (Launch){.kernel = &b->kernels[s->program], .args = &args[n]};
        stages[n++] = s;
    }
    return n;
}

Launch cuda_chunk_launch(CudaBackend *b, uint32_t index, StageArgs *args) {
    const Stage *s = &b->lowered.prefill_stages[index];
    stage_bind(s, &b->buffers, NULL, args);
    return (Launch){.kernel = &b->kernels[s->program], .args = args};
}

// One for all slots.
static bool make_prefill_graph(CudaBackend *b, Arena scratch, Error *err) {
    uint32_t n = b->lowered.n_prefill_stages;
    StageArgs *args = arena_new(&scratch, StageArgs, n);
    Launch *launches = arena_new(&scratch, Launch, n);
    if (!args || !launches) return error_set(err, ERR_NO_MEMORY, "the graphs do not fit their memory");
    for (uint32_t i = 0; i < n; i++)
        launches[i] = cuda_chunk_launch(b, i, &args[i]);
    return graph_make(&b->cuda, launches, n, b->overlap, b->stream, &b->prefill, err);
}

static bool make_graphs(CudaBackend *b, Error *err) {
    Arena scratch = *b->arena;
    StageArgs *args = arena_new(&scratch, StageArgs, b->lowered.n_stages);
    Launch *launches = arena_new(&scratch, Launch, b->lowered.n_stages);
    const Stage **stages = arena_new(&scratch, const Stage *, b->lowered.n_stages);
    if (!args || !launches || !stages)
        return error_set(err, ERR_NO_MEMORY, "the graphs do not fit their memory");
    for (uint32_t slot = 0; slot < b->options.n_slots; slot++) {
        for (uint32_t end = 0; end < END_GRAPHS; end++) {
            uint32_t n = cuda_row_launches(b, slot, end, args, launches, stages);
            CUgraphExec *graph = &b->slots[slot].graphs[end];
            if (!graph_make(&b->cuda, launches, n, b->overlap, b->stream, graph, err)) return false;
        }
    }
    return make_prefill_graph(b, scratch, err);
}

// The driver wants some hundred megabytes for itself, before it can say how much is free.
static bool open_context(CudaBackend *b, Error *err) {
    CUresult r = b->cuda.context_retain(&b->context, b->device.handle);
    if (r != CUDA_ERROR_OUT_OF_MEMORY) return cuda_ok(&b->cuda, r, "opening the GPU", err);
    return error_set(
        err, ERR_INSUFFICIENT_VRAM,
        "%s needs %llu bytes of VRAM and what the driver takes; other processes hold so much of the "
        "%llu bytes on %s that not even the driver's part is left",
        b->options.model_path, (unsigned long long)(b->placement.size + lay_out_work(b, 0)),
        (unsigned long long)b->device.memory_bytes, b->device.name);
}

static bool cuda_load(Backend *backend, const Plan *plan, BackendProgressFn *progress, void *context,
                      Error *err) {
    CudaBackend *b = cuda_self(backend);
    uint64_t begin_ns = os_monotonic_ns();
    b->plan = plan;
    LowerTarget target = lower_target_of_device(&b->device);
    bool ok = placement_make(plan, b->arena, &b->placement, err) &&
              lower_plan(plan, &b->placement, &target, b->options.max_rows, b->arena, &b->lowered, err) &&
              make_slots(b, err) && start_jit(b, err);
    if (!ok) return false;
    if (!open_context(b, err)) return false; // the compiler is at work meanwhile
    CUresult r = b->cuda.context_use(b->context);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_create(&b->stream, CU_STREAM_NON_BLOCKING);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_create(&b->fetch_stream, CU_STREAM_NON_BLOCKING);
    if (!cuda_ok(&b->cuda, r, "opening the GPU", err)) return false;
    ok = make_memory(b, err) && make_host_memory(b, err) && upload(b, progress, context, err) &&
         load_kernels(b, err);
    if (!ok) return false;
    device_memory_release(&b->memory, REGION_STAGING);
    if (!make_graphs(b, err) || !device_memory_is_resident(&b->memory, err)) return false;
    if (!cuda_ok(&b->cuda, b->cuda.stream_synchronize(b->stream), "loading", err)) return false;
    backend->info.n_kv_pages = b->n_pages;
    backend->info.chunk_slices = plan->config.n_layers;
    backend->info.vram_bytes_used = device_memory_used(&b->memory);
    backend->info.load_seconds = (double)(os_monotonic_ns() - begin_ns) * 1e-9;
    return true;
}

static void cuda_close_backend(Backend *backend) {
    CudaBackend *b = cuda_self(backend);
    if (!b->is_open) return;
    jit_end(b->jit);
    if (b->context) {
        b->cuda.context_use(b->context);
        b->cuda.context_synchronize(); // nothing may be under way when memory goes
        for (uint32_t i = 0; b->slots && i < b->options.n_slots * END_GRAPHS; i++) {
            CUgraphExec graph = b->slots[i / END_GRAPHS].graphs[i % END_GRAPHS];
            if (graph) b->cuda.graph_exec_destroy(graph);
        }
        if (b->prefill) b->cuda.graph_exec_destroy(b->prefill);
        for (uint32_t i = 0; i < b->lowered.n_programs; i++)
            kernel_unload(&b->cuda, &b->kernels[i]);
        for (uint32_t i = 0; i < CELLS; i++) {
            if (b->cells[i].sent) b->cuda.event_destroy(b->cells[i].sent);
        }
        for (uint32_t i = 0; i < FLIGHTS; i++) {
            if (b->flights[i].ran) b->cuda.event_destroy(b->flights[i].ran);
            if (b->flights[i].fetched) b->cuda.event_destroy(b->flights[i].fetched);
        }
        if (b->pinned) b->cuda.pinned_free(b->pinned);
        device_memory_release_all(&b->memory);
        if (b->stream) b->cuda.stream_destroy(b->stream);
        if (b->fetch_stream) b->cuda.stream_destroy(b->fetch_stream);
        b->cuda.context_release(b->device.handle);
    }
    os_release(b->logits, b->logits_bytes);
    cuda_close(&b->cuda);
    b->is_open = false;
}

// ---- serving ----

// The next cell, once what was sent from it last has arrived.
static bool cell_take(CudaBackend *b, Cell **out, Error *err) {
    Cell *cell = &b->cells[b->next_cell];
    b->next_cell = (b->next_cell + 1) % CELLS;
    cell->used = 0;
    *out = cell;
    return cuda_ok(&b->cuda, b->cuda.event_synchronize(cell->sent), "waiting for the GPU", err);
}

// Room in the cell, to be filled and sent as it lies there.
static void *cell_room(Cell *cell, size_t size) {
    uint8_t *room = cell->bytes + cell->used;
    cell->used += size;
    return room;
}

static bool cell_send(CudaBackend *b, Cell *cell, CUdeviceptr to, const void *data, size_t size, Error *err) {
    void *from = cell_room(cell, size);
    memcpy(from, data, size);
    return cuda_ok(&b->cuda, b->cuda.copy_to_device(to, from, size, b->stream), "sending to the GPU", err);
}

static bool cell_done(CudaBackend *b, Cell *cell, Error *err) {
    return cuda_ok(&b->cuda, b->cuda.event_record(cell->sent, b->stream), "sending to the GPU", err);
}

// The rules that DecodeSequence does not have.
static bool send_rules(CudaBackend *b, Cell *cell, const Slot *slot, const SamplerParams *p, Error *err) {
    SampleRules rules = {.repetition_penalty = p->repetition_penalty,
                         .presence_penalty = p->presence_penalty,
                         .frequency_penalty = p->frequency_penalty,
                         .n_bias = p->n_logit_bias,
                         .n_logprobs = p->n_logprobs};
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        rules.bias[i] = (SampleBias){p->logit_bias[i].token, p->logit_bias[i].bias};
    return cell_send(b, cell, slot->rules, &rules, sizeof rules, err);
}

// The tokens seen and, where somebody asks, how often each was drawn.
static bool send_history(CudaBackend *b, Cell *cell, const Slot *slot, const SequenceStart *start,
                         Error *err) {
    uint32_t n_vocab = b->plan->config.n_vocab;
    size_t seen_bytes = b->n_seen_words * sizeof(uint32_t), counts_bytes = n_vocab * sizeof(uint16_t);
    SamplerHistory h = {.seen = cell_room(cell, seen_bytes)};
    if (slot->adjusted) h.counts = cell_room(cell, counts_bytes);
    sampler_history_begin(h, n_vocab, start->tokens, start->n_prompt + start->n_drawn, start->n_drawn);
    CUresult r = b->cuda.copy_to_device(slot->seen, h.seen, seen_bytes, b->stream);
    if (r == CUDA_SUCCESS && h.counts)
        r = b->cuda.copy_to_device(slot->counts, h.counts, counts_bytes, b->stream);
    return cuda_ok(&b->cuda, r, "sending to the GPU", err);
}

static bool cuda_begin(Backend *backend, uint32_t slot_index, const SequenceStart *start, Error *err) {
    CudaBackend *b = cuda_self(backend);
    const SamplerParams *p = &start->params;
    Slot *slot = &b->slots[slot_index];
    Cell *cell;
    if (!cell_take(b, &cell, err)) return false;
    slot->greedy = p->temperature == 0;
    slot->adjusted = sampler_adjusts(p);
    slot->has_logprobs = p->logprobs;
    slot->n_sent_pages = 0;
    slot->n_draws = start->n_drawn;
    slot->generation++;
    DecodeSequence s = {.step = start->n_drawn,
                        .top_k = p->top_k,
                        .temperature = p->temperature,
                        .top_p = p->top_p,
                        .min_p = p->min_p,
                        .repetition_penalty = slot->adjusted ? 1 : p->repetition_penalty,
                        .seed = p->seed,
                        .seen = slot->seen,
                        .counts = slot->adjusted ? slot->counts : 0,
                        .pages = slot->pages};
    bool has_rules = slot->adjusted || slot->has_logprobs;
    return cell_send(b, cell, slot->sequence, &s, sizeof s, err) &&
           (!has_rules || send_rules(b, cell, slot, p, err)) && send_history(b, cell, slot, start, err) &&
           cell_done(b, cell, err);
}

// Sends the part of a sequence's page list that the device does not have yet.
static bool send_pages(CudaBackend *b, Cell *cell, Slot *slot, const StepSequence *q, Error *err) {
    uint32_t n = (uint32_t)div_up((uint64_t)q->position + q->n_rows, KV_PAGE_TOKENS), same = 0;
    uint32_t known = (uint32_t)min_u64(n, slot->n_sent_pages);
    while (same < known && slot->sent_pages[same] == q->pages[same])
        same++;
    if (same == n) return true;
    memcpy(slot->sent_pages + same, q->pages + same, (n - same) * sizeof *q->pages);
    slot->n_sent_pages = n;
    CUdeviceptr to = slot->pages + same * sizeof *q->pages;
    return cell_send(b, cell, to, q->pages + same, (n - same) * sizeof *q->pages, err);
}

// The stages from the first-th on of a row that ends so, one by one.
static bool run_stages(CudaBackend *b, const StageRow *row, uint32_t first, RowEnd end, Error *err) {
    for (uint32_t i = first; i < b->lowered.n_stages; i++) {
        const Stage *s = &b->lowered.stages[i];
        if (!stage_is_for(s, end)) continue;
        StageArgs args;
        stage_bind(s, &b->buffers, row, &args);
        Launch launch = {.kernel = &b->kernels[s->program], .args = &args};
        if (!kernel_launch(&b->cuda, &launch, false, b->stream, err)) return false;
    }
    return true;
}

// Those behind the head.
static bool run_tail(CudaBackend *b, const Slot *slot, RowEnd end, Error *err) {
    StageRow row = stage_row(b, slot, end);
    return run_stages(b, &row, b->lowered.n_layers_stages + 1, end, err);
}

static bool run_row(CudaBackend *b, const StepSequence *q, RowEnd end, uint32_t position, Error *err) {
    if (b->observer) return cuda_row_observed(b, q->slot, end, position, err);
    const Slot *slot = &b->slots[q->slot];
    RowEnd graph = end < END_GRAPHS ? end : END_HEAD;
    CUresult r = b->cuda.graph_launch(slot->graphs[graph], b->stream);
    return cuda_ok(&b->cuda, r, "launching a step", err) && (graph == end || run_tail(b, slot, end, err));
}

static bool fetch_logits(CudaBackend *b, Flight *flight, Error *err) {
    uint64_t n_vocab = b->plan->config.n_vocab;
    float *to = b->logits + flight->n_logits++ * n_vocab;
    CUresult r = b->cuda.copy_to_host(to, b->buffers.logits, n_vocab * sizeof(float), b->stream);
    return cuda_ok(&b->cuda, r, "fetching logits", err);
}

static RowEnd end_of_row(const Slot *slot, const StepSequence *q, uint32_t row) {
    static const RowEnd drawn[2][2] = {{END_SAMPLE, END_SAMPLE_ADJUSTED}, {END_GREEDY, END_GREEDY_ADJUSTED}};
    if (q->n_draws && row + 1 == q->n_rows) return drawn[slot->greedy][slot->adjusted];
    return row + q->n_logits >= q->n_rows ? END_HEAD : END_LAYERS;
}

// What follows the launches of a row that ends so.
static bool finish_row(CudaBackend *b, const StepSequence *q, uint32_t row, RowEnd end, Flight *flight,
                       Error *err) {
    Slot *slot = &b->slots[q->slot];
    if (row + q->n_logits >= q->n_rows && !fetch_logits(b, flight, err)) return false;
    if (end < END_GREEDY) return true;
    if (slot->has_logprobs && !run_tail(b, slot, END_LOGPROBS, err)) return false;
    flight->has_logprobs |= slot->has_logprobs;
    flight->draws[flight->n_drawing++] = (Draw){.slot = q->slot,
                                                .generation = slot->generation,
                                                .place = slot->n_draws++ % TOKEN_RING,
                                                .position = q->position + row,
                                                .token = q->tokens ? q->tokens[row] : TOKEN_INVALID,
                                                .logprobs = slot->has_logprobs};
    return true;
}

// Rows one after the other through the stages of decoding: a token that was drawn here, or all rows while an
// observer looks.
static bool run_rows(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    Slot *slot = &b->slots[q->slot];
    for (uint32_t row = 0; row < q->n_rows; row++) {
        RowPlace place = {q->tokens ? q->tokens[row] : 0, q->position + row};
        if (q->tokens && !cell_send(b, cell, slot->sequence, &place, sizeof place, err)) return false;
        RowEnd end = end_of_row(slot, q, row);
        if (!run_row(b, q, end, place.position, err) || !finish_row(b, q, row, end, flight, err))
            return false;
    }
    return true;
}

// The stages behind the layers for one row of a chunk, which decoding has too.
static bool run_head(CudaBackend *b, const StepSequence *q, uint32_t row, RowEnd end, Error *err) {
    StageRow at = stage_row(b, &b->slots[q->slot], end);
    at.x = b->buffers.rows_x + row * b->plan->d_model * sizeof(float);
    return run_stages(b, &at, b->lowered.n_layers_stages, end, err);
}

// Those of a slice's stages, launched one by one: of what a long step takes that is nothing.
static bool run_layers_slice(CudaBackend *b, const StepSequence *q, Error *err) {
    uint64_t n = b->lowered.n_prefill_stages;
    uint32_t begin = (uint32_t)(n * q->slice / q->n_slices),
             end = (uint32_t)(n * (q->slice + 1) / q->n_slices);
    for (uint32_t i = begin; i < end; i++) {
        StageArgs args;
        Launch launch = cuda_chunk_launch(b, i, &args);
        if (!kernel_launch(&b->cuda, &launch, b->overlap && i > begin, b->stream, err)) return false;
    }
    return true;
}

static bool run_layers(CudaBackend *b, const StepSequence *q, Error *err) {
    if (q->n_slices > 1) return run_layers_slice(b, q, err);
    if (b->prompt_observer) return cuda_chunk_observed(b, q, err);
    return cuda_ok(&b->cuda, b->cuda.graph_launch(b->prefill, b->stream), "launching a prompt's rows", err);
}

static bool send_chunk(CudaBackend *b, Cell *cell, const StepSequence *q, Error *err) {
    PrefillChunk chunk = {.n_rows = q->n_rows,
                          .position = q->position,
                          .tokens = b->chunk_tokens,
                          .pages = b->slots[q->slot].pages};
    return cell_send(b, cell, b->buffers.chunk, &chunk, sizeof chunk, err) &&
           cell_send(b, cell, b->chunk_tokens, q->tokens, q->n_rows * sizeof *q->tokens, err);
}

// A prompt's rows together through the layers. Prompts always go this way, however they are cut, so that a
// row's bits depend on nothing but the rows before it.
static bool run_chunk(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    Slot *slot = &b->slots[q->slot];
    if ((q->slice == 0 && !send_chunk(b, cell, q, err)) || !run_layers(b, q, err)) return false;
    if (!step_is_last_slice(q)) return true;
    for (uint32_t row = 0; row < q->n_rows; row++) {
        RowEnd end = end_of_row(slot, q, row);
        if (end == END_LAYERS) continue;
        RowPlace place = {q->tokens[row], q->position + row};
        if (!cell_send(b, cell, slot->sequence, &place, sizeof place, err)) return false;
        if (!run_head(b, q, row, end, err) || !finish_row(b, q, row, end, flight, err)) return false;
    }
    return true;
}

static bool run_sequence(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    if (!send_pages(b, cell, &b->slots[q->slot], q, err)) return false;
    return q->mode == STEP_PROMPT && !b->observer ? run_chunk(b, cell, q, flight, err)
                                                  : run_rows(b, cell, q, flight, err);
}

// Fetches what the step draws, beside the steps that follow it: between two steps of one stream a copy would
// cost 10 µs.
static bool fetch_tokens(CudaBackend *b, Flight *flight, Error *err) {
    const Cuda *cuda = &b->cuda;
    CUresult r = cuda->event_record(flight->ran, b->stream);
    if (r == CUDA_SUCCESS) r = cuda->stream_wait_event(b->fetch_stream, flight->ran, 0);
    if (r == CUDA_SUCCESS && flight->n_drawing) {
        r = cuda->copy_to_host(flight->tokens, b->slots[0].tokens, tokens_bytes(b), b->fetch_stream);
    }
    if (r == CUDA_SUCCESS && flight->has_logprobs) {
        r = cuda->copy_to_host(flight->logprobs, b->slots[0].logprobs, logprobs_bytes(b), b->fetch_stream);
    }
    if (r == CUDA_SUCCESS) r = cuda->event_record(flight->fetched, b->fetch_stream);
    return cuda_ok(cuda, r, "fetching tokens", err);
}

static bool cuda_step(Backend *backend, const Step *step, Error *err) {
    CudaBackend *b = cuda_self(backend);
    if (!step_check(step, &backend->info, err)) return false;
    if (b->n_flights == FLIGHTS)
        return error_set(err, ERR_INTERNAL, "more than %d steps are under way", FLIGHTS);
    Flight *flight = &b->flights[(b->first_flight + b->n_flights) % FLIGHTS];
    flight->n_drawing = flight->n_logits = 0;
    flight->has_logprobs = false;
    Cell *cell;
    if (!cell_take(b, &cell, err)) return false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        if (!run_sequence(b, cell, &step->sequences[i], flight, err)) return false;
    }
    if (!cell_done(b, cell, err)) return false;
    b->n_flights++;
    return fetch_tokens(b, flight, err);
}

static const TokenLogprobs *told_logprobs(CudaBackend *b, const Flight *flight, const Draw *draw,
                                          int32_t token) {
    const SampleLogprobs *from = &flight->logprobs[draw->slot * TOKEN_RING + draw->place];
    TokenLogprobs *told = &b->slots[draw->slot].told;
    *told = (TokenLogprobs){.token = token, .logprob = from->logprob};
    told->n_best = (uint32_t)min_u64(from->n_best, LOGPROBS_MAX);
    for (uint32_t i = 0; i < told->n_best; i++) {
        told->best[i].id = from->best[i].token;
        told->best[i].logprob = from->best[i].logprob;
    }
    return told;
}

static bool cuda_read(Backend *backend, StepResult *out, Error *err) {
    CudaBackend *b = cuda_self(backend);
    if (b->n_flights == 0) return error_set(err, ERR_INTERNAL, "no step to read");
    Flight *flight = &b->flights[b->first_flight];
    if (!cuda_ok(&b->cuda, b->cuda.event_synchronize(flight->fetched), "running a step", err)) return false;
    b->first_flight = (b->first_flight + 1) % FLIGHTS;
    b->n_flights--;
    *out = (StepResult){.n_runs = flight->n_drawing,
                        .logits = flight->n_logits ? b->logits : NULL,
                        .n_logits = flight->n_logits};
    bool ok = true;
    for (uint32_t i = 0; i < flight->n_drawing; i++) {
        const Draw *draw = &flight->draws[i];
        StepRun *run = &out->runs[i];
        *run = (StepRun){.slot = draw->slot,
                         .n_tokens = 1,
                         .tokens = {flight->tokens[draw->slot * TOKEN_RING + draw->place]}};
        if (run->tokens[0] == TOKEN_INVALID)
            ok = ok && cuda_explain_invalid(b, flight, draw, &run->first_invalid, err);
        else if (draw->logprobs) run->logprobs = told_logprobs(b, flight, draw, run->tokens[0]);
    }
    return ok;
}
