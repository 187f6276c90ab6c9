#include "backend/cuda/memory.h"

static const char *const region_names[REGION_COUNT] = {
#define REGION_NAME(id, name) [REGION_##id] = name,
    DEVICE_REGIONS(REGION_NAME)
#undef REGION_NAME
};

bool device_memory_free_bytes(const Cuda *cuda, uint64_t *out, Error *err) {
    size_t free_bytes = 0, total = 0;
    if (!cuda_ok(cuda, cuda->memory_info(&free_bytes, &total), "asking for free device memory", err))
        return false;
    *out = free_bytes;
    return true;
}

bool device_memory_insufficient(Error *err, uint64_t required, uint64_t available, const char *device_name,
                                const char *model_path) {
    return error_set(err, ERR_INSUFFICIENT_VRAM,
                     "%s needs %llu bytes (%.2f GB) of VRAM; %llu bytes (%.2f GB) are available on %s",
                     model_path, (unsigned long long)required, (double)required * 1e-9,
                     (unsigned long long)available, (double)available * 1e-9, device_name);
}

bool device_memory_allocate(const Cuda *cuda, const CudaDevice *device, const char *model_path,
                            const uint64_t sizes[REGION_COUNT], DeviceMemory *out, Error *err) {
    *out = (DeviceMemory){.cuda = cuda, .ordinal = device->ordinal};
    uint64_t required = 0, available;
    for (uint32_t i = 0; i < REGION_COUNT; i++)
        required += sizes[i];
    if (!device_memory_free_bytes(cuda, &available, err)) return false;
    if (required > available) {
        return device_memory_insufficient(err, required, available, device->name, model_path);
    }
    for (uint32_t i = 0; i < REGION_COUNT; i++) {
        if (sizes[i] == 0) continue;
        CUresult result = cuda->memory_allocate(&out->regions[i].address, sizes[i]);
        if (result == CUDA_SUCCESS) {
            out->regions[i].size = sizes[i];
            continue;
        }
        device_memory_release_all(out);
        if (result == CUDA_ERROR_OUT_OF_MEMORY) {
            return device_memory_insufficient(err, required, available, device->name, model_path);
        }
        return cuda_ok(cuda, result, region_names[i], err);
    }
    return true;
}

void device_memory_release(DeviceMemory *m, RegionId region) {
    if (m->regions[region].address) m->cuda->memory_free(m->regions[region].address);
    m->regions[region] = (DeviceRegion){0};
}

void device_memory_release_all(DeviceMemory *m) {
    for (uint32_t i = 0; i < REGION_COUNT; i++)
        device_memory_release(m, i);
}

uint64_t device_memory_used(const DeviceMemory *m) {
    uint64_t used = 0;
    for (uint32_t i = 0; i < REGION_COUNT; i++)
        used += m->regions[i].size;
    return used;
}

bool device_memory_is_resident(const DeviceMemory *m, Error *err) {
    for (uint32_t i = 0; i < REGION_COUNT; i++) {
        const DeviceRegion *region = &m->regions[i];
        if (!region->address) continue;
        CUmemorytype type = 0;
        unsigned is_managed = 1;
        int ordinal = -1;
        CUresult r = m->cuda->pointer_attribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, region->address);
        if (r == CUDA_SUCCESS) {
            r = m->cuda->pointer_attribute(&is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, region->address);
        }
        if (r == CUDA_SUCCESS) {
            r = m->cuda->pointer_attribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, region->address);
        }
        if (!cuda_ok(m->cuda, r, "asking where memory is", err)) return false;
        if (type != CU_MEMORYTYPE_DEVICE || is_managed || ordinal != m->ordinal) {
            return error_set(err, ERR_CUDA, "the %s are not resident in the memory of GPU %d",
                             region_names[i], m->ordinal);
        }
    }
    return true;
}
