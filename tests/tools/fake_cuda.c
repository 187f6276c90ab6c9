// A CUDA driver without a GPU, for what the host does around the kernels: memory is the host's, copies happen
// at once, launches do nothing (or run on the emulator: fake_cuda_kernels.h), and any call can be told to
// fail. test_cuda_host.c and emulated_gpu.c compile it as libcuda.so.1 and load it before the program asks
// for the real one.
//
// Environment: FAKE_CUDA_VERSION (12040), FAKE_CUDA_DEVICES (1), FAKE_CUDA_SM (90), FAKE_CUDA_MULTIPROCESSORS
// (132), FAKE_CUDA_MEMORY (bytes, 8 GB), FAKE_CUDA_TAKEN (bytes of it that others hold, 0),
// FAKE_CUDA_FAIL_CALL (the number of the call, from 1, that fails; then all do), FAKE_CUDA_FAIL_FILE (all
// calls fail once there is this file), FAKE_CUDA_FAIL_WITH (CUresult, 700), FAKE_CUDA_STEP_US (how long a
// graph runs), FAKE_CUDA_SPOIL_COPY and FAKE_CUDA_SPOIL_FROM (numbers, from 1, of a copy to the host that
// brings NaN and -1 for whatever is there, and of the first of many), FAKE_CUDA_CLEAR_WITH (byte that cleared
// memory holds, 0), FAKE_CUDA_LOOKS_LIKE (what pointers are said to be: host, managed, other for another
// GPU's).
#include "fake_cuda_kernels.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int Result; // CUresult
typedef unsigned long long DevicePtr;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };

// What a test looks at: allocations that are not given back, and calls so far.
_Atomic long fake_cuda_live, fake_cuda_calls, fake_cuda_launches, fake_cuda_copies, fake_cuda_sends,
    fake_cuda_graphs;
static _Atomic uint64_t memory_used;

static uint64_t setting(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

static Result call(void) {
    uint64_t fails_from = setting("FAKE_CUDA_FAIL_CALL", UINT64_MAX);
    const char *fails_by = getenv("FAKE_CUDA_FAIL_FILE");
    bool fails_now = fails_by && access(fails_by, F_OK) == 0;
    if ((uint64_t)atomic_fetch_add(&fake_cuda_calls, 1) + 1 < fails_from && !fails_now) return SUCCESS;
    return (Result)setting("FAKE_CUDA_FAIL_WITH", 700);
}

static uint64_t memory_size(void) {
    return setting("FAKE_CUDA_MEMORY", 8000000000u);
}

#define CALL()                                \
    do {                                      \
        Result failed = call();               \
        if (failed != SUCCESS) return failed; \
    } while (0)

// Objects are one byte of memory, so that a leak or a double free is one.
static Result make(void **out) {
    CALL();
    *out = malloc(1);
    fake_cuda_live++;
    return SUCCESS;
}
static Result drop(void *object) {
    free(object);
    fake_cuda_live--;
    return SUCCESS;
}

Result cuInit(unsigned flags) {
    (void)flags;
    return call();
}
Result cuDriverGetVersion(int *version) {
    *version = (int)setting("FAKE_CUDA_VERSION", 12040);
    return SUCCESS;
}
Result cuGetErrorName(Result error, const char **out) {
    *out = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_ILLEGAL_ADDRESS";
    return SUCCESS;
}
Result cuGetErrorString(Result error, const char **out) {
    (void)error;
    *out = "as the test wants it";
    return SUCCESS;
}
Result cuDeviceGetCount(int *count) {
    CALL();
    *count = (int)setting("FAKE_CUDA_DEVICES", 1);
    return SUCCESS;
}
Result cuDeviceGet(int *device, int ordinal) {
    CALL();
    *device = ordinal;
    return SUCCESS;
}
Result cuDeviceGetName(char *name, int size, int device) {
    CALL();
    snprintf(name, (size_t)size, "Fake GPU %d", device);
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
    CALL();
    *bytes = memory_size();
    return SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    CALL();
    uint64_t sm = setting("FAKE_CUDA_SM", 90);
    switch (attribute) {              // CU_DEVICE_ATTRIBUTE_…
    case 13: *value = 1980000; break; // CLOCK_RATE
    case 16: *value = (int)setting("FAKE_CUDA_MULTIPROCESSORS", 132); break;
    case 36: *value = 2619000; break;  // MEMORY_CLOCK_RATE
    case 37: *value = 5120; break;     // GLOBAL_MEMORY_BUS_WIDTH
    case 38: *value = 50 << 20; break; // L2_CACHE_SIZE
    case 75: *value = (int)sm / 10; break;
    case 76: *value = (int)sm % 10; break;
    case 81: *value = 228 << 10; break; // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 97: *value = 227 << 10; break; // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: *value = 0;
    }
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) {
    static char the_context;
    (void)device;
    CALL();
    fake_cuda_live++;
    *context = &the_context;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    fake_cuda_live--;
    return SUCCESS;
}
Result cuCtxSetCurrent(void *context) {
    (void)context;
    return call();
}
Result cuCtxSynchronize(void) {
    return call();
}

Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    CALL();
    *total = memory_size();
    *free_bytes = *total - setting("FAKE_CUDA_TAKEN", 0) - memory_used;
    return SUCCESS;
}

// Device memory has its size in front of it.
enum { HEADER = 256 };
Result cuMemAlloc_v2(DevicePtr *out, size_t size) {
    CALL();
    if (memory_used + size > memory_size() - setting("FAKE_CUDA_TAKEN", 0)) return OUT_OF_MEMORY;
    char *memory = aligned_alloc(HEADER, (size + 2 * HEADER - 1) / HEADER * HEADER);
    if (!memory) return OUT_OF_MEMORY;
    memcpy(memory, &size, sizeof size);
    memset(memory + HEADER, 0xA5, size); // what is not written first shows
    memory_used += size;
    fake_cuda_live++;
    *out = (DevicePtr)(uintptr_t)(memory + HEADER);
    return SUCCESS;
}
Result cuMemFree_v2(DevicePtr address) {
    char *memory = (char *)(uintptr_t)address - HEADER;
    size_t size;
    memcpy(&size, memory, sizeof size);
    memory_used -= size;
    return drop(memory);
}
Result cuMemHostAlloc(void **out, size_t size, unsigned flags) {
    (void)flags;
    CALL();
    *out = malloc(size);
    fake_cuda_live++;
    return SUCCESS;
}
Result cuMemFreeHost(void *memory) {
    return drop(memory);
}
Result cuPointerGetAttribute(void *value, int attribute, DevicePtr address) {
    (void)address;
    CALL();
    const char *looks = getenv("FAKE_CUDA_LOOKS_LIKE") ? getenv("FAKE_CUDA_LOOKS_LIKE") : "";
    int answer = 0;
    switch (attribute) {                                        // CU_POINTER_ATTRIBUTE_…
    case 2: answer = strcmp(looks, "host") == 0 ? 1 : 2; break; // MEMORY_TYPE
    case 8: answer = strcmp(looks, "managed") == 0; break;      // IS_MANAGED
    case 9: answer = strcmp(looks, "other") == 0; break;        // DEVICE_ORDINAL
    }
    memcpy(value, &answer, sizeof answer);
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(DevicePtr to, const void *from, size_t size, void *stream) {
    (void)stream;
    CALL();
    fake_cuda_sends++;
    memcpy((void *)(uintptr_t)to, from, size);
    return SUCCESS;
}
Result cuMemcpyDtoHAsync_v2(void *to, DevicePtr from, size_t size, void *stream) {
    (void)stream;
    CALL();
    uint64_t number = (uint64_t)atomic_fetch_add(&fake_cuda_copies, 1) + 1;
    bool spoiled =
        number == setting("FAKE_CUDA_SPOIL_COPY", 0) || number >= setting("FAKE_CUDA_SPOIL_FROM", UINT64_MAX);
    if (spoiled) memset(to, 0xFF, size);
    else memcpy(to, (const void *)(uintptr_t)from, size);
    return SUCCESS;
}
Result cuMemcpyDtoDAsync_v2(DevicePtr to, DevicePtr from, size_t size, void *stream) {
    (void)stream;
    CALL();
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, size);
    return SUCCESS;
}
Result cuMemsetD8Async(DevicePtr to, unsigned char value, size_t size, void *stream) {
    (void)stream;
    CALL();
    memset((void *)(uintptr_t)to, value ? value : (int)setting("FAKE_CUDA_CLEAR_WITH", 0), size);
    return SUCCESS;
}

Result cuStreamCreate(void **out, unsigned flags) {
    (void)flags;
    return make(out);
}
Result cuStreamDestroy_v2(void *stream) {
    return drop(stream);
}
Result cuStreamSynchronize(void *stream) {
    (void)stream;
    return call();
}
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    (void)stream, (void)event, (void)flags;
    return call();
}

// ---- graphs: launches and copies of their arguments ----

typedef struct {
    void *function;
    unsigned grid_x, grid_y, threads, shared_bytes, cluster;
    void *args;
} Launch;

typedef struct {
    Launch *launches;
    unsigned n_launches;
} Graph;

static _Thread_local Graph *recorded; // while this thread captures

static void *copy_of(const void *data, size_t size) {
    return size ? memcpy(malloc(size), data, size) : NULL;
}

static void run(const Launch *l) {
    fake_cuda_launches++;
    if (fake_kernel_run)
        fake_kernel_run(l->function, l->grid_x, l->grid_y, l->threads, l->shared_bytes, l->cluster, l->args);
}

static void record(Launch l) {
    Graph *g = recorded;
    g->launches = realloc(g->launches, (g->n_launches + 1) * sizeof *g->launches);
    l.args = copy_of(l.args, fake_kernel_args_size ? fake_kernel_args_size(l.function) : 0);
    g->launches[g->n_launches++] = l;
}

static Result drop_graph(Graph *g) {
    for (unsigned i = 0; i < g->n_launches; i++)
        free(g->launches[i].args);
    free(g->launches);
    return drop(g);
}

Result cuStreamBeginCapture_v2(void *stream, int mode) {
    (void)stream, (void)mode;
    CALL();
    if (recorded) return INVALID_VALUE;
    recorded = calloc(1, sizeof *recorded);
    fake_cuda_live++;
    return SUCCESS;
}
Result cuStreamEndCapture(void *stream, void **graph) {
    (void)stream;
    Graph *g = recorded;
    recorded = NULL;
    Result failed = call();
    if (!g) return INVALID_VALUE;
    if (failed != SUCCESS) drop_graph(g);
    else *graph = g;
    return failed;
}
Result cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    (void)flags;
    CALL();
    const Graph *g = graph;
    Graph *out = calloc(1, sizeof *out);
    fake_cuda_live++;
    fake_cuda_graphs++;
    recorded = out;
    for (unsigned i = 0; i < g->n_launches; i++)
        record(g->launches[i]);
    recorded = NULL;
    *exec = out;
    return SUCCESS;
}
Result cuGraphUpload(void *exec, void *stream) {
    (void)exec, (void)stream;
    return call();
}
Result cuGraphLaunch(void *exec, void *stream) {
    (void)stream;
    CALL();
    const Graph *g = exec;
    uint64_t us = setting("FAKE_CUDA_STEP_US", 0);
    if (us) usleep((unsigned)us);
    for (unsigned i = 0; i < g->n_launches; i++)
        run(&g->launches[i]);
    return SUCCESS;
}
Result cuGraphExecDestroy(void *exec) {
    return drop_graph(exec);
}
Result cuGraphDestroy(void *graph) {
    return drop_graph(graph);
}

// CUlaunchAttribute and CUlaunchConfig.
typedef struct {
    unsigned id;
    char padding[4];
    union {
        unsigned cluster[3];
        char bytes[64];
    } value;
} LaunchAttribute;
typedef struct {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    const LaunchAttribute *attributes;
    unsigned n_attributes;
} LaunchConfig;
enum { ATTRIBUTE_CLUSTER = 4 };

Result cuLaunchKernelEx(const void *config, void *function, void **params, void **extra) {
    (void)extra;
    CALL();
    const LaunchConfig *c = config;
    Launch l = {function, c->grid[0], c->grid[1], c->block[0], c->shared_bytes, 0, params[0]};
    for (unsigned i = 0; i < c->n_attributes; i++) {
        if (c->attributes[i].id == ATTRIBUTE_CLUSTER) l.cluster = c->attributes[i].value.cluster[0];
    }
    if (recorded) record(l);
    else run(&l);
    return SUCCESS;
}

// ---- events ----

Result cuEventCreate(void **out, unsigned flags) {
    (void)flags;
    return make(out);
}
Result cuEventDestroy_v2(void *event) {
    return drop(event);
}
Result cuEventRecord(void *event, void *stream) {
    (void)event, (void)stream;
    return call();
}
Result cuEventSynchronize(void *event) {
    (void)event;
    return call();
}
Result cuEventElapsedTime(float *ms, void *begin, void *end) {
    (void)begin, (void)end;
    CALL();
    *ms = 1;
    return SUCCESS;
}

// ---- modules ----

// Where nothing runs, a module's one symbol is its StageInfo.
Result cuModuleLoadData(void **module, const void *image) {
    CALL();
    static const unsigned info[6] = {256, 132, 1, 100000, 0, 0};
    if (fake_module_load) *module = fake_module_load(image);
    else *module = memcmp(image, "\177ELF", 4) == 0 ? copy_of(info, sizeof info) : NULL;
    if (!*module) return INVALID_VALUE;
    fake_cuda_live++;
    return SUCCESS;
}
Result cuModuleUnload(void *module) {
    if (!fake_module_unload) return drop(module);
    fake_module_unload(module);
    fake_cuda_live--;
    return SUCCESS;
}
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    CALL();
    *function = fake_module_function ? fake_module_function(module, name) : module;
    return *function && name[0] ? SUCCESS : NOT_FOUND;
}
Result cuModuleGetGlobal_v2(DevicePtr *address, size_t *size, void *module, const char *name) {
    CALL();
    const void *info = fake_module_info ? fake_module_info(module, name) : module;
    *address = (DevicePtr)(uintptr_t)info;
    *size = 24;
    return info && name[0] ? SUCCESS : NOT_FOUND;
}
Result cuFuncGetAttribute(int *value, int attribute, void *function) {
    (void)attribute, (void)function;
    CALL();
    *value = 1024;
    return SUCCESS;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) {
    (void)function, (void)attribute, (void)value;
    return call();
}
