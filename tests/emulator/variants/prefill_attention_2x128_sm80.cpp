#define SM_ARCH 80
#include "prefill_attention_2x128.cpp"
