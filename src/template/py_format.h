// How Python writes values: repr of numbers and strings, the mini-language of format(), and the % operator
// (Python's library reference, "Format Specification Mini-Language" and "printf-style String Formatting").
#pragma once

#include "template/value.h"

enum { PY_FLOAT_BYTES = 40, FLOAT_STEPS = 100 }; // of a float's text, and of making it

// The shortest text that reads back as the same double, as repr() writes it: 1.0, 1e+16, inf, nan.
void py_float_repr(double value, char out[PY_FLOAT_BYTES]);

// In single quotes, or in double ones where it holds single ones alone; what does not print is escaped.
bool py_str_repr(Run *run, Pieces *p, const Text *t);

// format(value, spec).
bool py_format_value(Run *run, Pieces *p, Value value, Str spec);

// format % values: a tuple gives several, a dictionary those named, anything else is one.
bool py_format_percent(Run *run, const Text *format, Value values, Value *out);

// format.format(*args, **kwargs).
bool py_format_braces(Run *run, const Text *format, const List *args, const Dict *kwargs, Value *out);

// round(value, digits) to the even neighbour of the exact decimal value, as float.__round__ does.
double py_round(double value, int digits);
