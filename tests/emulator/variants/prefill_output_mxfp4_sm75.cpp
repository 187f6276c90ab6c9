#define SM_ARCH 75
#include "prefill_output_mxfp4.cpp"
