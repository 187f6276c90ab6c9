// A GPU without a GPU: the CUDA backend as it is, on a driver (tools/fake_cuda.c) that runs each kernel on
// the emulator. Kernels are compiled as host C++ when a model is loaded, in the place of the compiler inside.
//
// What it cannot show: anything that depends on things happening at once (copies, launches and blocks come
// one after the other), and the GPU's own rounding of fast functions and of sums in its tensor cores.
#pragma once

#include "backend/cuda/jit.h"

// Loads the driver, so that the next cuda_open of this process finds it. Skips the case where there is no C++
// compiler. The GPU has few multiprocessors: a block is run for each of them.
void emulated_gpu_load(uint32_t sm, uint32_t multiprocessors);

// For BackendOptions. What it made is kept in build/emulated by the hash of all that it was made of.
extern const JitCompiler emulated_gpu_compiler;

// The same, but it refuses large tiles of prompts, to have less to compile: prompts then stay with small
// ones. (Experts of some models have no others.)
extern const JitCompiler emulated_gpu_small_tiles;
