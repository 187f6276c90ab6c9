#define SM_ARCH 80
#include "batch_attention_7x64.cpp"
