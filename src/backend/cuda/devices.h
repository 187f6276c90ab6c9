// The GPUs of this machine, with what matters for running models on them.
//
// Used by `worker-orcd devices`, which must answer on any machine, and when a backend is opened.
#pragma once

#include "backend/cuda/cuda_driver.h"

enum { CUDA_SM_MIN = 75, CUDA_DEVICES_MAX = 64 };

typedef struct {
    int ordinal;
    char name[128];
    uint32_t sm; // 90 for compute capability 9.0
    uint32_t multiprocessors;
    uint32_t clock_mhz; // of the multiprocessors, at most
    uint32_t l2_bytes;
    uint32_t shared_bytes_block;          // shared memory of one block, at most
    uint32_t shared_bytes_multiprocessor; // of all blocks on one multiprocessor
    uint64_t memory_bytes;
    double
        memory_gb_per_second; // by bus width and clock; what can be reached is about 90% of it. 0: not known
    bool supported;           // sm >= CUDA_SM_MIN
    CUdevice handle;
} CudaDevice;

// Fills one device's row. ERR_USAGE when there is no such ordinal: says how many there are.
MUST_CHECK bool cuda_device_query(const Cuda *cuda, int ordinal, CudaDevice *out, Error *err);

// As cuda_device_query, and refuses a GPU that is too old.
MUST_CHECK bool cuda_device_pick(const Cuda *cuda, int ordinal, CudaDevice *out, Error *err);

// All of them, at most CUDA_DEVICES_MAX.
MUST_CHECK bool cuda_devices_list(const Cuda *cuda, CudaDevice out[CUDA_DEVICES_MAX], uint32_t *n_devices,
                                  Error *err);
