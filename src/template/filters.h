// The filters of text, for the table of all (filters.c), and what both files use.
#pragma once

#include "template/functions.h"

// The text, escaped for HTML.
bool html_escape(Run *run, const Text *t, Value *out);

FunctionCall filter_capitalize, filter_lower, filter_upper, filter_string, filter_title, filter_trim,
    filter_replace, filter_center, filter_format, filter_indent, filter_truncate, filter_wordcount,
    filter_escape, filter_forceescape, filter_safe, filter_urlencode;
