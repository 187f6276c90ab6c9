#define SM_ARCH 80
#include "moe_glu_64.cpp"
