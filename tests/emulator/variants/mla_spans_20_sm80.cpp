#define SM_ARCH 80
#include "mla_spans_20.cpp"
