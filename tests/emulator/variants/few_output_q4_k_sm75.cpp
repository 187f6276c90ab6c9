#define SM_ARCH 75
#include "few_output_q4_k.cpp"
