// Files that are part of the program: everything in kernels_src/ but its notes for people, the page, and
// licences. The build writes the table, sorted by name.
#pragma once

#include <stddef.h>

typedef struct {
    const char *name;          // path below kernels_src/
    const unsigned char *data; // `size` bytes and a zero that is not counted
    size_t size;
} EmbeddedFile;

extern const EmbeddedFile embedded_files[];
extern const size_t embedded_file_count;

// What is served at "/": src/api/page/page.html with its styles and scripts in it.
extern const EmbeddedFile embedded_page;

// The licences of what is linked into this build, as --licenses prints them.
extern const EmbeddedFile embedded_licenses;
