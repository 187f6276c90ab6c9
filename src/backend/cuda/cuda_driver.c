#include "backend/cuda/cuda_driver.h"

#include "os/os.h"

#include <stdio.h>

static const struct {
    const char *symbol;
    size_t offset;
} functions[] = {
#define CUDA_ROW(member, declaration, symbol) {symbol, offsetof(Cuda, member)},
    CUDA_FUNCTIONS(CUDA_ROW)
#undef CUDA_ROW
};

bool cuda_ok(const Cuda *cuda, CUresult result, const char *what, Error *err) {
    if (result == CUDA_SUCCESS) return true;
    const char *name = NULL, *text = NULL;
    if (cuda->get_error_name(result, &name) != CUDA_SUCCESS || !name) {
        return error_set(err, ERR_CUDA, "%s: CUDA error %d", what, (int)result);
    }
    if (cuda->get_error_string(result, &text) != CUDA_SUCCESS || !text) text = "no description";
    return error_set(err, ERR_CUDA, "%s: %s (%s)", what, name, text);
}

// The version that people know drivers by is only in a file of the kernel module:
// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue …"
static void find_driver_text(Cuda *cuda) {
    snprintf(cuda->driver_text, sizeof cuda->driver_text, "CUDA %d.%d", cuda->version / 1000,
             cuda->version % 1000 / 10);
    char memory[4096];
    Arena arena = arena_from_memory(memory, sizeof memory);
    Str text;
    Error ignored;
    if (!os_file_read("/proc/driver/nvidia/version", sizeof memory / 2, &arena, &text, &ignored)) return;
    for (size_t i = 0; i + 3 < text.len; i++) {
        size_t length = 0, dots = 0;
        while (i + length < text.len && ((text.ptr[i + length] >= '0' && text.ptr[i + length] <= '9') ||
                                         (text.ptr[i + length] == '.' && length > 0))) {
            dots += text.ptr[i + length++] == '.';
        }
        if (dots == 0 || length < 5 || length >= sizeof cuda->driver_text) {
            i += length;
            continue;
        }
        memcpy(cuda->driver_text, text.ptr + i, length);
        cuda->driver_text[length] = 0;
        return;
    }
}

static bool find_functions(Cuda *cuda, Error *err) {
    for (size_t i = 0; i < COUNT_OF(functions); i++) {
        void *function = os_library_symbol(&cuda->library, functions[i].symbol);
        if (!function) {
            return error_set(
                err, ERR_NO_DEVICE,
                "the NVIDIA driver has no %s: it is older than CUDA 12.0; driver 525 or newer is needed",
                functions[i].symbol);
        }
        memcpy((char *)cuda + functions[i].offset, &function, sizeof function);
    }
    return true;
}

// Before the other functions are looked for, which an old driver may not have.
static bool check_version(Cuda *cuda, Error *err) {
    void *symbol = os_library_symbol(&cuda->library, "cuDriverGetVersion");
    __typeof__(cuDriverGetVersion) *get_version = NULL;
    memcpy(&get_version, &symbol, sizeof symbol);
    if (!get_version || get_version(&cuda->version) != CUDA_SUCCESS) cuda->version = 0;
    find_driver_text(cuda);
    if (cuda->version >= CUDA_DRIVER_VERSION_MIN) return true;
    return error_set(
        err, ERR_NO_DEVICE,
        "the NVIDIA driver here (%s) supports CUDA %d.%d; CUDA 12.0 is needed, which is driver 525 or newer",
        cuda->driver_text, cuda->version / 1000, cuda->version % 1000 / 10);
}

static bool start(Cuda *cuda, Error *err) {
    int n_devices = 0;
    CUresult result = cuda->init(0);
    if (result == CUDA_SUCCESS) result = cuda->device_count(&n_devices);
    if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && n_devices == 0)) {
        return error_set(err, ERR_NO_DEVICE, "no NVIDIA GPU was found (driver %s)", cuda->driver_text);
    }
    if (cuda_ok(cuda, result, "the NVIDIA driver does not start", err)) return true;
    err->code = ERR_NO_DEVICE;
    return false;
}

bool cuda_open(Cuda *cuda, Error *err) {
    *cuda = (Cuda){0};
    Error reason;
    if (!os_library_open("libcuda.so.1", &cuda->library, &reason)) {
        return error_set(err, ERR_NO_DEVICE, "no NVIDIA driver was found; driver 525 or newer is needed (%s)",
                         reason.message);
    }
    bool ok = check_version(cuda, err) && find_functions(cuda, err) && start(cuda, err);
    if (!ok) cuda_close(cuda);
    return ok;
}

void cuda_close(Cuda *cuda) {
    os_library_close(&cuda->library);
}

void cuda_start_early(void) {
    Cuda cuda;
    Error ignored;
    (void)!cuda_open(&cuda, &ignored);
}
