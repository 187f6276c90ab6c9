#include "backend/cuda/cuda_clock.h"

#include "backend/cuda/batch_lower_internal.h"
#include "backend/cuda/cuda_internal.h"

struct CudaClock {
    Kernel kernel;
    CUdeviceptr out;
    ClockReading begin[READ_CLOCKS_MAX], end[READ_CLOCKS_MAX];
    uint64_t cycles, ns; // of all multiprocessors, since cuda_clock_take
};

void cuda_clock_program(uint32_t multiprocessors, Arena *arena, JitProgram *out) {
    static const char *const files[] = {FILES_COMMON, "read_clocks.cuh", NULL};
    StrBuf text = strbuf_begin_in_arena(arena);
    define(&text, "BLOCKS", 2ull * multiprocessors);
    *out = (JitProgram){.name = "read_clocks", .files = files, .defines = strbuf_end_in_arena(&text, arena)};
}

static bool load(CudaBackend *b, CudaClock *c, Arena scratch, Error *err) {
    JitProgram program;
    cuda_clock_program(b->device.multiprocessors, &scratch, &program);
    JitOptions options = {
        .sm = b->device.sm, .cache = b->options.jit_cache, .threads = 1, .compiler = b->options.jit_compiler};
    Jit *jit;
    JitImage image;
    if (!jit_start(&options, &program, 1, &scratch, &jit, err)) return false;
    bool ok = jit_wait(jit, 0, &image, err) &&
              kernel_load(&b->cuda, &b->device, "read_clocks", &image, b->stream, &c->kernel, err);
    jit_end(jit);
    CUresult r = ok ? b->cuda.memory_allocate(&c->out, sizeof c->begin) : CUDA_SUCCESS;
    return ok && cuda_ok(&b->cuda, r, "memory for the clocks' readings", err);
}

bool cuda_clock_open(Backend *backend, Error *err) {
    CudaBackend *b = cuda_self(backend);
    b->clock = arena_new(b->arena, CudaClock, 1);
    if (!b->clock) return error_set(err, ERR_NO_MEMORY, "the clocks' readings do not fit their memory");
    return load(b, b->clock, b->inspection, err);
}

void cuda_clock_close(Backend *backend) {
    CudaBackend *b = cuda_self(backend);
    if (!b->clock) return;
    if (b->clock->out) b->cuda.memory_free(b->clock->out);
    kernel_unload(&b->cuda, &b->clock->kernel);
    b->clock = NULL;
}

static bool read_clocks(CudaBackend *b, ClockReading out[READ_CLOCKS_MAX], Error *err) {
    CudaClock *c = b->clock;
    ReadClocksArgs args = {.out = c->out};
    uint64_t bytes = sizeof c->begin;
    CUresult r = b->cuda.fill_bytes(c->out, 0, bytes, b->stream);
    if (!cuda_ok(&b->cuda, r, "reading the clocks", err) ||
        !kernel_launch(&b->cuda, &(Launch){.kernel = &c->kernel, .args = &args}, false, b->stream, err))
        return false;
    r = b->cuda.copy_to_host(out, c->out, bytes, b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "reading the clocks", err);
}

bool cuda_clock_begin(Backend *backend, Error *err) {
    CudaBackend *b = cuda_self(backend);
    return !b->clock || read_clocks(b, b->clock->begin, err);
}

bool cuda_clock_end(Backend *backend, Error *err) {
    CudaClock *c = cuda_self(backend)->clock;
    if (!c) return true;
    if (!read_clocks(cuda_self(backend), c->end, err)) return false;
    for (uint32_t i = 0; i < READ_CLOCKS_MAX; i++) {
        if (!c->begin[i].ns || c->end[i].ns <= c->begin[i].ns) continue;
        c->cycles += c->end[i].cycles - c->begin[i].cycles;
        c->ns += c->end[i].ns - c->begin[i].ns;
    }
    return true;
}

double cuda_clock_take(Backend *backend) {
    CudaClock *c = cuda_self(backend)->clock;
    double mhz = c && c->ns ? (double)c->cycles * 1e3 / (double)c->ns : 0;
    if (c) c->cycles = c->ns = 0;
    return mhz;
}
