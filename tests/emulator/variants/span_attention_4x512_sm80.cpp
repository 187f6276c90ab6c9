#define SM_ARCH 80
#include "span_attention_4x512.cpp"
