#include "fake_driver.h"

#include "runner.h"

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
