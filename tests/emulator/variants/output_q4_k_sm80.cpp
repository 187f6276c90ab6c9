#define SM_ARCH 80
#include "output_q4_k.cpp"
