#include "os/os_library.h"

#include <dlfcn.h>

bool os_library_open(const char *name, OsLibrary *out, Error *err) {
    out->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    return out->handle || error_set(err, ERR_NOT_FOUND, "%s", dlerror());
}

void *os_library_symbol(const OsLibrary *library, const char *symbol) {
    return dlsym(library->handle, symbol);
}

void os_library_close(OsLibrary *library) {
    if (library->handle) dlclose(library->handle);
    library->handle = NULL;
}
