#define SM_ARCH 80
#include "prefill_experts_down.cpp"
