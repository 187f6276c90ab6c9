// Breaks the GPU under a worker while it serves: loaded before it (LD_PRELOAD), waits for the file that
// BREAK_GPU names to appear, then runs a kernel in the worker's own context that writes where nothing is.
// Every call that the worker makes afterwards fails, as after a real fault of a GPU. check_gpu_worker.py
// builds and uses it:
//
//     cc -shared -fPIC -o break_gpu.so tests/tools/break_gpu.c -lpthread
//
// Ends the process with status 99, and a line about it, where it cannot do so: a test that then passed would
// be none.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Three pointers or fewer are taken here; what is too many lies in registers that nobody reads.
typedef int DriverCall(void *, void *, void *);
typedef int DriverLaunch(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                         unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **args,
                         void **extra);

static const char bad_store[] = ".version 7.0\n.target sm_75\n.address_size 64\n"
                                ".visible .entry bad_store() {\n"
                                "    .reg .b64 %rd1;\n"
                                "    mov.u64 %rd1, 64;\n"
                                "    st.global.u32 [%rd1], 1;\n"
                                "    ret;\n"
                                "}\n";

static void require(const char *name, int code) {
    if (code == 0) return;
    fprintf(stderr, "break_gpu: %s: %d\n", name, code);
    _exit(99);
}

static void call(void *driver, const char *name, void *a, void *b, void *c) {
    DriverCall *function = (DriverCall *)dlsym(driver, name);
    require(name, function ? function(a, b, c) : -1);
}

static void *break_gpu(void *file) {
    while (access(file, F_OK) != 0)
        usleep(500);
    void *context = NULL, *module = NULL, *function = NULL;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    call(driver, "cuDevicePrimaryCtxRetain", &context, NULL, NULL);
    call(driver, "cuCtxSetCurrent", context, NULL, NULL);
    call(driver, "cuModuleLoadData", &module, (void *)bad_store, NULL);
    call(driver, "cuModuleGetFunction", &function, module, "bad_store");
    DriverLaunch *launch = (DriverLaunch *)dlsym(driver, "cuLaunchKernel");
    require("cuLaunchKernel", launch(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
    return NULL;
}

__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    char *file = getenv("BREAK_GPU");
    if (file && pthread_create(&thread, NULL, break_gpu, file) != 0) _exit(99);
}
