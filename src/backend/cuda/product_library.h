// A library that multiplies: cuBLAS, in a build with it (./build.sh --cublas), or one that a test gives.
//
// It is the yardstick of the stages' products (bench --stages, cuda_yardstick.h). Its sums have an order of
// its own, which may depend on how many rows there are: what it computes is not to the bit what the stages
// compute.
//
// The thread that calls has the device's context current (the primary one, which cuBLAS takes, too). Nothing
// is allocated on the device: the workspace is the caller's.
#pragma once

#include "backend/cuda/cuda_driver.h"
#include "base/arena.h"

// Y = X W^T, with f16 factors and float32 sums:
//     y[row][out] = sum over in of x[row][in] * w[out][in]
typedef struct {
    CUdeviceptr w; // f16 [n_out][n_in]
    CUdeviceptr x; // f16 [n_rows][n_in]
    CUdeviceptr y; // f32 [n_rows][y_stride], of whose rows the first n_out values are written
    uint32_t n_rows, n_in, n_out, y_stride;
} LibraryProduct; // w and x are multiples of 256, y of LIBRARY_Y_ALIGNMENT; n_in is one of 32, y_stride of 16

enum { LIBRARY_Y_ALIGNMENT = 64 };

typedef struct LibraryHandle LibraryHandle;

// Ways to compute a product that a library proposes, the one that it thinks fastest first.
enum { LIBRARY_PROPOSALS_MAX = 8 };

typedef struct ProductLibrary {
    const char *name;              // "cuBLAS"
    void (*version)(char out[16]); // "13.1.0"; needs no GPU
    // The handle is in the arena. `workspace` is device memory, which stays the caller's.
    bool (*open)(Arena *arena, CUdeviceptr workspace, uint64_t workspace_bytes, LibraryHandle **out,
                 Error *err);
    // How many ways there are: 1 … LIBRARY_PROPOSALS_MAX.
    bool (*proposals)(LibraryHandle *h, const LibraryProduct *p, uint32_t *n, Error *err);
    // Enqueues the product, in way number `proposal` (below what proposals() says; 0 is always there). May be
    // recorded in a graph if it ran before.
    bool (*multiply)(LibraryHandle *h, const LibraryProduct *p, uint32_t proposal, CUstream stream,
                     Error *err);
    void (*close)(LibraryHandle *h);
} ProductLibrary;

// Device memory that a library may need while it multiplies.
enum { LIBRARY_WORKSPACE_BYTES = 32 << 20 };

// The one in this build; NULL: there is none.
extern const ProductLibrary *const product_library;
