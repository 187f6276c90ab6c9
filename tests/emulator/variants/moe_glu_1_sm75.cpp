#define SM_ARCH 75
#include "moe_glu_1.cpp"
