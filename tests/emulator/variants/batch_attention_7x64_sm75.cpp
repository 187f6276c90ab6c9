#define SM_ARCH 75
#include "batch_attention_7x64.cpp"
