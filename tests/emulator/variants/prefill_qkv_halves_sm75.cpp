#define SM_ARCH 75
#include "prefill_qkv_halves.cpp"
