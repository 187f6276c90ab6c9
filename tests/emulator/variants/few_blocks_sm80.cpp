#define SM_ARCH 80
#include "few_blocks.cpp"
