#define SM_ARCH 80
#include "moe_down_64.cpp"
