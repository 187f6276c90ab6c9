#define SM_ARCH 75
#include "prefill_output_q6_k.cpp"
