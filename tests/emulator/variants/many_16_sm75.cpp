#define SM_ARCH 75
#include "many_16.cpp"
