// Device memory: a few regions, sized before the first byte moves, allocated once, and known by name.
//
// Nothing else allocates device memory for the model, so their sum is what the worker says it uses, and the
// residency check (every region is plain device memory of this GPU) covers everything.
#pragma once

#include "backend/cuda/devices.h"

// REGION(id, name in messages)
#define DEVICE_REGIONS(REGION)                                   \
    REGION(WEIGHTS, "weights")                                   \
    REGION(KV, "key and value cache")                            \
    REGION(STATES, "states of layers")                           \
    REGION(WORK, "activations, logits and the sequences' state") \
    REGION(STAGING, "staging of the upload") // given back after the load

typedef enum {
#define REGION_ENUM(id, name) REGION_##id,
    DEVICE_REGIONS(REGION_ENUM)
#undef REGION_ENUM
        REGION_COUNT
} RegionId;

enum { DEVICE_ALIGNMENT = 256 };

typedef struct {
    CUdeviceptr address; // 0: none
    uint64_t size;
} DeviceRegion;

typedef struct {
    const Cuda *cuda;
    int ordinal;
    DeviceRegion regions[REGION_COUNT];
} DeviceMemory;

// What of the GPU's memory is free now, in all.
MUST_CHECK bool device_memory_free_bytes(const Cuda *cuda, uint64_t *out, Error *err);

// The message of memory that does not suffice: ERR_INSUFFICIENT_VRAM with both numbers, the GPU and the
// model.
bool device_memory_insufficient(Error *err, uint64_t required, uint64_t available, const char *device_name,
                                const char *model_path);

// Allocates all regions of the given sizes (0 for none). Errors: ERR_INSUFFICIENT_VRAM before anything is
// allocated, and also when another process was faster; ERR_CUDA.
MUST_CHECK bool device_memory_allocate(const Cuda *cuda, const CudaDevice *device, const char *model_path,
                                       const uint64_t sizes[REGION_COUNT], DeviceMemory *out, Error *err);

void device_memory_release(DeviceMemory *m, RegionId region);
void device_memory_release_all(DeviceMemory *m);

uint64_t device_memory_used(const DeviceMemory *m);

// Asks the driver of every region whether it is memory of this device, and not managed. Cheap. The caller's
// context is current.
MUST_CHECK bool device_memory_is_resident(const DeviceMemory *m, Error *err);

// ---- laying things out in a region ----

// Hands out aligned pieces of a region. With a base of 0 the addresses are offsets and `used` is the size
// that is wanted; the same code then runs again with the real base.
typedef struct {
    CUdeviceptr base;
    uint64_t used;
} DeviceLayout;

static inline CUdeviceptr device_layout_take(DeviceLayout *l, uint64_t bytes) {
    CUdeviceptr address = l->base + l->used;
    l->used += align_up(bytes, DEVICE_ALIGNMENT);
    return address;
}
