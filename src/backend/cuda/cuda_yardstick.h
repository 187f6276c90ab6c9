// The yardstick of bench --stages: a library's time (product_library.h) for the products that stages compute.
//
// It multiplies f16 rows by f16 weights into f32, as large as the stage's and with matrices of one input
// together as one, both of random values. So it neither takes weights apart nor finishes a product (norm,
// bias, activation, residual stream), as stages do. Weights of the products of a step lie one behind the
// other in a ring that is much larger than the GPU's cache. Of the ways that the library proposes it gets the
// fastest.
#pragma once

#include "backend/cuda/cuda_internal.h"
#include "backend/cuda/product_library.h"

// How stages are timed (cuda_times.c), and the library with them.
typedef struct {
    CudaBackend *b;
    CUevent begin, end;
    float *runs; // [n_runs]
    uint32_t n_runs;
    uint32_t rest_ms; // that the GPU idles before the runs
    double clock_mhz; // of the last runs (cuda_clock.h)
} Stopwatch;

// Median time of a graph in microseconds, each run right after another one.
MUST_CHECK bool stopwatch_time(Stopwatch *w, CUgraphExec before, CUgraphExec graph, double *out, Error *err);

typedef struct {
    uint32_t n_in, n_out; // n_out 0: no product
} ProductShape;

// The product of a stage's operations; none where they are not one input's plain matrices.
ProductShape yardstick_shape(const BatchStage *s);

typedef struct {
    CudaBackend *b;
    LibraryHandle *handle; // NULL: nothing is measured
    CUdeviceptr memory, x, y, workspace, ring;
    uint64_t ring_bytes;
} Yardstick;

// For products of up to n_rows rows by any of n shapes. Takes device memory of its own until yardstick_close;
// without a library, or where there is too little of it left, nothing is measured, which is no error.
MUST_CHECK bool yardstick_open(CudaBackend *b, const ProductShape *shapes, uint32_t n, uint32_t n_rows,
                               Arena *arena, Yardstick *out, Error *err);
void yardstick_close(Yardstick *y);

// n products one after the other as a graph. NULL where nothing is measured.
MUST_CHECK bool yardstick_graph(Yardstick *y, Stopwatch *w, const ProductShape *shapes, uint32_t n,
                                uint32_t n_rows, Arena scratch, CUgraphExec *out, Error *err);

// The mean time in microseconds of n products, one after the other as a graph, right after `before`. 0 where
// nothing is measured.
MUST_CHECK bool yardstick_time(Yardstick *y, Stopwatch *w, CUgraphExec before, const ProductShape *shapes,
                               uint32_t n, uint32_t n_rows, Arena scratch, double *out, Error *err);
