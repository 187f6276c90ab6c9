#define SM_ARCH 80
#include "prefill_output_wide.cpp"
