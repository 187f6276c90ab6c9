#define SM_ARCH 80
#include "attention_7x64.cpp"
