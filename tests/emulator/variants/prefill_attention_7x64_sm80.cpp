#define SM_ARCH 80
#include "prefill_attention_7x64.cpp"
