#define SM_ARCH 75
#include "moe_down_8.cpp"
