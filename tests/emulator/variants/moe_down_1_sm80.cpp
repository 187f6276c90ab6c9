#define SM_ARCH 80
#include "moe_down_1.cpp"
