#define SM_ARCH 75
#include "prefill_attention_7x64.cpp"
