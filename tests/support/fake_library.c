#include "runner.h"

#if WORKER_ORCD_CUDA

#include "base/f16.h"
#include "fake_library.h"

uint32_t fake_library_rows_least = UINT32_MAX, fake_library_rows_most;

struct LibraryHandle {
    bool is_open;
};

static void version(char out[16]) {
    memcpy(out, "1.2.3", 6);
}

static bool open_library(Arena *arena, CUdeviceptr workspace, uint64_t workspace_bytes, LibraryHandle **out,
                         Error *err) {
    (void)err;
    *out = arena_new(arena, LibraryHandle, 1);
    REQUIRE(*out != NULL && workspace != 0 && workspace_bytes == LIBRARY_WORKSPACE_BYTES);
    (*out)->is_open = true;
    return true;
}

static bool proposals(LibraryHandle *h, const LibraryProduct *p, uint32_t *n, Error *err) {
    (void)p, (void)err;
    REQUIRE(h->is_open);
    *n = 1;
    return true;
}

static float dot(const uint16_t *x, const uint16_t *w, uint32_t n) {
    float sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += f32_from_f16(x[i]) * f32_from_f16(w[i]);
    return sum;
}

static bool multiply(LibraryHandle *h, const LibraryProduct *p, uint32_t proposal, CUstream stream,
                     Error *err) {
    (void)stream, (void)err;
    const uint16_t *x = (const uint16_t *)(uintptr_t)p->x, *w = (const uint16_t *)(uintptr_t)p->w;
    float *y = (float *)(uintptr_t)p->y;
    REQUIRE(h->is_open && proposal == 0 && p->n_rows > 0 && p->n_out <= p->y_stride);
    CHECK((p->x | p->w) % 256 == 0 && p->y % 64 == 0 && p->n_in % 32 == 0 && p->y_stride % 16 == 0);
    fake_library_rows_least = (uint32_t)min_u64(fake_library_rows_least, p->n_rows);
    fake_library_rows_most = (uint32_t)max_u64(fake_library_rows_most, p->n_rows);
    for (uint64_t row = 0; row < p->n_rows; row++) {
        for (uint64_t out = 0; out < p->n_out; out++)
            y[row * p->y_stride + out] = dot(x + row * p->n_in, w + out * p->n_in, p->n_in);
    }
    return true;
}

static void close_library(LibraryHandle *h) {
    h->is_open = false;
}

const ProductLibrary fake_library = {
    .name = "plain loops",
    .version = version,
    .open = open_library,
    .proposals = proposals,
    .multiply = multiply,
    .close = close_library,
};

#endif
