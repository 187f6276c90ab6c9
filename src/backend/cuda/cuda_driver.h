// The CUDA driver, opened at run time: a table of the functions that are used here.
//
// libcuda.so.1 comes with the NVIDIA driver and must not be needed to start the program. The driver's API is
// the only one used; the runtime library would add nothing but a second set of names and 1.4 MB. Kernels come
// from NVRTC as cubins.
//
// A Cuda is filled once and then only read: any thread may use it. Its functions return a CUresult, which
// cuda_ok turns into an Error.
#pragma once

#include "base/error.h"
#include "os/os_library.h"

#include <cuda.h>

// The oldest driver's CUDA version that will do: 12.0, driver 525. What is newer is used where it is there.
enum { CUDA_DRIVER_VERSION_MIN = 12000 };

// member of Cuda, declaration in cuda.h, symbol in libcuda (the version of the ABI is part of it)
#define CUDA_FUNCTIONS(ROW)                                                            \
    ROW(init, cuInit, "cuInit")                                                        \
    ROW(get_error_name, cuGetErrorName, "cuGetErrorName")                              \
    ROW(get_error_string, cuGetErrorString, "cuGetErrorString")                        \
    ROW(driver_version, cuDriverGetVersion, "cuDriverGetVersion")                      \
    ROW(device_count, cuDeviceGetCount, "cuDeviceGetCount")                            \
    ROW(device_get, cuDeviceGet, "cuDeviceGet")                                        \
    ROW(device_name, cuDeviceGetName, "cuDeviceGetName")                               \
    ROW(device_total_memory, cuDeviceTotalMem, "cuDeviceTotalMem_v2")                  \
    ROW(device_attribute, cuDeviceGetAttribute, "cuDeviceGetAttribute")                \
    ROW(context_retain, cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")          \
    ROW(context_release, cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2")    \
    ROW(context_use, cuCtxSetCurrent, "cuCtxSetCurrent")                               \
    ROW(context_synchronize, cuCtxSynchronize, "cuCtxSynchronize")                     \
    ROW(memory_info, cuMemGetInfo, "cuMemGetInfo_v2")                                  \
    ROW(memory_allocate, cuMemAlloc, "cuMemAlloc_v2")                                  \
    ROW(memory_free, cuMemFree, "cuMemFree_v2")                                        \
    ROW(pinned_allocate, cuMemHostAlloc, "cuMemHostAlloc")                             \
    ROW(pinned_free, cuMemFreeHost, "cuMemFreeHost")                                   \
    ROW(pointer_attribute, cuPointerGetAttribute, "cuPointerGetAttribute")             \
    ROW(copy_to_device, cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2")                     \
    ROW(copy_to_host, cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2")                       \
    ROW(copy_on_device, cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2")                     \
    ROW(fill_bytes, cuMemsetD8Async, "cuMemsetD8Async")                                \
    ROW(stream_create, cuStreamCreate, "cuStreamCreate")                               \
    ROW(stream_destroy, cuStreamDestroy, "cuStreamDestroy_v2")                         \
    ROW(stream_synchronize, cuStreamSynchronize, "cuStreamSynchronize")                \
    ROW(stream_wait_event, cuStreamWaitEvent, "cuStreamWaitEvent")                     \
    ROW(capture_begin, cuStreamBeginCapture, "cuStreamBeginCapture_v2")                \
    ROW(capture_end, cuStreamEndCapture, "cuStreamEndCapture")                         \
    ROW(event_create, cuEventCreate, "cuEventCreate")                                  \
    ROW(event_destroy, cuEventDestroy, "cuEventDestroy_v2")                            \
    ROW(event_record, cuEventRecord, "cuEventRecord")                                  \
    ROW(event_synchronize, cuEventSynchronize, "cuEventSynchronize")                   \
    ROW(event_elapsed, cuEventElapsedTime, "cuEventElapsedTime")                       \
    ROW(module_load, cuModuleLoadData, "cuModuleLoadData")                             \
    ROW(module_unload, cuModuleUnload, "cuModuleUnload")                               \
    ROW(module_function, cuModuleGetFunction, "cuModuleGetFunction")                   \
    ROW(module_global, cuModuleGetGlobal, "cuModuleGetGlobal_v2")                      \
    ROW(function_attribute, cuFuncGetAttribute, "cuFuncGetAttribute")                  \
    ROW(function_set_attribute, cuFuncSetAttribute, "cuFuncSetAttribute")              \
    ROW(launch, cuLaunchKernelEx, "cuLaunchKernelEx")                                  \
    ROW(graph_instantiate, cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags") \
    ROW(graph_upload, cuGraphUpload, "cuGraphUpload")                                  \
    ROW(graph_launch, cuGraphLaunch, "cuGraphLaunch")                                  \
    ROW(graph_exec_destroy, cuGraphExecDestroy, "cuGraphExecDestroy")                  \
    ROW(graph_destroy, cuGraphDestroy, "cuGraphDestroy")

typedef struct {
    OsLibrary library;
    int version;          // of CUDA that the driver speaks: 13000 for 13.0
    char driver_text[32]; // "580.159.04", or "CUDA 13.0" where the driver does not say
#define CUDA_MEMBER(member, declaration, symbol) __typeof__(declaration) *member;
    CUDA_FUNCTIONS(CUDA_MEMBER)
#undef CUDA_MEMBER
} Cuda;

// Errors (ERR_NO_DEVICE), one sentence each: no driver; one that is too old, with both versions; no GPU that
// it can use.
MUST_CHECK bool cuda_open(Cuda *cuda, Error *err);
void cuda_close(Cuda *cuda);
// Starts the driver for a cuda_open that follows, on any thread: that takes 0.2 s, for which there is other
// work. The library stays open. Where it does not start, cuda_open says why.
void cuda_start_early(void);

// True for CUDA_SUCCESS. Else ERR_CUDA: "WHAT: CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was
// encountered)".
MUST_CHECK bool cuda_ok(const Cuda *cuda, CUresult result, const char *what, Error *err);
