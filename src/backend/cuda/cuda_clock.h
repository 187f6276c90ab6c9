// The mean frequency of the multiprocessors' clocks while work is done, by what they count themselves
// (kernels_src/read_clocks.cuh); for bench. A GPU that heats up or is at its power limit slows its clocks
// down, and a rate says little without them.
//
// Until it is opened nothing is measured: cuda_clock_begin and cuda_clock_end do nothing, and cuda_clock_take
// gives 0. All take a backend of kind "cuda", on the engine's thread.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/jit.h"

// For a GPU with so many multiprocessors; the defines are in the arena.
void cuda_clock_program(uint32_t multiprocessors, Arena *arena, JitProgram *out);

// Compiles and loads the kernel, behind load. It is given back when the backend is closed.
MUST_CHECK bool cuda_clock_open(Backend *backend, Error *err);
void cuda_clock_close(Backend *backend);

// Wait for what has been enqueued, and read the clocks: the time from begin to end counts.
MUST_CHECK bool cuda_clock_begin(Backend *backend, Error *err);
MUST_CHECK bool cuda_clock_end(Backend *backend, Error *err);

// The mean of all times that count since the last call, in MHz. 0 where nothing was measured.
double cuda_clock_take(Backend *backend);
