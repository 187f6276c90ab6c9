// See fake_cuda_kernels.h.
#include "fake_cuda_kernels.h"

#include "../../kernels_src/args.h"
#include "../emulator/emulator.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a module's library exports as emulated_kernel (emulated_gpu.c writes it).
typedef struct {
    const char *name;
    EmulatedKernel *run;
    const StageInfo *info; // or NULL
    unsigned args_size;
} Kernel;

typedef struct {
    void *library;
    const Kernel *kernel;
} Module;

void *fake_module_load(const void *image) {
    void *library = dlopen(image, RTLD_NOW | RTLD_LOCAL);
    if (!library) fprintf(stderr, "%s\n", dlerror());
    const Kernel *kernel = library ? dlsym(library, "emulated_kernel") : NULL;
    Module *m = kernel ? malloc(sizeof *m) : NULL;
    if (m) *m = (Module){library, kernel};
    return m;
}

void fake_module_unload(void *module) {
    Module *m = module;
    dlclose(m->library);
    free(m);
}

void *fake_module_function(void *module, const char *name) {
    const Module *m = module;
    return strcmp(name, m->kernel->name) == 0 ? module : NULL;
}

const void *fake_module_info(void *module, const char *name) {
    const Kernel *k = ((const Module *)module)->kernel;
    size_t length = strlen(k->name);
    return strncmp(name, k->name, length) == 0 && strcmp(name + length, "_info") == 0 ? k->info : NULL;
}

unsigned fake_kernel_args_size(void *function) {
    return ((const Module *)function)->kernel->args_size;
}

void fake_kernel_run(void *function, unsigned grid_x, unsigned grid_y, unsigned threads,
                     unsigned shared_bytes, unsigned cluster, const void *args) {
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    const Kernel *k = ((const Module *)function)->kernel;
    pthread_mutex_lock(&turn);
    if (k->info && k->info->cluster && !k->info->blocks_alone) cluster = k->info->cluster; // the kernel's own
    if (cluster > 1) emulator_launch_clusters(k->run, args, grid_x, cluster, threads, shared_bytes);
    else emulator_launch(k->run, args, grid_x, grid_y, threads, shared_bytes);
    pthread_mutex_unlock(&turn);
}
