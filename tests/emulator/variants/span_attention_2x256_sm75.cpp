#define SM_ARCH 75
#define SPAN_WARPS 2
#include "span_attention_2x256.cpp"
