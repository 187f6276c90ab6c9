#define SM_ARCH 75
#include "adjust_small.cpp"
