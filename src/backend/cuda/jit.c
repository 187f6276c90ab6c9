#include "backend/cuda/jit.h"

#include "backend/cuda/jit_cache.h"
#include "base/embed.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "os/os.h"

#include <nvrtc.h>
#include <stdio.h>

// Address space for images, sources and logs of all programs; pages cost nothing until they are used.
enum { MEMORY_BYTES = 1 << 30, SOURCE_BYTES_MAX = 64 << 10, HEADERS_MAX = 128 };

typedef struct {
    Str source; // NULL: the compiler is not ours
    JitKey key;
    _Atomic uint32_t done; // 1: image or error is there
    bool ok;
    JitImage image;
    Error error;
} Result;

// A thread that waits for its helper, a process in which the compiler runs: in one process, NVRTC (13.0)
// reads one source at a time, 50 ms of each program's time, so that 25 programs took 1.4 to 1.7 s on 16
// processors. Without a helper the thread compiles by itself, in this process.
typedef struct {
    Jit *jit;
    uint32_t index;
    OsThread thread;
    OsHelper helper;
    bool has_helper;
} Worker;

// A helper's answer; the image follows.
typedef struct {
    bool ok;
    uint64_t size;
    Error error;
} Reply;

struct Jit {
    const JitProgram *programs;
    uint32_t n_programs;
    uint32_t *order; // [n_wanted] those that the cache does not have, the costliest first; in the background
                     // as they came, since they are waited for in this order
    uint32_t n_wanted;
    Result *results; // [n_programs]
    Worker workers[JIT_THREADS_MAX];
    uint32_t n_workers;
    const JitCompiler *compiler; // NULL: NVRTC
    uint32_t sm;
    char architecture[24];
    bool is_ptx;
    bool has_own_cache; // NVRTC from 12.9 on: results go into the driver's cache, see below
    bool in_background;
    _Atomic uint32_t go; // 1: one in the background may begin; 2: it is not wanted any more
    Sha256 common;       // of what all keys begin with
    const char *header_names[HEADERS_MAX];
    const char *header_texts[HEADERS_MAX];
    int n_headers;
    uint64_t begin_ns;
    void *memory;
    _Atomic uint32_t next; // in `order`

    pthread_mutex_t lock; // for what follows
    JitCache cache;
    Arena arena; // of `memory`
    bool store_failed;
    JitReport report;
};

void jit_version(char out[16]) {
    int major = 0, minor = 0;
    nvrtcVersion(&major, &minor);
    snprintf(out, 16, "%d.%d", major & 255, minor & 255);
}

void jit_architecture(uint32_t sm, char out[24], bool *is_ptx) {
    int known[64], n = 0;
    out[0] = 0;
    *is_ptx = false;
    if (nvrtcGetNumSupportedArchs(&n) != NVRTC_SUCCESS || n > (int)COUNT_OF(known)) return;
    if (nvrtcGetSupportedArchs(known) != NVRTC_SUCCESS) return;
    uint32_t best = 0;
    for (int i = 0; i < n; i++) {
        if ((uint32_t)known[i] <= sm && (uint32_t)known[i] > best) best = (uint32_t)known[i];
    }
    if (best == 0) return;
    *is_ptx = best / 10 != sm / 10; // a cubin also runs on later ones of its generation
    // Bulk copies run everywhere from 9.0 on; what is 9.0's alone (wgmma, setmaxnreg) needs the "a".
    snprintf(out, 24, "%s_%u%s", *is_ptx ? "compute" : "sm", best, best == 90 && sm == 90 ? "a" : "");
}

// ---- one program ----

static void *take(Jit *jit, size_t size) {
    pthread_mutex_lock(&jit->lock);
    void *memory = arena_alloc(&jit->arena, 1, size, 64);
    pthread_mutex_unlock(&jit->lock);
    return memory;
}

static void warn(Jit *jit, const char *message) {
    pthread_mutex_lock(&jit->lock);
    if (!jit->report.warning[0]) snprintf(jit->report.warning, sizeof jit->report.warning, "%s", message);
    pthread_mutex_unlock(&jit->lock);
}

static Str write_source(const JitProgram *program, char *memory) {
    StrBuf b = strbuf_from_memory(memory, SOURCE_BYTES_MAX);
    strbuf_put(&b, program->defines);
    for (uint32_t i = 0; program->files[i]; i++)
        strbuf_printf(&b, "#include \"%s\"\n", program->files[i]);
    if (b.truncated) return (Str){0};
    return strbuf_str(&b);
}

static JitKey key_of(const Jit *jit, Str source) {
    JitKey key = {0};
    Sha256 h = jit->common;
    sha256_add(&h, source.ptr, source.len);
    sha256_end(&h, key.bytes);
    return key;
}

// The log from its first error on, a few lines of it: message, line of source, and a mark below it.
static bool set_compile_error(Jit *jit, const JitProgram *program, nvrtcProgram handle, nvrtcResult code,
                              Error *err) {
    size_t size = 0;
    char *log = NULL;
    if (nvrtcGetProgramLogSize(handle, &size) == NVRTC_SUCCESS && size > 1) log = take(jit, size);
    if (!log || nvrtcGetProgramLog(handle, log) != NVRTC_SUCCESS) {
        return error_set(err, ERR_INTERNAL, "kernel %s for %s does not compile: %s", program->name,
                         jit->architecture, nvrtcGetErrorString(code));
    }
    const char *from = strstr(log, "error");
    while (from && from > log && from[-1] != '\n')
        from--;
    if (!from) from = log;
    const char *end = from;
    for (int lines = 0; lines < 3 && *end; lines++)
        end += strcspn(end, "\n") + (end[strcspn(end, "\n")] == '\n');
    return error_set(err, ERR_INTERNAL, "kernel %s for %s does not compile: %.*s", program->name,
                     jit->architecture, (int)(end - from), from);
}

static bool get_image(Jit *jit, nvrtcProgram handle, JitImage *out) {
    size_t size = 0;
    nvrtcResult r = jit->is_ptx ? nvrtcGetPTXSize(handle, &size) : nvrtcGetCUBINSize(handle, &size);
    char *image = r == NVRTC_SUCCESS ? take(jit, size) : NULL;
    if (!image) return false;
    *out = (JitImage){image, size};
    return (jit->is_ptx ? nvrtcGetPTX(handle, image) : nvrtcGetCUBIN(handle, image)) == NVRTC_SUCCESS;
}

// NVRTC 12.9 began to keep what it compiles in the driver's cache, in a folder that nobody asked for.
static bool nvrtc_has_own_cache(void) {
    int major = 0, minor = 0;
    return nvrtcVersion(&major, &minor) == NVRTC_SUCCESS && (major > 12 || (major == 12 && minor >= 9));
}

static const char *const usual_options[] = {
    "--std=c++17",
    // A sum takes up the product before it only where the source says so (fma_f32): results must not depend
    // on what the compiler sees side by side, which differs with the ring's size and the GPU.
    "--fmad=false",
    // Generic lambdas in device functions have no place for an annotation.
    "--device-as-default-execution-space",
};

static bool compile(Jit *jit, const JitProgram *program, const char *source, JitImage *out, Error *err) {
    char architecture[48], name[128];
    nvrtcProgram handle;
    snprintf(architecture, sizeof architecture, "--gpu-architecture=%s", jit->architecture);
    snprintf(name, sizeof name, "%s.cu", program->name);
    const char *options[COUNT_OF(usual_options) + 2];
    int n_options = 0;
    options[n_options++] = architecture;
    for (size_t i = 0; i < COUNT_OF(usual_options); i++)
        options[n_options++] = usual_options[i];
    if (jit->has_own_cache) options[n_options++] = "--no-cache";
    nvrtcResult r =
        nvrtcCreateProgram(&handle, source, name, jit->n_headers, jit->header_texts, jit->header_names);
    if (r != NVRTC_SUCCESS) {
        return error_set(err, ERR_INTERNAL, "the kernel compiler does not start: %s", nvrtcGetErrorString(r));
    }
    r = nvrtcCompileProgram(handle, n_options, options);
    bool ok = r == NVRTC_SUCCESS ? get_image(jit, handle, out) ||
                                       error_set(err, ERR_NO_MEMORY, "kernel %s does not fit", program->name)
                                 : set_compile_error(jit, program, handle, r, err);
    nvrtcDestroyProgram(&handle);
    return ok;
}

static bool load(Jit *jit, const JitKey *key, JitImage *out) {
    Str content;
    Error problem;
    pthread_mutex_lock(&jit->lock); // the arena is shared; reading from the page cache takes microseconds
    bool found = jit_cache_load(&jit->cache, key, &jit->arena, &content, &problem);
    pthread_mutex_unlock(&jit->lock);
    if (!found && problem.code != ERR_NONE) warn(jit, problem.message);
    if (found) *out = (JitImage){content.ptr, content.len};
    return found;
}

static void store(Jit *jit, const JitKey *key, const JitImage *image) {
    Error problem;
    pthread_mutex_lock(&jit->lock);
    bool failed = !jit->store_failed &&
                  !jit_cache_store(&jit->cache, key, (Str){image->data, image->size}, jit->arena, &problem);
    jit->store_failed |= failed;
    pthread_mutex_unlock(&jit->lock);
    if (failed) warn(jit, problem.message);
}

// With a compiler that tests brought.
static bool compile_elsewhere(Jit *jit, const JitProgram *program, JitImage *out, Error *err) {
    uint8_t *image = take(jit, JIT_COMPILER_IMAGE_BYTES);
    *out = (JitImage){image, JIT_COMPILER_IMAGE_BYTES};
    if (!image) return error_set(err, ERR_NO_MEMORY, "kernel %s does not fit", program->name);
    return jit->compiler->compile(program, jit->sm, image, err);
}

static void count(Jit *jit, const JitProgram *program, bool cached, bool ok, uint64_t begin_ns) {
    uint64_t now = os_monotonic_ns();
    double seconds = (double)(now - begin_ns) * 1e-9;
    pthread_mutex_lock(&jit->lock);
    JitReport *r = &jit->report;
    r->from_cache += cached;
    r->compiled += ok && !cached;
    r->seconds = (double)(now - jit->begin_ns) * 1e-9;
    if (!cached && seconds > r->slowest_seconds) {
        r->slowest = program->name;
        r->slowest_seconds = seconds;
    }
    pthread_mutex_unlock(&jit->lock);
}

// ---- helpers ----

// Held for reading while a thread of this process is in NVRTC, for writing while copies of the process are
// made: NVRTC's own locks, copied while somebody has them, would stay locked in the copy. Those who copy go
// before those who have yet to compile. Helpers do without it: theirs is a copy that is locked.
static pthread_rwlock_t compiling_here = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static bool compile_here(Jit *jit, uint32_t index, JitImage *out, Error *err) {
    pthread_rwlock_rdlock(&compiling_here);
    bool ok = compile(jit, &jit->programs[index], jit->results[index].source.ptr, out, err);
    pthread_rwlock_unlock(&compiling_here);
    return ok;
}

static void help(OsHelper *maker, void *context) {
    Jit *jit = context; // a copy: what it takes of the arena is its own
    Arena before = jit->arena;
    uint32_t index;
    while (os_helper_receive(maker, &index, sizeof index)) {
        JitImage image = {0};
        Reply reply = {0};
        jit->arena = before;
        reply.ok = compile(jit, &jit->programs[index], jit->results[index].source.ptr, &image, &reply.error);
        reply.size = reply.ok ? image.size : 0;
        if (!os_helper_send(maker, &reply, sizeof reply) || !os_helper_send(maker, image.data, reply.size))
            return;
    }
}

// False where the helper is gone.
static bool compile_in_helper(Worker *w, uint32_t index, JitImage *out, bool *ok, Error *err) {
    Reply reply;
    if (!os_helper_send(&w->helper, &index, sizeof index) ||
        !os_helper_receive(&w->helper, &reply, sizeof reply))
        return false;
    *ok = reply.ok;
    if (!reply.ok) {
        *err = reply.error;
        return true;
    }
    void *image = take(w->jit, reply.size);
    *out = (JitImage){image, reply.size};
    return image && os_helper_receive(&w->helper, image, reply.size);
}

static void make_program(Worker *w, uint32_t index) {
    Jit *jit = w->jit;
    uint64_t begin_ns = os_monotonic_ns();
    const JitProgram *program = &jit->programs[index];
    Result *r = &jit->results[index];
    if (jit->compiler) {
        r->ok = compile_elsewhere(jit, program, &r->image, &r->error);
        return;
    }
    if (w->has_helper) w->has_helper = compile_in_helper(w, index, &r->image, &r->ok, &r->error);
    if (!w->has_helper) r->ok = compile_here(jit, index, &r->image, &r->error);
    if (r->ok) store(jit, &r->key, &r->image);
    count(jit, program, false, r->ok, begin_ns);
}

static void finish(Result *r) {
    atomic_store(&r->done, 1);
    os_wake_word(&r->done);
}

static void *compile_thread(void *context) {
    Worker *w = context;
    for (;;) {
        uint32_t turn = atomic_fetch_add(&w->jit->next, 1);
        if (turn >= w->jit->n_wanted) break;
        uint32_t index = w->jit->order[turn];
        make_program(w, index);
        finish(&w->jit->results[index]);
    }
    os_helper_end(&w->helper);
    return NULL;
}

// ---- in the background ----

// Worker i of n has every n-th program from the i-th on. Its helper needs no orders, only to be let go.
static void help_behind(OsHelper *maker, void *context) {
    const Worker *w = context;
    Jit *jit = w->jit; // a copy
    Arena before = jit->arena;
    uint8_t go;
    if (!os_helper_receive(maker, &go, sizeof go)) return;
    os_helper_stay_behind(maker);
    for (uint32_t turn = w->index; turn < jit->n_wanted; turn += jit->n_workers) {
        JitImage image = {0};
        Reply reply = {0};
        Result *r = &jit->results[jit->order[turn]];
        jit->arena = before;
        reply.ok = compile(jit, &jit->programs[jit->order[turn]], r->source.ptr, &image, &reply.error);
        reply.size = reply.ok ? image.size : 0;
        if (reply.ok) store(jit, &r->key, &image);
        if (!os_helper_send(maker, &reply, sizeof reply) || !os_helper_send(maker, image.data, reply.size))
            return;
    }
}

static bool receive_image(Worker *w, Result *r) {
    Reply reply;
    if (!w->has_helper || !os_helper_receive(&w->helper, &reply, sizeof reply)) return false;
    r->ok = reply.ok;
    r->error = reply.error;
    if (!reply.ok) return true;
    void *image = take(w->jit, reply.size);
    r->image = (JitImage){image, reply.size};
    return image && os_helper_receive(&w->helper, image, reply.size);
}

static void *receive_thread(void *context) {
    Worker *w = context;
    Jit *jit = w->jit;
    while (atomic_load(&jit->go) == 0)
        os_wait_word(&jit->go, 0, UINT32_MAX);
    for (uint32_t turn = w->index; turn < jit->n_wanted && atomic_load(&jit->go) == 1;
         turn += jit->n_workers) {
        uint32_t index = jit->order[turn];
        Result *r = &jit->results[index];
        if (jit->compiler) {
            make_program(w, index);
        } else if (!receive_image(w, r)) {
            r->ok = error_set(&r->error, ERR_INTERNAL, "kernel %s was not compiled: its compiler has ended",
                              jit->programs[index].name);
            w->has_helper = false;
        }
        finish(r);
    }
    return NULL;
}

void jit_go(Jit *jit) {
    uint8_t go = 1;
    for (uint32_t i = 0; i < jit->n_workers; i++) {
        Worker *w = &jit->workers[i];
        w->has_helper = w->has_helper && os_helper_send(&w->helper, &go, sizeof go);
    }
    atomic_store(&jit->go, 1);
    os_wake_word(&jit->go);
}

static void end_background(Jit *jit) {
    if (!jit->in_background) return;
    atomic_store(&jit->go, 2);
    os_wake_word(&jit->go);
    for (uint32_t i = 0; i < jit->n_workers; i++)
        os_helper_hang_up(&jit->workers[i].helper);
}

bool jit_is_done(const Jit *jit, uint32_t program) {
    return atomic_load(&jit->results[program].done) != 0;
}

// ---- all of them ----

// Headers for the compiler, and the part of the key that all programs share. Any change of any kernel changes
// every key: that costs a recompilation of a few seconds once, and cannot be wrong.
static bool read_embedded(Jit *jit, Error *err) {
    char version[16];
    jit_version(version);
    sha256_begin(&jit->common);
    sha256_add(&jit->common, version, strlen(version) + 1);
    sha256_add(&jit->common, jit->architecture, strlen(jit->architecture) + 1);
    for (size_t i = 0; i < COUNT_OF(usual_options); i++)
        sha256_add(&jit->common, usual_options[i], strlen(usual_options[i]) + 1);
    if (embedded_file_count > HEADERS_MAX)
        return error_set(err, ERR_INTERNAL, "too many embedded kernel sources");
    for (size_t i = 0; i < embedded_file_count; i++) {
        const EmbeddedFile *file = &embedded_files[i];
        jit->header_names[jit->n_headers] = file->name;
        jit->header_texts[jit->n_headers++] = (const char *)file->data;
        sha256_add(&jit->common, file->name, strlen(file->name) + 1);
        sha256_add(&jit->common, file->data, file->size + 1);
    }
    return true;
}

// What the cache has is done; the rest is put in order. (Reading 25 programs takes 5 ms.)
static void look_up(Jit *jit, uint32_t index) {
    Result *r = &jit->results[index];
    uint64_t begin_ns = os_monotonic_ns();
    if (!jit->compiler) {
        char *memory = take(jit, SOURCE_BYTES_MAX);
        r->source = memory ? write_source(&jit->programs[index], memory) : (Str){0};
        if (!r->source.ptr) {
            error_set(&r->error, ERR_NO_MEMORY, "the source of kernel %s does not fit its memory",
                      jit->programs[index].name);
            finish(r);
            return;
        }
        r->key = key_of(jit, r->source);
        r->ok = load(jit, &r->key, &r->image);
        if (r->ok) {
            count(jit, &jit->programs[index], true, true, begin_ns);
            finish(r);
            return;
        }
    }
    uint32_t at = jit->n_wanted++;
    for (;
         !jit->in_background && at > 0 && jit->programs[jit->order[at - 1]].cost < jit->programs[index].cost;
         at--)
        jit->order[at] = jit->order[at - 1];
    jit->order[at] = index;
}

static void start_helpers(Jit *jit) {
    Error ignored; // without a helper it takes longer, or is not done in the background
    pthread_rwlock_wrlock(&compiling_here);
    for (uint32_t i = 0; i < jit->n_workers; i++) {
        Worker *w = &jit->workers[i];
        w->has_helper = jit->in_background ? os_helper_start(&w->helper, help_behind, w, &ignored)
                                           : os_helper_start(&w->helper, help, jit, &ignored);
    }
    pthread_rwlock_unlock(&compiling_here);
}

// All helpers before the first thread: a copy of a process has the thread that made it, and the others'
// locks. What other Jits' threads may hold meanwhile no helper needs, but for NVRTC's.
static bool start_workers(Jit *jit, uint32_t threads, Error *err) {
    uint32_t wanted = threads == 0 ? os_cpu_count() : threads;
    wanted = (uint32_t)min_u64(min_u64(wanted, JIT_THREADS_MAX), jit->n_wanted);
    jit->n_workers = wanted; // which their helpers know
    for (uint32_t i = 0; i < wanted; i++)
        jit->workers[i] = (Worker){.jit = jit, .index = i, .helper = {-1, -1}};
    if (!jit->compiler && (jit->in_background || threads != 1)) start_helpers(jit);
    uint32_t n_started = 0;
    for (; n_started < wanted; n_started++) {
        Worker *w = &jit->workers[n_started];
        void *(*run)(void *) = jit->in_background ? receive_thread : compile_thread;
        if (!os_thread_start(&w->thread, "jit", run, w, err)) break;
    }
    for (uint32_t i = n_started; i < wanted; i++)
        os_helper_end(&jit->workers[i].helper);
    // In the background each has programs of its own.
    bool ok = jit->in_background ? n_started == wanted : n_started > 0 || wanted == 0;
    jit->n_workers = n_started;
    return ok;
}

bool jit_start(const JitOptions *options, const JitProgram *programs, uint32_t n_programs, Arena *arena,
               Jit **out, Error *err) {
    *out = NULL;
    if (n_programs > JIT_PROGRAMS_MAX)
        return error_set(err, ERR_UNSUPPORTED, "the model needs %u kernels", n_programs);
    Jit *jit = arena_new(arena, Jit, 1);
    if (jit) jit->results = arena_new(arena, Result, n_programs);
    if (jit) jit->order = arena_new(arena, uint32_t, n_programs);
    if (!jit || !jit->results || !jit->order)
        return error_set(err, ERR_NO_MEMORY, "the compiler's state does not fit its memory");
    jit->programs = programs;
    jit->n_programs = n_programs;
    jit->has_own_cache = nvrtc_has_own_cache();
    jit->begin_ns = os_monotonic_ns();
    jit->compiler = options->compiler;
    jit->in_background = options->in_background;
    jit->sm = options->sm;
    jit_architecture(options->sm, jit->architecture, &jit->is_ptx);
    if (!jit->architecture[0]) {
        return error_set(err, ERR_NO_DEVICE,
                         "the kernel compiler inside does not know compute capability %u.%u",
                         options->sm / 10, options->sm % 10);
    }
    if (!read_embedded(jit, err)) return false;
    jit->memory = os_reserve(MEMORY_BYTES);
    if (!jit->memory) return error_set(err, ERR_NO_MEMORY, "memory for compiling kernels cannot be reserved");
    jit->arena = arena_from_memory(jit->memory, MEMORY_BYTES);
    pthread_mutex_init(&jit->lock, NULL);
    Error problem;
    const char *cache = options->compiler ? "" : options->cache;
    if (!jit_cache_open(cache, &jit->cache, &problem)) warn(jit, problem.message);
    for (uint32_t i = 0; i < n_programs; i++)
        look_up(jit, i);
    if (!start_workers(jit, options->threads, err)) {
        jit_end(jit);
        return false;
    }
    *out = jit;
    return true;
}

bool jit_wait(Jit *jit, uint32_t program, JitImage *out, Error *err) {
    Result *result = &jit->results[program];
    while (atomic_load(&result->done) == 0)
        os_wait_word(&result->done, 0, UINT32_MAX);
    *out = result->image;
    if (!result->ok) *err = result->error;
    return result->ok;
}

JitReport jit_report(Jit *jit) {
    pthread_mutex_lock(&jit->lock);
    JitReport report = jit->report;
    pthread_mutex_unlock(&jit->lock);
    return report;
}

void jit_end(Jit *jit) {
    if (!jit) return;
    atomic_store(&jit->next, jit->n_wanted); // what has not begun is not wanted any more
    end_background(jit);
    for (uint32_t i = 0; i < jit->n_workers; i++)
        os_thread_join(&jit->workers[i].thread);
    for (uint32_t i = 0; jit->in_background && i < jit->n_workers; i++)
        os_helper_end(&jit->workers[i].helper);
    if (jit->report.compiled > 0) jit_cache_trim(&jit->cache, JIT_CACHE_BYTES_MAX, jit->arena);
    pthread_mutex_destroy(&jit->lock);
    os_release(jit->memory, MEMORY_BYTES);
}
