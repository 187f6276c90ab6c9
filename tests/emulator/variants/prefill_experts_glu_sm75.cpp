#define SM_ARCH 75
#include "prefill_experts_glu.cpp"
