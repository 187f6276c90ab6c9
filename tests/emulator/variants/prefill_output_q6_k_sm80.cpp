#define SM_ARCH 80
#include "prefill_output_q6_k.cpp"
