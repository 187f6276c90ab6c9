#define SM_ARCH 75
#include "attention_7x64.cpp"
