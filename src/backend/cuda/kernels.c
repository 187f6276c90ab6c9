#include "backend/cuda/kernels.h"

#include <stdio.h>

enum { SHARED_BYTES_USUAL = 48 << 10 }; // more must be asked for

static bool read_info(const Cuda *cuda, const char *name, CUstream stream, Kernel *k, Error *err) {
    char symbol[128], what[160];
    CUdeviceptr address = 0;
    size_t size = 0;
    snprintf(symbol, sizeof symbol, "%s_info", name);
    snprintf(what, sizeof what, "reading %s", symbol);
    CUresult r = cuda->module_global(&address, &size, k->module, symbol);
    if (r == CUDA_SUCCESS && size != sizeof k->info) {
        return error_set(err, ERR_INTERNAL, "%s has %zu bytes; expected %zu", symbol, size, sizeof k->info);
    }
    if (r == CUDA_SUCCESS) r = cuda->copy_to_host(&k->info, address, size, stream);
    if (r == CUDA_SUCCESS) r = cuda->stream_synchronize(stream);
    return cuda_ok(cuda, r, what, err);
}

static bool prepare(const Cuda *cuda, const CudaDevice *device, const char *name, Kernel *k, Error *err) {
    const StageInfo *info = &k->info;
    int threads_max = 0;
    CUresult r = cuda->function_attribute(&threads_max, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, k->function);
    if (r == CUDA_SUCCESS &&
        ((int)info->threads > threads_max || info->shared_bytes > device->shared_bytes_block)) {
        return error_set(
            err, ERR_UNSUPPORTED,
            "kernel %s wants %u threads and %u bytes of shared memory a block; %s allows %d and %u", name,
            info->threads, info->shared_bytes, device->name, threads_max, device->shared_bytes_block);
    }
    if (r == CUDA_SUCCESS && info->shared_bytes > SHARED_BYTES_USUAL) {
        r = cuda->function_set_attribute(k->function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                         (int)info->shared_bytes);
    }
    // All of the multiprocessor's memory as shared memory, so that two blocks fit: the driver's guess is for
    // one kernel alone.
    if (r == CUDA_SUCCESS) {
        r = cuda->function_set_attribute(k->function, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                                         100);
    }
    return cuda_ok(cuda, r, name, err);
}

bool kernel_load(const Cuda *cuda, const CudaDevice *device, const char *name, const JitImage *image,
                 CUstream stream, Kernel *out, Error *err) {
    *out = (Kernel){0};
    CUresult r = cuda->module_load(&out->module, image->data);
    if (r == CUDA_SUCCESS) r = cuda->module_function(&out->function, out->module, name);
    if (!cuda_ok(cuda, r, name, err)) return false;
    return !stream || (read_info(cuda, name, stream, out, err) && prepare(cuda, device, name, out, err));
}

void kernel_unload(const Cuda *cuda, Kernel *kernel) {
    if (kernel->module) cuda->module_unload(kernel->module);
    *kernel = (Kernel){0};
}

bool kernel_launch(const Cuda *cuda, const Launch *launch, bool overlap, CUstream stream, Error *err) {
    if (launch->ahead && !launch->ahead(launch->context, stream, err)) return false;
    if (!launch->kernel) return true;
    const StageInfo *info = &launch->kernel->info;
    bool may_be_alone = info->cluster && info->blocks_alone;
    unsigned alone = may_be_alone ? launch->alone : 0;
    CUlaunchAttribute attributes[2];
    unsigned n = 0;
    if (overlap && !launch->ahead)
        attributes[n++] = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                              .value = {.programmaticStreamSerializationAllowed = 1}};
    if (may_be_alone && !alone)
        attributes[n++] = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                                              .value = {.clusterDim = {info->cluster, 1, 1}}};
    CUlaunchConfig config = {.gridDimX = alone ? alone * info->blocks_alone : info->grid[0],
                             .gridDimY = info->grid[1],
                             .gridDimZ = 1,
                             .blockDimX = info->threads,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .sharedMemBytes = info->shared_bytes,
                             .hStream = stream,
                             .attrs = attributes,
                             .numAttrs = n};
    void *params[] = {launch->args};
    return cuda_ok(cuda, cuda->launch(&config, launch->kernel->function, params, NULL), "launching a kernel",
                   err);
}

static bool record(const Cuda *cuda, const Launch *launches, uint32_t n_launches, bool overlap,
                   CUstream stream, CUgraphExec *out, Error *err) {
    CUgraph graph = NULL;
    CUresult r = cuda->capture_begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    if (!cuda_ok(cuda, r, "recording a graph", err)) return false;
    bool ok = true;
    for (uint32_t i = 0; ok && i < n_launches; i++)
        ok = kernel_launch(cuda, &launches[i], overlap && i > 0, stream, err);
    r = cuda->capture_end(stream, &graph); // also after an error: it ends the capture
    ok = ok && cuda_ok(cuda, r, "recording a graph", err);
    if (ok) r = cuda->graph_instantiate(out, graph, 0);
    if (graph) cuda->graph_destroy(graph);
    return ok && cuda_ok(cuda, r, "making a graph", err);
}

bool graph_make(const Cuda *cuda, const Launch *launches, uint32_t n_launches, bool overlap, CUstream stream,
                CUgraphExec *out, Error *err) {
    *out = NULL;
    bool ok = record(cuda, launches, n_launches, overlap, stream, out, err);
    if (!ok && overlap) ok = record(cuda, launches, n_launches, false, stream, out, err);
    return ok && cuda_ok(cuda, cuda->graph_upload(*out, stream), "uploading a graph", err);
}
