#define SM_ARCH 80
#include "moe_glu_8.cpp"
