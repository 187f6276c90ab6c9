// The characters that HTML has names for ("&amp;"), as the standard lists them. Sorted by name. Generated.
#pragma once

#include "base/base.h"

enum { HTML_NAME_BYTES_MAX = 32 };

typedef struct {
    const char *name; // with its ";", or without where HTML allows that
    uint32_t to[2];   // ended by 0 where there is one
} HtmlName;

extern const HtmlName html_names[];
extern const uint32_t html_names_count;
