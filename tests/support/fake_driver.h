// A CUDA driver without a GPU (tools/fake_cuda.c), for this process or one that a case starts.
#pragma once

// Compiles it as libcuda.so.1, to be found by a process that has the returned folder in LD_LIBRARY_PATH; the
// path of the library itself is in *path unless that is NULL. Skips the case where it cannot be compiled.
const char *fake_driver_build(const char **path);
