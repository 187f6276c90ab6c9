#define SM_ARCH 80
#include "span_attention_7x64.cpp"
