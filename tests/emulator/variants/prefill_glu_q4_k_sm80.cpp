#define SM_ARCH 80
#include "prefill_glu_q4_k.cpp"
