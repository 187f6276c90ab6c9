#define SM_ARCH 75
#include "attention_5x80.cpp"
