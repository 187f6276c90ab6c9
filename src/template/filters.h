// The filters of text and of layout, for the table of all (filters.c), and what several files use.
#pragma once

#include "template/functions.h"

// The text, escaped for HTML.
bool html_escape(Run *run, const Text *t, Value *out);

// Sorts items by their keys, both [n], stably; equal ones keep their order also when it is reversed.
bool sort_values(Run *run, Value *items, Value *keys, size_t n, bool reverse);

FunctionCall filter_pprint, filter_striptags, filter_urlize, filter_wordwrap;
FunctionCall filter_capitalize, filter_lower, filter_upper, filter_string, filter_title, filter_trim,
    filter_replace, filter_center, filter_format, filter_indent, filter_truncate, filter_wordcount,
    filter_escape, filter_forceescape, filter_safe, filter_urlencode;
