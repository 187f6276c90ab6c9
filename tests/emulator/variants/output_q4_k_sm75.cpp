#define SM_ARCH 75
#include "output_q4_k.cpp"
