#include "backend/cuda/devices.h"

bool cuda_device_query(const Cuda *cuda, int ordinal, CudaDevice *out, Error *err) {
    int n_devices = 0;
    if (!cuda_ok(cuda, cuda->device_count(&n_devices), "counting the GPUs", err)) return false;
    if (ordinal < 0 || ordinal >= n_devices) {
        return error_set(err, ERR_USAGE, "there is no GPU %d: this machine has %d, numbered from 0", ordinal,
                         n_devices);
    }
    *out = (CudaDevice){.ordinal = ordinal};
    int major = 0, minor = 0, bus_bits = 0, memory_khz = 0, clock_khz = 0, l2 = 0, shared = 0, shared_all = 0,
        count = 0;
    const struct {
        CUdevice_attribute attribute;
        int *value;
    } attributes[] = {
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &count},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, &clock_khz},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, &memory_khz},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, &bus_bits},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, &l2},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &shared},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, &shared_all},
    };
    CUresult result = cuda->device_get(&out->handle, ordinal);
    if (result == CUDA_SUCCESS) result = cuda->device_name(out->name, sizeof out->name, out->handle);
    size_t memory = 0;
    if (result == CUDA_SUCCESS) result = cuda->device_total_memory(&memory, out->handle);
    for (size_t i = 0; i < COUNT_OF(attributes) && result == CUDA_SUCCESS; i++) {
        result = cuda->device_attribute(attributes[i].value, attributes[i].attribute, out->handle);
    }
    if (!cuda_ok(cuda, result, "asking for the GPU's properties", err)) return false;
    out->sm = (uint32_t)(major * 10 + minor);
    out->multiprocessors = (uint32_t)count;
    out->clock_mhz = (uint32_t)clock_khz / 1000;
    out->l2_bytes = (uint32_t)l2;
    out->shared_bytes_block = (uint32_t)shared;
    out->shared_bytes_multiprocessor = (uint32_t)shared_all;
    out->memory_bytes = memory;
    out->memory_gb_per_second = 2.0 * memory_khz * bus_bits / 8 * 1e-6; // two transfers a clock
    out->supported = out->sm >= CUDA_SM_MIN;
    return true;
}

bool cuda_device_pick(const Cuda *cuda, int ordinal, CudaDevice *out, Error *err) {
    if (!cuda_device_query(cuda, ordinal, out, err)) return false;
    if (out->supported) return true;
    return error_set(err, ERR_NO_DEVICE,
                     "GPU %d (%s) has compute capability %u.%u; %u.%u (Turing) or newer is needed", ordinal,
                     out->name, out->sm / 10, out->sm % 10, CUDA_SM_MIN / 10u, CUDA_SM_MIN % 10u);
}

bool cuda_devices_list(const Cuda *cuda, CudaDevice out[CUDA_DEVICES_MAX], uint32_t *n_devices, Error *err) {
    int count = 0;
    if (!cuda_ok(cuda, cuda->device_count(&count), "counting the GPUs", err)) return false;
    *n_devices = (uint32_t)min_u64((uint64_t)count, CUDA_DEVICES_MAX);
    for (uint32_t i = 0; i < *n_devices; i++) {
        if (!cuda_device_query(cuda, (int)i, &out[i], err)) return false;
    }
    return true;
}
