#define SM_ARCH 75
#include "span_attention_7x64.cpp"
