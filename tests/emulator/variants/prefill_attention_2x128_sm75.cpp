#define SM_ARCH 75
#include "prefill_attention_2x128.cpp"
