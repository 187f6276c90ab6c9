#define SM_ARCH 75
#include "prefill_glu_formats.cpp"
