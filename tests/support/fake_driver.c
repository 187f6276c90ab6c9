#include "fake_driver.h"

#include "runner.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

const char *fake_driver_build(const char **path) {
    const char *compiler = getenv("CC") ? getenv("CC") : "cc";
    char command[4096];
    const char *folder = test_tmp_path("driver"), *library = test_tmp_path("driver/libcuda.so.1");
    (void)mkdir(folder, 0777);
    snprintf(command, sizeof command,
             "%s -std=c17 -D_GNU_SOURCE -shared -fPIC -Wl,-soname,libcuda.so.1 -o '%s' '%s'", compiler,
             library, test_data_path("tools/fake_cuda.c"));
    if (system(command) != 0) SKIP("the fake driver cannot be compiled");
    if (path) *path = library;
    return folder;
}

static _Atomic long *counter(void *library, const char *name) {
    void *symbol = dlsym(library, name);
    REQUIRE(symbol != NULL);
    return symbol;
}

FakeDriver fake_driver_load(void) {
    const char *library;
    fake_driver_build(&library);
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) FAIL("%s", dlerror());
    REQUIRE(handle != NULL);
    return (FakeDriver){.live = counter(handle, "fake_cuda_live"),
                        .calls = counter(handle, "fake_cuda_calls"),
                        .launches = counter(handle, "fake_cuda_launches"),
                        .graphs = counter(handle, "fake_cuda_graphs"),
                        .copies = counter(handle, "fake_cuda_copies"),
                        .sends = counter(handle, "fake_cuda_sends")};
}
