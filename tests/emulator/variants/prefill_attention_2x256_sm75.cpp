#define SM_ARCH 75
#include "prefill_attention_2x256.cpp"
