#define SM_ARCH 75
#include "span_attention_2x256.cpp"
