// A CUDA driver without a GPU (tools/fake_cuda.c), for this process or one that a case starts.
#pragma once

// Compiles it as libcuda.so.1, to be found by a process that has the returned folder in LD_LIBRARY_PATH; the
// path of the library itself is in *path unless that is NULL. Skips the case where it cannot be compiled.
const char *fake_driver_build(const char **path);

// What it counts, in this process.
typedef struct {
    _Atomic long *live, *calls, *launches, *graphs;
    _Atomic long *copies, *sends; // to the host, and from it
} FakeDriver;

// Compiles it and loads it: a library of that name is then not looked for again.
FakeDriver fake_driver_load(void);
