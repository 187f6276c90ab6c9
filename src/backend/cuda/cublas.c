// Products by cublasLt, the part of cuBLAS that multiplies on tensor cores. It lets the caller keep the
// workspace and choose between the ways that its heuristic proposes.
#include "backend/cuda/cublas.h"

#include <assert.h>
#include <cublasLt.h>
#include <stdio.h>

static_assert(sizeof(cudaStream_t) == sizeof(CUstream), "the driver's streams are the library's");

// Ways of products that were asked for, so that a prompt's layers ask for each shape once.
typedef struct {
    uint32_t n_rows, n_in, n_out, y_stride; // n_rows 0: nothing
    uint32_t n;
    cublasLtMatmulHeuristicResult_t ways[LIBRARY_PROPOSALS_MAX];
} Proposed;

enum { PROPOSED_MAX = 32 };

struct LibraryHandle {
    cublasLtHandle_t lt;
    void *workspace;
    uint64_t workspace_bytes;
    Proposed proposed[PROPOSED_MAX];
    uint32_t next; // is forgotten for the next shape
};

// What the library calls matrices: columns lie one after the other, so [n_out][n_in] is n_in by n_out.
typedef struct {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t w, x, y;
} Descriptions;

static bool lt_ok(cublasStatus_t status, const char *what, const LibraryProduct *p, Error *err) {
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    if (!p) return error_set(err, ERR_CUDA, "cuBLAS, %s: %s", what, cublasLtGetStatusName(status));
    return error_set(err, ERR_CUDA, "cuBLAS, %s, %u x %u x %u: %s", what, p->n_rows, p->n_in, p->n_out,
                     cublasLtGetStatusName(status));
}

static bool describe(const LibraryProduct *p, Descriptions *d, Error *err) {
    const cublasOperation_t turned = CUBLAS_OP_T;
    cublasStatus_t s = cublasLtMatmulDescInit(&d->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulDescSetAttribute(&d->product, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatrixLayoutInit(&d->w, CUDA_R_16F, p->n_in, p->n_out, p->n_in);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatrixLayoutInit(&d->x, CUDA_R_16F, p->n_in, p->n_rows, p->n_in);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatrixLayoutInit(&d->y, CUDA_R_32F, p->n_out, p->n_rows, p->y_stride);
    return lt_ok(s, "describing a product", p, err);
}

static bool is_of(const Proposed *of, const LibraryProduct *p) {
    return of->n_rows == p->n_rows && of->n_in == p->n_in && of->n_out == p->n_out &&
           of->y_stride == p->y_stride;
}

static cublasStatus_t prefer(const LibraryHandle *h, cublasLtMatmulPreferenceOpaque_t *out) {
    const uint32_t y_alignment = LIBRARY_Y_ALIGNMENT; // of the others it expects 256
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size;
    } rows[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &h->workspace_bytes, sizeof h->workspace_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &y_alignment, sizeof y_alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &y_alignment, sizeof y_alignment},
    };
    cublasStatus_t s = cublasLtMatmulPreferenceInit(out);
    for (size_t i = 0; i < COUNT_OF(rows) && s == CUBLAS_STATUS_SUCCESS; i++)
        s = cublasLtMatmulPreferenceSetAttribute(out, rows[i].name, rows[i].value, rows[i].size);
    return s;
}

static bool propose(LibraryHandle *h, const LibraryProduct *p, Descriptions *d, const Proposed **out,
                    Error *err) {
    for (uint32_t i = 0; i < PROPOSED_MAX; i++) {
        *out = &h->proposed[i];
        if (is_of(*out, p)) return true;
    }
    Proposed *of = &h->proposed[h->next++ % PROPOSED_MAX];
    cublasLtMatmulPreferenceOpaque_t preference;
    int n = 0;
    cublasStatus_t s = prefer(h, &preference);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = cublasLtMatmulAlgoGetHeuristic(h->lt, &d->product, &d->w, &d->x, &d->y, &d->y, &preference,
                                           LIBRARY_PROPOSALS_MAX, of->ways, &n);
    if (s == CUBLAS_STATUS_SUCCESS && n == 0) s = CUBLAS_STATUS_NOT_SUPPORTED;
    of->n_rows = 0;
    if (!lt_ok(s, "asking how to multiply", p, err)) return false;
    of->n_rows = p->n_rows, of->n_in = p->n_in, of->n_out = p->n_out, of->y_stride = p->y_stride;
    of->n = (uint32_t)n;
    *out = of;
    return true;
}

// ---- the library's rows ----

static void version(char out[16]) {
    int part[3] = {0};
    for (int i = 0; i < 3; i++)
        (void)cublasLtGetProperty((libraryPropertyType)i, &part[i]); // major, minor, patch
    snprintf(out, 16, "%d.%d.%d", part[0] % 1000, part[1] % 1000, part[2] % 1000);
}

static bool open_library(Arena *arena, CUdeviceptr workspace, uint64_t workspace_bytes, LibraryHandle **out,
                         Error *err) {
    LibraryHandle *h = arena_new(arena, LibraryHandle, 1);
    if (!h) return error_set(err, ERR_NO_MEMORY, "cuBLAS's handle does not fit its memory");
    h->workspace = (void *)(uintptr_t)workspace;
    h->workspace_bytes = workspace_bytes;
    *out = h;
    return lt_ok(cublasLtCreate(&h->lt), "starting", NULL, err);
}

static bool count_proposals(LibraryHandle *h, const LibraryProduct *p, uint32_t *n, Error *err) {
    Descriptions d;
    const Proposed *of;
    if (!describe(p, &d, err) || !propose(h, p, &d, &of, err)) return false;
    *n = of->n;
    return true;
}

static bool multiply(LibraryHandle *h, const LibraryProduct *p, uint32_t proposal, CUstream stream,
                     Error *err) {
    static const float one = 1, zero = 0;
    Descriptions d;
    const Proposed *of;
    if (!describe(p, &d, err) || !propose(h, p, &d, &of, err)) return false;
    if (proposal >= of->n)
        return error_set(err, ERR_INTERNAL, "way %u of a product that has %u", proposal, of->n);
    void *y = (void *)(uintptr_t)p->y;
    cublasStatus_t s =
        cublasLtMatmul(h->lt, &d.product, &one, (const void *)(uintptr_t)p->w, &d.w,
                       (const void *)(uintptr_t)p->x, &d.x, &zero, y, &d.y, y, &d.y, &of->ways[proposal].algo,
                       h->workspace, h->workspace_bytes, (cudaStream_t)stream);
    return lt_ok(s, "multiplying", p, err);
}

static void close_library(LibraryHandle *h) {
    (void)cublasLtDestroy(h->lt);
}

const ProductLibrary cublas_library = {
    .name = "cuBLAS",
    .version = version,
    .open = open_library,
    .proposals = count_proposals,
    .multiply = multiply,
    .close = close_library,
};
