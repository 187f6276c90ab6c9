// --products cublas: the products of prompts' rows by a library (product_library.h).
//
// A stage of the prompts' class whose type has given_files becomes, where it is launched: its rows as plain
// f16 (plain_rows.cuh), each matrix as plain f16 in pieces of at most LIBRARY_PIECE_BYTES (dequantise.cuh),
// the library's product of each piece, and the stage's own kernel, whose body finishes what was multiplied
// (product_given.cuh). The library wants to know how many rows there are, so the class has no graph: its
// stages are launched one by one. All other classes multiply as ever.
//
// What a row becomes then depends on how many rows go with it.
#pragma once

#include "backend/cuda/cuda_batch.h"
#include "backend/cuda/product_library.h"

enum { LIBRARY_PIECE_BYTES = 128 << 20 };

// Of a step, while it is launched.
typedef struct GivenProduct {
    CudaBackend *b;
    const BatchStage *stage;
    const BatchBuffers *buffers;
} GivenProduct;

typedef struct LibraryProducts {
    LibraryHandle *handle;
    Kernel dequantise[DTYPE_COUNT];
    Kernel plain_rows;
} LibraryProducts;

// Takes the buffers of all classes out of the working memory: b->batches->lowered says how large.
void library_lay_out(CudaBackend *b, DeviceLayout *l, BatchBuffers *s);

// The programs of its kernels, for matrices of these formats and a class of max_rows: n_formats + 1.
enum { LIBRARY_PROGRAMS_MAX = DTYPE_COUNT + 1 };
MUST_CHECK bool library_programs(const LowerTarget *target, uint32_t max_rows, const Dtype *formats,
                                 uint32_t n_formats, Arena *arena, JitProgram out[LIBRARY_PROGRAMS_MAX],
                                 Error *err);
// Loads them, which `jit` compiles from `first` on, in the same order, and starts the library.
MUST_CHECK bool library_load(CudaBackend *b, Jit *jit, uint32_t first, const Dtype *formats,
                             uint32_t n_formats, Error *err);
void library_unload(CudaBackend *b);

// LaunchAhead of a GivenProduct: all that comes before the stage's kernel.
LaunchAhead library_run;
