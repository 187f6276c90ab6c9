#define SM_ARCH 80
#include "prefill_output_q4_k.cpp"
