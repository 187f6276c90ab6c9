#define SM_ARCH 80
#include "moe_shared_glu_1.cpp"
