#define SM_ARCH 80
#include "few_output_q4_k.cpp"
