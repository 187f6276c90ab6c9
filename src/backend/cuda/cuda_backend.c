#include "backend/cuda/cuda_backend.h"

#include "backend/cuda/cuda_inspect.h"
#include "backend/cuda/cuda_load.h"
#include "backend/cuda/product_library.h"
#include "backend/cuda/cuda_step.h"
#include "os/os.h"

#include <stdio.h>

enum { INSPECTION_BYTES = 1 << 30 }; // of addresses; what nobody looks at is never touched

static void close_backend(Backend *backend) {
    CudaBackend *b = cuda_self(backend);
    if (!b->is_open) return;
    cuda_unload(b);
    cuda_close(&b->cuda);
    b->is_open = false;
}

static void name_products(CudaBackend *b) {
    const ProductLibrary *library = b->options.products;
    char version[16] = "";
    if (library) library->version(version);
    snprintf(b->products_name, sizeof b->products_name, "%s%s%s", library ? library->name : "own",
             library ? " " : "", version);
}

bool cuda_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err) {
    CudaBackend *b = arena_new(arena, CudaBackend, 1);
    if (!b) return error_set(err, ERR_NO_MEMORY, "the CUDA backend does not fit its memory");
    b->options = *options;
    b->arena = arena;
    b->inspection = os_arena(INSPECTION_BYTES);
    if (!cuda_open(&b->cuda, err)) return false;
    if (!cuda_device_pick(&b->cuda, options->gpu_device, &b->device, err)) {
        cuda_close(&b->cuda);
        return false;
    }
    b->is_open = true;
    b->explain_invalid = cuda_explain_invalid;
    b->overlap = b->device.sm >= 90;
    jit_version(b->runtime_version);
    name_products(b);
    b->api = (Backend){.load = cuda_load,
                       .begin = cuda_begin,
                       .copy_page = cuda_copy_page,
                       .restore_state = cuda_restore_state,
                       .step = cuda_step,
                       .draw = cuda_draw,
                       .read = cuda_read,
                       .check_residency = cuda_backend_check_residency,
                       .close = close_backend,
                       .info = {.kind = "cuda",
                                .device_name = b->device.name,
                                .sm = b->device.sm,
                                .runtime_version = b->runtime_version,
                                .driver_version = b->cuda.driver_text,
                                .vram_bytes_total = b->device.memory_bytes,
                                .products = b->products_name,
                                .bits_vary = options->products != NULL,
                                .n_slots = options->n_slots,
                                .max_rows = options->max_rows,
                                .max_draws = 1,
                                .masks = true,
                                .late_masks = true,
                                .pipeline_depth = PIPELINE_DEPTH}};
    *out = &b->api;
    return true;
}
