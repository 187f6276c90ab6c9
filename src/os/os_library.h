// Libraries that are looked for at run time, because the program must start where they are missing.
// Part of the operating system's header (os/os.h).
#pragma once

#include "base/error.h"

typedef struct {
    void *handle; // NULL when not open
} OsLibrary;

// `name` as the loader looks for it: "libcuda.so.1". Error (ERR_NOT_FOUND): the loader's own sentence.
MUST_CHECK bool os_library_open(const char *name, OsLibrary *out, Error *err);
// A function or object of it, or NULL.
void *os_library_symbol(const OsLibrary *library, const char *symbol);
void os_library_close(OsLibrary *library);
