// Compiled kernels on the device: loading them, launching one, and recording many as a graph.
//
// A kernel takes one parameter (args.h) and says in its module, as `NAME_info`, how it wants to be launched.
#pragma once

#include "backend/cuda/devices.h"
#include "backend/cuda/jit.h"

#include "../kernels_src/args.h"

typedef struct {
    CUmodule module; // NULL: not loaded
    CUfunction function;
    StageInfo info; // zero for a kernel without one
} Kernel;

// Loads an image and finds its kernel. With `stream`, also reads its StageInfo and checks it against the
// device. Errors: ERR_CUDA, ERR_UNSUPPORTED for a kernel that this GPU cannot launch.
MUST_CHECK bool kernel_load(const Cuda *cuda, const CudaDevice *device, const char *name,
                            const JitImage *image, CUstream stream, Kernel *out, Error *err);
void kernel_unload(const Cuda *cuda, Kernel *kernel);

// What is enqueued ahead of a kernel: a library's products.
typedef bool LaunchAhead(const void *context, CUstream stream, Error *err);

// One launch: a kernel with its argument. `alone`: without clusters, where the kernel can do without, and
// then so many times its blocks_alone; 0: as it is.
typedef struct {
    const Kernel *kernel; // NULL: what is ahead of it is all
    void *args;
    unsigned alone;
    LaunchAhead *ahead; // NULL: nothing
    const void *context;
} Launch;

// `overlap`: the kernel may start before the one that was launched ahead of it on this stream has ended; it
// waits for it by itself (programmatic dependent launch, compute capability 9.0). Not behind a library's.
MUST_CHECK bool kernel_launch(const Cuda *cuda, const Launch *launch, bool overlap, CUstream stream,
                              Error *err);

// Launches in order as a graph, ready on the device. With `overlap`, each but the first overlaps the one
// before it; where the driver cannot record that, it is left out.
MUST_CHECK bool graph_make(const Cuda *cuda, const Launch *launches, uint32_t n_launches, bool overlap,
                           CUstream stream, CUgraphExec *out, Error *err);
