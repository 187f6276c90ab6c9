// What the fake driver runs kernels with. A library that is linked without fake_cuda_kernels.c, which does it
// on the emulator, has none of these: its launches do nothing.
#pragma once

// A module is a library that emulated_gpu.c compiled; the image is its path. NULL where it cannot be loaded.
__attribute__((weak)) void *fake_module_load(const void *image);
__attribute__((weak)) void fake_module_unload(void *module);
// NULL where the module has none of that name.
__attribute__((weak)) void *fake_module_function(void *module, const char *name);
__attribute__((weak)) const void *fake_module_info(void *module, const char *name); // StageInfo

__attribute__((weak)) unsigned fake_kernel_args_size(void *function);
// Runs the whole grid, in clusters of `cluster` blocks where the launch asks for them. Any thread; they take
// turns.
__attribute__((weak)) void fake_kernel_run(void *function, unsigned grid_x, unsigned grid_y, unsigned threads,
                                           unsigned shared_bytes, unsigned cluster, const void *args);
