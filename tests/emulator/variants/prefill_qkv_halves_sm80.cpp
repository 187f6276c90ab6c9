#define SM_ARCH 80
#include "prefill_qkv_halves.cpp"
