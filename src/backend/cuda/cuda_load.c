#include "backend/cuda/cuda_load.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_batch.h"
#include "backend/cuda/cuda_batch_table.h"
#include "backend/cuda/cuda_clock.h"
#include "backend/cuda/cuda_fit.h"
#include "backend/cuda/cuda_step.h"
#include "backend/cuda/library_products.h"
#include "backend/cuda/upload.h"
#include "os/os.h"

#include <stdio.h>

enum {
    RESERVE_BYTES = 256 << 20, // left free for the driver: modules, graphs, the stack of kernels
    KV_PAGES_MIN = 16,
    CHECKPOINTS_PART = 8, // checkpoints have an eighth of what is left
};

// ---- what is where ----

// What sequences keep. A slot's counts are 2 bytes a token of the vocabulary: 0.3 MB for 152,000; what it has
// seen and its mask are a bit a token each.
static void lay_out_slots(CudaBackend *b, DeviceLayout *l) {
    uint64_t row_bytes = (uint64_t)b->plan->kv.n_lists * b->pages_max * sizeof(uint32_t);
    CUdeviceptr logprobs = device_layout_take(l, cuda_logprobs_bytes(b));
    CUdeviceptr pages = device_layout_take(l, b->options.n_slots * row_bytes);
    CUdeviceptr tokens = device_layout_take(l, cuda_tokens_bytes(b));
    CUdeviceptr masks = device_layout_take(l, cuda_masks_bytes(b));
    for (uint32_t i = 0; i < b->options.n_slots; i++) {
        Slot *slot = &b->slots[i];
        slot->logprobs = logprobs + i * TOKEN_RING * sizeof(SampleLogprobs);
        slot->rules = device_layout_take(l, sizeof(SampleRules));
        slot->counts = device_layout_take(l, b->plan->n_vocab * sizeof(uint16_t));
        slot->tokens = tokens + i * TOKEN_RING * sizeof(int32_t);
        slot->seen = device_layout_take(l, b->n_seen_words * sizeof(uint32_t));
        slot->pages = pages + i * row_bytes;
        slot->mask = masks + i * b->n_seen_words * sizeof(uint32_t);
    }
}

// Lays the working memory out; with base 0 to learn its size. Returns that.
static uint64_t lay_out_work(CudaBackend *b, CUdeviceptr base) {
    DeviceLayout l = {.base = base};
    lay_out_slots(b, &l);
    cuda_batch_lay_out(b, &l);
    return l.used;
}

static bool make_slots(CudaBackend *b, Error *err) {
    const Plan *plan = b->plan;
    b->pages_max = (uint32_t)div_up(plan->n_context, KV_PAGE_TOKENS);
    b->n_seen_words = token_set_words(plan->n_vocab);
    b->slot_floats = align_up(cache_slot_at(plan->caches, plan->n_caches), 64);
    b->slots = arena_new(b->arena, Slot, b->options.n_slots);
    bool ok = b->slots != NULL;
    for (uint32_t i = 0; ok && i < b->options.n_slots; i++) {
        b->slots[i].sent_pages = arena_new(b->arena, uint32_t, (uint64_t)plan->kv.n_lists * b->pages_max);
        ok = b->slots[i].sent_pages != NULL;
    }
    return ok || error_set(err, ERR_NO_MEMORY, "the sequences' state does not fit its memory");
}

static uint32_t upload_threads(void) {
    return (uint32_t)min_u64(os_cpu_count(), UPLOAD_THREADS_MAX);
}

static uint64_t page_bytes_of(const CudaBackend *b) {
    return b->plan->kv.place_bytes * b->plan->kv.n_places;
}

// How many pages the cache has: what was asked for, or what is left of the device's memory, and no more than
// are of use. False where they do not fit.
static bool pick_pages(CudaBackend *b, uint64_t taken, uint64_t available, uint64_t *kv_bytes) {
    const BackendOptions *o = &b->options;
    uint64_t page_bytes = page_bytes_of(b), left = available > taken ? available - taken : 0;
    uint64_t pages = backend_pages_of_use(o, &b->plan->kv), least = min_u64(pages, KV_PAGES_MIN);
    if (page_bytes == 0) pages = 0; // nothing is paged
    else if (o->kv_bytes) pages = min_u64(pages, max_u64(o->kv_bytes / page_bytes, 1));
    else pages = min_u64(pages, max_u64(left / page_bytes, least));
    pages = min_u64(pages, UINT32_MAX);
    b->n_pages = (uint32_t)pages;
    *kv_bytes = pages * page_bytes;
    return *kv_bytes <= left;
}

// Checkpoints of states: as many as were asked for; else as many as are of use, in a part of what is left.
static uint32_t pick_checkpoints(const CudaBackend *b, uint64_t taken, uint64_t available) {
    uint32_t n = backend_checkpoints(&b->options, cuda_state_bytes(b));
    uint64_t left = available > taken ? available - taken : 0;
    if (b->options.products) return 0; // no text goes on from another's
    if (n == 0 || b->options.checkpoint_bytes) return n;
    return (uint32_t)min_u64(n, left / CHECKPOINTS_PART / cuda_state_bytes(b));
}

// Sizes of all regions, with as many slots (slot_tokens) as the cache has room for: fewer slots leave more to
// the cache. Returns what is needed in all; it is more than `available` where it does not fit.
static uint64_t size_regions(CudaBackend *b, uint64_t available, uint64_t sizes[REGION_COUNT]) {
    BackendOptions *o = &b->options;
    for (;; o->n_slots--) {
        batch_lower_cut(&b->batches->lowered, o->n_slots);
        sizes[REGION_WEIGHTS] = b->placement.size;
        sizes[REGION_WORK] = lay_out_work(b, 0);
        sizes[REGION_STAGING] = upload_staging_bytes(upload_threads());
        uint64_t others = sizes[REGION_WEIGHTS] + sizes[REGION_WORK] + sizes[REGION_STAGING] + RESERVE_BYTES;
        b->n_checkpoints = pick_checkpoints(b, others, available);
        sizes[REGION_STATES] = (o->n_slots + (uint64_t)b->n_checkpoints) * cuda_state_bytes(b);
        others += sizes[REGION_STATES];
        bool fits = pick_pages(b, others, available, &sizes[REGION_KV]);
        bool holds = fits && backend_slots_held(o, &b->plan->kv, b->n_pages) == o->n_slots;
        if (holds || !o->slot_tokens || o->n_slots == 1) return others + sizes[REGION_KV];
    }
}

static bool make_memory(CudaBackend *b, Error *err) {
    uint64_t sizes[REGION_COUNT], available;
    if (!device_memory_free_bytes(&b->cuda, &available, err)) return false;
    uint64_t needed = size_regions(b, available, sizes);
    if (needed > available)
        return device_memory_insufficient(err, needed, available, b->device.name, b->options.model_path);
    if (!device_memory_allocate(&b->cuda, &b->device, b->options.model_path, sizes, &b->memory, err))
        return false;
    b->weights = b->memory.regions[REGION_WEIGHTS].address;
    b->kv = b->memory.regions[REGION_KV].address;
    // A place's pages lie side by side; where a cache may take several places, those of a page do.
    const KvLayout *kv = &b->plan->kv;
    b->kv_place_bytes = kv->is_mixed ? kv->place_bytes : b->n_pages * kv->place_bytes;
    b->states = b->memory.regions[REGION_STATES].address;
    lay_out_work(b, b->memory.regions[REGION_WORK].address);
    CUresult r = b->cuda.fill_bytes(b->memory.regions[REGION_WORK].address, 0, sizes[REGION_WORK], b->stream);
    return cuda_ok(&b->cuda, r, "clearing the working memory", err);
}

// ---- what the host sends from and reads into ----

static bool make_events(CudaBackend *b, Error *err) {
    CUresult r = CUDA_SUCCESS;
    for (uint32_t i = 0; i < CELLS && r == CUDA_SUCCESS; i++) {
        r = b->cuda.event_create(&b->cells[i].sent, CU_EVENT_DISABLE_TIMING);
    }
    for (uint32_t i = 0; i < FLIGHTS && r == CUDA_SUCCESS; i++) {
        r = b->cuda.event_create(&b->flights[i].ran, CU_EVENT_DISABLE_TIMING);
        if (r == CUDA_SUCCESS) r = b->cuda.event_create(&b->flights[i].fetched, CU_EVENT_DISABLE_TIMING);
        if (r == CUDA_SUCCESS) r = b->cuda.event_create(&b->flights[i].masks_sent, CU_EVENT_DISABLE_TIMING);
    }
    return cuda_ok(&b->cuda, r, "making events", err);
}

// What a step may send of its sequences' lists: pages that come new to each, at most.
static uint64_t page_lists_bytes(const CudaBackend *b) {
    const KvLayout *l = &b->plan->kv;
    uint64_t windows = min_u64(b->pages_max, kv_layout_window_pages(l, b->options.max_rows));
    uint64_t pages = l->n_full * b->pages_max + (l->n_lists - l->n_full) * windows;
    return b->options.n_slots * pages * sizeof(uint32_t);
}

static bool make_host_memory(CudaBackend *b, Error *err) {
    const BackendOptions *o = &b->options;
    uint64_t a_sequence = b->n_seen_words * sizeof(uint32_t) + sizeof(SampleRules) +
                          b->plan->n_vocab * sizeof(uint16_t) + sizeof(SlotState);
    uint64_t a_step = page_lists_bytes(b) + cuda_batch_step_bytes(b) + cuda_masks_bytes(b);
    b->cell_bytes = align_up(max_u64(a_sequence, a_step), 64);
    uint64_t logprobs_at = align_up(cuda_tokens_bytes(b), 64);
    uint64_t ring_bytes = align_up(logprobs_at + cuda_logprobs_bytes(b), 64);
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
    b->logits_bytes = (uint64_t)o->max_rows * b->plan->n_vocab * sizeof(float);
    b->logits = os_reserve(b->logits_bytes);
    if (!b->logits)
        return error_set(err, ERR_NO_MEMORY, "%llu bytes for logits cannot be reserved",
                         (unsigned long long)b->logits_bytes);
    return make_events(b, err);
}

// ---- programs ----

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

// The repacking kernels, the stages' programs, then those around a library's products.
static bool start_jit(CudaBackend *b, const LowerTarget *target, Error *err) {
    Dtype formats[DTYPE_COUNT];
    JitProgram around[LIBRARY_PROGRAMS_MAX];
    const BatchLowered *lowered = &b->batches->lowered;
    uint32_t n_stages = lowered->n_first_programs, n_formats = formats_of(b, formats);
    uint32_t n_around = b->options.products ? n_formats + 1 : 0, n = n_formats + n_stages + n_around;
    uint32_t max_rows = lowered->classes[BATCH_CLASS_PROMPT].size.max_rows;
    if (n_around && !library_programs(target, max_rows, formats, n_formats, b->arena, around, err))
        return false;
    JitProgram *programs = arena_new(b->arena, JitProgram, n);
    if (!programs) return error_set(err, ERR_NO_MEMORY, "the list of kernels does not fit its memory");
    for (uint32_t i = 0; i < n_formats; i++) {
        if (!batch_repack_program(formats[i], b->arena, &programs[i], err)) return false;
    }
    memcpy(programs + n_formats, lowered->programs, n_stages * sizeof *programs);
    memcpy(programs + n_formats + n_stages, around, n_around * sizeof *programs);
    JitOptions options = {
        .sm = b->device.sm, .cache = b->options.jit_cache, .compiler = b->options.jit_compiler};
    return jit_start(&options, programs, n, b->arena, &b->jit, err) && cuda_batch_start_later(b, err);
}

static bool upload(CudaBackend *b, BackendProgressFn *progress, void *context, Error *err) {
    Dtype formats[DTYPE_COUNT];
    Kernel kernels[DTYPE_COUNT] = {0};
    uint32_t n_formats = formats_of(b, formats);
    Upload u = {.cuda = &b->cuda,
                .context = b->context,
                .placement = &b->placement,
                .weights = b->weights,
                .staging = b->memory.regions[REGION_STAGING].address,
                .n_threads = upload_threads(),
                .progress = progress,
                .progress_context = context};
    bool ok = true;
    for (uint32_t i = 0; ok && i < n_formats; i++) {
        JitImage image;
        ok = jit_wait(b->jit, i, &image, err) &&
             kernel_load(&b->cuda, &b->device, "tile_repack_kernel", &image, NULL, &kernels[i], err);
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
    if (!cuda_batch_load_first(b, b->jit, n_formats, err) ||
        !library_load(b, b->jit, n_formats + b->batches->lowered.n_first_programs, formats, n_formats, err))
        return false;
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

// ---- all of it ----

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

static bool lower(CudaBackend *b, const LowerTarget *target, Error *err) {
    return cuda_batch_lower(b, target, err) && make_slots(b, err);
}

bool cuda_load(Backend *backend, const Plan *plan, BackendProgressFn *progress, void *context, Error *err) {
    CudaBackend *b = cuda_self(backend);
    uint64_t begin_ns = os_monotonic_ns();
    b->plan = plan;
    LowerTarget target = lower_target_of_device(&b->device);
    bool ok = lower(b, &target, err) && start_jit(b, &target, err);
    if (!ok) return false;
    if (!open_context(b, err)) return false; // the compiler is at work meanwhile
    CUresult r = b->cuda.context_use(b->context);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_create(&b->stream, CU_STREAM_NON_BLOCKING);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_create(&b->copy_stream, CU_STREAM_NON_BLOCKING);
    if (!cuda_ok(&b->cuda, r, "opening the GPU", err)) return false;
    ok = make_memory(b, err) && make_host_memory(b, err) && upload(b, progress, context, err) &&
         load_kernels(b, err);
    if (!ok) return false;
    device_memory_release(&b->memory, REGION_STAGING);
    if (!device_memory_is_resident(&b->memory, err)) return false;
    if (!cuda_ok(&b->cuda, b->cuda.stream_synchronize(b->stream), "loading", err)) return false;
    backend->info.n_slots = b->options.n_slots;
    backend->info.n_kv_pages = b->n_pages;
    backend->info.n_checkpoints = b->n_checkpoints;
    backend->info.checkpoint_bytes = cuda_state_bytes(b);
    backend->info.chunk_slices = plan->n_layers;
    backend->info.vram_bytes_used = device_memory_used(&b->memory);
    cuda_batch_loaded(b);
    backend->info.rows_together = b->batches->lowered.rows_max;
    backend->info.rows_tile = BATCH_SHORTEST_ROWS;
    backend->info.load_seconds = (double)(os_monotonic_ns() - begin_ns) * 1e-9;
    return true;
}

bool cuda_fit(const BackendOptions *options, const Plan *plan, const LowerTarget *target, uint64_t available,
              Arena *arena, CudaFit *out, Error *err) {
    CudaBackend *b = arena_new(arena, CudaBackend, 1);
    if (!b) return error_set(err, ERR_NO_MEMORY, "the CUDA backend does not fit its memory");
    b->options = *options;
    b->arena = arena;
    b->plan = plan;
    if (!lower(b, target, err)) return false;
    uint64_t sizes[REGION_COUNT], needed = size_regions(b, available, sizes);
    *out = (CudaFit){.weights_bytes = sizes[REGION_WEIGHTS],
                     .work_bytes = sizes[REGION_WORK],
                     .states_bytes = sizes[REGION_STATES],
                     .n_checkpoints = b->n_checkpoints,
                     .staging_bytes = sizes[REGION_STAGING],
                     .reserve_bytes = RESERVE_BYTES,
                     .kv_page_bytes = page_bytes_of(b),
                     .kv_bytes = sizes[REGION_KV],
                     .n_kv_pages = b->n_pages,
                     .n_slots = b->options.n_slots,
                     .fits = needed <= available};
    return true;
}

void cuda_unload(CudaBackend *b) {
    jit_end(b->jit);
    if (b->batches) jit_end(b->batches->later);
    if (b->context) {
        b->cuda.context_use(b->context);
        b->cuda.context_synchronize(); // nothing may be under way when memory goes
        if (b->batches) cuda_batch_unload(b);
        cuda_clock_close(&b->api);
        for (uint32_t i = 0; i < CELLS; i++) {
            if (b->cells[i].sent) b->cuda.event_destroy(b->cells[i].sent);
        }
        for (uint32_t i = 0; i < FLIGHTS; i++) {
            if (b->flights[i].ran) b->cuda.event_destroy(b->flights[i].ran);
            if (b->flights[i].fetched) b->cuda.event_destroy(b->flights[i].fetched);
            if (b->flights[i].masks_sent) b->cuda.event_destroy(b->flights[i].masks_sent);
        }
        if (b->pinned) b->cuda.pinned_free(b->pinned);
        device_memory_release_all(&b->memory);
        if (b->stream) b->cuda.stream_destroy(b->stream);
        if (b->copy_stream) b->cuda.stream_destroy(b->copy_stream);
        b->cuda.context_release(b->device.handle);
    }
    os_release(b->logits, b->logits_bytes);
}
