#define SM_ARCH 75
#include "prefill_output_wide.cpp"
